//! What platform teams have to say: the kinds of trust policies that real projects write, each as a mapping with jobs
//! that match, near misses and foreign tenants (`tests/corpus`); and a company's folder, which stays readable.

use crate::BINARY;
use claimbound_test_support::command::{self, Exit};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const TEAMS: usize = 60;
const REPOSITORIES: usize = 400;
/// A file that a reviewer takes in at a glance.
const LINES_MAX: usize = 100;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/mappings")
}

async fn clean(directory: &Path, folder: &str) -> String {
    let run = async |arguments: &[&str]| command::run(Path::new(BINARY), directory, arguments).await;
    let said = |exit: &Exit| format!("{}{}", exit.stdout, exit.stderr);
    let checked = run(&["check", folder, "--deny-warnings"]).await;
    assert_eq!(checked.code, Some(0), "{}", said(&checked));
    let formatted = run(&["fmt", folder, "--check"]).await;
    assert_eq!(formatted.code, Some(0), "{}", said(&formatted));
    said(&checked)
}

#[tokio::test]
async fn every_kind_of_real_policy_can_be_said_and_keeps_near_misses_and_foreign_tenants_out() {
    clean(&corpus(), ".").await;
    let mut kinds = BTreeMap::<(usize, String), usize>::new();
    for entry in fs::read_dir(corpus().join("teams/corpus")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let file: toml::Table = text.parse().unwrap();
        for test in file["test"].as_array().unwrap() {
            let (number, rest) = test["name"].as_str().unwrap().split_once(' ').unwrap();
            let (kind, _) = rest.split_once(": ").unwrap();
            let expected = if kind == "match" { "grant" } else { "deny" };
            assert_eq!(test["expect"].as_str(), Some(expected), "{rest}");
            *kinds.entry((number.parse().unwrap(), kind.to_owned())).or_default() += 1;
        }
    }
    for number in 1..=18 {
        for kind in ["match", "near miss", "foreign tenant"] {
            assert!(kinds.contains_key(&(number, kind.to_owned())), "{number} has no {kind}");
        }
    }
    assert_eq!(kinds.len(), 54, "{kinds:?}");
}

#[tokio::test]
async fn the_folder_of_a_company_stays_readable() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("mappings");
    let write = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let mut policy = String::from(
        r#"format = 1

[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65 }

[sensitivity.production]
max_duration = "1h"
needs_any = ["branch", "tag"]

[target.staging]
sensitivity = "internal"
account = "111122223333"

[target.production]
sensitivity = "production"
account = "444455556666"

[[deny]]
name = "no-self-hosted-in-production"
reason = "shared runners are not isolated"
sensitivity = "production"
[deny.match]
runner_environment = "self-hosted"

[[never]]
name = "outsiders-never-reach-production"
sensitivity = "production"
[never.match]
event_name = { class = "outsider" }
"#,
    );
    let mut longest = 0;
    for team in 0..TEAMS {
        // The first teams are the larger ones.
        let (each, more) = (REPOSITORIES / TEAMS, REPOSITORIES % TEAMS);
        let first = team * each + team.min(more);
        let repositories = first..first + each + usize::from(team < more);
        policy.push_str(&format!(
            "\n[team.team-{team:02}]\npath = \"teams/team-{team:02}\"\ncontact = \"team-{team:02}@acme.example\"\n"
        ));
        write(
            format!("roles/team-{team:02}.toml"),
            format!(
                r#"[role.team-{team:02}-deploy]
description = "Deploy what team {team:02} builds"
backend = "aws"
teams = ["team-{team:02}"]
issuers = ["github"]
targets = ["staging", "production"]
max_duration = "1h"
[role.team-{team:02}-deploy.aws]
role_arn = "arn:aws:iam::{{target.account}}:role/team-{team:02}-deploy"
session_policy = "policies/deploy.json"
session_tags = {{ repository_id = "{{claim.repository_id}}" }}
"#
            ),
        );
        let pairs: String = repositories
            .clone()
            .map(|at| format!("  {{ name = \"acme/service-{at:03}\", id = {} }},\n", 740_000_000 + at))
            .collect();
        let text = format!(
            r#"[file]
issuer = "github"
review_by = 2999-06-30
[file.match]
repository = {{ set = "services" }}

[set.services]
repositories = [
{pairs}]

[[mapping]]
name = "team-{team:02}-production"
description = "Deploys main"
roles = ["team-{team:02}-deploy.production"]
max_duration = "30m"
[mapping.match]
branch = "main"
environment = "production"

[[mapping]]
name = "team-{team:02}-staging"
description = "Deploys any branch to staging"
roles = ["team-{team:02}-deploy.staging"]
[mapping.match]
environment = "staging"

[[test]]
name = "main deploys"
workload = {{ repository = "acme/service-{0:03}", branch = "main", environment = "production", event_name = "push", runner_environment = "github-hosted" }}
expect = "grant"
roles = ["team-{team:02}-deploy.production"]

[[test]]
name = "a pull request does not"
workload = {{ repository = "acme/service-{0:03}", ref = "refs/pull/7/merge", environment = "production", event_name = "pull_request", base_ref = "main", runner_environment = "github-hosted" }}
expect = "deny"
role = "team-{team:02}-deploy.production"
fails = ["branch", "event_name"]
"#,
            repositories.start
        );
        longest = longest.max(text.lines().count());
        write(format!("teams/team-{team:02}/deploy.toml"), text);
    }
    write("policy.toml".to_owned(), policy);
    write(
        "policies/deploy.json".to_owned(),
        r#"{ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }] }"#
            .to_owned(),
    );
    let said = clean(directory.path(), "mappings").await;
    assert!(said.contains("120 mappings, 120 roles, 120 tests passed"), "{said}");
    assert!(longest < LINES_MAX, "{longest} lines");
}
