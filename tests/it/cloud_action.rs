//! The companion action in real workflows: act runs them, the bench's issuer is GitHub, `serve` is the broker. Every text
//! that the action has for its users is seen here once; its parts are tested in `action/test`.

use crate::{BINARY, records};
use claimbound_test_support::{
    act::{Act, USES},
    broker::Broker,
    canary,
    command::{self, Exit},
    config::{BrokerConfig, RELEASE_AUDIENCE},
    issuer::{Issuer, TokenRequest},
    job::Job,
    jwt,
    trap::Trap,
};
use serde_json::{Value, json};
use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

fn act() -> Act {
    Act::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("action"))
}

/// A job with the login as its first step, and these steps behind it.
fn workflow(broker_url: &str, inputs: &str, steps: &str) -> String {
    format!(
        "on: [push, pull_request]\njobs:\n  deploy:\n    runs-on: ubuntu-24.04\n    steps:\n      - id: login\n        \
         uses: {USES}\n        with: {{ broker-url: \"{broker_url}\", {inputs} }}\n{steps}"
    )
}

/// Writes every output, and what the job's folders hold, where the test finds it.
const LOOK: &str = r#"
      - if: always()
        env: { OUTPUTS: "${{ toJSON(steps.login.outputs) }}" }
        run: |
          printf %s "$OUTPUTS" > "$PROOF/outputs.json"
          env | grep '^AWS_' | sort > "$PROOF/aws.env" || true
          cp -r "$GITHUB_WORKSPACE" "$PROOF/workspace"
"#;

fn outputs(act: &Act) -> Value {
    serde_json::from_str(&act.left("outputs.json")).unwrap()
}

fn log(exit: &Exit) -> String {
    format!("{}{}", exit.stdout, exit.stderr)
}

/// Nothing of these is in what act printed (step summaries included), in the workspace, or in a process's arguments.
fn assert_hidden(act: &Act, exit: &Exit, secrets: &[&str]) {
    for secret in secrets {
        assert!(!log(exit).contains(secret), "a secret is in the log:\n{}", log(exit));
        assert!(!act.arguments().contains(secret), "a secret is in the arguments");
    }
    assert!(act.arguments().contains("main.cjs"), "the arguments are seen at all: {}", act.arguments());
    canary::assert_absent(&act.proof().join("workspace"), secrets);
}

fn assert_failed(exit: &Exit, parts: &[&str]) {
    assert_eq!(exit.code, Some(1), "{}", log(exit));
    for part in parts {
        assert!(log(exit).contains(part), "no `{part}` in\n{}", log(exit));
    }
}

fn releasing(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production")
}

#[tokio::test]
async fn a_workflow_gets_a_jwt_and_the_post_step_ends_its_lease() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&releasing(&issuer));
    let use_it = r#"
      - env: { TOKEN: "${{ steps.login.outputs.token }}" }
        run: |
          printf %s "$TOKEN" > "$PROOF/token"
          echo "I have $TOKEN"
"#;
    let text = workflow(broker.audience(), "role: payments-release, mode: output, duration: 10m", use_it) + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));

    let token = act.left("token");
    let claims = jwt::claims_of(&token);
    assert_eq!((&claims["aud"], &claims["role"]), (&json!(RELEASE_AUDIENCE), &json!("payments-release")));
    let outputs = outputs(&act);
    assert_eq!((&outputs["available"], &outputs["reason"]), (&json!("true"), &json!("")));
    assert_eq!((&outputs["role"], &outputs["mapping"]), (&json!("payments-release"), &json!("payments-production")));
    assert_eq!(outputs["lease-id"], claims["lease_id"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);

    assert!(log(&exit).contains("is ended"), "{}", log(&exit));
    let decision = outputs["decision-id"].as_str().unwrap();
    let kinds: Vec<_> = records::of(&broker, decision).into_iter().map(|(body, _)| body["kind"].clone()).collect();
    assert!(kinds.contains(&json!("granted")), "{kinds:?}");
    let ended = records::of_kind(&broker, "ended");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0]["lease"], outputs["lease-id"], "{ended:?}");

    let given = issuer.given();
    assert_eq!(given.len(), 1);
    let signature = |jwt: &str| jwt.rsplit('.').next().unwrap().to_owned();
    let secrets = [&token, &given[0], &signature(&token), &signature(&given[0]), &request.bearer];
    assert_hidden(&act, &exit, &secrets.map(String::as_str));
}

