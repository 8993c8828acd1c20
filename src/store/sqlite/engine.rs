//! Writing: a transaction per batch. A commit's guards are all judged before anything of it is written, so that one that is
//! blocked by them undoes nothing; only one whose changes can be blocked, too, needs a savepoint, which copies every page
//! that it touches.

use super::{
    APPLICATION_ID, KIN, MIGRATIONS, ceremonies,
    checkpoint::{Checkpoints, PAGES},
    file,
    guards::{self, Times, family, turned},
    key, notes, prepare, sweep, version,
};
use crate::store::{
    Acting, Blocked, Change, Commit, Denial, Down, Engine, Epoch, Family, Guard, Lease, LeaseState, Outcome, Settled,
    Suspension, TreeRows, Turns, forget::Forget,
};
use claimbound_core::{
    evidence::{Chain, LeaseId, Linked, SuspensionId, chain::ORIGIN, decision_of},
    time::UnixSeconds,
};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params, params};
use std::{fs::File, path::Path};

/// Of the writer's connection. SQLite looks through all of it at the end of most transactions: where a tree was balanced in one,
/// a page had the number of the last possible page for a moment, and whatever stands behind the file's end is to be forgotten.
const CACHE_KIB: i64 = 4 * 1024;
/// The log is cut back to this size after a checkpoint, in bytes.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// The engine.
pub(in crate::store) struct Sqlite {
    connection: Connection,
    /// Tokens to be kept until before this time may have lost their record.
    forgotten: UnixSeconds,
    /// Where the next sweep goes on.
    swept: Vec<u8>,
    /// When the store was last adopted: tokens issued until then may have lost theirs.
    adopted: UnixSeconds,
    /// The last transaction failed: what the file holds is to be asked, not assumed.
    doubtful: bool,
    checkpoints: Checkpoints,
    /// Dropped after the connections.
    _lock: File,
}

impl Sqlite {
    /// Claims the file, brings it to the newest version, and begins an incarnation.
    pub(in crate::store) fn open(path: &Path, now: UnixSeconds) -> Result<(Self, Chain), Down> {
        let (path, lock) = file::claim(path)?;
        let told = |down: Down| Down::new(format!("`{}`: {}", path.display(), down.why));
        let mut connection = Connection::open(&path).map_err(|error| told(error.into()))?;
        let chain = newest(&mut connection).and_then(|()| start(&mut connection, now)).map_err(told)?;
        let times = "SELECT forgotten, (SELECT max(began) FROM epochs) FROM sweeps";
        let times = connection.query_row(times, [], |row| Ok((UnixSeconds(row.get(0)?), UnixSeconds(row.get(1)?))));
        let (forgotten, adopted) = times.map_err(|error| told(error.into()))?;
        let checkpoints = Checkpoints::start(&mut connection, &path, PAGES).map_err(told)?;
        let engine =
            Self { connection, forgotten, swept: Vec::new(), adopted, doubtful: false, checkpoints, _lock: lock };
        Ok((engine, chain))
    }

    #[cfg(test)]
    pub(in crate::store) fn connection(&self) -> &Connection {
        &self.connection
    }
    #[cfg(test)]
    pub(in crate::store) fn doubt(&mut self) {
        self.doubtful = true;
    }
}

/// Brings the file to the newest version, and leaves it.
pub(in crate::store) fn migrate(path: &Path) -> Result<(), Down> {
    let (path, _lock) = file::claim(path)?;
    let told = |down: Down| Down::new(format!("`{}`: {}", path.display(), down.why));
    let mut connection = Connection::open(&path).map_err(|error| told(error.into()))?;
    newest(&mut connection).map_err(told)
}

