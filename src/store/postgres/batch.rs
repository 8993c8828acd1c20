//! A batch judged in memory. What it may touch has been read and locked before; what comes out is what to write. So a
//! batch costs the same few statements whatever its size, and a commit that loses undoes itself without a savepoint.

use super::ceremonies::Ceremonies;
use crate::store::{
    Blocked, Change, Commit, Denial, Down, Epoch, Family, Guard, Lease, LeaseState, Note, Session, Settled, Spend,
    Suspension, Turn, Use,
};
use claimbound_core::{
    evidence::{LeaseId, SuspensionId},
    time::UnixSeconds,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

/// Rows by their key: as they were read, then as the batch leaves them.
pub(super) struct Table<K, V> {
    rows: HashMap<K, V>,
    undo: Vec<(K, Option<V>)>,
    changed: BTreeSet<K>,
}

impl<K: Copy + Ord + Hash, V> Table<K, V> {
    /// Takes a row over as it was read.
    pub(super) fn read(&mut self, key: K, row: V) {
        self.rows.insert(key, row);
    }
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }
    pub(super) fn put(&mut self, key: K, row: V) {
        let before = self.rows.insert(key, row);
        self.undo.push((key, before));
    }
    pub(super) fn keys(&self, wanted: impl Fn(&V) -> bool) -> Vec<K> {
        self.rows.iter().filter(|(_, row)| wanted(row)).map(|(key, _)| *key).collect()
    }
    pub(super) fn end(&mut self, keep: bool) {
        for (key, before) in self.undo.drain(..).rev() {
            match before {
                _ if keep => drop(self.changed.insert(key)),
                Some(before) => drop(self.rows.insert(key, before)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }
    /// What to write, in key order.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&K, &V)> {
        self.changed.iter().filter_map(|key| self.rows.get_key_value(key))
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: HashMap::new(), undo: Vec::new(), changed: BTreeSet::new() }
    }
}

/// A token's row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) request: [u8; 32],
    pub(super) state: LeaseState,
    pub(super) attempts: i64,
}

/// A counter's row.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    pub(super) until: i64,
    pub(super) used: i64,
}

/// A lease's row, as far as it changes.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) state: LeaseState,
    pub(super) token: Option<[u8; 32]>,
    pub(super) handle: Option<String>,
    pub(super) possession: Option<[u8; 32]>,
    pub(super) family: Option<LeaseId>,
    /// The lease whose token was exchanged for this one.
    pub(super) parent: Option<LeaseId>,
    pub(super) expires: UnixSeconds,
    /// Opened by this batch, with the time until which its token's row is kept.
    pub(super) opened: Option<(Lease, Option<i64>)>,
}

/// A subject's row; `None` where it is suspended no more.
pub(super) type Standing = Option<Suspended>;

/// What suspends a subject.
#[derive(Clone)]
pub(super) struct Suspended {
    pub(super) id: SuspensionId,
    pub(super) until: Option<i64>,
    /// The whole row, of one that this batch writes.
    pub(super) written: Option<Suspension>,
}

/// A family's row.
#[derive(Clone)]
pub(super) struct Kin {
    pub(super) family: Family,
    /// By this batch.
    pub(super) opened: bool,
}

/// Everything that a batch may touch.
pub(super) struct Held<'b> {
    pub(super) spent: Table<[u8; 32], Spent>,
    /// Tokens that nobody had used: their rows were inserted to reserve them. Others without a row were swept just now.
    pub(super) fresh: HashSet<[u8; 32]>,
    /// Tokens to be kept until before this time may have lost their record.
    pub(super) forgotten: UnixSeconds,
    /// Tokens issued until then may have lost theirs, too.
    pub(super) adopted: UnixSeconds,
    pub(super) uses: Table<[u8; 32], Counter>,
    pub(super) families: Table<u128, Kin>,
    pub(super) leases: Table<u128, Row>,
    pub(super) suspensions: Table<[u8; 32], Standing>,
    pub(super) fixed: Table<&'b str, String>,
    pub(super) ceremonies: Ceremonies,
    pub(super) denials: Vec<&'b Denial>,
    pub(super) notes: Vec<&'b Note>,
    pub(super) folders: Vec<(&'b [u8; 32], &'b [u8])>,
    pub(super) epochs: Vec<&'b Epoch>,
    /// Inserted, then removed.
    pub(super) opened_sessions: Vec<&'b Session>,
    pub(super) ended_sessions: Vec<&'b [u8; 32]>,
    /// Status lists, and until when they are kept.
    pub(super) lists: Vec<(u128, i64)>,
}

