//! What people are shown before they claim: everything that the claim is good for, and nothing else.

use serde::{Deserialize, Serialize};

/// A workload as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShownParty {
    pub issuer: String,
    /// The immutable id.
    pub id: String,
    pub name: String,
}

/// What is bound. Texts are as tokens and folder write them: whoever shows them escapes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shown {
    pub role: String,
    /// The role's, for people.
    pub description: String,
    pub sensitivity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub mapping: String,
    pub team: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Seconds that a credential lives at most.
    pub duration: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    pub principal: ShownParty,
    /// Who acts, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<ShownParty>,
    /// Canonical claims of the job that opened it, in their order.
    pub claims: Vec<(String, String)>,
    /// Of a first use: what is remembered. Jobs that have these values may come, whatever their other claims are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<(String, String)>,
    /// Of a first use: seconds that the claim stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_for: Option<u32>,
    /// The issuer's tokens have no job id: any job of this run that names the environment can redeem it.
    #[serde(default)]
    pub any_job_of_run: bool,
    /// Version of the mapping folder that decided, hex.
    pub mappings_version: String,
}
