//! Any text as a token. What verifies is, byte for byte, a token that was signed: with a strict reader there is no
//! second spelling of one.

use crate::{
    Outcome, Target,
    targets::signed::{KID, NOW, claims, sign, verdict},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimbound_core::trust::UnverifiedToken;
use serde_json::Value;
use std::sync::LazyLock;

pub(super) const TARGET: Target = Target {
    name: "token",
    run: token,
    seeds: || SIGNED.iter().map(|token| token.clone().into_bytes()).collect(),
    dictionary: &[
        ".",
        "..",
        "=",
        "eyJ",
        "eyJhbGciOiJub25lIn0",
        "e30",
        "bnVsbA",
        "W10",
        "-",
        "_",
        "+",
        "/",
        "\n",
        "AAAA",
    ],
    input_bytes_max: 20 * 1024,
    runs: 30_000,
};

/// Every token that was ever signed with the key of this target.
static SIGNED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let header = |more: &str| format!(r#"{{"alg":"EdDSA","kid":"{KID}"{more}}}"#);
    let mut short = claims();
    short["jti"] = "j".into();
    vec![
        sign(header(r#","typ":"JWT""#).as_bytes(), claims().to_string().as_bytes()),
        sign(header("").as_bytes(), short.to_string().as_bytes()),
    ]
});

/// Header members that a token may never have and still be read on.
const FORBIDDEN: [&str; 9] = ["jku", "x5u", "jwk", "x5c", "b64", "zip", "enc", "crit", "cty"];

fn token(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not text".to_owned() };
    let verdict = verdict(text, NOW);
    assert_eq!(verdict, self::verdict(text, NOW), "one token, two verdicts");
    assert!(verdict.is_err() || SIGNED.iter().any(|token| token == text), "nobody signed this text");
    let mut buffer = vec![0xAA; 64];
    if let Ok(token) = UnverifiedToken::parse(text, &mut buffer) {
        parsed(text, token.issuer());
    }
    verdict.map_or_else(|error| error, |_| "verified".to_owned())
}

/// What holds for a token that parsed, by another reader.
fn parsed(text: &str, issuer: &str) {
    let segments: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = segments[..] else { panic!("{} segments", segments.len()) };
    let decoded = [header, payload, signature].map(|segment| {
        let bytes = URL_SAFE_NO_PAD.decode(segment).expect("strict base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), segment, "one spelling of the same bytes");
        bytes
    });
    assert!(!decoded[2].is_empty(), "a token without signature was read");
    let [header, payload] = [&decoded[0], &decoded[1]].map(|part| serde_json::from_slice::<Value>(part).expect("JSON"));
    assert_eq!(payload["iss"].as_str(), Some(issuer));
    assert!(FORBIDDEN.iter().all(|name| header.get(name).is_none()), "a header that steers");
    assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()), "no `kid`");
    let algorithm = header["alg"].as_str().expect("`alg` is text");
    assert!(!algorithm.eq_ignore_ascii_case("none") && !algorithm.starts_with("HS"), "`{algorithm}`");
    assert!(header.get("typ").is_none_or(|typ| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("jwt"))));
}
