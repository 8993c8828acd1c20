//! What relying parties learn of tokens: by asking (RFC 7662), and from the signed status list.

use crate::{BINARY, renewal};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_test_support::{
    broker::Broker,
    canary, command,
    config::{BrokerConfig, RELEASE_AUDIENCE, SECRETS_AUDIENCE},
    http::{self, Answer},
    issuer::Issuer,
    jwt,
};
use serde_json::json;
use std::path::Path;

/// Of the resource server `payments`.
pub const SECRET: &str = "0123456789abcdef of payments";
const OTHER_SECRET: &str = "0123456789abcdef of openbao";

/// Two resource servers: `payments` of this audience, `openbao` of the default folder's other one.
pub fn with_servers(config: BrokerConfig, audience: &str) -> BrokerConfig {
    let server = |audience: &str, id: &str, variable: &str| {
        format!(
            "[[resource_server]]\naudience = \"{audience}\"\nclient_id = \"{id}\"\nclient_secret = {{ env = \"{variable}\" }}\n"
        )
    };
    config
        .toml(&server(audience, "payments", "PAYMENTS_SECRET"))
        .toml(&server(SECRETS_AUDIENCE, "openbao", "OPENBAO_SECRET"))
        .env("PAYMENTS_SECRET", SECRET)
        .env("OPENBAO_SECRET", OTHER_SECRET)
}

pub async fn introspect_as(broker: &Broker, client: Option<(&str, &str)>, token: &str) -> Answer {
    let request = http::client().post(format!("{}/introspect", broker.url())).form(&[("token", token)]);
    let request = match client {
        Some((id, secret)) => request.basic_auth(id, Some(secret)),
        None => request,
    };
    http::send(request).await.unwrap()
}

pub async fn introspect(broker: &Broker, token: &str) -> Answer {
    introspect_as(broker, Some(("payments", SECRET)), token).await
}

/// The token's bit, as this broker says it.
pub async fn bit(broker: &Broker, token: &str) -> bool {
    let status = &jwt::claims_of(token)["status"]["status_list"];
    let (index, uri) = (status["idx"].as_u64().unwrap(), status["uri"].as_str().unwrap());
    let path = &uri[uri.find("/statuslists/").expect("a list's path")..];
    let answer = broker.get(path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (header, list) = (jwt::header_of(&answer.text), jwt::claims_of(&answer.text));
    assert_eq!((&header["typ"], &list["sub"]), (&json!("statuslist+jwt"), &json!(uri)));
    assert_eq!(list["exp"].as_i64().unwrap() - list["iat"].as_i64().unwrap(), 300);
    assert_eq!((&list["ttl"], &list["status_list"]["bits"]), (&json!(10), &json!(1)));
    let packed = BASE64_URL_SAFE_NO_PAD.decode(list["status_list"]["lst"].as_str().unwrap()).unwrap();
    let bits = miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap();
    let index = usize::try_from(index).unwrap();
    bits[index / 8] >> (index % 8) & 1 == 1
}

#[tokio::test]
async fn a_live_token_is_told_to_its_own_resource_server_until_it_ends() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, with_servers(BrokerConfig::new(&issuer), RELEASE_AUDIENCE)).await;
    let job = issuer.job().branch("main").environment("production");
    let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    let token = answer.text_of("access_token").to_owned();
    let told = introspect(&broker, &token).await;
    assert_eq!((told.status, told.header("cache-control")), (200, "no-store"), "{}", told.text);
    let mut expected = jwt::claims_of(&token);
    let claims = expected.as_object_mut().unwrap();
    assert!(claims.remove("status").is_some(), "where to look is nothing for who asks");
    claims.insert("active".into(), json!(true));
    claims.insert("token_type".into(), json!("Bearer"));
    assert_eq!(told.body, expected);
    assert!(!bit(&broker, &token).await);

    for path in ["openid-configuration", "oauth-authorization-server"] {
        let document = broker.get(&format!("/.well-known/{path}")).await.body;
        assert_eq!(document["introspection_endpoint"], format!("{}/introspect", broker.audience()));
        assert_eq!(document["introspection_endpoint_auth_methods_supported"], json!(["client_secret_basic"]));
    }
    assert_eq!(broker.get(&format!("/statuslists/{:032x}", 7)).await.status, 404);
    assert_eq!(broker.get("/statuslists/x").await.status, 404);
    let counted = broker.metrics().await.sum("claimbound_introspections_total", &[("active", "true")]);
    assert_eq!(counted, 1.0);
    canary::assert_absent(broker.directory(), &[SECRET, OTHER_SECRET, &token]);
}

