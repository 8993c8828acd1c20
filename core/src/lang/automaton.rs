//! A byte automaton: built from patterns, minimal and numbered canonically, so that equal sets are equal values.
//!
//! One object matches (at run time) and proves (at load): what a proof says is true of the very table that decides.
//! Claims are valid UTF-8, wildcards run over bytes. A set may therefore hold bytes that are no text; nothing asks for
//! them, for every question about members ([`Automaton::witness`]) is asked within the texts of a claim.

mod texts;
mod witness;

use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Most states that an automaton may have while it is built; beyond it the pattern is refused.
pub(crate) const STATES_MAX: usize = 4096;

/// No way on from here.
const DEAD: u16 = u16::MAX;
const _: () = assert!(STATES_MAX < DEAD as usize);

/// An automaton would have more than [`STATES_MAX`] states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bytes([u64; 4]);

/// Which texts a product of two automata keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    Both,
    Either,
    /// Those of the first that are not in the second.
    First,
}

impl Bytes {
    pub(crate) const ANY: Self = Self([u64::MAX; 4]);
    pub(crate) const DIGITS: Self = Self([0x3ff << 48, 0, 0, 0]);
    /// These bytes.
    pub(crate) fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        bytes.into_iter().fold(Self([0; 4]), Self::with)
    }
    /// This byte; in both cases if `fold`.
    pub(crate) fn one(byte: u8, fold: bool) -> Self {
        let none = Self([0; 4]).with(byte);
        if fold { none.with(byte.to_ascii_lowercase()).with(byte.to_ascii_uppercase()) } else { none }
    }
    fn with(mut self, byte: u8) -> Self {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        self
    }
    pub(crate) fn without(mut self, byte: u8) -> Self {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
        self
    }
    fn has(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }
}

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// One byte of these.
    One(Bytes),
    /// Any number of bytes of these.
    Run(Bytes),
}

/// A minimal deterministic automaton of a set that is not empty. Equal values accept equal sets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Automaton {
    /// Byte → class: bytes of one class are never told apart.
    classes: Box<[u8; 256]>,
    width: usize,
    /// `state * width + class` → state. The first state is the start.
    next: Box<[u16]>,
    accepting: Box<[bool]>,
}

impl Automaton {
    /// The union of some concatenations; `None` when it is empty.
    pub(crate) fn build(chains: &[Vec<Item>]) -> Result<Option<Self>, TooLarge> {
        let items: HashSet<Bytes> = chains.iter().flatten().map(|(Item::One(set) | Item::Run(set))| *set).collect();
        let mut classes = Classes::default();
        for set in items {
            classes.split(|byte| u16::from(set.has(byte)));
        }
        let rest = |&(chain, at): &(u32, u32)| &chains[chain as usize][at as usize..];
        // The positions that stand before a step: runs may be skipped.
        let close = |starts: Vec<(u32, u32)>| {
            let mut all = Vec::new();
            for (chain, from) in starts {
                for (passed, item) in (0..).zip(rest(&(chain, from)).iter().map(Some).chain([None])) {
                    all.push((chain, from + passed));
                    if !matches!(item, Some(Item::Run(_))) {
                        break;
                    }
                }
            }
            all.sort_unstable();
            all.dedup();
            all
        };
        let start = close((0..chains.len()).map(|chain| (chain as u32, 0)).collect());
        explore(
            start,
            &classes,
            |state| state.iter().any(|position| rest(position).is_empty()),
            |state, byte| {
                let reached: Vec<_> = state
                    .iter()
                    .filter_map(|position| match rest(position).first()? {
                        Item::One(set) => set.has(byte).then_some((position.0, position.1 + 1)),
                        Item::Run(set) => set.has(byte).then_some(*position),
                    })
                    .collect();
                (!reached.is_empty()).then(|| close(reached))
            },
        )
    }

