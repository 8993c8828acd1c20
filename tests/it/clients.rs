//! The command line as a job's client, against a broker that runs: each command's good way, each way that ends without a
//! credential, and that no secret gets where it does not belong.

use crate::{BINARY, aws, records};
use claimbound_test_support::{
    broker::Broker,
    canary,
    command::{self, Exit, finish, signal},
    config::BrokerConfig,
    issuer::{Issuer, TokenRequest},
    jwt,
    sts::Sts,
    time::eventually,
    trap::Trap,
};
use futures_util::future::join_all;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

pub const RELEASE: &str = "payments-release";
pub const DEPLOY: &str = "payments-deploy";
pub const COMES: Duration = Duration::from_secs(60);

/// A job's machine.
pub struct Machine {
    home: TempDir,
    pub request: Option<TokenRequest>,
    url: String,
}

impl Machine {
    pub fn new(url: &str, request: TokenRequest) -> Self {
        Self { home: tempfile::tempdir().unwrap(), request: Some(request), url: url.to_owned() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// As a step of the job runs it.
    pub fn prepared(&self, program: &Path, words: &[&str]) -> Command {
        let mut prepared = command::command(program, self.home.path());
        prepared.args(words).env("CLAIMBOUND_URL", &self.url).env("CLAIMBOUND_STATE_DIR", self.path("state"));
        if let Some(request) = &self.request {
            prepared.env("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url);
            prepared.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer);
        }
        prepared
    }

    pub async fn run(&self, words: &[&str]) -> Exit {
        finish(&mut self.prepared(Path::new(BINARY), words)).await
    }

    pub async fn shell(&self, script: &str) -> Exit {
        finish(self.prepared(Path::new("sh"), &["-ec", script]).env("CLI", BINARY)).await
    }

    /// Every file that is left; each is for this user alone.
    pub fn files(&self) -> Vec<PathBuf> {
        let Ok(listed) = fs::read_dir(self.path("state")) else { return Vec::new() };
        let files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
        for path in &files {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
        files
    }
}

pub fn releasing(issuer: &Issuer) -> TokenRequest {
    issuer.run(&issuer.job().branch("main").environment("production"))
}

pub fn deploying(issuer: &Issuer) -> TokenRequest {
    issuer.run(&issuer.job().environment("staging"))
}

pub fn ended(exit: &Exit, code: i32, parts: &[&str]) {
    assert_eq!(exit.code, Some(code), "{}{}", exit.stdout, exit.stderr);
    for part in parts {
        assert!(exit.stderr.contains(part), "no `{part}` in {}", exit.stderr);
    }
}

#[tokio::test]
async fn a_shell_logs_in_with_a_profile_and_out_again() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let script = format!(
        "out=\"$(\"$CLI\" login --role {DEPLOY} --duration 20m)\"; eval \"$out\"; echo \"$out\" >&2; echo $AWS_PROFILE $AWS_REGION; \
         stat -c %a \"$AWS_SHARED_CREDENTIALS_FILE\"; cat \"$AWS_SHARED_CREDENTIALS_FILE\""
    );
    let exit = machine.shell(&script).await;
    ended(&exit, 0, &["This job has payments-deploy by payments-deploys until ", "Lease "]);
    let lines: Vec<&str> = exit.stdout.lines().collect();
    assert_eq!(lines[..3], ["payments-deploy eu-west-1", "600", "[payments-deploy]"], "{}", exit.stdout);
    let secret = lines.iter().find_map(|line| line.strip_prefix("aws_secret_access_key = ")).unwrap();
    assert!(!exit.stderr.contains(secret), "what a shell evaluates holds no secret: {}", exit.stderr);
    let [granted] = records::of_kind(&broker, "granted").try_into().unwrap();
    assert_eq!(machine.files().len(), 2);
    let exit = machine.run(&["logout"]).await;
    ended(&exit, 0, &["is ended"]);
    assert_eq!(records::of_kind(&broker, "ended")[0]["lease"], granted["lease"]);
    assert!(!machine.path("state").exists(), "nothing is left");
    ended(&machine.run(&["logout"]).await, 0, &[]);
    canary::assert_absent(broker.directory(), &[secret, &issuer.given()[0]]);
}

#[tokio::test]
async fn each_mode_gives_the_credential_where_it_says_and_nowhere_else() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    let exit = machine.run(&["login", "--role", RELEASE, "--mode", "output"]).await;
    ended(&exit, 0, &[]);
    assert_eq!(jwt::claims_of(exit.stdout.trim())["role"], RELEASE);
    let script = "eval \"$(\"$CLI\" login --mode env --variable VAULT_JWT --output vars)\"; sh -c 'printf %s \"$VAULT_JWT\"'; \
                  stat -c %a vars >&2";
    let exit = machine.shell(script).await;
    ended(&exit, 0, &["600"]);
    assert_eq!(jwt::claims_of(&exit.stdout)["role"], RELEASE, "a role that is the only one needs no name");
    let exit = machine.shell("eval \"$(\"$CLI\" login)\"; cat \"$CLAIMBOUND_CREDENTIAL_FILE\"").await;
    assert_eq!(jwt::claims_of(&exit.stdout)["role"], RELEASE, "{}", exit.stderr);
    let exit = machine.run(&["login", "--mode", "profile"]).await;
    ended(&exit, 2, &["gives a JWT, which no profile carries", "The lease is ended"]);
    let exit = machine.run(&["credential-process", "--role", RELEASE]).await;
    ended(
        &exit,
        2,
        &["gives a JWT, and `credential-process` is for AWS keys. Use `claimbound exec`, or `claimbound login"],
    );
    let given = issuer.given().len();
    for (output, why) in [("none/jwt", "there is no such directory"), (".", "it is a directory")] {
        let exit = machine.run(&["login", "--mode", "file", "--output", output]).await;
        ended(&exit, 2, &[&format!("`--output {output}` can be no file: {why}")]);
    }
    assert_eq!(issuer.given().len(), given, "it was looked at before a token was asked for");

    // In GitHub Actions: masked before it could be printed, and set for the next steps.
    let step = async |words: &[&str], more: &[(&str, &str)]| {
        let mut step = machine.prepared(Path::new(BINARY), words);
        step.env("GITHUB_ACTIONS", "true")
            .env("GITHUB_ENV", machine.path("env"))
            .env("GITHUB_OUTPUT", machine.path("outputs"));
        finish(step.envs(more.iter().copied())).await
    };
    let exit = step(&["login", "--mode", "env"], &[("CLAIMBOUND_DURATION", ""), ("CLAIMBOUND_CA_FILE", "")]).await;
    let given = issuer.given().pop().unwrap();
    ended(&exit, 0, &[]);
    assert_eq!(exit.stdout, "");
    let kept = |kind: &str| {
        let files = machine.files().into_iter();
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(kind)).count()
    };
    let leases = kept("lease-");
    let lost = step(&["login"], &[("GITHUB_ENV", "/nowhere/env")]).await;
    ended(&lost, 2, &["cannot write `/nowhere/env`", "The lease is ended"]);
    assert_eq!((kept("lease-"), kept("credential-")), (leases, 0), "what could not be given on is not left, either");
    let set = fs::read_to_string(machine.path("env")).unwrap();
    let token = set.lines().nth(1).unwrap().to_owned();
    assert!(set.starts_with("CLAIMBOUND_JWT<<") && jwt::claims_of(&token)["role"] == RELEASE, "{set}");
    for secret in [&given, &token] {
        assert!(exit.stderr.contains(&format!("::add-mask::{secret}\n")), "{}", exit.stderr);
    }
    assert!(fs::read_to_string(machine.path("outputs")).unwrap().contains("lease-id<<"));
    fs::write(machine.path("env"), "").unwrap();
    let exit = step(&["logout"], &[("CLAIMBOUND_JWT", &token)]).await;
    ended(&exit, 0, &["is ended"]);
    assert!(fs::read_to_string(machine.path("env")).unwrap().contains("CLAIMBOUND_JWT<<"), "it is emptied");
    assert_eq!(records::of_kind(&broker, "ended").len(), 7);
    assert!(!machine.path("vars").exists() && machine.files().is_empty());
}

