//! Reading: own connections on a runtime of their own, so that whoever asks may be anywhere; it waits meanwhile.

use super::{Address, Own, aside, bytes, ceremonies, family, get, is_fatal, maybe_bytes, session::reading, state};
use crate::store::{
    Acting, AuditedLease, Census, Denial, DenialScope, Down, Epoch, Family, HeldLease, Incarnation, Kept, KeptCeremony,
    Leaf, LeaseOrder, ListedLease, Node, Reader, Scope, Session, Standing, Stored, StoredLease, Subject, Suspension,
    WhichCeremonies, WhichStanding, forget::Forgotten, open::oldest_live,
};
use claimbound_core::{
    evidence::{DecisionId, LeaseId, SuspensionId},
    time::UnixSeconds,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, Row, types::ToSql};

/// How long one read may take, with connecting.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long one step of a walk over everything may take, in the database and here.
const STEP_WAIT_MAX: Duration = Duration::from_secs(60);
/// Connections kept open when nobody reads.
const IDLE_CONNECTIONS_MAX: usize = 4;
/// Rows that one step of a walk brings.
const STEP_ROWS: usize = 500;
/// Leases that one `unsettled` returns, at most; the sweeper comes again.
const UNSETTLED_ROWS_MAX: i64 = 1_000;

/// How long transactions that write records are waited for; they end sooner, or are thrown out.
const SETTLED_WAIT_MAX: Duration = Duration::from_secs(6);
/// How soon they are looked at again.
const SETTLED_LOOK: Duration = Duration::from_millis(10);

/// Where the next record would be placed, whoever writes it.
const NEXT: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS upto, pg_is_in_recovery() AS standby
                    FROM records_position_seq";
/// Transactions that have placed records, or are about to: whoever inserts holds this lock to its end.
const PLACING: &str = "SELECT DISTINCT virtualtransaction FROM pg_locks
                       WHERE locktype = 'relation' AND relation = 'records'::regclass AND mode = 'RowExclusiveLock'
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
const EPOCHS: &str = "SELECT number, id, began, instead_of FROM epochs ORDER BY number";

/// A value for a statement, owned: the statement runs elsewhere.
type Value = Box<dyn ToSql + Sync + Send>;

/// Reads of one database.
pub(in crate::store) struct PostgresReader {
    address: Address,
    idle: Arc<Mutex<Vec<Client>>>,
    runtime: Own,
}

