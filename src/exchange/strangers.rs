//! Refusals of strangers: recorded singly up to a rate per issuer and network, and another for all of them together;
//! summed beyond it. A background task writes; an answer never waits for it, and whatever a flood sends, memory stays
//! within the constants below and evidence grows by summaries.
//!
//! Refusals of proven jobs are summed here too, beyond a rate per repository: a job in a loop could otherwise write
//! records as fast as its CI system mints tokens, and one spent token for as long as it verifies.

use super::{Parts, Request, quota, trail::salt};
use crate::store::{Commit, Writer};
use claimbound_core::{
    evidence::{DecisionId, Details, Party, Record, What},
    reason::Reason,
    time::{Clock, UnixSeconds},
};
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Single records per minute, issuer and network.
pub const SINGLES_PER_MINUTE: u32 = 20;
/// Single records of strangers per minute, over all networks.
pub const SINGLES_PER_MINUTE_ALL: u32 = 600;
/// Single records per minute and repository: of replays, and as many of its other refusals.
pub const JOBS_SINGLES_PER_MINUTE: u32 = 120;
/// Repositories whose refusals are counted; those of more are summed at once.
pub const REPOSITORIES_MAX: usize = 4096;
/// Networks whose rate is remembered; more are summed together.
pub const NETWORKS_MAX: usize = 4096;
/// Sums of strangers that name their network, and sums of repositories, between two writings; more name their issuer
/// alone.
pub const SUMS_MAX: usize = 64;
/// Single records that may wait for the background task; more are summed.
pub const SINGLES_WAITING_MAX: usize = 1024;
/// How often sums are written.
pub const SUM_INTERVAL: Duration = Duration::from_secs(10);
const WINDOW_SECONDS: i64 = 60;

/// A network prefix: IPv4 whole, IPv6 cut to /48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let s = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], 0, 0, 0, 0, 0)))
            }
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}/32"),
            IpAddr::V6(v6) => write!(f, "{v6}/48"),
        }
    }
}

/// All unknown issuers are one (`None`); a network that is not remembered is `None` too.
type Key = (Option<String>, Option<Network>);

struct Single {
    decision: DecisionId,
    at: UnixSeconds,
    issuer: Option<String>,
    reason: Reason,
    address: Option<IpAddr>,
    mappings_version: [u8; 32],
}

/// Why a proven job is refused: each kind has a rate of its own, so that whoever holds a used token cannot hide what
/// its repository's jobs are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Replay,
    Denial,
}

/// A repository as sums name it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Repository {
    pub(super) issuer: String,
    pub(super) id: String,
    pub(super) name: String,
}

/// What is summed together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Sum {
    Strangers(Key, Reason),
    /// Of one repository; without it, of all others of the issuer.
    Jobs(String, Option<Repository>, Reason),
}

/// Events since a window began.
#[derive(Clone, Copy)]
struct Window {
    from: UnixSeconds,
    count: u32,
}

impl Default for Window {
    /// Over for ever.
    fn default() -> Self {
        Self { from: UnixSeconds(i64::MIN), count: 0 }
    }
}

