//! Ending sessions at AWS, against ministack, which judges boundaries, session tags and issue times as nobody here wrote
//! them: what is denied stops working, and nothing else does. It knows no source identity.

use crate::{
    BINARY,
    aws::{POLICY, config},
    cloud_aws::{BROKER_ARN, broker_s_home, script},
    records,
};
use claimbound_test_support::{broker::Broker, command::Exit, config::BrokerConfig, issuer::Issuer, tools::Ministack};
use serde_json::{Value, json};

const ROLE: &str = "payments-deploy";
const POLICY_ARN: &str = "arn:aws:iam::111122223333:policy/claimbound-denials";

struct House {
    issuer: Issuer,
    aws: Ministack,
    broker: Broker,
}

impl House {
    /// A broker that assumes the role and writes the boundary, as its own commands printed both.
    async fn new() -> Self {
        let (issuer, aws) = (Issuer::github(), Ministack::start().await);
        let url = aws.url();
        let settings = format!(
            "mode = \"assume-role\"\nendpoint_url = \"{url}\"\n[backend.aws.denial]\npolicy_arn = \"{POLICY_ARN}\"\n\
             endpoint_url = \"{url}\""
        );
        let config: BrokerConfig = config(&issuer, &settings).server("public_url = \"https://cb.example\"");
        let broker = Broker::start_in(broker_s_home(&aws).await, BINARY, config).await;
        let house = Self { issuer, aws, broker };
        let words = ["trust", "aws", "--role", ROLE, "--broker-arn", BROKER_ARN, "--boundary"];
        let exit = house.say(&[&words[..], &["--format", "json"]].concat()).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        let printed: Value = serde_json::from_str(&exit.stdout).unwrap();
        let rights = json!([{ "Effect": "Allow", "Action": ["s3:*", "iam:ListRoles"], "Resource": "*" }]);
        let rights = json!({ "Version": "2012-10-17", "Statement": rights }).to_string();
        let boundary = &printed["boundary"];
        assert_eq!(boundary["arn"], POLICY_ARN);
        house
            .set_up(json!([
                ["iam", "create_policy", { "PolicyName": "claimbound-denials", "PolicyDocument": boundary["policy"].to_string() }],
                ["iam", "put_user_policy", { "UserName": "claimbound", "PolicyName": "deny", "PolicyDocument": boundary["broker_policy"].to_string() }],
                ["iam", "create_role", { "RoleName": ROLE, "AssumeRolePolicyDocument": printed["trust_policy"].to_string(), "PermissionsBoundary": POLICY_ARN }],
                ["iam", "put_role_policy", { "RoleName": ROLE, "PolicyName": "all", "PolicyDocument": rights }],
            ]))
            .await;
        house
    }

    async fn set_up(&self, calls: Value) -> Value {
        self.aws.boto3(&script(), Ministack::OWNER, &[("SETUP", &calls.to_string())]).await
    }

    async fn say(&self, words: &[&str]) -> Exit {
        self.broker.command(words).await
    }

    /// Lease and keys of a new session.
    async fn session(&self) -> (String, String) {
        let token = self.issuer.job().environment("staging").token(self.broker.audience());
        let answer = self.broker.exchange_for(&token, ROLE).await;
        assert_eq!(answer.status, 200, "{}{}", answer.text, self.broker.log());
        (answer.text_of("lease_id").to_owned(), answer.body["credential"].to_string())
    }

    /// What the session's policy lets it do.
    async fn works(&self, keys: &str) -> Value {
        self.aws.boto3(&script(), keys, &[("ACTIONS", "list_buckets")]).await["list_buckets"].clone()
    }

    /// Every version of the boundary, and the one that counts.
    async fn versions(&self) -> (usize, Value) {
        let calls = json!([["iam", "list_policy_versions", { "PolicyArn": POLICY_ARN }]]);
        let versions = self.set_up(calls).await["list_policy_versions"]["Versions"].clone();
        let default = versions.as_array().unwrap().iter().find(|one| one["IsDefaultVersion"] == true).unwrap().clone();
        (versions.as_array().unwrap().len(), default["VersionId"].clone())
    }

    async fn revoke(&self, words: &[&str]) -> Value {
        let exit = self.say(&[&["revoke", "--reason", "a leak", "--format", "json"], words].concat()).await;
        assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
        serde_json::from_str(&exit.stdout).unwrap()
    }
}

