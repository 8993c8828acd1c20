//! A token of ours as subject token: a credential that whoever it was made for exchanges downstream, or a handoff, by whom
//! its job named. Both are good as long as their lease lives, and what comes of them never has less of a chain.
//!
//! The principal is judged again as the job that it was: by the claims that the evidence of the parent's grant keeps, whose hash
//! stands in the record, and which must make the principal that our signature names. Nothing of the credential itself widens
//! what its holder may have.

use super::{
    Cost, Parts, Refusal, Request,
    proof::{self, Pays, Proven},
    strangers::Repository,
    subjects,
    trail::{RESTS_ON, Trail},
};
use crate::store::{Down, HeldLease, LeaseState, Stored};
use claimbound_core::{
    claims::{Claims, Value},
    delegation,
    evidence::{Body, DecisionId, LeaseId, details_digest, hex, record::leaf, unhex},
    mapping::Ask,
    reason::Reason,
    review::{Given, GivenError},
    time::{Seconds, UnixSeconds},
    trust::{self, TrustError, UnverifiedToken},
    workload::{Profile, Workload},
};
use std::sync::Arc;

/// The lease whose token is exchanged.
pub struct Parent {
    pub(super) lease: LeaseId,
    expires: UnixSeconds,
    /// What that lease rests on beside its principal, as [`crate::store::Subject::key`]: what suspends it suspends this.
    pub(super) rests_on: Vec<[u8; 32]>,
    /// Of a handoff: for what alone it is good.
    bound: Option<Bound>,
}

struct Bound {
    role: String,
    scope: Option<String>,
}

impl Parent {
    /// What may be asked for by it: of a handoff its role and scope; of a credential no scope at all, for ours have none, and
    /// whatever one names would be more.
    pub(super) fn bound<'a>(&'a self, ask: Ask<'a>) -> Result<Ask<'a>, Refusal> {
        let Some(Bound { role, scope }) = &self.bound else {
            return if ask.scope.is_none() { Ok(ask) } else { Err(Refusal::Grant(Reason::ScopeNotAllowed)) };
        };
        let other = |asked: Option<&str>, bound: Option<&str>| asked.is_some() && asked != bound;
        if other(ask.role, Some(role)) || other(ask.scope, scope.as_deref()) {
            return Err(Refusal::Grant(Reason::HandoffMismatch));
        }
        Ok(Ask { role: Some(role), scope: scope.as_deref(), ..ask })
    }

    /// No credential outlives the one that it comes of. A handoff is none: as a job's own token, it bounds the exchange alone.
    pub(super) fn narrows(&self, duration: Seconds, now: UnixSeconds) -> Seconds {
        if self.bound.is_some() {
            return duration;
        }
        let left = self.expires.0.saturating_sub(now.0);
        duration.min(Seconds(u32::try_from(left).unwrap_or_default()))
    }
}

/// What our token says that matters here.
struct Said<'c> {
    lease: LeaseId,
    jti: &'c str,
    role: &'c str,
    mapping: &'c str,
    issuer: &'c str,
    principal: &'c str,
}

impl<'c> Said<'c> {
    fn read(claims: &'c Claims<'_>) -> Option<Self> {
        let text = |name| claims.get(name).and_then(Value::as_text);
        let of_principal = |name| claims.pointer(name).and_then(Value::as_text);
        Some(Self {
            lease: text("lease_id")?.parse().ok()?,
            jti: text("jti")?,
            role: text("role")?,
            mapping: text("mapping")?,
            issuer: of_principal("/principal/issuer")?,
            principal: of_principal("/principal/id")?,
        })
    }
}

