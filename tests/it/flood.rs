//! Floods: what they may cost the broker, and that they hold up nobody.
//!
//! CI sends a part of what `CLAIMBOUND_SOAK=1` sends, by the same code.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http,
    issuer::Issuer,
    jwt::{Key, base64url},
    time::eventually,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Requests of a full flood, and of CI's.
const SOAK_REQUESTS: usize = 100_000;
const CI_REQUESTS: usize = 5_000;
/// Connections that a flood sends over.
const SENDERS: usize = 16;
/// After so many requests of a flood a sender sends one good job's.
const GOOD_EVERY: usize = 50;
/// What the broker may grow by between a tenth of a flood and all of it.
const GROWTH_KIB_MAX: u64 = 32 * 1024;
/// Between two fetches of an issuer's keys.
const FLOOR_SECONDS: u64 = 30;
/// Single records of strangers in a minute: of one network, and of all.
const SINGLES_PER_MINUTE: u64 = 20;
const SINGLES_PER_MINUTE_ALL: u64 = 600;
/// Sums in one writing, and the time between two.
const SUMS_MAX: u64 = 65;
const SUM_SECONDS: u64 = 10;

/// Rates are off: what is behind them is to be seen.
const NO_RATE: &str = "[server.limits]\nrequests_per_second = 0\n";

/// A token's bytes and where it seems to come from.
struct Shot {
    token: String,
    forwarded: Option<String>,
}

/// What a flood left behind.
struct Aftermath {
    sent: u64,
    good: u64,
    seconds: u64,
    /// Bodies of single refusals, and of sums.
    singles: Vec<Value>,
    sums: Vec<Value>,
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

fn requests() -> usize {
    if std::env::var("CLAIMBOUND_SOAK").is_ok_and(|soak| soak == "1") { SOAK_REQUESTS } else { CI_REQUESTS }
}

/// Sends a flood, good jobs in between, and looks at memory, fetches and evidence. Whatever is forged gets the constant
/// answer; every good job is served.
#[expect(clippy::print_stdout, reason = "the numbers of a soak are its result")]
async fn flood(what: &str, config: BrokerConfig, issuer: &Issuer, shot: impl Fn(&Broker) -> Shot) -> Aftermath {
    let mut broker = Broker::start(BINARY, config).await;
    // A connection for each sender: a flood over new ones would find the end of this host's ports first.
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
    let url = format!("{}/token", broker.url());
    let started = Instant::now();
    let send = async |requests: usize| {
        let senders = (0..SENDERS).map(async |_| {
            let mut good = 0;
            for at in 1..=requests / SENDERS {
                let Shot { token, forwarded } = shot(&broker);
                let form = [
                    ("grant_type", TOKEN_EXCHANGE),
                    ("subject_token", &token),
                    ("subject_token_type", ID_TOKEN),
                    ("audience", "payments-release"),
                ];
                let request = client.post(&url).form(&form);
                let request =
                    forwarded.into_iter().fold(request, |request, from| request.header("x-forwarded-for", from));
                let answer = http::send(request).await.unwrap();
                assert_eq!((answer.status, answer.text_of("reason")), (400, "token_not_accepted"), "{}", answer.text);
                if at % GOOD_EVERY == 0 {
                    let job = issuer.job().branch("main").environment("production").token(broker.audience());
                    let answer = broker.exchange_for(&job, "payments-release").await;
                    assert_eq!(answer.status, 200, "a good job amid the flood: {}", answer.text);
                    good += 1;
                }
            }
            good
        });
        join_all(senders).await.into_iter().sum::<u64>()
    };
    let (first, rest) = (requests() / 10, requests() - requests() / 10);
    let mut good = send(first).await;
    let before_kib = broker.resident_kib();
    good += send(rest).await;
    let after_kib = broker.resident_kib();
    let seconds = started.elapsed().as_secs();
    let sent = ((first / SENDERS + rest / SENDERS) * SENDERS) as u64;
    println!(
        "{what}: {sent} forged and {good} good requests in {seconds} s, {} fetches of keys, {before_kib} KiB, then {after_kib} KiB",
        issuer.key_fetches()
    );
    assert!(after_kib < before_kib + GROWTH_KIB_MAX, "{before_kib} KiB grew to {after_kib} KiB");
    let fetches = issuer.key_fetches();
    assert!(fetches <= 2 + seconds / FLOOR_SECONDS, "{fetches} fetches of keys in {seconds} s");

    // What waits to be summed is written when the broker stops.
    assert_eq!(broker.terminate().await.code, Some(0));
    assert_eq!(records::of_kind(&broker, "granted").len() as u64, good);
    let (singles, sums) = (records::of_kind(&broker, "refused"), records::of_kind(&broker, "summed"));
    println!("{what}: {} single records, {} sums", singles.len(), sums.len());
    let summed: u64 = sums.iter().map(|body| body["count"].as_u64().unwrap()).sum();
    assert_eq!(singles.len() as u64 + summed, sent, "each refusal is on record, or in a sum");
    Aftermath { sent, good, seconds, singles, sums }
}

impl Aftermath {
    /// No more single records and sums than the stated rates allow for this time.
    #[track_caller]
    fn is_within(&self, singles_per_minute: u64, sums_at_once: u64) {
        assert!(self.sent > 0 && self.good > 0);
        let (singles, sums) = (self.singles.len() as u64, self.sums.len() as u64);
        assert!(singles <= singles_per_minute * (self.seconds / 60 + 2), "{singles} single records");
        assert!(sums <= sums_at_once * (self.seconds / SUM_SECONDS + 2), "{sums} sums");
    }
}

/// Forged tokens that name a good repository and keys that nobody has.
#[tokio::test]
async fn heavy_a_flood_of_unknown_kids_costs_one_fetch_a_floor_and_sums() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml(NO_RATE);
    let signature = base64url(&[7; 256]);
    let shot = |broker: &Broker| {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": base64url(&random()) }).to_string();
        let claims = issuer.job().branch("main").environment("production").claims(broker.audience()).to_string();
        let token = format!("{}.{}.{signature}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        Shot { token, forwarded: None }
    };
    let left = flood("unknown kids", config, &issuer, shot).await;
    left.is_within(SINGLES_PER_MINUTE, 1);
    for body in left.singles.iter().chain(&left.sums) {
        assert_eq!(body["reason"], "kid_unknown", "{body}");
    }
    assert!(left.sums.iter().all(|sum| sum["issuer"] == "github"), "{:?}", left.sums);
}

/// Tokens of issuers that nobody configured: all unknown issuers are one.
#[tokio::test]
async fn heavy_a_flood_of_unknown_issuers_is_summed_as_one() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml(NO_RATE);
    let signature = base64url(&[7; 256]);
    let header = base64url(json!({ "typ": "JWT", "alg": "RS256", "kid": "k" }).to_string().as_bytes());
    let shot = |_: &Broker| {
        let claims = json!({ "iss": format!("https://{}.example", base64url(&random())) }).to_string();
        Shot { token: format!("{header}.{}.{signature}", base64url(claims.as_bytes())), forwarded: None }
    };
    let left = flood("unknown issuers", config, &issuer, shot).await;
    left.is_within(SINGLES_PER_MINUTE, 1);
    assert!(
        left.sums.iter().all(|sum| sum["reason"] == "issuer_unknown" && sum["issuer"].is_null()),
        "{:?}",
        left.sums
    );
}

