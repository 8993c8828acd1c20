//! Notes.

use crate::store::Note;
use claimbound_core::time::UnixSeconds;
use rusqlite::{Connection, OptionalExtension as _};

pub(super) fn keep(connection: &Connection, note: &Note) -> rusqlite::Result<()> {
    let keep = "INSERT INTO notes VALUES (?1, ?2, ?3)
                ON CONFLICT (key) DO UPDATE SET text = excluded.text, until = excluded.until";
    connection.prepare_cached(keep)?.execute((note.key, &note.text, note.until.0)).map(drop)
}

pub(super) fn read(connection: &Connection, key: &[u8; 32]) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT text FROM notes WHERE key = ?1";
    connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()
}

/// Removes those whose time is over, at most so many.
pub(super) fn sweep(connection: &Connection, now: UnixSeconds, most: u32) -> rusqlite::Result<()> {
    let over = "DELETE FROM notes WHERE key IN (SELECT key FROM notes WHERE until <= ?1 ORDER BY until LIMIT ?2)";
    connection.prepare_cached(over)?.execute((now.0, most)).map(drop)
}
