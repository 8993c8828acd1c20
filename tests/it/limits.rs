//! `[mapping.limit]`: counted for each repository, in the transaction of the grant.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    issuer::Issuer,
    job::Job,
};
use futures_util::future::join_all;

fn limited(issuer: &Issuer, limit: &str) -> BrokerConfig {
    let bare = "environment = \"production\"\n";
    let with = format!("{bare}[mapping.limit]\n{limit}\n");
    BrokerConfig::new(issuer).edit("teams/payments/deploy.toml", bare, &with)
}

fn job<'i>(issuer: &'i Issuer, run: &str) -> Job<'i> {
    issuer.job().branch("main").environment("production").claim("run_id", run)
}

#[tokio::test]
async fn a_run_and_an_hour_have_so_many_grants() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, limited(&issuer, "per_run = 2\nper_hour = 3")).await;
    let exchange = async |broker: &Broker, job: Job<'_>| {
        let token = job.token(broker.audience());
        let answer = broker.exchange_for(&token, "payments-release").await;
        let told = (answer.status, answer.body["reason"].as_str().unwrap_or_default().to_owned());
        (told, answer.header("retry-after").parse::<u32>().ok(), answer.body, token)
    };
    let granted = (200, String::new());
    let exhausted = (429, "mapping_limit".to_owned());

    assert_eq!(exchange(&broker, job(&issuer, "1")).await.0, granted);
    assert_eq!(exchange(&broker, job(&issuer, "1").claim("run_attempt", "2")).await.0, granted);
    let (told, wait, body, token) = exchange(&broker, job(&issuer, "1").claim("run_attempt", "3")).await;
    assert_eq!(told, exhausted);
    assert!(wait.is_some_and(|wait| wait > 30 * 86_400), "no sooner than the run is forgotten: {wait:?}");
    assert!(body.get("nearest").is_none() && !body.to_string().contains("per_run"), "limits are not told: {body}");
    let again = broker.exchange_for(&token, "payments-release").await;
    assert_eq!(again.text_of("reason"), "replay", "a first answer spends the token");

    assert_eq!(exchange(&broker, job(&issuer, "2")).await.0, granted, "another run");
    let (told, wait, body, _) = exchange(&broker, job(&issuer, "3")).await;
    assert_eq!(told, exhausted);
    assert!(wait.is_some_and(|wait| (1..=3_600).contains(&wait)), "{wait:?}");
    let decision = body["decision_id"].as_str().unwrap();
    let (record, details) = records::the_one(&broker, decision).await;
    assert_eq!((&record["kind"], &record["reason"]), (&"refused".into(), &"mapping_limit".into()));
    assert_eq!((&record["mapping"], &record["role"]), (&"payments-production".into(), &"payments-release".into()));
    assert!(details["limited_until"].is_i64(), "{details}");

    // Others have their own: another repository, another mapping.
    let web = job(&issuer, "1").repository("acme/payments-web").repository_id(740_000_002);
    assert_eq!(exchange(&broker, web).await.0, granted);
    let staging = issuer.job().environment("staging").claim("run_id", "1").token(broker.audience());
    assert_eq!(broker.exchange_for(&staging, "payments-secrets").await.status, 200);

    // A dry run uses up nothing, and asks for nothing.
    let token = job(&issuer, "3").token(broker.audience());
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &token),
        ("subject_token_type", ID_TOKEN),
        ("audience", "payments-release"),
        ("dry_run", "true"),
    ];
    assert_eq!(broker.exchange(&form).await.status, 200);

    broker.restart().await;
    assert_eq!(exchange(&broker, job(&issuer, "4")).await.0, exhausted, "a restart forgets nothing");
    let metrics = broker.metrics().await;
    assert_eq!(metrics.sum("claimbound_exchanges_total", &[("reason", "mapping_limit")]), 1.0);
    let told = broker
        .command(&[
            "explain",
            "--repository",
            "acme/payments-api",
            "--branch",
            "main",
            "--environment",
            "production",
            "--event",
            "push",
        ])
        .await;
    assert!(told.stdout.contains("2 per run, 3 per hour"), "{} {}", told.stdout, told.stderr);
    let told = broker.command(&["roles"]).await;
    assert!(told.stdout.contains("payments-production (2 per run, 3 per hour)"), "{}", told.stdout);
}

/// Many at once get as many as there are, whoever they are.
#[tokio::test]
async fn a_race_for_the_last_use_has_one_winner_each() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, limited(&issuer, "per_run = 7")).await;
    let tokens: Vec<_> = (0..40).map(|_| job(&issuer, "1").token(broker.audience())).collect();
    let answers = join_all(tokens.iter().map(|token| broker.exchange_for(token, "payments-release"))).await;
    let granted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(granted, 7);
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.text_of("reason") == "mapping_limit"));
    assert_eq!(records::of_kind(&broker, "granted").len(), 7);
}
