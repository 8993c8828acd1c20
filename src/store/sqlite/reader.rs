//! Reading: own connections, each walk in one read transaction, nothing in the writer's way.

use super::{KIN, MIGRATIONS, ceremonies, family_at, id_at, key, notes, prepare, version};
use crate::store::{
    Acting, AuditedLease, Census, Denial, DenialScope, Down, Epoch, Family, HeldLease, Kept, KeptCeremony, Leaf,
    LeaseOrder, ListedLease, Node, Reader, Scope, Session, Standing, Stored, StoredLease, Subject, Suspension,
    WhichCeremonies, WhichStanding, forget::Forgotten, open::oldest_live,
};
use claimbound_core::{
    evidence::{DecisionId, LeaseId, SuspensionId},
    time::UnixSeconds,
};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Params, Row,
    types::{Type, ValueRef},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Connections kept open when nobody reads.
const IDLE_CONNECTIONS_MAX: usize = 4;
/// Pages that a walk over everything keeps.
const SNAPSHOT_CACHE_KIB: i64 = 128 * 1024;
/// Records that one read of a walk shows.
const WALK_ROWS: u32 = 4_096;
/// Leases that one `unsettled` returns, at most; the sweeper comes again.
const UNSETTLED_ROWS_MAX: u32 = 1_000;

/// Reads of one database file.
pub(in crate::store) struct SqliteReader {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReader {
    /// Opens an existing store; never creates, changes or locks it.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, Down> {
        let reader = Self { path: path.to_owned(), idle: Mutex::default() };
        reader.read(|connection| match version(connection)? {
            version if version == MIGRATIONS.len() => Ok(()),
            0 => Err(Down::new("the file is empty, no broker has opened it yet")),
            version => Err(Down::new(format!(
                "the store is of version {version}, this program reads version {}; `claimbound serve` brings it there",
                MIGRATIONS.len()
            ))),
        })?;
        Ok(reader)
    }

    fn read<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, Down>) -> Result<T, Down> {
        let told = |down: Down| Down::new(format!("`{}`: {}", self.path.display(), down.why));
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().map_err(|error| told(error.into()))?,
        };
        // A connection that failed is not used again.
        let answer = ask(&connection).map_err(told)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        prepare(&connection)?;
        Ok(connection)
    }
}

