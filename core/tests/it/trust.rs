//! What holds of every token, good or damaged. Attacks one by one stand in the table (`security`).

use crate::minting::*;
use claimbound_core::{
    reason::Reason,
    time::{SINGLE_USE_MARGIN_SECONDS, UnixSeconds},
    trust::{Algorithm, Cut, IssuerTable, TrustError},
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
fn security_094_keys_that_are_too_old_are_no_keys() {
    let mut table = IssuerTable::default();
    let mut old = snapshot(ISSUER, keys(&[RS256.jwk()]), rules());
    old.keys_valid_until = UnixSeconds(NOW - 1);
    table.insert(old);
    let token = RS256.says(&claims());
    // Nor do they tell that a `kid` is unknown: the issuer may publish it by now.
    let unknown = Key::new("rsa-2", Algorithm::Rs256).says(&claims());
    for token in [&token, &unknown] {
        let got = check(&table, token, NOW).unwrap_err();
        assert_eq!(got, TrustError::KeysTooOld { issuer: "github".into() });
        assert_eq!(got.reason(), Reason::IssuerDown);
    }
    assert!(check(&table, &token, NOW - 1).is_ok());
}

#[test]
fn security_096_what_an_operator_cut_off_is_refused_whatever_keys_are_held() {
    let (rs256, es256) = (RS256.says(&claims()), ES256.says(&claims()));
    let nobody = Key::new("nobody", Algorithm::Rs256).says(&claims());
    for valid_until in [NOW + 3600, i64::MIN] {
        let with = |cut: Cut| {
            let mut table = IssuerTable::default();
            let mut issuer = snapshot(ISSUER, keys(&[RS256.jwk(), ES256.jwk()]), rules());
            (issuer.keys_valid_until, issuer.cut) = (UnixSeconds(valid_until), cut);
            table.insert(issuer);
            table
        };
        let table = with(Cut { kids: ["rsa-1".to_owned()].into(), ..Cut::default() });
        assert_eq!(check(&table, &rs256, NOW), Err(TrustError::Refused(Reason::KidDenied)));
        assert_eq!(check(&table, &es256, NOW).is_ok(), valid_until > NOW, "the other key goes on");
        // Nor may a token of a disabled issuer ask for a refresh.
        let table = with(Cut { disabled: true, ..Cut::default() });
        for token in [&rs256, &es256, &nobody] {
            assert_eq!(check(&table, token, NOW), Err(TrustError::Refused(Reason::IssuerDisabled)));
        }
    }
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
