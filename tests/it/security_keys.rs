//! Attacks on issuers' keys and on the way to them: group 1E of the catalogue, 93 to 102, over HTTP. What needs a clock
//! or ten thousand requests is shown in-process: the cache's own tests, and `core/tests/it/trust.rs`.

use crate::{BINARY, records, reload::exchange_at};
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    job::Job,
    jwt::Key,
    serve::Serve,
    time::eventually,
    trap::Trap,
};
use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What is waited for in the background comes within this, on a busy machine too.
const COMES: Duration = Duration::from_secs(30);
const ROLE: &str = "payments-release";

fn releasing(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production")
}

async fn exchange(broker: &Broker, job: &Job<'_>) -> Answer {
    broker.exchange_for(&job.token(broker.audience()), ROLE).await
}

/// A broker without a rate limit that looks for keys every second, as only a development broker may.
fn eager(issuer: &Issuer) -> BrokerConfig {
    BrokerConfig::new(issuer)
        .network("github", "refresh = \"1s\"", false)
        .toml("[server.limits]\nrequests_per_second = 0\n")
}

async fn metric(broker: &Broker, name: &str) -> f64 {
    broker.metrics().await.sum(name, &[("issuer", "github")])
}

async fn in_state(broker: &Broker, state: &str) -> bool {
    broker.metrics().await.sum("claimbound_issuer_state", &[("issuer", "github"), ("state", state)]) == 1.0
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    eventually(COMES, async || holds().await.then_some(())).await;
}

async fn health(broker: &Broker) -> Value {
    http::get(&format!("{}/operator/health", broker.operator_url())).await.body["issuers"][0].clone()
}

/// The constant answer to strangers, without the id that every answer has of its own.
fn constant(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{}", answer.text);
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().remove("decision_id").unwrap();
    body.to_string()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn security_093_a_flood_of_unknown_keys_is_one_fetch_whatever_the_issuer_answers() {
    let unparsable = json!({ "keys": [{ "kid": "k", "kty": "RSA", "n": "AQAB", "e": "AQ" }] });
    let cases = [
        ("up", Serve::Right),
        ("down", Serve::Status(500)),
        ("no keys", Serve::Json(json!({ "keys": [] }))),
        ("one bad key", Serve::Json(unparsable)),
    ];
    join_all(cases.map(|(what, keys)| assert_one_fetch(what, keys))).await;
}

async fn assert_one_fetch(what: &str, keys: Serve) {
    const FLOOD: usize = 300;
    let issuer = Issuer::github();
    issuer.serve_keys(keys);
    let limits = "[server.limits]\nrequests_per_second = 0\n";
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).toml(limits)).await;
    let failures = "claimbound_issuer_keys_failures_total";
    until(async || in_state(&broker, "ok").await || metric(&broker, failures).await == 1.0).await;
    let forger = Key::rs256();
    let tokens: Vec<String> = (0..FLOOD)
        .map(|at| releasing(&issuer).header("kid", format!("nobody-{at}")).token_by(&forger, broker.audience()))
        .collect();
    let good = async {
        let mut granted = 0;
        for _ in 0..10 {
            granted += usize::from(exchange(&broker, &releasing(&issuer)).await.status == 200);
        }
        granted
    };
    let flood = join_all(tokens.iter().map(|token| broker.exchange_for(token, ROLE)));
    let (answers, granted) = tokio::join!(flood, good);
    assert_eq!(issuer.key_fetches(), 1, "{what}");
    assert_eq!(granted, if what == "up" { 10 } else { 0 }, "{what}");
    // While the last look for keys failed, nobody can say that a `kid` is unknown.
    let due = if what == "up" { 400 } else { 503 };
    assert!(answers.iter().all(|answer| answer.status == due), "{what}");
}

