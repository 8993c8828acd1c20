//! Offline verification; names the first bad record.
//!
//! Rows come in their stored order, one at a time, so that a store of any size verifies in constant memory.
//! A chain does not show that records were cut from its end: whoever kept an earlier head elsewhere asks for it with
//! [`Verifier::expect`].
//!
//! Several brokers may write one store at once. Each then writes a chain of its own, and [`Verifier::begins`] says from
//! which link each goes on.

use super::{
    chain::{ORIGIN, link},
    details_digest,
    record::{Body, BodyError, leaf},
    text::{hex, uuid},
};
use std::collections::{HashMap, HashSet};

/// A record as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    /// Its place among all records of the store.
    pub position: i64,
    pub incarnation: u128,
    pub sequence: u64,
    pub link: [u8; 32],
    pub leaf: [u8; 32],
    pub body: &'r [u8],
    /// Empty when erased or when there were none.
    pub details: &'r [u8],
}

/// The first record that is not as it was written, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("record {position} (incarnation {}, sequence {sequence}): {wrong}", uuid(*incarnation))]
pub struct Bad {
    pub position: i64,
    pub incarnation: u128,
    pub sequence: u64,
    pub wrong: Wrong,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("its sequence should be {expected}: records are missing before it")]
    Missing { expected: u64 },
    #[error("its sequence should be {expected}: it is a duplicate, or not in its place")]
    OutOfPlace { expected: u64 },
    #[error("its incarnation had ended: it is not in its place")]
    Returned,
    #[error("its incarnation is not among those that opened the store")]
    NeverOpened,
    #[error("its leaf is not the hash of its body: one of them was changed")]
    Leaf,
    #[error("its body cannot be read: {0}")]
    Body(#[from] BodyError),
    #[error("it was emptied, and no later record says that it was to be")]
    Emptied,
    #[error("its details are not those that its body names: they were changed or belong to another record")]
    Details,
    #[error("its link does not follow from the record before it: one of them was changed, moved or removed")]
    Link,
    /// The chain holds, but its story does not: for checks beyond the chain.
    #[error("{0}")]
    Story(String),
}

/// Walks a chain, or those of several brokers.
#[derive(Debug, Default)]
pub struct Verifier {
    records: u64,
    erased: u64,
    /// Records without a body, and the last one's place.
    emptied: u64,
    last_emptied: Option<(i64, u128, u64)>,
    /// The last position that a record says may be emptied, and before which time.
    pruned: Option<(i64, i64)>,
    /// Where the chain of each incarnation stands: sequence and link.
    ends: HashMap<u128, (u64, [u8; 32])>,
    last: Option<u128>,
    head: [u8; 32],
    /// Where incarnations say that they begin, and which of these links have been met.
    begins: HashMap<u128, [u8; 32]>,
    begun_from: HashSet<[u8; 32]>,
    passed: HashSet<[u8; 32]>,
    /// Heads kept elsewhere, and how many records there were when each was met.
    expected: HashMap<[u8; 32], Option<u64>>,
}

impl Verifier {
    /// A verifier at a chain's beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks out for a head that was kept elsewhere: [`Verifier::met`] says whether the chain runs through it, and
    /// through any others.
    pub fn expect(mut self, head: [u8; 32]) -> Self {
        self.expected.insert(head, (head == ORIGIN).then_some(0));
        self
    }

    /// An incarnation goes on from this link, which must be that of a record before its first. Said of one, it must be
    /// said of all, before the first record; without it each incarnation goes on where the one before it ended.
    pub fn begins(&mut self, incarnation: u128, previous: [u8; 32]) {
        self.begins.insert(incarnation, previous);
        self.begun_from.insert(previous);
    }

