//! So many a second for each of many: the generic cell rate algorithm (one instant per key, no counters).
//!
//! Memory is bounded by two generations: when the young one is full it becomes the old one, and what the old one held
//! is forgotten. A flood of keys can make others' debts be forgotten, never be invented.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A key may use this many seconds of its rate at once.
pub const BURST_SECONDS: u64 = 10;

/// The rates of many.
pub struct Rate<K> {
    /// What one request costs.
    cost: Duration,
    /// How far a key may be ahead.
    burst: Duration,
    /// Of each generation.
    keys_max: usize,
    debts: Mutex<Debts<K>>,
}

/// Key → the instant at which all its requests are paid for.
struct Debts<K> {
    young: HashMap<K, Duration>,
    old: HashMap<K, Duration>,
}

impl<K: Eq + Hash> Rate<K> {
    /// `None` if the rate is 0: no limit.
    pub fn new(per_second: u32, keys_max: usize) -> Option<Self> {
        let cost = Duration::from_secs(1).checked_div(per_second)?;
        Some(Self::every(cost, Duration::from_secs(BURST_SECONDS), keys_max))
    }

    /// One in `cost`, and as many at once as `burst` has of them.
    pub fn every(cost: Duration, burst: Duration, keys_max: usize) -> Self {
        let debts = Mutex::new(Debts { young: HashMap::new(), old: HashMap::new() });
        Self { cost, burst, keys_max, debts }
    }

    /// Takes one request off the key's rate, or says in how many seconds one is to be had. `now` never steps back.
    pub fn take(&self, key: K, now: Duration) -> Result<(), u32> {
        let mut debts = self.lock();
        let paid = debts.young.get(&key).or_else(|| debts.old.get(&key)).copied().unwrap_or_default();
        let paid = paid.max(now) + self.cost;
        let ahead = paid - now;
        if let Some(wait) = ahead.checked_sub(self.burst).filter(|wait| !wait.is_zero()) {
            return Err(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1));
        }
        if debts.young.len() >= self.keys_max && !debts.young.contains_key(&key) {
            debts.old = std::mem::take(&mut debts.young);
        }
        debts.young.insert(key, paid);
        Ok(())
    }

    /// Gives one request back that should not have been the key's to pay.
    pub fn give_back(&self, key: &K) {
        // What has become old since will be forgotten anyway.
        if let Some(paid) = self.lock().young.get_mut(key) {
            *paid = paid.saturating_sub(self.cost);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Debts<K>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn goes(rate: &Rate<u32>, key: u32, now: Duration) -> usize {
        (0..1_000).filter(|_| rate.take(key, now).is_ok()).count()
    }

    #[test]
    fn a_key_has_its_burst_and_then_its_rate() {
        let rate = Rate::new(5, 10).unwrap();
        assert_eq!(goes(&rate, 1, START), 50);
        assert_eq!(rate.take(1, START), Err(1));
        assert_eq!(rate.take(2, START), Ok(()), "another key has its own");
        assert_eq!(goes(&rate, 1, START + Duration::from_secs(1)), 5, "a second pays for five");
    }

    #[test]
    fn a_slow_rate_still_lets_one_through() {
        assert_eq!(goes(&Rate::new(1, 10).unwrap(), 1, Duration::ZERO), 10);
        assert!(Rate::<u32>::new(0, 10).is_none(), "0 is no limit");
    }

    #[test]
    fn what_is_given_back_can_be_had_again_and_no_more() {
        let rate = Rate::new(5, 10).unwrap();
        rate.give_back(&1);
        assert_eq!(goes(&rate, 1, START), 50);
        rate.give_back(&1);
        assert_eq!(goes(&rate, 1, START), 1);
        for _ in 0..200 {
            rate.give_back(&1);
        }
        assert_eq!(goes(&rate, 1, START), 50, "never more than the burst");
    }

    #[test]
    fn keys_are_bounded_and_debts_survive_one_generation() {
        let rate = Rate::new(1, 4).unwrap();
        assert_eq!(goes(&rate, 0, Duration::ZERO), 10);
        for key in 1..=5 {
            rate.take(key, Duration::ZERO).unwrap();
        }
        assert!(rate.take(0, Duration::ZERO).is_err(), "one generation later it is still known");
        for key in 10..210 {
            rate.take(key, Duration::ZERO).unwrap();
            let debts = rate.lock();
            assert!(debts.young.len() <= 4 && debts.old.len() <= 4);
        }
    }
}
