//! The records from which anyone can show why a credential existed: encoded once, chained, verified offline.

pub mod audit;
pub mod chain;
pub mod record;

pub use chain::{Chain, Linked};
pub use record::{DecisionId, Details, Entry, LeaseId, Party, Record, What};
