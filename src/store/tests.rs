//! What every engine promises ([`contract`], [`model`]), what the writer adds, and what is SQLite's own.

mod contract;
mod model;
mod sqlite;
mod writer;

use super::*;
use claimbound_core::{
    evidence::{Chain, DecisionId, Details, Entry, LeaseId, Party, Record, What},
    reason::Reason,
    time::UnixSeconds,
};
use std::sync::Arc;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
/// Until when the tokens of these tests are kept.
const KEPT: UnixSeconds = UnixSeconds(1_800_000_600);

/// Somewhere to keep a store: opened again, it is the same one.
pub(super) trait Place {
    fn engine(&self) -> Result<(Box<dyn Engine>, Chain), Down>;
    fn reader(&self) -> Arc<dyn Reader>;
}

/// A hand in a database, beside whoever holds it.
pub(crate) fn edit(path: &std::path::Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn token(number: u8) -> [u8; 32] {
    [number; 32]
}

fn spend(number: u8, leaves: LeaseState) -> Spend {
    Spend { token: SpentKey::for_tests(token(number), KEPT), request: [1; 32], leaves, may_retry: false }
}

fn decision(number: u128) -> DecisionId {
    DecisionId(0x0193_0000_0000_7000_8000_0000_0000_0000 | number)
}

fn entry(number: u128, what: What<'_>) -> Entry {
    let mut details = Details::default();
    details.json.insert("initiator".into(), format!("person {number}").into());
    Record {
        decision: Some(decision(number)),
        at: NOW,
        what,
        principal: Some(Party { issuer: "github", id: "42", name: "acme/payments" }),
        actor: None,
        mappings_version: Some([9; 32]),
    }
    .seal(&details, [number as u8; 32])
}

fn lease(number: u128, of: u8, state: LeaseState) -> Lease {
    Lease {
        id: LeaseId(number),
        role: "deploy".into(),
        mapping: "payments/deploy".into(),
        team: "payments".into(),
        principal_issuer: "github".into(),
        principal_id: "42".into(),
        opened: NOW,
        expires: NOW.plus(900),
        handle: None,
        state,
        possession: None,
        token: Some(token(of)),
    }
}

/// Token `of` opens lease `number`.
fn grant(number: u128, of: Spend) -> Commit {
    let opened = lease(number, of.token.key()[0], of.leaves);
    let what = What::Granted {
        mapping: &opened.mapping,
        role: &opened.role,
        lease: opened.id,
        handle: None,
        expires: opened.expires,
    };
    Commit {
        guards: vec![Guard::Unspent(of)],
        entry: entry(number, what),
        changes: vec![Change::OpenLease(opened.clone())],
    }
}

fn refuse(number: u128, guards: Vec<Guard>, changes: Vec<Change>) -> Commit {
    let what = What::Refused { reason: Reason::NoMapping, role: None, mapping: None };
    Commit { guards, changes, entry: entry(number, what) }
}

fn settle(number: u128, state: LeaseState) -> Commit {
    let settled = Settled { lease: LeaseId(number), state, handle: Some("handle".into()), possession: Some([3; 32]) };
    let what = What::Settled { lease: settled.lease, state: state.name(), handle: Some("handle") };
    Commit { guards: vec![], entry: entry(number, what), changes: vec![Change::Settle(settled)] }
}

fn end(number: u128) -> Commit {
    let lease = LeaseId(number);
    Commit {
        guards: vec![],
        entry: entry(number, What::Ended { lease, how: "revoked", effect: "at_expiry" }),
        changes: vec![Change::End(lease)],
    }
}

fn durable(sequence: u64) -> Outcome {
    Outcome::Durable { sequence }
}

/// The audit holds and saw so many records.
#[track_caller]
fn verified(place: &dyn Place, records: u64) -> Report {
    let report = audit(place.reader().as_ref(), None).unwrap();
    assert!(report.finding.is_none(), "{}", report.finding.unwrap());
    assert_eq!(report.chain.records(), records);
    report
}
