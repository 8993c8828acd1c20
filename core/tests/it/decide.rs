//! The sample folder of the repository, decided from TOML to answer.

use claimbound_core::{
    mapping::{Ask, Decision, Folder, MappingSet, decide, explain, load, possible_roles},
    reason::Reason,
    review::{Given, run_tests},
    time::{Seconds, UnixSeconds},
    workload::{Case, Claim, Profiles},
};
use proptest::prelude::*;

/// The sample folder; `more` is added to the payments team's file.
pub(crate) fn sample(more: &str) -> Folder {
    let deploy = concat!(include_str!("../../../mappings/teams/payments/deploy.toml"), "\n");
    let files = [
        ("policy.toml", include_str!("../../../mappings/policy.toml").to_owned()),
        ("roles/payments.toml", include_str!("../../../mappings/roles/payments.toml").to_owned()),
        ("roles/search.toml", include_str!("../../../mappings/roles/search.toml").to_owned()),
        ("teams/payments/deploy.toml", deploy.to_owned() + more),
        ("teams/search/index.toml", include_str!("../../../mappings/teams/search/index.toml").to_owned()),
        ("tests/guards.toml", include_str!("../../../mappings/tests/guards.toml").to_owned()),
    ];
    Folder { files: files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect() }
}

pub(crate) fn set() -> MappingSet {
    load(&sample(""), &Profiles::builtin()).set.expect("the sample loads")
}

/// A push that may deploy to production, with changes.
pub(crate) fn job(changes: &[(Claim, &str)]) -> Case<'static> {
    let mut claims = vec![
        (Claim::Repository, "acme/payments-api"),
        (Claim::RepositoryId, "740000001"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::Branch, "main"),
        (Claim::Environment, "production"),
        (Claim::EventName, "push"),
        (Claim::RunnerEnvironment, "github-hosted"),
        (Claim::JobWorkflowRepository, "acme/ci"),
        (Claim::JobWorkflowFile, ".github/workflows/deploy.yml"),
        (Claim::JobWorkflowRef, "refs/heads/main"),
    ];
    for (claim, value) in changes {
        claims.retain(|(other, _)| other != claim);
        claims.push((*claim, value));
    }
    let claims = claims.into_iter().filter(|(_, value)| !value.is_empty());
    let given = Given::Workload(claims.map(|(claim, value)| (claim, value.to_owned())).collect());
    let set = set();
    let issuer = set.issuer_named("github").expect("the sample has it").0;
    let principal = given.workload(&set, &Profiles::builtin(), issuer).expect("a job that can be");
    Case::alone(principal)
}

const NOW: UnixSeconds = UnixSeconds(0);

#[test]
fn the_samples_own_tests_pass() {
    let loaded = load(&sample(""), &Profiles::builtin());
    let set = loaded.set.expect("the sample loads");
    let results = run_tests(&set, &Profiles::builtin(), &loaded.tests);
    assert!(results.len() >= 7, "the sample has its tests");
    for result in results {
        assert_eq!(result.failure, None, "{}", result.name);
    }
}

#[test]
fn a_wrong_test_fails_at_its_place() {
    let more = r#"
[[test]]
name = "wrong"
workload = { repository = "acme/payments-api", branch = "main", event_name = "push" }
role = "payments-deploy.production"
expect = "deny"
fails = ["environment"]
"#;
    let loaded = load(&sample(more), &Profiles::builtin());
    let results = run_tests(&loaded.set.expect("it loads"), &Profiles::builtin(), &loaded.tests);
    let failed: Vec<_> = results.into_iter().filter_map(|result| result.failure).collect();
    let [failure] = &*failed else { panic!("one fails: {failed:?}") };
    assert_eq!(failure.code.to_string(), "CB0603");
    assert_eq!(failure.span.as_ref().map(|span| &*span.file), Some("teams/payments/deploy.toml"));
    assert!(failure.message.contains("`environment`, `job_workflow.file`"), "{}", failure.message);
}