/// Whatever it is that is not good, and whoever holds it: the same bytes.
#[tokio::test]
async fn security_134_introspection_tells_nothing_of_what_is_not_good() {
    let (issuer, gitlab) = (Issuer::github(), Issuer::gitlab());
    let broker = Broker::start(BINARY, with_servers(BrokerConfig::new(&issuer), RELEASE_AUDIENCE)).await;
    let releasing = issuer.job().branch("main").environment("production");
    let issued = async |role: &str, seconds: &str| {
        let environment = if role == "payments-release" { "production" } else { "staging" };
        let token = issuer.job().branch("main").environment(environment).token(broker.audience());
        let form = [
            ("grant_type", claimbound_test_support::broker::TOKEN_EXCHANGE),
            ("subject_token", &*token),
            ("subject_token_type", claimbound_test_support::broker::ID_TOKEN),
            ("audience", role),
            ("requested_expires_in", seconds),
        ];
        broker.exchange(&form).await.text_of("access_token").to_owned()
    };
    let (good, revoked) = (issued("payments-release", "600").await, issued("payments-release", "600").await);
    let (foreign, expired) = (issued("payments-secrets", "600").await, issued("payments-release", "1").await);
    assert_eq!(broker.revoke(&revoked).await.status, 200);
    claimbound_test_support::time::eventually(std::time::Duration::from_secs(30), async || {
        (introspect(&broker, &expired).await.body["active"] == false).then_some(())
    })
    .await;
    assert_eq!(introspect(&broker, &good).await.body["active"], true);
    let mut forged = good.clone();
    forged.replace_range(good.len() - 8..good.len() - 4, "AAAA");
    let uri = jwt::claims_of(&good)["status"]["status_list"]["uri"].as_str().unwrap().to_owned();
    let list = broker.get(&uri[uri.find("/statuslists/").unwrap()..]).await.text;
    let unspent = releasing.token(broker.audience());
    let foreign_issuer = gitlab.job().token(broker.audience());
    let handle = format!("cbl_{}", "A".repeat(43));
    for token in [&expired, &revoked, &foreign, &forged, "nonsense", "a.b.c", &list, &unspent, &foreign_issuer, &handle]
    {
        let answer = introspect(&broker, token).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"active":false}"#), "{token}");
    }
    let theirs = introspect_as(&broker, Some(("openbao", OTHER_SECRET)), &foreign).await;
    assert_eq!(theirs.body["active"], true, "to its own resource server it is good: {}", theirs.text);

    for client in
        [None, Some(("payments", "")), Some(("payments", OTHER_SECRET)), Some(("nobody", SECRET)), Some(("", ""))]
    {
        for token in [&good, "nonsense"] {
            let answer = introspect_as(&broker, client, token).await;
            assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")), "{}", answer.text);
            assert!(answer.header("www-authenticate").starts_with("Basic"), "{client:?}");
            assert!(!answer.text.contains("active"), "{}", answer.text);
        }
    }
    let body = [("token", good.as_str()), ("client_id", "payments"), ("client_secret", SECRET)];
    let answer = http::post_form(&format!("{}/introspect", broker.url()), &body).await;
    assert_eq!(answer.status, 401, "credentials in the body are none: {}", answer.text);
}