impl PostgresReader {
    /// Opens an existing store; never creates or changes it.
    pub(in crate::store) fn open(address: Address) -> Result<Self, Down> {
        let runtime =
            Own::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("store-reads"))?;
        let reader = Self { address, idle: Arc::default(), runtime };
        aside(|| reader.ping())?;
        Ok(reader)
    }

    /// Runs on the reader's runtime and waits.
    fn wait<T: Send + 'static>(
        &self,
        wait_max: Duration,
        asking: impl Future<Output = Result<T, Down>> + Send + 'static,
    ) -> Result<T, Down> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.runtime.get().spawn(async move {
            let slow = || Err(Down::new(format!("no answer within {wait_max:?}")));
            let asked = tokio::time::timeout(wait_max, asking).await.unwrap_or_else(|_| slow());
            // Whoever asked waits for this.
            let _ = answer.send(asked);
        });
        let answer = answered.recv().unwrap_or_else(|_| Err(Down::new("the store's readers have stopped")));
        answer.map_err(|down| self.address.told(down))
    }

    /// The rows of one statement, on an idle connection or another.
    fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, Down> {
        let (address, idle) = (self.address.clone(), self.idle.clone());
        self.wait(READ_WAIT_MAX, async move {
            let values: Vec<_> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            loop {
                let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let was_idle = kept.is_some();
                let client = match kept {
                    Some(client) => client,
                    None => reading(&address).await?,
                };
                match client.query(sql, &values).await {
                    Ok(rows) => {
                        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                        if idle.len() < IDLE_CONNECTIONS_MAX {
                            idle.push(client);
                        }
                        return Ok(rows);
                    }
                    // It ended while it was idle; a connection that failed is not used again.
                    Err(error) if was_idle && is_fatal(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        })
    }

    fn all<T>(&self, sql: &'static str, values: Vec<Value>, read: fn(&Row) -> Result<T, Down>) -> Result<Vec<T>, Down> {
        self.rows(sql, values)?.iter().map(read).collect::<Result<_, _>>().map_err(|down| self.address.told(down))
    }

    /// A connection that shows the store as of one moment, for walks; it is closed behind them.
    fn moment(&self) -> Result<Client, Down> {
        let address = self.address.clone();
        self.wait(READ_WAIT_MAX, async move {
            let client = reading(&address).await?;
            let wait_max = STEP_WAIT_MAX.as_millis();
            let begin = format!("SET statement_timeout = {wait_max}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
            client.batch_execute(&begin).await?;
            Ok(client)
        })
    }

    /// Shows every row of a cursor until told to stop; gives the connection back with whether to go on.
    fn walk(
        &self,
        mut client: Client,
        sql: &str,
        each: &mut dyn FnMut(&Row) -> Result<bool, Down>,
    ) -> Result<(Client, bool), Down> {
        let mut declare = Some(format!("DECLARE walk NO SCROLL CURSOR FOR {sql}"));
        loop {
            let declare = declare.take();
            let step = async move {
                if let Some(declare) = declare {
                    client.batch_execute(&declare).await?;
                }
                let rows = client.query(&format!("FETCH {STEP_ROWS} FROM walk"), &[]).await?;
                if rows.is_empty() {
                    client.batch_execute("CLOSE walk").await?;
                }
                Ok((client, rows))
            };
            let rows;
            (client, rows) = self.wait(STEP_WAIT_MAX, step)?;
            if rows.is_empty() {
                return Ok((client, true));
            }
            for row in &rows {
                if !each(row).map_err(|down| self.address.told(down))? {
                    return Ok((client, false));
                }
            }
        }
    }
}

impl Reader for PostgresReader {
    fn decision(&self, id: DecisionId) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE decision = $1 ORDER BY position";
        self.all(sql, vec![Box::new(id.0.to_be_bytes().to_vec())], stored)
    }

    fn lease(&self, id: LeaseId) -> Result<Option<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE id = $1";
        Ok(self.all(sql, vec![Box::new(id.0.to_be_bytes().to_vec())], held_lease)?.pop())
    }

    fn held(&self, possession: &[u8; 32]) -> Result<Option<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE possession = $1";
        Ok(self.all(sql, vec![Box::new(possession.to_vec())], held_lease)?.pop())
    }

    fn session(&self, session: &[u8; 32]) -> Result<Option<Session>, Down> {
        let sql = "SELECT * FROM sessions WHERE session = $1";
        Ok(self.all(sql, vec![Box::new(session.to_vec())], one_session)?.pop())
    }

    fn before(&self, position: Option<i64>, rows: u32) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE position < $1 AND length(body) > 0 ORDER BY position DESC LIMIT $2";
        self.all(sql, vec![Box::new(position.unwrap_or(i64::MAX)), Box::new(i64::from(rows))], stored)
    }

    fn forgotten(&self) -> Result<Forgotten, Down> {
        let told = |row: &Row| Ok(Forgotten { details: get(row, "details")?, records: get(row, "records")? });
        let row = self.all("SELECT details, records FROM forgotten", Vec::new(), told)?.pop();
        row.ok_or_else(|| Down::new("the table `forgotten` is empty"))
    }

    fn leases(&self, order: &LeaseOrder, most: u32) -> Result<Vec<ListedLease>, Down> {
        let (id, most) = (|lease: LeaseId| -> Value { Box::new(lease.0.to_be_bytes().to_vec()) }, i64::from(most));
        match order {
            LeaseOrder::Ending { after: (at, lease), until } => {
                let sql = "SELECT * FROM leases WHERE (expires, id) > ($1, $2) AND expires <= $3
                           ORDER BY expires, id LIMIT $4";
                self.all(sql, vec![Box::new(at.0), id(*lease), Box::new(until.0), Box::new(most)], listed_lease)
            }
            LeaseOrder::Youngest { below, of: None } => {
                let sql = "SELECT * FROM leases WHERE id < $1 ORDER BY id DESC LIMIT $2";
                self.all(sql, vec![id(*below), Box::new(most)], listed_lease)
            }
            LeaseOrder::Youngest { below, of: Some(repository) } => {
                // Each half along its own index.
                let sql = "(SELECT * FROM leases WHERE repository_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3)
                           UNION (SELECT * FROM leases WHERE actor_repository = $1 AND id < $2 ORDER BY id DESC LIMIT $3)
                           ORDER BY id DESC LIMIT $3";
                self.all(sql, vec![Box::new(repository.clone()), id(*below), Box::new(most)], listed_lease)
            }
        }
    }

    fn suspensions(&self) -> Result<Vec<Suspension>, Down> {
        self.all("SELECT * FROM suspensions ORDER BY since, id", Vec::new(), suspension)
    }

    fn note(&self, key: &[u8; 32]) -> Result<Option<String>, Down> {
        Ok(self
            .all("SELECT text FROM notes WHERE key = $1", vec![Box::new(key.to_vec())], |row| get(row, "text"))?
            .pop())
    }

    fn suspension(&self, subject: &[u8; 32]) -> Result<Option<Suspension>, Down> {
        let sql = "SELECT * FROM suspensions WHERE subject = $1";
        Ok(self.all(sql, vec![Box::new(subject.to_vec())], suspension)?.pop())
    }

    fn denials(&self, backend: &str, now: UnixSeconds) -> Result<Vec<Denial>, Down> {
        let sql = "SELECT * FROM denials WHERE backend = $1 AND until > $2 ORDER BY until DESC, denial";
        self.all(sql, vec![Box::new(backend.to_owned()), Box::new(now.0)], denial)
    }

    fn children(&self, of: LeaseId) -> Result<Vec<ListedLease>, Down> {
        let sql = "WITH RECURSIVE kin (id) AS
                       (SELECT id FROM leases WHERE parent = $1
                        UNION SELECT leases.id FROM leases JOIN kin ON leases.parent = kin.id)
                   SELECT leases.* FROM leases JOIN kin USING (id) WHERE state NOT IN ('failed', 'ended') ORDER BY id";
        self.all(sql, vec![Box::new(of.0.to_be_bytes().to_vec())], listed_lease)
    }

    fn leases_of(&self, family: LeaseId) -> Result<Vec<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE family = $1 AND state NOT IN ('failed', 'ended')";
        self.all(sql, vec![Box::new(family.0.to_be_bytes().to_vec())], held_lease)
    }

    fn renewable(&self, after: LeaseId, now: UnixSeconds, most: u32) -> Result<Vec<ListedLease>, Down> {
        let sql = "SELECT leases.* FROM families JOIN leases ON leases.id = families.id
                   WHERE NOT families.ended AND families.expires > $2 AND families.id > $1 ORDER BY families.id LIMIT $3";
        let after = after.0.to_be_bytes().to_vec();
        self.all(sql, vec![Box::new(after), Box::new(now.0), Box::new(i64::from(most))], listed_lease)
    }

    fn family(&self, secret: &[u8; 32]) -> Result<Option<Family>, Down> {
        let sql = "SELECT * FROM families WHERE secret = $1";
        Ok(self.all(sql, vec![Box::new(secret.to_vec())], family)?.pop())
    }

    fn ceremonies(&self, which: WhichCeremonies, most: u32) -> Result<Vec<KeptCeremony>, Down> {
        let values: Vec<Value> = match which {
            WhichCeremonies::One(id) => vec![Box::new(id.0.to_be_bytes().to_vec())],
            WhichCeremonies::Of(request) => vec![Box::new(request.to_vec())],
            WhichCeremonies::OpenAbout(about, now) => vec![Box::new(about.to_vec()), Box::new(now.0)],
            WhichCeremonies::Open(after) | WhichCeremonies::Closed(after) => {
                vec![Box::new(after.0.to_be_bytes().to_vec()), Box::new(i64::from(most))]
            }
            WhichCeremonies::Over(now) => vec![Box::new(now.0), Box::new(i64::from(most))],
        };
        let found = self.all(ceremonies::sql_of(which), values, ceremonies::ceremony)?;
        let ids: Vec<Vec<u8>> = found.iter().map(|one| one.id.0.to_be_bytes().to_vec()).collect();
        let sql = "SELECT * FROM waiting WHERE ceremony = ANY($1) ORDER BY joined, request";
        let jobs = self.all(sql, vec![Box::new(ids)], ceremonies::waiting)?;
        Ok(ceremonies::with_jobs(found, jobs))
    }

    fn standing(&self, which: WhichStanding, most: u32) -> Result<Vec<Standing>, Down> {
        let of = |key: &[u8; 32]| -> Value { Box::new(key.to_vec()) };
        let (sql, value) = match which {
            WhichStanding::About(key) => ("SELECT * FROM standing WHERE key = $1 LIMIT $2", of(&key)),
            WhichStanding::After(key) => ("SELECT * FROM standing WHERE key > $1 ORDER BY key LIMIT $2", of(&key)),
            WhichStanding::Over(now) => {
                let value: Value = Box::new(now.0);
                ("SELECT * FROM standing WHERE until <= $1 ORDER BY until LIMIT $2", value)
            }
        };
        self.all(sql, vec![value, Box::new(i64::from(most))], ceremonies::standing)
    }

    fn ended_in(&self, list: u128) -> Result<Option<Vec<u16>>, Down> {
        // One row without an index where nothing was ended: so one statement tells that from a list that is not kept.
        let sql = "SELECT status_index FROM status_lists LEFT JOIN leases
                       ON status_list = status_lists.id AND state = 'ended'
                   WHERE status_lists.id = $1 ORDER BY status_index";
        let index = |row: &Row| get::<Option<i64>>(row, "status_index");
        let rows = self.all(sql, vec![Box::new(list.to_be_bytes().to_vec())], index)?;
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(rows.into_iter().flatten().filter_map(|index| u16::try_from(index).ok()).collect()))
    }

    fn unsettled(&self, before: UnixSeconds) -> Result<Vec<StoredLease>, Down> {
        let sql = "SELECT * FROM leases WHERE state = 'issuing' AND opened < $1 ORDER BY opened LIMIT $2";
        self.all(sql, vec![Box::new(before.0), Box::new(UNSETTLED_ROWS_MAX)], stored_lease)
    }

    fn folder(&self, version: &[u8; 32]) -> Result<Option<Vec<u8>>, Down> {
        let sql = "SELECT archive FROM folders WHERE version = $1";
        Ok(self.all(sql, vec![Box::new(version.to_vec())], |row| get(row, "archive"))?.pop())
    }

    fn facts(&self) -> Result<BTreeMap<String, String>, Down> {
        let sql = "SELECT name, value FROM fixed";
        let facts = self.all(sql, Vec::new(), |row| Ok((get(row, "name")?, get(row, "value")?)))?;
        Ok(facts.into_iter().collect())
    }

    fn records(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Down> {
        let sql = "SELECT body, details FROM records WHERE length(body) > 0 ORDER BY position";
        self.walk(self.moment()?, sql, &mut |row| Ok(each(get(row, "body")?, get(row, "details")?)))?;
        Ok(())
    }

    fn chain(&self, incarnation: u128, after: u64, most: u32) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE incarnation = $1 AND sequence > $2 AND length(body) > 0 ORDER BY sequence LIMIT $3";
        let of = incarnation.to_be_bytes().to_vec();
        self.all(sql, vec![Box::new(of), Box::new(after.cast_signed()), Box::new(i64::from(most))], stored)
    }

    fn records_after(&self, position: i64, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Down> {
        let sql = format!("SELECT * FROM records WHERE position > {position} ORDER BY position");
        self.walk(self.moment()?, &sql, &mut |row| Ok(each(stored(row)?)))?;
        Ok(())
    }

    /// A place is taken from a sequence, in a transaction that shows only when it ends. So the sequence is read first,
    /// and then everybody waited for who may have taken one of the places up to there.
    fn settled(&self) -> Result<i64, Down> {
        let next = self.rows(NEXT, Vec::new())?;
        let next = next.first().ok_or_else(|| Down::new("the sequence of records is gone"))?;
        if get(next, "standby")? {
            return Err(Down::new("a standby does not know what its primary is writing"));
        }
        let (upto, began) = (get(next, "upto")?, Instant::now());
        let mut placing: Option<BTreeSet<String>> = None;
        loop {
            let now = self.all(PLACING, Vec::new(), |row| get(row, "virtualtransaction"))?.into_iter().collect();
            let left = placing.map_or_else(|| BTreeSet::clone(&now), |then| &then & &now);
            if left.is_empty() {
                return Ok(upto);
            }
            if began.elapsed() > SETTLED_WAIT_MAX {
                return Err(Down::new("a transaction that writes records does not end"));
            }
            placing = Some(left);
            thread::sleep(SETTLED_LOOK);
        }
    }

    fn leaves(&self, after: i64, upto: i64, most: usize) -> Result<Vec<Leaf>, Down> {
        let sql = "SELECT position, leaf, link FROM records WHERE position > $1 AND position <= $2
                   ORDER BY position LIMIT $3";
        let leaf = |row: &Row| {
            Ok(Leaf { position: get(row, "position")?, leaf: bytes(row, "leaf")?, link: bytes(row, "link")? })
        };
        self.all(sql, vec![Box::new(after), Box::new(upto), Box::new(most as i64)], leaf)
    }

    fn count_after(&self, position: i64) -> Result<u64, Down> {
        let sql = "SELECT count(*) AS count FROM records WHERE position > $1";
        let counted = self.all(sql, vec![Box::new(position)], |row| get::<i64>(row, "count"))?.pop();
        Ok(counted.unwrap_or_default().unsigned_abs())
    }

    fn nodes(&self, level: u8, numbers: Range<u64>) -> Result<Vec<Node>, Down> {
        let sql = "SELECT * FROM tree WHERE level = $1 AND number >= $2 AND number < $3 ORDER BY number";
        let (from, to) = (numbers.start.cast_signed(), numbers.end.cast_signed());
        self.all(sql, vec![Box::new(i64::from(level)), Box::new(from), Box::new(to)], node)
    }

    fn grown(&self) -> Result<Option<Node>, Down> {
        let sql = "SELECT * FROM tree WHERE level = 1 ORDER BY number DESC LIMIT 1";
        Ok(self.all(sql, Vec::new(), node)?.pop())
    }

    fn epochs(&self) -> Result<Vec<Epoch>, Down> {
        self.all(EPOCHS, Vec::new(), epoch)
    }

    fn checkpoint(&self) -> Result<Option<String>, Down> {
        let sql = "SELECT note FROM checkpoints ORDER BY epoch DESC LIMIT 1";
        Ok(self.all(sql, Vec::new(), |row| get(row, "note"))?.pop())
    }

    fn snapshot(&self, each: &mut dyn FnMut(Kept) -> bool) -> Result<(), Down> {
        let client = self.moment()?;
        let incarnations = "SELECT number, id, previous, sequence, head FROM incarnations ORDER BY number";
        let mut show = |row: &Row| Ok(each(Kept::Incarnation(incarnation(row)?)));
        let (client, more) = self.walk(client, incarnations, &mut show)?;
        if !more {
            return Ok(());
        }
        let (client, more) = self.walk(client, EPOCHS, &mut |row| Ok(each(Kept::Epoch(epoch(row)?))))?;
        if !more {
            return Ok(());
        }
        let notes = "SELECT note FROM checkpoints ORDER BY epoch";
        let (client, more) = self.walk(client, notes, &mut |row| Ok(each(Kept::Checkpoint(get(row, "note")?))))?;
        if !more {
            return Ok(());
        }
        let nodes = "SELECT * FROM tree ORDER BY level, number";
        let (client, more) = self.walk(client, nodes, &mut |row| Ok(each(Kept::Node(node(row)?))))?;
        if !more {
            return Ok(());
        }
        let mut show = |row: &Row| {
            let stored = stored(row).map_err(|down| {
                let position =
                    row.try_get::<_, i64>("position").map_or("?".to_owned(), |position| position.to_string());
                Down::new(format!("record {position} cannot be read: {}", down.why))
            });
            Ok(each(Kept::Record(stored?)))
        };
        let (client, more) = self.walk(client, "SELECT * FROM records ORDER BY position", &mut show)?;
        if more {
            let leases = "SELECT leases.*, spent.token IS NULL AND token_keep_until >= forgotten AS token_lost
                          FROM leases LEFT JOIN spent USING (token), sweeps ORDER BY id";
            let (client, more) = self.walk(client, leases, &mut |row| Ok(each(Kept::Lease(audited_lease(row)?))))?;
            if more {
                let mut show =
                    |row: &Row| Ok(each(Kept::Suspension(SuspensionId(u128::from_be_bytes(bytes(row, "id")?)))));
                self.walk(client, "SELECT id FROM suspensions ORDER BY id", &mut show)?;
            }
        }
        Ok(())
    }

    fn census(&self, now: UnixSeconds) -> Result<Census, Down> {
        let live = "SELECT state, count(*) AS number FROM leases
                    WHERE id >= $1 AND expires > $2 AND state NOT IN ('failed', 'ended') GROUP BY state ORDER BY state";
        let values: Vec<Value> = vec![Box::new(oldest_live(now).to_vec()), Box::new(now.0)];
        let live = self.all(live, values, |row| Ok((state(row)?, get::<i64>(row, "number")?.unsigned_abs())))?;
        let open = "SELECT state::jsonb ->> 'state' AS name, count(*) AS number FROM ceremonies
                    WHERE open AND expires > $1 GROUP BY name ORDER BY name";
        let ceremonies = self.all(open, vec![Box::new(now.0)], |row| {
            Ok((get(row, "name")?, get::<i64>(row, "number")?.unsigned_abs()))
        })?;
        let size = "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::BIGINT AS bytes
                    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                    WHERE nspname = 'claimbound' AND relkind = 'r'";
        let bytes = self.all(size, Vec::new(), |row| get::<i64>(row, "bytes"))?.pop().unwrap_or(0).unsigned_abs();
        Ok(Census { live, ceremonies, bytes })
    }

    fn ping(&self) -> Result<(), Down> {
        self.rows("SELECT swept FROM sweeps", Vec::new()).map(drop)
    }
}

