//! The claim ceremony as a table of moves. Pure; the store applies a move with compare-and-swap.
//!
//! A ceremony stands between a decision and its credential: `pending` → `claimed` → `consumed`, or `rejected`, `withdrawn`,
//! `expired`. It is claimed when enough distinct people who may approve, none of whom started a job of it, typed the code
//! that the job's log shows. [`step`] is all there is to it: whoever moves a ceremony reads it, asks here what becomes of
//! it, and writes that only if it is still as it was read. So no interleaving has two outcomes.

mod approver;
mod code;
mod shown;

pub use approver::{Approver, Approvers, BadApprover, Whom};
pub use code::{CODE_CHARACTERS, WORDS_SHOWN, match_code, normal_code, words};
pub use shown::{Shown, ShownParty};

use crate::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Wrong codes of one person, then they are out of it.
pub const WRONG_CODES_OF_PERSON_MAX: u8 = 5;
/// Wrong codes of all together, then the ceremony is rejected.
pub const WRONG_CODES_MAX: u8 = 15;
/// How often a claimed ceremony may be redeemed again because its lease surely came to nothing.
pub const REDEEMED_AGAIN_MAX: u8 = 2;
/// Most people that a rule may demand.
pub const QUORUM_MAX: u8 = 10;

/// Names one ceremony, in links and in evidence: 128 random bits, lower-case hex in text. It opens nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CeremonyId(pub u128);

impl fmt::Display for CeremonyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the id of a ceremony")]
pub struct NoCeremonyId;

impl FromStr for CeremonyId {
    type Err = NoCeremonyId;
    fn from_str(text: &str) -> Result<Self, NoCeremonyId> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let well = text.len() == 32 && text.bytes().all(digits);
        well.then(|| u128::from_str_radix(text, 16)).and_then(Result::ok).map(Self).ok_or(NoCeremonyId)
    }
}

impl Serialize for CeremonyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CeremonyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A person whom a sign-in vouches for, as they were when they acted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Person {
    /// Name of the `[[sign_in]]`.
    pub sign_in: String,
    /// The provider's immutable id of them.
    pub subject: String,
    /// Only one that the provider verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// For people's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Of OpenID Connect Core 1.0 section 2: how they signed in, and when they last showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// Who they are at CI systems: issuer name → immutable id of the person there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forge_ids: BTreeMap<String, String>,
}

impl Person {
    /// Whether both are one person: by the sign-in's immutable id, by an account at a CI system that both are linked to, or by
    /// an address that both providers verified.
    pub fn is(&self, other: &Self) -> bool {
        let same_address =
            self.email.as_ref().zip(other.email.as_ref()).is_some_and(|(own, its)| own.eq_ignore_ascii_case(its));
        let same_account = |(issuer, id): (&String, &String)| other.forge_ids.get(issuer) == Some(id);
        (self.sign_in == other.sign_in && self.subject == other.subject)
            || same_address
            || self.forge_ids.iter().any(same_account)
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sign_in, self.subject)
    }
}

/// Who started a job that waits for a ceremony, as far as its token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Starter {
    /// Name of the job's issuer.
    pub issuer: String,
    /// The immutable id, where the token has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The job's run shows no person who could be another than the approver: a re-run, a bot's event, nobody named.
    pub proves_nobody: bool,
}

/// What a ceremony is opened with; it never changes, but that jobs join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// Claiming it makes the workload's first use stand, and any of its jobs may come; otherwise it is good for one lease.
    pub standing: bool,
    pub approvers: Approvers,
    /// Distinct people, from 1.
    pub quorum: u8,
    /// Who started the job may claim it, and counts.
    #[serde(default)]
    pub allow_self: bool,
    /// Nothing can be claimed or redeemed from then on.
    pub expires: UnixSeconds,
}

