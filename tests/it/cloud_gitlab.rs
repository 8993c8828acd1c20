//! The component for GitLab in pipelines that gitlab-ci-local runs, in the shells that small images have. It mints no ID
//! tokens, so the bench's issuer does; AWS is the double, and its client botocore.

use crate::{BINARY, aws, docs::blocks_in, pull_requests::git, records};
use aws_lc_rs::digest::{SHA256, digest};
use claimbound_test_support::{
    broker::Broker,
    canary,
    command::{self, Exit},
    config::BrokerConfig,
    gitlab::Gitlab,
    issuer::Issuer,
    jwt,
    sts::Sts,
    tools::Tools,
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const TEMPLATE: &str = "gitlab/templates/claimbound.yml";

const POLICY: &str = "format = 1\n[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\
    [team.payments]\npath = \"teams/payments\"\nissuers = [\"gitlab\"]\n";
const ROLES: &str = r#"[role.payments-deploy]
description = "Deploy payments"
backend = "aws"
teams = ["payments"]
issuers = ["gitlab"]
sensitivity = "internal"
max_duration = "2h"
[role.payments-deploy.aws]
role_arn = "arn:aws:iam::111122223333:role/payments-deploy"
region = "eu-west-1"
session_policy = "policies/payments.json"

[role.search-index]
description = "Write the index"
backend = "jwt"
teams = ["payments"]
issuers = ["gitlab"]
sensitivity = "internal"
max_duration = "15m"
[role.search-index.jwt]
audience = "https://index.acme.example"
"#;
const MAPPINGS: &str = r#"[file]
issuer = "gitlab"
[file.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
[[mapping]]
name = "payments-deploys"
description = "Deploys main"
roles = ["payments-deploy"]
[mapping.match]
environment = "staging"
[[mapping]]
name = "index"
description = "Main builds the index"
roles = ["search-index"]
"#;

/// A broker whose GitLab jobs may have an AWS role and one of JWTs.
async fn broker(gitlab: &Issuer, sts: &Sts) -> Broker {
    let files = [
        ("policy.toml", POLICY),
        ("roles/payments.toml", ROLES),
        ("policies/payments.json", aws::POLICY),
        ("teams/payments/jobs.toml", MAPPINGS),
    ];
    let backend = format!("[backend.aws]\nendpoint_url = \"{}\"", sts.url());
    let config = BrokerConfig::with_folder(&files).issuer("gitlab", gitlab).toml(&backend);
    let broker = Broker::start(BINARY, config).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role(aws::ROLE_ARN, "role:payments-deploy");
    broker
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Makes the project `acme/payments-api` of this pipeline; the component is its own.
fn project(gitlab: &Gitlab, pipeline: &str) {
    let work = gitlab.work();
    git(&work, "init --quiet --initial-branch main");
    git(&work, "remote add origin git@gitlab.example.com:acme/payments-api.git");
    fs::create_dir(work.join("templates")).unwrap();
    fs::copy(root().join(TEMPLATE), work.join("templates/claimbound.yml")).unwrap();
    fs::write(work.join(".gitlab-ci.yml"), pipeline).unwrap();
    git(&work, "add .");
    git(&work, "commit --quiet --message Pipeline");
}

fn log(exit: &Exit) -> String {
    format!("{}{}", exit.stdout, exit.stderr)
}

/// What these jobs said, a line each.
fn said(exit: &Exit, job: &str) -> String {
    let log = log(exit);
    let lines: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix(job)).collect();
    lines.join("\n")
}

/// Answers every GET with this program, and notes what was asked for.
async fn download(program: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..read]);
            noted.lock().unwrap().extend(head.split(' ').nth(1).map(str::to_owned));
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{program}", program.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

/// Stands in for a release's program.
const PROGRAM: &str = concat!("#!/bin/sh\nexec ", env!("CARGO_BIN_EXE_claimbound"), " \"$@\"\n");

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What botocore finds by itself.
const LOOK: &str = "import botocore.session\nsession = botocore.session.Session()\nkeys = session.get_credentials()\n\
    print(keys.method, keys.get_frozen_credentials().access_key, session.get_config_variable('region'))\n";
/// Keys that have a minute and a half left.
const AGE: &str =
    r#"sed -i -E "s/\"expires\":[0-9]+/\"expires\":$(($(date +%s) + 90))/" "$CLAIMBOUND_STATE_DIR"/cache-*.json"#;
/// An image without curl.
const NO_CURL: &str = r#"command() { [ "$2" != curl ] && which "$2"; }"#;

#[tokio::test]
async fn the_quick_start_s_keys_renew_and_end_with_the_job() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = broker(&issuer, &sts).await;
    let (url, asked) = download(PROGRAM).await;
    let sum = hex(PROGRAM.as_bytes());
    let more = format!(
        "region: eu-west-1, binary: \"\", sha256-x86-64: {sum}, sha256-aarch64: {sum}, \
         download-url: \"{url}/v$version/claimbound-$arch\" }}"
    );
    let script = format!(
        "    - python3 \"$PROOF/look.py\" >> \"$PROOF/keys\"\n    - {AGE}\n    - python3 \"$PROOF/look.py\" >> \"$PROOF/keys\"\n    - echo \"$AWS_CONFIG_FILE $CLAIMBOUND_STATE_DIR\" > \"$PROOF/files\"\n"
    );
    let mut pipeline = blocks_in("docs/gitlab.md", "yaml").remove(0);
    for (from, to) in [
        (&*format!("platform/claimbound/claimbound@{VERSION}"), "$CI_PROJECT_PATH/claimbound@$CI_COMMIT_SHA"),
        ("https://claimbound.example.com", broker.audience()),
        ("region: eu-west-1 }", &more),
        ("    - aws s3 sync dist s3://payments\n", &script),
    ] {
        assert_eq!(pipeline.matches(from).count(), 1, "docs/gitlab.md holds `{from}` once");
        pipeline = pipeline.replace(from, to);
    }
    let own = format!(
        "extends: .claimbound\n  before_script:\n    - '{NO_CURL}'\n    - !reference [.claimbound, before_script]\n"
    );
    let [dash, busybox] =
        [("dash", pipeline.clone()), ("busybox sh", pipeline.replace("extends: .claimbound\n", &own))];
    for (at, (shell, pipeline)) in [dash, busybox].into_iter().enumerate() {
        let gitlab = Gitlab::new(&[]).in_shell(shell);
        project(&gitlab, &pipeline);
        let proof = tempfile::tempdir().unwrap();
        fs::write(proof.path().join("look.py"), LOOK).unwrap();
        let token = issuer.job().environment("staging").token(broker.audience());
        let [packages, bytecode] = Tools::python_environment();
        let variables = [
            ("CLAIMBOUND_TOKEN", &*token),
            ("PROOF", proof.path().to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "AKIAOFTHEPROJECT"),
            ("AWS_SECRET_ACCESS_KEY", "secret-of-the-project"),
            (packages.0, &packages.1),
            (bytecode.0, &bytecode.1),
        ];
        let exit = gitlab.run("deploy", &variables).await;
        assert_eq!(exit.code, Some(0), "{shell}: {}", log(&exit));

        let sessions = sts.sessions().split_off(2 * at);
        let keys = |session: usize| format!("custom-process {} eu-west-1\n", sessions[session].access_key_id);
        assert_eq!(fs::read_to_string(proof.path().join("keys")).unwrap(), keys(0) + &keys(1), "{shell}");
        let granted = records::of_kind(&broker, "granted").split_off(2 * at);
        assert_eq!((granted.len(), &granted[0]["family"]), (2, &granted[1]["family"]), "{granted:?}");
        let ended = records::of_kind(&broker, "family_ended").split_off(at);
        assert_eq!((ended.len(), &ended[0]["family"]), (1, &granted[0]["family"]), "{ended:?}");
        for part in [
            &*format!("claimbound {VERSION}"),
            "warning: AWS_SECRET_ACCESS_KEY is set for this job",
            "claimbound_started",
            "is ended. A copy of its credential may be accepted until ",
        ] {
            assert!(log(&exit).contains(part), "{shell}: no `{part}` in {}", log(&exit));
        }

        let files = fs::read_to_string(proof.path().join("files")).unwrap();
        let (config, state) = files.trim().split_once(' ').unwrap();
        assert!(config.starts_with(state) && state.starts_with("/tmp/claimbound-"), "{files}");
        assert!(!Path::new(state).exists(), "nothing is left");
        let mut secrets = vec![token.as_str(), token.rsplit('.').next().unwrap()];
        secrets.extend(sessions.iter().flat_map(|s| [&*s.secret_access_key, &*s.session_token]));
        for secret in secrets.iter().copied().chain(["cbl_", "cbr_"]) {
            assert!(!log(&exit).contains(secret), "{shell}: a secret is in the log: {}", log(&exit));
        }
        canary::assert_absent(&gitlab.work(), &secrets);
    }
    let path = format!("/v{VERSION}/claimbound-{}", std::env::consts::ARCH);
    assert_eq!(*asked.lock().unwrap(), [path.clone(), path]);
}

