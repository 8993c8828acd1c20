//! Conditions → unions of boxes, and what one side of a comparison has that the other has not: exactly, or an explicit
//! [`Undecided`].
//!
//! A box is a product, and some conditions speak of two claims at once. Each has an exact form here:
//!
//! - *Pairs of name and id* become one box for each id that has a name, and one for all ids that have none. In a deny
//!   either half is enough, which is a union of two boxes.
//! - *"The job's own repository"* is an axis of its own, [`Axis::Own`], that is `true` where the claim and
//!   `repository` are one name. The product then holds points that contradict themselves (`true` beside two different
//!   names). That is no loss: a difference taken in the whole product and then restricted to the points that make sense
//!   is the difference of the restricted sets. Only the question whether a box holds *some* job must know about
//!   it, and [`World::witness`] does.
//! - *Derived claims* are lowered to what they derive from: `branch`, `tag` and `pull_request` to `ref` (and
//!   `event_name`), an owner's name to `repository`, a workflow that is always the job's own to `repository`.
//!
//! What else ties claims together in real jobs (a job outside of pull requests has no `head_ref`, `ref_type` follows
//! `ref`, the parts of a workflow come together) is likewise left to [`World::witness`].

use super::{
    raw,
    world::{HEADS, PARTS_MAX, REFS, TAGS, World},
};
use crate::{
    lang::{
        pattern::{Lang, PatternError},
        space::{Domain, Gaps, Space},
    },
    mapping::{Condition, Test},
    workload::{Claim, ClaimKey, Kind, RawClaim},
};
use std::collections::BTreeMap;

/// Most boxes that a union may come to have.
pub const BOXES_MAX: usize = 20_000;

/// Most comparisons of two boxes for one role of one issuer, when two folders are compared.
pub const STEPS_MAX: usize = 2_000_000;

/// A dimension of a box.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Axis {
    Claim(Claim),
    /// Whether this claim, a workflow's repository, is the job's own: `true` or `false`.
    Own(Claim),
    /// What a token says beside the canonical claims.
    Raw(RawClaim),
    /// The same of who acts for the job.
    Actor(Box<Axis>),
}

/// A box of jobs.
pub type Jobs = Space<Axis>;

/// No answer within the stated bounds: never to be taken for "no change".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Undecided {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("more than {BOXES_MAX} combinations of conditions would have to be compared")]
    Boxes,
    #[error("whether some job meets these conditions takes more than {PARTS_MAX} steps to tell")]
    Parts,
    #[error("comparing its mappings takes more than {STEPS_MAX} steps")]
    Steps,
    #[error("whether some job has such a `subject` and such a `repository` is not known")]
    Subject,
}

/// One side of a comparison: what its mappings let through, and what its denies take away.
#[derive(Clone, Default, Debug)]
pub struct Access {
    pub granted: Vec<Jobs>,
    pub denied: Vec<Jobs>,
}

/// What `after` gives and `before` did not. The boxes may overlap, and some may hold no job: ask [`World::witness`].
pub fn gain(before: &Access, after: &Access) -> Result<Vec<Jobs>, Undecided> {
    let given = subtract(after.granted.clone(), &after.denied)?;
    let mut gain = meet(&given, &before.denied)?;
    gain.extend(subtract(given, &before.granted)?);
    within_bounds(gain)
}

/// A union without another, in pieces.
pub fn subtract(from: Vec<Jobs>, taken: &[Jobs]) -> Result<Vec<Jobs>, Undecided> {
    let mut rest = from;
    for taken in taken {
        let mut pieces = Vec::with_capacity(rest.len());
        for part in rest {
            pieces.extend(part.minus(taken)?);
            if pieces.len() > BOXES_MAX {
                return Err(Undecided::Boxes);
            }
        }
        rest = pieces;
    }
    Ok(rest)
}

/// What two unions have in common.
pub fn meet(a: &[Jobs], b: &[Jobs]) -> Result<Vec<Jobs>, Undecided> {
    let mut met = Vec::new();
    for a in a {
        for b in b {
            met.extend(a.intersect(b)?);
            if met.len() > BOXES_MAX {
                return Err(Undecided::Boxes);
            }
        }
    }
    Ok(met)
}

fn within_bounds(boxes: Vec<Jobs>) -> Result<Vec<Jobs>, Undecided> {
    if boxes.len() > BOXES_MAX { Err(Undecided::Boxes) } else { Ok(boxes) }
}

fn one(claim: Claim, domain: Domain) -> Result<Jobs, PatternError> {
    Space::of([(Axis::Claim(claim), domain)])
}

