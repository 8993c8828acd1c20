//! The records from which anyone can show why a credential existed: encoded once, chained, verified offline.
//!
//! `docs/evidence.md` describes every field, what may be erased, and how to verify without this code.

pub mod audit;
pub mod chain;
pub mod checkpoint;
mod details;
pub mod export;
pub mod record;
mod text;
pub mod tree;

pub use chain::{Chain, Linked};
pub use checkpoint::{Checkpoint, VerifierKey};
pub use details::{Details, details_digest};
pub use record::{Body, DecisionId, Eased, Entry, Keeping, LeaseId, Named, Party, Record, SuspensionId, What};
pub use text::{IdError, decision_of, hex, parse_id, unhex, uuid};
