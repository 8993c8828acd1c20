//! Who acts on whose behalf. Until mappings can name actors this door refuses: a token that carries `act` or
//! `may_act`, and a request that brings an actor token.

use crate::{
    reason::Reason,
    workload::{Case, Workload},
};

/// Why a chain is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DelegationError {
    #[error("the token carries `{0}`, and its issuer is not trusted for it")]
    Carried(&'static str),
    #[error("no mapping allows an actor")]
    ActorNotAllowed,
}

impl DelegationError {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        Reason::ActorNotAllowed
    }
}

/// A principal without actors becomes a case; anything that speaks of an actor is refused (RFC 8693 sections 4.1, 4.4).
pub fn chain(principal: Workload<'_>, actor_token_given: bool) -> Result<Case<'_>, DelegationError> {
    for name in ["act", "may_act"] {
        if principal.raw().get(name).is_some() {
            return Err(DelegationError::Carried(name));
        }
    }
    if actor_token_given {
        return Err(DelegationError::ActorNotAllowed);
    }
    Ok(Case { principal, actors: Vec::new() })
}