#[tokio::test]
async fn security_094_good_keys_outlive_the_issuer_and_what_is_unknown_meanwhile_waits() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, eager(&issuer)).await;
    until(async || in_state(&broker, "ok").await).await;
    issuer.close();
    until(async || in_state(&broker, "stale").await).await;
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let unknown = releasing(&issuer).token_by(&Key::rs256(), broker.audience());
    let answer = broker.exchange_for(&unknown, ROLE).await;
    assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("issuer_down")), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(broker.get("/readyz").await.status, 200);
    let told = health(&broker).await;
    assert_eq!((&told["state"], &told["keys"]), (&json!("stale"), &json!(1)), "{told}");
    assert!(told["error"].is_string() && told["believed_until"].as_i64() > told["fetched"].as_i64(), "{told}");
    assert!(metric(&broker, "claimbound_issuer_keys_failures_total").await >= 1.0);

    issuer.open();
    until(async || in_state(&broker, "ok").await).await;
    let answer = broker.exchange_for(&unknown, ROLE).await;
    assert_eq!(answer.body["reason"], "token_not_accepted", "now it is known to be unknown: {}", answer.text);
}

/// How far the rotation is, as those who send tokens know it.
const OVERLAP: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Must hold under load: after the first look for keys no good token is refused, and after the look that misses a
/// withdrawn key nothing under it is believed, on either of two brokers.
#[tokio::test]
async fn security_095_keys_rotate_under_load() {
    let issuer = Issuer::github();
    let brokers = [Broker::start(BINARY, eager(&issuer)).await, Broker::start(BINARY, eager(&issuer)).await];
    for broker in &brokers {
        until(async || in_state(broker, "ok").await).await;
    }
    let old = issuer.key();
    let new = issuer.rotate();
    let (phase, sent) = (AtomicU8::new(0), [const { AtomicUsize::new(0) }; 3]);
    let worker = async |broker: &Broker, is_new: bool| {
        while phase.load(Ordering::SeqCst) != u8::MAX {
            // Read before the token is sent: what holds by then must hold for it.
            let at = phase.load(Ordering::SeqCst);
            let token = releasing(&issuer).token_by(if is_new { &new } else { &old }, broker.audience());
            let answer = broker.exchange_for(&token, ROLE).await;
            let still = phase.load(Ordering::SeqCst) == at;
            match (at, is_new) {
                (OVERLAP, true) => assert_eq!(answer.status, 200, "a new key is refused: {}", answer.text),
                (0 | OVERLAP, false) if still => assert_eq!(answer.status, 200, "an old key: {}", answer.text),
                (WITHDRAWN, true) => assert_eq!(answer.status, 200, "the new key: {}", answer.text),
                (WITHDRAWN, false) => assert_eq!(answer.status, 400, "a withdrawn key: {}", answer.text),
                _ => continue,
            }
            sent[usize::from(at)].fetch_add(1, Ordering::SeqCst);
        }
    };
    let enough = async |at: u8| {
        let before = sent[usize::from(at)].load(Ordering::SeqCst);
        until(async || sent[usize::from(at)].load(Ordering::SeqCst) >= before + 40).await;
    };
    let director = async {
        for broker in &brokers {
            until(async || metric(broker, "claimbound_issuer_keys").await == 2.0).await;
        }
        phase.store(OVERLAP, Ordering::SeqCst);
        enough(OVERLAP).await;
        // Between the phases nobody knows what holds: a broker may have looked or not.
        phase.store(u8::MAX - 1, Ordering::SeqCst);
        issuer.withdraw(old.kid());
        for broker in &brokers {
            until(async || metric(broker, "claimbound_issuer_keys").await == 1.0).await;
        }
        phase.store(WITHDRAWN, Ordering::SeqCst);
        enough(WITHDRAWN).await;
        phase.store(u8::MAX, Ordering::SeqCst);
    };
    let workers = brokers.iter().flat_map(|broker| [worker(broker, true), worker(broker, false)]);
    tokio::join!(join_all(workers), director);
    for broker in &brokers {
        let told = health(broker).await;
        assert_eq!((&told["state"], &told["keys"], &told["failures"]), (&json!("ok"), &json!(1), &json!(0)), "{told}");
    }
}