fn incarnation(row: &Row) -> Result<Incarnation, Down> {
    Ok(Incarnation {
        number: get(row, "number")?,
        id: u128::from_be_bytes(bytes(row, "id")?),
        previous: bytes(row, "previous")?,
        sequence: get::<i64>(row, "sequence")?.cast_unsigned(),
        head: bytes(row, "head")?,
    })
}

fn epoch(row: &Row) -> Result<Epoch, Down> {
    Ok(Epoch {
        number: get::<i64>(row, "number")?.unsigned_abs(),
        id: u128::from_be_bytes(bytes(row, "id")?),
        began: UnixSeconds(get(row, "began")?),
        instead_of: maybe_bytes(row, "instead_of")?.map(u128::from_be_bytes),
    })
}

fn node(row: &Row) -> Result<Node, Down> {
    let level = u8::try_from(get::<i64>(row, "level")?).map_err(|_| Down::new("`level` is out of range"))?;
    let number = get::<i64>(row, "number")?.unsigned_abs();
    Ok(Node { level, number, last: get(row, "last")?, hash: bytes(row, "hash")? })
}

fn stored(row: &Row) -> Result<Stored, Down> {
    Ok(Stored {
        position: get(row, "position")?,
        incarnation: u128::from_be_bytes(bytes(row, "incarnation")?),
        sequence: get::<i64>(row, "sequence")?.cast_unsigned(),
        link: bytes(row, "link")?,
        leaf: bytes(row, "leaf")?,
        body: get(row, "body")?,
        details: get(row, "details")?,
    })
}

