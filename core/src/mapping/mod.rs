//! Rules → decision. Pure; the folder comes in as bytes.
//!
//! [`load`] turns a folder into a [`MappingSet`] or into all its errors. [`decide`] judges a case; [`explain`] is
//! the same evaluation, watched.

mod advice;
mod compile;
mod decide;
mod explain;
mod index;
mod set;
mod syntax;

pub use advice::repository_line;
pub use compile::{Loaded, load};
pub use decide::{Ask, Decision, Denial, Grant, decide, possible_roles};
pub use explain::{ConditionReport, Got, MappingReport, TRACE_MAPPINGS_MAX, Trace, explain};
pub use set::{
    Condition, Deny, Issuer, IssuerId, Mapping, MappingId, MappingSet, Origin, Parameters, Role, RoleId, Team, Test,
};

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
        unimplemented!()
    }
}
