//! What a token says beside the canonical claims, from the exchange to the evidence.

use crate::{BINARY, records};
use claimbound_test_support::{broker::Broker, config::BrokerConfig, issuer::Issuer};
use serde_json::{Value, json};

const STAGING: &str = "[mapping.match]\nenvironment = \"staging\"\n";
const NARROWED: &str = "[mapping.match]\nenvironment = \"staging\"\nclaims.\"repo_property_tier\" = \"vermilion\"\n\
    claims.\"/build/level\" = 3\n";

#[tokio::test]
async fn raw_claims_decide_are_kept_and_are_told_to_nobody() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer).edit("teams/payments/deploy.toml", STAGING, NARROWED);
    let broker = Broker::start(BINARY, config).await;
    let exchange = async |tier: Value, build: Value| {
        let job = issuer.job().branch("topic").environment("staging");
        let job = job.claim("repo_property_tier", tier).claim("build", build);
        broker.exchange_for(&job.token(broker.audience()), "payments-secrets").await
    };
    let granted = exchange(json!("gold,vermilion"), json!({ "level": 3 })).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(granted.body["role"], "payments-secrets");

    for (tier, build) in [
        (json!("gold,vermilions"), json!({ "level": 3 })),
        (json!(["vermilion"]), json!({ "level": 3 })),
        (json!("vermilion"), json!({ "level": "3" })),
        (json!("vermilion"), json!([3])),
        (json!("vermilion"), Value::Null),
    ] {
        let refused = exchange(tier.clone(), build.clone()).await;
        assert_eq!((refused.status, &refused.body["reason"]), (400, &json!("no_mapping")), "{}", refused.text);
        let conditions = refused.body["nearest"]["conditions"].as_array().unwrap();
        let [told] = &conditions[..] else { panic!("{}", refused.text) };
        assert!(told["claim"].as_str().unwrap().starts_with("claims.\""), "{told}");
        assert_eq!((&told["expected"], told.get("got")), (&json!("differs"), None));
        assert!(!refused.text.contains("vermilion"), "neither the rule nor the job's own: {}", refused.text);
    }

    let refused = exchange(json!("vermilion"), json!({ "level": "three" })).await;
    let decision = refused.text_of("decision_id").to_owned();
    let (_, details) = records::the_one(&broker, &decision).await;
    assert_eq!(details["claims"]["build"], json!({ "level": "three" }));
    let exit = broker.command(&["explain", "--decision", &decision, "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
    for part in ["claims.\"/build/level\"", "three (of another type)"] {
        assert!(exit.stdout.contains(part), "{part}: {}", exit.stdout);
    }
}
