//! One member to show, where there is one: a shortest that reads well.

use super::{Automaton, Classes, DEAD, STATES_MAX, TooLarge};
use foldhash::fast::FixedState;
use std::collections::HashSet;

/// Most states of several automata at once that a search for a witness visits.
const PLACES_MAX: usize = 1 << 18;
const _: () = assert!(STATES_MAX * 16 < PLACES_MAX, "an automaton and the characters of UTF-8");

impl Automaton {
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
