//! What a person does with a ceremony, without a word of HTTP: look at it, claim it, reject it. Who they are was judged by
//! whoever calls; here it is asked whether they may, whether somebody else started the job, and last whether they read the
//! job's log.

use super::{accounts, ended, is_code, request_of, told_ended, words_of};
use crate::{
    exchange::salt,
    secret::Secret,
    store::{
        Blocked, Change, Commit, Down, Guard, KeptCeremony, Move, Outcome, Reader, Standing, WhichCeremonies,
        WhichStanding, Writer,
    },
    telemetry::CeremonySeries,
    webhooks::{Event as Happened, Webhooks},
};
use claimbound_core::{
    ceremony::{CeremonyId, Claim, Event, Person, Refused, Shown, State, WORDS_SHOWN, step},
    evidence::{Entry, Party, Record, What},
    time::UnixSeconds,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A reason's text.
pub const REASON_CHARACTERS_MAX: usize = 500;
/// How often somebody else may be first before one gives up: each time somebody else has got on.
const TRIES_MAX: usize = 64;

/// Where people come to.
#[derive(Clone)]
pub struct Desk {
    pub reader: Arc<dyn Reader>,
    pub writer: Writer,
    /// Who hears of it.
    pub webhooks: Arc<Webhooks>,
    pub series: CeremonySeries,
    pub through: Through,
}

/// By which way people come to a desk: the evidence says so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Through {
    /// The pages.
    #[default]
    Page,
    /// The command line.
    Command,
}

impl Through {
    /// The word in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Command => "command",
        }
    }
}

/// A ceremony as a person who may approve it sees it.
#[derive(Clone, Debug)]
pub struct Review {
    pub id: CeremonyId,
    /// What is bound.
    pub shown: Shown,
    /// Where it stands, past its end `expired`.
    pub state: &'static str,
    /// To compare with those in the job's log.
    pub words: [&'static str; WORDS_SHOWN],
    /// Who claimed it so far.
    pub claims: Vec<Claim>,
    /// How many distinct people must.
    pub quorum: u8,
    /// Claiming it lets the workload come again; otherwise it is for one issuance.
    pub standing: bool,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    /// Jobs that wait for it.
    pub waiting: usize,
    /// Why this person cannot claim it, though they may approve.
    pub hindrance: Option<Refused>,
    /// Wrong codes that they have left.
    pub tries_left: u8,
    /// A run of its jobs shows no person who could be another than the approver.
    pub proves_nobody: bool,
    /// Who started the job may claim it.
    pub allow_self: bool,
    pub before: Option<Before>,
}

/// What people claimed last about the same.
#[derive(Clone, Debug)]
pub struct Before {
    pub at: UnixSeconds,
    pub claims: Vec<Claim>,
    pub shown: Shown,
    /// Under another rule than the one that asks now.
    pub other_rule: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The state that it is in now.
    pub state: &'static str,
    /// How many people more must claim it.
    pub missing: u8,
}

/// Why nothing, or nothing good, came of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeskError {
    /// No such ceremony, or it was forgotten.
    #[error("there is no such request")]
    Unknown,
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Counted; `over`: it was one too many, and the request is rejected by it.
    #[error("the code is not the one in the job's log")]
    WrongCode { over: bool },
    /// Its time is over.
    #[error("its time is over")]
    Expired,
    /// An operator suspended one of their accounts at CI systems, one of who claimed it before, or what it is for.
    #[error(
        "an operator suspended your account at the CI system, that of who claimed it before you, or what it is for"
    )]
    Suspended,
    #[error("give a reason of 1 to {REASON_CHARACTERS_MAX} characters without control characters")]
    NoReason,
    #[error(transparent)]
    Store(#[from] Down),
}

