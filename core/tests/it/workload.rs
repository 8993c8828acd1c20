//! From native claims to canonical ones: whole tokens of each issuer, and every way in which claims contradict.

use claimbound_core::{
    claims::Claims,
    delegation,
    reason::Reason,
    workload::{
        Claim, Presence, Profile, Profiles, SingleUseRule, Tenancy, Text, Workload, WorkloadError, from_canonical,
        translate,
    },
};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, sync::LazyLock};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

macro_rules! golden {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("data/", $name, ".json")))),*] };
}

const GOLDEN: [(&str, &str); 16] = golden! {
    "github-push" "github-push-immutable-sub" "github-tag" "github-pull-request" "github-pull-request-target"
    "github-environment" "github-reusable-workflow" "github-merge-group" "github-enterprise-slug"
    "github-deployment-of-commit" "github-custom-sub"
    "gitlab-branch" "gitlab-tag" "gitlab-merge-request" "gitlab-environment" "gitlab-older-instance"
};

fn golden(name: &str) -> Value {
    let (_, text) = GOLDEN.iter().find(|(of, _)| *of == name).unwrap();
    serde_json::from_str(text).unwrap()
}

fn github() -> &'static Profile {
    PROFILES.get("github-actions").unwrap()
}

fn gitlab() -> &'static Profile {
    PROFILES.get("gitlab").unwrap()
}

fn profile_of(name: &str) -> &'static Profile {
    if name.starts_with("github") { github() } else { gitlab() }
}

fn translated(profile: &Profile, claims: &Value) -> Result<Workload<'static>, WorkloadError> {
    let text = claims.to_string();
    let claims = Claims::parse(text.as_bytes()).unwrap().into_owned();
    translate(profile, "issuer", claims)
}

/// Present claims as their values, none as `null`; unknown ones are left out.
fn shown(workload: &Workload<'_>) -> Value {
    let value = |claim: &Claim| match workload.get(*claim) {
        Presence::Present(Text::Text(text)) => Some(text.as_ref().into()),
        Presence::Present(Text::Boolean(boolean)) => Some((*boolean).into()),
        Presence::None => Some(Value::Null),
        Presence::Unknown => None,
    };
    let members = Claim::ALL.iter().filter_map(|claim| value(claim).map(|value| (claim.name().to_owned(), value)));
    Value::Object(members.collect::<Map<_, _>>())
}

/// The golden set of this name with these members in place of its own; `null` takes a member out.
fn changed(name: &str, changes: &Value) -> Result<Workload<'static>, WorkloadError> {
    let mut claims = golden(name);
    for (member, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(member)),
            value => claims[member] = value.clone(),
        }
    }
    translated(profile_of(name), &claims)
}

#[track_caller]
fn refuses(name: &str, changes: Value, expected: Reason) {
    let got = changed(name, &changes).map(|workload| shown(&workload)).map_err(|error| error.reason());
    assert_eq!(got, Err(expected), "{name} with {changes}");
}

#[track_caller]
fn holds(name: &str, changes: Value) -> Workload<'static> {
    changed(name, &changes).unwrap_or_else(|error| panic!("{name} with {changes}: {error}"))
}

#[test]
fn golden_tokens_become_these_workloads() {
    for (name, _) in GOLDEN {
        let workload = translated(profile_of(name), &golden(name)).unwrap();
        insta::assert_json_snapshot!(name, shown(&workload));
        assert_eq!(workload.raw().to_json(), golden(name), "raw claims stay as they were");
        assert!(delegation::chain(workload, None, false, |_| None).is_ok());
    }
}

#[test]
fn both_shapes_of_sub_are_one_workload() {
    let mut old = shown(&holds("github-push", json!({})));
    let mut new = shown(&holds("github-push-immutable-sub", json!({})));
    assert_ne!(old["subject"], new["subject"]);
    old["subject"] = Value::Null;
    new["subject"] = Value::Null;
    assert_eq!(old, new);
}