    /// What `keep` says of both; `None` when there is nothing.
    pub(crate) fn combine(&self, other: &Self, keep: Keep) -> Result<Option<Self>, TooLarge> {
        let mut classes = Classes::default();
        classes.split(|byte| self.classes[usize::from(byte)].into());
        classes.split(|byte| other.classes[usize::from(byte)].into());
        explore(
            (0u16, 0u16),
            &classes,
            |&(a, b)| match keep {
                Keep::Both => self.accepts(a) && other.accepts(b),
                Keep::Either => self.accepts(a) || other.accepts(b),
                Keep::First => self.accepts(a) && !other.accepts(b),
            },
            |&(a, b), byte| match (keep, self.step(a, byte), other.step(b, byte)) {
                (Keep::Both, DEAD, _) | (Keep::Both, _, DEAD) | (Keep::First, DEAD, _) | (_, DEAD, DEAD) => None,
                (_, a, b) => Some((a, b)),
            },
        )
    }

    /// Every run of bytes that is not in the set; `None` when all are.
    pub(crate) fn complement(&self) -> Result<Option<Self>, TooLarge> {
        let mut classes = Classes::default();
        classes.split(|byte| self.classes[usize::from(byte)].into());
        explore(0u16, &classes, |&state| !self.accepts(state), |&state, byte| Some(self.step(state, byte)))
    }

    /// Whether there may be an end to what is missing: no byte ever leads astray.
    pub(crate) fn is_total(&self) -> bool {
        !self.next.contains(&DEAD)
    }

    /// Every member followed by `/` and one segment.
    pub(crate) fn owning(&self) -> Result<Self, TooLarge> {
        let mut classes = Classes::default();
        classes.split(|byte| self.classes[usize::from(byte)].into());
        classes.split(|byte| u16::from(byte == b'/'));
        // A state of `self`; what has been read since the last slash, if a member ended before it.
        let behind = explore(
            (0u16, None),
            &classes,
            |&(_, segment)| segment == Some(true),
            |&(state, segment), byte| {
                let begins = byte == b'/' && self.accepts(state);
                let segment = if byte == b'/' { begins.then_some(false) } else { segment.map(|_| true) };
                Some((self.step(state, byte), segment)).filter(|reached| *reached != (DEAD, None))
            },
        )?;
        Ok(behind.expect("a set that is not empty stays so before a segment"))
    }

    /// Every member with `prefix` before it.
    pub(crate) fn after(&self, prefix: &[u8]) -> Result<Self, TooLarge> {
        let mut classes = Classes::default();
        classes.split(|byte| self.classes[usize::from(byte)].into());
        for &expected in prefix {
            classes.split(|byte| u16::from(byte == expected));
        }
        // The bytes of the prefix that were read, then a state of `self`.
        let behind = explore(
            (0, 0),
            &classes,
            |&(read, state)| read == prefix.len() && self.accepting[usize::from(state)],
            |&(read, state), byte| match prefix.get(read) {
                Some(&expected) => (byte == expected).then_some((read + 1, 0)),
                None => Some((read, self.step(state, byte))).filter(|(_, state)| *state != DEAD),
            },
        )?;
        Ok(behind.expect("a set that is not empty stays so behind a prefix"))
    }

    /// Lists of members, `separator` between them, of which some (`every`: each) is a member: of a list of one text on.
    /// No member of `self` holds the separator.
    pub(crate) fn listed(&self, separator: u8, every: bool) -> Result<Option<Self>, TooLarge> {
        let mut classes = Classes::default();
        classes.split(|byte| self.classes[usize::from(byte)].into());
        classes.split(|byte| u16::from(byte == separator));
        // Whether an element before this one decided the matter; a state of `self` in this one.
        explore(
            (false, 0u16),
            &classes,
            |&(found, state)| found || self.accepts(state),
            |&(found, state), byte| {
                let ends = byte == separator;
                match every {
                    _ if found => Some((true, DEAD)),
                    true if ends => self.accepts(state).then_some((false, 0)),
                    true => Some((false, self.step(state, byte))).filter(|(_, state)| *state != DEAD),
                    false if ends && self.accepts(state) => Some((true, DEAD)),
                    false if ends => Some((false, 0)),
                    false => Some((false, self.step(state, byte))),
                }
            },
        )
    }

