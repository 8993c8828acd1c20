//! The `aws` backend against a double of STS that verifies what AWS verifies: each job gets its own session, and every
//! way in which STS can fail ends with the right answer, lease and evidence, and never with a second session.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    sts::{Mood, Sts},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

pub const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{ "Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": "*" }]
}
"#;

const ROLES: &str = r#"[role.payments-deploy]
description = "Deploy payments"
backend = "aws"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
max_duration = "2h"
[role.payments-deploy.aws]
role_arn = "arn:aws:iam::111122223333:role/payments-deploy"
region = "eu-west-1"
session_policy = "policies/payments.json"
session_tags = { team = "payments", repository = "{claim.repository}", info_run = "{claim.run_id}", info_branch = "{claim.branch}" }
"#;

const MAPPING: &str = r#"
[[mapping]]
name = "payments-deploys"
description = "Deploys from any branch"
roles = ["payments-deploy"]
duration = "30m"
[mapping.match]
environment = "staging"
"#;

pub const ROLE_ARN: &str = "arn:aws:iam::111122223333:role/payments-deploy";

/// A folder with one `aws` role, and the backend that it names.
pub fn config(issuer: &Issuer, backend: &str) -> BrokerConfig {
    let mapping = "[[mapping]]\nname = \"payments-staging\"";
    BrokerConfig::new(issuer)
        .file("roles/aws.toml", ROLES)
        .file("policies/payments.json", POLICY)
        .edit("teams/payments/deploy.toml", mapping, &format!("{MAPPING}\n{mapping}"))
        .toml(&format!("[backend.aws]\n{backend}"))
}

/// A broker whose jobs in `staging` get `payments-deploy` by the double.
pub async fn broker(issuer: &Issuer, sts: &Sts, more: &str) -> Broker {
    broker_of(config(issuer, &format!("endpoint_url = \"{}\"\n{more}", sts.url())), sts).await
}

pub async fn broker_of(config: BrokerConfig, sts: &Sts) -> Broker {
    let broker = Broker::start(BINARY, config).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role(ROLE_ARN, "role:payments-deploy");
    broker
}

fn token(issuer: &Issuer, broker: &Broker) -> String {
    issuer.job().environment("staging").token(broker.audience())
}

async fn exchange(broker: &Broker, token: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", ID_TOKEN),
        ("audience", "payments-deploy"),
    ];
    form.extend(more);
    broker.exchange(&form).await
}

