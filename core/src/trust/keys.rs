//! Issuers' keys, parsed once; a parsed key fixes its algorithm, so a token's header can only agree or be refused.
//!
//! One bad key does not spoil a set: it is ignored with a reason, and the others go on working.

use super::token::is_kid;
use crate::{
    claims::{Claims, Value},
    time::UnixSeconds,
    workload::SingleUseRule,
};
use aws_lc_rs::{rsa::PublicKeyComponents, signature as sig};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

/// Longest key set that is read.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Most keys a set may hold; a larger one is refused whole, as its tail could contradict its head.
pub const JWKS_KEYS_MAX: usize = 64;

const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// Largest public exponent; beyond it verification is slow for no gain.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// Members that only private or symmetric keys have (RFC 7518 sections 6.2.2, 6.3.2, 6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

macro_rules! algorithms {
    ($($variant:ident $name:literal $family:expr;)*) => {
        /// JWS algorithms that CI issuers' keys may have (RFC 7518 section 3.1, RFC 8037). Asymmetric only.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Algorithm { $($variant,)* }
        impl Algorithm {
            /// All of them.
            pub const ALL: &'static [Algorithm] = &[$(Self::$variant,)*];
            /// The algorithm of this exact name; `None` for `none`, HMAC and everything else.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
            /// Its registered name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            fn family(self) -> Family {
                match self { $(Self::$variant => $family,)* }
            }
        }
    };
}

algorithms! {
    Rs256 "RS256" Family::Rsa(&sig::RSA_PKCS1_2048_8192_SHA256);
    Rs384 "RS384" Family::Rsa(&sig::RSA_PKCS1_2048_8192_SHA384);
    Rs512 "RS512" Family::Rsa(&sig::RSA_PKCS1_2048_8192_SHA512);
    Ps256 "PS256" Family::Rsa(&sig::RSA_PSS_2048_8192_SHA256);
    Ps384 "PS384" Family::Rsa(&sig::RSA_PSS_2048_8192_SHA384);
    Ps512 "PS512" Family::Rsa(&sig::RSA_PSS_2048_8192_SHA512);
    Es256 "ES256" Family::Ec { curve: "P-256", coordinate_bytes: 32, scheme: &sig::ECDSA_P256_SHA256_FIXED };
    Es384 "ES384" Family::Ec { curve: "P-384", coordinate_bytes: 48, scheme: &sig::ECDSA_P384_SHA384_FIXED };
    Es512 "ES512" Family::Ec { curve: "P-521", coordinate_bytes: 66, scheme: &sig::ECDSA_P521_SHA512_FIXED };
    EdDsa "EdDSA" Family::Ed25519;
}

/// What an algorithm needs of a key.
enum Family {
    Rsa(&'static sig::RsaParameters),
    Ec { curve: &'static str, coordinate_bytes: usize, scheme: &'static sig::EcdsaVerificationAlgorithm },
    Ed25519,
}

/// A public key, parsed when its set was fetched.
pub struct ParsedKey {
    algorithm: Algorithm,
    strength: Strength,
    key: sig::ParsedPublicKey,
}

/// How large a key is: an RSA modulus in bits, or a curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strength {
    RsaBits(usize),
    Curve(&'static str),
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaBits(bits) => write!(f, "{bits} bits"),
            Self::Curve(name) => f.write_str(name),
        }
    }
}

impl ParsedKey {
    /// The one algorithm that this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// How large it is.
    pub fn strength(&self) -> Strength {
        self.strength
    }
    /// Whether `signature` is this key's over `signed`.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(signed, signature).is_ok()
    }
    /// Whether it verifies exactly what the other does.
    pub fn same_as(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.key.as_ref() == other.key.as_ref()
    }
}

impl fmt::Debug for ParsedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParsedKey").field(&self.algorithm.name()).finish()
    }
}

/// What a JWKS document gave: usable keys by `kid`, and why others were ignored.
#[derive(Debug)]
pub struct KeySet {
    pub keys: HashMap<String, Arc<ParsedKey>>,
    /// (`kid` or position, why), for logs and metrics.
    pub ignored: Vec<(String, String)>,
}

/// A document that is no key set at all (one bad key does not make it so).
#[derive(Debug, thiserror::Error)]
#[error("not a JWK set: {0}")]
pub struct JwksError(pub String);

/// Members that make a key what it is (RFC 7518, section 6; RFC 8037, section 2).
const MATERIAL: [&str; 6] = ["kty", "crv", "n", "e", "x", "y"];

