//! A byte automaton: built from patterns, minimal and numbered canonically, so that equal sets are equal values.
//!
//! One object matches (at run time) and proves (at load): what a proof says is true of the very table that decides.
//! Claims are valid UTF-8, wildcards run over bytes. A set may therefore hold bytes that are no text; nothing asks for
//! them, for every question about members ([`Automaton::witness`]) is asked within the texts of a claim.

use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Most states that an automaton may have while it is built; beyond it the pattern is refused.
pub(crate) const STATES_MAX: usize = 4096;

/// Most states of several automata at once that a search for a witness visits.
const PLACES_MAX: usize = 1 << 18;
const _: () = assert!(STATES_MAX * 16 < PLACES_MAX, "an automaton and the characters of UTF-8");

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

    /// Valid UTF-8; `plain`: that is not empty and holds no control character.
    pub(crate) fn utf8(plain: bool) -> Self {
        let all = Classes { of: std::array::from_fn(|byte| byte as u8), first: (0..=255).collect() };
        let whole = |part: &Part| *part == Part::Between || (!plain && *part == Part::Start);
        let built = explore(Part::Start, &all, whole, |part, byte| part.step(byte, plain));
        built.ok().flatten().expect("some nine states that accept something")
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

    /// A shortest member that is also one of `within`; among these the most readable.
    pub(crate) fn witness(&self, within: &Self) -> Option<String> {
        Self::shortest(&[self, within]).expect("fewer pairs of states than are allowed")
    }

    /// A shortest text in all of some sets, one of which is of texts alone; among these the most readable.
    pub(crate) fn shortest(sets: &[&Self]) -> Result<Option<String>, TooLarge> {
        let mut classes = Classes::default();
        for set in sets {
            classes.split(|byte| set.classes[usize::from(byte)].into());
        }
        // One byte for each class, the most readable one, the most readable class first.
        let mut seen = [false; 256];
        let mut alphabet = readable();
        alphabet.retain(|&byte| !std::mem::replace(&mut seen[usize::from(classes.of[usize::from(byte)])], true));

        // Each place that is reached, with the number of the one before it and the byte between them.
        let start = vec![0u16; sets.len()];
        let mut known: HashSet<Vec<u16>, FixedState> = HashSet::from_iter([start.clone()]);
        let mut reached = vec![(start, 0, 0)];
        let mut at = 0;
        while let Some((place, ..)) = reached.get(at).cloned() {
            if sets.iter().zip(&place).all(|(set, state)| set.accepts(*state)) {
                let mut text = Vec::new();
                while at != 0 {
                    text.push(reached[at].2);
                    at = reached[at].1;
                }
                text.reverse();
                return Ok(Some(String::from_utf8(text).expect("one of the sets holds texts alone")));
            }
            for &byte in &alphabet {
                let next: Vec<u16> = sets.iter().zip(&place).map(|(set, state)| set.step(*state, byte)).collect();
                if next.contains(&DEAD) || known.contains(&next) {
                    continue;
                }
                if reached.len() == PLACES_MAX {
                    return Err(TooLarge);
                }
                known.insert(next.clone());
                reached.push((next, at, byte));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The first member that `take` takes, by length and then by readability.
    pub(crate) fn first(&self, take: impl Fn(&str) -> bool) -> Option<String> {
        let bytes = readable();
        // For each length, the states that some text of this length leads to acceptance.
        let mut leads = vec![self.accepting.to_vec()];
        // A set in which no length of so many in a row occurs has no longer member.
        let mut idle = 0;
        while idle <= self.accepting.len() {
            let length = leads.len() - 1;
            idle += 1;
            let mut open = vec![(0u16, Vec::new())];
            while let Some((state, text)) = open.pop() {
                let left = length - text.len();
                if !leads[left][usize::from(state)] {
                    continue;
                }
                idle = 0;
                if left == 0 {
                    if let Ok(text) = String::from_utf8(text)
                        && take(&text)
                    {
                        return Some(text);
                    }
                    continue;
                }
                // The last in goes out first.
                for &byte in bytes.iter().rev() {
                    let next = self.step(state, byte);
                    if next != DEAD {
                        open.push((next, [text.as_slice(), &[byte]].concat()));
                    }
                }
            }
            let last = &leads[length];
            let reaches = |state: usize| {
                let row = &self.next[state * self.width..][..self.width];
                row.iter().any(|&to| to != DEAD && last[usize::from(to)])
            };
            let next = (0..self.accepting.len()).map(reaches).collect();
            leads.push(next);
        }
        None
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

/// All bytes, the most readable first.
fn readable() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|&byte| (readability(byte), byte));
    bytes
}

/// Smaller is more readable in a message.
fn readability(byte: u8) -> u8 {
    match byte {
        b'x' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        b'A'..=b'Z' => 3,
        b'-' | b'.' | b'_' => 4,
        b'!'..=b'~' => 5,
        b' ' => 6,
        0x80.. => 7,
        _ => 8,
    }
}

/// Where in a text one stands: before it, between two characters, or inside one with so many bytes to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Part {
    Start,
    Between,
    More(u8),
    /// The next byte lies in this range, and so many follow it: no overlong form, no surrogate, no number
    /// beyond the last.
    Narrow(u8, u8, u8),
}

impl Part {
    /// The Unicode Standard, table 3-7. `plain`: without what `char::is_control` knows.
    fn step(self, byte: u8, plain: bool) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Start | Self::Between, b' '..=b'~') => Self::Between,
            (Self::Start | Self::Between, ..0x80) if !plain => Self::Between,
            (Self::Start | Self::Between, 0xc2) if !plain => Self::More(1),
            (Self::Start | Self::Between, 0xc2) => Self::Narrow(0xa0, 0xbf, 0),
            (Self::Start | Self::Between, 0xc3..=0xdf) => Self::More(1),
            (Self::Start | Self::Between, 0xe0) => Self::Narrow(0xa0, 0xbf, 1),
            (Self::Start | Self::Between, 0xed) => Self::Narrow(0x80, 0x9f, 1),
            (Self::Start | Self::Between, 0xe1..=0xef) => Self::More(2),
            (Self::Start | Self::Between, 0xf0) => Self::Narrow(0x90, 0xbf, 2),
            (Self::Start | Self::Between, 0xf1..=0xf3) => Self::More(3),
            (Self::Start | Self::Between, 0xf4) => Self::Narrow(0x80, 0x8f, 2),
            (Self::More(1) | Self::Narrow(_, _, 0), _) if self.goes_on(byte) => Self::Between,
            (Self::More(more), _) if self.goes_on(byte) => Self::More(more - 1),
            (Self::Narrow(_, _, more), _) if self.goes_on(byte) => Self::More(more),
            _ => return None,
        })
    }
    fn goes_on(self, byte: u8) -> bool {
        match self {
            Self::Narrow(from, to, _) => (from..=to).contains(&byte),
            _ => (0x80..=0xbf).contains(&byte),
        }
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
