//! The three cases of docs/delegation.md, ending where nobody here decides: OpenBao takes a token by what its `act` says,
//! and ministack gives a session's rights by the tags that say for whom and by whom it was asked.

use crate::{
    BINARY,
    cloud_aws::{BROKER_ARN, broker_s_home, script},
    records,
};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    command,
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::{Job, id_of},
    tools::{Ministack, OpenBao, Tools},
};
use serde_json::{Value, json};
use std::path::Path;

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65 }
[issuer.cluster]
profile = "kubernetes"
url = "{issuer.cluster}"
tenancy = "single"
[team.payments]
path = "teams/payments"
"#;

const ROLES: &str = r#"[role.release]
description = "Release payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
[role.release.jwt]
audience = "https://release.acme.example"

[role.artifacts]
description = "Read artifacts for a job, through the gateway"
backend = "aws"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
[role.artifacts.aws]
role_arn = "arn:aws:iam::111122223333:role/artifacts"
region = "eu-west-1"
session_policy = "policies/artifacts.json"

[role.deploy]
description = "Deploy by the shared workflow"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
[role.deploy.require]
job_workflow = { repository = "acme/ci", file = ".github/workflows/deploy.yml", ref = "refs/heads/main" }
[role.deploy.jwt]
audience = "https://deploy.acme.example"
"#;

const SESSION: &str = r#"{ "Version": "2012-10-17",
  "Statement": [{ "Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": "*" }] }
"#;

const MAPPINGS: &str = r#"[file]
issuer = "github"

[[mapping]]
name = "release-by-the-agent"
description = "The coding agent releases main"
roles = ["release"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
[mapping.actor]
required = true
[mapping.actor.match]
issuer = "cluster"
subject = "system:serviceaccount:agents:coder"

[[mapping]]
name = "artifacts-through-the-gateway"
description = "The gateway fetches for whichever job asks it to"
roles = ["artifacts"]
[mapping.match]
repository = [
  { name = "acme/payments-api", id = 740000001 },
  { name = "acme/payments-web", id = 740000002 },
]
[mapping.actor]
required = true
[mapping.actor.match]
issuer = "cluster"
subject = "system:serviceaccount:platform:gateway"

[[mapping]]
name = "deploy-by-the-shared-workflow"
description = "Jobs of the shared workflow deploy main"
roles = ["deploy"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
"#;

struct House {
    github: Issuer,
    cluster: Issuer,
}

impl House {
    fn new() -> Self {
        Self { github: Issuer::github(), cluster: Issuer::github() }
    }

    fn config(&self) -> BrokerConfig {
        let files = [
            ("policy.toml", POLICY),
            ("roles/payments.toml", ROLES),
            ("policies/artifacts.json", SESSION),
            ("teams/payments/a.toml", MAPPINGS),
        ];
        BrokerConfig::with_folder(&files).issuer("github", &self.github).issuer("cluster", &self.cluster)
    }

    fn job(&self) -> Job<'_> {
        self.github.job().branch("main")
    }

    /// The token that a pod of this service account finds in its projected file.
    fn pod(&self, namespace: &str, name: &str, uid: &str) -> Job<'_> {
        self.cluster
            .job()
            .claim("sub", format!("system:serviceaccount:{namespace}:{name}"))
            .claim("kubernetes.io", json!({ "namespace": namespace, "serviceaccount": { "name": name, "uid": uid } }))
    }

    fn coder(&self) -> Job<'_> {
        self.pod("agents", "coder", "2b0f4a1e-0000-4000-8000-000000000001")
    }

    fn gateway(&self) -> Job<'_> {
        self.pod("platform", "gateway", GATEWAY)
    }
}

const GATEWAY: &str = "2b0f4a1e-0000-4000-8000-000000000002";

async fn exchange(broker: &Broker, subject: Job<'_>, actor: Option<Job<'_>>, role: &str) -> Answer {
    let (subject, actor) = (subject.token(broker.audience()), actor.map(|actor| actor.token(broker.audience())));
    let mut form = vec![
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", subject.as_str()),
        ("subject_token_type", ID_TOKEN),
        ("audience", role),
    ];
    if let Some(actor) = &actor {
        form.extend([("actor_token", actor.as_str()), ("actor_token_type", ID_TOKEN)]);
    }
    broker.exchange(&form).await
}

/// An AI coding agent releases for a workflow. Asked by a library that nobody here wrote, and believed by OpenBao for its
/// `act`; who acts is a bound claim, so that the same job without the agent, or with another, has nothing.
#[tokio::test]
async fn a_coding_agent_acts_for_a_workflow() {
    let house = House::new();
    let broker = Broker::start(BINARY, house.config().toml("[backend.aws]")).await;
    let client = async |actor: Job<'_>| {
        let mut node = command::command(&Tools::node(), broker.directory());
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/exchange-oauth4webapi.mjs"))
            .env("CLAIMBOUND_TEST_TOOLS", Tools::directory())
            .env("BROKER_URL", broker.url())
            .env("SUBJECT_TOKEN", house.job().token(broker.audience()))
            .env("ACTOR_TOKEN", actor.token(broker.audience()))
            .env("ROLE", "release")
            .env("PRINT_TOKEN", "1")
            .env("EXPECT_AUDIENCE", "https://release.acme.example");
        let exit = command::finish(&mut node).await;
        (exit.code, serde_json::from_str::<Value>(&exit.stdout).unwrap_or_default(), exit.stderr)
    };
    let (code, said, log) = client(house.coder()).await;
    assert_eq!(code, Some(0), "{said}{log}");
    let act = json!({ "iss": house.cluster.url(), "sub": "system:serviceaccount:agents:coder" });
    assert_eq!(said["payload"]["act"], act, "read by the library from the verified token");
    assert_eq!(said["payload"]["principal"]["id"], "740000001");
    let (code, said_of_other, log) = client(house.gateway()).await;
    assert_eq!(code, Some(3), "{said_of_other}{log}");
    assert_eq!(said_of_other["refused"]["reason"], "actor_not_allowed");

    let bao = OpenBao::start().await;
    bao.trust(&format!("{}/jwks", broker.url()), broker.audience()).await;
    let role = |actor: &str| {
        json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["https://release.acme.example"],
            "bound_claims": { "role": "release", "/act/iss": house.cluster.url(), "/act/sub": actor },
            "token_ttl": "5m",
        })
    };
    bao.write("auth/jwt/role/coder", &role("system:serviceaccount:agents:coder")).await;
    bao.write("auth/jwt/role/other", &role("system:serviceaccount:agents:other")).await;
    let token = said["access_token"].as_str().unwrap();
    let login = bao.login("coder", token).await;
    assert_eq!(login.status, 200, "{}", login.text);
    let login = bao.login("other", token).await;
    assert_eq!(login.status, 400, "bound to another actor: {}", login.text);
    assert!(login.text.contains("/act/sub"), "{}", login.text);
}