impl World<'_> {
    /// The jobs that a mapping's conditions, or `require`'s, let through: what is not present never does.
    pub fn granted<'c>(&self, conditions: impl IntoIterator<Item = &'c Condition>) -> Result<Vec<Jobs>, Undecided> {
        self.all(conditions, |condition| self.grants(condition))
    }

    /// The jobs of which the conditions of a `[[deny]]` or `[[never]]` speak: what is unknown counts, unless a
    /// condition ignores it.
    pub fn denied<'c>(&self, conditions: impl IntoIterator<Item = &'c Condition>) -> Result<Vec<Jobs>, Undecided> {
        self.all(conditions, |condition| self.denies(condition))
    }

    fn all<'c>(
        &self,
        conditions: impl IntoIterator<Item = &'c Condition>,
        boxes: impl Fn(&Condition) -> Result<Vec<Jobs>, Undecided>,
    ) -> Result<Vec<Jobs>, Undecided> {
        let mut all = vec![Space::default()];
        for condition in conditions {
            all = meet(&all, &boxes(condition)?)?;
        }
        Ok(all)
    }

    fn grants(&self, condition: &Condition) -> Result<Vec<Jobs>, Undecided> {
        self.parts(condition, |test| self.grants_by(condition, test))
    }

    /// What any of a condition's tests says.
    fn parts(
        &self,
        condition: &Condition,
        boxes: impl Fn(&Test) -> Result<Vec<Jobs>, Undecided>,
    ) -> Result<Vec<Jobs>, Undecided> {
        let mut any = Vec::new();
        for test in condition.test.parts() {
            any.extend(boxes(test)?);
        }
        within_bounds(any)
    }

    fn grants_by(&self, condition: &Condition, test: &Test) -> Result<Vec<Jobs>, Undecided> {
        let claim = match &condition.claim {
            ClaimKey::Canonical(claim) => *claim,
            ClaimKey::Raw(raw) => return of_raw(raw, test, Gaps::NEVER),
        };
        match test {
            Test::Repository(pairs) => self.pairs([Claim::Repository, Claim::RepositoryId], pairs),
            Test::ById(pairs) => {
                let ids = Lang::one_of(pairs.iter().map(|(_, id)| id.as_str()), false);
                self.lower(Claim::RepositoryId, &Domain::of(ids))
            }
            Test::Owner(pairs) => self.pairs([Claim::RepositoryOwner, Claim::RepositoryOwnerId], pairs),
            Test::SameRepository => self.same_repository(claim, Gaps::NEVER),
            test => self.lower(claim, &plain(claim, test, Gaps::NEVER)),
        }
    }

    fn denies(&self, condition: &Condition) -> Result<Vec<Jobs>, Undecided> {
        self.parts(condition, |test| self.denies_by(condition, test))
    }

    fn denies_by(&self, condition: &Condition, test: &Test) -> Result<Vec<Jobs>, Undecided> {
        let unknown = if condition.if_unknown_ignore { Gaps::NEVER } else { Gaps::UNKNOWN };
        let claim = match &condition.claim {
            ClaimKey::Canonical(claim) => *claim,
            ClaimKey::Raw(raw) => return of_raw(raw, test, unknown | Gaps::MISFIT),
        };
        let halves = |name: Claim, id: Claim, pairs: &[(String, String)]| {
            let ids = Lang::one_of(pairs.iter().map(|(_, id)| id.as_str()), false);
            let names = || pairs.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty());
            let mut either = self.lower(id, &Domain::new(unknown | Gaps::MISFIT, ids))?;
            if names().next().is_some() {
                let names = Lang::one_of(names(), self.folds());
                either.extend(self.lower(name, &Domain::new(unknown | Gaps::MISFIT, names))?);
            }
            Ok(either)
        };
        match test {
            Test::Repository(pairs) => halves(Claim::Repository, Claim::RepositoryId, pairs),
            Test::ById(pair) => halves(Claim::Repository, Claim::RepositoryId, pair),
            Test::Owner(pairs) => halves(Claim::RepositoryOwner, Claim::RepositoryOwnerId, pairs),
            Test::SameRepository => self.same_repository(claim, unknown),
            test => self.lower(claim, &plain(claim, test, unknown | Gaps::MISFIT)),
        }
    }

    /// Name and id must both fit, pairwise; an empty name fits any.
    fn pairs(&self, [name, id]: [Claim; 2], pairs: &[(String, String)]) -> Result<Vec<Jobs>, Undecided> {
        let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let free = pairs.iter().filter(|(name, _)| name.is_empty()).map(|(_, id)| id.as_str());
        let free = Lang::one_of(free, false);
        for (name, id) in pairs.iter().filter(|(_, id)| !free.matches(id)) {
            named.entry(id).or_default().push(name);
        }
        let mut boxes = self.lower(id, &Domain::of(free))?;
        for (own, names) in named {
            let ids = self.lower(id, &Domain::of(Lang::exact(own, false)))?;
            let names = self.lower(name, &Domain::of(Lang::one_of(names, self.folds())))?;
            boxes.extend(meet(&ids, &names)?);
        }
        within_bounds(boxes)
    }

    /// `workflow` and the job's `repository` are one; `unknown` says whether what is unknown counts.
    fn same_repository(&self, workflow: Claim, unknown: Gaps) -> Result<Vec<Jobs>, Undecided> {
        let mut same = Space::of([
            (Axis::Claim(workflow), Domain::present()),
            (Axis::Claim(Claim::Repository), Domain::present()),
        ])?;
        if !self.is_own(workflow) {
            same.narrow(Axis::Own(workflow), &Domain::of(truth(true)))?;
        }
        let mut boxes = vec![same];
        if unknown != Gaps::NEVER {
            let mut of_unknown = one(workflow, Domain::present())?;
            of_unknown.narrow(Axis::Claim(Claim::Repository), &Domain::gap(unknown))?;
            boxes.extend([one(workflow, Domain::gap(unknown))?, of_unknown]);
        }
        Ok(boxes)
    }

    /// What a condition on one claim says about the claims that this one derives from.
    fn lower(&self, claim: Claim, domain: &Domain) -> Result<Vec<Jobs>, Undecided> {
        let unknown = domain.gaps & Gaps::UNKNOWN;
        let boxes = match claim {
            Claim::Branch | Claim::Tag if self.profile().has_refs() => {
                let prefix = if claim == Claim::Branch { HEADS } else { TAGS };
                let mut to = Domain::new(unknown, domain.values.intersect(&Lang::texts())?.after(prefix)?);
                if domain.gaps.has(Gaps::NONE) {
                    to = to.union(&Domain::of(Lang::texts().after(REFS)?.minus(&Lang::starting(prefix, false)?)?))?;
                }
                vec![one(Claim::Ref, to)?]
            }
            Claim::PullRequest if self.profile().has_refs() => self.lower_pull_request(domain)?,
            Claim::RepositoryOwner if self.profile().provides(Claim::Repository) => {
                let owned = domain.values.intersect(&Lang::texts())?.owning()?;
                vec![one(Claim::Repository, Domain::new(unknown, owned))?]
            }
            workflow if self.is_own(workflow) => {
                let mut present = one(workflow, Domain::present())?;
                present.narrow(Axis::Claim(Claim::Repository), &Domain::of(domain.values.clone()))?;
                vec![present, one(workflow, Domain::gap(domain.gaps))?]
            }
            claim => vec![one(claim, domain.clone())?],
        };
        Ok(boxes.into_iter().filter(|jobs| !jobs.is_empty()).collect())
    }

    /// A ref shows a number; without one, there is provably none only outside of the events that concern pull requests.
    fn lower_pull_request(&self, domain: &Domain) -> Result<Vec<Jobs>, Undecided> {
        let events = self.profile().pull_request_events();
        let concerned = Domain::new(Gaps::ANY, Lang::one_of(events.iter().map(String::as_str), false));
        let mut without = Lang::texts().after(REFS)?;
        let mut boxes = Vec::new();
        if let Some(prefix) = self.profile().pull_request_prefix() {
            without = without.minus(&Lang::starting(prefix, false)?)?;
            boxes.push(one(Claim::Ref, Domain::of(self.merge_refs(prefix, &domain.values)?))?);
        }
        for (gap, event) in [(Gaps::NONE, concerned.complement()?), (Gaps::UNKNOWN, concerned)] {
            if domain.gaps.has(gap) {
                let mut jobs = one(Claim::Ref, Domain::of(without.clone()))?;
                jobs.narrow(Axis::Claim(Claim::EventName), &event)?;
                boxes.push(jobs);
            }
        }
        if domain.gaps.has(Gaps::UNKNOWN) {
            boxes.push(one(Claim::Ref, Domain::gap(Gaps::UNKNOWN))?);
        }
        Ok(boxes)
    }
}