/// Steps 2 to 4. `token`: of a type that only we sign; which of the two it is, its type says.
pub(super) async fn prove<'r, 't>(
    parts: &Parts<'r>,
    request: &Request<'r>,
    token: &UnverifiedToken<'t>,
    actor: Option<&'r str>,
    decoded_actor: &'t mut Vec<u8>,
    trail: &mut Trail<'r>,
) -> Result<Proven<'t>, Refusal>
where
    'r: 't,
{
    // 2 Trust, by our own keys.
    let handoff = matches!(request.proof, super::Proof::Handoff { .. });
    let audience = handoff.then(|| parts.own.handoff_audience());
    let verified = trust::verify_ours(audience, token, &parts.own.table(parts.now), parts.now)?;
    let (single_use, issued, expires) = (verified.single_use(), verified.issued_at(), verified.expires());
    let claims = verified.into_claims();
    let said = Said::read(&claims).ok_or(TrustError::Refused(Reason::ClaimMissing))?;
    let (held, records) = kept(parts, said.lease).await?;
    // Whoever holds another token that names the lease, as a cloud holds our assertion, does not hold the lease.
    let ours = |held: &HeldLease| held.handle.as_deref() == Some(said.jti) && held.handoff == handoff;
    let held = held.filter(ours).ok_or(TrustError::Refused(Reason::LeaseEnded))?;

    // 3 Workload, of the job that it all began with, and of who acts now.
    let Recorded { principal, profile, actors, rests_on } = recorded(parts, &records, &said)?;
    let mappings = &parts.snapshot.mappings;
    trail.issuer = mappings.issuer_named(said.issuer).map(|(_, issuer)| &*issuer.name);
    let actor = match actor {
        None => None,
        Some(actor) => Some(proof::acting(parts, actor, decoded_actor, trail).await?),
    };
    let once = single_use.filter(|_| handoff).map(|token| proof::spend(request, token, issued, false));
    let cost = Cost { subject: once, actor: actor.as_ref().and_then(|actor| actor.spend(request)) };
    trail.proven(profile, &principal, cost);
    trail.comes_of(said.lease);
    if let Some(actor) = &actor {
        trail.acted_by(actor.profile, &actor.workload);
    }
    // Who holds the token is not the job: nobody but its holder is hindered by how often it asks.
    trail
        .rated(parts, parts.own.issuer_url(), &said.lease.to_string())
        .map_err(|retry_after_seconds| Refusal::RateLimited { retry_after_seconds })?;
    // Asked before anything is decided, so that nobody learns of mappings by a token that is over. It holds by the guard.
    if held.state != LeaseState::Issued || held.expires <= parts.now {
        return Err(Refusal::Grant(Reason::LeaseEnded));
    }

    // 4 Delegation
    let name_of = |url: &str| mappings.issuer_at(url);
    let workload = actor.map(|actor| actor.workload);
    let text = |name| claims.get(name).and_then(Value::as_text);
    let (case, bound) = if handoff {
        let meant = claims.get("may_act").ok_or(TrustError::Refused(Reason::ClaimMissing))?;
        delegation::meant(meant, workload.as_ref())?;
        let trusts_act = mappings.issuer_named(said.issuer).is_some_and(|(_, issuer)| issuer.trusts_act);
        let case = delegation::chain(principal, workload, trusts_act, name_of)?;
        (case, Some(Bound { role: said.role.to_owned(), scope: text("scope").map(str::to_owned) }))
    } else {
        let (audience, act) = (text("aud").unwrap_or_default(), claims.get("act"));
        trail.brought(audience, act);
        let case = delegation::onward(principal, act, workload, audience.to_owned(), name_of)?;
        trail.acted_before(actors);
        (case, None)
    };
    trail.acted(&case.actors);
    let parent = Some(Parent { lease: said.lease, expires: held.expires, rests_on, bound });
    Ok(Proven { case, pays: Pays::Token(cost), expires, parent })
}

/// The lease, and the records of the decision that opened it: both have one id.
async fn kept(parts: &Parts<'_>, lease: LeaseId) -> Result<(Option<HeldLease>, Vec<Stored>), Refusal> {
    let reader = Arc::clone(parts.reader);
    let read = move || Ok::<_, Down>((reader.lease(lease)?, reader.decision(DecisionId(lease.0))?));
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.map_err(|_| Down::new("reading it panicked"))??)
}

/// A grant, as its evidence has it.
struct Recorded<'r> {
    /// The job, as the folder reads it today.
    principal: Workload<'static>,
    profile: &'r Profile,
    /// Who acted, the outermost first.
    actors: Vec<Repository>,
    rests_on: Vec<[u8; 32]>,
}

fn recorded<'r>(parts: &Parts<'r>, records: &[Stored], said: &Said<'_>) -> Result<Recorded<'r>, Refusal> {
    let gone = || Refusal::from(TrustError::Refused(Reason::LeaseEnded));
    let grants = |stored: &&Stored| {
        let body = Body::parse(&stored.body).ok().filter(|_| leaf(&stored.body) == stored.leaf);
        body.is_some_and(|body| {
            let digest = details_digest(&stored.details).map(|digest| hex(&digest));
            let whole = digest.is_some() && digest.as_deref() == body.details.as_deref();
            let same = (body.role.as_deref(), body.mapping.as_deref()) == (Some(said.role), Some(said.mapping));
            whole && same && body.kind == "granted" && body.lease == Some(said.lease)
        })
    };
    // Details that are erased, or not as they were written, speak for nobody.
    let stored = records.iter().find(grants).ok_or_else(gone)?;
    let details: serde_json::Value = serde_json::from_slice(&stored.details).map_err(|_| gone())?;
    let claims = &details["claims"];
    let Parts { snapshot, .. } = *parts;
    let known = snapshot.mappings.issuer_named(said.issuer);
    let known = known.filter(|(_, issuer)| claims["iss"].as_str() == Some(&issuer.url));
    let (id, issuer) = known.ok_or(TrustError::Refused(Reason::IssuerUnknown))?;
    if parts.issuers.table().get(&issuer.url).is_none_or(|issuer| issuer.cut.disabled) {
        return Err(TrustError::Refused(Reason::IssuerDisabled).into());
    }
    let profile = snapshot.profiles.get(&issuer.profile).ok_or(TrustError::Refused(Reason::IssuerUnknown))?;
    let given = Given::Claims(claims.clone());
    let principal = given.workload(&snapshot.mappings, &snapshot.profiles, id).map_err(|error| match error {
        GivenError::Refused(error) => Refusal::from(error),
        _ => TrustError::Refused(Reason::ClaimsInconsistent).into(),
    })?;
    if principal.principal_id(profile).0 != said.principal {
        return Err(TrustError::Refused(Reason::ClaimsInconsistent).into());
    }
    let all = |name: &str| details[name].as_array().into_iter().flatten();
    let actor = |actor: &serde_json::Value| {
        let text = |name: &str| actor[name].as_str().map(str::to_owned);
        Some(Repository { issuer: text("issuer")?, id: text("id")?, name: text("name")? })
    };
    let mut rests_on = subjects::of_grant(said.mapping, said.role).to_vec();
    rests_on.extend(all(RESTS_ON).filter_map(|key| unhex(key.as_str()?)));
    rests_on.sort_unstable();
    rests_on.dedup();
    Ok(Recorded { principal, profile, actors: all("actors").filter_map(actor).collect(), rests_on })
}
