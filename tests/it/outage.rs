//! A disk without room, a store that takes no writes, one that somebody else holds: 503, nothing issued, and grants again
//! as soon as there is room, by the same process.

use crate::{
    BINARY, aws,
    postgres::{COMES, ROLE, assert_down, config, granted_again, token, verify},
    records,
};
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    issuer::Issuer,
    postgres::Postgres,
    sts::{Mood, Sts},
    time::eventually,
};
use serde_json::json;
use std::fs;

const DEPLOY: &str = "payments-deploy";
/// Too little for any commit: its last page comes to an end in the middle.
const HALF_A_COMMIT_BYTES: u64 = 1_000;
/// What a server may write its files to when it is full, and rows that fill a table beyond that.
const FULL_BYTES: u64 = 1024 * 1024;
const FILLING: &str =
    "INSERT INTO claimbound.spent SELECT sha256(row::text::bytea), 9999999999, sha256('request'), 'ended', 0
    FROM generate_series(1, 10000) AS row";

async fn assert_unready(broker: &Broker) {
    assert_eq!(broker.get("/readyz").await.status, 503);
    assert_eq!(broker.health().await["store"]["writable"], false);
    assert_eq!(broker.metrics().await.sum("claimbound_store_writable", &[]), 0.0);
}

fn grants(broker: &Broker) -> usize {
    records::of_kind(broker, "granted").len()
}

/// It is the process that started first, and its evidence holds.
async fn never_restarted(broker: &Broker) {
    assert_eq!(broker.get("/readyz").await.status, 200);
    assert_eq!(records::of_kind(broker, "started").len(), 1);
    verify(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_or_takes_no_writes_is_503_until_there_is_room() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let deploy = || issuer.job().environment("staging").token(broker.audience());
    let both = || [(token(&issuer, &broker), ROLE), (deploy(), DEPLOY)];
    for (token, role) in both() {
        assert_eq!(broker.exchange_for(&token, role).await.status, 200, "{role}");
    }
    for read_only in [false, true] {
        let (asked, before) = (both(), (grants(&broker), sts.calls()));
        let log = fs::metadata(broker.directory().join("claimbound.db-wal")).unwrap().len();
        broker.limit_files(Some(if read_only { 0 } else { log + HALF_A_COMMIT_BYTES }));
        for _ in 0..2 {
            for (token, role) in &asked {
                assert_down(&broker.exchange_for(token, role).await);
            }
        }
        assert_unready(&broker).await;
        assert_eq!((grants(&broker), sts.calls()), before, "nothing is on record, and AWS was not asked");
        broker.limit_files(None);
        for (token, role) in &asked {
            let granted = broker.exchange_for(token, role).await;
            assert_eq!(granted.status, 200, "{role}: its token was not spent: {}", granted.text);
        }
        assert_eq!(grants(&broker), before.0 + 2);
        never_restarted(&broker).await;
    }

    // Admitted, and no room for the outcome: there is a session at AWS, and nobody gets it.
    sts.mood(Mood::Wait);
    let (token, calls) = (deploy(), sts.calls());
    let filling = async {
        eventually(COMES, async || (sts.calls() > calls).then_some(())).await;
        broker.limit_files(Some(0));
        sts.mood(Mood::Right);
    };
    let (withheld, ()) = tokio::join!(broker.exchange_for(&token, DEPLOY), filling);
    assert_down(&withheld);
    let session = sts.sessions().pop().unwrap();
    assert!(!withheld.text.contains(&session.access_key_id) && withheld.body.get("credential").is_none());
    broker.limit_files(None);
    let again = broker.exchange_for(&token, DEPLOY).await;
    assert_eq!((again.status, &again.body["reason"]), (503, &json!("in_flight")), "{}", again.text);
    assert_eq!(sts.calls(), calls + 1, "one token, one session");
    assert_eq!(broker.exchange_for(&deploy(), DEPLOY).await.status, 200);
    never_restarted(&broker).await;
}

/// As a backup tool does, or a shell that somebody forgot.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_holds_is_503_until_it_lets_go() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let hand = rusqlite::Connection::open(broker.database()).unwrap();
    hand.execute_batch("BEGIN IMMEDIATE").unwrap();
    let token = token(&issuer, &broker);
    assert_down(&broker.exchange_for(&token, ROLE).await);
    assert_unready(&broker).await;
    assert_eq!(grants(&broker), 0);
    hand.execute_batch("ROLLBACK").unwrap();
    // What waited to be written behind the answer may be written now, and is a refusal.
    granted_again(&issuer, &broker).await;
    let again = broker.exchange_for(&token, ROLE).await;
    assert!(again.status == 200 || again.body["reason"] == "replay", "{}", again.text);
    assert!(records::of_kind(&broker, "refused").iter().all(|body| body["reason"] != "replay" || again.status != 200));
    never_restarted(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_full_or_read_only_is_503_until_it_is_not() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let broker = Broker::start(BINARY, config(&issuer, &server.url())).await;
    server.sql("claimbound", FILLING);
    let read_only = |to: &str| {
        server.sql("postgres", &format!("ALTER SYSTEM {to}"));
        server.sql("postgres", "SELECT pg_reload_conf()");
    };
    for full in [false, true] {
        if full {
            server.limit_files(Some(FULL_BYTES));
        } else {
            read_only("SET default_transaction_read_only = on");
        }
        // Pages that are begun have room for some more.
        let refused = eventually(COMES, async || {
            let token = token(&issuer, &broker);
            let answer = broker.exchange_for(&token, ROLE).await;
            (answer.status != 200).then_some((token, answer))
        });
        let (token, answer) = refused.await;
        assert_down(&answer);
        let granted = grants(&broker);
        assert_down(&broker.exchange_for(&token, ROLE).await);
        assert_unready(&broker).await;
        assert_eq!(grants(&broker), granted, "nothing is on record, nothing was issued");
        if full {
            server.limit_files(None);
        } else {
            read_only("RESET default_transaction_read_only");
        }
        granted_again(&issuer, &broker).await;
        let again = broker.exchange_for(&token, ROLE).await;
        assert_eq!(again.status, 200, "its token was not spent: {}", again.text);
        never_restarted(&broker).await;
    }
    assert!(server.log().contains("File too large"), "it was full");
}
