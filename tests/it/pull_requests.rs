//! The example workflows for the repository that holds the mapping folder, as they stand in `examples/`: act and
//! gitlab-ci-local run them over a proposed change. Who takes the comments is a double.

use crate::{BINARY, cloud_action};
use claimbound_test_support::{
    command::Exit,
    comments::{Comment, Comments, TOKEN},
    forge::Forge,
    gitlab::Gitlab,
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

const TEAM_FILE: &str = "mappings/teams/payments/deploy.toml";
const MARKER: &str = "<!-- claimbound diff -->\n### Access: ";

pub fn git(work: &Path, line: &str) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]).current_dir(work);
    let output = git.args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with the sample folder, on `main`.
fn holds_mappings(work: &Path) {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings");
    let copied = Command::new("cp").arg("-r").arg(&sample).arg(work).status().unwrap();
    assert!(copied.success());
    git(work, "add mappings");
    git(work, "commit --quiet --message Mappings");
}

/// Proposes that a text of the team's file become another: what is checked out is the merge, as on a runner.
fn propose(work: &Path, from: &str, to: &str) {
    let base = git(work, "rev-parse HEAD");
    let file = work.join(TEAM_FILE);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    git(work, "checkout --quiet -b change");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
    git(work, "commit --quiet --all --message Change");
    git(work, &format!("checkout --quiet {base}"));
    git(work, "merge --quiet --no-ff --message Merge change");
    git(work, "branch --delete --force change");
}

fn said(exit: &Exit) -> String {
    format!("{}{}", exit.stdout, exit.stderr)
}

fn one_gain(comment: &Comment) -> bool {
    comment.own
        && comment.body.starts_with(&format!("{MARKER}1 gain\n"))
        && comment.body.contains("<code>hotfix</code>")
}

const WIDER: [&str; 2] = ["branch = \"main\"", "branch = [\"hotfix\", \"main\"]"];
const BROKEN: [&str; 2] = ["branch = \"main\"", "brunch = \"main\""];

fn pull_request(from: &str) -> Value {
    json!({ "number": 7, "pull_request": {
        "number": 7, "base": { "ref": "main" }, "head": { "ref": "change", "repo": { "full_name": from } },
    } })
}

