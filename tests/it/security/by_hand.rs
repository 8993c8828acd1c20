//! What recipes cannot say over HTTP: several requests together, other keys, a store that is away.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    job::Job,
    jwt::{Algorithm, Key},
    serve::Serve,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

fn releasing(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production")
}

async fn reason_on_record(broker: &Broker, answer: &Answer) -> (Value, Value) {
    let (body, details) = records::the_one(broker, answer.text_of("decision_id")).await;
    (body["reason"].clone(), details)
}

fn assert_stranger(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("token_not_accepted")), "{}", answer.text);
}

#[tokio::test]
async fn security_010_what_we_issued_is_no_subject_token() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    let again = broker.exchange_for(answer.text_of("access_token"), "payments-release").await;
    assert_stranger(&again);
    assert_eq!(reason_on_record(&broker, &again).await.0, "issuer_unknown");
}

/// Many requests of the largest size at once: each is refused, and a good job beside them is served.
#[tokio::test]
async fn security_015_many_large_tokens_at_once() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let (dots, beyond) = (".".repeat(16_000), ".".repeat(60_000));
    let good = releasing(&issuer).token(broker.audience());
    let flood = join_all((0..64).map(|at| broker.exchange_for(if at % 2 == 0 { &dots } else { &beyond }, "any")));
    let (answers, good) = tokio::join!(flood, broker.exchange_for(&good, "payments-release"));
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, if at % 2 == 0 { 400 } else { 413 }, "{}", answer.text);
    }
    assert_eq!(good.status, 200, "{}", good.text);
}

/// Bad keys before and behind a good one: tokens under them are refused, and it goes on.
#[tokio::test]
async fn security_020_a_bad_key_spoils_no_set() {
    let bad = Key::rs256();
    let with = |members: Value| {
        let mut jwk = bad.jwk();
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    };
    let short = bad.jwk()["n"].as_str().unwrap()[..170].to_owned();
    let broken = [
        with(json!({ "use": "enc" })),
        with(json!({ "key_ops": ["encrypt"] })),
        with(json!({ "d": "AAAA" })),
        with(json!({ "kty": "oct", "k": "AAAA" })),
        with(json!({ "e": "AQ" })),
        with(json!({ "n": short })),
        with(json!({ "alg": "RS1" })),
    ];
    let issuer = Issuer::github();
    let mut keys = vec![issuer.key().jwk()];
    for (at, mut jwk) in broken.into_iter().enumerate() {
        jwk["kid"] = json!(format!("broken-{at}"));
        keys.insert(at.min(1), jwk);
    }
    issuer.serve_keys(Serve::Json(json!({ "keys": keys })));
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for kid in keys.iter().map(|jwk| jwk["kid"].as_str().unwrap()).filter(|kid| kid.starts_with("broken-")) {
        let token = releasing(&issuer).header("kid", kid).token_by(&bad, broker.audience());
        let answer = broker.exchange_for(&token, "payments-release").await;
        assert_stranger(&answer);
        assert_eq!(reason_on_record(&broker, &answer).await.0, "kid_unknown", "{kid}");
    }
}

/// Keys of other algorithms that its set holds, from before the start, are not believed: GitHub signs RS256 alone.
#[tokio::test]
async fn security_003_only_the_algorithm_of_an_issuer_s_profile_is_believed() {
    let issuer = Issuer::github();
    let right = issuer.key();
    let others =
        [Algorithm::Es256, Algorithm::Ps256, Algorithm::EdDsa].map(|other| issuer.sign_with(Key::generate(other)));
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    for other in others {
        let token = releasing(&issuer).token_by(&other, broker.audience());
        assert_stranger(&broker.exchange_for(&token, "payments-release").await);
    }
    let answer = broker.exchange_for(&releasing(&issuer).token_by(&right, broker.audience()), "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn security_028_discovery_of_another_issuer() {
    let (issuer, other) = (Issuer::github(), Issuer::github());
    for name in [other.url().to_owned(), format!("{}/", issuer.url())] {
        let mut document = issuer.discovery();
        document["issuer"] = json!(name);
        issuer.serve_discovery(Serve::Json(document));
        let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
        let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
        assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{name}: {}", answer.text);
        assert_eq!(reason_on_record(&broker, &answer).await.0, "issuer_down");
    }
    assert_eq!(issuer.key_fetches() + other.discovery_fetches() + other.key_fetches(), 0, "no keys are asked for");
}

#[tokio::test]
async fn security_032_a_broker_is_not_named_as_a_cloud_is() {
    let issuer = Issuer::github();
    for name in ["https://sts.amazonaws.com", "https://iam.googleapis.com", "https://github.com/acme"] {
        let config = BrokerConfig::new(&issuer).server(&format!("public_url = \"{name}\""));
        let exit = Broker::refused(BINARY, &config).await;
        assert_eq!(exit.code, Some(2), "{name}: {}", exit.stderr);
        assert!(exit.stderr.contains("public_url"), "{name}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn security_039_a_hundred_at_once_are_one_grant() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let token = releasing(&issuer).token(broker.audience());
    let answers = join_all((0..100).map(|_| broker.exchange_for(&token, "payments-release"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("replay")), "{}", answer.text);
    }
    assert_eq!(records::of_kind(&broker, "granted").len(), 1);
    assert_eq!(records::of_kind(&broker, "refused").len(), 99);
}

/// Somebody else holds the store's lock: nobody is told yes. What waited may be written once the lock is free, and then
/// spends its token: the same token is good for an answer or a replay, a fresh one for an answer.
#[tokio::test]
async fn security_041_no_store_no_credential() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let token = releasing(&issuer).token(broker.audience());
    let other = rusqlite::Connection::open(broker.database()).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = broker.exchange_for(&token, "payments-release").await;
    assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("store_down")), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty() && answer.body.get("access_token").is_none(), "{}", answer.text);
    other.execute_batch("ROLLBACK").unwrap();
    let again = broker.exchange_for(&token, "payments-release").await;
    assert!(again.status == 200 || again.body["reason"] == "replay", "{}", again.text);
    let fresh = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    assert_eq!(fresh.status, 200, "{}", fresh.text);
}

