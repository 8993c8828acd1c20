//! Branches by name alone, where the forge says of each ref and environment whether it is protected.

use super::Bound;
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Test, codes},
    workload::Claim,
};

/// There whoever may push may make a branch of any name that is not there yet, or push to one that has no rules.
pub(super) fn branch_by_name(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    if ![Claim::RefProtected, Claim::EnvironmentProtected].iter().all(|claim| bound.profile.provides(*claim)) {
        return;
    }
    let by_name = |condition: &&Condition| {
        condition.claim.is_one_of(&[Claim::Branch, Claim::Ref])
            && condition.test.parts().iter().any(|part| matches!(part, Test::Text(_)))
    };
    let told = [Claim::RefProtected, Claim::EnvironmentProtected];
    let Some(condition) = bound.mapping.conditions.iter().find(by_name) else { return };
    if let Some((_, role)) = bound.roles().find(|(role, _)| !bound.demands(*role, &told)) {
        let message = format!(
            "mapping {} gives `{}` to a branch by its name, and does not ask whether it is protected",
            bound.name(),
            role.name
        );
        let help = "add `ref_protected = true`: developers may push to any branch that is not";
        found.push(Diagnostic::error(codes::BRANCH_UNPROTECTED, condition.span.clone(), message, help).warning());
    }
}
