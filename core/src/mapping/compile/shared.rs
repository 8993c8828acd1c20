//! What many mappings say alike is compiled once and kept once: a company has a hundred thousand mappings and a few
//! dozen values of branches, environments and events.

use super::conditions::Compiled;
use crate::{
    lang::pattern::{Lang, PatternError},
    mapping::{Condition, Test},
    workload::Claim,
};
use foldhash::fast::FixedState;
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::Entry},
};

/// Patterns by what they are of and how they are written.
#[derive(Default, Debug)]
pub(super) struct Patterns(RefCell<HashMap<Pattern, Lang, FixedState>>);

/// Of this claim, whether names are folded, operator, prefix and text.
pub(super) type Pattern = (Claim, bool, [String; 3]);

impl Patterns {
    pub(super) fn get(
        &self,
        pattern: Pattern,
        compile: impl FnOnce() -> Result<Lang, PatternError>,
    ) -> Result<Lang, PatternError> {
        match self.0.borrow_mut().entry(pattern) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(free) => Ok(free.insert(compile()?).clone()),
        }
    }
}

/// Sets of texts, each kept once.
#[derive(Default, Debug)]
pub(super) struct Values(HashSet<Lang, FixedState>);

impl Values {
    /// Conditions as a set keeps them: no larger than they are, their values shared with equal ones.
    pub(super) fn share(&mut self, compiled: Vec<Compiled>) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = compiled.into_iter().map(|compiled| compiled.condition).collect();
        // It took the place of a longer list.
        conditions.shrink_to_fit();
        for condition in &mut conditions {
            let Test::Text(lang) = &mut condition.test else { continue };
            match self.0.get(lang) {
                Some(known) if known.is_written_like(lang) => *lang = known.clone(),
                Some(_) => {}
                None => drop(self.0.insert(lang.clone())),
            }
        }
        conditions
    }
}
