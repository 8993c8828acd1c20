//! Mappings that let more jobs through than their words suggest.

use super::{Bound, PRODUCTION};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Test, codes},
    workload::Claim,
};

const REFS: [Claim; 4] = [Claim::Branch, Claim::Tag, Claim::Ref, Claim::PullRequest];

/// Of the production roles that a mapping gives: an environment that any branch may name, a tag that any writer may push.
pub(super) fn production(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some((role, named)) = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION) else { return };
    if bound.demands_protection(role) {
        return;
    }
    if bound.demands(role, &[Claim::Environment]) && !bound.demands(role, &REFS) {
        let message = format!(
            "mapping `{}` gives `{}` by its environment, and says no branch: any branch may name an environment that has no \
             rules",
            bound.mapping.name, named.name
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
            "mapping `{}` gives `{}` by a pattern of tags: whoever may push a tag gets it",
            bound.mapping.name, named.name
        );
        let help = "add `ref_protected = true` or an environment with rules of its own";
        found.push(Diagnostic::error(codes::TAG_ALONE, tag.span.clone(), message, help).warning());
    }
}

/// A called workflow at any ref is any text that somebody pushes to that repository.
pub(super) fn any_ref_of_a_workflow(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let (file, fixed) = (Claim::JobWorkflowFile, [Claim::JobWorkflowRef, Claim::JobWorkflowSha]);
    for (role, named) in bound.roles() {
        let Some(condition) = bound.conditions(role).find(|condition| condition.claim == file) else { continue };
        let is_any = |claim: Claim| {
            let mut of_claim = bound.conditions(role).filter(|condition| condition.claim == claim);
            of_claim.all(|condition| matches!(&condition.test, Test::Present) || reaches_all(&condition.test))
        };
        if fixed.into_iter().all(is_any) {
            let message = format!(
                "mapping `{}` gives `{}` to a called workflow at any ref: a branch of that repository is enough to change it",
                bound.mapping.name, named.name
            );
            let help = "add `ref = \"refs/heads/main\"` (or `branch`, `tag`, `sha`) to `job_workflow`";
            found.push(Diagnostic::error(codes::WORKFLOW_AT_ANY_REF, condition.span.clone(), message, help).warning());
            return;
        }
    }
}

/// Whether a pattern holds texts as different as these: then it holds every ref that somebody might choose.
fn reaches_all(test: &Test) -> bool {
    let Test::Text(lang) = test else { return false };
    ["refs/heads/x", "refs/heads/q/7", "refs/tags/9-z"].iter().all(|text| lang.matches(text))
}
