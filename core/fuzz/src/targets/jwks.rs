//! Any bytes as a key set. What comes out is what the document states, permitted, public, under one name each; and a
//! key, whatever it is, verifies nothing that nobody signed.

use crate::{Outcome, Target};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimbound_core::{
    time::UnixSeconds,
    trust::{
        Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, JWKS_KEYS_MAX, KID_BYTES_MAX, KeySet,
        UnverifiedToken, parse_jwks, verify,
    },
    workload::SingleUseRule,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TARGET: Target = Target {
    name: "jwks",
    run: jwks,
    seeds,
    dictionary: &[
        "\"kty\":\"RSA\",",
        "\"kty\":\"EC\",",
        "\"kty\":\"OKP\",",
        "\"kty\":\"oct\",",
        "\"crv\":\"P-256\",",
        "\"crv\":\"P-384\",",
        "\"crv\":\"Ed25519\",",
        "\"alg\":\"RS256\",",
        "\"alg\":\"PS512\",",
        "\"alg\":\"ES256\",",
        "\"alg\":\"none\",",
        "\"use\":\"sig\",",
        "\"use\":\"enc\",",
        "\"key_ops\":[\"verify\"],",
        "\"key_ops\":[],",
        "\"d\":\"AA\",",
        "\"k\":\"AA\",",
        "\"kid\":\"a\",",
        "\"kid\":\"b\",",
        "\"kid\":\"\",",
        "\"e\":\"AQAB\",",
        "\"e\":\"AQ\",",
        "\"e\":\"Aw\",",
        "\"n\":\"\",",
        "\"keys\":[",
        "{",
        "},{",
        "}",
        "]}",
        "AAAA",
        "____",
        "=",
    ],
    input_bytes_max: 16 * 1024,
    runs: 4_000,
};

const ALL: [Algorithm; 10] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];
/// Members of private and symmetric keys.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
const ISSUER: &str = "https://ci.acme.example";
const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

/// The generator of P-256 (SEC 2 section 2.4.2): a point of the curve that everybody knows.
const P256_X: &str = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY";
const P256_Y: &str = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";

