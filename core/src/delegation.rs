//! Who acts on whose behalf (RFC 8693 sections 4.1 and 4.4): a principal, the actor beside it and the actors that its
//! token names already become one chain, or are refused. A chain is kept whole or refused, never shortened: a credential
//! that names fewer actors than acted would hide who did.
//!
//! Of an actor that a token names, its issuer and its subject are kept, which tell it from all others. Whatever else
//! stands in `act` is that token's word about somebody else, and nothing rests on it.

use crate::{
    claims::{Claims, Value},
    reason::Reason,
    workload::{ACTORS_MAX, Case, Workload},
};

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
}

impl DelegationError {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Carried | Self::ActorCarries(_) => Reason::ActorNotAllowed,
            Self::MayActAlone | Self::MayActMalformed | Self::MayActOther => Reason::MayAct,
            Self::ActMalformed => Reason::ActMalformed,
            Self::ChainTooLong => Reason::ChainTooLong,
            Self::Repeated => Reason::ActorRepeated,
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
    if let Some(actor) = &actor
        && let Some(name) = ["act", "may_act"].into_iter().find(|name| actor.raw().get(name).is_some())
    {
        return Err(DelegationError::ActorCarries(name));
    }
    if let Some(may_act) = principal.raw().get("may_act") {
        let (iss, sub) = named(may_act).ok_or(DelegationError::MayActMalformed)?;
        let actor = actor.as_ref().ok_or(DelegationError::MayActAlone)?;
        if actor.party() != (iss, sub) {
            return Err(DelegationError::MayActOther);
        }
    }
    let mut actors: Vec<Workload<'t>> = actor.into_iter().collect();
    let mut inner = principal.raw().get("act");
    if inner.is_some() && !trusts_act {
        return Err(DelegationError::Carried);
    }
    while let Some(act) = inner {
        if actors.len() >= ACTORS_MAX {
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
    let parties = actors.iter().chain([&principal]).map(Workload::party);
    // Every token has a subject; a job that a test states may leave it out.
    let mut parties: Vec<(&str, &str)> = parties.filter(|(_, subject)| !subject.is_empty()).collect();
    parties.sort_unstable();
    if parties.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(DelegationError::Repeated);
    }
    Ok(Case { principal, actors })
}

/// `iss` and `sub` of a party that a token names.
fn named<'v>(party: &'v Value<'_>) -> Option<(&'v str, &'v str)> {
    let Value::Object(party) = party else { return None };
    let text = |claims: &'v Claims<'_>, name| {
        let text = claims.get(name)?.as_text()?;
        let fits = !text.is_empty() && text.len() <= PARTY_BYTES_MAX && !text.chars().any(char::is_control);
        fits.then_some(text)
    };
    Some((text(party, "iss")?, text(party, "sub")?))
}

#[cfg(test)]
mod tests;