fn of_raw(raw: &RawClaim, test: &Test, gaps: Gaps) -> Result<Vec<Jobs>, Undecided> {
    let jobs = Space::of([(Axis::Raw(raw.clone()), raw::domain(test, gaps)?)])?;
    Ok(if jobs.is_empty() { Vec::new() } else { vec![jobs] })
}

/// A condition on one claim. `gaps`: the points that hold it whatever it asks.
fn plain(claim: Claim, test: &Test, gaps: Gaps) -> Domain {
    let boolean = claim.kind() == Kind::Boolean;
    match test {
        Test::Text(lang) if !boolean => Domain::new(gaps, lang.clone()),
        Test::Is(value) if boolean => Domain::new(gaps, truth(*value)),
        Test::Present => Domain::new(gaps | Gaps::MISFIT, Lang::anything()),
        Test::Absent => Domain::new((gaps & Gaps::UNKNOWN) | Gaps::NONE, Lang::nothing()),
        // Another type than the claim has: true in a deny.
        _ if gaps.has(Gaps::MISFIT) => Domain::new(gaps, Lang::anything()),
        _ => Domain::gap(gaps),
    }
}

/// A boolean as the text that stands for it in boxes.
pub(super) fn truth(value: bool) -> Lang {
    Lang::exact(if value { "true" } else { "false" }, false)
}

#[cfg(test)]
pub(super) mod tests;
