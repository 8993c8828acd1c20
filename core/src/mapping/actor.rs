//! `[mapping.actor]`: who may act on behalf of a mapping's jobs. Policy reads the outermost actor alone; who acted before
//! it is evidence (RFC 8693 section 4.1).

use super::set::{Condition, IssuerId};
use crate::diag::Span;

/// What conditions on an actor, and findings about one, are called: `actor.subject`.
pub const ACTOR: &str = "actor";

/// Who may act. A mapping without one takes nobody who acts.
#[derive(Clone, Debug)]
pub struct ActorRule {
    /// A job for which nobody acts is refused.
    pub required: bool,
    /// The mapping is for downstream exchanges, and for nothing else: what the actor brings on the job's behalf is a token
    /// of ours for this audience. Then `required` is true.
    pub audience: Option<String>,
    /// Most actors of a chain, from 1 to [`crate::workload::ACTORS_MAX`].
    pub max_depth: u8,
    /// Of the outermost actor: what its claims are is its issuer's to say.
    pub issuer: IssuerId,
    /// On the outermost actor's claims. Never empty.
    pub conditions: Vec<Condition>,
    pub span: Span,
}
