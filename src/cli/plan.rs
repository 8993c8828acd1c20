//! `claimbound plan`: what was granted and refused, decided again by a proposed folder.

mod json;
mod judge;
mod markdown;
mod text;

use super::{
    diff::{self, DiffFormat},
    loaded,
    log::{self, LogArgs, Reach},
};
use crate::broker::SystemClock;
use anyhow::Result;
use claimbound_core::{
    evidence::hex,
    time::{Clock as _, Seconds},
};
use judge::{Judge, Kind, Replay};

/// A recorded grant would change.
const CHANGES: u8 = 1;

/// Decide recorded exchanges again by a proposed mapping folder
///
/// HEAD is a folder or a git revision, as for `diff`. Every grant and every denial by the rules on record is decided again
/// with its claims, as of its time: which grants would be refused, which refusals granted, who would get another role, duration
/// or other parameters, and what could not be judged. Signatures, token lifetimes and used-up limits are not asked again.
/// Exit code 0: every recorded grant that can be judged stays as it was; 1: one would be refused or would change; 2: usage,
/// or the folder does not load, or the store cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound plan mappings
  claimbound plan origin/proposal --since 30d --format markdown
  claimbound plan ../proposed --store sqlite:copy.db")]
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

/// What was asked, and what came of it.
struct Plan<'a> {
    head: &'a str,
    version: String,
    from: i64,
    reach: Reach,
    replay: Replay,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When store or folder cannot be read.
pub fn run(args: &PlanArgs) -> Result<u8> {
    let log = args.log.open()?;
    let Some(head) = diff::side(&args.head, "")? else { return Ok(2) };
    let from = SystemClock.now().plus(-i64::from(args.since.0)).0;
    let mut judge = Judge::new(&head, &log, from);
    let reach = log.walk(|body, details| {
        judge.record(body, details);
        Ok(())
    })?;
    let replay = judge.finish();
    let plan = Plan { head: &args.head, version: hex(&head.set.version), from, reach, replay };
    let text = match args.format {
        DiffFormat::Human => text::render(&plan),
        DiffFormat::Json => format!("{:#}\n", json::render(&plan)),
        DiffFormat::Markdown => markdown::render(&plan),
    };
    loaded::print(&text)?;
    Ok(if plan.changes_grants() { CHANGES } else { 0 })
}

impl Plan<'_> {
    fn changes_grants(&self) -> bool {
        self.replay.count(Kind::Refused) + self.replay.count(Kind::Otherwise) > 0
    }

    /// One line.
    fn summary(&self) -> String {
        let told = |number: u64, one: &str, many: &str| {
            (number > 0).then(|| format!("{number} {}", if number == 1 { one } else { many }))
        };
        let replay = &self.replay;
        let parts = [
            told(replay.count(Kind::Refused), "grant would be refused", "grants would be refused"),
            told(replay.count(Kind::Otherwise), "grant would change", "grants would change"),
            told(replay.count(Kind::Granted), "refusal would be granted", "refusals would be granted"),
            told(replay.unjudged_count(), "exchange could not be judged", "exchanges could not be judged"),
            told(replay.same_granted + replay.same_refused, "stays as it was", "stay as they were"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no exchange of this time is on record".to_owned() } else { parts.join(", ") }
    }
}
