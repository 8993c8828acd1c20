//! Crashes under load: what a client received is on record, no token works twice, what was begun is settled, the chain
//! verifies.

use crate::{BINARY, aws, records};
use claimbound::store::open_reader;
use claimbound_core::time::UnixSeconds;
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    http,
    issuer::Issuer,
    postgres::Postgres,
    sts::{Mood, Sts},
    time::eventually,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const KILLS: usize = 20;
/// With `CLAIMBOUND_SOAK=1`.
const KILLS_SOAK: usize = 200;
/// Grants that a round waits for before it kills.
const GRANTS_PER_ROUND: usize = 15;
const CLIENTS: usize = 8;
/// What comes in the background comes within this.
const COMES: Duration = Duration::from_secs(60);
/// What clients ask for by turns: one commit for a token of ours, two around a session at AWS.
const ROLES: [&str; 2] = ["payments-release", "payments-deploy"];

/// Who got what: the token spent, its role, and the lease and key of the credential received.
struct Received {
    token: String,
    role: &'static str,
    lease: String,
    /// Of a session at AWS.
    key: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_under_load_it_forgets_nothing() {
    killed_under_load(None, KILLS).await;
}

/// Beside another broker over the same database, which is not killed and answers all the time.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_over_postgresql_it_forgets_nothing() {
    killed_under_load(Some(Postgres::start()), KILLS / 2).await;
}

fn config(issuer: &Issuer, sts: &Sts, server: Option<&Postgres>) -> BrokerConfig {
    let config = aws::config(issuer, &format!("endpoint_url = \"{}\"", sts.url()))
        .toml("[server.limits]\nrequests_per_second = 0\nrepository_requests_per_second = 0\n");
    match server {
        Some(server) => config.store(&server.url()).server("public_url = \"https://cb.example\""),
        None => config,
    }
}

fn token(issuer: &Issuer, audience: &str, role: &str) -> String {
    let environment = if role == ROLES[0] { "production" } else { "staging" };
    issuer.job().branch("main").environment(environment).token(audience)
}