    fn accepts(&self, state: u16) -> bool {
        state != DEAD && self.accepting[usize::from(state)]
    }

    fn step(&self, state: u16, byte: u8) -> u16 {
        if state == DEAD {
            return DEAD;
        }
        self.next[usize::from(state) * self.width + usize::from(self.classes[usize::from(byte)])]
    }

    /// Whether `text` is in the set.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut state = 0;
        for &byte in text {
            state = self.step(state, byte);
            if state == DEAD {
                return false;
            }
        }
        self.accepting[usize::from(state)]
    }

    /// Whether ASCII case never counts.
    pub(crate) fn folds(&self) -> bool {
        (b'a'..=b'z')
            .all(|byte| self.classes[usize::from(byte)] == self.classes[usize::from(byte.to_ascii_uppercase())])
    }

    /// All members, if there are at most `most`; of a set that folds, those in lower case.
    pub(crate) fn members(&self, most: usize) -> Option<Vec<Vec<u8>>> {
        let folds = self.folds();
        let mut found = Vec::new();
        // A word longer than there are states walks a loop, and then there is no end of members.
        let mut open = vec![(0u16, Vec::new())];
        while let Some((state, text)) = open.pop() {
            if text.len() >= self.accepting.len() || found.len() + open.len() > most {
                return None;
            }
            if self.accepting[usize::from(state)] {
                found.push(text.clone());
            }
            for byte in 0..=255u8 {
                let next = self.step(state, byte);
                if next != DEAD && !(folds && byte.is_ascii_uppercase()) {
                    open.push((next, [text.as_slice(), &[byte]].concat()));
                }
            }
        }
        Some(found)
    }
}

/// A partition of the bytes, numbered by first byte.
struct Classes {
    of: [u8; 256],
    /// The first byte of each class.
    first: Vec<u8>,
}

impl Default for Classes {
    fn default() -> Self {
        Self { of: [0; 256], first: vec![0] }
    }
}

impl Classes {
    /// Tells apart what `key` tells apart.
    fn split(&mut self, key: impl Fn(u8) -> u16) {
        let mut numbers: HashMap<(u8, u16), u8, FixedState> = HashMap::default();
        self.first.clear();
        for byte in 0..=255u8 {
            let class = &mut self.of[usize::from(byte)];
            *class = *numbers.entry((*class, key(byte))).or_insert_with(|| {
                self.first.push(byte);
                (self.first.len() - 1) as u8
            });
        }
    }
}

/// Walks from `start`, numbers what is reached, and minimises. `step` says where a byte leads.
fn explore<S: Clone + Eq + Hash>(
    start: S,
    classes: &Classes,
    accepts: impl Fn(&S) -> bool,
    step: impl Fn(&S, u8) -> Option<S>,
) -> Result<Option<Automaton>, TooLarge> {
    let mut numbers: HashMap<S, u16, FixedState> = HashMap::default();
    let mut states = vec![start.clone()];
    numbers.insert(start, 0);
    let mut next = Vec::new();
    let mut accepting = Vec::new();
    while let Some(state) = states.get(accepting.len()).cloned() {
        accepting.push(accepts(&state));
        for &byte in &classes.first {
            let Some(reached) = step(&state, byte) else {
                next.push(DEAD);
                continue;
            };
            let number = match numbers.get(&reached) {
                Some(&number) => number,
                None if states.len() == STATES_MAX => return Err(TooLarge),
                None => {
                    let number = states.len() as u16;
                    states.push(reached.clone());
                    numbers.insert(reached, number);
                    number
                }
            };
            next.push(number);
        }
    }
    Ok(minimise(classes, next, &accepting))
}

