//! The whole way of one exchange: nine steps, in this order, each with its own error; nothing later runs if one
//! fails. `run` records every refusal, in one place; `grant` is the way itself.
//!
//! It waits at four points and nowhere else: the key refresh on an unknown `kid`, the commit, the mint and the
//! settling commit. All between them is pure.

mod hint;
mod proof;
mod strangers;
mod trail;

pub use hint::{Condition, Hint, Nearest};
pub use proof::{Proof, Proven};
pub use strangers::{Network, Strangers};

use crate::{
    issuance::{Credential, Minter},
    keys::issuers::Issuers,
    store::Writer,
};
use claimbound_core::{
    evidence::{DecisionId, LeaseId},
    mapping::{Ask, MappingSet},
    reason::{Reason, Standing},
    time::{Seconds, UnixSeconds},
    workload::Profiles,
};
use std::net::IpAddr;

/// Mappings and what was compiled for their roles: loaded together, swapped together, read once per exchange.
pub struct Snapshot {
    pub mappings: MappingSet,
    /// One per role, at the role's number.
    pub minters: Vec<Box<dyn Minter>>,
    pub profiles: Profiles,
}

/// What an exchange needs of the house.
pub struct Parts<'b> {
    pub snapshot: &'b Snapshot,
    pub issuers: &'b dyn Issuers,
    pub writer: &'b Writer,
    pub strangers: &'b Strangers,
    pub now: UnixSeconds,
}

/// One request, as the form gave it.
pub struct Request<'r> {
    pub id: DecisionId,
    pub proof: Proof<'r>,
    pub ask: Ask<'r>,
    /// Steps 1 to 5, then admission with the token's guard and a record; no lease.
    pub dry_run: bool,
    /// Digest of all parameters: the *same* request may go again after a failed mint, no other.
    pub digest: [u8; 32],
    /// Where it came from, for evidence details and strangers' counters.
    pub address: Option<IpAddr>,
}

/// A granted exchange.
pub enum Granted {
    /// A credential, its lease open and on record.
    Issued(Issued),
    /// What would have been issued.
    DryRun { role: String, mapping: String, duration: Seconds },
}

/// A credential on its way out.
pub struct Issued {
    pub credential: Credential,
    pub expires: UnixSeconds,
    pub role: String,
    pub mapping: String,
    pub lease: LeaseId,
}

/// A refused exchange, on record.
#[derive(Debug)]
pub struct Refused {
    pub reason: Reason,
    pub standing: Standing,
    /// Whether the request named a role: it decides between `invalid_target` and `invalid_request`.
    pub role_asked: bool,
    /// What a proven job may learn; `None` for strangers and lost races.
    pub hint: Option<Box<Hint>>,
}
