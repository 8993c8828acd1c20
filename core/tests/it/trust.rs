//! Attacks on tokens (format, signature, issuer, audience, time, identity) and the reason that each is refused with.
//! Numbers are those of the security catalogue, groups 1A and 1B.

use crate::minting::*;
use aws_lc_rs::signature as sig;
use claimbound_core::{
    reason::Reason,
    time::{LEEWAY_SECONDS, SINGLE_USE_MARGIN_SECONDS, UnixSeconds},
    trust::{Algorithm, Cut, IssuerTable, TOKEN_BYTES_MAX, TrustError, UnverifiedToken},
    workload::SingleUseRule,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn refused(token: &str, reason: Reason) {
    let got = check(&TABLE, token, NOW).map_err(|error| error.reason());
    assert_eq!(got, Err(reason), "{}", &token[..token.len().min(200)]);
}

#[track_caller]
fn refused_claim(name: &str, value: Option<Value>, reason: Reason) {
    let got = check(&TABLE, &RS256.says(&claims_with(name, value.clone())), NOW).map_err(|error| error.reason());
    assert_eq!(got, Err(reason), "{name}: {value:?}");
}

fn header_with(members: Value) -> String {
    let mut header = RS256.header();
    header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    header.to_string()
}

/// A token of ours whose header says more (or else) than usual; the signature is good.
fn with_header(members: Value) -> String {
    RS256.token(header_with(members), claims().to_string())
}

fn part(token: &str, index: usize) -> &str {
    token.split('.').nth(index).unwrap()
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
fn security_001_alg_none() {
    let good = RS256.says(&claims());
    let payload = part(&good, 1);
    let absent = {
        let mut header = RS256.header();
        header.as_object_mut().unwrap().remove("alg");
        header
    };
    let mut headers = vec![absent];
    for alg in [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!("nOnE"),
        json!(" none"),
        json!("none\u{0}"),
        json!(""),
        Value::Null,
        json!(0),
        json!(["RS256"]),
        json!({ "alg": "RS256" }),
        json!(true),
    ] {
        headers.push(json!({ "typ": "JWT", "alg": alg, "kid": "rsa-1" }));
        headers.push(json!({ "typ": "JWT", "alg": alg }));
    }
    for header in headers {
        for signature in ["", "AAAA", "!", part(&good, 2)] {
            refused(&format!("{}.{payload}.{signature}", encode(header.to_string())), Reason::AlgNotAllowed);
        }
    }
}

#[test]
fn security_002_hmac_with_the_public_key() {
    let jwk = RS256.jwk();
    for (name, hash) in [
        ("HS256", aws_lc_rs::hmac::HMAC_SHA256),
        ("HS384", aws_lc_rs::hmac::HMAC_SHA384),
        ("HS512", aws_lc_rs::hmac::HMAC_SHA512),
    ] {
        for secret in [jwk.to_string(), jwk["n"].to_string(), "-----BEGIN PUBLIC KEY-----\n".into(), String::new()] {
            let signed = format!("{}.{}", encode(header_with(json!({ "alg": name }))), encode(claims().to_string()));
            let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(hash, secret.as_bytes()), signed.as_bytes());
            refused(&format!("{signed}.{}", encode(tag)), Reason::AlgNotAllowed);
        }
    }
}

#[test]
fn security_003_another_algorithm_than_the_keys() {
    for alg in ["RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "ES256K", "rs256", "RS256 ", "RSA-OAEP"] {
        refused(&with_header(json!({ "alg": alg })), Reason::AlgNotAllowed);
    }
    let signed = format!("{}.{}", encode(header_with(json!({ "alg": "PS256" }))), encode(claims().to_string()));
    let pss = encode(RS256.sign_rsa(&sig::RSA_PSS_SHA256, signed.as_bytes()));
    refused(&format!("{signed}.{pss}"), Reason::AlgNotAllowed);
    // The header is right and only the signature is of the other family.
    let signed = format!("{}.{}", encode(RS256.header().to_string()), encode(claims().to_string()));
    for encoding in [&sig::RSA_PSS_SHA256, &sig::RSA_PKCS1_SHA384, &sig::RSA_PKCS1_SHA512] {
        let other = encode(RS256.sign_rsa(encoding, signed.as_bytes()));
        refused(&format!("{signed}.{other}"), Reason::BadSignature);
    }
}

#[test]
fn security_004_kid_is_only_ever_compared() {
    for kid in
        ["../../dev/null", "' OR 1=1 --", "$(id)", "https://evil.example/jwks", "rsa-1 ", "RSA-1", "ec-1\u{2028}"]
    {
        let got = check(&TABLE, &with_header(json!({ "kid": kid })), NOW);
        assert_eq!(got, Err(TrustError::KeyUnknown { issuer: "github".into() }), "{kid}");
    }
    // What no set can hold asks for no refresh.
    for kid in [
        json!(""),
        json!("rsa-1\u{0}"),
        json!("a\nb"),
        json!("x".repeat(257)),
        json!(1),
        json!(["rsa-1"]),
        json!({}),
        Value::Null,
    ] {
        assert_eq!(
            check(&TABLE, &with_header(json!({ "kid": kid })), NOW),
            Err(TrustError::Refused(Reason::KidUnknown)),
            "{kid}"
        );
    }
    let absent = json!({ "typ": "JWT", "alg": "RS256" }).to_string();
    refused(&RS256.token(absent, claims().to_string()), Reason::KidMissing);
    refused(&with_header(json!({ "kid": "x".repeat(64 * 1024) })), Reason::Malformed);
}

#[test]
fn security_005_006_008_headers_that_steer_verification() {
    let attacker = Key::new("rsa-1", Algorithm::Rs256);
    for members in [
        json!({ "jku": "http://127.0.0.1:1/jwks" }),
        json!({ "x5u": "http://127.0.0.1:1/cert" }),
        json!({ "jwk": attacker.jwk() }),
        json!({ "jwk": RS256.jwk() }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "b64": false }),
        json!({ "b64": true }),
        json!({ "b64": false, "crit": ["b64"] }),
        json!({ "zip": "DEF" }),
        json!({ "enc": "A256GCM" }),
        json!({ "jku": null }),
    ] {
        refused(&with_header(members.clone()), Reason::HeaderForbidden);
        refused(&attacker.token(header_with(members), claims().to_string()), Reason::HeaderForbidden);
    }
    assert!(
        check(&TABLE, &with_header(json!({ "x5t": "AAAA", "iat": 1, "custom": {} })), NOW).is_ok(),
        "others are ignored"
    );
}