#[test]
fn near_misses_have_their_reasons() {
    use Claim as C;
    let set = set();
    for (changes, reason) in [
        (&[(C::RepositoryId, "9")][..], Reason::IdMismatch),
        (&[(C::Repository, "acme/payments-core")], Reason::Renamed),
        (&[(C::Repository, "acme/payments-web")], Reason::Renamed),
        (&[(C::EventName, "pull_request_target")], Reason::EventNotAllowed),
        (&[(C::RunnerEnvironment, "self-hosted")], Reason::Denied),
        (&[(C::RunnerEnvironment, "")], Reason::Denied),
        (&[(C::Environment, "")], Reason::NoMapping),
        (&[(C::Repository, "acme/other"), (C::RepositoryId, "5")], Reason::NoMapping),
    ] {
        let ask = Ask { role: Some("payments-deploy.production"), ..Ask::default() };
        let Decision::Deny(denial) = decide(&set, &job(changes), &ask, NOW) else { panic!("{changes:?} is granted") };
        assert_eq!(denial.reason, reason, "{changes:?}");
    }
}

#[test]
fn what_is_asked_for_is_clamped() {
    let set = set();
    for (asked, given) in [(None, 1800), (Some(60), 60), (Some(100_000), 1800)] {
        let ask = Ask { duration: asked.map(Seconds), ..Ask::default() };
        let Decision::Grant(grant) = decide(&set, &job(&[]), &ask, NOW) else { panic!("granted") };
        assert_eq!(grant.duration, Seconds(given));
    }
}

proptest! {
    /// Whatever the job: `explain` and `decide` say one thing, a grant is a possible role and its mapping's trace
    /// holds, and a denial's nearest mapping is the first of the trace.
    #[test]
    fn decide_explain_and_possible_roles_agree(
        (repository, id) in prop::sample::select(vec![
            ("acme/payments-api", "740000001"), ("acme/payments-api", "740000002"), ("acme/payments-web", "740000002"),
            ("acme/payments-new", "740000001"), ("acme/x", "3"), ("acme-labs/x", "4"),
        ]),
        branch in prop::sample::select(vec!["main", "dev"]),
        environment in prop::sample::select(vec!["", "production", "staging"]),
        event in prop::sample::select(vec!["push", "pull_request", "workflow_dispatch"]),
        runner in prop::sample::select(vec!["", "self-hosted", "github-hosted"]),
        workflow in prop::sample::select(vec!["refs/heads/main", "refs/heads/x"]),
        role in prop::sample::select(vec![
            None, Some("payments-deploy.production"), Some("payments-deploy.staging"), Some("payments-secrets"),
            Some("search-index"), Some("nothing"),
        ]),
    ) {
        let owner = if repository.starts_with("acme/") { "65" } else { "9917" };
        let case = job(&[
            (Claim::Repository, repository), (Claim::RepositoryId, id), (Claim::RepositoryOwnerId, owner),
            (Claim::Branch, branch), (Claim::Environment, environment), (Claim::EventName, event),
            (Claim::RunnerEnvironment, runner), (Claim::JobWorkflowRef, workflow),
        ]);
        let set = set();
        let ask = Ask { role, ..Ask::default() };
        let decision = decide(&set, &case, &ask, NOW);
        let (again, trace) = explain(&set, &case, &ask, NOW);
        prop_assert_eq!(&again, &decision);
        let possible = possible_roles(&set, &case, NOW);
        match decision {
            Decision::Grant(grant) => {
                prop_assert!(possible.contains(&grant.role));
                prop_assert!(trace.mappings.iter().any(|one| one.held && one.mapping == grant.mapping));
                prop_assert!(trace.mappings.iter().all(|one| one.held == one.miss.is_none()));
            }
            Decision::Deny(denial) => {
                match role {
                    Some(name) => prop_assert!(set.role_named(name).is_none_or(|role| !possible.contains(&role))),
                    None => prop_assert_ne!(possible.len(), 1),
                }
                prop_assert_eq!(denial.rule.is_some(), denial.reason == Reason::Denied);
                if denial.reason != Reason::RoleNeeded {
                    prop_assert_eq!(denial.nearest, trace.mappings.first().map(|one| one.mapping));
                }
            }
        }
    }
}
