//! A hostile sender, a hostile network and a hurried operator: what must stay quiet, whole or shut.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
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
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn releasing<'i>(issuer: &'i Issuer) -> Job<'i> {
    issuer.job().branch("main").environment("production")
}

/// The body without what differs from request to request.
fn constant(mut answer: Answer) -> Value {
    for member in ["decision_id", "claims"] {
        answer.body[member] = Value::Null;
    }
    json!([answer.status, answer.body])
}

/// A deny that holds for a job must not tell it which roles there are.
#[tokio::test]
async fn a_deny_is_no_oracle_for_roles_of_others() {
    let issuer = Issuer::github();
    let deny = "[[deny]]\nname = \"no-self-hosted\"\nreason = \"not isolated\"\nsensitivity = \"production\"\n[deny.match]\nrunner_environment = \"self-hosted\"\n\n[sensitivity.production]";
    let config = BrokerConfig::new(&issuer).edit("policy.toml", "[sensitivity.production]", deny);
    let broker = Broker::start(BINARY, config).await;
    let outsider = issuer.job().repository("acme/other").runner("self-hosted");
    let ask = async |role| broker.exchange_for(&outsider.token(broker.audience()), role).await;
    let (denied, unknown) = (ask("payments-release").await, ask("no-such-role").await);
    assert_eq!(constant(denied), constant(unknown));
    let own = releasing(&issuer).runner("self-hosted").token(broker.audience());
    assert_eq!(
        broker.exchange_for(&own, "payments-release").await.body["reason"],
        "denied",
        "who is concerned is told"
    );
}

/// At the loudest log level neither log nor store nor metrics hold a token, its signature or our credential.
#[tokio::test]
async fn nothing_secret_is_logged_at_the_loudest_level() {
    let issuer = Issuer::github();
    let directory = tempfile::tempdir().unwrap();
    BrokerConfig::new(&issuer).write(directory.path(), "127.0.0.1:0", "127.0.0.1:0");
    let log = std::fs::File::create(directory.path().join("stderr.log")).unwrap();
    let mut broker = claimbound_test_support::command::command(std::path::Path::new(BINARY), directory.path())
        .args(["serve", "--development"])
        .env("CLAIMBOUND_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut lines = tokio::io::BufReader::new(broker.stdout.take().unwrap());
    lines.read_line(&mut ready).await.unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let (url, operator) = (ready["listen"].as_str().unwrap(), ready["operator_listen"].as_str().unwrap());
    let post = async |path: &str, form: &[(&str, &str)]| http::post_form(&format!("{url}{path}"), form).await;
    let exchange = async |token: &str| {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ID_TOKEN),
            ("audience", "payments-release"),
        ];
        post("/token", &form).await
    };

    let good = releasing(&issuer).token(url);
    let granted = exchange(&good).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let credential = granted.text_of("access_token").to_owned();
    let refused = [
        issuer.job().branch("feature").environment("production").token(url),
        releasing(&issuer).token_by(&Key::rs256(), url),
        releasing(&issuer).token_by(&Key::rs256().with_kid(issuer.key().kid()), url),
        releasing(&issuer).repository("evil/app").token(url),
        releasing(&issuer).token("https://other.example"),
        "header-canary-0001.payload-canary-0001.signature-canary-0001".to_owned(),
    ];
    for token in &refused {
        assert_eq!(exchange(token).await.status, 400);
    }
    assert_eq!(exchange(&good).await.body["reason"], "replay");
    post("/revoke", &[("token", &credential)]).await;
    post("/revoke", &[("token", "revoke-canary-0001")]).await;
    for form in [
        &[("grant_type", "refresh_token"), ("refresh_token", "refresh-canary-0001")][..],
        &[("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", "poll-canary-0001")],
        &[("grant_type", TOKEN_EXCHANGE), ("subject_token", "lone-canary-0001")],
        &[("grant_type", "password"), ("password", "password-canary-0001")],
        &[("name-canary-0001", "1"), ("name-canary-0001", "2")],
    ] {
        assert_eq!(post("/token", form).await.status, 400);
    }
    let strange = http::client().get(format!("{url}/path-canary-0001?query-canary-0001"));
    let strange = strange.header("authorization", "Bearer header-canary-0002").header("cookie", "cookie-canary-0001");
    assert_eq!(http::send(strange).await.unwrap().status, 404);
    // What no parser takes: the bytes stand in nobody's error.
    let mut raw = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    raw.write_all(b"POST /token raw-canary-0001 HTTP/9\r\n\r\n").await.unwrap();
    raw.read_to_end(&mut Vec::new()).await.unwrap();
    let metrics = http::get(&format!("{operator}/metrics")).await.text;
    let health = http::get(&format!("{operator}/operator/health")).await.text;
    std::fs::write(directory.path().join("told"), metrics + &health).unwrap();

    let log = std::fs::read_to_string(directory.path().join("stderr.log")).unwrap();
    assert!(log.contains("\"TRACE\""), "the level reaches the libraries:\n{log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let mut secrets: Vec<&str> = vec![&good, &credential];
    secrets.extend(refused.iter().map(String::as_str));
    secrets.extend(secrets.clone().iter().flat_map(|token| token.split('.').skip(1)));
    secrets.extend(["-canary-0001", "-canary-0002"]);
    canary::assert_absent(directory.path(), &secrets);
    broker.kill().await.unwrap();
}

