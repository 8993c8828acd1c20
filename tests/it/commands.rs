//! The command line, as a user meets it.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    command::{self, Exit},
    config::BrokerConfig,
    issuer::Issuer,
    jwt::{self, Key},
};
use futures_util::future::join_all;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// How many of the broken folders are judged side by side.
const FOLDERS_AT_A_TIME: usize = 8;
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

async fn run(directory: &Path, arguments: &[&str]) -> Exit {
    command::run(Path::new(BINARY), directory, arguments).await
}

fn assert_code(exit: &Exit, code: i32) {
    assert_eq!(exit.code, Some(code), "{}{}", exit.stdout, exit.stderr);
}

#[tokio::test]
async fn shells_and_man_learn_every_command() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let exit = run(home.path(), &["completions", shell]).await;
        assert_code(&exit, 0);
        assert!(exit.stdout.contains("credential-process"), "{shell}: {}", exit.stdout);
    }
    assert_code(&run(home.path(), &["man", "man/man1"]).await, 0);
    let page = |name: &str| std::fs::read_to_string(home.path().join("man/man1").join(name)).unwrap();
    assert!(page("claimbound.1").contains("A CI OIDC federation broker"));
    let agent = page("claimbound-agent.1");
    assert!(agent.contains("lifetime") && !agent.contains("detached"), "{agent}");
    assert_code(&run(home.path(), &["man", "/proc/nowhere"]).await, 2);
}

#[tokio::test]
async fn the_sample_folder_is_clean_and_its_tests_pass() {
    let root = Path::new(ROOT);
    assert_code(&run(root, &["check", "mappings", "--deny-warnings"]).await, 0);
    assert_code(&run(root, &["test", "mappings"]).await, 0);
    let exit = run(root, &["check", "mappings", "--format", "json"]).await;
    assert_code(&exit, 0);
    for line in exit.stdout.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[tokio::test]
async fn a_folder_s_findings_reach_code_hosts_in_their_own_forms() {
    let folder = Path::new(ROOT).join("tests/broken/42-repeated-members");
    let exit = run(&folder, &["check", "mappings", "--format", "sarif"]).await;
    assert_code(&exit, 1);
    let sarif: Value = serde_json::from_str(&exit.stdout).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 6, "{sarif:#}");
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let place = &result["locations"][0]["physicalLocation"];
            let (file, region) = (place["artifactLocation"]["uri"].as_str().unwrap(), &place["region"]);
            let file = file.strip_prefix("mappings/").unwrap();
            format!("{file}:{}:{} {}", region["startLine"], region["startColumn"], result["ruleId"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>(), expected(&folder).iter().collect());

    let exit = run(&folder, &["check", "mappings", "--format", "github"]).await;
    assert_code(&exit, 1);
    let lines: Vec<_> = exit.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines[0].starts_with("::error file=mappings/roles/payments.toml,line="), "{lines:#?}");
    assert!(exit.stderr.contains("5 errors, 1 warning"), "{}", exit.stderr);
}