/// Reads a JWKS (RFC 7517): bad keys are ignored, two different keys of one `kid` are both unusable, also where one of
/// them is bad: another verifier might take that one.
pub fn parse_jwks(bytes: &[u8], permitted: &[Algorithm]) -> Result<KeySet, JwksError> {
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(JwksError(format!("longer than {JWKS_BYTES_MAX} bytes")));
    }
    let document = Claims::parse(bytes).map_err(|error| JwksError(error.to_string()))?;
    let Some(Value::List(entries)) = document.get("keys") else {
        return Err(JwksError("no list `keys`".into()));
    };
    if entries.len() > JWKS_KEYS_MAX {
        return Err(JwksError(format!("{} keys, at most {JWKS_KEYS_MAX} are read", entries.len())));
    }
    let mut set = KeySet { keys: HashMap::new(), ignored: Vec::new() };
    let (mut disputed, mut materials) = (Vec::new(), HashMap::new());
    for (position, entry) in entries.iter().enumerate() {
        if let Value::Object(jwk) = entry
            && let Some(kid) = jwk.get("kid").and_then(Value::as_text)
        {
            let material = MATERIAL.map(|member| jwk.get(member));
            if *materials.entry(kid).or_insert(material) != material {
                disputed.push(kid);
            }
        }
        match read_key(entry, permitted) {
            Err((kid, why)) => set.ignored.push((kid.map_or_else(|| format!("#{position}"), str::to_owned), why)),
            Ok((kid, key)) => match set.keys.get(kid) {
                Some(known) if !known.same_as(&key) => disputed.push(kid),
                Some(_) => {}
                None => drop(set.keys.insert(kid.to_owned(), Arc::new(key))),
            },
        }
    }
    for kid in disputed {
        if set.keys.remove(kid).is_some() {
            set.ignored.push((kid.to_owned(), "different keys share this `kid`".into()));
        }
    }
    Ok(set)
}

/// A usable key and its `kid`, or whose key it is and why it is not usable.
fn read_key<'e>(
    entry: &'e Value<'_>,
    permitted: &[Algorithm],
) -> Result<(&'e str, ParsedKey), (Option<&'e str>, String)> {
    let Value::Object(jwk) = entry else { return Err((None, "not an object".into())) };
    match jwk.get("kid").and_then(Value::as_text).filter(|kid| is_kid(kid)) {
        None => Err((None, "no usable `kid`".into())),
        Some(kid) => parse_key(jwk, permitted).map(|key| (kid, key)).map_err(|why| (Some(kid), why)),
    }
}

fn parse_key(jwk: &Claims<'_>, permitted: &[Algorithm]) -> Result<ParsedKey, String> {
    if let Some(name) = PRIVATE.iter().find(|name| jwk.get(name).is_some()) {
        return Err(format!("has the private member `{name}`"));
    }
    if jwk.get("use").is_some_and(|usage| usage.as_text() != Some("sig")) {
        return Err("`use` is not `sig`".into());
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verifies = |list: &[Value<'_>]| list.iter().any(|operation| operation.as_text() == Some("verify"));
        if !matches!(operations, Value::List(list) if verifies(list)) {
            return Err("`key_ops` does not hold `verify`".into());
        }
    }
    let algorithm = algorithm_of(jwk, permitted)?;
    let (strength, key) = match algorithm.family() {
        Family::Rsa(parameters) => rsa_key(jwk, parameters),
        Family::Ec { curve, coordinate_bytes, scheme } => {
            let mut point = vec![4]; // uncompressed (SEC 1 section 2.3.3)
            point.extend(exact_bytes(jwk, "x", coordinate_bytes)?);
            point.extend(exact_bytes(jwk, "y", coordinate_bytes)?);
            let key = sig::ParsedPublicKey::new(scheme, point).map_err(|_| "not a point of its curve".to_owned());
            key.map(|key| (Strength::Curve(curve), key))
        }
        Family::Ed25519 => sig::ParsedPublicKey::new(&sig::ED25519, exact_bytes(jwk, "x", 32)?)
            .map(|key| (Strength::Curve("Ed25519"), key))
            .map_err(|_| "not an Ed25519 key".into()),
    }?;
    Ok(ParsedKey { algorithm, strength, key })
}

/// The `alg` that the key states, if it fits the key; without one what the key type decides among the permitted.
fn algorithm_of(jwk: &Claims<'_>, permitted: &[Algorithm]) -> Result<Algorithm, String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_text);
    let fits = |algorithm: &Algorithm| match algorithm.family() {
        Family::Rsa(_) => text("kty") == Some("RSA"),
        Family::Ec { curve, .. } => text("kty") == Some("EC") && text("crv") == Some(curve),
        Family::Ed25519 => text("kty") == Some("OKP") && text("crv") == Some("Ed25519"),
    };
    let stated = match jwk.get("alg") {
        None => None,
        Some(alg) => {
            let name = alg.as_text().ok_or("`alg` is not text")?;
            Some(Algorithm::from_name(name).ok_or("`alg` is not an algorithm that is accepted")?)
        }
    };
    match stated {
        Some(algorithm) if !fits(&algorithm) => Err("`alg` does not fit `kty` and `crv`".into()),
        Some(algorithm) if !permitted.contains(&algorithm) => {
            Err(format!("`{}` is not permitted for this issuer", algorithm.name()))
        }
        Some(algorithm) => Ok(algorithm),
        None => [Algorithm::Rs256]
            .iter()
            .filter(|algorithm| permitted.contains(algorithm))
            .chain(permitted)
            .copied()
            .find(fits)
            .ok_or_else(|| "`kty` and `crv` fit no algorithm that is permitted for this issuer".into()),
    }
}

fn rsa_key(
    jwk: &Claims<'_>,
    parameters: &'static sig::RsaParameters,
) -> Result<(Strength, sig::ParsedPublicKey), String> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let [first, ..] = n[..] else { return Err("`n` is empty".into()) };
    if first == 0 || e.first() == Some(&0) {
        return Err("`n` or `e` has leading zeros".into());
    }
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!("{bits} bits; RSA keys have {RSA_BITS_MIN} to {RSA_BITS_MAX}"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(&n) {
        return Err("`n` is even".into());
    }
    if !odd(&e) || e == [1] || e.len() > RSA_EXPONENT_BYTES_MAX {
        return Err("`e` is not an odd number from 3 to 2^32 - 1".into());
    }
    if has_roca_fingerprint(&n) {
        return Err("the modulus has the fingerprint of CVE-2017-15361 (ROCA)".into());
    }
    let key = PublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| "not an RSA key".to_owned());
    key.map(|key| (Strength::RsaBits(bits), key))
}

