//! What came to nothing: requests that nobody claimed in time, and claims of first uses that stand no more.
//!
//! The store forgets both soon; the evidence keeps when they ended and why. Claims that a changed rule made void are still in
//! the store, and no record says when that was.

use super::{
    OperateError,
    ceremonies::{ClaimFilter, found, rule_now},
    read,
};
use crate::{
    operators::{May, Operator},
    store::{Down, Reader, Standing},
};
use claimbound_core::{
    ceremony::{CeremonyId, Claim},
    evidence::Body,
    mapping::MappingSet,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::HashSet, sync::Arc};

/// What one answer shows, of each kind.
const SHOWN_MAX: usize = 500;
/// Records of one question to the store.
const PAGE: u32 = 500;
/// Brokers write in the order of their commits, each by its own clock: behind a record that is this much too old none is
/// young enough.
const CLOCKS_APART_SECONDS: i64 = 3600;
/// A claim of one issuance is older than its end by this, at most.
const CLAIMED_BEFORE_SECONDS_MAX: i64 = 86_400;

/// Which, and of what time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskLapses {
    #[serde(default)]
    pub claims: ClaimFilter,
    /// Of the last so many seconds.
    pub seconds: u32,
}

/// What came to nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lapses {
    /// Unix time: what ended since then.
    pub since: i64,
    /// Unix time of the oldest record that there is, where the evidence does not reach back so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_since: Option<i64>,
    /// Requests that nobody claimed, or too few, the latest first.
    pub unclaimed: Vec<Lapse>,
    /// Claims of first uses that stand no more, the latest first; before them those that a changed rule made void.
    pub lapsed: Vec<Lapse>,
    /// There are more than are shown.
    pub more: bool,
}

/// Why it came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody claimed it in time, or too few.
    Unclaimed,
    /// The claim's time is over.
    Lapsed,
    /// Something of it was suspended.
    Voided,
    /// An operator took it back.
    Reset,
    /// Mapping, role or who approves is another by now.
    Outdated,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lapse {
    pub ceremony: CeremonyId,
    pub why: Why,
    pub role: String,
    pub mapping: String,
    pub issuer: String,
    pub principal: String,
    pub name: String,
    /// `<sign-in>:<subject>`; empty also where the details of the record are erased.
    pub claimed_by: Vec<String>,
    /// Unix time at which it ended; of [`Why::Outdated`] nobody knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

impl Lapse {
    fn outdated(standing: &Standing) -> Self {
        let shown = &standing.shown;
        Self {
            ceremony: standing.ceremony,
            why: Why::Outdated,
            role: shown.role.clone(),
            mapping: shown.mapping.clone(),
            issuer: shown.principal.issuer.clone(),
            principal: shown.principal.id.clone(),
            name: shown.principal.name.clone(),
            claimed_by: people(&standing.claims),
            at: None,
        }
    }
}

fn people(claims: &[Claim]) -> Vec<String> {
    claims.iter().map(|claim| claim.by.to_string()).collect()
}

pub(super) async fn list(
    reader: Arc<dyn Reader>,
    set: Option<&MappingSet>,
    now: UnixSeconds,
    operator: &Operator,
    asked: AskLapses,
) -> Result<Lapses, OperateError> {
    operator.require(May::Leases)?;
    let since = now.plus(-i64::from(asked.seconds));
    let (filter, claims) = (asked.claims.clone(), asked.claims);
    let mut lapses = read(reader.clone(), move |reader| on_record(reader, since, &filter)).await?;
    if let Some(set) = set {
        let (standing, _) = found(reader, now, claims, usize::MAX).await?;
        let rule = |one: &Standing| rule_now(set, &one.shown).map(|(rule, ..)| rule);
        let void = standing.iter().filter(|one| rule(one) != Some(one.rule)).map(Lapse::outdated);
        lapses.lapsed.splice(0..0, void);
    }
    for some in [&mut lapses.unclaimed, &mut lapses.lapsed] {
        lapses.more |= some.len() > SHOWN_MAX;
        some.truncate(SHOWN_MAX);
    }
    Ok(lapses)
}

/// What the evidence says, the latest first.
fn on_record(reader: &dyn Reader, since: UnixSeconds, filter: &ClaimFilter) -> Result<Lapses, Down> {
    let mut all = Lapses { since: since.0, known_since: None, unclaimed: vec![], lapsed: vec![], more: false };
    let (mut claimed, mut next) = (HashSet::new(), None);
    'walk: loop {
        let page = reader.before(next, PAGE)?;
        if page.is_empty() {
            break;
        }
        for stored in &page {
            next = Some(stored.position);
            // One that cannot be read tells nothing; `audit verify` says which.
            let Ok(body) = Body::parse(&stored.body) else { continue };
            all.known_since = Some(body.at);
            if body.at < since.0 - CLAIMED_BEFORE_SECONDS_MAX - CLOCKS_APART_SECONDS {
                break 'walk;
            }
            if body.kind == "claims" && body.how.as_deref() == Some("reset") && body.at >= since.0 {
                all.lapsed.extend(taken_back(&body, &stored.details).filter(|lapse| is_meant(filter, lapse)));
            }
            let Some(lapse) = (body.kind == "ceremony").then(|| of_record(&body, &stored.details)).flatten() else {
                continue;
            };
            match (body.how.as_deref(), body.state.as_deref()) {
                (_, Some("claimed")) => drop(claimed.insert(lapse.ceremony)),
                _ if body.at < since.0 || !is_meant(filter, &lapse) => {}
                (Some("expired"), _) => all.unclaimed.push(lapse),
                (Some("lapsed"), _) => all.lapsed.push(Lapse { why: Why::Lapsed, ..lapse }),
                (Some("voided"), _) => all.lapsed.push(Lapse { why: Why::Voided, ..lapse }),
                _ => {}
            }
        }
    }
    // Claimed by enough, and its job did not come: that is nobody's lapse here.
    all.unclaimed.retain(|one| !claimed.contains(&one.ceremony));
    all.known_since = all.known_since.filter(|oldest| *oldest > since.0);
    Ok(all)
}