fn newest(connection: &mut Connection) -> Result<(), Down> {
    prepare(connection)?;
    let done = version(connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Down::new("this file system does not support SQLite's write-ahead log; use a local one"));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    for (applied, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = begin(connection)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", applied as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn start(connection: &mut Connection, now: UnixSeconds) -> Result<Chain, Down> {
    let mut incarnation = [0; 16];
    aws_lc_rs::rand::fill(&mut incarnation).map_err(|_| Down::new("the system gives no random bytes"))?;
    connection.execute("INSERT INTO incarnations VALUES (?1, ?2)", (incarnation, now.0))?;
    let mut chain = Chain { incarnation: u128::from_be_bytes(incarnation), sequence: 0, head: ORIGIN };
    reseat(connection, &mut chain)?;
    Ok(chain)
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    // One of ours that failed to end.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Puts the chain behind the last stored record.
fn reseat(connection: &Connection, chain: &mut Chain) -> rusqlite::Result<()> {
    let last = "SELECT incarnation, sequence, link FROM records ORDER BY position DESC LIMIT 1";
    let last = connection
        .query_row(last, [], |row| {
            Ok((super::id_at(row, "incarnation")?, row.get::<_, i64>("sequence")?, row.get("link")?))
        })
        .optional()?;
    (chain.sequence, chain.head) = match last {
        Some((incarnation, sequence, link)) if incarnation == chain.incarnation => (sequence.unsigned_abs(), link),
        Some((_, _, link)) => (0, link),
        None => (0, ORIGIN),
    };
    Ok(())
}

impl Engine for Sqlite {
    fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down> {
        if self.doubtful {
            // A transaction that failed to sync may have been written for all that.
            reseat(&self.connection, chain)?;
        }
        self.doubtful = true;
        let mut transaction = begin(&mut self.connection)?;
        let (mut outcomes, mut adopted) = (Vec::with_capacity(batch.len()), self.adopted);
        for commit in batch {
            let outcome = apply(&mut transaction, commit, (self.forgotten, adopted), chain)?;
            for change in &commit.changes {
                if let (Change::Adopt(epoch), Outcome::Durable { .. }) = (change, &outcome) {
                    adopted = adopted.max(epoch.began);
                }
            }
            outcomes.push(outcome);
        }
        transaction.commit()?;
        self.adopted = adopted;
        self.doubtful = false;
        Ok(outcomes)
    }

    fn pause(&mut self) {
        self.checkpoints.look(&self.connection);
    }

    fn sweep(&mut self, now: UnixSeconds) -> Result<u64, Down> {
        let transaction = begin(&mut self.connection)?;
        let swept = sweep::sweep(&transaction, now, &self.swept)?;
        // Not `now`: a clock that ran ahead for a while must not refuse every token until that time comes.
        let forgotten = swept.newest.map_or(self.forgotten, |newest| self.forgotten.max(UnixSeconds(newest).plus(1)));
        transaction.prepare_cached("UPDATE sweeps SET swept = ?1, forgotten = ?2")?.execute((now.0, forgotten.0))?;
        transaction.commit()?;
        (self.forgotten, self.swept) = (forgotten, swept.last);
        Ok(swept.removed)
    }

    fn forget(&mut self, step: &Forget) -> Result<(), Down> {
        let transaction = begin(&mut self.connection)?;
        for position in &step.details {
            let erase = "UPDATE records SET details = x'' WHERE position = ?1";
            transaction.prepare_cached(erase)?.execute([position])?;
        }
        for position in &step.records {
            let empty = "UPDATE records SET body = x'', details = x'', decision = NULL WHERE position = ?1";
            transaction.prepare_cached(empty)?.execute([position])?;
        }
        for lease in &step.leases {
            transaction.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([key(*lease)])?;
        }
        let reached = "UPDATE forgotten SET details = max(details, ?1), records = max(records, ?2)";
        transaction.prepare_cached(reached)?.execute((step.reached.details, step.reached.records))?;
        Ok(transaction.commit()?)
    }

    fn keep_tree(&mut self, rows: &TreeRows) -> Result<(), Down> {
        let transaction = begin(&mut self.connection)?;
        for node in &rows.nodes {
            let keep = "INSERT INTO tree VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            let values = (node.level, node.number.cast_signed(), node.last, node.hash);
            transaction.prepare_cached(keep)?.execute(values)?;
        }
        if let Some((epoch, size, note)) = &rows.checkpoint {
            let keep = "INSERT INTO checkpoints VALUES (?1, ?2, ?3) ON CONFLICT (epoch) DO UPDATE
                        SET size = excluded.size, note = excluded.note WHERE excluded.size > size";
            transaction.prepare_cached(keep)?.execute((epoch.cast_signed(), size.cast_signed(), note))?;
        }
        Ok(transaction.commit()?)
    }
}

/// One commit: all of it behind its guards, or nothing. The chain moves only with what is written.
fn apply(
    transaction: &mut Transaction<'_>,
    commit: &Commit,
    times: Times,
    chain: &mut Chain,
) -> rusqlite::Result<Outcome> {
    let mut taken = Vec::with_capacity(commit.guards.len());
    for guard in &commit.guards {
        match guards::judge(transaction, guard, times)? {
            Ok(take) => taken.push(take),
            Err(blocked) => return Ok(Outcome::Blocked(blocked)),
        }
    }
    let run = |sql: &str| transaction.prepare_cached(sql)?.execute([]);
    let may_be_blocked = commit.changes.iter().any(may_be_blocked);
    if may_be_blocked {
        run("SAVEPOINT one")?;
    }
    for take in taken {
        guards::take(transaction, take)?;
    }
    if let Some(blocked) = change(transaction, commit)? {
        run("ROLLBACK TO one")?;
        run("RELEASE one")?;
        return Ok(Outcome::Blocked(blocked));
    }
    if let Some(entry) = &commit.entry {
        let linked = chain.link(entry.clone());
        record(transaction, chain, &linked)?;
    }
    if may_be_blocked {
        run("RELEASE one")?;
    }
    Ok(Outcome::Durable { sequence: chain.sequence })
}

/// Whether [`change`] may find that it cannot be done.
fn may_be_blocked(change: &Change) -> bool {
    match change {
        Change::Settle(_)
        | Change::End { .. }
        | Change::Hold { .. }
        | Change::EndFamily(_)
        | Change::Suspend { .. }
        | Change::Resume { .. }
        | Change::OpenCeremony(_)
        | Change::Wait(_)
        | Change::Leave(_)
        | Change::Fix { .. } => true,
        Change::OpenLease(_)
        | Change::OpenFamily(_)
        | Change::GiveTurnBack(_)
        | Change::GiveBack(_)
        | Change::KeepList { .. }
        | Change::KeepFolder { .. }
        | Change::Adopt(_)
        | Change::OpenSession(_)
        | Change::EndSession(_)
        | Change::GiveClaimBack(_)
        | Change::Note(_)
        | Change::Stand(_)
        | Change::ResetClaims(_)
        | Change::CarryClaims { .. }
        | Change::Deny(_) => false,
    }
}

fn change(connection: &Connection, commit: &Commit) -> rusqlite::Result<Option<Blocked>> {
    for change in &commit.changes {
        let blocked = match change {
            Change::OpenLease(lease) => {
                open_lease(connection, lease, &commit.guards)?;
                None
            }
            Change::Settle(settled) => settle(connection, settled)?,
            Change::End { lease, children } => end(connection, *lease, *children)?,
            Change::Hold { lease, possession } => {
                let hold = "UPDATE leases SET possession = ?2 WHERE id = ?1";
                let changed = connection.prepare_cached(hold)?.execute((key(*lease), possession))?;
                (changed == 0).then_some(Blocked::LeaseEnded)
            }
            Change::OpenFamily(family) => {
                open_family(connection, family)?;
                None
            }
            Change::GiveTurnBack(turn) => {
                if let Some(family) = family(connection, turn.family)? {
                    turned(connection, turn.family, &family.turns.give_back(turn))?;
                }
                None
            }
            Change::EndFamily(family) => end_family(connection, *family)?,
            Change::OpenCeremony(ceremony) => ceremonies::open(connection, ceremony)?,
            Change::Wait(job) => ceremonies::join(connection, job)?,
            Change::Leave(request) => ceremonies::leave(connection, request)?,
            Change::GiveClaimBack(moved) => {
                ceremonies::go(connection, moved)?;
                None
            }
            Change::Stand(standing) => {
                ceremonies::stand(connection, standing)?;
                None
            }
            Change::ResetClaims(keys) => {
                ceremonies::reset(connection, keys)?;
                None
            }
            Change::CarryClaims { keys, from, to } => {
                ceremonies::carry(connection, keys, [from, to])?;
                None
            }
            Change::KeepList { list, until } => {
                let keep = "INSERT INTO status_lists VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                connection.prepare_cached(keep)?.execute((list.to_be_bytes(), until.0))?;
                None
            }
            Change::GiveBack(taken) => {
                let back = "UPDATE uses SET used = used - 1
                     WHERE counter = ?1 AND used > 0 AND until > ?2 AND until <= ?2 + ?3";
                connection.prepare_cached(back)?.execute((taken.counter, taken.at.0, taken.seconds))?;
                None
            }
            Change::KeepFolder { version, archive } => {
                let keep = "INSERT INTO folders VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                connection.prepare_cached(keep)?.execute((version, archive))?;
                None
            }
            Change::Adopt(epoch) => {
                adopt(connection, epoch)?;
                None
            }
            Change::Note(note) => {
                notes::keep(connection, note)?;
                None
            }
            Change::OpenSession(session) => {
                let open = "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                connection.prepare_cached(open)?.execute((
                    session.session,
                    &session.operator,
                    &session.sign_in,
                    &session.may,
                    session.binding,
                    session.expires.0,
                    session.person.as_ref().map(ceremonies::json),
                ))?;
                None
            }
            Change::EndSession(session) => {
                connection.prepare_cached("DELETE FROM sessions WHERE session = ?1")?.execute([session])?;
                None
            }
            Change::Suspend { suspension, replaces } => suspend(connection, suspension, *replaces)?,
            Change::Resume { subject, suspension } => {
                let resume = "DELETE FROM suspensions WHERE subject = ?1 AND id = ?2";
                let resumed = connection.prepare_cached(resume)?.execute((subject, suspension.0.to_be_bytes()))?;
                (resumed == 0).then_some(Blocked::Moved)
            }
            Change::Deny(denial) => {
                deny(connection, denial)?;
                None
            }
            Change::Fix { name, value } => {
                let fix = "INSERT INTO fixed VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                connection.prepare_cached(fix)?.execute((name, value))?;
                let same = "SELECT 1 FROM fixed WHERE name = ?1 AND value = ?2";
                let same = connection.prepare_cached(same)?.exists((name, value))?;
                (!same).then_some(Blocked::FixedOtherwise)
            }
        };
        if blocked.is_some() {
            return Ok(blocked);
        }
    }
    Ok(None)
}

