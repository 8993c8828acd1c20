//! Copies of the records for whoever watches: a file, standard output, a collector.
//!
//! The store's record is the durable one, so no exchange waits for a sink and none is refused for one: a sink that is
//! down is behind, which health and metrics say, and catches up from where it was, also over a restart. Every record
//! comes at least once, in the order of its chain. Each broker sends the chain that it writes itself: where several share
//! a store, all of them together send all of it.

mod line;
mod place;
mod target;

use crate::{
    config::{Sink as Configured, SinkKind},
    net::Client,
    store::{Down, Reader, Stored, Writer},
};
use claimbound_core::time::{Clock, UnixSeconds};
use line::Line;
use place::{Place, Places};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use target::Target;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// Records of one write.
const BATCH_RECORDS_MAX: u32 = 500;
/// How often it is looked whether there are new ones; and how often although nothing says so.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// After a failure: so long nothing is tried, then twice as long, up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Notes that wait for a sink that is down; what comes beyond is dropped, and told in the log.
const NOTES_MAX: usize = 64;
/// When the broker stops, a sink may take so long to catch up.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// The directory of places cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the directory `positions` of `[evidence]` cannot be used: `{path}`: {why}")]
pub struct SinksError {
    path: String,
    why: String,
}

/// All sinks of a broker.
#[derive(Default)]
pub struct Sinks {
    sinks: Vec<Running>,
    stopping: watch::Sender<bool>,
}

struct Running {
    shared: Arc<Shared>,
    notes: mpsc::Sender<Line>,
    /// `None` once it was waited for.
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What a sink's task shares with whoever asks.
struct Shared {
    name: String,
    kind: &'static str,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    error: Option<String>,
    sent: u64,
    failures: u64,
    behind: u64,
    last: Option<UnixSeconds>,
}

/// How a sink stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SinkHealth {
    pub name: String,
    pub kind: &'static str,
    /// Why it takes nothing.
    pub error: Option<String>,
    /// Records that it does not have yet.
    pub behind: u64,
    /// Records, and tries that failed, since the start.
    pub sent: u64,
    pub failures: u64,
    /// Unix time at which it last took something.
    pub last_sent: Option<i64>,
}

/// What all sinks read from.
#[derive(Clone)]
pub struct Source {
    pub reader: Arc<dyn Reader>,
    pub writer: Writer,
    /// The chain that this broker writes.
    pub incarnation: u128,
    pub clock: Arc<dyn Clock>,
}

impl Sinks {
    /// Opens the directory of places and starts a task for each sink.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn start(
        configured: &[Configured],
        positions: &Path,
        source: &Source,
        client: &Client,
    ) -> Result<Self, SinksError> {
        let stopping = watch::channel(false).0;
        if configured.is_empty() {
            return Ok(Self { sinks: Vec::new(), stopping });
        }
        let places = Places::open(positions)?;
        let mut sinks = Vec::new();
        for sink in configured {
            let (notes, noted) = mpsc::channel(NOTES_MAX);
            let (name, kind) = (sink.name.clone(), sink.kind.name());
            let shared = Arc::new(Shared { name: name.clone(), kind, state: Mutex::default() });
            let target = match &sink.kind {
                SinkKind::File(path) => Target::file(path),
                SinkKind::Stdout => Target::stdout(),
                SinkKind::Otlp(settings) => Target::otlp(client.clone(), settings.clone()),
            };
            let place = match places.read(&name)? {
                Some(place) => place,
                // Remembered before anything is sent: a sink that is down from its first day on misses nothing.
                None => {
                    let first = Place { incarnation: source.incarnation, sequence: 0 };
                    let told = |why| SinksError { path: positions.display().to_string(), why };
                    places.write(&name, first).map_err(told)?;
                    first
                }
            };
            let sender = Sender {
                shared: shared.clone(),
                source: source.clone(),
                places: places.clone(),
                place,
                target,
                details: sink.details,
                notes: noted,
                waiting: Vec::new(),
                stopping: stopping.subscribe(),
            };
            sinks.push(Running { shared, notes, task: Mutex::new(Some(tokio::spawn(sender.run()))) });
        }
        Ok(Self { sinks, stopping })
    }

    /// Sends a line that is no record to every sink, behind the records that are there by now: `note` with a `type` of its
    /// own choosing. Unlike records it is lost with the process, or when too many wait.
    pub fn note(&self, note: &serde_json::Map<String, serde_json::Value>) {
        let line = line::note(note);
        for sink in &self.sinks {
            if sink.notes.try_send(line.clone()).is_err() {
                tracing::warn!(sink = sink.shared.name, "a note for a sink is dropped: too many wait");
            }
        }
    }

    /// How each stands.
    pub fn health(&self) -> Vec<SinkHealth> {
        let one = |running: &Running| {
            let State { error, sent, failures, behind, last } = running.shared.state().clone();
            let (name, kind) = (running.shared.name.clone(), running.shared.kind);
            SinkHealth { name, kind, error, behind, sent, failures, last_sent: last.map(|at| at.0) }
        };
        self.sinks.iter().map(one).collect()
    }

    /// Lets every sink catch up, within a limit. After the writer has stopped.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let until = Instant::now() + STOP_WAIT_MAX;
        for Running { shared, task, .. } in &self.sinks {
            let Some(mut task) = task.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                task.abort();
                tracing::warn!(sink = shared.name, "a sink is behind; it goes on at the next start");
            }
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One sink's task.
struct Sender {
    shared: Arc<Shared>,
    source: Source,
    places: Places,
    place: Place,
    target: Target,
    details: bool,
    notes: mpsc::Receiver<Line>,
    /// Notes that were taken and not sent yet.
    waiting: Vec<Line>,
    stopping: watch::Receiver<bool>,
}

