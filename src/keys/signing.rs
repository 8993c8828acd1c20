//! Our own keys: made, rotated through four states, published; ES256 and RS256.

use crate::secret::Secret;
use claimbound_core::time::UnixSeconds;
use std::{path::Path, sync::Arc};

/// Algorithms that we sign with (RFC 7518 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SigningAlgorithm {
    Es256,
    Rs256,
}

/// The four states of a key (design, section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    Published,
    Signing,
    Retiring,
    Gone,
}

/// A key, as `keys list` shows it.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    pub kid: String,
    pub algorithm: SigningAlgorithm,
    pub state: KeyState,
    pub published: UnixSeconds,
    pub signs_from: UnixSeconds,
    pub retires: Option<UnixSeconds>,
    pub gone: Option<UnixSeconds>,
}

/// The key directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("signing keys in {directory}: {why}")]
pub struct SigningError {
    pub directory: String,
    pub why: String,
}

/// The key ring; shared by all minters.
pub struct Signer {}

impl Signer {
    /// Opens the directory, creating it (0700) and the first keys (0600, signing at once) if it is empty. Refuses
    /// files that others can read.
    pub fn open(_directory: &Path, _now: UnixSeconds) -> Result<Arc<Self>, SigningError> {
        unimplemented!()
    }
    /// Keys in memory only, for `check`, `explain` and tests.
    pub fn ephemeral() -> Arc<Self> {
        unimplemented!()
    }
    /// Signs claims as a compact JWS (RFC 7515 section 3.1) with the header's `typ`, `alg` and `kid`.
    pub fn sign(
        &self,
        _typ: &str,
        _algorithm: SigningAlgorithm,
        _claims: &serde_json::Value,
        _now: UnixSeconds,
    ) -> Result<Secret, SigningError> {
        unimplemented!()
    }
    /// The published JWKS: public members only.
    pub fn jwks(&self, _now: UnixSeconds) -> serde_json::Value {
        unimplemented!()
    }
    /// Every key.
    pub fn list(&self, _now: UnixSeconds) -> Vec<KeyInfo> {
        unimplemented!()
    }
    /// Starts a rotation: a new key per algorithm, published now, signing 24 h later (`at_once`: now).
    pub fn rotate(&self, _now: UnixSeconds, _at_once: bool) -> Result<Vec<KeyInfo>, SigningError> {
        unimplemented!()
    }
    /// Reads the directory again (another process rotated).
    pub fn reload(&self) -> Result<(), SigningError> {
        unimplemented!()
    }
}