#[tokio::test]
async fn security_096_a_denied_key_and_a_disabled_issuer_get_the_constant_answer() {
    let issuer = Issuer::github();
    let (old, new) = (issuer.key(), issuer.rotate());
    let denied = BrokerConfig::new(&issuer).network("github", &format!("deny_kids = [\"{}\"]", old.kid()), false);
    let broker = Broker::start(BINARY, denied).await;
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200, "the other key goes on");
    let garbage = constant(&broker.exchange_for("no token", ROLE).await);
    let cut = broker.exchange_for(&releasing(&issuer).token_by(&old, broker.audience()), ROLE).await;
    assert_eq!(constant(&cut), garbage, "a stranger learns nothing");
    let (record, _) = records::the_one(&broker, cut.text_of("decision_id")).await;
    assert_eq!(record["reason"], "kid_denied", "{record}");
    assert_eq!(health(&broker).await["denied_kids"], json!([old.kid()]));

    let idle = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&idle).network("github", "disabled = true", false)).await;
    let cut = exchange(&broker, &releasing(&idle)).await;
    assert_eq!(constant(&cut), garbage);
    let (record, _) = records::the_one(&broker, cut.text_of("decision_id")).await;
    assert_eq!(record["reason"], "issuer_disabled", "{record}");
    assert_eq!(idle.discovery_fetches() + idle.key_fetches(), 0, "nobody asks it");
    assert_eq!(health(&broker).await["state"], "disabled");
    assert_eq!(broker.get("/readyz").await.status, 200);
    drop(new);
}

/// How far the cut is, as those who send tokens know it; between two of these nobody knows what holds.
const UNCUT: u8 = 0;
const DENIED: u8 = 1;
const DISABLED: u8 = 2;
const BETWEEN: u8 = 3;

/// A key, then its issuer, is cut off while jobs come: once a broker says that it has taken the cut up, nothing under it
/// is granted, on either of two brokers, and evidence says when the facts changed and what was refused by them.
#[tokio::test]
async fn security_096_a_cut_under_load_holds_from_the_moment_it_is_taken_up() {
    let issuer = Issuer::github();
    let (old, new) = (issuer.key(), issuer.rotate());
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequests_per_second = 0\n");
    let mut brokers = [Broker::start(BINARY, config.clone()).await, Broker::start(BINARY, config.clone()).await];
    let places = brokers.each_ref().map(|broker| (broker.url().to_owned(), broker.audience().to_owned()));
    let (phase, sent) = (AtomicU8::new(UNCUT), [const { AtomicUsize::new(0) }; 3]);
    let worker = async |(url, audience): &(String, String), is_new: bool| {
        while phase.load(Ordering::SeqCst) != u8::MAX {
            // Read before the token is sent: what is cut by then is cut for it.
            let at = phase.load(Ordering::SeqCst);
            let token = releasing(&issuer).token_by(if is_new { &new } else { &old }, audience);
            let answer = exchange_at(url, &token).await;
            let still = phase.load(Ordering::SeqCst) == at;
            match (at, is_new) {
                (UNCUT, _) | (DENIED, true) if still => assert_eq!(answer.status, 200, "{}", answer.text),
                (DENIED, false) | (DISABLED, _) => {
                    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("token_not_accepted")), "{at}");
                }
                _ => continue,
            }
            sent[usize::from(at)].fetch_add(1, Ordering::SeqCst);
        }
    };
    let enough = async |at: u8| {
        phase.store(at, Ordering::SeqCst);
        until(async || sent[usize::from(at)].load(Ordering::SeqCst) >= 60).await;
        phase.store(BETWEEN, Ordering::SeqCst);
    };
    let denied = config.clone().network("github", &format!("deny_kids = [\"{}\"]", old.kid()), false);
    let disabled = denied.clone().network("github", "disabled = true", false);
    let director = async {
        enough(UNCUT).await;
        for broker in &mut brokers {
            broker.rewrite(denied.clone());
        }
        // The one is told, the other finds out.
        brokers[0].signal("HUP").await;
        for broker in &brokers {
            until(async || health(broker).await["denied_kids"] == json!([old.kid()])).await;
        }
        enough(DENIED).await;
        for broker in &mut brokers {
            broker.rewrite(disabled.clone());
        }
        brokers[1].signal("HUP").await;
        for broker in &brokers {
            until(async || health(broker).await["state"] == "disabled").await;
        }
        enough(DISABLED).await;
        phase.store(u8::MAX, Ordering::SeqCst);
    };
    let workers = places.iter().flat_map(|place| [worker(place, true), worker(place, false)]);
    tokio::join!(join_all(workers), director);
    for broker in &brokers {
        assert_eq!(broker.health().await["mappings"]["restart_needed"], false);
        let activated = records::of_kind(broker, "mappings_activated");
        assert_eq!(activated.len(), 3, "the start, and each change of the facts: {activated:?}");
        assert!(activated.iter().all(|body| body["version"] == activated[0]["version"]), "of one folder");
        // Strangers come into evidence in the background, and beyond their rate as sums.
        for reason in ["kid_denied", "issuer_disabled"] {
            until(async || {
                let of_cut = |(body, _): &(Value, Value)| body["reason"] == reason && body["principal"].is_null();
                records::all(broker).iter().any(of_cut)
            })
            .await;
            assert!(broker.metrics().await.sum("claimbound_exchanges_total", &[("reason", reason)]) > 0.0);
        }
    }
}

