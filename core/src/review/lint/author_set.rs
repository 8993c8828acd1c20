//! Conditions on raw claims that the author of a job sets.

use super::Bound;
use crate::{
    diag::Diagnostic,
    mapping::codes,
    workload::{ClaimKey, SetBy},
};

/// They look as narrow as any other, and leave out nobody who may write the job.
pub(super) fn raw(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    for condition in &bound.mapping.conditions {
        let ClaimKey::Raw(claim) = &condition.claim else { continue };
        if !bound.profile.raw_claim(&claim.native()).is_some_and(|(_, set_by)| set_by == SetBy::Author) {
            continue;
        }
        let message = format!(
            "`{}` of mapping {} says what the author of the job, or who starts it, lets it say",
            claim.name(),
            bound.name()
        );
        let help = "remove it, and narrow by what they cannot choose, such as `branch` with `ref_protected = true`";
        found.push(Diagnostic::error(codes::AUTHOR_SET, condition.span.clone(), message, help).warning());
    }
}