#[expect(clippy::print_stderr, reason = "a soak tells what it saw")]
async fn killed_under_load(server: Option<Postgres>, kills: usize) {
    let kills = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { KILLS_SOAK } else { kills };
    let (issuer, sts) = (Arc::new(Issuer::github()), Sts::new());
    let mut broker = Broker::start(BINARY, config(&issuer, &sts, server.as_ref())).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role(aws::ROLE_ARN, "role:payments-deploy");
    let beside = if server.is_some() { Some(broker.replica().await) } else { None };
    let received = Arc::new(Mutex::new(Vec::new()));
    for round in 1..=kills {
        let killed = Arc::new(AtomicBool::new(false));
        let (url, audience) = (broker.url().to_owned(), broker.audience().to_owned());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (issuer, received, killed) = (issuer.clone(), received.clone(), killed.clone());
                let (url, audience, role) = (url.clone(), audience.clone(), ROLES[client % 2]);
                tokio::spawn(async move { load(&issuer, &url, &audience, role, &received, &killed).await })
            })
            .collect();
        eventually(COMES, async || (received.lock().unwrap().len() >= round * GRANTS_PER_ROUND).then_some(())).await;
        broker.kill9().await;
        killed.store(true, Ordering::SeqCst);
        if let Some(beside) = &beside {
            let token = token(&issuer, beside.audience(), ROLES[0]);
            let answer = beside.exchange_for(&token, ROLES[0]).await;
            assert_eq!(answer.status, 200, "a dead replica holds up nobody: {}", answer.text);
        }
        for client in clients {
            client.await.unwrap();
        }
        broker.restart().await;
    }

    // Once more while AWS is surely being asked.
    sts.mood(Mood::Hang);
    let calls = sts.calls();
    let lost = token(&issuer, broker.audience(), ROLES[1]);
    let url = broker.url().to_owned();
    let losing = ask(&url, &lost, ROLES[1]);
    let killing = async {
        eventually(COMES, async || (sts.calls() > calls).then_some(())).await;
        broker.kill9().await;
    };
    let (nothing, ()) = tokio::join!(losing, killing);
    assert!(nothing.is_err(), "nobody was answered");
    sts.mood(Mood::Right);
    if let Some(server) = &server {
        // Brokers that share a store let two minutes pass.
        server.sql("claimbound", "UPDATE claimbound.leases SET opened = opened - 121 WHERE state = 'issuing'");
    }
    broker.restart().await;
    let reader = open_reader(&broker.store()).unwrap();
    let settled = async || reader.unsettled(UnixSeconds(i64::MAX)).unwrap().is_empty().then_some(());
    eventually(COMES, settled).await;

    let received = Arc::try_unwrap(received).ok().unwrap().into_inner().unwrap();
    let granted = records::of_kind(&broker, "granted");
    let recorded: BTreeSet<_> = granted.iter().map(|body| body["lease"].as_str().unwrap()).collect();
    assert_eq!(recorded.len(), granted.len(), "a lease is granted once");
    let outcomes = records::of_kind(&broker, "settled");
    let settled: BTreeMap<_, _> = outcomes.iter().map(|body| (body["lease"].as_str().unwrap(), body)).collect();
    assert_eq!(settled.len(), outcomes.len(), "a lease is settled once");
    for Received { lease, key, .. } in &received {
        assert!(recorded.contains(&**lease), "a client holds the credential of lease {lease}, and no record says so");
        if let Some(key) = key {
            let outcome = settled.get(&**lease).map(|body| (&body["state"], &body["handle"]));
            assert_eq!(
                outcome,
                Some((&"issued".into(), &key.as_str().into())),
                "a client holds the key of lease {lease}"
            );
        }
    }
    let at_aws: Vec<_> = granted.iter().filter(|body| body["role"] == ROLES[1]).collect();
    for body in &at_aws {
        assert!(settled.contains_key(body["lease"].as_str().unwrap()), "the sweeper left {body}");
    }
    let left = outcomes.iter().filter(|body| body["state"] == "unknown").count();
    assert!(left > 0, "one was killed while AWS was asked");
    let with_key = received.iter().filter(|received| received.key.is_some()).count();
    eprintln!(
        "{kills} kills: {} grants, {} of them received ({with_key} sessions of {}), {left} left behind and settled as unknown",
        granted.len(),
        received.len(),
        at_aws.len()
    );
    let spent = received.iter().rev().take(50).map(|received| (&received.token, received.role));
    for (token, role) in spent.chain([(&lost, ROLES[1])]) {
        let again = broker.exchange_for(token, role).await;
        assert_eq!((again.status, &again.body["reason"]), (400, &Value::from("replay")), "{}", again.text);
    }
    let starts = records::of_kind(&broker, "started");
    assert_eq!(starts.len(), kills + 2 + usize::from(beside.is_some()));
    let verified = broker.command(&["audit", "verify", "--store", &broker.store()]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

async fn load(
    issuer: &Issuer,
    url: &str,
    audience: &str,
    role: &'static str,
    received: &Mutex<Vec<Received>>,
    killed: &AtomicBool,
) {
    while !killed.load(Ordering::SeqCst) {
        let token = token(issuer, audience, role);
        // A connection that breaks is the kill: nothing was received.
        let Ok(answer) = ask(url, &token, role).await else { continue };
        // On a busy machine issuer or store may be too slow for a moment: again, nothing was received.
        if answer.status == 503 {
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lease = answer.text_of("lease_id").to_owned();
        let key = answer.body["credential"]["access_key_id"].as_str().map(str::to_owned);
        assert_eq!(key.is_some(), role == ROLES[1], "{}", answer.text);
        received.lock().unwrap().push(Received { token, role, lease, key });
    }
}

async fn ask(url: &str, token: &str, role: &str) -> Result<http::Answer, reqwest::Error> {
    let form = [
        ("grant_type", claimbound_test_support::broker::TOKEN_EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", claimbound_test_support::broker::ID_TOKEN),
        ("audience", role),
    ];
    http::send(http::client().post(format!("{url}/token")).form(&form)).await
}
