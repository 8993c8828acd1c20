//! Where key pairs are made and kept: the seam for key management services. The directory is one provider, memory is
//! another; the ring above them knows dates and states alone.

use super::{Dates, SigningAlgorithm, SigningError, pair::Pair, pair::PublicKey};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A private key that signs. What it is made of stays where it is kept.
pub(super) trait KeyPair: Send + Sync {
    fn public(&self) -> &PublicKey;
    /// The JWS signature (RFC 7518 sections 3.3, 3.4): for ES256 the two numbers side by side, 64 bytes.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// One key of the ring.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) dates: Dates,
    /// `None` once the private half is gone.
    pub(super) pair: Option<Arc<dyn KeyPair>>,
}

/// Where a ring is kept.
pub(super) trait KeyProvider: Send + Sync {
    /// For errors.
    fn place(&self) -> String;
    /// Waits until nobody else reads or changes the ring.
    fn hold(&self) -> Result<Box<dyn Held + '_>, SigningError>;
}

/// A ring that nobody else reads or changes, until this is dropped.
pub(super) trait Held {
    /// All keys; `None` where there are none yet.
    fn read(&mut self) -> Result<Option<Vec<Key>>, SigningError>;
    /// A new pair. It is kept with the first ring that has it.
    fn make(&mut self, algorithm: SigningAlgorithm) -> Result<Arc<dyn KeyPair>, SigningError>;
    /// Makes `keys` the ring; private halves that it has no more are removed.
    fn keep(&mut self, keys: &[Key]) -> Result<(), SigningError>;
}

/// In memory only, for `check`, `explain` and tests.
#[derive(Default)]
pub(super) struct Memory {
    keys: Mutex<Vec<Key>>,
}

impl KeyProvider for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn hold(&self) -> Result<Box<dyn Held + '_>, SigningError> {
        Ok(Box::new(self.keys.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Held for MutexGuard<'_, Vec<Key>> {
    fn read(&mut self) -> Result<Option<Vec<Key>>, SigningError> {
        Ok((!self.is_empty()).then(|| self.to_vec()))
    }

    fn make(&mut self, algorithm: SigningAlgorithm) -> Result<Arc<dyn KeyPair>, SigningError> {
        match Pair::generate(algorithm) {
            Ok(pair) => Ok(Arc::new(pair)),
            Err(why) => Err(SigningError { directory: Memory::default().place(), why }),
        }
    }

    fn keep(&mut self, keys: &[Key]) -> Result<(), SigningError> {
        **self = keys.to_vec();
        Ok(())
    }
}
