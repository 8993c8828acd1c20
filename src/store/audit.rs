//! Whether a store tells one story: the chain holds, the tree over it is the one that was signed, and every lease is what
//! its records say.

mod checkpoints;

pub use checkpoints::CheckpointFault;

use super::{AuditedLease, Down, Incarnation, Kept, LeaseState, Reader, Stored};
use checkpoints::Growing;
use claimbound_core::evidence::{
    Body, Checkpoint, LeaseId, SuspensionId, VerifierKey,
    audit::{Bad, Row, Verifier, Wrong},
    uuid,
};
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem,
    sync::mpsc,
    thread,
};

/// What was kept elsewhere, for the store to be compared with.
#[derive(Clone, Default, Debug)]
pub struct Expected {
    pub heads: Vec<[u8; 32]>,
    /// Signed checkpoints, with a name to tell each by.
    pub notes: Vec<(String, String)>,
    /// One of them must have signed every checkpoint, the store's own included. Without any, signatures are not checked.
    pub keys: Vec<VerifierKey>,
}

/// What an audit found.
#[derive(Debug)]
pub struct Report {
    /// The chain as far as it holds.
    pub chain: Verifier,
    /// When the last record that holds was made.
    pub last_at: Option<i64>,
    /// Leases compared with their records.
    pub leases: u64,
    /// The largest checkpoint that holds, and how many records stand behind it, which nothing signed covers.
    pub checkpoint: Option<(Checkpoint, u64)>,
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
    #[error("{name}: {fault}")]
    Checkpoint { name: String, fault: CheckpointFault },
    #[error("the kept tree says otherwise: one from record {from} to record {to} was changed, added, removed or moved")]
    Tree { from: u64, to: u64 },
    #[error("no record tells of the adoption that began epoch {number}")]
    Epoch { number: u64 },
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
    /// Its family, or a lease that it came of, was ended; what was alive with that.
    ended_with: bool,
}

/// What the records tell so far.
#[derive(Default)]
struct Story {
    leases: HashMap<LeaseId, Told>,
    families: HashMap<LeaseId, Vec<LeaseId>>,
    /// What came of a lease's token.
    children: HashMap<LeaseId, Vec<LeaseId>>,
}

impl Story {
    /// All that came of these leases ended with them.
    fn end_children(&mut self, mut of: Vec<LeaseId>) {
        while let Some(parent) = of.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                self.leases.entry(*child).and_modify(|told| told.ended_with = true);
                of.push(*child);
            }
        }
    }
}

/// The name of the checkpoints that the store itself keeps.
const OWN: &str = "the store's checkpoint";

/// [`audit_against`] heads alone.
///
/// # Errors
/// The store cannot be read.
pub fn audit(reader: &dyn Reader, heads: impl IntoIterator<Item = [u8; 32]>) -> Result<Report, Down> {
    audit_against(reader, &Expected { heads: heads.into_iter().collect(), ..Expected::default() })
}

/// Walks the store as of one moment and stops at the first thing that is wrong. A chain does not show that its end was
/// cut off: heads and checkpoints, kept elsewhere, do. Memory grows with the number of leases.
///
/// # Errors
/// The store cannot be read.
pub fn audit_against(reader: &dyn Reader, expected: &Expected) -> Result<Report, Down> {
    let mut chain = Verifier::new();
    for head in &expected.heads {
        chain = chain.expect(*head);
    }
    let mut report = Report { chain, last_at: None, leases: 0, checkpoint: None, finding: None };
    let mut walk = Walk {
        expected,
        told: Story::default(),
        standing: HashSet::new(),
        opened: Vec::new(),
        growing: Growing::default(),
        beyond: None,
    };
    let given = expected.notes.iter().try_for_each(|(name, note)| walk.growing.note(name, note, expected));
    report.finding = given.err();
    if report.finding.is_none() {
        read_ahead(reader, &mut |kept| {
            report.finding = walk.step(&mut report, kept).err();
            report.finding.is_none()
        })?;
    }
    if report.finding.is_none() {
        report.finding = walk.end(&report).err();
    }
    report.checkpoint = walk.growing.held().map(|(held, behind)| (held.clone(), behind));
    Ok(report)
}

