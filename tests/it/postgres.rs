//! One PostgreSQL and several brokers: what one of them spent is spent for all, and a store that is away means 503
//! until it is back, without a restart.

use crate::{BINARY, aws, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess},
    config::Config,
    secret::Secret,
};
use claimbound_core::time::{Clock, UnixSeconds};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    postgres::{PASSWORD, Postgres, relay::Relay},
    sts::{Mood, Sts},
    time::{eventually, now},
};
use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub const ROLE: &str = "payments-release";
/// What comes in the background, or after something is back, comes within this.
pub const COMES: Duration = Duration::from_secs(60);
const RACES: usize = 128;
const RACES_SOAK: usize = 10_000;
const RACES_AT_ONCE: usize = 16;

/// A broker that may have replicas.
pub fn config(issuer: &Issuer, store: &str) -> BrokerConfig {
    BrokerConfig::new(issuer)
        .store(store)
        .server("public_url = \"https://cb.example\"")
        .toml("[server.limits]\nrequests_per_second = 0\nrepository_requests_per_second = 0\n")
}

/// Of a job that may have [`ROLE`].
pub fn token(issuer: &Issuer, broker: &Broker) -> String {
    issuer.job().branch("main").environment("production").token(broker.audience())
}

async fn exchange(issuer: &Issuer, broker: &Broker) -> Answer {
    broker.exchange_for(&token(issuer, broker), ROLE).await
}

/// The answer of a broker whose store is away.
pub fn assert_down(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("store_down")), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty() && answer.body.get("access_token").is_none(), "{}", answer.text);
}

pub async fn granted_again(issuer: &Issuer, broker: &Broker) {
    eventually(COMES, async || (exchange(issuer, broker).await.status == 200).then_some(())).await;
}

pub async fn verify(broker: &Broker) -> Value {
    let verified = broker.command(&["audit", "verify", "--format", "json"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    serde_json::from_str(&verified.stdout).unwrap()
}

/// What works over SQLite works over PostgreSQL, and its password stands nowhere.
#[tokio::test]
async fn one_exchange_over_postgresql_and_all_that_looks_at_it() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    server.database("locked");
    let mut broker = Broker::start(BINARY, config(&issuer, &server.url_of("locked"))).await;
    let check = broker.command(&["serve", "--check", "--config", "claimbound.toml", "--development"]).await;
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let answer = exchange(&issuer, &broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (body, _) = records::the_one(&broker, answer.text_of("decision_id")).await;
    assert_eq!(body["kind"], "granted");
    let explained = broker.command(&["explain", "--decision", answer.text_of("decision_id")]).await;
    assert_eq!(explained.code, Some(0), "{}{}", explained.stdout, explained.stderr);
    assert!(explained.stdout.contains("mapping `payments-production`"), "{}", explained.stdout);
    assert_eq!(broker.revoke(answer.text_of("access_token")).await.status, 200);
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
    assert_eq!(broker.health().await["store"], json!({ "writable": true, "waiting": 0 }));
    assert_eq!(broker.metrics().await.sum("claimbound_store_writable", &[]), 1.0);
    let verified = verify(&broker).await;
    assert_eq!((&verified["leases"], &verified["incarnations"]), (&json!(1), &json!(1)), "{verified}");
    broker.restart().await;
    assert_eq!(exchange(&issuer, &broker).await.status, 200);
    assert_eq!(verify(&broker).await["heads"].as_array().unwrap().len(), 1, "one start after the other is one chain");
    assert_eq!(broker.terminate().await.code, Some(0));
    canary::assert_absent(broker.directory(), &[PASSWORD]);
    assert!(!server.log().contains(PASSWORD));
}

/// Tokens in a race between two replicas: each wins exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn security_039_one_of_many_posts_to_two_replicas_wins() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let one = Broker::start(BINARY, config(&issuer, &server.url())).await;
    let brokers = [one.replica().await, one];
    let races = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { RACES_SOAK } else { RACES };
    let race = async |number: usize| {
        let token = token(&issuer, &brokers[0]);
        let posts = [0, 1].map(|at| brokers[(number + at) % 2].exchange_for(&token, ROLE));
        let answers = join_all(posts).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        let lost = answers.iter().filter(|answer| answer.status == 400 && answer.body["reason"] == "replay").count();
        assert_eq!((won, lost), (1, 1), "{} {}", answers[0].text, answers[1].text);
    };
    stream::iter(0..races).map(race).buffer_unordered(RACES_AT_ONCE).collect::<Vec<()>>().await;
    let token = token(&issuer, &brokers[0]);
    let answers = join_all((0..100).map(|at| brokers[at % 2].exchange_for(&token, ROLE))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.body["reason"] == "replay"));
    assert_eq!(records::of_kind(&brokers[0], "granted").len(), races + 1);
    let verified = verify(&brokers[0]).await;
    assert_eq!((&verified["leases"], &verified["incarnations"]), (&json!(races + 1), &json!(2)), "{verified}");
}

