//! Guards: judged in order before anything of their commit is written, then taken. No two of one commit are about the same
//! row.

use super::{ceremonies, family_at, key};
use crate::store::{Blocked, Family, Guard, LeaseState, Move, Spend, Turns, Use};
use claimbound_core::{
    evidence::{LeaseId, SuspensionId},
    time::UnixSeconds,
};
use rusqlite::{Connection, OptionalExtension as _};

/// Whose record may be lost: tokens to be kept until before the first, tokens issued until the second.
pub(super) type Times = (UnixSeconds, UnixSeconds);

/// What a guard that holds writes.
pub(super) enum Take<'c> {
    Nothing,
    Spend(&'c Spend),
    SpendAgain(&'c Spend),
    Use(&'c Use),
    Turn(LeaseId, Turns),
    Move(&'c Move),
}

/// Whether a guard holds, without writing.
pub(super) fn judge<'c>(
    connection: &Connection,
    guard: &'c Guard,
    times: Times,
) -> rusqlite::Result<Result<Take<'c>, Blocked>> {
    Ok(match guard {
        Guard::Unspent(spend) => unspent(connection, spend, times)?,
        Guard::LeaseAlive(lease) => {
            let alive = "SELECT 1 FROM leases WHERE id = ?1 AND state NOT IN ('failed', 'ended')";
            let alive = connection.prepare_cached(alive)?.exists([key(*lease)])?;
            if alive { Ok(Take::Nothing) } else { Err(Blocked::LeaseEnded) }
        }
        Guard::Parent { lease, at } => {
            let alive = "SELECT 1 FROM leases WHERE id = ?1 AND state = 'issued' AND expires > ?2";
            let alive = connection.prepare_cached(alive)?.exists((key(*lease), at.0))?;
            if alive { Ok(Take::Nothing) } else { Err(Blocked::ParentEnded) }
        }
        Guard::Within(taken) => within(connection, taken)?,
        Guard::NotSuspended { subjects, at } => suspended(connection, subjects, *at)?.map_or(Ok(Take::Nothing), Err),
        Guard::Refresh(turn) => match family(connection, turn.family)? {
            Some(family) => family.turns.take(turn, family.expires).map(|turns| Take::Turn(turn.family, turns)),
            None => Err(Blocked::FamilyEnded),
        },
        Guard::Ceremony(moved) => match ceremonies::is_as_seen(connection, moved)? {
            true => Ok(Take::Move(moved)),
            false => Err(Blocked::Moved),
        },
        Guard::Standing { key, rule, at } => match ceremonies::stands(connection, key, rule, *at)? {
            true => Ok(Take::Nothing),
            false => Err(Blocked::Unclaimed),
        },
        Guard::Lapsed { key, at } => match ceremonies::is_over(connection, key, *at)? {
            true => Ok(Take::Nothing),
            false => Err(Blocked::Unclaimed),
        },
    })
}

/// Writes it.
pub(super) fn take(connection: &Connection, take: Take<'_>) -> rusqlite::Result<()> {
    match take {
        Take::Nothing => Ok(()),
        Take::Spend(spend) => {
            let insert = "INSERT INTO spent VALUES (?1, ?2, ?3, ?4, 0)";
            let values = (spend.token.key(), spend.token.keep_until().0, spend.request, spend.leaves);
            connection.prepare_cached(insert)?.execute(values).map(drop)
        }
        Take::SpendAgain(spend) => {
            let again = "UPDATE spent SET state = ?2, attempts = attempts + 1 WHERE token = ?1";
            connection.prepare_cached(again)?.execute((spend.token.key(), spend.leaves)).map(drop)
        }
        Take::Use(taken) => {
            let take = "INSERT INTO uses VALUES (?1, ?2 + ?3, 1) ON CONFLICT (counter) DO UPDATE SET
                 used = iif(until > ?2 AND until <= ?2 + 2 * ?3, used + 1, 1),
                 until = iif(until > ?2 AND until <= ?2 + 2 * ?3, until, ?2 + ?3)";
            connection.prepare_cached(take)?.execute((taken.counter, taken.at.0, taken.seconds)).map(drop)
        }
        Take::Turn(family, turns) => turned(connection, family, &turns),
        Take::Move(moved) => ceremonies::go(connection, moved),
    }
}

/// Whether a token can be spent.
fn unspent<'c>(
    connection: &Connection,
    spend: &'c Spend,
    (forgotten, adopted): Times,
) -> rusqlite::Result<Result<Take<'c>, Blocked>> {
    if spend.issued <= adopted {
        return Ok(Err(Blocked::BeforeAdoption));
    }
    if spend.token.keep_until() < forgotten {
        return Ok(Err(Blocked::Replay));
    }
    let found: Option<(LeaseState, [u8; 32], i64)> = connection
        .prepare_cached("SELECT state, request, attempts FROM spent WHERE token = ?1")?
        .query_row([spend.token.key()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => Ok(Take::Spend(spend)),
        Some((LeaseState::Issuing, ..)) => Err(Blocked::InFlight),
        Some((state, request, attempts)) if request == spend.request && spend.goes_again(state, attempts) => {
            Ok(Take::SpendAgain(spend))
        }
        Some(_) => Err(Blocked::Replay),
    })
}

/// Whether one use more is to be had, or until when there is none.
fn within<'c>(connection: &Connection, taken: &'c Use) -> rusqlite::Result<Result<Take<'c>, Blocked>> {
    let full = "SELECT until FROM uses WHERE counter = ?1 AND used >= ?4 AND until > ?2 AND until <= ?2 + 2 * ?3";
    let full: Option<i64> = connection
        .prepare_cached(full)?
        .query_row((taken.counter, taken.at.0, taken.seconds, taken.most), |row| row.get(0))
        .optional()?;
    Ok(full.map_or(Ok(Take::Use(taken)), |until| Err(Blocked::Exhausted { until: UnixSeconds(until) })))
}

/// The first of the subjects that is suspended. Mostly nothing is, and then one look at an empty table says so.
fn suspended(connection: &Connection, subjects: &[[u8; 32]], at: UnixSeconds) -> rusqlite::Result<Option<Blocked>> {
    if !connection.prepare_cached("SELECT 1 FROM suspensions LIMIT 1")?.exists([])? {
        return Ok(None);
    }
    let sql = "SELECT id FROM suspensions WHERE subject = ?1 AND (until IS NULL OR until > ?2)";
    let mut asking = connection.prepare_cached(sql)?;
    for subject in subjects {
        let found = asking.query_row((subject, at.0), |row| super::id_at(row, "id")).optional()?;
        if let Some(id) = found {
            return Ok(Some(Blocked::Suspended(SuspensionId(id))));
        }
    }
    Ok(None)
}

pub(super) fn family(connection: &Connection, id: LeaseId) -> rusqlite::Result<Option<Family>> {
    connection.prepare_cached("SELECT * FROM families WHERE id = ?1")?.query_row([key(id)], family_at).optional()
}

pub(super) fn turned(connection: &Connection, family: LeaseId, turns: &Turns) -> rusqlite::Result<()> {
    let Turns { current, previous, since, ended } = turns;
    connection
        .prepare_cached("UPDATE families SET current = ?2, previous = ?3, since = ?4, ended = ?5 WHERE id = ?1")?
        .execute((key(family), current, previous, since.0, ended))?;
    Ok(())
}