#[tokio::test]
async fn a_jwt_comes_in_the_way_that_is_asked_for() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = broker(&issuer, &sts).await;
    let include = |mode: &str, more: &str| {
        format!(
            "  - local: templates/claimbound.yml\n    inputs: {{ mode: {mode}, job-name: .{mode}, role: search-$WHAT{more} }}\n"
        )
    };
    let job = |mode: &str, script: &str| {
        format!(
            "{mode}:\n  extends: .{mode}\n  variables: {{ CLAIMBOUND_TOKEN: $TOKEN_{mode} }}\n  script: '{script}'\n"
        )
    };
    let pipeline = [
        "include:\n",
        &include("file", ", duration: 5m"),
        &include("env", ", variable: INDEX_JWT, binary: bin/tool"),
        &include("none", ""),
        &job("file", r#"cp "$CLAIMBOUND_CREDENTIAL_FILE" "$PROOF/file""#),
        &job("env", r#"sh -c "printf %s \"\$INDEX_JWT\"" > "$PROOF/env""#),
        // As with CI_DEBUG_TRACE.
        "  before_script: [set -x, !reference [.env, before_script]]\n",
        &job("none", r#"claimbound exec -- sh -c "printf %s \"\$CLAIMBOUND_JWT\"" > "$PROOF/none""#),
    ]
    .concat();
    let gitlab = Gitlab::new(&[("claimbound", Path::new(BINARY))]);
    fs::create_dir(gitlab.work().join("bin")).unwrap();
    std::os::unix::fs::symlink(BINARY, gitlab.work().join("bin/tool")).unwrap();
    project(&gitlab, &pipeline);
    let proof = tempfile::tempdir().unwrap();
    let [file, env, none] = std::array::from_fn(|_| issuer.job().token(broker.audience()));
    let variables = [
        ("TOKEN_file", &*file),
        ("TOKEN_env", &env),
        ("TOKEN_none", &none),
        ("CLAIMBOUND_URL", broker.audience()),
        ("WHAT", "index"),
        ("PROOF", proof.path().to_str().unwrap()),
    ];
    let exit = gitlab.run("file env none", &variables).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    for mode in ["file", "env", "none"] {
        let token = fs::read_to_string(proof.path().join(mode)).unwrap();
        let claims = jwt::claims_of(&token);
        assert_eq!((&claims["role"], &claims["aud"]), (&json!("search-index"), &json!("https://index.acme.example")));
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, if mode == "file" { 300 } else { 900 });
        assert!(!log(&exit).contains(&token), "{}", log(&exit));
    }
    for token in [&file, &env, &none] {
        assert!(!log(&exit).contains(token.as_str()), "{}", log(&exit));
    }
    assert!(said(&exit, "env").contains("+ sh -c"), "the script is traced: {}", log(&exit));
    assert_eq!(records::of_kind(&broker, "family_ended").len(), 3, "{}", log(&exit));
}

/// What stands on the machine before the job does.
fn taken() -> TempDir {
    let taken = tempfile::tempdir().unwrap();
    fs::write(taken.path().join("mine"), "").unwrap();
    taken
}

#[tokio::test]
async fn a_job_without_a_credential_fails_before_its_script_with_the_reason() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = broker(&issuer, &sts).await;
    let (url, asked) = download(PROGRAM).await;
    let (taken, proof) = (taken(), tempfile::tempdir().unwrap());
    let taken = taken.path().to_str().unwrap();
    let wrong = "0".repeat(64);
    let got =
        |more: &str| format!("binary: no-such-program, sha256-x86-64: \"{wrong}\", sha256-aarch64: \"{wrong}\"{more}");
    let nowhere = format!(", download-url: \"{}/none\"", unused());
    // Of each: its inputs, the token's variable, exit code, and what it says.
    let jobs = [
        ("refused", "role: payments-deploy", "FEATURE", 3, "branch: expected `main`, got `feature`"),
        ("unfit", "role: search-index", "MAIN", 2, "gives a JWT"),
        (
            "digest",
            &got(&format!(", download-url: \"{url}/$arch\"")),
            "NONE",
            2,
            "is not the program that the job names",
        ),
        ("away", &got(&nowhere), "NONE", 4, "cannot be downloaded"),
        ("unknown", "binary: \"\"", "NONE", 2, "give it by the input `sha256-"),
        ("token", "role: search-index", "", 2, "This job has no CLAIMBOUND_TOKEN. Let it extend `.token`"),
        ("taken", "state-dir: $TAKEN", "NONE", 2, "is there already, or cannot be made"),
        ("word", "role: search-$HOSTILE", "NONE", 2, "holds more than letters, digits and"),
    ];
    let mut pipeline = "include:\n".to_owned();
    for (name, inputs, ..) in &jobs {
        pipeline += &format!("  - local: templates/claimbound.yml\n    inputs: {{ job-name: .{name}, {inputs} }}\n");
    }
    for (name, _, token, ..) in &jobs {
        pipeline += &format!("{name}:\n  extends: .{name}\n  script: touch \"$PROOF/{name}\"\n");
        if !token.is_empty() {
            pipeline += &format!("  variables: {{ CLAIMBOUND_TOKEN: $TOKEN_{token} }}\n");
        }
    }
    let gitlab = Gitlab::new(&[("claimbound", Path::new(BINARY))]);
    project(&gitlab, &pipeline);
    let feature = issuer.job().environment("staging").branch("feature").token(broker.audience());
    let main = issuer.job().token(broker.audience());
    let variables = [
        ("TOKEN_FEATURE", &*feature),
        ("TOKEN_MAIN", &main),
        ("TOKEN_NONE", "a.b.c"),
        ("CLAIMBOUND_URL", broker.audience()),
        ("TAKEN", taken),
        ("HOSTILE", "$(touch $PROOF/word)"),
        ("PROOF", proof.path().to_str().unwrap()),
    ];
    let names: Vec<&str> = jobs.iter().map(|(name, ..)| *name).collect();
    let exit = gitlab.run(&names.join(" "), &variables).await;
    assert_eq!(exit.code, Some(1), "{}", log(&exit));
    for (name, _, _, code, part) in &jobs {
        let said = said(&exit, name);
        assert!(said.contains(part), "{name}: no `{part}` in {}", log(&exit));
        assert!(said.contains(&format!("FAIL {code} ")), "{name}: {said}");
        assert!(!said.contains("WARN"), "`after_script` fails nothing: {said}");
    }
    assert_eq!(fs::read_dir(&proof).unwrap().count(), 0, "no script ran");
    assert!(Path::new(taken).join("mine").exists(), "what is not the job's own stays");
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert_eq!((records::of_kind(&broker, "granted").len(), records::of_kind(&broker, "refused").len()), (1, 1));
    for token in [&feature, &main] {
        assert!(!log(&exit).contains(token.as_str()), "{}", log(&exit));
    }
}

