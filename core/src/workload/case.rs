//! A workload, and the case that policy judges: a principal and, if delegated, its actors.

use super::{Claim, Profile};
use crate::claims::{Claims, Value};
use std::borrow::Cow;

/// The value of a canonical claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text<'t> {
    Text(Cow<'t, str>),
    Boolean(bool),
}

/// Whether a job has a claim (mappings, "Present, none, unknown"). One definition for all evaluation and proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence<'t> {
    /// The token says so.
    Present(Text<'t>),
    /// The profile proves that the job has no such claim.
    None,
    /// Absent otherwise.
    Unknown,
}

/// A verified job in canonical claims, beside its raw ones.
#[derive(Clone, PartialEq, Debug)]
pub struct Workload<'t> {
    /// The issuer's name in the mapping folder.
    pub issuer: Cow<'t, str>,
    pub(crate) canonical: Vec<Presence<'t>>,
    pub(crate) raw: Claims<'t>,
}

impl<'t> Workload<'t> {
    /// A party that another's token names: its issuer's name in the folder, the issuer's URL and its subject there. Nothing
    /// else is known of it.
    pub(crate) fn named(issuer: String, url: &str, subject: &str) -> Self {
        let mut canonical = vec![Presence::Unknown; Claim::ALL.len()];
        canonical[Claim::Subject as usize] = Presence::Present(Text::Text(subject.to_owned().into()));
        let raw = [("iss", url), ("sub", subject)];
        Self { issuer: issuer.into(), canonical, raw: Claims::of_texts(raw) }
    }
    /// A canonical claim.
    pub fn get(&self, claim: Claim) -> &Presence<'t> {
        &self.canonical[claim as usize]
    }
    /// A canonical claim that is present and text.
    pub fn text(&self, claim: Claim) -> Option<&str> {
        match self.get(claim) {
            Presence::Present(Text::Text(text)) => Some(text),
            _ => None,
        }
    }
    /// Who the job is, for records and the `sub` of credentials: the narrowest immutable id that it has (else its
    /// subject), and a name to read (its repository, else its subject). Empty only where a test states neither.
    pub fn principal_id(&self, profile: &Profile) -> (&str, &str) {
        let subject = self.text(Claim::Subject).unwrap_or_default();
        let id = profile.pins().iter().find_map(|pin| self.text(*pin)).unwrap_or(subject);
        (id, self.text(Claim::Repository).unwrap_or(subject))
    }
    /// What tells this party from all others: the URL of its issuer and its subject there (RFC 7519 section 4.1.2); the
    /// issuer's name where a test states no token.
    pub fn party(&self) -> (&str, &str) {
        let url = self.raw.get("iss").and_then(Value::as_text).unwrap_or(&self.issuer);
        (url, self.text(Claim::Subject).unwrap_or_default())
    }
    /// The claims as the token had them.
    pub fn raw(&self) -> &Claims<'t> {
        &self.raw
    }
}

/// Most actors of a case.
pub const ACTORS_MAX: usize = 5;

/// By what a case was brought.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Via<'t> {
    /// The job's own token.
    #[default]
    Job,
    /// A token of ours that was made for this audience, by whoever it was made for: a downstream exchange.
    Downstream(Cow<'t, str>),
    /// The job's own token, for a handoff: of the outermost actor only issuer and subject are known yet.
    Handoff,
}

impl Via<'_> {
    /// Of the token of ours, where one was brought.
    pub fn audience(&self) -> Option<&str> {
        match self {
            Self::Downstream(audience) => Some(audience),
            Self::Job | Self::Handoff => None,
        }
    }
}

/// The judged case. `actors` is outermost first; policy reads the first only, evidence keeps all.
#[derive(Clone, PartialEq, Debug)]
pub struct Case<'t> {
    pub principal: Workload<'t>,
    pub actors: Vec<Workload<'t>>,
    pub via: Via<'t>,
}

impl<'t> Case<'t> {
    /// A job for which nobody acts.
    pub fn alone(principal: Workload<'t>) -> Self {
        Self { principal, actors: Vec::new(), via: Via::Job }
    }
}
