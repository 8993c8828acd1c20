//! The part of a record that may be erased: the record itself holds its digest alone.

use super::{
    chain::sha256,
    text::{hex, unhex},
};
use serde::Serialize;

/// Room for the details of most records.
const DETAILS_BYTES: usize = 4096;
/// How all details begin.
const SALT_PREFIX: &str = r#"{"salt":""#;

/// What may be erased with its salt after its own retention, the chain intact: claims and addresses.
/// Persons and addresses stand only here. The member `salt` is the encoding's own; one of the caller's is dropped.
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub json: serde_json::Map<String, serde_json::Value>,
    /// Members that are encoded already: what tokens said is too much to build a tree of it first.
    encoded: Vec<(&'static str, Vec<u8>)>,
}

impl From<serde_json::Map<String, serde_json::Value>> for Details {
    fn from(json: serde_json::Map<String, serde_json::Value>) -> Self {
        Self { json, encoded: Vec::new() }
    }
}

impl Details {
    /// Adds a member of this name, which no other one has.
    pub fn encode_member(&mut self, name: &'static str, value: &impl Serialize) {
        debug_assert!(!self.json.contains_key(name) && name != "salt");
        let mut text = Vec::with_capacity(DETAILS_BYTES / 2);
        serde_json::to_writer(&mut text, value).expect("a value is JSON");
        self.encoded.push((name, text));
    }

    /// JSON that begins with the salt; nothing when there is nothing to tell.
    pub(super) fn encode(&self, salt: [u8; 32]) -> Vec<u8> {
        let mut told = self.json.iter().filter(|(name, _)| *name != "salt").peekable();
        if told.peek().is_none() && self.encoded.is_empty() {
            return Vec::new();
        }
        let mut text = Vec::with_capacity(DETAILS_BYTES);
        text.extend_from_slice(SALT_PREFIX.as_bytes());
        text.extend_from_slice(hex(&salt).as_bytes());
        text.push(b'"');
        let mut member = |name: &str, value: &dyn Fn(&mut Vec<u8>)| {
            text.push(b',');
            serde_json::to_writer(&mut text, name).expect("a name is text");
            text.push(b':');
            value(&mut text);
        };
        for (name, value) in &self.encoded {
            member(name, &|text| text.extend_from_slice(value));
        }
        for (name, value) in told {
            member(name, &|text| serde_json::to_writer(text, value).expect("a value is JSON"));
        }
        text.push(b'}');
        text
    }
}

/// What a body says of its details: SHA-256 over the salt (32 bytes) and all encoded details.
/// `None` if they are empty, or do not begin with a salt.
pub fn details_digest(details: &[u8]) -> Option<[u8; 32]> {
    let salt = details.strip_prefix(SALT_PREFIX.as_bytes())?.get(..64)?;
    let salt = unhex(std::str::from_utf8(salt).ok()?)?;
    Some(sha256(&[&salt, details]))
}