#[test]
fn a_full_ref_says_branch_or_tag_and_nothing_else_does() {
    let github = |at: &str, kind: &str| holds("github-push", json!({ "ref": at, "ref_type": kind }));
    for (at, kind, branch, tag) in [
        ("refs/heads/v1", "branch", "v1", None),
        ("refs/tags/v1", "tag", "", Some("v1")),
        ("refs/pull/7/merge", "branch", "", None),
        ("refs/pull/7/head", "branch", "", None),
        ("refs/heads/refs/heads/main", "branch", "refs/heads/main", None),
        ("refs/heads/a%2Fb", "branch", "a%2Fb", None),
        ("refs/heads/cafe\u{301}", "branch", "cafe\u{301}", None),
    ] {
        let workload = github(at, kind);
        assert_eq!(
            (workload.text(Claim::Branch).unwrap_or_default(), workload.text(Claim::Tag)),
            (branch, tag),
            "{at}"
        );
    }
    // No ref, or a commit in its place: nothing is known of it, and nothing of it grants.
    for at in ["", "2f1d3e5a7b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e", "main"] {
        let workload = github(at, "");
        for claim in [Claim::Ref, Claim::RefType, Claim::Branch, Claim::Tag] {
            assert_eq!(workload.get(claim), &Presence::Unknown, "{at} {}", claim.name());
        }
    }
}

#[test]
fn workflows_are_taken_apart() {
    let called = holds(
        "github-push",
        json!({ "job_workflow_ref": "acme/ci/.github/workflows/ci.yml@evil.yml@refs/heads/main" }),
    );
    assert_eq!(called.text(Claim::JobWorkflowFile), Some(".github/workflows/ci.yml@evil.yml"));
    let reusable = holds("github-reusable-workflow", json!({}));
    assert_eq!(reusable.text(Claim::WorkflowRepository), Some("acme/payments-api"));
    assert_eq!(reusable.text(Claim::JobWorkflowRepository), Some("acme/ci"));
    for absent in [
        json!({ "job_workflow_ref": null, "job_workflow_sha": null }),
        json!({ "job_workflow_ref": "", "job_workflow_sha": "" }),
    ] {
        let workload = holds("github-push", absent);
        for claim in Claim::ALL.iter().filter(|claim| claim.name().starts_with("job_workflow.")) {
            assert_eq!(workload.get(*claim), &Presence::Unknown);
        }
    }
}

#[test]
fn security_080_a_forks_job_does_not_pass_for_its_parents() {
    refuses("gitlab-branch", json!({ "job_project_id": "666" }), Reason::ClaimsInconsistent);
    refuses("gitlab-branch", json!({ "job_project_id": 666 }), Reason::ClaimsInconsistent);
    refuses("gitlab-branch", json!({ "job_namespace_id": "666" }), Reason::ClaimsInconsistent);
    refuses("gitlab-branch", json!({ "job_project_id": ["1250"] }), Reason::ClaimType);
    holds("gitlab-branch", json!({ "job_project_id": 1250, "project_id": 1250 }));
    holds("gitlab-branch", json!({ "job_project_id": null, "job_namespace_id": null }));
}

