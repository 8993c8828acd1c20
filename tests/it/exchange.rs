//! The main job over HTTP: a CI token in, a credential out, or a refusal with the right words and one record.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
    config::{BrokerConfig, RELEASE_AUDIENCE, SECRETS_AUDIENCE},
    http::Answer,
    issuer::Issuer,
    job::Job,
    jwt::{self, Key},
    serve::Serve,
    time::{eventually, now},
};
use serde_json::{Value, json};
use std::time::Duration;

fn releasing<'i>(issuer: &'i Issuer) -> Job<'i> {
    issuer.job().branch("main").environment("production")
}

#[tokio::test]
async fn a_job_gets_the_credential_that_its_mapping_gives() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let token = releasing(&issuer).token(broker.audience());
    let answer = broker.exchange_for(&token, "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["issued_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    assert_eq!(answer.body["role"], "payments-release");
    assert_eq!(answer.body["mapping"], "payments-production");
    assert_eq!(answer.body["expires_in"], 1800, "the mapping's ceiling, below the role's");
    let credential = answer.text_of("access_token").to_owned();

    let (header, claims) = (jwt::header_of(&credential), jwt::claims_of(&credential));
    assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("JWT"), Some("ES256")));
    assert_eq!(claims["iss"], broker.audience());
    assert_eq!(claims["sub"], "role:payments-release:github:740000001");
    assert_eq!(claims["aud"], RELEASE_AUDIENCE);
    assert_eq!(claims["role"], "payments-release");
    assert_eq!(claims["mapping"], "payments-production");
    assert_eq!(claims["lease_id"], answer.body["lease_id"]);
    assert_eq!(claims["principal"]["name"], "acme/payments-api");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1800);
    let published = broker.get("/jwks").await;
    let kids: Vec<_> = published.body["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert!(kids.contains(&&header["kid"]));
    for key in published.body["keys"].as_array().unwrap() {
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|member| key.get(member).is_none()), "{key}");
    }

    let (body, details) = records::the_one(&broker, answer.text_of("decision_id")).await;
    assert_eq!(body["kind"], "granted");
    assert_eq!(body["principal"], json!({ "issuer": "github", "id": "740000001", "name": "acme/payments-api" }));
    assert_eq!(body["actor"], Value::Null);
    assert_eq!(body["handle"], claims["jti"]);
    assert_eq!(body["mappings"], answer.body["mappings_version"]);
    assert_eq!(details["claims"]["actor"], "octocat", "persons stand in the erasable details alone");
    assert!(!body.to_string().contains("octocat"));
    let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    broker_keeps_no(&broker, &[&token, &credential]);
}

/// Neither store nor log holds a token or its signature.
fn broker_keeps_no(broker: &Broker, secrets: &[&str]) {
    for secret in secrets {
        let signature = secret.rsplit('.').next().expect("a token has a signature");
        canary::assert_absent(broker.directory(), &[secret, signature]);
    }
}

#[tokio::test]
async fn security_113_without_a_named_role_the_only_possible_one_is_given() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let token = issuer.job().branch("any/branch").environment("staging").token(broker.audience());
    let form = [("grant_type", TOKEN_EXCHANGE), ("subject_token", &*token), ("subject_token_type", ID_TOKEN)];
    let answer = broker.exchange(&form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["role"], "payments-secrets");
    assert_eq!(jwt::claims_of(answer.text_of("access_token"))["aud"], SECRETS_AUDIENCE);
}

