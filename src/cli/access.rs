//! `claimbound access`: who could have a role, or what a repository could have, and who did.

mod could;
mod did;
mod span;

use super::{
    loaded,
    log::{LogArgs, Reach, counted, date},
    render::Format,
};
use crate::broker::SystemClock;
use anyhow::Result;
use claimbound_core::time::Clock as _;
use could::Could;
use did::Did;
use serde_json::{Value, json};
use span::{Moment, Span};
use std::fmt::Write as _;

/// Say who could have a role, or what a repository could have, at a time or now, and who did
///
/// Who could is told as conditions, of each mapping folder that judged in that time; who did, from the grants on record whose
/// credential was alive in it. Both come from the store alone. Without `--at`, `--from` and `--to` it is now that is meant. A date
/// is the whole day, UTC. Exit code 0, whatever is found; 2: usage, or the store cannot be read.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["role", "repository"]))]
#[command(after_help = "Examples:
  claimbound access --role payments-deploy.production
  claimbound access --role payments-deploy.production --from 2026-03-01 --to 2026-03-31
  claimbound access --repository acme/payments-api --at 2026-03-05T14:00:00Z --format json")]
pub struct AccessArgs {
    /// The role
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// The repository, `OWNER/NAME` or its immutable id
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// A day (`2026-03-05`) or a time (`2026-03-05T14:00:00Z`)
    #[arg(long, value_name = "DATE", value_parser = span::moment, conflicts_with_all = ["from", "to"])]
    at: Option<Moment>,
    /// The beginning of a span; by default where the log begins
    #[arg(long, value_name = "DATE", value_parser = span::moment)]
    from: Option<Moment>,
    /// The end of a span, that day or second included; by default now
    #[arg(long, value_name = "DATE", value_parser = span::moment)]
    to: Option<Moment>,
    #[command(flatten)]
    log: LogArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    Role(&'a str),
    /// By name or id.
    Repository(&'a str),
}

struct Answer<'a> {
    asked: Asked<'a>,
    span: Span,
    reach: Reach,
    could: Could,
    did: Did<'a>,
}

/// Runs the command; the exit code.
///
/// # Errors
/// A span that ends before it begins, or a store that cannot be read.
pub fn run(args: &AccessArgs) -> Result<u8> {
    let now = SystemClock.now().0;
    let span = Span::of(args.at, args.from, args.to, now)?;
    let asked = match (&args.role, &args.repository) {
        (Some(role), _) => Asked::Role(role),
        (None, repository) => Asked::Repository(repository.as_deref().unwrap_or_default()),
    };
    let log = args.log.open()?;
    let could = Could::find(&log, &log.activations()?, asked, span);
    let mut did = Did::new(&log, asked, span);
    let reach = log.walk(|body, details| did.record(body, details))?;
    let answer = Answer { asked, span, reach, could, did };
    let text = match args.format {
        Format::Human => answer.to_text(),
        Format::Json => format!("{:#}\n", answer.to_json()),
    };
    loaded::print(&text)?;
    Ok(0)
}

impl Answer<'_> {
    /// Where the answer begins: the log's beginning, if no other was asked for.
    fn from(&self) -> i64 {
        self.span.from.or(self.reach.first).unwrap_or(self.span.to)
    }

    fn to_json(&self) -> Value {
        let (role, repository) = match self.asked {
            Asked::Role(role) => (Some(role), None),
            Asked::Repository(repository) => (None, Some(repository)),
        };
        json!({
            "role": role,
            "repository": repository,
            "from_at": self.from(),
            "to_at": self.span.to,
            "log": self.reach.to_json(self.from()),
            "could": self.could.to_json(),
            "did": self.did.to_json(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all text");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let when = match self.from() == self.span.to {
            true => date(self.span.to),
            false => format!("{} to {}", date(self.from()), date(self.span.to)),
        };
        match self.asked {
            Asked::Role(role) => writeln!(text, "access to `{role}`, {when}")?,
            Asked::Repository(repository) => writeln!(text, "access of `{repository}`, {when}")?,
        }
        self.reach.warnings(self.from()).iter().try_for_each(|warning| writeln!(text, "warning: {warning}"))?;
        self.could.notes.iter().try_for_each(|note| writeln!(text, "warning: {note}"))?;
        writeln!(text, "\nwho could:")?;
        self.could.write(text)?;
        writeln!(text, "\nwho did: {}", counted(self.did.count(), "grant"))?;
        self.did.write(text)
    }
}
