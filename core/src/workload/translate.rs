//! Claims + profile → workload. `serve` passes verified claims; `explain` and `test` pass what a file says.

use super::{Claim, Profile, Workload};
use crate::{claims::Claims, reason::Reason};
use std::borrow::Cow;

/// Why claims are no workload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("claims `{left}` and `{right}` contradict each other")]
    Contradiction { left: String, right: String },
    #[error("claim `{0}` has the wrong type")]
    WrongType(String),
    #[error("claim `{0}` holds characters that its syntax does not allow")]
    Syntax(String),
    #[error("claim `{0}` is missing")]
    Missing(String),
    #[error("the job's owner is not listed for this issuer")]
    Stranger,
}

impl WorkloadError {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Contradiction { .. } => Reason::ClaimsInconsistent,
            Self::WrongType(_) => Reason::ClaimType,
            Self::Syntax(_) => Reason::ClaimSyntax,
            Self::Missing(_) => Reason::ClaimMissing,
            Self::Stranger => Reason::Stranger,
        }
    }
}

/// Native claims → canonical ones. Contradictory claims refuse.
pub fn translate<'t>(_profile: &Profile, _issuer: &str, _claims: Claims<'t>) -> Result<Workload<'t>, WorkloadError> {
    unimplemented!()
}

/// A workload from canonical claims alone, as `[[test]]` blocks and `explain --repository …` state them: derived
/// claims are filled (`ref` and `ref_type` from `branch` or `tag`, the owner from the repository), all else is
/// none where the profile proves it, unknown otherwise.
pub fn from_canonical(
    _profile: &Profile,
    _issuer: &str,
    _given: &[(Claim, Cow<'_, str>)],
) -> Result<Workload<'static>, WorkloadError> {
    unimplemented!()
}