/// A first answer, whatever it is, spends: whoever tries a stolen token on one role after the other has one try, and
/// its owner's own try then leaves a record that says so.
#[tokio::test]
async fn security_042_a_bad_target_first_spends_the_token() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let [unknown, denied, granted, dry] = std::array::from_fn(|_| releasing(&issuer).token(broker.audience()));
    let answer = broker.exchange_for(&unknown, "no-such-role").await;
    assert_eq!((&answer.body["error"], &answer.body["reason"]), (&json!("invalid_target"), &json!("no_mapping")));
    assert_eq!(broker.exchange_for(&denied, "payments-secrets").await.body["error"], "invalid_target");
    assert_eq!(broker.exchange_for(&granted, "payments-release").await.status, 200);
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &*dry),
        ("subject_token_type", ID_TOKEN),
        ("role", "payments-release"),
        ("dry_run", "true"),
    ];
    let answer = broker.exchange(&form).await;
    assert_eq!((answer.status, &answer.body["dry_run"]), (200, &json!(true)), "{}", answer.text);
    assert!(answer.body.get("access_token").is_none());
    let (body, _) = records::the_one(&broker, answer.text_of("decision_id")).await;
    assert_eq!(body["kind"], "dry_run");

    for token in [&unknown, &denied, &granted, &dry] {
        let again = broker.exchange_for(token, "payments-release").await;
        assert_eq!((again.status, &again.body["reason"]), (400, &json!("replay")), "{}", again.text);
        assert!(again.body.get("nearest").is_none() && again.body.get("roles").is_none(), "a lost race has no hints");
        assert_eq!(reason_on_record(&broker, &again).await.0, "replay");
    }
    assert_eq!(records::of_kind(&broker, "granted").len(), 1);
}

#[tokio::test]
async fn security_043_a_second_use_from_elsewhere_is_on_record() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).server("trusted_proxies = [\"127.0.0.0/8\"]")).await;
    let token = releasing(&issuer).token(broker.audience());
    let from = async |address: &str| {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token.as_str()),
            ("subject_token_type", ID_TOKEN),
            ("audience", "payments-release"),
        ];
        let request = http::client().post(format!("{}/token", broker.url())).form(&form);
        http::send(request.header("x-forwarded-for", address)).await.unwrap()
    };
    assert_eq!(from("198.51.100.1").await.status, 200);
    let thief = from("203.0.113.9").await;
    assert_eq!((thief.status, &thief.body["reason"]), (400, &json!("replay")), "{}", thief.text);
    let (reason, details) = reason_on_record(&broker, &thief).await;
    assert_eq!((reason, &details["address"]), (json!("replay"), &json!("203.0.113.9")));
    assert_eq!(details["claims"]["run_id"], "17000000001", "the job whose token was taken is named");
}

/// Two instances publish one key: a token counts for the instance that it names, and for no third.
#[tokio::test]
async fn security_088_a_key_that_two_instances_publish() {
    let [ours, theirs, nobody] = std::array::from_fn(|_| Issuer::github());
    for other in [&theirs, &nobody] {
        other.serve_keys(Serve::Json(ours.jwks()));
    }
    let second = "[issuer.second]\nprofile = \"github-actions\"\nurl = \"{issuer.second}\"\nowners = { acme = 65 }\n";
    let config = BrokerConfig::new(&ours).issuer("second", &theirs);
    let config = config.edit("policy.toml", "[team.payments]", &format!("{second}[team.payments]"));
    let broker = Broker::start(BINARY, config).await;
    let of = async |issuer: &Issuer| {
        let token = releasing(issuer).token_by(&ours.key(), broker.audience());
        broker.exchange_for(&token, "payments-release").await
    };
    let answer = of(&ours).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = of(&theirs).await;
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("no_mapping")), "{}", answer.text);
    let answer = of(&nobody).await;
    assert_stranger(&answer);
    assert_eq!(reason_on_record(&broker, &answer).await.0, "issuer_unknown");
    assert_eq!(nobody.key_fetches() + nobody.discovery_fetches(), 0, "nobody asks it");
}
