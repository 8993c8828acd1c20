//! `claimbound dev` and `claimbound demo`: what a person meets who has a laptop and nothing else.

use crate::BINARY;
use claimbound_test_support::{
    broker::{ID_TOKEN, TOKEN_EXCHANGE},
    command::{self, Exit},
    http::{self, Answer},
    jwt,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

/// `dev` must have said what to try, and must have ended, within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// The last line of what `dev` prints.
const LAST_LINE: &str = "Stop with Ctrl-C.";
const ROLE: &str = "payments-deploy.production";

/// A running `claimbound dev`; killed when it is dropped.
struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    printed: String,
}

impl Dev {
    /// Starts it in the directory's `my dev`, on ports that the system chooses, and reads what it prints.
    async fn start(home: &Path) -> Self {
        let log = File::options().create(true).append(true).open(home.join("stderr.log")).unwrap();
        let mut child = command::command(Path::new(BINARY), home)
            .args(["dev", "--dir", "my dev", "--issuer-listen", "127.0.0.1:0"])
            .args(["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut dev =
            Self { lines: BufReader::new(child.stdout.take().unwrap()).lines(), child, printed: String::new() };
        let told = timeout(PATIENCE, async {
            while let Some(line) = dev.lines.next_line().await.unwrap() {
                dev.printed.push_str(&line);
                dev.printed.push('\n');
                if line == LAST_LINE {
                    return true;
                }
            }
            false
        });
        let told = told.await.unwrap_or(false);
        assert!(told, "{}\n{}", dev.printed, fs::read_to_string(home.join("stderr.log")).unwrap());
        dev
    }

    /// The first word that begins so.
    fn word(&self, prefix: &str) -> &str {
        let word = self.printed.split_whitespace().find(|word| word.starts_with(prefix));
        word.unwrap_or_else(|| panic!("no `{prefix}…` in {}", self.printed))
    }

    /// The broker's URL, as the printed request has it.
    fn url(&self) -> &str {
        let endpoint = self.printed.split_whitespace().find(|word| word.ends_with("/token")).unwrap();
        endpoint.strip_suffix("/token").unwrap()
    }

    /// The printed commands between two printed sentences, with the built program as `claimbound`.
    fn script(&self, from: &str, to: &str) -> String {
        let (_, rest) = self.printed.split_once(from).unwrap_or_else(|| panic!("no `{from}` in {}", self.printed));
        let (script, _) = rest.split_once(to).unwrap_or_else(|| panic!("no `{to}` in {}", self.printed));
        format!("claimbound() {{ '{BINARY}' \"$@\"; }}\n{script}")
    }

    async fn stop(mut self) -> Option<i32> {
        command::signal(&self.child, "TERM").await;
        let mut rest = String::new();
        let ended = async {
            self.lines.into_inner().read_to_string(&mut rest).await.unwrap();
            self.child.wait().await.unwrap()
        };
        timeout(PATIENCE, ended).await.expect("it stops when told to").code()
    }
}

async fn shell(home: &Path, script: &str) -> Exit {
    command::run(Path::new("sh"), home, &["-ec", script]).await
}

async fn claimbound(home: &Path, arguments: &[&str]) -> Exit {
    let exit = command::run(Path::new(BINARY), home, arguments).await;
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}{}", exit.stdout, exit.stderr);
    exit
}

async fn exchange(url: &str, token: &str, role: &str) -> Answer {
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", token.trim()),
        ("subject_token_type", ID_TOKEN),
        ("audience", role),
    ];
    http::post_form(&format!("{url}/token"), &form).await
}

