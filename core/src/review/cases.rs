//! Runs `[[test]]` blocks through `decide` and `explain`.

use crate::{
    diag::{Diagnostic, Span},
    mapping::{IssuerId, MappingSet},
    time::UnixSeconds,
    workload::{Claim, Profiles},
};

/// What a test gives: canonical claims, or a raw token's claims.
#[derive(Clone, Debug)]
pub enum Given {
    Workload(Vec<(Claim, String)>),
    Claims(serde_json::Value),
}

/// What a test expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Exactly these roles are possible.
    Grant { roles: Vec<String> },
    /// The role is not granted; `fails` names exactly the failed conditions of the nearest mapping, if stated.
    Deny { role: Option<String>, fails: Option<Vec<String>> },
}

/// A compiled `[[test]]` block.
#[derive(Clone, Debug)]
pub struct TestCase {
    pub name: String,
    pub issuer: IssuerId,
    pub given: Given,
    pub expect: Expect,
    /// `at = …`; otherwise tests run as if nothing had expired.
    pub at: Option<UnixSeconds>,
    pub span: Span,
}

/// One test's outcome.
#[derive(Clone, Debug)]
pub struct TestResult {
    pub name: String,
    /// The failure, at the test's place; `None` when it passed.
    pub failure: Option<Diagnostic>,
}

/// Runs all tests of a folder.
pub fn run_tests(_set: &MappingSet, _profiles: &Profiles, _tests: &[TestCase]) -> Vec<TestResult> {
    unimplemented!()
}