#[test]
fn security_083_085_086_gitlab_refs_paths_and_configuration() {
    let tag = holds("gitlab-tag", json!({ "ref": "main", "ref_path": "refs/tags/main" }));
    assert_eq!(
        (tag.text(Claim::Ref), tag.text(Claim::Tag), tag.text(Claim::Branch)),
        (Some("refs/tags/main"), Some("main"), None)
    );
    assert_eq!(tag.get(Claim::Branch), &Presence::None);
    for changes in [
        json!({ "ref_type": "tag" }),
        json!({ "ref_path": "refs/tags/main" }),
        json!({ "ref_path": "refs/heads/other" }),
        json!({ "ref_path": "main" }),
        json!({ "ref": "other" }),
        json!({ "ref_type": "merge_request" }),
        json!({ "namespace_path": "acme" }),
        json!({ "namespace_path": "acme/pay" }),
        json!({ "namespace_path": "acme/payments/api" }),
        json!({ "project_path": "acme/payments-evil/api" }),
    ] {
        refuses("gitlab-branch", changes, Reason::ClaimsInconsistent);
    }
    refuses("gitlab-branch", json!({ "ref_type": null }), Reason::ClaimMissing);
    refuses("gitlab-branch", json!({ "ref_type": "" }), Reason::ClaimMissing);
    let merge = holds(
        "gitlab-branch",
        json!({ "ref_path": "refs/merge-requests/7/merge", "pipeline_source": "merge_request_event" }),
    );
    assert_eq!(merge.get(Claim::Branch), &Presence::None, "a merge request's own ref is no branch");
    assert_eq!(merge.text(Claim::Ref), Some("refs/merge-requests/7/merge"));
    let short = holds("gitlab-branch", json!({ "ref_path": null, "ref": "refs/heads/main" }));
    assert_eq!(short.text(Claim::Branch), Some("refs/heads/main"), "a branch may be named like a ref");
    for uri in [
        "https://evil.example/ci.yml",
        "gitlab.com/acme/payments/api/.gitlab-ci.yml@refs/heads/main",
        "gitlab.com/acme/payments/api//@refs/heads/main",
        "x",
    ] {
        refuses("gitlab-branch", json!({ "ci_config_ref_uri": uri }), Reason::ClaimSyntax);
    }
    let elsewhere =
        holds("gitlab-branch", json!({ "ci_config_ref_uri": "gitlab.com/acme/ci//a@b.yml@refs/heads/main" }));
    assert_eq!(elsewhere.text(Claim::WorkflowRepository), Some("acme/ci"));
    assert_eq!(elsewhere.text(Claim::WorkflowFile), Some("a@b.yml"));
}

#[test]
fn types_are_read_as_the_profile_says_and_nothing_is_decoded() {
    for (changes, expected) in [
        (json!({ "environment": "x".repeat(1025) }), Reason::ClaimSyntax),
        (json!({ "repository": 1 }), Reason::ClaimType),
        (json!({ "sub": "a\nb" }), Reason::ClaimSyntax),
        (json!({ "sub": null }), Reason::ClaimMissing),
        (json!({ "ref": 1 }), Reason::ClaimType),
        (json!({ "head_ref": false }), Reason::ClaimType),
        (json!({ "workflow_ref": [] }), Reason::ClaimType),
    ] {
        refuses("github-push", changes, expected);
    }
    for name in ["repository", "repository_id", "repository_owner", "repository_owner_id", "event_name"] {
        refuses("github-push", json!({ name: null }), Reason::ClaimMissing);
    }
    let workload = holds(
        "github-push",
        json!({ "repository_id": 740000001, "ref_protected": true, "environment": "a%3Ab \u{e9}" }),
    );
    assert_eq!(workload.text(Claim::RepositoryId), Some("740000001"), "an integer becomes its decimal text");
    assert_eq!(workload.get(Claim::RefProtected), &Presence::Present(Text::Boolean(true)));
    assert_eq!(workload.text(Claim::Environment), Some("a%3Ab \u{e9}"), "nothing is decoded");
}

