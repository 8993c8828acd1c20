//! Who could have a role, or what a repository could have, and who did.

mod could;
mod did;
mod span;

use super::{
    Answer as Form, Format, Told,
    log::{Log, Reach, counted, date},
};
use anyhow::{Result, bail};
use could::Could;
use did::Did;
use serde_json::{Value, json};
use span::Span;
use std::fmt::Write as _;

pub use span::{Moment, moment};

/// A question: about one of `role` and `repository`; now, unless a time is named.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub role: Option<&'a str>,
    pub repository: Option<&'a str>,
    pub at: Option<Moment>,
    pub from: Option<Moment>,
    pub to: Option<Moment>,
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

/// Who could, and who did; always code 0.
///
/// # Errors
/// A question about nothing or about both, a span that ends before it begins, or a store that cannot be read.
pub fn answer(log: &Log, question: &Question<'_>, now: i64, format: Format) -> Result<Told> {
    let Question { at, from, to, .. } = *question;
    let span = Span::of(at, from, to, now)?;
    let asked = match (question.role, question.repository) {
        (Some(role), None) => Asked::Role(role),
        (None, Some(repository)) => Asked::Repository(repository),
        _ => bail!("ask about one of `role` and `repository`"),
    };
    let could = Could::find(log, &log.activations()?, asked, span);
    let mut did = Did::new(log, asked, span);
    let reach = log.walk(|body, details| did.record(body, details))?;
    let answer = Answer { asked, span, reach, could, did };
    let told = match format {
        Format::Json => Form::Json(answer.to_json()),
        Format::Human | Format::Markdown => Form::Text(answer.to_text()),
    };
    Ok(Told { code: 0, answer: told })
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