fn broken_folders() -> Vec<PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(Path::new(ROOT).join("tests/broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// `path:line:column code`, one a line.
fn expected(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Whether rendered findings show this one: its code, and its place.
fn shows(output: &str, expected: &str) -> bool {
    let (place, code) = expected.rsplit_once(' ').unwrap();
    output.contains(code) && output.contains(place)
}

/// Every broken folder, some at a time: most of a short process is waiting.
async fn each_broken_folder(judge: impl AsyncFn(&Path)) {
    let folders = broken_folders();
    assert!(folders.len() >= 30, "{}", folders.len());
    for some in folders.chunks(FOLDERS_AT_A_TIME) {
        join_all(some.iter().map(|folder| judge(folder))).await;
    }
}

fn assert_tells_all(exit: &Exit, folder: &Path) {
    let output = format!("{}{}", exit.stdout, exit.stderr);
    let expected = expected(folder);
    assert!(!expected.is_empty(), "{}: nothing is expected", folder.display());
    for finding in expected {
        assert!(shows(&output, &finding), "{}: `{finding}` is not told:\n{output}", folder.display());
    }
    assert!(output.contains("help"), "{}: no remedy:\n{output}", folder.display());
}

#[tokio::test]
async fn thirty_broken_folders_end_check_with_1_and_tell_all_of_it() {
    each_broken_folder(async |folder| {
        let exit = run(Path::new(ROOT), &["check", folder.join("mappings").to_str().unwrap()]).await;
        assert_code(&exit, 1);
        assert_tells_all(&exit, folder);
    })
    .await;
}

#[tokio::test]
async fn thirty_broken_folders_end_serve_with_2_and_tell_all_of_it() {
    each_broken_folder(async |folder| {
        let directory = tempfile::tempdir().unwrap();
        let mappings = folder.join("mappings");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://claimbound.example.com\"\n[mappings]\npath = \"{}\"\n",
            mappings.display()
        );
        std::fs::write(directory.path().join("claimbound.toml"), config).unwrap();
        for arguments in [&["serve"][..], &["serve", "--check"]] {
            let exit = run(directory.path(), arguments).await;
            assert_code(&exit, 2);
            assert_tells_all(&exit, folder);
        }
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["claimbound.toml"], "a broker that does not start makes neither store nor keys");
    })
    .await;
}

/// The annotated configuration is what people copy: with every line of it in force it is judged as it stands, and
/// nothing but the files that it names is missing.
#[tokio::test]
async fn the_annotated_configuration_is_one_that_serves() {
    let directory = tempfile::tempdir().unwrap();
    let annotated = std::fs::read_to_string(Path::new(ROOT).join("docs/claimbound.toml")).unwrap();
    let optional = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let key =
            rest.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        (key || rest.starts_with('[')).then(|| rest.to_owned())
    };
    let whole: Vec<_> = annotated.lines().map(|line| optional(line).unwrap_or_else(|| line.to_owned())).collect();
    // Its lines about PostgreSQL belong to another URL.
    let whole = whole.join("\n").replace("sqlite:claimbound.db", "postgres://claimbound@db.internal/claimbound");
    let switched_on = annotated.lines().filter(|line| optional(line).is_some()).count();
    assert!(switched_on >= 5, "only {switched_on} optional lines were found");
    std::os::unix::fs::symlink(Path::new(ROOT).join("mappings"), directory.path().join("mappings")).unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["claimbound.example.com".to_owned()]).unwrap();
    std::fs::create_dir(directory.path().join("tls")).unwrap();
    let files = [
        ("gitlab-ca.pem", cert.pem()),
        ("okta-ca.pem", cert.pem()),
        ("tls/certificate.pem", cert.pem()),
        ("tls/key.pem", signing_key.serialize_pem()),
        ("store-password", "secret".to_owned()),
        ("openbao-secret", "0123456789abcdef".to_owned()),
        ("store-ca.pem", cert.pem()),
        ("gitlab-jwks.json", json!({ "keys": [Key::rs256().jwk()] }).to_string()),
    ];
    for (name, text) in &files {
        std::fs::write(directory.path().join(name), text).unwrap();
        std::fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o600)).unwrap();
    }
    for (text, name) in [(annotated, "as it stands"), (whole, "with every line")] {
        std::fs::write(directory.path().join("claimbound.toml"), text).unwrap();
        let exit = run(directory.path(), &["serve", "--check"]).await;
        assert_eq!(exit.code, Some(0), "{name}: {}{}", exit.stdout, exit.stderr);
        assert!(exit.stderr.contains("ok: 2 issuers"), "{name}: {}", exit.stderr);
    }
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 9, "a check opens and makes nothing");
    for (name, _) in files {
        std::fs::rename(directory.path().join(name), directory.path().join("away")).unwrap();
        let exit = run(directory.path(), &["serve", "--check"]).await;
        assert_code(&exit, 2);
        assert!(exit.stderr.contains(name), "{name}: {}", exit.stderr);
        std::fs::rename(directory.path().join("away"), directory.path().join(name)).unwrap();
    }
}

