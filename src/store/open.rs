//! URL → engine, reader and the chain to go on with.

use super::{Down, LeaseState, Writer};
use claimbound_core::{
    evidence::{DecisionId, LeaseId},
    time::UnixSeconds,
};
use std::sync::Arc;

/// An open store.
pub struct Opened {
    pub writer: Writer,
    pub reader: Arc<dyn Reader>,
}

/// A stored record in its place.
#[derive(Clone, Debug)]
pub struct Stored {
    pub incarnation: u128,
    pub sequence: u64,
    pub link: [u8; 32],
    pub leaf: [u8; 32],
    pub body: Vec<u8>,
    /// Empty when erased or when there were none.
    pub details: Vec<u8>,
}

/// A stored lease, as far as readers need it.
#[derive(Clone, Debug)]
pub struct StoredLease {
    pub id: LeaseId,
    pub role: String,
    pub state: LeaseState,
    pub handle: Option<String>,
    pub expires: UnixSeconds,
}

/// Reads never pass through the writer; each opens its own read transaction.
pub trait Reader: Send + Sync {
    /// All records with this decision id, oldest first.
    fn decision(&self, id: DecisionId) -> Result<Vec<Stored>, Down>;
    /// The lease that this secret's SHA-256 ends.
    fn lease_by_possession(&self, digest: &[u8; 32]) -> Result<Option<StoredLease>, Down>;
    /// Leases still `issuing` that were opened before `before`: a crash left them.
    fn unsettled(&self, before: UnixSeconds) -> Result<Vec<StoredLease>, Down>;
    /// A kept mapping folder.
    fn folder(&self, version: &[u8; 32]) -> Result<Option<Vec<u8>>, Down>;
    /// A fixed fact.
    fn fixed(&self, name: &str) -> Result<Option<String>, Down>;
    /// Signing keys that this store made.
    fn keys(&self) -> Result<Vec<String>, Down>;
    /// Every record, in chain order, for `audit verify`; stops when `each` says so.
    fn records(&self, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Down>;
    /// Answers a trivial query: for readiness.
    fn ping(&self) -> Result<(), Down>;
}

/// Opens `sqlite:PATH`, creating it if it is not there; a second broker on one file is refused.
pub fn open(_url: &str, _now: UnixSeconds) -> Result<Opened, Down> {
    unimplemented!()
}