/// Rows that are handed from who reads to who checks at a time, and how many such hands may wait.
const HAND_ROWS: usize = 256;
const HANDS_MAX: usize = 8;

/// A snapshot that is read on one thread and looked at on another: hashing takes as long as reading.
fn read_ahead(reader: &dyn Reader, each: &mut dyn FnMut(Kept) -> bool) -> Result<(), Down> {
    let (hand, hands) = mpsc::sync_channel::<Vec<Kept>>(HANDS_MAX);
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut rows = Vec::with_capacity(HAND_ROWS);
            let read = reader.snapshot(&mut |kept| {
                rows.push(kept);
                // An error means that nobody wants more.
                rows.len() < HAND_ROWS || hand.send(mem::replace(&mut rows, Vec::with_capacity(HAND_ROWS))).is_ok()
            });
            let _ = hand.send(rows);
            read
        });
        for kept in hands.iter().flatten() {
            if !each(kept) {
                break;
            }
        }
        drop(hands);
        reading.join().unwrap_or_else(|_| Err(Down::new("reading the store panicked")))
    })
}

/// What is remembered along the way.
struct Walk<'e> {
    expected: &'e Expected,
    told: Story,
    /// Suspensions that stand by the records.
    standing: HashSet<SuspensionId>,
    opened: Vec<Incarnation>,
    growing: Growing,
    /// The latest lease that a record is about and none grants, when it began, and what is wrong if its grant was not
    /// among those that were emptied.
    beyond: Option<(i64, Bad)>,
}

impl Walk<'_> {
    fn step(&mut self, report: &mut Report, kept: Kept) -> Result<(), Finding> {
        match kept {
            Kept::Incarnation(start) => {
                report.chain.begins(start.id, start.previous);
                let number = self.opened.len() as i64 + 1;
                let gap = start.number != number;
                self.opened.push(start);
                if gap { Err(Finding::Start { number }) } else { Ok(()) }
            }
            Kept::Epoch(epoch) => {
                self.growing.epoch(epoch);
                Ok(())
            }
            Kept::Checkpoint(note) => self.growing.note(OWN, &note, self.expected),
            Kept::Node(node) => {
                self.growing.node(node);
                Ok(())
            }
            Kept::Record(stored) => {
                self.growing.begin()?;
                let at = check_record(&mut report.chain, &stored, self)?;
                report.last_at = at.or(report.last_at);
                self.growing.append(stored.leaf)
            }
            Kept::Lease(lease) => {
                self.records_end(&report.chain)?;
                report.leases += 1;
                let told = self.told.leases.remove(&lease.id);
                check_lease(&lease, told).map_err(|fault| Finding::Lease { lease: lease.id, fault })
            }
            Kept::Suspension(id) => {
                self.records_end(&report.chain)?;
                if self.standing.remove(&id) { Ok(()) } else { Err(Finding::SuspensionUnrecorded(id)) }
            }
        }
    }

    fn end(&mut self, report: &Report) -> Result<(), Finding> {
        self.records_end(&report.chain)?;
        if let Some(lease) = self.told.leases.keys().min() {
            return Err(Finding::Lease { lease: *lease, fault: LeaseFault::Missing });
        }
        if let Some(suspension) = self.standing.iter().min() {
            return Err(Finding::SuspensionMissing(*suspension));
        }
        self.growing.end()?;
        let met = self.expected.heads.is_empty() || report.chain.met().is_some();
        if met { Ok(()) } else { Err(Finding::HeadNotMet) }
    }
}

impl Walk<'_> {
    /// When the last record has been seen: what cannot be told before.
    fn records_end(&mut self, chain: &Verifier) -> Result<(), Finding> {
        cut(chain, &mut self.opened)?;
        chain.all_seen()?;
        match self.beyond.take() {
            Some((at, bad)) if chain.pruned_before().is_none_or(|before| before <= at) => Err(bad.into()),
            _ => Ok(()),
        }
    }
}