#[tokio::test]
async fn what_is_ended_stops_working_and_nothing_else_does() {
    let mut house = House::new().await;
    assert!(POLICY.contains("s3:ListAllMyBuckets"), "what a session may do");
    let mut sessions = Vec::new();
    for _ in 0..7 {
        sessions.push(house.session().await);
    }
    assert_eq!(house.works(&sessions[0].1).await, 0, "it works inside the boundary");
    let doctor = house.say(&["doctor", "aws", "--role", ROLE]).await;
    assert_eq!(doctor.code, Some(0), "{}{}", doctor.stdout, doctor.stderr);
    assert!(doctor.stdout.contains(&format!("`{POLICY_ARN}` is the permissions boundary of")), "{}", doctor.stdout);

    house.broker.terminate().await;
    let (lease, keys) = &sessions[0];
    let told = house.revoke(&["--lease", lease]).await;
    assert_eq!(told["leases"][0]["effect"], "denied", "{told}");
    let backend = &told["backends"]["aws"];
    assert!(backend["applied"].is_i64() && backend["error"].is_null() && backend["entries"] == 1, "{told}");
    assert_eq!(house.works(keys).await, "AccessDenied", "{told}");
    assert_eq!(house.works(&sessions[1].1).await, 0, "another session of the same role");
    let applied = records::of_kind(&house.broker, "denials_applied");
    assert_eq!((&applied[0]["version"], &applied[0]["count"]), (&backend["version"], &json!(1)));

    // Versions come and go; there are never more than AWS keeps.
    for (lease, _) in &sessions[1..5] {
        house.revoke(&["--lease", lease]).await;
    }
    let (count, default) = house.versions().await;
    let applied = records::of_kind(&house.broker, "denials_applied");
    assert!(count <= 5, "{count}");
    assert_eq!((applied.len(), &applied[4]["version"]), (5, &default));

    // A full list says so, and offers the one entry that cuts all of a role off.
    let store = rusqlite::Connection::open(house.broker.database()).unwrap();
    for number in 0..160 {
        let value = format!("01900000-0000-7000-8000-{number:012}");
        let fill = "INSERT INTO denials VALUES (randomblob(32), 'aws', 'lease', ?1, 0, unixepoch() + 90000)";
        store.execute(fill, [value]).unwrap();
    }
    drop(store);
    let (lease, _) = &sessions[5];
    let told = house.revoke(&["--lease", lease]).await;
    assert_eq!(told["leases"][0]["effect"], "at_expiry", "{told}");
    assert!(
        told["notes"].to_string().contains("is full") && told["notes"].to_string().contains("--role ROLE"),
        "{told}"
    );
    let told = house.revoke(&["--role", ROLE]).await;
    assert_eq!((&told["count"], &told["leases"][0]["effect"]), (&json!(1), &json!("denied")), "{told}");
    assert_eq!(house.works(&sessions[6].1).await, "AccessDenied", "all that began before");
    let audit = house.say(&["audit", "verify"]).await;
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}

#[tokio::test]
async fn a_boundary_that_is_a_permission_fails_the_doctor_and_an_aws_that_refuses_is_told_honestly() {
    let mut house = House::new().await;
    let (lease, keys) = house.session().await;
    let attach = json!([["iam", "attach_role_policy", { "RoleName": ROLE, "PolicyArn": POLICY_ARN }]]);
    house.set_up(attach).await;
    let doctor = house.say(&["doctor", "aws", "--role", ROLE]).await;
    assert_eq!(doctor.code, Some(1), "{}{}", doctor.stdout, doctor.stderr);
    assert!(doctor.stdout.contains("attached to role payments-deploy as a permissions policy"), "{}", doctor.stdout);
    let undo = json!([
        ["iam", "detach_role_policy", { "RoleName": ROLE, "PolicyArn": POLICY_ARN }],
        ["iam", "delete_user_policy", { "UserName": "claimbound", "PolicyName": "deny" }],
        ["iam", "delete_role_permissions_boundary", { "RoleName": ROLE }],
    ]);
    house.set_up(undo).await;
    let doctor = house.say(&["doctor", "aws", "--role", ROLE]).await;
    assert_eq!(doctor.code, Some(1), "{}{}", doctor.stdout, doctor.stderr);
    assert!(doctor.stdout.contains("cannot be looked at"), "{}", doctor.stdout);
    house.broker.terminate().await;
    let told = house.revoke(&["--lease", &lease]).await;
    let backend = &told["backends"]["aws"];
    assert!(backend["applied"].is_null() && backend["error"].as_str().unwrap().contains("AccessDenied"), "{told}");
    assert_eq!(house.works(&keys).await, 0);
    assert!(records::of_kind(&house.broker, "denials_applied").is_empty(), "the evidence claims nothing");
}
