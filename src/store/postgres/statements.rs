//! What a writer says to the server, and when; the words stand in [`super::sql`].

use super::{
    batch::{Counter, Held, Kin, Row, Spent, Suspended},
    bytes, ceremonies,
    engine::Fault,
    family, get, maybe_bytes, notes,
    sql::Prepared,
    state,
};
use crate::store::{Acting, Change, Commit, Down, Guard, Spend, TreeRows, forget::Forget, tree::Mark};
use claimbound_core::{
    evidence::{Chain, LeaseId, Linked, SuspensionId, decision_of},
    time::UnixSeconds,
};
use futures_util::future::{BoxFuture, FutureExt as _, try_join_all};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Error, Statement, types::ToSql};

/// Single-use records, counters and sessions that one sweep removes, at most: it runs between batches, and nobody should feel it.
const SWEEP_ROWS_MAX: i64 = 5_000;

/// Where an incarnation's chain stands.
pub(super) struct Seat {
    pub(super) batch: i64,
    pub(super) sequence: u64,
    pub(super) head: [u8; 32],
}

impl Seat {
    fn read(row: &tokio_postgres::Row) -> Result<Self, Down> {
        Ok(Self {
            batch: get(row, "batch")?,
            sequence: get::<i64>(row, "sequence")?.cast_unsigned(),
            head: bytes(row, "head")?,
        })
    }
}

/// What a batch may touch; everything in the order in which it is locked.
#[derive(Default)]
pub(super) struct Wanted<'b> {
    /// Of each token its first spending, which reserves it.
    spends: BTreeMap<&'b [u8; 32], &'b Spend>,
    /// Tokens of leases that are opened.
    tokens: BTreeSet<[u8; 32]>,
    counters: BTreeSet<&'b [u8; 32]>,
    families: BTreeSet<[u8; 16]>,
    /// Of them, those whose leases end, too.
    ending: BTreeSet<[u8; 16]>,
    leases: BTreeSet<[u8; 16]>,
    /// Of them, those that end, with all that came of them.
    ended: BTreeSet<[u8; 16]>,
    /// Those whose tokens are exchanged.
    parents: BTreeSet<[u8; 16]>,
    facts: BTreeSet<&'b str>,
    subjects: BTreeSet<[u8; 32]>,
    /// It suspends or resumes: no grant may be under way beside it.
    suspends: bool,
    ceremonies: ceremonies::Wanted,
}

impl<'b> Wanted<'b> {
    pub(super) fn of(batch: &'b [Commit]) -> Self {
        let mut wanted = Self { ceremonies: ceremonies::wanted(batch), ..Self::default() };
        for guard in batch.iter().flat_map(|commit| &commit.guards) {
            match guard {
                Guard::Unspent(spend) => drop(wanted.spends.entry(spend.token.key()).or_insert(spend)),
                Guard::LeaseAlive(lease) => drop(wanted.leases.insert(lease.0.to_be_bytes())),
                Guard::Parent { lease, .. } => drop(wanted.parents.insert(lease.0.to_be_bytes())),
                Guard::Within(taken) => drop(wanted.counters.insert(&taken.counter)),
                Guard::NotSuspended { subjects, .. } => wanted.subjects.extend(subjects),
                Guard::Refresh(turn) => drop(wanted.families.insert(turn.family.0.to_be_bytes())),
                Guard::Ceremony(_) | Guard::Standing { .. } | Guard::Lapsed { .. } => {}
            }
        }
        for change in batch.iter().flat_map(|commit| &commit.changes) {
            match change {
                Change::OpenLease(lease) => wanted.tokens.extend(lease.token),
                Change::Settle(settled) => drop(wanted.leases.insert(settled.lease.0.to_be_bytes())),
                Change::Hold { lease, .. } => drop(wanted.leases.insert(lease.0.to_be_bytes())),
                Change::End { lease, .. } => {
                    wanted.leases.insert(lease.0.to_be_bytes());
                    wanted.ended.insert(lease.0.to_be_bytes());
                }
                Change::GiveBack(taken) => drop(wanted.counters.insert(&taken.counter)),
                Change::Fix { name, .. } => drop(wanted.facts.insert(&**name)),
                Change::Suspend { suspension, .. } => {
                    wanted.suspends = true;
                    wanted.subjects.insert(suspension.subject.key());
                }
                Change::Resume { subject, .. } => {
                    wanted.suspends = true;
                    wanted.subjects.insert(*subject);
                }
                Change::GiveTurnBack(turn) => drop(wanted.families.insert(turn.family.0.to_be_bytes())),
                Change::EndFamily(family) => {
                    wanted.families.insert(family.0.to_be_bytes());
                    wanted.ending.insert(family.0.to_be_bytes());
                }
                Change::OpenFamily(_)
                | Change::OpenCeremony(_)
                | Change::Wait(_)
                | Change::Leave(_)
                | Change::GiveClaimBack(_)
                | Change::Stand(_)
                | Change::ResetClaims(_)
                | Change::CarryClaims { .. }
                | Change::KeepFolder { .. }
                | Change::KeepList { .. }
                | Change::Note(_)
                | Change::OpenSession(_)
                | Change::EndSession(_)
                | Change::Adopt(_)
                | Change::Deny(_) => {}
            }
        }
        wanted
    }
}