fn adopt(connection: &Connection, epoch: &Epoch) -> rusqlite::Result<()> {
    let id = |id: u128| id.to_be_bytes();
    connection.prepare_cached("INSERT INTO epochs VALUES (?1, ?2, ?3, ?4)")?.execute((
        epoch.number.cast_signed(),
        id(epoch.id),
        epoch.began.0,
        epoch.instead_of.map(id),
    ))?;
    connection.prepare_cached("UPDATE families SET ended = 1 WHERE ended = 0")?.execute([])?;
    connection.prepare_cached("DELETE FROM sessions")?.execute([])?;
    ceremonies::adopted(connection)
}

fn open_family(connection: &Connection, family: &Family) -> rusqlite::Result<()> {
    let Family { id, secret, token, role, opened, expires, turns: Turns { current, previous, since, ended } } = family;
    connection.prepare_cached("INSERT INTO families VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute((
        key(*id),
        secret,
        token,
        role,
        opened.0,
        expires.0,
        current,
        previous,
        since.0,
        ended,
    ))?;
    Ok(())
}

fn end(connection: &Connection, lease: LeaseId, children: u32) -> rusqlite::Result<Option<Blocked>> {
    let end = "UPDATE leases SET state = 'ended' WHERE id = ?1 AND state NOT IN ('failed', 'ended')";
    if connection.prepare_cached(end)?.execute([key(lease)])? == 0 {
        return Ok(Some(Blocked::LeaseEnded));
    }
    // A token whose exchange was under way: it is over now.
    token_of(connection, lease, "AND state = 'issuing'", LeaseState::Ended)?;
    let ended = end_kin(connection, KIN, lease)?;
    Ok((ended != children as usize).then_some(Blocked::Moved))
}

