//! Findings of a configuration or a folder on standard error, for commands whose output is something else.

use super::render;
use crate::config::Invalid;
use claimbound_core::{diag::Diagnostic, mapping::Folder};
use std::path::Path;

/// Everything that is wrong with a configuration file.
pub fn config(path: &Path, invalid: &Invalid) {
    let mut files = Folder::default();
    files.files.insert(path.display().to_string(), invalid.text.clone().into_bytes());
    findings("", &files, &invalid.diagnostics);
}

/// Findings about a folder that is shown as `root`.
pub fn findings(root: &str, folder: &Folder, diagnostics: &[Diagnostic]) {
    eprint!("{}", render::human(diagnostics, folder, root, &render::renderer()));
}
