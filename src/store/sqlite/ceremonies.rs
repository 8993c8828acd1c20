//! Claim ceremonies: what moves them, and what reads them.

use super::id_at;
use crate::store::{
    Blocked, Bound, Ceremony, Down, KeptCeremony, Move, Standing, Waiting, WhichCeremonies, WhichStanding,
    ceremony::{KEPT_SECONDS, OPEN_OF_REPOSITORY_MAX, Told, WAITING_MAX, subject_text},
};
use claimbound_core::{ceremony::CeremonyId, time::UnixSeconds};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, types::Type};
use serde::{Serialize, de::DeserializeOwned};

/// Ceremonies that one sweep removes, at most.
const SWEEP_ROWS_MAX: u32 = 1_000;

fn key(id: CeremonyId) -> [u8; 16] {
    id.0.to_be_bytes()
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("it is text and numbers")
}

pub(super) fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// Whether it is still as it was seen.
pub(super) fn is_as_seen(connection: &Connection, moved: &Move) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM ceremonies WHERE id = ?1 AND version = ?2";
    connection.prepare_cached(sql)?.exists((key(moved.ceremony), moved.seen.cast_signed()))
}

/// Moves it, if it is still as it was seen.
pub(super) fn go(connection: &Connection, moved: &Move) -> rusqlite::Result<()> {
    let sql = "UPDATE ceremonies SET state = ?3, open = ?4, version = version + 1 WHERE id = ?1 AND version = ?2";
    let values = (key(moved.ceremony), moved.seen.cast_signed(), json(&moved.next), moved.open);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Whether a first use stands claimed under this rule.
pub(super) fn stands(
    connection: &Connection,
    about: &[u8; 32],
    rule: &[u8; 32],
    at: UnixSeconds,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM standing WHERE key = ?1 AND rule = ?2 AND until > ?3";
    connection.prepare_cached(sql)?.exists((about, rule, at.0))
}

/// Whether a claim of a first use is kept whose time is over.
pub(super) fn is_over(connection: &Connection, about: &[u8; 32], at: UnixSeconds) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM standing WHERE key = ?1 AND until <= ?2";
    connection.prepare_cached(sql)?.exists((about, at.0))
}

pub(super) fn open(connection: &Connection, ceremony: &Ceremony) -> rusqlite::Result<Option<Blocked>> {
    let (now, Bound { terms, .. }) = (ceremony.opened.0, &ceremony.bound);
    let taken = "SELECT 1 FROM ceremonies WHERE key = ?1 AND open = 1 AND expires > ?2";
    if connection.prepare_cached(taken)?.exists((ceremony.key, now))? {
        return Ok(Some(Blocked::Moved));
    }
    let count = "SELECT count(*) FROM ceremonies WHERE repository = ?1 AND open = 1 AND expires > ?2";
    let count: i64 = connection.prepare_cached(count)?.query_row((ceremony.repository, now), |row| row.get(0))?;
    if count.unsigned_abs() >= OPEN_OF_REPOSITORY_MAX as u64 {
        return Ok(Some(Blocked::Crowded));
    }
    let open = "INSERT INTO ceremonies VALUES (:id, :key, :rule, :repository, :bound, :opened, :expires, :state, :open, :version)";
    connection.prepare_cached(open)?.execute(named_params! {
        ":id": key(ceremony.id),
        ":key": ceremony.key,
        ":rule": ceremony.rule,
        ":repository": ceremony.repository,
        ":bound": json(&ceremony.bound),
        ":opened": now,
        ":expires": terms.expires.0,
        ":state": json(&ceremony.state),
        ":open": ceremony.state.is_open(terms.standing),
        ":version": ceremony.version.cast_signed(),
    })?;
    Ok(None)
}

pub(super) fn join(connection: &Connection, job: &Waiting) -> rusqlite::Result<Option<Blocked>> {
    let moved = "UPDATE ceremonies SET version = version + 1 WHERE id = ?1 AND open = 1 AND expires > ?2";
    if connection.prepare_cached(moved)?.execute((key(job.ceremony), job.joined.0))? == 0 {
        return Ok(Some(Blocked::Moved));
    }
    let count = "SELECT count(*) FROM waiting WHERE ceremony = ?1";
    let count: i64 = connection.prepare_cached(count)?.query_row([key(job.ceremony)], |row| row.get(0))?;
    if count.unsigned_abs() >= WAITING_MAX as u64 {
        return Ok(Some(Blocked::Crowded));
    }
    let join =
        "INSERT INTO waiting VALUES (:request, :ceremony, :code, :job, :token, :starter, :asked, :joined, :withdrawn)";
    connection.prepare_cached(join)?.execute(named_params! {
        ":request": job.request,
        ":ceremony": key(job.ceremony),
        ":code": job.code,
        ":job": job.job,
        ":token": job.token,
        ":starter": json(&job.starter),
        ":asked": json(&job.asked),
        ":joined": job.joined.0,
        ":withdrawn": job.withdrawn,
    })?;
    Ok(None)
}

