//! A box of jobs in words, and a job that shows it.

use crate::{
    lang::{
        pattern::Lang,
        space::{Domain, Gaps},
    },
    mapping::Issuer,
    review::{
        Job,
        boxes::{Axis, Jobs, Undecided},
        raw,
        world::{HEADS, TAGS, World},
    },
    workload::Claim,
};
use std::collections::BTreeMap;

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
            Axis::Claim(_) | Axis::Actor(_) => {}
            Axis::Raw(claim) => shape.extend(raw::words(domain).map(|words| (claim.name().to_owned(), words))),
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

/// Ids of owners, each with the repositories below the names that either folder lists for it: an owner's id and name go
/// together. Without this a new owner would seem to gain all that its namesakes of other ids have.
#[derive(Default)]
pub(super) struct Owners(Vec<(String, Lang)>);

impl Owners {
    /// Of the issuers of one URL on both sides.
    pub(super) fn of<'i>(issuers: impl IntoIterator<Item = &'i Issuer>) -> Result<Self, Undecided> {
        let mut names: BTreeMap<&str, (Vec<&str>, bool)> = BTreeMap::new();
        for issuer in issuers.into_iter().filter(|issuer| issuer.multi_tenant && issuer.pin.is_none()) {
            for (name, id) in &issuer.owners {
                let (names, folds) = names.entry(id).or_default();
                names.push(name);
                *folds = issuer.folds_names;
            }
        }
        let owned =
            |(id, (names, folds)): (&str, (Vec<&str>, bool))| Ok((id.to_owned(), Lang::one_of(names, folds).owning()?));
        Ok(Self(names.into_iter().map(owned).collect::<Result<_, Undecided>>()?))
    }
}

/// A job of this box, by a push where that may be; `None`: there is none.
pub(super) fn example(world: &World<'_>, owners: &Owners, jobs: &Jobs) -> Result<Option<Job>, Undecided> {
    let owner = Axis::Claim(Claim::RepositoryOwnerId);
    let listed = jobs.get(&owner).filter(|domain| domain.gaps == Gaps::NEVER && domain.values.members().is_some());
    let Some(listed) = listed.filter(|_| !owners.0.is_empty()) else { return likely(world, jobs) };
    for (id, repositories) in owners.0.iter().filter(|(id, _)| listed.allows(id)) {
        let mut own = jobs.clone();
        own.narrow(owner.clone(), &Domain::of(Lang::exact(id, false)))?;
        own.narrow(Axis::Claim(Claim::Repository), &Domain::of(repositories.clone()))?;
        if let Some(job) = likely(world, &own)? {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

fn likely(world: &World<'_>, jobs: &Jobs) -> Result<Option<Job>, Undecided> {
    let event = Axis::Claim(Claim::EventName);
    if jobs.get(&event).is_some_and(|domain| domain.allows("push")) {
        let mut pushes = jobs.clone();
        pushes.narrow(event, &Domain::of(Lang::exact("push", false)))?;
        if let Ok(Some(job)) = world.witness(&pushes) {
            return Ok(Some(job));
        }
    }
    world.witness(jobs)
}
