//! Boxes: claim → domain; intersection, difference and witness.
//!
//! A box stands for every combination of values that its claims allow. A claim that it does not mention is free.
//! Missing is not one thing: a job that provably has no tag and a job whose tag nobody knows fare differently before
//! a `[[deny]]`, so a domain tells them apart ([`Gaps`]).

use super::pattern::{Lang, PatternError};
use std::{
    collections::BTreeMap,
    ops::{BitAnd, BitOr, Not},
};

/// A set of the points that are no value of the claim's type (mappings, "Present, none, unknown").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Gaps(u8);

impl Gaps {
    /// None of them: there is a value.
    pub const NEVER: Self = Self(0);
    /// The job provably has no such claim.
    pub const NONE: Self = Self(1);
    /// Nobody knows.
    pub const UNKNOWN: Self = Self(2);
    /// The claim is there, but of another type.
    pub const MISFIT: Self = Self(4);
    /// Any of them.
    pub const ANY: Self = Self(7);

    /// Whether all of these points are in it.
    pub fn has(self, points: Self) -> bool {
        self.0 & points.0 == points.0
    }
}

impl BitOr for Gaps {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
impl BitAnd for Gaps {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
impl Not for Gaps {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ANY.0)
    }
}

/// What one claim may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    pub gaps: Gaps,
    pub values: Lang,
}

impl Domain {
    /// One of these points or of these values.
    pub fn new(gaps: Gaps, values: Lang) -> Self {
        Self { gaps, values }
    }
    /// The claim is there and one of these.
    pub fn of(values: Lang) -> Self {
        Self::new(Gaps::NEVER, values)
    }
    /// The claim is there.
    pub fn present() -> Self {
        Self::of(Lang::anything())
    }
    /// No value, but one of these points.
    pub fn gap(gaps: Gaps) -> Self {
        Self::new(gaps, Lang::nothing())
    }
    /// Whatever there is.
    pub fn any() -> Self {
        Self::new(Gaps::ANY, Lang::anything())
    }
    /// What both allow.
    ///
    /// # Errors
    /// Values beyond the limits of [`Lang`]; so for every operation here.
    pub fn intersect(&self, other: &Self) -> Result<Self, PatternError> {
        Ok(Self::new(self.gaps & other.gaps, self.values.intersect(&other.values)?))
    }
    /// What either allows.
    pub fn union(&self, other: &Self) -> Result<Self, PatternError> {
        Ok(Self::new(self.gaps | other.gaps, self.values.union(&other.values)?))
    }
    /// What this allows and the other does not.
    pub fn minus(&self, other: &Self) -> Result<Self, PatternError> {
        Ok(Self::new(self.gaps & !other.gaps, self.values.minus(&other.values)?))
    }
    /// What this does not allow.
    pub fn complement(&self) -> Result<Self, PatternError> {
        Ok(Self::new(!self.gaps, self.values.complement()?))
    }
    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.gaps == Gaps::NEVER && self.values.is_empty()
    }
    /// Whether this text is allowed.
    pub fn allows(&self, text: &str) -> bool {
        self.values.matches(text)
    }
}

/// A product of domains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space<K: Ord> {
    claims: BTreeMap<K, Domain>,
}