/// Ends what is alive of the leases that `kin` names, and says how many those are.
fn end_kin(connection: &Connection, kin: &str, of: LeaseId) -> rusqlite::Result<usize> {
    let spent = "UPDATE spent SET state = 'ended' WHERE state = 'issuing' AND token IN
         (SELECT token FROM leases WHERE id IN kin AND state NOT IN ('failed', 'ended'))";
    connection.prepare_cached(&format!("{kin} {spent}"))?.execute([key(of)])?;
    let ended = "UPDATE leases SET state = 'ended' WHERE id IN kin AND state NOT IN ('failed', 'ended')";
    connection.prepare_cached(&format!("{kin} {ended}"))?.execute([key(of)])
}

/// The leases of the family `?1`, and whatever came of them.
const FAMILY: &str = "WITH RECURSIVE kin (id) AS
     (SELECT id FROM leases WHERE family = ?1 UNION SELECT leases.id FROM leases JOIN kin ON leases.parent = kin.id)";

fn end_family(connection: &Connection, family: LeaseId) -> rusqlite::Result<Option<Blocked>> {
    let end = "UPDATE families SET ended = 1 WHERE id = ?1 AND ended = 0";
    if connection.prepare_cached(end)?.execute([key(family)])? == 0 {
        return Ok(Some(Blocked::FamilyEnded));
    }
    end_kin(connection, FAMILY, family)?;
    Ok(None)
}

