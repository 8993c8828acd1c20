//! `[mapping.ceremony]`: which grants wait for people, who they are, and what their claim is bound to.
//!
//! All digests here are of length-prefixed parts under a name of their own, so none is ever another's.

use super::{
    Condition, Mapping, MappingId, MappingSet, RoleId, Test,
    decide::{Ask, Grant},
};
use crate::{
    ceremony::{Approver, Approvers, Starter, Terms},
    claims::Value,
    diag::Span,
    time::{Seconds, UnixSeconds},
    workload::{Case, Claim, ClaimKey, Presence, Text, Workload},
};
use aws_lc_rs::digest::{Context, SHA256};
use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
};

/// How often people claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Each issuance.
    Every,
    /// A workload once, until that claim is over.
    FirstUse,
}

impl When {
    pub const ALL: [Self; 2] = [Self::Every, Self::FirstUse];
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::FirstUse => "first_use",
        }
    }
}

/// `[mapping.ceremony]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CeremonyRule {
    pub when: When,
    /// Of a first use: the claims that its key holds beside what it always does. `None`: whatever mapping, file and
    /// `require` match.
    pub remember: Option<Vec<ClaimKey>>,
    pub claim_within: Seconds,
    /// Of a first use: how long the claim stands.
    pub valid_for: Seconds,
    /// Not empty.
    pub approvers: Vec<Approver>,
    /// A group more for each job, named by a claim that administrators set.
    pub approvers_from: Option<ClaimKey>,
    /// Distinct people, from 1.
    pub quorum: u8,
    /// Who started the job may claim it.
    pub allow_self: bool,
    pub span: Span,
}

/// `[sensitivity.X.ceremony]`: what no ceremony for such a role goes below.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CeremonyFloor {
    /// Only who is one of these, too, may claim; empty: nobody is shut out.
    pub approvers: Vec<Approver>,
    pub quorum: u8,
}

/// A ceremony as it is for one role: the mapping's rule above the floor of the role's sensitivity.
#[derive(Clone, Copy, Debug)]
pub struct CeremonyTerms<'s> {
    pub rule: &'s CeremonyRule,
    pub floor: Option<&'s CeremonyFloor>,
}

impl fmt::Display for CeremonyTerms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.rule.when {
            When::Every => "each time",
            When::FirstUse => "once",
        };
        let people = match self.quorum() {
            1 => "1 person".to_owned(),
            more => format!("{more} people"),
        };
        let list =
            |approvers: &[Approver]| approvers.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
        write!(f, "{people} of {} must claim it {when}", list(&self.rule.approvers))?;
        match self.floor.map(|floor| &floor.approvers[..]).unwrap_or_default() {
            [] => Ok(()),
            within => write!(f, ", who are also of {}", list(within)),
        }
    }
}

impl CeremonyTerms<'_> {
    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        let list = |approvers: &[Approver]| approvers.iter().map(Approver::to_string).collect::<Vec<_>>();
        let first_use = self.rule.when == When::FirstUse;
        serde_json::json!({
            "when": self.rule.when.name(),
            "approvers": list(&self.rule.approvers),
            "approvers_within": list(self.floor.map(|floor| &floor.approvers[..]).unwrap_or_default()),
            "approvers_from": self.rule.approvers_from.as_ref().map(ClaimKey::name),
            "quorum": self.quorum(),
            "allow_self": self.rule.allow_self,
            "claim_within_seconds": self.rule.claim_within.0,
            "valid_for_seconds": first_use.then_some(self.rule.valid_for.0),
            "remember": self.rule.remember.as_ref().map(|claims| claims.iter().map(ClaimKey::name).collect::<Vec<_>>()),
        })
    }

    /// Distinct people.
    pub fn quorum(&self) -> u8 {
        self.rule.quorum.max(self.floor.map_or(1, |floor| floor.quorum))
    }

    /// Who may claim it for this job: where the rule takes a group from a claim, that group of every sign-in that the rule
    /// names.
    pub fn approvers(&self, workload: &Workload<'_>) -> Approvers {
        let mut any = self.rule.approvers.clone();
        if let Some(group) = self.rule.approvers_from.as_ref().and_then(|claim| value_of(claim, workload)) {
            let mut of: Vec<Approver> = Vec::new();
            for one in &any {
                let text = format!("{}:group:{group}", one.sign_in);
                of.extend(text.parse().ok().filter(|group: &Approver| !any.contains(group)));
            }
            of.dedup();
            any.extend(of);
        }
        Approvers { any, within: self.floor.map(|floor| floor.approvers.clone()).unwrap_or_default() }
    }

    /// What a ceremony is opened with.
    pub fn terms(&self, workload: &Workload<'_>, now: UnixSeconds) -> Terms {
        Terms {
            standing: self.rule.when == When::FirstUse,
            approvers: self.approvers(workload),
            quorum: self.quorum(),
            allow_self: self.rule.allow_self,
            expires: now.plus(self.rule.claim_within.0.into()),
        }
    }
}