/// A URL where nobody listens.
fn unused() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_end_that_fails_fails_no_job_and_leaves_no_file() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = broker(&issuer, &sts).await;
    let gitlab = Gitlab::new(&[]);
    gitlab.script(
        "claimbound",
        &format!("#!/bin/sh\n[ \"$1\" != logout ] || {{ echo away >&2; exit 4; }}\nexec {BINARY} \"$@\"\n"),
    );
    let proof = tempfile::tempdir().unwrap();
    let pipeline = "include: { local: templates/claimbound.yml, inputs: { role: search-index, mode: file } }\n\
        index: { extends: .claimbound, script: 'printf %s \"$CLAIMBOUND_STATE_DIR\" > \"$PROOF/state\"' }\n";
    project(&gitlab, pipeline);
    let token = issuer.job().token(broker.audience());
    let proof_path = proof.path().to_str().unwrap();
    let variables = [("CLAIMBOUND_TOKEN", &*token), ("CLAIMBOUND_URL", broker.audience()), ("PROOF", proof_path)];
    let exit = gitlab.run("index", &variables).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("away") && !log(&exit).contains("WARN"), "{}", log(&exit));
    let state = fs::read_to_string(proof.path().join("state")).unwrap();
    assert!(state.starts_with("/tmp/claimbound-") && !Path::new(&state).exists(), "{state}");
}

