//! Conditions → the box of jobs that they let through, exactly: derived claims are lowered to the claims that they
//! are derived from, or a product of claims would hold jobs that cannot exist.
//!
//! `branch` and `tag` become languages of `ref`, which `ref_type` narrows too; an owner narrows `repository`. Pairs of name and id stay beside the
//! box, for a product cannot say which name goes with which id.

use super::{
    boxes::{Axis, Jobs},
    given::Job,
    raw,
};
use crate::{
    lang::{
        pattern::{Lang, PatternError},
        space::{Domain, Gaps, Space},
    },
    mapping::{Condition, Pairs, Test},
    workload::{Claim, ClaimKey},
};

const REFS: &str = "refs/";
const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// Most ways to choose one test of each `any` of a mapping.
const WAYS_MAX: usize = 256;

/// The jobs that some conditions let through.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    space: Space<Claim>,
    /// Pairs of (name, id), of which one must hold; the name may be empty. `None`: no pair is demanded.
    pairs: Option<Vec<(String, String)>>,
    /// Claims that equal the job's own repository.
    own: Vec<Claim>,
    /// What the token says beside the canonical claims.
    raw: Jobs,
    folds: bool,
}

impl Reach {
    /// One for each way to choose of every `any`. `folds`: whether the issuer's forge folds names.
    pub(super) fn of<'c>(
        conditions: impl IntoIterator<Item = &'c Condition>,
        folds: bool,
    ) -> Result<Vec<Self>, PatternError> {
        let mut reaches =
            vec![Self { space: Space::default(), pairs: None, own: Vec::new(), raw: Space::default(), folds }];
        for condition in conditions {
            if let [test] = condition.test.parts() {
                reaches.iter_mut().try_for_each(|reach| reach.narrow(&condition.claim, test))?;
                continue;
            }
            let mut next = Vec::with_capacity(reaches.len());
            for reach in reaches {
                for test in condition.test.parts() {
                    let mut narrowed = reach.clone();
                    narrowed.narrow(&condition.claim, test)?;
                    next.push(narrowed);
                }
            }
            if next.len() > WAYS_MAX {
                return Err(PatternError(format!("its `any` can be chosen from in more than {WAYS_MAX} ways")));
            }
            reaches = next;
        }
        Ok(reaches)
    }

    fn narrow(&mut self, claim: &ClaimKey, test: &Test) -> Result<(), PatternError> {
        let claim = match claim {
            ClaimKey::Canonical(claim) => *claim,
            ClaimKey::Raw(raw) => return self.raw.narrow(Axis::Raw(raw.clone()), &raw::domain(test, Gaps::NEVER)?),
        };
        let domain = match test {
            Test::Any(_) | Test::Every(_) | Test::Integer(_) => return Ok(()),
            Test::Text(lang) => Domain::of(lang.clone()),
            Test::Is(value) => Domain::of(Lang::exact(if *value { "true" } else { "false" }, false)),
            Test::Present => Domain::present(),
            Test::Absent => Domain::gap(Gaps::NONE),
            Test::SameRepository => {
                self.own.push(claim);
                return Ok(());
            }
            Test::Owner(pairs) => {
                // Each side is narrowed by itself: `owners` gives one id to one name, so nothing is lost.
                let names = || pairs.iter().map(|(name, _)| name.as_str());
                let ids = Lang::one_of(pairs.iter().map(|(_, id)| id.as_str()), false);
                self.space.narrow(Claim::RepositoryOwnerId, &Domain::of(ids))?;
                // So many owners that no automaton holds them narrow the repository no further: that finds too much.
                if let Ok(below) = Lang::one_of(names(), self.folds).owning() {
                    self.space.narrow(Claim::Repository, &Domain::of(below))?;
                }
                return self.space.narrow(Claim::RepositoryOwner, &Domain::of(Lang::one_of(names(), self.folds)));
            }
            Test::Repository(pairs) => {
                self.demand(pairs);
                return Ok(());
            }
            Test::ById(pairs) => {
                let ids: Pairs = pairs.iter().map(|(_, id)| (String::new(), id.clone())).collect();
                self.demand(&ids);
                return Ok(());
            }
        };
        match claim {
            Claim::Branch => self.space.narrow(Claim::Ref, &lowered(&domain, HEADS)?),
            Claim::Tag => self.space.narrow(Claim::Ref, &lowered(&domain, TAGS)?),
            claim => {
                if let (Claim::RefType, Test::Text(kinds)) = (claim, test) {
                    // Below these two prefixes a profile knows no other type; elsewhere it may list odd pairs.
                    for (kind, prefix) in [("branch", HEADS), ("tag", TAGS)] {
                        if !kinds.matches(kind) {
                            self.space.narrow(Claim::Ref, &outside(prefix, Gaps::UNKNOWN)?)?;
                        }
                    }
                }
                self.space.narrow(claim, &domain)
            }
        }
    }

    /// One of these pairs, beside those that are demanded already.
    fn demand(&mut self, pairs: &[(String, String)]) {
        self.pairs = Some(match self.pairs.take() {
            Some(before) => join(&before, pairs, self.folds),
            None => pairs.to_vec(),
        });
    }

    /// A job that both let through; `None` when there is none.
    pub(super) fn meet(&self, other: &Self) -> Result<Option<Job>, PatternError> {
        let Some(told) = raw::job(&self.raw, &other.raw)? else { return Ok(None) };
        let Some(mut space) = self.space.intersect(&other.space)? else { return Ok(None) };
        let pairs = match (&self.pairs, &other.pairs) {
            (Some(a), Some(b)) => Some(join(a, b, self.folds)),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        let own: Vec<Claim> = self.own.iter().chain(&other.own).copied().collect();
        for claim in &own {
            // Each is the repository, so the repository may be what each may be.
            let theirs = space.get(*claim).cloned().unwrap_or_else(Domain::present);
            space.narrow(Claim::Repository, &theirs)?;
            space.narrow(Claim::Repository, &Domain::present())?;
        }
        if space.is_empty() {
            return Ok(None);
        }
        let fits = |claim, text: &str| space.get(claim).is_none_or(|domain| domain.allows(text));
        let pair = match &pairs {
            None => None,
            Some(pairs) => {
                let pair = pairs.iter().find(|(name, id)| {
                    fits(Claim::RepositoryId, id) && (name.is_empty() || fits(Claim::Repository, name))
                });
                let Some(pair) = pair else { return Ok(None) };
                Some(pair)
            }
        };
        let mut witness: Vec<(Claim, String)> = Vec::new();
        for (claim, domain) in space.iter() {
            // Missing if it may be.
            let value = if domain.gaps == Gaps::NEVER { domain.values.witness_within(&Lang::texts())? } else { None };
            witness.extend(value.map(|value| (claim, value)));
        }
        if let Some((name, id)) = pair {
            set(&mut witness, Claim::RepositoryId, id);
            if !name.is_empty() {
                set(&mut witness, Claim::Repository, name);
            }
        }
        let repository = witness.iter().find(|(claim, _)| *claim == Claim::Repository).map(|(_, name)| name.clone());
        for claim in own {
            set(&mut witness, claim, repository.as_deref().unwrap_or_default());
        }
        witness.sort_by_key(|(claim, _)| *claim);
        Ok(Some(Job { claims: witness, raw: told }))
    }
}

