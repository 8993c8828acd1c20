//! Guard, Change, Commit, Outcome, Engine: the one write operation.

use super::{
    Ceremony, Denial, Epoch, Family, Move, Note, Standing, Suspension, TreeRows, Turn, Waiting, forget::Forget,
    leases::Acting,
};
use claimbound_core::{
    ceremony::Person,
    evidence::{Chain, Entry, LeaseId, SuspensionId},
    time::UnixSeconds,
    trust::SingleUse,
};
use std::borrow::Cow;

/// What must hold, checked and spent inside the transaction. Every feature that makes a grant conditional on state
/// adds a variant here and no `if` anywhere else.
#[derive(Clone, Debug)]
pub enum Guard {
    /// The token was not used before.
    Unspent(Spend),
    /// The lease exists and is alive: neither `Failed` nor `Ended`. Its expiry is the caller's to judge.
    LeaseAlive(LeaseId),
    /// The lease whose token is exchanged for another is `Issued`, and has not expired at this time. Whoever ends it meanwhile
    /// ends what this commit opens, too.
    Parent { lease: LeaseId, at: UnixSeconds },
    /// The counter's window has room for one use more, which this commit takes.
    Within(Use),
    /// None of these subjects ([`super::Subject::key`]) is suspended at this time. Whatever commits after a suspension has
    /// committed, through whichever broker, meets it.
    NotSuspended { subjects: Vec<[u8; 32]>, at: UnixSeconds },
    /// It is this refresh token's turn, which this commit takes.
    Refresh(Turn),
    /// The ceremony is as it was seen, and moves on with this commit.
    Ceremony(Move),
    /// The first use with this key stands claimed under this rule.
    Standing { key: [u8; 32], rule: [u8; 32], at: UnixSeconds },
    /// The claim of the first use with this key is still kept, and its time is over at `at`.
    Lapsed { key: [u8; 32], at: UnixSeconds },
}

/// One use of something that is limited. A window begins with the first use after the last window's end, so no window
/// holds more than `most`; a counter whose window is over is nothing and may be removed.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// What is counted: a hash, so that all counters are of one size.
    pub counter: [u8; 32],
    /// From 1.
    pub most: u32,
    /// When it is used. A window that ends later than two of its lengths from now was begun by a clock that ran ahead:
    /// it is over.
    pub at: UnixSeconds,
    /// The window's length.
    pub seconds: u32,
}

/// Spending a token: who it is, for which request, and what it leads to.
#[derive(Clone, Copy, Debug)]
pub struct Spend {
    pub token: SpentKey,
    /// When the issuer made it: not after the store was last adopted ([`Change::Adopt`]), or it is refused.
    pub issued: UnixSeconds,
    /// Digest of all parameters of the request: the *same* request may go again after `failed`, no other.
    pub request: [u8; 32],
    /// State of the single-use record that this commit leaves: `Issuing` until the outcome is bound; for any answer that
    /// is final, a grant or not, `Issued`.
    pub leaves: LeaseState,
    /// Only for issuers whose jobs cannot mint again: after `failed`, at most [`RETRIES_MAX`] times more.
    pub may_retry: bool,
    /// How often the same request may be granted, one after another: 1, but where a mapping says otherwise.
    pub uses: u32,
}

impl Spend {
    /// Whether the same request may go again, after so many times that it did, of which the last left this state.
    pub fn goes_again(&self, state: LeaseState, attempts: i64) -> bool {
        let most = match state {
            LeaseState::Failed if self.may_retry => RETRIES_MAX.max(self.uses.saturating_sub(1)),
            LeaseState::Issued => self.uses.saturating_sub(1),
            _ => 0,
        };
        attempts < i64::from(most)
    }
}

/// A token's single use as the store keeps it. Comes from a [`SingleUse`] alone, hence from a verified token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpentKey {
    key: [u8; 32],
    keep_until: UnixSeconds,
}

impl SpentKey {
    /// [`SingleUse::key`]: what a [`Lease::token`] names.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
    /// [`SingleUse::keep_until`].
    pub fn keep_until(&self) -> UnixSeconds {
        self.keep_until
    }
    #[cfg(test)]
    pub(crate) fn for_tests(key: [u8; 32], keep_until: UnixSeconds) -> Self {
        Self { key, keep_until }
    }
}

impl From<SingleUse> for SpentKey {
    fn from(single_use: SingleUse) -> Self {
        Self { key: *single_use.key(), keep_until: single_use.keep_until() }
    }
}

/// How often a failed request may go again with the same token.
pub const RETRIES_MAX: u32 = 2;