/// A clock that is some seconds from the system's.
struct Skewed(i64);

impl Clock for Skewed {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(now() + self.0)
    }
}

/// A minute apart, each within the leeway: what one took is spent for the other, and what is over for both is refused by
/// both, whichever forgets first.
#[tokio::test(flavor = "multi_thread")]
async fn security_038_replicas_with_different_clocks_take_a_token_once() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let folder = tempfile::tempdir().unwrap();
    config(&issuer, &server.url()).write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
    let config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
    let behind = InProcess::start(config.clone(), Arc::new(Skewed(-50))).await.unwrap();
    let ahead = InProcess::start(config, Arc::new(Skewed(50))).await.unwrap();
    let asked = |token: &str| Asked {
        caller: None,
        sts: None,
        grant: AskedGrant::Tokens { subject: Secret::new(token.to_owned()), actor: None },
        role: Some(ROLE.to_owned()),
        scope: None,
        duration: None,
        dry_run: false,
        digest: [0; 32],
        address: None,
    };
    let job = issuer.job().branch("main").environment("production");
    for first_behind in [true, false] {
        let brokers = if first_behind { [&behind, &ahead] } else { [&ahead, &behind] };
        let token = job.token("https://cb.example");
        assert!(brokers[0].exchange(asked(&token)).await.outcome.is_ok());
        for broker in brokers {
            let refused = broker.exchange(asked(&token)).await.outcome.err().unwrap();
            assert_eq!(refused.reason.name(), "replay");
        }
    }
    // Over for the one that is ahead, not yet for the other: good once, and only there.
    let ending = job.claim("iat", json!(now() - 600)).claim("nbf", json!(now() - 600)).claim("exp", json!(now() - 40));
    let token = ending.token("https://cb.example");
    assert_eq!(ahead.exchange(asked(&token)).await.outcome.err().unwrap().reason.name(), "exp");
    assert!(behind.exchange(asked(&token)).await.outcome.is_ok());
    assert_eq!(behind.exchange(asked(&token)).await.outcome.err().unwrap().reason.name(), "replay");
    ahead.stop().await;
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn security_041_a_replica_cut_off_from_the_store_issues_nothing() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let relay = Relay::to(server.socket());
    let cut_off = Broker::start(BINARY, config(&issuer, &server.url_at(relay.port()))).await;
    let mut other = cut_off.replica().await;
    other.rewrite(config(&issuer, &server.url()));
    other.restart().await;
    for silent in [true, false] {
        if silent {
            relay.silence()
        } else {
            relay.cut()
        }
        let token = token(&issuer, &cut_off);
        let (refused, granted) = tokio::join!(cut_off.exchange_for(&token, ROLE), exchange(&issuer, &other));
        assert_down(&refused);
        assert_eq!(granted.status, 200, "the other goes on: {}", granted.text);
        let elsewhere = other.exchange_for(&token, ROLE).await;
        assert_eq!(elsewhere.status, 200, "it was not spent: {}", elsewhere.text);
        eventually(COMES, async || (cut_off.get("/readyz").await.status != 200).then_some(())).await;
        assert_eq!(cut_off.health().await["store"]["writable"], false);
        relay.restore();
        granted_again(&issuer, &cut_off).await;
        let again = cut_off.exchange_for(&token, ROLE).await;
        assert_eq!((again.status, &again.body["reason"]), (400, &json!("replay")), "{}", again.text);
        assert_eq!(cut_off.get("/readyz").await.status, 200);
    }
    verify(&other).await;
}

#[tokio::test]
async fn security_095_a_withdrawn_key_ends_on_both_replicas() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let eager = config(&issuer, &server.url()).network("github", "refresh = \"1s\"", false);
    let one = Broker::start(BINARY, eager).await;
    let brokers = [one.replica().await, one];
    let (old, new) = (issuer.key(), issuer.rotate());
    let keys = async |wanted: f64| {
        for broker in &brokers {
            let metric = async || broker.metrics().await.sum("claimbound_issuer_keys", &[("issuer", "github")]);
            eventually(COMES, async || (metric().await == wanted).then_some(())).await;
        }
    };
    keys(2.0).await;
    let job = issuer.job().branch("main").environment("production");
    for broker in &brokers {
        for key in [&old, &new] {
            let answer = broker.exchange_for(&job.token_by(key, broker.audience()), ROLE).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
    issuer.withdraw(old.kid());
    keys(1.0).await;
    for broker in &brokers {
        let answer = broker.exchange_for(&job.token_by(&old, broker.audience()), ROLE).await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("token_not_accepted")), "{}", answer.text);
        assert_eq!(broker.exchange_for(&job.token_by(&new, broker.audience()), ROLE).await.status, 200);
    }
}

