//! Every endpoint over actix's test service, with a broker that says what the test wants.

mod relying;

use super::*;
use crate::{
    broker::{
        Answer, Asked, AskedGrant, Broker, CallerIdentity, EvidenceHealth, Health, MappingsHealth, NoOperator,
        SigningHealth, StatusList, StoreHealth, Who,
    },
    config::{Config, Evidence, Hints, Limits, Signing},
    exchange::{Granted, Issued, Refused},
    http::{answer::tests::answer, front::Front},
    issuance::Credential,
    operate::{Deed, Done, OperateError},
    operators::{May, Operator},
    secret::Secret,
    store::Down,
};
use actix_web::{
    App,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::header::HeaderMap,
    middleware::from_fn,
    test::{TestRequest, init_service},
};
use claimbound_core::{
    evidence::LeaseId,
    reason::{Reason, Standing},
    time::UnixSeconds,
};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

pub const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange\
    &subject_token_type=urn:ietf:params:oauth:token-type:jwt&subject_token=";
const STRANGER: &str = "203.0.113.9:4711";

/// Grants to the token `good`, has its store down for `down`, and refuses all others.
#[derive(Default)]
pub struct Fake {
    pub asked: Mutex<Vec<Asked>>,
    pub turned_away: Mutex<Vec<u16>>,
    pub not_ready: AtomicBool,
    /// How often somebody showed something to be let in as an operator.
    pub presented: AtomicUsize,
}

impl Front for Arc<Fake> {
    fn exchange(&self, asked: Asked) -> BoxFuture<'_, Answer> {
        let AskedGrant::Tokens { subject, .. } = &asked.grant else { panic!("tests ask by tokens") };
        let refuse = |reason| Refused {
            reason,
            standing: Standing::Stranger,
            role_asked: false,
            retry_after_seconds: None,
            waits: None,
            said: None,
            first: None,
            hint: None,
        };
        let outcome = match subject.reveal() {
            "good" => Ok(Granted::Issued(Issued {
                lease_handle: None,
                refresh: None,
                credential: Credential::Jwt(Secret::new("h.p.s".into())),
                expires: UnixSeconds(1_900),
                role: "r".into(),
                mapping: "m".into(),
                lease: LeaseId(2),
                web_identity: None,
            })),
            "down" => Err(refuse(Reason::StoreDown)),
            _ => Err(refuse(Reason::Malformed)),
        };
        self.asked.lock().unwrap().push(asked);
        Box::pin(async { answer(outcome) })
    }
    fn revoke(&self, token: Secret) -> BoxFuture<'_, bool> {
        Box::pin(async move { token.reveal() != "down" })
    }
    /// Fails as the name of the role says, and else has nothing to tell.
    fn operate(&self, operator: Operator, deed: Deed) -> BoxFuture<'_, Result<Done, OperateError>> {
        let name = match &deed {
            Deed::Suspend(asked) => asked.subject.name.as_str(),
            _ => "",
        };
        let text = || "told".to_owned();
        let failed = match name {
            "not-allowed" => Some(Operator::new(operator.name(), []).require(May::Suspend).unwrap_err().into()),
            "invalid" => Some(OperateError::Invalid(text())),
            "unknown" => Some(OperateError::Unknown(text())),
            "not-yet" => Some(OperateError::NotYet(text())),
            "down" => Some(OperateError::Store(crate::store::Down::new("down"))),
            _ => None,
        };
        Box::pin(async move { failed.map_or(Ok(Done::Suspensions { suspensions: vec![] }), Err) })
    }
    fn resource_server(&self, id: &str, secret: &str) -> Option<usize> {
        ((id, secret) == ("openbao", "s e:c+ret")).then_some(0)
    }
    fn introspect(&self, _: usize, token: Secret) -> BoxFuture<'_, Result<Option<Map<String, Value>>, Down>> {
        Box::pin(async move {
            match token.reveal() {
                "good" => Ok(Some([("jti".to_owned(), json!("7"))].into_iter().collect())),
                "down" => Err(Down::new("away")),
                _ => Ok(None),
            }
        })
    }
    fn caller_identity(&self, _: String, _: Secret) -> BoxFuture<'_, Result<Option<CallerIdentity>, Down>> {
        Box::pin(async { Ok(None) })
    }
    fn count_sts(&self, _: &'static str, _: &'static str) {}
    fn status_list<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<StatusList>>, Down>> {
        Box::pin(async move {
            match name {
                "gone" => Ok(None),
                "down" => Err(Down::new("away")),
                _ => Ok(Some(Arc::new(StatusList { token: "h.p.s".into(), tag: "t1".into() }))),
            }
        })
    }
    fn jwks(&self) -> Value {
        json!({ "keys": [] })
    }
    fn ready(&self) -> bool {
        !self.not_ready.load(Ordering::Relaxed)
    }
    fn health(&self) -> Health {
        Health {
            ready: true,
            version: "1",
            mappings_version: "abc".into(),
            mappings: MappingsHealth { activated: 0, error: None, restart_needed: false, exceptions: Vec::new() },
            store: StoreHealth { writable: true, waiting: 0 },
            evidence: EvidenceHealth::default(),
            issuers: vec![],
            signing: SigningHealth::default(),
            sinks: vec![],
            keys: vec![],
            suspensions: vec![],
        }
    }
    fn metrics(&self) -> String {
        "# EOF\n".into()
    }
    fn count_turned_away(&self, status: u16) {
        self.turned_away.lock().unwrap().push(status);
    }
    fn now(&self) -> UnixSeconds {
        UnixSeconds(1_000)
    }
    fn checkpoint(&self) -> Option<String> {
        Some("a checkpoint\n".into())
    }
    fn checkpoint_key(&self) -> String {
        "a key".into()
    }
    /// `auditor` may audit; `limited` comes too often; the store is down for `down`.
    fn operator(&self, presented: Secret) -> BoxFuture<'_, Result<Who, NoOperator>> {
        self.presented.fetch_add(1, Ordering::Relaxed);
        let who = match presented.reveal() {
            "auditor" => {
                Ok(Who { operator: Operator::new("okta:eve", [May::Audit]), expires: Some(UnixSeconds(1_900)) })
            }
            "limited" => Err(NoOperator::TooOften { retry_after_seconds: 7 }),
            "down" => Err(NoOperator::Down),
            _ => Err(NoOperator::Unknown),
        };
        Box::pin(async { who })
    }
    fn broker(&self) -> Option<&Arc<Broker>> {
        None
    }
}

