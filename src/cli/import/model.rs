//! What readers of trust policies hand over: rules, and what of the policies the folder will not hold.

use super::{native::Source, when::When};
use serde::Serialize;
use std::collections::BTreeMap;

/// Something of a source that the folder does not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Left {
    /// File, and the statement or field of it.
    pub place: String,
    pub why: String,
    pub help: String,
}

/// What a role gives, before it has its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gives {
    Aws { role_arn: String, max_seconds: Option<u64> },
    Jwt { audience: String },
}

/// A role as a source names it.
#[derive(Clone, Debug)]
pub struct RoleOf {
    /// Distinguishes roles.
    pub called: String,
    /// The source's name for it; the folder's is made of it.
    pub name: String,
    pub description: String,
    pub gives: Gives,
    /// Lines for whoever edits the role.
    pub remarks: Vec<String>,
}

/// One rule of a source: jobs that may have a role.
#[derive(Clone, Debug)]
pub struct Rule<'p> {
    pub place: String,
    pub role: RoleOf,
    pub source: Source<'p>,
    pub alternatives: Vec<When>,
}

/// What reading the sources gave.
#[derive(Debug, Default)]
pub struct Import<'p> {
    pub rules: Vec<Rule<'p>>,
    pub left: Vec<Left>,
    /// What is kept, but narrower or otherwise than it was.
    pub changed: Vec<Left>,
}

/// A folder, ready to be written.
#[derive(Debug, Default)]
pub struct Output {
    pub files: BTreeMap<String, String>,
    pub roles: usize,
    pub mappings: usize,
    pub left: Vec<Left>,
    pub changed: Vec<Left>,
    /// Repositories and owners without ids.
    pub unpinned: usize,
}

impl Import<'_> {
    pub fn left(&mut self, place: &str, why: impl Into<String>, help: impl Into<String>) {
        self.left.push(Left { place: place.to_owned(), why: why.into(), help: help.into() });
    }
    pub fn changed(&mut self, place: &str, why: impl Into<String>, help: impl Into<String>) {
        self.changed.push(Left { place: place.to_owned(), why: why.into(), help: help.into() });
    }
}
