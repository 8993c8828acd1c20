//! The SQLite engine and its reads: the only SQL.
//!
//! The write-ahead log with `synchronous=FULL` syncs once per transaction, before it answers; readers never wait for
//! the writer. One broker owns the file, by a lock that its end releases however it ends.

mod ceremonies;
mod checkpoint;
mod engine;
mod file;
mod guards;
mod notes;
mod reader;
mod sweep;

pub(super) use engine::{Sqlite, migrate};
pub(super) use reader::SqliteReader;

use super::{Down, Family, LeaseState, Turns};
use claimbound_core::{evidence::LeaseId, time::UnixSeconds};
use rusqlite::{
    Connection, Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use std::time::Duration;

/// Every migration, oldest first; `user_version` counts those applied.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/sqlite_0001.sql"),
    include_str!("migrations/sqlite_0002.sql"),
    include_str!("migrations/sqlite_0003.sql"),
    include_str!("migrations/sqlite_0004.sql"),
    include_str!("migrations/sqlite_0005.sql"),
    include_str!("migrations/sqlite_0006.sql"),
    include_str!("migrations/sqlite_0007.sql"),
    include_str!("migrations/sqlite_0008.sql"),
    include_str!("migrations/sqlite_0009.sql"),
    include_str!("migrations/sqlite_0010.sql"),
    include_str!("migrations/sqlite_0011.sql"),
    include_str!("migrations/sqlite_0012.sql"),
];
/// Marks the file as ours (`PRAGMA application_id`): "CLBD".
const APPLICATION_ID: i32 = 0x434c_4244;
/// How long SQLite itself waits for a lock: a checkpoint of a reader that closes, a backup tool.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(4);
/// More than there are statements.
const STATEMENTS_CACHED_MAX: usize = 64;

impl From<rusqlite::Error> for Down {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// What all our connections have in common.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// How many migrations the file has had; refuses files that are not ours, or newer than we are.
fn version(connection: &Connection) -> Result<usize, Down> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && (id, version, tables) != (0, 0, 0) {
        return Err(Down::new("the file is a database, but not of claimbound; name another file"));
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(Down::new(format!(
            "the store is of version {version}, this program knows versions up to {}; run the newer program, or open a backup",
            MIGRATIONS.len()
        ))),
    }
}

impl ToSql for LeaseState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for LeaseState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::from_name(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

fn id_at(row: &Row<'_>, column: &str) -> rusqlite::Result<u128> {
    row.get::<_, [u8; 16]>(column).map(u128::from_be_bytes)
}

fn family_at(row: &Row<'_>) -> rusqlite::Result<Family> {
    Ok(Family {
        id: LeaseId(id_at(row, "id")?),
        secret: row.get("secret")?,
        token: row.get("token")?,
        role: row.get("role")?,
        opened: UnixSeconds(row.get("opened")?),
        expires: UnixSeconds(row.get("expires")?),
        turns: Turns {
            current: row.get("current")?,
            previous: row.get("previous")?,
            since: UnixSeconds(row.get("since")?),
            ended: row.get("ended")?,
        },
    })
}

/// Whatever came of the lease `?1`, by tokens that were exchanged.
const KIN: &str = "WITH RECURSIVE kin (id) AS
     (SELECT id FROM leases WHERE parent = ?1 UNION SELECT leases.id FROM leases JOIN kin ON leases.parent = kin.id)";

fn key(lease: LeaseId) -> [u8; 16] {
    lease.0.to_be_bytes()
}
