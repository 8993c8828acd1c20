//! Most mappings ask each thing once and meet no deny: that they reach some job shows without a proof, which takes a
//! thousand times longer.

use crate::{
    mapping::{Condition, Deny, Origin, Test},
    workload::{Claim, Profile},
};

/// Whether some job surely has the role. `false` says nothing: it has to be proved.
pub(super) fn reaches(profile: &Profile, conditions: &[Condition], denies: &[&Deny]) -> bool {
    let mut asked: Vec<Claim> = Vec::with_capacity(conditions.len());
    for condition in conditions {
        // What a token may say beside them is proved.
        let Some(claim) = condition.claim.canonical() else { return false };
        let subject = subject(claim);
        if asked.contains(&subject) || !is_plain(claim, condition) {
            return false;
        }
        asked.push(subject);
    }
    let apart = |deny: &&Deny| {
        let of_others = |one: &Condition| conditions.iter().any(|condition| are_apart(condition, one));
        deny.conditions.iter().any(of_others) || leaves_some(profile, &asked, deny)
    };
    denies.iter().all(apart)
}

/// A deny that asks for nothing that the mapping asks for leaves it jobs: those that differ in what the deny asks for. Not
/// so where all jobs may be of the one owner, or where none says what is asked: unknown counts as true there.
fn leaves_some(profile: &Profile, asked: &[Claim], deny: &Deny) -> bool {
    let claims: Option<Vec<Claim>> = deny.conditions.iter().map(|one| one.claim.canonical()).collect();
    let Some(claims) = claims else { return false };
    let differs = |claim: &Claim| subject(*claim) != Claim::Repository && profile.provides(*claim);
    claims.iter().all(|claim| !asked.contains(&subject(*claim))) && claims.iter().any(differs)
}

/// Claims that speak of one thing, as one of them.
fn subject(claim: Claim) -> Claim {
    use Claim as C;
    match claim {
        C::Branch | C::Tag | C::RefType | C::PullRequest => C::Ref,
        C::RepositoryId | C::RepositoryOwner | C::RepositoryOwnerId | C::Subject => C::Repository,
        claim => claim,
    }
}

/// Values that are only themselves, of claims that nothing else ties. A pull request's claims are tied to the events.
fn is_plain(claim: Claim, condition: &Condition) -> bool {
    let tied = [Claim::BaseRef, Claim::HeadRef, Claim::PullRequest, Claim::RefType, Claim::Subject];
    let valued =
        matches!(condition.test, Test::Text(_) | Test::Is(_) | Test::Repository(_) | Test::ById(_) | Test::Owner(_));
    let usual_event = claim != Claim::EventName || condition.origin == Origin::DefaultEvents;
    valued && usual_event && !tied.contains(&claim)
}

/// Whether no job is in both: repositories of other owners than those.
fn are_apart(asked: &Condition, denied: &Condition) -> bool {
    let (Test::Repository(repositories), Test::Owner(owners)) = (&asked.test, &denied.test) else { return false };
    repositories.iter().all(|(name, _)| {
        let owner = name.rsplit_once('/').map(|(owner, _)| owner);
        owner.is_some_and(|owner| owners.iter().all(|(other, _)| !other.eq_ignore_ascii_case(owner)))
    })
}
