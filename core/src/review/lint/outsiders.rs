//! Events that somebody without rights in the repository can cause, and whose jobs run with its rights.

use super::{Bound, PRODUCTION};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Origin, Test, codes},
    workload::Claim,
};

/// Production on any such event; other roles on those that are not even about a pull request, whose code somebody who
/// may push has to have brought.
pub(super) fn events(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let production = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION);
    let (outsiders, of_pulls) = (bound.profile.outsider_events(), bound.profile.pull_request_events());
    let risky = |event: &String| production.is_some() || !of_pulls.contains(event);
    let own = |condition: &&Condition| condition.claim == Claim::EventName && condition.origin != Origin::DefaultEvents;
    for condition in bound.mapping.conditions.iter().filter(own) {
        let named = condition.test.parts().iter().find_map(|part| match part {
            Test::Text(lang) => outsiders.iter().find(|event| risky(event) && lang.matches(event)),
            _ => None,
        });
        let (Some(event), Some((_, role))) = (named, production.or_else(|| bound.roles().next())) else { continue };
        let message = format!(
            "mapping {} gives `{}` on the event `{event}`, which somebody without rights in the repository can cause",
            bound.name(),
            role.name
        );
        let help = "leave the event to a role that may do less; or see to it that such a run uses nothing that the \
                    outsider wrote";
        found.push(Diagnostic::error(codes::OUTSIDER_EVENT, condition.span.clone(), message, help).warning());
    }
}