/// A replica dies while AWS is asked; another one settles the lease, and nobody gets the token's role again.
#[tokio::test]
async fn a_lease_that_a_killed_replica_left_is_settled_by_another() {
    let (issuer, server, sts) = (Issuer::github(), Postgres::start(), Sts::new());
    let config = aws::config(&issuer, &format!("endpoint_url = \"{}\"", sts.url()))
        .store(&server.url())
        .server("public_url = \"https://cb.example\"");
    let mut one = Broker::start(BINARY, config).await;
    let other = one.replica().await;
    sts.mood(Mood::Hang);
    let token = issuer.job().environment("staging").token(one.audience());
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &*token),
        ("subject_token_type", ID_TOKEN),
        ("audience", "payments-deploy"),
    ];
    let url = format!("{}/token", one.url());
    let lost = http::send(http::client().post(url).form(&form));
    let killing = async {
        eventually(COMES, async || (sts.calls() > 0).then_some(())).await;
        one.kill9().await;
    };
    let (lost, ()) = tokio::join!(lost, killing);
    assert!(lost.is_err(), "nobody was answered");
    let elsewhere = other.exchange_for(&token, "payments-deploy").await;
    assert_eq!(elsewhere.status, 503, "under way, for all that anybody knows: {}", elsewhere.text);
    // Two minutes later.
    server.sql("claimbound", "UPDATE claimbound.leases SET opened = opened - 121 WHERE state = 'issuing'");
    let settled = eventually(COMES, async || records::of_kind(&other, "settled").pop()).await;
    assert_eq!(settled["state"], "unknown", "{settled}");
    let again = other.exchange_for(&token, "payments-deploy").await;
    assert_eq!((again.status, &again.body["reason"]), (400, &json!("replay")), "{}", again.text);
    verify(&other).await;
}

/// Stopped as by a crash and started again under load: 503, then grants, and every credential is on record.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_stopped_and_started_under_load_is_503_and_recovers() {
    const STOPS: usize = 3;
    let (issuer, mut server) = (Issuer::github(), Postgres::start());
    let one = Broker::start(BINARY, config(&issuer, &server.url())).await;
    let brokers = [one.replica().await, one];
    let (over, granted, down) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let client = async |broker: &Broker| {
        let mut leases = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let answer = exchange(&issuer, broker).await;
            match answer.status {
                200 => {
                    granted.fetch_add(1, Ordering::SeqCst);
                    leases.push(answer.text_of("lease_id").to_owned());
                }
                _ => {
                    assert_down(&answer);
                    down.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        leases
    };
    let more = async |counter: &AtomicUsize, number: usize| {
        let before = counter.load(Ordering::SeqCst);
        eventually(COMES, async || (counter.load(Ordering::SeqCst) >= before + number).then_some(())).await;
    };
    let director = async {
        for _ in 0..STOPS {
            more(&granted, 20).await;
            server.stop();
            more(&down, 5).await;
            server.start_again();
        }
        more(&granted, 20).await;
        over.store(true, Ordering::SeqCst);
    };
    let clients = brokers.iter().flat_map(|broker| [client(broker), client(broker)]);
    let (leases, ()) = tokio::join!(join_all(clients), director);
    let recorded = records::of_kind(&brokers[0], "granted");
    let recorded: Vec<_> = recorded.iter().map(|body| body["lease"].as_str().unwrap()).collect();
    for lease in leases.iter().flatten() {
        assert!(recorded.contains(&&**lease), "lease {lease} has no record");
    }
    verify(&brokers[0]).await;
}

/// A start tells what is wrong with the server, and not the password.
#[tokio::test]
async fn a_server_that_cannot_be_used_stops_a_start() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    server.sql("postgres", "ALTER ROLE claimbound SET synchronous_commit = off");
    for (store, told) in [
        (server.url(), "`synchronous_commit = off`"),
        (server.url().replace("/claimbound?", "/nowhere?"), "does not exist"),
        (server.url() + "&sslmode=prefer", "`sslmode=prefer`"),
        ("postgres://claimbound@localhost/claimbound?password_file=nowhere".to_owned(), "password file `nowhere`"),
    ] {
        let exit = Broker::refused(BINARY, &config(&issuer, &store)).await;
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(told) && !exit.stderr.contains(PASSWORD), "{}", exit.stderr);
    }
    let with_password = format!("postgres://claimbound:{PASSWORD}@localhost/claimbound");
    let exit = Broker::refused(BINARY, &config(&issuer, &with_password)).await;
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("holds a password") && !exit.stderr.contains(PASSWORD), "{}", exit.stderr);
}