#[tokio::test]
async fn dev_prints_commands_that_work() {
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::start(home.path()).await;
    let shown = shell(home.path(), &dev.script("and what it says:\n", "\nExchange one")).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let claims: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&claims["aud"], &claims["environment"]), (&json!(dev.url()), &json!("production")));

    // The exchange too, whatever `curl` is here: its arguments are what it would send.
    let script = dev.script("(leave `--claims` out):\n", "\nSend it again");
    let sent = shell(home.path(), &format!("curl() {{ printf '%s\\n' \"$@\"; }}\n{script}")).await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    let words: Vec<_> = sent.stdout.lines().collect();
    let form: Vec<_> = words.windows(2).filter(|pair| pair[0] == "-d").map(|pair| pair[1]).collect();
    let form: Vec<_> = form.iter().map(|field| field.split_once('=').unwrap()).collect();
    assert_eq!((words[0], form.len()), ("-s", 4), "{}", sent.stdout);
    let granted = http::post_form(words[1], &form).await;
    assert_eq!((granted.status, &granted.body["role"]), (200, &json!(ROLE)), "{}", granted.text);
    let again = http::post_form(words[1], &form).await;
    assert_eq!(again.body["reason"], "replay", "a token is good for one answer: {}", again.text);

    let mut feature = vec!["dev", "token", "--dir", "my dev", "--audience", dev.url(), "--branch", "feature"];
    feature.extend(["--repository", "acme/payments-api", "--environment", "production"]);
    feature.extend(["--job-workflow", "acme/ci/.github/workflows/deploy.yml@refs/heads/main"]);
    let token = claimbound(home.path(), &feature).await.stdout;
    let refused = exchange(dev.url(), &token, ROLE).await;
    assert_eq!(refused.body["nearest"]["conditions"][0]["claim"], "branch", "{}", refused.text);
    let checked = shell(home.path(), &dev.script("edit in 'my dev/mappings'; `", "` judges them")).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    assert_eq!(dev.stop().await, Some(0));
}

/// Jobs that ask a runner for their token, as `actions/core` does, ask the same here.
#[tokio::test]
async fn dev_plays_the_runner_s_side_of_github() {
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::start(home.path()).await;
    let url = dev.word("ACTIONS_ID_TOKEN_REQUEST_URL='").split('\'').nth(1).unwrap();
    let (_, file) = dev.printed.split_once("ACTIONS_ID_TOKEN_REQUEST_TOKEN from ").unwrap();
    let file = shell(home.path(), &format!("cat {}", file.lines().next().unwrap())).await;
    assert_eq!(file.code, Some(0), "{}", file.stderr);
    let bearer = format!("bearer {}", file.stdout.trim());
    let asked = format!("{url}&environment=staging&audience={}", dev.url());
    let given = http::send(http::client().get(&asked).header("authorization", bearer)).await.unwrap();
    assert_eq!(given.status, 200, "{}", given.text);
    let granted = exchange(dev.url(), given.text_of("value"), "payments-secrets").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let bare = http::get(&asked).await;
    assert_eq!(bare.status, 401, "{}", bare.text);
    assert_eq!(dev.stop().await, Some(0));
}

