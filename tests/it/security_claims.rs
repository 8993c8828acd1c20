//! Attacks on the claim ceremony over HTTP (catalogue 118 to 123): codes that are guessed, people who are not two, jobs
//! that come for what others were given, many at once, and what comes late. What pages show and believe is in `claim_pages`.

use crate::{
    BINARY,
    claim_pages::{SESSION, Visitor, Waits, accounts, assert_page, config, form_token, job, open, redeem, state_of},
    records,
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_test_support::{
    broker::Broker, http::Answer, issuer::Issuer, jwt, postgres::Postgres, provider::Provider, time::eventually,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

/// Where links and providers lead to: nobody listens there, and a browser is led to whichever broker the test likes.
const PUBLIC: &str = "public_url = \"http://127.0.0.1:9\"";
const SOON: Duration = Duration::from_secs(20);

/// Sends a form to claim, whether or not a page has one: whoever has a session can make its token.
async fn type_code(by: &mut Visitor<'_>, waits: &Waits, code: &str) -> Answer {
    let (id, session) = (&waits.id, &by.cookies[SESSION]);
    let token = digest(&SHA256, format!("claimbound form\0claim {id}\0{session}").as_bytes());
    let token = BASE64_URL_SAFE_NO_PAD.encode(token);
    by.post(&format!("/claim/{id}"), &[("form_token", &token), ("code", code), ("reason", "ours")]).await
}

fn error(answer: &Answer) -> (u16, &Value, &Value) {
    (answer.status, &answer.body["error"], &answer.body["reason"])
}

/// Five wrong codes of a person, fifteen of all: however many replicas are asked at once, and whichever was started again.
#[tokio::test]
async fn security_118_codes_are_guessed_at_two_replicas_at_once() {
    let (issuer, provider, server) = (Issuer::github(), Provider::start(&accounts()).await, Postgres::start());
    let config = config(&issuer, &provider, "when = \"every\"").store(&server.url()).server(PUBLIC);
    let mut one = Broker::start(BINARY, config).await;
    let other = one.replica().await;
    let waits = open(&one, &job(&issuer)).await;
    let guess = async |who: &Visitor<'_>, from: usize, times: usize| {
        let guesses = (from..from + times).map(|number| {
            let mut by = who.at(if number % 2 == 0 { &one } else { &other });
            let waits = &waits;
            async move { type_code(&mut by, waits, &format!("0000-00{number:02}")).await.status }
        });
        join_all(guesses).await
    };
    let of = |statuses: &[u16], status: u16| statuses.iter().filter(|one| **one == status).count();
    let ada = Visitor::signed_in(&one, "ada").await;
    let statuses = guess(&ada, 0, 9).await;
    assert_eq!((of(&statuses, 422), of(&statuses, 409)), (5, 4), "{statuses:?}");
    // Who may not claim it counts for nothing.
    let bob = Visitor::signed_in(&other, "bob").await;
    assert_eq!(guess(&bob, 10, 6).await, [404; 6]);

    let (session, mut ada) = (ada.cookies.clone(), ada.at(&other));
    assert_page(&type_code(&mut ada, &waits, &waits.code).await, 409, "Too many of your codes were wrong");
    one.restart().await;
    let mut ada = Visitor::new(&one);
    ada.cookies = session;
    assert_page(&type_code(&mut ada, &waits, &waits.code).await, 409, "Too many of your codes were wrong");

    let guess = async |who: &mut Visitor<'_>, from: usize| {
        let mut statuses = Vec::new();
        for number in from..from + 5 {
            statuses.push(type_code(who, &waits, &format!("0000-00{number:02}")).await.status);
        }
        statuses
    };
    let (mut cat, mut dee) = (Visitor::signed_in(&one, "cat").await, Visitor::signed_in(&other, "dee").await);
    let (mut statuses, more) = tokio::join!(guess(&mut cat, 20), guess(&mut dee, 30));
    statuses.extend(more);
    assert_eq!((of(&statuses, 422), of(&statuses, 409)), (9, 1), "the fifteenth ends it: {statuses:?}");
    assert_page(&dee.get(&format!("/claim/{}", waits.id)).await, 200, "It was rejected");
    assert_eq!(
        error(&redeem(&other, &job(&issuer), &waits).await),
        (400, &json!("access_denied"), &json!("ceremony_rejected"))
    );
    let wrong = records::of_kind(&one, "ceremony").into_iter().filter(|body| body["how"] == "wrong_code");
    assert_eq!(wrong.count(), 15, "each is on record");
}

