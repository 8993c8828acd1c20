//! The whole way of one exchange: nine steps, in this order, each with its own error; nothing later runs if one
//! fails. [`run`] records every refusal, in one place; `grant` is the way itself.
//!
//! It waits at these points and nowhere else: the key refresh on an unknown `kid`, the look-up of a renewal's family, a parent's lease or, in
//! STS's words, a first answer; the commit, the mint and the settling commit. All between them is pure.

mod ceremony;
mod handle;
mod hint;
mod operator;
mod parent;
mod proof;
mod quota;
mod refusal;
mod renewal;
mod strangers;
mod sts;
mod subjects;
mod trail;

pub use ceremony::{POLL_INTERVAL_SECONDS, Polls, Redeems, Waits};
pub use handle::{is_lease_handle, possession};
pub use hint::{Condition, Hint, Nearest};
pub use operator::{OperatorJob, operator_job};
pub use proof::{Cost, Pays, Proof, Proven};
pub use quota::Repositories;
pub use refusal::Refusal;
pub use renewal::{Member, Refresh, family_secret};
pub use strangers::{Network, Strangers};
pub use sts::{First, FirstAnswer, Identity, StsAsk, WebIdentity, session_key};

use crate::{
    issuance::{
        Credential, MintError, Minter, Order,
        own::{HANDOFF_SECONDS, HANDOFF_SECONDS_MAX, OwnTokens},
    },
    keys::issuers::Issuers,
    secret::Secret,
    store::{Acting, Blocked, Change, Guard, Lease, LeaseState, Place, Reader, Settled, Writer},
    telemetry::{About, Minted, step},
};
use claimbound_core::{
    evidence::{DecisionId, Eased, LeaseId, What},
    mapping::{self, Ask, Decision, MappingSet},
    reason::{Reason, Standing},
    time::{Seconds, UnixSeconds},
    workload::{Claim, Profiles},
};
use renewal::Renewal;
use std::{net::IpAddr, sync::Arc, time::Instant};
use tracing::Instrument as _;
use trail::Trail;
pub(crate) use trail::salt;

/// What evidence and metrics call a handoff.
const HANDOFF: &str = "handoff";

/// Mappings and what was compiled for their roles: loaded together, swapped together, read once per exchange.
pub struct Snapshot {
    pub mappings: MappingSet,
    /// One per role, at the role's number.
    pub minters: Vec<Box<dyn Minter>>,
    pub profiles: Profiles,
}

/// What an exchange needs of the house.
pub struct Parts<'b> {
    pub snapshot: &'b Snapshot,
    pub issuers: &'b dyn Issuers,
    /// Tokens of ours that come back, and handoffs.
    pub own: &'b OwnTokens,
    pub writer: &'b Writer,
    /// For renewals: which family a refresh token belongs to. For tokens of ours: their leases, and the job of each.
    pub reader: &'b Arc<dyn Reader>,
    pub strangers: &'b Strangers,
    pub repositories: &'b Repositories,
    pub polls: &'b Polls,
    pub now: UnixSeconds,
}

/// One request, as the form gave it.
pub struct Request<'r> {
    pub id: DecisionId,
    pub proof: Proof<'r>,
    pub ask: Ask<'r>,
    /// Steps 1 to 5, then admission with the token's guard and a record; no lease.
    pub dry_run: bool,
    /// Digest of all parameters: the *same* request may go again after a failed mint, no other.
    pub digest: [u8; 32],
    /// Where it came from, for evidence details and strangers' counters.
    pub address: Option<IpAddr>,
    /// It is asked in the words of AWS STS.
    pub sts: Option<&'r StsAsk>,
}

/// A granted exchange.
pub enum Granted {
    /// A credential, its lease open and on record.
    Issued(Issued),
    /// What would have been issued; `waits`: once people have claimed it.
    DryRun { role: String, mapping: String, duration: Seconds, waits: bool },
}