#[tokio::test]
async fn both_shapes_of_githubs_subject_are_one_job() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    for job in [releasing(&issuer), releasing(&issuer).immutable_subject()] {
        let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

async fn assert_reason(broker: &Broker, answer: &Answer, reason: &str) -> (Value, Value) {
    let (body, details) = records::the_one(broker, answer.text_of("decision_id")).await;
    assert_eq!((&body["kind"], &body["reason"]), (&json!("refused"), &json!(reason)), "{body}");
    (body, details)
}

/// The same reasons, one by one in evidence: each in a broker's first minute, so that none is summed.
#[tokio::test]
async fn strangers_reasons_stand_in_evidence_up_to_a_rate_and_are_summed_beyond_it() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let audience = broker.audience().to_owned();
    for (reason, token) in [
        ("aud", releasing(&issuer).token("https://other.example")),
        ("exp", releasing(&issuer).issued_at(now() - 3600).token(&audience)),
        ("bad_signature", releasing(&issuer).token_by(&Key::rs256().with_kid(issuer.key().kid()), &audience)),
        ("stranger", releasing(&issuer).repository("evil/app").token(&audience)),
        ("wrong_type", releasing(&issuer).header("typ", "at+jwt").token(&audience)),
    ] {
        let answer = broker.exchange_for(&token, "payments-release").await;
        let (body, details) = assert_reason(&broker, &answer, reason).await;
        assert_eq!(body["principal"], Value::Null);
        assert_eq!(details["address"], "127.0.0.1");
    }
    for _ in 0..60 {
        assert_eq!(broker.exchange_for("x.y.z", "payments-release").await.status, 400);
    }
    // The last ones wait for the next sum.
    let single = eventually(Duration::from_secs(60), async || {
        let (single, all) = refusals(&broker);
        (all == 65).then_some(single)
    });
    assert!(single.await <= 45, "twenty a minute and issuer, over a minute's turn at most twice");
    assert!(!records::of_kind(&broker, "summed").is_empty());
}

/// Refusals on record: singly, and with those in sums.
fn refusals(broker: &Broker) -> (u64, u64) {
    let single = records::of_kind(broker, "refused").len() as u64;
    let summed: u64 = records::of_kind(broker, "summed").iter().map(|body| body["count"].as_u64().unwrap()).sum();
    (single, single + summed)
}

/// A proven job may know why: the nearest mapping that pins it, its own claims, the roles that it may have.
#[tokio::test]
async fn a_proven_job_learns_why_and_its_refusal_is_one_record() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let job = issuer.job().branch("feature").environment("production");
    let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_target")), "{}", answer.text);
    assert_eq!(answer.body["reason"], "no_mapping");
    assert_eq!(answer.body["nearest"]["mapping"], "payments-production");
    assert_eq!(
        answer.body["nearest"]["conditions"],
        json!([{ "claim": "branch", "expected": "`main`", "got": "feature" }])
    );
    assert_eq!(answer.body["claims"]["branch"], "feature");
    assert!(answer.body["claims"].get("initiator").is_none(), "nothing about persons");
    assert_eq!(answer.body["contact"], "payments-oncall@acme.example");
    let (body, _) = assert_reason(&broker, &answer, "no_mapping").await;
    assert_eq!((&body["role"], &body["mapping"]), (&json!("payments-release"), &json!("payments-production")));
    assert_eq!(body["principal"]["id"], "740000001");
}

#[tokio::test]
async fn names_ids_and_events_are_told_as_far_as_they_may() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let audience = broker.audience();

    let unmapped = releasing(&issuer).repository("acme/other").repository_id(740_000_009);
    let answer = broker.exchange_for(&unmapped.token(audience), "payments-release").await;
    assert_eq!((&answer.body["error"], &answer.body["reason"]), (&json!("invalid_target"), &json!("no_mapping")));
    assert!(
        answer.text_of("error_description").contains("{ name = \"acme/other\", id = 740000009 },"),
        "{}",
        answer.text
    );
    assert_reason(&broker, &answer, "no_mapping").await;
    let as_unmapped = answer.body;

    let squatter = releasing(&issuer).repository_id(740_999_999);
    let answer = broker.exchange_for(&squatter.token(audience), "payments-release").await;
    assert_eq!((&answer.body["error"], &answer.body["reason"]), (&as_unmapped["error"], &as_unmapped["reason"]));
    assert!(answer.body.get("nearest").is_none(), "an id where only the name fits is not told: {}", answer.text);
    assert!(!answer.text.contains("740000001"));
    assert_reason(&broker, &answer, "id_mismatch").await;

    let renamed = releasing(&issuer).repository("acme/payments-new").repository_id(740_000_001);
    let answer = broker.exchange_for(&renamed.token(audience), "payments-release").await;
    assert_eq!(answer.body["reason"], "renamed", "{}", answer.text);
    assert_reason(&broker, &answer, "renamed").await;

    let target = releasing(&issuer).event("pull_request_target");
    let answer = broker.exchange_for(&target.token(audience), "payments-release").await;
    assert_eq!(answer.body["reason"], "event_not_allowed", "{}", answer.text);
    assert_eq!(answer.body["nearest"]["conditions"][0]["claim"], "event_name");
    assert_reason(&broker, &answer, "event_not_allowed").await;
    assert!(records::of_kind(&broker, "granted").is_empty());
}

