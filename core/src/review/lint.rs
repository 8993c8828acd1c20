//! What loads and is still no good idea. A lint is advice: it says what the folder really lets through, and never keeps
//! it from loading. One small file for each question.
//!
//! Those that ask how far a mapping reaches ask the same boxes that overlaps and differences are proved over. Where the
//! bounds of that proof do not suffice a lint keeps silent: it advises, and nothing rests on its silence.

mod broad;
mod plain;
mod reach;
mod unread;
mod unused;

use super::World;
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Mapping, MappingId, MappingSet, Role, RoleId, Test},
    workload::{Claim, Profiles},
};

/// The sensitivity that production has.
const PRODUCTION: &str = "production";

/// All lints over a folder that loads, sorted by file and place.
pub fn lint(set: &MappingSet, profiles: &Profiles) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    unused::roles(set, &mut found);
    unread::denies(set, profiles, &mut found);
    let worlds: Vec<Option<World<'_>>> = set
        .issuers
        .iter()
        .map(|issuer| profiles.get(&issuer.profile).and_then(|profile| World::new(profile, issuer).ok()))
        .collect();
    let mut reach = reach::Reaches::default();
    for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
        let bound = Bound { set, id, mapping };
        broad::production(&bound, &mut found);
        broad::any_ref_of_a_workflow(&bound, &mut found);
        if let Some(world) = &worlds[usize::from(mapping.issuer.0)] {
            reach.lint(&bound, world, &mut found);
        }
    }
    found.sort_by_key(|finding| finding.span.as_ref().map(|span| (span.file.clone(), span.bytes.start)));
    found
}

/// A mapping with all that belongs to it.
struct Bound<'s> {
    set: &'s MappingSet,
    id: MappingId,
    mapping: &'s Mapping,
}

impl<'s> Bound<'s> {
    fn roles(&self) -> impl Iterator<Item = (RoleId, &'s Role)> {
        self.mapping.roles.iter().map(|id| (*id, self.set.role(*id)))
    }
    fn conditions(&self, role: RoleId) -> impl Iterator<Item = &'s Condition> + Clone {
        self.set.conditions_for(self.id, role)
    }
    /// Whether a job needs to have this claim to get the role.
    fn demands(&self, role: RoleId, claims: &[Claim]) -> bool {
        self.conditions(role)
            .any(|condition| claims.contains(&condition.claim) && !matches!(condition.test, Test::Absent))
    }
    /// Whether the role is only for jobs whose ref the forge protects.
    fn demands_protection(&self, role: RoleId) -> bool {
        let protected = [Claim::RefProtected, Claim::EnvironmentProtected];
        self.conditions(role)
            .any(|condition| protected.contains(&condition.claim) && matches!(condition.test, Test::Is(true)))
    }
}