impl Desk {
    /// What a person sees. Changes nothing.
    ///
    /// # Errors
    /// [`DeskError::Refused`] with [`Refused::NotEligible`] for people who may not approve it: they see nothing of it.
    pub async fn review(&self, id: CeremonyId, person: &Person, now: UnixSeconds) -> Result<Review, DeskError> {
        let kept = self.read(WhichCeremonies::One(id), 1).await?.pop().ok_or(DeskError::Unknown)?;
        let (ceremony, starters) = (&kept.ceremony, kept.starters());
        let terms = &ceremony.bound.terms;
        let hindrance = match terms.admits(person, starters.iter()) {
            Err(Refused::NotEligible) => return Err(Refused::NotEligible.into()),
            Err(why) => Some(why),
            Ok(()) if ceremony.state.claims().iter().any(|claim| claim.by.is(person)) => Some(Refused::AlreadyClaimed),
            Ok(()) => None,
        };
        let over = ceremony.state.is_open(terms.standing) && !ceremony.is_open(now);
        Ok(Review {
            id,
            shown: ceremony.bound.shown.clone(),
            state: if over { State::Expired.name() } else { ceremony.state.name() },
            words: words_of(ceremony),
            claims: ceremony.state.claims().to_vec(),
            quorum: terms.quorum(starters.iter()),
            standing: terms.standing,
            opened: ceremony.opened,
            expires: terms.expires,
            waiting: kept.jobs.iter().filter(|job| !job.withdrawn).count(),
            tries_left: ceremony.state.tries_left(person),
            proves_nobody: starters.iter().any(|starter| starter.proves_nobody),
            allow_self: terms.allow_self,
            before: self.before(&kept).await?,
            hindrance,
        })
    }

    /// What stood claimed about the same, as long as it is kept.
    async fn before(&self, kept: &KeptCeremony) -> Result<Option<Before>, Down> {
        let (reader, key, id) = (Arc::clone(&self.reader), kept.ceremony.key, kept.ceremony.id);
        let found = tokio::task::spawn_blocking(move || reader.standing(WhichStanding::About(key), 1)).await;
        let found = found.map_err(|_| Down::new("reading it panicked"))??;
        let other = found.into_iter().find(|standing| standing.ceremony != id);
        Ok(other.map(|standing| Before {
            at: standing.since,
            claims: standing.claims,
            shown: standing.shown,
            other_rule: standing.rule != kept.ceremony.rule,
        }))
    }

    /// A person claims it, with the code of the job's log.
    ///
    /// # Errors
    /// Why it is not claimed by them. A wrong code is on record all the same.
    pub async fn claim(
        &self,
        id: CeremonyId,
        person: &Person,
        code: &Secret,
        reason: &str,
        now: UnixSeconds,
    ) -> Result<Taken, DeskError> {
        let reason = checked(reason)?;
        self.take(
            id,
            now,
            |kept| {
                let starters = kept.starters();
                let code_right = is_code(kept, code.reveal());
                let claim = Claim { by: person.clone(), at: now, reason: reason.to_owned() };
                let step = step(
                    &kept.ceremony.state,
                    &kept.ceremony.bound.terms,
                    Event::Claim { claim, code_right, starters: &starters },
                    now,
                )?;
                let how = if step.wrong_code { "wrong_code" } else { "claimed" };
                Ok((step.next, how, step.wrong_code, Some(reason)))
            },
            Some(person),
        )
        .await
    }

    /// A person who may approve it says no. Whoever opened it is told why.
    ///
    /// # Errors
    /// Why it is not rejected by them.
    pub async fn reject(
        &self,
        id: CeremonyId,
        person: &Person,
        reason: &str,
        now: UnixSeconds,
    ) -> Result<Taken, DeskError> {
        let reason = checked(reason)?;
        self.take(
            id,
            now,
            |kept| {
                let starters = kept.starters();
                let event = Event::Reject { by: person.clone(), reason: reason.to_owned(), starters: &starters };
                let step = step(&kept.ceremony.state, &kept.ceremony.bound.terms, event, now)?;
                Ok((step.next, "rejected", false, Some(reason)))
            },
            Some(person),
        )
        .await
    }