impl Reader for SqliteReader {
    fn decision(&self, id: DecisionId) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE decision = ?1 ORDER BY position";
        self.read(|connection| all(connection, sql, [id.0.to_be_bytes()], stored))
    }

    fn lease(&self, id: LeaseId) -> Result<Option<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE id = ?1";
        self.read(|connection| {
            Ok(connection.prepare_cached(sql)?.query_row([id.0.to_be_bytes()], held_lease).optional()?)
        })
    }

    fn held(&self, possession: &[u8; 32]) -> Result<Option<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE possession = ?1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([possession], held_lease).optional()?))
    }

    fn note(&self, key: &[u8; 32]) -> Result<Option<String>, Down> {
        self.read(|connection| Ok(notes::read(connection, key)?))
    }

    fn session(&self, session: &[u8; 32]) -> Result<Option<Session>, Down> {
        let sql = "SELECT * FROM sessions WHERE session = ?1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([session], one_session).optional()?))
    }

    fn before(&self, position: Option<i64>, rows: u32) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE position < ?1 AND length(body) > 0 ORDER BY position DESC LIMIT ?2";
        self.read(|connection| all(connection, sql, (position.unwrap_or(i64::MAX), rows), stored))
    }

    fn forgotten(&self) -> Result<Forgotten, Down> {
        let sql = "SELECT details, records FROM forgotten";
        let told = |row: &Row<'_>| Ok(Forgotten { details: row.get("details")?, records: row.get("records")? });
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([], told)?))
    }

    fn leases(&self, order: &LeaseOrder, most: u32) -> Result<Vec<ListedLease>, Down> {
        self.read(|connection| match order {
            LeaseOrder::Ending { after: (at, lease), until } => {
                let sql = "SELECT * FROM leases WHERE (expires, id) > (?1, ?2) AND expires <= ?3
                           ORDER BY expires, id LIMIT ?4";
                all(connection, sql, (at.0, key(*lease), until.0, most), listed_lease)
            }
            LeaseOrder::Youngest { below, of: None } => {
                let sql = "SELECT * FROM leases WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
                all(connection, sql, (key(*below), most), listed_lease)
            }
            LeaseOrder::Youngest { below, of: Some(repository) } => {
                // Each half along its own index.
                let sql = "SELECT * FROM (SELECT * FROM leases WHERE repository_id = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3)
                           UNION SELECT * FROM
                               (SELECT * FROM leases WHERE actor_repository = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3)
                           ORDER BY id DESC LIMIT ?3";
                all(connection, sql, (repository, key(*below), most), listed_lease)
            }
        })
    }

    fn suspensions(&self) -> Result<Vec<Suspension>, Down> {
        self.read(|connection| all(connection, "SELECT * FROM suspensions ORDER BY since, id", [], suspension))
    }

    fn suspension(&self, subject: &[u8; 32]) -> Result<Option<Suspension>, Down> {
        let sql = "SELECT * FROM suspensions WHERE subject = ?1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([subject], suspension).optional()?))
    }

    fn denials(&self, backend: &str, now: UnixSeconds) -> Result<Vec<Denial>, Down> {
        let sql = "SELECT * FROM denials WHERE backend = ?1 AND until > ?2 ORDER BY until DESC, denial";
        self.read(|connection| all(connection, sql, (backend, now.0), denial))
    }

    fn children(&self, of: LeaseId) -> Result<Vec<ListedLease>, Down> {
        let sql =
            format!("{KIN} SELECT * FROM leases WHERE id IN kin AND state NOT IN ('failed', 'ended') ORDER BY id");
        self.read(|connection| all(connection, &sql, [key(of)], listed_lease))
    }

    fn leases_of(&self, family: LeaseId) -> Result<Vec<HeldLease>, Down> {
        let sql = "SELECT * FROM leases WHERE family = ?1 AND state NOT IN ('failed', 'ended')";
        self.read(|connection| all(connection, sql, [family.0.to_be_bytes()], held_lease))
    }

    fn renewable(&self, after: LeaseId, now: UnixSeconds, most: u32) -> Result<Vec<ListedLease>, Down> {
        let sql = "SELECT leases.* FROM families JOIN leases ON leases.id = families.id
                   WHERE families.ended = 0 AND families.expires > ?2 AND families.id > ?1 ORDER BY families.id LIMIT ?3";
        self.read(|connection| all(connection, sql, (key(after), now.0, most), listed_lease))
    }

    fn family(&self, secret: &[u8; 32]) -> Result<Option<Family>, Down> {
        let sql = "SELECT * FROM families WHERE secret = ?1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([secret], family_at).optional()?))
    }

    fn ceremonies(&self, which: WhichCeremonies, most: u32) -> Result<Vec<KeptCeremony>, Down> {
        self.read(|connection| ceremonies::read(connection, which, most))
    }

    fn standing(&self, which: WhichStanding, most: u32) -> Result<Vec<Standing>, Down> {
        self.read(|connection| ceremonies::read_standing(connection, which, most))
    }

    fn ended_in(&self, list: u128) -> Result<Option<Vec<u16>>, Down> {
        let (kept, list) = ("SELECT 1 FROM status_lists WHERE id = ?1", list.to_be_bytes());
        let ended = "SELECT status_index FROM leases WHERE status_list = ?1 AND state = 'ended' ORDER BY status_index";
        self.read(|connection| {
            if !connection.prepare_cached(kept)?.exists([list])? {
                return Ok(None);
            }
            all(connection, ended, [list], |row| row.get(0)).map(Some)
        })
    }

    fn unsettled(&self, before: UnixSeconds) -> Result<Vec<StoredLease>, Down> {
        let sql = "SELECT * FROM leases WHERE state = 'issuing' AND opened < ?1 ORDER BY opened LIMIT ?2";
        self.read(|connection| all(connection, sql, (before.0, UNSETTLED_ROWS_MAX), stored_lease))
    }

    fn folder(&self, version: &[u8; 32]) -> Result<Option<Vec<u8>>, Down> {
        let sql = "SELECT archive FROM folders WHERE version = ?1";
        self.read(|connection| Ok(connection.query_row(sql, [version], |row| row.get(0)).optional()?))
    }

    fn facts(&self) -> Result<BTreeMap<String, String>, Down> {
        let sql = "SELECT name, value FROM fixed";
        let facts = self.read(|connection| all(connection, sql, (), |row| Ok((row.get(0)?, row.get(1)?))))?;
        Ok(facts.into_iter().collect())
    }

    fn records(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Down> {
        let last = "SELECT coalesce(max(position), 0) FROM records";
        let last: i64 = self.read(|connection| Ok(connection.query_row(last, [], |row| row.get(0))?))?;
        let some = "SELECT position, body, details FROM records WHERE position > ?1 AND position <= ?2
                    AND length(body) > 0 ORDER BY position LIMIT ?3";
        let mut shown = i64::MIN;
        while shown < last {
            let before = shown;
            let more = self.read(|connection| {
                let mut statement = connection.prepare_cached(some)?;
                let mut rows = statement.query((shown, last, WALK_ROWS))?;
                while let Some(row) = rows.next()? {
                    shown = row.get(0)?;
                    let bytes = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
                    if !each(bytes(1)?, bytes(2)?) {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            if !more || shown == before {
                break;
            }
        }
        Ok(())
    }

    fn chain(&self, incarnation: u128, after: u64, most: u32) -> Result<Vec<Stored>, Down> {
        let sql = "SELECT * FROM records WHERE incarnation = ?1 AND sequence > ?2 AND length(body) > 0 ORDER BY sequence LIMIT ?3";
        self.read(|connection| all(connection, sql, (incarnation.to_be_bytes(), after.cast_signed(), most), stored))
    }

    fn records_after(&self, position: i64, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Down> {
        let last = self.settled()?;
        let some = "SELECT * FROM records WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
        let mut shown = position;
        loop {
            let records = self.read(|connection| all(connection, some, (shown, last, WALK_ROWS), stored))?;
            let Some(newest) = records.last() else { return Ok(()) };
            shown = newest.position;
            for record in records {
                if !each(record) {
                    return Ok(());
                }
            }
        }
    }

    fn settled(&self) -> Result<i64, Down> {
        let last = "SELECT coalesce(max(position), 0) FROM records";
        self.read(|connection| Ok(connection.query_row(last, [], |row| row.get(0))?))
    }

    fn leaves(&self, after: i64, upto: i64, most: usize) -> Result<Vec<Leaf>, Down> {
        let sql = "SELECT position, leaf, link FROM records WHERE position > ?1 AND position <= ?2
                   ORDER BY position LIMIT ?3";
        let leaf = |row: &Row<'_>| Ok(Leaf { position: row.get(0)?, leaf: row.get(1)?, link: row.get(2)? });
        self.read(|connection| all(connection, sql, (after, upto, most as i64), leaf))
    }

    fn count_after(&self, position: i64) -> Result<u64, Down> {
        let sql = "SELECT count(*) FROM records WHERE position > ?1";
        self.read(|connection| Ok(connection.query_row(sql, [position], |row| row.get::<_, i64>(0))?.unsigned_abs()))
    }

    fn nodes(&self, level: u8, numbers: Range<u64>) -> Result<Vec<Node>, Down> {
        let sql = "SELECT * FROM tree WHERE level = ?1 AND number >= ?2 AND number < ?3 ORDER BY number";
        let values = (level, numbers.start.cast_signed(), numbers.end.cast_signed());
        self.read(|connection| all(connection, sql, values, node))
    }

    fn grown(&self) -> Result<Option<Node>, Down> {
        let sql = "SELECT * FROM tree WHERE level = 1 ORDER BY number DESC LIMIT 1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([], node).optional()?))
    }

    fn epochs(&self) -> Result<Vec<Epoch>, Down> {
        self.read(|connection| all(connection, EPOCHS, [], epoch))
    }

    fn checkpoint(&self) -> Result<Option<String>, Down> {
        let sql = "SELECT note FROM checkpoints ORDER BY epoch DESC LIMIT 1";
        self.read(|connection| Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?))
    }

    fn snapshot(&self, each: &mut dyn FnMut(Kept) -> bool) -> Result<(), Down> {
        let told = |down: Down| Down::new(format!("`{}`: {}", self.path.display(), down.why));
        let walk_all = |each: &mut dyn FnMut(Kept) -> bool| {
            // Of its own: each lease looks for its token, anywhere in the tree of them.
            let connection = self.connect()?;
            connection.pragma_update(None, "cache_size", -SNAPSHOT_CACHE_KIB)?;
            let transaction = connection.unchecked_transaction()?;
            let mut more = true;
            let epochs = all(&transaction, EPOCHS, [], |row| epoch(row).map(Kept::Epoch))?;
            let notes = "SELECT note FROM checkpoints ORDER BY epoch";
            let notes = all(&transaction, notes, [], |row| row.get(0).map(Kept::Checkpoint))?;
            let nodes = "SELECT * FROM tree ORDER BY level, number";
            let nodes = all(&transaction, nodes, [], |row| node(row).map(Kept::Node))?;
            for kept in epochs.into_iter().chain(notes).chain(nodes) {
                more = more && each(kept);
            }
            if !more {
                return Ok(());
            }
            walk_records(&transaction, &mut |stored| {
                more = each(Kept::Record(stored));
                more
            })?;
            if more {
                let sql = "SELECT leases.id, role, mapping, leases.state, expires, spent.token IS NULL AND token_keep_until >= forgotten
                           FROM leases LEFT JOIN spent USING (token), sweeps ORDER BY leases.id";
                walk(&transaction, sql, |row| Ok(audited_lease(row)?), &mut |lease| {
                    more = each(Kept::Lease(lease));
                    more
                })?;
            }
            if more {
                let sql = "SELECT id FROM suspensions ORDER BY id";
                let id = |row: &Row<'_>| Ok(SuspensionId(id_at(row, "id")?));
                walk(&transaction, sql, id, &mut |id| each(Kept::Suspension(id)))?;
            }
            Ok(())
        };
        walk_all(each).map_err(told)
    }

    fn census(&self, now: UnixSeconds) -> Result<Census, Down> {
        let live = "SELECT state, count(*) FROM leases
                    WHERE id >= ?1 AND expires > ?2 AND state NOT IN ('failed', 'ended') GROUP BY state ORDER BY state";
        let open = "SELECT json_extract(state, '$.state') AS name, count(*) FROM ceremonies
                    WHERE open = 1 AND expires > ?1 GROUP BY name ORDER BY name";
        let size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        self.read(|connection| {
            let live = all(connection, live, (oldest_live(now), now.0), |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            let ceremonies =
                all(connection, open, [now.0], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            let bytes = connection.query_row(size, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
            Ok(Census { live, ceremonies, bytes })
        })
    }

    fn ping(&self) -> Result<(), Down> {
        self.read(|connection| Ok(connection.query_row("SELECT swept FROM sweeps", [], |_| Ok(()))?))
    }
}

fn walk_records(connection: &Connection, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Down> {
    let named = |row: &Row<'_>| {
        stored(row).map_err(|error| {
            let position = row.get::<_, i64>("position").map_or("?".to_owned(), |position| position.to_string());
            Down::new(format!("record {position} cannot be read: {error}"))
        })
    };
    walk(connection, "SELECT * FROM records ORDER BY position", named, each)
}

fn walk<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> Result<T, Down>,
    each: &mut dyn FnMut(T) -> bool,
) -> Result<(), Down> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !each(read(row)?) {
            break;
        }
    }
    Ok(())
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Down> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// By places, in the table's order: millions of names are not to be looked up.
fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        position: row.get(0)?,
        incarnation: u128::from_be_bytes(row.get(1)?),
        sequence: row.get::<_, i64>(2)?.cast_unsigned(),
        link: row.get(3)?,
        leaf: row.get(4)?,
        body: row.get(5)?,
        details: row.get(6)?,
    })
}

/// All epochs, oldest first.
const EPOCHS: &str = "SELECT * FROM epochs ORDER BY number";

fn epoch(row: &Row<'_>) -> rusqlite::Result<Epoch> {
    Ok(Epoch {
        number: row.get::<_, i64>("number")?.unsigned_abs(),
        id: id_at(row, "id")?,
        began: UnixSeconds(row.get("began")?),
        instead_of: row.get::<_, Option<[u8; 16]>>("instead_of")?.map(u128::from_be_bytes),
    })
}

fn node(row: &Row<'_>) -> rusqlite::Result<Node> {
    Ok(Node {
        level: row.get("level")?,
        number: row.get::<_, i64>("number")?.unsigned_abs(),
        last: row.get("last")?,
        hash: row.get("hash")?,
    })
}

fn stored_lease(row: &Row<'_>) -> rusqlite::Result<StoredLease> {
    Ok(StoredLease { id: LeaseId(id_at(row, "id")?), role: row.get("role")? })
}

fn held_lease(row: &Row<'_>) -> rusqlite::Result<HeldLease> {
    Ok(HeldLease {
        id: LeaseId(id_at(row, "id")?),
        role: row.get("role")?,
        handle: row.get("handle")?,
        expires: UnixSeconds(row.get("expires")?),
        state: row.get("state")?,
        handoff: row.get("handoff")?,
    })
}

fn one_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        session: row.get("session")?,
        operator: row.get("operator")?,
        sign_in: row.get("sign_in")?,
        may: row.get("may")?,
        binding: row.get("binding")?,
        expires: UnixSeconds(row.get("expires")?),
        person: match row.get_ref("person")? {
            ValueRef::Null => None,
            _ => Some(ceremonies::parsed(row, "person")?),
        },
    })
}

