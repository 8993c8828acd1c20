//! `claimbound suspend`, `resume` and `suspensions`: the kill switch.

use super::{
    governed::{
        self, Where,
        args::{SubjectArgs, duration, moment},
    },
    loaded,
    render::Format,
    revoke,
};
use crate::{
    operate::{Deed, Done, Resume, Suspend, Suspended},
    store::Suspension,
};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

/// Refuse every further grant to an issuer, owner, repository, run, person, mapping or role
///
/// It holds from its commit on, through every broker over the store, until it is taken back by `resume` or the time of
/// `--for` is over. Suspending again never makes it shorter. A name that the folder does not know is refused. Without a
/// subject, or with `--list`, shows what stands suspended. Exit code 0: it stands; 2: usage; 3: refused; 4: broker or store
/// cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound suspend --repository acme/payments-api --reason 'INC-17' --for 2h --revoke
  claimbound suspend --list")]
pub struct SuspendArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why: for whoever reads the evidence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Ends by itself after this time, like `2h`
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    seconds: Option<i64>,
    /// Also end the leases that there are
    #[arg(long)]
    revoke: bool,
    /// Take a name although the folder does not know it
    #[arg(long)]
    force: bool,
    /// Show what stands suspended
    #[arg(long, conflicts_with_all = ["reason", "seconds", "revoke", "force"])]
    list: bool,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Take a suspension back
///
/// Not while leases from before it are alive, unless `--leave-leases` says so. What is not suspended stays so. Exit code 0:
/// it does not stand any more; 2: usage; 3: refused; 4: broker or store cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound resume --repository acme/payments-api --reason 'INC-17 is over'")]
pub struct ResumeArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why: for whoever reads the evidence
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do it although leases from before the suspension are alive
    #[arg(long)]
    leave_leases: bool,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show what stands suspended, since when, by whom and why
///
/// Exit code 0; 2: usage; 3: refused; 4: broker or store cannot be asked.
#[derive(Args, Debug)]
pub struct SuspensionsArgs {
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `suspend`.
pub fn suspend(args: SuspendArgs) -> Result<u8> {
    let Some(subject) = args.subject.subject().filter(|_| !args.list) else {
        if !args.list && (args.reason.is_some() || args.seconds.is_some() || args.revoke) {
            bail!("nothing says what to suspend; name a repository, run, role or whatever `--help` lists");
        }
        return suspensions(SuspensionsArgs { place: args.place, format: args.format });
    };
    let Some(reason) = args.reason else { bail!("say why, with `--reason TEXT`") };
    let asked = Suspend { subject, reason, seconds: args.seconds, revoke: args.revoke, force: args.force };
    governed::run(&args.place, Deed::Suspend(asked), |done| {
        let Done::Suspended(suspended) = done else { bail!("the broker's answer is of another version") };
        match args.format {
            Format::Json => print_json(done),
            Format::Human => Ok(loaded::print(&human(suspended))?),
        }
    })
}

/// Runs `resume`.
pub fn resume(args: ResumeArgs) -> Result<u8> {
    let Some(subject) = args.subject.subject() else { bail!("nothing says what to resume; `suspensions` lists it") };
    let asked = Resume { subject, reason: args.reason, leave_leases: args.leave_leases };
    governed::run(&args.place, Deed::Resume(asked), |done| {
        let Done::Resumed { resumed } = done else { bail!("the broker's answer is of another version") };
        if args.format == Format::Json {
            return print_json(done);
        }
        let text = match resumed {
            Some(stood) => format!("resumed    {}\n", line(stood)),
            None => "nothing of this name stood suspended\n".to_owned(),
        };
        Ok(loaded::print(&text)?)
    })
}

/// Runs `suspensions`.
pub fn suspensions(args: SuspensionsArgs) -> Result<u8> {
    governed::run(&args.place, Deed::Suspensions, |done| {
        let Done::Suspensions { suspensions } = done else { bail!("the broker's answer is of another version") };
        if args.format == Format::Json {
            return print_json(&json!({ "suspensions": suspensions }));
        }
        let mut text: String = suspensions.iter().map(|one| format!("{}\n", line(one))).collect();
        if suspensions.is_empty() {
            text.push_str("nothing stands suspended\n");
        }
        Ok(loaded::print(&text)?)
    })
}

fn human(suspended: &Suspended) -> String {
    let word = if suspended.already { "already   " } else { "suspended " };
    let mut text = format!("{word} {}\n", line(&suspended.suspension));
    if let Some(revoked) = &suspended.revoked {
        text.push_str(&revoke::human(revoked));
    }
    text
}

/// One suspension: what, until when, who and why.
fn line(one: &Suspension) -> String {
    let subject = &one.subject;
    let name = [&*subject.issuer, &*subject.name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let until = one.until.map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {}", moment(until)));
    format!(
        "{:<10} {}  since {}, {until}, by {}: {}",
        subject.scope.name(),
        name.join(" "),
        moment(one.since),
        one.operator,
        one.reason.replace('\n', " ")
    )
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    Ok(loaded::print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}
