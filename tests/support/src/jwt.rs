//! Keys and tokens in every shape that a test of trust needs, good and bad.
//!
//! This is written apart from the product's own signing on purpose: the bench must be able to disagree with it.

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Algorithms that a [`Key`] signs with (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

enum Pair {
    Rsa(RsaPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A signing key of an issuer, or of somebody who would like to be one.
pub struct Key {
    algorithm: Algorithm,
    kid: String,
    pair: Pair,
}

impl Algorithm {
    /// The name in a JOSE header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl Key {
    /// A new RS256 key of 2048 bits, as GitHub and GitLab have.
    pub fn rs256() -> Self {
        Self::generate(Algorithm::Rs256)
    }

    /// A new key for this algorithm; its `kid` is the start of a hash of its public part.
    pub fn generate(algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Pair::Rsa(RsaPair::generate(KeySize::Rsa2048).expect("an RSA key can be made"))
            }
            Algorithm::Es256 => {
                Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key can be made"))
            }
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().expect("an Ed25519 key can be made")),
        };
        let mut key = Self { algorithm, kid: String::new(), pair };
        key.kid = base64url(&digest::digest(&digest::SHA256, key.public_bytes()).as_ref()[..15]);
        key
    }

    /// The same key under another `kid`.
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.kid = kid.to_owned();
        self
    }

    /// The name in the key set and in token headers.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What this key signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as the key's own library gives it: `RSAPublicKey` DER, an uncompressed point, 32 bytes.
    /// Also what a forger would use as an HMAC secret.
    pub fn public_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public half as a JWK (RFC 7517) with `kid`, `alg` and `use`.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(_) => {
                let (n, e) = rsa_numbers(self.public_bytes());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Pair::P256(_) => {
                let (x, y) = self.public_bytes()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Pair::Ed25519(_) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(self.public_bytes()) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm.name());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The header that an honest issuer writes.
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": self.algorithm.name(), "kid": self.kid })
    }

    /// A token as an honest issuer makes it.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(&self.header(), claims)
    }

    /// A rightly signed token with a header of the caller's making.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A rightly signed token over texts that need not even be JSON: duplicate members, trailing bytes, odd numbers.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = signing_input(header, claims);
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", base64url(&signature))
    }

    /// The raw signature over any bytes.
    fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.signature_by(self.algorithm.name(), message)
    }

    /// The raw signature over any bytes under a scheme, which an RSA key can change.
    pub fn signature_by(&self, scheme: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match (&self.pair, scheme) {
            (Pair::Rsa(pair), _) => {
                let padding: &dyn aws_lc_rs::signature::RsaEncoding = match scheme {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    _ => panic!("an RSA key of the bench does not sign `{scheme}`"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).expect("an RSA key signs");
                signature
            }
            (Pair::P256(pair), "ES256") => pair.sign(&random, message).expect("a P-256 key signs").as_ref().to_vec(),
            (Pair::Ed25519(pair), "EdDSA") => pair.sign(message).as_ref().to_vec(),
            _ => panic!("a {} key does not sign `{scheme}`", self.algorithm.name()),
        }
    }
}

/// A token without a signature, under any `alg`; the last segment is empty.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", signing_input(&header.to_string(), &claims.to_string()))
}

/// A token whose "signature" is HS256 with this secret: algorithm confusion when the secret is a public key.
pub fn hs256(secret: &[u8], kid: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "HS256", "kid": kid });
    let signed = signing_input(&header.to_string(), &claims.to_string());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", base64url(tag.as_ref()))
}

/// The claims of a compact token, unverified.
pub fn claims_of(token: &str) -> Value {
    part(token, 1)
}

/// The header of a compact token, unverified.
pub fn header_of(token: &str) -> Value {
    part(token, 0)
}

/// base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn part(token: &str, index: usize) -> Value {
    let segment = token.split('.').nth(index).expect("a compact token has three segments");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(segment).expect("a segment is base64url");
    serde_json::from_slice(&bytes).expect("a segment holds JSON")
}

fn signing_input(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}

/// Modulus and exponent, without leading zeros, of an `RSAPublicKey` (RFC 8017 appendix A.1.1) that we made.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = element(der);
    let (modulus, rest) = element(sequence);
    let (exponent, _) = element(rest);
    (modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent)
}

fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, content) = match der[1] {
        short @ 0..0x80 => (usize::from(short), &der[2..]),
        long => {
            let (length, content) = der[2..].split_at(usize::from(long & 0x7f));
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), content)
        }
    };
    content.split_at(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
        UnparsedPublicKey,
    };

    fn bytes(jwk: &Value, member: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap()
    }

    /// Verifies with nothing but what the JWK says.
    fn verifies(token: &str, jwk: &Value) -> bool {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signed = signed.as_bytes();
        match jwk["alg"].as_str().unwrap() {
            rsa @ ("RS256" | "PS256") => {
                let scheme = if rsa == "RS256" { &RSA_PKCS1_2048_8192_SHA256 } else { &RSA_PSS_2048_8192_SHA256 };
                let key = RsaPublicKeyComponents { n: bytes(jwk, "n"), e: bytes(jwk, "e") };
                key.verify(scheme, signed, &signature).is_ok()
            }
            "ES256" => {
                let point = [vec![4], bytes(jwk, "x"), bytes(jwk, "y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, &signature).is_ok()
            }
            _ => UnparsedPublicKey::new(&ED25519, bytes(jwk, "x")).verify(signed, &signature).is_ok(),
        }
    }

    #[test]
    fn a_token_verifies_against_the_published_key_and_no_other() {
        for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa] {
            let (key, other) = (Key::generate(algorithm), Key::generate(algorithm));
            let token = key.sign(&json!({ "sub": "repo:acme/payments-api" }));
            assert!(verifies(&token, &key.jwk()), "{algorithm:?}");
            assert!(!verifies(&token, &other.jwk()), "{algorithm:?}");
            assert_eq!(header_of(&token)["kid"], json!(key.kid()));
            assert_eq!(claims_of(&token)["sub"], json!("repo:acme/payments-api"));
        }
    }

    #[test]
    fn a_key_set_entry_has_public_members_only() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let jwk = Key::generate(algorithm).jwk();
            assert!(jwk.as_object().unwrap().keys().all(|name| !["d", "p", "q", "k"].contains(&name.as_str())));
        }
    }

    #[test]
    fn forged_tokens_carry_what_they_claim_to() {
        let key = Key::rs256();
        let claims = json!({ "sub": "x" });
        let forged = hs256(key.public_bytes(), key.kid(), &claims);
        assert_eq!(header_of(&forged)["alg"], "HS256");
        assert!(!verifies(&forged, &key.jwk()));
        assert!(unsigned(&json!({ "alg": "none" }), &claims).ends_with('.'));
        assert_eq!(key.sign_text("{}", "{\"a\":1,\"a\":2}").split('.').count(), 3);
    }
}
