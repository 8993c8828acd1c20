//! Sequence and link, per incarnation of a writer.
//!
//! Whoever changes, removes, moves or adds a record must change every link after it; so one link kept elsewhere
//! fixes everything before it. What the chain alone cannot show is a tail cut off: see [`super::audit`].

use super::Entry;
use aws_lc_rs::digest::{Context, SHA256};

/// Separates links from every other hash of this program, and names the form of what is hashed.
pub const LINK_DOMAIN: &[u8] = b"claimbound evidence link v1\n";
/// What the first record of a store links to.
pub const ORIGIN: [u8; 32] = [0; 32];

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
    pub fn link(&mut self, entry: Entry) -> Linked {
        self.sequence += 1;
        self.head = link(self.incarnation, self.sequence, &self.head, &entry.leaf);
        Linked { sequence: self.sequence, link: self.head, entry }
    }
}

/// SHA-256 over [`LINK_DOMAIN`], incarnation (16 bytes), sequence (8 bytes, both big-endian), previous link, leaf.
pub fn link(incarnation: u128, sequence: u64, previous: &[u8; 32], leaf: &[u8; 32]) -> [u8; 32] {
    sha256(&[LINK_DOMAIN, &incarnation.to_be_bytes(), &sequence.to_be_bytes(), previous, leaf])
}

/// SHA-256 over the parts, one after another.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
