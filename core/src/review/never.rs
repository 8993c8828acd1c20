//! `[[never]]`: what no mapping of the folder may ever allow, proved over the boxes of all of them when it loads.
//!
//! Denies count, because they hold at run time. A proof that cannot be finished is an error of its own: it is never
//! taken for one that holds.

use super::{
    boxes::{Jobs, Undecided, meet, subtract},
    given::Job,
    overlap::example,
    world::World,
};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, IssuerId, MappingId, MappingSet, RoleId, codes},
    workload::Profile,
};
use std::collections::BTreeMap;

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
    let mut denies = BTreeMap::new();
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
        for never in about {
            let forbidden = match world.denied(&never.conditions) {
                Ok(forbidden) => forbidden,
                Err(why) => {
                    found.push(undecided(never, &never.span, &never.name, &why));
                    continue;
                }
            };
            for (mapping, row) in (0..).map(MappingId).zip(&set.mappings) {
                if row.issuer != id || row.shadow {
                    continue;
                }
                for role in row.roles.iter().filter(|role| never.roles.binary_search(role).is_ok()) {
                    match broken(set, &world, &forbidden, (mapping, *role), &mut denies) {
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

/// The jobs that the denies about a role take away, by issuer and role.
type Denied = BTreeMap<(IssuerId, RoleId), Vec<Jobs>>;

/// A job that the mapping gives the role to and that is among the forbidden ones.
fn broken(
    set: &MappingSet,
    world: &World<'_>,
    forbidden: &[Jobs],
    (mapping, role): (MappingId, RoleId),
    denies: &mut Denied,
) -> Result<Option<Job>, Undecided> {
    let met = meet(&world.granted(set.conditions_for(mapping, role))?, forbidden)?;
    if met.is_empty() {
        return Ok(None);
    }
    let issuer = set.mapping(mapping).issuer;
    if let std::collections::btree_map::Entry::Vacant(free) = denies.entry((issuer, role)) {
        let mut taken = Vec::new();
        for at in set.index().denies(issuer) {
            let deny = &set.denies[*at as usize];
            if deny.roles.binary_search(&role).is_ok() {
                taken.extend(world.denied(&deny.conditions)?);
            }
        }
        free.insert(taken);
    }
    let mut unknown = None;
    for jobs in subtract(met, &denies[&(issuer, role)])? {
        match world.witness(&jobs) {
            Ok(None) => {}
            Ok(Some(witness)) => return Ok(Some(witness)),
            Err(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Ok(None), Err)
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
