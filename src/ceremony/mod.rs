//! The claim ceremony beside the exchange: what people do ([`Desk`]), what a job may take back, and how requests nobody
//! came for end. Opening and redeeming one is the exchange's (`exchange::ceremony`).
//!
//! Whatever moves a ceremony reads it, asks `core::ceremony` what becomes of it, and commits that only if nobody moved it
//! meanwhile; else it looks again. So two people at once have one outcome, and the evidence says which.

mod desk;
mod over;

pub use desk::{Before, Desk, DeskError, Review, Taken, Through};

use crate::{
    secret::Secret,
    store::{Ceremony, KeptCeremony, Scope, subject_key},
    webhooks::Event,
};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256},
    rand,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::ceremony::{CeremonyId, Person, State, WORDS_SHOWN, match_code, normal_code, words};

/// So that people and scanners see what it is.
const PREFIX: &str = "cbq_";
const RANDOM_BYTES: usize = 32;
/// 256 bits in base64url.
const RANDOM_CHARACTERS: usize = 43;

fn random<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    rand::fill(&mut random).expect("the system's random source answers");
    random
}

/// An `auth_req_id` that nobody can guess.
pub(crate) fn new_request() -> Secret {
    Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random::<RANDOM_BYTES>())))
}

/// What the store knows an `auth_req_id` by; `None` for any other text: nothing else is looked up.
pub(crate) fn request_of(text: &str) -> Option<[u8; 32]> {
    let random = text.strip_prefix(PREFIX).filter(|random| random.len() == RANDOM_CHARACTERS)?;
    let well = random.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    well.then(|| hash(&[text.as_bytes()]))
}

/// A ceremony's id.
pub(crate) fn new_id() -> CeremonyId {
    CeremonyId(u128::from_be_bytes(random()))
}

/// A code for a job's log, and what is kept of it.
pub(crate) fn new_code(ceremony: CeremonyId) -> (Secret, [u8; 32]) {
    let code = match_code(random());
    let kept = code_hash(ceremony, &normal_code(&code).unwrap_or_default());
    (Secret::new(code), kept)
}

fn code_hash(ceremony: CeremonyId, normal: &str) -> [u8; 32] {
    hash(&[&ceremony.0.to_be_bytes(), normal.as_bytes()])
}

/// Whether it is the code of a job that still waits.
fn is_code(kept: &KeptCeremony, typed: &str) -> bool {
    let Some(normal) = normal_code(typed) else { return false };
    let hash = code_hash(kept.ceremony.id, &normal);
    // All are looked at, however soon one fits.
    let waiting = kept.jobs.iter().filter(|job| !job.withdrawn);
    waiting.filter(|job| verify_slices_are_equal(&job.code, &hash).is_ok()).count() > 0
}

/// Three words that page and log show: another ceremony has others.
pub fn words_of(ceremony: &Ceremony) -> [&'static str; WORDS_SHOWN] {
    words(&hash(&[&ceremony.id.0.to_be_bytes(), &ceremony.key]))
}

/// A person's accounts at CI systems, as they are suspended.
pub(crate) fn accounts(person: &Person) -> impl Iterator<Item = [u8; 32]> {
    person.forge_ids.iter().map(|(issuer, id)| subject_key(Scope::Person, issuer, id))
}

/// How evidence calls it that a ceremony is over by itself.
fn ended(ceremony: &Ceremony) -> &'static str {
    if ceremony.void { "voided" } else { State::Expired.name() }
}

/// How people are told of it.
fn told_ended(ceremony: &Ceremony) -> Event {
    if ceremony.void { Event::Withdrawn } else { Event::Expired }
}

/// SHA-256 over the parts, each behind its length.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}
