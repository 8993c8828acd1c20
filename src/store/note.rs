//! Notes: what the store keeps for somebody who comes back and is told of it again, by the hash of what they bring. No grant
//! rests on one, and none is evidence: a note may come without a record, and goes when its time is over.

use super::subject::hash;
use claimbound_core::time::UnixSeconds;

/// A note; a later one takes the place of an earlier one under the same key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub key: [u8; 32],
    pub text: String,
    /// It may be removed then.
    pub until: UnixSeconds,
}

impl Note {
    /// The key of what is noted about something that is known by these texts.
    pub fn key(kind: &str, parts: &[&str]) -> [u8; 32] {
        hash(&[&["note", kind], parts].concat())
    }
}
