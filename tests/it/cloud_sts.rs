//! The STS look-alike: its form and answers against the double of STS, and the SDKs of others against ministack.

use crate::{BINARY, cloud_aws, records};
use claimbound_test_support::{
    broker::Broker,
    command::{command, finish},
    config::BrokerConfig,
    http::{self, Answer, post_form},
    issuer::Issuer,
    jwt::Key,
    sts::{Mood, Sts},
    time::eventually,
    tools::{Ministack, Tools},
};
use serde_json::{Value, json};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const POLICY: &str = "format = 1\n[issuer.github]\nprofile = \"github-actions\"\nurl = \"{issuer.github}\"\nowners = { acme = 65 }\n\
    [issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\
    [team.payments]\npath = \"teams/payments\"\napprovers = [\"okta:group:leads\"]\nmay = [\"sts_uses_per_token\"]\n";
/// By whom approvers are known.
const SIGN_IN: &str = "[[sign_in]]\nname = \"okta\"\nissuer = \"https://acme.okta.example\"\nclient_id = \"c\"\n";
const NARROW: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#;

fn roles() -> String {
    let head = |name: &str, backend: &str| {
        format!(
            "[role.{name}]\ndescription = \"d\"\nbackend = \"{backend}\"\nteams = [\"payments\"]\nissuers = [\"github\", \"gitlab\"]\n\
             sensitivity = \"internal\"\nmax_duration = \"2h\"\n[role.{name}.{backend}]\n"
        )
    };
    let aws = |name: &str, more: &str| {
        format!("{}role_arn = \"{}\"\nregion = \"eu-west-1\"\n{more}\n", head(name, "aws"), arn_of(name))
    };
    let jwt = format!("{}audience = \"https://token.acme.example\"\n", head("token", "jwt"));
    [aws("deploy", ""), aws("bounded", "session_policy = \"policies/narrow.json\""), aws("claimed", ""), jwt].concat()
}

fn mappings() -> String {
    let one = |name: &str, issuer: &str, roles: &str, more: &str| {
        format!(
            "[[mapping]]\nname = \"{name}\"\ndescription = \"d\"\nissuer = \"{issuer}\"\nroles = [{roles}]\n[mapping.match]\n\
             repository = {{ name = \"acme/payments-api\", id = 740000001 }}\nbranch = \"main\"\n{more}\n"
        )
    };
    [
        one("hub", "github", "\"deploy\", \"bounded\", \"token\"", ""),
        one("waits", "github", "\"claimed\"", "[mapping.ceremony]\nwhen = \"every\""),
        one("lab", "gitlab", "\"deploy\"", "[mapping.limit]\nsts_uses_per_token = 2"),
    ]
    .concat()
}

fn arn_of(role: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{role}")
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::000000000000:role/claimbound/{name}")
}

struct House {
    github: Issuer,
    gitlab: Issuer,
    sts: Sts,
    broker: Broker,
}

impl House {
    async fn new() -> Self {
        let (github, gitlab, sts) = (Issuer::github(), Issuer::gitlab(), Sts::new());
        let (roles, mappings) = (roles(), mappings());
        let files = [
            ("policy.toml", POLICY),
            ("roles/r.toml", roles.as_str()),
            ("policies/narrow.json", NARROW),
            ("teams/payments/m.toml", mappings.as_str()),
        ];
        let config = BrokerConfig::with_folder(&files)
            .issuer("github", &github)
            .issuer("gitlab", &gitlab)
            .server("trusted_proxies = [\"127.0.0.1\"]")
            .toml(&format!("[backend.aws]\nendpoint_url = \"{}\"\n{SIGN_IN}", sts.url()));
        let broker = Broker::start(BINARY, config).await;
        sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
        for name in ["deploy", "bounded", "claimed"] {
            sts.role(&arn_of(name), &format!("role:{name}"));
        }
        Self { github, gitlab, sts, broker }
    }

    fn token(&self) -> String {
        self.github.job().branch("main").token(self.broker.audience())
    }

