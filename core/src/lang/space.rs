//! Boxes: claim → set with an absent point; intersection and witness.
//!
//! A box stands for every combination of values that its claims allow. A claim that it does not mention is free.

use super::pattern::{Lang, PatternError};
use std::collections::BTreeMap;

/// What one claim may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    /// The claim may be missing.
    pub absent: bool,
    /// The claim may be any of these; `None`: anything.
    pub values: Option<Lang>,
}

impl Domain {
    /// The claim is there and one of these.
    pub fn of(values: Lang) -> Self {
        Self { absent: false, values: Some(values) }
    }
    /// The claim is there.
    pub fn present() -> Self {
        Self { absent: false, values: None }
    }
    /// The claim is missing.
    pub fn absent() -> Self {
        Self { absent: true, values: Some(Lang::one_of([], false)) }
    }
    /// The claim is missing or one of these.
    pub fn absent_or(values: Lang) -> Self {
        Self { absent: true, values: Some(values) }
    }
    /// What both allow.
    pub fn intersect(&self, other: &Self) -> Result<Self, PatternError> {
        let values = match (&self.values, &other.values) {
            (Some(a), Some(b)) => Some(a.intersect(b)?),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        Ok(Self { absent: self.absent && other.absent, values })
    }
    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        !self.absent && self.values.as_ref().is_some_and(Lang::is_empty)
    }
    /// Whether this text is allowed.
    pub fn allows(&self, text: &str) -> bool {
        self.values.as_ref().is_none_or(|values| values.matches(text))
    }
    /// A value: missing if it may be, else the shortest.
    pub fn witness(&self) -> Option<String> {
        match &self.values {
            _ if self.absent => None,
            Some(values) => values.witness(),
            None => Some("x".to_owned()),
        }
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

impl<K: Ord + Copy> Space<K> {
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
            both.narrow(*claim, domain)?;
            if both.claims[claim].is_empty() {
                return Ok(None);
            }
        }
        Ok((!both.is_empty()).then_some(both))
    }
    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.claims.values().any(Domain::is_empty)
    }
    /// What a claim may be; `None`: it is free.
    pub fn get(&self, claim: K) -> Option<&Domain> {
        self.claims.get(&claim)
    }
    /// Claims that are restricted.
    pub fn iter(&self) -> impl Iterator<Item = (K, &Domain)> {
        self.claims.iter().map(|(claim, domain)| (*claim, domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_meet_claim_by_claim() {
        let mut a = Space::default();
        a.narrow("branch", &Domain::of(Lang::one_of(["main", "dev"], false))).unwrap();
        a.narrow("tag", &Domain::absent()).unwrap();
        let mut b = Space::default();
        b.narrow("branch", &Domain::of(Lang::one_of(["dev", "x"], false))).unwrap();
        let both = a.intersect(&b).unwrap().unwrap();
        assert_eq!(both.get("branch").unwrap().witness().unwrap(), "dev");
        assert_eq!(both.get("tag").unwrap().witness(), None);
        b.narrow("tag", &Domain::present()).unwrap();
        assert!(a.intersect(&b).unwrap().is_none(), "missing and present exclude each other");
    }

    #[test]
    fn missing_or_a_value() {
        let some = Domain::absent_or(Lang::exact("a", false));
        assert!(some.intersect(&Domain::of(Lang::exact("b", false))).unwrap().is_empty());
        assert!(!some.intersect(&Domain::absent()).unwrap().is_empty());
        assert_eq!(some.intersect(&Domain::present()).unwrap().witness().unwrap(), "a");
    }
}
