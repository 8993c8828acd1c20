//! `claimbound unused`: what of the mapping folder nobody used.

use super::{
    loaded,
    log::{LogArgs, Source},
    render::Format,
};
use crate::{
    broker::SystemClock,
    history::{self, log, unused},
};
use anyhow::Result;
use claimbound_core::time::{Clock as _, Seconds};
use serde_json::json;
use std::path::PathBuf;

/// Say which roles, mappings and members of sets nobody used
///
/// Judged is the folder that the broker activated last, or the one of `--mappings`; used is what a grant on record names. What
/// came into the folder later than the period began is told as new. Of `[[mapping.any]]` each alternative counts, of a mapping
/// in shadow whether it would have held. Exit code 0: everything was used, or is new; 1: something was not; 2: usage, or the
/// folder does not load, or the store cannot be read. With `--broker` a running broker answers, from its own store, an operator
/// who may `audit`; 3: it refused; 4: it cannot be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound unused
  claimbound unused --since 180d --store sqlite:copy.db --format json")]
pub struct UnusedArgs {
    /// How far back to look
    #[arg(long, value_name = "DURATION", default_value = log::SINCE, value_parser = log::since)]
    since: Seconds,
    /// The mapping folder; by default the one that was activated last, from the store
    #[arg(long, value_name = "DIR")]
    mappings: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When store or folder cannot be read.
pub fn run(args: &UnusedArgs) -> Result<u8> {
    let source = args.log.open()?;
    let given = match &args.mappings {
        Some(path) => match loaded::load(path)? {
            Some(loaded) => Some((loaded, path.display().to_string())),
            None => return Ok(2),
        },
        None => None,
    };
    let format: history::Format = args.format.into();
    loaded::tell(match source {
        Source::Store(log) => {
            let from = SystemClock.now().plus(-i64::from(args.since.0)).0;
            unused::answer(&log, given, from, format)?
        }
        Source::Broker(client) => {
            let mut question = json!({ "question": "unused", "format": format, "since": format!("{}s", args.since.0) });
            if let Some((loaded, name)) = given {
                question["name"] = json!(name);
                question["folder"] = json!(loaded::texts(&loaded.folder)?);
            }
            client.history(&question)?
        }
    })
}