#[tokio::test]
async fn a_refusal_is_one_request_told_condition_by_condition() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&issuer.job().branch("feature").environment("production"));
    let inputs = "role: payments-release, mode: output, on-unavailable: skip";
    let exit = act.run(&(workflow(broker.audience(), inputs, "") + LOOK), Some(&request)).await;
    assert_failed(
        &exit,
        &[
            "The broker refused `payments-release`: No mapping gives this role to this job",
            "Reason: no_mapping, decision ",
            "Nearest mapping: `payments-production` (role `payments-release`)",
            "branch: expected `main`, got `feature`",
            "Ask: payments-oncall@acme.example",
            "Summary - <h3>Claimbound: no credential</h3>",
            "<td>branch</td><td>`main`</td><td>got `feature`</td>",
        ],
    );
    assert_eq!(issuer.given().len(), 1, "a refusal is final");
    assert_eq!(records::of_kind(&broker, "refused").len(), 1);
    let outputs = outputs(&act);
    assert_eq!((&outputs["available"], &outputs["reason"]), (&json!("false"), &json!("no_mapping")));
    assert_hidden(&act, &exit, &[&issuer.given()[0]]);
}

#[tokio::test]
async fn a_dry_run_is_recorded_and_issues_nothing() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&releasing(&issuer));
    let text = workflow(broker.audience(), "role: payments-release, dry-run: true", "") + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("Dry run: this job would get payments-release by payments-production"));
    let outputs = outputs(&act);
    assert_eq!((&outputs["available"], &outputs["reason"]), (&json!("false"), &json!("dry_run")));
    assert_eq!(outputs.get("lease-id"), None, "{outputs}");
    records::the_one(&broker, outputs["decision-id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_jwt_that_was_not_asked_for_is_ended_at_once() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&releasing(&issuer));
    let exit = act.run(&(workflow(broker.audience(), "role: payments-release", "") + LOOK), Some(&request)).await;
    assert_failed(&exit, &["The role `payments-release` gives a JWT", "Set `mode: output`"]);
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
    assert_eq!(outputs(&act)["reason"], "mode_unfit");
}

#[tokio::test]
async fn without_permission_the_calling_job_is_named_and_nothing_is_sent() {
    let (act, trap) = (act(), Trap::new());
    let text = workflow(&trap.url(), "role: r, on-unavailable: skip", "");
    let exit = act.run(&text, None).await;
    assert_failed(&exit, &["The job `deploy` has no permission", "id-token: write", "the calling job in"]);
}

#[tokio::test]
async fn a_fork_s_pull_request_is_told_so_and_skipped_where_that_is_allowed() {
    let head = json!({ "ref": "feature", "repo": { "full_name": "mallory/payments-api" } });
    let payload = json!({ "pull_request": { "number": 7, "head": head, "base": { "ref": "main" } } });
    let (act, trap) = (act().event("pull_request", payload), Trap::new());
    let broker_url = trap.url();
    let exit = act.run(&workflow(&broker_url, "role: r", ""), None).await;
    assert_failed(&exit, &["This pull request comes from the fork `mallory/payments-api`", "on-unavailable: skip"]);
    let next = r#"
      - if: steps.login.outputs.available != 'true'
        run: echo went on without
"#;
    let exit = act.run(&(workflow(&broker_url, "role: r, on-unavailable: skip", next) + LOOK), None).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("went on without"), "{}", log(&exit));
    assert_eq!(outputs(&act)["reason"], "fork_pull_request");
}