impl<'b> Held<'b> {
    pub(super) fn new(forgotten: UnixSeconds, adopted: UnixSeconds) -> Self {
        Self {
            forgotten,
            adopted,
            spent: Table::default(),
            fresh: HashSet::new(),
            uses: Table::default(),
            families: Table::default(),
            leases: Table::default(),
            suspensions: Table::default(),
            fixed: Table::default(),
            ceremonies: Ceremonies::default(),
            denials: Vec::new(),
            notes: Vec::new(),
            folders: Vec::new(),
            epochs: Vec::new(),
            opened_sessions: Vec::new(),
            ended_sessions: Vec::new(),
            lists: Vec::new(),
        }
    }

    /// One commit: all of it behind its guards, or nothing.
    pub(super) fn judge(&mut self, commit: &'b Commit) -> Result<Option<Blocked>, Down> {
        let (folders, denials, lists) = (self.folders.len(), self.denials.len(), self.lists.len());
        let (sessions, epochs) = ((self.opened_sessions.len(), self.ended_sessions.len()), self.epochs.len());
        let (mark, notes) = (self.ceremonies.mark(), self.notes.len());
        let verdict = self.attempt(commit)?;
        let keep = verdict.is_none();
        self.spent.end(keep);
        self.uses.end(keep);
        self.families.end(keep);
        self.leases.end(keep);
        self.suspensions.end(keep);
        self.fixed.end(keep);
        self.ceremonies.end(keep, mark);
        if !keep {
            self.folders.truncate(folders);
            self.opened_sessions.truncate(sessions.0);
            self.ended_sessions.truncate(sessions.1);
            self.denials.truncate(denials);
            self.notes.truncate(notes);
            self.lists.truncate(lists);
            self.epochs.truncate(epochs);
        }
        for epoch in &self.epochs[epochs..] {
            self.adopted = self.adopted.max(epoch.began);
        }
        Ok(verdict)
    }

    fn attempt(&mut self, commit: &'b Commit) -> Result<Option<Blocked>, Down> {
        for guard in &commit.guards {
            let blocked = match guard {
                Guard::Unspent(spend) => self.spend(spend),
                Guard::LeaseAlive(lease) => (!self.alive(*lease)).then_some(Blocked::LeaseEnded),
                Guard::Parent { lease, at } => (!self.is_parent(*lease, *at)).then_some(Blocked::ParentEnded),
                Guard::Within(taken) => self.within(taken),
                Guard::NotSuspended { subjects, at } => self.suspended(subjects, *at),
                Guard::Refresh(turn) => self.refresh(turn),
                Guard::Ceremony(moved) => self.ceremonies.go(moved),
                Guard::Standing { key, rule, at } => self.ceremonies.stands(key, rule, *at),
                Guard::Lapsed { key, at } => self.ceremonies.is_over(key, *at),
            };
            if blocked.is_some() {
                return Ok(blocked);
            }
        }
        for change in &commit.changes {
            let blocked = match change {
                Change::OpenLease(lease) => {
                    self.open_lease(lease, &commit.guards)?;
                    None
                }
                Change::Settle(settled) => self.settle(settled),
                Change::End { lease, children } => self.end(*lease, *children),
                Change::Hold { lease, possession } => self.hold(*lease, possession),
                Change::OpenFamily(family) => {
                    let kin = Kin { family: family.clone(), opened: true };
                    self.families.put(family.id.0, kin);
                    None
                }
                Change::GiveTurnBack(turn) => {
                    if let Some(kin) = self.families.get(&turn.family.0) {
                        let mut kin = kin.clone();
                        kin.family.turns = kin.family.turns.give_back(turn);
                        self.families.put(turn.family.0, kin);
                    }
                    None
                }
                Change::EndFamily(family) => self.end_family(*family),
                Change::OpenCeremony(ceremony) => self.ceremonies.open(ceremony),
                Change::Wait(job) => self.ceremonies.wait(job),
                Change::Leave(request) => self.ceremonies.leave(request),
                Change::GiveClaimBack(moved) => {
                    // One that somebody moved meanwhile stays as it is.
                    let _ = self.ceremonies.go(moved);
                    None
                }
                Change::Stand(standing) => {
                    self.ceremonies.stand(standing);
                    None
                }
                Change::ResetClaims(keys) => {
                    self.ceremonies.reset(keys);
                    None
                }
                Change::CarryClaims { keys, from, to } => {
                    self.ceremonies.carry(keys, [from, to]);
                    None
                }
                Change::KeepList { list, until } => {
                    self.lists.push((*list, until.0));
                    None
                }
                Change::GiveBack(taken) => {
                    self.give_back(taken);
                    None
                }
                Change::KeepFolder { version, archive } => {
                    self.folders.push((version, archive));
                    None
                }
                Change::Adopt(epoch) => {
                    // Those that this batch does not hold end when it is written.
                    for family in self.families.keys(|kin| !kin.family.turns.ended) {
                        self.put_ended(family);
                    }
                    self.ceremonies.adopt();
                    self.epochs.push(epoch);
                    None
                }
                Change::Note(note) => {
                    self.notes.push(note);
                    None
                }
                Change::OpenSession(session) => {
                    self.opened_sessions.push(session);
                    None
                }
                Change::EndSession(session) => {
                    self.ended_sessions.push(session);
                    None
                }
                Change::Suspend { suspension, replaces } => self.suspend(suspension, *replaces),
                Change::Resume { subject, suspension } => self.resume(subject, *suspension),
                Change::Deny(denial) => {
                    self.denials.push(denial);
                    None
                }
                Change::Fix { name, value } => self.fix(name, value),
            };
            if blocked.is_some() {
                return Ok(blocked);
            }
        }
        Ok(None)
    }

