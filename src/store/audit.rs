//! Whether a store tells one story: the chain holds, and every lease is what its records say.

use super::{AuditedLease, Down, Incarnation, Kept, LeaseState, Reader, Stored};
use claimbound_core::evidence::{
    Body, LeaseId, SuspensionId,
    audit::{Bad, Row, Verifier, Wrong},
    uuid,
};
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// What an audit found.
#[derive(Debug)]
pub struct Report {
    /// The chain as far as it holds.
    pub chain: Verifier,
    /// When the last record that holds was made.
    pub last_at: Option<i64>,
    /// Leases compared with their records.
    pub leases: u64,
    /// The first thing that is wrong.
    pub finding: Option<Finding>,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    #[error(transparent)]
    Record(#[from] Bad),
    #[error("lease {lease}: {fault}")]
    Lease { lease: LeaseId, fault: LeaseFault },
    #[error(
        "incarnation {}: its records end at sequence {sequence}, where the store says {}: records were cut from its end",
        uuid(.opened.id), .opened.sequence
    )]
    Cut { opened: Incarnation, sequence: u64 },
    #[error("suspension {0} stands, and the records do not say so")]
    SuspensionUnrecorded(SuspensionId),
    #[error("suspension {0} stands by the records, and it is not there")]
    SuspensionMissing(SuspensionId),
    #[error("incarnation {number} is missing: starts are numbered without a gap")]
    Start { number: i64 },
    #[error("the expected head is not in this chain: records were cut from its end, or it is another chain")]
    HeadNotMet,
}

/// How a lease differs from its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseFault {
    #[error("no record grants it")]
    NoRecord,
    #[error("a record grants it, and it is not there")]
    Missing,
    #[error("its role, mapping or expiry is not that of its record")]
    Otherwise,
    #[error("its state is `{}`, and its records do not say so", .0.name())]
    State(LeaseState),
    #[error("the single-use record of its token is gone before its time")]
    TokenLost,
}

/// A lease as the records tell of it: small, as there is one for every lease.
struct Told {
    facts: u64,
    /// The state that the last record named; `None` after the grant alone.
    state: Option<LeaseState>,
    /// Its family was ended; what was alive of it with it.
    family_ended: bool,
}

/// What the records tell so far.
#[derive(Default)]
struct Story {
    leases: HashMap<LeaseId, Told>,
    families: HashMap<LeaseId, Vec<LeaseId>>,
}

/// Walks the store as of one moment and stops at the first thing that is wrong. A chain does not show that its end was
/// cut off: expected heads, kept elsewhere, do. Memory grows with the number of leases.
pub fn audit(reader: &dyn Reader, expected: impl IntoIterator<Item = [u8; 32]>) -> Result<Report, Down> {
    let mut report = Report { chain: Verifier::new(), last_at: None, leases: 0, finding: None };
    let mut expects = false;
    for head in expected {
        report.chain = report.chain.expect(head);
        expects = true;
    }
    let (mut told, mut standing) = (Story::default(), HashSet::new());
    let mut opened = Vec::new();
    reader.snapshot(&mut |kept| {
        report.finding = match kept {
            Kept::Incarnation(start) => {
                report.chain.begins(start.id, start.previous);
                opened.push(start);
                let number = opened.len() as i64;
                (opened.last().map(|start| start.number) != Some(number)).then_some(Finding::Start { number })
            }
            Kept::Record(stored) => check_record(&mut report.chain, &stored, &mut told, &mut standing)
                .map(|at| report.last_at = Some(at))
                .err()
                .map(Finding::Record),
            Kept::Lease(lease) => cut(&report.chain, &mut opened).or_else(|| {
                report.leases += 1;
                check_lease(&lease, told.leases.remove(&lease.id))
                    .err()
                    .map(|fault| Finding::Lease { lease: lease.id, fault })
            }),
            Kept::Suspension(id) => cut(&report.chain, &mut opened)
                .or_else(|| (!standing.remove(&id)).then_some(Finding::SuspensionUnrecorded(id))),
        };
        report.finding.is_none()
    })?;
    if report.finding.is_none() {
        report.finding = cut(&report.chain, &mut opened).or_else(|| match told.leases.into_keys().min() {
            Some(lease) => Some(Finding::Lease { lease, fault: LeaseFault::Missing }),
            None if !standing.is_empty() => standing.into_iter().min().map(Finding::SuspensionMissing),
            None if expects && report.chain.met().is_none() => Some(Finding::HeadNotMet),
            None => None,
        });
    }
    Ok(report)
}

