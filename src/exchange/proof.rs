//! The doors (a job's token, one of ours, poll, refresh), one [`Proven`]: steps 2 to 4.

use super::{
    Parts, Refusal, Request,
    ceremony::{self, Redeems},
    parent::{self, Parent},
    renewal::{self, Member},
    trail::Trail,
};
use crate::{
    issuance::own::HANDOFF_TYP,
    store::{Guard, LeaseState, Spend},
};
use claimbound_core::{
    delegation,
    mapping::{Ask, Issuer},
    reason::Reason,
    time::UnixSeconds,
    trust::{self, IssuerTable, SingleUse, TrustError, UnverifiedToken, Verified},
    workload::{self, Case, Profile, Workload, WorkloadError},
};
use std::sync::Arc;

/// Several ways in, one way through: they differ in how a case is proven and in what is spent for it.
pub enum Proof<'r> {
    /// RFC 8693 token exchange.
    Tokens { subject: &'r str, actor: Option<&'r str> },
    /// A job asks for a handoff: for whoever has this `iss` and this `sub`.
    Promise { subject: &'r str, may_act: (&'r str, &'r str) },
    /// A handoff, by whom it is for.
    Handoff { token: &'r str, actor: &'r str },
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
    /// The subject token is one of ours.
    pub parent: Option<Parent>,
}

/// What admission takes for a proven case.
pub enum Pays {
    /// The subject token unless it is a credential of ours, and the actor token unless that is meant to be used again: each
    /// counts once.
    Token(Cost),
    /// A refresh token's turn; the subject token was spent when its family began.
    Turn(Member),
    /// What people claimed for this job; its fresh tokens, or nothing but the claim.
    Claim(Box<Redeems>),
}

/// What a case costs that is proven by tokens: one commit spends all of it, or none.
#[derive(Clone, Copy)]
pub struct Cost {
    pub subject: Option<Spend>,
    pub actor: Option<Spend>,
}

impl Cost {
    /// Spends it for good.
    pub(super) fn guards(self) -> impl Iterator<Item = Guard> {
        [self.subject, self.actor].into_iter().flatten().map(Guard::Unspent)
    }

    /// Leaves the subject token in this state. Where the same request may come again, its own record judges that, so the
    /// actor's lets it pass: no other request has its digest. Where the actor's stands alone, it is the one that judges.
    fn leaving(self, leaves: LeaseState) -> Self {
        let Some(subject) = self.subject else {
            return Self { actor: self.actor.map(|actor| Spend { leaves, ..actor }), ..self };
        };
        let may_retry = subject.may_retry;
        let beside = if may_retry { LeaseState::Failed } else { LeaseState::Issued };
        let actor = self.actor.map(|actor| Spend { leaves: beside, may_retry, ..actor });
        Self { subject: Some(Spend { leaves, ..subject }), actor }
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
            Self::Claim(redeems) => Some(redeems.cost),
        }
    }

    /// The single-use key of what it costs.
    pub(super) fn token(&self) -> Option<[u8; 32]> {
        self.cost().and_then(|cost| cost.subject.or(cost.actor)).map(|spend| *spend.token.key())
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
        Proof::Promise { subject, .. } => (subject, None, None, None),
        Proof::Refresh { token, subject } => (subject, None, Some(token), None),
        Proof::Poll { auth_req_id, subject: Some(subject), actor } => (subject, actor, None, Some(auth_req_id)),
        Proof::Handoff { token, actor } => {
            let token = UnverifiedToken::parse_typed(token, decoded, HANDOFF_TYP)?;
            return Box::pin(parent::prove(parts, request, &token, Some(actor), decoded_actor, trail)).await;
        }
        Proof::Poll { .. } => return Err(Refusal::Grant(Reason::GrantUnknown)),
    };
    let mappings = &parts.snapshot.mappings;

    // 2 Trust
    let token = UnverifiedToken::parse(subject, decoded)?;
    if matches!(request.proof, Proof::Tokens { .. })
        && parts.own.are_exchanged()
        && token.issuer() == parts.own.issuer_url()
    {
        return Box::pin(parent::prove(parts, request, &token, actor, decoded_actor, trail)).await;
    }
    // Nothing is believed of it: a refusal is counted with others of tokens that name this issuer.
    let named = parts.issuers.table().get(token.issuer()).and_then(|known| mappings.issuer_named(&known.name));
    trail.issuer = named.map(|(_, issuer)| &*issuer.name);
    let whom = if refresh.is_some() { For::Renewal } else { For::Exchange };
    let Job { workload, profile, issuer: name, token: single_use, issued, expires } = job(parts, &token, whom).await?;
    let trusts_act = mappings.issuer_named(&name).is_some_and(|(_, issuer)| issuer.trusts_act);
    // A case is proven when all of it is: until then a fault of the actor token costs the job nothing.
    let actor = match actor {
        None => None,
        Some(actor) => Some(acting(parts, actor, decoded_actor, trail).await?),
    };
    let subject = spend(request, single_use, issued, !profile.can_mint_again());
    let acting = actor.as_ref().and_then(|actor| actor.spend(request));
    // One token for both is spent once; the chain refuses it.
    let acting = acting.filter(|acting| acting.token.key() != subject.token.key());
    let cost = Cost { subject: Some(subject), actor: acting };
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
            let redeems = Redeems::new(kept, job, subject, acting);
            if redeems.again() {
                trail.comes_again();
            }
            Pays::Claim(Box::new(redeems))
        }
        (Some(refresh), _) => {
            trail.renews();
            let member = renewal::look_up(parts, refresh, subject.token.key(), request.ask.role).await?;
            trail.goes_on(parts, &member.family);
            member.has_turn(parts.now)?;
            Pays::Turn(member)
        }
    };

    // 4 Delegation
    let name_of = |url: &str| mappings.issuer_at(url);
    let case = match request.proof {
        Proof::Promise { may_act, .. } => {
            trail.promises(may_act);
            delegation::promised(workload, may_act, trusts_act, name_of)?
        }
        _ => delegation::chain(workload, actor.map(|actor| actor.workload), trusts_act, name_of)?,
    };
    trail.acted(&case.actors);
    if let Pays::Claim(redeems) = &pays {
        redeems.judge(&case, trail.principal_id(), &request.ask, parts.now)?;
    }
    Ok(Proven { case, pays, expires, parent: None })
}