    /// Spends a token, or says why not.
    fn spend(&mut self, spend: &Spend) -> Option<Blocked> {
        let token = *spend.token.key();
        if spend.issued <= self.adopted {
            return Some(Blocked::BeforeAdoption);
        }
        if spend.token.keep_until() < self.forgotten {
            return Some(Blocked::Replay);
        }
        let first = Spent { request: spend.request, state: spend.leaves, attempts: 0 };
        let again = match self.spent.get(&token) {
            None if self.fresh.contains(&token) => first,
            None => return Some(Blocked::Replay),
            Some(Spent { state: LeaseState::Issuing, .. }) => return Some(Blocked::InFlight),
            Some(Spent { state, request, attempts })
                if *request == spend.request && spend.goes_again(*state, *attempts) =>
            {
                Spent { attempts: attempts + 1, ..first }
            }
            Some(_) => return Some(Blocked::Replay),
        };
        self.spent.put(token, again);
        None
    }

    fn alive(&self, lease: LeaseId) -> bool {
        let state = self.leases.get(&lease.0).map(|row| row.state);
        state.is_some_and(|state| !matches!(state, LeaseState::Failed | LeaseState::Ended))
    }

    /// Takes one use, or says until when there is none to be had.
    fn within(&mut self, taken: &Use) -> Option<Blocked> {
        let (at, seconds) = (taken.at.0, i64::from(taken.seconds));
        let counter = match self.uses.get(&taken.counter) {
            Some(Counter { until, used }) if *until > at && *until <= at + 2 * seconds => {
                if *used >= taken.most.into() {
                    return Some(Blocked::Exhausted { until: UnixSeconds(*until) });
                }
                Counter { until: *until, used: used + 1 }
            }
            _ => Counter { until: at + seconds, used: 1 },
        };
        self.uses.put(taken.counter, counter);
        None
    }

    /// The first of the subjects that is suspended.
    fn suspended(&self, subjects: &[[u8; 32]], at: UnixSeconds) -> Option<Blocked> {
        let found = subjects.iter().filter_map(|subject| self.suspensions.get(subject)?.as_ref());
        let mut standing = found.filter(|found| found.until.is_none_or(|until| until > at.0));
        standing.next().map(|found| Blocked::Suspended(found.id))
    }

    /// The suspension in a subject's row, whether it still suspends anything or not.
    fn standing(&self, subject: &[u8; 32]) -> Option<SuspensionId> {
        self.suspensions.get(subject)?.as_ref().map(|found| found.id)
    }

    fn suspend(&mut self, suspension: &Suspension, replaces: Option<SuspensionId>) -> Option<Blocked> {
        let subject = suspension.subject.key();
        if self.standing(&subject) != replaces {
            return Some(Blocked::Moved);
        }
        let written = Some(suspension.clone());
        self.suspensions.put(subject, Some(Suspended { id: suspension.id, until: suspension.until, written }));
        self.ceremonies.suspend(subject, suspension.since);
        None
    }

    fn resume(&mut self, subject: &[u8; 32], suspension: SuspensionId) -> Option<Blocked> {
        if self.standing(subject) != Some(suspension) {
            return Some(Blocked::Moved);
        }
        self.suspensions.put(*subject, None);
        None
    }

    /// Takes a refresh token's turn, or says why not.
    fn refresh(&mut self, turn: &Turn) -> Option<Blocked> {
        let Some(kin) = self.families.get(&turn.family.0) else { return Some(Blocked::FamilyEnded) };
        let mut kin = kin.clone();
        match kin.family.turns.take(turn, kin.family.expires) {
            Ok(turns) => kin.family.turns = turns,
            Err(blocked) => return Some(blocked),
        }
        self.families.put(turn.family.0, kin);
        None
    }