    /// A job takes its request back, by its `auth_req_id`; the ceremony ends with the last job that waits. Says whether there
    /// was one.
    ///
    /// # Errors
    /// The store cannot record it.
    pub async fn withdraw(&self, auth_req_id: &Secret, now: UnixSeconds) -> Result<bool, Down> {
        let Some(request) = request_of(auth_req_id.reveal()) else { return Ok(false) };
        for _ in 0..TRIES_MAX {
            let Some(kept) = self.read(WhichCeremonies::Of(request), 1).await?.pop() else { return Ok(false) };
            let Some(own) = kept.jobs.iter().find(|job| job.request == request && !job.withdrawn) else {
                return Ok(false);
            };
            let others = kept.jobs.iter().any(|job| !job.withdrawn && job.request != own.request);
            let ends = if others {
                None
            } else {
                step(&kept.ceremony.state, &kept.ceremony.bound.terms, Event::Withdraw, now).ok()
            };
            if ends.is_none() && !kept.ceremony.is_open(now) {
                return Ok(false);
            }
            let (how, told) = match &ends {
                Some(step) if step.next == State::Expired => (ended(&kept.ceremony), Some(told_ended(&kept.ceremony))),
                Some(_) => ("withdrawn", Some(Happened::Withdrawn)),
                None => ("left", None),
            };
            let state = ends.as_ref().map_or(kept.ceremony.state.name(), |step| step.next.name());
            let guards = ends.into_iter().map(|step| Guard::Ceremony(kept.ceremony.to(step.next))).collect();
            let entry = event(&kept, how, state, Map::new(), now);
            let commit = Commit { guards, changes: vec![Change::Leave(request)], entry: Some(entry) };
            match self.writer.commit(commit).await? {
                Outcome::Durable { .. } => {
                    if let Some(told) = told {
                        self.tell(&kept, told);
                    }
                    return Ok(true);
                }
                Outcome::Blocked(_) => {}
            }
        }
        Err(Down::new("others were always first"))
    }

    /// Reads, judges and commits, until nobody else was first.
    async fn take<'t>(
        &self,
        id: CeremonyId,
        now: UnixSeconds,
        judge: impl Fn(&KeptCeremony) -> Result<(State, &'static str, bool, Option<&'t str>), Refused>,
        person: Option<&Person>,
    ) -> Result<Taken, DeskError> {
        for _ in 0..TRIES_MAX {
            let kept = self.read(WhichCeremonies::One(id), 1).await?.pop().ok_or(DeskError::Unknown)?;
            let (next, how, wrong_code, reason) = judge(&kept)?;
            let expired = next == State::Expired;
            let how = if expired { ended(&kept.ceremony) } else { how };
            let moved = kept.ceremony.to(next);
            let changes = standing(&kept, &moved, now).into_iter().collect();
            let entry = event(&kept, how, moved.next.name(), self.told(&kept, person, reason, &moved.next), now);
            let guards = person.map(|person| not_suspended(person, &kept, &moved.next, now)).into_iter();
            let guards = guards.chain([Guard::Ceremony(moved.clone())]).collect();
            let commit = Commit { guards, changes, entry: Some(entry) };
            let committed = self.writer.commit(commit).await?;
            if let Outcome::Durable { .. } = &committed {
                match &moved.next {
                    State::Claimed { .. } => {
                        self.series.claimed(now.0 - kept.ceremony.opened.0);
                        self.tell(&kept, Happened::Claimed);
                    }
                    State::Rejected { .. } => self.tell(&kept, Happened::Rejected),
                    State::Expired => self.tell(&kept, told_ended(&kept.ceremony)),
                    _ => {}
                }
            }
            match committed {
                Outcome::Durable { .. } if expired => return Err(DeskError::Expired),
                Outcome::Durable { .. } if wrong_code => return Err(DeskError::WrongCode { over: !moved.open }),
                Outcome::Durable { .. } => return Ok(taken(&kept, &moved)),
                Outcome::Blocked(Blocked::Moved) => {}
                Outcome::Blocked(Blocked::Suspended(_)) => return Err(DeskError::Suspended),
                Outcome::Blocked(other) => return Err(Down::new(format!("a move was blocked: {other:?}")).into()),
            }
        }
        Err(Down::new("others were always first").into())
    }

    pub(super) fn tell(&self, kept: &KeptCeremony, event: Happened) {
        let ceremony = &kept.ceremony;
        self.happened(event, ceremony.id, &ceremony.bound.shown, ceremony.bound.terms.expires);
    }

    /// Counts it, and tells whoever wants to hear of it.
    pub fn happened(&self, event: Happened, ceremony: CeremonyId, shown: &Shown, until: UnixSeconds) {
        self.series.happened(event.name());
        self.webhooks.tell(event, ceremony, shown, until);
    }

    /// Persons, reasons and what was shown stand in the details.
    fn told(
        &self,
        kept: &KeptCeremony,
        person: Option<&Person>,
        reason: Option<&str>,
        next: &State,
    ) -> Map<String, Value> {
        // Of one that is over: who had claimed it until then.
        let state = if next.claims().is_empty() { &kept.ceremony.state } else { next };
        let mut told = claims_of(state.claims());
        if let Some(person) = person {
            told.insert("person".into(), json!(person));
            told.insert("through".into(), self.through.name().into());
        }
        if let Some(reason) = reason {
            told.insert("reason".into(), reason.into());
        }
        if let State::Pending { tries, .. } = next {
            let wrong: u32 = tries.iter().map(|one| u32::from(one.wrong)).sum();
            told.insert("wrong_codes".into(), wrong.into());
        }
        told.insert("shown".into(), json!(kept.ceremony.bound.shown));
        told
    }

    pub(super) async fn read(&self, which: WhichCeremonies, most: u32) -> Result<Vec<KeptCeremony>, Down> {
        let reader = Arc::clone(&self.reader);
        let found = tokio::task::spawn_blocking(move || reader.ceremonies(which, most)).await;
        found.map_err(|_| Down::new("reading it panicked"))?
    }
}

