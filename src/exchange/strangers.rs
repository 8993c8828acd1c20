//! Refusals of strangers: recorded singly up to a rate per issuer and network, summed beyond it. A background task
//! writes; an answer never waits for it, and whatever a flood sends, memory stays within the constants below.
//!
//! Replays of proven jobs' tokens are summed here too, beyond a rate per repository: one spent token could otherwise
//! write records for as long as it verifies.

use super::{Parts, Request, trail::salt};
use crate::store::{Commit, Writer};
use claimbound_core::{
    evidence::{DecisionId, Details, Record, What},
    reason::Reason,
    time::{Clock, UnixSeconds},
};
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Single records per minute, issuer and network.
pub const SINGLES_PER_MINUTE: u32 = 20;
/// Single records of replays per minute and repository.
pub const REPLAYS_PER_MINUTE: u32 = 120;
/// Repositories whose replays are counted; those of more are summed at once.
pub const REPOSITORIES_MAX: usize = 4096;
/// Networks whose rate is remembered; more are summed together.
pub const NETWORKS_MAX: usize = 4096;
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

#[derive(Default)]
struct State {
    /// Start of the window and single records in it.
    rates: HashMap<Key, (UnixSeconds, u32)>,
    /// When networks were last forgotten.
    purged: Option<UnixSeconds>,
    waiting: VecDeque<Single>,
    /// By issuer and immutable id: start of the window and replays in it.
    replays: HashMap<(String, String), (UnixSeconds, u32)>,
    /// Since when, and how many.
    sums: HashMap<(Key, Reason), (UnixSeconds, u64)>,
}

/// The bounded counter.
#[derive(Default)]
pub struct Strangers {
    state: Mutex<State>,
    wake: Notify,
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
                state.rates.retain(|_, (from, _)| within(*from, now));
            }
            if state.rates.len() >= NETWORKS_MAX {
                key.1 = None;
            }
        }
        let (from, count) = state.rates.entry(key.clone()).or_insert((now, 0));
        if !within(*from, now) {
            (*from, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= SINGLES_PER_MINUTE && state.waiting.len() < SINGLES_WAITING_MAX {
            state.waiting.push_back(single);
        } else {
            state.sums.entry((key, single.reason)).or_insert((now, 0)).1 += 1;
        }
    }

    /// Counts a proven job's token that came again, and says whether it is summed: if not, it has a record of its own.
    pub(super) fn sums_replay(
        &self,
        (issuer, id): (&str, &str),
        reason: Reason,
        address: Option<IpAddr>,
        now: UnixSeconds,
    ) -> bool {
        let mut state = self.lock();
        let repository = (issuer.to_owned(), id.to_owned());
        if state.replays.len() >= REPOSITORIES_MAX && !state.replays.contains_key(&repository) {
            state.replays.retain(|_, (from, _)| within(*from, now));
        }
        if state.replays.len() < REPOSITORIES_MAX || state.replays.contains_key(&repository) {
            let (from, count) = state.replays.entry(repository).or_insert((now, 0));
            if !within(*from, now) {
                (*from, *count) = (now, 0);
            }
            *count = count.saturating_add(1);
            if *count <= REPLAYS_PER_MINUTE {
                return false;
            }
        }
        let network = address.map(Network::of).filter(|_| state.sums.len() < NETWORKS_MAX);
        state.sums.entry(((Some(issuer.to_owned()), network), reason)).or_insert((now, 0)).1 += 1;
        true
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
                self.lock().sums.entry((key, single.reason)).or_insert((single.at, 0)).1 += 1;
                return;
            }
        }
        if !sums {
            return;
        }
        let due = std::mem::take(&mut self.lock().sums);
        for (((issuer, network), reason), (from, count)) in due {
            if writer.commit(summed(issuer.as_deref(), network, reason, from, count, now)).await.is_err() {
                self.lock().sums.entry(((issuer, network), reason)).or_insert((from, 0)).1 += count;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters hold no invariant that a panic could break half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a window is the present one: one from the future is none, or a clock that was set back would stop single
/// records until it had caught up.
fn within(from: UnixSeconds, now: UnixSeconds) -> bool {
    (0..WINDOW_SECONDS).contains(&now.0.saturating_sub(from.0))
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
        Commit { guards: vec![], changes: vec![], entry: record.seal(&details, salt()) }
    }
}

fn summed(
    issuer: Option<&str>,
    network: Option<Network>,
    reason: Reason,
    from: UnixSeconds,
    count: u64,
    at: UnixSeconds,
) -> Commit {
    let mut details = Details::default();
    let network = network.map_or_else(|| "others".to_owned(), |network| network.to_string());
    details.json.insert("network".into(), network.into());
    let what = What::Summed { reason, issuer, count, from };
    let record = Record { decision: None, at, what, principal: None, actor: None, mappings_version: None };
    Commit { guards: vec![], changes: vec![], entry: record.seal(&details, salt()) }
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

    #[test]
    fn singles_up_to_the_rate_and_sums_beyond_it() {
        let strangers = Strangers::default();
        for _ in 0..SINGLES_PER_MINUTE + 5 {
            strangers.take(single("192.0.2.1", 100));
        }
        strangers.take(single("192.0.2.2", 100));
        let state = strangers.lock();
        assert_eq!(state.waiting.len() as u32, SINGLES_PER_MINUTE + 1, "another network has a rate of its own");
        assert_eq!(state.sums.values().map(|(_, count)| count).sum::<u64>(), 5);
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

    #[test]
    fn a_flood_from_everywhere_stays_within_the_bounds() {
        let strangers = Strangers::default();
        for n in 0..3 * NETWORKS_MAX as u32 {
            strangers.take(single(&std::net::Ipv4Addr::from(n).to_string(), 100));
        }
        let state = strangers.lock();
        assert!(state.rates.len() <= NETWORKS_MAX + 1);
        assert!(state.waiting.len() <= SINGLES_WAITING_MAX);
        assert!(state.sums.len() <= NETWORKS_MAX + 1);
    }

    #[test]
    fn replays_are_single_up_to_the_rate_of_their_repository_and_bounded() {
        let strangers = Strangers::default();
        let summed = |id: &str, at| {
            strangers.sums_replay(("github", id), Reason::Replay, "192.0.2.1".parse().ok(), UnixSeconds(at))
        };
        assert!((0..REPLAYS_PER_MINUTE).all(|_| !summed("1", 100)));
        assert!(summed("1", 100) && !summed("2", 100), "another repository has a rate of its own");
        assert!(!summed("1", 100 + WINDOW_SECONDS));
        for id in 0..2 * REPOSITORIES_MAX {
            summed(&id.to_string(), 100 + WINDOW_SECONDS);
        }
        let state = strangers.lock();
        assert!(state.replays.len() <= REPOSITORIES_MAX);
        let (_, sum) =
            state.sums[&((Some("github".into()), Some(Network::of("192.0.2.1".parse().unwrap()))), Reason::Replay)];
        assert!(sum > REPOSITORIES_MAX as u64 / 2, "what is not single is summed: {sum}");
    }

    #[test]
    fn six_is_cut_to_its_site_and_mapped_four_is_four() {
        assert_eq!(Network::of("2001:db8:1:2::3".parse().unwrap()).to_string(), "2001:db8:1::/48");
        assert_eq!(Network::of("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1/32");
    }
}
