//! Tables and properties of the core, one binary.

mod broken;
mod claims;
mod evidence;
mod keys;
mod lang;
mod minting;
mod trust;
mod workload;