/// Two readers of one request must not see two: what could be read in two ways is refused, and the connection ends.
#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_spends_nothing() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let token = releasing(&issuer).token(broker.audience());
    let body = format!(
        "grant_type={TOKEN_EXCHANGE}&subject_token={token}&subject_token_type={ID_TOKEN}&audience=payments-release"
    );
    let (length, form) = (body.len(), "content-type: application/x-www-form-urlencoded\r\n");
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let cases = [
        (
            "a length and chunks",
            format!("host: x\r\n{form}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        ),
        (
            "chunks and a length",
            format!("host: x\r\n{form}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n{chunked}"),
        ),
        ("two lengths", format!("host: x\r\n{form}content-length: {length}\r\ncontent-length: 1\r\n\r\n{body}")),
        (
            "the same length twice",
            format!("host: x\r\n{form}content-length: {length}\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
        ("a signed length", format!("host: x\r\n{form}content-length: +{length}\r\n\r\n{body}")),
        ("a list of lengths", format!("host: x\r\n{form}content-length: {length}, {length}\r\n\r\n{body}")),
        ("an unknown coding", format!("host: x\r\n{form}transfer-encoding: xchunked\r\n\r\n{chunked}")),
        ("a coding under another", format!("host: x\r\n{form}transfer-encoding: gzip, chunked\r\n\r\n{chunked}")),
        (
            "a coding twice",
            format!("host: x\r\n{form}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n{chunked}"),
        ),
        ("a blank before the colon", format!("host: x\r\n{form}content-length : {length}\r\n\r\n{body}")),
        ("a folded header", format!("host: x\r\n{form}x-a: 1\r\n content-length: {length}\r\n\r\n{body}")),
        ("two hosts", format!("host: x\r\nhost: y\r\n{form}content-length: {length}\r\n\r\n{body}")),
        ("two types", format!("host: x\r\n{form}{form}content-length: {length}\r\n\r\n{body}")),
        (
            "a compressed form",
            format!("host: x\r\n{form}content-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
    ];
    for (what, rest) in cases {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(format!("POST /token HTTP/1.1\r\n{rest}").as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(ended.is_ok(), "{what}: the connection stays open after {said}");
        assert!(said.starts_with("HTTP/1.1 4") && !said.contains("access_token"), "{what}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{what}: nothing behind it is read: {said}");
    }
    assert!(records::all(&broker).iter().all(|(body, _)| body["decision"].is_null()), "nothing was judged");
    assert!(!broker.log().contains("\"ERROR\""), "a sender's fault is no error of ours: {}", broker.log());
    let answer = broker.exchange_for(&token, "payments-release").await;
    assert_eq!(answer.status, 200, "the token is still good: {}", answer.text);
}

/// What an issuer's documents say must not send the broker anywhere else, nor make it believe another's keys.
#[tokio::test]
async fn an_issuer_that_lies_is_down_and_nobody_is_visited() {
    let (issuer, trap) = (Issuer::github(), Trap::new());
    let elsewhere = |keys: Value| {
        let mut document = issuer.discovery();
        document["jwks_uri"] = keys;
        Serve::Json(document)
    };
    let faults = [
        ("discovery redirects", Serve::Redirect(trap.url()), Serve::Right),
        ("keys redirect", Serve::Right, Serve::Redirect(trap.url())),
        ("keys elsewhere", elsewhere(json!(trap.url())), Serve::Right),
        ("keys by file", elsewhere(json!("file:///etc/passwd")), Serve::Right),
        ("keys at a metadata service", elsewhere(json!("http://169.254.169.254/latest")), Serve::Right),
        ("no keys", Serve::Right, Serve::Json(json!({ "keys": [] }))),
        ("too much", Serve::Right, Serve::Huge { blanks: 2_000_000, announced: false }),
        ("down", Serve::Status(500), Serve::Right),
    ];
    for (what, discovery, keys) in faults {
        issuer.serve_discovery(discovery);
        issuer.serve_keys(keys);
        let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
        let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
        assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("issuer_down")), "{what}: {}", answer.text);
        assert!(answer.body.get("mappings_version").is_none(), "{what}: nobody proved anything: {}", answer.text);
        trap.assert_silent();
        assert_eq!(broker.get("/readyz").await.status, 200, "{what}");
    }
}

/// A flood of tokens with keys that nobody knows is one fetch, and good tokens go on meanwhile.
#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_fetch_and_holds_up_nobody() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let fetched =
        eventually(Duration::from_secs(20), async || (issuer.key_fetches() > 0).then_some(issuer.key_fetches()));
    assert_eq!(fetched.await, 1);
    let key = Key::rs256();
    let tokens: Vec<String> = (0..60)
        .map(|at| releasing(&issuer).header("kid", format!("nobody-{at}")).token_by(&key, broker.audience()))
        .collect();
    let answers = join_all(tokens.iter().map(|token| broker.exchange_for(token, "payments-release"))).await;
    let bodies: BTreeSet<String> = answers.into_iter().map(|answer| constant(answer).to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let good = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(issuer.key_fetches(), 1, "the floor counts from the fetch at start");
}

/// One spent token must not write records for as long as it verifies: beyond a rate its replays are summed, none is
/// lost, and what was granted stays one record.
#[tokio::test]
async fn a_flood_of_replays_is_summed() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let granted = releasing(&issuer).token(broker.audience());
    let denied = issuer.job().branch("feature").environment("production").token(broker.audience());
    assert_eq!(broker.exchange_for(&granted, "payments-release").await.status, 200);
    assert_eq!(broker.exchange_for(&denied, "payments-release").await.body["reason"], "no_mapping");
    for _ in 0..10 {
        let again = (0..10).flat_map(|_| [&granted, &denied]);
        for answer in join_all(again.map(|token| broker.exchange_for(token, "payments-release"))).await {
            assert_eq!(answer.body["reason"], "replay", "{}", answer.text);
        }
    }
    // What waits to be summed is written when the broker stops.
    assert_eq!(broker.terminate().await.code, Some(0));
    let of = |kind: &str| {
        let mut found = records::of_kind(&broker, kind);
        found.retain(|body| body["reason"] == "replay");
        found
    };
    let (single, summed) = (of("refused").len() as u64, of("summed"));
    let counted: u64 = summed.iter().map(|body| body["count"].as_u64().unwrap()).sum();
    assert_eq!(single + counted, 200, "{summed:?}");
    assert!(counted > 0 && summed.iter().all(|body| body["issuer"] == "github"), "{summed:?}");
    assert_eq!(records::of_kind(&broker, "granted").len(), 1);
}

/// SIGTERM under load: every credential that left is on record, whoever was let in is answered, and the exit is 0.
#[tokio::test]
async fn a_stop_under_load_loses_nothing() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let url = format!("{}/token", broker.url());
    let jobs: Vec<_> = (0..120)
        .map(|_| {
            let (url, token) = (url.clone(), releasing(&issuer).token(broker.audience()));
            tokio::spawn(async move {
                let form = [
                    ("grant_type", TOKEN_EXCHANGE),
                    ("subject_token", &*token),
                    ("subject_token_type", ID_TOKEN),
                    ("audience", "payments-release"),
                ];
                http::send(http::client().post(url).form(&form)).await
            })
        })
        .collect();
    // A connection that says nothing must not hold the stop up beyond its own time limit.
    let _idle = TcpStream::connect(broker.url().trim_start_matches("http://")).await.unwrap();
    eventually(Duration::from_secs(20), async || {
        (broker.metrics().await.sum("claimbound_exchanges_total", &[("outcome", "granted")]) > 0.0).then_some(())
    })
    .await;
    let exit = broker.terminate().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    let mut leases = BTreeSet::new();
    for answer in join_all(jobs).await {
        // Who came too late was never let in: no answer at all, or 503.
        let Ok(Ok(answer)) = answer else { continue };
        match answer.status {
            200 => assert!(leases.insert(answer.text_of("lease_id").to_owned())),
            status => assert_eq!(status, 503, "{}", answer.text),
        }
    }
    assert!(!leases.is_empty());
    let recorded: BTreeSet<String> =
        records::of_kind(&broker, "granted").iter().map(|body| body["lease"].as_str().unwrap().to_owned()).collect();
    assert_eq!(leases, recorded, "what left is on record, and what is on record was answered");
    let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

/// Who is not a trusted proxy cannot say who it is; who is, can.
#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
    let issuer = Issuer::github();
    for (trusted, address) in [("", "127.0.0.1"), ("trusted_proxies = [\"127.0.0.0/8\"]", "203.0.113.9")] {
        let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).server(trusted)).await;
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*releasing(&issuer).token(broker.audience())),
            ("subject_token_type", ID_TOKEN),
        ];
        let request = http::client().post(format!("{}/token", broker.url())).form(&form);
        // The first is the sender's own invention.
        let answer = http::send(request.header("x-forwarded-for", "198.51.100.1, 203.0.113.9")).await.unwrap();
        let (_, details) = records::the_one(&broker, answer.text_of("decision_id")).await;
        assert_eq!(details["address"], address, "{trusted}");
    }
}