impl<K: Ord> Default for Space<K> {
    fn default() -> Self {
        Self { claims: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Space<K> {
    /// Everything that these domains allow.
    pub fn of(domains: impl IntoIterator<Item = (K, Domain)>) -> Result<Self, PatternError> {
        let mut space = Self::default();
        domains.into_iter().try_for_each(|(claim, domain)| space.narrow(claim, &domain))?;
        Ok(space)
    }
    /// Narrows one claim.
    pub fn narrow(&mut self, claim: K, to: &Domain) -> Result<(), PatternError> {
        let narrowed = match self.claims.get(&claim) {
            Some(now) => now.intersect(to)?,
            None => to.clone(),
        };
        self.claims.insert(claim, narrowed);
        Ok(())
    }
    /// What both allow; `None` when that is nothing.
    pub fn intersect(&self, other: &Self) -> Result<Option<Self>, PatternError> {
        let mut both = self.clone();
        for (claim, domain) in &other.claims {
            both.narrow(claim.clone(), domain)?;
            if both.claims[claim].is_empty() {
                return Ok(None);
            }
        }
        Ok((!both.is_empty()).then_some(both))
    }
    /// What this allows and the other does not, in pieces that have nothing in common: at most one for each claim
    /// that the other narrows. The piece of a claim keeps what both allow in the claims before it.
    pub fn minus(&self, other: &Self) -> Result<Vec<Self>, PatternError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        if self.intersect(other)?.is_none() {
            return Ok(vec![self.clone()]);
        }
        let mut pieces = Vec::new();
        let mut rest = self.clone();
        for (claim, taken) in &other.claims {
            let own = match self.claims.get(claim) {
                Some(own) => own.minus(taken)?,
                None => taken.complement()?,
            };
            if !own.is_empty() {
                let mut piece = rest.clone();
                piece.claims.insert(claim.clone(), own);
                pieces.push(piece);
            }
            rest.narrow(claim.clone(), taken)?;
        }
        Ok(pieces)
    }
    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.claims.values().any(Domain::is_empty)
    }
    /// What a claim may be; `None`: it is free.
    pub fn get(&self, claim: impl std::borrow::Borrow<K>) -> Option<&Domain> {
        self.claims.get(claim.borrow())
    }
    /// Claims that are restricted.
    pub fn iter(&self) -> impl Iterator<Item = (K, &Domain)> {
        self.claims.iter().map(|(claim, domain)| (claim.clone(), domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Domain {
        Domain::of(Lang::one_of(texts.iter().copied(), false))
    }

    #[test]
    fn boxes_meet_claim_by_claim() {
        let a = Space::of([("branch", of(&["main", "dev"])), ("tag", Domain::gap(Gaps::NONE))]).unwrap();
        let mut b = Space::of([("branch", of(&["dev", "x"]))]).unwrap();
        let both = a.intersect(&b).unwrap().unwrap();
        assert_eq!(both.get("branch").unwrap(), &of(&["dev"]));
        assert_eq!(both.get("tag").unwrap(), &Domain::gap(Gaps::NONE));
        b.narrow("tag", &Domain::present()).unwrap();
        assert!(a.intersect(&b).unwrap().is_none(), "none and present exclude each other");
    }

    #[test]
    fn none_is_not_unknown() {
        let none = Domain::gap(Gaps::NONE);
        assert!(none.intersect(&Domain::gap(Gaps::UNKNOWN)).unwrap().is_empty());
        assert_eq!(Domain::any().minus(&none).unwrap(), none.complement().unwrap());
        let left = Domain::any().minus(&none).unwrap().minus(&Domain::present()).unwrap();
        assert_eq!(left, Domain::gap(Gaps::UNKNOWN | Gaps::MISFIT));
        assert!(left.gaps.has(Gaps::UNKNOWN) && !left.gaps.has(Gaps::NONE));
        let some = Domain::new(Gaps::NONE, Lang::exact("a", false));
        assert!(some.intersect(&of(&["b"])).unwrap().is_empty());
        assert_eq!(of(&["a"]).union(&none).unwrap(), some);
    }

    #[test]
    fn a_difference_has_a_piece_for_each_claim_and_is_whole_where_nothing_is_taken() {
        let all = Space::<&str>::default();
        let taken = Space::of([("a", of(&["1"])), ("b", of(&["1"])), ("c", of(&["1"]))]).unwrap();
        assert_eq!(all.minus(&taken).unwrap().len(), 3);
        let apart = Space::of([("a", of(&["2"]))]).unwrap();
        assert_eq!(apart.minus(&taken).unwrap(), [apart]);
        assert_eq!(taken.minus(&all).unwrap(), []);
        let nothing = Space::of([("a", Domain::gap(Gaps::NEVER))]).unwrap();
        assert_eq!(nothing.minus(&taken).unwrap(), []);
    }
}