/// An incarnation whose records do not end where the store says; all records have been seen by now. Looks once.
fn cut(chain: &Verifier, opened: &mut Vec<Incarnation>) -> Option<Finding> {
    opened.drain(..).find_map(|opened| {
        let (sequence, head) = chain.end(opened.id).unwrap_or((0, opened.previous));
        ((sequence, head) != (opened.sequence, opened.head)).then_some(Finding::Cut { opened, sequence })
    })
}

/// Checks a record's place and content, notes what it says of a lease, and tells when it was made.
fn check_record(
    chain: &mut Verifier,
    stored: &Stored,
    told: &mut Story,
    standing: &mut HashSet<SuspensionId>,
) -> Result<i64, Bad> {
    let row = Row {
        position: stored.position,
        incarnation: stored.incarnation,
        sequence: stored.sequence,
        link: stored.link,
        leaf: stored.leaf,
        body: &stored.body,
        details: &stored.details,
    };
    let body = chain.check(&row)?;
    follow(&body, told).and_then(|()| stands(&body, standing)).map_err(|story| Bad {
        position: row.position,
        incarnation: row.incarnation,
        sequence: row.sequence,
        wrong: Wrong::Story(story),
    })?;
    Ok(body.at)
}

/// Notes what a record says of a lease, or of a family of them.
fn follow(body: &Body<'_>, told: &mut Story) -> Result<(), String> {
    let state = match body.kind.as_ref() {
        "granted" => {
            let lease = body.lease.ok_or("it grants, and names no lease")?;
            let facts = facts(
                body.role.as_deref().unwrap_or_default(),
                body.mapping.as_deref().unwrap_or_default(),
                body.expires.unwrap_or_default(),
            );
            if let Some(family) = body.family {
                told.families.entry(family).or_default().push(lease);
            }
            return match told.leases.insert(lease, Told { facts, state: None, family_ended: false }) {
                None => Ok(()),
                Some(_) => Err(format!("it grants lease {lease}, which an earlier record granted")),
            };
        }
        "settled" => {
            let name = body.state.as_deref().unwrap_or_default();
            LeaseState::from_name(name).ok_or_else(|| format!("it settles a lease to `{name}`, which is no state"))?
        }
        "ended" => LeaseState::Ended,
        "refused" | "family_ended" => {
            let Some(family) = body.family else { return Ok(()) };
            let leases = told.families.get(&family).into_iter().flatten();
            for lease in leases {
                told.leases.entry(*lease).and_modify(|told| told.family_ended = true);
            }
            let known = told.families.contains_key(&family);
            let fault = || format!("it ends family {family}, of which no earlier record granted a lease");
            return known.then_some(()).ok_or_else(fault);
        }
        _ => return Ok(()),
    };
    let lease = body.lease.ok_or("it is about a lease, and names none")?;
    match told.leases.get_mut(&lease) {
        Some(told) => told.state = Some(state),
        None => return Err(format!("it is about lease {lease}, which no earlier record granted")),
    }
    Ok(())
}

/// Notes what a record says of a suspension.
fn stands(body: &Body<'_>, standing: &mut HashSet<SuspensionId>) -> Result<(), String> {
    let suspends = match body.kind.as_ref() {
        "suspended" => true,
        "resumed" => false,
        _ => return Ok(()),
    };
    let id = body.suspension.ok_or("it is about a suspension, and names none")?;
    let gone = if suspends { body.replaces } else { Some(id) };
    if let Some(gone) = gone.filter(|gone| !standing.remove(gone)) {
        return Err(format!("it ends suspension {gone}, which does not stand by the records before it"));
    }
    if suspends && !standing.insert(id) {
        return Err(format!("suspension {id} stands already by the records before it"));
    }
    Ok(())
}

/// Compares a stored lease with what its records say.
fn check_lease(lease: &AuditedLease, told: Option<Told>) -> Result<(), LeaseFault> {
    let told = told.ok_or(LeaseFault::NoRecord)?;
    if told.facts != facts(&lease.role, &lease.mapping, lease.expires.0) {
        return Err(LeaseFault::Otherwise);
    }
    let said = match told.state {
        Some(state @ (LeaseState::Failed | LeaseState::Ended)) => state == lease.state,
        Some(_) if told.family_ended => lease.state == LeaseState::Ended,
        Some(state) => state == lease.state,
        // A refusal by the backend is told by the answer's own record, which names no lease.
        None => lease.state == LeaseState::Failed || (lease.state == LeaseState::Ended) == told.family_ended,
    };
    if !said {
        return Err(LeaseFault::State(lease.state));
    }
    if lease.token_lost { Err(LeaseFault::TokenLost) } else { Ok(()) }
}

/// What must be equal in a lease and the record that grants it.
fn facts(role: &str, mapping: &str, expires: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (role, mapping, expires).hash(&mut hasher);
    hasher.finish()
}