#[tokio::test]
async fn a_command_gets_a_credential_for_its_life_and_keeps_its_exit_code_and_signals() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    let exec = ["exec", "--role", RELEASE, "--", "sh", "-c"];
    let script = "printf %s \"$CLAIMBOUND_JWT\" > held; echo \"out ${CLAIMBOUND_TOKEN-none}\"; exit 7";
    let exit = machine.run(&[&exec[..], &[script]].concat()).await;
    ended(&exit, 7, &["payments-release by payments-production until "]);
    assert_eq!(exit.stdout, "out none\n");
    let held = fs::read_to_string(machine.path("held")).unwrap();
    assert_eq!(jwt::claims_of(&held)["role"], RELEASE);
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
    assert!(!exit.stderr.contains(&held) && machine.files().is_empty());
    assert_eq!(machine.run(&[&exec[..], &["kill -KILL $$"]].concat()).await.code, Some(137));

    let script = "trap 'exit 9' TERM; : > up; while :; do sleep 0.05; done";
    let mut child = machine.prepared(Path::new(BINARY), &[&exec[..], &[script]].concat()).spawn().unwrap();
    eventually(COMES, async || machine.path("up").exists().then_some(())).await;
    signal(&child, "TERM").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(9));
    assert_eq!(records::of_kind(&broker, "ended").len(), 3);

    let before = issuer.given().len();
    ended(
        &machine.run(&["exec", "--role", RELEASE, "--", "no-such-program"]).await,
        2,
        &["no program `no-such-program`"],
    );
    assert_eq!(issuer.given().len(), before, "it was looked for before a token was asked for");
}