#[tokio::test]
async fn a_second_dev_goes_on_with_the_directory_of_the_first() {
    let home = tempfile::tempdir().unwrap();
    let team = home.path().join("my dev/mappings/teams/payments/deploy.toml");
    let config = home.path().join("my dev/claimbound.toml");
    let first = Dev::start(home.path()).await;
    let url = first.url().to_owned();
    let arguments = ["dev", "token", "--dir", "my dev", "--audience", &url, "--environment", "staging"];
    let token = async || {
        let arguments = [&arguments[..], &["--repository", "acme/payments-api"]].concat();
        claimbound(home.path(), &arguments).await.stdout
    };
    let spent = token().await;
    let granted = exchange(&url, &spent, "payments-secrets").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(first.stop().await, Some(0));

    let edited = fs::read_to_string(&team).unwrap().replace("environment = \"staging\"", "environment = \"qa\"");
    fs::write(&team, &edited).unwrap();
    // The sample's own tests would rightly fail now, and with them the start.
    fs::write(&team, edited.split("[[test]]").next().unwrap()).unwrap();
    let written = fs::read_to_string(&config).unwrap();

    let second = Dev::start(home.path()).await;
    assert_eq!(second.url(), url, "the broker keeps its port: its URL is its issuer name");
    assert_eq!(fs::read_to_string(&config).unwrap(), written);
    let again = exchange(&url, &spent, "payments-secrets").await;
    assert_eq!(again.status, 400, "{}", again.text);
    let refused = exchange(&url, &token().await, "payments-secrets").await;
    assert_eq!(refused.body["nearest"]["conditions"][0]["expected"], "`qa`", "the edit counts: {}", refused.text);
    let store = format!("sqlite:{}", home.path().join("my dev/claimbound.db").display());
    claimbound(home.path(), &["audit", "verify", "--store", &store]).await;
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test]
async fn gitlab_jobs_are_minted_exchanged_and_explained() {
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::start(home.path()).await;
    let mint = async |more: &[&str]| {
        let job = ["dev", "token", "--profile", "gitlab", "--repository", "search/indexer", "--event", "schedule"];
        let rest = ["--dir", "my dev", "--audience", dev.url()];
        claimbound(home.path(), &[&job[..], &rest[..], more].concat()).await.stdout
    };
    let explain = async |more: &[&str]| {
        let arguments = [&["explain", "--mappings", "my dev/mappings", "--role", "search-index"], more].concat();
        command::run(Path::new(BINARY), home.path(), &arguments).await
    };
    for (branch, status, code) in [("release/7", 200, 0), ("main", 400, 1)] {
        let answer = exchange(dev.url(), &mint(&["--branch", branch]).await, "search-index").await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let claims = mint(&["--branch", branch, "--claims"]).await;
        fs::write(home.path().join("claims.json"), &claims).unwrap();
        let by_claims = explain(&["--claims", "claims.json"]).await;
        let job = ["--issuer", "gitlab", "--repository", "search/indexer", "--branch", branch, "--event", "schedule"];
        let by_flags = explain(&[&job[..], &["--claim", "ref_protected=true"]].concat()).await;
        for exit in [&by_claims, &by_flags] {
            assert_eq!(exit.code, Some(code), "{branch}: {}{}", exit.stdout, exit.stderr);
            assert!(exit.stdout.contains("search-nightly"), "{}", exit.stdout);
        }
        if status == 200 {
            let header = jwt::header_of(answer.text_of("access_token"));
            assert_eq!(header["alg"], "RS256", "as the role asks");
            assert_eq!(jwt::claims_of(answer.text_of("access_token"))["sub"], "role:search-index:gitlab:4711");
        } else {
            assert_eq!(answer.body["nearest"]["conditions"][0]["got"], "main", "{}", answer.text);
        }
    }
    let unprotected =
        exchange(dev.url(), &mint(&["--branch", "release/7", "--unprotected"]).await, "search-index").await;
    assert_eq!(unprotected.body["nearest"]["conditions"][0]["claim"], "ref_protected", "{}", unprotected.text);
    assert_eq!(dev.stop().await, Some(0));
}

#[tokio::test]
async fn dev_token_says_what_is_missing() {
    let home = tempfile::tempdir().unwrap();
    let token = ["dev", "token", "--repository", "acme/payments-api"];
    let exit = command::run(Path::new(BINARY), home.path(), &token).await;
    assert_eq!(exit.code, Some(2), "{}", exit.stdout);
    assert!(exit.stderr.contains("run `claimbound dev` first"), "{}", exit.stderr);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "asking for a token makes nothing");
}

/// The demo works in a folder of its own below `$TMPDIR`.
async fn demo(scratch: &TempDir, stdout: Stdio) -> Exit {
    let mut demo = command::command(Path::new(BINARY), scratch.path());
    let child = demo.arg("demo").env("TMPDIR", scratch.path()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the demo ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Exit { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[tokio::test]
async fn demo_goes_from_token_to_credential_and_verified_evidence() {
    let scratch = tempfile::tempdir().unwrap();
    let exit = demo(&scratch, Stdio::piped()).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    for part in ["repository", "acme/payments-api", "payments-deploy", "access_token", "…", "verified"] {
        assert!(exit.stdout.contains(part), "no `{part}` in\n{}", exit.stdout);
    }
    let tokens = exit.stdout.split_whitespace().filter(|word| word.matches('.').count() == 2 && word.len() > 200);
    assert_eq!(tokens.count(), 0, "no whole token is printed:\n{}", exit.stdout);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_demo_that_fails_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let exit = demo(&scratch, full.into()).await;
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("No space left") && !exit.stderr.contains("panicked"), "{}", exit.stderr);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
}
