//! The evaluation, watched: every candidate, each condition with expected and got, the nearest miss.

use super::{Ask, Decision, MappingId, MappingSet, Origin, RoleId};
use crate::{diag::Span, reason::Reason, time::UnixSeconds, workload::Case};

/// What the job had where a condition looked.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Got {
    Value(String),
    /// The profile proves that the job has no such claim.
    None,
    Unknown,
}

/// One condition as it was evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConditionReport {
    /// Canonical name (`job_workflow.ref`).
    pub claim: String,
    /// In the mapping language's words.
    pub expected: String,
    pub got: Got,
    pub held: bool,
    pub origin: Origin,
    pub span: Span,
    /// A condition on persons, or one whose expected text holds other repositories' ids: a job is told "differs".
    pub private: bool,
}

/// One candidate as it was evaluated, for one role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappingReport {
    pub mapping: MappingId,
    pub role: RoleId,
    pub held: bool,
    /// `renamed`, `id_mismatch`, `event_not_allowed`, or `no_mapping` for any other miss.
    pub miss: Option<Reason>,
    /// Whether it pins the case's own repository id: only then may the job be told about it.
    pub pins_caller: bool,
    pub conditions: Vec<ConditionReport>,
    /// The edit that would allow the job, in words with the TOML to write.
    pub edit: Option<String>,
}

/// The whole evaluation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trace {
    /// Denies that were looked at: name, the platform's reason text, whether it held, conditions.
    pub denies: Vec<(String, String, bool, Vec<ConditionReport>)>,
    /// Candidates, the nearest first.
    pub mappings: Vec<MappingReport>,
}

/// The same evaluator as `decide`, with everything it saw. Looks at every mapping that gives the asked role (all of
/// the issuer's when none is asked), so that the nearest miss can be named.
pub fn explain(_set: &MappingSet, _case: &Case<'_>, _ask: &Ask<'_>, _now: UnixSeconds) -> (Decision, Trace) {
    unimplemented!()
}