/// Who started the job, in as many sessions as they like; one person by two accounts; somebody whom nobody can tell apart.
#[tokio::test]
async fn security_119_nobody_is_their_own_second_person() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"\nquorum = 2")).await;
    let job = job(&issuer);
    let waits = open(&broker, &job).await;
    let claim = async |login: &str, status: u16, told: &str| {
        let answer = type_code(&mut Visitor::signed_in(&broker, login).await, &waits, &waits.code).await;
        assert_eq!(answer.status, status, "{login}: {}", answer.text);
        assert!(answer.text.contains(told), "{login}: no `{told}` in {}", answer.text);
    };
    for _ in 0..2 {
        claim("eve", 409, "You started the job").await;
    }
    claim("kim", 409, "is not linked to the CI system").await;
    claim("bob", 404, "Nothing here for you").await;
    claim("ada", 303, "").await;
    claim("ada", 409, "You have claimed it already").await;
    claim("ann", 409, "You have claimed it already").await;
    assert_eq!(redeem(&broker, &job, &waits).await.body["error"], "authorization_pending", "one is not two");
    claim("cat", 303, "").await;
    let answer = redeem(&broker, &job, &waits).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let claims = jwt::claims_of(answer.text_of("access_token"));
    assert_eq!(claims["approved_by"], json!(["idp:ada", "idp:cat"]));
}

/// A claim is good for the job whose log had the code: not for another job or leg of its run, nor for who read its log.
#[tokio::test]
async fn security_120_a_claim_is_good_for_one_job() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let (own, leg) = (job(&issuer), job(&issuer).claim("check_run_id", "48000000002"));
    let first = own.token(broker.audience());
    let answer = broker.exchange_for(&first, "payments-release").await;
    let text = |member: &str| answer.text_of(member).to_owned();
    let id = text("claim_uri").rsplit('/').next().unwrap().to_owned();
    let waits = Waits { id, auth_req_id: text("auth_req_id"), code: text("match_code"), words: text("match_words") };
    let other = open(&broker, &leg).await;
    assert_ne!(other.id, waits.id);
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let crossed = type_code(&mut ada, &waits, &other.code).await;
    assert_page(&crossed, 422, "not the one in the job&#39;s log");
    assert_eq!(type_code(&mut ada, &waits, &waits.code).await.status, 303);
    let before = state_of(&broker, &waits.id);
    assert_eq!(before.0, "claimed");

    // The other leg waits for its own.
    assert_eq!(redeem(&broker, &leg, &other).await.body["error"], "authorization_pending");
    let poll = async |waits: &Waits, more: &[(&str, &str)]| {
        let ciba = [("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", waits.auth_req_id.as_str())];
        broker.exchange(&[&ciba[..], more].concat()).await
    };
    assert_ne!(poll(&other, &[]).await.body["ready"], true);
    for stranger in [
        leg,
        own.clone().claim("run_attempt", "2"),
        own.clone().claim("run_id", "17000000002"),
        own.clone().claim("sha", "1111111111111111111111111111111111111111"),
        own.clone().claim("actor_id", "13"),
        own.clone().environment("staging"),
        own.clone().branch("next"),
        own.clone().job_workflow("acme/ci/.github/workflows/other.yml@refs/heads/main"),
        own.clone().repository("acme/payments-web"),
    ] {
        let answer = redeem(&broker, &stranger, &waits).await;
        assert_eq!(error(&answer), (400, &json!("invalid_grant"), &json!("ceremony_mismatch")), "{}", answer.text);
    }
    // Who read the log, whatever else they have.
    let read = poll(&waits, &[]).await;
    assert_eq!((&read.body["error"], &read.body["ready"]), (&json!("authorization_pending"), &json!(true)));
    let id_token = ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token");
    for (token, reason) in [(first.as_str(), "replay"), ("cbq_none", "token_not_accepted")] {
        let answer = poll(&waits, &[("subject_token", token), id_token]).await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!(reason)), "{}", answer.text);
    }
    for member in ["access_token", "credential", "auth_req_id", "match_code"] {
        assert!(read.body.get(member).is_none(), "{}", read.text);
    }
    assert_eq!(state_of(&broker, &waits.id), before);
    assert!(records::of_kind(&broker, "granted").is_empty());
    let answer = redeem(&broker, &own, &waits).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(records::of_kind(&broker, "granted")[0]["ceremony"], waits.id.as_str());
}

