//! Who did: grants on record, in groups that are bounded; who cannot be named any more is said to be erased.

use super::{
    super::{
        find::initiator,
        log::{Log, Times, counted, date},
    },
    Asked,
    span::Span,
};
use crate::store::LeaseState;
use anyhow::Result;
use claimbound_core::evidence::{Body, DecisionId, LeaseId};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
};

/// Groups that are told apart; what comes beyond is counted.
const GROUPS_MAX: usize = 10_000;
/// The latest grants of a group that are told one by one.
const GRANTS_KEPT_MAX: usize = 20;
/// Initiators of a group that are named; grants of others are counted together.
const INITIATORS_MAX: usize = 100;

/// Who had what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    role: String,
    mapping: String,
    issuer: String,
    name: String,
    id: String,
}

#[derive(Clone, Debug)]
struct Grant {
    at: i64,
    expires: i64,
    lease: LeaseId,
    decision: Option<DecisionId>,
    initiator: Option<String>,
    state: Option<LeaseState>,
}

#[derive(Debug)]
struct Group {
    times: Times,
    latest: VecDeque<Grant>,
    initiators: BTreeMap<String, u64>,
    /// Grants whose initiator is not told: details erased or damaged, no such claim, or beyond those that are named.
    unnamed: u64,
    /// Grants of which surely nothing was minted.
    failed: u64,
}

pub(super) struct Did<'a> {
    log: &'a Log,
    asked: Asked<'a>,
    span: Span,
    groups: BTreeMap<Key, Group>,
    beyond: u64,
}

impl<'a> Did<'a> {
    pub fn new(log: &'a Log, asked: Asked<'a>, span: Span) -> Self {
        Self { log, asked, span, groups: BTreeMap::new(), beyond: 0 }
    }

    /// Takes a record in: a grant whose credential was alive in the span.
    pub fn record(&mut self, body: &Body<'_>, stored: &[u8]) -> Result<()> {
        let (Some(lease), Some(expires), Some(principal)) = (body.lease, body.expires, &body.principal) else {
            return Ok(());
        };
        // Alive from `at` until before `expires`; what expires at once was alive for a second.
        let alive = self.span.meet(body.at, Some(expires.max(body.at + 1)));
        let wanted = match self.asked {
            Asked::Role(role) => body.role.as_deref() == Some(role),
            // No two repositories of one forge have names that differ in case alone.
            Asked::Repository(own) => principal.id == own || principal.name.eq_ignore_ascii_case(own),
        };
        if body.kind != "granted" || alive.is_none() || !wanted {
            return Ok(());
        }
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        let key = Key {
            role: text(&body.role),
            mapping: text(&body.mapping),
            issuer: principal.issuer.to_string(),
            name: principal.name.to_string(),
            id: principal.id.to_string(),
        };
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.beyond += 1;
            return Ok(());
        }
        let state = self.log.reader.lease(lease)?.map(|lease| lease.state);
        let initiator = initiator(self.log, body, stored);
        let grant = Grant { at: body.at, expires, lease, decision: body.decision, initiator, state };
        let times = Times::once(body.at, body.decision);
        let empty = Group { times, latest: VecDeque::new(), initiators: BTreeMap::new(), unnamed: 0, failed: 0 };
        match self.groups.get_mut(&key) {
            Some(group) => {
                group.times.add(times);
                group.add(grant);
            }
            None => self.groups.entry(key).or_insert(empty).add(grant),
        }
        Ok(())
    }

    /// Grants in all groups.
    pub fn count(&self) -> u64 {
        self.groups.values().map(|group| group.times.count).sum::<u64>() + self.beyond
    }

    pub fn to_json(&self) -> Value {
        let groups = self.groups.iter().map(|(key, group)| {
            let mut told = group.times.to_json();
            let mut put = |name: &str, value: Value| told[name] = value;
            put("role", json!(key.role));
            put("mapping", json!(key.mapping));
            put("issuer", json!(key.issuer));
            put("repository", json!({ "name": key.name, "id": key.id }));
            put("initiators", json!(group.initiators));
            put("initiator_not_told", json!(group.unnamed));
            put("failed", json!(group.failed));
            put("latest", group.latest.iter().rev().map(Grant::to_json).collect());
            told
        });
        json!({ "grants": self.count(), "groups": groups.collect::<Vec<_>>(), "beyond": self.beyond })
    }

    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        for (key, group) in &self.groups {
            writeln!(text, "  `{}` for `{}` ({}) of `{}`", key.role, key.name, key.id, key.issuer)?;
            writeln!(text, "    by `{}`; {}", key.mapping, group.times.to_text())?;
            let named = group.initiators.iter().map(|(name, count)| format!("{name} ({count})"));
            let unnamed = (group.unnamed > 0).then(|| format!("not told ({})", group.unnamed));
            let who: Vec<String> = named.chain(unnamed).collect();
            writeln!(text, "    initiators: {}", who.join(", "))?;
            if group.failed > 0 {
                writeln!(text, "    {} came to nothing: no credential was made", counted(group.failed, "grant"))?;
            }
            for grant in group.latest.iter().rev() {
                let state = grant.state.map_or("not known", LeaseState::name);
                let who = grant.initiator.as_deref().unwrap_or("not told");
                let (from, to) = (date(grant.at), date(grant.expires));
                writeln!(text, "    {from} to {to} at most, lease {}, {state}, initiator {who}", grant.lease)?;
            }
            let more = group.times.count - group.latest.len() as u64;
            if more > 0 {
                writeln!(text, "    and {} before", counted(more, "grant"))?;
            }
        }
        if self.beyond > 0 {
            writeln!(text, "  and {} in groups beyond those that are told apart", counted(self.beyond, "grant"))?;
        }
        Ok(())
    }
}

impl Group {
    fn add(&mut self, grant: Grant) {
        self.failed += u64::from(grant.state == Some(LeaseState::Failed));
        let room = self.initiators.len() < INITIATORS_MAX;
        match &grant.initiator {
            Some(name) if room || self.initiators.contains_key(name) => {
                *self.initiators.entry(name.clone()).or_default() += 1;
            }
            _ => self.unnamed += 1,
        }
        if self.latest.len() == GRANTS_KEPT_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(grant);
    }
}

impl Grant {
    fn to_json(&self) -> Value {
        json!({
            "at": self.at,
            "expires_at": self.expires,
            "lease": self.lease,
            "decision": self.decision,
            "initiator": self.initiator,
            "state": self.state.map(LeaseState::name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_keeps_its_latest_and_counts_the_rest() {
        let mut group = Group {
            times: Times::once(0, None),
            latest: VecDeque::new(),
            initiators: BTreeMap::new(),
            unnamed: 0,
            failed: 0,
        };
        for at in 0..INITIATORS_MAX as i64 + 3 {
            let state = Some(if at == 0 { LeaseState::Failed } else { LeaseState::Issued });
            let initiator = (at > 0).then(|| format!("person-{at}"));
            group.add(Grant { at, expires: at + 1, lease: LeaseId(at as u128), decision: None, initiator, state });
        }
        assert_eq!((group.latest.len(), group.latest[0].at), (GRANTS_KEPT_MAX, INITIATORS_MAX as i64 - 17));
        assert_eq!((group.initiators.len(), group.unnamed, group.failed), (INITIATORS_MAX, 3, 1));
    }
}
