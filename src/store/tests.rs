//! What every engine promises ([`contract`], [`model`]), what the writer adds, and what is each database's own.

mod contract;
mod model;
mod postgres;
mod sqlite;
mod writer;

use super::*;
use claimbound_core::{
    evidence::{Chain, DecisionId, Details, Eased, Entry, LeaseId, Party, Record, SuspensionId, What},
    reason::Reason,
    time::UnixSeconds,
};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
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

/// A store that holds these already.
pub(crate) fn written(path: &std::path::Path, commits: &[Commit]) {
    let (mut engine, mut chain) = crate::store::sqlite::Sqlite::open(path, NOW).unwrap();
    let outcomes = engine.apply(commits, &mut chain).unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Durable { .. })), "{outcomes:?}");
}

/// A store that answers nothing until the sender is dropped, not even what it has written; who asks waits for a second.
pub(crate) fn stalled(path: &std::path::Path) -> (Writer, mpsc::Sender<()>) {
    struct Stalled(crate::store::sqlite::Sqlite, mpsc::Receiver<()>);
    impl Engine for Stalled {
        fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down> {
            let outcomes = self.0.apply(batch, chain);
            let _ = self.1.recv();
            outcomes
        }
    }
    let (engine, chain) = crate::store::sqlite::Sqlite::open(path, NOW).unwrap();
    let (hand, told) = mpsc::channel();
    (Writer::with_limits(Box::new(Stalled(engine, told)), chain, 10, Duration::from_secs(1)), hand)
}

fn token(number: u8) -> [u8; 32] {
    [number; 32]
}

pub(crate) fn spend(number: u8, leaves: LeaseState) -> Spend {
    Spend {
        token: SpentKey::for_tests(token(number), KEPT),
        issued: NOW,
        request: [1; 32],
        leaves,
        may_retry: false,
        uses: 1,
    }
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

pub(crate) fn lease(number: u128, of: u8, state: LeaseState) -> Lease {
    Lease {
        id: LeaseId(number),
        role: "deploy".into(),
        mapping: "payments/deploy".into(),
        team: "payments".into(),
        principal_issuer: "github".into(),
        principal_id: "42".into(),
        principal_name: "acme/payments".into(),
        repository_id: Some("42".into()),
        owner_id: Some("4".into()),
        run_id: Some("9".into()),
        person: Some([5; 32]),
        acting: None,
        acting_person: None,
        parent: None,
        handoff: false,
        opened: NOW,
        expires: NOW.plus(900),
        handle: None,
        state,
        token: Some(token(of)),
        family: None,
        status: None,
    }
}

/// Token `of` opens lease `number`.
fn grant(number: u128, of: Spend) -> Commit {
    let opened = lease(number, of.token.key()[0], of.leaves);
    let what = granted(&opened);
    Commit {
        guards: vec![Guard::Unspent(of)],
        entry: Some(entry(number, what)),
        changes: vec![Change::OpenLease(Box::new(opened.clone()))],
    }
}

fn granted(opened: &Lease) -> What<'_> {
    What::Granted {
        mapping: &opened.mapping,
        role: &opened.role,
        lease: opened.id,
        parent: opened.parent,
        how: None,
        handle: None,
        expires: opened.expires,
        family: None,
        ceremony: None,
        eased: Eased::default(),
    }
}

/// Lease `number`, by the token of lease `parent`.
fn child(number: u128, of: Spend, parent: u128) -> Commit {
    let mut commit = grant(number, of);
    let Some(Change::OpenLease(lease)) = commit.changes.first_mut() else { unreachable!("a grant opens a lease") };
    lease.parent = Some(LeaseId(parent));
    let lease = lease.clone();
    commit.guards.push(Guard::Parent { lease: LeaseId(parent), at: NOW });
    commit.entry = Some(entry(number, granted(&lease)));
    commit
}

fn refuse(number: u128, guards: Vec<Guard>, changes: Vec<Change>) -> Commit {
    let what = What::Refused { reason: Reason::NoMapping, role: None, mapping: None };
    Commit { guards, changes, entry: Some(entry(number, what)) }
}

/// One use of counter `of`, of at most two in an hour.
fn use_at(of: u8, at: UnixSeconds) -> Use {
    Use { counter: [of; 32], most: 2, at, seconds: 3_600 }
}

fn settle(number: u128, state: LeaseState) -> Commit {
    settle_from(number, LeaseState::Issuing, state)
}

fn settle_from(number: u128, from: LeaseState, state: LeaseState) -> Commit {
    let settled = Settled { lease: LeaseId(number), from, state, handle: Some("handle".into()) };
    let what = What::Settled { lease: settled.lease, state: state.name(), handle: Some("handle") };
    Commit { guards: vec![], entry: Some(entry(number, what)), changes: vec![Change::Settle(settled)] }
}

