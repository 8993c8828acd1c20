//! `claimbound access`: who could have a role, or what a repository could have, and who did; and what an approver may claim.

mod approver;

use super::{
    loaded,
    log::{LogArgs, Source},
    render::Format,
};
use crate::{
    broker::SystemClock,
    history::{
        self,
        access::{self, Moment, Question, moment},
        log::date,
    },
};
use anyhow::Result;
use claimbound_core::{ceremony::Approver, time::Clock as _};
use serde_json::json;
use std::path::PathBuf;

/// Say who could have a role, or what a repository could have, at a time or now, and who did
///
/// Who could is told as conditions, of each mapping folder that judged in that time; who did, from the grants on record whose
/// credential was alive in it. Both come from the store alone. Without `--at`, `--from` and `--to` it is now that is meant. A date
/// is the whole day, UTC. With `--approver` it is what a person, or everybody of a group, may claim, by a mapping folder alone.
/// Exit code 0, whatever is found; 2: usage, or store or folder cannot be read. With
/// `--broker` a running broker answers, from its own store, an operator who may `audit`; 3: it refused; 4: it cannot be asked.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["role", "repository", "approver"]))]
#[command(after_help = "Examples:
  claimbound access --role payments-deploy.production
  claimbound access --role payments-deploy.production --from 2026-03-01 --to 2026-03-31
  claimbound access --repository acme/payments-api --at 2026-03-05T14:00:00Z --format json
  claimbound access --approver okta:group:payments-leads --mappings mappings")]
pub struct AccessArgs {
    /// Who could have this role, and who did
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// What this repository could have, and what it had: `OWNER/NAME` or its immutable id
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// What this person may claim, as the folder names them: `okta:group:payments-leads`, `okta:email:…`, `okta:sub:…`; all that are given are one
    /// person's
    #[arg(long, value_name = "APPROVER", conflicts_with_all = ["at", "from", "to", "store", "broker"])]
    approver: Vec<Approver>,
    /// The mapping folder of `--approver`
    #[arg(long, value_name = "DIR", default_value = "mappings", requires = "approver")]
    mappings: PathBuf,
    /// On this day (`2026-03-05`) or at this time (`2026-03-05T14:00:00Z`)
    #[arg(long, value_name = "DATE", value_parser = moment, conflicts_with_all = ["from", "to"])]
    at: Option<Moment>,
    /// From this day or time on; by default from the log's beginning
    #[arg(long, value_name = "DATE", value_parser = moment)]
    from: Option<Moment>,
    /// Until this day or second, which is included; by default now
    #[arg(long, value_name = "DATE", value_parser = moment)]
    to: Option<Moment>,
    #[command(flatten)]
    log: LogArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// A span that ends before it begins, or a store that cannot be read.
pub fn run(args: &AccessArgs) -> Result<u8> {
    if !args.approver.is_empty() {
        return approver::run(&args.approver, &args.mappings, SystemClock.now(), args.format);
    }
    let (role, repository) = (args.role.as_deref(), args.repository.as_deref());
    let format: history::Format = args.format.into();
    loaded::tell(match args.log.open()? {
        Source::Store(log) => {
            let question = Question { role, repository, at: args.at, from: args.from, to: args.to };
            access::answer(&log, &question, SystemClock.now().0, format)?
        }
        Source::Broker(client) => {
            let time = |moment: Option<Moment>, end: fn(Moment) -> i64| moment.map(|moment| date(end(moment)));
            let (from, to) = match args.at {
                Some(at) => (Some(date(at.first())), Some(date(at.last()))),
                None => (time(args.from, Moment::first), time(args.to, Moment::last)),
            };
            client.history(&json!({
                "question": "access",
                "format": format,
                "role": role,
                "repository": repository,
                "from": from,
                "to": to,
            }))?
        }
    })
}
