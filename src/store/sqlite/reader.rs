//! Reading: own connections, each walk in one read transaction, nothing in the writer's way.

use super::{MIGRATIONS, id_at, prepare, version};
use crate::store::{AuditedLease, Down, Epoch, HeldLease, Kept, Leaf, Node, Reader, Stored, StoredLease};
use claimbound_core::{
    evidence::{DecisionId, LeaseId},
    time::UnixSeconds,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Params, Row};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Connections kept open when nobody reads.
const IDLE_CONNECTIONS_MAX: usize = 4;
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

    fn unsettled(&self, before: UnixSeconds) -> Result<Vec<StoredLease>, Down> {
        let sql = "SELECT * FROM leases WHERE state = 'issuing' AND opened < ?1 ORDER BY opened LIMIT ?2";
        self.read(|connection| all(connection, sql, (before.0, UNSETTLED_ROWS_MAX), stored_lease))
    }

    fn folder(&self, version: &[u8; 32]) -> Result<Option<Vec<u8>>, Down> {
        let sql = "SELECT archive FROM folders WHERE version = ?1";
        self.read(|connection| Ok(connection.query_row(sql, [version], |row| row.get(0)).optional()?))
    }

    fn records(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Down> {
        let last = "SELECT coalesce(max(position), 0) FROM records";
        let last: i64 = self.read(|connection| Ok(connection.query_row(last, [], |row| row.get(0))?))?;
        let some = "SELECT position, body, details FROM records WHERE position > ?1 AND position <= ?2
                    ORDER BY position LIMIT ?3";
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
        self.read(|connection| {
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
                let sql = "SELECT leases.*, spent.token IS NULL AND token_keep_until >= forgotten AS token_lost
                           FROM leases LEFT JOIN spent USING (token), sweeps ORDER BY id";
                walk(&transaction, sql, |row| Ok(audited_lease(row)?), &mut |lease| each(Kept::Lease(lease)))?;
            }
            Ok(())
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

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        position: row.get("position")?,
        incarnation: id_at(row, "incarnation")?,
        sequence: row.get::<_, i64>("sequence")?.cast_unsigned(),
        link: row.get("link")?,
        leaf: row.get("leaf")?,
        body: row.get("body")?,
        details: row.get("details")?,
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
    })
}

fn audited_lease(row: &Row<'_>) -> rusqlite::Result<AuditedLease> {
    Ok(AuditedLease {
        id: LeaseId(id_at(row, "id")?),
        role: row.get("role")?,
        mapping: row.get("mapping")?,
        state: row.get("state")?,
        expires: UnixSeconds(row.get("expires")?),
        token_lost: row.get::<_, Option<bool>>("token_lost")?.unwrap_or(false),
    })
}
