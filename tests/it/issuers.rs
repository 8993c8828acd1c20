//! Issuers' keys over HTTP: rotation, and issuers that misbehave.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::{Forge, Job},
    jwt::Algorithm,
    serve::Serve,
    time::eventually,
    trap::Trap,
};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

/// Keys are fetched in the background of a start: within this, on a busy machine too.
const FETCH_COMES: Duration = Duration::from_secs(20);

async fn exchange(broker: &Broker, job: &Job<'_>) -> Answer {
    broker.exchange_for(&job.token(broker.audience()), "payments-release").await
}

fn releasing(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production")
}

/// A broker that has fetched the issuer's keys once and will not again for 30 seconds, whoever asks.
async fn warmed(issuer: &Issuer) -> Broker {
    let broker = Broker::start(BINARY, BrokerConfig::new(issuer)).await;
    eventually(FETCH_COMES, async || (issuer.key_fetches() == 1).then_some(())).await;
    assert_eq!(exchange(&broker, &releasing(issuer)).await.status, 200);
    broker
}

#[tokio::test]
async fn jobs_that_come_before_the_keys_wait_for_one_fetch() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let answers = join_all((0..32).map(async |_| exchange(&broker, &releasing(&issuer)).await)).await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!((issuer.discovery_fetches(), issuer.key_fetches()), (1, 1));
}

#[tokio::test]
async fn a_key_that_nobody_knows_makes_no_fetch_within_the_floor() {
    let issuer = Issuer::github();
    let mut broker = warmed(&issuer).await;
    let old = issuer.key();
    issuer.rotate();
    let new_key = releasing(&issuer);
    for answer in join_all((0..32).map(|_| exchange(&broker, &new_key))).await {
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("token_not_accepted")), "{}", answer.text);
    }
    assert_eq!(issuer.key_fetches(), 1, "whoever can send a token cannot send the broker anywhere");
    let token = new_key.token_by(&old, broker.audience());
    assert_eq!(broker.exchange_for(&token, "payments-release").await.status, 200, "good keys stay");
    assert!(broker.metrics().await.sum("claimbound_exchanges_total", &[("reason", "kid_unknown")]) >= 32.0);

    // A start asks anew: then the new key is believed, and one that was withdrawn no longer.
    issuer.withdraw(old.kid());
    broker.restart().await;
    let answer = exchange(&broker, &new_key).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let withdrawn = new_key.token_by(&old, broker.audience());
    assert_eq!(broker.exchange_for(&withdrawn, "payments-release").await.status, 400);
    assert_eq!(issuer.key_fetches(), 2);
}

#[tokio::test]
async fn good_keys_outlive_an_issuer_that_is_gone() {
    let issuer = Issuer::github();
    let mut broker = warmed(&issuer).await;
    issuer.close();
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // They are not kept over a restart: then the issuer's jobs wait, and the broker is ready all the same.
    broker.restart().await;
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{}", answer.text);
    assert_eq!(broker.get("/readyz").await.status, 200);
    issuer.open();
    broker.restart().await;
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200);
}

/// An issuer that is broken in this way: its jobs wait, and nothing else does.
async fn assert_gives_no_keys(fault: Serve, of_keys: bool) {
    let issuer = Issuer::github();
    let what = format!("{fault:?} for {}", if of_keys { "keys" } else { "discovery" });
    if of_keys {
        issuer.serve_keys(fault)
    } else {
        issuer.serve_discovery(fault)
    }
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    assert_eq!(broker.get("/readyz").await.status, 200, "{what}: no issuer holds up readiness");
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{what}: {}", answer.text);
    assert!(records::of_kind(&broker, "granted").is_empty(), "{what}");
}

#[tokio::test]
async fn what_an_issuer_may_not_answer_gives_no_keys() {
    let trap = Trap::new();
    let cases = [
        (Serve::Status(500), true),
        (Serve::Redirect(trap.url()), true),
        (Serve::Raw(b"{".to_vec()), true),
        (Serve::Json(json!({ "keys": [] })), true),
        (Serve::Huge { blanks: 2_000_000, announced: true }, true),
        (Serve::Huge { blanks: 2_000_000, announced: false }, true),
        (Serve::Redirect(trap.url()), false),
        (Serve::Json(json!({ "issuer": "http://127.0.0.1:1", "jwks_uri": trap.url() })), false),
    ];
    join_all(cases.map(|(fault, of_keys)| assert_gives_no_keys(fault, of_keys))).await;
    trap.assert_silent();
}

#[tokio::test]
async fn an_issuer_that_does_not_finish_gives_no_keys() {
    let cases = [(Serve::Hang, true), (Serve::Drip, true), (Serve::Hang, false)];
    join_all(cases.map(|(fault, of_keys)| assert_gives_no_keys(fault, of_keys))).await;
}

#[tokio::test]
async fn an_issuer_may_have_a_path_and_serve_its_keys_as_text() {
    let issuer = Issuer::start(Forge::GitHub, "/acme-enterprise", Algorithm::Rs256);
    issuer.serve_keys(Serve::ContentType("text/plain"));
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