/// Primes of the ROCA library are powers of 65537 modulo every small prime, and so are their products. A sound
/// modulus passes all of these by chance about once in 2^27.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    const SMALL_PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    SMALL_PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == rest
        })
    })
}

fn bytes(jwk: &Claims<'_>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Value::as_text).ok_or_else(|| format!("no text `{name}`"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("`{name}` is not strict base64url"))
}

/// Full length, leading zeros included (RFC 7518 section 6.2.1.2).
fn exact_bytes(jwk: &Claims<'_>, name: &str, length: usize) -> Result<Vec<u8>, String> {
    bytes(jwk, name).and_then(|bytes| {
        if bytes.len() == length { Ok(bytes) } else { Err(format!("`{name}` is not {length} bytes long")) }
    })
}

/// What an issuer's tokens must be; made from profile and configuration, so that trust knows no profile file.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// The one audience.
    pub audience: String,
    pub max_lifetime_seconds: i64,
    pub single_use: SingleUseRule,
    /// Of tokens that come as actor tokens.
    pub actor_single_use: SingleUseRule,
    pub requires_nbf: bool,
    /// Claims that must be present.
    pub required: Vec<String>,
}

/// One issuer at one moment. Replaced as a whole; never changed in place.
pub struct IssuerSnapshot {
    /// Its name in the mapping folder.
    pub name: Arc<str>,
    /// The exact `iss`.
    pub url: Arc<str>,
    pub rules: IssuerRules,
    pub keys: HashMap<String, Arc<ParsedKey>>,
    /// After this moment the keys are too old to believe.
    pub keys_valid_until: UnixSeconds,
    pub cut: Cut,
}

/// What an operator cut off, whatever the keys say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cut {
    /// The whole issuer.
    pub disabled: bool,
    /// Single keys, by `kid`.
    pub kids: BTreeSet<String>,
}

/// The closed table of issuers, keyed by exact URL.
#[derive(Clone, Default)]
pub struct IssuerTable {
    by_url: HashMap<Arc<str>, Arc<IssuerSnapshot>>,
}

impl IssuerTable {
    /// The issuer of exactly this URL.
    pub fn get(&self, url: &str) -> Option<&Arc<IssuerSnapshot>> {
        self.by_url.get(url)
    }
    /// Puts an issuer in, in place of the one with its URL.
    pub fn insert(&mut self, issuer: IssuerSnapshot) {
        self.by_url.insert(issuer.url.clone(), Arc::new(issuer));
    }
    /// All issuers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<IssuerSnapshot>> {
        self.by_url.values()
    }
}
