//! Writing: a batch is one transaction of two or three round trips, whatever its size.
//!
//! The first reads and locks all that the batch may touch, each kind in key order, so that two brokers wait for each
//! other in one direction only; [`super::batch`] judges it in memory; the last writes what came out. The transaction
//! begins by locking the row of this broker's incarnation, which it moves on: so after a connection that broke during
//! COMMIT, whoever gets that lock on another one knows whether it was written.

use super::{
    Address, Own, aside, is_fatal,
    session::{self, begin, writing},
    statements::{Session, Wanted},
};
use crate::store::{Commit, Down, Engine, Outcome, TreeRows, Watch, forget::Forget};
use claimbound_core::{evidence::Chain, time::UnixSeconds};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Error, error::SqlState};

/// How long a batch or a sweep may take: less than anybody waits for it (`COMMIT_WAIT_MAX`).
const BATCH_WAIT_MAX: Duration = Duration::from_secs(4);
/// How long a start may take, behind others that migrate.
const START_WAIT_MAX: Duration = Duration::from_secs(90);
/// After a connection that failed: so long nothing is tried, then twice as long, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The engine: a runtime of the writer's thread, and what runs on it.
pub(in crate::store) struct Postgres {
    hand: Hand,
    runtime: Own,
}

impl Postgres {
    /// Brings the database to the newest version, and begins an incarnation.
    pub(in crate::store) fn open(address: Address, now: UnixSeconds) -> Result<(Self, Chain), Down> {
        aside(|| {
            let runtime = Own::new(&mut tokio::runtime::Builder::new_current_thread())?;
            let opened = runtime.get().block_on(async {
                let opening = async {
                    let client = writing(&address).await?;
                    let chain = begin(&client, now).await?;
                    Ok((Session::new(client).await?, chain))
                };
                let late = |_| Err(Down::new(format!("no answer within {START_WAIT_MAX:?}")));
                timeout_at(Instant::now() + START_WAIT_MAX, opening).await.unwrap_or_else(late)
            });
            let (session, chain) = opened.map_err(|down| address.told(down))?;
            let hand = Hand {
                address,
                id: chain.incarnation.to_be_bytes(),
                session: Some(session),
                paused: None,
                pause: PAUSE_MIN,
                written: 0,
                watch: Arc::default(),
            };
            Ok((Self { hand, runtime }, chain))
        })
    }

    /// What must be found again in the store when it was away.
    pub(in crate::store) fn watch(&self) -> Arc<Watch> {
        self.hand.watch.clone()
    }
}

/// Brings the database to the newest version, and leaves it.
pub(in crate::store) fn migrate(address: &Address, now: UnixSeconds) -> Result<(), Down> {
    aside(|| {
        let runtime = Own::new(&mut tokio::runtime::Builder::new_current_thread())?;
        let migrating = async { session::migrate(&writing(address).await?, now).await };
        let late = |_| Err(Down::new(format!("no answer within {START_WAIT_MAX:?}")));
        let bounded = async { timeout_at(Instant::now() + START_WAIT_MAX, migrating).await.unwrap_or_else(late) };
        runtime.get().block_on(bounded).map_err(|down| address.told(down))
    })
}

impl Engine for Postgres {
    fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down> {
        let Self { hand, runtime } = self;
        runtime.get().block_on(hand.apply(batch, chain)).map_err(|down| hand.address.told(down))
    }

    fn sweep(&mut self, now: UnixSeconds) -> Result<u64, Down> {
        let Self { hand, runtime } = self;
        runtime.get().block_on(hand.sweep(now)).map_err(|down| hand.address.told(down))
    }

    fn forget(&mut self, step: &Forget) -> Result<(), Down> {
        let Self { hand, runtime } = self;
        runtime.get().block_on(hand.forget(step)).map_err(|down| hand.address.told(down))
    }

    fn keep_tree(&mut self, rows: &TreeRows) -> Result<(), Down> {
        let Self { hand, runtime } = self;
        runtime.get().block_on(hand.keep_tree(rows)).map_err(|down| hand.address.told(down))
    }
}

/// Why a batch was not written, or may not have been.
pub(super) enum Fault {
    /// It was not; on another connection it may well be.
    Again(Down),
    /// It was not.
    Never(Down),
    /// Nobody knows yet: whether the incarnation has come to this number tells.
    Unknown(Down, i64, Vec<Outcome>),
}

impl From<Error> for Fault {
    /// Of anything before the last round trip.
    fn from(error: Error) -> Self {
        let retry = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
        let again = is_fatal(&error) || error.code().is_some_and(|code| retry.contains(code));
        if again { Self::Again(error.into()) } else { Self::Never(error.into()) }
    }
}

impl From<Down> for Fault {
    fn from(down: Down) -> Self {
        Self::Never(down)
    }
}

/// What stays when a connection goes.
struct Hand {
    address: Address,
    /// Of the incarnation.
    id: [u8; 16],
    session: Option<Session>,
    /// Nothing is tried until then, and why.
    paused: Option<(Instant, Down)>,
    pause: Duration,
    /// The last sequence that is surely in the store.
    written: u64,
    /// What else must be in it.
    watch: Arc<Watch>,
}

