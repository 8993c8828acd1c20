//! The group commit, once for every engine.
//!
//! One thread owns the engine. Whoever came while the last batch was syncing goes into the next one: one fsync for all who
//! waited. Where many come at once, a batch waits a little for those who are about to: a transaction has a price of its
//! own, and on a fast disk would often be paid for one commit alone. Whoever comes alone waits for nobody. A commit is
//! handed to the engine once; it is never tried again, because after a failure nobody knows whether it was written, and a
//! second record of one answer would be a lie.

use super::{Change, Commit, Down, Engine, Outcome, TreeRows, forget::Forget};
use crate::telemetry::StoreSeries;
use claimbound_core::{evidence::Chain, time::UnixSeconds};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

/// Commits of one transaction, at most.
pub const BATCH_COMMITS_MAX: usize = 256;
/// Commits that may wait; beyond it the answer is 503.
pub const QUEUE_COMMITS_MAX: usize = 4096;
/// A batch waits for more if the one before had at least so many, and it has fewer than that one. Fewer are better served at once:
/// a processor would wait with them.
const CROWD_COMMITS: usize = 32;
/// How long it waits then.
const GATHER: Duration = Duration::from_millis(1);
/// How long anybody waits for the store.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The handle of the writer thread.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Work>,
    shared: Arc<Shared>,
    pub(super) wait_max: Duration,
}

struct Shared {
    healthy: AtomicBool,
    series: StoreSeries,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Reply<T> = oneshot::Sender<Result<T, Down>>;

enum Work {
    Commit(Commit, Reply<Outcome>),
    Sweep(UnixSeconds, Reply<u64>),
    Forget(Forget, Reply<()>),
    KeepTree(TreeRows, Reply<()>),
    Stop,
}

impl Writer {
    /// Starts the thread.
    pub fn start(engine: Box<dyn Engine>, chain: Chain) -> Self {
        Self::with_limits(engine, chain, QUEUE_COMMITS_MAX, COMMIT_WAIT_MAX)
    }

    /// [`Writer::start`] with limits that a test can reach.
    pub(super) fn with_limits(engine: Box<dyn Engine>, chain: Chain, commits_max: usize, wait_max: Duration) -> Self {
        let (queue, work) = mpsc::channel(commits_max);
        let shared = Arc::new(Shared {
            healthy: AtomicBool::new(true),
            series: StoreSeries::default(),
            thread: Mutex::new(None),
        });
        let room = Room { engine, chain, shared: shared.clone() };
        match std::thread::Builder::new().name("store".into()).spawn(move || room.run(work)) {
            Ok(thread) => *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            // The queue's other end is gone: every commit is refused.
            Err(error) => {
                tracing::error!(%error, "the store's thread does not start");
                shared.healthy.store(false, Ordering::Relaxed);
            }
        }
        Self { queue, shared, wait_max }
    }

    /// Waits until the commit is durable or blocked. Full queue, slow disk, stopped thread: [`Down`].
    ///
    /// A commit whose waiter is gone before its batch begins is not written.
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, Down> {
        if commit.entry.is_none() && !commit.changes.iter().all(|change| matches!(change, Change::Note(_))) {
            return Err(Down::new("a change comes without a record"));
        }
        self.ask(|reply| Work::Commit(commit, reply)).await
    }

    /// Removes a bounded number of single-use records and counters that nothing can need any more ([`Engine::sweep`]); to be called
    /// every minute or so. Its success also makes a writer healthy again that nobody asks.
    pub async fn sweep(&self, now: UnixSeconds) -> Result<u64, Down> {
        self.ask(|reply| Work::Sweep(now, reply)).await
    }

    /// Empties what a step names ([`Engine::forget`]).
    pub async fn forget(&self, step: Forget) -> Result<(), Down> {
        self.ask(|reply| Work::Forget(step, reply)).await
    }

    /// Keeps nodes of the tree and a checkpoint, between batches.
    pub async fn keep_tree(&self, rows: TreeRows) -> Result<(), Down> {
        self.ask(|reply| Work::KeepTree(rows, reply)).await
    }

    async fn ask<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, Down> {
        let (reply, verdict) = oneshot::channel();
        self.queue.try_send(work(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Down::new("too many commits are waiting"),
            TrySendError::Closed(_) => Down::new("the store is closed"),
        })?;
        match tokio::time::timeout(self.wait_max, verdict).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Err(Down::new("the store is closed")),
            Err(_) => Err(Down::new(format!("no answer within {:?}", self.wait_max))),
        }
    }