    async fn assume(&self, token: &str, arn: &str, more: &[(&str, &str)]) -> Answer {
        post_form(&format!("{}/aws/sts", self.broker.url()), &form(token, arn, more)).await
    }

    /// A row's first number.
    fn count(&self, sql: &str) -> i64 {
        let store = rusqlite::Connection::open(self.broker.database()).unwrap();
        store.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn form<'f>(token: &'f str, arn: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut form = vec![
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", arn),
        ("RoleSessionName", "ci-7"),
        ("WebIdentityToken", token),
    ];
    for pair in more {
        form.retain(|(name, _)| *name != pair.0);
        form.push(*pair);
    }
    form
}

#[track_caller]
fn element<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let found = answer.text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
    found.unwrap_or_else(|| panic!("no `{name}` in {} {}", answer.status, answer.text)).0
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!((answer.status, element(answer, "Code")), (status, code), "{}", answer.text);
    assert!(element(answer, "Message").contains(words), "{}", answer.text);
    assert!(!answer.text.contains("Credentials"), "{}", answer.text);
    assert_eq!(answer.header("x-amzn-requestid"), element(answer, "RequestId"));
}

#[tokio::test]
async fn a_session_is_given_in_the_words_of_sts_and_once() {
    let house = House::new().await;
    let token = house.token();
    let long = [("DurationSeconds", "43200")];
    let answer = house.assume(&token, &role("deploy"), &long).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/xml"),
        "{}{}",
        answer.text,
        house.broker.log()
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let session = house.sts.sessions().remove(0);
    assert_eq!(session.duration_seconds, 7_200, "the role's ceiling");
    for (name, expected) in [
        ("AccessKeyId", session.access_key_id.as_str()),
        ("SecretAccessKey", &session.secret_access_key),
        ("SessionToken", &session.session_token),
        ("Arn", &format!("arn:aws:sts::111122223333:assumed-role/deploy/{}", session.session_name)),
        ("AssumedRoleId", &format!("AROA:{}", session.session_name)),
        ("SourceIdentity", "github-740000001"),
        ("Provider", house.github.url()),
        ("Audience", house.broker.audience()),
        ("SubjectFromWebIdentityToken", "repo:acme/payments-api:ref:refs/heads/main"),
        ("PackedPolicySize", "0"),
    ] {
        assert_eq!(element(&answer, name), expected, "{name}");
    }
    let decision = element(&answer, "RequestId");
    assert!(session.session_name.ends_with(decision), "what the client calls it stands in evidence alone");
    let records = records::of(&house.broker, decision);
    let kinds: Vec<_> = records.iter().map(|(body, _)| body["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["granted", "settled"]);
    assert_eq!(records[0].1["sts"]["session_name"], "ci-7");
    assert_eq!(records[0].1["asked"]["role"], "deploy");

    // The same again is told what became of it; another request, that the token is spent. Neither makes anything.
    let again = house.assume(&token, &role("deploy"), &[long[0], ("RoleSessionName", "ci-8")]).await;
    refused(&again, 403, "AccessDenied", &format!("this token was used for lease {decision};"));
    assert_eq!(element(&again, "RequestId"), decision);
    let other = house.assume(&token, &role("deploy"), &[]).await;
    refused(&other, 403, "AccessDenied", "This token was used before");
    assert!(!other.text.contains(decision), "{}", other.text);
    assert_eq!((house.sts.calls(), house.count("SELECT count(*) FROM leases")), (1, 1));
    let metrics = house.broker.metrics().await;
    assert_eq!(metrics.sum("claimbound_sts_answers_total", &[("code", "ok")]), 1.0);
    assert_eq!(metrics.sum("claimbound_sts_answers_total", &[("code", "AccessDenied")]), 2.0);
}

#[tokio::test]
async fn refusals_are_final_and_told_again_word_for_word() {
    let house = House::new().await;
    let at_cost = |answer: &Answer| {
        let status = answer.status;
        assert!((400..429).contains(&status), "no client may send it again: {status} {}", answer.text);
    };
    let policy = [("Policy", NARROW)];
    for (arn, more, words) in [
        (role("nobody"), &[][..], "reason `no_mapping`"),
        (arn_of("claimed-by-nobody"), &[], "reason `no_mapping`"),
        (role("token"), &[], "reason `not_aws`"),
        (role("claimed"), &[], "reason `ceremony_direct`"),
        (role("bounded"), &policy, "reason `policy_not_narrower`"),
        (role("deploy"), &[("Policy", "{}")], "reason `policy_not_narrower`"),
        (
            role("deploy"),
            &[("PolicyArns.member.1.arn", "arn:aws-cn:iam::aws:policy/x")],
            "reason `policy_not_narrower`",
        ),
    ] {
        let token = house.token();
        let first = house.assume(&token, &arn, more).await;
        refused(&first, 403, "AccessDenied", words);
        at_cost(&first);
        let again = house.assume(&token, &arn, more).await;
        assert_eq!((again.status, &again.text), (403, &first.text), "{arn}");
        let other = house.assume(&token, &role("deploy"), &[("DurationSeconds", "900")]).await;
        refused(&other, 403, "AccessDenied", "This token was used before");
    }
    assert_eq!((house.sts.calls(), house.count("SELECT count(*) FROM leases")), (0, 0));
    assert_eq!(house.count("SELECT count(*) FROM ceremonies"), 0);

    // What fails before the token is read costs nothing.
    let token = house.token();
    let url = format!("{}/aws/sts/", house.broker.url());
    for (more, code) in [
        ([("Action", "AssumeRole")], "InvalidAction"),
        ([("RoleArn", "arn:aws-cn:iam::111122223333:role/deploy")], "ValidationError"),
        ([("DurationSeconds", "60")], "ValidationError"),
        ([("Tags.member.1.Key", "a")], "ValidationError"),
    ] {
        refused(&post_form(&url, &form(&token, &role("deploy"), &more)).await, 400, code, "");
    }
    let presigned = format!("{url}?X-Amz-Signature=a");
    refused(&post_form(&presigned, &form(&token, &role("deploy"), &[])).await, 400, "ValidationError", "in the URL");
    let forged = house.github.job().token_by(&Key::rs256().with_kid(house.github.key().kid()), house.broker.audience());
    refused(&house.assume(&forged, &role("deploy"), &[]).await, 400, "InvalidIdentityToken", "not accepted");

    // A real ARN names the one role of this job that has it; policies narrow a role that has none.
    let arns = [("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"), policy[0]];
    let answer = post_form(&url, &form(&token, &arn_of("deploy"), &arns)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let session = house.sts.sessions().remove(0);
    assert_eq!(session.policy.as_deref(), Some(NARROW));
    assert_eq!(session.policy_arns, ["arn:aws:iam::aws:policy/ReadOnlyAccess"]);

    // What AWS refuses, and what it does not answer: the second time both are final.
    for (mood, status, code) in [
        (Mood::Refuse(403, "AccessDenied", "no"), 403, "AccessDenied"),
        (Mood::Refuse(500, "InternalFailure", "no"), 503, "ServiceUnavailable"),
    ] {
        house.sts.mood(mood);
        let token = house.token();
        let first = house.assume(&token, &role("deploy"), &[]).await;
        refused(&first, status, code, "reason `backend_");
        assert_eq!(first.header("retry-after").is_empty(), status == 403);
        house.sts.mood(Mood::Right);
        let calls = house.sts.calls();
        let again = house.assume(&token, &role("deploy"), &[]).await;
        refused(&again, 403, "AccessDenied", element(&first, "Message"));
        assert_eq!((element(&again, "RequestId"), house.sts.calls()), (element(&first, "RequestId"), calls));
    }
    let verified = house.broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn the_same_request_waits_for_the_one_that_is_under_way() {
    let house = House::new().await;
    house.sts.mood(Mood::Wait);
    let token = house.token();
    let deploy = role("deploy");
    let first = house.assume(&token, &deploy, &[]);
    let second = async {
        eventually(Duration::from_secs(20), async || (house.sts.sessions().len() == 1).then_some(())).await;
        let mut second = Box::pin(house.assume(&token, &deploy, &[]));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
        assert!(early.is_err(), "it waits: {early:?}");
        house.sts.mood(Mood::Right);
        second.await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.status, 200, "{}", first.text);
    refused(&second, 403, "AccessDenied", &format!("was used for lease {}", element(&first, "RequestId")));
    assert_eq!(house.sts.calls(), 1);
}

async fn identity(broker: &Broker, key: &str, token: &str, signed: &str) -> Answer {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key}/20270115/eu-west-1/sts/aws4_request, SignedHeaders={signed}, Signature={}",
        "0".repeat(64)
    );
    let request = http::client().post(format!("{}/aws/sts", broker.url()));
    let request = request.header("authorization", authorization).header("x-amz-security-token", token);
    http::send(request.form(&[("Action", "GetCallerIdentity"), ("Version", "2011-06-15")])).await.unwrap()
}

#[tokio::test]
async fn who_a_session_is_is_told_to_whoever_holds_it_while_its_lease_lives() {
    let house = House::new().await;
    let given = [
        house.assume(&house.token(), &role("deploy"), &[]).await,
        house.assume(&house.token(), &role("bounded"), &[]).await,
    ];
    let [(key, token), (other_key, _)] =
        given.each_ref().map(|answer| (element(answer, "AccessKeyId"), element(answer, "SessionToken")));
    let signed = "host;x-amz-date;x-amz-security-token";
    let answer = identity(&house.broker, key, token, signed).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(element(&answer, "Arn"), element(&given[0], "Arn"));
    assert_eq!(element(&answer, "UserId"), element(&given[0], "AssumedRoleId"));
    assert_eq!(element(&answer, "Account"), "111122223333");
    let mut texts = Vec::new();
    for (key, token, signed) in [
        (key, token, "host;x-amz-date"),
        (key, token, "x-amz-security-token"),
        (key, "another", signed),
        (other_key, token, signed),
        ("ASIA9999999999999999", token, signed),
    ] {
        let answer = identity(&house.broker, key, token, signed).await;
        refused(&answer, 403, "InvalidClientTokenId", "");
        texts.push(element(&answer, "Message").to_owned());
    }
    let lease = element(&given[0], "RequestId").replace('-', "");
    house.count(&format!("UPDATE leases SET state = 'ended' WHERE hex(id) = upper('{lease}') RETURNING 1"));
    let answer = identity(&house.broker, key, token, signed).await;
    refused(&answer, 403, "InvalidClientTokenId", &texts[0]);
    texts.dedup();
    assert_eq!(texts.len(), 1, "one answer for all causes");
}

#[tokio::test]
async fn a_token_has_several_uses_where_its_mapping_says_so() {
    let house = House::new().await;
    let token = house.gitlab.job().branch("main").token(house.broker.audience());
    let (url, deploy) = (format!("{}/aws/sts", house.broker.url()), role("deploy"));
    let from = async |address: &str, more: &[(&str, &str)]| {
        let request = http::client().post(&url).header("x-forwarded-for", address);
        http::send(request.form(&form(&token, &deploy, more))).await.unwrap()
    };
    let first = from("203.0.113.9", &[]).await;
    assert_eq!(first.status, 200, "{}{}", first.text, house.broker.log());
    refused(&from("198.51.100.7", &[]).await, 403, "AccessDenied", "was used for lease");
    refused(&from("203.0.113.9", &[("RoleArn", &role("bounded"))]).await, 403, "AccessDenied", "");
    let second = from("203.0.113.9", &[("RoleSessionName", "another")]).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_ne!(element(&first, "AccessKeyId"), element(&second, "AccessKeyId"));
    refused(&from("203.0.113.9", &[]).await, 403, "AccessDenied", "was used for lease");
    assert_eq!(house.count("SELECT count(*) FROM leases WHERE state = 'issued'"), 2);
    // A job that can get another token needs none of this.
    let token = house.token();
    assert_eq!(house.assume(&token, &deploy, &[]).await.status, 200);
    refused(&house.assume(&token, &deploy, &[]).await, 403, "AccessDenied", "was used for lease");
}

/// Nothing but what the documentation names.
fn environment(home: &Path, aws: &Ministack, broker: &Broker, issuer: &Issuer) -> Vec<(&'static str, String)> {
    let token = home.join("token");
    std::fs::write(&token, issuer.job().environment("staging").token(broker.audience())).unwrap();
    let mut all = vec![
        ("AWS_ENDPOINT_URL_STS", format!("{}/aws/sts", broker.url())),
        ("AWS_ROLE_ARN", role("payments-deploy")),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_ENDPOINT_URL_S3", aws.url().to_owned()),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("AWS_DEFAULT_REGION", "eu-west-1".to_owned()),
        ("CLAIMBOUND_TEST_TOOLS", Tools::directory().display().to_string()),
    ];
    all.extend(Tools::python_environment());
    all
}

#[tokio::test]
async fn sdks_of_others_get_their_keys_and_may_do_what_those_may() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    for (program, script) in [(Path::new("python3").to_owned(), "sts.py"), (Tools::node(), "sts.mjs")] {
        let home = tempfile::tempdir().unwrap();
        let mut child = command(&program, home.path())
            .arg(clients.join(script))
            .envs(environment(home.path(), &aws, &broker, &issuer))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = async || -> Value {
            let line = lines.next_line().await.unwrap();
            let log = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
            serde_json::from_str(&line.unwrap_or_else(|| panic!("{script}: {}{}", log(), broker.log()))).unwrap()
        };
        let said = line().await;
        let arn = said["identity"]["Arn"].as_str().unwrap();
        assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/payments-deploy/"), "{said}");
        assert_eq!((&said["buckets"], &said["create"]), (&json!(0), &json!("AccessDenied")), "{script}: {said}");
        assert_eq!(said["identity"]["Account"], Ministack::ACCOUNT);
        let error = said["assume"].as_str().unwrap();
        assert!(error.starts_with("InvalidAction"), "{script}: {said}");
        let store = rusqlite::Connection::open(broker.database()).unwrap();
        let alive = store.execute("UPDATE leases SET state = 'ended' WHERE state = 'issued'", []).unwrap();
        assert_eq!(alive, 1, "{script}: one exchange for all of it");
        child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
        let ended = line().await;
        assert!(ended["ended"].as_str().unwrap().starts_with("InvalidClientTokenId"), "{script}: {ended}");
        child.wait().await.unwrap();
    }
}

#[tokio::test]
async fn the_aws_command_line_gets_its_keys_at_the_look_alike() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let home = tempfile::tempdir().unwrap();
    let run = async |words: &[&str]| {
        let environment = environment(home.path(), &aws, &broker, &issuer);
        let mut aws = command(Path::new("python3"), home.path());
        finish(aws.arg(Tools::aws()).args(words).args(["--output", "json"]).envs(environment)).await
    };
    let exit = run(&["s3api", "list-buckets"]).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stderr, broker.log());
    let said: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(said["Buckets"], json!([]));
    let exit = run(&["s3api", "create-bucket", "--bucket", "x"]).await;
    assert!(exit.stderr.contains("AccessDenied"), "{}{}", exit.stdout, exit.stderr);
    let exit = run(&["sts", "get-caller-identity"]).await;
    let said: Value = serde_json::from_str(&exit.stdout).unwrap_or_else(|_| panic!("{}", exit.stderr));
    assert!(said["Arn"].as_str().unwrap().contains(":assumed-role/payments-deploy/"), "{said}");
}