#[test]
fn a_claim_is_present_none_or_unknown() {
    use Presence::{None, Unknown};
    for (name, changes, claim, expected) in [
        ("github-push", json!({}), Claim::Tag, None),
        ("github-push", json!({}), Claim::PullRequest, None),
        ("github-push", json!({}), Claim::Environment, None),
        ("github-push", json!({}), Claim::HeadRef, None),
        ("github-push", json!({ "head_ref": null, "base_ref": null }), Claim::BaseRef, None),
        ("github-push", json!({}), Claim::EnvironmentProtected, Unknown),
        ("github-push", json!({ "runner_environment": null }), Claim::RunnerEnvironment, Unknown),
        ("github-push", json!({ "ref_protected": null }), Claim::RefProtected, Unknown),
        ("github-push", json!({ "ref": null }), Claim::Branch, Unknown),
        ("github-tag", json!({}), Claim::Branch, None),
        ("github-pull-request", json!({}), Claim::Branch, None),
        ("github-pull-request", json!({ "head_ref": "" }), Claim::HeadRef, Unknown),
        ("github-pull-request-target", json!({}), Claim::PullRequest, Unknown),
        ("gitlab-branch", json!({}), Claim::Environment, None),
        ("gitlab-branch", json!({}), Claim::EnvironmentProtected, None),
        ("gitlab-environment", json!({ "environment_protected": null }), Claim::EnvironmentProtected, Unknown),
        ("gitlab-branch", json!({}), Claim::HeadRef, Unknown),
        ("gitlab-branch", json!({}), Claim::PullRequest, None),
        ("gitlab-branch", json!({}), Claim::JobWorkflowFile, Unknown),
        ("gitlab-merge-request", json!({}), Claim::PullRequest, Unknown),
        ("gitlab-older-instance", json!({}), Claim::WorkflowFile, Unknown),
    ] {
        assert_eq!(holds(name, changes).get(claim), &expected, "{name} {}", claim.name());
    }
}

