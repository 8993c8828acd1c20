//! Targets that eat any bytes, and a driver that feeds them under the stable compiler.
//!
//! A target is a plain function from bytes to what could be seen of them. It panics where an invariant breaks, which is
//! what cargo-fuzz wants of a target too (CONTRIBUTING, "Fuzzing"). Without a compiler that reports coverage, an input
//! is worth keeping when it showed something that none before it had: another reason, another set of findings.

#![forbid(unsafe_code)]

pub mod drive;
pub mod seeds;
mod targets;

pub use drive::{Budget, Outcome, Report, Target, drive, round};
pub use targets::ALL;

/// The target of this name. Panics if there is none.
pub fn named(name: &str) -> &'static Target {
    ALL.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target `{name}`"))
}
