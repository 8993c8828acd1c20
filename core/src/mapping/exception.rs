//! What a mapping may do only with its team's `may` and a reason: rest on less than its issuer's jobs prove, or admit
//! events that nobody named.

use crate::diag::Span;
use std::{fmt, sync::Arc};

/// A rule from which a mapping may be excepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Exempt {
    /// `any_repository`: every repository of the owners that the mapping pins.
    AnyRepository,
    /// `any_event`: every event, those not yet invented included.
    AnyEvent,
    /// `allow_mutable_identity`: a name without id, on an issuer that strangers share.
    MutableIdentity,
    /// `allow_self`, in a ceremony: who started a job may claim it.
    AllowSelf,
    /// `own_approvers`, in `may` alone: its mappings say who approves.
    OwnApprovers,
    /// `sts_uses_per_token`, in a limit: one token gives several leases through the STS look-alike.
    StsUses,
}

impl Exempt {
    pub const ALL: [Self; 6] = [
        Self::AnyRepository,
        Self::AnyEvent,
        Self::MutableIdentity,
        Self::AllowSelf,
        Self::OwnApprovers,
        Self::StsUses,
    ];
    /// Those that a mapping claims by a key of its own, with a reason.
    pub const OF_MAPPING: [Self; 3] = [Self::AnyRepository, Self::AnyEvent, Self::MutableIdentity];
    /// As it is written in mappings and in `may`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnyRepository => "any_repository",
            Self::AnyEvent => "any_event",
            Self::MutableIdentity => "allow_mutable_identity",
            Self::AllowSelf => "allow_self",
            Self::OwnApprovers => "own_approvers",
            Self::StsUses => "sts_uses_per_token",
        }
    }
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|exempt| exempt.name() == name)
    }
}

impl fmt::Display for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exception that a mapping rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exception {
    pub exempt: Exempt,
    /// The team's own words.
    pub reason: Arc<str>,
    pub span: Span,
}
