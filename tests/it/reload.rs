//! A folder and facts about issuers that change while the broker runs.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker, config::BrokerConfig, http::Answer, issuer::Issuer, job::Job, time::eventually,
};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A change is noticed and taken up within this, on a busy machine too.
const TAKEN_UP: Duration = Duration::from_secs(60);
const MAPPINGS: &str = "teams/payments/deploy.toml";

fn releasing(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production")
}

async fn release(broker: &Broker, issuer: &Issuer) -> Answer {
    broker.exchange_for(&releasing(issuer).token(broker.audience()), "payments-release").await
}

/// Waits until health says so of its `mappings`.
async fn until(broker: &Broker, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(TAKEN_UP, async || Some(broker.health().await).filter(|health| holds(&health["mappings"]))).await
}

/// Waits until another folder judges than the one of this version.
async fn until_other(broker: &Broker, than: &Value) -> Value {
    let other = async || Some(broker.health().await).filter(|health| health["mappings_version"] != *than);
    eventually(TAKEN_UP, other).await["mappings_version"].clone()
}

#[tokio::test]
async fn a_changed_folder_judges_without_a_restart_and_the_old_one_still_explains() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let granted = release(&broker, &issuer).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let old = granted.body["mappings_version"].clone();

    broker.rewrite(config.edit(MAPPINGS, "branch = \"main\"", "branch = \"release\""));
    let new = until_other(&broker, &old).await;
    let refused = release(&broker, &issuer).await;
    assert_eq!((refused.status, &refused.body["mappings_version"]), (400, &new), "{}", refused.text);
    assert_eq!(refused.body["nearest"]["conditions"][0]["expected"], "`release`", "{}", refused.text);
    assert_eq!(broker.metrics().await.sum("claimbound_mappings_info", &[]), 1.0, "one folder judges");
    assert_eq!(broker.metrics().await.sum("claimbound_reloads_total", &[("outcome", "activated")]), 1.0);
    let activated = records::of_kind(&broker, "mappings_activated");
    assert_eq!(activated.iter().map(|body| &body["version"]).collect::<Vec<_>>(), [&old, &new]);

    let decision = granted.text_of("decision_id");
    let explained = broker.command(&["explain", "--decision", decision, "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(explained.code, Some(0), "by the folder of then: {}{}", explained.stdout, explained.stderr);
}

#[tokio::test]
async fn a_folder_that_does_not_load_changes_nothing_and_says_so_everywhere() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let version = release(&broker, &issuer).await.body["mappings_version"].clone();

    broker.rewrite(config.clone().edit(MAPPINGS, "branch = \"main\"", "brunch = \"main\""));
    let health = until(&broker, |mappings| mappings["error"].is_string()).await;
    let error = health["mappings"]["error"].as_str().unwrap();
    assert!(error.contains(MAPPINGS) && error.contains("brunch"), "{error}");
    assert_eq!((&health["mappings_version"], &health["ready"]), (&version, &json!(true)));
    let granted = release(&broker, &issuer).await;
    assert_eq!((granted.status, &granted.body["mappings_version"]), (200, &version), "{}", granted.text);
    let (refused, details) = records::all(&broker).into_iter().find(|(b, _)| b["kind"] == "mappings_refused").unwrap();
    assert_eq!(refused["mappings"], version, "what judges");
    assert!(refused["version"].is_string() && refused["version"] != version, "what does not: {refused}");
    assert!(details["findings"][0]["message"].as_str().unwrap().contains("brunch"), "{details}");
    assert_eq!(broker.metrics().await.sum("claimbound_reloads_total", &[("outcome", "refused")]), 1.0);
    assert!(broker.log().contains("the last good folder"), "{}", broker.log());

    broker.rewrite(config);
    let health = until(&broker, |mappings| mappings["error"].is_null()).await;
    assert_eq!(health["mappings_version"], version);
    assert_eq!(records::of_kind(&broker, "mappings_refused").len(), 1, "told once");
}

#[tokio::test]
async fn a_folder_that_is_gone_or_a_broken_configuration_changes_nothing() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    fs::rename(broker.directory().join("mappings"), broker.directory().join("away")).unwrap();
    broker.signal("HUP").await;
    let health = until(&broker, |mappings| mappings["error"].is_string()).await;
    assert!(health["mappings"]["error"].as_str().unwrap().contains("cannot read `mappings`"), "{health}");
    fs::rename(broker.directory().join("away"), broker.directory().join("mappings")).unwrap();
    until(&broker, |mappings| mappings["error"].is_null()).await;

    broker.rewrite(config.network("github", "allow_privat_network = true", false));
    broker.signal("HUP").await;
    let health = until(&broker, |mappings| mappings["error"].is_string()).await;
    assert!(health["mappings"]["error"].as_str().unwrap().contains("allow_privat_network"), "{health}");
    assert_eq!(release(&broker, &issuer).await.status, 200);
}

/// In an emergency nobody waits for somebody else's typing error.
#[tokio::test]
async fn what_is_cut_off_waits_for_no_folder() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    assert_eq!(release(&broker, &issuer).await.status, 200);
    let state = async |broker: &Broker| broker.health().await["issuers"][0]["state"].clone();

    let broken = config.clone().edit(MAPPINGS, "branch = \"main\"", "brunch = \"main\"");
    broker.rewrite(broken.network("github", "disabled = true", false));
    eventually(TAKEN_UP, async || (state(&broker).await == "disabled").then_some(())).await;
    assert_eq!(release(&broker, &issuer).await.body["reason"], "token_not_accepted");
    until(&broker, |mappings| mappings["error"].is_string()).await;
    let (_, details) = records::all(&broker).into_iter().find(|(b, _)| b["kind"] == "mappings_refused").unwrap();
    assert_eq!(details["findings"][0], json!({ "cut_off": "github", "disabled": true, "deny_kids": [] }));

    // All of it taken back: the folder is the one that judges, and the issuer is believed again.
    broker.rewrite(config);
    until(&broker, |mappings| mappings["error"].is_null()).await;
    eventually(TAKEN_UP, async || (release(&broker, &issuer).await.status == 200).then_some(())).await;
    assert_eq!(records::of_kind(&broker, "mappings_activated").len(), 1);
}