fn seeds() -> Vec<Vec<u8>> {
    // Odd, of 2048 bits and of no known shape; whether it is a product of two primes does not matter here.
    let number: Vec<u8> = (0..256_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x81).collect();
    let rsa = json!({ "kty": "RSA", "kid": "a", "use": "sig", "n": URL_SAFE_NO_PAD.encode(&number), "e": "AQAB" });
    let ec = json!({ "kty": "EC", "kid": "b", "alg": "ES256", "crv": "P-256", "x": P256_X, "y": P256_Y });
    let ed = json!({ "kty": "OKP", "kid": "c", "crv": "Ed25519", "key_ops": ["verify"],
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let mut other = rsa.clone();
    other["alg"] = "PS384".into();
    let sets = [json!([rsa, ec, ed]), json!([ec, ed, rsa, ec]), json!([rsa, other]), json!([ed]), json!([])];
    sets.into_iter().map(|keys| json!({ "keys": keys }).to_string().into_bytes()).collect()
}

fn jwks(bytes: &[u8]) -> Outcome {
    let set = match (parse_jwks(bytes, &ALL), parse_jwks(bytes, &ALL)) {
        (Ok(set), Ok(again)) => {
            assert_eq!(algorithms(&set), algorithms(&again), "one document, two key sets");
            assert_eq!(set.ignored, again.ignored);
            set
        }
        (Err(error), Err(_)) => return error.0.chars().filter(|c| !c.is_ascii_digit()).collect(),
        _ => panic!("one document, two verdicts"),
    };
    let document: Value = serde_json::from_slice(bytes).expect("a key set is JSON");
    let entries = document["keys"].as_array().expect("a list");
    assert!(entries.len() <= JWKS_KEYS_MAX);
    let named = |kid: &str| entries.iter().filter(|entry| entry["kid"] == kid).collect::<Vec<_>>();
    for (kid, key) in &set.keys {
        assert!(!kid.is_empty() && kid.len() <= KID_BYTES_MAX && !kid.chars().any(char::is_control));
        let entry = named(kid).into_iter().find(|entry| fits(entry, key.algorithm()));
        assert!(entry.is_some(), "`{kid}` is {} and the document has no such key", key.algorithm().name());
        unsigned_is_refused(kid, &set);
    }
    // Fewer permissions never give more keys, nor other ones where the document states the algorithm.
    let few = parse_jwks(bytes, &[Algorithm::Es256, Algorithm::EdDsa]).expect("permission is of keys");
    assert!(few.keys.values().all(|key| [Algorithm::Es256, Algorithm::EdDsa].contains(&key.algorithm())));
    assert!(parse_jwks(bytes, &[]).expect("permission is of keys").keys.is_empty());
    assert!(set.ignored.iter().all(|(whose, why)| !whose.is_empty() && !why.is_empty()));
    let why: BTreeSet<String> =
        set.ignored.iter().map(|(_, why)| why.chars().filter(|c| !c.is_ascii_digit()).collect()).collect();
    format!("{:?} {why:?}", algorithms(&set).values().collect::<BTreeSet<_>>())
}

fn algorithms(set: &KeySet) -> BTreeMap<&str, &'static str> {
    set.keys.iter().map(|(kid, key)| (kid.as_str(), key.algorithm().name())).collect()
}

/// Whether an entry is a public signing key for the algorithm, by the letter of RFC 7517 and RFC 7518.
fn fits(entry: &Value, algorithm: Algorithm) -> bool {
    let name = algorithm.name();
    let (kty, crv) = match name {
        "EdDSA" => ("OKP", Some("Ed25519")),
        "ES256" => ("EC", Some("P-256")),
        "ES384" => ("EC", Some("P-384")),
        "ES512" => ("EC", Some("P-521")),
        _ => ("RSA", None),
    };
    let bits = |name: &str| {
        let bytes = entry[name].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
        bytes.len() * 8 - bytes.first().map_or(0, |first| first.leading_zeros() as usize)
    };
    entry["kty"] == kty
        && crv.is_none_or(|crv| entry["crv"] == crv)
        && entry.get("alg").is_none_or(|alg| alg == name)
        && entry.get("use").is_none_or(|usage| usage == "sig")
        && PRIVATE.iter().all(|member| entry.get(member).is_none())
        && (kty != "RSA" || ((2048..=8192).contains(&bits("n")) && (2..=32).contains(&bits("e"))))
}

/// Signatures that need no private key: zeros, ones, the message itself.
fn unsigned_is_refused(kid: &str, set: &KeySet) {
    let algorithm = set.keys[kid].algorithm();
    let rules = IssuerRules {
        audience: "a".into(),
        max_lifetime_seconds: 3600,
        single_use: SingleUseRule::Reusable,
        actor_single_use: SingleUseRule::Reusable,
        requires_nbf: false,
        required: Vec::new(),
    };
    let mut table = IssuerTable::default();
    let snapshot = IssuerSnapshot {
        name: "ci".into(),
        url: ISSUER.into(),
        rules,
        keys: set.keys.clone(),
        keys_valid_until: NOW,
        cut: Cut::default(),
    };
    table.insert(snapshot);
    let header = json!({ "alg": algorithm.name(), "kid": kid }).to_string();
    let payload = json!({ "iss": ISSUER, "aud": "a", "sub": "s", "iat": NOW.0, "exp": NOW.0 + 60 }).to_string();
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let length = match algorithm.name() {
        "ES256" | "EdDSA" => 64,
        "ES384" => 96,
        "ES512" => 132,
        _ => 256,
    };
    let mut one = vec![0; length];
    one[length - 1] = 1;
    for signature in [vec![0; length], vec![0xff; length], one, vec![0]] {
        let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature));
        let mut buffer = Vec::new();
        let token = UnverifiedToken::parse(&token, &mut buffer).expect("a token by its form");
        assert!(verify(&token, &table, NOW).is_err(), "`{kid}` verifies what nobody signed");
    }
}