#[test]
fn security_007_crit() {
    for crit in [
        json!(["exp"]),
        json!(["unknown"]),
        json!([]),
        json!(["a", "a"]),
        json!(["alg"]),
        json!("exp"),
        Value::Null,
        json!([["b64"]]),
    ] {
        refused(&with_header(json!({ "crit": crit })), Reason::Crit);
    }
}

#[test]
fn security_009_011_types_and_nested_tokens() {
    for typ in [
        json!("at+jwt"),
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("claimbound-handoff+jwt"),
        json!("application/jwt"),
        json!("JWT "),
        json!(""),
        Value::Null,
        json!(1),
        json!(["JWT"]),
    ] {
        refused(&with_header(json!({ "typ": typ })), Reason::WrongType);
    }
    for typ in ["jwt", "Jwt", "JWT"] {
        assert!(check(&TABLE, &with_header(json!({ "typ": typ })), NOW).is_ok());
    }
    let plain = json!({ "alg": "RS256", "kid": "rsa-1" }).to_string();
    assert!(check(&TABLE, &RS256.token(plain, claims().to_string()), NOW).is_ok(), "`typ` may be absent");
    let inner = ES256.says(&claims());
    for cty in ["JWT", "jwt", "json"] {
        refused(&RS256.token(header_with(json!({ "cty": cty })), &inner), Reason::Nested);
    }
    refused(&RS256.token(RS256.header().to_string(), &inner), Reason::Malformed);
}

#[test]
fn security_012_013_encrypted_tokens() {
    let header = encode(json!({ "alg": "RSA-OAEP", "enc": "A256GCM", "zip": "DEF", "kid": "rsa-1" }).to_string());
    refused(&format!("{header}.AAAA.AAAA.AAAA.AAAA"), Reason::JweUnsupported);
    refused("....", Reason::JweUnsupported);
    let bomb = encode(json!({ "alg": "PBES2-HS256+A128KW", "p2c": 2_000_000_000, "enc": "A128GCM" }).to_string());
    refused(&format!("{bomb}.AAAA.AAAA.AAAA.AAAA"), Reason::JweUnsupported);
    refused(&format!("{bomb}.AAAA.AAAA"), Reason::HeaderForbidden);
}