fn given(profile: &Profile, pairs: &[(Claim, &'static str)]) -> Result<Workload<'static>, WorkloadError> {
    let pairs: Vec<_> = pairs.iter().map(|(claim, text)| (*claim, Cow::Borrowed(*text))).collect();
    from_canonical(profile, "issuer", &pairs)
}

#[test]
fn canonical_claims_by_hand_are_judged_as_translated_ones() {
    // Whatever a token gave, given by hand, is the same workload.
    for (name, _) in GOLDEN {
        let profile = profile_of(name);
        let whole = translated(profile, &golden(name)).unwrap();
        let pairs: Vec<(Claim, Cow<'_, str>)> = Claim::ALL
            .iter()
            .filter_map(|claim| match whole.get(*claim) {
                Presence::Present(Text::Text(text)) => Some((*claim, text.clone())),
                Presence::Present(Text::Boolean(boolean)) => Some((*claim, boolean.to_string().into())),
                _ => None,
            })
            .collect();
        assert_eq!(shown(&from_canonical(profile, "issuer", &pairs).unwrap()), shown(&whole), "{name}");
        let derived = [Claim::Ref, Claim::RefType, Claim::RepositoryOwner];
        let fewer: Vec<_> = pairs.into_iter().filter(|(claim, _)| !derived.contains(claim)).collect();
        let filled = from_canonical(profile, "issuer", &fewer).unwrap();
        if whole.text(Claim::Branch).or(whole.text(Claim::Tag)).is_some() {
            assert_eq!(shown(&filled), shown(&whole), "{name}");
        }
    }
}

#[test]
fn canonical_claims_by_hand_fill_what_derives_from_them() {
    let branch = given(
        github(),
        &[
            (Claim::Repository, "acme/payments-api"),
            (Claim::Branch, "main"),
            (Claim::EventName, "push"),
            (Claim::JobWorkflowFile, ".github/workflows/d.yml"),
        ],
    )
    .unwrap();
    assert_eq!(
        shown(&branch),
        json!({
            "repository": "acme/payments-api", "repository_owner": "acme", "ref": "refs/heads/main", "ref_type": "branch", "branch": "main",
            "tag": null, "pull_request": null, "base_ref": null, "head_ref": null, "environment": null, "event_name": "push",
            "job_workflow.repository": "acme/payments-api", "job_workflow.file": ".github/workflows/d.yml",
        })
    );
    assert_eq!(branch.raw(), &Claims::default());
    let request = given(github(), &[(Claim::EventName, "pull_request"), (Claim::BaseRef, "main")]).unwrap();
    for claim in [Claim::Ref, Claim::Branch, Claim::Tag, Claim::PullRequest, Claim::HeadRef] {
        assert_eq!(request.get(claim), &Presence::Unknown, "{}", claim.name());
    }
    assert_eq!(request.get(Claim::Environment), &Presence::None);
    let number = given(github(), &[(Claim::PullRequest, "17")]).unwrap();
    assert_eq!((number.text(Claim::Ref), number.get(Claim::Branch)), (Some("refs/pull/17/merge"), &Presence::None));
    assert_eq!(given(gitlab(), &[(Claim::Repository, "a/b/c")]).unwrap().text(Claim::RepositoryOwner), Some("a/b"));

    for (pairs, expected) in [
        (vec![(Claim::Branch, "main"), (Claim::Tag, "v1")], Reason::ClaimsInconsistent),
        (vec![(Claim::Branch, "main"), (Claim::Ref, "refs/heads/other")], Reason::ClaimsInconsistent),
        (vec![(Claim::Branch, "main"), (Claim::RefType, "tag")], Reason::ClaimsInconsistent),
        (vec![(Claim::Branch, "main"), (Claim::Branch, "main")], Reason::ClaimsInconsistent),
        (vec![(Claim::Repository, "acme/x"), (Claim::RepositoryOwner, "evil")], Reason::ClaimsInconsistent),
        (vec![(Claim::Subject, "repo:evil/x:y"), (Claim::Repository, "acme/x")], Reason::ClaimsInconsistent),
        (vec![(Claim::Subject, "repo:acme@065/x@1:y")], Reason::ClaimsInconsistent),
        (vec![(Claim::Subject, "repo:acme@65/x@18446744073709551616:y")], Reason::ClaimsInconsistent),
        (vec![(Claim::Ref, "main")], Reason::ClaimSyntax),
        (vec![(Claim::RepositoryId, "007")], Reason::ClaimSyntax),
        (vec![(Claim::Repository, "acme/\u{430}")], Reason::ClaimSyntax),
        (vec![(Claim::RefProtected, "yes")], Reason::ClaimType),
    ] {
        assert_eq!(
            given(github(), &pairs).map_err(|error| error.reason()).map(|w| shown(&w)),
            Err(expected),
            "{pairs:?}"
        );
    }
}

#[test]
fn a_principal_is_its_narrowest_id() {
    let whole = holds("github-push", json!({}));
    assert_eq!(whole.principal_id(github()), ("740000001", "acme/payments-api"));
    assert_eq!(
        given(github(), &[(Claim::RepositoryOwnerId, "65"), (Claim::Repository, "acme/x")])
            .unwrap()
            .principal_id(github()),
        ("65", "acme/x")
    );
    assert_eq!(given(github(), &[(Claim::Subject, "s")]).unwrap().principal_id(github()), ("s", "s"));
}

#[test]
fn security_092_profiles_know_who_shares_an_issuer() {
    for (profile, url, expected) in [
        (github(), "https://token.actions.githubusercontent.com", Some(Tenancy::Multi)),
        (github(), "https://token.actions.githubusercontent.com/acme-inc", Some(Tenancy::Multi)),
        (github(), "https://token.actions.octo.ghe.com", Some(Tenancy::Single)),
        (github(), "https://token.actions.octo.ghe.com/octo", Some(Tenancy::Single)),
        (github(), "https://ghes.acme.example/_services/token", Some(Tenancy::Single)),
        (github(), "https://ghes.acme.example", None),
        (github(), "https://token.actions.githubusercontent.com/", None),
        (github(), "http://127.0.0.1:8080", None),
        (gitlab(), "https://gitlab.com", Some(Tenancy::Multi)),
        (gitlab(), "https://gitlab.acme.example", Some(Tenancy::Single)),
        (gitlab(), "https://gitlab.com/", None),
        (gitlab(), "https://gitlab.com.", None),
    ] {
        assert_eq!(profile.tenancy_of(url), expected, "{url}");
    }
}

#[test]
fn builtin_profiles_are_sound() {
    let names: Vec<_> = PROFILES.iter().map(|profile| profile.name.as_str()).collect();
    assert!(names.is_sorted() && names.len() == 18);
    for profile in PROFILES.iter() {
        assert!(profile.algorithms().iter().all(|name| claimbound_core::trust::Algorithm::from_name(name).is_some()));
        assert!(profile.pins().iter().chain(profile.author_controlled()).all(|claim| profile.provides(*claim)));
        assert!(profile.pins().iter().all(|pin| !profile.author_controlled().contains(pin)));
        assert!(profile.table().documentation.iter().all(|page| page.starts_with("https://")), "{}", profile.name);
        assert!(!profile.table().documentation.is_empty() && !profile.table().quirks.is_empty(), "{}", profile.name);
    }
    for profile in [github(), gitlab()] {
        assert_eq!(profile.single_use(), SingleUseRule::Jti);
        for claim in [Claim::Branch, Claim::Tag, Claim::Ref, Claim::WorkflowFile, Claim::Subject] {
            assert!(profile.provides(claim), "{} {}", profile.name, claim.name());
        }
        assert_eq!(
            profile.table().claims.iter().filter(|row| row.required).count(),
            profile.required().len() + 1,
            "{}",
            profile.name
        );
    }
    assert_eq!((github().max_lifetime_seconds(), gitlab().max_lifetime_seconds()), (3600, 86400));
    assert_eq!((github().can_mint_again(), gitlab().can_mint_again()), (true, false));
    assert!(github().provides(Claim::JobWorkflowSha) && !gitlab().provides(Claim::JobWorkflowFile));
    for (profile, native, expected) in [
        (gitlab(), "project_path", Some(Claim::Repository)),
        (gitlab(), "pipeline_source", Some(Claim::EventName)),
        (gitlab(), "ref_path", Some(Claim::Ref)),
        (gitlab(), "ci_config_ref_uri", Some(Claim::WorkflowFile)),
        (github(), "actor", Some(Claim::Initiator)),
        (github(), "job_workflow_sha", Some(Claim::JobWorkflowSha)),
        (github(), "project_path", None),
        (github(), "sub", Some(Claim::Subject)),
    ] {
        assert_eq!(profile.canonical_of(native), expected, "{native}");
    }
}

#[test]
fn a_profile_file_that_is_wrong_says_where() {
    let text = include_str!("../../src/workload/profiles/gitlab.toml");
    for (from, to, expected) in [
        ("can_mint_again", "can_mint_agian", "unknown field `can_mint_agian`"),
        ("canonical = \"sha\"", "canonical = \"commit\"", "`commit` is no canonical claim"),
        ("canonical = \"sha\"", "canonical = \"run_id\"", "`sha` becomes `run_id`, which stands already"),
        ("pins = [\"repository_id\", \"repository_owner_id\"]", "pins = []", "`pins`"),
        ("pins = [\"repository_id\", \"repository_owner_id\"]", "pins = [\"repository\"]", "`pins` are ids"),
        (
            "pins = [\"repository_id\", \"repository_owner_id\"]",
            "pins = [\"run_attempt\"]",
            "`run_attempt`, which no claim",
        ),
        ("single_use = \"jti\"", "single_use = \"reusable\"", "always single use"),
        ("\"subject\", \"ref\"", "\"repository_id\", \"ref\"", "cannot be a pin"),
        ("lifetime_seconds = 3600", "lifetime_seconds = 86401", "at most `max_lifetime_seconds`"),
        ("native = \"job_id\"", "native = \"{job_id\"", "does not name claims in braces"),
        ("canonical = \"job_id\"", "canonical = \"branch\"", "which `[ref]` gives"),
        ("name = \"gitlab\"", "name = \"Git Lab\"", "lower-case letters"),
        ("form = \"short\"", "form = \"branch\"", "a `path`"),
        ("max_lifetime_seconds = 86400", "max_lifetime_seconds = 0", "must be positive"),
        ("type = \"ref_type\"\n", "", "needs its `type`"),
        ("none = \"when_absent\"\nunless", "unless", "has an `unless`"),
        ("tenancy = \"multi\"", "tenancy = \"many\"", "many"),
        ("form = \"host/repository//file@ref\"", "form = \"file@ref\"", "file@ref"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text, "{from}");
        let error = Profile::parse("mine.toml", &broken).unwrap_err();
        assert!(error.message.contains(expected), "{expected}: {error}");
        assert_eq!(error.file, "mine.toml");
    }
}

#[test]
fn a_profile_may_name_another_origin_of_keys() {
    let with = |line: &str| {
        let text = include_str!("../../src/workload/profiles/gitlab.toml");
        Profile::parse("x", &text.replacen("title", &format!("{line}\ntitle"), 1))
    };
    assert_eq!(with("").unwrap().jwks_origin(), None);
    let named = with("jwks_origin = \"https://www.googleapis.com\"").unwrap();
    assert_eq!(named.jwks_origin(), Some("https://www.googleapis.com"));
    for bad in ["http://a.example", "https://", "https://a.example/", "https://A.example", "https://u@a.example", "a"] {
        let error = with(&format!("jwks_origin = \"{bad}\"")).unwrap_err();
        assert!(error.message.contains("`jwks_origin`"), "{bad}: {error}");
    }
}

#[test]
fn ids_have_the_syntax_that_the_profile_names() {
    let with = |syntax: &str| {
        let text = include_str!("../../src/workload/profiles/gitlab.toml")
            .replace("syntax = \"decimal\"", &format!("syntax = \"{syntax}\""));
        Profile::parse("x", &text).unwrap()
    };
    let uuid = "0b9d3d5a-6f1e-4c57-9c0a-2f4b8e7d6c5a";
    for (syntax, id, expected) in [
        ("decimal", "1", true),
        ("decimal", "18446744073709551615", true),
        ("decimal", "18446744073709551616", false),
        ("decimal", "01", false),
        ("decimal", "+1", false),
        ("decimal", "-1", false),
        ("decimal", "", false),
        ("decimal", "1 ", false),
        ("decimal", "\u{0661}", false),
        ("decimal", "0x1", false),
        ("decimal", "1e3", false),
        ("uuid", uuid, true),
        ("uuid", "0B9D3D5A-6F1E-4C57-9C0A-2F4B8E7D6C5A", false),
        ("uuid", "0b9d3d5a6f1e4c579c0a2f4b8e7d6c5a", false),
        ("uuid", "{0b9d3d5a-6f1e-4c57-9c0a-2f4b8e7d6c5a}", false),
        ("braced_uuid", "{0b9d3d5a-6f1e-4c57-9c0a-2f4b8e7d6c5a}", true),
        ("braced_uuid", uuid, false),
        ("prefixed", "ws-6fHMCom98SDXSQUv", true),
        ("prefixed", "ws-", false),
        ("prefixed", "6fHM", false),
        ("prefixed", "a-b/c", false),
    ] {
        assert_eq!(with(syntax).id_is_valid(id), expected, "{syntax} {id}");
    }
}

#[test]
fn a_token_that_speaks_of_an_actor_is_refused() {
    for (name, reason) in [("act", Reason::ActorNotAllowed), ("may_act", Reason::MayAct)] {
        for value in [json!({ "sub": "agent" }), json!(""), json!({ "sub": "a", "act": { "sub": "b" } })] {
            let job = holds("github-push", json!({ name: value }));
            assert_eq!(delegation::chain(job, None, false, |_| None).unwrap_err().reason(), reason);
        }
        let mut claims = golden("github-push");
        claims[name] = Value::Null;
        let workload = translated(github(), &claims).unwrap();
        assert!(delegation::chain(workload, None, false, |_| None).is_err(), "null is a member too");
    }
    let case = delegation::chain(holds("github-push", json!({})), None, false, |_| None).unwrap();
    assert!(case.actors.is_empty());
}
