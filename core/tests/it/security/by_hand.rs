//! What recipes cannot say: several tokens together, other issuers, other clocks.

use super::bench::Bench;
use crate::minting::*;
use claimbound_attacks::{Keys, Recipe};
use claimbound_core::{
    reason::Reason,
    trust::{Algorithm, IssuerTable, TrustError},
    workload::SingleUseRule,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// n - s of P-256, big-endian: the other signature that holds for the same text.
fn twin(signature: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut twin = signature.to_vec();
    let mut borrow = 0_i16;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        twin[32 + at] = difference.rem_euclid(256).to_le_bytes()[0];
    }
    twin
}

#[test]
fn security_019_the_single_use_key_is_not_of_the_token_s_text() {
    for rule in [SingleUseRule::Jti, SingleUseRule::SignedPart] {
        let mut rules = rules();
        rules.single_use = rule;
        let table = table_with(rules);
        let signed = format!("{}.{}", encode(ES256.header().to_string()), encode(claims().to_string()));
        let signature = ES256.sign(signed.as_bytes());
        let one = check(&table, &format!("{signed}.{}", encode(&signature)), NOW).unwrap();
        let two = check(&table, &format!("{signed}.{}", encode(twin(&signature))), NOW).unwrap();
        assert_eq!(one, two, "{rule:?}: a signature's twin spends the same");
    }
}

#[test]
fn security_023_keys_belong_to_one_issuer() {
    let other = Key::new("rsa-1", Algorithm::Rs256);
    let mut table = table_with(rules());
    table.insert(snapshot("https://gitlab.com", keys(&[other.jwk()]), rules()));
    assert_eq!(check(&table, &other.says(&claims()), NOW), Err(TrustError::Refused(Reason::BadSignature)));
    let theirs = claims_with("iss", Some("https://gitlab.com".into()));
    assert!(check(&table, &other.says(&theirs), NOW).is_ok());
    assert_eq!(check(&table, &RS256.says(&theirs), NOW), Err(TrustError::Refused(Reason::BadSignature)));
}

#[test]
fn security_024_two_tokens_that_differ_in_one_claim() {
    let one = ES256.says(&claims_with("sub", Some("one".into())));
    let two = ES256.says(&claims_with("sub", Some("two".into())));
    let mixed = format!("{}.{}.{}", part(&one, 0), part(&two, 1), part(&one, 2));
    for _ in 0..200 {
        assert_eq!(check(&TABLE, &one, NOW).unwrap().subject, "one");
        assert_eq!(check(&TABLE, &two, NOW).unwrap().subject, "two");
        assert_eq!(check(&TABLE, &mixed, NOW), Err(TrustError::Refused(Reason::BadSignature)));
    }
}

#[test]
fn security_029_every_path_is_its_own_issuer() {
    let urls = [
        ISSUER,
        "https://token.actions.githubusercontent.com/acme",
        "https://token.actions.octo.ghe.com",
        "https://token.actions.octo.ghe.com/octo",
        "https://ghes.acme.example/_services/token",
        "https://gitlab.acme.example",
    ];
    for configured in urls {
        let mut table = IssuerTable::default();
        table.insert(snapshot(configured, keys(&[ES256.jwk()]), rules()));
        for iss in urls {
            let got = check(&table, &ES256.says(&claims_with("iss", Some(iss.into()))), NOW).map(drop);
            let expected = if iss == configured { Ok(()) } else { Err(TrustError::Refused(Reason::IssuerUnknown)) };
            assert_eq!(got, expected, "{iss} at {configured}");
        }
    }
}

#[test]
fn security_037_nbf_may_be_demanded() {
    let mut rules = rules();
    rules.requires_nbf = true;
    let table = table_with(rules);
    let without = ES256.says(&claims_with("nbf", None));
    assert_eq!(check(&table, &without, NOW), Err(TrustError::Refused(Reason::ClaimMissing)));
    assert!(check(&table, &ES256.says(&claims()), NOW).is_ok());
}