/// What changes if every guard holds.
#[derive(Clone, Debug)]
pub enum Change {
    /// Opens a lease, in the state that its plan allows. In a box: it is larger than all other changes, and each moves as the largest.
    OpenLease(Box<Lease>),
    /// Settles a lease and its token's single-use record: the outcome of minting. Blocked by [`Blocked::LeaseEnded`]
    /// if the lease is not in the state that it is settled from: an outcome is bound once, by the exchange or by the
    /// sweeper.
    Settle(Settled),
    /// Keeps what ends the lease by possession, where that is not a token of ours: the SHA-256 of a lease handle.
    /// Stands beside the outcome that it comes with.
    Hold { lease: LeaseId, possession: [u8; 32] },
    /// Ends a lease, and with it those whose tokens came of its own, and theirs. Blocked by [`Blocked::LeaseEnded`] if it is not
    /// alive; by [`Blocked::Moved`] if not exactly so many others that are alive came of it.
    End { lease: LeaseId, children: u32 },
    /// Opens a family of renewals, beside the lease that begins it.
    OpenFamily(Family),
    /// Gives a turn back: surely nothing was minted for it. Nothing, if what it gave was used.
    GiveTurnBack(Turn),
    /// Ends a family and its leases that are alive, with what came of them. Blocked by [`Blocked::FamilyEnded`] if it is unknown or ended.
    EndFamily(LeaseId),
    /// Opens a ceremony, beside the first job that waits for it. Blocked by [`Blocked::Moved`] if another one about the same
    /// is open, by [`Blocked::Crowded`] if its repository has too many.
    OpenCeremony(Box<Ceremony>),
    /// A job waits for an open ceremony. Blocked by [`Blocked::Moved`] if it is open no more, by [`Blocked::Crowded`] if too
    /// many wait.
    Wait(Box<Waiting>),
    /// A job goes, by its request, while the ceremony stays. Blocked by [`Blocked::Moved`] if it is gone.
    Leave([u8; 32]),
    /// Moves a ceremony back because surely nothing was minted for it. Nothing, if it is not as it was seen.
    GiveClaimBack(Move),
    /// A first use stands claimed, in place of what stood for its key.
    Stand(Box<Standing>),
    /// First uses with these keys stand claimed no more.
    ResetClaims(Vec<[u8; 32]>),
    /// First uses with these keys that stand claimed under the first rule do so under the second.
    CarryClaims { keys: Vec<[u8; 32]>, from: [u8; 32], to: [u8; 32] },
    /// Keeps a status list until then, if it is not kept already: a lease that is opened beside it has a place in it.
    KeepList { list: u128, until: UnixSeconds },
    /// Takes a use back: what it was for did not happen. Nothing, once the window is over.
    GiveBack(Use),
    /// Keeps a mapping folder, or a configuration in the same form, by its version, if it is not kept already (canonical archive, see `store::open`).
    KeepFolder { version: [u8; 32], archive: Vec<u8> },
    /// Begins another epoch of a store that had lost records: what was spent may be forgotten, so tokens issued until
    /// then are refused, and families of renewals, operators' sessions, open ceremonies and standing claims end.
    Adopt(Epoch),
    /// Suspends a subject: that stands in place of the one that it names, or where none stood. Blocked by
    /// [`Blocked::Moved`] if that is not how it is. Ceremonies and standing claims that rest on it are void from then on.
    Suspend { suspension: Suspension, replaces: Option<SuspensionId> },
    /// Takes the suspension of a subject back. Blocked by [`Blocked::Moved`] if this one does not stand.
    Resume { subject: [u8; 32], suspension: SuspensionId },
    /// Puts something on the list of what a backend's target refuses, or makes it stay there longer.
    Deny(Denial),
    /// Keeps a note. It alone needs no record.
    Note(Note),
    /// Opens a session, or keeps a link; one of the same key is replaced.
    OpenSession(Session),
    /// Ends a session, by the SHA-256 of what is presented for it; nothing, if there is none.
    EndSession([u8; 32]),
    /// Fixes a fact of this store for ever (`issuer_url`, a signing key that was made); blocked if it is fixed to another value.
    Fix { name: Cow<'static, str>, value: String },
}

/// A credential's record.
#[derive(Clone, Debug)]
pub struct Lease {
    pub id: LeaseId,
    pub role: String,
    pub mapping: String,
    pub team: String,
    /// Issuer name and immutable id of the principal.
    pub principal_issuer: String,
    pub principal_id: String,
    /// Readable: the repository.
    pub principal_name: String,
    /// Of the principal, as far as its token says them.
    pub repository_id: Option<String>,
    pub owner_id: Option<String>,
    pub run_id: Option<String>,
    /// Who started the run, as [`super::Subject::key`].
    pub person: Option<[u8; 32]>,
    /// The outermost actor, and who started its run.
    pub acting: Option<Acting>,
    pub acting_person: Option<[u8; 32]>,
    /// The lease whose token was exchanged for this one.
    pub parent: Option<LeaseId>,
    /// What was issued is a handoff: good for one exchange with the broker, and for nothing else.
    pub handoff: bool,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    /// The credential's public handle, where it is known beforehand (a `jti`).
    pub handle: Option<String>,
    pub state: LeaseState,
    /// The token that it cost, so that settling finds its single-use record. A renewal costs none.
    pub token: Option<[u8; 32]>,
    /// The family that it belongs to.
    pub family: Option<LeaseId>,
    /// Where relying parties look up whether its token was ended.
    pub status: Option<Place>,
}

/// A token's place in a status list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub list: u128,
    pub index: u16,
}

