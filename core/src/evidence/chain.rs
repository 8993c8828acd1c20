//! Sequence and link, per incarnation of a writer.

use super::Entry;

/// The writer's own: one per process start.
#[derive(Clone, Debug)]
pub struct Chain {
    pub incarnation: u128,
    pub sequence: u64,
    /// Link hash of the last record; of an incarnation's first: the last link of the one before, or zeros.
    pub head: [u8; 32],
}

/// A record in its place.
#[derive(Clone, Debug)]
pub struct Linked {
    pub sequence: u64,
    /// SHA-256 over domain, incarnation, sequence, previous link and leaf.
    pub link: [u8; 32],
    pub entry: Entry,
}

impl Chain {
    /// Puts an entry at the chain's end.
    pub fn link(&mut self, _entry: Entry) -> Linked {
        unimplemented!()
    }
}
