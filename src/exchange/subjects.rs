//! Of what a case is made that an operator may have suspended.

use super::strangers::Repository;
use crate::store::{Scope, subject_key};
use claimbound_core::workload::{Case, Claim, Workload};

/// At an issuer: the claim that a scope's names are values of.
const OF_CLAIMS: [(Scope, Claim); 3] =
    [(Scope::Tenant, Claim::RepositoryOwnerId), (Scope::Run, Claim::RunId), (Scope::Person, Claim::InitiatorId)];

/// The keys of everything that a grant to this case rests on: issuer, owner, repository, run and person of the principal
/// and of every actor, the mapping and the role. `principal_id` is the principal's, and `actors` are the actors', as
/// evidence names them.
pub(super) fn of(
    case: &Case<'_>,
    principal_id: &str,
    actors: &[Repository],
    mapping: &str,
    role: &str,
) -> Vec<[u8; 32]> {
    let mut keys = vec![subject_key(Scope::Mapping, "", mapping), subject_key(Scope::Role, "", role)];
    // One that evidence has no id for is still asked about, by its subject.
    let actors = case.actors.iter().enumerate().map(|(at, actor)| {
        let named = actors.get(at).map(|named| &*named.id);
        (actor, named.or_else(|| actor.text(Claim::Subject)).unwrap_or_default())
    });
    for (workload, id) in std::iter::once((&case.principal, principal_id)).chain(actors) {
        keys.push(subject_key(Scope::Issuer, &workload.issuer, ""));
        keys.push(subject_key(Scope::Repository, &workload.issuer, repository(workload, id)));
        keys.extend(OF_CLAIMS.iter().filter_map(|(scope, claim)| {
            workload.text(*claim).map(|name| subject_key(*scope, &workload.issuer, name))
        }));
    }
    keys
}

/// The immutable id of a job's repository; where its issuer knows no repositories, its own.
pub(super) fn repository<'w>(workload: &'w Workload<'_>, id: &'w str) -> &'w str {
    workload.text(Claim::RepositoryId).unwrap_or(id)
}

/// Who started the job's run, as a lease keeps it.
pub(super) fn person(workload: &Workload<'_>) -> Option<[u8; 32]> {
    workload.text(Claim::InitiatorId).map(|id| subject_key(Scope::Person, &workload.issuer, id))
}
