//! `[[never]]`: what no mapping of the folder may ever allow, proved over the boxes of all of them when it loads.
//!
//! Denies count, because they hold at run time. A proof that cannot be finished is an error of its own: it is never
//! taken for one that holds.

use super::{
    alike::{Alike, apart},
    boxes::{Jobs, Undecided, meet, subtract},
    given::Job,
    overlap::example,
    world::World,
};
use crate::{
    diag::Diagnostic,
    mapping::{ActorRule, Condition, Deny, IssuerId, Mapping, MappingId, MappingSet, RoleId, Test, codes},
    workload::{ClaimKey, Profile},
};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashSet};

/// A `[[never]]`, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Never {
    pub(crate) name: String,
    /// Empty: all.
    pub(crate) issuers: Vec<IssuerId>,
    /// The roles it is about, sorted.
    pub(crate) roles: Vec<RoleId>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) span: crate::diag::Span,
}

/// A finding for each mapping that breaks a promise, or of which it cannot be said. `profiles`: at the issuers' numbers.
pub(crate) fn prove(set: &MappingSet, nevers: &[Never], profiles: &[&Profile]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (number, profile) in profiles.iter().enumerate().filter(|_| !nevers.is_empty()) {
        let id = IssuerId(number as u16);
        let about: Vec<&Never> =
            nevers.iter().filter(|never| never.issuers.is_empty() || never.issuers.contains(&id)).collect();
        let world = match World::new(profile, set.issuer(id)) {
            Ok(world) => world,
            Err(error) => {
                let why = Undecided::from(error);
                found.extend(about.iter().map(|never| undecided(never, &never.span, &never.name, &why)));
                continue;
            }
        };
        let mut denied = Denied { set, issuer: id, about: BTreeMap::new(), boxes: BTreeMap::new() };
        for never in about {
            let forbidden = match world.denied(&never.conditions) {
                Ok(forbidden) => forbidden,
                Err(why) => {
                    found.push(undecided(never, &never.span, &never.name, &why));
                    continue;
                }
            };
            let mut kept = HashSet::default();
            for (mapping, row) in (0..).map(MappingId).zip(&set.mappings) {
                if row.shadow {
                    continue;
                }
                if let Some(rule) = row.actor.as_deref().filter(|rule| rule.issuer == id && row.is_first()) {
                    found.extend(broken_by_actor(&world, never, &forbidden, (row, rule), &mut denied));
                }
                if row.issuer != id {
                    continue;
                }
                for role in row.roles.iter().filter(|role| never.roles.binary_search(role).is_ok()) {
                    match broken(&world, never, &forbidden, (mapping, *role), &mut denied, &mut kept) {
                        Ok(None) => continue,
                        Ok(Some(witness)) => found.push(broken_by(set, never, (mapping, *role), &witness)),
                        Err(why) => found.push(undecided(never, &row.span, &row.name, &why)),
                    }
                    // One role of a mapping shows the fault.
                    break;
                }
            }
        }
    }
    found
}

/// What denies take away at one issuer.
struct Denied<'s> {
    set: &'s MappingSet,
    issuer: IssuerId,
    /// Their positions, by role.
    about: BTreeMap<RoleId, Vec<u32>>,
    /// The jobs that they take, by position; few roles have others than their neighbours.
    boxes: BTreeMap<Vec<u32>, Vec<Jobs>>,
}

impl<'s> Denied<'s> {
    fn about(&mut self, role: RoleId) -> Vec<u32> {
        let (set, issuer) = (self.set, self.issuer);
        let about = |at: &&u32| deny(set, **at).roles.binary_search(&role).is_ok();
        self.about
            .entry(role)
            .or_insert_with(|| set.index().denies(issuer).iter().filter(about).copied().collect())
            .clone()
    }

    fn boxes(&mut self, world: &World<'_>, denies: Vec<u32>) -> Result<&[Jobs], Undecided> {
        if !self.boxes.contains_key(&denies) {
            let mut taken = Vec::new();
            for at in &denies {
                taken.extend(world.denied(&deny(self.set, *at).conditions)?);
            }
            self.boxes.insert(denies.clone(), taken);
        }
        Ok(&self.boxes[&denies])
    }
}

fn deny(set: &MappingSet, at: u32) -> &Deny {
    &set.denies[at as usize]
}