fn end(number: u128) -> Commit {
    end_with(number, 0)
}

/// Ends a lease with so many that came of it.
fn end_with(number: u128, children: u32) -> Commit {
    let lease = LeaseId(number);
    Commit {
        guards: vec![],
        entry: Some(entry(number, What::Ended { lease, how: "revoked", effect: "at_expiry", children })),
        changes: vec![Change::End { lease, children }],
    }
}

fn adopt(number: u64, began: UnixSeconds) -> Commit {
    let epoch = Epoch { number, id: u128::from(number) << 64, began, instead_of: None };
    let what = What::Adopted { epoch: number, store: epoch.id, how: "accepted_loss", lost: None };
    Commit { guards: vec![], entry: Some(entry(0, what)), changes: vec![Change::Adopt(epoch)] }
}

fn subject(of: u8) -> Subject {
    Subject::new(Scope::Repository, "github", of.to_string())
}

/// A case of subject `of`, at this time.
fn not_suspended(of: &[u8], at: UnixSeconds) -> Guard {
    Guard::NotSuspended { subjects: of.iter().map(|of| subject(*of).key()).collect(), at }
}

/// Suspension `number` of subject `of`.
fn suspend(number: u128, of: u8, until: Option<UnixSeconds>, replaces: Option<u128>) -> Commit {
    let (id, replaces) = (SuspensionId(number), replaces.map(SuspensionId));
    let (operator, reason) = ("okta:alice".to_owned(), "stolen".to_owned());
    let until_text = until.map(|until| until.0);
    let suspension = Suspension { id, subject: subject(of), since: NOW.0, until: until_text, operator, reason };
    let name = of.to_string();
    let (scope, issuer) = ("repository", Some("github"));
    let what = What::Suspended { suspension: id, scope, issuer, subject: Some(&name), until, replaces };
    Commit { guards: vec![], entry: Some(entry(number, what)), changes: vec![Change::Suspend { suspension, replaces }] }
}

fn resume(number: u128, of: u8) -> Commit {
    let suspension = SuspensionId(number);
    Commit {
        guards: vec![],
        entry: Some(entry(number, What::Resumed { suspension })),
        changes: vec![Change::Resume { subject: subject(of).key(), suspension }],
    }
}

/// Family `number`, whose first refresh token is `token`; its session is 900 seconds.
fn family_of(number: u128, first: u8) -> Family {
    Family {
        id: LeaseId(number),
        secret: [100 + number as u8; 32],
        token: token(number as u8),
        role: "deploy".into(),
        opened: NOW,
        expires: NOW.plus(900),
        turns: Turns::first(token(first), NOW),
    }
}

fn family(number: u128) -> Family {
    family_of(number, 1)
}

/// Lease `number` begins a family, by a token of its number.
pub(crate) fn begin(number: u128, of: u8) -> Commit {
    in_family(grant(number, spend(of, LeaseState::Issued)), number, Some(Change::OpenFamily(family(number))))
}

fn in_family(mut commit: Commit, of: u128, change: Option<Change>) -> Commit {
    let id = LeaseId(of);
    let Some(Change::OpenLease(lease)) = commit.changes.first_mut() else { unreachable!("a grant opens a lease") };
    lease.family = Some(id);
    let What::Granted { mapping, role, lease: opened, parent, how, handle, expires, eased, .. } = granted(lease) else {
        unreachable!("a grant")
    };
    let family = Some(id);
    let what =
        What::Granted { mapping, role, lease: opened, parent, how, handle, expires, family, ceremony: None, eased };
    commit.entry = Some(entry(opened.0, what));
    commit.changes.extend(change);
    commit
}

pub(crate) fn turn(of: u128, (is, next): (u8, u8), after: i64) -> Turn {
    Turn { family: LeaseId(of), token: token(is), next: token(next), at: NOW.plus(after) }
}

/// A renewal: a refresh token's turn opens lease `number`.
pub(crate) fn renew(number: u128, of: u128, tokens: (u8, u8), after: i64) -> Commit {
    let mut commit = in_family(grant(number, spend(0, LeaseState::Issuing)), of, None);
    commit.guards = vec![Guard::Refresh(turn(of, tokens, after))];
    if let Some(Change::OpenLease(lease)) = commit.changes.first_mut() {
        lease.token = None;
    }
    commit
}

fn end_family(of: u128) -> Commit {
    let family = LeaseId(of);
    let what = What::FamilyEnded { family, how: "revoked", effect: "at_expiry" };
    Commit { guards: vec![], entry: Some(entry(of, what)), changes: vec![Change::EndFamily(family)] }
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
