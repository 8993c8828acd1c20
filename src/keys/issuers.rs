//! Issuers' keys, fetched and cached.
//!
//! Whoever can send a token can name a `kid` that nobody knows, so a fetch is never the caller's to command: one at a
//! time per issuer, none within a floor after the last, whether that one failed, came back empty or succeeded. A fetch
//! that fails never takes good keys away; one that succeeds replaces them whole, so that withdrawn keys end. Readers
//! take a table that is swapped as a whole and wait for nobody.

mod discovery;

use crate::net::{Client, Later};
use arc_swap::ArcSwap;
use claimbound_core::{
    time::{Clock, UnixSeconds},
    trust::{IssuerSnapshot, IssuerTable, KeySet, ParsedKey},
};
use discovery::Network;
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A failing issuer is asked again after this part of the refresh interval, never within the floor.
const RETRY_DIVISOR: u32 = 10;
/// A wait is lengthened at random by up to this part of it, so that replicas do not ask together.
const JITTER_DIVISOR: u32 = 10;

/// The keys of an issuer cannot be had. `why` is for operators.
#[derive(Clone, Debug, thiserror::Error)]
#[error("issuer {issuer}: {why}")]
pub struct IssuerDown {
    pub issuer: String,
    pub why: String,
}

/// What the exchange needs of issuers' keys.
pub trait Issuers: Send + Sync {
    /// The table as it is now; lock-free.
    fn table(&self) -> Arc<IssuerTable>;
    /// Fetches the keys of the issuer named `name` anew: single flight; inside the floor it answers at once, with the
    /// table or with the last failure.
    fn refresh<'a>(&'a self, name: &'a str) -> Later<'a, Result<Arc<IssuerTable>, IssuerDown>>;
}

/// One issuer as configured: trust facts from policy.toml and its profile, network facts from claimbound.toml.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    pub name: String,
    pub url: String,
    pub rules: claimbound_core::trust::IssuerRules,
    pub algorithms: Vec<claimbound_core::trust::Algorithm>,
    pub allow_private_network: bool,
    /// A loopback issuer over plain HTTP: only with `--development`.
    pub development: bool,
    pub ca_file: Option<std::path::PathBuf>,
    /// Where the keys may be besides the issuer's own origin: its profile says so.
    pub keys_origin: Option<String>,
}

impl Default for KeyTimes {
    /// What production uses. A key that its issuer withdrew ends with the next refresh, so within `interval` while the
    /// issuer can be reached, and within `keep` at the latest.
    fn default() -> Self {
        const MINUTE_SECONDS: u64 = 60;
        Self {
            floor: Duration::from_secs(30),
            interval: Duration::from_secs(10 * MINUTE_SECONDS),
            keep: Duration::from_secs(24 * 60 * MINUTE_SECONDS),
        }
    }
}

impl IssuerConfig {
    fn same_network(&self, other: &Self) -> bool {
        (self.allow_private_network, self.development, &self.ca_file, &self.keys_origin)
            == (other.allow_private_network, other.development, &other.ca_file, &other.keys_origin)
    }
}

/// Waits and limits; tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct KeyTimes {
    /// Between two fetches for one issuer, failures and empty answers included.
    pub floor: Duration,
    /// Background refresh.
    pub interval: Duration,
    /// How long last good keys are believed when the issuer is down.
    pub keep: Duration,
}

/// The state of one issuer's keys, for health and metrics.
#[derive(Clone, Debug)]
pub struct KeyHealth {
    pub issuer: String,
    pub keys: usize,
    pub fetched: Option<UnixSeconds>,
    pub last_error: Option<String>,
}

/// The cache over the network.
pub struct KeyCache {
    inner: Arc<Inner>,
}

/// Fetches and parses one issuer's key set.
trait Source: Send + Sync {
    fn fetch<'a>(&'a self, issuer: &'a IssuerConfig) -> Later<'a, Result<KeySet, String>>;
}

struct Inner {
    source: Box<dyn Source>,
    clock: Arc<dyn Clock>,
    times: KeyTimes,
    /// What readers see: made from `entries` by [`Inner::publish`] and only there.
    table: ArcSwap<IssuerTable>,
    /// By name. Locked for moments, by those who change the table; never by its readers, never over a fetch.
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    changed: Notify,
}

