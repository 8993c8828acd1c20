//! Mappings that let more jobs through than their words suggest.

use super::{Bound, PRODUCTION, REFS};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Test, codes},
    workload::Claim,
};

/// Of the production roles that a mapping gives: an environment that any branch may name, a tag that any writer may push.
pub(super) fn production(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some((role, named)) = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION) else { return };
    if bound.demands_protection(role) {
        return;
    }
    if bound.demands(role, &[Claim::Environment]) && !bound.demands(role, &REFS) {
        let message = format!(
            "mapping {} gives `{}` by its environment, and says no branch: any branch may name an environment that has no \
             rules",
            bound.name(),
            named.name
        );
        let help = "add `branch = \"main\"`, or a protected environment or ref";
        found.push(
            Diagnostic::error(codes::ENVIRONMENT_WITHOUT_REF, bound.mapping.span.clone(), message, help).warning(),
        );
    }
    let pattern = |condition: &&Condition| {
        let infinite = matches!(&condition.test, Test::Text(lang) if lang.members().is_none());
        condition.claim == Claim::Tag && (infinite || matches!(condition.test, Test::Present))
    };
    if let Some(tag) = bound.conditions(role).find(pattern)
        && !bound.demands(role, &[Claim::Environment])
    {
        let message = format!(
            "mapping {} gives `{}` by a pattern of tags: whoever may push a tag gets it",
            bound.name(),
            named.name
        );
        let help = "add `ref_protected = true` or an environment with rules of its own";
        found.push(Diagnostic::error(codes::TAG_ALONE, tag.span.clone(), message, help).warning());
    }
}
