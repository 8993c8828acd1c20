//! Proves and tests a folder; cold, may allocate.

mod cases;
mod given;
pub(crate) mod overlap;
mod reach;

pub use cases::{Expect, TestCase, TestResult, run_tests};
pub use given::{Given, GivenError};
