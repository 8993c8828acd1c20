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
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::Entry},
};

/// What was compiled before: patterns by what they are of and how they are written, and single texts.
#[derive(Default, Debug)]
pub(super) struct Known {
    patterns: RefCell<HashMap<Pattern, Lang, FixedState>>,
    texts: RefCell<[HashMap<Box<str>, Lang, FixedState>; 2]>,
}

/// Of this claim, whether names are folded, operator, prefix and text.
pub(super) type Pattern = (Claim, bool, [String; 3]);

impl Known {
    pub(super) fn pattern(
        &self,
        pattern: Pattern,
        compile: impl FnOnce() -> Result<Lang, PatternError>,
    ) -> Result<Lang, PatternError> {
        match self.patterns.borrow_mut().entry(pattern) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(free) => Ok(free.insert(compile()?).clone()),
        }
    }

    /// Exactly this text.
    pub(super) fn exact(&self, text: &str, fold: bool) -> Lang {
        let texts = &mut self.texts.borrow_mut()[usize::from(fold)];
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        let lang = Lang::exact(text, fold);
        texts.insert(text.into(), lang.clone());
        lang
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