#[tokio::test]
async fn a_release_s_component_knows_its_programs() {
    let files = tempfile::tempdir().unwrap();
    for arch in ["x86_64", "aarch64"] {
        fs::write(files.path().join(format!("claimbound-{arch}-unknown-linux-musl")), arch).unwrap();
    }
    let script = root().join("scripts/release-files");
    let action = format!("acme/claimbound/action@{}", "0".repeat(40));
    for wrong in [["9.9.9", ".", action.as_str()], [VERSION, ".", "acme/claimbound/action@v1"]] {
        assert_eq!(command::run(&script, files.path(), &wrong).await.code, Some(1), "another version, or a tag");
    }
    let exit = command::run(&script, files.path(), &[VERSION, ".", &action]).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(exit.stdout.contains(&format!("\n    uses: {action} # v{VERSION}\n")), "{}", exit.stdout);
    let component = fs::read_to_string(files.path().join("claimbound.yml")).unwrap();
    for arch in ["x86_64", "aarch64"] {
        let (_, input) = component.split_once(&format!("sha256-{}:", arch.replace('_', "-"))).unwrap();
        assert!(input.lines().nth(2).unwrap().ends_with(&format!("\"{}\"", hex(arch.as_bytes()))), "{input}");
    }
    let checked = command::run(Path::new("sha256sum"), files.path(), &["--check", "SHA256SUMS"]).await;
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(0), 4), "{}", log(&checked));
}

