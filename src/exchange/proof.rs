//! Three doors (tokens, poll, refresh), one [`Proven`]: steps 2 to 4.

use super::{
    Parts, Refusal, Request,
    ceremony::{self, Redeems},
    renewal::{self, Member},
    trail::Trail,
};
use crate::store::{Guard, LeaseState, Spend};
use claimbound_core::{
    delegation,
    mapping::{Ask, Issuer},
    reason::Reason,
    time::UnixSeconds,
    trust::{self, IssuerTable, SingleUse, TrustError, UnverifiedToken, Verified},
    workload::{self, Case, Profile, Workload, WorkloadError},
};
use std::sync::Arc;

/// Three ways in, one way through: they differ in how a case is proven and in what is spent for it.
pub enum Proof<'r> {
    /// RFC 8693 token exchange.
    Tokens { subject: &'r str, actor: Option<&'r str> },
    /// CIBA-style polling of a claim ceremony: without a token it asks, with tokens of the same job it redeems.
    Poll { auth_req_id: &'r str, subject: Option<&'r str>, actor: Option<&'r str> },
    /// Renewal where the issuer cannot mint again, with the subject token that began it.
    Refresh { token: &'r str, subject: &'r str },
}

/// A case that the broker believes, and what believing it costs.
pub struct Proven<'t> {
    pub case: Case<'t>,
    pub pays: Pays,
    /// When the subject token does.
    pub expires: UnixSeconds,
}

/// What admission takes for a proven case.
pub enum Pays {
    /// The subject token, and the actor token beside it unless that is meant to be used again: each counts once.
    Token(Cost),
    /// A refresh token's turn; the subject token was spent when its family began.
    Turn(Member),
    /// What people claimed for this job; its fresh tokens, or nothing but the claim.
    Claim(Box<Redeems>),
}

/// What a case costs that is proven by tokens: one commit spends all of it, or none.
#[derive(Clone, Copy)]
pub struct Cost {
    pub subject: Spend,
    pub actor: Option<Spend>,
}

impl Cost {
    /// Spends it for good.
    pub(super) fn guards(self) -> impl Iterator<Item = Guard> {
        [Some(self.subject), self.actor].into_iter().flatten().map(Guard::Unspent)
    }

    /// Leaves the subject token in this state. Where the same request may come again, its own record judges that, so the
    /// actor's lets it pass: no other request has its digest.
    fn leaving(self, leaves: LeaseState) -> Self {
        let may_retry = self.subject.may_retry;
        let beside = if may_retry { LeaseState::Failed } else { LeaseState::Issued };
        let actor = self.actor.map(|actor| Spend { leaves: beside, may_retry, ..actor });
        Self { subject: Spend { leaves, ..self.subject }, actor }
    }
}

impl Pays {
    /// What the case asks for: of a renewal its family's role, of a claim what was asked for when it began.
    pub(super) fn ask<'a>(&'a self, asked: &Ask<'a>) -> Ask<'a> {
        match self {
            Self::Token(_) => *asked,
            Self::Turn(member) => Ask { role: asked.role.or(Some(&member.family.role)), ..*asked },
            Self::Claim(redeems) => redeems.ask(),
        }
    }

    fn cost(&self) -> Option<Cost> {
        match self {
            Self::Token(cost) => Some(*cost),
            Self::Turn(_) => None,
            Self::Claim(redeems) => redeems.cost,
        }
    }

    /// The single-use key of what it costs.
    pub(super) fn token(&self) -> Option<[u8; 32]> {
        self.cost().map(|cost| *cost.subject.token.key())
    }

    /// Spends the tokens, which leaves the subject token in this state. A turn is taken by the renewal that it is for.
    pub(super) fn guards(&self, leaves: LeaseState) -> impl Iterator<Item = Guard> {
        let cost = self.cost().map(|cost| cost.leaving(leaves));
        cost.into_iter().flat_map(Cost::guards)
    }
}