#[tokio::test]
async fn a_refusal_is_one_request_told_condition_by_condition() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&issuer.job().branch("feature").environment("production"));
    let mut machine = Machine::new(broker.audience(), request);
    let exit = machine.run(&["login", "--role", RELEASE]).await;
    let parts = [
        "The broker refused `payments-release`: ",
        "Reason: no_mapping, decision ",
        "Nearest mapping: `payments-production` (role `payments-release`)",
        "  branch: expected `main`, got `feature`",
        "Ask: payments-oncall@acme.example",
    ];
    ended(&exit, 3, &parts);
    assert_eq!((exit.stdout.as_str(), issuer.given().len()), ("", 1));
    assert_eq!(records::of_kind(&broker, "refused").len(), 1);

    // A token that somebody else wrote: by variable or file, never both, and what is wrong with it is said.
    machine.request = None;
    ended(&machine.run(&["login"]).await, 2, &["There is no token of this job", "`--token-file`"]);
    let job = issuer.job().branch("main").environment("production");
    let mut given = machine.prepared(Path::new(BINARY), &["login", "--mode", "output"]);
    ended(&finish(given.env("CLAIMBOUND_TOKEN", job.token(broker.audience()))).await, 0, &[]);
    ended(&finish(given.env("CLAIMBOUND_TOKEN_FILE", "/nowhere")).await, 2, &["both set"]);
    fs::write(machine.path("token"), job.token("https://other.example")).unwrap();
    let exit = machine.run(&["login", "--token-file", "token"]).await;
    ended(
        &exit,
        3,
        &["token_not_accepted", "The job's token is for `https://other.example`, and this broker is `http://127."],
    );
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_until_the_deadline() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    broker.kill9().await;
    let exit = machine.run(&["login", "--timeout", "1s"]).await;
    ended(&exit, 4, &["cannot be reached", "Given up after "]);
    assert!(issuer.given().is_empty(), "no token for a broker that nobody has seen");
    // What is wrong with this job is said before anybody is asked.
    for flag in ["--token-file", "--actor-token-file"] {
        let exit = machine.run(&["login", flag, "none"]).await;
        ended(&exit, 2, &[&format!("`{flag}`: cannot read `none`")]);
    }
    fs::write(machine.path("none"), "no token").unwrap();
    let mut login = machine.prepared(Path::new(BINARY), &["exec", "--", "true"]);
    let exit = finish(login.env("CLAIMBOUND_TOKEN_FILE", "none")).await;
    ended(&exit, 2, &["`CLAIMBOUND_TOKEN_FILE`: `none` holds no JWT"]);
    let mut login = machine.prepared(Path::new(BINARY), &["login"]);
    let (exit, ()) = tokio::join!(finish(&mut login), broker.restart());
    ended(&exit, 0, &["This job has payments-release"]);
    // A job's end does not fail for a broker that is away, and can be tried again.
    ended(&machine.run(&["exec", "--", "true"]).await, 0, &[]);
    ended(&machine.run(&["login", "--mode", "output"]).await, 0, &[]);
    broker.kill9().await;
    let out = ["logout", "--timeout", "1s"];
    let exit = machine.run(&out).await;
    ended(&exit, 0, &["warning: Lease ", " was not ended at the broker and runs out by itself at 20", "a moment ago"]);
    assert!(machine.files().iter().all(|path| path.file_name().unwrap().to_string_lossy().starts_with("lease-")));
    ended(&machine.run(&[&out[..], &["--strict"]].concat()).await, 4, &["error: Lease "]);
    broker.restart().await;
    ended(&machine.run(&[&out[..], &["--strict"]].concat()).await, 0, &["is ended"]);
    assert!(!machine.path("state").exists());
    assert_eq!(records::of_kind(&broker, "ended").len(), 3);
}

