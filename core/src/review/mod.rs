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
mod reach;
mod world;

pub use cases::{Expect, TestCase, TestResult, run_tests};
pub use given::{Given, GivenError};
pub use lint::lint;
pub use world::World;
