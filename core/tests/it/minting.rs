//! Keys and tokens for tests, made on the spot: nothing here is committed that could be mistaken for a secret.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa, signature as sig,
    signature::KeyPair as _,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimbound_core::{
    time::UnixSeconds,
    trust::{
        Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, KeySet, SingleUse, TrustError, UnverifiedToken,
        Verified, parse_jwks, verify, verify_again,
    },
    workload::SingleUseRule,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub const NOW: i64 = 1_790_000_000;
pub const ISSUER: &str = "https://token.actions.githubusercontent.com";
pub const AUDIENCE: &str = "https://broker.acme.example";
pub const ALL: [Algorithm; 10] = [
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

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(sig::RsaKeyPair, &'static sig::RsaSignatureEncoding),
    Ec(sig::EcdsaKeyPair),
    Ed(sig::Ed25519KeyPair),
}

/// A signing key with its `kid`.
pub struct Key {
    pub kid: &'static str,
    pub algorithm: Algorithm,
    pair: Pair,
}

impl Key {
    pub fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let ec = |scheme| Pair::Ec(sig::EcdsaKeyPair::generate(scheme).unwrap());
        let pair = match algorithm {
            Algorithm::Es256 => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Pair::Ed(sig::Ed25519KeyPair::generate().unwrap()),
            of_rsa => Pair::Rsa(sig::RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap(), encoding_of(of_rsa)),
        };
        Self { kid, algorithm, pair }
    }

    /// This RSA key for another RSA algorithm: making one is what takes time.
    pub fn shared(&self, kid: &'static str, algorithm: Algorithm) -> Self {
        let Pair::Rsa(pair, _) = &self.pair else { panic!("an RSA key") };
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pair = sig::RsaKeyPair::from_pkcs8(der.as_ref()).unwrap();
        Self { kid, algorithm, pair: Pair::Rsa(pair, encoding_of(algorithm)) }
    }

    /// The public half as a JWK with `kid`, `use` and `alg`.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.kid, "use": "sig", "alg": self.algorithm.name() });
        let members = match &self.pair {
            Pair::Rsa(pair, _) => {
                let [n, e] = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }),
        };
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    }

    pub fn sign(&self, signed: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair, encoding) => self.sign_as(pair, encoding, signed),
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }
    /// Signs with this RSA key under another scheme.
    pub fn sign_rsa(&self, encoding: &'static sig::RsaSignatureEncoding, signed: &[u8]) -> Vec<u8> {
        let Pair::Rsa(pair, _) = &self.pair else { panic!("an RSA key") };
        self.sign_as(pair, encoding, signed)
    }
    fn sign_as(&self, pair: &sig::RsaKeyPair, encoding: &'static sig::RsaSignatureEncoding, signed: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), signed, &mut signature).unwrap();
        signature
    }

    /// Signs whatever stands in header and payload.
    pub fn token(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": self.algorithm.name(), "kid": self.kid })
    }
    /// A token with this key's plain header.
    pub fn says(&self, claims: &Value) -> String {
        self.token(self.header().to_string(), claims.to_string())
    }
}

fn encoding_of(algorithm: Algorithm) -> &'static sig::RsaSignatureEncoding {
    match algorithm {
        Algorithm::Rs256 => &sig::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &sig::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &sig::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &sig::RSA_PSS_SHA256,
        Algorithm::Ps384 => &sig::RSA_PSS_SHA384,
        Algorithm::Ps512 => &sig::RSA_PSS_SHA512,
        other => panic!("{} is not of RSA", other.name()),
    }
}

/// The two INTEGERs of a PKCS #1 RSAPublicKey, without sign bytes.
fn rsa_numbers(der: &[u8]) -> [Vec<u8>; 2] {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let long = usize::from(der[1] & 0x7f);
        let (length, start) = match der[1] {
            short if short < 0x80 => (usize::from(short), 2),
            _ => (der[2..2 + long].iter().fold(0, |n, b| n << 8 | usize::from(*b)), 2 + long),
        };
        der[start..].split_at(length)
    }
    let (n, rest) = element(element(der).0);
    let (e, _) = element(rest);
    [n, e].map(|number| number[usize::from(number[0] == 0)..].to_vec())
}

/// The issuer's keys: the first of each is what most tests sign with.
pub static RS256: LazyLock<Key> = LazyLock::new(|| Key::new("rsa-1", Algorithm::Rs256));
pub static ES256: LazyLock<Key> = LazyLock::new(|| Key::new("ec-1", Algorithm::Es256));

pub fn keys(keys: &[Value]) -> KeySet {
    parse_jwks(json!({ "keys": keys }).to_string().as_bytes(), &ALL).unwrap()
}

pub fn rules() -> IssuerRules {
    IssuerRules {
        audience: AUDIENCE.into(),
        max_lifetime_seconds: 3600,
        single_use: SingleUseRule::Jti,
        actor_single_use: SingleUseRule::Jti,
        requires_nbf: false,
        required: vec!["repository".into()],
    }
}

/// An issuer whose keys are good for an hour.
pub fn snapshot(url: &str, set: KeySet, rules: IssuerRules) -> IssuerSnapshot {
    let keys_valid_until = UnixSeconds(NOW + 3600);
    let cut = Cut::default();
    IssuerSnapshot { name: "github".into(), url: url.into(), rules, keys: set.keys, keys_valid_until, cut }
}

/// [`ISSUER`] with both keys and these rules.
pub fn table_with(rules: IssuerRules) -> IssuerTable {
    let mut table = IssuerTable::default();
    table.insert(snapshot(ISSUER, keys(&[RS256.jwk(), ES256.jwk()]), rules));
    table
}

pub static TABLE: LazyLock<IssuerTable> = LazyLock::new(|| table_with(rules()));

/// Claims that hold at [`NOW`].
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/payments-api:ref:refs/heads/main", "jti": "j-1",
        "iat": NOW, "nbf": NOW - 600, "exp": NOW + 300, "repository": "acme/payments-api",
    })
}

/// [`claims`] with this member replaced, or taken out.
pub fn claims_with(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    claims
}

/// What a verified token leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub subject: String,
    pub single_use: Option<SingleUse>,
}

pub fn check(table: &IssuerTable, token: &str, now: i64) -> Result<Held, TrustError> {
    held(verify, table, token, now)
}

/// As one half of a renewal.
pub fn check_again(table: &IssuerTable, token: &str, now: i64) -> Result<Held, TrustError> {
    held(verify_again, table, token, now)
}

type Verify = for<'t> fn(&UnverifiedToken<'t>, &IssuerTable, UnixSeconds) -> Result<Verified<'t>, TrustError>;

fn held(verify: Verify, table: &IssuerTable, token: &str, now: i64) -> Result<Held, TrustError> {
    let mut decoded = Vec::new();
    let token = UnverifiedToken::parse(token, &mut decoded)?;
    let verified = verify(&token, table, UnixSeconds(now))?;
    let subject = verified.claims().get("sub").and_then(|sub| sub.as_text()).unwrap().to_owned();
    Ok(Held { subject, single_use: verified.single_use() })
}
