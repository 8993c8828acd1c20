//! What a proven job may learn about its refusal (design, section 3): its own claims, and mappings that pin it.

use claimbound_core::mapping::Got;
use serde::Serialize;

/// One failed condition of the nearest mapping.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Condition {
    /// Canonical claim name.
    pub claim: String,
    /// In the mapping language's words; `differs` where the rule may not be told.
    pub expected: String,
    /// The job's own value.
    pub got: Got,
}

/// The mapping that came nearest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Nearest {
    pub mapping: String,
    pub role: String,
    /// Only the conditions that failed.
    pub conditions: Vec<Condition>,
}

/// Everything that may be told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    pub nearest: Option<Nearest>,
    /// Roles that the job may ask for.
    pub roles: Vec<String>,
    /// The job's own canonical claims, in declaration order; nothing about persons.
    pub claims: Vec<(String, String)>,
    /// A role near the asked one that the job may have.
    pub did_you_mean: Option<String>,
    /// Contact of the nearest mapping's team.
    pub contact: Option<String>,
    /// For a repository that no mapping names: the line to paste into a set.
    pub line_to_paste: Option<String>,
}
