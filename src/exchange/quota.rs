//! How much one repository may ask for: the rate of its requests, kept in memory, and its mappings' limits, which are
//! guards on each grant. Both are counted by what a verified token says, so nobody else's requests use them up.

use crate::{rate::Rate, store::Use};
use aws_lc_rs::digest;
use claimbound_core::{mapping::Mapping, time::UnixSeconds};
use std::time::{Duration, Instant};

/// Repositories whose rate is remembered, twice: see [`Rate`].
pub const REPOSITORIES_MAX: usize = 32 * 1024;
/// The window of `per_hour`.
pub const HOUR_SECONDS: u32 = 3_600;
/// How long the uses of a run are remembered, from the first. GitHub ends runs after 35 days, and lets them be run again
/// for 30.
pub const RUN_SECONDS: u32 = 35 * 86_400;

/// The rate of proven jobs' requests, by issuer and immutable id.
pub struct Repositories {
    rate: Option<Rate<[u8; 32]>>,
    /// The rate's clock: it never steps back.
    started: Instant,
}

impl Repositories {
    /// 0 is no limit.
    pub fn new(per_second: u32) -> Self {
        Self { rate: Rate::new(per_second, REPOSITORIES_MAX), started: Instant::now() }
    }

    /// Takes one request off a repository's rate, or says in how many seconds one is to be had.
    pub(super) fn take(&self, issuer: &str, id: &str) -> Result<(), u32> {
        self.take_at(issuer, id, self.started.elapsed())
    }

    fn take_at(&self, issuer: &str, id: &str, now: Duration) -> Result<(), u32> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(repository(issuer, id), now))
    }

    /// A token that came again is not its repository's to pay: whoever got hold of a used one could hold up its jobs.
    pub(super) fn give_back(&self, issuer: &str, id: &str) {
        if let Some(rate) = &self.rate {
            rate.give_back(&repository(issuer, id));
        }
    }
}

/// A repository as a key: of one size, whatever its id is.
pub(super) fn repository(issuer: &str, id: &str) -> [u8; 32] {
    hash(&[issuer, id])
}

/// What a grant takes of its mapping's limits. Jobs without a run id count as one run.
pub(super) fn uses(mapping: &Mapping, issuer: &str, id: &str, run: Option<&str>, at: UnixSeconds) -> Vec<Use> {
    let Some(limit) = mapping.limit else { return vec![] };
    let name = mapping.name.as_str();
    let run = limit.per_run.map(|most| {
        let counter = hash(&["run", name, issuer, id, run.unwrap_or_default()]);
        Use { counter, most, at, seconds: RUN_SECONDS }
    });
    let hour = limit.per_hour.map(|most| {
        let counter = hash(&["hour", name, issuer, id]);
        Use { counter, most, at, seconds: HOUR_SECONDS }
    });
    run.into_iter().chain(hour).collect()
}

/// SHA-256 over the parts, each behind its length.
fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{
        mapping::{Folder, Limit, load},
        workload::Profiles,
    };

    fn mapping(limit: Limit) -> Mapping {
        let files = [
            ("policy.toml", include_str!("../../mappings/policy.toml")),
            ("roles/payments.toml", include_str!("../../mappings/roles/payments.toml")),
            ("teams/payments/deploy.toml", include_str!("../../mappings/teams/payments/deploy.toml")),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect();
        let mut set = load(&Folder { files }, &Profiles::builtin()).set.unwrap();
        Mapping { limit: Some(limit), ..set.mappings.remove(0) }
    }

    #[test]
    fn each_repository_has_its_rate_and_a_replay_costs_it_nothing() {
        let repositories = Repositories::new(1);
        let now = Duration::from_secs(5);
        let goes = |issuer, id| (0..100).filter(|_| repositories.take_at(issuer, id, now).is_ok()).count();
        assert_eq!(goes("github", "7"), 10);
        assert_eq!((goes("github", "8"), goes("gitlab", "7"), goes("git", "hub7")), (10, 10, 10));
        repositories.give_back("github", "7");
        assert_eq!((goes("github", "7"), goes("github", "8")), (1, 0));
        let unlimited = Repositories::new(0);
        assert!((0..10_000).all(|_| unlimited.take_at("github", "7", now).is_ok()));
    }

    #[test]
    fn what_is_counted_apart() {
        let mapping = mapping(Limit { per_run: Some(5), per_hour: Some(100), sts_uses_per_token: None });
        let at = UnixSeconds(9);
        let of = |issuer, id, run| uses(&mapping, issuer, id, run, at);
        let mine = of("github", "7", Some("1"));
        let told: Vec<_> = mine.iter().map(|taken| (taken.most, taken.seconds, taken.at)).collect();
        assert_eq!(told, [(5, RUN_SECONDS, at), (100, HOUR_SECONDS, at)]);
        let other = of("github", "7", Some("2"));
        assert!(mine[0].counter != other[0].counter && mine[1].counter == other[1].counter, "another run");
        for foreign in [of("gitlab", "7", Some("1")), of("github", "8", Some("1")), of("github", "71", Some(""))] {
            assert!(mine.iter().all(|mine| foreign.iter().all(|foreign| foreign.counter != mine.counter)));
        }
        assert_eq!(of("github", "7", None)[0].counter, of("github", "7", None)[0].counter, "no run id is one run");
        let renamed = Mapping { name: "other".into(), ..mapping.clone() };
        assert_ne!(uses(&renamed, "github", "7", Some("1"), at)[1].counter, mine[1].counter);
    }
}
