//! What holds of every token, good or damaged. Attacks one by one stand in the table (`security`).

use crate::minting::*;
use claimbound_core::{
    reason::Reason,
    time::{SINGLE_USE_MARGIN_SECONDS, UnixSeconds},
    trust::{IssuerTable, TrustError},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn refused_claim(name: &str, value: Option<Value>, reason: Reason) {
    let got = check(&TABLE, &RS256.says(&claims_with(name, value.clone())), NOW).map_err(|error| error.reason());
    assert_eq!(got, Err(reason), "{name}: {value:?}");
}

#[test]
fn a_good_token_holds_under_every_algorithm() {
    for algorithm in ALL {
        let key = Key::new("k", algorithm);
        let mut table = IssuerTable::default();
        table.insert(snapshot(ISSUER, keys(&[key.jwk()]), rules()));
        let held = check(&table, &key.says(&claims()), NOW).unwrap();
        assert_eq!(held.subject, "repo:acme/payments-api:ref:refs/heads/main");
        assert_eq!(held.single_use.unwrap().keep_until(), UnixSeconds(NOW + 300 + SINGLE_USE_MARGIN_SECONDS));
    }
}

#[test]
fn keys_that_are_too_old_are_unknown() {
    let mut table = IssuerTable::default();
    let mut old = snapshot(ISSUER, keys(&[RS256.jwk()]), rules());
    old.keys_valid_until = UnixSeconds(NOW - 1);
    table.insert(old);
    let token = RS256.says(&claims());
    assert_eq!(check(&table, &token, NOW), Err(TrustError::KeyUnknown { issuer: "github".into() }));
    assert!(check(&table, &token, NOW - 1).is_ok());
}

#[test]
fn subject_and_what_the_profile_demands_must_be_there() {
    refused_claim("sub", None, Reason::ClaimMissing);
    refused_claim("sub", Some("".into()), Reason::ClaimMissing);
    refused_claim("sub", Some(1.into()), Reason::ClaimType);
    refused_claim("sub", Some(Value::Null), Reason::ClaimType);
    refused_claim("repository", None, Reason::ClaimMissing);
}

#[test]
fn errors_name_no_value_of_the_token() {
    let header = json!({ "alg": "RS256", "kid": "canary-kid" }).to_string();
    let error = check(&TABLE, &RS256.token(header, claims().to_string()), NOW).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_mutation_of_a_good_token_verifies(rsa in any::<bool>(), at in any::<prop::sample::Index>(), to in 0x00_u8..0x80, kind in 0..4) {
        static TOKENS: std::sync::LazyLock<[String; 2]> = std::sync::LazyLock::new(|| [ES256.says(&claims()), RS256.says(&claims())]);
        let good = &TOKENS[usize::from(rsa)];
        let at = at.index(good.len());
        let mut bytes = good.clone().into_bytes();
        match kind {
            0 => bytes[at] = to,
            1 => bytes.insert(at, to),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assume!(mutated != *good);
        prop_assert!(check(&TABLE, &mutated, NOW).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(text in "[A-Za-z0-9_.=-]{0,200}|\\PC{0,64}") {
        prop_assert!(check(&TABLE, &text, NOW).is_err());
    }

    #[test]
    fn any_header_and_payload_are_refused_or_typed(header in "\\PC{0,40}", payload in "\\PC{0,60}") {
        prop_assert!(check(&TABLE, &ES256.token(header, payload), NOW).is_err());
    }
}
