//! Proves and tests a folder; cold, may allocate.

mod alike;
pub mod boxes;
mod cases;
pub mod dates;
pub mod diff;
mod given;
mod lint;
pub(crate) mod never;
pub(crate) mod overlap;
mod raw;
mod reach;
pub mod recorded;
mod world;

pub use cases::{Expect, TestCase, TestResult, run_tests};
pub use given::{Given, GivenError, Job};
pub use lint::{lint, lint_tests};
pub use world::World;