/// A job that goes while others wait.
pub(super) fn leave(connection: &Connection, request: &[u8; 32]) -> rusqlite::Result<Option<Blocked>> {
    let leave = "UPDATE waiting SET withdrawn = 1 WHERE request = ?1 AND withdrawn = 0";
    let left = connection.prepare_cached(leave)?.execute([request])? == 1;
    Ok((!left).then_some(Blocked::Moved))
}

pub(super) fn stand(connection: &Connection, standing: &Standing) -> rusqlite::Result<()> {
    let told = Told { claims: (&standing.claims).into(), shown: std::borrow::Cow::Borrowed(&standing.shown) };
    let stand = "INSERT INTO standing VALUES (:key, :ceremony, :rule, :since, :until, :told, :subjects)
         ON CONFLICT (key) DO UPDATE SET ceremony = excluded.ceremony, rule = excluded.rule, since = excluded.since,
         until = excluded.until, told = excluded.told, subjects = excluded.subjects";
    connection.prepare_cached(stand)?.execute(named_params! {
        ":key": standing.key,
        ":ceremony": key(standing.ceremony),
        ":rule": standing.rule,
        ":since": standing.since.0,
        ":until": standing.until.0,
        ":told": json(&told),
        ":subjects": standing.subjects.concat(),
    })?;
    Ok(())
}

pub(super) fn reset(connection: &Connection, about: &[[u8; 32]]) -> rusqlite::Result<()> {
    let mut removing = connection.prepare_cached("DELETE FROM standing WHERE key = ?1")?;
    about.iter().try_for_each(|key| removing.execute([key]).map(drop))
}

pub(super) fn carry(connection: &Connection, about: &[[u8; 32]], rules: [&[u8; 32]; 2]) -> rusqlite::Result<()> {
    let mut carrying = connection.prepare_cached("UPDATE standing SET rule = ?3 WHERE key = ?1 AND rule = ?2")?;
    about.iter().try_for_each(|key| carrying.execute((key, rules[0], rules[1])).map(drop))
}

/// A suspension makes void what was claimed for the subject, and what waits to be: from then on its time is over. One that was
/// redeemed, too, so that it is not given back. Keys are hashes: none begins within another.
pub(super) fn suspended(connection: &Connection, subject: &[u8; 32], since: i64) -> rusqlite::Result<()> {
    let over = "UPDATE ceremonies SET expires = ?2, version = version + 1 WHERE expires > ?2 AND instr(bound, ?1) > 0";
    connection.prepare_cached(over)?.execute((subject_text(subject), since))?;
    connection
        .prepare_cached("UPDATE standing SET until = 0 WHERE instr(subjects, ?1) > 0")?
        .execute([subject])
        .map(drop)
}

/// What was claimed may have been taken back in what was lost.
pub(super) fn adopted(connection: &Connection) -> rusqlite::Result<()> {
    let over = r#"UPDATE ceremonies SET state = '{"state":"expired"}', open = 0, version = version + 1 WHERE open = 1"#;
    connection.prepare_cached(over)?.execute([])?;
    connection.prepare_cached("DELETE FROM standing")?.execute([]).map(drop)
}

pub(super) fn sweep(connection: &Connection, now: UnixSeconds) -> rusqlite::Result<()> {
    let over = "DELETE FROM ceremonies WHERE id IN
         (SELECT id FROM ceremonies WHERE expires <= ?1 AND open = 0 ORDER BY expires LIMIT ?2)";
    let removed = connection.prepare_cached(over)?.execute((now.plus(-KEPT_SECONDS).0, SWEEP_ROWS_MAX))?;
    if removed > 0 {
        let gone = "DELETE FROM waiting WHERE ceremony NOT IN (SELECT id FROM ceremonies)";
        connection.prepare_cached(gone)?.execute([])?;
    }
    Ok(())
}