#[test]
fn security_014_json_serialisation() {
    let token = RS256.says(&claims());
    let (header, payload, signature) = (part(&token, 0), part(&token, 1), part(&token, 2));
    let one = json!({ "protected": header, "signature": signature });
    for text in [
        json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
        json!({ "payload": payload, "signatures": [one.clone(), { "protected": header, "signature": "AAAA" }] })
            .to_string(),
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": "AAAA" }, one] }).to_string(),
        format!("{{\"x\":\"{token}\"}}"),
    ] {
        refused(&text, Reason::Malformed);
    }
}

#[test]
fn security_015_dots_and_segments() {
    let token = RS256.says(&claims());
    let (header, payload, signature) = (part(&token, 0), part(&token, 1), part(&token, 2));
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        ".....".into(),
        ".".repeat(16_000),
        ".".repeat(1_000_000),
        header.into(),
        format!("{header}.{payload}"),
        format!(".{token}"),
        format!("{token}."),
        format!("{token}.AAAA"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.AA"),
        format!("{header}.{payload}.A"),
    ] {
        let got = check(&TABLE, &text, NOW).map_err(|error| error.reason());
        let expected = if text.ends_with(".AA") { Reason::BadSignature } else { Reason::Malformed };
        let short = text.ends_with(".AA") && got == Err(Reason::Malformed);
        assert!(short || got == Err(expected), "{got:?} for {}", &text[..text.len().min(60)]);
    }
}

#[test]
fn security_016_size_and_depth() {
    let mut padded = claims();
    padded["custom"] = "x".repeat(8_000).into();
    let fits = RS256.says(&padded);
    assert!(fits.len() < TOKEN_BYTES_MAX && check(&TABLE, &fits, NOW).is_ok());
    padded["custom"] = "x".repeat(TOKEN_BYTES_MAX).into();
    refused(&RS256.says(&padded), Reason::Malformed);
    let deep = format!("{}0{}", "[".repeat(4_000), "]".repeat(4_000));
    refused(&RS256.token(RS256.header().to_string(), format!("{{\"a\":{deep}}}")), Reason::Malformed);
    refused(
        &RS256.token(format!("{{\"alg\":\"RS256\",\"kid\":\"rsa-1\",\"a\":{deep}}}"), claims().to_string()),
        Reason::Malformed,
    );
}

#[test]
fn security_017_duplicate_members_in_header_and_claims() {
    for extra in [
        r#""sub":"x""#,
        r#""aud":"x""#,
        r#""repository":"evil/x""#,
        r#""\u0073ub":"x""#,
        r#""act":{"sub":"a","sub":"b"}"#,
    ] {
        let text = claims().to_string();
        let body = &text[1..text.len() - 1];
        for payload in [format!("{{{extra},{body}}}"), format!("{{{body},{extra}}}")] {
            refused(&RS256.token(RS256.header().to_string(), payload), Reason::DuplicateMember);
        }
    }
    for header in [
        r#"{"alg":"RS256","kid":"rsa-1","alg":"none"}"#,
        r#"{"alg":"none","alg":"RS256","kid":"rsa-1"}"#,
        r#"{"alg":"RS256","kid":"x","\u006bid":"rsa-1"}"#,
    ] {
        refused(&RS256.token(header, claims().to_string()), Reason::DuplicateMember);
    }
}

#[test]
fn security_018_header_and_payload_must_be_strict_json() {
    let texts: [&[u8]; 12] = [
        b"",
        b"[]",
        b"null",
        b"\"x\"",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b"{\"iss\":\"\xff\"}",
        br#"{"iss":"\ud800"}"#,
        br#"{"exp":NaN}"#,
        br#"{"exp":1e999}"#,
        b"{}//",
    ];
    for text in texts {
        refused(&RS256.token(RS256.header().to_string(), text), Reason::Malformed);
        refused(&RS256.token(text, claims().to_string()), Reason::Malformed);
    }
    let trailing = |text: String| [text.as_bytes(), b"\0"].concat();
    refused(&RS256.token(RS256.header().to_string(), trailing(claims().to_string())), Reason::Malformed);
    refused(&RS256.token(trailing(RS256.header().to_string()), claims().to_string()), Reason::Malformed);
    assert!(check(&TABLE, &RS256.token(format!(" {}\n", RS256.header()), format!("\t{} ", claims())), NOW).is_ok());
}