/// Claims that tell one run, or one commit, from the next: never remembered.
pub(super) const OF_ONE_RUN: [Claim; 6] =
    [Claim::RunId, Claim::RunAttempt, Claim::JobId, Claim::Sha, Claim::WorkflowSha, Claim::JobWorkflowSha];

/// What makes a job this one (design, section 7), beside its issuer and its pinned ids.
const OF_ONE_JOB: [Claim; 15] = [
    Claim::RepositoryId,
    Claim::RepositoryOwnerId,
    Claim::RunId,
    Claim::RunAttempt,
    Claim::JobId,
    Claim::Sha,
    Claim::Ref,
    Claim::Environment,
    Claim::EventName,
    Claim::WorkflowRepository,
    Claim::WorkflowFile,
    Claim::WorkflowRef,
    Claim::JobWorkflowRepository,
    Claim::JobWorkflowFile,
    Claim::JobWorkflowRef,
];

impl MappingSet {
    /// The ceremony that grants of this role by this mapping wait for.
    pub fn ceremony(&self, mapping: MappingId, role: RoleId) -> Option<CeremonyTerms<'_>> {
        let rule = self.mapping(mapping).ceremony.as_deref()?;
        Some(CeremonyTerms { rule, floor: self.ceremony_floors.get(&self.role(role).sensitivity) })
    }

    /// Digest of all that the rule says for this role: every alternative of the mapping, the role, its policies. Descriptions,
    /// comments and places are no part of it.
    pub fn rule_digest(&self, mapping: MappingId, role: RoleId) -> [u8; 32] {
        let mut parts = Parts::new("rule");
        parts.bytes(&self.terms_digest(mapping, role));
        for one in self.alternatives(mapping) {
            parts.number(one.conditions.len() as u64);
            one.conditions.iter().for_each(|condition| parts.condition(condition));
            let Mapping { duration, max_duration, max_session, limit, expires, shadow, .. } = one;
            for seconds in [duration, max_duration, max_session] {
                parts.number(seconds.map_or(0, |seconds| u64::from(seconds.0) + 1));
            }
            let limit = limit.unwrap_or_default();
            for most in [limit.per_run, limit.per_hour] {
                parts.number(most.map_or(0, |most| u64::from(most) + 1));
            }
            // By its name, and only where it stands: the digest of every other rule is as it was before there was this key.
            if let Some(uses) = limit.sts_uses_per_token {
                parts.text("sts_uses_per_token");
                parts.number(u64::from(uses));
            }
            parts.number(expires.map_or(0, |end| end.0.cast_unsigned()));
            parts.number(u64::from(*shadow));
            if let Some(actor) = &one.actor {
                parts.text(&self.issuer(actor.issuer).url);
                parts.number(u64::from(actor.required) << 8 | u64::from(actor.max_depth));
                parts.text(actor.audience.as_deref().unwrap_or_default());
                actor.conditions.iter().for_each(|condition| parts.condition(condition));
            }
        }
        parts.end()
    }

    /// Digest of what a claim may not outlive, however narrow a change of the mapping is: the role with its policies and
    /// `require`, who may approve, and how many.
    pub fn terms_digest(&self, mapping: MappingId, role: RoleId) -> [u8; 32] {
        let mut parts = Parts::new("terms");
        let (own, of) = (self.mapping(mapping), self.role(role));
        parts.text(&self.issuer(own.issuer).url);
        for text in [&*of.name, &of.backend, of.kind, &of.sensitivity, of.target.as_deref().unwrap_or_default()] {
            parts.text(text);
        }
        parts.number(of.max_duration.0.into());
        for (key, (value, _)) in &of.parameters.values {
            parts.text(key);
            parts.text(&value.to_string());
            if let Some(policy) = value.as_str().and_then(|path| self.policies.get(path)) {
                parts.text(policy);
            }
        }
        for condition in self.required(role, own.issuer) {
            parts.condition(condition);
        }
        if let Some(CeremonyTerms { rule, floor }) = self.ceremony(mapping, role) {
            let list = |parts: &mut Parts, approvers: &[Approver]| {
                parts.number(approvers.len() as u64);
                let mut texts: Vec<String> = approvers.iter().map(Approver::to_string).collect();
                texts.sort_unstable();
                texts.iter().for_each(|text| parts.text(text));
            };
            parts.text(rule.when.name());
            list(&mut parts, &rule.approvers);
            list(&mut parts, floor.map(|floor| &floor.approvers[..]).unwrap_or_default());
            parts.text(rule.approvers_from.as_ref().map_or("", ClaimKey::name));
            let quorum = CeremonyTerms { rule, floor }.quorum();
            parts.number(u64::from(quorum) << 8 | u64::from(rule.allow_self));
            parts.number(rule.valid_for.0.into());
            for claim in rule.remember.iter().flatten() {
                parts.text(claim.name());
            }
        }
        parts.end()
    }

    /// What of this job a first use is remembered by, beside issuer, role, mapping, ids and actor: claims with their values.
    pub fn remembered(&self, grant: &Grant, workload: &Workload<'_>) -> Vec<(String, String)> {
        let rule = self.mapping(grant.mapping).ceremony.as_deref();
        let claims: Vec<ClaimKey> = match rule.and_then(|rule| rule.remember.as_ref()) {
            Some(claims) => claims.clone(),
            None => {
                let written = |condition: &&Condition| {
                    let by_id = matches!(condition.test, Test::Repository(_) | Test::ById(_) | Test::Owner(_));
                    condition.origin != super::Origin::DefaultEvents
                        && !by_id
                        && !condition.claim.is_one_of(&OF_ONE_RUN)
                };
                let conditions = self.conditions_for(grant.mapping, grant.role);
                conditions.filter(written).map(|condition| condition.claim.clone()).collect()
            }
        };
        let values = claims.iter().map(|claim| (claim.name().to_owned(), value_of(claim, workload)));
        // What the job has not is remembered, too: with a value it is another workload.
        let values: BTreeMap<String, Option<String>> = values.collect();
        values.into_iter().map(|(claim, value)| (claim, value.unwrap_or_else(|| "none".to_owned()))).collect()
    }

    /// The key of a first use. `principal_id`: the job's pinned id.
    pub fn first_use_key(&self, grant: &Grant, case: &Case<'_>, principal_id: &str) -> [u8; 32] {
        let mut parts = Parts::new("first_use");
        // By what token it came is the mapping's to ask.
        let Case { principal, actors, via: _ } = case;
        parts.text(&principal.issuer);
        parts.text(&self.role(grant.role).name);
        parts.text(&self.mapping(grant.mapping).name);
        parts.text(principal_id);
        for claim in [Claim::RepositoryId, Claim::RepositoryOwnerId] {
            parts.claim(principal, claim);
        }
        parts.number(u64::from(!actors.is_empty()));
        if let Some(actor) = actors.first() {
            parts.party(actor);
        }
        for (claim, value) in self.remembered(grant, principal) {
            parts.text(&claim);
            parts.text(&value);
        }
        parts.end()
    }

    fn alternatives(&self, mapping: MappingId) -> impl Iterator<Item = &Mapping> {
        let name = &self.mapping(mapping).name;
        let at = mapping.0 as usize;
        // They stand beside each other.
        let before = self.mappings[..at].iter().rev().take_while(move |one| one.name == *name).count();
        self.mappings[at - before..].iter().take_while(move |one| one.name == *name)
    }
}

