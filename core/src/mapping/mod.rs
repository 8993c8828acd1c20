//! Rules → decision. Pure; the folder comes in as bytes.
//!
//! [`load`] turns a folder into a [`MappingSet`] or into all its errors. [`decide`] judges a case; [`explain`] is
//! the same evaluation, watched.

mod actor;
mod advice;
mod ceremony;
pub mod codes;
mod compile;
mod decide;
mod exception;
mod explain;
mod index;
mod remarks;
mod set;
mod syntax;
mod within;

pub use actor::{ACTOR, ActorRule};
pub use advice::repository_line;
pub use ceremony::{CeremonyFloor, CeremonyRule, CeremonyTerms, When, every_key, job_digest, starter};
pub use compile::{Loaded, load};
pub use decide::{Ask, Decision, Denial, Grant, decide, duration, possible_roles, renamed, shadowed};
pub use exception::{Exception, Exempt};
pub(crate) use explain::EXPIRES;
pub use explain::{ConditionReport, Got, MappingReport, TRACE_MAPPINGS_MAX, Trace, explain};
pub use remarks::Remark;
pub use set::{
    Condition, Deny, Issuer, IssuerId, Limit, Mapping, MappingId, MappingSet, Origin, Pairs, Parameters, Role, RoleId,
    Team, Test,
};
pub use syntax::{BackendKeys, FileKind, json_schema};
pub(crate) use within::is_commit;

use aws_lc_rs::digest;
use std::collections::BTreeMap;

/// The bytes of a mapping folder: path relative to it (`/`-separated) → content. Reading (links, permissions, file
/// kinds, sizes) is the service's; what may stand where is judged here.
#[derive(Clone, Default, Debug)]
pub struct Folder {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    /// SHA-256 over length-prefixed paths and contents, in path order: the mappings version.
    pub fn version(&self) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        for (path, content) in &self.files {
            for part in [path.as_bytes(), content] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let mut version = [0; 32];
        version.copy_from_slice(hash.finish().as_ref());
        version
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;

    fn folder(files: &[(&str, &str)]) -> Folder {
        Folder { files: files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect() }
    }

    #[test]
    fn the_version_knows_where_a_name_ends_and_a_text_begins() {
        let versions = [
            folder(&[]),
            folder(&[("a", "b")]),
            folder(&[("ab", "")]),
            folder(&[("a", ""), ("b", "")]),
            folder(&[("a", "b\0")]),
        ]
        .map(|folder| folder.version());
        for (at, version) in versions.iter().enumerate() {
            assert!(!versions[..at].contains(version), "{at}");
        }
    }
}