/// State and handle of the one lease.
fn lease(broker: &Broker) -> (String, Option<String>) {
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    store.query_row("SELECT state, handle FROM leases", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[tokio::test]
async fn a_job_gets_a_session_that_says_who_it_is() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    let token = token(&issuer, &broker);
    let answer = exchange(&broker, &token, &[]).await;
    assert_eq!(answer.status, 200, "{}{}", answer.text, broker.log());
    let sessions = sts.sessions();
    assert_eq!((sessions.len(), sts.calls()), (1, 1));
    let session = &sessions[0];

    assert_eq!(answer.body["token_type"], "N_A");
    assert_eq!(answer.body["issued_token_type"], "urn:claimbound:params:oauth:token-type:lease");
    let credential = &answer.body["credential"];
    assert_eq!(credential["kind"], "aws");
    assert_eq!(credential["access_key_id"], session.access_key_id);
    assert_eq!(credential["secret_access_key"], session.secret_access_key);
    assert_eq!(credential["session_token"], session.session_token);
    assert_eq!(credential["region"], "eu-west-1");
    let assumed = format!("arn:aws:sts::111122223333:assumed-role/payments-deploy/{}", session.session_name);
    assert_eq!(credential["assumed_role_arn"], assumed);
    let expiration: jiff::Timestamp = credential["expiration"].as_str().unwrap().parse().unwrap();
    let left = expiration.as_second() - claimbound_test_support::time::now();
    assert!((1740..=1805).contains(&left), "{left}");
    assert!((1740..=1805).contains(&answer.body["expires_in"].as_i64().unwrap()));

    let decision = answer.text_of("decision_id");
    assert!(session.session_name.ends_with(decision), "{}", session.session_name);
    assert_eq!(session.source_identity, "github-740000001");
    assert_eq!(session.duration_seconds, 1800);
    assert_eq!(session.tags["team"], "payments");
    assert_eq!(session.tags["repository"], "acme/payments-api");
    assert_eq!(session.tags["claimbound_lease"], answer.text_of("lease_id"));
    assert_eq!(session.tags["claimbound_role"], "payments-deploy");
    assert_eq!(session.tags["claimbound_principal"], "github-740000001");
    assert_eq!(session.transitive, ["claimbound_lease", "claimbound_role", "claimbound_principal"]);
    let sent: Value = serde_json::from_str(session.policy.as_deref().unwrap()).unwrap();
    assert_eq!(sent, serde_json::from_str::<Value>(POLICY).unwrap());
    assert!(!session.policy.as_deref().unwrap().contains(' '), "sent without blanks");
    assert_eq!(session.claims["lease_id"], answer.body["lease_id"]);

    // Two records: that it was granted, and with which key it was settled.
    let records = records::of(&broker, decision);
    let kinds: Vec<_> = records.iter().map(|(body, _)| body["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["granted", "settled"]);
    assert_eq!(records[1].0["handle"], session.access_key_id);
    assert_eq!(lease(&broker), ("issued".to_owned(), Some(session.access_key_id.clone())));
    let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    let handle = answer.text_of("access_token");
    canary::assert_absent(
        broker.directory(),
        &[handle, &session.secret_access_key, &session.session_token, token.rsplit('.').next().unwrap()],
    );
}

#[tokio::test]
async fn a_lease_handle_ends_its_lease_once_and_is_good_for_nothing_else() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
    let handle = answer.text_of("access_token").to_owned();
    let mut other = handle.clone();
    other.replace_range(10..12, if &handle[10..12] == "AA" { "BB" } else { "AA" });
    let as_token = exchange(&broker, &handle, &[]).await;
    assert_eq!((as_token.status, &as_token.body["reason"]), (400, &json!("token_not_accepted")));
    let (credential, assertion) = (&answer.body["credential"], sts.sessions().pop().unwrap().token);
    let session = credential["session_token"].as_str().unwrap();
    // AWS holds our assertion, which names the lease too.
    for wrong in [other.as_str(), session, answer.text_of("lease_id"), &assertion] {
        assert_eq!(broker.revoke(wrong).await.status, 200);
    }
    assert!(records::of_kind(&broker, "ended").is_empty());
    for _ in 0..2 {
        assert_eq!(broker.revoke(&handle).await.status, 200);
    }
    let ended = records::of_kind(&broker, "ended");
    assert_eq!(ended.len(), 1);
    // AWS ends all sessions of a role or none: never said to be dead.
    assert_eq!((&ended[0]["lease"], &ended[0]["effect"]), (&answer.body["lease_id"], &json!("at_expiry")));
    assert_eq!(lease(&broker).0, "ended");
}

#[tokio::test]
async fn security_104_lifetimes_are_clamped_and_never_rounded_up() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    for (asked, given) in [("900", 900), ("3600", 3600), ("999999", 7200)] {
        let answer = exchange(&broker, &token(&issuer, &broker), &[("requested_expires_in", asked)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(sts.sessions().last().unwrap().duration_seconds, given, "what AWS was asked for");
    }
    let before = sts.calls();
    let answer = exchange(&broker, &token(&issuer, &broker), &[("requested_expires_in", "899")]).await;
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("duration_too_short")), "{}", answer.text);
    let answer = exchange(&broker, &token(&issuer, &broker), &[("scope", "s3")]).await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_scope")), "{}", answer.text);
    assert_eq!(sts.calls(), before, "a plan that does not fit asks nobody");
}

#[tokio::test]
async fn security_112_names_of_aws_in_a_request_are_no_roles() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    for role in [ROLE_ARN, "payments-deploy ", "Payments-Deploy", "payments\u{2010}deploy", "payments-deploy.aws"] {
        let answer = broker.exchange_for(&token(&issuer, &broker), role).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_target")), "{role}: {}", answer.text);
    }
    assert_eq!(sts.calls(), 0);
}