/// What makes a job this job and no other, who acts for it and what it asks for included: two tokens with one digest are of
/// one job. `principal_id`: its pinned id.
pub fn job_digest(case: &Case<'_>, principal_id: &str, ask: &Ask<'_>) -> [u8; 32] {
    let mut parts = Parts::new("job");
    // Nobody comes back with a token of ours.
    let Case { principal, actors, via: _ } = case;
    parts.text(&principal.issuer);
    parts.text(principal_id);
    for claim in OF_ONE_JOB {
        parts.claim(principal, claim);
    }
    // Whoever else started it would have been judged, and shown, as another.
    parts.claim(principal, Claim::InitiatorId);
    parts.number(actors.len() as u64);
    actors.iter().for_each(|actor| parts.party(actor));
    let Ask { role, duration, scope } = *ask;
    for text in [role, scope] {
        parts.number(u64::from(text.is_some()));
        parts.text(text.unwrap_or_default());
    }
    parts.number(duration.map_or(0, |duration| u64::from(duration.0) + 1));
    parts.end()
}

/// The key of one issuance to be claimed: this job, what it would be given, by which rule.
pub fn every_key(set: &MappingSet, grant: &Grant, job: &[u8; 32], rule: &[u8; 32]) -> [u8; 32] {
    let mut parts = Parts::new("every");
    parts.bytes(job);
    parts.bytes(rule);
    parts.text(&set.role(grant.role).name);
    parts.text(&set.mapping(grant.mapping).name);
    parts.number(grant.duration.0.into());
    parts.end()
}

