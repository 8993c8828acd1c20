//! The endpoints: form, limits, documents, health, TLS.

use crate::BINARY;
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http::{self, client, send},
    issuer::Issuer,
    time::eventually,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn security_103_forms_are_strict_and_a_malformed_one_spends_nothing() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let token = issuer.job().branch("main").environment("production").token(broker.audience());
    let base = format!("grant_type={TOKEN_EXCHANGE}&subject_token={token}&subject_token_type={ID_TOKEN}");
    let post = async |path: &str, content: &str, body: String| {
        let request = client().post(format!("{}{path}", broker.url())).header("content-type", content).body(body);
        send(request).await.unwrap()
    };
    for (what, body, error) in [
        ("a parameter twice", format!("{base}&audience=a&audience=a"), "invalid_request"),
        ("a parameter twice, once encoded", format!("{base}&audience=a&%61udience=b"), "invalid_request"),
        ("audience and role differ", format!("{base}&audience=a&role=b"), "invalid_request"),
        ("resource", format!("{base}&resource=https%3A%2F%2Fx"), "invalid_target"),
        ("another token type", base.replace("id_token", "saml2"), "invalid_request"),
        ("no token", format!("grant_type={TOKEN_EXCHANGE}&subject_token_type={ID_TOKEN}"), "invalid_request"),
        ("no grant type", "subject_token=x".to_owned(), "invalid_request"),
        ("another grant type", "grant_type=password".to_owned(), "unsupported_grant_type"),
        (
            "a refresh token asked for",
            format!("{base}&requested_token_type=urn:ietf:params:oauth:token-type:refresh_token"),
            "invalid_request",
        ),
        ("a duration in words", format!("{base}&requested_expires_in=12h"), "invalid_request"),
        ("no duration", format!("{base}&requested_expires_in=0"), "invalid_request"),
        ("a dry run, perhaps", format!("{base}&dry_run=maybe"), "invalid_request"),
        ("an actor token of no type", format!("{base}&actor_token=x"), "invalid_request"),
        ("half an escape", format!("{base}&audience=%6"), "invalid_request"),
        ("no UTF-8", format!("{base}&audience=%ff"), "invalid_request"),
    ] {
        let answer = post("/token", FORM, body).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!(error)), "{what}: {}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store", "{what}");
        assert!(!answer.text.contains(&token), "{what}");
    }
    assert_eq!(post("/token?audience=a", FORM, base.clone()).await.status, 400);
    assert_eq!(post("/token", "application/json", "{}".to_owned()).await.status, 415);
    assert_eq!(post("/token", &format!("{FORM}; charset=latin1"), base.clone()).await.status, 415);
    let answer =
        post("/token", &format!("{FORM}; charset=UTF-8"), format!("{base}&audience=payments-release&unknown=1")).await;
    assert_eq!(answer.status, 200, "the token is still good: {}", answer.text);
}

#[tokio::test]
async fn sizes_and_methods_are_judged_before_any_token() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let url = format!("{}/token", broker.url());
    let post = |body: String| client().post(&url).header("content-type", FORM).body(body);
    assert_eq!(send(post("a".repeat(65 * 1024))).await.unwrap().status, 413);
    let long =
        format!("grant_type={TOKEN_EXCHANGE}&subject_token_type={ID_TOKEN}&subject_token={}", "a".repeat(17 * 1024));
    assert_eq!(send(post(long)).await.unwrap().status, 413);
    let chunks = futures_util::stream::iter((0..80).map(|_| Ok::<_, std::io::Error>("a".repeat(1024))));
    let chunked = client().post(&url).header("content-type", FORM).body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(send(chunked).await.unwrap().status, 413);
    let headers = client().post(&url).header("x-long", "a".repeat(20 * 1024)).body("");
    assert_eq!(send(headers).await.unwrap().status, 431);
    for path in ["/token", "/revoke"] {
        let answer = broker.get(path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}");
    }
    assert_eq!(broker.get("/metrics").await.status, 404, "not on the public listener");
    assert_eq!(broker.get("/operator/health").await.status, 404);
    assert!(broker.metrics().await.sum("claimbound_turned_away_total", &[("status", "413")]) == 3.0);
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
}

