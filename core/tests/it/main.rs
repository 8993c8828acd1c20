//! Tables and properties of the core, one binary.

mod claims;
mod keys;
mod minting;
mod trust;
mod workload;