/// Who started the job, for the rule that nobody approves what they started. A re-run's token names who ran it first, and
/// a bot's event nobody.
pub fn starter(workload: &Workload<'_>) -> Starter {
    let id = workload.text(Claim::InitiatorId);
    let again = workload.text(Claim::RunAttempt).is_some_and(|attempt| attempt != "1");
    let bot = workload.text(Claim::Initiator).is_some_and(is_bot);
    Starter {
        issuer: workload.issuer.to_string(),
        id: id.map(str::to_owned),
        proves_nobody: id.is_none() || again || bot,
    }
}

/// Names that forges give to what is no person: GitHub's apps end in `[bot]`
/// (<https://docs.github.com/apps/overview>), GitLab's access tokens are `project_ID_bot_…` and `group_ID_bot_…`
/// (<https://docs.gitlab.com/user/project/settings/project_access_tokens/>).
fn is_bot(name: &str) -> bool {
    let of_token = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len() && digits.starts_with("_bot")
    };
    name.ends_with("[bot]") || ["project_", "group_"].iter().filter_map(|kind| name.strip_prefix(kind)).any(of_token)
}

/// A claim's value as text; `None`: the job has none.
fn value_of(claim: &ClaimKey, workload: &Workload<'_>) -> Option<String> {
    match claim {
        ClaimKey::Canonical(claim) => match workload.get(*claim) {
            Presence::Present(Text::Text(text)) => Some(text.to_string()),
            Presence::Present(Text::Boolean(value)) => Some(value.to_string()),
            Presence::None | Presence::Unknown => None,
        },
        ClaimKey::Raw(raw) => match raw.value(workload.raw())? {
            Value::Text(text) => Some(text.to_string()),
            other => Some(other.to_json().to_string()),
        },
    }
}

/// A digest in the making.
struct Parts(Context);

impl Parts {
    fn new(of: &str) -> Self {
        let mut parts = Self(Context::new(&SHA256));
        parts.text(of);
        parts
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }
    /// Present, none and unknown are three things.
    fn claim(&mut self, workload: &Workload<'_>, claim: Claim) {
        match workload.get(claim) {
            Presence::Present(Text::Text(text)) => {
                self.number(1);
                self.text(text);
            }
            Presence::Present(Text::Boolean(value)) => self.number(2 + u64::from(*value)),
            Presence::None => self.number(4),
            Presence::Unknown => self.number(5),
        }
    }
    /// Who acts: what tells them from all others, and their immutable ids.
    fn party(&mut self, workload: &Workload<'_>) {
        let (issuer, subject) = workload.party();
        self.text(&workload.issuer);
        self.text(issuer);
        self.text(subject);
        self.claim(workload, Claim::RepositoryId);
    }
    /// What a condition asks; by how it was compiled, so that another way to write it is the same.
    fn condition(&mut self, condition: &Condition) {
        self.text(condition.claim.name());
        self.number(u64::from(condition.if_unknown_ignore));
        condition.test.hash(self);
    }
    fn end(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// What derived hashing writes goes into the digest; its own sum is asked for by nobody.
impl Hasher for Parts {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests;
