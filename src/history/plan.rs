//! What was granted and refused, decided again by a proposed folder.

mod json;
mod judge;
mod markdown;
mod text;

use super::{
    Answer, Format, Loaded, Told,
    log::{Log, Reach},
};
use anyhow::Result;
use claimbound_core::evidence::hex;
use judge::{Judge, Kind, Replay};

/// A recorded grant would change.
const CHANGES: u8 = 1;

/// What was asked, and what came of it.
struct Plan<'a> {
    head: &'a str,
    version: String,
    from: i64,
    reach: Reach,
    replay: Replay,
}

/// Decides again what is on record since `from`, by a folder that is called `name`; code 1 if a recorded grant changes.
///
/// # Errors
/// When the store cannot be read.
pub fn answer(log: &Log, name: &str, head: &Loaded, from: i64, format: Format) -> Result<Told> {
    let mut judge = Judge::new(head, log, from);
    let reach = log.walk(|body, details| {
        judge.record(body, details);
        Ok(())
    })?;
    let replay = judge.finish();
    let plan = Plan { head: name, version: hex(&head.set.version), from, reach, replay };
    let told = match format {
        Format::Human => Answer::Text(text::render(&plan)),
        Format::Json => Answer::Json(json::render(&plan)),
        Format::Markdown => Answer::Text(markdown::render(&plan)),
    };
    Ok(Told { code: if plan.changes_grants() { CHANGES } else { 0 }, answer: told })
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