/// Spends a token for a request, for good until it is said otherwise.
pub(super) fn spend(request: &Request<'_>, token: SingleUse, issued: UnixSeconds, may_retry: bool) -> Spend {
    Spend { token: token.into(), issued, request: request.digest, leaves: LeaseState::Issued, may_retry, uses: 1 }
}

/// Steps 2 and 3 of who acts.
pub(super) async fn acting<'r, 't>(
    parts: &Parts<'r>,
    actor: &'t str,
    decoded: &'t mut Vec<u8>,
    trail: &mut Trail<'r>,
) -> Result<Job<'r, 't, Option<SingleUse>>, Refusal> {
    let token = UnverifiedToken::parse(actor, decoded)?;
    let mappings = &parts.snapshot.mappings;
    let named = parts.issuers.table().get(token.issuer()).and_then(|known| mappings.issuer_named(&known.name));
    let of_job = std::mem::replace(&mut trail.issuer, named.map(|(_, issuer)| &*issuer.name));
    let actor = believed(parts, &token, For::Acting).await?;
    trail.issuer = of_job;
    Ok(actor)
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

impl Job<'_, '_, Option<SingleUse>> {
    /// What believing it costs, if anything.
    pub(super) fn spend(&self, request: &Request<'_>) -> Option<Spend> {
        Some(spend(request, self.token?, self.issued, !self.profile.can_mint_again()))
    }
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
            uses: 1,
        };
        for (own, acting, leaves) in
            [(true, false, LeaseState::Failed), (true, true, LeaseState::Failed), (false, true, LeaseState::Issued)]
        {
            let cost = Cost { subject: Some(spend(1, own)), actor: Some(spend(2, acting)) };
            let guards: Vec<Guard> = Pays::Token(cost).guards(LeaseState::Issuing).collect();
            let [Guard::Unspent(subject), Guard::Unspent(actor)] = &guards[..] else { panic!("{guards:?}") };
            assert_eq!((subject.leaves, subject.may_retry), (LeaseState::Issuing, own));
            assert_eq!((actor.leaves, actor.may_retry), (leaves, own));
            let alone: Vec<Guard> = Pays::Token(Cost { subject: None, ..cost }).guards(LeaseState::Issuing).collect();
            let [Guard::Unspent(alone)] = &alone[..] else { panic!("{alone:?}") };
            assert_eq!((alone.leaves, alone.may_retry), (LeaseState::Issuing, acting), "it judges itself");
            // A refusal is final for both.
            assert!(
                cost.guards().all(|guard| matches!(guard, Guard::Unspent(one) if one.leaves == LeaseState::Issued))
            );
        }
    }
}