#[test]
fn security_039_one_key_per_issuer_and_token() {
    let key = |table: &IssuerTable, claims: &Value| check(table, &ES256.says(claims), NOW).unwrap().single_use.unwrap();
    let first = key(&TABLE, &claims());
    assert_eq!(first, key(&TABLE, &claims()), "signed anew, spent once");
    assert_eq!(first.key(), key(&TABLE, &claims_with("sub", Some("other".into()))).key());
    assert_ne!(first.key(), key(&TABLE, &claims_with("jti", Some("j-2".into()))).key());
    let mut table = IssuerTable::default();
    table.insert(snapshot("https://gitlab.com", keys(&[ES256.jwk()]), rules()));
    assert_ne!(first.key(), key(&table, &claims_with("iss", Some("https://gitlab.com".into()))).key());

    // Lengths are hashed too: what ends one part cannot begin the next.
    let spent = |iss: &str, jti: &str| {
        let mut table = IssuerTable::default();
        table.insert(snapshot(iss, keys(&[ES256.jwk()]), rules()));
        let mut claims = claims_with("iss", Some(iss.into()));
        claims["jti"] = jti.into();
        *key(&table, &claims).key()
    };
    assert_ne!(spent("https://a.example/x", "jtiy"), spent("https://a.example/xjti", "y"));

    let mut by_part = rules();
    by_part.single_use = SingleUseRule::SignedPart;
    let by_part = table_with(by_part);
    let no_jti = claims_with("jti", None);
    assert_eq!(key(&by_part, &no_jti), key(&by_part, &no_jti));
    assert_ne!(key(&by_part, &claims()).key(), first.key(), "the kind is part of the key");
    assert_ne!(key(&by_part, &claims()).key(), key(&by_part, &no_jti).key());

    let mut reusable = rules();
    reusable.single_use = SingleUseRule::Reusable;
    assert_eq!(check(&table_with(reusable), &ES256.says(&no_jti), NOW).unwrap().single_use, None);
}

/// Cells of one installation sign with one key: name and audience alone keep their tokens apart.
#[test]
fn security_088_one_key_of_two_instances() {
    let mut table = IssuerTable::default();
    let mut other = rules();
    other.audience = "https://other-broker.example".to_owned();
    table.insert(snapshot("https://gitlab.acme.example", keys(&[RS256.jwk()]), rules()));
    table.insert(snapshot("https://gitlab.other.example", keys(&[RS256.jwk()]), other));
    let of = |iss: &str, audience: &str| {
        let mut claims = claims_with("iss", Some(iss.into()));
        claims["aud"] = audience.into();
        check(&table, &RS256.says(&claims), NOW).map(|held| held.single_use.unwrap())
    };
    let (ours, theirs) = ("https://gitlab.acme.example", "https://gitlab.other.example");
    let refused = |reason| Err(TrustError::Refused(reason));
    assert_eq!(of(ours, "https://other-broker.example").map(drop), refused(Reason::Aud));
    assert_eq!(of(theirs, AUDIENCE).map(drop), refused(Reason::Aud));
    assert_eq!(of("https://gitlab.third.example", AUDIENCE).map(drop), refused(Reason::IssuerUnknown));
    let (one, two) = (of(ours, AUDIENCE).unwrap(), of(theirs, "https://other-broker.example").unwrap());
    assert_ne!(one.key(), two.key(), "one `jti` of two issuers is spent twice");
}

fn part(token: &str, index: usize) -> &str {
    token.split('.').nth(index).unwrap()
}

/// What no key set can hold is unknown for good: no refresh would mend it, so none is asked for.
#[test]
fn security_004_what_no_set_can_hold_asks_for_no_refresh() {
    let of = |kid: Value| {
        let mut header = RS256.header();
        header["kid"] = kid;
        check(&TABLE, &RS256.token(header.to_string(), claims().to_string()), NOW)
    };
    assert_eq!(of("../../dev/null".into()), Err(TrustError::KeyUnknown { issuer: "github".into() }));
    for kid in [json!(""), json!("rsa-1\u{0}"), json!("x".repeat(257)), json!(1), json!(["rsa-1"]), Value::Null] {
        assert_eq!(of(kid.clone()), Err(TrustError::Refused(Reason::KidUnknown)), "{kid}");
    }
}

