//! What goes in time: details that are old enough, then whole bodies with the leases that they granted. Leaves and links
//! stay, so chain and tree verify as before. A record says it first (`details_erased`, `records_pruned`).

use super::{Down, Reader, Stored};
use claimbound_core::{
    evidence::{Body, Keeping, LeaseId, SuspensionId},
    time::UnixSeconds,
};
use std::collections::HashSet;

/// Records that one step looks at: a write of a few milliseconds between those of exchanges.
const STEP_ROWS: usize = 500;

/// How far it was done already: positions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Forgotten {
    pub details: i64,
    pub records: i64,
}

/// What goes of old records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The details of answers.
    Details,
    /// Body and details of answers with the leases that they granted, and the details of deeds.
    Records,
}

/// One step: positions whose details or bodies are emptied, leases that are removed, and how far that brings it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Forget {
    pub details: Vec<i64>,
    pub records: Vec<i64>,
    pub leases: Vec<LeaseId>,
    pub reached: Forgotten,
}

/// The last position up to which records were made before this time, if anything new is among them. With `least_seconds`
/// nothing is, unless the oldest is that much older: then it is done for many at once.
///
/// # Errors
/// The store cannot be read.
pub fn through(reader: &dyn Reader, part: Part, before: UnixSeconds, least_seconds: i64) -> Result<Option<i64>, Down> {
    let done = part.of(reader.forgotten()?);
    let at = |stored: &Stored| Body::parse(&stored.body).ok().map(|body| body.at);
    let Some(first) = some(reader, done, 1)?.pop() else { return Ok(None) };
    if at(&first).is_some_and(|at| at >= before.0 - least_seconds) {
        return Ok(None);
    }
    // Records stand in the order of their commits, so nearly in that of their times.
    let (mut low, mut high) = (first.position, reader.before(None, 1)?.pop().map_or(0, |last| last.position) + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        match some(reader, middle - 1, 1)?.pop() {
            Some(found) if found.position < high => match at(&found) {
                Some(at) if at >= before.0 => high = middle,
                _ => low = found.position,
            },
            _ => high = middle,
        }
    }
    Ok(Some(low))
}

/// The next step from what is done towards this position; `None` when it is reached.
///
/// # Errors
/// The store cannot be read.
pub fn step(
    reader: &dyn Reader,
    part: Part,
    mut reached: Forgotten,
    through: i64,
    now: UnixSeconds,
) -> Result<Option<Forget>, Down> {
    let standing: HashSet<SuspensionId> = reader.suspensions()?.into_iter().map(|one| one.id).collect();
    let mut rows = some(reader, part.of(reached), STEP_ROWS)?;
    rows.retain(|row| row.position <= through);
    let mut forget = Forget::default();
    let Some(last) = rows.last().map(|row| row.position) else { return Ok(None) };
    for row in &rows {
        // Emptied already, or damaged: that is `audit verify`'s to say, and not to be covered up.
        let Ok(body) = Body::parse(&row.body) else { continue };
        // Whoever adopts an old copy of the store needs what still stands.
        let stands = body.suspension.is_some_and(|id| standing.contains(&id));
        let alive = body.kind == "granted" && body.expires.is_some_and(|expires| expires >= now.0);
        match (part, body.keeping()) {
            _ if stands || alive => {}
            (Part::Details, Keeping::Answer) if !row.details.is_empty() => forget.details.push(row.position),
            (Part::Records, Keeping::Deed) if !row.details.is_empty() => forget.details.push(row.position),
            (Part::Records, Keeping::Answer) => {
                forget.records.push(row.position);
                forget.leases.extend(body.lease.filter(|_| body.kind == "granted"));
            }
            _ => {}
        }
    }
    match part {
        Part::Details => reached.details = last,
        Part::Records => reached = Forgotten { records: last, details: reached.details.max(last) },
    }
    forget.reached = reached;
    Ok(Some(forget))
}

/// At most so many records behind a position, the oldest first.
fn some(reader: &dyn Reader, after: i64, most: usize) -> Result<Vec<Stored>, Down> {
    let mut rows = Vec::with_capacity(most);
    reader.records_after(after, &mut |stored| {
        rows.push(stored);
        rows.len() < most
    })?;
    Ok(rows)
}

impl Part {
    fn of(self, forgotten: Forgotten) -> i64 {
        match self {
            Self::Details => forgotten.details,
            Self::Records => forgotten.records,
        }
    }
}
