//! Reading a mapping folder from disk: the signature that `cli` is written against, until the reader stands here.

use claimbound_core::{diag::Diagnostic, mapping::Folder};
use std::path::Path;

/// Reads a folder; `serving` is stricter about permissions.
pub fn read(_path: &Path, _serving: bool) -> Result<Folder, Vec<Diagnostic>> {
    unimplemented!()
}
