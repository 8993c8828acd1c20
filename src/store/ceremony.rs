//! Claim ceremonies as they are kept: the ceremony, the jobs that wait for it, and claims of a first use that stand.
//!
//! What becomes of a ceremony is `core::ceremony`'s to say; here a move is written only if the ceremony is still as it was
//! when that was asked ([`Move`]). Secrets are kept as their SHA-256.

use claimbound_core::{
    ceremony::{CeremonyId, Claim, Shown, Starter, State, Terms},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

/// Open ceremonies of one repository: more would tire who has to look at them.
pub const OPEN_OF_REPOSITORY_MAX: usize = 32;
/// Jobs that wait for one ceremony.
pub const WAITING_MAX: usize = 64;
/// How long a ceremony that is over is kept, for its job to ask, beyond the end of its time.
pub const KEPT_SECONDS: i64 = 86_400;

/// A ceremony.
#[derive(Clone, PartialEq, Debug)]
pub struct Ceremony {
    pub id: CeremonyId,
    /// What it is about, and can have one open ceremony of at a time.
    pub key: [u8; 32],
    /// Digest of the rule that asks for it: mapping, role, policies.
    pub rule: [u8; 32],
    /// Whose open ceremonies are counted together.
    pub repository: [u8; 32],
    pub bound: Bound,
    pub opened: UnixSeconds,
    /// Its end was brought forward: something that it rests on was suspended.
    pub void: bool,
    pub state: State,
    /// Counts its changes: whoever moves it says which one they saw.
    pub version: u64,
}

/// What a ceremony is opened with, and never changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Bound {
    pub terms: Terms,
    pub shown: Shown,
    /// What a suspension of makes it void, and what was claimed ([`super::subject_key`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<[u8; 32]>,
    /// Who started the job that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opener: Option<Starter>,
}

impl Bound {
    /// Takes over the end that is kept beside it. Says whether that was brought forward.
    pub(super) fn end(&mut self, expires: UnixSeconds) -> bool {
        let opened_with = std::mem::replace(&mut self.terms.expires, expires);
        expires < opened_with
    }
}

/// A subject as it stands in the text of a [`Bound`]. It is a hash, so nobody happens upon it; whoever writes one on purpose, say into
/// a branch's name, has their own ceremony ended with the suspension of that.
pub(super) fn subject_text(subject: &[u8; 32]) -> String {
    serde_json::to_string(subject).expect("they are numbers")
}

impl Ceremony {
    /// The move to this state, from what was read.
    pub fn to(&self, next: State) -> Move {
        let open = next.is_open(self.bound.terms.standing);
        Move { ceremony: self.id, seen: self.version, next, open }
    }
    /// Whether anything can become of it at this time.
    pub fn is_open(&self, now: UnixSeconds) -> bool {
        self.state.is_open(self.bound.terms.standing) && now < self.bound.terms.expires
    }
}

/// One move of a ceremony.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    pub ceremony: CeremonyId,
    /// The version that it was judged by.
    pub seen: u64,
    pub next: State,
    pub open: bool,
}

impl Move {
    /// The one after it, if nobody else moves it meanwhile.
    pub fn then(&self, next: State, open: bool) -> Self {
        Self { ceremony: self.ceremony, seen: self.seen + 1, next, open }
    }
}

/// What a waiting job asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Asked {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// A job that waits for a ceremony.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// SHA-256 of its `auth_req_id`.
    pub request: [u8; 32],
    pub ceremony: CeremonyId,
    /// SHA-256 of the ceremony's id and the code in the job's log.
    pub code: [u8; 32],
    /// What makes it this job and no other, and what it asked for.
    pub job: [u8; 32],
    /// Single-use key of the token that it asked with.
    pub token: [u8; 32],
    pub starter: Starter,
    pub asked: Asked,
    pub joined: UnixSeconds,
    pub withdrawn: bool,
}

/// A ceremony with the jobs that wait for it, the first one first.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptCeremony {
    pub ceremony: Ceremony,
    pub jobs: Vec<Waiting>,
}

impl KeptCeremony {
    /// Who started the jobs, also of those that have gone.
    pub fn starters(&self) -> Vec<Starter> {
        self.jobs.iter().map(|job| job.starter.clone()).collect()
    }

    /// Whether this job is of who opened the ceremony. Where each issuance is claimed, one job alone waits.
    pub fn is_openers(&self, job: &Waiting) -> bool {
        let bound = &self.ceremony.bound;
        !bound.terms.standing || (job.starter.id.is_some() && bound.opener.as_ref() == Some(&job.starter))
    }
}

/// A first use that was claimed.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    pub key: [u8; 32],
    pub ceremony: CeremonyId,
    /// The rule that it was claimed under: under another one it is void.
    pub rule: [u8; 32],
    pub since: UnixSeconds,
    /// 0: a suspension made it void.
    pub until: UnixSeconds,
    pub claims: Vec<Claim>,
    pub shown: Shown,
    pub subjects: Vec<[u8; 32]>,
}

/// What of a standing claim is kept as one text.
#[derive(Serialize, Deserialize)]
pub(super) struct Told<'s> {
    pub claims: std::borrow::Cow<'s, [Claim]>,
    pub shown: std::borrow::Cow<'s, Shown>,
}

/// Which ceremonies are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhichCeremonies {
    One(CeremonyId),
    /// The one that the job with this request (SHA-256 of its `auth_req_id`) waits for.
    Of([u8; 32]),
    /// The open one about this, whose time is not over.
    OpenAbout([u8; 32], UnixSeconds),
    /// Open ones, by their ids, behind this one.
    Open(CeremonyId),
    /// Those of which nothing can become any more, as long as they are kept, by their ids, behind this one.
    Closed(CeremonyId),
    /// Open ones whose time is over.
    Over(UnixSeconds),
}

/// Which standing claims are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhichStanding {
    About([u8; 32]),
    /// By their keys, behind this one.
    After([u8; 32]),
    /// Those whose time is over, the first of them first.
    Over(UnixSeconds),
}