/// The issuer's own document with its keys somewhere else.
fn elsewhere(issuer: &Issuer, jwks_uri: &str) -> Serve {
    let mut document = issuer.discovery();
    document["jwks_uri"] = json!(jwks_uri);
    Serve::Json(document)
}

#[tokio::test]
async fn security_097_no_document_leads_the_broker_astray() {
    let trap = Trap::new();
    let chain = Issuer::github();
    chain.serve_keys(Serve::Redirect(trap.url()));
    let chained = chain.discovery()["jwks_uri"].as_str().unwrap().to_owned();
    let cases = [
        ("a chain of redirects", None, Serve::Redirect(chained)),
        ("keys in the trap", Some(trap.url()), Serve::Right),
        ("keys behind a mapped address", Some("http://[::ffff:169.254.169.254]/".to_owned()), Serve::Right),
    ];
    join_all(cases.map(async |(what, jwks_uri, served)| {
        let issuer = Issuer::github();
        if let Some(jwks_uri) = jwks_uri {
            issuer.serve_discovery(elsewhere(&issuer, &jwks_uri));
        }
        issuer.serve_keys(served);
        let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
        let answer = exchange(&broker, &releasing(&issuer)).await;
        assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("issuer_down")), "{what}: {}", answer.text);
    }))
    .await;
    assert_eq!(chain.key_fetches(), 0, "a redirect is not even followed once");

    // Keys may stand elsewhere only where the configuration says so.
    let (issuer, keys) = (Issuer::github(), Issuer::github());
    keys.serve_keys(Serve::Json(issuer.jwks()));
    issuer.serve_discovery(elsewhere(&issuer, keys.discovery()["jwks_uri"].as_str().unwrap()));
    let origin = format!("jwks_origin = \"{}\"", keys.url());
    for (config, status) in
        [(BrokerConfig::new(&issuer), 503), (BrokerConfig::new(&issuer).network("github", &origin, false), 200)]
    {
        let broker = Broker::start(BINARY, config).await;
        let answer = exchange(&broker, &releasing(&issuer)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert_eq!(keys.key_fetches(), 1);
}

#[tokio::test]
async fn security_098_a_slow_or_endless_answer_stops_at_its_limits_and_holds_up_nobody() {
    const MIB: usize = 1024 * 1024;
    let faults = [
        Serve::Drip,
        Serve::Hang,
        Serve::Cut,
        Serve::Huge { blanks: 200 * MIB, announced: true },
        Serve::Huge { blanks: 200 * MIB, announced: false },
        Serve::Gzip { blanks: 32 * MIB },
    ];
    join_all(faults.map(async |fault| {
        let issuer = Issuer::github();
        let broker = Broker::start(BINARY, eager(&issuer)).await;
        until(async || in_state(&broker, "ok").await).await;
        let (what, asked) = (format!("{fault:?}"), issuer.key_fetches());
        issuer.serve_keys(fault);
        until(async || issuer.key_fetches() > asked).await;
        // A look that does not end is under way, or has failed.
        let answer = exchange(&broker, &releasing(&issuer)).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
        until(async || in_state(&broker, "stale").await).await;
        assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200, "{what}");
        issuer.serve_keys(Serve::Right);
        until(async || in_state(&broker, "ok").await).await;
    }))
    .await;
}