#[tokio::test]
async fn a_broker_that_is_away_is_tried_until_the_deadline() {
    let (act, issuer) = (act(), Issuer::github());
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    broker.kill9().await;
    let request = issuer.run(&releasing(&issuer));
    let exit = act.run(&(workflow(broker.audience(), "role: r, timeout: 2s", "") + LOOK), Some(&request)).await;
    assert_failed(&exit, &["cannot be reached: the connection was refused (ECONNREFUSED)", "Given up after"]);
    assert_eq!(outputs(&act)["reason"], "broker_unreachable");
    // A port that takes connections and never answers, nor closes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let inputs = "role: r, timeout: 1s, on-unavailable: skip";
    let exit = act.run(&workflow(&url, inputs, ""), Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("cannot be reached: no answer within 1 s. Given up after 1 try"), "{}", log(&exit));
    assert_eq!(issuer.given().len(), 0, "no token was requested");
}

/// Attack 33: whoever answers at the URL, no token for another audience is ever asked for.
#[tokio::test]
async fn a_broker_of_another_name_gets_no_token() {
    let (act, issuer) = (act(), Issuer::github());
    let config = BrokerConfig::new(&issuer).server("public_url = \"https://claimbound.example.com\"");
    let broker = Broker::start(BINARY, config).await;
    let request = issuer.run(&releasing(&issuer));
    let exit = act.run(&(workflow(broker.url(), "role: payments-release", "") + LOOK), Some(&request)).await;
    assert_failed(
        &exit,
        &["audience: expected http://127.0.0.1:", "it says https://claimbound.example.com", "no token"],
    );
    assert_eq!(issuer.given().len(), 0);
    assert_eq!(outputs(&act)["reason"], "audience_mismatch");

    let inputs = "role: payments-release, mode: output, audience: \"https://claimbound.example.com\"";
    let exit = act.run(&workflow(broker.url(), inputs, ""), Some(&request)).await;
    assert_eq!(exit.code, Some(0), "its name, given, is enough: {}", log(&exit));
}