    /// Checks the next record and reads it; `None` if it was emptied, which [`Verifier::all_seen`] judges.
    pub fn check<'r>(&mut self, row: &Row<'r>) -> Result<Option<Body<'r>>, Bad> {
        self.judge(row).map_err(|wrong| Bad {
            position: row.position,
            incarnation: row.incarnation,
            sequence: row.sequence,
            wrong,
        })
    }

    /// Every record has been checked: none may be empty that no record says was to be.
    pub fn all_seen(&self) -> Result<(), Bad> {
        match self.last_emptied {
            Some((position, incarnation, sequence)) if self.pruned.is_none_or(|(through, _)| through < position) => {
                Err(Bad { position, incarnation, sequence, wrong: Wrong::Emptied })
            }
            _ => Ok(()),
        }
    }

    /// Before which time records may have been emptied, as far as records say so.
    pub fn pruned_before(&self) -> Option<i64> {
        self.pruned.map(|(_, before)| before)
    }

    fn judge<'r>(&mut self, row: &Row<'r>) -> Result<Option<Body<'r>>, Wrong> {
        let joined = !self.begins.is_empty();
        let (expected, previous) = match (self.ends.get(&row.incarnation), self.begins.get(&row.incarnation)) {
            (Some(_), _) if !joined && self.last != Some(row.incarnation) => return Err(Wrong::Returned),
            (Some((sequence, link)), _) => (sequence + 1, *link),
            (None, Some(previous)) => (1, *previous),
            (None, None) if joined => return Err(Wrong::NeverOpened),
            (None, None) => (1, self.head),
        };
        if row.sequence > expected {
            return Err(Wrong::Missing { expected });
        }
        if row.sequence < expected {
            return Err(Wrong::OutOfPlace { expected });
        }
        let body = match row.body.is_empty() {
            true => None,
            false if row.leaf != leaf(row.body) => return Err(Wrong::Leaf),
            false => Some(Body::parse(row.body)?),
        };
        let named = body.as_ref().and_then(|body| body.details.as_deref());
        if !row.details.is_empty() {
            let digest = details_digest(row.details).map(|digest| hex(&digest));
            if digest.is_none() || digest.as_deref() != named {
                return Err(Wrong::Details);
            }
        }
        let erased = row.details.is_empty() && named.is_some();
        let known = expected > 1 || !joined || previous == ORIGIN || self.passed.contains(&previous);
        if !known || row.link != link(row.incarnation, row.sequence, &previous, &row.leaf) {
            return Err(Wrong::Link);
        }
        self.records += 1;
        self.erased += u64::from(erased);
        match &body {
            None => {
                self.emptied += 1;
                self.last_emptied = Some((row.position, row.incarnation, row.sequence));
            }
            Some(Body { kind, through: Some(through), before: Some(before), .. }) if kind == "records_pruned" => {
                let (so_far, then) = self.pruned.unwrap_or((*through, *before));
                self.pruned = Some((so_far.max(*through), then.max(*before)));
            }
            Some(_) => {}
        }
        self.ends.insert(row.incarnation, (row.sequence, row.link));
        self.last = Some(row.incarnation);
        self.head = row.link;
        if self.begun_from.contains(&row.link) {
            self.passed.insert(row.link);
        }
        if let Some(met) = self.expected.get_mut(&row.link) {
            *met = Some(self.records);
        }
        Ok(body)
    }

    /// Records that hold.
    pub fn records(&self) -> u64 {
        self.records
    }
    /// Of them, how many had details that are erased.
    pub fn erased(&self) -> u64 {
        self.erased
    }
    /// Of them, how many are emptied: of these leaf and link alone are left.
    pub fn emptied(&self) -> u64 {
        self.emptied
    }
    /// Incarnations of the writer that wrote them.
    pub fn incarnations(&self) -> u64 {
        self.ends.len() as u64
    }
    /// The last link, or [`ORIGIN`]. Kept elsewhere, it shows later that nothing up to here was cut; where several
    /// brokers write, [`Verifier::heads`] does.
    pub fn head(&self) -> [u8; 32] {
        self.head
    }
    /// The links that no other record goes on from: of one chain its head, of several the ends of all, in order.
    pub fn heads(&self) -> Vec<[u8; 32]> {
        if self.begins.is_empty() {
            return vec![self.head];
        }
        let followed = self.begins.iter().filter(|(incarnation, _)| self.ends.contains_key(incarnation));
        let followed: HashSet<_> = followed.map(|(_, previous)| previous).collect();
        let mut heads: Vec<_> =
            self.ends.values().map(|(_, link)| *link).filter(|link| !followed.contains(link)).collect();
        heads.sort_unstable();
        heads
    }
    /// Where the chain of an incarnation ends: sequence and link; `None` without records.
    pub fn end(&self, incarnation: u128) -> Option<(u64, [u8; 32])> {
        self.ends.get(&incarnation).copied()
    }
    /// The number of the record whose link is the expected head, if the chain runs through it; of several expected
    /// heads the last one's, if it runs through all.
    pub fn met(&self) -> Option<u64> {
        self.expected.values().copied().reduce(|one, other| Some(one?.max(other?))).flatten()
    }
}