impl Window {
    /// One more, and how many that makes. A window from the future is none, or a clock that was set back would stop
    /// single records until it had caught up.
    fn add(&mut self, now: UnixSeconds) -> u32 {
        if !self.is_present(now) {
            *self = Self { from: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }

    fn is_present(&self, now: UnixSeconds) -> bool {
        (0..WINDOW_SECONDS).contains(&now.0.saturating_sub(self.from.0))
    }
}

#[derive(Default)]
struct State {
    rates: HashMap<Key, Window>,
    /// Single records of all strangers.
    all: Window,
    /// When networks were last forgotten.
    purged: Option<UnixSeconds>,
    waiting: VecDeque<Single>,
    jobs: HashMap<([u8; 32], Kind), Window>,
    /// Since when, and how many.
    sums: HashMap<Sum, (UnixSeconds, u64)>,
}

impl State {
    /// Each side has [`SUMS_MAX`] sums of its own: a flood of strangers takes no name from a repository's.
    fn sum(&mut self, mut sum: Sum, from: UnixSeconds, count: u64) {
        let beside = |other: &&Sum| matches!(other, Sum::Strangers(..)) == matches!(sum, Sum::Strangers(..));
        if !self.sums.contains_key(&sum) && self.sums.keys().filter(beside).count() >= SUMS_MAX {
            match &mut sum {
                Sum::Strangers((_, network), _) => *network = None,
                Sum::Jobs(_, repository, _) => *repository = None,
            }
        }
        self.sums.entry(sum).or_insert((from, 0)).1 += count;
    }
}

/// The bounded counter.
#[derive(Default)]
pub struct Strangers {
    state: Mutex<State>,
    wake: Notify,
    summed_strangers: AtomicU64,
    summed_jobs: AtomicU64,
}

impl Strangers {
    /// Takes a refusal down; returns at once.
    pub(super) fn note(&self, request: &Request<'_>, issuer: Option<&str>, reason: Reason, parts: &Parts<'_>) {
        let single = Single {
            decision: request.id,
            at: parts.now,
            issuer: issuer.map(str::to_owned),
            reason,
            address: request.address,
            mappings_version: parts.snapshot.mappings.version,
        };
        self.take(single);
        self.wake.notify_one();
    }

    fn take(&self, single: Single) {
        let now = single.at;
        let mut state = self.lock();
        let mut key: Key = (single.issuer.clone(), single.address.map(Network::of));
        if state.rates.len() >= NETWORKS_MAX && !state.rates.contains_key(&key) {
            // Once a second at most, or every new network of a flood would cost a walk over all of them.
            if state.purged.replace(now) != Some(now) {
                state.rates.retain(|_, window| window.is_present(now));
            }
            if state.rates.len() >= NETWORKS_MAX {
                key.1 = None;
            }
        }
        let is_rare = state.rates.entry(key.clone()).or_default().add(now) <= SINGLES_PER_MINUTE;
        if is_rare && state.all.add(now) <= SINGLES_PER_MINUTE_ALL && state.waiting.len() < SINGLES_WAITING_MAX {
            state.waiting.push_back(single);
        } else {
            self.summed_strangers.fetch_add(1, Ordering::Relaxed);
            state.sum(Sum::Strangers(key, single.reason), now, 1);
        }
    }

    /// Counts a refusal of a proven job, and says whether it is beyond the rate of its repository: if not, it has a
    /// record of its own.
    pub(super) fn is_summed(&self, repository: &Repository, kind: Kind, now: UnixSeconds) -> bool {
        let mut state = self.lock();
        let key = (quota::repository(&repository.issuer, &repository.id), kind);
        if state.jobs.len() >= REPOSITORIES_MAX && !state.jobs.contains_key(&key) {
            state.jobs.retain(|_, window| window.is_present(now));
            if state.jobs.len() >= REPOSITORIES_MAX {
                return true;
            }
        }
        state.jobs.entry(key).or_default().add(now) > JOBS_SINGLES_PER_MINUTE
    }

    /// Sums a refusal of a proven job.
    pub(super) fn sum(&self, repository: &Repository, reason: Reason, now: UnixSeconds) {
        self.summed_jobs.fetch_add(1, Ordering::Relaxed);
        let sum = Sum::Jobs(repository.issuer.clone(), Some(repository.clone()), reason);
        self.lock().sum(sum, now, 1);
    }

    /// Refusals that have no record of their own, since the start: of strangers, and of proven jobs.
    pub fn summed(&self) -> (u64, u64) {
        (self.summed_strangers.load(Ordering::Relaxed), self.summed_jobs.load(Ordering::Relaxed))
    }

    /// Writes what comes, until `stop` resolves, and then what is left.
    pub async fn run(&self, writer: &Writer, clock: &dyn Clock, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(SUM_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (sums, last) = tokio::select! {
                () = self.wake.notified() => (false, false),
                _ = tick.tick() => (true, false),
                () = &mut stop => (true, true),
            };
            self.flush(writer, clock.now(), sums).await;
            if last {
                return;
            }
        }
    }

    /// One commit after the other: strangers never compete with grants for the writer. What the store refuses is
    /// lost as a single record and is summed again.
    pub async fn flush(&self, writer: &Writer, now: UnixSeconds, sums: bool) {
        loop {
            let Some(single) = self.lock().waiting.pop_front() else { break };
            if writer.commit(single.commit()).await.is_err() {
                let key = (single.issuer, single.address.map(Network::of));
                self.summed_strangers.fetch_add(1, Ordering::Relaxed);
                self.lock().sum(Sum::Strangers(key, single.reason), single.at, 1);
                return;
            }
        }
        if !sums {
            return;
        }
        let due = std::mem::take(&mut self.lock().sums);
        for (sum, (from, count)) in due {
            if writer.commit(sum.commit(from, count, now)).await.is_err() {
                self.lock().sum(sum, from, count);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters hold no invariant that a panic could break half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Single {
    fn commit(&self) -> Commit {
        let mut details = Details::default();
        if let Some(address) = self.address {
            details.json.insert("address".into(), address.to_string().into());
        }
        if let Some(issuer) = &self.issuer {
            details.json.insert("issuer".into(), issuer.as_str().into());
        }
        let record = Record {
            decision: Some(self.decision),
            at: self.at,
            what: What::Refused { reason: self.reason, role: None, mapping: None },
            principal: None,
            actor: None,
            mappings_version: Some(self.mappings_version),
        };
        Commit { guards: vec![], changes: vec![], entry: Some(record.seal(&details, salt())) }
    }
}

impl Sum {
    fn commit(&self, from: UnixSeconds, count: u64, at: UnixSeconds) -> Commit {
        let mut details = Details::default();
        let (issuer, reason, principal) = match self {
            Self::Strangers((issuer, network), reason) => {
                let network = network.map_or_else(|| "others".to_owned(), |network| network.to_string());
                details.json.insert("network".into(), network.into());
                (issuer.as_deref(), *reason, None)
            }
            Self::Jobs(issuer, repository, reason) => {
                let party = repository.as_ref().map(|r| Party { issuer: &r.issuer, id: &r.id, name: &r.name });
                (Some(issuer.as_str()), *reason, party)
            }
        };
        let what = What::Summed { reason, issuer, count, from };
        let record = Record { decision: None, at, what, principal, actor: None, mappings_version: None };
        Commit { guards: vec![], changes: vec![], entry: Some(record.seal(&details, salt())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(address: &str, at: i64) -> Single {
        Single {
            decision: DecisionId(0),
            at: UnixSeconds(at),
            issuer: None,
            reason: Reason::IssuerUnknown,
            address: Some(address.parse().unwrap()),
            mappings_version: [0; 32],
        }
    }

    fn repository(id: &str) -> Repository {
        Repository { issuer: "github".into(), id: id.into(), name: format!("acme/{id}") }
    }

    fn counted(strangers: &Strangers) -> u64 {
        strangers.lock().sums.values().map(|(_, count)| count).sum()
    }

    #[test]
    fn singles_up_to_the_rate_and_sums_beyond_it() {
        let strangers = Strangers::default();
        for _ in 0..SINGLES_PER_MINUTE + 5 {
            strangers.take(single("192.0.2.1", 100));
        }
        strangers.take(single("192.0.2.2", 100));
        assert_eq!(strangers.lock().waiting.len() as u32, SINGLES_PER_MINUTE + 1, "another network has its own rate");
        assert_eq!((counted(&strangers), strangers.summed()), (5, (5, 0)));
    }

    #[test]
    fn the_rate_starts_anew_after_a_minute() {
        let strangers = Strangers::default();
        for _ in 0..SINGLES_PER_MINUTE {
            strangers.take(single("192.0.2.1", 100));
        }
        strangers.take(single("192.0.2.1", 100 + WINDOW_SECONDS));
        assert!(strangers.lock().sums.is_empty());
        for _ in 0..SINGLES_PER_MINUTE {
            strangers.take(single("192.0.2.1", 50));
        }
        assert!(strangers.lock().sums.is_empty(), "nor does a clock that was set back stop them");
    }

    /// Whatever comes from wherever: bounded memory, bounded records, nothing uncounted.
    #[test]
    fn a_flood_from_everywhere_stays_within_the_bounds() {
        let strangers = Strangers::default();
        let flood = 3 * NETWORKS_MAX as u32;
        for n in 0..flood {
            strangers.take(single(&std::net::Ipv4Addr::from(n).to_string(), 100));
            strangers.take(single(&format!("2001:{:x}:{:x}::1", n >> 16, n & 0xffff), 100));
        }
        let waiting = {
            let state = strangers.lock();
            assert!(state.rates.len() <= NETWORKS_MAX + 1);
            assert!(state.sums.len() <= SUMS_MAX + 1, "{}", state.sums.len());
            state.waiting.len() as u64
        };
        assert!(waiting <= u64::from(SINGLES_PER_MINUTE_ALL));
        assert_eq!(counted(&strangers) + waiting, 2 * u64::from(flood));
    }

    #[test]
    fn a_repository_s_refusals_are_single_up_to_its_rate_and_bounded() {
        let strangers = Strangers::default();
        let summed = |id: &str, kind, at| {
            let summed = strangers.is_summed(&repository(id), kind, UnixSeconds(at));
            if summed {
                strangers.sum(&repository(id), Reason::Replay, UnixSeconds(at));
            }
            summed
        };
        assert!((0..JOBS_SINGLES_PER_MINUTE).all(|_| !summed("1", Kind::Replay, 100)));
        assert!(summed("1", Kind::Replay, 100) && !summed("2", Kind::Replay, 100), "another repository");
        assert!(!summed("1", Kind::Denial, 100), "a flood of replays hides no denial");
        assert!(!summed("1", Kind::Replay, 100 + WINDOW_SECONDS));
        for id in 0..2 * REPOSITORIES_MAX {
            summed(&id.to_string(), Kind::Replay, 100 + WINDOW_SECONDS);
        }
        // A flood of strangers takes no names from repositories' sums.
        (0..100)
            .for_each(|n| (0..=SINGLES_PER_MINUTE).for_each(|_| strangers.take(single(&format!("192.0.2.{n}"), 200))));
        let state = strangers.lock();
        assert!(state.jobs.len() <= REPOSITORIES_MAX);
        let named = state.sums.keys().filter(|sum| matches!(sum, Sum::Jobs(_, Some(_), _))).count();
        assert_eq!(named, SUMS_MAX);
        let (_, rest) = state.sums[&Sum::Jobs("github".into(), None, Reason::Replay)];
        assert!(rest > REPOSITORIES_MAX as u64 / 2, "what is not single is summed: {rest}");
        assert!(state.sums.len() <= 2 * (SUMS_MAX + 1));
    }

    #[test]
    fn six_is_cut_to_its_site_and_mapped_four_is_four() {
        assert_eq!(Network::of("2001:db8:1:2::3".parse().unwrap()).to_string(), "2001:db8:1::/48");
        assert_eq!(Network::of("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1/32");
    }
}
