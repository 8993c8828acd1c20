//! Grants that wait for people: what a commit must still guard, how a ceremony is opened, and how its job comes back.
//!
//! `authorization_pending` is a refusal that has a record, spends the token, and opens or joins a ceremony: all in one
//! commit. A claimed ceremony, or a first use that stands, is one more guard of the admission that it is for.

use super::{
    Parts, Refusal, Request,
    proof::{Cost, Pays},
    quota::repository,
    trail::Trail,
};
use crate::{
    ceremony::{accounts, new_code, new_id, new_request, request_of, words_of},
    secret::Secret,
    store::{
        Asked, Blocked, Bound, Ceremony, Change, Down, Guard, KeptCeremony, Move, Spend, Standing, Waiting,
        WhichCeremonies, WhichStanding,
    },
};
use claimbound_core::{
    ceremony::{CeremonyId, Claim as Approval, Event, Shown, ShownParty, Starter, State, Terms, WORDS_SHOWN, step},
    evidence::{What, hex},
    mapping::{Ask, CeremonyTerms, Grant, MappingSet, When, every_key, job_digest, starter},
    reason::Reason,
    time::{Seconds, UnixSeconds},
    workload::{Case, Claim, Presence, Text},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a job may ask for its ceremony, as it is told (RFC 8628 section 3.2).
pub const POLL_INTERVAL_SECONDS: u32 = 5;
/// One that comes this much early is not told to slow down: clocks and networks differ.
const POLL_EARLY: Duration = Duration::from_secs(1);
/// Requests whose last question is remembered.
const POLLS_MAX: usize = 16 * 1024;
/// How often others may be first to open, or to end, a ceremony about the same.
const TRIES_MAX: usize = 16;

/// When jobs asked last.
#[derive(Default)]
pub struct Polls(Mutex<HashMap<[u8; 32], Instant>>);

impl Polls {
    /// Whether this one comes too soon after the last one.
    fn is_too_soon(&self, request: [u8; 32]) -> bool {
        let least = Duration::from_secs(POLL_INTERVAL_SECONDS.into()) - POLL_EARLY;
        let (mut last, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if last.len() >= POLLS_MAX {
            last.retain(|_, at| now.duration_since(*at) < least);
        }
        // Whoever fills it with requests that are known to be good only lets others ask sooner.
        if last.len() >= POLLS_MAX {
            last.clear();
        }
        last.insert(request, now).is_some_and(|before| now.duration_since(before) < least)
    }
}

/// What a waiting job is told.
#[derive(Debug)]
pub struct Waits {
    /// Once, when it is made.
    pub auth_req_id: Option<Secret>,
    pub ceremony: CeremonyId,
    /// Once, when it is made.
    pub match_code: Option<Secret>,
    pub words: [&'static str; WORDS_SHOWN],
    pub expires_in: Seconds,
    /// It is claimed, and can be redeemed.
    pub ready: bool,
    /// This request opened it.
    pub opened: Option<Box<Opened>>,
}

/// A ceremony that a request opened: what people are to see, and until when.
#[derive(Debug)]
pub struct Opened {
    pub shown: Shown,
    pub until: UnixSeconds,
    /// The one about the same, under another rule, that was withdrawn for it.
    pub instead_of: Option<(CeremonyId, Shown, UnixSeconds)>,
}

impl Waits {
    fn of(ceremony: &Ceremony, now: UnixSeconds) -> Self {
        let left = ceremony.bound.terms.expires.0.saturating_sub(now.0);
        Self {
            auth_req_id: None,
            ceremony: ceremony.id,
            match_code: None,
            words: words_of(ceremony),
            expires_in: Seconds(u32::try_from(left).unwrap_or(0)),
            ready: matches!(ceremony.state, State::Claimed { .. }),
            opened: None,
        }
    }
}

/// A job that comes back for what was claimed.
pub struct Redeems {
    kept: KeptCeremony,
    job: Waiting,
    /// Of the fresh tokens; without a subject token where it is the one that it began with, of an issuer whose jobs have no
    /// other.
    pub(super) cost: Cost,
}

impl Redeems {
    pub(super) fn new(kept: KeptCeremony, job: Waiting, subject: Spend, actor: Option<Spend>) -> Self {
        // It was spent when the ceremony began, and is not good for anything else.
        let again = subject.may_retry && job.token == *subject.token.key();
        Self { kept, job, cost: Cost { subject: (!again).then_some(subject), actor } }
    }

    /// Whether the job came back with the token that it began with.
    pub(super) fn again(&self) -> bool {
        self.cost.subject.is_none()
    }

    /// What the job asked for when it began.
    pub(super) fn ask(&self) -> Ask<'_> {
        let Asked { role, duration, scope } = &self.job.asked;
        Ask { role: role.as_deref(), duration: duration.map(Seconds), scope: scope.as_deref() }
    }

    /// Whether it is the same job, asking for the same, and its request can be redeemed.
    pub(super) fn judge(
        &self,
        case: &Case<'_>,
        principal_id: &str,
        asked: &Ask<'_>,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let ask = self.ask();
        let same = |other: bool| if other { Ok(()) } else { Err(Refusal::Grant(Reason::CeremonyMismatch)) };
        same(asked.role.is_none_or(|role| ask.role.is_none_or(|own| own == role)))?;
        same(asked.duration.is_none_or(|duration| ask.duration == Some(duration)))?;
        same(asked.scope.is_none_or(|scope| ask.scope == Some(scope)))?;
        same(job_digest(case, principal_id, &ask) == self.job.job)?;
        if let Some(waits) = state(&self.kept, &self.job, now)?.filter(|waits| !waits.ready) {
            return Err(Refusal::Waiting(Box::new(waits)));
        }
        Ok(())
    }
}

/// Where a request stands: it waits, or can be redeemed; or why it is over.
fn state(kept: &KeptCeremony, job: &Waiting, now: UnixSeconds) -> Result<Option<Waits>, Refusal> {
    let ceremony = &kept.ceremony;
    let over = |reason| Err(Refusal::Grant(reason));
    let ended = if ceremony.void { Reason::CeremonyOutdated } else { Reason::CeremonyExpired };
    if job.withdrawn {
        return over(Reason::CeremonyRejected);
    }
    match &ceremony.state {
        State::Pending { .. } | State::Claimed { .. } if now >= ceremony.bound.terms.expires && !is_stood(ceremony) => {
            over(ended)
        }
        State::Pending { .. } | State::Claimed { .. } => Ok(Some(Waits::of(ceremony, now))),
        State::Consumed { .. } => over(Reason::CeremonyUsed),
        State::Rejected { reason, .. } => {
            let said = reason.as_deref().filter(|_| kept.is_openers(job)).map(Box::from);
            Err(Refusal::Rejected { said })
        }
        State::Withdrawn => over(Reason::CeremonyRejected),
        State::Expired => over(ended),
    }
}

/// A first use that was claimed stays so.
fn is_stood(ceremony: &Ceremony) -> bool {
    ceremony.bound.terms.standing && matches!(ceremony.state, State::Claimed { .. })
}

/// Asks the store where waiting for it holds up nobody else.
async fn read<T: Send + 'static>(
    parts: &Parts<'_>,
    ask: impl FnOnce(&dyn crate::store::Reader) -> Result<T, Down> + Send + 'static,
) -> Result<T, Down> {
    let reader = Arc::clone(parts.reader);
    let found = tokio::task::spawn_blocking(move || ask(&*reader)).await;
    found.map_err(|_| Down::new("reading it panicked"))?
}

/// The ceremony and the job that an `auth_req_id` is of.
pub(super) async fn look_up(parts: &Parts<'_>, auth_req_id: &str) -> Result<(KeptCeremony, Waiting), Refusal> {
    let unknown = || Refusal::Grant(Reason::GrantUnknown);
    let request = request_of(auth_req_id).ok_or_else(unknown)?;
    let found = read(parts, move |reader| reader.ceremonies(WhichCeremonies::Of(request), 1)).await?.pop();
    let kept = found.ok_or_else(unknown)?;
    let job = kept.jobs.iter().find(|job| job.request == request).cloned().ok_or_else(unknown)?;
    Ok((kept, job))
}

/// A question without a token: it is told where its request stands, and nothing is spent or written.
///
/// # Errors
/// No such request, or the store is away: the caller is a stranger.
pub(super) async fn poll(parts: &Parts<'_>, auth_req_id: &str) -> Result<Refusal, Refusal> {
    let (kept, job) = look_up(parts, auth_req_id).await?;
    Ok(match state(&kept, &job, parts.now) {
        Ok(_) if parts.polls.is_too_soon(job.request) => Refusal::Grant(Reason::CeremonySlowDown),
        Ok(Some(waits)) => Refusal::Waiting(Box::new(waits)),
        Ok(None) => Refusal::Grant(Reason::GrantUnknown),
        Err(over) => over,
    })
}

/// What admission must guard of a ceremony, and what it changes.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) guard: Option<Guard>,
    pub(super) change: Option<Change>,
    /// What surely minting nothing gives back.
    pub(super) back: Option<Move>,
    pub(super) approvals: Vec<Approval>,
    /// Accounts of who answers for this one grant: while one of them is suspended, nobody does.
    pub(super) answering: Vec<[u8; 32]>,
    pub(super) ceremony: Option<CeremonyId>,
}