/// Denies and conditions beside which a promise is kept.
type Kept = HashSet<(Vec<u32>, Vec<(ClaimKey, Test)>), FixedState>;

/// A job that the mapping gives the role to and that is among the forbidden ones.
fn broken(
    world: &World<'_>,
    never: &Never,
    forbidden: &[Jobs],
    (mapping, role): (MappingId, RoleId),
    denied: &mut Denied<'_>,
    kept: &mut Kept,
) -> Result<Option<Job>, Undecided> {
    let set = denied.set;
    let mut conditions = set.conditions_for(mapping, role);
    if conditions.any(|one| never.conditions.iter().any(|other| apart(one, other))) {
        return Ok(None);
    }
    let denies = denied.about(role);
    let taken = denies.iter().flat_map(|at| &deny(set, *at).conditions);
    let Alike { conditions, key } =
        Alike::of(world, set.conditions_for(mapping, role), never.conditions.iter().chain(taken));
    let key = (denies, key);
    if kept.contains(&key) {
        return Ok(None);
    }
    let met = meet(&world.granted(&conditions)?, forbidden)?;
    let left = if met.is_empty() { met } else { subtract(met, denied.boxes(world, key.0.clone())?)? };
    let mut unknown = None;
    for jobs in left {
        match world.witness(&jobs) {
            Ok(None) => {}
            Ok(Some(witness)) => return Ok(Some(witness)),
            Err(why) => unknown = Some(why),
        }
    }
    if let Some(why) = unknown {
        return Err(why);
    }
    kept.insert(key);
    Ok(None)
}

/// Whoever acts has the role, too: a finding if that can be one of the forbidden ones.
fn broken_by_actor(
    world: &World<'_>,
    never: &Never,
    forbidden: &[Jobs],
    (row, rule): (&Mapping, &ActorRule),
    denied: &mut Denied<'_>,
) -> Option<Diagnostic> {
    let set = denied.set;
    for role in row.roles.iter().filter(|role| never.roles.binary_search(role).is_ok()) {
        let denies = denied.about(*role);
        let mut left = || -> Result<Option<Job>, Undecided> {
            let met = meet(&world.granted(&rule.conditions)?, forbidden)?;
            let left = if met.is_empty() { met } else { subtract(met, denied.boxes(world, denies.clone())?)? };
            for jobs in left {
                if let Some(witness) = world.witness(&jobs)? {
                    return Ok(Some(witness));
                }
            }
            Ok(None)
        };
        match left() {
            Ok(None) => {}
            Ok(Some(witness)) => {
                let message = format!(
                    "mapping `{}` lets somebody act and have `{}` whom `{}` rules out, for example {}",
                    row.name,
                    set.role(*role).name,
                    never.name,
                    example(&witness)
                );
                let help =
                    "narrow `[mapping.actor.match]` so that no such job fits it, or write a `[[deny]]` for such jobs";
                let finding = Diagnostic::error(codes::NEVER_BROKEN, rule.span.clone(), message, help);
                return Some(finding.and(never.span.clone(), format!("`[[never]]` `{}`", never.name)));
            }
            Err(why) => return Some(undecided(never, &rule.span, &row.name, &why)),
        }
    }
    None
}

fn broken_by(set: &MappingSet, never: &Never, (mapping, role): (MappingId, RoleId), witness: &Job) -> Diagnostic {
    let (mapping, role) = (set.mapping(mapping), &set.role(role).name);
    Diagnostic::error(
        codes::NEVER_BROKEN,
        mapping.span.clone(),
        format!(
            "mapping `{}` can give `{role}` to a job that `{}` says never gets it, for example {}",
            mapping.name,
            never.name,
            example(witness)
        ),
        "narrow the mapping so that no such job fits it, or write a `[[deny]]` for such jobs",
    )
    .and(never.span.clone(), format!("`[[never]]` `{}`", never.name))
}

fn undecided(never: &Never, span: &crate::diag::Span, what: &str, why: &Undecided) -> Diagnostic {
    Diagnostic::error(
        codes::NEVER_UNDECIDED,
        span.clone(),
        format!("whether `{what}` keeps what the `[[never]]` `{}` promises cannot be decided: {why}", never.name),
        "use fewer wildcards in the conditions of both, and name repositories in the mapping",
    )
    .and(never.span.clone(), format!("`[[never]]` `{}`", never.name))
}