#[tokio::test]
async fn serve_tells_every_fault_of_its_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://x.example/\"\npublic_urll = \"\"\n[stroe]\n";
    std::fs::write(directory.path().join("claimbound.toml"), text).unwrap();
    let exit = run(directory.path(), &["serve"]).await;
    assert_code(&exit, 2);
    let output = format!("{}{}", exit.stdout, exit.stderr);
    for part in ["claimbound.toml:3:", "claimbound.toml:4:", "claimbound.toml:5:", "did you mean `store`?", "https://"]
    {
        assert!(output.contains(part), "no `{part}` in\n{output}");
    }
    let exit = run(directory.path(), &["serve", "--config", "none.toml"]).await;
    assert_code(&exit, 2);
    assert!(exit.stderr.contains("none.toml"), "{}", exit.stderr);
}

#[tokio::test]
async fn serve_refuses_a_development_issuer_without_the_switch() {
    let issuer = Issuer::github();
    let directory = tempfile::tempdir().unwrap();
    BrokerConfig::new(&issuer).server("public_url = \"https://cb.example\"").write(
        directory.path(),
        "127.0.0.1:0",
        "127.0.0.1:0",
    );
    let exit = run(directory.path(), &["serve", "--check"]).await;
    assert_code(&exit, 2);
    assert!(exit.stderr.contains("--development") || exit.stdout.contains("--development"), "{}", exit.stderr);
    assert_code(&run(directory.path(), &["serve", "--check", "--development"]).await, 0);
}

#[tokio::test]
async fn explain_offline_says_what_the_service_said() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let jobs = [
        issuer.job().branch("main").environment("production"),
        issuer.job().branch("feature").environment("production"),
        issuer.job().environment("staging").branch("x"),
        issuer.job().pull_request(7),
        issuer.job().tag("main").environment("production"),
        issuer.job().repository("acme/other"),
        issuer.job().branch("main").environment("production").repository_id(740_999_999),
        issuer.job().branch("main").environment("production").event("pull_request_target"),
    ];
    for job in jobs {
        let token = job.token(broker.audience());
        let served = broker.exchange_for(&token, "payments-release").await;
        std::fs::write(broker.directory().join("claims.json"), jwt::claims_of(&token).to_string()).unwrap();
        let offline = broker
            .command(&["explain", "--mappings", "mappings", "--claims", "claims.json", "--role", "payments-release"])
            .await;
        let expected = if served.status == 200 { 0 } else { 1 };
        assert_code(&offline, expected);

        let decision = served.text_of("decision_id").to_owned();
        let recorded = broker.command(&["explain", "--decision", &decision, "--store", "sqlite:claimbound.db"]).await;
        assert_code(&recorded, expected);
        assert!(recorded.stdout.contains(&decision), "{}", recorded.stdout);
    }
    let unknown = "00000000-0000-7000-8000-000000000000";
    let exit = broker.command(&["explain", "--decision", unknown, "--store", "sqlite:claimbound.db"]).await;
    assert_code(&exit, 2);
}

#[tokio::test]
async fn explain_names_the_nearest_miss_and_the_edit() {
    let exit = run(
        Path::new(ROOT),
        &[
            "explain",
            "--repository",
            "acme/payments-api",
            "--branch",
            "feature",
            "--environment",
            "production",
            "--event",
            "push",
            "--issuer",
            "github",
            "--role",
            "payments-deploy.production",
        ],
    )
    .await;
    assert_code(&exit, 1);
    for part in ["payments-production", "branch", "`main`", "feature"] {
        assert!(exit.stdout.contains(part), "no `{part}` in\n{}", exit.stdout);
    }
}

