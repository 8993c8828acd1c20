//! Offline verification; names the first bad record.
//!
//! Rows come in their stored order, one at a time, so that a store of any size verifies in constant memory.
//! A chain does not show that records were cut from its end: whoever kept an earlier head elsewhere asks for it with
//! [`Verifier::expect`].

use super::{
    chain::{ORIGIN, link},
    record::{Body, BodyError, details_digest, leaf},
    text::{hex, uuid},
};
use std::collections::HashSet;

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
    #[error("its leaf is not the hash of its body: one of them was changed")]
    Leaf,
    #[error("its body cannot be read: {0}")]
    Body(#[from] BodyError),
    #[error("its details are not those that its body names: they were changed or belong to another record")]
    Details,
    #[error("its link does not follow from the record before it: one of them was changed, moved or removed")]
    Link,
    /// The chain holds, but its story does not: for checks beyond the chain.
    #[error("{0}")]
    Story(String),
}

/// Walks a chain.
#[derive(Debug, Default)]
pub struct Verifier {
    records: u64,
    erased: u64,
    incarnations: HashSet<u128>,
    last: Option<(u128, u64)>,
    head: [u8; 32],
    expected: Option<[u8; 32]>,
    /// How many records there were when the expected head was met.
    met: Option<u64>,
}

impl Verifier {
    /// A verifier at a chain's beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks out for a head that was kept elsewhere: [`Verifier::met`] says whether the chain runs through it.
    pub fn expect(mut self, head: [u8; 32]) -> Self {
        self.met = (head == ORIGIN).then_some(0);
        self.expected = Some(head);
        self
    }

    /// Checks the next record and reads it.
    pub fn check<'r>(&mut self, row: &Row<'r>) -> Result<Body<'r>, Bad> {
        self.judge(row).map_err(|wrong| Bad {
            position: row.position,
            incarnation: row.incarnation,
            sequence: row.sequence,
            wrong,
        })
    }

    fn judge<'r>(&mut self, row: &Row<'r>) -> Result<Body<'r>, Wrong> {
        let expected = match self.last {
            Some((incarnation, sequence)) if incarnation == row.incarnation => sequence + 1,
            _ if self.incarnations.contains(&row.incarnation) => return Err(Wrong::Returned),
            _ => 1,
        };
        if row.sequence > expected {
            return Err(Wrong::Missing { expected });
        }
        if row.sequence < expected {
            return Err(Wrong::OutOfPlace { expected });
        }
        if row.leaf != leaf(row.body) {
            return Err(Wrong::Leaf);
        }
        let body = Body::parse(row.body)?;
        if !row.details.is_empty() {
            let digest = details_digest(row.details).map(|digest| hex(&digest));
            if digest.is_none() || digest.as_deref() != body.details.as_deref() {
                return Err(Wrong::Details);
            }
        }
        if row.link != link(row.incarnation, row.sequence, &self.head, &row.leaf) {
            return Err(Wrong::Link);
        }
        self.records += 1;
        self.erased += u64::from(row.details.is_empty() && body.details.is_some());
        self.incarnations.insert(row.incarnation);
        self.last = Some((row.incarnation, row.sequence));
        self.head = row.link;
        if self.expected == Some(self.head) {
            self.met = Some(self.records);
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
    /// Incarnations of the writer that wrote them.
    pub fn incarnations(&self) -> u64 {
        self.incarnations.len() as u64
    }
    /// The last link, or [`ORIGIN`]. Kept elsewhere, it shows later that nothing up to here was cut.
    pub fn head(&self) -> [u8; 32] {
        self.head
    }
    /// The number of the record whose link is the expected head, if the chain runs through it.
    pub fn met(&self) -> Option<u64> {
        self.met
    }
}