/// The inputs that the file declares, each with its lines.
fn inputs(template: &str) -> Vec<(String, String)> {
    let (head, _) = template.split_once("\n---\n").unwrap();
    let (_, declared) = head.split_once("\n  inputs:\n").unwrap();
    let mut inputs: Vec<(String, String)> = Vec::new();
    for line in declared.lines() {
        match line.strip_prefix("    ").filter(|rest| !rest.starts_with(' ')) {
            Some(name) => inputs.push((name.trim_end_matches(':').to_owned(), String::new())),
            None => inputs.last_mut().unwrap().1.push_str(line),
        }
    }
    inputs
}

#[test]
fn inputs_are_described_limited_used_and_documented() {
    let template = fs::read_to_string(root().join(TEMPLATE)).unwrap();
    let page = fs::read_to_string(root().join("docs/gitlab.md")).unwrap();
    let inputs = inputs(&template);
    assert!(inputs.len() > 10, "{inputs:?}");
    for (name, declared) in &inputs {
        assert!(declared.contains("description: "), "{name} has no description");
        assert!(declared.contains("regex: '^") || declared.contains("options: ["), "{name} takes anything");
        assert!(template.contains(&format!("$[[ inputs.{name} ]]")), "{name} does nothing");
        assert!(page.contains(&format!("`{name}`")), "docs/gitlab.md has no `{name}`");
    }
    let version = inputs.iter().find(|(name, _)| name == "version").unwrap();
    assert!(version.1.contains(&format!("default: \"{VERSION}\"")), "{version:?}");
}