/// A service in a cluster fetches for many jobs, each with its own token: every session names both, and ministack gives
/// rights by that pair alone.
#[tokio::test]
async fn a_gateway_fetches_for_many_jobs() {
    let (house, aws) = (House::new(), Ministack::start().await);
    let home = broker_s_home(&aws).await;
    let backend = format!("[backend.aws]\nmode = \"assume-role\"\nendpoint_url = \"{}\"", aws.url());
    let broker = Broker::start_in(home, BINARY, house.config().toml(&backend)).await;
    let actor = format!("cluster-{GATEWAY}");
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": BROKER_ARN }, "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Condition": { "StringEquals": { "aws:RequestTag/claimbound_actor": actor } },
    }] });
    // Only the session of this job, acted for by this service.
    let rights = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*", "Condition": { "StringEquals": {
            "aws:PrincipalTag/claimbound_principal": "github-740000001", "aws:PrincipalTag/claimbound_actor": actor,
        } },
    }] });
    let calls = json!([
        ["iam", "create_role", { "RoleName": "artifacts", "AssumeRolePolicyDocument": trust.to_string() }],
        ["iam", "put_role_policy", { "RoleName": "artifacts", "PolicyName": "a", "PolicyDocument": rights.to_string() }],
    ]);
    aws.boto3(&script(), Ministack::OWNER, &[("SETUP", &calls.to_string())]).await;

    let listed = async |job: Job<'_>| {
        let answer = exchange(&broker, job, Some(house.gateway()), "artifacts").await;
        assert_eq!(answer.status, 200, "{}{}", answer.text, broker.log());
        // The grant, and how minting came out.
        for (body, details) in records::of(&broker, answer.text_of("decision_id")) {
            assert_eq!(body["actor"]["id"], GATEWAY);
            assert_eq!(details["actors"][0]["name"], "platform/gateway");
        }
        let keys = answer.body["credential"].to_string();
        aws.boto3(&script(), &keys, &[("ACTIONS", "list_buckets")]).await["list_buckets"].clone()
    };
    assert_eq!(listed(house.job()).await, 0);
    let web = house.github.job().repository("acme/payments-web").branch("main");
    assert_eq!(id_of("acme/payments-web"), 740_000_002);
    assert_eq!(listed(web).await, "AccessDenied", "another job's session, by the same service");
    let alone = exchange(&broker, house.job(), None, "artifacts").await;
    assert_eq!(alone.body["reason"], "actor_needed", "{}", alone.text);
}

/// A called workflow acts for nobody: it is where the job's steps stand. Called workflow, calling workflow and initiator
/// are three things, and none of them is an actor.
#[tokio::test]
async fn a_reusable_workflow_is_no_actor() {
    let house = House::new();
    let broker = Broker::start(BINARY, house.config().toml("[backend.aws]")).await;
    let job = || {
        let called = "acme/ci/.github/workflows/deploy.yml@refs/heads/main";
        house.job().claim("job_workflow_ref", called).claim("job_workflow_sha", "5".repeat(40))
    };
    let person = job().claim("actor", "octocat").claim("actor_id", "583231");
    let granted = exchange(&broker, person, None, "deploy").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let (body, details) = records::the_one(&broker, granted.text_of("decision_id")).await;
    assert_eq!(body["actor"], Value::Null);
    assert_eq!(details["claims"]["actor_id"], "583231", "who started it, in the part that can be erased");
    assert!(details["claims"]["job_workflow_ref"].as_str().unwrap().starts_with("acme/ci/"));
    assert!(details["claims"]["workflow_ref"].as_str().unwrap().starts_with("acme/payments-api/"));
    let bao = OpenBao::start().await;
    bao.trust(&format!("{}/jwks", broker.url()), broker.audience()).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["https://deploy.acme.example"],
        "bound_claims": { "role": "deploy", "/principal/id": "740000001" }, "token_ttl": "5m",
    });
    bao.write("auth/jwt/role/deploy", &role).await;
    let login = bao.login("deploy", granted.text_of("access_token")).await;
    assert_eq!(login.status, 200, "{}", login.text);

    let other = exchange(&broker, house.job(), None, "deploy").await;
    assert_eq!(other.status, 400, "the caller by itself: {}", other.text);
    let agent = exchange(&broker, job(), Some(house.coder()), "deploy").await;
    assert_eq!(agent.body["reason"], "actor_not_allowed", "{}", agent.text);
}