    /// Writes what waits, closes the store and joins the thread; commits after it are [`Down`].
    pub async fn stop(&self) {
        // Fails only if the thread has ended already.
        let _ = self.queue.send(Work::Stop).await;
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread catches the engine's panics; a panic of its own has been printed by then.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Commits waiting right now, for metrics.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// What it counts, for metrics.
    pub fn series(&self) -> &StoreSeries {
        &self.shared.series
    }

    /// Whether the last batch was written.
    pub fn healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed) && !self.queue.is_closed()
    }
}

/// What the thread owns.
struct Room {
    engine: Box<dyn Engine>,
    chain: Chain,
    shared: Arc<Shared>,
}

impl Room {
    fn run(mut self, mut work: mpsc::Receiver<Work>) {
        let (mut taken, mut last) = (Vec::with_capacity(BATCH_COMMITS_MAX), 0);
        while work.blocking_recv_many(&mut taken, BATCH_COMMITS_MAX) > 0 {
            if last >= CROWD_COMMITS && taken.len() < last {
                std::thread::sleep(GATHER);
                while taken.len() < BATCH_COMMITS_MAX
                    && let Ok(one) = work.try_recv()
                {
                    taken.push(one);
                }
            }
            let (mut batch, mut replies) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
            let (mut sweep, mut forget, mut trees) = (None, None, Vec::new());
            for work_item in taken.drain(..) {
                match work_item {
                    Work::Commit(commit, reply) if !reply.is_closed() => {
                        batch.push(commit);
                        replies.push(reply);
                    }
                    Work::Commit(..) => {}
                    Work::Sweep(now, reply) => sweep = Some((now, reply)),
                    Work::Forget(step, reply) => forget = Some((step, reply)),
                    Work::KeepTree(rows, reply) => trees.push((rows, reply)),
                    // What waits is still received; nothing more can be sent.
                    Work::Stop => work.close(),
                }
            }
            last = batch.len();
            if !batch.is_empty() {
                self.commit(&batch, replies);
            }
            if let Some((now, reply)) = sweep {
                let swept = self.guarded(|engine, _| engine.sweep(now));
                let _ = reply.send(swept);
            }
            if let Some((step, reply)) = forget {
                let done = self.guarded(|engine, _| engine.forget(&step));
                let _ = reply.send(done);
            }
            for (rows, reply) in trees {
                // Says nothing about commits: whoever grows the tree tells of it.
                let _ = reply.send(self.attempt(|engine, _| engine.keep_tree(&rows)));
            }
            // Says nothing about commits either.
            let _ = self.attempt(|engine, _| {
                engine.pause();
                Ok(())
            });
        }
    }

    fn commit(&mut self, batch: &[Commit], replies: Vec<Reply<Outcome>>) {
        let began = Instant::now();
        let verdicts = self.guarded(|engine, chain| {
            let outcomes = engine.apply(batch, chain)?;
            if outcomes.len() == batch.len() { Ok(outcomes) } else { Err(Down::new("the engine lost a verdict")) }
        });
        let series = &self.shared.series;
        series.commit_seconds.observe(began.elapsed().as_secs_f64());
        series.batch_commits.observe(batch.len() as f64);
        match verdicts {
            Ok(outcomes) => {
                let written =
                    outcomes.iter().zip(batch).filter(|(outcome, _)| matches!(outcome, Outcome::Durable { .. }));
                for entry in written.filter_map(|(_, commit)| commit.entry.as_ref()) {
                    series.records.inc();
                    series.bytes.inc_by((entry.body.len() + entry.details.len()) as u64);
                }
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Whoever asked may have gone; the record stays.
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(down) => {
                series.errors.inc();
                for reply in replies {
                    let _ = reply.send(Err(down.clone()));
                }
            }
        }
    }

    /// Runs the engine on a copy of the chain, which counts only if all went well.
    fn guarded<T>(&mut self, ask: impl FnOnce(&mut dyn Engine, &mut Chain) -> Result<T, Down>) -> Result<T, Down> {
        let verdict = self.attempt(ask);
        if let Err(down) = &verdict {
            tracing::error!(why = %down.why, "the store could not be written");
        }
        self.shared.healthy.store(verdict.is_ok(), Ordering::Relaxed);
        verdict
    }

    /// The same, whatever it says of the store's health.
    fn attempt<T>(&mut self, ask: impl FnOnce(&mut dyn Engine, &mut Chain) -> Result<T, Down>) -> Result<T, Down> {
        let mut chain = self.chain.clone();
        let engine = self.engine.as_mut();
        let verdict = catch_unwind(AssertUnwindSafe(|| ask(engine, &mut chain)))
            .unwrap_or_else(|_| Err(Down::new("the engine panicked")));
        if verdict.is_ok() {
            self.chain = chain;
        }
        verdict
    }
}