/// The repository ids of which a job must have one, if a condition lists them.
pub(super) fn listed_ids<'c>(conditions: impl IntoIterator<Item = &'c Condition>) -> Option<Vec<&'c str>> {
    conditions.into_iter().find_map(|condition| match &condition.test {
        Test::Text(lang) if condition.claim == Claim::RepositoryId => Some(lang.members()?.collect()),
        test => Some(test.repositories()?.iter().map(|(_, id)| id.as_str()).collect()),
    })
}

/// The repository names of which a job must have one, if a condition lists them.
pub(super) fn listed_names<'c>(conditions: impl IntoIterator<Item = &'c Condition>) -> Option<Vec<&'c str>> {
    conditions.into_iter().find_map(|condition| match &condition.test {
        Test::Repository(pairs) if pairs.iter().all(|(name, _)| !name.is_empty()) => {
            Some(pairs.iter().map(|(name, _)| name.as_str()).collect())
        }
        Test::Text(lang) if condition.claim == Claim::Repository => Some(lang.members()?.collect()),
        _ => None,
    })
}

fn set(witness: &mut Vec<(Claim, String)>, claim: Claim, value: &str) {
    witness.retain(|(other, _)| *other != claim);
    witness.push((claim, value.to_owned()));
}

/// What `branch` or `tag` say about `ref`.
fn lowered(domain: &Domain, prefix: &str) -> Result<Domain, PatternError> {
    if domain.gaps.has(Gaps::NONE) {
        // No branch is known to be none but by a `ref` that is known.
        return outside(prefix, Gaps::NEVER);
    }
    Ok(Domain::of(domain.values.intersect(&Lang::texts())?.after(prefix)?))
}

/// A `ref` that does not begin with `prefix`, or one of these points.
fn outside(prefix: &str, gaps: Gaps) -> Result<Domain, PatternError> {
    Ok(Domain::new(gaps, Lang::texts().after(REFS)?.minus(&Lang::starting(prefix, false)?)?))
}

/// The pairs that both lists allow. An empty name allows any.
fn join(a: &[(String, String)], b: &[(String, String)], folds: bool) -> Vec<(String, String)> {
    let mut sorted: Vec<&(String, String)> = b.iter().collect();
    sorted.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b || (folds && a.eq_ignore_ascii_case(b));
    a.iter()
        .flat_map(|(name, id)| {
            let from = sorted.partition_point(|(_, other)| other < id);
            sorted[from..]
                .iter()
                .take_while(move |(_, other)| other == id)
                .filter(move |(other, _)| same(name, other))
                .map(move |(other, _)| (if name.is_empty() { other } else { name }.clone(), id.clone()))
        })
        .collect()
}