fn lease_id(row: &Row) -> Result<LeaseId, Down> {
    Ok(LeaseId(u128::from_be_bytes(bytes(row, "id")?)))
}

fn stored_lease(row: &Row) -> Result<StoredLease, Down> {
    Ok(StoredLease { id: lease_id(row)?, role: get(row, "role")? })
}

fn held_lease(row: &Row) -> Result<HeldLease, Down> {
    Ok(HeldLease {
        id: lease_id(row)?,
        role: get(row, "role")?,
        handle: get(row, "handle")?,
        expires: UnixSeconds(get(row, "expires")?),
        state: state(row)?,
        handoff: get(row, "handoff")?,
    })
}

fn one_session(row: &Row) -> Result<Session, Down> {
    Ok(Session {
        session: bytes(row, "session")?,
        operator: get(row, "operator")?,
        sign_in: get(row, "sign_in")?,
        may: get(row, "may")?,
        binding: bytes(row, "binding")?,
        expires: UnixSeconds(get(row, "expires")?),
        person: match get::<Option<&str>>(row, "person")? {
            None => None,
            Some(_) => Some(ceremonies::parsed(row, "person")?),
        },
    })
}

fn listed_lease(row: &Row) -> Result<ListedLease, Down> {
    Ok(ListedLease {
        id: lease_id(row)?,
        role: get(row, "role")?,
        mapping: get(row, "mapping")?,
        team: get(row, "team")?,
        issuer: get(row, "principal_issuer")?,
        principal_id: get(row, "principal_id")?,
        principal_name: get(row, "principal_name")?,
        repository_id: get(row, "repository_id")?,
        owner_id: get(row, "owner_id")?,
        run_id: get(row, "run_id")?,
        person: maybe_bytes(row, "person")?,
        acting: get::<Option<&str>>(row, "actor")?.map(Acting::of_text).transpose()?,
        acting_person: maybe_bytes(row, "actor_person")?,
        parent: maybe_bytes(row, "parent")?.map(|id| LeaseId(u128::from_be_bytes(id))),
        handoff: get(row, "handoff")?,
        opened: UnixSeconds(get(row, "opened")?),
        expires: UnixSeconds(get(row, "expires")?),
        handle: get(row, "handle")?,
        state: state(row)?,
        family: maybe_bytes(row, "family")?.map(|id| LeaseId(u128::from_be_bytes(id))),
    })
}