/// What a job's author writes reaches AWS only inside a tag that nothing decides by, and hashed if it does not fit.
#[tokio::test]
async fn security_114_text_of_a_job_never_reaches_names_or_policies() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    let long = "x".repeat(250);
    for branch in ["a b", "quo\"te", "quo'te", "a&Action=GetSessionToken", "a\",\"Effect\":\"Allow", &long, "ünï/1"] {
        let job = issuer.job().branch(branch).environment("staging");
        let answer = exchange(&broker, &job.token(broker.audience()), &[]).await;
        assert_eq!(answer.status, 200, "{branch}: {}", answer.text);
        let session = sts.sessions().pop().unwrap();
        assert!(!session.session_name.contains("x") && !session.session_name.contains(branch), "{session:?}");
        assert_eq!(session.source_identity, "github-740000001");
        assert_eq!(
            serde_json::from_str::<Value>(session.policy.as_deref().unwrap()).unwrap(),
            serde_json::from_str::<Value>(POLICY).unwrap()
        );
        let told = &session.tags["info_branch"];
        let fits = branch.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
        assert_eq!(told == branch, fits, "{branch}: {told}");
    }
}

/// The number of exchanges of [`interleaved_exchanges_never_mix`]: `CLAIMBOUND_SOAK` runs all of them.
fn many() -> usize {
    if std::env::var_os("CLAIMBOUND_SOAK").is_some() { 10_000 } else { 400 }
}

#[tokio::test]
async fn interleaved_exchanges_never_mix() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let issuer = &issuer;
    let config =
        config(issuer, &format!("endpoint_url = \"{}\"", sts.url())).server("[server.limits]\nrequests_per_second = 0");
    let broker = Broker::start(BINARY, config).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role(ROLE_ARN, "role:payments-deploy");
    let broker = &broker;
    let answers: Vec<_> = stream::iter(0..many())
        .map(|number| async move {
            let run = (8_000_000 + number).to_string();
            let job = issuer.job().environment("staging").claim("run_id", run.as_str());
            (run, exchange(broker, &job.token(broker.audience()), &[]).await)
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let sessions = sts.sessions();
    assert_eq!((answers.len(), sessions.len()), (many(), many()));
    let by_key: std::collections::HashMap<_, _> = sessions.iter().map(|s| (s.access_key_id.as_str(), s)).collect();
    let mut handles = BTreeSet::new();
    for (run, answer) in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let credential = &answer.body["credential"];
        let session = by_key[credential["access_key_id"].as_str().unwrap()];
        assert_eq!(session.tags["info_run"], *run, "another job's session");
        assert_eq!(session.tags["claimbound_lease"], answer.text_of("lease_id"));
        assert_eq!(session.session_name, format!("{run}-{}", answer.text_of("decision_id")));
        assert_eq!(credential["secret_access_key"], session.secret_access_key);
        assert_eq!(credential["session_token"], session.session_token);
        handles.insert(answer.text_of("access_token"));
    }
    assert_eq!(handles.len(), many(), "each lease has a handle of its own");
}

/// One exchange in a mood of STS: the answer, and the broker to look at.
async fn in_mood(mood: Mood, more: &str) -> (Broker, Sts, Issuer, String, Answer) {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, more).await;
    sts.mood(mood);
    let token = token(&issuer, &broker);
    let answer = exchange(&broker, &token, &[]).await;
    (broker, sts, issuer, token, answer)
}

/// The same token again gives nothing and asks nobody.
async fn again_is_refused(broker: &Broker, sts: &Sts, token: &str) {
    let before = sts.calls();
    sts.mood(Mood::Right);
    let again = exchange(broker, token, &[]).await;
    assert_eq!((again.status, &again.body["reason"]), (400, &json!("replay")), "{}", again.text);
    assert_eq!(sts.calls(), before, "no second mint");
}