/// A person who signed in: as an operator, or to claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// SHA-256 of what is presented for it.
    pub session: [u8; 32],
    /// What evidence calls them.
    pub operator: String,
    /// The name of the sign-in that they came by.
    pub sign_in: String,
    /// What they may do, words with spaces between them; of one with a `person`, how they came, or that it is a link.
    pub may: String,
    /// Of the configuration that let them in: under another one the session is over.
    pub binding: [u8; 32],
    /// The caller's to judge.
    pub expires: UnixSeconds,
    /// Who they were when they signed in to claim; an operator's session has none.
    pub person: Option<Person>,
}

/// Where a lease, or the token spent for it, stands (design, section 3, step 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseState {
    Issuing,
    Issued,
    /// The backend surely minted nothing.
    Failed,
    /// Timeout, lost connection, crash.
    Unknown,
    Ended,
}

impl LeaseState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Issuing, Self::Issued, Self::Failed, Self::Unknown, Self::Ended];

    /// The name in evidence and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Issued => "issued",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Ended => "ended",
        }
    }
    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// An outcome to bind.
#[derive(Clone, Debug)]
pub struct Settled {
    pub lease: LeaseId,
    /// The state in which the lease was opened: `Issued` where its handle was known beforehand.
    pub from: LeaseState,
    pub state: LeaseState,
    pub handle: Option<String>,
}

/// All of it or nothing.
#[derive(Clone, Debug)]
pub struct Commit {
    pub guards: Vec<Guard>,
    pub changes: Vec<Change>,
    /// Its one record. `None` for guards alone: a token is spent for an answer that is summed. The writer refuses a
    /// change without a record.
    pub entry: Option<Entry>,
}

/// The writer's verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Durable, at this place of the chain; without a record, behind this place.
    Durable { sequence: u64 },
    /// The first guard that did not hold; nothing of this commit was written.
    Blocked(Blocked),
}

/// What it was that did not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// The token is spent.
    Replay,
    /// The same token is being exchanged right now.
    InFlight,
    /// The token was issued before the store was adopted.
    BeforeAdoption,
    /// The lease is unknown, ended, or already settled.
    LeaseEnded,
    /// The lease whose token is exchanged is not alive.
    ParentEnded,
    /// The limit is used up until then.
    Exhausted { until: UnixSeconds },
    /// Something of this case is suspended, by this.
    Suspended(SuspensionId),
    /// Somebody else was first: what stands is not what was expected.
    Moved,
    /// The family is unknown, was ended, or its session is over.
    FamilyEnded,
    /// The refresh token has had its turn.
    Reused,
    /// No standing claim of this first use, or one under another rule.
    Unclaimed,
    /// Too many ceremonies are open, or too many jobs wait for one.
    Crowded,
    /// A fixed fact has another value.
    FixedOtherwise,
}

/// The store cannot answer. `why` is for operators. After it, whether a commit was written is unknown: it is not sent
/// again, and nothing is issued for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store: {why}")]
pub struct Down {
    pub why: String,
}

/// What each database implements: synchronous, one transaction per batch, a verdict per commit. Called from the
/// writer's thread only. A commit that is blocked undoes only itself. On `Err` nothing of the batch was written and
/// `chain` is as it was.
pub trait Engine: Send {
    fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down>;

    /// After a batch, everybody having been answered: what an engine does for itself, in a moment.
    fn pause(&mut self) {}

    /// Removes single-use records that are to be kept until before `now`, counters whose window and sessions whose time is
    /// over by then, denials of what has expired, and whom leases that have expired were for: a bounded number of each; and
    /// status lists that no valid token can name any more. Says how many single-use records it removed.
    /// A token whose record may be gone is refused from then on, whatever the clock says. Always writes, so that its
    /// success shows that the store can be written. An engine that keeps no such records has nothing to do.
    fn sweep(&mut self, _now: UnixSeconds) -> Result<u64, Down> {
        Ok(0)
    }

    /// Empties and removes what a step names; doing it twice is as doing it once.
    fn forget(&mut self, _step: &Forget) -> Result<(), Down> {
        Ok(())
    }

    /// Keeps what others have read the tree to be. An engine that keeps no tree has nothing to do.
    fn keep_tree(&mut self, _rows: &TreeRows) -> Result<(), Down> {
        Ok(())
    }
}

impl Down {
    /// For operators.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}