impl Sender {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            // Asked first: what was written before the broker stopped is sent, nothing can come after it.
            let stopping = *self.stopping.borrow();
            match self.catch_up().await {
                Ok(()) => pause = PAUSE_MIN,
                Err(why) => {
                    self.failed(why);
                    if stopping {
                        return;
                    }
                    self.wait(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            }
            if stopping {
                return;
            }
            self.wait_for_more().await;
        }
    }

    /// Sends all that is there: of the incarnation before a restart first, then of this one, then notes.
    async fn catch_up(&mut self) -> Result<(), String> {
        // Before the records: those that were there before a note stand before it. Kept while the sink is down.
        while self.waiting.len() < NOTES_MAX
            && let Ok(note) = self.notes.try_recv()
        {
            self.waiting.push(note);
        }
        self.records().await?;
        if !self.waiting.is_empty() {
            self.target.write(self.waiting.clone()).await?;
            self.waiting.clear();
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<(), String> {
        loop {
            let batch = self.next_batch().await.map_err(|down| down.to_string())?;
            let Some(last) = batch.last() else {
                if self.place.incarnation == self.source.incarnation {
                    self.caught_up(0);
                    return Ok(());
                }
                // What this broker wrote before is sent.
                self.place = Place { incarnation: self.source.incarnation, sequence: 0 };
                continue;
            };
            let (sequence, number) = (last.sequence, batch.len() as u64);
            let lines = batch.iter().map(|stored| line::record(stored, self.details)).collect();
            self.target.write(lines).await?;
            self.place.sequence = sequence;
            self.places.write(&self.shared.name, self.place)?;
            self.caught_up(number);
        }
    }

    async fn next_batch(&self) -> Result<Vec<Stored>, Down> {
        let (reader, Place { incarnation, sequence }) = (self.source.reader.clone(), self.place);
        let read = tokio::task::spawn_blocking(move || reader.chain(incarnation, sequence, BATCH_RECORDS_MAX));
        read.await.unwrap_or_else(|error| Err(Down::new(error.to_string())))
    }

    fn caught_up(&self, sent: u64) {
        let mut state = self.shared.state();
        if state.error.take().is_some() {
            tracing::info!(sink = self.shared.name, "the sink takes records again");
        }
        state.behind = self.behind();
        state.sent += sent;
        if sent > 0 {
            state.last = Some(self.source.clock.now());
        }
    }

    fn failed(&self, why: String) {
        let mut state = self.shared.state();
        if state.error.is_none() {
            tracing::error!(sink = self.shared.name, why, "a sink takes nothing; it will catch up");
        }
        state.error = Some(why);
        state.failures += 1;
        state.behind = self.behind();
    }

    /// Of this incarnation; what is left of one before a restart shows when it is read.
    fn behind(&self) -> u64 {
        let written = self.source.writer.series().records.get();
        if self.place.incarnation == self.source.incarnation {
            written.saturating_sub(self.place.sequence)
        } else {
            written
        }
    }

    async fn wait_for_more(&mut self) {
        let until = Instant::now() + LOOK_ANYWAY;
        while self.behind() == 0 && self.notes.is_empty() && Instant::now() < until && !*self.stopping.borrow() {
            self.wait(LOOK_INTERVAL).await;
        }
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // An error means that the broker is gone: stopped as well.
            _ = self.stopping.wait_for(|stop| *stop) => {}
        }
    }
}

#[cfg(test)]
mod tests;