/// Each request from a network of its own, as a trusted proxy tells; rates are as they come.
#[tokio::test]
async fn heavy_a_flood_from_everywhere_is_summed_too() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).server("trusted_proxies = [\"127.0.0.1\"]").toml(
        // The good jobs all come from this host.
        "[server.limits]\nrequests_per_second = 1000\n",
    );
    let shot = |_: &Broker| {
        let bytes = random();
        let from = if bytes[0] & 1 == 0 {
            Ipv4Addr::new(198, bytes[1], bytes[2], bytes[3]).to_string()
        } else {
            Ipv6Addr::from(u128::from_be_bytes(bytes) >> 3 | 0x2000 << 112).to_string()
        };
        Shot { token: "x.y.z".to_owned(), forwarded: Some(from) }
    };
    let left = flood("every network", config, &issuer, shot).await;
    left.is_within(SINGLES_PER_MINUTE_ALL, SUMS_MAX);
}

/// Whoever is slow is cut off, and nobody waits for them.
#[tokio::test]
async fn heavy_security_099_slow_senders_are_cut_off_and_hold_up_nobody() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequest_seconds = 3\n");
    let broker = Broker::start(BINARY, config).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let head = "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let begun = [
        String::new(),
        "POST /tok".to_owned(),
        head.to_owned(),
        format!("{head}content-length: 100\r\n\r\ngrant"),
        format!("{head}transfer-encoding: chunked\r\n\r\n5\r\ngr"),
        "GET /jwks HTTP/1.1\r\nhost: x\r\nx-slow: ".to_owned(),
    ];
    let mut slow = Vec::new();
    for at in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(begun[at % begun.len()].as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let served = async {
        for _ in 0..20 {
            let job = issuer.job().branch("main").environment("production").token(broker.audience());
            let answer = broker.exchange_for(&job, "payments-release").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    let cut = join_all(slow.into_iter().map(async |mut stream| {
        // A byte now and then must not buy more time.
        let (mut from, mut to) = stream.split();
        let drip = async {
            while to.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            std::future::pending::<()>().await
        };
        let mut said = Vec::new();
        tokio::select! {
            // A reset is an end, too.
            _ = from.read_to_end(&mut said) => {}
            () = drip => {}
        }
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }));
    let both = tokio::time::timeout(Duration::from_secs(100), async { tokio::join!(served, cut) }).await;
    assert!(both.is_ok(), "a slow connection stays open");
    assert!(!broker.log().contains("\"ERROR\""), "{}", broker.log());
}

/// More connections than there may be: who comes later waits for those that are cut off, and is served.
#[tokio::test]
async fn heavy_beyond_the_connections_the_next_one_waits_its_turn() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequest_seconds = 1\nconnections = 8\n");
    let broker = Broker::start(BINARY, config).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let slow = join_all((0..24).map(async |_| TcpStream::connect(&address).await.unwrap())).await;
    let job = issuer.job().branch("main").environment("production").token(broker.audience());
    let answer = broker.exchange_for(&job, "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    drop(slow);
}

/// Neither forged tokens that name a repository nor its own used ones take anything off its rate; beyond the rate
/// nothing is spent, and other repositories go on.
#[tokio::test]
async fn security_144_nobody_else_uses_up_a_repository_s_rate() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer)
        .toml("[server.limits]\nrequests_per_second = 0\nrepository_requests_per_second = 1\n");
    let mut broker = Broker::start(BINARY, config).await;
    let good = || issuer.job().branch("main").environment("production");
    let exchange = async |token: &str| broker.exchange_for(token, "payments-release").await;

    let used = good().token(broker.audience());
    assert_eq!(exchange(&used).await.status, 200);
    let forger = Key::rs256().with_kid(issuer.key().kid());
    let forged = good().token_by(&forger, broker.audience());
    let mut unverified = 0;
    for at in 0..100 {
        let answer = exchange(if at % 2 == 0 { &forged } else { &used }).await;
        unverified += usize::from(answer.text_of("reason") == "token_not_accepted");
        assert_ne!(answer.status, 429, "{}", answer.text);
    }
    assert_eq!(unverified, 50);
    // All of the burst but the one that was used is left.
    let mut served = 0;
    let (held, answer) = loop {
        let token = good().token(broker.audience());
        let answer = exchange(&token).await;
        if answer.status == 429 {
            break (token, answer);
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        served += 1;
        assert!(served < 500, "nobody is turned away");
    };
    assert!(served >= 9, "the burst ended after {served}");
    assert_eq!(answer.text_of("reason"), "rate_limited");
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{:?}", answer.headers);
    let decision = answer.text_of("decision_id").to_owned();
    let other = good().repository("acme/payments-web").repository_id(740_000_002).token(broker.audience());
    assert_eq!(exchange(&other).await.status, 200, "another repository has its own");
    // The same token, later: it was not judged yet.
    let later = eventually(Duration::from_secs(60), async || Some(exchange(&held).await).filter(|a| a.status != 429));
    assert_eq!(later.await.status, 200);
    let again = eventually(Duration::from_secs(60), async || Some(exchange(&held).await).filter(|a| a.status != 429));
    assert_eq!(again.await.text_of("reason"), "replay", "now it is spent");

    let metrics = broker.metrics().await;
    assert!(metrics.sum("claimbound_exchanges_total", &[("reason", "rate_limited")]) >= 1.0);
    assert!(metrics.sum("claimbound_refusals_summed_total", &[("standing", "job")]) >= 1.0);
    assert_eq!(broker.terminate().await.code, Some(0));
    assert!(records::of(&broker, &decision).is_empty(), "nothing is written for each");
    let sums = records::of_kind(&broker, "summed");
    let sum = sums.iter().find(|sum| sum["reason"] == "rate_limited").unwrap_or_else(|| panic!("{sums:?}"));
    assert_eq!(sum["principal"], json!({ "issuer": "github", "id": "740000001", "name": "acme/payments-api" }));
}

/// A job in a loop: beyond a rate its denials are summed, and each of its tokens is spent all the same.
#[tokio::test]
async fn a_flood_of_denials_is_summed_and_spends_every_token() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let denied = || issuer.job().branch("feature").environment("production").token(broker.audience());
    let tokens: Vec<String> = (0..150).map(|_| denied()).collect();
    let mut summed = None;
    for token in &tokens {
        let answer = broker.exchange_for(token, "payments-release").await;
        assert_eq!((answer.status, answer.text_of("reason")), (400, "no_mapping"), "{}", answer.text);
        assert!(answer.body["nearest"].is_object(), "summed or not, the job learns the same: {}", answer.text);
        summed = Some(answer.text_of("decision_id").to_owned());
    }
    for token in [&tokens[0], &tokens[149]] {
        // Also where the same token would be good for something else.
        assert_eq!(broker.exchange_for(token, "payments-secrets").await.text_of("reason"), "replay");
    }
    assert_eq!(broker.terminate().await.code, Some(0));
    let of = |kind| {
        let mut found = records::of_kind(&broker, kind);
        found.retain(|body| body["reason"] == "no_mapping");
        found
    };
    let (singles, sums) = (of("refused").len() as u64, of("summed"));
    let counted: u64 = sums.iter().map(|sum| sum["count"].as_u64().unwrap()).sum();
    assert_eq!(singles + counted, 150);
    // Two windows at most, on a machine that took a minute for all this.
    assert!((120..=149).contains(&singles), "{singles}");
    assert!(sums.iter().all(|sum| sum["principal"]["name"] == "acme/payments-api"), "{sums:?}");
    let told = broker.command(&["explain", "--decision", &summed.unwrap()]).await;
    assert_ne!(told.code, Some(0), "{}", told.stdout);
    assert!(told.stderr.contains("only their number is kept"), "it says why: {}", told.stderr);
}