fn listed_lease(row: &Row<'_>) -> rusqlite::Result<ListedLease> {
    Ok(ListedLease {
        id: LeaseId(id_at(row, "id")?),
        role: row.get("role")?,
        mapping: row.get("mapping")?,
        team: row.get("team")?,
        issuer: row.get("principal_issuer")?,
        principal_id: row.get("principal_id")?,
        principal_name: row.get("principal_name")?,
        repository_id: row.get("repository_id")?,
        owner_id: row.get("owner_id")?,
        run_id: row.get("run_id")?,
        person: row.get("person")?,
        acting: acting(row)?,
        acting_person: row.get("actor_person")?,
        parent: row.get::<_, Option<[u8; 16]>>("parent")?.map(|id| LeaseId(u128::from_be_bytes(id))),
        handoff: row.get("handoff")?,
        opened: UnixSeconds(row.get("opened")?),
        expires: UnixSeconds(row.get("expires")?),
        handle: row.get("handle")?,
        state: row.get("state")?,
        family: row.get::<_, Option<[u8; 16]>>("family")?.map(|id| LeaseId(u128::from_be_bytes(id))),
    })
}

fn acting(row: &Row<'_>) -> rusqlite::Result<Option<Acting>> {
    let text: Option<String> = row.get("actor")?;
    let acting = text.map(|text| Acting::of_text(&text)).transpose();
    acting.map_err(|down| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, down.into()))
}