/// The example on GitHub over a change of the sample folder.
async fn on_github(comments: &Comments, from: &str, change: [&str; 2]) -> Exit {
    let act = cloud_action::act()
        .program("claimbound", Path::new(BINARY))
        .event("pull_request", pull_request(from))
        .env("GITHUB_API_URL", comments.url())
        .job("review")
        .secret("GITHUB_TOKEN", TOKEN);
    holds_mappings(&act.work());
    propose(&act.work(), change[0], change[1]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-mappings.yml");
    act.run(&fs::read_to_string(example).unwrap(), None).await
}

#[tokio::test]
async fn on_github_a_pull_request_gets_one_comment_that_is_kept_up_to_date() {
    let comments = Comments::start().await;
    comments.stranger(&format!("{MARKER}no change in access"));
    for _ in 0..2 {
        let exit = on_github(&comments, "acme/payments-api", WIDER).await;
        assert_eq!(exit.code, Some(0), "{}", said(&exit));
        assert!(said(&exit).contains("Summary - <!-- claimbound diff -->"), "{}", said(&exit));
        let all = comments.all();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(!all[0].own && one_gain(&all[1]), "{all:?}");
    }
    let exit = on_github(&comments, "acme/payments-api", ["name = \"main deploys", "name = \"it deploys"]).await;
    assert_eq!(exit.code, Some(0), "{}", said(&exit));
    let all = comments.all();
    assert!(all.len() == 2 && all[1].body.starts_with(&format!("{MARKER}no change in access")), "{all:?}");
}

#[tokio::test]
async fn on_github_a_broken_folder_is_annotated_and_a_fork_writes_no_comment() {
    let comments = Comments::start().await;
    let exit = on_github(&comments, "acme/payments-api", BROKEN).await;
    assert_eq!(exit.code, Some(1), "{}", said(&exit));
    // act shows the command without its first colons.
    assert!(said(&exit).contains(&format!("file={TEAM_FILE}")), "{}", said(&exit));
    assert!(said(&exit).contains("did you mean `branch`?"), "{}", said(&exit));
    let exit = on_github(&comments, "stranger/payments-api", WIDER).await;
    assert_eq!(exit.code, Some(0), "{}", said(&exit));
    assert!(said(&exit).contains("### Access: 1 gain"), "{}", said(&exit));
    assert_eq!(comments.all(), []);
}

/// A forge where everything is as the sample folder has it.
fn as_in_the_sample() -> Forge {
    let forge = Forge::new();
    for (name, id) in [("acme", 65), ("acme-labs", 9917)] {
        forge.owner(name, id);
    }
    for (name, id) in [("acme/payments-api", 740_000_001), ("acme/payments-web", 740_000_002), ("search/indexer", 4711)]
    {
        forge.repository(name, id);
    }
    forge
}

/// Everybody who asked was let in by the token.
fn asked_with_the_token(forge: &Forge) -> bool {
    let asked = forge.asked();
    !asked.is_empty() && asked.iter().all(|(_, token)| token.as_deref().is_some_and(|token| token.contains(TOKEN)))
}

#[tokio::test]
async fn on_github_what_became_of_repositories_is_found_every_day() {
    let forge = as_in_the_sample();
    let run = async || {
        let act = cloud_action::act()
            .program("claimbound", Path::new(BINARY))
            .event("schedule", json!({}))
            .env("GITHUB_API_URL", &forge.github())
            .secret("MAPPINGS_READER", TOKEN);
        holds_mappings(&act.work());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-mappings.yml");
        act.run(&fs::read_to_string(example).unwrap(), None).await
    };
    let exit = run().await;
    assert_eq!(exit.code, Some(0), "{}", said(&exit));
    assert!(asked_with_the_token(&forge), "{:?}", forge.asked());
    forge.rename("acme/payments-web", "acme/shop-web");
    let exit = run().await;
    assert_eq!(exit.code, Some(1), "{}", said(&exit));
    assert!(said(&exit).contains("acme/shop-web"), "{}", said(&exit));
}

/// A project on GitLab with the sample folder and the example.
fn project_on_gitlab() -> Gitlab {
    let gitlab = Gitlab::new(&[("claimbound", Path::new(BINARY))]);
    let work = gitlab.work();
    git(&work, "init --quiet --initial-branch main");
    git(&work, "remote add origin git@gitlab.example.com:acme/mappings.git");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitlab-mappings.yml");
    fs::copy(example, work.join(".gitlab-ci.yml")).unwrap();
    git(&work, "add .gitlab-ci.yml");
    holds_mappings(&work);
    gitlab
}

#[tokio::test]
async fn on_gitlab_what_became_of_projects_is_found_every_day() {
    let (forge, gitlab) = (as_in_the_sample(), project_on_gitlab());
    let api = forge.gitlab();
    let variables = [("CI_PIPELINE_SOURCE", "schedule"), ("CI_API_V4_URL", &api), ("GITLAB_TOKEN", TOKEN)];
    let exit = gitlab.run("mappings-ids", &variables).await;
    assert_eq!(exit.code, Some(0), "{}", said(&exit));
    assert!(asked_with_the_token(&forge), "{:?}", forge.asked());
    forge.delete("search/indexer");
    let exit = gitlab.run("mappings-ids", &variables).await;
    assert_eq!(exit.code, Some(1), "{}", said(&exit));
    assert!(said(&exit).contains("search/indexer"), "{}", said(&exit));
}

/// The example on GitLab over a change of the sample folder; what it left, too.
async fn on_gitlab(comments: &Comments, token: &str, change: [&str; 2]) -> (Exit, Gitlab) {
    let gitlab = project_on_gitlab();
    let work = gitlab.work();
    propose(&work, change[0], change[1]);
    let base = git(&work, "rev-parse HEAD^1");
    let variables = [
        ("CI_PIPELINE_SOURCE", "merge_request_event"),
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", &base),
        ("CI_MERGE_REQUEST_IID", "7"),
        ("CI_PROJECT_ID", "5"),
        ("CI_API_V4_URL", comments.url()),
        ("CLAIMBOUND_NOTES_TOKEN", token),
    ];
    (gitlab.run("mappings-review", &variables).await, gitlab)
}

#[tokio::test]
async fn on_gitlab_a_merge_request_gets_one_note_that_is_kept_up_to_date() {
    let comments = Comments::start().await;
    comments.stranger(&format!("{MARKER}no change in access"));
    for _ in 0..2 {
        let (exit, gitlab) = on_gitlab(&comments, TOKEN, WIDER).await;
        assert_eq!(exit.code, Some(0), "{}", said(&exit));
        let all = comments.all();
        assert!(all.len() == 2 && !all[0].own && one_gain(&all[1]), "{all:?}");
        assert_eq!(fs::read_to_string(gitlab.work().join("quality.json")).unwrap().trim(), "[]");
    }
}

#[tokio::test]
async fn on_gitlab_findings_are_a_quality_report_and_without_a_token_the_difference_is_an_artifact() {
    let comments = Comments::start().await;
    let (exit, gitlab) = on_gitlab(&comments, TOKEN, BROKEN).await;
    assert_eq!(exit.code, Some(1), "{}", said(&exit));
    let quality: Value =
        serde_json::from_str(&fs::read_to_string(gitlab.work().join("quality.json")).unwrap()).unwrap();
    let first = &quality[0];
    assert_eq!((&first["severity"], &first["location"]["path"]), (&json!("blocker"), &json!(TEAM_FILE)));
    assert!(first["location"]["lines"]["begin"].is_u64() && first["fingerprint"].is_string(), "{quality}");
    let (exit, gitlab) = on_gitlab(&comments, "", WIDER).await;
    assert_eq!(exit.code, Some(0), "{}", said(&exit));
    assert!(fs::read_to_string(gitlab.work().join("diff.md")).unwrap().starts_with("### Access: 1 gain"));
    assert_eq!(comments.all(), []);
}
