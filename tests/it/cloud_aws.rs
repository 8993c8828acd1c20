//! The `aws` backend against ministack, which nobody here wrote: it judges signatures, trust policies, session tags and
//! (for AssumeRole) session policies. It verifies no web identity token; for that there is the double (`aws`).

use crate::{
    BINARY,
    aws::{POLICY, config},
};
use claimbound_test_support::{broker::Broker, issuer::Issuer, tools::Ministack};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/aws.py")
}

/// The owner's calls: each a service, an operation, its arguments.
async fn set_up(aws: &Ministack, calls: Value) -> Value {
    aws.boto3(&script(), Ministack::OWNER, &[("SETUP", &calls.to_string())]).await
}

/// What the role may do without a session policy: more than any session of ours gets.
fn rights() -> Value {
    let statement = json!([{ "Effect": "Allow", "Action": ["s3:*", "iam:ListRoles"], "Resource": "*" }]);
    let document = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
    json!(["iam", "put_role_policy", { "RoleName": "payments-deploy", "PolicyName": "all", "PolicyDocument": document }])
}

fn role(trust: &Value) -> Value {
    json!(["iam", "create_role", { "RoleName": "payments-deploy", "AssumeRolePolicyDocument": trust.to_string() }])
}

async fn printed_trust(broker: &Broker, more: &[&str]) -> Value {
    let mut words = vec!["trust", "aws", "--role", "payments-deploy", "--format", "json"];
    let url = broker.audience().to_owned();
    words.extend(["--issuer-url", &url, "--mappings", "mappings"]);
    words.extend(more);
    let exit = broker.command(&words).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap()
}

async fn keys(broker: &Broker, issuer: &Issuer) -> String {
    let token = issuer.job().environment("staging").token(broker.audience());
    let answer = broker.exchange_for(&token, "payments-deploy").await;
    assert_eq!(answer.status, 200, "{}{}", answer.text, broker.log());
    answer.body["credential"].to_string()
}

/// The user of ministack's account that a broker in mode `assume-role` is.
pub const BROKER_ARN: &str = "arn:aws:iam::111122223333:user/claimbound";

/// A home with that user's keys, as a container platform would mount one.
pub async fn broker_s_home(aws: &Ministack) -> TempDir {
    let made = set_up(aws, json!([
        ["iam", "create_user", { "UserName": "claimbound" }],
        ["iam", "put_user_policy", { "UserName": "claimbound", "PolicyName": "assume", "PolicyDocument": json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], "Resource": "*" }],
        }).to_string() }],
        ["iam", "create_access_key", { "UserName": "claimbound" }],
    ]))
    .await;
    let key = &made["create_access_key"]["AccessKey"];
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let profile = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        key["AccessKeyId"].as_str().unwrap(),
        key["SecretAccessKey"].as_str().unwrap()
    );
    std::fs::write(home.path().join(".aws/credentials"), profile).unwrap();
    home
}

/// A broker that may assume `payments-deploy`, and the trust that it printed for that.
pub async fn assuming(aws: &Ministack, issuer: &Issuer) -> (Broker, Value) {
    let settings = format!("mode = \"assume-role\"\nendpoint_url = \"{}\"", aws.url());
    let broker = Broker::start_in(broker_s_home(aws).await, BINARY, config(issuer, &settings)).await;
    // Printed for the account as it stands, with the ids pinned.
    let trust = printed_trust(&broker, &["--broker-arn", BROKER_ARN, "--pin"]).await;
    set_up(aws, json!([role(&trust["trust_policy"]), rights()])).await;
    (broker, trust)
}

/// `ACTIONS` of the script, whose outcome [`assert_narrowed`] judges.
pub const ACTIONS: &str = "identity list_buckets create_bucket list_roles";

/// The role, no more than its session policy, and that the emulator can tell the difference.
pub async fn assert_narrowed(aws: &Ministack, said: &Value) {
    let identity = said["identity"].as_str().unwrap();
    assert!(identity.starts_with("arn:aws:sts::111122223333:assumed-role/payments-deploy/"), "{identity}");
    assert_eq!(said["list_buckets"], 0, "inside the session policy: {POLICY}");
    assert_eq!(said["create_bucket"], "AccessDenied", "the role may, the session may not");
    assert_eq!(said["list_roles"], "AccessDenied");
    let owner = aws.boto3(&script(), Ministack::OWNER, &[("ACTIONS", "create_bucket")]).await;
    assert_eq!(owner["create_bucket"], "created", "the emulator can tell the difference");
}

#[tokio::test]
async fn an_assumed_session_may_do_what_its_policy_says_and_no_more() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, trust) = assuming(&aws, &issuer).await;
    assert_eq!(
        trust["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["aws:RequestTag/claimbound_principal"],
        json!(["github-740000001", "github-740000002"])
    );
    let said = aws.boto3(&script(), &keys(&broker, &issuer).await, &[("ACTIONS", ACTIONS)]).await;
    assert_narrowed(&aws, &said).await;
}

#[tokio::test]
async fn a_web_identity_passes_the_printed_trust_policy_and_no_other() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let config = config(&issuer, &format!("endpoint_url = \"{}\"", aws.url()));
    let broker = Broker::start(BINARY, config).await;
    let trust = printed_trust(&broker, &[]).await;
    let statement = &trust["trust_policy"]["Statement"][0];
    let host = broker.audience().strip_prefix("http://").unwrap();
    assert_eq!(
        statement["Condition"]["StringEquals"],
        json!({ format!("{host}:aud"): "sts.amazonaws.com", format!("{host}:sub"): "role:payments-deploy" })
    );
    let provider = json!(["iam", "create_open_id_connect_provider", {
        "Url": trust["provider"]["url"], "ClientIDList": trust["provider"]["client_id_list"], "ThumbprintList": ["0".repeat(40)],
    }]);
    set_up(&aws, json!([provider, role(&trust["trust_policy"]), rights()])).await;
    let said = aws.boto3(&script(), &keys(&broker, &issuer).await, &[("ACTIONS", "identity")]).await;
    assert!(said["identity"].as_str().unwrap().contains(":assumed-role/payments-deploy/"), "{said}");

    // The conditions hold: a policy for another role, or another audience, lets nobody in.
    for (from, to) in [("role:payments-deploy", "role:payments-admin"), ("sts.amazonaws.com", "https://other.example")]
    {
        let other = trust["trust_policy"].to_string().replace(from, to);
        let change =
            json!(["iam", "update_assume_role_policy", { "RoleName": "payments-deploy", "PolicyDocument": other }]);
        set_up(&aws, json!([change])).await;
        let token = issuer.job().environment("staging").token(broker.audience());
        let answer = broker.exchange_for(&token, "payments-deploy").await;
        assert_eq!(
            (answer.status, &answer.body["reason"]),
            (400, &json!("backend_refused")),
            "{from}: {}",
            answer.text
        );
    }
}