#[tokio::test]
async fn security_099_slow_connections_hold_up_nobody_and_none_is_smuggled() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequest_seconds = 2\n");
    let broker = Broker::start(BINARY, config).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for at in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let begun =
            if at % 2 == 0 { "POST /tok" } else { "POST /token HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\na" };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let answer = exchange(&broker, &releasing(&issuer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for mut stream in slow {
        let mut said = Vec::new();
        let ended = tokio::time::timeout(COMES, stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "a slow connection is cut off");
        assert!(!String::from_utf8_lossy(&said).starts_with("HTTP/1.1 2"));
    }
    let body = "grant_type=x";
    let smuggled = format!(
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\
         transfer-encoding: chunked\r\n\r\n{body}0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(COMES, stream.read_to_end(&mut said)).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 4") && said.matches("HTTP/1.1 ").count() == 1, "{said}");
}

/// A certificate for `name`, by this authority or by itself, over or not over; DER with its key.
fn certificate(name: &str, by: Option<&rcgen::Issuer<'_, KeyPair>>, expired: bool) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new([name.to_owned()]).unwrap();
    if expired {
        (wanted.not_before, wanted.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    }
    let made = match by {
        Some(authority) => wanted.signed_by(&key, authority).unwrap(),
        None => wanted.self_signed(&key).unwrap(),
    };
    (made.der().to_vec(), key.serialize_der())
}

/// An authority, and the file that makes a broker believe it.
fn authority() -> (rcgen::Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new(Vec::new()).unwrap();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = wanted.self_signed(&key).unwrap().pem();
    (rcgen::Issuer::new(wanted, key), pem)
}

#[tokio::test]
async fn security_100_an_issuer_without_the_right_certificate_is_down() {
    let ((ours, pem), (theirs, _)) = (authority(), authority());
    let home = tempfile::tempdir().unwrap();
    let ca_file = home.path().join("ca.pem");
    write(&ca_file, &pem);
    let network = format!("ca_file = \"{}\"", ca_file.display());
    let cases = [
        ("right", certificate("127.0.0.1", Some(&ours), false), true, 200),
        ("another authority", certificate("127.0.0.1", Some(&theirs), false), true, 503),
        ("another host", certificate("issuer.example", Some(&ours), false), true, 503),
        ("expired", certificate("127.0.0.1", Some(&ours), true), true, 503),
        ("self-signed", certificate("127.0.0.1", None, false), true, 503),
        ("right, but inside", certificate("127.0.0.1", Some(&ours), false), false, 503),
    ];
    let network = &network;
    join_all(cases.map(async |(what, (certificate, key), private, status)| {
        let issuer = Issuer::github_over_tls(certificate, key);
        let config = BrokerConfig::new(&issuer).network("github", network, !private);
        let broker = Broker::start(BINARY, config).await;
        let answer = exchange(&broker, &releasing(&issuer)).await;
        assert_eq!(answer.status, status, "{what}: {} {}", answer.text, health(&broker).await);
        if status == 503 {
            assert_eq!(answer.body["reason"], "issuer_down", "{what}");
            assert_eq!(issuer.discovery_fetches(), 0, "{what}: not a byte of a request is sent");
            let (record, _) = records::the_one(&broker, answer.text_of("decision_id")).await;
            assert_eq!(record["reason"], "issuer_down", "{what}");
            assert_eq!(health(&broker).await["state"], "down", "{what}");
        }
    }))
    .await;
}

#[tokio::test]
async fn security_101_an_answer_that_is_no_key_set_poisons_nothing() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, eager(&issuer)).await;
    until(async || in_state(&broker, "ok").await).await;
    let bad = json!({ "keys": [{ "kid": issuer.key().kid(), "kty": "oct", "k": "AAAA" }] });
    for fault in [
        Serve::Raw(b"<html>sign in</html>".to_vec()),
        Serve::StatusOver(206),
        Serve::Status(304),
        Serve::Json(json!({ "keys": [] })),
        Serve::Json(bad),
    ] {
        let what = format!("{fault:?}");
        issuer.serve_keys(fault);
        // The look that is under way may still see the fault before it; the second cannot.
        let failed = metric(&broker, "claimbound_issuer_keys_failures_total").await;
        until(async || metric(&broker, "claimbound_issuer_keys_failures_total").await > failed + 1.0).await;
        let answer = exchange(&broker, &releasing(&issuer)).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
        assert_eq!(health(&broker).await["state"], "stale", "{what}");
    }
    issuer.serve_keys(Serve::Right);
    until(async || in_state(&broker, "ok").await).await;
    // Only the type is wrong, and that is not judged.
    let asked = issuer.key_fetches();
    issuer.serve_keys(Serve::ContentType("text/html"));
    until(async || issuer.key_fetches() > asked + 1).await;
    assert!(in_state(&broker, "ok").await);
}

#[tokio::test]
async fn security_102_a_herd_at_the_start_is_one_fetch_for_each_broker() {
    let issuer = Issuer::github();
    let config = || BrokerConfig::new(&issuer).toml("[server.limits]\nrequests_per_second = 0\n");
    let brokers = [Broker::start(BINARY, config()).await, Broker::start(BINARY, config()).await];
    let herd = brokers.iter().map(async |broker| {
        let tokens: Vec<_> = (0..150).map(|_| releasing(&issuer).token(broker.audience())).collect();
        join_all(tokens.iter().map(|token| broker.exchange_for(token, ROLE))).await
    });
    for answer in join_all(herd).await.into_iter().flatten() {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!((issuer.discovery_fetches(), issuer.key_fetches()), (2, 2));
}

/// Pinned keys: the issuer is never asked, the file is followed, its end is an end.
#[tokio::test]
async fn pinned_keys_serve_an_issuer_that_nobody_can_reach() {
    let issuer = Issuer::github();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("jwks.json");
    write(&file, &issuer.jwks().to_string());
    let config = |expires: &str| {
        eager(&issuer).network(
            "github",
            &format!("jwks = {{ file = \"{}\", expires = {expires}, warn_before = \"30d\" }}", file.display()),
            false,
        )
    };
    let broker = Broker::start(BINARY, config("2999-12-31")).await;
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200);
    assert_eq!(health(&broker).await["pinned"], json!(file.display().to_string()));

    // A file that goes bad takes nothing away and is told; one that comes good again is taken.
    write(&file, "{");
    until(async || in_state(&broker, "stale").await).await;
    assert!(health(&broker).await["error"].as_str().unwrap().contains("not a JWK set"));
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200);
    let old = issuer.key();
    issuer.rotate();
    issuer.withdraw(old.kid());
    write(&file, &issuer.jwks().to_string());
    until(async || in_state(&broker, "ok").await).await;
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200);
    let withdrawn = releasing(&issuer).token_by(&old, broker.audience());
    assert_eq!(broker.exchange_for(&withdrawn, ROLE).await.status, 400);

    let over = Broker::start(BINARY, config("2020-01-01")).await;
    let answer = exchange(&over, &releasing(&issuer)).await;
    assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("issuer_down")), "{}", answer.text);
    assert!(in_state(&over, "down").await);
    let told = over.command(&["serve", "--check", "--config", "claimbound.toml", "--development"]).await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stderr.contains("warning: issuer `github`: the pinned keys"), "{}", told.stderr);
    assert_eq!(issuer.discovery_fetches() + issuer.key_fetches(), 0, "nobody asked the issuer");

    write(&file, "{}");
    let refused = Broker::refused(BINARY, &config("2999-12-31")).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("CB1007") && refused.stderr.contains("[issuer.github]"), "{}", refused.stderr);
}

#[tokio::test]
async fn security_020_ignored_keys_are_told_and_the_others_serve() {
    let issuer = Issuer::github();
    let mut keys = issuer.jwks();
    let mut weak = issuer.key().jwk();
    (weak["kid"], weak["use"]) = (json!("for-encryption"), json!("enc"));
    keys["keys"].as_array_mut().unwrap().insert(0, weak);
    issuer.serve_keys(Serve::Json(keys));
    let broker = Broker::start(BINARY, eager(&issuer)).await;
    assert_eq!(exchange(&broker, &releasing(&issuer)).await.status, 200);
    let told = health(&broker).await;
    assert_eq!(told["ignored"], json!([{ "kid": "for-encryption", "why": "`use` is not `sig`" }]), "{told}");
    assert_eq!(metric(&broker, "claimbound_issuer_keys_ignored").await, 1.0);
    let asked = issuer.key_fetches();
    until(async || issuer.key_fetches() > asked + 1).await;
    assert_eq!(broker.log().matches("for-encryption").count(), 1, "told once: {}", broker.log());
}