/// An incarnation whose records do not end where the store says; all records have been seen by now. Looks once.
fn cut(chain: &Verifier, opened: &mut Vec<Incarnation>) -> Result<(), Finding> {
    for opened in opened.drain(..) {
        let (sequence, head) = chain.end(opened.id).unwrap_or((0, opened.previous));
        if (sequence, head) != (opened.sequence, opened.head) {
            return Err(Finding::Cut { opened, sequence });
        }
    }
    Ok(())
}

/// Checks a record's place and content, notes what it says of a lease, and tells when it was made.
fn check_record(chain: &mut Verifier, stored: &Stored, walk: &mut Walk<'_>) -> Result<Option<i64>, Bad> {
    let row = Row {
        position: stored.position,
        incarnation: stored.incarnation,
        sequence: stored.sequence,
        link: stored.link,
        leaf: stored.leaf,
        body: &stored.body,
        details: &stored.details,
    };
    let Some(body) = chain.check(&row)? else { return Ok(None) };
    if let ("adopted", Some(epoch)) = (body.kind.as_ref(), body.epoch) {
        walk.growing.adoption(epoch, body.store.as_deref());
    }
    let bad = |story| Bad {
        position: row.position,
        incarnation: row.incarnation,
        sequence: row.sequence,
        wrong: Wrong::Story(story),
    };
    if let Err(Strange { lease, story }) = follow(&body, &mut walk.told) {
        match lease.map(LeaseId::seconds) {
            // Its grant may be among those that were emptied: judged when all records have been seen.
            Some(at) if chain.emptied() > 0 => {
                if walk.beyond.as_ref().is_none_or(|(latest, _)| *latest < at) {
                    walk.beyond = Some((at, bad(story)));
                }
            }
            _ => return Err(bad(story)),
        }
    }
    stands(&body, &mut walk.standing).map_err(bad)?;
    Ok(Some(body.at))
}

/// What a record says that does not follow from those before it; with the lease that none of them granted, if it is that.
struct Strange {
    lease: Option<LeaseId>,
    story: String,
}

impl From<String> for Strange {
    fn from(story: String) -> Self {
        Self { lease: None, story }
    }
}
impl From<&str> for Strange {
    fn from(story: &str) -> Self {
        story.to_owned().into()
    }
}

/// Notes what a record says of a lease, or of a family of them.
fn follow(body: &Body<'_>, told: &mut Story) -> Result<(), Strange> {
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
            if let Some(parent) = body.parent {
                told.children.entry(parent).or_default().push(lease);
            }
            return match told.leases.insert(lease, Told { facts, state: None, ended_with: false }) {
                None => Ok(()),
                Some(_) => Err(format!("it grants lease {lease}, which an earlier record granted").into()),
            };
        }
        "settled" => {
            let name = body.state.as_deref().unwrap_or_default();
            LeaseState::from_name(name).ok_or_else(|| format!("it settles a lease to `{name}`, which is no state"))?
        }
        "ended" => LeaseState::Ended,
        "refused" | "family_ended" => {
            let Some(family) = body.family else { return Ok(()) };
            let leases = told.families.get(&family).cloned().unwrap_or_default();
            for lease in &leases {
                told.leases.entry(*lease).and_modify(|told| told.ended_with = true);
            }
            told.end_children(leases);
            let known = told.families.contains_key(&family);
            let story = || format!("it ends family {family}, of which no earlier record granted a lease");
            return known.then_some(()).ok_or_else(|| Strange { lease: Some(family), story: story() });
        }
        _ => return Ok(()),
    };
    let lease = body.lease.ok_or("it is about a lease, and names none")?;
    if state == LeaseState::Ended {
        told.end_children(vec![lease]);
    }
    match told.leases.get_mut(&lease) {
        Some(told) => told.state = Some(state),
        None => {
            let story = format!("it is about lease {lease}, which no earlier record granted");
            return Err(Strange { lease: Some(lease), story });
        }
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
        Some(_) if told.ended_with => lease.state == LeaseState::Ended,
        Some(state) => state == lease.state,
        // A refusal by the backend is told by the answer's own record, which names no lease.
        None => lease.state == LeaseState::Failed || (lease.state == LeaseState::Ended) == told.ended_with,
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
