//! The only maker of [`Verified`] and of [`SingleUse`].

use super::{IssuerSnapshot, IssuerTable, UnverifiedToken};
use crate::{claims::Claims, reason::Reason, time::UnixSeconds};
use std::sync::Arc;

/// A token whose issuer, key, signature, type, times, audience and identity all hold.
pub struct Verified<'t> {
    issuer: Arc<IssuerSnapshot>,
    claims: Claims<'t>,
    issued_at: UnixSeconds,
    expires: UnixSeconds,
    single_use: Option<SingleUse>,
}

/// The right to spend this token once. Only [`verify`] makes one; the store decides who is first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SingleUse {
    key: [u8; 32],
    keep_until: UnixSeconds,
}

impl SingleUse {
    /// Hash of the length-prefixed issuer, kind and value.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
    /// Until when the record must be kept.
    pub fn keep_until(&self) -> UnixSeconds {
        self.keep_until
    }
}

impl<'t> Verified<'t> {
    pub fn issuer(&self) -> &IssuerSnapshot {
        &self.issuer
    }
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }
    pub fn expires(&self) -> UnixSeconds {
        self.expires
    }
    /// `None` for issuers whose profile says that tokens are meant to be used more than once.
    pub fn single_use(&self) -> Option<SingleUse> {
        self.single_use
    }
    pub fn claims(&self) -> &Claims<'t> {
        &self.claims
    }
    pub fn into_claims(self) -> Claims<'t> {
        self.claims
    }
}

/// Why a token is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0}")]
    Refused(Reason),
    /// The one error that a key refresh may mend: no key of this `kid`, or keys too old.
    #[error("no usable key of this kid at {issuer}")]
    KeyUnknown { issuer: Arc<str> },
}

impl TrustError {
    /// For evidence.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => *reason,
            Self::KeyUnknown { .. } => Reason::KidUnknown,
        }
    }
}

/// Checks everything about a token together (design, sections 3 and 4).
pub fn verify<'t>(
    _token: &UnverifiedToken<'t>,
    _issuers: &IssuerTable,
    _now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    unimplemented!()
}
