//! Which keys of an issuer's set are used, and why others are not.

use crate::minting::{ALL, ES256, Key, RS256, encode, keys};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimbound_core::trust::{Algorithm, JWKS_BYTES_MAX, JWKS_KEYS_MAX, KeySet, parse_jwks};
use serde_json::{Value, json};

fn with(mut jwk: Value, members: &[(&str, Value)]) -> Value {
    for (name, value) in members {
        jwk[*name] = value.clone();
    }
    jwk
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

fn number(jwk: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
}

fn why(set: &KeySet, kid: &str) -> String {
    set.ignored.iter().find(|(of, _)| of == kid).map(|(_, why)| why.clone()).unwrap_or_default()
}

/// 65537 to the 128th, which every ROCA test prime takes for a product of ROCA primes; 2049 bits.
fn roca_modulus() -> Vec<u8> {
    let mut modulus = vec![1_u8];
    for _ in 0..128 {
        let mut shifted = modulus.clone();
        shifted.extend([0, 0]);
        let mut carry = 0;
        for at in (0..shifted.len()).rev() {
            let addend = at.checked_sub(2).map_or(0, |at| u16::from(modulus[at]));
            let sum = u16::from(shifted[at]) + addend + carry;
            shifted[at] = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        if carry > 0 {
            shifted.insert(0, 1);
        }
        modulus = shifted;
    }
    modulus
}

#[test]
fn the_roca_modulus_of_these_tests_is_a_power_of_65537() {
    let modulus = roca_modulus();
    for prime in [7_u32, 11, 13, 1_000_003] {
        let expected = (0..128).fold(1_u64, |power, _| power * 65537 % u64::from(prime));
        let rest = modulus.iter().fold(0_u64, |rest, byte| (rest * 256 + u64::from(*byte)) % u64::from(prime));
        assert_eq!(rest, expected, "modulo {prime}");
    }
}

#[test]
fn security_020_weak_and_broken_keys() {
    let (rsa, ec) = (with(RS256.jwk(), &[("kid", "bad".into())]), with(ES256.jwk(), &[("kid", "bad".into())]));
    let n = number(&rsa, "n");
    let even: Vec<u8> = n[..n.len() - 1].iter().copied().chain([n[n.len() - 1] & 0xfe]).collect();
    let off_curve: Vec<u8> = number(&ec, "y").iter().enumerate().map(|(at, b)| b ^ u8::from(at == 31)).collect();
    let ed = with(Key::new("bad", Algorithm::EdDsa).jwk(), &[]);
    for (jwk, expected) in [
        (with(rsa.clone(), &[("n", encode(&n[..128]).into())]), "1024 bits"),
        (with(rsa.clone(), &[("n", encode([0xff; 1025]).into())]), "8200 bits"),
        (with(rsa.clone(), &[("n", encode([&[0][..], &n].concat()).into())]), "leading zeros"),
        (with(rsa.clone(), &[("n", encode(even).into())]), "`n` is even"),
        (with(rsa.clone(), &[("n", encode(roca_modulus()).into())]), "ROCA"),
        (with(rsa.clone(), &[("n", "".into())]), "`n` is empty"),
        (with(rsa.clone(), &[("n", format!("{}=", encode(&n)).into())]), "base64url"),
        (with(rsa.clone(), &[("e", "AQ".into())]), "`e`"),
        (with(rsa.clone(), &[("e", "AQAC".into())]), "`e`"),
        (with(rsa.clone(), &[("e", encode([1, 0, 0, 0, 1]).into())]), "`e`"),
        (with(rsa.clone(), &[("e", "".into())]), "`e`"),
        (with(rsa.clone(), &[("use", "enc".into())]), "`use`"),
        (with(rsa.clone(), &[("use", 1.into())]), "`use`"),
        (with(rsa.clone(), &[("key_ops", json!(["encrypt"]))]), "`key_ops`"),
        (with(rsa.clone(), &[("key_ops", "verify".into())]), "`key_ops`"),
        (with(rsa.clone(), &[("alg", "RS1".into())]), "`alg`"),
        (with(rsa.clone(), &[("alg", "none".into())]), "`alg`"),
        (with(rsa.clone(), &[("alg", "HS256".into())]), "`alg`"),
        (with(rsa.clone(), &[("alg", "ES256".into())]), "`alg` does not fit"),
        (with(rsa.clone(), &[("alg", Value::Null)]), "`alg`"),
        (with(rsa.clone(), &[("kty", "oct".into()), ("k", "AAAA".into())]), "private member `k`"),
        (with(without(rsa.clone(), "alg"), &[("kty", "rsa".into())]), "`kty`"),
        (with(ec.clone(), &[("y", encode(off_curve).into())]), "not a point"),
        (with(ec.clone(), &[("x", encode([0; 32]).into()), ("y", encode([0; 32]).into())]), "not a point"),
        (with(ec.clone(), &[("x", encode(&number(&ec, "x")[1..]).into())]), "32 bytes"),
        (with(ec.clone(), &[("crv", "P-384".into())]), "`alg` does not fit"),
        (with(ec.clone(), &[("crv", "P-384".into()), ("alg", "ES384".into())]), "48 bytes"),
        (with(ec.clone(), &[("crv", "secp256k1".into()), ("alg", "ES256K".into())]), "`alg`"),
        (without(ec.clone(), "y"), "no text `y`"),
        (with(ed.clone(), &[("x", encode([1; 31]).into())]), "32 bytes"),
        (with(ed, &[("crv", "Ed448".into())]), "`alg` does not fit"),
    ] {
        for set in [keys(&[jwk.clone(), RS256.jwk()]), keys(&[RS256.jwk(), jwk.clone()])] {
            assert_eq!(set.keys.keys().collect::<Vec<_>>(), ["rsa-1"], "{jwk}");
            assert!(why(&set, "bad").contains(expected), "{:?} should say {expected}: {jwk}", set.ignored);
        }
    }
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let set = keys(&[with(rsa.clone(), &[(name, "AAAA".into())])]);
        assert!(set.keys.is_empty() && why(&set, "bad").contains(name), "{name}");
    }
}

#[test]
fn security_023_a_kid_names_one_key_or_none() {
    let other = with(Key::new("x", Algorithm::Es256).jwk(), &[("kid", "ec-1".into())]);
    for set in [
        keys(&[ES256.jwk(), other.clone(), RS256.jwk()]),
        keys(&[other.clone(), RS256.jwk(), ES256.jwk(), other.clone()]),
        keys(&[ES256.jwk(), RS256.jwk(), with(RS256.jwk(), &[("kid", "ec-1".into())])]),
        keys(&[ES256.jwk(), ES256.jwk(), other, RS256.jwk()]),
    ] {
        assert_eq!(set.keys.keys().collect::<Vec<_>>(), ["rsa-1"]);
        assert!(why(&set, "ec-1").contains("different keys"));
    }
    // One of them is bad: it is ambiguous all the same, wherever it stands.
    let bad = with(RS256.jwk(), &[("kid", "ec-1".into()), ("n", "RSA".into())]);
    for set in [keys(&[bad.clone(), ES256.jwk(), RS256.jwk()]), keys(&[ES256.jwk(), RS256.jwk(), bad])] {
        assert_eq!(set.keys.keys().collect::<Vec<_>>(), ["rsa-1"]);
        assert!(set.ignored.iter().any(|(kid, why)| kid == "ec-1" && why.contains("different keys")));
    }
    // The same key, said to be for something else, is no other key.
    let beside = keys(&[ES256.jwk(), with(ES256.jwk(), &[("use", "enc".into())])]);
    assert!(beside.keys.contains_key("ec-1"));
    let schemes = keys(&[RS256.jwk(), with(RS256.jwk(), &[("alg", "PS256".into())])]);
    assert!(schemes.keys.is_empty(), "one number under two algorithms is two keys");
    let twice = keys(&[ES256.jwk(), without(ES256.jwk(), "alg"), with(ES256.jwk(), &[("x5t", "AA".into())])]);
    assert!(twice.keys.contains_key("ec-1") && twice.ignored.is_empty(), "one key that stands twice is one key");
    for kid in [Value::Null, "".into(), 1.into(), json!(["a"]), "x".repeat(300).into(), "a\u{0}b".into()] {
        let set = keys(&[with(ES256.jwk(), &[("kid", kid.clone())]), RS256.jwk()]);
        assert_eq!(set.keys.len(), 1, "{kid}");
        assert_eq!(set.ignored[0].0, "#0");
    }
    assert!(keys(&[without(ES256.jwk(), "kid")]).keys.is_empty());
}

#[test]
fn without_alg_the_key_type_decides_among_what_is_permitted() {
    use Algorithm::*;
    let of = |algorithm| without(Key::new("k", algorithm).jwk(), "alg");
    let read = |jwk: &Value, permitted: &[Algorithm]| {
        let set = parse_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), permitted).unwrap();
        set.keys.get("k").map(|key| key.algorithm())
    };
    let (rsa, p256, p384, p521, ed) = (of(Rs256), of(Es256), of(Es384), of(Es512), of(EdDsa));
    for (jwk, permitted, expected) in [
        (&rsa, &ALL[..], Some(Rs256)),
        (&rsa, &[Ps256, Rs256], Some(Rs256)),
        (&rsa, &[Ps512, Ps256], Some(Ps512)),
        (&rsa, &[Es256], None),
        (&p256, &ALL, Some(Es256)),
        (&p384, &ALL, Some(Es384)),
        (&p521, &ALL, Some(Es512)),
        (&p384, &[Es256], None),
        (&ed, &ALL, Some(EdDsa)),
        (&ed, &[Rs256], None),
        (&rsa, &[], None),
    ] {
        assert_eq!(read(jwk, permitted), expected, "{jwk} {permitted:?}");
    }
    let stated = Key::new("k", Ps256).jwk();
    assert_eq!(read(&stated, &[Rs256]), None, "an `alg` that is not permitted makes the key unusable");
    assert_eq!(read(&stated, &[Rs256, Ps256]), Some(Ps256));
}

