//! `claimbound import`: trust policies as they stand in the world, what becomes of them, and that nothing becomes wider.

mod policies;

use crate::BINARY;
use claimbound_core::{
    mapping::{Folder, load, possible_roles},
    review::Given,
    time::UnixSeconds,
    workload::{Case, Profiles},
};
use claimbound_test_support::{
    command::{self, Exit},
    forge::{Forge, Mood, made_up},
};
use policies::Policy;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const DATA: &str = "tests/import";
const OCTO_STS: [&str; 8] =
    ["any-actor", "by-claims", "gitlab", "negation", "organisation", "pull-requests", "release", "robot"];
const VAULT: [&str; 7] = ["config", "actor", "anybody", "deploy", "globbed", "people", "subject"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn run(arguments: &[&str]) -> Exit {
    command::run(Path::new(BINARY), root(), arguments).await
}

fn files(kind: &str) -> Vec<String> {
    let of = |names: &[&str], end: &str| names.iter().map(|name| format!("{DATA}/{kind}/{name}{end}")).collect();
    match kind {
        "aws" => of(&["account", "get-role", "policy-branch"], ".json"),
        "octo-sts" => of(&OCTO_STS, ".sts.yaml"),
        "vault" => of(&VAULT, ".json"),
        _ => of(&["deployer", "provider", "provider-regex"], ".json"),
    }
}

/// What a command says of files.
async fn said(kind: &str) -> String {
    let files = files(kind);
    let arguments: Vec<&str> = ["import", kind].into_iter().chain(files.iter().map(String::as_str)).collect();
    let exit = run(&arguments).await;
    assert_eq!(exit.code, Some(1), "each has something that cannot be kept\n{}", exit.stderr);
    format!("{}\n# ==> told <==\n{}", exit.stdout, exit.stderr)
}

#[tokio::test]
async fn aws_trust_policies_become_a_folder() {
    insta::assert_snapshot!(said("aws").await);
}

#[tokio::test]
async fn octo_sts_trust_policies_become_a_folder() {
    insta::assert_snapshot!(said("octo-sts").await);
}

#[tokio::test]
async fn vault_roles_become_a_folder() {
    insta::assert_snapshot!(said("vault").await);
}

#[tokio::test]
async fn google_s_federation_becomes_a_folder() {
    insta::assert_snapshot!(said("gcp").await);
}

/// Imports, fills in the ids that a forge gives, and demands that the folder is clean and formatted.
async fn imported(kind: &str, home: &Path) -> (Folder, Value) {
    let forge = Forge::new();
    forge.mood(Mood::KnowsAll);
    forge.owner("acme", 65);
    let out = home.join(kind);
    let out = out.to_str().unwrap();
    let files = files(kind);
    let mut arguments = vec!["import", kind, "--out", out, "--format", "json"];
    arguments.extend(files.iter().map(String::as_str));
    let exit = run(&arguments).await;
    assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    let ends = async |arguments: &[&str]| {
        let exit = run(arguments).await;
        assert_eq!(exit.code, Some(0), "{arguments:?}\n{}{}", exit.stdout, exit.stderr);
    };
    let policy = fs::read_to_string(Path::new(out).join("policy.toml")).unwrap();
    for (issuer, api) in [("github", forge.github()), ("gitlab", forge.gitlab())] {
        if policy.contains(&format!("[issuer.{issuer}]")) {
            ends(&["pin", out, "--issuer", issuer, "--api", &api]).await;
        }
    }
    ends(&["check", out]).await;
    ends(&["fmt", out, "--check"]).await;
    let mut folder = Folder::default();
    for path in report["files"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()) {
        folder.files.insert(path.to_owned(), fs::read(Path::new(out).join(path)).unwrap());
    }
    (folder, report)
}

/// Jobs of GitHub as their tokens' claims say, in both shapes of `sub`.
fn jobs() -> Vec<Value> {
    let mut jobs = Vec::new();
    let repositories = [
        "acme/api",
        "acme/app",
        "acme/docs",
        "acme/infra",
        "acme/new",
        "acme/payments-api",
        "acme/payments-web",
        "acme/shop",
        "acme/tools",
        "acme/trace",
        "acme/web",
        "acme/api-evil",
    ];
    let refs = [
        "refs/heads/main",
        "refs/heads/master",
        "refs/heads/main-x",
        "refs/heads/release/1/2",
        "refs/tags/v1.2.3",
        "refs/tags/v1.2.3-rc.4",
        "refs/tags/x",
        "refs/pull/7/merge",
    ];
    let workflows = [
        "acme/ci/.github/workflows/deploy.yml@refs/heads/main",
        "acme/ci/.github/workflows/deploy.yml@refs/tags/v1",
        "acme/app/.github/workflows/release.yaml@refs/heads/main",
    ];
    for repository in repositories {
        let id = match repository {
            "acme/shop" => 740_000_021,
            "acme/web" => 740_000_031,
            "acme/new" => 740_000_099,
            name => made_up(name),
        };
        for reference in refs {
            let pull = reference.starts_with("refs/pull/");
            let events: &[&str] = if pull { &["pull_request"] } else { &["push", "pull_request_target"] };
            for event in events {
                for environment in [None, Some("production"), Some("prod"), Some("staging")] {
                    for workflow in workflows {
                        let (kind, _) = reference["refs/".len()..].split_once('/').unwrap();
                        let mut claims = json!({
                            "repository": repository, "repository_id": id.to_string(),
                            "repository_owner": "acme", "repository_owner_id": "65",
                            "ref": reference, "ref_type": if kind == "tags" { "tag" } else { "branch" },
                            "ref_protected": if reference.ends_with("main") { "true" } else { "false" },
                            "event_name": event, "job_workflow_ref": workflow, "workflow": "Release",
                            "runner_environment": "github-hosted", "actor": "someone", "actor_id": "1",
                        });
                        let context = match environment {
                            Some(name) => {
                                claims["environment"] = json!(name);
                                format!("environment:{name}")
                            }
                            None if pull => "pull_request".to_owned(),
                            None => format!("ref:{reference}"),
                        };
                        claims["sub"] = json!(format!("repo:{repository}:{context}"));
                        jobs.push(claims);
                    }
                }
            }
        }
    }
    let custom = "acme/ci/.github/workflows/tf.yml@refs/heads/main";
    let mut claims = jobs[0].clone();
    claims["repository"] = json!("acme/infra");
    claims["repository_id"] = json!(made_up("acme/infra").to_string());
    claims["job_workflow_ref"] = json!(custom);
    claims["sub"] = json!(format!("repo:acme/infra:environment:prod:job_workflow_ref:{custom}"));
    jobs.push(claims);
    jobs
}

/// The `sub` with ids.
fn with_ids(claims: &Value) -> Value {
    let of = |claim: &str| claims[claim].as_str().unwrap();
    let (owner, name) = of("repository").split_once('/').unwrap();
    let mut other = claims.clone();
    let old = of("sub").replacen(
        of("repository"),
        &format!("{owner}@{}/{name}@{}", of("repository_owner_id"), of("repository_id")),
        1,
    );
    other["sub"] = json!(old);
    other
}

/// Whenever a role is given, the policy that it was would have let the job in, too.
async fn is_never_wider(kind: &str, policies: &BTreeMap<String, Policy>, unused: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let (folder, _) = imported(kind, home.path()).await;
    let loaded = load(&folder, &Profiles::builtin());
    let set = loaded.set.unwrap();
    let (issuer, _) = set.issuer_named("github").unwrap();
    let mut given = BTreeSet::new();
    for claims in jobs() {
        let shapes = [with_ids(&claims), claims];
        for claims in &shapes {
            let workload = Given::Claims(claims.clone()).workload(&set, &loaded.profiles, issuer);
            let workload = workload.unwrap_or_else(|why| panic!("{why}: {claims}"));
            let case = Case::alone(workload);
            for role in possible_roles(&set, &case, UnixSeconds(0)) {
                let role = &set.role(role).name;
                let policy = policies.get(role).unwrap_or_else(|| panic!("{kind}: no policy of `{role}`"));
                // One mapping is for both shapes of `sub`; a policy is often written for one.
                let accepts = shapes.iter().any(policy);
                assert!(accepts, "{kind}: `{role}` is given to a job that its policy keeps out: {claims:#}");
                given.insert(role.clone());
            }
        }
    }
    let all: BTreeSet<String> = set.roles.iter().map(|role| role.name.clone()).collect();
    let never: Vec<&str> = all.difference(&given).map(String::as_str).collect();
    assert_eq!(never, unused, "{kind}: roles that no sample job gets");
}

#[tokio::test]
async fn aws_roles_are_given_to_nobody_whom_the_trust_policy_kept_out() {
    let unused = ["gitlab-deploy", "gitlab-group", "organisation-main", "prefix-of-names", "whole-organisation"];
    is_never_wider("aws", &policies::aws(&files("aws")), &unused).await;
}

#[tokio::test]
async fn octo_sts_identities_are_given_to_nobody_whom_the_policy_kept_out() {
    is_never_wider("octo-sts", &policies::octo_sts(&files("octo-sts")), &["gitlab", "organisation", "robot"]).await;
}

#[tokio::test]
async fn vault_s_roles_are_given_to_nobody_whom_the_role_kept_out() {
    is_never_wider("vault", &policies::vault(&files("vault")), &["anybody"]).await;
}

#[tokio::test]
async fn google_s_roles_are_given_to_nobody_whom_the_provider_kept_out() {
    is_never_wider("gcp", &policies::gcp(), &[]).await;
}

#[tokio::test]
async fn what_is_no_trust_policy_ends_with_2_and_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = fs::read_to_string(root().join(DATA).join("aws/policy-branch.json")).unwrap();
    let twice = policy.replacen("\"Effect\": \"Allow\",", "\"Effect\": \"Allow\", \"Effect\": \"Allow\",", 1);
    let cases = [
        ("aws", write("a.json", "{}"), "neither a trust policy"),
        ("aws", write("b.json", "not JSON"), "it is not JSON"),
        ("aws", write("c.json", &twice), "`Effect` stands twice"),
        (
            "aws",
            write(
                "d.json",
                r#"{"Statement":[{"Effect":"Allow","Principal":{"Service":"x"},"Action":"sts:AssumeRole"}]}"#,
            ),
            "trusts no web identity",
        ),
        ("octo-sts", write("e.yaml", "a: [1"), "no YAML"),
        ("octo-sts", write("f.yaml", "subject: x\n"), "names no `issuer`"),
        ("vault", format!("{DATA}/vault/deploy.json"), "say `--issuer URL`"),
        ("vault", write("g.json", "{}"), "no answer of `bao read"),
        ("gcp", format!("{DATA}/gcp/deployer.json"), "give both"),
        ("aws", "none.json".to_owned(), "cannot read `none.json`"),
    ];
    let out = home.path().join("out");
    for (kind, file, told) in &cases {
        let exit = run(&["import", kind, file, "--out", out.to_str().unwrap()]).await;
        assert_eq!(exit.code, Some(2), "{kind} {file}\n{}", exit.stderr);
        assert!(exit.stderr.contains(told), "{kind} {file}: {}", exit.stderr);
        assert!(!out.exists(), "{kind} {file}");
    }
    let file = format!("{DATA}/aws/policy-branch.json");
    let exit = run(&["import", "aws", &file, "--out", home.path().to_str().unwrap()]).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("nothing is overwritten"), "{}", exit.stderr);
    let exit = run(&["import", "aws", &file, "--team", "Shop"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("no team's name"), "{}", exit.stderr);
    let exit = run(&["import", "aws", &file, "--team", "shop", "--out", out.to_str().unwrap()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(out.join("teams/shop/github.toml").is_file());
    let issuer = "https://token.actions.githubusercontent.com";
    let exit = run(&["import", "vault", &format!("{DATA}/vault/deploy.json"), "--issuer", issuer]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}