#[tokio::test]
async fn a_slow_sts_is_waited_for() {
    let (broker, sts, .., answer) = in_mood(Mood::Slow(Duration::from_millis(1500)), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((lease(&broker).0.as_str(), sts.calls()), ("issued", 1));
}

#[tokio::test]
async fn what_sts_refuses_was_surely_not_minted() {
    for (status, code, reason, remedy) in [
        (403, "AccessDenied", "backend_refused", "claimbound trust aws"),
        (400, "MalformedPolicyDocument", "backend_refused", "session policy"),
        (400, "PackedPolicyTooLarge", "policy_too_large", "shorten the policy or drop tags"),
        (400, "InvalidIdentityToken", "backend_refused", "OIDC provider"),
    ] {
        let (broker, sts, _issuer, token, answer) = in_mood(Mood::Refuse(status, code, "no"), "").await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!(reason)), "{}", answer.text);
        assert_eq!(answer.body["error"], "invalid_target", "no client tries again: {}", answer.text);
        assert!(!answer.text.contains(code), "AWS's own words are for operators: {}", answer.text);
        assert_eq!((lease(&broker).0.as_str(), sts.calls()), ("failed", 1));
        let records = records::of(&broker, answer.text_of("decision_id"));
        assert_eq!(records[1].0["kind"], "refused");
        let told = records[1].1["backend"].as_str().unwrap();
        assert!(told.contains(code) && told.contains(remedy), "{told}");
        again_is_refused(&broker, &sts, &token).await;
    }
}

#[tokio::test]
async fn what_was_cut_after_sending_stays_unknown_and_spent() {
    for (mood, more) in [
        (Mood::Cut, ""),
        (Mood::Hang, "timeout = \"1s\""),
        (Mood::Garble, ""),
        (Mood::Refuse(500, "InternalFailure", "later"), ""),
        (Mood::Refuse(503, "ServiceUnavailable", "later"), ""),
    ] {
        let (broker, sts, _issuer, token, answer) = in_mood(mood.clone(), more).await;
        assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("backend_down")), "{mood:?}: {}", answer.text);
        assert!(answer.body.get("credential").is_none() && answer.body.get("access_token").is_none());
        assert_eq!((lease(&broker).0.as_str(), sts.calls()), ("unknown", 1), "{mood:?}");
        again_is_refused(&broker, &sts, &token).await;
        assert!(sts.sessions().len() <= 1, "{mood:?}");
        let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    }
}

/// Our assertion and the session's keys are told nowhere, however STS answers and whatever is logged.
#[tokio::test]
async fn secrets_of_the_talk_with_aws_are_told_nowhere_at_the_loudest_level() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let config = config(&issuer, &format!("endpoint_url = \"{}\"", sts.url()));
    let filter = "trace,aws_smithy_runtime=trace,aws_smithy_runtime::client::orchestrator=trace";
    let broker = broker_of(config.env("CLAIMBOUND_LOG", filter), &sts).await;
    for (mood, status, told) in [
        (Mood::Right, 200, None),
        (Mood::Garble, 503, Some("STS answered 200")),
        (Mood::Echo, 400, Some("ValidationError: signature '…' of value '…' at")),
    ] {
        sts.mood(mood);
        let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let records = records::of(&broker, answer.text_of("decision_id"));
        let backend = records[1].1["backend"].as_str();
        assert!(told.is_none_or(|told| backend.is_some_and(|text| text.contains(told))), "{backend:?}");
    }
    assert!(broker.log().contains("\"level\":\"TRACE\""), "the loudest level");
    let sessions = sts.sessions();
    assert_eq!(sessions.len(), 2);
    for session in &sessions {
        let signature = session.token.rsplit('.').next().unwrap();
        canary::assert_absent(broker.directory(), &[signature, &session.secret_access_key, &session.session_token]);
    }
}

/// The same of the broker's own AWS identity.
#[tokio::test]
async fn the_broker_s_own_keys_are_told_nowhere_at_the_loudest_level() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let (secret, session) = ("secret-key-of-the-broker", "session-token-of-the-broker");
    let config = config(&issuer, &format!("endpoint_url = \"{}\"\nmode = \"assume-role\"", sts.url()))
        .env("CLAIMBOUND_LOG", "trace,aws_smithy_runtime::client::orchestrator=trace")
        .env("AWS_ACCESS_KEY_ID", "ASIABROKER")
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_SESSION_TOKEN", session);
    let broker = broker_of(config, &sts).await;
    let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let made = sts.sessions().pop().unwrap();
    canary::assert_absent(broker.directory(), &[secret, session, &made.secret_access_key, &made.session_token]);
}

