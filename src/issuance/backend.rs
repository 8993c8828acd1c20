//! The seam between the exchange and what mints.

use super::status::Place;
use crate::secret::Secret;
use claimbound_core::{
    evidence::LeaseId,
    reason::Reason,
    time::{Seconds, UnixSeconds},
    workload::Case,
};

pub use crate::net::Later;

/// One configured role at one backend, compiled when the catalogue loads.
pub trait Minter: Send + Sync {
    /// The ARN of the role at AWS whose sessions it mints; `None` if it mints anything else.
    fn aws_role_arn(&self) -> Option<&str> {
        None
    }
    /// Fits claims' text into the target's own rules and settles lifetime; no I/O, nothing promised yet.
    fn plan(&self, order: &Order<'_>) -> Result<Box<dyn Plan>, Unfit>;
    /// Ends a lease as far as this target can, and says how far that was.
    fn revoke<'a>(&'a self, handle: &'a str) -> Later<'a, Result<Ended, MintError>>;
}

/// A credential about to be minted.
pub trait Plan: Send + Sync {
    /// The public handle, where it is known before minting (a JWT's `jti`, a serial we choose). Known: one durable
    /// write. Unknown: a second one binds it. This is the whole difference between a local and a remote backend.
    fn handle(&self) -> Option<&str>;
    /// The place of its token in a status list, where the target's relying parties may read one.
    fn status(&self) -> Option<&Place> {
        None
    }
    /// How long the credential will live: the order's duration, or less where the target gives less.
    fn duration(&self) -> Seconds;
    /// Mints.
    fn mint(&self) -> Later<'_, Result<Minted, MintError>>;
}

/// What to mint, for whom.
pub struct Order<'a> {
    pub lease: LeaseId,
    pub role: &'a str,
    pub mapping: &'a str,
    pub case: &'a Case<'a>,
    /// Issuer name, narrowest pinned immutable id, readable name: as evidence and `sub` name the principal.
    pub principal_id: &'a str,
    pub principal_name: &'a str,
    /// The same id of the outermost actor.
    pub actor_id: Option<&'a str>,
    pub scope: Option<&'a str>,
    /// Who claimed it, `<sign-in>:<subject>` each.
    pub approved_by: &'a [String],
    pub now: UnixSeconds,
    pub duration: Seconds,
    /// What the credential shall not be good for although the role is: only of a role whose sessions AWS makes.
    pub narrowing: Option<&'a Narrowing>,
}

/// Session policies that whoever asks for an AWS session wants it narrowed by.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Narrowing {
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
}

/// A minted credential.
pub struct Minted {
    pub handle: String,
    pub expires: UnixSeconds,
    pub credential: Credential,
}

/// The credential, shaped by its backend.
pub enum Credential {
    /// A signed JWT.
    Jwt(Secret),
    /// A handoff, for whom the job named.
    Handoff(Secret),
    /// An AWS session.
    Aws(Box<AwsSession>),
}

/// Keys of an AWS session, as STS gave them.
pub struct AwsSession {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires: UnixSeconds,
    pub region: String,
    pub assumed_role_arn: String,
    /// `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub source_identity: String,
    pub room: Room,
}

/// How much is taken of the room that AWS gives, in percent; not every STS says it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Room {
    /// For session policies and tags.
    pub policies: Option<i32>,
    /// For the session's token.
    pub token: Option<i32>,
}

/// What ending a lease means: data, not optional methods. In order: the less it means, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ended {
    /// The target no longer accepts the credential.
    DeadNow,
    /// The target is told to refuse it; that holds as soon as it has spread there.
    Denied,
    /// Relying parties that introspect, or read the status list, refuse it within seconds; to others it is good until
    /// it expires.
    WhereChecked,
    /// The lease is ended here; a holder of the credential can use it until it expires.
    AtExpiry,
}

impl Ended {
    /// The name in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadNow => "dead_now",
            Self::Denied => "denied",
            Self::WhereChecked => "where_checked",
            Self::AtExpiry => "at_expiry",
        }
    }
}

/// A denial that the plan found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    #[error("`{parameter}`: {why}")]
    Text { parameter: String, why: String },
    #[error("the role has no scopes")]
    Scope,
    /// It would not narrow, or AWS would refuse it.
    #[error("the session cannot be narrowed by this: {0}")]
    Narrowing(String),
    /// Never rounded up.
    #[error("{seconds} s are below the {least} s that the backend gives at least")]
    TooShort { seconds: u32, least: u32 },
}

impl Unfit {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Text { .. } => Reason::TextDoesNotFit,
            Self::Narrowing(_) => Reason::PolicyNotNarrower,
            Self::Scope => Reason::ScopeNotAllowed,
            Self::TooShort { .. } => Reason::DurationTooShort,
        }
    }
}

/// `Refused`, `PolicyTooLarge`, `Away`: surely nothing was minted. `Unknown`: it may exist, and the lease stays open
/// until its expiry. After `Refused` and `PolicyTooLarge` another try is in vain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MintError {
    #[error("the backend refused: {0}")]
    Refused(String),
    /// Trying again is in vain until somebody shortens the role's policy or tags.
    #[error("the role's session policy and tags are too large: {0}")]
    PolicyTooLarge(String),
    /// It could not be reached, or said to come again.
    #[error("the backend is away: {0}")]
    Away(String),
    #[error("the backend did not answer: {0}")]
    Unknown(String),
}

impl MintError {
    /// For metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::PolicyTooLarge(_) => "refused",
            Self::Away(_) => "away",
            Self::Unknown(_) => "unknown",
        }
    }
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(_) => Reason::BackendRefused,
            Self::PolicyTooLarge(_) => Reason::PolicyTooLarge,
            Self::Away(_) | Self::Unknown(_) => Reason::BackendDown,
        }
    }
}
