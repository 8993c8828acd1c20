//! Our signing keys in a running broker: sealed, revoked, and of one trust domain.

use crate::{BINARY, records, telemetry::host::Host};
use claimbound::{
    broker::{Broker as InProcess, SystemClock},
    config::Config,
    operators::{May, Operator},
};
use claimbound_test_support::{
    broker::Broker, command::Exit, config::BrokerConfig, http::Answer, issuer::Issuer, time::eventually,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

const SOON: Duration = Duration::from_secs(60);
const ROLE: &str = "payments-release";

async fn release(broker: &Broker, issuer: &Issuer) -> Answer {
    let job = issuer.job().branch("main").environment("production");
    broker.exchange_for(&job.token(broker.audience()), ROLE).await
}

async fn serve(broker: &Broker) -> Exit {
    broker.command(&["serve", "--config", "claimbound.toml", "--development"]).await
}

fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn kids(jwks: &Value) -> Vec<&str> {
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn keys_are_sealed_and_revoked_and_belong_to_their_store() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let (keys, seal) = (broker.directory().join("keys"), broker.directory().join("seal"));
    let jwks = broker.get("/jwks").await.body;
    broker.terminate().await;

    // `seal` appears: what is there is sealed.
    fs::write(&seal, "a secret of more than 32 bytes, of course\n").unwrap();
    let sealed = config.clone().signing("seal = { file = \"seal\" }");
    broker.rewrite(sealed.clone());
    broker.restart().await;
    assert_eq!(broker.get("/jwks").await.body, jwks, "the same keys");
    assert_eq!(broker.log().matches("a signing key is sealed from now on").count(), 2);
    assert_eq!(broker.health().await["signing"]["sealed"], true);
    assert_eq!(content(&keys).keys().filter(|name| name.ends_with(".sealed")).count(), 2);
    let granted = release(&broker, &issuer).await;
    assert_eq!(granted.status, 200, "{}", granted.text);

    // Revoked beside the running broker.
    let es256 = jwks["keys"].as_array().unwrap().iter().find(|key| key["alg"] == "ES256").unwrap();
    let kid = es256["kid"].as_str().unwrap();
    let revoked = broker.command(&["keys", "revoke", kid, "--format", "json"]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let revoked: Value = serde_json::from_str(&revoked.stdout).unwrap();
    assert_eq!((&revoked["revoked"]["kid"], &revoked["made"]["algorithm"]), (&json!(kid), &json!("ES256")));
    let leases = revoked["leases"].as_array().unwrap();
    assert_eq!(leases.len(), 1, "{revoked}");
    assert_eq!((&leases[0]["lease_id"], &leases[0]["role"]), (&granted.body["lease_id"], &json!(ROLE)));
    let rsa = jwks["keys"].as_array().unwrap().iter().find(|key| key["alg"] == "RS256").unwrap();
    broker.signal("HUP").await;
    let followed = async || {
        let published = broker.get("/jwks").await.body;
        (!kids(&published).contains(&kid)).then_some(published)
    };
    let published = eventually(SOON, followed).await;
    assert_eq!(kids(&published), [rsa["kid"].as_str().unwrap(), revoked["made"]["kid"].as_str().unwrap()]);
    assert_eq!(release(&broker, &issuer).await.status, 200, "another key signs");
    let again = broker.command(&["keys", "revoke", kid]).await;
    assert!(again.code == Some(0) && again.stdout.contains(granted.text_of("lease_id")), "{}", again.stdout);
    assert!(!again.stdout.contains("made  "), "{}", again.stdout);
    let unknown = broker.command(&["keys", "revoke", &"A".repeat(43)]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("there is no key"), "{}", unknown.stderr);
    let noted =
        |state: &str| records::of_kind(&broker, "signing_key").iter().filter(|body| body["state"] == state).count();
    assert_eq!((noted("made"), noted("revoked")), (3, 1));
    assert_eq!(broker.command(&["audit", "verify"]).await.code, Some(0));
    broker.terminate().await;

    // A secret that is not the one.
    let before = content(&keys);
    fs::write(&seal, "another secret of more than 32 bytes, too\n").unwrap();
    let refused = serve(&broker).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("does not open with this seal"), "{}", refused.stderr);
    assert_eq!(content(&keys), before, "nothing is overwritten");
    fs::write(&seal, "a secret of more than 32 bytes, of course\n").unwrap();

    // An older copy, in which the key was good; and other keys altogether.
    let list = keys.join("keys.json");
    let mut old: Value = serde_json::from_slice(&before["keys.json"]).unwrap();
    old["keys"].as_array_mut().unwrap().retain(|key| key["kid"] != kid);
    fs::write(&list, old.to_string()).unwrap();
    let refused = serve(&broker).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("an older copy"), "{}", refused.stderr);
    fs::write(&list, &before["keys.json"]).unwrap();
    fs::rename(&keys, broker.directory().join("aside")).unwrap();
    let refused = serve(&broker).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("not all keys of this store"), "{}", refused.stderr);
    fs::remove_dir_all(&keys).unwrap();
    fs::rename(broker.directory().join("aside"), &keys).unwrap();
    broker.restart().await;
    assert_eq!(release(&broker, &issuer).await.status, 200);
}