impl Gate {
    /// Who approved: `<sign-in>:<subject>`.
    pub(super) fn approved_by(&self) -> Vec<String> {
        self.approvals.iter().map(|approval| approval.by.to_string()).collect()
    }

    /// Of a grant that waits for nobody; who comes back with the same token does so once.
    pub(super) fn none(pays: &Pays) -> Self {
        let leave = match pays {
            Pays::Claim(redeems) if redeems.again() => Some(Change::Leave(redeems.job.request)),
            _ => None,
        };
        Self { change: leave, ..Self::default() }
    }
}

/// A ceremony that is to be opened or joined.
pub(super) struct Opening {
    key: [u8; 32],
    rule: [u8; 32],
    job: [u8; 32],
    repository: [u8; 32],
    starter: Starter,
    asked: Asked,
    bound: Bound,
    token: [u8; 32],
}

/// A grant that waits: what its admission guards if people have claimed it, or what has to be opened.
pub(super) async fn gate(
    parts: &Parts<'_>,
    (case, principal_id, principal_name): (&Case<'_>, &str, &str),
    grant: &Grant,
    (ask, pays, token_expires): (&Ask<'_>, &Pays, UnixSeconds),
    (subjects, direct): (&[[u8; 32]], bool),
) -> Result<Result<Gate, Box<Opening>>, Refusal> {
    let set = &parts.snapshot.mappings;
    let Some(terms) = set.ceremony(grant.mapping, grant.role) else { return Ok(Ok(Gate::none(pays))) };
    let rule = set.rule_digest(grant.mapping, grant.role);
    let now = parts.now;
    let mut bound_terms = terms.terms(&case.principal, now);
    let outdated = || Err(Refusal::Grant(Reason::CeremonyOutdated));
    let eligible = |bound: &Terms, approvals: &[Approval]| {
        !approvals.is_empty() && approvals.iter().all(|approval| bound.approvers.admit(&approval.by))
    };
    let job = job_digest(case, principal_id, ask);
    let key = match terms.rule.when {
        When::Every => every_key(set, grant, &job, &rule),
        When::FirstUse => set.first_use_key(grant, case, principal_id),
    };
    match (terms.rule.when, pays) {
        (When::FirstUse, _) => {
            let found = read(parts, move |reader| reader.standing(WhichStanding::About(key), 1)).await?.pop();
            let stands = |one: &Standing| one.rule == rule && one.until > now && eligible(&bound_terms, &one.claims);
            if let Some(found) = found.filter(stands) {
                let guard = Some(Guard::Standing { key, rule, at: now });
                let ceremony = Some(found.ceremony);
                return Ok(Ok(Gate { guard, approvals: found.claims, ceremony, ..Gate::none(pays) }));
            }
        }
        (When::Every, Pays::Claim(redeems)) => {
            let ceremony = &redeems.kept.ceremony;
            let State::Claimed { claims, .. } = &ceremony.state else { return outdated() };
            if ceremony.key != key || ceremony.rule != rule || !eligible(&bound_terms, claims) {
                return outdated();
            }
            let consumed = step(&ceremony.state, &ceremony.bound.terms, Event::Consume, now);
            let Ok(consumed) = consumed.map(|step| step.next) else { return outdated() };
            if consumed == State::Expired {
                return Err(Refusal::Grant(Reason::CeremonyExpired));
            }
            let moved = ceremony.to(consumed);
            let back = step(&moved.next, &ceremony.bound.terms, Event::GiveBack, now).ok();
            let back = back.map(|step| moved.then(step.next, true));
            let answering = claims.iter().flat_map(|claim| accounts(&claim.by)).collect();
            let (guard, approvals, ceremony) = (Some(Guard::Ceremony(moved)), claims.clone(), Some(ceremony.id));
            return Ok(Ok(Gate { guard, change: None, back, approvals, answering, ceremony }));
        }
        (When::Every, Pays::Turn(_)) => return Err(Refusal::Grant(Reason::RefreshEnded)),
        (When::Every, Pays::Token(_)) => {}
    }
    // Only the job itself can come back: not whoever holds a token of ours, nor for a handoff.
    let Pays::Token(Cost { subject: Some(subject), .. }) = pays else {
        return if direct { outdated() } else { Err(Refusal::Grant(Reason::CeremonyDirect)) };
    };
    if !direct {
        return Err(Refusal::Grant(Reason::CeremonyDirect));
    }
    let standing = terms.rule.when == When::FirstUse;
    if !standing && subject.may_retry {
        // It comes back with the same token, as long as that is good.
        bound_terms.expires = bound_terms.expires.min(token_expires);
    }
    let shown = shown(set, grant, (case, principal_id, principal_name), ask, terms);
    let starter = starter(&case.principal);
    Ok(Err(Box::new(Opening {
        key,
        rule,
        job,
        repository: repository(&case.principal.issuer, principal_id),
        starter: starter.clone(),
        asked: Asked {
            role: ask.role.map(str::to_owned),
            duration: ask.duration.map(|duration| duration.0),
            scope: ask.scope.map(str::to_owned),
        },
        bound: Bound { terms: bound_terms, shown, subjects: subjects.to_vec(), opener: Some(starter) },
        token: *subject.token.key(),
    })))
}

/// Everything that people are to see.
fn shown(
    set: &MappingSet,
    grant: &Grant,
    (case, id, name): (&Case<'_>, &str, &str),
    ask: &Ask<'_>,
    terms: CeremonyTerms<'_>,
) -> Shown {
    let (role, mapping) = (set.role(grant.role), set.mapping(grant.mapping));
    let principal = &case.principal;
    let standing = terms.rule.when == When::FirstUse;
    let told = |claim: &Claim| match principal.get(*claim) {
        Presence::Present(Text::Text(text)) => Some((claim.name().to_owned(), text.to_string())),
        Presence::Present(Text::Boolean(value)) => Some((claim.name().to_owned(), value.to_string())),
        Presence::None | Presence::Unknown => None,
    };
    let party = |issuer: &str, id: &str, name: &str| ShownParty {
        issuer: issuer.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
    };
    let acting = case.actors.iter().map(|actor| {
        let subject = actor.text(Claim::Subject).unwrap_or_default();
        let id = actor.text(Claim::RepositoryId).unwrap_or(subject);
        party(&actor.issuer, id, actor.text(Claim::Repository).unwrap_or(subject))
    });
    Shown {
        role: role.name.clone(),
        description: role.description.clone(),
        sensitivity: role.sensitivity.clone(),
        target: role.target.clone(),
        mapping: mapping.name.clone(),
        team: mapping.team.to_string(),
        contact: set.team(&mapping.team).and_then(|team| team.contact.clone()),
        duration: grant.duration.0,
        scope: ask.scope.map(str::to_owned),
        principal: party(&principal.issuer, id, name),
        actors: acting.collect(),
        claims: Claim::ALL.iter().filter_map(told).collect(),
        remembered: if standing { set.remembered(grant, principal) } else { Vec::new() },
        valid_for: standing.then_some(terms.rule.valid_for.0),
        any_job_of_run: !standing && principal.text(Claim::JobId).is_none(),
        mappings_version: hex(&set.version),
    }
}

/// Opens a ceremony or joins the open one, on record and with the token spent. Always a refusal: the pending answer, or why
/// there is none.
pub(super) async fn open(
    parts: &Parts<'_>,
    request: &Request<'_>,
    trail: &mut Trail<'_>,
    (pays, not_suspended): (&Pays, Guard),
    opening: Opening,
) -> Refusal {
    for _ in 0..TRIES_MAX {
        match attempt(parts, trail, (pays, &not_suspended), &opening).await {
            Ok(waits) => {
                trail.admitted();
                tracing::info!(decision_id = %request.id, ceremony = %waits.ceremony, "a grant waits for people");
                return Refusal::Opened(Box::new(waits));
            }
            Err(Refusal::Blocked(Blocked::Moved)) => {}
            Err(refusal) => return refusal,
        }
    }
    Refusal::Grant(Reason::CeremonyCrowded)
}

async fn attempt(
    parts: &Parts<'_>,
    trail: &mut Trail<'_>,
    (pays, not_suspended): (&Pays, &Guard),
    opening: &Opening,
) -> Result<Waits, Refusal> {
    let (key, now) = (opening.key, parts.now);
    let found = read(parts, move |reader| reader.ceremonies(WhichCeremonies::OpenAbout(key, now), 1)).await?.pop();
    let mut guards: Vec<Guard> = pays.guards(crate::store::LeaseState::Issued).chain([not_suspended.clone()]).collect();
    let mut changes = Vec::new();
    let same = |kept: &KeptCeremony| kept.ceremony.rule == opening.rule && is_alike(&kept.ceremony, opening);
    let mut instead_of = None;
    let ceremony = match found {
        Some(kept) if same(&kept) => kept.ceremony,
        other => {
            // Asked for under another rule: what people would claim of it is void.
            if let Some(kept) = other
                && let Ok(step) = step(&kept.ceremony.state, &kept.ceremony.bound.terms, Event::Withdraw, now)
            {
                guards.push(Guard::Ceremony(kept.ceremony.to(step.next)));
                let Bound { shown, terms, .. } = kept.ceremony.bound;
                instead_of = Some((kept.ceremony.id, shown, terms.expires));
            }
            let ceremony = Ceremony {
                id: new_id(),
                key: opening.key,
                rule: opening.rule,
                repository: opening.repository,
                bound: opening.bound.clone(),
                opened: now,
                void: false,
                state: State::opened(),
                version: 0,
            };
            changes.push(Change::OpenCeremony(Box::new(ceremony.clone())));
            ceremony
        }
    };
    let opens = !changes.is_empty();
    let auth_req_id = new_request();
    let (match_code, code) = new_code(ceremony.id);
    changes.push(Change::Wait(Box::new(Waiting {
        request: request_of(auth_req_id.reveal()).unwrap_or_default(),
        ceremony: ceremony.id,
        code,
        job: opening.job,
        token: opening.token,
        starter: opening.starter.clone(),
        asked: opening.asked.clone(),
        joined: now,
        withdrawn: false,
    })));
    let shown = &ceremony.bound.shown;
    let what = What::Pending {
        reason: Reason::CeremonyNeeded,
        ceremony: ceremony.id.0,
        mapping: &shown.mapping,
        role: &shown.role,
    };
    trail.withdraws(instead_of.as_ref().map(|(ceremony, ..)| *ceremony));
    trail.commit(parts, guards, changes, what).await?;
    let waits = Waits::of(&ceremony, now);
    let Bound { shown, terms, .. } = ceremony.bound;
    let opened = opens.then(|| Box::new(Opened { shown, until: terms.expires, instead_of }));
    Ok(Waits { opened, auth_req_id: Some(auth_req_id), match_code: Some(match_code), ..waits })
}

/// Whether an open ceremony asks for what this one would, but for when it ends.
fn is_alike(ceremony: &Ceremony, opening: &Opening) -> bool {
    let (own, other) = (&ceremony.bound.terms, &opening.bound.terms);
    Terms { expires: other.expires, ..own.clone() } == *other
}