impl Terms {
    /// How many people must claim it, with these jobs waiting: one more where a run proves no second person.
    pub fn quorum<'s>(&self, mut starters: impl Iterator<Item = &'s Starter>) -> u8 {
        let more = !self.allow_self && starters.any(|starter| starter.proves_nobody);
        self.quorum.max(1).saturating_add(u8::from(more))
    }

    /// Whether the person may approve, and is not one who started a job of it.
    ///
    /// # Errors
    /// Why they may not.
    pub fn admits<'s>(&self, person: &Person, mut starters: impl Iterator<Item = &'s Starter>) -> Result<(), Refused> {
        if !self.approvers.admit(person) {
            return Err(Refused::NotEligible);
        }
        if self.allow_self {
            return Ok(());
        }
        let mut unlinked = false;
        let started = starters.any(|starter| match (person.forge_ids.get(&starter.issuer), &starter.id) {
            (Some(own), Some(id)) => own == id,
            // Who started it is known, and whether that was this person is not. A bot, or who ran it first, is no answer.
            (None, Some(_)) if !starter.proves_nobody => {
                unlinked = true;
                false
            }
            _ => false,
        });
        match (started, unlinked) {
            (true, _) => Err(Refused::SelfApproval),
            (false, true) => Err(Refused::Unlinked),
            (false, false) => Ok(()),
        }
    }
}

/// One person's claim.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub by: Person,
    pub at: UnixSeconds,
    pub reason: String,
}

/// Wrong codes of one person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tries {
    pub by: Person,
    pub wrong: u8,
}

/// Where a ceremony stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Pending {
        #[serde(default)]
        claims: Vec<Claim>,
        #[serde(default)]
        tries: Vec<Tries>,
    },
    /// By enough people. `redeemed`: how often it was already, for leases that came to nothing.
    Claimed {
        claims: Vec<Claim>,
        #[serde(default)]
        redeemed: u8,
    },
    /// A lease was opened for it.
    Consumed {
        claims: Vec<Claim>,
        redeemed: u8,
    },
    /// By a person, or by too many wrong codes.
    Rejected {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Person>,
        /// In the person's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Withdrawn,
    Expired,
}

impl State {
    /// Of a ceremony that is opened.
    pub fn opened() -> Self {
        Self::Pending { claims: Vec::new(), tries: Vec::new() }
    }
    /// The name in evidence, answers and the store.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Claimed { .. } => "claimed",
            Self::Consumed { .. } => "consumed",
            Self::Rejected { .. } => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
    /// Who claimed it so far.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Self::Pending { claims, .. } | Self::Claimed { claims, .. } | Self::Consumed { claims, .. } => claims,
            Self::Rejected { .. } | Self::Withdrawn | Self::Expired => &[],
        }
    }
    /// Whether anything can become of it yet: it waits for people, or for its job.
    pub fn is_open(&self, standing: bool) -> bool {
        match self {
            Self::Pending { .. } => true,
            Self::Claimed { .. } => !standing,
            _ => false,
        }
    }
    /// How many wrong codes this person has left.
    pub fn tries_left(&self, person: &Person) -> u8 {
        match self {
            Self::Pending { tries, .. } => WRONG_CODES_OF_PERSON_MAX.saturating_sub(Self::wrong(tries, person).0),
            _ => 0,
        }
    }
    /// Wrong codes so far, of this person and of all.
    fn wrong(tries: &[Tries], by: &Person) -> (u8, u8) {
        let own = tries.iter().filter(|one| one.by.is(by)).map(|one| one.wrong).fold(0, u8::saturating_add);
        (own, tries.iter().map(|one| one.wrong).fold(0, u8::saturating_add))
    }
}