fn suspend(
    connection: &Connection,
    suspension: &Suspension,
    replaces: Option<SuspensionId>,
) -> rusqlite::Result<Option<Blocked>> {
    let sql = match replaces {
        None => {
            "INSERT INTO suspensions VALUES (:subject, :id, :scope, :issuer, :name, :since, :until, :operator, :reason)
             ON CONFLICT (subject) DO NOTHING RETURNING :replaces"
        }
        Some(_) => {
            "UPDATE suspensions SET id = :id, scope = :scope, issuer = :issuer, name = :name, since = :since,
             until = :until, operator = :operator, reason = :reason WHERE subject = :subject AND id = :replaces RETURNING 1"
        }
    };
    let done = connection.prepare_cached(sql)?.exists(named_params! {
        ":subject": suspension.subject.key(),
        ":id": suspension.id.0.to_be_bytes(),
        ":scope": suspension.subject.scope.name(),
        ":issuer": suspension.subject.issuer,
        ":name": suspension.subject.name,
        ":since": suspension.since,
        ":until": suspension.until,
        ":operator": suspension.operator,
        ":reason": suspension.reason,
        ":replaces": replaces.map(|id| id.0.to_be_bytes()),
    })?;
    if done {
        ceremonies::suspended(connection, &suspension.subject.key(), suspension.since)?;
    }
    Ok((!done).then_some(Blocked::Moved))
}

fn deny(connection: &Connection, denial: &Denial) -> rusqlite::Result<()> {
    let deny = "INSERT INTO denials VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (denial) DO UPDATE SET
         before = max(before, excluded.before), until = max(until, excluded.until)";
    connection.prepare_cached(deny)?.execute((
        denial.key(),
        &denial.backend,
        denial.scope.name(),
        &denial.value,
        denial.before.0,
        denial.until.0,
    ))?;
    Ok(())
}

fn open_lease(connection: &Connection, lease: &Lease, guards: &[Guard]) -> rusqlite::Result<()> {
    let kept_until = guards.iter().find_map(|guard| match guard {
        Guard::Unspent(spend) if Some(*spend.token.key()) == lease.token => Some(spend.token.keep_until().0),
        _ => None,
    });
    connection
        .prepare_cached(
            "INSERT INTO leases (id, role, mapping, team, principal_issuer, principal_id, principal_name, repository_id,
             owner_id, run_id, person, opened, expires, handle, state, token, token_keep_until, family, status_list,
             status_index, actor, actor_repository, actor_person, parent, handoff)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        // In the columns' order: by their names each would be looked up for every grant.
        .execute(params![
            key(lease.id),
            lease.role,
            lease.mapping,
            lease.team,
            lease.principal_issuer,
            lease.principal_id,
            lease.principal_name,
            lease.repository_id,
            lease.owner_id,
            lease.run_id,
            lease.person,
            lease.opened.0,
            lease.expires.0,
            lease.handle,
            lease.state,
            lease.token,
            kept_until,
            lease.family.map(key),
            lease.status.map(|place| place.list.to_be_bytes()),
            lease.status.map(|place| place.index),
            lease.acting.as_ref().map(Acting::to_text),
            lease.acting.as_ref().and_then(|acting| acting.repository_id.as_deref()),
            lease.acting_person,
            lease.parent.map(key),
            lease.handoff,
        ])?;
    Ok(())
}

fn settle(connection: &Connection, settled: &Settled) -> rusqlite::Result<Option<Blocked>> {
    let changed = connection
        .prepare_cached("UPDATE leases SET state = ?3, handle = coalesce(?4, handle) WHERE id = ?1 AND state = ?2")?
        .execute((key(settled.lease), settled.from, settled.state, &settled.handle))?;
    if changed == 0 {
        return Ok(Some(Blocked::LeaseEnded));
    }
    token_of(connection, settled.lease, "", settled.state)?;
    Ok(None)
}

/// Moves the single-use record of a lease's token.
fn token_of(connection: &Connection, lease: LeaseId, only: &str, state: LeaseState) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "UPDATE spent SET state = ?2 WHERE token = (SELECT token FROM leases WHERE id = ?1) {only}"
        ))?
        .execute((key(lease), state))?;
    Ok(())
}

fn record(connection: &Connection, chain: &Chain, linked: &Linked) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO records (incarnation, sequence, link, leaf, body, details, decision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            chain.incarnation.to_be_bytes(),
            linked.sequence.cast_signed(),
            linked.link,
            linked.entry.leaf,
            &*linked.entry.body,
            &*linked.entry.details,
            decision_of(&linked.entry.body).map(|decision| decision.0.to_be_bytes()),
        ))?;
    Ok(())
}
