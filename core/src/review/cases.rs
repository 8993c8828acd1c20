//! Runs `[[test]]` blocks through `decide` and `explain`: the same answers as `serve` gives.

use super::{Given, GivenError, Job};
use crate::{
    delegation::{chain, onward},
    diag::{Code, Diagnostic, Span, did_you_mean},
    mapping::{Ask, Decision, IssuerId, MappingReport, MappingSet, RoleId, decide, explain, possible_roles},
    reason::Reason,
    time::UnixSeconds,
    workload::{Case, Profiles, Workload, WorkloadError},
};
use std::{collections::BTreeSet, fmt};

/// The job has other roles than the test says.
const ROLES: Code = Code(601);
/// The job is granted what the test denies.
const GRANTED: Code = Code(602);
/// Other conditions fail than the test says.
const FAILS: Code = Code(603);
/// What the test gives is no workload.
const WORKLOAD: Code = Code(604);
/// The test names a role that does not exist.
const ROLE: Code = Code(605);

/// When a test says no `at`: before anything expires.
const BEFORE_ALL: UnixSeconds = UnixSeconds(0);

/// What a test expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Exactly these roles are possible.
    Grant { roles: Vec<String> },
    /// The role is not granted; `fails` names exactly the failed conditions of the nearest mapping, if stated.
    Deny { role: Option<String>, fails: Option<Vec<String>> },
}

/// A compiled `[[test]]` block.
#[derive(Clone, Debug)]
pub struct TestCase {
    pub name: String,
    pub issuer: IssuerId,
    pub given: Given,
    /// Who acts for the job.
    pub actor: Option<(IssuerId, Job)>,
    /// Of the token of ours that the actor exchanges, downstream.
    pub audience: Option<String>,
    pub expect: Expect,
    /// `at = …`; otherwise tests run as if nothing had expired.
    pub at: Option<UnixSeconds>,
    pub span: Span,
}

/// One test's outcome.
#[derive(Clone, Debug)]
pub struct TestResult {
    pub name: String,
    /// The failure, at the test's place; `None` when it passed.
    pub failure: Option<Diagnostic>,
}

/// Runs all tests of a folder.
pub fn run_tests(set: &MappingSet, profiles: &Profiles, tests: &[TestCase]) -> Vec<TestResult> {
    tests
        .iter()
        .map(|test| TestResult { name: test.name.clone(), failure: run(set, profiles, test).err().map(|f| f.at(test)) })
        .collect()
}

/// Why a test failed.
struct Failure {
    code: Code,
    message: String,
    help: String,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
    fn at(self, test: &TestCase) -> Diagnostic {
        let message = format!("test `{}` failed: {}", test.name, self.message);
        Diagnostic::error(self.code, test.span.clone(), message, self.help)
    }
}

fn run(set: &MappingSet, profiles: &Profiles, test: &TestCase) -> Result<(), Failure> {
    let principal = match (test.given.workload(set, profiles, test.issuer), &test.given) {
        (Ok(workload), _) => workload,
        (Err(GivenError::Refused(error)), Given::Claims(_)) => return without_workload(&error, &test.expect),
        (Err(GivenError::Refused(WorkloadError::Stranger)), _) => {
            return without_workload(&WorkloadError::Stranger, &test.expect);
        }
        (Err(error), _) => {
            return Err(Failure::new(WORKLOAD, error.to_string(), "correct what the test gives"));
        }
    };
    match acted(set, profiles, test, principal)? {
        Ok(case) => judge(set, &case, &test.expect, test.at.unwrap_or(BEFORE_ALL)),
        Err(why) => without_workload(&why, &test.expect),
    }
}

/// The job with who acts for it; or why it is refused before any mapping is looked at.
fn acted(
    set: &MappingSet,
    profiles: &Profiles,
    test: &TestCase,
    principal: Workload<'static>,
) -> Result<Result<Case<'static>, String>, Failure> {
    let actor = match &test.actor {
        None => None,
        Some((issuer, job)) => match Given::Workload(job.clone()).workload(set, profiles, *issuer) {
            Ok(workload) => Some(workload),
            Err(GivenError::Refused(error @ WorkloadError::Stranger)) => return Ok(Err(error.to_string())),
            Err(error) => {
                let message = format!("the actor: {error}");
                return Err(Failure::new(WORKLOAD, message, "correct what the test gives as `actor`"));
            }
        },
    };
    let issuer = set.issuer(test.issuer);
    let name_of = |url: &str| set.issuer_at(url);
    let case = match &test.audience {
        Some(audience) => onward(principal, None, actor, audience.clone(), name_of),
        None => chain(principal, actor, issuer.trusts_act, name_of),
    };
    Ok(case.map_err(|error| error.to_string()))
}

