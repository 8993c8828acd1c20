//! The one evaluator, generic over who watches it.

use super::{MappingId, MappingSet, RoleId};
use crate::{
    reason::Reason,
    time::{Seconds, UnixSeconds},
    workload::Case,
};

/// What is asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ask<'r> {
    pub role: Option<&'r str>,
    pub duration: Option<Seconds>,
    pub scope: Option<&'r str>,
}

/// What the rules say. Small: numbers, no text is made on the way to a grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Grant(Grant),
    Deny(Denial),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub mapping: MappingId,
    pub role: RoleId,
    /// Asked for, or given by default; clamped to every ceiling.
    pub duration: Seconds,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// `denied`, `renamed`, `id_mismatch`, `event_not_allowed`, `role_needed` or `no_mapping`.
    pub reason: Reason,
    /// The mapping that came nearest, where one gives the asked role.
    pub nearest: Option<MappingId>,
    /// Roles that the job may have: filled for `role_needed`.
    pub roles: Vec<RoleId>,
    /// Name of the deny rule that held: for operators only.
    pub rule: Option<String>,
}

/// Judges a case. The same answer as [`super::explain`], without the telling.
pub fn decide(_set: &MappingSet, _case: &Case<'_>, _ask: &Ask<'_>, _now: UnixSeconds) -> Decision {
    unimplemented!()
}

/// Every role that this case could be granted, one at a time.
pub fn possible_roles(_set: &MappingSet, _case: &Case<'_>, _now: UnixSeconds) -> Vec<RoleId> {
    unimplemented!()
}
