//! Production that somebody may act for, and that is given where nobody does, too.

use super::{Bound, PRODUCTION};
use crate::{diag::Diagnostic, mapping::codes};

/// The job gets the role for itself as well: who reads the actor's conditions may take them for the way in.
pub(super) fn not_required(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some(rule) = bound.mapping.actor.as_ref().filter(|rule| !rule.required && bound.mapping.is_first()) else {
        return;
    };
    let Some((_, role)) = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION) else { return };
    let message = format!(
        "mapping {} gives the production role `{}` to its jobs by themselves, too, not only where somebody acts",
        bound.name(),
        role.name
    );
    let help = "write `required = true` if only who acts shall have it; else give the role by two mappings, one of them without `[mapping.actor]`, so that each says what it lets in";
    found.push(Diagnostic::error(codes::ACTOR_NOT_REQUIRED, rule.span.clone(), message, help).warning());
}
