//! Proves and tests a folder; cold, may allocate.

mod cases;
pub(crate) mod overlap;

pub use cases::{Expect, Given, TestCase, TestResult, run_tests};