/// Where the three ways in come together. A door that is added later is one more arm here.
pub(super) async fn prove<'r, 't>(
    parts: &Parts<'r>,
    request: &Request<'r>,
    [decoded, decoded_actor]: &'t mut [Vec<u8>; 2],
    trail: &mut Trail<'r>,
) -> Result<Proven<'t>, Refusal>
where
    'r: 't,
{
    let (subject, actor, refresh, claim) = match request.proof {
        Proof::Tokens { subject, actor } => (subject, actor, None, None),
        Proof::Refresh { token, subject } => (subject, None, Some(token), None),
        Proof::Poll { auth_req_id, subject: Some(subject), actor } => (subject, actor, None, Some(auth_req_id)),
        Proof::Poll { .. } => return Err(Refusal::Grant(Reason::GrantUnknown)),
    };
    let mappings = &parts.snapshot.mappings;

    // 2 Trust
    let token = UnverifiedToken::parse(subject, decoded)?;
    // Nothing is believed of it: a refusal is counted with others of tokens that name this issuer.
    let named = parts.issuers.table().get(token.issuer()).and_then(|known| mappings.issuer_named(&known.name));
    trail.issuer = named.map(|(_, issuer)| &*issuer.name);
    let whom = if refresh.is_some() { For::Renewal } else { For::Exchange };
    let Job { workload, profile, issuer: name, token: single_use, issued, expires } = job(parts, &token, whom).await?;
    let trusts_act = mappings.issuer_named(&name).is_some_and(|(_, issuer)| issuer.trusts_act);
    let spend = |token: SingleUse, issued, profile: &Profile| Spend {
        token: token.into(),
        issued,
        request: request.digest,
        leaves: LeaseState::Issued,
        may_retry: !profile.can_mint_again(),
    };
    // A case is proven when all of it is: until then a fault of the actor token costs the job nothing.
    let actor = match actor {
        None => None,
        Some(actor) => {
            let token = UnverifiedToken::parse(actor, decoded_actor)?;
            let named = parts.issuers.table().get(token.issuer()).and_then(|known| mappings.issuer_named(&known.name));
            let of_job = std::mem::replace(&mut trail.issuer, named.map(|(_, issuer)| &*issuer.name));
            let actor = believed(parts, &token, For::Acting).await?;
            trail.issuer = of_job;
            Some(actor)
        }
    };
    let subject = spend(single_use, issued, profile);
    let acting = actor.as_ref().and_then(|actor| Some(spend(actor.token?, actor.issued, actor.profile)));
    // One token for both is spent once; the chain refuses it.
    let cost = Cost { subject, actor: acting.filter(|acting| acting.token.key() != subject.token.key()) };
    trail.proven(profile, &workload, cost);
    if let Some(actor) = &actor {
        trail.acted_by(actor.profile, &actor.workload);
    }
    // From here on every answer is a write: first whether the repository may have one more.
    parts
        .repositories
        .take(&name, trail.principal_id())
        .map_err(|retry_after_seconds| Refusal::RateLimited { retry_after_seconds })?;

    let pays = match (refresh, claim) {
        (None, None) => Pays::Token(cost),
        (None, Some(auth_req_id)) => {
            let (kept, job) = ceremony::look_up(parts, auth_req_id).await?;
            let redeems = Redeems::new(kept, job, cost);
            if redeems.cost.is_none() {
                trail.comes_again();
            }
            Pays::Claim(Box::new(redeems))
        }
        (Some(refresh), _) => {
            trail.renews();
            let member = renewal::look_up(parts, refresh, cost.subject.token.key(), request.ask.role).await?;
            trail.goes_on(parts, &member.family);
            member.has_turn(parts.now)?;
            Pays::Turn(member)
        }
    };

    // 4 Delegation
    let name_of = |url: &str| mappings.issuer_at(url);
    let case = delegation::chain(workload, actor.map(|actor| actor.workload), trusts_act, name_of)?;
    trail.acted(&case.actors);
    if let Pays::Claim(redeems) = &pays {
        redeems.judge(&case, trail.principal_id(), &request.ask, parts.now)?;
    }
    Ok(Proven { case, pays, expires })
}