fn is_meant(filter: &ClaimFilter, lapse: &Lapse) -> bool {
    let party = (lapse.principal.as_str(), lapse.name.as_str());
    filter.matches(lapse.ceremony, (&lapse.mapping, &lapse.role), party, lapse.claimed_by.iter().map(String::as_str))
}

/// A record's own details; `None` where there are none any more.
fn details(stored: &[u8]) -> Option<Value> {
    serde_json::from_slice(stored).ok()
}

fn of_record(body: &Body<'_>, stored: &[u8]) -> Option<Lapse> {
    let principal = body.principal.as_ref()?;
    let claims = details(stored).and_then(|details| Vec::<Claim>::deserialize(details.get("claims")?).ok());
    Some(Lapse {
        ceremony: body.ceremony.as_deref()?.parse().ok()?,
        why: Why::Unclaimed,
        role: body.role.as_deref()?.to_owned(),
        mapping: body.mapping.as_deref()?.to_owned(),
        issuer: principal.issuer.to_string(),
        principal: principal.id.to_string(),
        name: principal.name.to_string(),
        claimed_by: people(&claims.unwrap_or_default()),
        at: Some(body.at),
    })
}

/// Those that an operator took back with this record. Which they were stands in its details alone.
fn taken_back(body: &Body<'_>, stored: &[u8]) -> impl Iterator<Item = Lapse> {
    let at = body.at;
    let all = details(stored).and_then(|details| details.get("claims")?.as_array().cloned()).unwrap_or_default();
    all.into_iter().filter_map(move |one| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let principal = &one["principal"];
        Some(Lapse {
            ceremony: one["ceremony"].as_str()?.parse().ok()?,
            why: Why::Reset,
            role: text(&one["role"])?,
            mapping: text(&one["mapping"])?,
            issuer: text(&principal["issuer"])?,
            principal: text(&principal["id"])?,
            name: text(&principal["name"])?,
            claimed_by: serde_json::from_value(one["claimed_by"].clone()).unwrap_or_default(),
            at: Some(at),
        })
    })
}