/// A credential on its way out.
pub struct Issued {
    pub credential: Credential,
    /// What ends the lease by possession, where the credential itself cannot be shown to us.
    pub lease_handle: Option<Secret>,
    /// With what the job goes on, where it cannot mint again.
    pub refresh: Option<Box<Refresh>>,
    pub expires: UnixSeconds,
    pub role: String,
    pub mapping: String,
    pub lease: LeaseId,
    /// Where it was asked in the words of AWS STS.
    pub web_identity: Option<Box<WebIdentity>>,
}

/// A refused exchange, on record or in a sum.
#[derive(Debug)]
pub struct Refused {
    pub reason: Reason,
    pub standing: Standing,
    /// Whether the request named a role: it decides between `invalid_target` and `invalid_request`.
    pub role_asked: bool,
    /// Before this much time another try is in vain, where that is known.
    pub retry_after_seconds: Option<u32>,
    /// What a proven job may learn; `None` for strangers and lost races.
    pub hint: Option<Box<Hint>>,
    /// What it waits for.
    pub waits: Option<Box<Waits>>,
    /// Why its ceremony was rejected, in the words of who did.
    pub said: Option<Box<str>>,
    /// Of a token that came again with the same request in the words of AWS STS.
    pub first: Option<Box<First>>,
}

impl Refused {
    /// Of what is on record already, or needs none.
    fn untold(request: &Request<'_>, mut refusal: Refusal, now: UnixSeconds) -> Self {
        let (reason, retry_after_seconds) = (refusal.reason(), refusal.retry_after_seconds(now));
        let said = refusal.take_said();
        let waits = match refusal {
            Refusal::Opened(waits) | Refusal::Waiting(waits) => Some(waits),
            _ => None,
        };
        let (standing, role_asked) = (Standing::ProvenJob, request.ask.role.is_some());
        Self { reason, standing, role_asked, retry_after_seconds, hint: None, waits, said, first: None }
    }
}

/// One exchange from bytes to credential, or to a refusal that is on record; and for metrics, what it was about.
pub async fn run(parts: &Parts<'_>, request: &Request<'_>) -> (Result<Granted, Refused>, About) {
    let mut trail = Trail::new(request);
    // A question about a ceremony is not an exchange: it has no record, and costs nothing.
    if let Proof::Poll { auth_req_id, subject: None, .. } = request.proof {
        let about = trail.about(parts, None);
        return match ceremony::poll(parts, auth_req_id).await {
            Ok(told) => (Err(Refused::untold(request, told, parts.now)), about),
            Err(unknown) => (Err(Box::pin(trail::record_refusal(parts, trail, unknown)).await), about),
        };
    }
    let mut waited = false;
    let ended = loop {
        let ended = grant(parts, request, &mut trail).await;
        match (&ended, trail.first) {
            // The same request is under way: its outcome is this one's, too.
            (Err(Refusal::Blocked(Blocked::InFlight)), Some(place)) if !waited && place.settles(parts).await => {
                (waited, trail) = (true, Trail::new(request));
            }
            _ => break ended,
        }
    };
    match ended {
        Ok(granted) => (Ok(granted), trail.about(parts, None)),
        Err(refusal) => {
            let (about, place) = (trail.about(parts, Some(&refusal)), trail.first);
            let recorded = Box::pin(trail::record_refusal(parts, trail, refusal)).instrument(step::refuse());
            let mut refused = recorded.await;
            if let (Reason::Replay, Some(place)) = (refused.reason, place) {
                refused.first = place.first(parts).await.map(Box::new);
            }
            (Err(refused), about)
        }
    }
}

