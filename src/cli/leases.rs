//! `claimbound leases`: what is out there, for whom, until when.

use super::{
    governed::{
        self, Where,
        args::{FilterArgs, duration, moment, time},
    },
    loaded,
    render::Format,
    suspend::print_json,
};
use crate::{
    operate::{Deed, Done, Leases, List, When},
    store::LeaseState,
};
use anyhow::{Result, bail};
use clap::Args;

/// List leases: by default those that are alive
///
/// A page at a time; where there are more, the last line says how to go on. Reads the store beside its brokers. Exit code
/// 0; 2: usage; 3: refused; 4: broker or store cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound leases --repository acme/payments-api
  claimbound leases --role payments-deploy.production --expiring-within 15m")]
pub struct LeasesArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those in this state, whenever they were opened (unless `--since` says when): issuing, issued, failed, unknown, ended
    #[arg(long, value_name = "STATE", value_parser = state, conflicts_with_all = ["at", "expiring_within"])]
    state: Option<LeaseState>,
    /// Those that were open at this time, whatever became of them since
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["since", "expiring_within"])]
    at: Option<i64>,
    /// Those opened since this time, dead or alive, the youngest first
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "expiring_within")]
    since: Option<i64>,
    /// Those that are alive and expire within this time, like `15m`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expiring_within: Option<i64>,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Leases of a page, up to 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn state(text: &str) -> Result<LeaseState, String> {
    LeaseState::from_name(text)
        .ok_or_else(|| format!("a state is one of {}", LeaseState::ALL.map(LeaseState::name).join(", ")))
}

/// Runs the command.
pub fn run(args: LeasesArgs) -> Result<u8> {
    let mut leases = args.filter.filter();
    leases.state = args.state.map(|state| state.name().to_owned());
    let when = match (args.at, args.since, args.expiring_within) {
        (Some(at), ..) => When::At(at),
        (_, Some(since), _) => When::Since(since),
        (.., Some(seconds)) => When::ExpiringWithin(seconds),
        _ if leases.state.is_some() || leases.lease.is_some() => When::Since(0),
        _ => When::Alive,
    };
    let asked = List { leases, when, cursor: args.cursor, limit: Some(args.limit) };
    governed::run(&args.place, Deed::Leases(asked), |done| {
        let Done::Leases(page) = done else { bail!("the broker's answer is of another version") };
        match args.format {
            Format::Json => print_json(page),
            Format::Human => Ok(loaded::print(&human(page))?),
        }
    })
}

fn human(page: &Leases) -> String {
    let mut text = String::new();
    for lease in &page.leases {
        text.push_str(&format!(
            "{}  {:<7}  {}{} by {} for {} ({} {}{}){}, {} to {}\n",
            lease.lease,
            lease.state,
            if lease.handoff { "handoff of " } else { "" },
            lease.role,
            lease.mapping,
            lease.name,
            lease.issuer,
            lease.principal,
            lease.run.as_ref().map_or(String::new(), |run| format!(", run {run}")),
            lease
                .actor
                .as_ref()
                .map_or(String::new(), |actor| { format!(", acting: {} ({}:{})", actor.name, actor.issuer, actor.id) }),
            moment(lease.opened),
            moment(lease.expires),
        ));
    }
    match &page.cursor {
        Some(cursor) => text.push_str(&format!("there may be more: --cursor {cursor}\n")),
        None if page.leases.is_empty() => text.push_str("no lease is meant\n"),
        None => {}
    }
    text
}