/// Three replicas are one broker: for a person whom each request leads to another, and for a hundred that come for one claim.
#[tokio::test]
async fn security_122_replicas_share_people_and_give_one_credential() {
    let (issuer, provider, server) = (Issuer::github(), Provider::start(&accounts()).await, Postgres::start());
    let config = config(&issuer, &provider, "when = \"every\"").store(&server.url()).server(PUBLIC);
    let one = Broker::start(BINARY, config).await;
    let (two, three) = tokio::join!(one.replica(), one.replica());
    let brokers = [one, two, three];
    let job = job(&issuer);
    let waits = open(&brokers[2], &job).await;
    let path = format!("/claim/{}", waits.id);

    // Begun at one, ended at another, looked at and claimed at others.
    let mut ada = Visitor::new(&brokers[0]);
    let back = ada.provider("ada", Some(&waits.id)).await;
    let mut ada = ada.at(&brokers[1]);
    assert_page(&ada.get(&back).await, 200, "You are signed in");
    let mut ada = ada.at(&brokers[2]);
    let page = ada.get(&path).await;
    assert_page(&page, 200, "It waits for you");
    let token = form_token(&page, &path);
    let mut ada = ada.at(&brokers[0]);
    let done = ada.post(&path, &[("form_token", &token), ("code", &waits.code), ("reason", "release 1.2")]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_page(&ada.at(&brokers[1]).get(&path).await, 200, "It is claimed.");

    let pollers = (0..100).map(|number| redeem(&brokers[number % brokers.len()], &job, &waits));
    let answers = join_all(pollers).await;
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    // A busy machine may not write in time: then nobody is told yes who was not, and the winner may be among them.
    let late = of(503);
    assert!(of(200) == 1 || (of(200) == 0 && late > 0), "{} got it, {late} were too late", of(200));
    for lost in answers.iter().filter(|answer| ![200, 503].contains(&answer.status)) {
        assert_eq!(error(lost), (400, &json!("invalid_grant"), &json!("ceremony_used")), "{}", lost.text);
    }
    assert_eq!(records::of_kind(&brokers[0], "granted").len(), 1);

    let token = form_token(&ada.get("/claim").await, "/claim/sign-out");
    let session = ada.cookies.clone();
    assert_eq!(ada.at(&brokers[1]).post("/claim/sign-out", &[("form_token", &token)]).await.status, 303);
    let mut over = Visitor::new(&brokers[2]);
    over.cookies = session;
    assert_page(&over.get("/claim").await, 200, "Sign in with idp");
}

/// Once, soon, under the rule that people saw, and not too many of them. (Late is `ceremony`'s, whose clock can be moved.)
#[tokio::test]
async fn security_123_what_was_claimed_is_good_once_and_under_its_rule() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let config = config(&issuer, &provider, "when = \"every\"");
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let waits = open(&broker, &job(&issuer)).await;
    assert_eq!(type_code(&mut ada, &waits, &waits.code).await.status, 303);
    assert_page(&type_code(&mut ada, &waits, &waits.code).await, 409, "It is over");
    assert_eq!(redeem(&broker, &job(&issuer), &waits).await.status, 200);
    let again = redeem(&broker, &job(&issuer), &waits).await;
    assert_eq!(error(&again), (400, &json!("invalid_grant"), &json!("ceremony_used")));

    // Another rule between the claim and its job's return.
    let waits = open(&broker, &job(&issuer)).await;
    assert_eq!(type_code(&mut ada, &waits, &waits.code).await.status, 303);
    let version = broker.health().await["mappings_version"].clone();
    broker.rewrite(config.edit("teams/payments/deploy.toml", "max_duration = \"30m\"", "max_duration = \"45m\""));
    broker.signal("HUP").await;
    let judges = async || Some(broker.health().await).filter(|health| health["mappings_version"] != version);
    eventually(SOON, judges).await;
    let changed = redeem(&broker, &job(&issuer), &waits).await;
    assert_eq!(error(&changed), (400, &json!("access_denied"), &json!("ceremony_outdated")), "{}", changed.text);

    // One repository buries nobody in requests; others are not held up by it. Whoever asks too often is slowed down.
    let crowd = (0..40).map(|run| {
        let token = job(&issuer).claim("run_id", format!("{run}")).token(broker.audience());
        let broker = &broker;
        async move { broker.exchange_for(&token, "payments-release").await }
    });
    let crowd = join_all(crowd).await;
    let open_now = crowd.iter().filter(|answer| answer.body["error"] == "authorization_pending").count();
    assert_eq!(open_now, 31, "one is claimed and not redeemed");
    for answer in crowd.iter().filter(|answer| answer.body["error"] != "authorization_pending") {
        assert_eq!((answer.status, &answer.body["reason"]), (429, &json!("ceremony_crowded")), "{}", answer.text);
        assert!(!answer.header("retry-after").is_empty());
    }
    let other = open(&broker, &job(&issuer).repository("acme/payments-web")).await;
    let poll = [("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", other.auth_req_id.as_str())];
    assert_eq!(broker.exchange(&poll).await.body["error"], "authorization_pending");
    assert_eq!(broker.exchange(&poll).await.body["error"], "slow_down");

    let metrics = broker.metrics().await;
    let happened = |event| metrics.sum("claimbound_ceremony_events_total", &[("event", event)]);
    assert_eq!(["opened", "claimed", "withdrawn", "lapsed"].map(happened), [34.0, 2.0, 0.0, 0.0]);
    assert_eq!(metrics.sum("claimbound_ceremony_claim_duration_seconds_count", &[]), 2.0);
}