/// The stand-in of `tests/clients/aws-broker.mjs`.
struct AwsBroker {
    url: String,
    said: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl AwsBroker {
    async fn start(directory: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/aws-broker.mjs");
        let mut node = command::command(Path::new("node"), directory);
        let mut child = node.arg(script).stdout(Stdio::piped()).spawn().expect("Node starts");
        let mut said = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let url = said.next_line().await.unwrap().expect("it says where it is");
        Self { url, said, _child: child }
    }

    /// The next form that it got.
    async fn form(&mut self) -> Value {
        let line = timeout(Duration::from_secs(20), self.said.next_line()).await.expect("a form comes");
        serde_json::from_str(&line.unwrap().expect("the stand-in runs")).unwrap()
    }
}

const AWS_SECRETS: [&str; 4] = [
    "canary-lease-handle-0123456789",
    "ASIACANARYCANARY1234",
    "canary/secret+access/key=1234567890",
    "canary-session-token-canary-session-token",
];

/// The run of an AWS login, and the forms of its exchange and its revocation.
async fn aws(act: &Act, inputs: &str) -> (Exit, TokenRequest) {
    let issuer = Issuer::github();
    let mut broker = AwsBroker::start(act.directory()).await;
    let request = issuer.run(&releasing(&issuer));
    let show = "\n      - run: env && cat \"${AWS_SHARED_CREDENTIALS_FILE:-/dev/null}\"\n";
    let exit = act.run(&(workflow(&broker.url, inputs, show) + LOOK), Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    let exchange = broker.form().await;
    assert_eq!((&exchange["path"], &exchange["audience"]), (&json!("/token"), &json!("payments-deploy.production")));
    assert_eq!(exchange["subject_token"], issuer.given()[0]);
    assert_eq!(broker.form().await, json!({ "path": "/revoke", "token": AWS_SECRETS[0] }));
    (exit, request)
}

#[tokio::test]
async fn aws_keys_reach_the_next_steps_by_environment() {
    let act = act();
    let (exit, request) = aws(&act, "role: payments-deploy.production").await;
    assert_eq!(
        act.left("aws.env"),
        format!(
            "AWS_ACCESS_KEY_ID={}\nAWS_DEFAULT_REGION=eu-central-1\nAWS_REGION=eu-central-1\n\
             AWS_SECRET_ACCESS_KEY={}\nAWS_SESSION_TOKEN={}\n",
            AWS_SECRETS[1], AWS_SECRETS[2], AWS_SECRETS[3]
        )
    );
    assert_hidden(&act, &exit, &[&AWS_SECRETS[..], &[&request.bearer]].concat());
    assert!(log(&exit).contains("AWS_SECRET_ACCESS_KEY=***"), "the next step prints it masked: {}", log(&exit));
    assert!(log(&exit).contains("::set-env:: AWS_SECRET_ACCESS_KEY=\n"), "the post step takes it back: {}", log(&exit));
}

#[tokio::test]
async fn aws_keys_reach_the_next_steps_by_a_profile_that_goes_with_the_job() {
    let act = act();
    let (exit, _) = aws(&act, "role: payments-deploy.production, mode: profile").await;
    let set = act.left("aws.env");
    let file = set.lines().find_map(|line| line.strip_prefix("AWS_SHARED_CREDENTIALS_FILE=")).expect("it is set");
    assert!(set.contains("AWS_PROFILE=payments-deploy.production\n") && !set.contains("AWS_SECRET"), "{set}");
    assert!(!file.contains("hostexecutor"), "outside the workspace: {file}");
    assert!(!Path::new(file).exists(), "the post step removed it");
    assert_hidden(&act, &exit, &AWS_SECRETS);
}

/// Its placeholders filled in, and a look at the environment instead of the call to AWS.
#[tokio::test]
async fn the_example_for_aws_runs_as_it_stands() {
    let (act, issuer) = (act(), Issuer::github());
    let mut broker = AwsBroker::start(act.directory()).await;
    let request = issuer.run(&releasing(&issuer));
    let mut text = include_str!("../../examples/github-actions-aws.yml").to_owned();
    for (from, to) in [
        ("acme/claimbound/action@<sha>", USES),
        ("${{ vars.CLAIMBOUND_URL }}", &broker.url),
        ("aws sts get-caller-identity", "test \"$AWS_ACCESS_KEY_ID\" && echo it has keys"),
    ] {
        assert!(text.contains(from), "the example holds `{from}`");
        text = text.replace(from, to);
    }
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("it has keys"), "{}", log(&exit));
    assert_eq!(broker.form().await["requested_expires_in"], "900");
    assert_eq!(broker.form().await["path"], "/revoke");
}

#[tokio::test]
async fn two_logins_of_a_job_are_undone_in_reverse() {
    let (act, issuer) = (act(), Issuer::github());
    let (first, mut second) = (AwsBroker::start(act.directory()).await, AwsBroker::start(act.directory()).await);
    let request = issuer.run(&releasing(&issuer));
    let again = format!(
        "      - uses: {USES}\n        with: {{ broker-url: \"{}\", role: another, mode: environment }}\n\
         {:6}- run: test \"$AWS_REGION\" = eu-central-1\n",
        second.url, ""
    );
    let text =
        workflow(&first.url, "role: one", &again).replace("steps:", "env: { AWS_REGION: of-the-job }\n    steps:");
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert_eq!(second.form().await["audience"], "another");
    let keys = "::set-env:: AWS_SECRET_ACCESS_KEY=";
    let set: Vec<_> = exit.stdout.lines().filter_map(|line| line.split_once(keys)).map(|(_, value)| value).collect();
    assert_eq!(set, ["***", "***", "***", ""], "{}", log(&exit));
}