    fn end_family(&mut self, family: LeaseId) -> Option<Blocked> {
        if self.families.get(&family.0).is_none_or(|kin| kin.family.turns.ended) {
            return Some(Blocked::FamilyEnded);
        }
        self.put_ended(family.0);
        for lease in self.leases.keys(|row| row.family == Some(family)) {
            self.put_over(lease);
            self.kin(LeaseId(lease)).into_iter().for_each(|lease| self.put_over(lease));
        }
        None
    }

    fn put_ended(&mut self, family: u128) {
        let Some(mut kin) = self.families.get(&family).cloned() else { return };
        kin.family.turns.ended = true;
        self.families.put(family, kin);
    }

    fn give_back(&mut self, taken: &Use) {
        let (at, seconds) = (taken.at.0, i64::from(taken.seconds));
        if let Some(&Counter { until, used }) = self.uses.get(&taken.counter)
            && used > 0
            && until > at
            && until <= at + seconds
        {
            self.uses.put(taken.counter, Counter { until, used: used - 1 });
        }
    }

    fn open_lease(&mut self, lease: &Lease, guards: &[Guard]) -> Result<(), Down> {
        if self.leases.get(&lease.id.0).is_some() {
            return Err(Down::new(format!("lease {} is there already", lease.id)));
        }
        let kept_until = guards.iter().find_map(|guard| match guard {
            Guard::Unspent(spend) if Some(*spend.token.key()) == lease.token => Some(spend.token.keep_until().0),
            _ => None,
        });
        let row = Row {
            state: lease.state,
            token: lease.token,
            handle: lease.handle.clone(),
            possession: None,
            family: lease.family,
            parent: lease.parent,
            expires: lease.expires,
            opened: Some((lease.clone(), kept_until)),
        };
        self.leases.put(lease.id.0, row);
        Ok(())
    }

    fn settle(&mut self, settled: &Settled) -> Option<Blocked> {
        let Some(row) = self.leases.get(&settled.lease.0).filter(|row| row.state == settled.from) else {
            return Some(Blocked::LeaseEnded);
        };
        let mut row = row.clone();
        row.state = settled.state;
        row.handle = settled.handle.clone().or(row.handle);
        self.token_of(&row, None, settled.state);
        self.leases.put(settled.lease.0, row);
        None
    }

    fn end(&mut self, lease: LeaseId, children: u32) -> Option<Blocked> {
        if !self.alive(lease) {
            return Some(Blocked::LeaseEnded);
        }
        self.put_over(lease.0);
        let kin = self.kin(lease);
        if kin.len() != children as usize {
            return Some(Blocked::Moved);
        }
        kin.into_iter().for_each(|lease| self.put_over(lease));
        None
    }

    /// Whatever came of a lease, by tokens that were exchanged, and is alive.
    fn kin(&self, of: LeaseId) -> Vec<u128> {
        let (mut all, mut looked_at) = (vec![of.0], 0);
        while let Some(parent) = all.get(looked_at).copied() {
            looked_at += 1;
            all.extend(self.leases.keys(|row| row.parent == Some(LeaseId(parent))));
        }
        all.split_off(1).into_iter().filter(|lease| self.alive(LeaseId(*lease))).collect()
    }

    /// One that is not alive stays as it is.
    fn put_over(&mut self, lease: u128) {
        let Some(mut row) = self.leases.get(&lease).cloned().filter(|_| self.alive(LeaseId(lease))) else { return };
        row.state = LeaseState::Ended;
        // A token whose exchange was under way: it is over now.
        self.token_of(&row, Some(LeaseState::Issuing), LeaseState::Ended);
        self.leases.put(lease, row);
    }

    fn is_parent(&self, lease: LeaseId, at: UnixSeconds) -> bool {
        self.leases.get(&lease.0).is_some_and(|row| row.state == LeaseState::Issued && row.expires > at)
    }

    /// Moves the single-use record of a lease's token.
    fn token_of(&mut self, row: &Row, only: Option<LeaseState>, state: LeaseState) {
        let Some(token) = row.token else { return };
        if let Some(&spent) = self.spent.get(&token)
            && only.is_none_or(|only| only == spent.state)
        {
            self.spent.put(token, Spent { state, ..spent });
        }
    }

    fn hold(&mut self, lease: LeaseId, possession: &[u8; 32]) -> Option<Blocked> {
        let Some(row) = self.leases.get(&lease.0) else { return Some(Blocked::LeaseEnded) };
        let row = Row { possession: Some(*possession), ..row.clone() };
        self.leases.put(lease.0, row);
        None
    }

    fn fix(&mut self, name: &'b str, value: &str) -> Option<Blocked> {
        match self.fixed.get(&name) {
            Some(fixed) => (fixed != value).then_some(Blocked::FixedOtherwise),
            None => {
                self.fixed.put(name, value.to_owned());
                None
            }
        }
    }
}