/// What is ended at one replica is not good at any, from the very next answer on; what is renewed at one after that, nothing.
#[tokio::test(flavor = "multi_thread")]
async fn security_131_what_is_revoked_at_one_replica_is_over_at_all() {
    const ROUNDS: usize = 6;
    let (gitlab, server) = (Issuer::gitlab(), claimbound_test_support::postgres::Postgres::start());
    let config = renewal::config(&gitlab).store(&server.url()).server("public_url = \"https://cb.example\"");
    let one = Broker::start(BINARY, with_servers(config, renewal::AUDIENCE)).await;
    let brokers = [one.replica().await, one];
    for round in 0..ROUNDS {
        let (here, there) = (&brokers[round % 2], &brokers[(round + 1) % 2]);
        let subject = gitlab.job().token(here.audience());
        let first = here.exchange_for(&subject, renewal::ROLE).await;
        let refresh = renewal::refresh_of(&first);
        let token = first.text_of("access_token");
        for broker in &brokers {
            assert_eq!(introspect(broker, token).await.body["active"], true);
            assert!(!bit(broker, token).await);
        }
        // Used while it is being revoked: either answer is true, and none comes after.
        let (ended, _) = tokio::join!(here.revoke(token), introspect(there, token));
        assert_eq!(ended.status, 200);
        for broker in &brokers {
            assert_eq!(introspect(broker, token).await.text, r#"{"active":false}"#, "without any delay");
        }
        let next = renewal::renew(there, &refresh, &subject).await;
        let next_token = next.text_of("access_token").to_owned();
        assert_eq!(introspect(here, &next_token).await.body["active"], true, "its family goes on");
        // The family is ended while it is renewed: one of them is first, and nothing is good behind both.
        let refresh = renewal::refresh_of(&next);
        let (ended, renewed) = tokio::join!(here.revoke(&refresh), renewal::renew(there, &refresh, &subject));
        assert_eq!(ended.status, 200);
        let mut tokens = vec![token.to_owned(), next_token];
        if renewed.status == 200 {
            tokens.push(renewed.text_of("access_token").to_owned());
        } else {
            assert_eq!(renewed.body["reason"], "refresh_ended", "{}", renewed.text);
        }
        for broker in &brokers {
            for token in &tokens {
                assert_eq!(introspect(broker, token).await.text, r#"{"active":false}"#);
                claimbound_test_support::time::eventually(std::time::Duration::from_secs(30), async || {
                    bit(broker, token).await.then_some(())
                })
                .await;
            }
            assert_eq!(renewal::renew(broker, &refresh, &subject).await.body["reason"], "refresh_ended");
        }
    }
    for unknown in ["nonsense", "cbr_x", "a.b.c"] {
        assert_eq!(brokers[0].revoke(unknown).await.status, 200);
    }
    let verified = brokers[0].command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn a_resource_server_whose_secret_is_missing_or_short_stops_a_start() {
    let issuer = Issuer::github();
    for (secret, why) in [("short", "less than 16 bytes"), ("", "less than 16 bytes")] {
        let config = with_servers(BrokerConfig::new(&issuer), RELEASE_AUDIENCE);
        let server = "[[resource_server]]\naudience = \"https://x.example\"\nclient_id = \"x\"\nclient_secret = { file = \"absent\" }\n";
        for (config, why) in [(config, why), (BrokerConfig::new(&issuer).toml(server), "absent")] {
            let directory = tempfile::tempdir().unwrap();
            config.write(directory.path(), "127.0.0.1:0", "127.0.0.1:0");
            let mut check = command::command(Path::new(BINARY), directory.path());
            check.args(["serve", "--check", "--config", "claimbound.toml", "--development"]);
            check.env("PAYMENTS_SECRET", secret).env("OPENBAO_SECRET", OTHER_SECRET);
            let exit = command::finish(&mut check).await;
            assert_eq!(exit.code, Some(2), "{}{}", exit.stdout, exit.stderr);
            assert!(exit.stderr.contains(why) && exit.stderr.contains("client_secret"), "{}", exit.stderr);
        }
    }
}
