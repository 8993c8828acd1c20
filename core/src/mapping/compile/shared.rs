//! What many mappings say alike is compiled once and kept once: a company has a hundred thousand mappings and a few
//! dozen values of branches, environments and events.

use super::conditions::Compiled;
use crate::{
    lang::pattern::{Lang, PatternError},
    mapping::{Condition, Pairs, Test},
    workload::Claim,
};
use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

/// Patterns by what they are of and how they are written.
#[derive(Default, Debug)]
pub(super) struct Patterns(Mutex<HashMap<Pattern, Lang, FixedState>>);

/// Of this claim, whether names are folded, operator, prefix and text.
pub(super) type Pattern = (Claim, bool, [String; 3]);

impl Patterns {
    pub(super) fn get(
        &self,
        pattern: Pattern,
        compile: impl FnOnce() -> Result<Lang, PatternError>,
    ) -> Result<Lang, PatternError> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(pattern) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(free) => Ok(free.insert(compile()?).clone()),
        }
    }
}

/// Sets of texts, and of pairs of repositories, each kept once.
#[derive(Default, Debug)]
pub(super) struct Values {
    texts: HashSet<Lang, FixedState>,
    pairs: HashSet<Pairs, FixedState>,
}

impl Values {
    /// Conditions as a set keeps them: no larger than they are, their values shared with equal ones.
    pub(super) fn share(&mut self, compiled: Vec<Compiled>) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = compiled.into_iter().map(|compiled| compiled.condition).collect();
        // It took the place of a longer list.
        conditions.shrink_to_fit();
        for condition in &mut conditions {
            match &mut condition.test {
                Test::Text(lang) => match self.texts.get(lang) {
                    Some(known) if known.is_written_like(lang) => *lang = known.clone(),
                    Some(_) => {}
                    None => drop(self.texts.insert(lang.clone())),
                },
                Test::Repository(pairs) => match self.pairs.get(pairs) {
                    Some(known) => *pairs = known.clone(),
                    None => drop(self.pairs.insert(pairs.clone())),
                },
                _ => {}
            }
        }
        conditions
    }
}
