//! Records by what they are about, the latest first, a page at a time. A page looks at a bounded number of records: one
//! that found little still says where to go on.

use super::log::{Log, details};
use crate::store::Down;
use claimbound_core::{
    evidence::{Body, LeaseId, Named, unhex},
    mapping::Ask,
    review::recorded::{Told, ask_again},
    time::UnixSeconds,
    workload::Claim,
};
use serde_json::{Value, json};

/// Records on one page.
pub const PAGE_MAX: usize = 500;
/// Records on a page unless another number is asked for.
pub const PAGE: usize = 50;
/// Records that one page looks at.
const LOOKED_AT_MAX: usize = 20_000;
/// Brokers write in the order of their commits, each by its own clock: behind a record that is this much too old none is
/// young enough.
const CLOCKS_APART_SECONDS: i64 = 3600;
/// Records that one read brings.
const READ_ROWS: u32 = 500;

/// What records must be about; everything that is said must hold.
#[derive(Clone, Default, Debug)]
pub struct Wanted {
    /// By name or immutable id.
    pub repository: Option<String>,
    /// `ISSUER:ID`.
    pub principal: Option<String>,
    /// `ISSUER:ID`.
    pub actor: Option<String>,
    /// Asked for or granted.
    pub role: Option<String>,
    /// That granted, or the nearest.
    pub mapping: Option<String>,
    pub lease: Option<LeaseId>,
    /// Who started the run.
    pub initiator: Option<String>,
    /// A person, `SIGN-IN:SUBJECT`: what they claimed or rejected, and what was granted upon it.
    pub approver: Option<String>,
    /// A credential's public handle.
    pub handle: Option<String>,
    /// The kind of record (`granted`, `refused`, …), or a refusal's reason.
    pub outcome: Option<String>,
    /// Seconds since 1970, both included.
    pub from: Option<i64>,
    pub to: Option<i64>,
}

/// Some records, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub records: Vec<Value>,
    /// `None`: that was all.
    pub next: Option<i64>,
}

/// The next page behind a cursor.
///
/// # Errors
/// When the store cannot be read.
pub fn page(log: &Log, wanted: &Wanted, cursor: Option<i64>, limit: usize) -> Result<Page, Down> {
    let mut found = Page { records: Vec::new(), next: cursor };
    let mut looked_at = 0;
    while looked_at < LOOKED_AT_MAX {
        let read = log.reader.before(found.next, READ_ROWS)?;
        if read.is_empty() {
            found.next = None;
            return Ok(found);
        }
        for stored in &read {
            looked_at += 1;
            found.next = Some(stored.position);
            // One that cannot be read is nobody's.
            let Ok(body) = Body::parse(&stored.body) else { continue };
            if wanted.from.is_some_and(|from| body.at < from - CLOCKS_APART_SECONDS) {
                found.next = None;
                return Ok(found);
            }
            if is_about(log, wanted, &body, &stored.details)
                && let Ok(record) = serde_json::from_slice::<Value>(&stored.body)
            {
                found.records.push(json!({ "position": stored.position, "record": record }));
            }
            if found.records.len() == limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn is_about(log: &Log, wanted: &Wanted, body: &Body<'_>, details: &[u8]) -> bool {
    let is = |wanted: &Option<String>, has: Option<&str>| wanted.as_deref().is_none_or(|wanted| has == Some(wanted));
    let principal = body.principal.as_ref();
    wanted.from.is_none_or(|from| from <= body.at)
        && wanted.to.is_none_or(|to| body.at <= to)
        && is(&wanted.role, body.role.as_deref())
        && is(&wanted.mapping, body.mapping.as_deref())
        && wanted.lease.is_none_or(|wanted| [body.lease, body.parent].contains(&Some(wanted)))
        && is(&wanted.handle, body.handle.as_deref())
        && wanted.outcome.as_deref().is_none_or(|outcome| {
            body.kind == outcome || body.reason.as_deref() == Some(outcome)
        })
        && wanted.repository.as_deref().is_none_or(|own| {
            principal.is_some_and(|one| one.id == own || one.name.eq_ignore_ascii_case(own))
        })
        && is(&wanted.principal, named(principal).as_deref())
        && is(&wanted.actor, named(body.actor.as_ref()).as_deref())
        // The dearest last: one reads the details, the other asks a folder for what a claim means.
        && wanted.approver.as_deref().is_none_or(|approver| is_by(approver, body, details))
        && (wanted.initiator.is_none() || is(&wanted.initiator, initiator(log, body, details).as_deref()))
}

/// `ISSUER:ID`.
fn named(party: Option<&Named<'_>>) -> Option<String> {
    party.map(|party| format!("{}:{}", party.issuer, party.id))
}

/// Whether it says what this person did: by its details, as long as they are kept.
fn is_by(approver: &str, body: &Body<'_>, stored: &[u8]) -> bool {
    let Ok(details) = details(body, stored) else { return false };
    let is = |person: &Value| {
        let text = |member: &str| person[member].as_str().unwrap_or_default();
        !person.is_null() && format!("{}:{}", text("sign_in"), text("subject")) == approver
    };
    let approvals = details["approvals"].as_array().into_iter().flatten();
    is(&details["person"]) || approvals.map(|approval| &approval["by"]).any(is)
}

/// Who started the run, by the profile of the folder that judged.
pub(super) fn initiator(log: &Log, body: &Body<'_>, stored: &[u8]) -> Option<String> {
    let details = details(body, stored).ok()?;
    let folder = log.folder(&unhex(body.mappings.as_deref()?)?).ok()?;
    let at = UnixSeconds(body.at);
    match ask_again(&folder.set, &folder.profiles, &details, &Ask::default(), at).ok()? {
        Told::Judged { case, .. } => case.principal.text(Claim::Initiator).map(str::to_owned),
        Told::Unheard(_) => None,
    }
}