/// A token that is refused before any mapping is looked at: a denial, but one in which no condition failed.
fn without_workload(error: &impl fmt::Display, expect: &Expect) -> Result<(), Failure> {
    let why = format!("the job is refused before any mapping is looked at: {error}");
    match expect {
        Expect::Deny { fails: None, .. } => Ok(()),
        Expect::Deny { .. } => Err(Failure::new(FAILS, why, "remove `fails`, or correct what the test gives")),
        Expect::Grant { .. } => {
            Err(Failure::new(ROLES, why, "correct what the test gives, or list the owner in `owners`"))
        }
    }
}

fn judge(set: &MappingSet, case: &Case<'_>, expect: &Expect, now: UnixSeconds) -> Result<(), Failure> {
    match expect {
        Expect::Grant { roles } => {
            let expected: BTreeSet<&str> = roles.iter().map(String::as_str).collect();
            for name in &expected {
                known(set, name)?;
            }
            let got = names(set, &possible_roles(set, case, now));
            if got == expected {
                return Ok(());
            }
            let help = match expected.difference(&got).next() {
                Some(missing) => near(set, case, Some(missing), now),
                None => "add the roles to `roles`, or narrow the mappings that give them".to_owned(),
            };
            Err(Failure::new(ROLES, format!("expected exactly {}, got {}", list(&expected), list(&got)), help))
        }
        Expect::Deny { role, fails } => {
            if let Some(name) = role {
                known(set, name)?;
            }
            let ask = Ask { role: role.as_deref(), ..Ask::default() };
            let denial = match decide(set, case, &ask, now) {
                Decision::Grant(grant) => {
                    let (mapping, role) = (&set.mapping(grant.mapping).name, &set.role(grant.role).name);
                    let message = format!("expected a denial, but mapping `{mapping}` gives `{role}`");
                    return Err(Failure::new(GRANTED, message, "narrow the mapping, or correct the test"));
                }
                Decision::Deny(denial) => denial,
            };
            if denial.reason == Reason::RoleNeeded {
                let message = format!("expected a denial, but the job may have {}", list(&names(set, &denial.roles)));
                return Err(Failure::new(GRANTED, message, "name a `role`, or narrow the mappings"));
            }
            let Some(fails) = fails else { return Ok(()) };
            let trace = explain(set, case, &ask, now).1;
            let failed = trace.mappings.first().map(MappingReport::failed).unwrap_or_default();
            let expected: BTreeSet<&str> = fails.iter().map(String::as_str).collect();
            if agree(&expected, &failed) {
                return Ok(());
            }
            let nearest = match trace.mappings.first() {
                Some(report) => format!("of the nearest mapping, `{}`", set.mapping(report.mapping).name),
                None => "(no mapping gives the role)".to_owned(),
            };
            let rule =
                denial.rule.map(|rule| format!("; it is the deny rule `{rule}` that refuses")).unwrap_or_default();
            let message = format!("expected that {} fail, got {} {nearest}{rule}", list(&expected), list(&failed));
            Err(Failure::new(FAILS, message, "correct `fails`: it lists every failed condition, `require` included"))
        }
    }
}

/// Whether the test names every failed claim and no other. `job_workflow` stands for whichever of its parts failed.
fn agree(expected: &BTreeSet<&str>, failed: &BTreeSet<&str>) -> bool {
    let covers =
        |name: &str, claim: &str| claim == name || claim.split_once('.').is_some_and(|(table, _)| table == name);
    expected.iter().all(|name| failed.iter().any(|claim| covers(name, claim)))
        && failed.iter().all(|claim| expected.iter().any(|name| covers(name, claim)))
}

fn known(set: &MappingSet, name: &str) -> Result<RoleId, Failure> {
    set.role_named(name).ok_or_else(|| {
        let help = match did_you_mean(name, set.role_names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a role of `roles/`, with its target: `ROLE.TARGET`".to_owned(),
        };
        Failure::new(ROLE, format!("there is no role `{name}`"), help)
    })
}

/// What keeps the role away.
fn near(set: &MappingSet, case: &Case<'_>, role: Option<&str>, now: UnixSeconds) -> String {
    let (decision, trace) = explain(set, case, &Ask { role, ..Ask::default() }, now);
    if let Decision::Deny(denial) = decision
        && let Some(rule) = denial.rule
    {
        return format!("the deny rule `{rule}` holds for this job");
    }
    match trace.mappings.first() {
        None => "no mapping gives it: write one".to_owned(),
        Some(report) => format!(
            "in mapping `{}`, which comes nearest, {} failed; `claimbound explain` shows what was expected",
            set.mapping(report.mapping).name,
            list(&report.failed())
        ),
    }
}

