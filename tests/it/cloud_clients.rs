//! AWS clients that nobody here wrote get their keys by the client commands, and may do what those keys may.

use crate::{BINARY, agents, cloud_aws};
use claimbound_test_support::{
    broker::Broker,
    command::{Exit, command, finish},
    issuer::{Issuer, TokenRequest},
    time::{eventually, now},
    tools::{Ministack, Tools},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Command;

const COMES: Duration = Duration::from_secs(90);
/// Three clients at once, each by two sessions: it writes who it was first, waits until it gets other keys, and asks again.
const THREE: &str = "python3 \"$SCRIPTS/renewed.py\" > boto3 & boto3=$!; node \"$SCRIPTS/renewed.mjs\" > node & node=$!
    arn() { \"$AWS\" --endpoint-url \"$ENDPOINT\" sts get-caller-identity --query Arn --output text; }
    first=$(arn) && : > cli-began && until second=$(arn) && [ \"$first\" != \"$second\" ]; do sleep 0.5; done
    \"$AWS\" --endpoint-url \"$ENDPOINT\" s3api list-buckets > cli && wait $boto3 && wait $node";

#[tokio::test]
async fn boto3_asks_the_credential_process_and_may_do_what_the_session_may() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    let profile = format!(
        "[profile payments]\nregion = eu-west-1\ncredential_process = {BINARY} credential-process --url {} --role payments-deploy\n",
        broker.audience()
    );
    std::fs::write(&config, profile).unwrap();
    let state = home.path().join("state").display().to_string();
    let environment = [
        ("ACTIONS", cloud_aws::ACTIONS),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_PROFILE", "payments"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer),
        ("CLAIMBOUND_STATE_DIR", &state),
    ];
    let said = aws.boto3(&cloud_aws::script(), "{}", &environment).await;
    cloud_aws::assert_narrowed(&aws, &said).await;
    assert_eq!(issuer.given().len(), 1, "four clients of one process, and one exchange");
}

/// A machine of a job in which [`THREE`] runs, under `program` and with these words before it.
fn job(aws: &Ministack, broker: &Broker, request: &TokenRequest, program: &Path, words: &[&str]) -> (TempDir, Command) {
    let home = tempfile::tempdir().unwrap();
    let profile = format!(
        "[profile payments]\nregion = eu-west-1\ncredential_process = {BINARY} credential-process --url {} --role payments-deploy\n",
        broker.audience()
    );
    fs::write(home.path().join("config"), profile).unwrap();
    let mut job = command(program, home.path());
    job.args(words).args([Path::new("sh"), Path::new("-ec"), Path::new(THREE)]);
    job.envs(Tools::python_environment()).env("CLAIMBOUND_TEST_TOOLS", Tools::directory()).env("AWS", Tools::aws());
    job.env("SCRIPTS", PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")).env("ENDPOINT", aws.url());
    job.env("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer);
    job.env("CLAIMBOUND_STATE_DIR", home.path().join("state"));
    (home, job)
}

/// Each client was let in twice, with two sessions.
fn assert_renewed(home: &TempDir, exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    for client in ["boto3", "node", "cli"] {
        let said = fs::read_to_string(home.path().join(client)).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{client}: {error}: {said}"));
        assert!(said["Buckets"].is_array(), "{client}: {said}");
        assert!(client == "cli" || said["keys"][0] != said["keys"][1], "{client}: {said}");
    }
}

#[tokio::test]
async fn three_clients_ask_the_agent_through_a_renewal() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    // Half an hour is too long for a test: the agent believes in some seconds, AWS in the rest.
    let relay = agents::relayed(broker.url(), |_, answer| answer.body["expires_in"] = 12.into()).await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let words = ["agent", "--url", &relay, "--audience", broker.audience(), "--role", "payments-deploy", "--"];
    let (home, mut job) = job(&aws, &broker, &request, Path::new(BINARY), &words);
    assert_renewed(&home, &finish(&mut job).await);
}

#[tokio::test]
async fn three_clients_ask_the_credential_process_through_a_renewal() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let (home, mut job) = job(&aws, &broker, &request, Path::new("env"), &[]);
    job.env("AWS_CONFIG_FILE", home.path().join("config")).env("AWS_PROFILE", "payments");
    let mut first = command(Path::new(BINARY), home.path());
    first.args(["credential-process", "--url", broker.audience(), "--role", "payments-deploy"]);
    first.env("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer);
    let exit = finish(first.env("CLAIMBOUND_STATE_DIR", home.path().join("state"))).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let mut files = fs::read_dir(home.path().join("state")).unwrap().map(|entry| entry.unwrap().path());
    let cache = files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("cache-")).unwrap();
    let write = |kept: &Value| fs::write(&cache, kept.to_string()).unwrap();
    // So few minutes that every client asks again at each call, and enough that the command gives them once more.
    let mut kept: Value = serde_json::from_slice(&fs::read(&cache).unwrap()).unwrap();
    let expires = now() + 250;
    kept["content"]["Expiration"] = jiff::Timestamp::from_second(expires).unwrap().to_string().into();
    (kept["at"], kept["expires"]) = ((now() - 10).into(), expires.into());
    write(&kept);
    let over = async {
        let began = |client: &str| home.path().join(format!("{client}-began")).exists();
        eventually(COMES, async || ["boto3", "node", "cli"].into_iter().all(began).then_some(())).await;
        kept["at"] = 0.into();
        write(&kept);
    };
    let (exit, ()) = tokio::join!(finish(&mut job), over);
    assert_renewed(&home, &exit);
    assert_eq!(issuer.given().len(), 2, "one exchange for all of them");
}
