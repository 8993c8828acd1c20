//! `claimbound ceremonies`, `claim reset` and `claim carry`, for operators: what waits for people, what they claimed, and taking
//! that back.

use super::{
    governed::{self, Where, args::moment},
    loaded,
    render::Format,
    suspend::print_json,
};
use crate::{
    history::log::since,
    operate::{
        AskLapses, CarryClaims, Ceremonies, ClaimFilter, Claims, Deed, Done, Lapse, Lapses, ListedClaim, ResetClaims,
        Why,
    },
};
use anyhow::{Result, bail};
use claimbound_core::{ceremony::CeremonyId, time::Seconds};
use clap::Args;

/// Which ceremonies and claims: all that is given must hold.
#[derive(Args, Clone, Debug)]
pub struct ClaimArgs {
    /// Those of this mapping
    #[arg(long, value_name = "NAME")]
    mapping: Option<String>,
    /// Those of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Those of this repository: its name, or the immutable id that evidence names it by
    #[arg(long, value_name = "ID")]
    repository: Option<String>,
    /// The one of this id
    #[arg(long, value_name = "ID")]
    ceremony: Option<CeremonyId>,
    /// Those that this person claimed, `SIGN-IN:SUBJECT`
    #[arg(long, value_name = "PERSON")]
    approver: Option<String>,
}

impl ClaimArgs {
    fn filter(self) -> ClaimFilter {
        let Self { mapping, role, repository, ceremony, approver } = self;
        ClaimFilter { mapping, role, repository, ceremony, approver }
    }
}

/// List what waits for people, and the first uses that they claimed
///
/// Of a claim, `outdated` says that the mapping, the role or who approves has changed since: it is good for nothing until it
/// is carried over (`claim carry`) or claimed again. Reads the store beside its brokers, and then judges by the folder as it
/// stands on disk. Exit code 0; 2: usage; 3: refused; 4: broker or store cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound ceremonies
  claimbound ceremonies --lapsed 30d --format json")]
