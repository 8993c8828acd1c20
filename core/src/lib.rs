//! What judges: trust in tokens, workloads, mappings, evidence. Pure: no clock, no network, no files, no threads.
//!
//! The way of a token through this crate: [`trust::UnverifiedToken::parse`] → [`trust::verify`] →
//! [`workload::translate`] → [`delegation::chain`] → [`mapping::decide`]; every answer becomes an
//! [`evidence::Record`]. The service crate brings time, keys, storage and the network to it.
//!
//! Invariants
//! - Only [`trust::verify`] makes a [`trust::Verified`] and a [`trust::SingleUse`].
//! - A claim is present, none or unknown; nothing is guessed, and what is not present never grants.
//! - `serve`, `explain` and `test` ask the same evaluator.
//! - A record is encoded once; what is hashed is what is stored, exported and verified.

#![forbid(unsafe_code)]

pub mod ceremony;
pub mod claims;
pub mod delegation;
pub mod diag;
pub mod evidence;
#[cfg(test)]
mod fixture;
pub mod lang;
pub mod mapping;
pub mod reason;
pub mod review;
pub mod time;
pub mod trust;
pub mod workload;
