//! Renewal: how a job goes on that cannot ask its CI system for a second token (design, section 8).
//!
//! Its first grant opens a *family*; a refresh token, sent together with the token that began it, is good for the next
//! lease and the next refresh token. Nothing is carried over but the role: every renewal is decided anew.

use super::{
    Parts, Refusal,
    handle::possession,
    proof::{Cost, Pays},
};
use crate::{
    secret::Secret,
    store::{Blocked, Change, Down, Family, Guard, Turn, Turns},
};
use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::{
    evidence::LeaseId,
    mapping::Mapping,
    reason::Reason,
    time::{Seconds, UnixSeconds},
    workload::Case,
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// So that people and scanners see what it is.
const PREFIX: &str = "cbr_";
/// Of each half: 256 bits.
const HALF_BYTES: usize = 32;
/// Both halves in base64url.
const RANDOM_CHARACTERS: usize = 86;

/// A refresh token on its way out.
pub struct Refresh {
    pub token: Secret,
    /// When the session is over.
    pub expires: UnixSeconds,
}

/// A refresh token: the secret that its family shares, and what is its own.
pub(super) struct Halves {
    family: Zeroizing<[u8; HALF_BYTES]>,
    own: Zeroizing<[u8; HALF_BYTES]>,
}

impl Halves {
    /// `None` for any other text: nothing else is looked up.
    fn read(token: &str) -> Option<Self> {
        let random = token.strip_prefix(PREFIX).filter(|random| random.len() == RANDOM_CHARACTERS)?;
        let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(random).ok()?);
        let (family, own) = bytes.split_at_checked(HALF_BYTES)?;
        let mut halves = Self { family: Zeroizing::default(), own: Zeroizing::default() };
        halves.family.copy_from_slice(family);
        halves.own.copy_from_slice(own);
        Some(halves)
    }

    fn secret(&self) -> [u8; 32] {
        possession(&self.family[..])
    }

    fn turn(&self) -> [u8; 32] {
        possession(&self.own[..])
    }

    /// The next of this family.
    fn next(&self) -> Self {
        Self { family: self.family.clone(), own: random() }
    }

    fn write(&self) -> Secret {
        let bytes = Zeroizing::new([&self.family[..], &self.own[..]].concat());
        Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&*bytes)))
    }
}

fn random() -> Zeroizing<[u8; HALF_BYTES]> {
    let mut random = Zeroizing::new([0; HALF_BYTES]);
    rand::fill(&mut *random).expect("the system's random source answers");
    random
}

/// The family whose refresh token this is, also of one that has had its turn: who holds it may end it. `None` for any other text.
pub fn family_secret(token: &str) -> Option<[u8; 32]> {
    Halves::read(token).map(|halves| halves.secret())
}

/// A family as it was looked up, and the token that was sent for it.
pub struct Member {
    pub family: Family,
    halves: Halves,
}

impl Member {
    /// Whether it is the token's turn: asked before anything is decided, so that nobody learns of mappings by a token that is
    /// over. It holds only by the guard.
    pub(super) fn has_turn(&self, now: UnixSeconds) -> Result<(), Refusal> {
        let next = Halves { family: Zeroizing::default(), own: Zeroizing::default() };
        let taken = self.family.turns.take(&self.turn(&next, now), self.family.expires);
        taken.map(drop).map_err(|blocked| Refusal::Turn { blocked, family: self.family.id })
    }

    /// What the token's turn is to become.
    fn turn(&self, next: &Halves, at: UnixSeconds) -> Turn {
        Turn { family: self.family.id, token: self.halves.turn(), next: next.turn(), at }
    }
}

/// The family that a refresh token and a subject token belong to, and this role if one is named.
pub(super) async fn look_up(
    parts: &Parts<'_>,
    token: &str,
    subject: &[u8; 32],
    role: Option<&str>,
) -> Result<Member, Refusal> {
    let halves = Halves::read(token).ok_or(Refusal::Grant(Reason::GrantUnknown))?;
    let (reader, secret) = (Arc::clone(parts.reader), halves.secret());
    let found = tokio::task::spawn_blocking(move || reader.family(&secret)).await;
    let found = found.map_err(|_| Down::new("reading it panicked"))??;
    let family = found.ok_or(Refusal::Grant(Reason::GrantUnknown))?;
    if family.token != *subject || role.is_some_and(|role| role != family.role) {
        tracing::warn!(family = %family.id, role = family.role, "a refresh token came with another token, or for another role");
        return Err(Refusal::Grant(Reason::RefreshMismatch));
    }
    Ok(Member { family, halves })
}

