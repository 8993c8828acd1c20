//! Details of a record: what may be erased while the chain still verifies. The body holds their salted digest alone.

use super::{
    chain::sha256,
    text::{hex, unhex},
};

/// Room for the details of most records.
const DETAILS_BYTES: usize = 4096;
/// How all details begin.
const SALT_PREFIX: &str = r#"{"salt":""#;

/// What may be erased with its salt after its own retention, the chain intact: claims and addresses.
/// Persons and addresses stand only here. The member `salt` is the encoding's own; one of the caller's is dropped.
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub json: serde_json::Map<String, serde_json::Value>,
}

impl Details {
    /// JSON that begins with the salt; nothing when there is nothing to tell.
    pub(super) fn encode(&self, salt: [u8; 32]) -> Vec<u8> {
        let mut told = self.json.iter().filter(|(name, _)| *name != "salt").peekable();
        if told.peek().is_none() {
            return Vec::new();
        }
        let mut text = Vec::with_capacity(DETAILS_BYTES);
        text.extend_from_slice(SALT_PREFIX.as_bytes());
        text.extend_from_slice(hex(&salt).as_bytes());
        text.push(b'"');
        for (name, value) in told {
            text.push(b',');
            serde_json::to_writer(&mut text, name).expect("a name is text");
            text.push(b':');
            serde_json::to_writer(&mut text, value).expect("a value is JSON");
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