/// Merges states that accept the same rests, cuts those that accept none, and numbers canonically.
fn minimise(classes: &Classes, mut next: Vec<u16>, accepting: &[bool]) -> Option<Automaton> {
    let width = classes.first.len();
    let count = accepting.len();
    let alive = alive(&next, width, accepting);
    for target in &mut next {
        if *target != DEAD && !alive[usize::from(*target)] {
            *target = DEAD;
        }
    }
    if !alive[0] {
        return None;
    }

    // Moore: states stay together while no byte tells them apart.
    let mut block: Vec<u16> = accepting.iter().map(|accepts| u16::from(*accepts)).collect();
    let mut blocks = 0;
    loop {
        let mut numbers: HashMap<(u16, Vec<u16>), u16, FixedState> = HashMap::default();
        let refined: Vec<u16> = (0..count)
            .map(|state| {
                let row = &next[state * width..][..width];
                let row = row.iter().map(|&to| if to == DEAD { DEAD } else { block[usize::from(to)] }).collect();
                let fresh = numbers.len() as u16;
                *numbers.entry((block[state], row)).or_insert(fresh)
            })
            .collect();
        let now = numbers.len();
        block = refined;
        if now == blocks {
            break;
        }
        blocks = now;
    }

    // One state for each block; then classes that no state tells apart become one.
    let mut speaker = vec![usize::MAX; blocks];
    for state in 0..count {
        let first = &mut speaker[usize::from(block[state])];
        *first = (*first).min(state);
    }
    let to = |of: u16, class: usize| match next[speaker[usize::from(of)] * width + class] {
        DEAD => DEAD,
        target => block[usize::from(target)],
    };
    let mut columns: HashMap<Vec<u16>, u16, FixedState> = HashMap::default();
    let column: Vec<u16> = (0..width)
        .map(|class| {
            let fresh = columns.len() as u16;
            *columns.entry((0..blocks as u16).map(|of| to(of, class)).collect()).or_insert(fresh)
        })
        .collect();
    let mut merged = Classes::default();
    merged.split(|byte| column[usize::from(classes.of[usize::from(byte)])]);

    // Breadth first over the merged classes: the numbering depends on the set alone.
    let mut number = vec![DEAD; blocks];
    let mut order = vec![block[0]];
    number[usize::from(block[0])] = 0;
    let mut table = Vec::new();
    let mut at = 0;
    while at < order.len() {
        for &byte in &merged.first {
            let target = to(order[at], usize::from(classes.of[usize::from(byte)]));
            if target != DEAD && number[usize::from(target)] == DEAD {
                number[usize::from(target)] = order.len() as u16;
                order.push(target);
            }
            table.push(if target == DEAD { DEAD } else { number[usize::from(target)] });
        }
        at += 1;
    }
    Some(Automaton {
        classes: Box::new(merged.of),
        width: merged.first.len(),
        next: table.into(),
        accepting: order.iter().map(|&of| accepting[speaker[usize::from(of)]]).collect(),
    })
}

/// The states from which an accepting one can be reached.
fn alive(next: &[u16], width: usize, accepting: &[bool]) -> Vec<bool> {
    let mut before: Vec<Vec<u16>> = vec![Vec::new(); accepting.len()];
    for (at, &target) in next.iter().enumerate() {
        if target != DEAD {
            before[usize::from(target)].push((at / width) as u16);
        }
    }
    let mut alive = accepting.to_vec();
    let mut open: Vec<usize> = (0..accepting.len()).filter(|&state| accepting[state]).collect();
    while let Some(state) = open.pop() {
        for &state in &before[state] {
            if !std::mem::replace(&mut alive[usize::from(state)], true) {
                open.push(state.into());
            }
        }
    }
    alive
}
