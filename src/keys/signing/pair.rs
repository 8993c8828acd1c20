//! One key pair: made, read from PKCS#8, signing, and its public half as a JWK.

use super::{SigningAlgorithm, provider::KeyPair};
use aws_lc_rs::{
    digest,
    encoding::AsDer,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

/// A key pair. Does not print.
pub(super) struct Pair {
    private: Private,
    pub(super) public: PublicKey,
}

enum Private {
    Es256(EcdsaKeyPair),
    Rs256(rsa::KeyPair),
}

/// A public key as RFC 7518 section 6 writes it; the numbers big-endian, EC coordinates of full length.
pub(super) enum PublicKey {
    P256 { x: Vec<u8>, y: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Pair {
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, String> {
        let failed = |_| format!("no {algorithm} key could be made");
        Self::of(match algorithm {
            SigningAlgorithm::Es256 => {
                Private::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?)
            }
            SigningAlgorithm::Rs256 => Private::Rs256(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(failed)?),
        })
    }

    /// Reads a private key (RFC 5208).
    pub(super) fn from_pkcs8(algorithm: SigningAlgorithm, bytes: &[u8]) -> Result<Self, String> {
        let failed = |_| format!("is not a private key for {algorithm} in PKCS#8");
        let private = match algorithm {
            SigningAlgorithm::Es256 => {
                Private::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes).map_err(failed)?)
            }
            SigningAlgorithm::Rs256 => Private::Rs256(rsa::KeyPair::from_pkcs8(bytes).map_err(failed)?),
        };
        Self::of(private)
    }

    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let failed = |_| "the key cannot be written as PKCS#8".to_owned();
        Ok(Zeroizing::new(match &self.private {
            Private::Es256(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Private::Rs256(pair) => pair.as_der().map_err(failed)?.as_ref().to_vec(),
        }))
    }

    fn of(private: Private) -> Result<Self, String> {
        let public = match &private {
            Private::Es256(pair) => match pair.public_key().as_ref() {
                // Uncompressed point (SEC 1 section 2.3.3)
                [4, point @ ..] if point.len() == 64 => {
                    PublicKey::P256 { x: point[..32].to_vec(), y: point[32..].to_vec() }
                }
                _ => return Err("the public key is not an uncompressed P-256 point".to_owned()),
            },
            Private::Rs256(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref()).ok_or("the public key is not an RSAPublicKey")?;
                PublicKey::Rsa { n, e }
            }
        };
        Ok(Self { private, public })
    }
}

impl KeyPair for Pair {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "the signature could not be made".to_owned();
        let random = SystemRandom::new();
        match &self.private {
            Private::Es256(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Private::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl PublicKey {
    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::P256 { .. } => SigningAlgorithm::Es256,
            Self::Rsa { .. } => SigningAlgorithm::Rs256,
        }
    }

    /// Whether the private half of this key made the signature.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::P256 { x, y } => {
                let point = [&[4], x.as_slice(), y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        verified.is_ok()
    }

    /// RFC 7638: SHA-256 over the required members in lexical order, no white space.
    pub(super) fn thumbprint(&self) -> String {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let canonical = match self {
            Self::P256 { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y)),
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
        };
        text(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    /// RFC 7517: public members only.
    pub(super) fn to_jwk(&self, kid: &str) -> serde_json::Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::P256 { x, y } => {
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "kid": kid, "alg": "ES256", "use": "sig" })
            }
            Self::Rsa { n, e } => {
                json!({ "kty": "RSA", "n": text(n), "e": text(e), "kid": kid, "alg": "RS256", "use": "sig" })
            }
        }
    }
}

/// The two integers of a DER `RSAPublicKey` (RFC 8017 appendix A.1.1), without leading zeros.
fn rsa_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (sequence, rest) = element(der, 0x30)?;
    let (n, after) = element(sequence, 0x02)?;
    let (e, end) = element(after, 0x02)?;
    let number = |bytes: &[u8]| bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
    (rest.is_empty() && end.is_empty()).then(|| (number(n), number(e)))
}

/// One DER element of this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = der else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ (0x81 | 0x82) => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key of RFC 7638 section 3.1.
    #[test]
    fn thumbprint_of_the_standards_example() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3\
                 oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zg\
                 dAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF\
                 Cur-kEgU8awapJzKnqDKgw";
        let key = PublicKey::Rsa {
            n: BASE64_URL_SAFE_NO_PAD.decode(n).unwrap(),
            e: BASE64_URL_SAFE_NO_PAD.decode("AQAB").unwrap(),
        };
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_survives_its_file_and_fits_its_algorithm_alone() {
        for algorithm in SigningAlgorithm::ALL {
            let pair = Pair::generate(algorithm).unwrap();
            let file = pair.to_pkcs8().unwrap();
            let read = Pair::from_pkcs8(algorithm, &file).unwrap();
            assert_eq!(pair.public.thumbprint(), read.public.thumbprint());
            let other = SigningAlgorithm::ALL.into_iter().find(|other| *other != algorithm).unwrap();
            assert!(Pair::from_pkcs8(other, &file).is_err());
            assert!(Pair::from_pkcs8(algorithm, &file[1..]).is_err());
        }
    }

    #[test]
    fn der_that_is_not_two_integers_is_refused() {
        assert_eq!(rsa_numbers(&[0x30, 6, 2, 1, 5, 2, 1, 3]), Some((vec![5], vec![3])));
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 6, 2, 1, 5, 2, 1],
            &[0x30, 3, 2, 1, 5],
            &[0x30, 6, 2, 1, 5, 2, 1, 3, 0],
            &[0x30, 0x84, 1, 1, 1, 1],
            &[0x31, 6, 2, 1, 5, 2, 1, 3],
            &[0x30, 6, 4, 1, 5, 2, 1, 3],
        ] {
            assert_eq!(rsa_numbers(bad), None, "{bad:?}");
        }
    }
}
