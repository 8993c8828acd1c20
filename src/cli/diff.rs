//! `claimbound diff`: what a change of the mapping folder means, before it is merged.

mod json;
pub(super) mod markdown;
mod revision;
mod text;

use super::loaded::{self, Loaded};
use crate::history;
use anyhow::Result;
use claimbound_core::{
    evidence::hex,
    review::diff::{Diff, Side, diff},
};
use std::path::Path;

/// Somebody gains, or it is not proven that nobody does.
const WIDENS: u8 = 1;

/// Say who gains and who loses which role between two mapping folders
///
/// BASE and HEAD are folders, or git revisions: `REV:PATH`, or `REV` alone for the folder that the other side names,
/// `mappings` if it names none. A folder comes before a revision of its name. Compared are all jobs that an issuer's profile
/// allows, in canonical claims: "no change in access" is a proof for them, and each job that is shown was judged by both
/// folders. What cannot be decided within bounds is called undecided. Exit code 0, whatever is found; 1: with
/// `--fail-on-widening`, on a gain, a term that is wider or cannot be compared, or undecided; 2: usage, or a folder does not
/// load.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound diff origin/main mappings
  claimbound diff HEAD~1 HEAD --format markdown
  claimbound diff v1.4:mappings ../proposed --fail-on-widening")]
pub struct DiffArgs {
    /// The earlier folder or git revision
    #[arg(value_name = "BASE")]
    base: String,
    /// The later one
    #[arg(value_name = "HEAD")]
    head: String,
    /// End with exit code 1 where access becomes wider, or may
    #[arg(long)]
    fail_on_widening: bool,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,
}

/// How `diff` answers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum DiffFormat {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON object.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

impl From<DiffFormat> for history::Format {
    fn from(format: DiffFormat) -> Self {
        match format {
            DiffFormat::Human => Self::Human,
            DiffFormat::Json => Self::Json,
            DiffFormat::Markdown => Self::Markdown,
        }
    }
}

/// Both folders and what was found.
struct Compared<'a> {
    names: [&'a str; 2],
    versions: [String; 2],
    diff: &'a Diff,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When a side cannot be read, and when the evaluator does not confirm what was found.
pub fn run(args: &DiffArgs) -> Result<u8> {
    let names = [args.base.as_str(), args.head.as_str()];
    // Both are told if neither loads.
    let (before, after) = (side(names[0], names[1])?, side(names[1], names[0])?);
    let (Some(before), Some(after)) = (before, after) else { return Ok(2) };
    let found = diff(of(&before), of(&after))?;
    let versions = [&before, &after].map(|side| hex(&side.set.version));
    let compared = Compared { names, versions, diff: &found };
    let text = match args.format {
        DiffFormat::Human => text::render(&compared),
        DiffFormat::Json => format!("{:#}\n", json::render(&compared)),
        DiffFormat::Markdown => markdown::render(&compared),
    };
    loaded::print(&text)?;
    Ok(if args.fail_on_widening && found.widens() { WIDENS } else { 0 })
}

/// A folder or a git revision, compiled. `other`: what it is compared with, if that is a folder. `None`: it does not
/// load, which standard error says.
pub(super) fn side(name: &str, other: &str) -> Result<Option<Loaded>> {
    let other = Some(Path::new(other)).filter(|path| path.is_dir());
    match Path::new(name) {
        path if path.is_dir() => loaded::load(path),
        _ => loaded::of_folder(revision::read(name, other)?, name),
    }
}

fn of(loaded: &Loaded) -> Side<'_> {
    Side { folder: &loaded.folder, set: &loaded.set, profiles: &loaded.profiles }
}

/// A repository's name and id, as far as they are known.
fn repository((name, id): &(String, String)) -> String {
    match (name.is_empty(), id.is_empty()) {
        (false, false) => format!("`{name}` ({id})"),
        (false, true) => format!("`{name}`"),
        _ => format!("id {id}"),
    }
}

/// The first of many, and how many more there are.
fn some(all: impl ExactSizeIterator<Item = String>, shown: usize) -> String {
    let more = all.len().saturating_sub(shown);
    let mut text = all.take(shown).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn quoted(names: &[String], shown: usize) -> String {
    some(names.iter().map(|name| format!("`{name}`")), shown)
}

/// A shape of jobs in one line.
fn jobs(shape: &[(String, String)]) -> String {
    match shape {
        [] => "any".to_owned(),
        _ => shape.iter().map(|(claim, words)| format!("{claim} {words}")).collect::<Vec<_>>().join("; "),
    }
}

/// Which mappings give the role before and after.
fn mappings([before, after]: &[Vec<String>; 2], shown: usize) -> String {
    match (before.is_empty(), after.is_empty()) {
        _ if before == after => quoted(after, shown),
        (true, _) => quoted(after, shown),
        (_, true) => quoted(before, shown),
        _ => format!("{}, before {}", quoted(after, shown), quoted(before, shown)),
    }
}