/// Other texts for the same three byte strings.
fn respellings(token: &str) -> Vec<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let segments: Vec<&str> = token.split('.').collect();
    let mut texts = vec![format!(" {token}"), format!("{token} "), format!("{token}\n"), token.replace('.', " . ")];
    for at in 0..3 {
        let mut put = |segment: String| {
            let mut all: Vec<&str> = segments.clone();
            all[at] = &segment;
            texts.push(all.join("."));
        };
        let segment = segments[at];
        put(format!("{segment}="));
        put(format!("{segment}=="));
        put(format!("{segment}{}", "=".repeat((4 - segment.len() % 4) % 4 + 4)));
        put(format!("{}\n{}", &segment[..8], &segment[8..]));
        put(format!("{} {}", &segment[..8], &segment[8..]));
        put(format!("{}\r\n{}", &segment[..4], &segment[4..]));
        if segment.contains(['-', '_']) {
            put(segment.replace('-', "+").replace('_', "/"));
        }
        let spare = match segment.len() % 4 {
            2 => 16,
            3 => 4,
            _ => 1,
        };
        let last = segment.bytes().last().unwrap();
        let value = ALPHABET.iter().position(|b| *b == last).unwrap();
        for bits in 1..spare {
            put(format!("{}{}", &segment[..segment.len() - 1], char::from(ALPHABET[value ^ bits])));
        }
    }
    texts.retain(|text| text != token);
    texts
}

