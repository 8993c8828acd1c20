//! Why an exchange ends without a credential: one variant per step, each with that step's own error.

use super::{Hint, Snapshot, Waits};
use crate::{
    issuance::{MintError, Unfit},
    keys::issuers::IssuerDown,
    store::{Blocked, Down, LeaseState},
};
use claimbound_core::{
    delegation::DelegationError,
    evidence::LeaseId,
    mapping::{Ask, Denial},
    reason::Reason,
    time::UnixSeconds,
    trust::TrustError,
    workload::{Case, WorkloadError},
};

/// Why an exchange ends without a credential. `http::answer` turns it into words, by reason and standing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    IssuerDown(#[from] IssuerDown),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Delegation(#[from] DelegationError),
    #[error("{}", .0.reason)]
    Decision(Denial, Box<Hint>),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("a guard did not hold: {0:?}")]
    Blocked(Blocked),
    /// It was not this refresh token's turn.
    #[error("family {family}: {blocked:?}")]
    Turn { blocked: Blocked, family: LeaseId },
    #[error(transparent)]
    Store(#[from] Down),
    #[error(transparent)]
    Backend(#[from] MintError),
    #[error("{0}")]
    Grant(Reason),
    /// It waits for people. The token is spent, and that is on record.
    #[error("ceremony {} is open", .0.ceremony)]
    Opened(Box<Waits>),
    /// Its job came back too early.
    #[error("ceremony {} is not claimed", .0.ceremony)]
    Waiting(Box<Waits>),
    /// Its ceremony was rejected. `said`: in whose words, for who opened it.
    #[error("its ceremony was rejected")]
    Rejected { said: Option<Box<str>> },
    /// Before anything was judged: the token stays good.
    #[error("the repository's rate is used up for {retry_after_seconds} s")]
    RateLimited { retry_after_seconds: u32 },
}

impl Refusal {
    /// A denial, and what the job may learn of it.
    pub(super) fn decision(
        snapshot: &Snapshot,
        case: &Case<'_>,
        ask: &Ask<'_>,
        denial: Denial,
        now: UnixSeconds,
    ) -> Self {
        let hint = Hint::about(&snapshot.mappings, case, ask, &denial, now);
        Self::Decision(denial, Box::new(hint))
    }

    /// For evidence, metrics and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Trust(error) => error.reason(),
            Self::IssuerDown(_) => Reason::IssuerDown,
            Self::Workload(error) => error.reason(),
            Self::Delegation(error) => error.reason(),
            Self::Decision(denial, _) => denial.reason,
            Self::Unfit(unfit) => unfit.reason(),
            Self::Blocked(Blocked::InFlight) => Reason::InFlight,
            Self::Blocked(Blocked::BeforeAdoption) => Reason::BeforeAdoption,
            // The outcome came after the sweeper had settled the lease.
            Self::Blocked(Blocked::LeaseEnded) => Reason::BackendDown,
            Self::Blocked(Blocked::ParentEnded) => Reason::LeaseEnded,
            Self::Blocked(Blocked::Exhausted { .. }) => Reason::MappingLimit,
            Self::Blocked(Blocked::Suspended(_)) => Reason::Suspended,
            Self::Blocked(Blocked::Crowded) => Reason::CeremonyCrowded,
            Self::Blocked(Blocked::Unclaimed) => Reason::CeremonyOutdated,
            Self::Blocked(Blocked::Moved) => Reason::CeremonyUsed,
            Self::Opened(_) | Self::Waiting(_) => Reason::CeremonyNeeded,
            Self::Rejected { .. } => Reason::CeremonyRejected,
            Self::Turn { blocked: Blocked::Reused, .. } => Reason::RefreshReused,
            Self::Turn { .. } => Reason::RefreshEnded,
            // `Replay`, and what no exchange guards today: never an issue.
            Self::Blocked(_) => Reason::Replay,
            Self::Store(_) => Reason::StoreDown,
            Self::Backend(error) => error.reason(),
            Self::Grant(reason) => *reason,
            Self::RateLimited { .. } => Reason::RateLimited,
        }
    }

    /// Before this much time another try is in vain, where that is known.
    pub(super) fn retry_after_seconds(&self, now: UnixSeconds) -> Option<u32> {
        match self {
            Self::RateLimited { retry_after_seconds } => Some(*retry_after_seconds),
            Self::Blocked(Blocked::Exhausted { until }) => u32::try_from(until.0.saturating_sub(now.0).max(1)).ok(),
            _ => None,
        }
    }

    /// A guard of a ceremony that did not hold in admission: others were first.
    pub(super) fn of_ceremony(self) -> Self {
        match self {
            Self::Blocked(Blocked::Moved) => Self::Grant(Reason::CeremonyUsed),
            Self::Blocked(Blocked::Unclaimed) => Self::Grant(Reason::CeremonyOutdated),
            other => other,
        }
    }

    /// What the person who rejected its ceremony said.
    pub(super) fn take_said(&mut self) -> Option<Box<str>> {
        match self {
            Self::Rejected { said } => said.take(),
            _ => None,
        }
    }

    /// What its job waits for.
    pub(super) fn take_waits(self) -> (Self, Option<Box<Waits>>) {
        match self {
            Self::Waiting(waits) => (Self::Grant(Reason::CeremonyNeeded), Some(waits)),
            other => (other, None),
        }
    }

    /// What a proven job may learn.
    pub(super) fn into_hint(self) -> Option<Box<Hint>> {
        match self {
            Self::Decision(_, hint) => Some(hint),
            _ => None,
        }
    }

    /// To whoever holds a token of ours: the job is not theirs, and what is said of it is not for them.
    pub(super) fn untold(self) -> Self {
        match self {
            Self::Decision(denial, hint) => {
                Self::Decision(denial, Box::new(Hint { role_untold: hint.role_untold, ..Hint::default() }))
            }
            other => other,
        }
    }
}

/// The state that a failed mint leaves its lease in.
pub(super) fn lease_state(error: &MintError) -> LeaseState {
    match error {
        MintError::Refused(_) | MintError::PolicyTooLarge(_) | MintError::Away(_) => LeaseState::Failed,
        MintError::Unknown(_) => LeaseState::Unknown,
    }
}
