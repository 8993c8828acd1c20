//! Exceptions of mappings and repositories under new names, over HTTP: what each lets in, what it does not, and that
//! answer, evidence, health and `check` all tell it.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    job::Job,
};
use serde_json::{Value, json};

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65, acme-labs = 9917 }
on_rename = "warn"
[team.payments]
path = "teams/payments"
contact = "payments-oncall@acme.example"
may = ["any_repository", "any_event", "allow_mutable_identity"]
"#;

const ROLES: [&str; 5] = ["read", "triage", "legacy", "sync", "pair"];

const MAPPINGS: &str = r#"[file]
issuer = "github"
[[mapping]]
name = "everybody-reads"
description = "Every repository of acme reads from main"
roles = ["read"]
any_repository = "reading is for the whole house"
[mapping.match]
repository_owner = "acme"
branch = "main"
[[mapping]]
name = "triage"
description = "Comments are answered, whatever they are called"
roles = ["triage"]
any_event = "the forge invents events faster than we review"
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
[[mapping]]
name = "legacy"
description = "A mirror whose id changes every night"
roles = ["legacy"]
allow_mutable_identity = "it is made anew each night"
[mapping.match]
repository = "acme/mirror"
[[mapping]]
name = "sync"
description = "One repository by name and id"
roles = ["sync"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
[[mapping]]
name = "pair"
description = "Two repositories by name and id"
roles = ["pair"]
[mapping.match]
repository = [{ name = "acme/payments-api", id = 740000001 }, { name = "acme/payments-web", id = 740000002 }]
"#;

fn config(issuer: &Issuer) -> BrokerConfig {
    let role = |name: &&str| {
        format!(
            "[role.{name}]\ndescription = \"{name}\"\nbackend = \"jwt\"\nteams = [\"payments\"]\nsensitivity = \"internal\"\n\
             [role.{name}.jwt]\naudience = \"https://{name}.acme.example\"\n"
        )
    };
    let roles: String = ROLES.iter().map(role).collect();
    let files = [("policy.toml", POLICY), ("roles/all.toml", roles.as_str()), ("teams/payments/all.toml", MAPPINGS)];
    BrokerConfig::with_folder(&files).issuer("github", issuer)
}

async fn ask(broker: &Broker, job: &Job<'_>, role: &str) -> (Answer, Value, Value) {
    let answer = broker.exchange_for(&job.token(broker.audience()), role).await;
    let (body, details) = records::the_one(broker, answer.text_of("decision_id")).await;
    (answer, body, details)
}

#[tokio::test]
async fn each_lets_in_what_it_says_and_is_on_record() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, config(&issuer)).await;

    let (answer, body, details) = ask(&broker, &issuer.job().repository("acme/brand-new"), "read").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(body["exceptions"], json!(["any_repository"]));
    assert_eq!(details["exceptions"], json!({ "any_repository": "reading is for the whole house" }));
    assert!(!answer.text.contains("whole house"), "the reason is for operators: {}", answer.text);

    let (answer, body, _) = ask(&broker, &issuer.job().event("invented_tomorrow"), "triage").await;
    assert_eq!((answer.status, &body["exceptions"]), (200, &json!(["any_event"])), "{}", answer.text);

    let recreated = issuer.job().repository("acme/mirror").repository_id(123);
    let (answer, body, _) = ask(&broker, &recreated, "legacy").await;
    assert_eq!((answer.status, &body["exceptions"]), (200, &json!(["allow_mutable_identity"])), "{}", answer.text);

    let moved = issuer.job().repository("acme/payments-core").repository_id(740_000_001);
    let (answer, body, details) = ask(&broker, &moved, "sync").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((&body["renamed"], body.get("exceptions")), (&json!("acme/payments-api"), None));
    assert_eq!(body["principal"]["name"], "acme/payments-core");
    assert_eq!(details["renamed"], json!({ "written": "acme/payments-api", "now": "acme/payments-core" }));

    let (answer, body, _) = ask(&broker, &issuer.job(), "sync").await;
    assert_eq!((answer.status, body.get("renamed")), (200, None), "{}", answer.text);

    let health = http::get(&format!("{}/operator/health", broker.operator_url())).await.body;
    let told = |exception: &str, mapping: &str, reason: &str| json!({ "mapping": mapping, "team": "payments", "exception": exception, "reason": reason });
    assert_eq!(
        health["mappings"]["exceptions"],
        json!([
            told("any_repository", "everybody-reads", "reading is for the whole house"),
            told("allow_mutable_identity", "legacy", "it is made anew each night"),
            told("any_event", "triage", "the forge invents events faster than we review"),
        ])
    );

    // The evidence verifies, and each decision is explained as it was taken.
    let store = format!("sqlite:{}", broker.database().display());
    let audit = broker.command(&["audit", "verify", "--store", &store]).await;
    assert_eq!(audit.code, Some(0), "{} {}", audit.stdout, audit.stderr);
}