/// A connection with its statements.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) sql: Prepared,
}

/// Many values for one parameter.
fn slices<'v, const N: usize>(values: impl IntoIterator<Item = &'v [u8; N]>) -> Vec<Vec<u8>> {
    values.into_iter().map(|value| value.to_vec()).collect()
}

impl Session {
    pub(super) async fn new(client: Client) -> Result<Self, Down> {
        let sql = Prepared::new(&client).await?;
        Ok(Self { client, sql })
    }

    /// Rows for one statement, unless there is nothing to ask for.
    async fn rows(
        &self,
        wanted: bool,
        sql: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        if wanted { self.client.query(sql, values).await } else { Ok(Vec::new()) }
    }

    /// Where the incarnation stands, once its last transaction is over.
    pub(super) async fn seat(&self, id: &[u8; 16]) -> Result<Option<Seat>, Down> {
        self.client.query_opt(&self.sql.seat, &[&&id[..]]).await?.as_ref().map(Seat::read).transpose()
    }

    /// Begins the transaction, reads and locks.
    pub(super) async fn hold<'b>(&self, id: &[u8; 16], wanted: &Wanted<'b>) -> Result<(Held<'b>, Option<Seat>), Fault> {
        let (client, sql) = (&self.client, &self.sql);
        let (families, ending, leases) = (slices(&wanted.families), slices(&wanted.ending), slices(&wanted.leases));
        let (ended, parents) = (slices(&wanted.ended), slices(&wanted.parents));
        let counters = slices(wanted.counters.iter().copied());
        let tokens = slices(wanted.spends.keys().copied());
        let keep_until: Vec<_> = wanted.spends.values().map(|spend| spend.token.keep_until().0).collect();
        let requests = slices(wanted.spends.values().map(|spend| &spend.request));
        let states: Vec<_> = wanted.spends.values().map(|spend| spend.leaves.name()).collect();
        let facts = async {
            if wanted.facts.is_empty() {
                return Ok(Vec::new());
            }
            client.batch_execute("LOCK TABLE fixed IN SHARE ROW EXCLUSIVE MODE").await?;
            client.query("SELECT name, value FROM fixed", &[]).await
        };
        // Grants share it and suspensions do not: what a suspension finds under way commits first, and what comes after
        // it sees it. Before all other locks, so that nobody who holds one of those waits for this.
        let lock = match (wanted.subjects.is_empty(), wanted.suspends) {
            (true, _) => None,
            (false, false) => Some("LOCK TABLE suspensions IN ROW SHARE MODE"),
            (false, true) => Some("LOCK TABLE suspensions IN EXCLUSIVE MODE"),
        };
        let subjects = slices(&wanted.subjects);
        // One round trip: all are sent in this order before the first is answered.
        // Of several errors the first is told: the others only follow from it.
        let (_, seat, _, suspended, families, mut leases, kin, fresh, uses, forgotten) = tokio::try_join!(
            biased;
            client.batch_execute("BEGIN"),
            async { client.query_opt(&sql.seat, &[&&id[..]]).await },
            async {
                match lock {
                    Some(lock) => client.batch_execute(lock).await,
                    None => Ok(()),
                }
            },
            async { self.rows(!subjects.is_empty(), &sql.suspensions, &[&subjects]).await },
            async { self.rows(!families.is_empty(), &sql.families, &[&families]).await },
            async {
                let wanted = !(leases.is_empty() && ending.is_empty() && parents.is_empty());
                self.rows(wanted, &sql.leases, &[&leases, &ending, &parents]).await
            },
            async {
                let wanted = !(ended.is_empty() && ending.is_empty());
                self.rows(wanted, &sql.kin, &[&ended, &ending]).await
            },
            async {
                let reserved: [&(dyn ToSql + Sync); 4] = [&tokens, &keep_until, &requests, &states];
                self.rows(!tokens.is_empty(), &sql.reserve, &reserved).await
            },
            async { self.rows(!counters.is_empty(), &sql.uses, &[&counters]).await },
            client.query_one(&sql.forgotten, &[]),
        )?;
        let seat = seat.as_ref().map(Seat::read).transpose()?;
        let adopted = UnixSeconds(get(&forgotten, "adopted")?);
        let mut held = Held::new(UnixSeconds(get(&forgotten, "forgotten")?), adopted);
        for row in &families {
            let kin = Kin { family: family(row)?, opened: false };
            held.families.read(kin.family.id.0, kin);
        }
        leases.extend(kin);
        for row in &leases {
            let lease = Row {
                state: state(row)?,
                token: maybe_bytes(row, "token")?,
                handle: get(row, "handle")?,
                possession: maybe_bytes(row, "possession")?,
                family: maybe_bytes(row, "family")?.map(|id| LeaseId(u128::from_be_bytes(id))),
                parent: maybe_bytes(row, "parent")?.map(|id| LeaseId(u128::from_be_bytes(id))),
                expires: UnixSeconds(get(row, "expires")?),
                opened: None,
            };
            held.leases.read(u128::from_be_bytes(bytes(row, "id")?), lease);
        }
        for row in &suspended {
            let id = SuspensionId(u128::from_be_bytes(bytes(row, "id")?));
            let standing = Suspended { id, until: get(row, "until")?, written: None };
            held.suspensions.read(bytes(row, "subject")?, Some(standing));
        }
        for row in &fresh {
            held.fresh.insert(bytes(row, "token")?);
        }
        for row in &uses {
            let counter = Counter { until: get(row, "until")?, used: get(row, "used")? };
            held.uses.read(bytes(row, "counter")?, counter);
        }
        for row in facts.await? {
            if let Some(name) = wanted.facts.get(get::<&str>(&row, "name")?) {
                held.fixed.read(name, get(&row, "value")?);
            }
        }
        self.hold_spent(&mut held, wanted, &leases).await?;
        held.ceremonies = self.hold_ceremonies(&wanted.ceremonies).await?;
        Ok((held, seat))
    }

    /// Tokens that somebody used before, and those of the leases that are touched.
    async fn hold_spent(
        &self,
        held: &mut Held<'_>,
        wanted: &Wanted<'_>,
        leases: &[tokio_postgres::Row],
    ) -> Result<(), Fault> {
        let mut tokens: BTreeSet<[u8; 32]> = wanted.spends.keys().map(|token| **token).collect();
        tokens.extend(&wanted.tokens);
        tokens.retain(|token| !held.fresh.contains(token));
        for row in leases {
            tokens.extend(maybe_bytes::<32>(row, "token")?);
        }
        let tokens = slices(&tokens);
        for row in self.rows(!tokens.is_empty(), &self.sql.spent, &[&tokens]).await? {
            let spent =
                Spent { request: bytes(&row, "request")?, state: state(&row)?, attempts: get(&row, "attempts")? };
            held.spent.read(bytes(&row, "token")?, spent);
        }
        Ok(())
    }

    /// Writes what came out, and commits: one round trip.
    pub(super) async fn write(
        &self,
        id: &[u8; 16],
        number: i64,
        chain: &Chain,
        wanted: &Wanted<'_>,
        held: &Held<'_>,
        records: &[Linked],
    ) -> Result<(), Error> {
        let (client, sql) = (&self.client, &self.sql);
        self.write_ceremonies(&held.ceremonies).await?;
        let mut sent: Vec<BoxFuture<'_, Result<u64, Error>>> = Vec::new();
        // Families that this batch opens after an adoption are not of the store that was adopted.
        for epoch in &held.epochs {
            let (number, began) = (epoch.number.cast_signed(), epoch.began.0);
            let (id, instead_of) = (epoch.id.to_be_bytes(), epoch.instead_of.map(|id| id.to_be_bytes().to_vec()));
            sent.push(
                async move { client.execute(&sql.adopt, &[&number, &&id[..], &began, &instead_of]).await }.boxed(),
            );
        }
        let reserved = |token: &[u8; 32]| {
            let spend = held.fresh.contains(token).then(|| wanted.spends.get(token)).flatten();
            spend.map(|spend| Spent { request: spend.request, state: spend.leaves, attempts: 0 })
        };
        let free = slices(held.fresh.iter().filter(|token| held.spent.get(token).is_none()));
        if !free.is_empty() {
            sent.push(async move { client.execute(&sql.free, &[&free]).await }.boxed());
        }
        let moved: Vec<_> = held.spent.changed().filter(|(token, row)| reserved(token).as_ref() != Some(row)).collect();
        if !moved.is_empty() {
            let tokens = slices(moved.iter().map(|(token, _)| *token));
            let requests = slices(moved.iter().map(|(_, row)| &row.request));
            let states: Vec<_> = moved.iter().map(|(_, row)| row.state.name()).collect();
            let attempts: Vec<_> = moved.iter().map(|(_, row)| row.attempts).collect();
            let values =
                async move { client.execute(&sql.move_spent, &[&tokens, &requests, &states, &attempts]).await };
            sent.push(values.boxed());
        }
        let used: Vec<_> = held.uses.changed().collect();
        if !used.is_empty() {
            let counters = slices(used.iter().map(|(counter, _)| *counter));
            let until: Vec<_> = used.iter().map(|(_, row)| row.until).collect();
            let uses: Vec<_> = used.iter().map(|(_, row)| row.used).collect();
            sent.push(async move { client.execute(&sql.move_uses, &[&counters, &until, &uses]).await }.boxed());
        }
        let (opened, moved): (Vec<_>, Vec<_>) = held.leases.changed().partition(|(_, row)| row.opened.is_some());
        if !opened.is_empty() {
            sent.push(self.open_leases(opened).boxed());
        }
        if !moved.is_empty() {
            let ids: Vec<_> = moved.iter().map(|(id, _)| id.to_be_bytes().to_vec()).collect();
            let states: Vec<_> = moved.iter().map(|(_, row)| row.state.name()).collect();
            let handles: Vec<_> = moved.iter().map(|(_, row)| row.handle.as_deref()).collect();
            let possessions: Vec<_> = moved.iter().map(|(_, row)| row.possession.map(Vec::from)).collect();
            let values =
                async move { client.execute(&sql.move_leases, &[&ids, &states, &handles, &possessions]).await };
            sent.push(values.boxed());
        }
        let (opened, moved): (Vec<_>, Vec<_>) = held.families.changed().map(|(_, kin)| kin).partition(|kin| kin.opened);
        if !opened.is_empty() {
            sent.push(self.open_families(opened).boxed());
        }
        if !moved.is_empty() {
            sent.push(self.move_families(moved).boxed());
        }
        if !held.lists.is_empty() {
            let lists: BTreeMap<u128, i64> = held.lists.iter().copied().collect();
            let (ids, until): (Vec<_>, Vec<_>) =
                lists.iter().map(|(id, until)| (id.to_be_bytes().to_vec(), *until)).unzip();
            sent.push(async move { client.execute(&sql.keep_lists, &[&ids, &until]).await }.boxed());
        }
        let (names, facts): (Vec<_>, Vec<_>) =
            held.fixed.changed().map(|(name, value)| (*name, value.as_str())).unzip();
        if !names.is_empty() {
            sent.push(async move { client.execute(&sql.fix, &[&names, &facts]).await }.boxed());
        }
        self.suspend(held, &mut sent);
        notes::keep(self, held, &mut sent);
        let mut denials: Vec<_> = held.denials.iter().map(|denial| (denial.key(), *denial)).collect();
        denials.sort_by_key(|(key, _)| *key);
        for (key, denial) in denials {
            sent.push(
                async move {
                    let (scope, before, until) = (denial.scope.name(), denial.before.0, denial.until.0);
                    let values: [&(dyn ToSql + Sync); 6] =
                        [&&key[..], &denial.backend, &scope, &denial.value, &before, &until];
                    client.execute(&sql.deny, &values).await
                }
                .boxed(),
            );
        }
        let mut folders = held.folders.clone();
        folders.sort_by_key(|(version, _)| *version);
        if !folders.is_empty() {
            let versions = slices(folders.iter().map(|(version, _)| *version));
            let archives: Vec<_> = folders.iter().map(|(_, archive)| *archive).collect();
            sent.push(async move { client.execute(&sql.keep, &[&versions, &archives]).await }.boxed());
        }
        for session in &held.opened_sessions {
            let open = async move {
                let person = session.person.as_ref().map(ceremonies::json);
                let values: [&(dyn ToSql + Sync); 7] = [
                    &&session.session[..],
                    &session.operator,
                    &session.sign_in,
                    &session.may,
                    &&session.binding[..],
                    &session.expires.0,
                    &person,
                ];
                client.execute(&sql.open_session, &values).await
            };
            sent.push(open.boxed());
        }
        if !held.ended_sessions.is_empty() {
            let ended = slices(held.ended_sessions.iter().copied());
            sent.push(async move { client.execute(&sql.end_sessions, &[&ended]).await }.boxed());
        }
        if !records.is_empty() {
            sent.push(self.insert(id, records).boxed());
        }
        let (sequence, head) = (chain.sequence.cast_signed(), &chain.head[..]);
        sent.push(async move { client.execute(&sql.advance, &[&&id[..], &number, &sequence, &head]).await }.boxed());
        sent.push(async move { client.batch_execute("COMMIT").await.map(|()| 0) }.boxed());
        try_join_all(sent).await?;
        Ok(())
    }

    /// Suspensions that stand now, and those that do so no more.
    fn suspend<'s>(&'s self, held: &Held<'_>, sent: &mut Vec<BoxFuture<'s, Result<u64, Error>>>) {
        let (standing, gone): (Vec<_>, Vec<_>) = held.suspensions.changed().partition(|(_, row)| row.is_some());
        let gone = slices(gone.into_iter().map(|(subject, _)| subject));
        let written: Vec<_> = standing.into_iter().filter_map(|(_, row)| row.as_ref()?.written.clone()).collect();
        let (client, sql) = (&self.client, &self.sql);
        if !gone.is_empty() {
            sent.push(async move { client.execute(&sql.resume, &[&gone]).await }.boxed());
        }
        if written.is_empty() {
            return;
        }
        sent.push(
            async move {
                macro_rules! column {
                    ($pattern:pat => $value:expr) => {
                        &written.iter().map(|$pattern| $value).collect::<Vec<_>>()
                    };
                }
                let values: [&(dyn ToSql + Sync); 9] = [
                    column!(one => one.subject.key().to_vec()),
                    column!(one => one.id.0.to_be_bytes().to_vec()),
                    column!(one => one.subject.scope.name()),
                    column!(one => one.subject.issuer.as_str()),
                    column!(one => one.subject.name.as_str()),
                    column!(one => one.since),
                    column!(one => one.until),
                    column!(one => one.operator.as_str()),
                    column!(one => one.reason.as_str()),
                ];
                client.execute(&sql.suspend, &values).await
            }
            .boxed(),
        );
    }

    async fn open_leases(&self, opened: Vec<(&u128, &Row)>) -> Result<u64, Error> {
        let leases: Vec<_> = opened
            .iter()
            .filter_map(|(id, row)| row.opened.as_ref().map(|(lease, kept)| (id, row, lease, kept)))
            .collect();
        macro_rules! column {
            ($pattern:pat => $value:expr) => {
                &leases.iter().map(|$pattern| $value).collect::<Vec<_>>()
            };
        }
        let values: [&(dyn ToSql + Sync); 26] = [
            column!((id, ..) => id.to_be_bytes().to_vec()),
            column!((_, _, lease, _) => lease.role.as_str()),
            column!((_, _, lease, _) => lease.mapping.as_str()),
            column!((_, _, lease, _) => lease.team.as_str()),
            column!((_, _, lease, _) => lease.principal_issuer.as_str()),
            column!((_, _, lease, _) => lease.principal_id.as_str()),
            column!((_, _, lease, _) => lease.opened.0),
            column!((_, _, lease, _) => lease.expires.0),
            column!((_, row, ..) => row.handle.as_deref()),
            column!((_, row, ..) => row.state.name()),
            column!((_, row, ..) => row.token.map(Vec::from)),
            column!((_, _, _, kept) => **kept),
            column!((_, row, ..) => row.possession.map(Vec::from)),
            column!((_, _, lease, _) => lease.principal_name.as_str()),
            column!((_, _, lease, _) => lease.repository_id.as_deref()),
            column!((_, _, lease, _) => lease.owner_id.as_deref()),
            column!((_, _, lease, _) => lease.run_id.as_deref()),
            column!((_, _, lease, _) => lease.person.map(Vec::from)),
            column!((_, row, ..) => row.family.map(|family| family.0.to_be_bytes().to_vec())),
            column!((_, _, lease, _) => lease.status.map(|place| place.list.to_be_bytes().to_vec())),
            column!((_, _, lease, _) => lease.status.map(|place| i64::from(place.index))),
            column!((_, _, lease, _) => lease.acting.as_ref().map(Acting::to_text)),
            column!((_, _, lease, _) => lease.acting.as_ref().and_then(|acting| acting.repository_id.as_deref())),
            column!((_, _, lease, _) => lease.acting_person.map(Vec::from)),
            column!((_, _, lease, _) => lease.parent.map(|parent| parent.0.to_be_bytes().to_vec())),
            column!((_, _, lease, _) => lease.handoff),
        ];
        self.client.execute(&self.sql.open_leases, &values).await
    }

    async fn open_families(&self, opened: Vec<&Kin>) -> Result<u64, Error> {
        macro_rules! column {
            ($family:ident => $value:expr) => {
                &opened.iter().map(|Kin { family: $family, .. }| $value).collect::<Vec<_>>()
            };
        }
        let values: [&(dyn ToSql + Sync); 10] = [
            column!(family => family.id.0.to_be_bytes().to_vec()),
            column!(family => family.secret.to_vec()),
            column!(family => family.token.to_vec()),
            column!(family => family.role.as_str()),
            column!(family => family.opened.0),
            column!(family => family.expires.0),
            column!(family => family.turns.current.to_vec()),
            column!(family => family.turns.previous.map(Vec::from)),
            column!(family => family.turns.since.0),
            column!(family => family.turns.ended),
        ];
        self.client.execute(&self.sql.open_families, &values).await
    }

    async fn move_families(&self, moved: Vec<&Kin>) -> Result<u64, Error> {
        let ids: Vec<_> = moved.iter().map(|kin| kin.family.id.0.to_be_bytes().to_vec()).collect();
        let turns = || moved.iter().map(|kin| &kin.family.turns);
        let current: Vec<_> = turns().map(|turns| turns.current.to_vec()).collect();
        let previous: Vec<_> = turns().map(|turns| turns.previous.map(Vec::from)).collect();
        let since: Vec<_> = turns().map(|turns| turns.since.0).collect();
        let ended: Vec<_> = turns().map(|turns| turns.ended).collect();
        self.client.execute(&self.sql.move_families, &[&ids, &current, &previous, &since, &ended]).await
    }

    async fn insert(&self, id: &[u8; 16], records: &[Linked]) -> Result<u64, Error> {
        let sequences: Vec<_> = records.iter().map(|linked| linked.sequence.cast_signed()).collect();
        let links = slices(records.iter().map(|linked| &linked.link));
        let leaves = slices(records.iter().map(|linked| &linked.entry.leaf));
        let bodies: Vec<_> = records.iter().map(|linked| &*linked.entry.body).collect();
        let details: Vec<_> = records.iter().map(|linked| &*linked.entry.details).collect();
        let decisions: Vec<_> = records
            .iter()
            .map(|linked| decision_of(&linked.entry.body).map(|decision| decision.0.to_be_bytes().to_vec()))
            .collect();
        let values: [&(dyn ToSql + Sync); 7] = [&&id[..], &sequences, &links, &leaves, &bodies, &details, &decisions];
        self.client.execute(&self.sql.records, &values).await
    }

    pub(super) async fn forget(&self, step: &Forget) -> Result<(), Error> {
        let client = &self.client;
        client.batch_execute("BEGIN").await?;
        let erase = "UPDATE records SET details = '' WHERE position = ANY($1)";
        client.execute(erase, &[&step.details]).await?;
        let empty = "UPDATE records SET body = '', details = '', decision = NULL WHERE position = ANY($1)";
        client.execute(empty, &[&step.records]).await?;
        let leases: Vec<_> = step.leases.iter().map(|lease| lease.0.to_be_bytes().to_vec()).collect();
        client.execute("DELETE FROM leases WHERE id = ANY($1)", &[&leases]).await?;
        let reached = "UPDATE forgotten SET details = greatest(details, $1), records = greatest(records, $2)";
        client.execute(reached, &[&step.reached.details, &step.reached.records]).await?;
        client.batch_execute("COMMIT").await
    }

    /// Whether the store holds the record that a checkpoint ends with; of a later epoch, whether it gave that one up.
    pub(super) async fn holds(&self, mark: &Mark) -> Result<bool, Down> {
        let values: [&(dyn ToSql + Sync); 3] = [&&mark.store.to_be_bytes()[..], &mark.position, &&mark.link[..]];
        let row = self.client.query_one(&self.sql.holds, &values).await?;
        Ok(if get(&row, "newest")? { get(&row, "there")? } else { get(&row, "known")? })
    }

    pub(super) async fn keep_tree(&self, rows: &TreeRows) -> Result<(), Error> {
        let (client, sql, nodes) = (&self.client, &self.sql, &rows.nodes);
        let levels: Vec<_> = nodes.iter().map(|node| i64::from(node.level)).collect();
        let numbers: Vec<_> = nodes.iter().map(|node| node.number.cast_signed()).collect();
        let last: Vec<_> = nodes.iter().map(|node| node.last).collect();
        let hashes = slices(nodes.iter().map(|node| &node.hash));
        client.batch_execute("BEGIN").await?;
        client.execute(&sql.keep_nodes, &[&levels, &numbers, &last, &hashes]).await?;
        if let Some((epoch, size, note)) = &rows.checkpoint {
            client.execute(&sql.keep_checkpoint, &[&epoch.cast_signed(), &size.cast_signed(), note]).await?;
        }
        client.batch_execute("COMMIT").await
    }

    pub(super) async fn sweep(&self, now: UnixSeconds) -> Result<u64, Error> {
        let (client, sql) = (&self.client, &self.sql);
        client.batch_execute("BEGIN").await?;
        let mut newest = None;
        let removed = client.query(&sql.sweep_spent, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        for row in &removed {
            newest = newest.max(Some(row.try_get::<_, i64>(0)?));
        }
        client.execute(&sql.sweep_uses, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        client.execute(&sql.sweep_sessions, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        client.execute(&sql.sweep_denials, &[&now.0]).await?;
        client.execute(&sql.sweep_persons, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        client.execute(&sql.sweep_acting_persons, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        client.execute(&sql.sweep_lists, &[&now.0]).await?;
        client.execute(&sql.sweep_notes, &[&now.0, &SWEEP_ROWS_MAX]).await?;
        self.sweep_ceremonies(now).await?;
        // Not `now`: a clock that ran ahead for a while must not refuse every token until that time comes.
        let forgotten = newest.map_or(0, |newest| newest + 1);
        let told = "UPDATE sweeps SET swept = $1, forgotten = greatest(forgotten, $2)";
        client.execute(told, &[&now.0, &forgotten]).await?;
        client.batch_execute("COMMIT").await?;
        Ok(removed.len() as u64)
    }
}