#[tokio::test]
async fn a_foreign_key_under_our_name_stops_signing_until_it_is_gone() {
    let (issuer, host) = (Issuer::github(), Host::start().await);
    let config = BrokerConfig::new(&issuer).signing(&format!("issuer_url = \"{}\"", host.url()));
    let broker = Broker::start(BINARY, config).await;
    let signing = async || broker.health().await["signing"].clone();
    assert!(signing().await["warning"].as_str().unwrap().contains("could not be read"), "a warning, no more");
    assert_eq!(release(&broker, &issuer).await.status, 200);

    let mut jwks = broker.get("/jwks").await.body;
    jwks["keys"].as_array_mut().unwrap().push(json!({ "kty": "EC", "kid": "of-somebody-else" }));
    let discovery = broker.get("/.well-known/openid-configuration").await.text;
    host.publish("/.well-known/openid-configuration", &discovery);
    host.publish("/jwks", &jwks.to_string());
    broker.signal("HUP").await;
    let stopped = async || signing().await["stopped"].as_str().map(str::to_owned);
    let why = eventually(SOON, stopped).await;
    assert!(why.contains("`of-somebody-else`") && why.contains("issuer export"), "{why}");
    let refused = release(&broker, &issuer).await;
    assert_eq!((refused.status, refused.text_of("reason")), (503, "backend_down"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(broker.metrics().await.sum("claimbound_signing_stopped", &[]), 1.0);

    // What the broker exports is what is published.
    assert_eq!(broker.command(&["issuer", "export", "site"]).await.code, Some(0));
    let exported = |path: &str| fs::read_to_string(broker.directory().join("site").join(path)).unwrap();
    host.publish("/jwks", &exported("jwks"));
    host.publish("/.well-known/openid-configuration", &exported(".well-known/openid-configuration"));
    broker.signal("HUP").await;
    let well = async || Some(signing().await).filter(|signing| signing["stopped"].is_null());
    let signing = eventually(SOON, well).await;
    assert!(signing["warning"].is_null() && signing["published_read"].is_i64(), "{signing}");
    assert_eq!(release(&broker, &issuer).await.status, 200);
}

#[tokio::test]
async fn an_operator_rotates_and_revokes_in_a_name_of_its_own() {
    let (issuer, folder) = (Issuer::github(), tempfile::tempdir().unwrap());
    BrokerConfig::new(&issuer).write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
    let mut config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
    config.bound_at("127.0.0.1:1".parse().unwrap());
    let broker = InProcess::start(config, Arc::new(SystemClock)).await.unwrap();
    let [ann, bob] = [("okta:ann", May::Keys), ("okta:bob", May::Revoke)].map(|(name, may)| Operator::new(name, [may]));
    let refused = broker.rotate_keys(&bob, true).await.unwrap_err().to_string();
    assert!(refused.contains("`okta:bob` may not `keys`") && broker.signing_keys(&bob).is_err(), "{refused}");
    assert!(broker.revoke_key(&bob, &broker.signing_keys(&ann).unwrap()[0].kid).await.is_err());
    let made = broker.rotate_keys(&ann, true).await.unwrap();
    let revoked = broker.revoke_key(&ann, &made[0].kid).await.unwrap();
    assert!(revoked.made.is_some() && broker.revoke_key(&ann, "none").await.is_err());
    assert_eq!(broker.signing_keys(&ann).unwrap().len(), 5);
    let mut by_ann = Vec::new();
    let each = &mut |body: &[u8], details: &[u8]| {
        if String::from_utf8_lossy(details).contains(r#""operator":"okta:ann""#) {
            by_ann.push(serde_json::from_slice::<Value>(body).unwrap()["state"].clone());
        }
        true
    };
    broker.reader().records(each).unwrap();
    assert_eq!(by_ann, ["made", "made", "made", "revoked"], "and nothing of it names the operator in a body");
    broker.stop().await;
}
