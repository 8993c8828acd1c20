//! Three doors (tokens, poll, refresh), one [`Proven`]: steps 2 to 4.

use super::{Parts, Refusal, Request, trail::Trail};
use crate::store::{LeaseState, Spend};
use claimbound_core::{
    delegation,
    mapping::Issuer,
    reason::Reason,
    trust::{self, SingleUse, TrustError, UnverifiedToken, Verified},
    workload::{self, Case, Profile, Workload, WorkloadError},
};
use std::sync::Arc;

/// Three ways in, one way through: they differ in how a case is proven and in what is spent for it.
pub enum Proof<'r> {
    /// RFC 8693 token exchange.
    Tokens { subject: &'r str, actor: Option<&'r str> },
    /// CIBA-style polling of a claim ceremony. No mapping can open one yet, so every id is unknown.
    Poll { auth_req_id: &'r str },
    /// Renewal where the issuer cannot mint again. None are given out yet, so every token is unknown.
    Refresh { token: &'r str },
}

/// A case that the broker believes, and what believing it costs.
pub struct Proven<'t> {
    pub case: Case<'t>,
    pub spend: Spend,
}

/// Where the three ways in come together. A door that is added later is one more arm here.
pub(super) async fn prove<'r, 't>(
    parts: &Parts<'r>,
    request: &Request<'r>,
    decoded: &'t mut Vec<u8>,
    trail: &mut Trail<'r>,
) -> Result<Proven<'t>, Refusal>
where
    'r: 't,
{
    let (subject, actor) = match request.proof {
        Proof::Tokens { subject, actor } => (subject, actor),
        Proof::Poll { .. } | Proof::Refresh { .. } => return Err(Refusal::Grant(Reason::GrantUnknown)),
    };
    let mappings = &parts.snapshot.mappings;

    // 2 Trust
    let token = UnverifiedToken::parse(subject, decoded)?;
    // Nothing is believed of it: a refusal is counted with others of tokens that name this issuer.
    let named = parts.issuers.table().get(token.issuer()).and_then(|known| mappings.issuer_named(&known.name));
    trail.issuer = named.map(|(_, issuer)| &*issuer.name);
    let Job { workload, profile, issuer: name, token: single_use } = job(parts, &token, None).await?;
    let spend = Spend {
        token: single_use.into(),
        request: request.digest,
        leaves: LeaseState::Issued,
        may_retry: !profile.can_mint_again(),
    };
    trail.proven(profile, &workload, spend);
    // From here on every answer is a write: first whether the repository may have one more.
    parts
        .repositories
        .take(&name, trail.principal_id())
        .map_err(|retry_after_seconds| Refusal::RateLimited { retry_after_seconds })?;

    // 4 Delegation
    let case = delegation::chain(workload, actor.is_some())?;
    Ok(Proven { case, spend })
}

/// A job that is proven, and the one use of its token.
pub(super) struct Job<'r, 't> {
    pub workload: Workload<'t>,
    pub profile: &'r Profile,
    /// The issuer's name.
    pub issuer: Arc<str>,
    pub token: SingleUse,
}

/// Steps 2 and 3; `audience` is that of exchanges unless another is named.
pub(super) async fn job<'r, 't>(
    parts: &Parts<'r>,
    token: &UnverifiedToken<'t>,
    audience: Option<&str>,
) -> Result<Job<'r, 't>, Refusal> {
    let verified = verified(parts, token, audience).await?;
    // A subject token is always single use, also where its issuer's tokens are reusable as actor tokens.
    let single_use = verified.single_use().ok_or(TrustError::Refused(Reason::Jti))?;
    let name = verified.issuer().name.clone();
    // While a folder is swapped the table may know another issuer by this name already.
    let same = |(_, issuer): &(_, &Issuer)| *issuer.url == *verified.issuer().url;
    let known = parts.snapshot.mappings.issuer_named(&name).filter(same);
    let (_, issuer) = known.ok_or(TrustError::Refused(Reason::IssuerUnknown))?;
    let profile = parts.snapshot.profiles.get(&issuer.profile).ok_or(TrustError::Refused(Reason::IssuerUnknown))?;

    // 3 Workload
    let workload = workload::translate(profile, &name, verified.into_claims())?;
    if !issuer.lists_owner_of(&workload) {
        return Err(WorkloadError::Stranger.into());
    }
    Ok(Job { workload, profile, issuer: name, token: single_use })
}

/// Verifies; on an unknown `kid`, or keys that are too old, asks for the issuer's keys once and verifies once more.
async fn verified<'t>(
    parts: &Parts<'_>,
    token: &UnverifiedToken<'t>,
    audience: Option<&str>,
) -> Result<Verified<'t>, Refusal> {
    match trust::verify_for(audience, token, &parts.issuers.table(), parts.now) {
        Err(TrustError::KeyUnknown { issuer } | TrustError::KeysTooOld { issuer }) => {
            let table = parts.issuers.refresh(&issuer).await?;
            Ok(trust::verify_for(audience, token, &table, parts.now)?)
        }
        verdict => Ok(verdict?),
    }
}