pub fn config() -> Config {
    Config {
        file: "claimbound.toml".into(),
        backends: std::collections::BTreeMap::new(),
        listen: "127.0.0.1:0".parse().unwrap(),
        operator_listen: None,
        public_url: "https://broker.example".into(),
        hints: Hints::Full,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        tls: None,
        limits: Limits {
            connections: 64,
            requests_per_second: 0,
            repository_requests_per_second: 0,
            introspections_per_second: 0,
            request_seconds: 5,
        },
        store: String::new(),
        mappings: "mappings".into(),
        exchange: crate::config::Exchange::default(),
        webhooks: Vec::new(),
        resource_servers: Vec::new(),
        issuers: BTreeMap::new(),
        sign_ins: Vec::new(),
        forges: BTreeMap::new(),
        operators: Vec::new(),
        signing: Signing::default(),
        traces: None,
        evidence: Evidence::default(),
        issuer_url: "https://issuer.example".into(),
        development: false,
    }
}

/// What came back.
struct Got {
    status: u16,
    headers: HeaderMap,
    closes: bool,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn got<B: MessageBody>(response: ServiceResponse<B>) -> Got {
    let (head, body) = response.into_parts().1.into_parts();
    let bytes = actix_web::body::to_bytes(body).await.unwrap_or_else(|_| panic!("a body")).to_vec();
    Got {
        status: head.status().as_u16(),
        closes: !head.keep_alive(),
        headers: head.headers().clone(),
        body: String::from_utf8(bytes).unwrap(),
    }
}

/// One request against one table.
async fn ask_at(table: &'static [Endpoint], fake: &Arc<Fake>, config: Config, request: TestRequest) -> Got {
    let shared = Data::new(Shared::new(Box::new(fake.clone()), config));
    let app = init_service(App::new().app_data(shared).wrap(from_fn(around)).configure(configure(table))).await;
    got(app.call(request.to_request()).await.unwrap()).await
}

async fn ask(fake: &Arc<Fake>, request: TestRequest) -> Got {
    ask_at(PUBLIC, fake, config(), request).await
}

fn from(peer: &str) -> TestRequest {
    TestRequest::default().peer_addr(peer.parse::<SocketAddr>().unwrap())
}

fn post(path: &str, body: impl Into<String>) -> TestRequest {
    from(STRANGER).method(Method::POST).uri(path).insert_header(FORM).set_payload(body.into())
}

#[actix_web::test]
async fn every_endpoint_answers_its_method_and_names_it_to_others() {
    for (table, other) in [(PUBLIC, OPERATOR), (OPERATOR, PUBLIC)] {
        for endpoint in table {
            let fake: Arc<Fake> = Arc::default();
            let ask = |method| ask_at(table, &fake, config(), from(STRANGER).method(method).uri(endpoint.path));
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let got = ask(method.clone()).await;
                let answers = at(table, endpoint.path).any(|row| row.answers(&method));
                assert_eq!(got.status == 405, !answers, "{method} {}: {}", endpoint.path, got.status);
                assert_eq!(got.header("x-content-type-options"), "nosniff");
                assert_eq!(got.header("access-control-allow-origin"), "");
                if got.status == 405 {
                    assert_eq!(got.header("allow"), allow(table, endpoint.path));
                    assert_eq!(got.json()["error"], "method_not_allowed");
                }
            }
            let expected = match (endpoint.needs, &endpoint.method, endpoint.path) {
                // Without a broker the pages have nobody to ask.
                (Needs::Nothing, _, path) if path.starts_with("/claim") && !path.ends_with(".css") => 503,
                (Needs::Nothing, &Method::GET, _) => 200,
                (Needs::Nothing, _, "/introspect") => 401,
                (Needs::Nothing, ..) => 415,
                _ => 401,
            };
            assert_eq!(ask(endpoint.method.clone()).await.status, expected, "{}", endpoint.path);
            assert_eq!(fake.presented.load(Ordering::Relaxed), 0, "nothing was shown");
        }
        for endpoint in other {
            let request = from(STRANGER).method(endpoint.method.clone()).uri(endpoint.path);
            let got = ask_at(table, &Arc::default(), config(), request).await;
            assert_eq!((got.status, &got.json()["error"]), (404, &json!("not_found")), "{}", endpoint.path);
        }
    }
}