#[tokio::test]
async fn facts_about_issuers_are_taken_up_and_others_wait_for_a_restart() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    assert_eq!(release(&broker, &issuer).await.status, 200);

    // The job's tokens live for five minutes.
    broker.rewrite(config.clone().network("github", "max_lifetime = \"1m\"", false));
    eventually(TAKEN_UP, async || (release(&broker, &issuer).await.status == 400).then_some(())).await;
    assert!(broker.metrics().await.sum("claimbound_exchanges_total", &[("reason", "lifetime")]) > 0.0);
    assert_eq!(broker.health().await["mappings"]["restart_needed"], false);

    broker.rewrite(config.server("hints = \"none\""));
    let health = until(&broker, |mappings| mappings["restart_needed"] == true).await;
    assert_eq!(health["mappings"]["error"], Value::Null);
    eventually(TAKEN_UP, async || (release(&broker, &issuer).await.status == 200).then_some(())).await;
    assert!(broker.log().contains("is read at the next start"), "{}", broker.log());
    broker.restart().await;
    assert_eq!(broker.health().await["mappings"]["restart_needed"], false);
}

#[tokio::test]
async fn an_issuer_comes_and_goes_with_the_folder() {
    let (issuer, lab) = (Issuer::github(), Issuer::github());
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let before = broker.health().await["mappings_version"].clone();
    assert_eq!(release(&broker, &lab).await.body["reason"], "token_not_accepted");

    // The same name, another issuer: who held the name before is unknown from then on.
    broker.rewrite(BrokerConfig::new(&lab));
    let moved = until_other(&broker, &before).await;
    assert_eq!(release(&broker, &issuer).await.body["reason"], "token_not_accepted");
    let answer = release(&broker, &lab).await;
    assert_eq!((answer.status, &answer.body["mappings_version"]), (200, &moved), "{}", answer.text);
    assert_eq!(lab.key_fetches(), 1);
}

/// Every answer is of one folder: name, lifetime and version belong together, however often another takes its place
/// and however many do not load in between.
#[tokio::test]
async fn no_request_sees_a_mix_of_two_folders() {
    let reloads = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { 1_000 } else { 12 };
    let issuer = Arc::new(Issuer::github());
    let no_rate = "[server.limits]\nrequests_per_second = 0\nrepository_requests_per_second = 0";
    let even = BrokerConfig::new(&issuer).server(no_rate);
    let odd = even
        .clone()
        .edit(MAPPINGS, "payments-production", "payments-odd")
        .edit(MAPPINGS, "max_duration = \"30m\"", "max_duration = \"20m\"")
        .edit("roles/payments.toml", "https://deploy.acme.example", "https://odd.acme.example");
    let broken = even.clone().edit(MAPPINGS, "[[mapping]]", "[[maping]]");
    let mut broker = Broker::start(BINARY, even.clone()).await;
    let mut version = broker.health().await["mappings_version"].clone();
    let first = version.clone();

    let (url, audience) = (broker.url().to_owned(), broker.audience().to_owned());
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (issuer, done) = (issuer.clone(), done.clone());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let answer = exchange_at(&url, &releasing(&issuer).token(&audience)).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                seen.push(answer.body);
            }
            seen
        })
    };
    for round in 0..reloads {
        if round % 3 == 2 {
            broker.rewrite(broken.clone());
            broker.signal("HUP").await;
            until(&broker, |mappings| mappings["error"].is_string()).await;
        }
        broker.rewrite(if round % 2 == 0 { odd.clone() } else { even.clone() });
        broker.signal("HUP").await;
        version = until_other(&broker, &version).await;
    }
    done.store(true, Ordering::Relaxed);
    let seen = load.await.unwrap();
    let (mut evens, mut odds) = (0, 0);
    for body in &seen {
        let told = (body["mapping"].as_str().unwrap(), body["expires_in"].as_u64().unwrap());
        let of_first = body["mappings_version"] == first;
        assert_eq!(told, if of_first { ("payments-production", 1800) } else { ("payments-odd", 1200) }, "{body}");
        let claims = claimbound_test_support::jwt::claims_of(body["access_token"].as_str().unwrap());
        let audience = if of_first { "https://deploy.acme.example" } else { "https://odd.acme.example" };
        assert_eq!(claims["aud"], audience);
        if of_first { evens += 1 } else { odds += 1 }
    }
    assert!(evens > 0 && odds > 0, "{evens} and {odds}");
    let activated = records::of_kind(&broker, "mappings_activated").len();
    assert_eq!(activated, reloads + 1, "no good folder was lost to a bad one");
}

/// One exchange for `payments-release` with a broker that somebody else may rewrite meanwhile.
pub async fn exchange_at(url: &str, token: &str) -> Answer {
    use claimbound_test_support::{
        broker::{ID_TOKEN, TOKEN_EXCHANGE},
        http,
    };
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", ID_TOKEN),
        ("audience", "payments-release"),
    ];
    http::post_form(&format!("{url}/token"), &form).await
}
