//! The companion action in real workflows: act runs them, the bench's issuer is GitHub, `serve` is the broker. What it
//! says where no broker or runner is as it should be is seen in `cloud_texts`; its parts are tested in `action/test`.

use crate::{BINARY, aws, cloud_aws, records};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use claimbound_test_support::{
    act::{Act, USES},
    broker::Broker,
    canary,
    command::Exit,
    config::{BrokerConfig, RELEASE_AUDIENCE},
    issuer::Issuer,
    job::Job,
    jwt,
    sts::{Mood, Sts},
    tools::{Ministack, Tools},
    trap::Trap,
};
use serde_json::{Value, json};
use std::{net::TcpListener, path::Path};

/// How every lease handle begins.
pub const LEASE_HANDLE: &str = "cbl_";

pub fn act() -> Act {
    Act::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("action"))
}

/// A job with the login as its first step, and these steps behind it.
pub fn workflow(broker_url: &str, inputs: &str, steps: &str) -> String {
    format!(
        "on: [push, pull_request]\njobs:\n  deploy:\n    runs-on: ubuntu-24.04\n    steps:\n      - id: login\n        \
         uses: {USES}\n        with: {{ broker-url: \"{broker_url}\", {inputs} }}\n{steps}"
    )
}

/// Writes every output, and what the job's folders hold, where the test finds it.
pub const LOOK: &str = r#"
      - if: always()
        env: { OUTPUTS: "${{ toJSON(steps.login.outputs) }}" }
        run: |
          printf %s "$OUTPUTS" > "$PROOF/outputs.json"
          env | grep '^AWS_' | sort > "$PROOF/aws.env" || true
          cp -r "$GITHUB_WORKSPACE" "$PROOF/workspace"
"#;

pub fn outputs(act: &Act) -> Value {
    serde_json::from_str(&act.left("outputs.json")).unwrap()
}

pub fn log(exit: &Exit) -> String {
    format!("{}{}", exit.stdout, exit.stderr)
}

/// Nothing of these is in what act printed (step summaries included), in the workspace, or in a process's arguments.
pub fn assert_hidden(act: &Act, exit: &Exit, secrets: &[&str]) {
    for secret in secrets {
        assert!(!log(exit).contains(secret), "a secret is in the log:\n{}", log(exit));
        assert!(!act.arguments().contains(secret), "a secret is in the arguments");
    }
    assert!(act.arguments().contains("main.cjs"), "the arguments are seen at all: {}", act.arguments());
    canary::assert_absent(&act.proof().join("workspace"), secrets);
}

pub fn assert_failed(exit: &Exit, parts: &[&str]) {
    assert_eq!(exit.code, Some(1), "{}", log(exit));
    for part in parts {
        assert!(log(exit).contains(part), "no `{part}` in\n{}", log(exit));
    }
}