async fn grant<'r>(parts: &Parts<'r>, request: &Request<'r>, trail: &mut Trail<'r>) -> Result<Granted, Refusal> {
    let Parts { snapshot, now, .. } = *parts;

    // 1 Limits: sizes, form and the network's rate were judged by `http`, before a byte of the token was read.
    // 2 Trust, 3 Workload, 4 Delegation: bytes become a proven case, or nothing does.
    let mut decoded = [Vec::new(), Vec::new()];
    let proven = proof::prove(parts, request, &mut decoded, trail).instrument(step::prove()).await?;
    let Proven { case, pays, expires: token_expires, parent } = proven;
    let ask = pays.ask(&request.ask);
    let ask = parent.as_ref().map_or(Ok(ask), |parent| parent.bound(ask))?;
    let sts = request.sts;
    if let Some(first) = trail.first {
        first.judge(parts).await?;
    }
    let ask = match sts.and_then(|sts| sts.role_arn.as_deref()) {
        Some(arn) => Ask { role: Some(sts::role(snapshot, &case, &ask, arn, now)?), ..ask },
        None => ask,
    };
    trail.asks(sts, ask.role);
    // The time that is asked for with a handoff is the handoff's own.
    let promise = match request.proof {
        Proof::Promise { may_act, .. } => Some((may_act, handoff_lasts(ask.duration, token_expires, now)?)),
        _ => None,
    };
    let ask = Ask { duration: ask.duration.filter(|_| promise.is_none()), ..ask };

    // 5 Decision. Pure; a denial is told by asking again, watched. The plan is pure too: text that does not fit its
    // target is a denial like any other.
    let decided = step::decide().in_scope(|| {
        trail.shadowed(&snapshot.mappings, &mapping::shadowed(&snapshot.mappings, &case, &ask, now));
        mapping::decide(&snapshot.mappings, &case, &ask, now)
    });
    let grant = match decided {
        Decision::Grant(grant) | Decision::Pending(grant) => grant,
        Decision::Deny(denial) => {
            let refusal = Refusal::decision(snapshot, &case, &ask, denial, now);
            return Err(if parent.is_some() { refusal.untold() } else { refusal });
        }
    };
    let (role, mapping) = (snapshot.mappings.role(grant.role), snapshot.mappings.mapping(grant.mapping));
    let renamed = mapping::renamed(&snapshot.mappings, &grant, &case.principal);
    trail.found(role, mapping, renamed);
    let minter = &snapshot.minters[grant.role.0 as usize];
    if sts.is_some() && minter.aws_role_arn().is_none() {
        return Err(Refusal::Grant(Reason::NotAws));
    }
    let lease = LeaseId(request.id.0);
    let mut beside = subjects::beside(&case, trail.actors(), &mapping.name, &role.name);
    beside.extend(parent.iter().flat_map(|parent| parent.rests_on.iter().copied()));
    if !case.actors.is_empty() {
        trail.rests_on(&beside);
    }
    let mut subjects = subjects::of_principal(&case, trail.principal_id());
    subjects.extend(beside);
    let who = (&case, trail.principal_id(), trail.principal_name());
    let direct = parent.is_none() && promise.is_none() && sts.is_none();
    let gate = ceremony::gate(parts, who, &grant, (&ask, &pays, token_expires), (&subjects, direct)).await?;
    subjects.extend(gate.iter().flat_map(|gate| &gate.answering));
    let approved_by = gate.as_ref().map_or_else(|_| Vec::new(), ceremony::Gate::approved_by);
    let renewal = match sts {
        // STS's answer has no place for a refresh token.
        Some(_) => Renewal::Never,
        None => Renewal::of(&pays, token_expires, (lease, &role.name), mapping, now, &case)?,
    };
    let duration = renewal.narrows(grant.duration, now);
    let order = Order {
        lease,
        role: &role.name,
        mapping: &mapping.name,
        case: &case,
        principal_id: trail.principal_id(),
        principal_name: trail.principal_name(),
        actor_id: trail.actors().first().map(|actor| &*actor.id),
        scope: ask.scope,
        approved_by: &approved_by,
        now,
        duration: parent.as_ref().map_or(duration, |parent| parent.narrows(duration, now)),
        narrowing: sts.map(|sts| &sts.narrowing),
    };
    // What would not fit when the handoff is exchanged does not fit now.
    let plan = minter.plan(&order)?;
    let plan = match promise {
        Some((may_act, lasts)) => parts.own.handoff(&order, may_act, lasts),
        None => plan,
    };
    let exceptions: Vec<&str> = mapping.exceptions.iter().map(|exception| exception.exempt.name()).collect();
    let backend = if promise.is_some() { HANDOFF } else { role.backend.as_str() };
    let (role, mapping) = (role.name.as_str(), mapping.name.as_str());
    let duration = plan.duration();
    let parent = parent.map(|parent| parent.lease);
    let alive = parent.map(|lease| Guard::Parent { lease, at: now });
    let not_suspended = Guard::NotSuspended { subjects, at: now };

    // 6 Admission: one transaction, durable before anything leaves. Whatever else must hold is one more guard on it.
    if request.dry_run {
        let guards = pays.guards(LeaseState::Issued).chain([not_suspended]).chain(alive).collect();
        trail.commit(parts, guards, vec![], What::DryRun { mapping, role }).instrument(step::admit()).await?;
        return Ok(Granted::DryRun { role: role.into(), mapping: mapping.into(), duration, waits: gate.is_err() });
    }
    let gate = match gate {
        Ok(gate) => gate,
        // Nobody has claimed it: the pending answer is a refusal that opens what they claim.
        Err(opening) => {
            return Err(Box::pin(ceremony::open(parts, request, trail, (&pays, not_suspended), *opening)).await);
        }
    };
    trail.approved(&gate.approvals);
    let (handle, place) = (plan.handle(), plan.status());
    // A handle that is known beforehand is on record with the lease: that grant needs no second write.
    let state = if handle.is_some() { LeaseState::Issued } else { LeaseState::Issuing };
    let expires = now.plus(duration.0.into());
    let opened = Lease {
        id: lease,
        role: role.into(),
        mapping: mapping.into(),
        team: snapshot.mappings.mapping(grant.mapping).team.to_string(),
        principal_issuer: case.principal.issuer.to_string(),
        principal_id: trail.principal_id().into(),
        principal_name: trail.principal_name().into(),
        repository_id: Some(subjects::repository(&case.principal, trail.principal_id()).to_owned()),
        owner_id: case.principal.text(Claim::RepositoryOwnerId).map(str::to_owned),
        run_id: case.principal.text(Claim::RunId).map(str::to_owned),
        person: subjects::person(&case.principal),
        acting: trail.actors().first().zip(case.actors.first()).map(|(named, actor)| Acting {
            issuer: named.issuer.clone(),
            id: named.id.clone(),
            name: named.name.clone(),
            repository_id: Some(subjects::repository(actor, &named.id).to_owned()),
            owner_id: actor.text(Claim::RepositoryOwnerId).map(str::to_owned),
            run_id: actor.text(Claim::RunId).map(str::to_owned),
        }),
        acting_person: case.actors.first().and_then(subjects::person),
        parent,
        handoff: promise.is_some(),
        opened: now,
        expires,
        handle: handle.map(str::to_owned),
        state,
        token: pays.token(),
        family: renewal.family(),
        status: place.map(|place| Place { list: place.list, index: place.index }),
    };
    let uses = {
        let (principal, run) = (&case.principal, case.principal.text(Claim::RunId));
        // A handoff gives nothing yet: what it is exchanged for counts.
        let mapping = Some(snapshot.mappings.mapping(grant.mapping)).filter(|_| promise.is_none());
        let of = |mapping| quota::uses(mapping, &principal.issuer, trail.principal_id(), run, now);
        mapping.map_or_else(Default::default, of)
    };
    let several = |guard| match (guard, sts) {
        (Guard::Unspent(spend), Some(sts)) => {
            Guard::Unspent(sts::uses(spend, sts, snapshot.mappings.mapping(grant.mapping), role))
        }
        (guard, _) => guard,
    };
    let guards = pays.guards(state).map(several);
    let guards = guards.chain([not_suspended]).chain(alive).chain(renewal.guard()).chain(gate.guard);
    let guards = guards.chain(uses.iter().copied().map(Guard::Within)).collect();
    let eased = Eased { exceptions: &exceptions, renamed };
    let (how, family) = (promise.is_some().then_some(HANDOFF), renewal.family());
    let ceremony = gate.ceremony.map(|id| id.0);
    let granted = What::Granted { mapping, role, lease, parent, how, handle, expires, family, ceremony, eased };
    let list =
        place.filter(|place| !place.is_kept()).map(|place| Change::KeepList { list: place.list, until: place.until });
    let changes =
        [Change::OpenLease(Box::new(opened))].into_iter().chain(renewal.change()).chain(gate.change).chain(list);
    let changes = changes.chain(trail.first.map(|first| first.granted(lease))).collect();
    trail.opens(lease, state, uses, renewal.turn(), gate.back);
    let admitted = trail.commit(parts, guards, changes, granted).instrument(step::admit()).await;
    admitted.map_err(|refusal| renewal.lost(refusal)).map_err(Refusal::of_ceremony)?;
    trail.admitted();
    if let Some(place) = place {
        place.keep();
    }
    if let Some(written) = renamed {
        let now_called = trail.principal_name();
        tracing::warn!(decision_id = %request.id, mapping, written, now_called, "granted to a renamed repository: write its new name");
    }

    // 7 Issuance. A failure's refusal closes the lease in the same transaction that records it.
    let began = Instant::now();
    let minted = plan.mint().instrument(step::mint()).await;
    let outcome = minted.as_ref().map_or_else(MintError::name, |_| "issued");
    trail.minted = Some(Minted { backend: backend.into(), outcome, took: began.elapsed() });
    let minted = match minted {
        Ok(minted) => minted,
        Err(error) => {
            let out = refusal::lease_state(&error);
            trail.failed(Settled { lease, from: state, state: out, handle: None });
            return Err(error.into());
        }
    };

    // 8 Outcome: a handle that only the target knew is bound now, and with it what ends the lease by possession.
    let lease_handle = handle::of(&minted.credential);
    if handle.is_none() {
        let out = LeaseState::Issued;
        let bound = Settled { lease, from: state, state: out, handle: Some(minted.handle.clone()) };
        let settled = What::Settled { lease, state: out.name(), handle: Some(&minted.handle) };
        let mut changes = vec![Change::Settle(bound)];
        if let Some(secret) = &lease_handle {
            changes.push(Change::Hold { lease, possession: possession(secret.reveal().as_bytes()) });
        }
        if let Credential::Aws(session) = &minted.credential {
            changes.push(sts::identity(lease, session));
        }
        trail.commit(parts, vec![], changes, settled).instrument(step::bind()).await?;
    }

    // 9 Answer: only now does the credential leave.
    let (credential, expires) = (minted.credential, minted.expires);
    let refresh = renewal.refresh();
    let (role, mapping) = (role.into(), mapping.into());
    let issuer = || snapshot.mappings.issuer_named(&case.principal.issuer);
    let web_identity = sts.map(|_| {
        let subject = case.principal.text(Claim::Subject).unwrap_or_default().to_owned();
        Box::new(WebIdentity {
            subject,
            provider: issuer().map_or_else(String::new, |(_, issuer)| issuer.url.to_string()),
        })
    });
    Ok(Granted::Issued(Issued { credential, lease_handle, refresh, expires, role, mapping, lease, web_identity }))
}

/// How long a handoff lives: as asked for, never for long and never past the token that it costs.
fn handoff_lasts(asked: Option<Seconds>, token_expires: UnixSeconds, now: UnixSeconds) -> Result<Seconds, Refusal> {
    let left = token_expires.0.saturating_sub(now.0);
    let left = u32::try_from(left).ok().filter(|left| *left > 0).ok_or(Refusal::Grant(Reason::DurationTooShort))?;
    Ok(Seconds(asked.map_or(HANDOFF_SECONDS, |asked| asked.0).min(HANDOFF_SECONDS_MAX).min(left)))
}

/// The future may cross threads: checked here so that no one finds out late.
fn _assert_send(parts: &'static Parts<'static>, request: &'static Request<'static>) -> impl Future + Send {
    run(parts, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each exchange is a value that is built and moved: what only a few of them need stands in boxes.
    #[test]
    fn an_exchange_takes_little_room() {
        fn room<P, R, F>(_: fn(P, R) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = room::<&'static Parts<'static>, &'static Request<'static>, _>(run);
        assert!(bytes <= 8 * 1024, "{bytes} bytes");
    }
}
