//! Programs that nobody here wrote accept what the broker gives: OpenBao as a relying party, independent OAuth and
//! JOSE libraries as clients. `scripts/tools` installs them; where they are missing the tests fail and say so.

use crate::{BINARY, introspection};
use claimbound_test_support::{
    broker::Broker,
    command,
    config::{BrokerConfig, RELEASE_AUDIENCE},
    issuer::Issuer,
    tools::{OpenBao, Tools},
};
use serde_json::{Value, json};
use std::path::Path;

#[tokio::test]
async fn openbao_takes_the_jwt_of_the_bound_role_and_no_other() {
    let issuer = Issuer::github();
    // Both roles for one audience: only `role` tells them apart.
    let config =
        BrokerConfig::new(&issuer).edit("roles/payments.toml", "https://openbao.acme.example", RELEASE_AUDIENCE);
    let broker = Broker::start(BINARY, config).await;
    let bao = OpenBao::start().await;
    bao.trust(&format!("{}/jwks", broker.url()), broker.audience()).await;
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [RELEASE_AUDIENCE],
        "bound_claims": { "role": "payments-release" },
        "token_ttl": "5m",
    });
    bao.write("auth/jwt/role/release", &role).await;

    let job = issuer.job().branch("main").environment("production");
    let granted = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    let login = bao.login("release", granted.text_of("access_token")).await;
    assert_eq!(login.status, 200, "{}", login.text);
    assert!(login.body["auth"]["client_token"].is_string());

    let other = issuer.job().environment("staging");
    let granted = broker.exchange_for(&other.token(broker.audience()), "payments-secrets").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let login = bao.login("release", granted.text_of("access_token")).await;
    assert_eq!(login.status, 400, "another role's token: {}", login.text);
    assert!(login.text.contains("role"), "{}", login.text);
}

/// `trust vault` prints what the other side needs: fed to OpenBao as it stands, it works.
#[tokio::test]
async fn what_trust_vault_prints_configures_openbao() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let bao = OpenBao::start().await;
    let jwks = format!("{}/jwks", broker.url());
    let printed = broker
        .command(&[
            "trust",
            "vault",
            "--role",
            "payments-release",
            "--mappings",
            "mappings",
            "--issuer-url",
            broker.audience(),
            "--jwks-url",
            &jwks,
            "--format",
            "json",
        ])
        .await;
    assert_eq!(printed.code, Some(0), "{}{}", printed.stdout, printed.stderr);
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    bao.write("sys/auth/jwt", &json!({ "type": "jwt" })).await;
    bao.write("auth/jwt/config", &printed["config"]).await;
    bao.write("auth/jwt/role/payments-release", &printed["role"]).await;
    let job = issuer.job().branch("main").environment("production");
    let granted = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    let login = bao.login("payments-release", granted.text_of("access_token")).await;
    assert_eq!(login.status, 200, "{}", login.text);
}

#[tokio::test]
async fn openid_client_exchanges_and_jose_verifies() {
    independent_client("exchange-openid-client.mjs").await;
}

#[tokio::test]
async fn oauth4webapi_exchanges_and_jose_verifies() {
    independent_client("exchange-oauth4webapi.mjs").await;
}

async fn independent_client(script: &str) {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let program = Tools::node();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let run = async |token: String| {
        let mut node = command::command(&program, broker.directory());
        node.arg(&script)
            .env("CLAIMBOUND_TEST_TOOLS", Tools::directory())
            .env("BROKER_URL", broker.url())
            .env("SUBJECT_TOKEN", token)
            .env("ROLE", "payments-release")
            .env("EXPECT_AUDIENCE", RELEASE_AUDIENCE);
        command::finish(&mut node).await
    };
    let job = issuer.job().branch("main").environment("production");
    let exit = run(job.token(broker.audience())).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let said: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(said["payload"]["role"], "payments-release");
    assert_eq!(said["header"]["typ"], "JWT");

    let exit = run(issuer.job().branch("feature").environment("production").token(broker.audience())).await;
    assert_eq!(exit.code, Some(3), "a refusal reaches the client as OAuth says: {}{}", exit.stdout, exit.stderr);
    let said: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(said["refused"]["error"], "invalid_target");
}

/// By programs that nobody here wrote: oauth4webapi asks and revokes, jose verifies the list, zlib opens it.
#[tokio::test]
async fn an_independent_client_introspects_and_reads_the_status_list() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, introspection::with_servers(BrokerConfig::new(&issuer), RELEASE_AUDIENCE)).await;
    let job = issuer.job().branch("main").environment("production");
    let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/introspect-oauth4webapi.mjs");
    let mut node = command::command(&Tools::node(), broker.directory());
    node.arg(&script)
        .env("CLAIMBOUND_TEST_TOOLS", Tools::directory())
        .env("BROKER_URL", broker.url())
        .env("SUBJECT_TOKEN", "none")
        .env("EXPECT_AUDIENCE", RELEASE_AUDIENCE)
        .env("ACCESS_TOKEN", answer.text_of("access_token"))
        .env("CLIENT_ID", "payments")
        .env("CLIENT_SECRET", introspection::SECRET);
    let exit = command::finish(&mut node).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let said: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(said["before"][0], said["before"][1], "both documents lead to one endpoint");
    assert_eq!((&said["before"][0]["role"], &said["before"][2]), (&json!("payments-release"), &json!(0)));
    assert_eq!((&said["after"], &said["last"]), (&json!({ "active": false }), &json!(1)));
}