#[test]
fn a_key_tells_its_strength_and_whether_it_is_another() {
    let strength =
        |jwk: &Value| keys(std::slice::from_ref(jwk)).keys.into_values().next().unwrap().strength().to_string();
    assert_eq!(strength(&RS256.jwk()), "2048 bits");
    assert_eq!(strength(&ES256.jwk()), "P-256");
    assert_eq!(strength(&Key::new("k", Algorithm::EdDsa).jwk()), "Ed25519");
    let (one, two) = (keys(&[ES256.jwk()]), keys(&[ES256.jwk(), Key::new("x", Algorithm::Es256).jwk()]));
    assert!(one.keys["ec-1"].same_as(&two.keys["ec-1"]));
    assert!(!one.keys["ec-1"].same_as(&two.keys["x"]));
}

#[test]
fn what_is_no_key_set_is_said_to_be_none() {
    let many = |count: usize| json!({ "keys": vec![json!({}); count] }).to_string();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        "<html>",
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kid":"a","kid":"b"}]}"#,
        &many(JWKS_KEYS_MAX + 1),
        &" ".repeat(JWKS_BYTES_MAX + 1),
    ] {
        assert!(parse_jwks(text.as_bytes(), &ALL).is_err(), "{}", &text[..text.len().min(80)]);
    }
    let empty = parse_jwks(br#"{"keys":[]}"#, &ALL).unwrap();
    assert!(empty.keys.is_empty() && empty.ignored.is_empty());
    assert_eq!(parse_jwks(many(JWKS_KEYS_MAX).as_bytes(), &ALL).unwrap().ignored.len(), JWKS_KEYS_MAX);
    assert_eq!(parse_jwks(br#"{"keys":[7,null,"x",[]]}"#, &ALL).unwrap().ignored.len(), 4);
}

#[test]
fn algorithms_have_one_exact_name() {
    assert_eq!(Algorithm::ALL, ALL);
    for algorithm in ALL {
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), None);
    }
    for name in ["none", "HS256", "HS384", "HS512", "ES256K", "RS1", "Ed448", "", " RS256", "RS256 "] {
        assert_eq!(Algorithm::from_name(name), None, "{name}");
    }
}