#[test]
fn every_endpoint_is_documented() {
    let page = include_str!("../../../docs/api.md");
    for endpoint in PUBLIC.iter().chain(OPERATOR) {
        let row = format!("| `{} {}` |", endpoint.method, endpoint.path);
        assert!(page.contains(&row), "docs/api.md has no row {row}");
    }
}

#[actix_web::test]
async fn unknown_paths_are_not_found() {
    for path in ["/", "/token/", "/Token", "/token/x", "//token", "/metrics", "/operator/health", "/.well-known/"] {
        let got = ask(&Arc::default(), from(STRANGER).uri(path)).await;
        assert_eq!((got.status, &got.json()["error"]), (404, &json!("not_found")), "{path}");
    }
}

#[actix_web::test]
async fn an_exchange_goes_to_the_broker_and_its_answer_is_never_cached() {
    let fake: Arc<Fake> = Arc::default();
    let got = ask(&fake, post("/token", format!("{EXCHANGE}good&audience=r"))).await;
    assert_eq!((got.status, &got.json()["access_token"]), (200, &json!("h.p.s")));
    assert_eq!((got.header("cache-control"), got.header("pragma")), ("no-store", "no-cache"));
    assert_eq!(got.header("content-type"), "application/json");
    assert!(!got.closes, "a granted job may ask again");
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked[0].role.as_deref(), Some("r"));
    assert_eq!(asked[0].address, Some("203.0.113.9".parse().unwrap()));
    assert!(fake.turned_away.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_refusal_has_been_decided_and_is_not_turned_away() {
    let fake: Arc<Fake> = Arc::default();
    let got = ask(&fake, post("/token", format!("{EXCHANGE}bad"))).await;
    assert_eq!((got.status, &got.json()["reason"]), (400, &json!("token_not_accepted")));
    assert!(got.closes && got.header("cache-control") == "no-store");
    let got = ask(&fake, post("/token", format!("{EXCHANGE}down"))).await;
    assert_eq!((got.status, got.header("retry-after")), (503, "5"));
    assert!(fake.turned_away.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn what_is_turned_away_never_reaches_the_broker_and_is_counted() {
    let fake: Arc<Fake> = Arc::default();
    let good = || format!("{EXCHANGE}good");
    let large = "a".repeat(limit::BODY_BYTES_MAX + 1);
    let long = "a".repeat(limit::HEAD_BYTES_MAX);
    let requests = [
        (post("/token", ""), 400),
        (post("/token", "grant_type=password"), 400),
        (post("/token?x=1", good()), 400),
        (post("/token?", good()), 400),
        (post("/token", format!("{EXCHANGE}{}", "a".repeat(16 * 1024 + 1))), 413),
        (post("/token", large.clone()), 413),
        (post("/revoke", format!("token={large}")), 413),
        (post("/token", good()).insert_header(("content-type", "application/json")), 415),
        (post("/token", good()).insert_header(("content-encoding", "gzip")), 415),
        (post("/revoke", ""), 400),
        (post("/token", good()).insert_header(("x-long", long.clone())), 431),
        (from(STRANGER).uri(&format!("/{long}")), 431),
        (from(STRANGER).uri("/nowhere"), 404),
    ];
    let mut statuses = Vec::new();
    for (request, status) in requests {
        let got = ask(&fake, request).await;
        assert_eq!(got.status, status, "{}", got.body);
        assert!(got.closes, "{status}: a stranger keeps no connection");
        assert!(got.json().get("decision_id").is_none());
        statuses.push(status);
    }
    assert_eq!(*fake.turned_away.lock().unwrap(), statuses);
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn the_rate_is_per_network_and_comes_before_the_form() {
    let fake: Arc<Fake> = Arc::default();
    let mut config = config();
    config.limits.requests_per_second = 1;
    let shared = Data::new(Shared::new(Box::new(fake.clone()), config));
    let app = init_service(App::new().app_data(shared).wrap(from_fn(around)).configure(configure(PUBLIC))).await;
    let ask = async |request: TestRequest| got(app.call(request.to_request()).await.unwrap()).await;
    for _ in 0..crate::rate::BURST_SECONDS {
        assert_eq!(ask(post("/token", "")).await.status, 400);
    }
    let refused = ask(post("/token", format!("{EXCHANGE}good"))).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (429, &json!("rate_limited")));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert_eq!(ask(post("/revoke", "token=x")).await.status, 429, "one rate for both");
    assert_eq!(ask(from(STRANGER).uri("/jwks")).await.status, 200, "documents have none");
    let spoofed = post("/token", "").insert_header(("x-forwarded-for", "198.51.100.1"));
    assert_eq!(ask(spoofed).await.status, 429, "a stranger's header is not read");
    let proxied =
        post("/token", "").peer_addr("10.0.0.1:1".parse().unwrap()).insert_header(("x-forwarded-for", "198.51.100.1"));
    assert_eq!(ask(proxied).await.status, 400);
}

#[actix_web::test]
async fn revocation_answers_alike_for_every_token() {
    for (token, status) in [("known", 200), ("down", 503)] {
        let got = ask(&Arc::default(), post("/revoke", format!("token={token}&token_type_hint=x"))).await;
        assert_eq!((got.status, got.header("cache-control")), (status, "no-store"), "{token}");
        match status {
            200 => assert_eq!(got.body, "{}"),
            _ => assert_eq!((got.header("retry-after"), &got.json()["reason"]), ("5", &json!("store_down"))),
        }
    }
}

#[actix_web::test]
async fn documents_may_be_kept_and_states_may_not() {
    for (path, caching) in [
        ("/jwks", "public, max-age=300"),
        ("/.well-known/openid-configuration", "public, max-age=300"),
        ("/.well-known/oauth-authorization-server", "public, max-age=300"),
        ("/.well-known/claimbound", "no-store"),
        ("/healthz", "no-store"),
        ("/readyz", "no-store"),
    ] {
        let got = ask(&Arc::default(), from(STRANGER).uri(path)).await;
        assert_eq!((got.status, got.header("cache-control")), (200, caching), "{path}");
        assert_eq!(got.header("content-type"), "application/json");
    }
}

#[actix_web::test]
async fn readiness_is_the_brokers_and_liveness_is_not() {
    let fake: Arc<Fake> = Arc::default();
    fake.not_ready.store(true, Ordering::Relaxed);
    let ready = ask(&fake, from(STRANGER).uri("/readyz")).await;
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"ready":false}"#));
    let alive = ask(&fake, from(STRANGER).uri("/healthz")).await;
    assert_eq!((alive.status, alive.body.as_str()), (200, r#"{"up":true}"#));
}

#[actix_web::test]
async fn operators_see_metrics_and_health() {
    let ask =
        |path: &'static str| async move { ask_at(OPERATOR, &Arc::default(), config(), from(STRANGER).uri(path)).await };
    let metrics = ask("/metrics").await;
    assert_eq!((metrics.status, metrics.body.as_str()), (200, "# EOF\n"));
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert_eq!(ask("/operator/health").await.json()["store"]["writable"], json!(true));
}

#[actix_web::test]
async fn operators_are_let_in_by_what_they_show_and_by_what_they_may() {
    let fake: Arc<Fake> = Arc::default();
    let ask = async |method: Method, path: &str, token: Option<&str>| {
        let request = from(STRANGER).method(method).uri(path);
        let request = match token {
            Some(token) => request.insert_header(("authorization", format!("Bearer {token}"))),
            None => request,
        };
        ask_at(OPERATOR, &fake, config(), request).await
    };
    let constant = ask(Method::GET, "/operator/decisions", None).await;
    assert_eq!((constant.status, constant.header("cache-control")), (401, "no-store"));
    assert_eq!(constant.header("www-authenticate"), "Bearer realm=\"claimbound operators\"");
    let stranger = ask(Method::GET, "/operator/decisions", Some("other")).await;
    assert_eq!((stranger.status, &stranger.body), (401, &constant.body), "one answer, whatever the cause");
    for (token, status, retry) in [("limited", 429, "7"), ("down", 503, "5")] {
        let got = ask(Method::GET, "/operator/decisions", Some(token)).await;
        assert_eq!((got.status, got.header("retry-after")), (status, retry), "{token}");
    }
    // Let in; behind the gate there is no broker here.
    assert_eq!(ask(Method::GET, "/operator/decisions", Some("auditor")).await.status, 503);
    let me = ask(Method::GET, "/operator/session", Some("auditor")).await;
    assert_eq!(me.json(), json!({ "operator": "okta:eve", "may": ["audit"], "expires_at": 1_900 }));
    let denied = ask(Method::GET, "/operator/decisions/00000000-0000-7000-8000-000000000001", Some("auditor")).await;
    assert_eq!((denied.status, &denied.json()["error"]), (403, &json!("insufficient_scope")));
    assert!(denied.json()["error_description"].as_str().unwrap().starts_with("`okta:eve` may not `explain`"));
    // Costs nothing: a job's token is good once.
    let before = fake.presented.load(Ordering::Relaxed);
    assert_eq!(ask(Method::PUT, "/operator/decisions", Some("auditor")).await.status, 405);
    assert_eq!(ask(Method::GET, "/operator/nothing", Some("auditor")).await.status, 404);
    assert_eq!(fake.presented.load(Ordering::Relaxed), before);
}

#[actix_web::test]
async fn steps_of_a_sign_in_are_few_and_json() {
    let fake: Arc<Fake> = Arc::default();
    let shared = Data::new(Shared::new(Box::new(fake), config()));
    let app = init_service(App::new().app_data(shared).wrap(from_fn(around)).configure(configure(OPERATOR))).await;
    let ask = async |kind: &str, body: &str| {
        let request = from(STRANGER).method(Method::POST).uri("/operator/sign-in");
        let request = request.insert_header(("content-type", kind)).set_payload(body.to_owned());
        got(app.call(request.to_request()).await.unwrap()).await
    };
    for (kind, body, status) in [
        ("application/x-www-form-urlencoded", "port=1", 415),
        ("application/json", "{", 400),
        ("application/json", "{\"prot\":1}", 400),
        ("application/json", "{\"port\":70000}", 400),
        ("application/json", "{\"port\":1}", 503),
    ] {
        assert_eq!(ask(kind, body).await.status, status, "{body}");
    }
    for _ in 5..limit::SIGN_IN_STEPS_PER_SECOND as u64 * crate::rate::BURST_SECONDS {
        assert_ne!(ask("application/json", "{").await.status, 429);
    }
    let refused = ask("application/json", "{").await;
    assert_eq!((refused.status, refused.header("retry-after").is_empty()), (429, false));
}

#[actix_web::test]
async fn this_host_and_trusted_proxies_keep_their_connections() {
    for (peer, closes) in [
        ("127.0.0.1:1", false),
        ("[::1]:1", false),
        ("[::ffff:127.0.0.1]:1", false),
        ("10.1.1.1:1", false),
        (STRANGER, true),
    ] {
        assert_eq!(ask(&Arc::default(), from(peer).uri("/jwks")).await.closes, closes, "{peer}");
    }
}

/// What a subscriber writes, for the test to read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix_web::test]
async fn the_access_log_names_the_decision_and_nothing_that_was_sent() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fake = Arc::default();
    let peer = "[2001:db8:1:2::3]:1".parse().unwrap();
    ask(&fake, post("/token", format!("{EXCHANGE}canary&audience=canary")).peer_addr(peer)).await;
    ask(&fake, post("/token?canary=canary", "canary").insert_header(("x-canary", "canary"))).await;
    ask(&fake, from(STRANGER).method(Method::from_bytes(b"CANARY").unwrap()).uri("/canary")).await;

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!log.to_lowercase().contains("canary"), "{log}");
    let fields: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone()).collect();
    assert_eq!(fields.len(), 3);
    for (field, expected) in [
        ("method", json!("POST")),
        ("path", json!("/token")),
        ("status", json!(400)),
        ("network", json!("2001:db8:1::")),
        ("decision_id", json!("01920000-0000-7000-8000-000000000001")),
    ] {
        assert_eq!(fields[0][field], expected, "{log}");
    }
    assert!(fields[1].get("decision_id").is_none(), "{log}");
    assert_eq!((&fields[2]["method"], &fields[2]["path"]), (&json!("other"), &json!("unknown")));
}

/// Anybody else could write into others' traces, and decide what is kept.
#[actix_web::test]
async fn a_trace_is_continued_for_a_trusted_proxy_alone() {
    const TRACE: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let fake: Arc<Fake> = Arc::default();
    let post = |peer: &str| post("/token", format!("{EXCHANGE}good")).peer_addr(peer.parse().unwrap());
    ask(&fake, post("10.0.0.1:1").insert_header(TRACE)).await;
    ask(&fake, post(STRANGER).insert_header(TRACE)).await;
    ask(&fake, post("10.0.0.1:1").insert_header(("traceparent", "00-nonsense"))).await;
    ask(&fake, post("10.0.0.1:1").append_header(TRACE).append_header(TRACE)).await;
    let known: Vec<bool> = fake.asked.lock().unwrap().iter().map(|asked| asked.caller.is_some()).collect();
    assert_eq!(known, [true, false, false, false]);
}
