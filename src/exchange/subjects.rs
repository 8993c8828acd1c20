//! Of what a case is made that an operator may have suspended.

use super::strangers::Repository;
use crate::store::{Scope, subject_key};
use claimbound_core::workload::{Case, Claim, Workload};

/// At an issuer: the claim that a scope's names are values of.
const OF_CLAIMS: [(Scope, Claim); 3] =
    [(Scope::Tenant, Claim::RepositoryOwnerId), (Scope::Run, Claim::RunId), (Scope::Person, Claim::InitiatorId)];

/// The keys of the job that a grant is for: issuer, owner, repository, run and person. `id`: as evidence names it.
pub(super) fn of_principal(case: &Case<'_>, id: &str) -> Vec<[u8; 32]> {
    let mut keys = Vec::new();
    of_one(&case.principal, id, &mut keys);
    keys
}

/// The keys of everything else that a grant to this case rests on: the mapping, the role, and the same of every actor, as
/// evidence names them. What comes of its token rests on them, too.
pub(super) fn beside(case: &Case<'_>, actors: &[Repository], mapping: &str, role: &str) -> Vec<[u8; 32]> {
    let mut keys = of_grant(mapping, role).to_vec();
    // One that evidence has no id for is still asked about, by its subject.
    let actors = case.actors.iter().enumerate().map(|(at, actor)| {
        let named = actors.get(at).map(|named| &*named.id);
        (actor, named.or_else(|| actor.text(Claim::Subject)).unwrap_or_default())
    });
    actors.for_each(|(workload, id)| of_one(workload, id, &mut keys));
    keys
}

/// The keys of a mapping and a role.
pub(super) fn of_grant(mapping: &str, role: &str) -> [[u8; 32]; 2] {
    [subject_key(Scope::Mapping, "", mapping), subject_key(Scope::Role, "", role)]
}

fn of_one(workload: &Workload<'_>, id: &str, keys: &mut Vec<[u8; 32]>) {
    keys.push(subject_key(Scope::Issuer, &workload.issuer, ""));
    keys.push(subject_key(Scope::Repository, &workload.issuer, repository(workload, id)));
    keys.extend(
        OF_CLAIMS
            .iter()
            .filter_map(|(scope, claim)| workload.text(*claim).map(|name| subject_key(*scope, &workload.issuer, name))),
    );
}

/// The immutable id of a job's repository; where its issuer knows no repositories, its own.
pub(super) fn repository<'w>(workload: &'w Workload<'_>, id: &'w str) -> &'w str {
    workload.text(Claim::RepositoryId).unwrap_or(id)
}

/// Who started the job's run, as a lease keeps it.
pub(super) fn person(workload: &Workload<'_>) -> Option<[u8; 32]> {
    workload.text(Claim::InitiatorId).map(|id| subject_key(Scope::Person, &workload.issuer, id))
}