/// A name that this program does not know: a later one wrote it.
fn named<T>(row: &Row<'_>, column: &str, from_name: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    from_name(&name).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("`{name}` is no `{column}`").into())
    })
}

fn suspension(row: &Row<'_>) -> rusqlite::Result<Suspension> {
    let subject = Subject::new(
        named(row, "scope", Scope::from_name)?,
        row.get::<_, String>("issuer")?,
        row.get::<_, String>("name")?,
    );
    Ok(Suspension {
        id: SuspensionId(id_at(row, "id")?),
        subject,
        since: row.get("since")?,
        until: row.get("until")?,
        operator: row.get("operator")?,
        reason: row.get("reason")?,
    })
}

fn denial(row: &Row<'_>) -> rusqlite::Result<Denial> {
    Ok(Denial {
        backend: row.get("backend")?,
        scope: named(row, "scope", DenialScope::from_name)?,
        value: row.get("value")?,
        before: UnixSeconds(row.get("before")?),
        until: UnixSeconds(row.get("until")?),
    })
}

fn audited_lease(row: &Row<'_>) -> rusqlite::Result<AuditedLease> {
    Ok(AuditedLease {
        id: LeaseId(u128::from_be_bytes(row.get(0)?)),
        role: row.get(1)?,
        mapping: row.get(2)?,
        state: row.get(3)?,
        expires: UnixSeconds(row.get(4)?),
        token_lost: row.get::<_, Option<bool>>(5)?.unwrap_or(false),
    })
}