/// A name that this program does not know: a later one wrote it.
fn named<T>(row: &Row, column: &str, from_name: fn(&str) -> Option<T>) -> Result<T, Down> {
    let name: &str = get(row, column)?;
    from_name(name).ok_or_else(|| Down::new(format!("`{name}` is no `{column}`")))
}

fn suspension(row: &Row) -> Result<Suspension, Down> {
    let subject = Subject::new(
        named(row, "scope", Scope::from_name)?,
        get::<String>(row, "issuer")?,
        get::<String>(row, "name")?,
    );
    Ok(Suspension {
        id: SuspensionId(u128::from_be_bytes(bytes(row, "id")?)),
        subject,
        since: get(row, "since")?,
        until: get(row, "until")?,
        operator: get(row, "operator")?,
        reason: get(row, "reason")?,
    })
}

fn denial(row: &Row) -> Result<Denial, Down> {
    Ok(Denial {
        backend: get(row, "backend")?,
        scope: named(row, "scope", DenialScope::from_name)?,
        value: get(row, "value")?,
        before: UnixSeconds(get(row, "before")?),
        until: UnixSeconds(get(row, "until")?),
    })
}

fn audited_lease(row: &Row) -> Result<AuditedLease, Down> {
    Ok(AuditedLease {
        id: lease_id(row)?,
        role: get(row, "role")?,
        mapping: get(row, "mapping")?,
        state: state(row)?,
        expires: UnixSeconds(get(row, "expires")?),
        token_lost: get::<Option<bool>>(row, "token_lost")?.unwrap_or(false),
    })
}
