//! Tables and properties of the core, one binary.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod claims;
mod keys;
mod minting;
mod trust;
mod workload;
