//! CI jobs as operators: a token of an audience of its own, good for one request.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    job::Job,
};
use serde_json::{Value, json};

/// Jobs of `acme/payments-api` in `oncall` may audit and explain; those of `acme/payments-web` may suspend alone.
const OPERATORS: &str = r#"
[[operator]]
issuer = "github"
may = ["audit", "explain"]
[operator.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
environment = "oncall"

[[operator]]
issuer = "github"
may = ["suspend"]
[operator.match]
repository = { name = "acme/payments-web", id = 740000002 }
branch = "main"
"#;

fn oncall(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("oncall")
}

fn audience(broker: &Broker) -> String {
    format!("{}/operator", broker.audience())
}

async fn ask(broker: &Broker, path: &str, token: &str) -> Answer {
    let request = http::client().get(format!("{}{path}", broker.operator_url())).bearer_auth(token);
    http::send(request).await.unwrap()
}

/// A fresh token for every question.
async fn asked(broker: &Broker, issuer: &Issuer, path: &str) -> Value {
    let answer = ask(broker, path, &oncall(issuer).token(&audience(broker))).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body
}

fn assert_nobody(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_token")), "{}", answer.text);
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"claimbound operators\"");
}

#[tokio::test]
async fn a_job_s_token_is_good_for_one_request_and_for_one_listener() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).toml(OPERATORS)).await;
    let session = "/operator/session";
    let first = oncall(&issuer).token(&audience(&broker));
    let me = ask(&broker, session, &first).await;
    let told = json!({ "operator": "github:740000001", "may": ["explain", "audit"], "expires_at": null });
    assert_eq!((me.status, &me.body), (200, &told), "{}", me.text);
    let constant = ask(&broker, session, &first).await;
    assert_nobody(&constant);
    let (signed_in, details) =
        records::all(&broker).into_iter().find(|(b, _)| b["kind"] == "operator_signed_in").unwrap();
    assert_eq!((&signed_in["operator"], &signed_in["how"]), (&json!("github:740000001"), &json!("job")));
    assert_eq!((&signed_in["may"], signed_in.get("expires")), (&json!(["explain", "audit"]), None));
    assert_eq!(signed_in["principal"]["name"], "acme/payments-api");
    assert_eq!(details["claims"]["environment"], "oncall");

    // Each listener takes tokens of its own audience alone.
    let exchange = oncall(&issuer).token(broker.audience());
    assert_nobody(&ask(&broker, session, &exchange).await);
    let job = issuer.job().branch("main").environment("production");
    let refused = broker.exchange_for(&job.token(&audience(&broker)), "payments-release").await;
    assert_eq!((refused.status, &refused.body["reason"]), (400, &json!("token_not_accepted")), "{}", refused.text);
    assert_eq!(broker.exchange_for(&job.token(broker.audience()), "payments-release").await.status, 200);

    // What does not match is nobody, for one text; its token is spent all the same.
    let cases = [
        ("branch", oncall(&issuer).branch("dev")),
        ("environment", issuer.job().branch("main").environment("production")),
        ("event", oncall(&issuer).event("pull_request")),
        ("repository", oncall(&issuer).repository("acme/other")),
        ("squatted", oncall(&issuer).repository_id(740_999_999)),
        ("stranger", oncall(&issuer).repository("evil/api").owner_id(6_666)),
        ("forged", oncall(&issuer).claim("exp", json!("soon"))),
    ];
    for (what, job) in &cases {
        let answer = ask(&broker, session, &job.token(&audience(&broker))).await;
        assert_nobody(&answer);
        assert_eq!(answer.text, constant.text, "{what}");
    }
    let refused = records::of_kind(&broker, "operator_refused");
    assert_eq!(refused.len(), 5, "strangers and forgeries are on no record: {refused:#?}");
    assert!(refused.iter().all(|record| record["how"] == "job" && record["principal"]["issuer"] == "github"));

    // One who may something else is told so, and the token is spent, too.
    let web = issuer.job().repository("acme/payments-web").branch("main").token(&audience(&broker));
    let denied = ask(&broker, "/operator/decisions", &web).await;
    assert_eq!((denied.status, &denied.body["error"]), (403, &json!("insufficient_scope")), "{}", denied.text);
    assert!(denied.text_of("error_description").contains("may not `audit`"), "{}", denied.text);
    assert_nobody(&ask(&broker, session, &web).await);
    for nothing in ["", "x", "cbs_", "a.b.c"] {
        assert_nobody(&ask(&broker, session, nothing).await);
    }
    // Whose repository is suspended is nobody, and that is on record; others are who they were.
    let web = || issuer.job().repository("acme/payments-web").branch("main").token(&audience(&broker));
    let subject = json!({ "scope": "repository", "issuer": "github", "name": "740000001" });
    let request = http::client().post(format!("{}/operator/suspend", broker.operator_url())).bearer_auth(web());
    let suspended = http::send(request.json(&json!({ "subject": subject, "reason": "INC-2" }))).await.unwrap();
    assert_eq!(suspended.status, 200, "{}", suspended.text);
    let token = oncall(&issuer).token(&audience(&broker));
    for _ in 0..2 {
        let answer = ask(&broker, session, &token).await;
        assert_nobody(&answer);
        assert_eq!(answer.text, constant.text);
    }
    assert_eq!(records::of_kind(&broker, "operator_refused").len(), 6, "once: the token is spent");
    assert_eq!(ask(&broker, session, &web()).await.status, 200);
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