/// An absurd clock refuses and overflows nothing.
#[test]
fn security_038_absurd_clocks() {
    let token = ES256.says(&claims());
    for now in [i64::MIN, -1, 0, i64::MAX] {
        assert!(check(&TABLE, &token, now).is_err(), "{now}");
    }
}

/// The leeway is one: for every clock, a token holds exactly while it is within it, and never holds again.
#[test]
fn security_038_a_token_holds_in_one_stretch_of_time() {
    let token = ES256.says(&claims());
    let holds: Vec<i64> = (NOW - 400..NOW + 800).filter(|now| check(&TABLE, &token, *now).is_ok()).collect();
    assert_eq!((holds[0], holds.len()), (NOW - 60, 420), "from `iat` less 60 seconds to `exp` and 60 seconds");
    assert!(holds.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

/// As one half of a renewal a token is believed past its expiry, as long as its issuer's keys are, and in nothing else.
#[test]
fn a_token_that_comes_again_is_held_to_all_but_its_expiry() {
    let token = ES256.says(&claims());
    let once = check(&TABLE, &token, NOW).unwrap();
    for now in [NOW, NOW + 361, NOW + 3_600] {
        assert_eq!(check_again(&TABLE, &token, now).as_ref(), Ok(&once), "the same token, by its single-use key");
    }
    assert!(matches!(check_again(&TABLE, &token, NOW + 3_601), Err(TrustError::KeysTooOld { .. })));
    assert_eq!(check_again(&TABLE, &token, NOW - 61), Err(TrustError::Refused(Reason::Iat)));
    for (name, value, reason) in [
        ("exp", None, Reason::Exp),
        ("exp", Some(json!(NOW + 3_601)), Reason::Lifetime),
        ("iat", None, Reason::Iat),
        ("nbf", Some(json!(NOW + 1_000)), Reason::Nbf),
        ("aud", Some(json!("https://other.example")), Reason::Aud),
        ("jti", None, Reason::Jti),
        ("repository", None, Reason::ClaimMissing),
    ] {
        let token = ES256.says(&claims_with(name, value));
        for verdict in [check(&TABLE, &token, NOW + 60), check_again(&TABLE, &token, NOW + 60)] {
            assert_eq!(verdict.err(), Some(TrustError::Refused(reason)), "{name}");
        }
    }
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    assert_eq!(check_again(&TABLE, &forged, NOW + 600), Err(TrustError::Refused(Reason::BadSignature)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn security_044_a_thousand_foreign_tenants(
        owner in "[a-z]{1,12}", name in "[a-z]{1,12}", owner_id in 66_u64.., repository_id in prop_oneof![Just(740_000_001), any::<u64>()],
    ) {
        thread_local!(static BENCH: Bench = Bench::new(&[]));
        let recipe = [
            ("repository", format!("\"{owner}/{name}\"")), ("repository_owner", format!("\"{owner}\"")),
            ("repository_owner_id", format!("\"{owner_id}\"")), ("repository_id", format!("\"{repository_id}\"")),
            ("sub", format!("\"repo:{owner}/{name}:environment:production\"")),
            ("workflow_ref", format!("\"{owner}/{name}/.github/workflows/deploy.yml@refs/heads/main\"")),
        ];
        let recipe = Recipe { claim: recipe.map(|(name, json)| (name.to_owned(), vec![json])).into(), ..Recipe::default() };
        let got = BENCH.with(|bench| {
            let token = bench.world.variants(claimbound_attacks::GITHUB, &recipe).remove(0).token;
            bench.judge(&token, claimbound_attacks::ROLE, Keys::Own)
        });
        prop_assert_eq!(got, Err("stranger".to_owned()));
    }
}
