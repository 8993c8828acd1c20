//! Logs and metrics. Fields carry ids and closed-list names, never tokens, secrets or claims.

use claimbound_core::reason::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// What is logged unless `CLAIMBOUND_LOG` says otherwise. The HTTP library calls every malformed request an error:
/// anyone could set off alarms with it. Our own line and counter for a request say what an operator needs.
const FILTER: &str = "info,actix_http=off,actix_server=warn";

/// JSON lines on standard error. `CLAIMBOUND_LOG` takes a filter (`info`, `claimbound=debug`).
pub fn init() {
    let asked = std::env::var("CLAIMBOUND_LOG").ok().filter(|text| !text.is_empty());
    let (filter, fault) = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(FILTER), Some(error)),
        None => (EnvFilter::new(FILTER), None),
    };
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter);
    // A second call, as tests make it, keeps the first.
    let _ = lines.with_writer(std::io::stderr).try_init();
    if let Some(error) = fault {
        tracing::warn!(%error, "`CLAIMBOUND_LOG` is no filter and is not used; write one like `info,claimbound=debug`");
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
    reason: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RoleLabels {
    role: String,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StatusLabels {
    status: u32,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StandingLabels {
    standing: &'static str,
}

/// How an exchange ended, for its counter.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    Granted(&'a str),
    DryRun,
    Refused(Reason),
}

/// State that is read when metrics are asked for.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    pub store_waiting: usize,
    pub store_writable: bool,
    /// Name, usable keys, unix time of the last good fetch.
    pub issuers: &'a [(String, usize, Option<i64>)],
    /// Refusals without a record of their own, since the start: of strangers, of proven jobs.
    pub summed: (u64, u64),
}

/// All series; every label is from a closed list or from configuration, never from a token.
pub struct Metrics {
    registry: Registry,
    exchanges: Family<OutcomeLabels, Counter>,
    seconds: Histogram,
    credentials: Family<RoleLabels, Counter>,
    turned_away: Family<StatusLabels, Counter>,
    revocations: Counter,
    summed: Family<StandingLabels, Counter>,
    store_waiting: Gauge,
    store_writable: Gauge,
    issuer_keys: Family<IssuerLabels, Gauge<i64, AtomicI64>>,
    issuer_fetched: Family<IssuerLabels, Gauge<i64, AtomicI64>>,
}

const SECONDS_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

impl Metrics {
    /// An own registry; `mappings_version` is hex.
    pub fn new(mappings_version: &str) -> Self {
        let mut registry = Registry::with_prefix("claimbound");
        let new = Self {
            exchanges: Family::default(),
            seconds: Histogram::new(SECONDS_BUCKETS),
            credentials: Family::default(),
            turned_away: Family::default(),
            revocations: Counter::default(),
            summed: Family::default(),
            store_waiting: Gauge::default(),
            store_writable: Gauge::default(),
            issuer_keys: Family::default(),
            issuer_fetched: Family::default(),
            registry: Registry::default(),
        };
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The running version", Info::new(build));
        let version = vec![("version", mappings_version.to_owned())];
        registry.register("mappings", "The mapping folder that judges", Info::new(version));
        registry.register("exchanges", "Exchanges by outcome and reason", new.exchanges.clone());
        registry.register_with_unit("exchange_duration", "Time of an exchange", Unit::Seconds, new.seconds.clone());
        registry.register("credentials_issued", "Credentials by role", new.credentials.clone());
        registry.register("turned_away", "Requests refused before a token was read", new.turned_away.clone());
        registry.register("revocations", "Leases ended by their holders", new.revocations.clone());
        registry.register("refusals_summed", "Refusals recorded in a sum alone", new.summed.clone());
        registry.register("store_waiting_commits", "Commits in the writer's queue", new.store_waiting.clone());
        registry.register("store_writable", "Whether the last batch was written", new.store_writable.clone());
        registry.register("issuer_keys", "Usable keys by issuer", new.issuer_keys.clone());
        registry.register_with_unit(
            "issuer_keys_fetched_timestamp",
            "Last good fetch of an issuer's keys",
            Unit::Seconds,
            new.issuer_fetched.clone(),
        );
        Self { registry, ..new }
    }

    /// An exchange ended.
    pub fn exchange(&self, ended: Ended<'_>, took: Duration) {
        let (outcome, reason) = match ended {
            Ended::Granted(role) => {
                self.credentials.get_or_create(&RoleLabels { role: role.to_owned() }).inc();
                ("granted", "")
            }
            Ended::DryRun => ("dry_run", ""),
            Ended::Refused(reason) => ("refused", reason.name()),
        };
        self.exchanges.get_or_create(&OutcomeLabels { outcome, reason }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A request was refused before its token was read.
    pub fn turned_away(&self, status: u16) {
        self.turned_away.get_or_create(&StatusLabels { status: status.into() }).inc();
    }

    /// A lease was ended by its holder.
    pub fn revoked(&self) {
        self.revocations.inc();
    }

    /// All series as OpenMetrics text.
    pub fn text(&self, sample: &Sample<'_>) -> String {
        self.store_waiting.set(i64::try_from(sample.store_waiting).unwrap_or(i64::MAX));
        self.store_writable.set(sample.store_writable.into());
        for (standing, count) in [("stranger", sample.summed.0), ("job", sample.summed.1)] {
            self.summed.get_or_create(&StandingLabels { standing }).inner().store(count, Ordering::Relaxed);
        }
        for (issuer, keys, fetched) in sample.issuers {
            let labels = IssuerLabels { issuer: issuer.clone() };
            self.issuer_keys.get_or_create(&labels).set(i64::try_from(*keys).unwrap_or(i64::MAX));
            self.issuer_fetched.get_or_create(&labels).set(fetched.unwrap_or(0));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_outcome_reason_and_role() {
        let metrics = Metrics::new("ab");
        metrics.exchange(Ended::Granted("deploy.staging"), Duration::from_millis(3));
        metrics.exchange(Ended::Refused(Reason::Replay), Duration::from_millis(1));
        metrics.turned_away(413);
        let issuers = [("github".to_owned(), 2, Some(7))];
        let text = metrics.text(&Sample { store_waiting: 4, store_writable: true, issuers: &issuers, summed: (9, 0) });
        for line in [
            r#"claimbound_exchanges_total{outcome="granted",reason=""} 1"#,
            r#"claimbound_exchanges_total{outcome="refused",reason="replay"} 1"#,
            r#"claimbound_credentials_issued_total{role="deploy.staging"} 1"#,
            r#"claimbound_turned_away_total{status="413"} 1"#,
            r#"claimbound_refusals_summed_total{standing="stranger"} 9"#,
            r#"claimbound_refusals_summed_total{standing="job"} 0"#,
            "claimbound_store_waiting_commits 4",
            r#"claimbound_issuer_keys{issuer="github"} 2"#,
            r#"claimbound_mappings_info{version="ab"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