#[tokio::test]
async fn a_slow_request_is_cut_off_and_the_others_go_on() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequest_seconds = 1\n");
    let broker = Broker::start(BINARY, config).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for begun in [
        "POST /token HTTP/1.1\r\nhost: x\r\n",
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\ngrant",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    let job = issuer.job().branch("main").environment("production");
    let good = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    assert_eq!(good.status, 200, "{}", good.text);
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a slow connection stays open");
        let answer = String::from_utf8_lossy(&rest);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn beyond_the_rate_a_network_waits() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).toml("[server.limits]\nrequests_per_second = 1\n");
    let broker = Broker::start(BINARY, config).await;
    // A burst of ten goes through; then one a second does, which is slower than this asks.
    let mut before = 0;
    let turned_away = loop {
        let answer = broker.exchange_for("x.y.z", "any").await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 400, "{}", answer.text);
        before += 1;
        assert!(before < 200, "nobody is turned away");
    };
    assert!(before >= 10, "the burst ended after {before}");
    assert!(turned_away.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1));
    assert_eq!(broker.get("/healthz").await.status, 200, "health is not counted");
}

#[tokio::test]
async fn documents_say_what_works_and_health_says_how_it_is() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let own = broker.audience();
    let discovery = broker.get("/.well-known/openid-configuration").await;
    assert_eq!((discovery.status, &discovery.body["issuer"]), (200, &json!(own)), "{}", discovery.text);
    assert_eq!(discovery.body["jwks_uri"], format!("{own}/jwks"));
    let server = broker.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(server.body["token_endpoint"], format!("{own}/token"), "{}", server.text);
    assert_eq!(server.body["grant_types_supported"], json!([TOKEN_EXCHANGE, "refresh_token"]));
    let facts = broker.get("/.well-known/claimbound").await;
    assert_eq!(facts.body["audience"], own, "{}", facts.text);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(broker.get(path).await.status, 200, "{path}");
    }
    let health = http::get(&format!("{}/operator/health", broker.operator_url())).await;
    assert_eq!((&health.body["ready"], &health.body["store"]["writable"]), (&json!(true), &json!(true)));
    let fetched = eventually(Duration::from_secs(20), async || {
        let health = http::get(&format!("{}/operator/health", broker.operator_url())).await.body;
        (health["issuers"][0]["keys"] == 1).then_some(health)
    });
    assert_eq!(fetched.await["issuers"][0]["issuer"], "github");
}

#[tokio::test]
async fn tls_is_served_when_it_is_configured() {
    let issuer = Issuer::github();
    let directory = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.path().join("certificate.pem"), cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    BrokerConfig::new(&issuer)
        .server("public_url = \"https://127.0.0.1:1\"")
        .toml("[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n")
        .write(directory.path(), "127.0.0.1:0", "127.0.0.1:0");
    let mut broker = claimbound_test_support::command::command(std::path::Path::new(BINARY), directory.path());
    broker.args(["serve", "--development"]).stdout(std::process::Stdio::piped());
    let mut broker = broker.spawn().unwrap();
    let mut ready = String::new();
    let mut lines = tokio::io::BufReader::new(broker.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut ready).await.unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let url = ready["listen"].as_str().unwrap();
    assert!(url.starts_with("https://"), "{url}");
    let root = reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
    let answer = send(client.get(format!("{url}/healthz"))).await.unwrap();
    assert_eq!(answer.status, 200);
    let answer = client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_11, "the client offers HTTP/2 first");
    let plain = send(http::client().get(url.replace("https://", "http://"))).await;
    assert!(plain.is_err() || plain.unwrap().status == 400, "no plain HTTP on a TLS port");
    broker.kill().await.unwrap();
}

/// What cannot be spoken cannot be abused: no streams to reset, no endless headers.
#[tokio::test]
async fn security_099_http_2_is_not_spoken() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let answer = client.get(format!("{}/healthz", broker.url())).send().await;
    assert!(answer.is_err(), "{answer:?}");
    let upgrade = http::client().get(format!("{}/healthz", broker.url()));
    let upgrade = upgrade.header("connection", "upgrade, http2-settings").header("upgrade", "h2c");
    let answer = upgrade.header("http2-settings", "AAMAAABkAAQAAP__").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
}
