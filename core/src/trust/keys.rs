//! Issuers' keys, parsed once; a parsed key fixes its algorithm.

use crate::{time::UnixSeconds, workload::SingleUseRule};
use std::{collections::HashMap, sync::Arc};

/// JWS algorithms that CI issuers' keys may have (RFC 7518 section 3.1, RFC 8037). Asymmetric only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// A public key, parsed when its set was fetched.
pub struct ParsedKey {
    pub(super) _todo: (),
}

/// What a JWKS document gave: usable keys by `kid`, and why others were ignored.
pub struct KeySet {
    pub keys: HashMap<String, Arc<ParsedKey>>,
    /// (`kid` or position, why), for logs and metrics.
    pub ignored: Vec<(String, String)>,
}

/// A document that is no key set at all (one bad key does not make it so).
#[derive(Debug, thiserror::Error)]
#[error("not a JWK set: {0}")]
pub struct JwksError(pub String);

/// Reads a JWKS (RFC 7517): bad keys are ignored, two different keys of one `kid` are both unusable.
pub fn parse_jwks(_bytes: &[u8], _permitted: &[Algorithm]) -> Result<KeySet, JwksError> {
    unimplemented!()
}

/// What an issuer's tokens must be; made from profile and configuration, so that trust knows no profile file.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// The one audience.
    pub audience: String,
    pub max_lifetime_seconds: i64,
    pub single_use: SingleUseRule,
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