fn ceremony(row: &Row<'_>) -> rusqlite::Result<Ceremony> {
    let mut bound: Bound = parsed(row, "bound")?;
    Ok(Ceremony {
        id: CeremonyId(id_at(row, "id")?),
        key: row.get("key")?,
        rule: row.get("rule")?,
        repository: row.get("repository")?,
        void: bound.end(UnixSeconds(row.get("expires")?)),
        bound,
        opened: UnixSeconds(row.get("opened")?),
        state: parsed(row, "state")?,
        version: row.get::<_, i64>("version")?.unsigned_abs(),
    })
}

fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        request: row.get("request")?,
        ceremony: CeremonyId(id_at(row, "ceremony")?),
        code: row.get("code")?,
        job: row.get("job")?,
        token: row.get("token")?,
        starter: parsed(row, "starter")?,
        asked: parsed(row, "asked")?,
        joined: UnixSeconds(row.get("joined")?),
        withdrawn: row.get("withdrawn")?,
    })
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let told: Told<'static> = parsed(row, "told")?;
    let subjects: Vec<u8> = row.get("subjects")?;
    let (subjects, _) = subjects.as_chunks::<32>();
    Ok(Standing {
        key: row.get("key")?,
        ceremony: CeremonyId(id_at(row, "ceremony")?),
        rule: row.get("rule")?,
        since: UnixSeconds(row.get("since")?),
        until: UnixSeconds(row.get("until")?),
        claims: told.claims.into_owned(),
        shown: told.shown.into_owned(),
        subjects: subjects.to_vec(),
    })
}

/// Those that are meant; in reads of one moment.
pub(super) fn read(connection: &Connection, which: WhichCeremonies, most: u32) -> Result<Vec<KeptCeremony>, Down> {
    let transaction = connection.unchecked_transaction()?;
    let all = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<Vec<Ceremony>> {
        transaction.prepare_cached(sql)?.query_map(values, ceremony)?.collect()
    };
    let found = match which {
        WhichCeremonies::One(id) => all("SELECT * FROM ceremonies WHERE id = ?1", &[&key(id)])?,
        WhichCeremonies::Of(request) => {
            let of = "SELECT ceremony FROM waiting WHERE request = ?1";
            let of: Option<[u8; 16]> =
                transaction.prepare_cached(of)?.query_row([request], |row| row.get(0)).optional()?;
            match of {
                Some(id) => all("SELECT * FROM ceremonies WHERE id = ?1", &[&id])?,
                None => Vec::new(),
            }
        }
        WhichCeremonies::OpenAbout(about, now) => {
            all("SELECT * FROM ceremonies WHERE key = ?1 AND open = 1 AND expires > ?2", &[&about, &now.0])?
        }
        WhichCeremonies::Open(after) => {
            let sql = "SELECT * FROM ceremonies WHERE open = 1 AND id > ?1 ORDER BY id LIMIT ?2";
            all(sql, &[&key(after), &most])?
        }
        WhichCeremonies::Closed(after) => {
            let sql = "SELECT * FROM ceremonies WHERE open = 0 AND id > ?1 ORDER BY id LIMIT ?2";
            all(sql, &[&key(after), &most])?
        }
        WhichCeremonies::Over(now) => {
            let sql = "SELECT * FROM ceremonies WHERE open = 1 AND expires <= ?1 ORDER BY expires LIMIT ?2";
            all(sql, &[&now.0, &most])?
        }
    };
    let mut jobs = transaction.prepare_cached("SELECT * FROM waiting WHERE ceremony = ?1 ORDER BY joined, request")?;
    let mut kept = Vec::with_capacity(found.len());
    for ceremony in found {
        let jobs = jobs.query_map([key(ceremony.id)], waiting)?.collect::<rusqlite::Result<_>>()?;
        kept.push(KeptCeremony { ceremony, jobs });
    }
    Ok(kept)
}

pub(super) fn read_standing(connection: &Connection, which: WhichStanding, most: u32) -> Result<Vec<Standing>, Down> {
    let all = |sql: &str, value: &dyn rusqlite::ToSql| -> rusqlite::Result<Vec<Standing>> {
        connection.prepare_cached(sql)?.query_map(rusqlite::params![value, most], standing)?.collect()
    };
    Ok(match which {
        WhichStanding::About(key) => all("SELECT * FROM standing WHERE key = ?1 LIMIT ?2", &key)?,
        WhichStanding::After(key) => all("SELECT * FROM standing WHERE key > ?1 ORDER BY key LIMIT ?2", &key)?,
        WhichStanding::Over(now) => all("SELECT * FROM standing WHERE until <= ?1 ORDER BY until LIMIT ?2", &now.0)?,
    })
}