#[tokio::test]
async fn none_lets_in_more() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, config(&issuer)).await;
    let job = || issuer.job();
    for (job, role, reason) in [
        (job().repository("acme-labs/toy").owner_id(9917), "read", "no_mapping"),
        (job().repository("acme/brand-new").event("pull_request_target"), "read", "event_not_allowed"),
        (job().repository_id(740_999_999).event("issues"), "triage", "id_mismatch"),
        (job().repository("acme/mirror-2").repository_id(123), "legacy", "no_mapping"),
        (job().repository_id(740_999_999), "sync", "id_mismatch"),
        (job().repository("acme/payments-core").repository_id(740_000_001), "pair", "renamed"),
    ] {
        let (answer, body, _) = ask(&broker, &job, role).await;
        assert_eq!((answer.status, &body["reason"]), (400, &json!(reason)), "{role}: {}", answer.text);
    }
    // Whose owner is pinned by id may learn why; the name of a mirror is nobody's business.
    let (answer, ..) = ask(&broker, &job().repository("acme/brand-new").branch("dev"), "read").await;
    assert_eq!(answer.body["nearest"]["mapping"], "everybody-reads", "{}", answer.text);
    let foreign = job().repository("acme-labs/toy").owner_id(9917);
    for (job, role) in [(foreign, "read"), (job().repository("acme/other"), "legacy")] {
        let (answer, ..) = ask(&broker, &job, role).await;
        assert!(answer.body.get("nearest").is_none(), "{}", answer.text);
        assert!(!answer.text.contains("mirror"), "{}", answer.text);
    }
    for role in ["read", "legacy"] {
        let stranger = job().repository("acme/mirror").owner_id(4242);
        let answer = broker.exchange_for(&stranger.token(broker.audience()), role).await;
        assert_eq!(answer.body["reason"], "token_not_accepted", "{}", answer.text);
    }
    assert!(records::of_kind(&broker, "granted").is_empty());
}

#[tokio::test]
async fn check_repeats_each_and_explain_tells_the_line_to_edit() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, config(&issuer)).await;
    let check = broker.command(&["check", "mappings", "--deny-warnings"]).await;
    let told = check.stdout + &check.stderr;
    assert_eq!(check.code, Some(0), "a note is no warning: {told}");
    for said in ["reading is for the whole house", "faster than we review", "made anew each night"] {
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(told.matches("CB0527").count(), 3, "{told}");
    let moved = issuer.job().repository("acme/payments-core").repository_id(740_000_001);
    let (_, body, _) = ask(&broker, &moved, "sync").await;
    let id = body["decision"].as_str().unwrap().to_owned();
    let store = format!("sqlite:{}", broker.database().display());
    let explained = broker.command(&["explain", "--decision", &id, "--store", &store]).await;
    assert_eq!(explained.code, Some(0), "{} {}", explained.stdout, explained.stderr);
    assert!(explained.stdout.contains("renamed"), "{}", explained.stdout);
    let line = "{ name = \"acme/payments-core\", id = 740000001 },` instead of the old name";
    assert!(explained.stdout.contains(line), "{}", explained.stdout);
    let (_, body, _) = ask(&broker, &issuer.job().repository("acme/brand-new"), "read").await;
    let id = body["decision"].as_str().unwrap().to_owned();
    let explained = broker.command(&["explain", "--decision", &id, "--store", &store]).await;
    let by = "by the exception `any_repository`: reading is for the whole house";
    assert!(explained.stdout.contains(by), "{}", explained.stdout);
}
