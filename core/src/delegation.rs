//! Who acts on whose behalf (RFC 8693 sections 4.1 and 4.4): a principal, the actor beside it and the actors that its
//! token names already become one chain, or are refused. A chain is kept whole or refused, never shortened: a credential
//! that names fewer actors than acted would hide who did.
//!
//! Of an actor that a token names, its issuer and its subject are kept, which tell it from all others. Whatever else
//! stands in `act` is that token's word about somebody else, and nothing rests on it.

use crate::{
    claims::{Claims, Value},
    reason::Reason,
    workload::{ACTORS_MAX, Case, Via, Workload},
};
use std::borrow::Cow;

/// Longest `iss` or `sub` of an actor that a token names.
const PARTY_BYTES_MAX: usize = 2048;

/// Why a chain is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DelegationError {
    #[error("the token carries `act`, and its issuer is not trusted for it")]
    Carried,
    #[error("the actor token itself carries `{0}`")]
    ActorCarries(&'static str),
    #[error("the token says who may act for it, and nobody does")]
    MayActAlone,
    #[error("the token's `may_act` is no object with the texts `iss` and `sub`")]
    MayActMalformed,
    #[error("the token's `may_act` names another than who acts")]
    MayActOther,
    #[error("the token's `act` is no object with the texts `iss` and `sub`")]
    ActMalformed,
    #[error("more than {ACTORS_MAX} act one for another")]
    ChainTooLong,
    #[error("one party stands twice in the chain")]
    Repeated,
    #[error("a token of ours is exchanged by who acts, and nobody does")]
    Nobody,
    #[error("`may_act_iss` and `may_act_sub` name nobody who could act")]
    PromiseMalformed,
}

impl DelegationError {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Carried | Self::ActorCarries(_) => Reason::ActorNotAllowed,
            Self::MayActAlone | Self::MayActMalformed | Self::MayActOther | Self::PromiseMalformed => Reason::MayAct,
            Self::ActMalformed => Reason::ActMalformed,
            Self::ChainTooLong => Reason::ChainTooLong,
            Self::Repeated => Reason::ActorRepeated,
            Self::Nobody => Reason::ActorNeeded,
        }
    }
}

/// A principal, and who acts for it, as one case. `actor`: of the actor token, verified as the principal is.
/// `trusts_act`: whether the principal's issuer may name actors. `name_of`: an issuer's name in the folder by its URL;
/// an actor of another is called by the URL itself.
///
/// # Errors
/// What the tokens say of each other does not fit (RFC 8693 section 4.4), or the chain is none that a case may have.
pub fn chain<'t>(
    principal: Workload<'t>,
    actor: Option<Workload<'t>>,
    trusts_act: bool,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Case<'t>, DelegationError> {
    carries_nothing(actor.as_ref())?;
    if let Some(may_act) = principal.raw().get("may_act") {
        meant(may_act, actor.as_ref())?;
    }
    if principal.raw().get("act").is_some() && !trusts_act {
        return Err(DelegationError::Carried);
    }
    let earlier = earlier(principal.raw().get("act"), usize::from(actor.is_some()), name_of)?;
    link(principal, actor, earlier, Via::Job)
}

/// The case of a token of ours that whoever it was made for exchanges: its principal, and the chain that it carries, with
/// one more who acts. `act` is the token's; what the job's own token said of who may act was met when that was exchanged.
///
/// # Errors
/// Nobody acts, or the chain is none that a case may have.
pub fn onward<'t>(
    principal: Workload<'t>,
    act: Option<&Value<'_>>,
    actor: Option<Workload<'t>>,
    audience: impl Into<Cow<'t, str>>,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Case<'t>, DelegationError> {
    carries_nothing(actor.as_ref())?;
    let actor = actor.ok_or(DelegationError::Nobody)?;
    let earlier = earlier(act, 1, name_of)?;
    link(principal, Some(actor), earlier, Via::Downstream(audience.into()))
}

/// The case of a handoff that is asked for: who shall act is known by issuer and subject alone.
///
/// # Errors
/// As [`chain`]; or these texts name nobody.
pub fn promised<'t>(
    principal: Workload<'t>,
    (iss, sub): (&str, &str),
    trusts_act: bool,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Case<'t>, DelegationError> {
    if !is_name(iss) || !is_name(sub) {
        return Err(DelegationError::PromiseMalformed);
    }
    let actor = Workload::named(name_of(iss).unwrap_or_else(|| iss.to_owned()), iss, sub);
    let case = chain(principal, Some(actor), trusts_act, name_of)?;
    Ok(Case { via: Via::Handoff, ..case })
}

/// Whether who acts is whom a `may_act` names, by issuer and subject.
///
/// # Errors
/// It is not.
pub fn meant(may_act: &Value<'_>, actor: Option<&Workload<'_>>) -> Result<(), DelegationError> {
    let named = named(may_act).ok_or(DelegationError::MayActMalformed)?;
    let actor = actor.ok_or(DelegationError::MayActAlone)?;
    if actor.party() == named { Ok(()) } else { Err(DelegationError::MayActOther) }
}

/// An actor token speaks for itself alone.
fn carries_nothing(actor: Option<&Workload<'_>>) -> Result<(), DelegationError> {
    let carried = |actor: &Workload<'_>| ["act", "may_act"].into_iter().find(|name| actor.raw().get(name).is_some());
    actor.and_then(carried).map_or(Ok(()), |name| Err(DelegationError::ActorCarries(name)))
}

/// Those that an `act` names, the outermost first, where so many act for them already.
fn earlier<'t>(
    act: Option<&Value<'_>>,
    later: usize,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Workload<'t>>, DelegationError> {
    let (mut actors, mut inner) = (Vec::new(), act);
    while let Some(act) = inner {
        if actors.len() + later >= ACTORS_MAX {
            return Err(DelegationError::ChainTooLong);
        }
        let (iss, sub) = named(act).ok_or(DelegationError::ActMalformed)?;
        let issuer = name_of(iss).unwrap_or_else(|| iss.to_owned());
        actors.push(Workload::named(issuer, iss, sub));
        inner = match act {
            Value::Object(act) => act.get("act"),
            _ => None,
        };
    }
    Ok(actors)
}

/// One chain of all of them, in which nobody stands twice.
fn link<'t>(
    principal: Workload<'t>,
    actor: Option<Workload<'t>>,
    earlier: Vec<Workload<'t>>,
    via: Via<'t>,
) -> Result<Case<'t>, DelegationError> {
    let actors: Vec<Workload<'t>> = actor.into_iter().chain(earlier).collect();
    let parties = actors.iter().chain([&principal]).map(Workload::party);
    // Every token has a subject; a job that a test states may leave it out.
    let mut parties: Vec<(&str, &str)> = parties.filter(|(_, subject)| !subject.is_empty()).collect();
    parties.sort_unstable();
    if parties.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(DelegationError::Repeated);
    }
    Ok(Case { principal, actors, via })
}

/// `iss` and `sub` of a party that a token names.
fn named<'v>(party: &'v Value<'_>) -> Option<(&'v str, &'v str)> {
    let Value::Object(party) = party else { return None };
    let text = |claims: &'v Claims<'_>, name| claims.get(name)?.as_text().filter(|text| is_name(text));
    Some((text(party, "iss")?, text(party, "sub")?))
}

/// Whether a text can be an issuer or a subject of one.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= PARTY_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
