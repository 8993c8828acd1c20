//! What loads and is still no good idea. A lint is advice: it says what the folder really lets through, and never keeps
//! it from loading. One small file for each question.
//!
//! Those that ask how far a mapping reaches ask the same boxes that overlaps and differences are proved over. Where the
//! bounds of that proof do not suffice a lint keeps silent: it advises, and nothing rests on its silence.

mod actors;
mod aimless;
mod alternatives;
mod author_set;
mod broad;
mod commits;
mod crowd;
mod cut;
mod every_ref;
mod identity;
mod outsiders;
mod plain;
mod protected;
mod reach;
mod unread;
mod unused;
mod workflows;

pub use aimless::lint_tests;

use super::World;
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Mapping, MappingId, MappingSet, Role, RoleId, Test},
    workload::{Claim, Profile, Profiles},
};

/// The sensitivity that production has.
const PRODUCTION: &str = "production";

const REFS: [Claim; 4] = [Claim::Branch, Claim::Tag, Claim::Ref, Claim::PullRequest];

/// All lints over a folder that loads, sorted by file and place.
pub fn lint(set: &MappingSet, profiles: &Profiles) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    unused::roles(set, &mut found);
    unused::targets(set, &mut found);
    unread::denies(set, profiles, &mut found);
    crowd::of_an_owner(set, &mut found);
    alternatives::within_each_other(set, &mut found);
    let profiles: Vec<Option<&Profile>> = set.issuers.iter().map(|issuer| profiles.get(&issuer.profile)).collect();
    let worlds: Vec<Option<World<'_>>> = profiles
        .iter()
        .zip(&set.issuers)
        .map(|(profile, issuer)| profile.and_then(|profile| World::new(profile, issuer).ok()))
        .collect();
    let (mut reach, mut cut) = (reach::Reaches::default(), cut::Cuts::default());
    let (mut workflows, mut commits) = (workflows::Workflows::default(), commits::Commits::default());
    for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
        let issuer = usize::from(mapping.issuer.0);
        // A folder that loads has a profile for each issuer.
        let Some(profile) = profiles[issuer] else { continue };
        let bound = Bound { set, id, mapping, profile };
        broad::production(&bound, &mut found);
        actors::not_required(&bound, &mut found);
        actors::shared_audience(&bound, &mut found);
        actors::audience_of_nobody(&bound, &mut found);
        every_ref::matched(&bound, &mut found);
        protected::branch_by_name(&bound, &mut found);
        identity::no_repository(&bound, &mut found);
        identity::open_ids(&bound, &mut found);
        identity::person_by_name(&bound, &mut found);
        author_set::raw(&bound, &mut found);
        outsiders::events(&bound, &mut found);
        workflows.lint(&bound, &mut found);
        commits.lint(&bound, &mut found);
        if let Some(world) = &worlds[issuer] {
            reach.lint(&bound, world, &mut found);
            cut.lint(&bound, world, &mut found);
        }
    }
    found.sort_by_cached_key(|finding| finding.span.as_ref().map(|span| (span.file.clone(), span.bytes().start)));
    found
}

/// A mapping with all that belongs to it.
struct Bound<'s> {
    set: &'s MappingSet,
    id: MappingId,
    mapping: &'s Mapping,
    profile: &'s Profile,
}

impl<'s> Bound<'s> {
    /// Between backticks, with the alternative.
    fn name(&self) -> String {
        match self.mapping.alternative {
            Some(number) => format!("`{}` (alternative {number})", self.mapping.name),
            None => format!("`{}`", self.mapping.name),
        }
    }
    fn roles(&self) -> impl Iterator<Item = (RoleId, &'s Role)> {
        self.mapping.roles.iter().map(|id| (*id, self.set.role(*id)))
    }
    fn conditions(&self, role: RoleId) -> impl Iterator<Item = &'s Condition> + Clone {
        self.set.conditions_for(self.id, role)
    }
    /// Whether a job needs to have this claim to get the role.
    fn demands(&self, role: RoleId, claims: &[Claim]) -> bool {
        self.conditions(role).any(|condition| {
            claims.iter().any(|claim| condition.claim == *claim) && !matches!(condition.test, Test::Absent)
        })
    }
    /// Whether the role is only for jobs whose ref the forge protects.
    fn demands_protection(&self, role: RoleId) -> bool {
        let protected = [Claim::RefProtected, Claim::EnvironmentProtected];
        self.conditions(role).any(|condition| {
            protected.iter().any(|claim| condition.claim == *claim) && matches!(condition.test, Test::Is(true))
        })
    }
}