#[tokio::test]
async fn only_what_aws_says_to_send_again_goes_again() {
    for code in ["Throttling", "IDPCommunicationError"] {
        let (broker, sts, .., answer) = in_mood(Mood::RefuseTimes(2, 400, code), "").await;
        assert_eq!(answer.status, 200, "{code}: {}", answer.text);
        assert_eq!((sts.calls(), sts.sessions().len()), (3, 1), "{code}");
        assert_eq!(lease(&broker).0, "issued");
    }
    let (broker, sts, .., answer) = in_mood(Mood::RefuseTimes(9, 400, "Throttling"), "").await;
    assert_eq!(
        (answer.status, &answer.body["reason"], sts.calls()),
        (503, &json!("backend_down"), 3),
        "{}",
        answer.text
    );
    assert_eq!(lease(&broker).0, "failed");
}

#[tokio::test]
async fn an_assertion_of_another_issuer_or_role_is_refused_by_the_double() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    sts.role(ROLE_ARN, "role:another");
    let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
    assert_eq!(answer.body["reason"], "backend_refused", "{}", answer.text);
    // Keys of another broker under this one's name.
    let (other, fresh) = (Broker::start(BINARY, BrokerConfig::new(&issuer)).await, Sts::new());
    let third = self::broker(&issuer, &fresh, "").await;
    fresh.provider(third.audience(), &format!("{}/jwks", other.url()));
    let answer = exchange(&third, &token(&issuer, &third), &[]).await;
    assert_eq!(answer.body["reason"], "backend_refused", "{}", answer.text);
    assert!(fresh.sessions().is_empty());
}

/// `mode = "assume-role"` needs the broker's own keys; the bench gives it none through its environment, so they come
/// from a profile file in its home, as a container platform would mount one.
async fn assume_role(sts: &Sts, issuer: &Issuer, more: &str) -> Broker {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let keys = "[default]\naws_access_key_id = AKIABROKER\naws_secret_access_key = broker-secret\n";
    std::fs::write(home.path().join(".aws/credentials"), keys).unwrap();
    let config = config(issuer, &format!("mode = \"assume-role\"\nendpoint_url = \"{}\"\n{more}", sts.url()));
    sts.role(ROLE_ARN, "unused");
    Broker::start_in(home, BINARY, config).await
}

#[tokio::test]
async fn the_broker_s_own_identity_assumes_roles_too() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = assume_role(&sts, &issuer, "external_id = \"claimbound-1\"").await;
    let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
    assert_eq!(answer.status, 200, "{}{}", answer.text, broker.log());
    let session = sts.sessions().pop().unwrap();
    assert_eq!(session.external_id.as_deref(), Some("claimbound-1"));
    assert_eq!(session.source_identity, "github-740000001");
    assert_eq!(session.tags["claimbound_principal"], "github-740000001");
    assert_eq!(session.transitive, ["claimbound_lease", "claimbound_role", "claimbound_principal"]);
    assert!(session.policy.is_some() && session.claims.is_null());
}

#[tokio::test]
async fn a_broker_that_is_a_session_itself_gives_one_hour_at_most() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    sts.caller("arn:aws:sts::999900001111:assumed-role/broker/i-0123456789");
    let broker = assume_role(&sts, &issuer, "").await;
    assert!(broker.log().contains("limited to 1 h"), "{}", broker.log());
    let answer = exchange(&broker, &token(&issuer, &broker), &[("requested_expires_in", "7200")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(sts.sessions().pop().unwrap().duration_seconds, 3600);
    assert!(answer.body["expires_in"].as_i64().unwrap() <= 3600, "the answer says what was given");
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    let lives: i64 = store.query_row("SELECT expires - opened FROM leases", [], |row| row.get(0)).unwrap();
    assert_eq!(lives, 3600, "so does the lease");
    let form = [("requested_expires_in", "7200"), ("dry_run", "true")];
    let dry = exchange(&broker, &token(&issuer, &broker), &form).await;
    assert_eq!(dry.body["expires_in"], 3600, "and a dry run: {}", dry.text);
}

#[tokio::test]
async fn serve_says_what_aws_could_never_reach() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    assert!(broker.log().contains("is a loopback address"), "{}", broker.log());
    let other = assume_role(&sts, &issuer, "").await;
    assert!(!other.log().contains("loopback address"), "{}", other.log());
}

