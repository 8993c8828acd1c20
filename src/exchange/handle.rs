//! Lease handles: the secret that ends a lease whose credential is not a token of ours, and so cannot be shown to us
//! as proof. Good for `/revoke` and nothing else; stored as its digest alone.

use crate::{issuance::Credential, secret::Secret};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// So that people and scanners see what it is.
const PREFIX: &str = "cbl_";
const RANDOM_BYTES: usize = 32;
/// 256 bits in base64url.
const RANDOM_CHARACTERS: usize = 43;

/// A handle for a credential that is not its own.
pub(super) fn of(credential: &Credential) -> Option<Secret> {
    match credential {
        Credential::Jwt(_) | Credential::Handoff(_) => None,
        Credential::Aws(_) => {
            let mut random = [0; RANDOM_BYTES];
            rand::fill(&mut random).expect("the system's random source answers");
            Some(Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random))))
        }
    }
}

/// Whether the text has the form of a handle: nothing else is looked up.
pub fn is_lease_handle(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == RANDOM_CHARACTERS && random.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

/// What the store keeps of a secret that is 256 random bits: its SHA-256.
pub fn possession(secret: &[u8]) -> [u8; 32] {
    let mut possession = [0; 32];
    possession.copy_from_slice(digest(&SHA256, secret).as_ref());
    possession
}