#[tokio::test]
async fn roles_profiles_and_help_are_told() {
    let root = Path::new(ROOT);
    let exit = run(root, &["roles"]).await;
    assert_code(&exit, 0);
    assert!(exit.stdout.contains("payments-deploy.production"), "{}", exit.stdout);
    let exit = run(root, &["profile", "show", "github-actions"]).await;
    assert_code(&exit, 0);
    for part in ["repository_id", "workflow_ref", "https://token.actions.githubusercontent.com", "push"] {
        assert!(exit.stdout.contains(part), "no `{part}` in\n{}", exit.stdout);
    }
    let exit = run(root, &["profile", "show", "gitlab-ci"]).await;
    assert_code(&exit, 2);
    assert!(exit.stderr.contains("gitlab"), "{}", exit.stderr);
    for command in
        ["demo", "dev", "serve", "check", "test", "explain", "roles", "profile", "trust", "keys", "issuer", "audit"]
    {
        assert_code(&run(root, &[command, "--help"]).await, 0);
    }
    for (arguments, told) in [
        (&["login"][..], "tip: the variable `CLAIMBOUND_URL` may name the broker"),
        (&["dev", "--listen", "0.0.0.0:8080"], "`dev` listens on loopback alone"),
        (
            &["claim", "show", "x", "--url", "https://b.example"],
            "`x` is no ceremony's id: give its 32 hexadecimal digits",
        ),
    ] {
        let exit = run(root, arguments).await;
        assert_code(&exit, 2);
        assert!(exit.stderr.contains(told), "{}", exit.stderr);
    }
    assert_code(&run(root, &["check", "--explain", "CB0701"]).await, 0);
    assert_code(&run(root, &["check", "no-such-folder"]).await, 2);
}

#[tokio::test]
async fn keys_rotate_beside_a_running_broker_and_old_tokens_still_verify() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let job = issuer.job().branch("main").environment("production");
    let before = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    let old = jwt::header_of(before.text_of("access_token"))["kid"].clone();
    let exit = broker.command(&["keys", "rotate", "--now", "--keys", "keys"]).await;
    assert_code(&exit, 0);
    let listed = broker.command(&["keys", "list", "--keys", "keys", "--format", "json"]).await;
    assert_code(&listed, 0);
    assert!(listed.stdout.contains("retiring") && listed.stdout.contains("signing"), "{}", listed.stdout);
    let new = claimbound_test_support::time::eventually(std::time::Duration::from_secs(60), async || {
        let after = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
        let kid = jwt::header_of(after.text_of("access_token"))["kid"].clone();
        (kid != old).then_some(kid)
    })
    .await;
    let published = broker.get("/jwks").await.text;
    assert!(published.contains(old.as_str().unwrap()) && published.contains(new.as_str().unwrap()));

    let exit = broker
        .command(&["issuer", "export", "site", "--keys", "keys", "--issuer-url", "https://oidc.acme.example"])
        .await;
    assert_code(&exit, 0);
    let exported = |path: &str| std::fs::read_to_string(broker.directory().join("site").join(path)).unwrap();
    let discovery: Value = serde_json::from_str(&exported(".well-known/openid-configuration")).unwrap();
    assert_eq!(discovery["issuer"], "https://oidc.acme.example");
    let path = discovery["jwks_uri"].as_str().unwrap().strip_prefix("https://oidc.acme.example/").unwrap().to_owned();
    assert!(exported(&path).contains(new.as_str().unwrap()));
}

#[tokio::test]
async fn a_store_belongs_to_one_broker_and_one_issuer_name() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let second = broker.command(&["serve", "--config", "claimbound.toml", "--development"]).await;
    assert_code(&second, 2);
    assert!(!second.stderr.contains("panicked"), "{}", second.stderr);
    assert_eq!(broker.terminate().await.code, Some(0), "an orderly stop");

    // Another port makes another name, where the configuration gives none.
    let text = std::fs::read_to_string(broker.config_path()).unwrap();
    let other = text.replace("[server]\n", "[server]\npublic_url = \"https://other.example\"\n");
    std::fs::write(broker.directory().join("other.toml"), other).unwrap();
    let renamed = broker.command(&["serve", "--config", "other.toml", "--development"]).await;
    assert_code(&renamed, 2);
    assert!(renamed.stderr.contains("issuer"), "{}", renamed.stderr);
}

#[tokio::test]
async fn a_stopped_broker_left_everything_on_record() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    for _ in 0..30 {
        assert_eq!(broker.exchange_for("x.y.z", "any").await.status, 400);
    }
    assert_eq!(broker.terminate().await.code, Some(0));
    let single = records::of_kind(&broker, "refused").len() as u64;
    let summed: u64 = records::of_kind(&broker, "summed").iter().map(|b| b["count"].as_u64().unwrap()).sum();
    assert_eq!(single + summed, 30);
    let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_code(&verified, 0);
}
