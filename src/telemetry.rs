//! Logs and metrics. Fields carry ids and closed-list names, never tokens, secrets or claims.

use claimbound_core::reason::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{
    sync::{Mutex, PoisonError, atomic::Ordering},
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
struct VersionLabels {
    version: String,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReloadLabels {
    outcome: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct IssuerStateLabels {
    issuer: String,
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StandingLabels {
    standing: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ScopeLabels {
    scope: &'static str,
}

/// How an exchange ended, for its counter.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    Granted(&'a str),
    DryRun,
    Refused(Reason),
}

/// What came of reading folder and configuration again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reloaded {
    Activated,
    Unchanged,
    /// The last good state goes on.
    Refused,
}

impl Reloaded {
    fn name(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// State that is read when metrics are asked for.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    pub store_waiting: usize,
    pub store_writable: bool,
    pub issuers: &'a [IssuerSample],
    /// Refusals without a record of their own, since the start: of strangers, of proven jobs.
    pub summed: (u64, u64),
}

/// One issuer's keys when metrics are asked for.
#[derive(Clone, Debug)]
pub struct IssuerSample {
    pub issuer: String,
    /// Every state by name, and whether it is the present one.
    pub states: Vec<(&'static str, bool)>,
    pub keys: usize,
    /// Keys of its set that are not used.
    pub ignored: usize,
    /// Looks for its keys that failed since the start.
    pub failures: u64,
    /// Unix time of the last good look.
    pub fetched: Option<i64>,
    /// Unix time of the last moment at which the keys that are held are believed.
    pub believed_until: Option<i64>,
}

/// All series; every label is from a closed list or from configuration, never from a token.
pub struct Metrics {
    registry: Registry,
    exchanges: Family<OutcomeLabels, Counter>,
    seconds: Histogram,
    credentials: Family<RoleLabels, Counter>,
    turned_away: Family<StatusLabels, Counter>,
    revocations: Counter,
    suspensions: Family<ScopeLabels, Gauge>,
    mappings: Family<VersionLabels, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
    summed: Family<StandingLabels, Counter>,
    store_waiting: Gauge,
    store_writable: Gauge,
    issuers: IssuerSeries,
}

/// Series that are read from the key cache when metrics are asked for: an issuer that a reload took away leaves them.
#[derive(Default)]
struct IssuerSeries {
    /// Two scrapes at once must not read what the other has just cleared.
    reading: Mutex<()>,
    state: Family<IssuerStateLabels, Gauge>,
    keys: Family<IssuerLabels, Gauge>,
    ignored: Family<IssuerLabels, Gauge>,
    failures: Family<IssuerLabels, Counter>,
    fetched: Family<IssuerLabels, Gauge>,
    believed_until: Family<IssuerLabels, Gauge>,
}

impl IssuerSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register("issuer_state", "1 for the state that an issuer is in", self.state.clone());
        registry.register("issuer_keys", "Usable keys by issuer", self.keys.clone());
        registry.register("issuer_keys_ignored", "Keys of an issuer's set that are not used", self.ignored.clone());
        registry.register("issuer_keys_failures", "Looks for an issuer's keys that failed", self.failures.clone());
        let at = Unit::Seconds;
        registry.register_with_unit(
            "issuer_keys_fetched_timestamp",
            "Last good look for an issuer's keys",
            at.clone(),
            self.fetched.clone(),
        );
        registry.register_with_unit(
            "issuer_keys_believed_until_timestamp",
            "Until when the keys that are held are believed",
            at,
            self.believed_until.clone(),
        );
    }

    fn set(&self, samples: &[IssuerSample]) {
        for family in [&self.keys, &self.ignored, &self.fetched, &self.believed_until] {
            family.clear();
        }
        self.state.clear();
        self.failures.clear();
        for sample in samples {
            let labels = IssuerLabels { issuer: sample.issuer.clone() };
            let set = |family: &Family<IssuerLabels, Gauge>, value: i64| {
                family.get_or_create(&labels).set(value);
            };
            for (state, is) in &sample.states {
                let labels = IssuerStateLabels { issuer: sample.issuer.clone(), state };
                self.state.get_or_create(&labels).set((*is).into());
            }
            set(&self.keys, count(sample.keys));
            set(&self.ignored, count(sample.ignored));
            set(&self.fetched, sample.fetched.unwrap_or(0));
            set(&self.believed_until, sample.believed_until.unwrap_or(0));
            self.failures.get_or_create(&labels).inc_by(sample.failures);
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
            suspensions: Family::default(),
            mappings: Family::default(),
            reloads: Family::default(),
            summed: Family::default(),
            store_waiting: Gauge::default(),
            store_writable: Gauge::default(),
            issuers: IssuerSeries::default(),
            registry: Registry::default(),
        };
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The running version", Info::new(build));
        registry.register("mappings_info", "The mapping folder that judges", new.mappings.clone());
        registry.register("reloads", "Changes of folder or configuration by what came of them", new.reloads.clone());
        registry.register("exchanges", "Exchanges by outcome and reason", new.exchanges.clone());
        registry.register_with_unit("exchange_duration", "Time of an exchange", Unit::Seconds, new.seconds.clone());
        registry.register("credentials_issued", "Credentials by role", new.credentials.clone());
        registry.register("turned_away", "Requests refused before a token was read", new.turned_away.clone());
        registry.register("revocations", "Leases ended by their holders", new.revocations.clone());
        registry.register("suspensions", "What stands suspended, by kind", new.suspensions.clone());
        registry.register("refusals_summed", "Refusals recorded in a sum alone", new.summed.clone());
        registry.register("store_waiting_commits", "Commits in the writer's queue", new.store_waiting.clone());
        registry.register("store_writable", "Whether the last batch was written", new.store_writable.clone());
        new.issuers.register(&mut registry);
        let new = Self { registry, ..new };
        new.mappings(mappings_version);
        new
    }

    /// Another folder judges, or the same by other facts; `version` is hex.
    pub fn mappings(&self, version: &str) {
        self.mappings.clear();
        self.mappings.get_or_create(&VersionLabels { version: version.to_owned() }).set(1);
    }

    /// Folder and configuration were read again.
    pub fn reloaded(&self, outcome: Reloaded) {
        self.reloads.get_or_create(&ReloadLabels { outcome: outcome.name() }).inc();
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

    /// How much of each kind stands suspended.
    pub fn suspensions(&self, counts: impl IntoIterator<Item = (&'static str, usize)>) {
        for (scope, number) in counts {
            self.suspensions.get_or_create(&ScopeLabels { scope }).set(count(number));
        }
    }

    /// All series as OpenMetrics text.
    pub fn text(&self, sample: &Sample<'_>) -> String {
        let _reading = self.issuers.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.store_waiting.set(count(sample.store_waiting));
        self.store_writable.set(sample.store_writable.into());
        for (standing, count) in [("stranger", sample.summed.0), ("job", sample.summed.1)] {
            self.summed.get_or_create(&StandingLabels { standing }).inner().store(count, Ordering::Relaxed);
        }
        self.issuers.set(sample.issuers);
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
        let sample = |name: &str| IssuerSample {
            issuer: name.to_owned(),
            states: vec![("ok", true), ("down", false)],
            keys: 2,
            ignored: 1,
            failures: 3,
            fetched: Some(7),
            believed_until: Some(9),
        };
        let gone = [sample("gone")];
        let text = metrics.text(&Sample { store_waiting: 4, store_writable: true, issuers: &gone, summed: (9, 0) });
        assert!(text.contains("gone"));
        let issuers = [sample("github")];
        metrics.text(&Sample { store_waiting: 4, store_writable: true, issuers: &issuers, summed: (9, 0) });
        let text = metrics.text(&Sample { store_waiting: 4, store_writable: true, issuers: &issuers, summed: (9, 0) });
        assert!(!text.contains("gone"), "an issuer that was taken away has no series");
        for line in [
            r#"claimbound_exchanges_total{outcome="granted",reason=""} 1"#,
            r#"claimbound_exchanges_total{outcome="refused",reason="replay"} 1"#,
            r#"claimbound_credentials_issued_total{role="deploy.staging"} 1"#,
            r#"claimbound_turned_away_total{status="413"} 1"#,
            r#"claimbound_refusals_summed_total{standing="stranger"} 9"#,
            r#"claimbound_refusals_summed_total{standing="job"} 0"#,
            "claimbound_store_waiting_commits 4",
            r#"claimbound_issuer_keys{issuer="github"} 2"#,
            r#"claimbound_issuer_keys_ignored{issuer="github"} 1"#,
            r#"claimbound_issuer_keys_failures_total{issuer="github"} 3"#,
            r#"claimbound_issuer_keys_fetched_timestamp_seconds{issuer="github"} 7"#,
            r#"claimbound_issuer_keys_believed_until_timestamp_seconds{issuer="github"} 9"#,
            r#"claimbound_issuer_state{issuer="github",state="ok"} 1"#,
            r#"claimbound_issuer_state{issuer="github",state="down"} 0"#,
            r#"claimbound_mappings_info{version="ab"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