pub fn releasing(issuer: &Issuer) -> Job<'_> {
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
          echo "Authorization: basic $(printf 'u:%s' "$TOKEN" | base64 -w0)"
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

    let lease = outputs["lease-id"].as_str().unwrap();
    for text in [
        "This job has payments-release by payments-production until 20",
        &format!("Lease {lease}, decision {}", outputs["decision-id"].as_str().unwrap()),
        "Summary - <h3>Claimbound: credential</h3>",
        &format!("Lease {lease} is ended. A copied JWT may be accepted until 20"),
    ] {
        assert!(log(&exit).contains(text), "no `{text}` in\n{}", log(&exit));
    }
    let decision = outputs["decision-id"].as_str().unwrap();
    let kinds: Vec<_> = records::of(&broker, decision).into_iter().map(|(body, _)| body["kind"].clone()).collect();
    assert!(kinds.contains(&json!("granted")), "{kinds:?}");
    let ended = records::of_kind(&broker, "ended");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0]["lease"], outputs["lease-id"], "{ended:?}");

    let given = issuer.given();
    assert_eq!(given.len(), 1);
    let signature = |jwt: &str| jwt.rsplit('.').next().unwrap().to_owned();
    let basic = BASE64_STANDARD.encode(format!("u:{token}"));
    assert!(log(&exit).contains("Authorization: basic "), "{}", log(&exit));
    // In the middle of a longer text its letters are others than alone.
    let basic = basic[8..40].to_owned();
    let secrets = [&token, &given[0], &signature(&token), &signature(&given[0]), &request.bearer, &basic];
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
    assert!(log(&exit).contains("Summary - <h3>Claimbound: dry run, would be granted</h3>"), "{}", log(&exit));
    let outputs = outputs(&act);
    assert_eq!((&outputs["available"], &outputs["reason"]), (&json!("false"), &json!("dry_run")));
    assert_eq!(outputs.get("lease-id"), None, "{outputs}");
    records::the_one(&broker, outputs["decision-id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn by_itself_a_jwt_is_in_a_file_that_goes_with_the_job() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let request = issuer.run(&releasing(&issuer));
    let use_it = r#"
      - run: |
          cp "$CLAIMBOUND_CREDENTIAL_FILE" "$PROOF/token"
          stat -c '%a %n' "$CLAIMBOUND_CREDENTIAL_FILE" > "$PROOF/where"
"#;
    let text = workflow(broker.audience(), "role: payments-release", use_it) + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    let (token, place) = (act.left("token"), act.left("where"));
    assert_eq!(jwt::claims_of(&token)["role"], "payments-release");
    let file = place.trim().strip_prefix("600 ").expect("for its owner alone");
    assert!(!Path::new(file).exists() && !file.contains("hostexecutor"), "outside the workspace, and gone: {file}");
    assert_eq!(outputs(&act)["token"], Value::Null, "it is no output");
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
    assert_hidden(&act, &exit, &[&token, token.rsplit('.').next().unwrap()]);
}

#[tokio::test]
async fn without_permission_the_calling_job_is_named_and_nothing_is_sent() {
    let (act, trap) = (act(), Trap::new());
    let text = workflow(&trap.url(), "role: r, on-unavailable: skip", "");
    let exit = act.run(&text, None).await;
    let parts =
        ["The job `deploy` has no permission", "id-token: write", "the calling job in", "This is act, which has no"];
    assert_failed(&exit, &parts);
    let summary =
        "<p>The job `deploy` has no permission to ask GitHub for an OIDC token. Add to it:</p><pre>    permissions:";
    assert!(log(&exit).contains(summary), "{}", log(&exit));
}

#[tokio::test]
async fn a_fork_s_pull_request_is_told_so_and_skipped_where_that_is_allowed() {
    let head = json!({ "ref": "feature", "repo": { "full_name": "mallory/payments-api" } });
    let payload = json!({ "pull_request": { "number": 7, "head": head, "base": { "ref": "main" } } });
    let (act, trap) = (act().event("pull_request", payload), Trap::new());
    let broker_url = trap.url();
    // Its jobs have no `vars`, either: the broker's URL is empty there.
    let exit = act.run(&workflow("", "role: r", ""), None).await;
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
async fn a_run_of_dependabot_s_is_told_so_and_skipped_where_that_is_allowed() {
    let (act, trap) = (act().actor("dependabot[bot]"), Trap::new());
    let broker_url = trap.url();
    let exit = act.run(&(workflow(&broker_url, "role: r", "") + LOOK), None).await;
    assert_failed(&exit, &["Dependabot started this run", "on-unavailable: skip"]);
    assert_eq!(outputs(&act)["reason"], "dependabot");
    let exit = act.run(&workflow(&broker_url, "role: r, on-unavailable: skip", ""), None).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("no credential, job goes on"), "{}", log(&exit));
}

#[tokio::test]
async fn a_token_that_github_refuses_is_no_reason_to_go_on() {
    let (act, issuer) = (act(), Issuer::github());
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let mut request = issuer.run(&releasing(&issuer));
    request.bearer = "request-token-of-another-job".into();
    let inputs = "role: payments-release, mode: output, on-unavailable: skip";
    let exit = act.run(&(workflow(broker.audience(), inputs, "") + LOOK), Some(&request)).await;
    assert_failed(&exit, &["GitHub gave this job no OIDC token (401)", "limits OIDC tokens"]);
    assert_eq!(outputs(&act)["reason"], "ci_refused");
    assert_hidden(&act, &exit, &[&request.bearer]);
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
async fn security_033_a_broker_of_another_name_gets_no_token() {
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

/// What the next step gets to know: the keys as it finds them, and what boto3 does with them.
fn call_aws() -> String {
    format!(
        r#"
      - run: |
          env && cat "${{AWS_SHARED_CREDENTIALS_FILE:-/dev/null}}" | tee "$PROOF/profile"
          python3 "{}" > "$PROOF/said.json"
"#,
        cloud_aws::script().display()
    )
}

/// A job that logs in at a broker over ministack and calls AWS; its machine and its run. The session is narrow, its
/// lease ends with the job, and no secret of it is left or seen.
async fn aws_login(inputs: &str) -> (Act, Exit) {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let act = act().env("ENDPOINT", aws.url()).env("ACTIONS", cloud_aws::ACTIONS);
    let act = Tools::python_environment().iter().fold(act, |act, (name, value)| act.env(name, value));
    let request = issuer.run(&issuer.job().environment("staging"));
    let text = workflow(broker.audience(), &format!("role: payments-deploy, {inputs}"), &call_aws()) + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    cloud_aws::assert_narrowed(&aws, &serde_json::from_str(&act.left("said.json")).unwrap()).await;

    let outputs = outputs(&act);
    let said = |name: &str| outputs[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {outputs}")).to_owned();
    assert_eq!(
        (said("available"), said("role"), said("mapping")),
        ("true".into(), "payments-deploy".into(), "payments-deploys".into())
    );
    let granted = &records::of(&broker, &said("decision-id"))[0].0;
    assert_eq!((&granted["kind"], &granted["lease"]), (&json!("granted"), &outputs["lease-id"]));
    let ended = records::of_kind(&broker, "ended");
    assert_eq!((ended.len(), &ended[0]["lease"]), (1, &outputs["lease-id"]));

    let keys = act.left("profile") + &act.left("aws.env");
    let secret = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim().to_lowercase();
        let secret = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"].contains(&name.as_str());
        secret.then(|| value.trim().to_owned())
    };
    let mut secrets: Vec<_> = keys.lines().filter_map(secret).collect();
    assert_eq!(secrets.len(), 3, "one place has them");
    secrets.extend([request.bearer, issuer.given()[0].clone()]);
    assert_hidden(&act, &exit, &secrets.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!(log(&exit) + &act.arguments()).contains(LEASE_HANDLE), "the lease handle is seen");
    (act, exit)
}

#[tokio::test]
async fn aws_keys_reach_the_next_steps_by_environment() {
    let (act, exit) = aws_login("mode: env").await;
    let set = act.left("aws.env");
    let names: Vec<_> = set.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = ["ACCESS_KEY_ID", "DEFAULT_REGION", "REGION", "SECRET_ACCESS_KEY", "SESSION_TOKEN"];
    assert_eq!(names, expected.map(|name| format!("AWS_{name}")));
    assert!(set.contains("AWS_REGION=eu-west-1\n") && set.contains("AWS_DEFAULT_REGION=eu-west-1\n"), "the role's");
    assert!(log(&exit).contains("is ended. A copied AWS key may be accepted until 20"), "{}", log(&exit));
    assert!(log(&exit).contains("AWS_SECRET_ACCESS_KEY=***"), "the next step prints it masked: {}", log(&exit));
    assert!(log(&exit).contains("::set-env:: AWS_SECRET_ACCESS_KEY=\n"), "the post step takes it back: {}", log(&exit));
}

#[tokio::test]
async fn aws_keys_reach_the_next_steps_by_a_profile_that_goes_with_the_job() {
    let (act, _) = aws_login("mode: profile").await;
    let set = act.left("aws.env");
    let file = set.lines().find_map(|line| line.strip_prefix("AWS_SHARED_CREDENTIALS_FILE=")).expect("it is set");
    assert!(set.contains("AWS_PROFILE=payments-deploy\n") && !set.contains("AWS_SECRET"), "{set}");
    assert!(!file.contains("hostexecutor"), "outside the workspace: {file}");
    assert!(!Path::new(file).exists(), "the post step removed it");
}

/// What can go wrong between a grant of AWS keys and the next step. Nothing is left of what was issued.
#[tokio::test]
async fn aws_keys_that_do_not_fit_the_job_are_ended_and_told() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let run = async |inputs: &str, job: &str| {
        let text = workflow(broker.audience(), &format!("role: payments-deploy, {inputs}"), "") + LOOK;
        act.run(&text.replace("    steps:", &format!("{job}    steps:")), Some(&request)).await
    };
    let ended = || records::of_kind(&broker, "ended").len();

    let exit = run("allowed-account-ids: \"999900001111\"", "").await;
    assert_failed(&exit, &["The credential belongs to AWS account 111122223333", "999900001111"]);
    assert_eq!((outputs(&act)["reason"].as_str(), ended()), (Some("account_not_allowed"), 1));
    let exit = run("mode: output", "").await;
    assert_failed(&exit, &["gives an AWS credential, which this action does not put into outputs", "`mode: agent`"]);
    assert_eq!((outputs(&act)["reason"].as_str(), ended()), (Some("mode_unfit"), 2));
    let sessions = sts.sessions();
    let secrets: Vec<_> = sessions.iter().flat_map(|s| [&*s.secret_access_key, &*s.session_token]).collect();
    assert_eq!(secrets.len(), 4);
    assert_hidden(&act, &exit, &secrets);
    assert_eq!(act.left("aws.env"), "", "no step has them");

    let exit = run("mode: profile", "    env: { AWS_ACCESS_KEY_ID: AKIAOFTHEJOB }\n").await;
    assert_failed(&exit, &["another AWS credential (`AWS_ACCESS_KEY_ID`), and AWS clients prefer it to a profile"]);
    let exit = run("duration: 5m", "").await;
    assert_failed(&exit, &["Reason: duration_too_short, decision "]);
    assert_eq!(sts.sessions().len(), 2, "neither asked AWS");
}

#[tokio::test]
async fn what_aws_refuses_is_told_with_the_decision_that_has_its_words() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    sts.mood(Mood::Refuse(403, "AccessDenied", "not authorized to perform sts:TagSession"));
    let request = issuer.run(&issuer.job().environment("staging"));
    let text = workflow(broker.audience(), "role: payments-deploy, timeout: 1s", "") + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_failed(&exit, &["Reason: backend_refused, decision "]);
    assert_eq!(sts.calls(), 1, "a refusal is never tried again");
    assert!(!log(&exit).contains("TagSession"), "AWS's own words are for operators: {}", log(&exit));
    let outputs = outputs(&act);
    assert_eq!(outputs["reason"], "backend_refused");
    let records = records::of(&broker, outputs["decision-id"].as_str().unwrap());
    assert!(records.iter().any(|(_, details)| details["backend"].to_string().contains("TagSession")), "{records:?}");
}

/// A folder of the example, at a broker over the double: its placeholders filled in, and a look at the environment
/// instead of the call to AWS.
#[tokio::test]
async fn the_example_for_aws_runs_as_it_stands() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let text = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path));
    let paths = ["policy.toml", "roles/payments.toml", "teams/payments/deploy.toml", "policies/payments-deploy.json"];
    let config = paths
        .into_iter()
        .fold(BrokerConfig::with_folder(&[]).issuer("github", &issuer), |config, path| {
            config.file(path, &text(&format!("aws/mappings/{path}")).unwrap())
        })
        .edit("policy.toml", "https://token.actions.githubusercontent.com", issuer.url())
        .toml(&format!("[backend.aws]\nendpoint_url = \"{}\"", sts.url()));
    let broker = Broker::start(BINARY, config).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role("arn:aws:iam::444455556666:role/payments-deploy", "role:payments-deploy.production");
    let mut text = text("github-actions-aws.yml").unwrap();
    for (from, to) in [
        ("acme/claimbound/action@0000000000000000000000000000000000000000", USES),
        ("${{ vars.CLAIMBOUND_URL }}", broker.audience()),
        (
            "aws sts get-caller-identity",
            "test -s \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\" && echo it has keys for \"$AWS_REGION\"",
        ),
    ] {
        assert!(text.contains(from), "the example holds `{from}`");
        text = text.replace(from, to);
    }
    let exit = act.run(&text, Some(&issuer.run(&releasing(&issuer)))).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert!(log(&exit).contains("it has keys for eu-central-1"), "{}", log(&exit));
    assert_eq!(sts.sessions()[0].duration_seconds, 900);
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
}

#[tokio::test]
async fn two_logins_of_a_job_are_undone_in_reverse() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let again = format!(
        "      - uses: {USES}\n        with: {{ broker-url: \"{}\", role: payments-deploy, mode: env }}\n\
         {:6}- run: test \"$AWS_REGION\" = eu-west-1\n",
        broker.audience(),
        ""
    );
    let text = workflow(broker.audience(), "role: payments-deploy, mode: env", &again)
        .replace("steps:", "env: { AWS_REGION: of-the-job, AWS_PROFILE: of-the-job }\n    steps:");
    let exit = act.run(&text, Some(&issuer.run(&issuer.job().environment("staging")))).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert_eq!((sts.sessions().len(), records::of_kind(&broker, "ended").len()), (2, 2));
    let warned = "`AWS_PROFILE` is set in this job; some AWS clients prefer it to the variables that this step sets";
    assert!(log(&exit).contains(warned), "{}", log(&exit));
    let keys = "::set-env:: AWS_SECRET_ACCESS_KEY=";
    let set: Vec<_> = exit.stdout.lines().filter_map(|line| line.split_once(keys)).map(|(_, value)| value).collect();
    assert_eq!(set, ["***", "***", "***", ""], "{}", log(&exit));
}