/// One issuer in the cache.
struct Entry {
    config: IssuerConfig,
    /// Outlives the entry: a reload must not lose keys, nor the result of a fetch that is under way.
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    /// Held over a fetch: who waits for it takes its holder's result.
    flight: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Arc<ParsedKey>>,
    /// When `keys` were fetched.
    fetched: Option<UnixSeconds>,
    /// How many fetches have ended, and when the last did: by the monotonic clock, which no time server can set back.
    fetches: u64,
    ended: Option<Instant>,
    /// Why the last fetch gave no keys.
    error: Option<String>,
}

impl KeyCache {
    /// Nothing is fetched yet: [`KeyCache::warm`] does.
    pub fn new(issuers: Vec<IssuerConfig>, client: Client, clock: Arc<dyn Clock>, times: KeyTimes) -> Arc<Self> {
        Self::over(Box::new(Network { client }), issuers, clock, times)
    }

    fn over(source: Box<dyn Source>, issuers: Vec<IssuerConfig>, clock: Arc<dyn Clock>, times: KeyTimes) -> Arc<Self> {
        let inner = Inner {
            source,
            clock,
            times,
            table: ArcSwap::default(),
            entries: Mutex::default(),
            changed: Notify::new(),
        };
        inner.replace(issuers);
        Arc::new(Self { inner: Arc::new(inner) })
    }

    /// Fetches all issuers' keys at once; an issuer that is down does not hold up the others or the start.
    pub async fn warm(self: &Arc<Self>) {
        let entries: Vec<_> = lock(&self.inner.entries).values().cloned().collect();
        join_all(entries.into_iter().map(|entry| self.inner.refresh(entry))).await;
    }

    /// Refreshes in the background until the returned handle is aborted. Each issuer has its own times: one that is
    /// down is asked more often, and no other because of it.
    pub fn spawn_refresh(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            loop {
                let (due, wait) = inner.due(Instant::now());
                if due.is_empty() {
                    tokio::select! {
                        () = tokio::time::sleep(lengthened(wait)) => {}
                        () = inner.changed.notified() => {}
                    }
                } else {
                    join_all(due.into_iter().map(|entry| inner.refresh(entry))).await;
                }
            }
        })
    }

    /// Puts another set of issuers in place (reload); keys of issuers that stay are kept. "Stays" means: same name,
    /// URL and permitted algorithms, since other ones might refuse a key that is held.
    pub fn replace(&self, issuers: Vec<IssuerConfig>) {
        self.inner.replace(issuers);
        self.inner.changed.notify_one();
    }

    /// For health and metrics.
    pub fn health(&self) -> BTreeMap<String, KeyHealth> {
        let entries = lock(&self.inner.entries);
        let health = entries.iter().map(|(name, entry)| {
            let state = lock(&entry.slot.state);
            let health = KeyHealth {
                issuer: name.clone(),
                keys: state.keys.len(),
                fetched: state.fetched,
                last_error: state.error.clone(),
            };
            (name.clone(), health)
        });
        health.collect()
    }
}

impl Issuers for KeyCache {
    fn table(&self) -> Arc<IssuerTable> {
        self.inner.table.load_full()
    }

    fn refresh<'a>(&'a self, name: &'a str) -> Later<'a, Result<Arc<IssuerTable>, IssuerDown>> {
        Box::pin(async move {
            let down = |why: String| IssuerDown { issuer: name.to_owned(), why };
            let entry = lock(&self.inner.entries).get(name).cloned();
            let Some(entry) = entry else { return Err(down("is not configured".to_owned())) };
            let inside = self.inner.inside_floor(&entry);
            let outcome = match inside {
                Some(outcome) => outcome,
                // A task of its own: a caller that hangs up must not stop a fetch that others wait for, nor could
                // it, by asking and leaving, keep one from ever ending and so from counting.
                None => {
                    let (inner, entry) = (Arc::clone(&self.inner), Arc::clone(&entry));
                    tokio::spawn(async move { inner.refresh(entry).await })
                        .await
                        .unwrap_or_else(|_| Err("the fetch was broken off".to_owned()))
                }
            };
            outcome.map(|()| self.table()).map_err(down)
        })
    }
}

impl Inner {
    /// What the last fetch ended with, if no other may follow it yet.
    fn inside_floor(&self, entry: &Entry) -> Option<Result<(), String>> {
        let state = lock(&entry.slot.state);
        state.ended.is_some_and(|ended| ended.elapsed() < self.times.floor).then(|| state.outcome())
    }