/// What a job's token is to be good for.
#[derive(Clone, Copy)]
pub(super) enum For<'a> {
    Exchange,
    /// Beside a subject token: it may be meant to be used again.
    Acting,
    /// It was believed in an exchange, and comes again: past its expiry, too.
    Renewal,
    /// Another audience than that of exchanges.
    Audience(&'a str),
}

/// A job that is proven, and the one use of its token: `T` is `None` for tokens that are meant to be used again.
pub(super) struct Job<'r, 't, T = SingleUse> {
    pub workload: Workload<'t>,
    pub profile: &'r Profile,
    /// The issuer's name.
    pub issuer: Arc<str>,
    pub token: T,
    /// When its issuer made the token.
    pub issued: UnixSeconds,
    /// When the token does.
    pub expires: UnixSeconds,
}

/// Steps 2 and 3. A subject token is always single use, also where its issuer's tokens are reusable as actor tokens.
pub(super) async fn job<'r, 't>(
    parts: &Parts<'r>,
    token: &UnverifiedToken<'t>,
    whom: For<'_>,
) -> Result<Job<'r, 't>, Refusal> {
    let Job { workload, profile, issuer, token, issued, expires } = believed(parts, token, whom).await?;
    let token = token.ok_or(TrustError::Refused(Reason::Jti))?;
    Ok(Job { workload, profile, issuer, token, issued, expires })
}

async fn believed<'r, 't>(
    parts: &Parts<'r>,
    token: &UnverifiedToken<'t>,
    whom: For<'_>,
) -> Result<Job<'r, 't, Option<SingleUse>>, Refusal> {
    let verified = verified(parts, token, whom).await?;
    let single_use = verified.single_use();
    let (name, issued, expires) = (verified.issuer().name.clone(), verified.issued_at(), verified.expires());
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
    Ok(Job { workload, profile, issuer: name, token: single_use, issued, expires })
}

/// Verifies; on an unknown `kid`, or keys that are too old, asks for the issuer's keys once and verifies once more.
async fn verified<'t>(parts: &Parts<'_>, token: &UnverifiedToken<'t>, whom: For<'_>) -> Result<Verified<'t>, Refusal> {
    let verify = |table: &IssuerTable| match whom {
        For::Exchange => trust::verify(token, table, parts.now),
        For::Acting => trust::verify_actor(token, table, parts.now),
        For::Renewal => trust::verify_again(token, table, parts.now),
        For::Audience(audience) => trust::verify_for(audience, token, table, parts.now),
    };
    match verify(&parts.issuers.table()) {
        Err(TrustError::KeyUnknown { issuer } | TrustError::KeysTooOld { issuer }) => {
            let table = parts.issuers.refresh(&issuer).await?;
            Ok(verify(&table)?)
        }
        verdict => Ok(verdict?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SpentKey;

    #[test]
    fn an_actors_record_lets_the_same_request_pass_only_where_the_jobs_own_may() {
        let spend = |number: u8, may_retry| Spend {
            token: SpentKey::for_tests([number; 32], UnixSeconds(9)),
            issued: UnixSeconds(0),
            request: [7; 32],
            leaves: LeaseState::Issued,
            may_retry,
        };
        for (own, acting, leaves) in
            [(true, false, LeaseState::Failed), (true, true, LeaseState::Failed), (false, true, LeaseState::Issued)]
        {
            let cost = Cost { subject: spend(1, own), actor: Some(spend(2, acting)) };
            let guards: Vec<Guard> = Pays::Token(cost).guards(LeaseState::Issuing).collect();
            let [Guard::Unspent(subject), Guard::Unspent(actor)] = &guards[..] else { panic!("{guards:?}") };
            assert_eq!((subject.leaves, subject.may_retry), (LeaseState::Issuing, own));
            assert_eq!((actor.leaves, actor.may_retry), (leaves, own));
            // A refusal is final for both.
            assert!(
                cost.guards().all(|guard| matches!(guard, Guard::Unspent(one) if one.leaves == LeaseState::Issued))
            );
        }
    }
}
