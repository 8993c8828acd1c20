//! Any bytes as an issuer's metadata: keys are looked for where the document says, and only at the issuer's own origin.

use super::jwks_uri;
use claimbound_fuzz::{Outcome, Target, round};
use serde_json::{Value, json};
use url::Url;

const ISSUER: &str = "https://ci.acme.example";

const TARGET: Target = Target {
    name: "discovery",
    run: discovery,
    seeds: || {
        let uris = ["https://ci.acme.example/keys", "https://ci.acme.example:443/k?x=1#y", "https://evil.example/keys"];
        let document = |uri: &str| json!({ "issuer": ISSUER, "jwks_uri": uri, "id_token_signing_alg_values_supported": ["RS256"] });
        uris.iter().map(|uri| document(uri).to_string().into_bytes()).collect()
    },
    dictionary: &[
        "\"issuer\":\"https://ci.acme.example\",",
        "\"jwks_uri\":\"https://ci.acme.example/k\",",
        "https://",
        "http://",
        "file:///",
        "data:,",
        "//",
        "@",
        "user:pass@",
        ":443",
        ":8443",
        ".",
        "..",
        "%2f",
        "%00",
        "\\\\",
        "\\u002f",
        "\t",
        "ci.acme.example",
        "CI.ACME.EXAMPLE",
        "evil.example",
        "[::1]",
        "127.0.0.1",
        "xn--",
        "\u{ff0e}",
        "null",
        "{}",
        "[]",
    ],
    input_bytes_max: 4 * 1024,
    runs: 10_000,
};

#[test]
fn fuzz_discovery() {
    round(&TARGET);
}

#[test]
fn what_decides_about_keys_is_read_strictly() {
    let members = br#""issuer":"https://ci.acme.example","jwks_uri":"https://ci.acme.example/k""#;
    let document = |more: &[u8]| [b"{", &members[..], more, b"}"].concat();
    assert!(jwks_uri(&document(br#","a":"b""#), ISSUER, None).is_ok());
    for more in [
        &b",\"a\":\"\xa9\""[..],
        br#","a":1,"a":1"#,
        br#","jwks_uri":"https://ci.acme.example/k""#,
        br#","a":"\ud800""#,
    ] {
        let why = jwks_uri(&document(more), ISSUER, None).expect_err("it is not strict JSON");
        assert!(why.starts_with("not an issuer's metadata: "), "{why}");
    }
}

fn discovery(bytes: &[u8]) -> Outcome {
    match jwks_uri(bytes, ISSUER, None) {
        Err(why) => {
            assert!(!why.chars().any(char::is_control), "{why:?}");
            why.split(['`', '"']).next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
        }
        Ok(uri) => {
            let document: Value = serde_json::from_slice(bytes).expect("metadata is JSON");
            assert_eq!((&document["issuer"], &document["jwks_uri"]), (&json!(ISSUER), &json!(uri)));
            let parsed = Url::parse(&uri).expect("a URL");
            assert_eq!((parsed.scheme(), parsed.host_str(), parsed.port()), ("https", Some("ci.acme.example"), None));
            format!("keys, path {}, query {}", parsed.path().len().min(8), parsed.query().is_some())
        }
    }
}
