//! Crashes under load: what a client received is on record, no token works twice, the chain verifies.

use crate::{BINARY, records};
use claimbound_test_support::{broker::Broker, config::BrokerConfig, issuer::Issuer, jwt, postgres::Postgres};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

const KILLS: usize = 20;
/// With `CLAIMBOUND_SOAK=1`.
const KILLS_SOAK: usize = 200;
/// Grants that a round waits for before it kills.
const GRANTS_PER_ROUND: usize = 15;
const CLIENTS: usize = 8;

/// Who got what: the token spent, and the lease of the credential received.
#[derive(Default)]
struct Received {
    leases: Vec<String>,
    spent: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_under_load_it_forgets_nothing() {
    let issuer = Arc::new(Issuer::github());
    killed_under_load(issuer.clone(), BrokerConfig::new(&issuer), KILLS).await;
}

/// Beside another broker over the same database, which is not killed and answers all the time.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_over_postgresql_it_forgets_nothing() {
    let (issuer, server) = (Arc::new(Issuer::github()), Postgres::start());
    let config = BrokerConfig::new(&issuer).store(&server.url()).server("public_url = \"https://cb.example\"");
    killed_under_load(issuer, config, KILLS / 2).await;
}

async fn killed_under_load(issuer: Arc<Issuer>, config: BrokerConfig, kills: usize) {
    let kills = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { KILLS_SOAK } else { kills };
    let mut broker = Broker::start(BINARY, config).await;
    let beside = if broker.store().starts_with("postgres:") { Some(broker.replica().await) } else { None };
    let received = Arc::new(Mutex::new(Received::default()));
    for round in 1..=kills {
        let killed = Arc::new(AtomicBool::new(false));
        let (url, audience) = (broker.url().to_owned(), broker.audience().to_owned());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (issuer, received, killed) = (issuer.clone(), received.clone(), killed.clone());
                let (url, audience) = (url.clone(), audience.clone());
                tokio::spawn(async move { load(&issuer, &url, &audience, &received, &killed).await })
            })
            .collect();
        claimbound_test_support::time::eventually(std::time::Duration::from_secs(60), async || {
            (received.lock().unwrap().leases.len() >= round * GRANTS_PER_ROUND).then_some(())
        })
        .await;
        broker.kill9().await;
        killed.store(true, Ordering::SeqCst);
        if let Some(beside) = &beside {
            let token = issuer.job().branch("main").environment("production").token(beside.audience());
            let answer = beside.exchange_for(&token, "payments-release").await;
            assert_eq!(answer.status, 200, "a dead replica holds up nobody: {}", answer.text);
        }
        for client in clients {
            client.await.unwrap();
        }
        broker.restart().await;
    }

    let received = Arc::try_unwrap(received).ok().unwrap().into_inner().unwrap();
    let granted = records::of_kind(&broker, "granted");
    let recorded: BTreeSet<_> = granted.iter().map(|body| body["lease"].as_str().unwrap().to_owned()).collect();
    assert_eq!(recorded.len(), granted.len(), "a lease is granted once");
    for lease in &received.leases {
        assert!(recorded.contains(lease), "a client holds the credential of lease {lease}, and no record says so");
    }
    for token in received.spent.iter().rev().take(50) {
        let again = broker.exchange_for(token, "payments-release").await;
        assert_eq!((again.status, &again.body["reason"]), (400, &Value::from("replay")), "{}", again.text);
    }
    let starts = records::of_kind(&broker, "started");
    assert_eq!(starts.len(), kills + 1 + usize::from(beside.is_some()));
    let verified = broker.command(&["audit", "verify", "--store", &broker.store()]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

async fn load(issuer: &Issuer, url: &str, audience: &str, received: &Mutex<Received>, killed: &AtomicBool) {
    let client = claimbound_test_support::http::client();
    while !killed.load(Ordering::SeqCst) {
        let token = issuer.job().branch("main").environment("production").token(audience);
        let form = [
            ("grant_type", claimbound_test_support::broker::TOKEN_EXCHANGE),
            ("subject_token", &*token),
            ("subject_token_type", claimbound_test_support::broker::ID_TOKEN),
            ("audience", "payments-release"),
        ];
        // A connection that breaks is the kill: nothing was received.
        let Ok(answer) = claimbound_test_support::http::send(client.post(format!("{url}/token")).form(&form)).await
        else {
            continue;
        };
        // On a busy machine issuer or store may be too slow for a moment: again, nothing was received.
        if answer.status == 503 {
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lease = jwt::claims_of(answer.text_of("access_token"))["lease_id"].as_str().unwrap().to_owned();
        let mut received = received.lock().unwrap();
        received.leases.push(lease);
        received.spent.push(token);
    }
}