fn names<'s>(set: &'s MappingSet, roles: &[RoleId]) -> BTreeSet<&'s str> {
    roles.iter().map(|role| set.role(*role).name.as_str()).collect()
}

fn list(names: &BTreeSet<&str>) -> String {
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, mapping::Origin, workload::Claim};

    fn set() -> MappingSet {
        let pin = || repositories(&[("acme/api", "1")]);
        Builder::new()
            .mapping(
                "production",
                "deploy",
                [pin(), text(Claim::Branch, &["main"]), text(Claim::Environment, &["production"]), events()],
            )
            .mapping("secrets", "secrets", [pin()])
            .mapping("frozen", "freeze", [pin()])
            .require("deploy", [text(Claim::JobWorkflowRef, &["refs/heads/main"])])
            .deny("freeze", &["freeze"], [text(Claim::EventName, &["push"])])
            .build()
    }
    fn outcome(case: &Case<'_>, expect: Expect) -> Option<(Code, String)> {
        judge(&set(), case, &expect, BEFORE_ALL)
            .err()
            .map(|failure| (failure.code, failure.message + "; " + &failure.help))
    }
    fn deny(role: &str, fails: Option<&[&str]>) -> Expect {
        let fails = fails.map(|fails| fails.iter().map(|name| name.to_string()).collect());
        Expect::Deny { role: Some(role.to_owned()), fails }
    }
    fn grant(roles: &[&str]) -> Expect {
        Expect::Grant { roles: roles.iter().map(|name| name.to_string()).collect() }
    }

    #[test]
    fn tests_that_pass() {
        let deploy = push(&[(Claim::Environment, "production"), (Claim::JobWorkflowRef, "refs/heads/main")]);
        assert_eq!(outcome(&deploy, grant(&["secrets", "deploy"])), None);
        assert_eq!(outcome(&push(&[]), grant(&["secrets"])), None);
        for workflow in ["job_workflow", "job_workflow.ref"] {
            assert_eq!(outcome(&push(&[]), deny("deploy", Some(&["environment", workflow]))), None);
        }
        assert_eq!(outcome(&push(&[]), deny("deploy", None)), None);
        assert_eq!(outcome(&push(&[]), deny("freeze", Some(&[]))), None, "denied, and no condition failed");
        let other = push(&[(Claim::RepositoryId, "5"), (Claim::Repository, "acme/x")]);
        assert_eq!(outcome(&other, Expect::Deny { role: None, fails: Some(vec!["repository".to_owned()]) }), None);
    }

    #[test]
    fn tests_that_fail_say_what_was_got() {
        for (case, expect, code, parts) in [
            (
                push(&[]),
                grant(&["secrets", "deploy"]),
                ROLES,
                &["`deploy`, `secrets`, got `secrets`", "`environment`"][..],
            ),
            (push(&[]), grant(&[]), ROLES, &["exactly nothing, got `secrets`"]),
            (push(&[]), grant(&["secrets", "freeze"]), ROLES, &["the deny rule `freeze`"]),
            (push(&[]), grant(&["deplyo"]), ROLE, &["no role `deplyo`", "did you mean `deploy`"]),
            (push(&[]), deny("secrets", None), GRANTED, &["mapping `secrets` gives `secrets`"]),
            (push(&[]), deny("nothing", None), ROLE, &["no role `nothing`"]),
            (
                push(&[]),
                deny("deploy", Some(&["environment"])),
                FAILS,
                &["got `environment`, `job_workflow.ref` of the nearest mapping, `production`"],
            ),
            (
                push(&[]),
                deny("deploy", Some(&["environment", "job_workflow", "branch"])),
                FAILS,
                &["expected that `branch`"],
            ),
            (push(&[]), deny("freeze", Some(&["branch"])), FAILS, &["it is the deny rule `freeze` that refuses"]),
            (push(&[]), Expect::Deny { role: None, fails: None }, GRANTED, &["`secrets`"]),
        ] {
            let (got, text) = outcome(&case, expect.clone()).unwrap_or_else(|| panic!("{expect:?} must fail"));
            assert_eq!(got, code, "{text}");
            parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` in {text}"));
        }
    }

    #[test]
    fn a_refused_token_is_a_denial_without_failed_conditions() {
        let error = WorkloadError::Stranger;
        assert!(without_workload(&error, &deny("deploy", None)).is_ok());
        assert!(without_workload(&error, &deny("deploy", Some(&["branch"]))).is_err());
        assert!(without_workload(&error, &grant(&[])).is_err());
    }

    #[test]
    fn what_is_required_is_among_the_failures() {
        let trace = explain(&set(), &push(&[]), &Ask { role: Some("deploy"), ..Ask::default() }, BEFORE_ALL).1;
        assert!(trace.mappings[0].conditions.iter().any(|one| one.origin == Origin::Require && !one.held));
    }
}
