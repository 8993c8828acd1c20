//! Signatures that nobody who is honest would make: HMAC under a public key, and bytes put together from pieces.

use aws_lc_rs::hmac;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::Value;

/// The order of P-256 (FIPS 186-5 with SP 800-186 section 3.2.1.3).
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// HMAC over `signed` by the header's `alg`, under a spelling of this public RSA key.
pub fn mac(alg: &str, secret: &str, jwk: &Value, signed: &[u8]) -> Vec<u8> {
    let hash = match alg {
        "\"HS256\"" => hmac::HMAC_SHA256,
        "\"HS384\"" => hmac::HMAC_SHA384,
        "\"HS512\"" => hmac::HMAC_SHA512,
        _ => panic!("{alg} is no HMAC"),
    };
    hmac::sign(&hmac::Key::new(hash, &spelled(secret, jwk)), signed).as_ref().to_vec()
}

/// A public RSA key as somebody might have stored it.
fn spelled(how: &str, jwk: &Value) -> Vec<u8> {
    let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let pkcs1 = der(0x30, &[der(2, &unsigned(number("n"))), der(2, &unsigned(number("e")))].concat());
    // rsaEncryption with NULL parameters (RFC 3279 section 2.3.1).
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let spki = der(0x30, &[algorithm.to_vec(), der(3, &[&[0][..], &pkcs1].concat())].concat());
    let pem = |label: &str, der: &[u8]| {
        let lines: Vec<String> = BASE64_STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into())
            .collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"))
    };
    match how {
        "pem" => pem("PUBLIC KEY", &spki).into(),
        "pem_and_newline" => (pem("PUBLIC KEY", &spki) + "\n").into(),
        "pkcs1_pem" => (pem("RSA PUBLIC KEY", &pkcs1) + "\n").into(),
        "der" => spki,
        "pkcs1_der" => pkcs1,
        "jwk" => jwk.to_string().into(),
        "modulus" => number("n"),
        "modulus_text" => jwk["n"].as_str().unwrap().into(),
        "empty" => Vec::new(),
        _ => panic!("a key is not spelled `{how}`"),
    }
}

fn unsigned(mut number: Vec<u8>) -> Vec<u8> {
    if number[0] >= 0x80 {
        number.insert(0, 0);
    }
    number
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..0x80 => vec![tag, length[1]],
        0x80..0x100 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head, content.to_vec()].concat()
}

/// Bytes from terms, one after the other: `good` (the right signature), `r` and `s` (its halves), `head` and `tail`
/// (all but the last, the first byte), `first_bit` and `last_bit` (one bit turned), `order` (of P-256), and hex, with
/// `*N` for N times.
pub fn bytes(terms: &str, good: &[u8]) -> Vec<u8> {
    let turned = |at: usize| {
        let mut turned = good.to_vec();
        turned[at] ^= 1;
        turned
    };
    let term = |term: &str| match term {
        "good" => good.to_vec(),
        "r" => good[..good.len() / 2].to_vec(),
        "s" => good[good.len() / 2..].to_vec(),
        "head" => good[..good.len() - 1].to_vec(),
        "tail" => good[1..].to_vec(),
        "first_bit" => turned(0),
        "last_bit" => turned(good.len() - 1),
        "order" => hex(P256_ORDER),
        _ => {
            let (digits, times) = term.split_once('*').unwrap_or((term, "1"));
            hex(digits).repeat(times.parse().unwrap_or_else(|_| panic!("`{term}` is no term of a signature")))
        }
    };
    terms.split_whitespace().flat_map(term).collect()
}

pub fn hex(digits: &str) -> Vec<u8> {
    let pair =
        |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| panic!("`{digits}` is not hex"));
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_together_from_terms() {
        assert_eq!(bytes("00*2 s r ff", &[1, 2, 3, 4]), [0, 0, 3, 4, 1, 2, 0xff]);
        assert_eq!(bytes("first_bit tail head", &[1, 2]), [0, 2, 2, 1]);
        assert_eq!(bytes("order", &[0; 2]).len(), 32);
    }
}
