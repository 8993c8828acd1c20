//! Full claim sets, as the documentation of the CI systems shows them: GitHub's and GitLab's with the claims that nobody
//! reads, the others' as their profiles read them.
//!
//! GitHub: <https://docs.github.com/en/actions/reference/security/oidc>. GitLab:
//! <https://docs.gitlab.com/ci/secrets/id_token_authentication/>.

use super::request::{Profile, RequestError, TokenRequest};
use aws_lc_rs::digest::{SHA256, digest};
use claimbound_core::{
    time::UnixSeconds,
    workload::{Claim, RawKind, native_claims},
};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, fmt::Write as _};

/// Ids that the sample mappings pin. Any other name gets an id of its own, from its bytes.
const IDS: &[(&str, u64)] = &[
    ("acme", 65),
    ("acme-labs", 9917),
    ("acme/payments-api", 740_000_001),
    ("acme/payments-web", 740_000_002),
    ("search/indexer", 4711),
];

/// Derived ids begin here, above every listed one.
const DERIVED_IDS_FROM: u64 = 1_000_000_000;
const DERIVED_IDS: u64 = 1_000_000_000;

/// GitHub dates `nbf` back by this much.
const GITHUB_NBF_SECONDS: i64 = 600;
const GITLAB_NBF_SECONDS: i64 = 5;

/// The claims of a token that is issued now, under this `iss` and `jti`. The request has been checked.
pub(super) fn claims(
    profile: Profile,
    issuer: &str,
    request: &TokenRequest,
    now: UnixSeconds,
    jti: &str,
) -> Result<Value, RequestError> {
    let (own, nbf_seconds) = match profile {
        Profile::GithubActions => (github(request, now), GITHUB_NBF_SECONDS),
        Profile::Gitlab => (gitlab(issuer, request, now), GITLAB_NBF_SECONDS),
        Profile::Other(_) => (Value::Object(by_profile(profile, request, now)?), 0),
    };
    let lifetime = request.lifetime_seconds.unwrap_or(profile.lifetime().0);
    let mut claims = object(own);
    claims.extend(object(json!({
        "iss": issuer, "jti": jti, "iat": now.0, "nbf": now.0 - nbf_seconds, "exp": now.0 + i64::from(lifetime),
    })));
    Ok(Value::Object(claims))
}

/// The id of the request's owner, in the syntax of this issuer's ids.
pub(super) fn owner_id(profile: Profile, request: &TokenRequest) -> String {
    let owner = request.repository.rsplit_once('/').map_or(request.repository.as_str(), |(owner, _)| owner);
    let made = || profile.data().sample_id(Claim::RepositoryOwnerId, id_of(owner));
    request.owner_id.clone().unwrap_or_else(made)
}