/// What is to happen to a ceremony.
#[derive(Clone, Debug)]
pub enum Event<'e> {
    /// A person claims it. Their session was judged by whoever they sent it to, the code here and last.
    Claim { claim: Claim, code_right: bool, starters: &'e [Starter] },
    /// A person who may approve says no.
    Reject { by: Person, reason: String, starters: &'e [Starter] },
    /// Its job opens a lease for it.
    Consume,
    /// Its lease surely came to nothing.
    GiveBack,
    /// Its job needs it no more.
    Withdraw,
    /// Nothing but time.
    Tick,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// They are no approver of it.
    #[error("you are not among its approvers")]
    NotEligible,
    /// They started a job of it.
    #[error("you started the job: somebody else has to claim it")]
    SelfApproval,
    /// Whether they started a job of it cannot be known.
    #[error("your account is not linked to the CI system's: nobody can know that you are not who started the job")]
    Unlinked,
    /// Their claim is there.
    #[error("you have claimed it already")]
    AlreadyClaimed,
    /// Too many of their codes were wrong.
    #[error("too many of your codes were wrong")]
    NoTriesLeft,
    /// It is not in a state for that.
    #[error("it is over")]
    NotNow,
}

/// What an event made of a ceremony.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub next: State,
    /// The code was wrong: counted, and nothing was claimed by it.
    pub wrong_code: bool,
}

/// What the event makes of a ceremony at a time. Past its end whatever happens makes it `expired`.
///
/// # Errors
/// [`Refused`]: it stays as it is.
pub fn step(state: &State, terms: &Terms, event: Event<'_>, now: UnixSeconds) -> Result<Step, Refused> {
    use {Event as E, State as S};
    let to = |next| Ok(Step { next, wrong_code: false });
    if now >= terms.expires && state.is_open(terms.standing) {
        return to(S::Expired);
    }
    match (state, event) {
        (S::Pending { claims, tries }, E::Claim { claim, code_right, starters }) => {
            terms.admits(&claim.by, starters.iter())?;
            if claims.iter().any(|one| one.by.is(&claim.by)) {
                return Err(Refused::AlreadyClaimed);
            }
            let (own, all) = State::wrong(tries, &claim.by);
            if own >= WRONG_CODES_OF_PERSON_MAX {
                return Err(Refused::NoTriesLeft);
            }
            if !code_right {
                let next = match all.saturating_add(1) {
                    WRONG_CODES_MAX.. => S::Rejected { by: None, reason: None },
                    _ => S::Pending { claims: claims.clone(), tries: counted(tries, &claim.by) },
                };
                return Ok(Step { next, wrong_code: true });
            }
            let mut claims = claims.clone();
            claims.push(claim);
            to(match enough(terms, &claims, starters) {
                true => S::Claimed { claims, redeemed: 0 },
                false => S::Pending { claims, tries: tries.clone() },
            })
        }
        (state, E::Reject { by, reason, starters }) if state.is_open(terms.standing) => {
            // Who started the job may stop it: to say no needs no second person.
            match terms.admits(&by, starters.iter()) {
                Err(Refused::NotEligible) => Err(Refused::NotEligible),
                _ => to(S::Rejected { by: Some(by), reason: Some(reason) }),
            }
        }
        (S::Claimed { claims, redeemed }, E::Consume) if !terms.standing => {
            to(S::Consumed { claims: claims.clone(), redeemed: *redeemed })
        }
        (S::Consumed { claims, redeemed }, E::GiveBack) => {
            match *redeemed < REDEEMED_AGAIN_MAX && now < terms.expires {
                true => to(S::Claimed { claims: claims.clone(), redeemed: redeemed + 1 }),
                false => Err(Refused::NotNow),
            }
        }
        (state, E::Withdraw) if state.is_open(terms.standing) => to(S::Withdrawn),
        _ => Err(Refused::NotNow),
    }
}

/// Whether those who claimed it and started no job of it are enough. Somebody's job may have joined after their claim.
fn enough(terms: &Terms, claims: &[Claim], starters: &[Starter]) -> bool {
    let counted = claims.iter().filter(|claim| terms.admits(&claim.by, starters.iter()).is_ok()).count();
    counted >= usize::from(terms.quorum(starters.iter()))
}

fn counted(tries: &[Tries], by: &Person) -> Vec<Tries> {
    let mut tries = tries.to_vec();
    match tries.iter_mut().find(|one| one.by.is(by)) {
        Some(own) => own.wrong += 1,
        None => tries.push(Tries { by: by.clone(), wrong: 1 }),
    }
    tries
}

#[cfg(test)]
mod tests;
