//! A box of jobs in words, and a job that shows it.

use crate::{
    lang::{
        pattern::Lang,
        space::{Domain, Gaps},
    },
    mapping::Issuer,
    review::{
        boxes::{Axis, Jobs, Undecided},
        world::{HEADS, TAGS, World},
    },
    workload::Claim,
};

/// What a box asks of its jobs, beside their repository: claim and words.
pub type Shape = Vec<(String, String)>;

/// `pinned`: the repository is told elsewhere.
pub(super) fn of(jobs: &Jobs, issuer: Option<&Issuer>, pinned: bool) -> Shape {
    let told = |claim: Claim| match claim {
        Claim::Repository | Claim::RepositoryId | Claim::RepositoryOwnerId => pinned,
        _ => false,
    };
    // Every job that is no stranger's is of one of these.
    let owners = issuer.map(|issuer| Lang::one_of(issuer.owners.values().map(String::as_str), false));
    let everybody = |claim: Claim, domain: &Domain| {
        claim == Claim::RepositoryOwnerId && owners.as_ref().is_some_and(|owners| domain.values == *owners)
    };
    let mut shape = Shape::new();
    for (axis, domain) in jobs.iter() {
        match axis {
            Axis::Own(claim) => {
                let own = if domain.allows("true") { "the job's own" } else { "not the job's own" };
                if domain.allows("true") != domain.allows("false") {
                    shape.push((claim.name().to_owned(), own.to_owned()));
                }
            }
            Axis::Claim(claim) if !told(claim) && !everybody(claim, domain) => shape.extend(words(claim, domain)),
            Axis::Claim(_) => {}
        }
    }
    shape
}

fn words(claim: Claim, domain: &Domain) -> Option<(String, String)> {
    let (claim, values) = match claim {
        Claim::Ref => below(domain, Claim::Branch, HEADS).or_else(|| below(domain, Claim::Tag, TAGS)),
        _ => None,
    }
    .unwrap_or_else(|| (claim, domain.values.clone()));
    let mut said = Vec::new();
    match (values.is_empty(), values.is_anything()) {
        (true, _) => {}
        (_, true) => said.push("any value".to_owned()),
        _ => said.push(values.describe()),
    }
    for (gap, word) in [(Gaps::NONE, "none"), (Gaps::UNKNOWN, "unknown")] {
        if domain.gaps.has(gap) {
            said.push(word.to_owned());
        }
    }
    let all = values.is_anything() && domain.gaps.has(Gaps::NONE | Gaps::UNKNOWN);
    (!all && !said.is_empty()).then(|| (claim.name().to_owned(), said.join(", or ")))
}

/// A list of refs that are all branches, or all tags.
fn below(domain: &Domain, claim: Claim, prefix: &str) -> Option<(Claim, Lang)> {
    let members: Option<Vec<&str>> = domain.values.members()?.map(|text| text.strip_prefix(prefix)).collect();
    let members = members.filter(|members| !members.is_empty() && domain.gaps == Gaps::NEVER)?;
    Some((claim, Lang::one_of(members, false)))
}

/// A job of this box, of the owner that its repository's name names and by a push where that may be.
pub(super) fn example(
    world: &World<'_>,
    issuer: Option<&Issuer>,
    jobs: &Jobs,
) -> Result<Option<Vec<(Claim, String)>>, Undecided> {
    let mut likely = jobs.clone();
    let mut prefer = |claim, value: &str| {
        let axis = Axis::Claim(claim);
        if likely.get(axis).is_some_and(|domain| domain.allows(value)) {
            likely.narrow(axis, &Domain::of(Lang::exact(value, false)))?;
        }
        Ok::<_, Undecided>(())
    };
    prefer(Claim::EventName, "push")?;
    let name =
        jobs.get(Axis::Claim(Claim::Repository)).and_then(|domain| domain.values.members()?.next().map(str::to_owned));
    let owner = name.as_deref().and_then(|name| issuer?.id_of_owner(name.split_once('/')?.0));
    if let Some(owner) = owner {
        prefer(Claim::RepositoryOwnerId, owner)?;
    }
    match world.witness(&likely) {
        Ok(Some(job)) => Ok(Some(job)),
        _ => world.witness(jobs),
    }
}
