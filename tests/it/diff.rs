//! `claimbound diff`: two folders, git revisions, three formats, exit codes.

use crate::BINARY;
use claimbound_test_support::command::{self, Exit};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DEPLOY: &str = "teams/payments/deploy.toml";
const POLICY: &str = "policy.toml";
const ROLES: &str = "roles/payments.toml";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::write(to, fs::read(entry.path()).unwrap()).unwrap()
        }
    }
}

/// A home with the sample folder as `mappings` and as `base`.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for name in ["base", "mappings"] {
        copy(&Path::new(ROOT).join("mappings"), &home.path().join(name));
    }
    home
}

fn edit(home: &Path, file: &str, from: &str, to: &str) {
    let path = home.join("mappings").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} holds `{from}`");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

async fn diff(home: &Path, arguments: &[&str]) -> Exit {
    command::run(Path::new(BINARY), home, &[&["diff"], arguments].concat()).await
}

async fn json(home: &Path) -> Value {
    let exit = diff(home, &["base", "mappings", "--format", "json"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap()
}

/// (file, from, to), the summary, and whether `--fail-on-widening` ends with 1.
#[tokio::test]
async fn each_edit_is_told_for_what_it_means() {
    let cases: [(&str, &str, &str, &str, bool); 12] = [
        (DEPLOY, "Deploys main", "Deploys only main", "no change in access", false),
        (DEPLOY, "branch = \"main\"", "branch = [\"hotfix\", \"main\"]", "1 gain", true),
        (DEPLOY, "  { name = \"acme/payments-web\", id = 740000002 },\n", "", "3 losses", false),
        (
            DEPLOY,
            "  { name = \"acme/payments-web\", id = 740000002 },\n",
            "  { name = \"acme/payments-web\", id = 740000002 },\n  { name = \"acme/payments-jobs\", id = 740000003 },\n",
            "3 gains",
            true,
        ),
        (DEPLOY, "max_duration = \"30m\"", "max_duration = \"45m\"", "1 wider term", true),
        (DEPLOY, "duration = \"15m\"", "duration = \"10m\"", "2 narrower terms", false),
        (
            DEPLOY,
            "environment = \"production\"\n\n",
            "environment = \"production\"\n[mapping.limit]\nper_run = 2\n\n",
            "1 narrower term",
            false,
        ),
        (POLICY, "runner_environment = \"self-hosted\"", "runner_environment = \"foreign\"", "1 gain, 1 loss", true),
        (POLICY, "acme-labs = 9917", "acme-labs = 9917, acme-more = 9918", "no change in access", false),
        (
            ROLES,
            "audience = \"https://openbao.acme.example\"",
            "audience = \"https://vault.acme.example\"",
            "1 term that cannot be compared",
            true,
        ),
        (ROLES, "ref = \"refs/heads/main\"", "branch = [\"main\", \"next\"]", "2 gains", true),
        ("tests/guards.toml", "a token as GitHub writes it", "a token of GitHub's", "no change in access", false),
    ];
    for (file, from, to, summary, widens) in cases {
        let home = home();
        edit(home.path(), file, from, to);
        let exit = diff(home.path(), &["base", "mappings"]).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert_eq!(exit.stdout.lines().next(), Some(summary), "{file}, {to}: {}", exit.stdout);
        let exit = diff(home.path(), &["base", "mappings", "--fail-on-widening"]).await;
        assert_eq!(exit.code, Some(i32::from(widens)), "{file}, {to}: {}", exit.stdout);
    }
}

#[tokio::test]
async fn a_change_is_shown_by_a_job_that_explain_confirms() {
    let home = home();
    edit(home.path(), DEPLOY, "branch = \"main\"", "branch = [\"hotfix\", \"main\"]");
    let told = json(home.path()).await;
    let gain = &told["changes"][0];
    assert_eq!((&gain["kind"], &gain["issuer"]), (&"gain".into(), &"github".into()));
    assert_eq!(gain["roles"], serde_json::json!(["payments-deploy.production"]));
    assert_eq!(gain["repositories"][1], serde_json::json!({ "name": "acme/payments-web", "id": "740000002" }));
    assert_eq!(gain["jobs"][0]["branch"], "`hotfix`");
    assert_eq!(told["review"][0]["team"], "payments");
    assert_eq!(told["review"][0]["files"], serde_json::json!([DEPLOY]));
    let example = &gain["examples"][0];
    assert_eq!(
        (&example["before"]["decision"], &example["after"]["mapping"]),
        (&"deny".into(), &"payments-production".into())
    );
    let claims: Vec<String> = example["workload"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("--claim={name}={}", value.as_str().unwrap()))
        .collect();
    for (folder, code) in [("base", 1), ("mappings", 0)] {
        let mut arguments =
            vec!["explain", "--mappings", folder, "--issuer=github", "--role=payments-deploy.production"];
        arguments.extend(claims.iter().map(String::as_str));
        let exit = command::run(Path::new(BINARY), home.path(), &arguments).await;
        assert_eq!(exit.code, Some(code), "{folder}: {}{}", exit.stdout, exit.stderr);
    }
}

#[tokio::test]
async fn rules_around_the_access_are_told_with_who_reviews_them() {
    let home = home();
    edit(home.path(), POLICY, "acme-labs = 9917", "acme-more = 9918");
    edit(home.path(), POLICY, "repository_owner = \"acme-labs\"", "repository_owner = \"acme-more\"");
    edit(
        home.path(),
        POLICY,
        "[team.search]",
        "[team.web]\npath = \"teams/web\"\nissuers = [\"github\"]\n\n[team.search]",
    );
    let told = json(home.path()).await;
    let rules: Vec<_> = told["rules"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    for part in ["new owner, `acme-more`", "no longer lists the owner `acme-labs`", "team `web` is new"] {
        assert!(rules.iter().any(|rule| rule.contains(part)), "{part}: {rules:?}");
    }
    assert_eq!(told["review"][0]["who"], "platform");
}

#[tokio::test]
async fn a_comment_for_a_pull_request_has_a_table_and_folded_details() {
    let home = home();
    edit(home.path(), DEPLOY, "branch = \"main\"", "branch = [\"hot|fix<b>\", \"main\"]");
    edit(home.path(), DEPLOY, "max_duration = \"1h\"", "max_duration = \"45m\"");
    let exit = diff(home.path(), &["base", "mappings", "--format", "markdown"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let text = exit.stdout;
    assert!(text.starts_with("### Access: 1 gain, 2 narrower terms\n\n| | role | jobs | mapping |\n"), "{text}");
    assert!(text.contains("| gain | <code>payments-deploy.production</code> (<code>github</code>) |"), "{text}");
    assert!(text.contains("hot&#124;fix&#60;b&#62;") && !text.contains("fix<b>"), "{text}");
    assert!(text.contains("<code>max&#95;duration</code> <code>1h</code> → <code>45m</code> (narrower)"), "{text}");
    assert!(text.contains("<details>") && text.contains("</details>"), "{text}");
}

async fn git(home: &Path, arguments: &[&str]) {
    let named = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"];
    let exit = command::run(Path::new("git"), home, &[&named, arguments].concat()).await;
    assert_eq!(exit.code, Some(0), "git {arguments:?}: {}", exit.stderr);
}

#[tokio::test]
async fn revisions_are_read_from_git_and_the_working_tree_is_left_alone() {
    let home = home();
    let home = home.path();
    git(home, &["init", "--quiet"]).await;
    git(home, &["add", "mappings"]).await;
    git(home, &["commit", "--quiet", "-m", "one"]).await;
    git(home, &["tag", "one"]).await;
    edit(home, DEPLOY, "branch = \"main\"", "branch = [\"hotfix\", \"main\"]");
    git(home, &["commit", "--quiet", "-a", "-m", "two"]).await;
    edit(home, DEPLOY, "max_duration = \"30m\"", "max_duration = \"20m\"");
    for (base, head, summary) in [
        ("one", "HEAD", "1 gain"),
        ("HEAD", "one:mappings", "1 loss"),
        ("HEAD", "mappings", "1 narrower term"),
        ("one", "mappings", "1 gain, 1 narrower term"),
        ("base", "one:./mappings/", "no change in access"),
    ] {
        let exit = diff(home, &[base, head]).await;
        assert_eq!(exit.code, Some(0), "{base} {head}: {}", exit.stderr);
        assert_eq!(exit.stdout.lines().next(), Some(summary), "{base} {head}: {}", exit.stdout);
    }
    assert!(fs::read_to_string(home.join("mappings").join(DEPLOY)).unwrap().contains("20m"));
    for (base, head, part) in [
        ("nowhere", "mappings", "`nowhere` is neither a folder nor a revision"),
        ("one:else", "mappings", "the revision `one` has no folder `else`"),
        ("one:mappings/policy.toml", "mappings", "is no folder"),
        (":mappings", "mappings", "neither a folder nor a git revision"),
    ] {
        let exit = diff(home, &[base, head]).await;
        assert_eq!(exit.code, Some(2), "{base}: {}", exit.stdout);
        assert!(exit.stderr.contains(part), "{base}: {}", exit.stderr);
    }
    // Links of a revision are not followed.
    std::os::unix::fs::symlink("deploy.toml", home.join("mappings/teams/payments/more.toml")).unwrap();
    git(home, &["add", "mappings"]).await;
    git(home, &["commit", "--quiet", "-m", "three"]).await;
    let exit = diff(home, &["one", "HEAD"]).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("the link `teams/payments/more.toml`"), "{}", exit.stderr);
}

#[tokio::test]
async fn what_cannot_be_read_ends_with_two_and_says_which_side() {
    let home = home();
    edit(home.path(), DEPLOY, "branch = \"main\"", "brunch = \"main\"");
    let exit = diff(home.path(), &["base", "mappings"]).await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
    assert!(
        exit.stderr.contains("brunch") && exit.stderr.contains("the folder `mappings` does not load"),
        "{}",
        exit.stderr
    );
    let exit = diff(home.path(), &["base", "HEAD"]).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("there is no git repository"), "{}", exit.stderr);
    let mut without = command::command(Path::new(BINARY), home.path());
    let exit = command::finish(without.args(["diff", "base", "HEAD"]).env("PATH", home.path())).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("`git` is not installed"), "{}", exit.stderr);
    assert_eq!(diff(home.path(), &["base"]).await.code, Some(2));
}
