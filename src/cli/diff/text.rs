//! A difference for people.

use super::{Compared, jobs, mappings, quoted, repository, some};
use claimbound_core::review::diff::{Change, Kind};
use std::fmt::Write as _;

/// Names that a line shows.
const NAMES_SHOWN: usize = 8;
/// Shapes of jobs that a change shows.
const SHAPES_SHOWN: usize = 8;

pub(super) fn render(compared: &Compared<'_>) -> String {
    let mut text = String::new();
    write(&mut text, compared).expect("a string takes all text");
    text
}

fn write(text: &mut String, compared: &Compared<'_>) -> std::fmt::Result {
    let diff = compared.diff;
    writeln!(text, "{}", diff.summary())?;
    if diff.is_none() {
        writeln!(text, "proved for every job of every issuer: who may have which role, and on which terms")?;
    }
    for change in &diff.changes {
        write_change(text, change)?;
    }
    for unsure in &diff.undecided {
        let roles = quoted(&unsure.roles, NAMES_SHOWN);
        writeln!(text, "\nundecided: {roles} for jobs of `{}`", unsure.issuer)?;
        if !unsure.mappings.is_empty() {
            writeln!(text, "  mappings: {}", quoted(&unsure.mappings, NAMES_SHOWN))?;
        }
        writeln!(text, "  why: {}", unsure.why)?;
    }
    if !diff.rules.is_empty() {
        writeln!(text, "\nalso changed:")?;
        diff.rules.iter().try_for_each(|rule| writeln!(text, "  {rule}"))?;
    }
    if !diff.reviewers.is_empty() {
        writeln!(text, "\nto review:")?;
    }
    for reviewer in &diff.reviewers {
        let who = if reviewer.team.is_some() { "team " } else { "" };
        let contact = reviewer.contact.as_ref().map(|contact| format!(" ({contact})")).unwrap_or_default();
        writeln!(text, "  {who}{}{contact}: {}", reviewer.name(), some(reviewer.files.iter().cloned(), NAMES_SHOWN))?;
    }
    Ok(())
}

fn write_change(text: &mut String, change: &Change) -> std::fmt::Result {
    let (kind, verb) = match change.kind {
        Kind::Gain => ("gain", "by"),
        Kind::Loss => ("loss", "was given by"),
        Kind::Terms => ("terms", "by"),
    };
    writeln!(text, "\n{kind}: {} for jobs of `{}`", quoted(&change.roles, NAMES_SHOWN), change.issuer)?;
    for term in &change.terms {
        writeln!(text, "  {}: {} → {} ({})", term.name, term.before, term.after, term.direction)?;
    }
    if !change.repositories.is_empty() {
        let count = change.repositories.len();
        let shown = some(change.repositories.iter().map(repository), NAMES_SHOWN);
        let of = if count == 1 { "repository".to_owned() } else { format!("{count} repositories") };
        writeln!(text, "  {of}: {shown}")?;
    }
    for shape in change.jobs.iter().take(SHAPES_SHOWN) {
        writeln!(text, "  jobs: {}", jobs(shape))?;
    }
    if change.jobs.len() > SHAPES_SHOWN {
        writeln!(text, "  and {} kinds of jobs more", change.jobs.len() - SHAPES_SHOWN)?;
    }
    writeln!(text, "  {verb} {}", mappings(&change.mappings, NAMES_SHOWN))?;
    if let Some(example) = change.examples.first() {
        writeln!(text, "  for example: {}", example.line())?;
        writeln!(text, "    before: {}\n    after:  {}", example.before, example.after)?;
    }
    Ok(())
}
