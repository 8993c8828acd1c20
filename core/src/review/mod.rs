//! Proves and tests a folder; cold, may allocate.

mod cases;
pub(crate) mod overlap;
mod reach;

pub use cases::{Expect, Given, TestCase, TestResult, run_tests};