/// Answers every request with this.
pub async fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn another_broker_gets_no_token() {
    let (issuer, trap) = (Issuer::github(), Trap::new());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let mut machine = Machine::new(&broker.audience().replace("127.0.0.1", "localhost"), releasing(&issuer));
    let exit = machine.run(&["login", "--role", RELEASE]).await;
    ended(
        &exit,
        2,
        &["says that it is another one, so no token was requested", "audience: expected http://localhost:"],
    );
    let exit = machine.run(&["login", "--role", RELEASE, "--url", &format!("{}/", broker.audience())]).await;
    ended(&exit, 2, &["ends in a slash"]);
    machine.url =
        answering(format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", trap.url())).await;
    for command in [&["login"][..], &["exec", "--", "true"], &["credential-process"]] {
        ended(&machine.run(command).await, 2, &["redirects are not followed"]);
    }
    machine.url = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_owned()).await;
    ended(&machine.run(&["login"]).await, 2, &["No claimbound broker answers at"]);
    assert!(issuer.given().is_empty());
    machine.url = broker.audience().replace("127.0.0.1", "localhost");
    let mut login = machine.prepared(Path::new(BINARY), &["login", "--role", RELEASE]);
    ended(&finish(login.env("CLAIMBOUND_AUDIENCE", broker.audience())).await, 0, &["This job has payments-release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_processes_that_ask_at_once_are_one_exchange() {
    let processes = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { 200 } else { 20 };
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let mut broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let words = ["credential-process", "--role", DEPLOY];
    let said = join_all((0..processes).map(|_| machine.run(&words))).await;
    for exit in &said {
        ended(exit, 0, &[]);
        assert_eq!(exit.stdout, said[0].stdout);
        assert_eq!(exit.stderr, "", "clients may log it");
    }
    assert_eq!((sts.calls(), issuer.given().len()), (1, 1));
    let keys: Value = serde_json::from_str(&said[0].stdout).unwrap();
    assert_eq!((&keys["Version"], &keys["AccountId"]), (&Value::from(1), &Value::from("111122223333")));
    assert!(keys["Expiration"].as_str().unwrap().ends_with('Z') && keys["SessionToken"].is_string(), "{keys}");
    // Another account is not what was expected; from the cache as little as from the broker.
    let other = [&words[..], &["--allowed-account-ids", "444455556666"]].concat();
    ended(&machine.run(&other).await, 2, &["belongs to AWS account 111122223333"]);
    broker.kill9().await;
    assert_eq!(machine.run(&words).await.stdout, said[0].stdout, "the cache needs no broker");
    // Keys that are nearly dead are given by no cache; those that are good for some minutes where the broker is away.
    let cache =
        machine.files().into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("cache-"));
    let (cache, now) = (cache.unwrap(), std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let mut kept: Value = serde_json::from_slice(&fs::read(&cache).unwrap()).unwrap();
    let again = [&words[..], &["--timeout", "1s"]].concat();
    // Due long since.
    kept["at"] = 0.into();
    for (left, code, told) in [(60, 4, "cannot be reached"), (400, 0, "good for some minutes more")] {
        kept["expires"] = (now + left).into();
        fs::write(&cache, kept.to_string()).unwrap();
        let exit = machine.run(&again).await;
        ended(&exit, code, &[told]);
        assert_eq!(exit.stdout.is_empty(), code != 0);
    }
    // One has tried to renew them: the others do not even ask.
    for exit in join_all((0..processes).map(|_| machine.run(&words))).await {
        assert_eq!((exit.code, exit.stdout == said[0].stdout, exit.stderr.as_str()), (Some(0), true, ""));
    }
    // Nobody waits for the one that tries, as long as what is kept is good.
    fs::write(&cache, kept.to_string()).unwrap();
    let lock =
        machine.files().into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("lock-"));
    let lock = fs::File::open(lock.unwrap()).unwrap();
    lock.lock().unwrap();
    let exit = machine.run(&words).await;
    assert_eq!((exit.code, exit.stdout == said[0].stdout, exit.stderr.as_str()), (Some(0), true, ""));
    drop(lock);
    broker.restart().await;
    let renewed = machine.run(&words).await;
    ended(&renewed, 0, &[]);
    assert_ne!(renewed.stdout, said[0].stdout);
    ended(&machine.run(&["logout"]).await, 0, &["is ended"]);
    assert!(machine.files().is_empty());
}
