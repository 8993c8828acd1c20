//! Removes what nothing can need any more, a bounded number each time: it runs between batches, and nobody should feel it.

use super::{ceremonies, notes};
use claimbound_core::time::UnixSeconds;
use rusqlite::Transaction;

/// Single-use records that one sweep looks at, at most.
const LOOKS_MAX: u32 = 20_000;
/// Rows of another kind that one sweep removes, at most.
const ROWS_MAX: u32 = 5_000;

/// What a sweep did with single-use records.
pub(super) struct Swept {
    pub(super) removed: u64,
    /// Until when the newest of the removed was to be kept.
    pub(super) newest: Option<i64>,
    /// The last one that was looked at; empty where the next sweep begins with the first.
    pub(super) last: Vec<u8>,
}

/// Goes around the single-use records in the order of their keys, which is that of the file: those that go stand side by
/// side, and no second tree has to say when which one ends.
pub(super) fn sweep(transaction: &Transaction<'_>, now: UnixSeconds, after: &[u8]) -> rusqlite::Result<Swept> {
    let next = "SELECT count(*), max(token) FROM (SELECT token FROM spent WHERE token > ?1 ORDER BY token LIMIT ?2)";
    let (looked, last): (u32, Option<Vec<u8>>) =
        transaction.prepare_cached(next)?.query_row((after, LOOKS_MAX), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let over = "DELETE FROM spent WHERE token > ?1 AND token <= ?2 AND keep_until < ?3 RETURNING keep_until";
    let (mut removed, mut newest) = (0, None);
    let mut removing = transaction.prepare_cached(over)?;
    let mut rows = removing.query((after, &last, now.0))?;
    while let Some(row) = rows.next()? {
        (removed, newest) = (removed + 1, newest.max(Some(row.get(0)?)));
    }
    others(transaction, now)?;
    Ok(Swept { removed, newest, last: last.filter(|_| looked == LOOKS_MAX).unwrap_or_default() })
}

fn others(transaction: &Transaction<'_>, now: UnixSeconds) -> rusqlite::Result<()> {
    let over = "DELETE FROM uses WHERE counter IN (SELECT counter FROM uses WHERE until <= ?1 ORDER BY until LIMIT ?2)";
    transaction.prepare_cached(over)?.execute((now.0, ROWS_MAX))?;
    let over = "DELETE FROM sessions WHERE session IN
         (SELECT session FROM sessions WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    transaction.prepare_cached(over)?.execute((now.0, ROWS_MAX))?;
    transaction.prepare_cached("DELETE FROM denials WHERE until <= ?1")?.execute([now.0])?;
    let forget = "UPDATE leases SET person = NULL WHERE id IN
         (SELECT id FROM leases WHERE person IS NOT NULL AND expires <= ?1 AND NOT EXISTS
              (SELECT 1 FROM families WHERE families.id = leases.id AND ended = 0 AND families.expires > ?1)
          ORDER BY expires LIMIT ?2)";
    transaction.prepare_cached(forget)?.execute((now.0, ROWS_MAX))?;
    let forget = "UPDATE leases SET actor_person = NULL WHERE id IN
         (SELECT id FROM leases WHERE actor_person IS NOT NULL AND expires <= ?1 ORDER BY expires LIMIT ?2)";
    transaction.prepare_cached(forget)?.execute((now.0, ROWS_MAX))?;
    ceremonies::sweep(transaction, now)?;
    notes::sweep(transaction, now, ROWS_MAX)?;
    let over = "DELETE FROM status_lists WHERE until < ?1";
    transaction.prepare_cached(over)?.execute([now.0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// Token `n`, of many, to be kept until 10 or 20.
    fn fill(connection: &mut Connection, count: u32) {
        let transaction = connection.transaction().unwrap();
        for n in 0..count {
            let token: Vec<u8> = n.to_be_bytes().repeat(8);
            let row = (token, if n % 2 == 0 { 10 } else { 20 }, vec![0; 32]);
            let insert = "INSERT INTO spent VALUES (?1, ?2, ?3, 'issued', 0)";
            transaction.prepare_cached(insert).unwrap().execute(row).unwrap();
        }
        transaction.commit().unwrap();
    }

    #[test]
    fn sweeps_go_around_all_single_use_records_a_part_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store.db");
        super::super::migrate(&path).unwrap();
        let mut connection = Connection::open(&path).unwrap();
        fill(&mut connection, LOOKS_MAX + 4);
        let mut after = Vec::new();
        // The whole of it; then of what is left, which fits into one sweep.
        for (now, removed, newest, around) in [
            (10, 0, None, false),
            (11, 2, Some(10), true),
            (11, u64::from(LOOKS_MAX) / 2, Some(10), false),
            (21, 2, Some(20), true),
            (21, u64::from(LOOKS_MAX) / 2, Some(20), true),
            (21, 0, None, true),
        ] {
            let transaction = connection.transaction().unwrap();
            let swept = sweep(&transaction, UnixSeconds(now), &after).unwrap();
            transaction.commit().unwrap();
            assert_eq!((swept.removed, swept.newest, swept.last.is_empty()), (removed, newest, around), "at {now}");
            after = swept.last;
        }
    }
}