/// What the commands do offline, operators do on a running broker: each with the word for it, in a name of their own.
#[tokio::test]
async fn operators_suspend_end_and_rotate_on_a_running_broker() {
    const ALL: &str = r#"
[[operator]]
issuer = "github"
may = ["suspend", "resume", "revoke", "leases", "keys"]
[operator.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
environment = "oncall"
"#;
    const ROLE: &str = "payments-release";
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).toml(ALL)).await;
    let job = issuer.job().branch("main").environment("production");
    let exchange = || async { broker.exchange_for(&job.token(broker.audience()), ROLE).await };
    let post = |path: &'static str, body: Value| {
        let request = http::client().post(format!("{}/operator/{path}", broker.operator_url())).json(&body);
        let request = request.bearer_auth(oncall(&issuer).token(&audience(&broker)));
        async { http::send(request).await.unwrap() }
    };
    let lease = exchange().await.text_of("lease_id").to_owned();
    let subject = json!({ "scope": "role", "name": ROLE });
    let suspended = post("suspend", json!({ "subject": subject, "reason": "INC-1" })).await;
    assert_eq!(suspended.status, 200, "{}", suspended.text);
    let refused = exchange().await;
    assert_eq!((refused.status, &refused.body["reason"]), (400, &json!("suspended")), "{}", refused.text);
    let stands = asked(&broker, &issuer, "/operator/suspensions").await;
    assert_eq!(
        (&stands["suspensions"][0]["operator"], &stands["suspensions"][0]["reason"]),
        (&json!("github:740000001"), &json!("INC-1")),
        "{stands}"
    );

    let leases = post("leases", json!({ "leases": { "role": ROLE } })).await;
    assert_eq!((leases.status, leases.body["leases"].as_array().map(Vec::len)), (200, Some(1)), "{}", leases.text);
    let resume = async || {
        let words = ["resume", "--role", ROLE, "--reason", "over", "--broker", broker.operator_url()];
        let mut command = broker.prepared(&words);
        command.env("CLAIMBOUND_TOKEN", oncall(&issuer).token(&audience(&broker)));
        claimbound_test_support::command::finish(&mut command).await
    };
    // The command is a client of the same.
    let early = resume().await;
    assert_eq!(early.code, Some(3), "{}{}", early.stdout, early.stderr);
    assert!(early.stderr.contains("leases from before the suspension are alive"), "{}", early.stderr);
    let ended = post("revoke", json!({ "leases": { "role": ROLE }, "reason": "INC-1" })).await;
    assert_eq!((ended.status, &ended.body["count"]), (200, &json!(1)), "{}", ended.text);
    assert!(records::of_kind(&broker, "ended").iter().any(|one| one["lease"] == *lease && one["how"] == "operator"));
    let resumed = resume().await;
    assert_eq!(resumed.code, Some(0), "{}{}", resumed.stdout, resumed.stderr);
    assert_eq!(exchange().await.status, 200);

    let keys = asked(&broker, &issuer, "/operator/keys").await;
    let kid = keys["keys"].as_array().unwrap().iter().find(|key| key["algorithm"] == "ES256").unwrap()["kid"].clone();
    let rotated = post("keys", json!({ "do": "rotate", "now": true })).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let revoked = post("keys", json!({ "do": "revoke", "kid": kid })).await;
    assert_eq!((revoked.status, &revoked.body["revoked"]["kid"]), (200, &kid), "{}", revoked.text);
    let published = http::get(&format!("{}/jwks", broker.url())).await;
    assert!(!published.text.contains(kid.as_str().unwrap()), "{}", published.text);
    for (path, body, status) in [
        ("keys", json!({ "do": "melt" }), 400),
        ("keys", json!({ "do": "revoke", "kid": "none" }), 400),
        ("suspend", json!({ "subject": subject }), 400),
        ("suspend", json!({ "subject": { "scope": "role", "name": "payments-relaese" }, "reason": "x" }), 404),
    ] {
        let answer = post(path, body.clone()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
    }
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn the_evidence_answers_operators_as_it_answers_commands() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer).toml(OPERATORS)).await;
    let release = |branch: &'static str| issuer.job().branch(branch).environment("production");
    let mut decisions = Vec::new();
    for (job, role) in [
        (release("main"), "payments-release"),
        (release("dev"), "payments-release"),
        (issuer.job().branch("dev").environment("staging").claim("actor", "hubot"), "payments-secrets"),
    ] {
        let answer = broker.exchange_for(&job.token(broker.audience()), role).await;
        decisions.push(answer.text_of("decision_id").to_owned());
    }

    // Records by what they are about, the latest first, page by page.
    let found = async |query: &str| {
        let page = asked(&broker, &issuer, &format!("/operator/decisions?{query}")).await;
        let ids: Vec<Value> =
            page["records"].as_array().unwrap().iter().map(|one| one["record"]["decision"].clone()).collect();
        ids
    };
    assert_eq!(found("role=payments-release").await, [json!(decisions[1]), json!(decisions[0])]);
    assert_eq!(found("outcome=no_mapping").await, [json!(decisions[1])]);
    assert_eq!(found("outcome=granted&repository=ACME/payments-api&initiator=hubot").await, [json!(decisions[2])]);
    assert_eq!(found("outcome=granted&principal=github:740000001").await.len(), 2);
    assert!(found("principal=gitlab:740000001").await.is_empty());
    assert!(found("outcome=granted&to=2026-01-01").await.is_empty());
    let handle = records::of_kind(&broker, "granted").pop().unwrap()["handle"].as_str().unwrap().to_owned();
    assert_eq!(found(&format!("handle={handle}")).await, [json!(decisions[2])]);
    let first = asked(&broker, &issuer, "/operator/decisions?outcome=granted&limit=1").await;
    let rest = format!("outcome=granted&cursor={}", first["next"]);
    assert_eq!(
        (&first["records"][0]["record"]["decision"], found(&rest).await),
        (&json!(decisions[2]), vec![json!(decisions[0])])
    );

    for (query, status) in [
        ("/operator/decisions?limit=0", 400),
        ("/operator/decisions?limit=501", 400),
        ("/operator/decisions?rolle=x", 400),
        ("/operator/decisions?from=yesterday", 400),
        ("/operator/decisions/1", 400),
        ("/operator/decisions/01920000-0000-7000-8000-000000000001", 404),
        ("/operator/history?question=plan", 400),
        ("/operator/history?question=access", 400),
        ("/operator/history?question=access&role=r&since=1d", 400),
        ("/operator/history?question=unused&role=r", 400),
        ("/operator/history?question=all", 400),
    ] {
        let answer = ask(&broker, query, &oncall(&issuer).token(&audience(&broker))).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
    }

    let sent = http::client().post(format!("{}/operator/history", broker.operator_url()));
    let folder = json!({ "question": "plan", "folder": { "policy.toml": "nonsense = 1" } });
    let sent = sent.bearer_auth(oncall(&issuer).token(&audience(&broker))).json(&folder);
    let answer = http::send(sent).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.text_of("error_description").contains("does not load"), "{}", answer.text);

    // Commands say the same of a broker as of its store.
    let operator_url = broker.operator_url().to_owned();
    let both = async |arguments: &[&str]| {
        let of_store = broker.command(&[arguments, &["--store", "sqlite:claimbound.db"]].concat()).await;
        let token = oncall(&issuer).token(&audience(&broker));
        let mut command = broker.prepared(&[arguments, &["--broker", &operator_url]].concat());
        let of_broker = claimbound_test_support::command::finish(command.env("CLAIMBOUND_TOKEN", token)).await;
        assert_eq!(of_broker.code, of_store.code, "{arguments:?}: {}{}", of_broker.stdout, of_broker.stderr);
        // The question itself is on record by then, and time goes on.
        let settled = |text: &str| {
            let lines = text.lines().filter(|line| !["_at\":", "\"records\""].iter().any(|own| line.contains(own)));
            let timeless =
                |word: &'_ str| if word.starts_with("20") && word.contains('T') { "TIME" } else { word }.to_owned();
            lines.map(|line| line.split(' ').map(timeless).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(settled(&of_broker.stdout), settled(&of_store.stdout), "{arguments:?}");
        assert!(!of_store.stdout.is_empty());
    };
    both(&["explain", "--decision", &decisions[1]]).await;
    both(&["explain", "--decision", &decisions[0], "--format", "json"]).await;
    both(&["plan", "mappings", "--format", "json"]).await;
    both(&["plan", "mappings", "--format", "markdown"]).await;
    both(&["unused", "--format", "json"]).await;
    both(&["unused", "--mappings", "mappings"]).await;
    both(&["access", "--role", "payments-release", "--from", "2026-01-01", "--format", "json"]).await;
    both(&["access", "--repository", "acme/payments-api", "--from", "2026-01-01"]).await;
    let about = ["audit", "show", "--repository", "acme/payments-api", "--principal", "github:740000001", "--outcome"];
    both(&[&about[..], &["granted", "--initiator", "hubot", "--role", "payments-secrets"]].concat()).await;
    both(&[&about[..], &["no_mapping", "--format", "json", "--from", "2026-01-01"]].concat()).await;

    // Without anything to show: a usage error. With a token that is spent: refused.
    let bare = broker.command(&["unused", "--broker", &operator_url]).await;
    assert_eq!(bare.code, Some(2), "{}", bare.stderr);
    assert!(bare.stderr.contains("claimbound operator login"), "{}", bare.stderr);
    let mut other = broker.prepared(&["unused"]);
    other
        .env("CLAIMBOUND_OPERATOR_URL", &operator_url)
        .env("CLAIMBOUND_TOKEN", oncall(&issuer).token(broker.audience()));
    let refused = claimbound_test_support::command::finish(&mut other).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    let away = broker.command(&["operator", "status", "--broker", "http://127.0.0.1:9"]).await;
    assert_eq!(away.code, Some(2), "{}", away.stderr);

    let openapi = asked(&broker, &issuer, "/openapi.json").await;
    assert_eq!(openapi["paths"]["/operator/decisions/{id}"]["get"]["security"], json!([{ "operator": ["explain"] }]));
    let open = http::get(&format!("{operator_url}/openapi.json")).await;
    assert_nobody(&open);
    assert_eq!(broker.health().await["ready"], true, "health needs nobody");
    assert!(broker.metrics().await.0.contains("claimbound_"));
}

#[tokio::test]
async fn what_an_operator_may_be_is_judged_at_the_start_and_taken_up_while_it_runs() {
    let issuer = Issuer::github();
    let config = || BrokerConfig::new(&issuer);
    let unpinned =
        OPERATORS.replace(", id = 740000001", "").replace("{ name = \"acme/payments-api\" }", "\"acme/payments-api\"");
    for (operators, told) in [
        (unpinned.as_str(), "the `[[operator]]` in line 18 of `claimbound.toml`"),
        (&OPERATORS.replace("issuer = \"github\"", "issuer = \"githbu\""), "did you mean `github`?"),
        (&OPERATORS.replace("branch", "brnach"), "brnach"),
    ] {
        let exit = Broker::refused(BINARY, &config().toml(operators)).await;
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(told), "{told}: {}", exit.stderr);
    }
    let mut broker = Broker::start(BINARY, config()).await;
    assert_nobody(&ask(&broker, "/operator/session", &oncall(&issuer).token(&audience(&broker))).await);
    broker.rewrite(config().toml(OPERATORS));
    broker.signal("HUP").await;
    claimbound_test_support::time::eventually(std::time::Duration::from_secs(60), async || {
        let answer = ask(&broker, "/operator/session", &oncall(&issuer).token(&audience(&broker))).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