/// Whoever has a person's stolen account answers for nothing, while that is suspended, also not with what they claimed before; and
/// nobody for what is suspended itself. To say no is always possible to the others.
fn not_suspended(person: &Person, kept: &KeptCeremony, next: &State, at: UnixSeconds) -> Guard {
    let mut subjects: Vec<[u8; 32]> = accounts(person).collect();
    if let State::Pending { claims, .. } | State::Claimed { claims, .. } = next {
        subjects.extend(claims.iter().flat_map(|claim| accounts(&claim.by)));
        subjects.extend(&kept.ceremony.bound.subjects);
    }
    Guard::NotSuspended { subjects, at }
}

fn checked(reason: &str) -> Result<&str, DeskError> {
    let reason = reason.trim();
    let well =
        !reason.is_empty() && reason.chars().count() <= REASON_CHARACTERS_MAX && !reason.chars().any(char::is_control);
    well.then_some(reason).ok_or(DeskError::NoReason)
}

/// A first use that is claimed stands from now on.
fn standing(kept: &KeptCeremony, moved: &Move, now: UnixSeconds) -> Option<Change> {
    let ceremony = &kept.ceremony;
    let State::Claimed { claims, .. } = &moved.next else { return None };
    let seconds = ceremony.bound.shown.valid_for.filter(|_| ceremony.bound.terms.standing)?;
    Some(Change::Stand(Box::new(Standing {
        key: ceremony.key,
        ceremony: ceremony.id,
        rule: ceremony.rule,
        since: now,
        until: now.plus(seconds.into()),
        claims: claims.clone(),
        shown: ceremony.bound.shown.clone(),
        subjects: ceremony.bound.subjects.clone(),
    })))
}

fn taken(kept: &KeptCeremony, moved: &Move) -> Taken {
    let starters = kept.starters();
    let terms = &kept.ceremony.bound.terms;
    let counted = moved.next.claims().iter().filter(|claim| terms.admits(&claim.by, starters.iter()).is_ok()).count();
    let missing = match moved.next {
        State::Pending { .. } => usize::from(terms.quorum(starters.iter())).saturating_sub(counted),
        _ => 0,
    };
    Taken { state: moved.next.name(), missing: u8::try_from(missing).unwrap_or(u8::MAX) }
}

pub(super) fn claims_of(claims: &[Claim]) -> Map<String, Value> {
    let mut told = Map::new();
    if !claims.is_empty() {
        told.insert("claims".into(), json!(claims));
    }
    told
}

fn event(
    kept: &KeptCeremony,
    how: &'static str,
    state: &'static str,
    details: Map<String, Value>,
    now: UnixSeconds,
) -> Entry {
    entry((kept.ceremony.id, &kept.ceremony.bound.shown), how, state, details, now)
}

/// The record of something that happened to a ceremony.
pub(super) fn entry(
    (ceremony, shown): (CeremonyId, &Shown),
    how: &'static str,
    state: &'static str,
    details: Map<String, Value>,
    now: UnixSeconds,
) -> Entry {
    let record = Record {
        decision: None,
        at: now,
        what: What::Ceremony { ceremony: ceremony.0, how, state, mapping: &shown.mapping, role: &shown.role },
        principal: Some(Party {
            issuer: &shown.principal.issuer,
            id: &shown.principal.id,
            name: &shown.principal.name,
        }),
        actor: shown.actors.first().map(|actor| Party { issuer: &actor.issuer, id: &actor.id, name: &actor.name }),
        mappings_version: None,
    };
    record.seal(&details.into(), salt())
}