impl Hand {
    async fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down> {
        let deadline = Instant::now() + BATCH_WAIT_MAX;
        let mut second = false;
        loop {
            let mut after = chain.clone();
            let mut fault = match self.once(batch, &mut after, deadline).await {
                Ok(outcomes) => Ok(outcomes),
                Err(fault) => {
                    self.session = None;
                    Err(fault)
                }
            };
            if let Err(Fault::Unknown(down, number, outcomes)) = fault {
                tracing::warn!(why = %down.why, "the connection to the store broke during a commit: asking how it came out");
                fault = match self.came_out(number, deadline).await {
                    Ok(true) => Ok(outcomes),
                    Ok(false) => Err(Fault::Again(down)),
                    Err(_) => Err(Fault::Never(down)),
                };
            }
            match fault {
                Ok(outcomes) => {
                    self.written = after.sequence;
                    *chain = after;
                    return Ok(outcomes);
                }
                Err(Fault::Again(_)) if !second => second = true,
                Err(Fault::Again(down) | Fault::Never(down) | Fault::Unknown(down, ..)) => return Err(down),
            }
        }
    }

    async fn once(&mut self, batch: &[Commit], chain: &mut Chain, deadline: Instant) -> Result<Vec<Outcome>, Fault> {
        let (id, written) = (self.id, self.written);
        let session = self.session(deadline).await?;
        let wanted = Wanted::of(batch);
        let holding = timeout_at(deadline, session.hold(&id, &wanted));
        let (mut held, seat) = holding.await.map_err(|_| slow())??;
        let Some(seat) = seat.filter(|seat| seat.sequence >= written) else { return Err(self.behind().into()) };
        // Not what was remembered: the last answer may have been lost, and its records not.
        (chain.sequence, chain.head) = (seat.sequence, seat.head);
        let (mut outcomes, mut records) = (Vec::with_capacity(batch.len()), Vec::new());
        for commit in batch {
            outcomes.push(match held.judge(commit)? {
                Some(blocked) => Outcome::Blocked(blocked),
                None => {
                    records.extend(commit.entry.as_ref().map(|entry| chain.link(entry.clone())));
                    Outcome::Durable { sequence: chain.sequence }
                }
            });
        }
        let number = seat.batch + 1;
        let writing = timeout_at(deadline, session.write(&id, number, chain, &wanted, &held, &records));
        match writing.await {
            Ok(Ok(())) => Ok(outcomes),
            Ok(Err(error)) if !is_fatal(&error) => Err(error.into()),
            Ok(Err(error)) => Err(Fault::Unknown(error.into(), number, outcomes)),
            Err(_) => Err(Fault::Unknown(slow(), number, outcomes)),
        }
    }

    /// Whether the transaction of this number was written. The answer waits for the transaction's end, which its lock
    /// on the incarnation's row shows.
    async fn came_out(&mut self, number: i64, deadline: Instant) -> Result<bool, Down> {
        let id = self.id;
        let session = self.session(deadline).await?;
        let seat = timeout_at(deadline, session.seat(&id)).await.map_err(|_| slow())??;
        seat.map(|seat| seat.batch >= number).ok_or_else(|| self.behind())
    }

    fn behind(&self) -> Down {
        self.watch.tell(BEHIND);
        Down::new(BEHIND)
    }

    /// The session, or another one; after a failure not at once.
    async fn session(&mut self, deadline: Instant) -> Result<&Session, Down> {
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() {
            if let Some((until, down)) = &self.paused
                && Instant::now() < *until
            {
                return Err(down.clone());
            }
            let mark = self.watch.mark();
            let connecting = async {
                let session = Session::new(writing(&self.address).await?).await?;
                let holds = match mark {
                    Some(mark) => session.holds(&mark).await?,
                    None => true,
                };
                Ok((session, holds))
            };
            match timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(slow())) {
                Ok((_, false)) => return Err(self.behind()),
                Ok((session, true)) => {
                    (self.session, self.paused, self.pause) = (Some(session), None, PAUSE_MIN);
                    tracing::info!("connected to the store again");
                }
                Err(down) => {
                    self.paused = Some((Instant::now() + self.pause, down.clone()));
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    return Err(down);
                }
            }
        }
        Ok(self.session.as_ref().expect("it was made just now"))
    }

    async fn keep_tree(&mut self, rows: &TreeRows) -> Result<(), Down> {
        let deadline = Instant::now() + BATCH_WAIT_MAX;
        let session = self.session(deadline).await?;
        let kept = timeout_at(deadline, session.keep_tree(rows)).await;
        if !matches!(kept, Ok(Ok(()))) {
            // The tree is read again before anything more of it is kept.
            self.session = None;
        }
        Ok(kept.map_err(|_| slow())??)
    }

    async fn sweep(&mut self, now: UnixSeconds) -> Result<u64, Down> {
        self.twice(async |session| session.sweep(now).await).await
    }

    async fn forget(&mut self, step: &Forget) -> Result<(), Down> {
        self.twice(async |session| session.forget(step).await).await
    }

    /// What is safe to do twice, once more where an idle connection had ended meanwhile.
    async fn twice<T>(&mut self, ask: impl AsyncFn(&Session) -> Result<T, Error>) -> Result<T, Down> {
        let deadline = Instant::now() + BATCH_WAIT_MAX;
        for second in [false, true] {
            let session = self.session(deadline).await?;
            let done = timeout_at(deadline, ask(session)).await;
            if !matches!(done, Ok(Ok(_))) {
                self.session = None;
            }
            match done {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) if is_fatal(&error) && !second => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(slow()),
            }
        }
        Err(slow())
    }
}

const BEHIND: &str = "it is behind what this broker wrote: an old copy was restored, or a standby promoted that lacks \
                      commits; nothing is written to it before `claimbound store adopt`";

fn slow() -> Down {
    Down::new(format!("no answer within {BATCH_WAIT_MAX:?}"))
}
