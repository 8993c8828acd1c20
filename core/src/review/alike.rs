//! What a proof cannot tell apart: mappings that differ in nothing but the repositories that they pin.
//!
//! A folder of a hundred thousand mappings asks the prover the same few questions. Which repository a pair names matters
//! only where something else asks about repositories; its owner may matter, and stays.

use super::world::World;
use crate::{
    mapping::{Condition, Test},
    workload::{Claim, ClaimKey},
};

/// Conditions of a mapping, as a proof reads them.
pub(super) struct Alike {
    /// With one pair of each owner where that is enough: what one of them reaches, the others reach.
    pub(super) conditions: Vec<Condition>,
    /// Equal for all whose proofs come out alike.
    pub(super) key: Vec<(ClaimKey, Test)>,
}

impl Alike {
    /// `others`: all else that the proof is about, denies and what must never be.
    pub(super) fn of<'c>(
        world: &World<'_>,
        conditions: impl Iterator<Item = &'c Condition> + Clone,
        others: impl IntoIterator<Item = &'c Condition>,
    ) -> Self {
        let pairs = |one: &&Condition| one.claim == Claim::Repository && matches!(one.test, Test::Repository(_));
        let pinned = conditions.clone().filter(pairs).count() == 1;
        let mut rest = conditions.clone().filter(|one| !pairs(one)).chain(others);
        let merges = pinned && !rest.any(|one| asks_which(world, one));
        let (mut kept, mut key) = (Vec::new(), Vec::new());
        for condition in conditions {
            let mut of_key = None;
            let mut condition = match &condition.test {
                Test::Repository(pairs) if merges => {
                    let some = one_of_each_owner(world, pairs);
                    let owned = some.iter().map(|(name, _)| (owner(name).to_owned(), String::new())).collect();
                    of_key = (!some.is_empty()).then_some(Test::Repository(owned));
                    let kept = if some.is_empty() { pairs.clone() } else { some.into_iter().cloned().collect() };
                    Condition { test: Test::Repository(kept), ..condition.clone() }
                }
                _ => condition.clone(),
            };
            condition.if_unknown_ignore = false;
            key.push((condition.claim.clone(), of_key.unwrap_or_else(|| condition.test.clone())));
            kept.push(condition);
        }
        Self { conditions: kept, key }
    }
}

/// Whether a condition can tell two repositories of one owner apart.
fn asks_which(world: &World<'_>, condition: &Condition) -> bool {
    let same = |test: &Test| matches!(test, Test::SameRepository);
    condition.claim.is_one_of(&[Claim::Repository, Claim::RepositoryId, Claim::Subject])
        || condition.claim.canonical().is_some_and(|claim| world.is_own(claim))
        || condition.test.parts().iter().any(same)
}

/// The first of each owner of those that can be at all.
fn one_of_each_owner<'p>(world: &World<'_>, pairs: &'p [(String, String)]) -> Vec<&'p (String, String)> {
    let mut some: Vec<&(String, String)> = Vec::new();
    for pair in pairs {
        let (name, id) = pair;
        let can_be =
            (name.is_empty() || world.can_be(Claim::Repository, name)) && world.can_be(Claim::RepositoryId, id);
        if can_be && !some.iter().any(|(other, _)| owner(other) == owner(name)) {
            some.push(pair);
        }
    }
    some
}

/// Up to the last slash; nothing of no name.
fn owner(name: &str) -> &str {
    name.rfind('/').map_or("", |at| &name[..=at])
}

/// Whether plainly no job that meets the first condition meets the other, that of a deny included: the first demands a
/// claim that the other wants otherwise. A raw claim may be a list, and so meet both.
pub(super) fn apart(granted: &Condition, other: &Condition) -> bool {
    granted.claim == other.claim
        && granted.claim.canonical().is_some()
        && match (&granted.test, &other.test) {
            (Test::Text(one), Test::Text(other)) => one.plainly_misses(other),
            (Test::Is(one), Test::Is(other)) => one != other,
            _ => false,
        }
}
