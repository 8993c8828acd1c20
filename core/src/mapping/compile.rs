//! Folder → set, with every error of every file in one run.

use super::{Folder, MappingSet};
use crate::{diag::Diagnostic, review::TestCase, workload::Profiles};

/// What a folder gave.
#[derive(Debug)]
pub struct Loaded {
    /// Present when nothing was an error.
    pub set: Option<MappingSet>,
    /// `[[test]]` blocks, in file order; run by [`crate::review::run_tests`].
    pub tests: Vec<TestCase>,
    /// All findings, sorted by file and place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses, compiles and proves a folder (two mappings that can give one role to one job are an error).
pub fn load(_folder: &Folder, _profiles: &Profiles) -> Loaded {
    unimplemented!()
}
