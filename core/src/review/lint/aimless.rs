//! Tests of a denial that pass for a reason that nobody meant: no mapping that gives the role is about the job at all.

use crate::{
    diag::Diagnostic,
    mapping::{Ask, Decision, MappingSet, codes, explain},
    review::{Expect, TestCase},
    time::UnixSeconds,
    workload::{Case, Claim, Profiles},
};

/// Warnings about the tests of a folder that loads.
pub fn lint_tests(set: &MappingSet, profiles: &Profiles, tests: &[TestCase]) -> Vec<Diagnostic> {
    tests.iter().filter_map(|test| aimless(set, profiles, test)).collect()
}

/// With `fails` a test says itself what keeps the role away.
fn aimless(set: &MappingSet, profiles: &Profiles, test: &TestCase) -> Option<Diagnostic> {
    let Expect::Deny { role, fails: None } = &test.expect else { return None };
    // What is refused before any mapping is looked at was meant to be.
    let principal = test.given.workload(set, profiles, test.issuer).ok()?;
    let case = Case::alone(principal);
    let ask = Ask { role: role.as_deref(), ..Ask::default() };
    let (decision, trace) = explain(set, &case, &ask, test.at.unwrap_or(UnixSeconds(0)));
    let elsewhere = [Claim::Repository, Claim::RepositoryId, Claim::RepositoryOwner, Claim::RepositoryOwnerId];
    let about = trace.mappings.first().is_some_and(|nearest| {
        let failed = nearest.failed();
        !elsewhere.iter().any(|claim| failed.contains(claim.name()))
    });
    if about
        || matches!(decision, Decision::Grant(_))
        || role.as_ref().is_some_and(|role| set.role_named(role).is_none())
    {
        return None;
    }
    let message = format!(
        "test `{}` passes whatever the conditions of the mappings are: none that gives {} is about the job's repository",
        test.name,
        role.as_ref().map_or_else(|| "anything".to_owned(), |role| format!("`{role}`"))
    );
    let help =
        "give it a repository that a mapping names; or write `fails = [\"repository\"]`, if that is what it shows";
    Some(Diagnostic::error(codes::TEST_ELSEWHERE, test.span.clone(), message, help).warning())
}
