//! Any header and payload, well signed by the issuer's own key: what its jobs' authors and a careless issuer could say.
//! What is accepted satisfies the rules as another reader states them.

use crate::{Outcome, Target};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimbound_core::{
    time::{LEEWAY_SECONDS, SINGLE_USE_MARGIN_SECONDS, UnixSeconds},
    trust::{Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, SingleUse, UnverifiedToken, parse_jwks, verify},
    workload::SingleUseRule,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) const TARGET: Target = Target {
    name: "signed",
    run: signed,
    seeds,
    dictionary: &[
        "\"iss\":",
        "\"aud\":",
        "\"sub\":",
        "\"exp\":",
        "\"iat\":",
        "\"nbf\":",
        "\"jti\":",
        "\"alg\":",
        "\"kid\":",
        "\"typ\":",
        "\"crit\":[\"exp\"],",
        "\"jku\":\"https://evil.example\",",
        "\"b64\":false,",
        "\"zip\":\"DEF\",",
        "\"cty\":\"JWT\",",
        "none",
        "RS256",
        "ES256",
        "HS256",
        "EdDSA",
        "ed-1",
        "JWT",
        "at+jwt",
        "null",
        "true",
        "[]",
        "{}",
        "[\"https://broker.acme.example\"]",
        "https://ci.acme.example",
        "1790000000",
        "1790000300",
        "1789999940",
        "1790000060",
        "253402300799",
        "\\u0061",
        "\\ud800",
        "\\u0000",
        "1.0",
        "1e9",
        SEPARATOR,
    ],
    input_bytes_max: 8 * 1024,
    runs: 15_000,
};

pub(super) const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
pub(super) const KID: &str = "ed-1";
const ISSUER: &str = "https://ci.acme.example";
const AUDIENCE: &str = "https://broker.acme.example";
const LIFETIME_SECONDS_MAX: i64 = 3600;

/// Between header and payload; an input without it is a payload under the usual header.
const SEPARATOR: &str = "\n--\n";

/// A fixed key, so that one seed means one run. It protects nothing.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));

static TABLE: LazyLock<IssuerTable> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(KEY.public_key().as_ref());
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": KID, "alg": "EdDSA", "x": x }] });
    let keys = parse_jwks(jwks.to_string().as_bytes(), &[Algorithm::EdDsa]).expect("a key set").keys;
    assert!(keys.contains_key(KID));
    let rules = IssuerRules {
        audience: AUDIENCE.into(),
        max_lifetime_seconds: LIFETIME_SECONDS_MAX,
        single_use: SingleUseRule::Jti,
        actor_single_use: SingleUseRule::Jti,
        requires_nbf: false,
        required: vec!["repository".into()],
    };
    let mut table = IssuerTable::default();
    let keys_valid_until = NOW.plus(3600);
    table.insert(IssuerSnapshot {
        name: "ci".into(),
        url: ISSUER.into(),
        rules,
        keys,
        keys_valid_until,
        cut: Cut::default(),
    });
    table
});

pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/api", "jti": "j-1", "iat": NOW.0, "nbf": NOW.0 - 10,
        "exp": NOW.0 + 300, "repository": "acme/api",
    })
}

