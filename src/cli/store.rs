//! `claimbound store adopt`: a store that has lost records is accepted as it is, by somebody who says why.

use super::{deployment::Deployment, governed, loaded::print, serve};
use crate::broker::{self, Grounds};
use claimbound_core::time::UnixSeconds;
use std::path::PathBuf;

/// Accept a store that has lost records
#[derive(clap::Args, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Serve a restored backup or a promoted standby that lacks records
    ///
    /// A broker whose store lacks what its newest checkpoint covers serves health alone. This accepts the store: it is
    /// recorded, another epoch of the evidence begins, and CI tokens issued until now are refused, since those that were
    /// spent may be forgotten. For the same reason renewals and operators' sessions end. A SQLite store must not be held by
    /// another process; a broker that serves health alone holds none, and goes on by itself. Exit code 0: adopted; 2:
    /// nothing to adopt, usage, or store, checkpoint or evidence cannot be read.
    Adopt(Adopt),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  claimbound store adopt --evidence evidence.jsonl")]
#[group(required = true, multiple = false, args = ["evidence", "accept_lost_suspensions"])]
struct Adopt {
    #[command(flatten)]
    deployment: Deployment,
    /// What `audit export --all` wrote of the lost store; must run through the checkpoint. Leases and renewals that it
    /// says were ended are ended again, and what it says stands suspended is suspended again
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// There is no such file: what was ended or suspended since the copy was taken is not any more. Says why that is
    /// acceptable; kept in the record
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    accept_lost_suspensions: Option<String>,
}

/// Runs the command at this time; the exit code is 0.
///
/// # Errors
/// As the help says of exit code 2.
pub fn run(args: StoreArgs, now: UnixSeconds) -> anyhow::Result<u8> {
    let Command::Adopt(Adopt { deployment, evidence, accept_lost_suspensions }) = args.command;
    let config = deployment.read()?;
    let grounds = match (evidence, accept_lost_suspensions) {
        (Some(file), _) => Grounds::Evidence(file),
        (None, reason) => Grounds::AcceptedLoss { reason: reason.unwrap_or_default() },
    };
    let operator = governed::local()?;
    let adopted = serve::runtime()?.block_on(broker::adopt(&config, &operator, &grounds, now))?;
    let lost = match adopted.lost {
        Some(0) | None => String::new(),
        Some(lost) => format!("; at least {lost} records are lost"),
    };
    print(&format!(
        "adopted: epoch {} begins{lost}; ended again: {}, suspended again: {}, resumed again: {}; CI tokens issued until \
         now are refused, and renewals end\n",
        adopted.epoch, adopted.ended, adopted.suspended, adopted.resumed,
    ))?;
    Ok(0)
}
