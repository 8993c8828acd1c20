//! What is derived, read and believed without a provider; the whole way is tested against a real one.

use super::*;
use openidconnect::IdTokenClaims;
use std::fs;

fn sign_in() -> SignIn {
    SignIn {
        name: "okta".into(),
        issuer: "https://acme.okta.example".into(),
        client_id: "cb".into(),
        client_secret: None,
        groups_claim: "groups".into(),
        forge_id_claim: Default::default(),
        scopes: vec![],
        max_age_seconds: None,
        sensitivity: Default::default(),
        ca_file: None,
        allow_private_network: false,
    }
}

#[test]
fn state_and_nonce_belong_to_one_beginning() {
    let challenge = |text: &str| PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(text.repeat(43)));
    let (one, other) = (challenge("a"), challenge("b"));
    let all = [derived("state", &one), derived("nonce", &one), derived("state", &other), derived("nonce", &other)];
    assert!(all.iter().all(|text| text.len() == 43));
    assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])), "{all:?}");
    assert_eq!(derived("state", &one), all[0]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_the_provider_is_asked() {
    let people = People::new(Client::new().unwrap(), false);
    let (code, good) = (Secret::new("code".into()), Secret::new("v".repeat(43)));
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new("v".repeat(43)));
    let state = derived("state", &challenge);
    for (verifier, state, issuer, told) in [
        ("v".repeat(42), state.as_str(), None, "verifier"),
        ("v".repeat(129), &state, None, "verifier"),
        ("ä".repeat(43), &state, None, "verifier"),
        ("w".repeat(43), &state, None, "state"),
        ("v".repeat(43), "other", None, "state"),
        ("v".repeat(43), &state, Some("https://evil.example"), "`iss`"),
    ] {
        let verifier = Secret::new(verifier);
        let returned =
            Returned { redirect: Redirect::Loopback { port: 1 }, code: &code, state, issuer, verifier: &verifier };
        let error = people.finish(&sign_in(), &returned, UnixSeconds(0)).await.unwrap_err();
        assert!(matches!(&error, SignInError::Refused { why, .. } if why.contains(told)), "{error}");
    }
    let _ = good;
}

#[test]
fn a_person_is_read_from_the_claims() {
    let read = |more: serde_json::Value, groups_claim: &str| {
        let mut claims = json!({ "iss": "https://x", "aud": ["cb"], "exp": 2, "iat": 1, "sub": "00u1" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let claims: IdTokenClaims<AllClaims, openidconnect::core::CoreGenderClaim> =
            serde_json::from_value(claims).unwrap();
        let forges = [("github".to_owned(), "github_id".to_owned()), ("gitlab".to_owned(), "/ids/gitlab".to_owned())];
        AllClaims::person(&claims, groups_claim, &forges.into())
    };
    let bob =
        read(json!({ "groups": ["a", 1, "b"], "email": "bob@acme.example", "name": "Bob", "auth_time": 5 }), "groups");
    assert_eq!((bob.subject.as_str(), bob.groups.as_slice()), ("00u1", &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!((bob.email, bob.name.as_deref(), bob.signed_in_at), (None, Some("Bob"), Some(5)), "not verified");
    assert!(bob.forge_ids.is_empty() && bob.amr.is_empty() && bob.acr.is_none());
    let linked = read(json!({ "github_id": 5, "ids": { "gitlab": "7" }, "acr": "phr", "amr": ["hwk"] }), "groups");
    let ids = [("github".to_owned(), "5".to_owned()), ("gitlab".to_owned(), "7".to_owned())];
    assert_eq!(
        (linked.forge_ids, linked.acr.as_deref(), linked.amr),
        (ids.into(), Some("phr"), vec!["hwk".to_owned()])
    );
    let verified = read(json!({ "email": "bob@acme.example", "email_verified": true }), "groups");
    assert_eq!(verified.email.as_deref(), Some("bob@acme.example"));
    let nested =
        json!({ "realm_access": { "roles": ["oncall"] }, "one": "alone", "https://acme.example/groups": ["c"] });
    for (claim, groups) in [
        ("/realm_access/roles", vec!["oncall"]),
        ("one", vec!["alone"]),
        ("https://acme.example/groups", vec!["c"]),
        ("/realm_access", vec![]),
        ("groups", vec![]),
    ] {
        assert_eq!(read(nested.clone(), claim).groups, groups, "{claim}");
    }
}

#[test]
fn a_secret_is_read_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let read = |place: Place| secret(&sign_in(), &place).map(|secret| secret.secret().clone());
    assert!(read(Place::File(file.clone())).is_err());
    fs::write(&file, " hunter2\n").unwrap();
    assert_eq!(read(Place::File(file.clone())).unwrap(), "hunter2");
    fs::write(&file, "\n").unwrap();
    assert!(read(Place::File(file.clone())).unwrap_err().to_string().contains("empty"));
    fs::write(&file, "x".repeat(5000)).unwrap();
    assert!(read(Place::File(file)).unwrap_err().to_string().contains("longer"));
    assert!(read(Place::Variable("CLAIMBOUND_NO_SUCH_VARIABLE".into())).is_err());
}