#[tokio::test]
async fn a_role_that_does_not_exist_and_one_not_granted_look_alike() {
    let issuer = Issuer::github();
    // A deny that holds for this job must not tell the role that exists from the one that does not.
    let deny = "[[deny]]\nname = \"no-others\"\nreason = \"secret\"\n[deny.match]\nrepository_owner = \"acme\"\n\n[sensitivity.production]";
    let config = BrokerConfig::new(&issuer).edit("policy.toml", "[sensitivity.production]", deny);
    let broker = Broker::start(BINARY, config).await;
    let job = issuer.job().repository("acme/other");
    let mut bodies = Vec::new();
    for role in ["payments-release", "no-such-role"] {
        let mut answer = broker.exchange_for(&job.token(broker.audience()), role).await;
        assert_eq!(answer.body["error"], "invalid_target");
        // The decision and the run differ from token to token.
        answer.body["decision_id"] = Value::Null;
        answer.body["claims"] = Value::Null;
        bodies.push(answer.body);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn hints_can_be_cut_to_names_or_to_nothing() {
    let issuer = Issuer::github();
    for (hints, conditions) in [("names", true), ("none", false)] {
        let config = BrokerConfig::new(&issuer).server(&format!("hints = \"{hints}\""));
        let broker = Broker::start(BINARY, config).await;
        let job = issuer.job().branch("feature").environment("production");
        let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
        assert_eq!(answer.body["reason"], "no_mapping");
        assert_eq!(answer.body.get("nearest").is_some(), conditions, "{hints}: {}", answer.text);
        assert!(!answer.text.contains("`main`"), "{hints}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_deny_beats_every_mapping_and_keeps_its_reason_to_itself() {
    let issuer = Issuer::github();
    let deny = "\n[[deny]]\nname = \"no-self-hosted\"\nreason = \"shared runners are not isolated\"\nsensitivity = \"production\"\n[deny.match]\nrunner_environment = \"self-hosted\"\n";
    let config = BrokerConfig::new(&issuer).edit(
        "policy.toml",
        "[sensitivity.production]",
        &format!("{deny}\n[sensitivity.production]"),
    );
    let broker = Broker::start(BINARY, config).await;
    let job = releasing(&issuer).runner("self-hosted");
    let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    assert_eq!((&answer.body["error"], &answer.body["reason"]), (&json!("invalid_target"), &json!("denied")));
    assert!(!answer.text.contains("isolated") && !answer.text.contains("no-self-hosted"), "{}", answer.text);
    let (_, details) = assert_reason(&broker, &answer, "denied").await;
    assert_eq!(details["deny"], "no-self-hosted");
    let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn security_104_the_asked_duration_is_clamped_and_the_asked_scope_refused() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    for (asked, given) in [("60", 60), ("999999999", 1800)] {
        let token = releasing(&issuer).token(broker.audience());
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*token),
            ("subject_token_type", ID_TOKEN),
            ("audience", "payments-release"),
            ("requested_expires_in", asked),
        ];
        let answer = broker.exchange(&form).await;
        assert_eq!(answer.body["expires_in"], given, "{}", answer.text);
        let claims = jwt::claims_of(answer.text_of("access_token"));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), given);
    }
    let token = releasing(&issuer).token(broker.audience());
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &*token),
        ("subject_token_type", ID_TOKEN),
        ("audience", "payments-release"),
        ("scope", "read"),
    ];
    let answer = broker.exchange(&form).await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_scope")), "{}", answer.text);
    assert_reason(&broker, &answer, "scope_not_allowed").await;
}