/// How a grant goes on when its credential ends.
pub(super) enum Renewal {
    /// Not at all: the job can mint again.
    Never,
    /// It begins a family.
    Opens { family: Family, first: Halves },
    /// It is a renewal.
    Goes { turn: Turn, next: Halves, expires: UnixSeconds },
}

impl Renewal {
    /// `ends`: when the subject token does.
    pub(super) fn of(
        pays: &Pays,
        ends: UnixSeconds,
        (lease, role): (LeaseId, &str),
        mapping: &Mapping,
        now: UnixSeconds,
        case: &Case<'_>,
    ) -> Result<Self, Refusal> {
        let over = |from: UnixSeconds| mapping.max_session.map_or(ends, |session| from.plus(session.0.into()));
        match pays {
            Pays::Turn(member) => {
                // By the mapping as it is now, and never later than was promised.
                let expires = over(member.family.opened).min(member.family.expires);
                if expires <= now {
                    return Err(Refusal::Grant(Reason::RefreshEnded));
                }
                let next = member.halves.next();
                Ok(Self::Goes { turn: member.turn(&next, now), next, expires })
            }
            // A failed exchange may come again for the very reason that the job cannot mint another token.
            // A renewal brings the job's token alone: whoever acts would be missing from it.
            Pays::Token(_) if !case.actors.is_empty() => Ok(Self::Never),
            Pays::Token(Cost { subject: Some(spend), .. }) if spend.may_retry && over(now) > now => {
                let first = Halves { family: random(), own: random() };
                let family = Family {
                    id: lease,
                    secret: first.secret(),
                    token: *spend.token.key(),
                    role: role.to_owned(),
                    opened: now,
                    expires: over(now),
                    turns: Turns::first(first.turn(), now),
                };
                Ok(Self::Opens { family, first })
            }
            Pays::Token(_) => Ok(Self::Never),
        }
    }

    /// No renewal outlives its session; what began it may.
    pub(super) fn narrows(&self, duration: Seconds, now: UnixSeconds) -> Seconds {
        match self {
            Self::Never | Self::Opens { .. } => duration,
            Self::Goes { expires, .. } => {
                let left = expires.0.saturating_sub(now.0);
                duration.min(Seconds(u32::try_from(left).unwrap_or(u32::MAX)))
            }
        }
    }

    pub(super) fn family(&self) -> Option<LeaseId> {
        match self {
            Self::Never => None,
            Self::Opens { family, .. } => Some(family.id),
            Self::Goes { turn, .. } => Some(turn.family),
        }
    }

    /// What admission takes, and what surely minting nothing gives back.
    pub(super) fn turn(&self) -> Option<Turn> {
        match self {
            Self::Goes { turn, .. } => Some(*turn),
            _ => None,
        }
    }

    pub(super) fn guard(&self) -> Option<Guard> {
        self.turn().map(Guard::Refresh)
    }

    pub(super) fn change(&self) -> Option<Change> {
        match self {
            Self::Opens { family, .. } => Some(Change::OpenFamily(family.clone())),
            _ => None,
        }
    }

    /// A guard of its own that did not hold names the family.
    pub(super) fn lost(&self, refusal: Refusal) -> Refusal {
        match (refusal, self.family()) {
            (Refusal::Blocked(blocked @ (Blocked::Reused | Blocked::FamilyEnded)), Some(family)) => {
                Refusal::Turn { blocked, family }
            }
            (refusal, _) => refusal,
        }
    }

    /// What the job gets to come again with.
    pub(super) fn refresh(&self) -> Option<Box<Refresh>> {
        let (halves, expires) = match self {
            Self::Never => return None,
            Self::Opens { family, first } => (first, family.expires),
            Self::Goes { next, expires, .. } => (next, *expires),
        };
        Some(Box::new(Refresh { token: halves.write(), expires }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let halves = Halves { family: random(), own: random() };
        let (first, next) = (halves.write(), halves.next().write());
        let read = Halves::read(first.reveal()).expect("ours");
        assert_eq!((read.secret(), read.turn()), (halves.secret(), halves.turn()));
        assert_eq!(family_secret(first.reveal()), family_secret(next.reveal()), "one family");
        assert_ne!(first.reveal(), next.reveal());
        assert_eq!(first.reveal().len(), PREFIX.len() + RANDOM_CHARACTERS);
        let text = first.reveal();
        for other in
            ["", PREFIX, &text[1..], &text[..text.len() - 1], &format!("{text}A"), &text.replace("cbr_", "cbl_")]
        {
            assert!(Halves::read(other).is_none(), "{other}");
        }
    }
}