/// A job as the profile reads it, told in the issuer's own words. Nothing else is known of such an issuer.
fn by_profile(profile: Profile, request: &TokenRequest, now: UnixSeconds) -> Result<Map<String, Value>, RequestError> {
    let data = profile.data();
    let repository = &request.repository;
    let (owner, _) = repository.rsplit_once('/').unwrap_or((repository, ""));
    let id = |claim, number| data.sample_id(claim, number);
    let run = run_id(request, now);
    let event = match (&request.event, request.pull_request) {
        (Some(event), _) => Some(event.clone()),
        (None, Some(_)) if !data.pull_request_events().is_empty() => data.pull_request_events().first().cloned(),
        _ => data.default_events().first().cloned(),
    };
    let number = request.pull_request.filter(|_| data.provides(Claim::PullRequest));
    let branch = match (&request.branch, &request.tag, request.pull_request) {
        (Some(branch), ..) => Some(branch.clone()),
        // Where an issuer shows no pull request's ref, its job is on the source branch.
        (_, _, Some(_)) => number.is_none().then(|| "feature".to_owned()),
        (_, tag, None) => tag.is_none().then(|| "main".to_owned()),
    };
    let pull_request = request.pull_request.is_some();
    let told = [
        (Claim::Repository, Some(repository.clone())),
        (
            Claim::RepositoryId,
            Some(request.repository_id.clone().unwrap_or(id(Claim::RepositoryId, id_of(repository)))),
        ),
        (Claim::RepositoryOwner, Some(owner.to_owned())),
        (Claim::RepositoryOwnerId, Some(owner_id(profile, request))),
        (Claim::Branch, branch),
        (Claim::Tag, request.tag.clone()),
        (Claim::PullRequest, number.map(|number| number.to_string())),
        (Claim::BaseRef, pull_request.then(|| "main".to_owned())),
        (Claim::HeadRef, pull_request.then(|| "feature".to_owned())),
        (Claim::EventName, event),
        (Claim::Environment, request.environment.clone()),
        (Claim::RefProtected, Some((!request.unprotected).to_string())),
        // Some issuers name an initiator only where there was one, and conclude the event from it.
        (Claim::Initiator, request.initiator.clone()),
        (Claim::InitiatorId, request.initiator.as_deref().map(|name| id(Claim::InitiatorId, id_of(name)))),
        (Claim::RunId, Some(id(Claim::RunId, run))),
        (Claim::RunAttempt, Some(request.run_attempt.unwrap_or(1).to_string())),
        (Claim::JobId, Some(id(Claim::JobId, run + 1))),
        (Claim::RunnerEnvironment, Some(request.runner_environment.clone().unwrap_or_else(|| "hosted".to_owned()))),
        (Claim::Sha, Some(commit_of(repository, "main"))),
        (Claim::WorkflowFile, request.workflow.clone()),
        (Claim::Subject, request.subject.clone()),
    ];
    let given: Vec<(Claim, Cow<'_, str>)> = told
        .into_iter()
        .filter(|(claim, _)| data.provides(*claim))
        .filter_map(|(claim, text)| Some((claim, Cow::Owned(text?))))
        .collect();
    let mut claims = native_claims(data, &given).map_err(|source| RequestError::Job { profile, source })?;
    let audience = request.audience.clone();
    claims.extend(object(json!({ "aud": audience })));
    // Where no form makes it, the subject is the repository's name, for want of another.
    claims.entry("sub").or_insert_with(|| json!(repository));
    for name in data.required().iter().filter(|name| !name.starts_with('/')) {
        claims.entry(name.as_str()).or_insert_with(|| match data.raw_claim(name) {
            Some((RawKind::Boolean, _)) => json!(true),
            Some((RawKind::List, _)) => json!(["x"]),
            _ => json!("x"),
        });
    }
    Ok(claims)
}

/// The id that the local issuer gives a repository, an owner or a person.
pub fn id_of(name: &str) -> u64 {
    let derived = || {
        let hash = digest(&SHA256, name.as_bytes());
        let number = hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        DERIVED_IDS_FROM + number % DERIVED_IDS
    };
    IDS.iter().find(|(listed, _)| *listed == name).map_or_else(derived, |(_, id)| *id)
}

fn github(request: &TokenRequest, now: UnixSeconds) -> Value {
    let repository = &request.repository;
    let (owner, name) = repository.split_once('/').unwrap_or((repository, ""));
    let owner_id = request.owner_id.clone().unwrap_or_else(|| id_of(owner).to_string());
    let repository_id = request.repository_id.clone().unwrap_or_else(|| id_of(repository).to_string());
    let branch = request.branch.as_deref().unwrap_or("main");
    let (reference, kind, usual_event) = match (&request.tag, request.pull_request) {
        (Some(tag), _) => (format!("refs/tags/{tag}"), "tag", "push"),
        (_, Some(number)) => (format!("refs/pull/{number}/merge"), "branch", "pull_request"),
        _ => (format!("refs/heads/{branch}"), "branch", "push"),
    };
    let event = request.event.as_deref().unwrap_or(usual_event);
    // `pull_request_target` runs on the base branch, and its subject names that.
    let (base, head) = match event {
        _ if request.pull_request.is_some() => ("main", "feature"),
        "pull_request_target" => (branch, "feature"),
        _ => ("", ""),
    };
    let context = match &request.environment {
        Some(environment) => format!("environment:{}", escaped(environment)),
        None if request.pull_request.is_some() => "pull_request".to_owned(),
        None => format!("ref:{}", escaped(&reference)),
    };
    let whose = if request.immutable_subject {
        format!("{owner}@{owner_id}/{name}@{repository_id}")
    } else {
        repository.clone()
    };
    let workflow = request.workflow.as_deref().unwrap_or(".github/workflows/deploy.yml");
    let workflow_ref = format!("{repository}/{workflow}@{reference}");
    let initiator = request.initiator.as_deref().unwrap_or("octocat");
    let sha = commit_of(repository, &reference);
    let job_workflow_ref = request.job_workflow.as_deref().unwrap_or(&workflow_ref);
    let run_id = run_id(request, now);
    let mut claims = object(json!({
        "sub": format!("repo:{whose}:{context}"),
        "aud": request.audience.clone().unwrap_or_else(|| format!("https://github.com/{owner}")),
        "ref": reference, "ref_type": kind, "ref_protected": (!request.unprotected).to_string(), "sha": sha,
        "repository": repository, "repository_id": repository_id,
        "repository_owner": owner, "repository_owner_id": owner_id, "repository_visibility": "private",
        "run_id": run_id.to_string(), "run_number": "42",
        "run_attempt": request.run_attempt.unwrap_or(1).to_string(), "check_run_id": (run_id + 1).to_string(),
        "actor": initiator, "actor_id": id_of(initiator).to_string(),
        "workflow": "deploy", "workflow_ref": workflow_ref, "workflow_sha": sha,
        "job_workflow_ref": job_workflow_ref, "job_workflow_sha": commit_of(job_workflow_ref, ""),
        "head_ref": head, "base_ref": base, "event_name": event,
        "runner_environment": request.runner_environment.as_deref().unwrap_or("github-hosted"),
    }));
    if request.job_workflow.is_none() {
        claims.insert("job_workflow_sha".into(), json!(sha));
    }
    if let Some(environment) = &request.environment {
        claims.insert("environment".into(), json!(environment));
        claims.insert("environment_node_id".into(), json!(format!("EN_kw{}", id_of(environment))));
    }
    Value::Object(claims)
}

fn gitlab(issuer: &str, request: &TokenRequest, now: UnixSeconds) -> Value {
    let project = &request.repository;
    let (namespace, _) = project.rsplit_once('/').unwrap_or((project, ""));
    let (reference, kind, usual_source) = match (&request.tag, request.pull_request) {
        (Some(tag), _) => (tag.as_str(), "tag", "push"),
        // A merge request pipeline runs on the source branch.
        (_, Some(_)) => ("feature", "branch", "merge_request_event"),
        _ => (request.branch.as_deref().unwrap_or("main"), "branch", "push"),
    };
    let path = format!("refs/{}/{reference}", if kind == "tag" { "tags" } else { "heads" });
    let host = issuer.split_once("://").map_or(issuer, |(_, rest)| rest.split('/').next().unwrap_or(rest));
    let file = request.workflow.as_deref().unwrap_or(".gitlab-ci.yml");
    let initiator = request.initiator.as_deref().unwrap_or("tanuki");
    let protected = (!request.unprotected).to_string();
    let run_id = run_id(request, now);
    let sha = commit_of(project, &path);
    let mut claims = object(json!({
        "sub": format!("project_path:{project}:ref_type:{kind}:ref:{reference}"), "aud": request.audience,
        "project_path": project, "project_visibility": "private",
        "project_id": request.repository_id.clone().unwrap_or_else(|| id_of(project).to_string()),
        "namespace_path": namespace,
        "namespace_id": request.owner_id.clone().unwrap_or_else(|| id_of(namespace).to_string()),
        "user_id": id_of(initiator).to_string(), "user_login": initiator,
        "user_email": format!("{initiator}@example.com"), "user_access_level": "maintainer",
        "groups_direct": [namespace],
        "pipeline_id": run_id.to_string(),
        "pipeline_source": request.event.as_deref().unwrap_or(usual_source), "job_id": (run_id + 1).to_string(),
        "job_source": request.event.as_deref().unwrap_or(usual_source),
        "ref": reference, "ref_type": kind, "ref_path": path, "ref_protected": protected, "sha": sha,
        "runner_id": 12_270_807,
        "runner_environment": request.runner_environment.as_deref().unwrap_or("gitlab-hosted"),
        "ci_config_ref_uri": format!("{host}/{project}//{file}@{path}"), "ci_config_sha": sha,
    }));
    if let Some(environment) = &request.environment {
        claims.extend(object(json!({
            "environment": environment, "environment_protected": protected, "environment_action": "start",
            "deployment_tier": environment,
        })));
    }
    Value::Object(claims)
}

/// GitHub writes `:` inside a value of `sub` as `%3A`, or an environment could imitate another subject.
fn escaped(value: &str) -> String {
    value.replace(':', "%3A")
}

/// Runs of different seconds are different runs.
fn run_id(request: &TokenRequest, now: UnixSeconds) -> u64 {
    request.run_id.unwrap_or_else(|| 17_000_000_000 + now.0.unsigned_abs() % 1_000_000_000)
}

/// A commit id for a repository at a ref: always the same one.
fn commit_of(repository: &str, reference: &str) -> String {
    let hash = digest(&SHA256, format!("{repository} {reference}").as_bytes());
    hash.as_ref().iter().take(20).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{
        claims::Claims,
        workload::{Profiles, translate},
    };
    use claimbound_test_support::issuer::Issuer;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn of(profile: Profile, change: impl FnOnce(&mut TokenRequest)) -> Value {
        let mut request = TokenRequest::new("acme/payments-api", "https://claimbound.example.com");
        change(&mut request);
        request.check(profile).unwrap();
        let issuer = format!("http://127.0.0.1:8082/{profile}/{}", owner_id(profile, &request));
        claims(profile, &issuer, &request, NOW, "4d0b7ff2-8d8c-4a57-a1a3-1f2f62f6b001").unwrap()
    }

    #[test]
    fn github_subjects_have_the_documented_shapes() {
        let subject = |change: fn(&mut TokenRequest)| of(Profile::GithubActions, change)["sub"].clone();
        assert_eq!(subject(|_| ()), "repo:acme/payments-api:ref:refs/heads/main");
        assert_eq!(subject(|it| it.tag = Some("v1".into())), "repo:acme/payments-api:ref:refs/tags/v1");
        assert_eq!(subject(|it| it.environment = Some("a:b".into())), "repo:acme/payments-api:environment:a%3Ab");
        assert_eq!(subject(|it| it.pull_request = Some(7)), "repo:acme/payments-api:pull_request");
        assert_eq!(
            subject(|it| it.immutable_subject = true),
            "repo:acme@65/payments-api@740000001:ref:refs/heads/main"
        );
    }

    #[test]
    fn github_claims_agree_with_each_other() {
        let plain = of(Profile::GithubActions, |_| ());
        assert_eq!(plain["exp"].as_i64().unwrap() - plain["iat"].as_i64().unwrap(), 300);
        assert_eq!(plain["iat"].as_i64().unwrap() - plain["nbf"].as_i64().unwrap(), 600);
        assert_eq!(plain["repository_owner_id"], "65");
        assert_eq!(plain["job_workflow_ref"], "acme/payments-api/.github/workflows/deploy.yml@refs/heads/main");
        assert_eq!(plain["job_workflow_sha"], plain["sha"]);
        assert_eq!(plain.get("environment"), None);
        assert!(plain.as_object().unwrap().len() >= 30);
        let request = of(Profile::GithubActions, |it| it.pull_request = Some(7));
        assert_eq!((&request["ref"], &request["base_ref"]), (&json!("refs/pull/7/merge"), &json!("main")));
        let target = of(Profile::GithubActions, |it| it.event = Some("pull_request_target".into()));
        assert_eq!((&target["ref"], &target["head_ref"]), (&json!("refs/heads/main"), &json!("feature")));
    }

    #[test]
    fn gitlab_claims_agree_with_each_other() {
        let claims = of(Profile::Gitlab, |it| {
            it.repository = "acme/platform/api".into();
            it.environment = Some("production".into());
        });
        assert_eq!(claims["sub"], "project_path:acme/platform/api:ref_type:branch:ref:main");
        assert_eq!(claims["namespace_path"], "acme/platform");
        assert_eq!((&claims["ref"], &claims["ref_path"]), (&json!("main"), &json!("refs/heads/main")));
        assert_eq!(claims["ref_protected"], "true");
        assert_eq!(claims["environment_protected"], "true");
        assert_eq!(claims["ci_config_ref_uri"], "127.0.0.1:8082/acme/platform/api//.gitlab-ci.yml@refs/heads/main");
        let request = of(Profile::Gitlab, |it| it.pull_request = Some(7));
        assert_eq!((&request["ref"], &request["pipeline_source"]), (&json!("feature"), &json!("merge_request_event")));
    }

    #[test]
    fn a_derived_id_is_stable_and_never_a_listed_one() {
        assert_eq!(id_of("acme/payments-api"), 740_000_001);
        assert_eq!(id_of("acme/other"), id_of("acme/other"));
        assert!(IDS.iter().all(|(_, id)| *id < DERIVED_IDS_FROM));
    }

    /// What the local issuer says for a job is that job to the broker, at every profile.
    #[test]
    fn every_built_in_profile_is_played() {
        let built_in = Profiles::builtin();
        assert!(built_in.iter().map(|profile| profile.name.as_str()).eq(Profile::all().map(Profile::name)));
        for data in built_in.iter() {
            let profile: Profile = data.name.parse().unwrap();
            let has = |claim| data.provides(claim);
            let text = of(profile, |_| ()).to_string();
            let job = translate(data, "local", Claims::parse(text.as_bytes()).unwrap()).unwrap();
            let named = [
                (Claim::Repository, "acme/payments-api".to_owned()),
                (Claim::RepositoryId, data.sample_id(Claim::RepositoryId, 740_000_001)),
                (Claim::RepositoryOwnerId, data.sample_id(Claim::RepositoryOwnerId, 65)),
                (Claim::Branch, "main".to_owned()),
            ];
            for (claim, expected) in named.iter().filter(|(claim, _)| has(*claim)) {
                assert_eq!(job.text(*claim), Some(expected.as_str()), "{profile} {claim:?} of {text}");
            }
            let event = job.text(Claim::EventName).unwrap_or_default();
            assert_eq!(
                has(Claim::EventName),
                data.default_events().iter().any(|name| name == event),
                "{profile} {event}"
            );
            if has(Claim::Tag) && has(Claim::Branch) && data.name != "bitbucket-pipelines" {
                let text = of(profile, |it| it.tag = Some("main".into())).to_string();
                let job = translate(data, "local", Claims::parse(text.as_bytes()).unwrap()).unwrap();
                assert_eq!(
                    (job.text(Claim::Tag), job.text(Claim::Branch)),
                    (Some("main"), None),
                    "{profile} of {text}"
                );
            }
        }
    }

    fn check_workload(profile: Profile, claims: &Value, expected: &[(Claim, &str)]) {
        let (profiles, text) = (Profiles::builtin(), claims.to_string());
        let parsed = Claims::parse(text.as_bytes()).unwrap();
        let workload = translate(profiles.get(profile.name()).unwrap(), "local", parsed).unwrap();
        let repository = [(Claim::Repository, "acme/payments-api"), (Claim::RepositoryId, "740000001")];
        for (claim, text) in repository.iter().chain(expected) {
            assert_eq!(workload.text(*claim), Some(*text), "{claim:?} of {claims:#}");
        }
    }

    /// Holds the bench's fake issuers and the local issuer to one reading, the broker's own.
    #[test]
    fn every_job_is_a_workload_to_the_broker() {
        let fakes = [(Profile::GithubActions, Issuer::github()), (Profile::Gitlab, Issuer::gitlab())];
        for (profile, fake) in &fakes {
            let job = || fake.job().environment("production");
            let production = [(Claim::Branch, "main"), (Claim::Environment, "production"), (Claim::EventName, "push")];
            check_workload(*profile, &job().claims("x"), &production);
            check_workload(*profile, &of(*profile, |it| it.environment = Some("production".into())), &production);
            let tag = [(Claim::Tag, "v1"), (Claim::RefType, "tag")];
            check_workload(*profile, &fake.job().tag("v1").claims("x"), &tag);
            check_workload(*profile, &of(*profile, |it| it.tag = Some("v1".into())), &tag);
        }
        let [(github, fake_github), (gitlab, fake_gitlab)] = &fakes;
        let request = [(Claim::PullRequest, "7"), (Claim::BaseRef, "main"), (Claim::EventName, "pull_request")];
        check_workload(*github, &fake_github.job().pull_request(7).immutable_subject().claims("x"), &request);
        check_workload(*github, &of(*github, |it| it.pull_request = Some(7)), &request);
        check_workload(*github, &of(*github, |it| it.immutable_subject = true), &[(Claim::Branch, "main")]);
        let request = [(Claim::Branch, "feature"), (Claim::EventName, "merge_request_event")];
        check_workload(*gitlab, &fake_gitlab.job().pull_request(7).claims("x"), &request);
        check_workload(*gitlab, &of(*gitlab, |it| it.pull_request = Some(7)), &request);
    }
}
