//! A record is encoded once; the same bytes are hashed, stored, exported and verified.

use crate::{reason::Reason, time::UnixSeconds};
use std::sync::Arc;

/// Names one answer; a UUIDv7 in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DecisionId(pub u128);

/// Names one lease; a UUIDv7 in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LeaseId(pub u128);

/// A workload as evidence names it. Nothing here is about a person.
#[derive(Clone, Copy, Debug)]
pub struct Party<'r> {
    pub issuer: &'r str,
    /// The narrowest immutable id that the profile pins, else the subject.
    pub id: &'r str,
    /// Readable: the repository.
    pub name: &'r str,
}

/// Borrowed on the way in. No sequence and no previous hash: those are the chain's, not the record's.
pub struct Record<'r> {
    /// `None` for records that are no answer (summaries, start, stop).
    pub decision: Option<DecisionId>,
    pub at: UnixSeconds,
    pub what: What<'r>,
    pub principal: Option<Party<'r>>,
    pub actor: Option<Party<'r>>,
    /// Version of the mapping folder that judged.
    pub mappings_version: Option<[u8; 32]>,
}

/// What happened.
pub enum What<'r> {
    /// A grant that opens a lease. `expires` is the credential's.
    Granted { mapping: &'r str, role: &'r str, lease: LeaseId, handle: Option<&'r str>, expires: UnixSeconds },
    /// `dry_run=true` and the rules would have granted.
    DryRun { mapping: &'r str, role: &'r str },
    /// `role` is the asked one, if it exists; `mapping` the nearest.
    Refused { reason: Reason, role: Option<&'r str>, mapping: Option<&'r str> },
    /// Refusals of strangers beyond the single-record rate, summed; their network stands in the details.
    Summed { reason: Reason, issuer: Option<&'r str>, network: &'r str, count: u64, from: UnixSeconds },
    /// The outcome of minting: `issued`, `failed` or `unknown`.
    Settled { lease: LeaseId, state: &'r str, handle: Option<&'r str> },
    /// A lease was ended (`revoked` by possession, or swept), and what that means: `dead_now`, `at_expiry`.
    Ended { lease: LeaseId, how: &'r str, effect: &'r str },
    /// A mapping folder became the one that judges.
    MappingsActivated { version: [u8; 32] },
    /// A broker process opened the store.
    Started { version: &'r str },
}

/// What may be erased with its salt after its own retention, the chain intact: claims and addresses.
/// JSON, encoded by the caller; persons and addresses stand only here.
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub json: serde_json::Map<String, serde_json::Value>,
}

/// Encoded and leaf-hashed (RFC 6962: SHA-256 of 0x00 and the body).
#[derive(Clone, Debug)]
pub struct Entry {
    /// The hashed record, JSON.
    pub body: Arc<[u8]>,
    /// The details with their salt, JSON; empty when there are none.
    pub details: Arc<[u8]>,
    pub leaf: [u8; 32],
}

impl Record<'_> {
    /// Encodes the record. The body holds SHA-256 over salt and details, never the details.
    pub fn seal(&self, _details: &Details, _salt: [u8; 32]) -> Entry {
        unimplemented!()
    }
}
