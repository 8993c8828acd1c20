//! Roles of a mapping set → one minter per role, with spanned errors.

use super::Minter;
use crate::keys::signing::Signer;
use claimbound_core::{diag::Diagnostic, mapping::MappingSet};
use std::sync::Arc;

/// What a role's parameters must not clash with.
pub struct Deployment<'a> {
    pub public_url: &'a str,
    pub issuer_url: &'a str,
}

/// One minter per role, at the role's number. All faults of all roles at once. Offline (`check`), pass `None`: the
/// parameters are judged, audiences that depend on the deployment are not.
pub fn compile(
    _set: &MappingSet,
    _deployment: Option<&Deployment<'_>>,
    _signer: &Arc<Signer>,
) -> Result<Vec<Box<dyn Minter>>, Vec<Diagnostic>> {
    unimplemented!()
}

/// The offline part of [`compile`], for `check` and `explain`.
pub fn check(_set: &MappingSet, _deployment: Option<&Deployment<'_>>) -> Vec<Diagnostic> {
    unimplemented!()
}