#[tokio::test]
async fn a_backend_that_is_not_configured_stops_the_start() {
    let issuer = Issuer::github();
    let config = config(&issuer, "").edit("roles/aws.toml", "backend = \"aws\"", "backend = \"aws-china\"");
    let exit = Broker::refused(BINARY, &config).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("CB0800") && exit.stderr.contains("aws-china"), "{}", exit.stderr);
}

#[tokio::test]
async fn the_doctor_names_what_is_missing_and_leaves_nothing_that_works() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    // It signs with the broker's keys under the broker's name, which here only the bound address tells.
    let text = std::fs::read_to_string(broker.config_path()).unwrap();
    let text = text.replace("[server]", &format!("[server]\npublic_url = \"{}\"", broker.audience()));
    std::fs::write(broker.directory().join("doctor.toml"), text).unwrap();
    let words = ["doctor", "aws", "--role", "payments-deploy", "--config", "doctor.toml"];
    let told = broker.command(&words).await;
    assert_eq!(told.code, Some(1), "a loopback issuer is missing something: {}{}", told.stdout, told.stderr);
    assert!(told.stdout.contains("is a loopback address"), "{}", told.stdout);
    assert!(
        told.stdout.contains("hold the signing key") && told.stdout.contains("AWS gave a session"),
        "{}",
        told.stdout
    );
    let session = sts.sessions().pop().unwrap();
    assert!(session.policy.unwrap().contains(r#""Effect":"Deny""#), "the session may do nothing");
    assert_eq!((session.tags["claimbound_principal"].as_str(), sts.calls()), ("github-740000001", 1));
    sts.mood(Mood::Refuse(403, "AccessDenied", "not authorized to perform sts:TagSession"));
    let told = broker.command(&words).await;
    assert!(told.stdout.contains("sts:TagSession") && told.stdout.contains("claimbound trust aws"), "{}", told.stdout);
}

#[tokio::test]
async fn trust_is_printed_in_three_forms_and_pins_only_what_mappings_pin() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = broker(&issuer, &sts, "").await;
    let url = ["--issuer-url", "https://oidc.acme.example/ci", "--mappings", "mappings", "--role"];
    let print = async |more: &[&str]| broker.command(&[&["trust", "aws"], &url[..], more].concat()).await;
    let terraform = print(&["payments-deploy", "--pin"]).await.stdout;
    for line in [
        "resource \"aws_iam_openid_connect_provider\" \"claimbound\" {",
        "client_id_list = [\"sts.amazonaws.com\"]",
        "resource \"aws_iam_role\" \"payments_deploy\" {",
        "max_session_duration = 7200",
        "\"oidc.acme.example/ci:sub\": \"role:payments-deploy\"",
        "\"aws:RequestTag/claimbound_principal\": [",
        "\"github-740000001\"",
    ] {
        assert!(terraform.contains(line), "{line}\n{terraform}");
    }
    let template: Value =
        serde_json::from_str(&print(&["payments-deploy", "--format", "cloudformation"]).await.stdout).unwrap();
    let statement =
        &template["Resources"]["PaymentsDeployRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
    assert_eq!(statement["Principal"]["Federated"], "arn:aws:iam::111122223333:oidc-provider/oidc.acme.example/ci");
    assert_eq!(
        statement["Action"],
        json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"])
    );
    assert_eq!(statement["Condition"].as_object().unwrap().keys().collect::<Vec<_>>(), ["StringEquals"]);
    // The boundary by which sessions end, beside the role that it bounds.
    let terraform = print(&["payments-deploy", "--boundary"]).await.stdout;
    for line in [
        "resource \"aws_iam_policy\" \"claimbound_denials\" {\n  name   = \"claimbound-denials\"\n  path   = \"/\"\n",
        "ignore_changes = [policy]",
        "permissions_boundary = aws_iam_policy.claimbound_denials.arn",
        "\"Resource\": \"arn:aws:iam::111122223333:policy/claimbound-denials\"",
        "\"iam:CreatePolicyVersion\"",
    ] {
        assert!(terraform.contains(line), "{line}\n{terraform}");
    }
    let bounded = print(&["payments-deploy", "--boundary", "--format", "cloudformation"]).await.stdout;
    let bounded: Value = serde_json::from_str(&bounded).unwrap();
    let role = &bounded["Resources"]["PaymentsDeployRole"]["Properties"];
    assert_eq!(role["PermissionsBoundary"], json!({ "Ref": "ClaimboundDenials" }));
    let policy = &bounded["Resources"]["ClaimboundDenials"]["Properties"];
    assert_eq!((&policy["ManagedPolicyName"], &policy["Path"]), (&json!("claimbound-denials"), &json!("/")));
    let own = "arn:aws:iam::999900001111:role/claimbound";
    for wide in ["*", "arn:aws:iam::*:root", "arn:aws:sts::999900001111:assumed-role/claimbound/i-1"] {
        let refused = print(&["payments-deploy", "--broker-arn", wide]).await;
        assert!(refused.code == Some(2) && refused.stderr.contains("no IAM role or user"), "{}", refused.stderr);
    }
    let refused = print(&["payments-deploy", "--broker-arn", own]).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("leave out `--broker-arn`"), "{}", refused.stderr);
    let refused = print(&["payments-secrets"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("only `aws` roles"), "{}", refused.stderr);
}

#[tokio::test]
async fn the_example_loads_with_its_configuration() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/aws");
    let run = async |words: &[&str]| {
        claimbound_test_support::command::run(std::path::Path::new(BINARY), &example, words).await
    };
    let checked = run(&["check", "mappings", "--deny-warnings"]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let served = run(&["serve", "--check", "--config", "claimbound.toml"]).await;
    assert_eq!(served.code, Some(0), "{}{}", served.stdout, served.stderr);
    assert!(!served.stderr.contains("warning"), "{}", served.stderr);
    // The trust policies in the Terraform are those that are printed, each for its account.
    for (target, account) in [("staging", "111122223333"), ("production", "444455556666")] {
        let words = ["trust", "aws", "--role", &format!("payments-deploy.{target}"), "--format", "json"];
        let printed: Value = serde_json::from_str(&run(&words).await.stdout).unwrap();
        let terraform = std::fs::read_to_string(example.join("main.tf")).unwrap().replace("${var.target}", target);
        let statement = &printed["trust_policy"]["Statement"][0];
        for (condition, value) in statement["Condition"]["StringEquals"].as_object().unwrap() {
            assert!(terraform.contains(&format!("{condition:?} = {value}")), "{condition} = {value}");
        }
        assert!(terraform.contains(&statement["Action"].to_string().replace(',', ", ")), "{statement}");
        assert!(statement["Principal"].to_string().contains(&format!("::{account}:")), "{statement}");
        assert!(terraform.contains(&format!("{target:<10} = {account:?}")), "{target}: {account}");
    }
}

#[tokio::test]
async fn a_mapping_that_aws_could_never_serve_is_warned_of() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let config = config(&issuer, &format!("endpoint_url = \"{}\"", sts.url()));
    let config = config.edit(
        "teams/payments/deploy.toml",
        "duration = \"30m\"\n[mapping.match]\nenvironment = \"staging\"",
        "duration = \"5m\"\n[mapping.match]\nenvironment = \"staging\"",
    );
    let broker = Broker::start(BINARY, config).await;
    let checked = broker.command(&["check", "mappings"]).await;
    assert!(checked.code == Some(0) && checked.stdout.contains("CB0830"), "{}{}", checked.stdout, checked.stderr);
    let answer = exchange(&broker, &token(&issuer, &broker), &[]).await;
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("duration_too_short")), "{}", answer.text);
    assert_eq!(sts.calls(), 0);
}
