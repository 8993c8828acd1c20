//! Whose job it is: a mapping that does not say so, or says so by what may change hands.

use super::Bound;
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Test, codes, is_person_class},
    workload::Claim,
};

/// Claims that say whose code runs.
const WHOSE: [Claim; 4] = [Claim::Repository, Claim::RepositoryId, Claim::RepositoryOwner, Claim::RepositoryOwnerId];

/// On an issuer of one's own names may carry a mapping, and so may what says nothing of the repository at all: a person,
/// a called workflow, a protected ref. Then every repository of the instance can have it.
pub(super) fn no_repository(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let pins = bound.profile.pins();
    let says = |condition: &Condition| {
        let says_little = |part: &Test| matches!(part, Test::Present | Test::Absent | Test::SameRepository);
        // A whole `sub` holds the repository, by whatever template it was made.
        let whole = |part: &Test| matches!(part, Test::Text(lang) if lang.members().is_some());
        let whole = condition.claim == Claim::Subject && condition.test.parts().iter().all(whole);
        (whole || condition.claim.is_one_of(&WHOSE) || condition.claim.is_one_of(pins))
            && !condition.test.parts().iter().any(says_little)
    };
    if !bound.profile.provides(Claim::Repository) {
        return;
    }
    if let Some((_, role)) = bound.roles().find(|(role, _)| !bound.conditions(*role).any(says)) {
        let message = format!(
            "mapping {} gives `{}` to jobs of every repository of issuer `{}` that fit the rest",
            bound.name(),
            role.name,
            bound.set.issuer(bound.mapping.issuer).name
        );
        let help = "add `repository = { name = \"…\", id = … }`, or `{ under = \"…\" }` a group; persons, called workflows and \
                    refs say nothing of whose code runs";
        found.push(Diagnostic::error(codes::NO_REPOSITORY, bound.mapping.span.clone(), message, help).warning());
    }
}

/// `repo:acme@*/api@*:…`: whoever takes over the names takes over the mapping, which the ids were to prevent.
pub(super) fn open_ids(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    for condition in bound.mapping.conditions.iter().filter(|condition| condition.claim == Claim::Subject) {
        let written = condition.test.parts().iter().find_map(|part| match part {
            Test::Text(lang) if lang.members().is_none() => Some(lang.describe()),
            _ => None,
        });
        let Some(written) = written.filter(|text| ["@*", "@{num}"].iter().any(|open| text.contains(open))) else {
            continue;
        };
        let message = format!("mapping {} leaves the ids of the subject open: {written}", bound.name());
        let help =
            "pin the ids by their own claim: `repository = { name = \"…\", id = … }` fits a `sub` of either form";
        found.push(Diagnostic::error(codes::SUBJECT_IDS_OPEN, condition.span.clone(), message, help).warning());
    }
}

/// A login that was given up can be registered by somebody else.
pub(super) fn person_by_name(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let named = |condition: &&Condition| {
        let names = |part: &Test| matches!(part, Test::Text(lang) if !is_person_class(bound.profile, lang));
        condition.claim == Claim::Initiator && condition.test.parts().iter().any(names)
    };
    let Some(condition) = bound.mapping.conditions.iter().find(named) else { return };
    let by_id = bound.mapping.conditions.iter().any(|condition| condition.claim == Claim::InitiatorId);
    if by_id || !bound.profile.provides(Claim::InitiatorId) {
        return;
    }
    let message = format!("mapping {} names who started the run by a name, which can change hands", bound.name());
    let help = "write `initiator_id`; and count on neither: who starts a run says nothing of whose code runs";
    found.push(Diagnostic::error(codes::PERSON_BY_NAME, condition.span.clone(), message, help).warning());
}