    /// One fetch, or the result of one that ended while this one waited.
    async fn refresh(&self, entry: Arc<Entry>) -> Result<(), String> {
        let before = lock(&entry.slot.state).fetches;
        let _flight = entry.slot.flight.lock().await;
        {
            let state = lock(&entry.slot.state);
            if state.fetches != before {
                return state.outcome();
            }
        }
        if let Some(outcome) = self.inside_floor(&entry) {
            return outcome;
        }
        let fetched = self.source.fetch(&entry.config).await;
        let outcome = {
            let mut state = lock(&entry.slot.state);
            state.fetches += 1;
            state.ended = Some(Instant::now());
            match usable(fetched, &entry.config.name) {
                Ok(keys) => {
                    state.keys = keys;
                    state.fetched = Some(self.clock.now());
                    state.error = None;
                }
                Err(why) => {
                    tracing::warn!(issuer = entry.config.name, why, "issuer keys could not be fetched");
                    state.error = Some(why);
                }
            }
            state.outcome()
        };
        if outcome.is_ok() {
            self.publish(&lock(&self.entries));
        }
        outcome
    }

    fn replace(&self, issuers: Vec<IssuerConfig>) {
        let mut entries = lock(&self.entries);
        let fresh = issuers.into_iter().map(|config| {
            let slot = match entries.get(&config.name) {
                Some(old) if old.config.url == config.url && old.config.algorithms == config.algorithms => {
                    if !old.config.same_network(&config) {
                        // Perhaps what kept the keys out of reach was mended: ask without waiting for the floor.
                        lock(&old.slot.state).ended = None;
                    }
                    Arc::clone(&old.slot)
                }
                _ => Arc::default(),
            };
            (config.name.clone(), Arc::new(Entry { config, slot }))
        });
        *entries = fresh.collect();
        self.publish(&entries);
    }

    /// Makes the table anew. An issuer without keys is in it too: its tokens are then known to be of an issuer whose
    /// keys cannot be had, not of a stranger.
    fn publish(&self, entries: &BTreeMap<String, Arc<Entry>>) {
        let keep_seconds = i64::try_from(self.times.keep.as_secs()).unwrap_or(i64::MAX);
        let mut table = IssuerTable::default();
        for entry in entries.values() {
            let state = lock(&entry.slot.state);
            table.insert(IssuerSnapshot {
                name: entry.config.name.as_str().into(),
                url: entry.config.url.as_str().into(),
                rules: entry.config.rules.clone(),
                keys: state.keys.clone(),
                keys_valid_until: state.fetched.map_or(UnixSeconds(i64::MIN), |at| at.plus(keep_seconds)),
            });
        }
        self.table.store(Arc::new(table));
    }

    /// The issuers to fetch now, and how long to wait if there is none.
    fn due(&self, now: Instant) -> (Vec<Arc<Entry>>, Duration) {
        let retry = (self.times.interval / RETRY_DIVISOR).max(self.times.floor);
        let mut wait = self.times.interval;
        let mut due = Vec::new();
        for entry in lock(&self.entries).values() {
            let state = lock(&entry.slot.state);
            let every = if state.error.is_some() { retry } else { self.times.interval.max(self.times.floor) };
            let left = state.ended.map_or(Duration::ZERO, |ended| every.saturating_sub(now - ended));
            if left.is_zero() {
                due.push(Arc::clone(entry));
            } else {
                wait = wait.min(left);
            }
        }
        (due, wait)
    }
}

impl State {
    fn outcome(&self) -> Result<(), String> {
        self.error.clone().map_or(Ok(()), Err)
    }
}

/// A set without a usable key is an answer, but not one that may take good keys away.
fn usable(fetched: Result<KeySet, String>, issuer: &str) -> Result<HashMap<String, Arc<ParsedKey>>, String> {
    let KeySet { keys, ignored } = fetched?;
    for (kid, why) in &ignored {
        tracing::debug!(issuer, kid, why, "issuer key ignored");
    }
    match (keys.is_empty(), ignored.first()) {
        (false, _) => Ok(keys),
        (true, None) => Err("its key set is empty".to_owned()),
        (true, Some((kid, why))) => Err(format!(
            "none of the {} keys in its set is usable; the first, `{}`: {why}",
            ignored.len(),
            kid.escape_debug()
        )),
    }
}

/// Guards only what is whole at every step, so a panic elsewhere leaves nothing to fear in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lengthened(wait: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness there is no jitter, and nothing worse.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait + (wait / JITTER_DIVISOR) * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests;