/// The token of this header and payload.
pub(super) fn sign(header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// What the token says, or the name of the reason that it is refused with.
pub(super) fn verdict(token: &str, now: UnixSeconds) -> Result<(Value, SingleUse), String> {
    let mut buffer = Vec::new();
    let token = UnverifiedToken::parse(token, &mut buffer).map_err(|error| format!("unread: {}", error.reason()))?;
    let verified = verify(&token, &TABLE, now).map_err(|error| error.reason().to_string())?;
    Ok((verified.claims().to_json(), verified.single_use().expect("this issuer's tokens have a `jti`")))
}

fn seeds() -> Vec<Vec<u8>> {
    let text = |header: Value, payload: Value| format!("{header}{SEPARATOR}{payload}").into_bytes();
    let header = json!({ "alg": "EdDSA", "kid": KID, "typ": "JWT" });
    let mut listed = claims();
    listed["aud"] = json!([AUDIENCE]);
    let mut nested = claims();
    nested["groups"] = json!([{ "a": [1, 2.5, null, true] }, "x"]);
    vec![
        claims().to_string().into_bytes(),
        text(header.clone(), claims()),
        text(json!({ "alg": "EdDSA", "kid": KID, "x5t": "AA" }), listed),
        text(header, nested),
    ]
}

fn signed(bytes: &[u8]) -> Outcome {
    let usual = format!(r#"{{"alg":"EdDSA","kid":"{KID}","typ":"JWT"}}"#);
    let at = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR.as_bytes());
    let (header, payload) = match at {
        Some(at) => (&bytes[..at], &bytes[at + SEPARATOR.len()..]),
        None => (usual.as_bytes(), bytes),
    };
    let token = sign(header, payload);
    let (body, _) = token.rsplit_once('.').expect("a signature was put there");
    assert!(verdict(&format!("{body}."), NOW).is_err(), "accepted without signature");
    assert!(verdict(&format!("{body}.{}", URL_SAFE_NO_PAD.encode([0; 64])), NOW).is_err(), "accepted unsigned");
    match verdict(&token, NOW) {
        Err(reason) => reason,
        Ok((claims, single_use)) => {
            accepted(header, payload, &claims, &single_use);
            let late = NOW.plus(LIFETIME_SECONDS_MAX + 2 * LEEWAY_SECONDS);
            assert!(verdict(&token, late).is_err(), "outlives the longest lifetime");
            format!("verified {}", claims.as_object().map_or(0, |claims| claims.len().min(12)))
        }
    }
}

/// The rules once more, over another reader's values.
fn accepted(header: &[u8], payload: &[u8], claims: &Value, single_use: &SingleUse) {
    let [header, payload] = [header, payload].map(|part| serde_json::from_slice::<Value>(part).expect("JSON"));
    assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("EdDSA"), Some(KID)));
    assert!(["crit", "jku", "x5u", "jwk", "x5c", "b64", "zip", "enc", "cty"].iter().all(|n| header.get(n).is_none()));
    let seconds = |name: &str| payload[name].as_i64().unwrap_or_else(|| panic!("`{name}` is no integer"));
    let (iat, exp) = (seconds("iat"), seconds("exp"));
    assert!(iat <= NOW.0 + LEEWAY_SECONDS && exp > NOW.0 - LEEWAY_SECONDS && iat < exp);
    assert!(exp - iat <= LIFETIME_SECONDS_MAX);
    assert!(payload.get("nbf").is_none() || seconds("nbf") <= NOW.0 + LEEWAY_SECONDS);
    assert_eq!(payload["iss"], ISSUER);
    assert!(payload["aud"] == AUDIENCE || payload["aud"] == json!([AUDIENCE]), "{}", payload["aud"]);
    assert!(["sub", "jti"].iter().all(|name| payload[name].as_str().is_some_and(|text| !text.is_empty())));
    assert!(payload.get("repository").is_some());
    for name in ["iss", "aud", "sub", "jti", "iat", "exp", "nbf", "repository"] {
        assert!(claims.get(name) == payload.get(name) || payload[name].is_f64() || payload[name].is_u64(), "`{name}`");
    }
    assert_eq!(single_use.keep_until(), UnixSeconds(exp + SINGLE_USE_MARGIN_SECONDS));
    // One identity, one key: another token of this `jti` is the same token to the store.
    let mut other = self::claims();
    other["jti"] = payload["jti"].clone();
    let other = sign(header.to_string().as_bytes(), other.to_string().as_bytes());
    let (_, twin) = verdict(&other, NOW).expect("only the `jti` differs");
    assert_eq!(twin.key(), single_use.key(), "one `jti`, two single-use keys");
}