#[tokio::test]
async fn doors_that_open_later_refuse_today() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let poll = [("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", "anything")];
    let answer = broker.exchange(&poll).await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_grant")), "{}", answer.text);
    let (token, actor) = (releasing(&issuer).token(broker.audience()), releasing(&issuer).token(broker.audience()));
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &*token),
        ("subject_token_type", ID_TOKEN),
        ("actor_token", &*actor),
        ("actor_token_type", ID_TOKEN),
        ("audience", "payments-release"),
    ];
    let answer = broker.exchange(&form).await;
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("actor_repeated")), "{}", answer.text);
    for (claim, reason) in [("act", "actor_not_allowed"), ("may_act", "may_act")] {
        let job = releasing(&issuer).claim(claim, json!({ "sub": "someone" }));
        let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!(reason)), "{}", answer.text);
        assert_reason(&broker, &answer, reason).await;
    }
}

#[tokio::test]
async fn a_lease_is_ended_by_whoever_holds_its_credential() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let answer = broker.exchange_for(&releasing(&issuer).token(broker.audience()), "payments-release").await;
    let credential = answer.text_of("access_token").to_owned();
    let mut forged = credential.clone();
    forged.replace_range(credential.len() - 8..credential.len() - 4, "AAAA");
    for token in [forged.as_str(), "nonsense", &releasing(&issuer).token(broker.audience())] {
        assert_eq!(broker.revoke(token).await.status, 200, "RFC 7009 tells nobody what a token was");
    }
    assert!(records::of_kind(&broker, "ended").is_empty());
    for _ in 0..2 {
        assert_eq!(broker.revoke(&credential).await.status, 200);
    }
    let ended = records::of_kind(&broker, "ended");
    assert_eq!(ended.len(), 1, "the second time there is nothing to end");
    assert_eq!((&ended[0]["lease"], &ended[0]["effect"]), (&answer.body["lease_id"], &json!("where_checked")));
}

#[tokio::test]
async fn an_issuer_that_is_down_makes_its_own_tokens_wait_and_nobody_elses() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    gitlab.serve_keys(Serve::Status(500));
    let config = BrokerConfig::new(&github).issuer("gitlab", &gitlab).edit(
        "policy.toml",
        "[team.payments]",
        "[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\n[team.payments]",
    );
    let broker = Broker::start(BINARY, config).await;
    let answer = broker.exchange_for(&gitlab.job().token(broker.audience()), "payments-release").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    let good = broker.exchange_for(&releasing(&github).token(broker.audience()), "payments-release").await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(broker.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn gitlab_jobs_come_in_by_their_own_profile() {
    let gitlab = Issuer::gitlab();
    let config = BrokerConfig::with_folder(&[
        ("policy.toml", "format = 1\n[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n[team.search]\npath = \"teams/search\"\nissuers = [\"gitlab\"]\n"),
        ("roles/search.toml", "[role.search-index]\ndescription = \"Write the index\"\nbackend = \"jwt\"\nteams = [\"search\"]\nissuers = [\"gitlab\"]\nsensitivity = \"internal\"\n[role.search-index.jwt]\naudience = \"https://index.acme.example\"\nalgorithm = \"RS256\"\n"),
        ("teams/search/index.toml", "[file]\nissuer = \"gitlab\"\n[[mapping]]\nname = \"index\"\ndescription = \"Main builds the index\"\nroles = [\"search-index\"]\n[mapping.match]\nrepository = { name = \"acme/payments-api\", id = 740000001 }\nbranch = \"main\"\nref_protected = true\n"),
    ])
    .issuer("gitlab", &gitlab);
    let broker = Broker::start(BINARY, config).await;
    let granted = broker.exchange_for(&gitlab.job().token(broker.audience()), "search-index").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(jwt::header_of(granted.text_of("access_token"))["alg"], "RS256");
    for (job, claim) in [(gitlab.job().unprotected(), "ref_protected"), (gitlab.job().tag("main"), "branch")] {
        let answer = broker.exchange_for(&job.token(broker.audience()), "search-index").await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("no_mapping")), "{}", answer.text);
        assert!(answer.body["nearest"]["conditions"].to_string().contains(claim), "{}", answer.text);
    }
}