#[test]
fn security_019_other_spellings_of_a_good_token() {
    for padding in 0..3 {
        let claims = claims_with("custom", Some("~?>".repeat(8 + padding).as_str()[padding..].into()));
        for key in [&*RS256, &*ES256] {
            let token = key.token(format!("{}{}", key.header(), " ".repeat(padding)), claims.to_string());
            let single_use = check(&TABLE, &token, NOW).unwrap().single_use;
            assert!(single_use.is_some());
            for text in respellings(&token) {
                refused(&text, Reason::Malformed);
            }
        }
    }
}

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
fn security_019_the_single_use_key_is_not_of_the_tokens_text() {
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
fn security_021_022_odd_signatures() {
    let signed = format!("{}.{}", encode(ES256.header().to_string()), encode(claims().to_string()));
    let good = ES256.sign(signed.as_bytes());
    let order = {
        let mut zero = vec![0; 64];
        zero[63] = 0;
        twin(&zero)[32..].to_vec()
    };
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &good[..32], &[0x02, 0x20], &good[32..]].concat();
    let mut one = [0; 32];
    one[31] = 1;
    let pairs: Vec<Vec<u8>> = vec![
        vec![0; 64],
        [&good[..32], &[0; 32]].concat(),
        [&[0; 32], &good[32..]].concat(),
        [&order[..], &good[32..]].concat(),
        [&good[..32], &order].concat(),
        [&order[..], &order].concat(),
        [one, one].concat(),
        vec![0xff; 64],
        der,
        good[..63].to_vec(),
        [&good[..], &[0]].concat(),
        [&[0], &good[..]].concat(),
        [&good[32..], &good[..32]].concat(),
        vec![0],
    ];
    for signature in pairs {
        let text = format!("{signed}.{}", encode(&signature));
        assert!(
            matches!(check(&TABLE, &text, NOW).map_err(|e| e.reason()), Err(Reason::BadSignature | Reason::Malformed)),
            "{signature:?}"
        );
        if signature.len() > 2 {
            refused(&text, Reason::BadSignature);
        }
    }
    let signed = format!("{}.{}", encode(RS256.header().to_string()), encode(claims().to_string()));
    let good = RS256.sign(signed.as_bytes());
    let flipped = |at: usize| good.iter().enumerate().map(|(i, b)| b ^ u8::from(i == at)).collect::<Vec<_>>();
    for signature in [
        vec![0; 256],
        vec![0xff; 256],
        flipped(0),
        flipped(255),
        good[1..].to_vec(),
        [&[0], &good[..]].concat(),
        [&good[..], &[0]].concat(),
        vec![1; 512],
    ] {
        refused(&format!("{signed}.{}", encode(signature)), Reason::BadSignature);
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
fn security_024_no_result_is_reused_for_another_token() {
    let one = ES256.says(&claims_with("sub", Some("one".into())));
    let two = ES256.says(&claims_with("sub", Some("two".into())));
    let mixed = format!("{}.{}.{}", part(&one, 0), part(&two, 1), part(&one, 2));
    for _ in 0..200 {
        assert_eq!(check(&TABLE, &one, NOW).unwrap().subject, "one");
        assert_eq!(check(&TABLE, &two, NOW).unwrap().subject, "two");
        refused(&mixed, Reason::BadSignature);
    }
}

#[test]
fn security_025_of_an_unverified_token_only_the_issuer_is_read() {
    let mut decoded = Vec::new();
    let token = Key::new("rsa-1", Algorithm::Es256).says(&claims());
    assert_eq!(UnverifiedToken::parse(&token, &mut decoded).unwrap().issuer(), ISSUER);
    refused_claim("iss", None, Reason::ClaimMissing);
    for iss in [Value::Null, json!(1), json!([ISSUER]), json!({})] {
        refused_claim("iss", Some(iss), Reason::ClaimType);
    }
}

#[test]
fn security_010_026_027_issuers_are_compared_byte_for_byte() {
    for iss in [
        "",
        "https://",
        "https://token.actions.githubusercontent.com/",
        "https://token.actions.githubusercontent.com.evil.test",
        "https://token.actions.githubusercontent.com@evil.test",
        "https://evil.test/token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com/../",
        "https://token.actions.githubusercontent.com%2f",
        "https://token.actions.githubusercontent.com:443",
        "https://TOKEN.actions.githubusercontent.com",
        "HTTPS://token.actions.githubusercontent.com",
        "http://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com?",
        "https://token.actions.githubusercontent.com?x=1",
        "https://token.actions.githubusercontent.com#",
        "https://user@token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com.",
        "token.actions.githubusercontent.com",
        " https://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com\n",
        "https://token.actions.githubusercontent.com\u{0}",
        "https://t\u{43e}ken.actions.githubusercontent.com",
        "https://tokenXactions.githubusercontent.com",
        "https://token.actions.githubusercontent.co",
        "https://broker.acme.example",
    ] {
        refused_claim("iss", Some(iss.into()), Reason::IssuerUnknown);
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
fn security_030_031_032_audience() {
    refused_claim("aud", None, Reason::Aud);
    for aud in [
        json!(""),
        json!([]),
        Value::Null,
        json!([""]),
        json!(1),
        json!({}),
        json!([[AUDIENCE]]),
        json!([null]),
        json!(true),
        json!("https://broker.acme.example/"),
        json!("https://broker.acme.example/token"),
        json!("HTTPS://broker.acme.example"),
        json!("https://broker.acme.example "),
        json!("https://broker.acme.exampl"),
        json!("https://broker.acme.example.evil.test"),
        json!("sts.amazonaws.com"),
        json!("api://AzureADTokenExchange"),
        json!("https://github.com/acme"),
        json!("npm:packages.example"),
        json!("sigstore"),
        json!(["sts.amazonaws.com"]),
        json!("https://broker.acme.example,sts.amazonaws.com"),
    ] {
        refused_claim("aud", Some(aud), Reason::Aud);
    }
    let many: Vec<String> = (0..600).map(|n| format!("a{n}")).collect();
    for aud in [
        json!([AUDIENCE, "x"]),
        json!(["x", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
        json!([AUDIENCE, null]),
        json!([AUDIENCE, [AUDIENCE]]),
        json!(["x", "y"]),
        json!(many),
    ] {
        refused_claim("aud", Some(aud), Reason::AudMultiple);
    }
    assert!(check(&TABLE, &RS256.says(&claims_with("aud", Some(json!([AUDIENCE])))), NOW).is_ok());
}

#[test]
fn security_034_036_times_are_integers() {
    refused_claim("exp", None, Reason::Exp);
    refused_claim("iat", None, Reason::Iat);
    for name in ["exp", "iat", "nbf"] {
        for text in [
            "\"1790000300\"",
            "1790000300.0",
            "1.79e9",
            "-1",
            "9223372036854775807",
            "9223372036854775808",
            "1e30",
            "null",
            "[]",
            "[1790000300]",
            "{}",
            "true",
            "\"\"",
            "253402300800",
            "-9223372036854775808",
        ] {
            let mut rest = claims();
            rest.as_object_mut().unwrap().remove(name);
            let rest = rest.to_string();
            let payload = format!("{},\"{name}\":{text}}}", &rest[..rest.len() - 1]);
            refused(&RS256.token(RS256.header().to_string(), payload), Reason::ClaimType);
        }
    }
}

/// Claims with these times, judged at `NOW`.
fn at(iat: i64, nbf: Option<i64>, exp: i64) -> Result<(), Reason> {
    let mut claims = claims();
    (claims["iat"], claims["exp"]) = (iat.into(), exp.into());
    match nbf {
        Some(nbf) => claims["nbf"] = nbf.into(),
        None => drop(claims.as_object_mut().unwrap().remove("nbf")),
    }
    check(&TABLE, &ES256.says(&claims), NOW).map(drop).map_err(|error| error.reason())
}

#[test]
fn security_035_036_037_038_one_leeway_for_all_three_times() {
    let l = LEEWAY_SECONDS;
    for (iat, nbf, exp, expected) in [
        (NOW, Some(NOW - 600), NOW + 300, Ok(())),
        (NOW, Some(NOW), NOW + 300, Ok(())),
        (NOW, None, NOW + 300, Ok(())),
        (NOW - 300, None, NOW - l + 1, Ok(())),
        (NOW - 300, None, NOW - l, Err(Reason::Exp)),
        (NOW - 300, None, NOW - l - 1, Err(Reason::Exp)),
        (NOW + l, None, NOW + 300, Ok(())),
        (NOW + l + 1, None, NOW + 300, Err(Reason::Iat)),
        (NOW, Some(NOW + l), NOW + 300, Ok(())),
        (NOW, Some(NOW + l + 1), NOW + 300, Err(Reason::Nbf)),
        (NOW, None, NOW + 3600, Ok(())),
        (NOW, None, NOW + 3601, Err(Reason::Lifetime)),
        (NOW - 3500, None, NOW + 100, Ok(())),
        (NOW - 3501, None, NOW + 100, Err(Reason::Lifetime)),
        (NOW, None, NOW + 315_360_000, Err(Reason::Lifetime)),
        (0, None, NOW + 300, Err(Reason::Lifetime)),
        (NOW + 30, None, NOW + 30, Err(Reason::ClaimsInconsistent)),
        (NOW + 30, None, NOW + 29, Err(Reason::ClaimsInconsistent)),
        (0, None, 0, Err(Reason::Exp)),
        (253_402_300_799, None, 253_402_300_799, Err(Reason::Iat)),
    ] {
        assert_eq!(at(iat, nbf, exp), expected, "iat {iat} nbf {nbf:?} exp {exp}");
    }
    for now in [i64::MIN, -1, 0, i64::MAX] {
        assert!(check(&TABLE, &ES256.says(&claims()), now).is_err(), "an absurd clock refuses and does not overflow");
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
fn security_039_one_token_has_one_single_use_key_per_issuer() {
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

#[test]
fn security_040_jti() {
    refused_claim("jti", None, Reason::Jti);
    for jti in
        [json!(""), json!("x".repeat(513)), json!("x".repeat(10_240)), json!(1), Value::Null, json!(["j"]), json!({})]
    {
        refused_claim("jti", Some(jti), Reason::Jti);
    }
    assert!(check(&TABLE, &RS256.says(&claims_with("jti", Some("x".repeat(512).into()))), NOW).is_ok());
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
fn nothing_that_a_token_says_counts_before_its_signature_holds() {
    let forger = Key::new("ec-1", Algorithm::Es256);
    for claims in [
        claims_with("aud", Some("x".into())),
        claims_with("exp", Some(1.into())),
        claims_with("jti", None),
        claims_with("sub", Some(1.into())),
    ] {
        refused(&forger.says(&claims), Reason::BadSignature);
    }
}

#[test]
fn errors_name_no_value_of_the_token() {
    let error = check(&TABLE, &with_header(json!({ "kid": "canary-kid" })), NOW).unwrap_err();
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