pub struct CeremoniesArgs {
    /// Instead, what nobody claimed in the last of this time, like `30d`, and claims that stand no more
    #[arg(long, value_name = "DURATION", value_parser = since)]
    lapsed: Option<Seconds>,
    #[command(flatten)]
    claims: ClaimArgs,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Take claims of first uses back: whoever is meant is provisional again
///
/// It holds from its commit on, through every broker over the store. Exit code 0; 2: usage; 3: refused; 4: broker or store
/// cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound claim reset --approver okta:00u1 --reason 'left the company' --dry-run")]
pub struct ResetArgs {
    #[command(flatten)]
    claims: ClaimArgs,
    /// Every claim that stands
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    what: WhatArgs,
}

/// Carry claims of first uses over to the folder that judges now
///
/// Only where role, policies, approvers and quorum are the same as when they were claimed, and the comparison of both folders
/// proves that the mapping is not wider. The others are listed, and stay as they are: void until somebody claims them again.
/// Exit code 0; 2: usage; 3: refused; 4: broker or store cannot be asked.
#[derive(Args, Debug)]
pub struct CarryArgs {
    #[command(flatten)]
    claims: ClaimArgs,
    #[command(flatten)]
    what: WhatArgs,
}

#[derive(Args, Debug)]
struct WhatArgs {
    /// Why: for whoever reads the evidence
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say which ones are meant, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `ceremonies`.
pub fn list(args: CeremoniesArgs) -> Result<u8> {
    if let Some(Seconds(seconds)) = args.lapsed {
        let asked = AskLapses { claims: args.claims.filter(), seconds };
        return governed::run(&args.place, Deed::Lapses(asked), |done| {
            let Done::Lapses(found) = done else { bail!("the broker's answer is of another version") };
            match args.format {
                Format::Json => print_json(done),
                Format::Human => Ok(loaded::print(&nothing_came(found))?),
            }
        });
    }
    governed::run(&args.place, Deed::Ceremonies(args.claims.filter()), |done| {
        let Done::Ceremonies(found) = done else { bail!("the broker's answer is of another version") };
        match args.format {
            Format::Json => print_json(done),
            Format::Human => Ok(loaded::print(&human(found))?),
        }
    })
}

/// Runs `claim reset`.
pub fn reset(ResetArgs { claims, all, what }: ResetArgs) -> Result<u8> {
    let asked = ResetClaims { claims: claims.filter(), all, reason: what.reason.clone(), dry_run: what.dry_run };
    change(Deed::ClaimReset(asked), &what, "reset")
}

/// Runs `claim carry`.
pub fn carry(CarryArgs { claims, what }: CarryArgs) -> Result<u8> {
    let asked = CarryClaims { claims: claims.filter(), reason: what.reason.clone(), dry_run: what.dry_run };
    change(Deed::ClaimCarry(asked), &what, "carried")
}

fn change(deed: Deed, what: &WhatArgs, verb: &str) -> Result<u8> {
    governed::run(&what.place, deed, |done| {
        let Done::Claims(claims) = done else { bail!("the broker's answer is of another version") };
        match what.format {
            Format::Json => print_json(done),
            Format::Human => Ok(loaded::print(&told(claims, verb))?),
        }
    })
}

fn human(found: &Ceremonies) -> String {
    let mut text = String::new();
    for one in &found.ceremonies {
        let kind = if one.first_use { "first use" } else { "one issuance" };
        text.push_str(&format!(
            "{}  {:<8}  {} by {} for {} ({} {}), {kind}, claimed by {} of {}, {} waiting, until {}\n",
            one.ceremony,
            one.state,
            one.role,
            one.mapping,
            one.name,
            one.issuer,
            one.principal,
            one.claimed_by.len(),
            one.quorum,
            one.waiting,
            moment(one.expires),
        ));
    }
    for one in &found.standing {
        let state = if one.good == Some(false) { "outdated" } else { "stands" };
        text.push_str(&format!("{}  {state:<8}  {}\n", one.ceremony, line(one)));
    }
    if found.more {
        text.push_str("there are more: name a mapping, role or repository\n");
    } else if found.ceremonies.is_empty() && found.standing.is_empty() {
        text.push_str("nothing waits, and nothing stands claimed\n");
    }
    text
}

fn nothing_came(found: &Lapses) -> String {
    let mut text = String::new();
    if let Some(known) = found.known_since {
        text.push_str(&format!("the evidence reaches back only to {}\n", moment(known)));
    }
    for one in found.unclaimed.iter().chain(&found.lapsed) {
        let Lapse { ceremony, why, role, mapping, issuer, principal, name, claimed_by, at } = one;
        let (state, told) = match why {
            Why::Unclaimed => ("unclaimed", "nobody claimed it in time"),
            Why::Lapsed => ("lapsed", "its time was over"),
            Why::Voided => ("voided", "something of it was suspended"),
            Why::Reset => ("reset", "it was taken back"),
            Why::Outdated => ("outdated", "the mapping, the role or who approves has changed"),
        };
        let by = match (claimed_by.as_slice(), why) {
            ([], _) => String::new(),
            (by, Why::Unclaimed) => format!(", claimed by {} alone", by.join(", ")),
            (by, _) => format!(", claimed by {}", by.join(", ")),
        };
        let when = at.map(|at| format!(", {}", moment(at))).unwrap_or_default();
        text.push_str(&format!(
            "{ceremony}  {state:<9}  {role} by {mapping} for {name} ({issuer} {principal}){by}: {told}{when}\n"
        ));
    }
    if found.more {
        text.push_str("there are more: name a mapping, role or repository\n");
    } else if found.unclaimed.is_empty() && found.lapsed.is_empty() {
        text.push_str("nothing ended unclaimed, and no claim lapsed\n");
    }
    text
}

fn line(one: &ListedClaim) -> String {
    let remembered = one.remembered.iter().map(|(claim, value)| format!(", {claim} {value}"));
    format!(
        "{} by {} for {} ({} {}{}), claimed by {}, {} to {}",
        one.role,
        one.mapping,
        one.name,
        one.issuer,
        one.principal,
        remembered.collect::<String>(),
        one.claimed_by.join(", "),
        moment(one.since),
        moment(one.until),
    )
}

fn told(claims: &Claims, verb: &str) -> String {
    let mut text = String::new();
    let verb = if claims.dry_run { format!("would be {verb}") } else { verb.to_owned() };
    for one in &claims.claims {
        text.push_str(&format!("{}  {verb}  {}\n", one.ceremony, line(one)));
    }
    for (ceremony, why) in &claims.left {
        text.push_str(&format!("{ceremony}  not carried: {why}\n"));
    }
    if claims.claims.is_empty() && claims.left.is_empty() {
        text.push_str("no claim is meant\n");
    }
    text
}
