//! `claimbound plan`: what was granted and refused, decided again by a proposed folder.

use super::{
    diff::{self, DiffFormat},
    loaded,
    log::{LogArgs, Source},
};
use crate::{
    broker::SystemClock,
    history::{Format, log, plan},
};
use anyhow::Result;
use claimbound_core::time::{Clock as _, Seconds};
use serde_json::json;

/// Decide recorded exchanges again by a proposed mapping folder
///
/// HEAD is a folder or a git revision, as for `diff`. Every grant and every denial by the rules on record is decided again
/// with its claims, as of its time: which grants would be refused, which refusals granted, who would get another role, duration
/// or other parameters, and what could not be judged. Signatures, token lifetimes and used-up limits are not asked again.
/// Exit code 0: every recorded grant that can be judged stays as it was; 1: one would be refused or would change; 2: usage,
/// or the folder does not load, or the store cannot be read. With `--broker` a running broker decides, over its own store, for
/// an operator who may `audit`; 3: it refused; 4: it cannot be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound plan mappings
  claimbound plan origin/proposal --since 30d --format markdown
  claimbound plan ../proposed --store sqlite:copy.db
  claimbound plan origin/proposal --broker https://claimbound.internal.example:8081")]
pub struct PlanArgs {
    /// The proposed folder or git revision
    #[arg(value_name = "HEAD")]
    head: String,
    /// How far back to look
    #[arg(long, value_name = "DURATION", default_value = log::SINCE, value_parser = log::since)]
    since: Seconds,
    #[command(flatten)]
    log: LogArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When store or folder cannot be read.
pub fn run(args: &PlanArgs) -> Result<u8> {
    let source = args.log.open()?;
    let Some(head) = diff::side(&args.head, "")? else { return Ok(2) };
    let format: Format = args.format.into();
    loaded::tell(match source {
        Source::Store(log) => {
            let from = SystemClock.now().plus(-i64::from(args.since.0)).0;
            plan::answer(&log, &args.head, &head, from, format)?
        }
        Source::Broker(client) => client.history(&json!({
            "question": "plan",
            "format": format,
            "since": format!("{}s", args.since.0),
            "name": args.head,
            "folder": loaded::texts(&head.folder)?,
        }))?,
    })
}
