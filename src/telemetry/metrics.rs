//! What is counted as it happens. Labels are from closed lists or from configuration, never from a token, and the number
//! of series is bounded: what comes beyond is counted under `other`.

use super::{
    ceremonies::CeremonySeries,
    sampled::{Sample, Sampled},
    traces::TraceSeries,
    webhooks::WebhookSeries,
};
use claimbound_core::reason::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

/// Series of exchanges that were granted, and as many again of those that were not; what comes beyond is `other`.
const SERIES_MAX: usize = 10_000;
/// For issuer, mapping and role alike.
const OTHER: &str = "other";
const SECONDS_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Commits of one batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// A cloud's answer takes longer than ours.
const MINT_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ExchangeLabels {
    issuer: String,
    mapping: String,
    role: String,
    outcome: &'static str,
    reason: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RoleLabels {
    role: String,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ScopeLabels {
    scope: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct MintLabels {
    backend: String,
    outcome: &'static str,
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
struct ActiveLabels {
    active: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StsLabels {
    action: &'static str,
    code: &'static str,
}

/// What an exchange was about, as far as that was established: names from configuration and mapping folder.
#[derive(Clone, Default, Debug)]
pub struct About {
    /// The issuer that the token names, whether or not it verified.
    pub issuer: Option<String>,
    /// Of a proven job: the role that it asked for or got.
    pub role: Option<String>,
    /// The mapping that grants, or the nearest.
    pub mapping: Option<String>,
    /// How minting went, if it came to that.
    pub minted: Option<Minted>,
}

/// One minting.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The backend's name.
    pub backend: String,
    /// `issued`, `refused`, `away` or `unknown`.
    pub outcome: &'static str,
    pub took: Duration,
}

/// How an exchange ended, for its counter.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    Granted,
    DryRun,
    Refused(Reason),
}

impl Ended {
    /// Outcome and reason, as labels say them.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Granted => ("granted", ""),
            Self::DryRun => ("dry_run", ""),
            Self::Refused(reason) => ("refused", reason.name()),
        }
    }
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

/// What the store's writer counts; cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreSeries {
    /// Of one batch.
    pub commit_seconds: Histogram,
    pub batch_commits: Histogram,
    /// Batches that could not be written.
    pub errors: Counter,
    /// Records written by this process, and their bytes with details.
    pub records: Counter,
    pub bytes: Counter,
}

impl Default for StoreSeries {
    fn default() -> Self {
        Self {
            commit_seconds: Histogram::new(SECONDS_BUCKETS),
            batch_commits: Histogram::new(BATCH_BUCKETS),
            errors: Counter::default(),
            records: Counter::default(),
            bytes: Counter::default(),
        }
    }
}

impl StoreSeries {
    fn register(&self, registry: &mut Registry) {
        let seconds = self.commit_seconds.clone();
        registry.register_with_unit("store_commit_duration", "Time to write one batch", Unit::Seconds, seconds);
        registry.register("store_batch_commits", "Commits of one batch", self.batch_commits.clone());
        registry.register("store_errors", "Batches that could not be written", self.errors.clone());
        registry.register("evidence_records", "Records written since the start", self.records.clone());
        registry.register_with_unit("evidence", "Records and details written", Unit::Bytes, self.bytes.clone());
    }
}

/// All series.
pub struct Metrics {
    registry: Registry,
    exchanges: Family<ExchangeLabels, Counter>,
    /// Which labels have series: of grants, of all else.
    known: [RwLock<HashSet<ExchangeLabels>>; 2],
    seconds: Histogram,
    credentials: Family<RoleLabels, Counter>,
    mints: Family<MintLabels, Histogram>,
    turned_away: Family<StatusLabels, Counter>,
    revocations: Counter,
    introspections: Family<ActiveLabels, Counter>,
    sts_answers: Family<StsLabels, Counter>,
    suspensions: Family<ScopeLabels, Gauge>,
    mappings: Family<VersionLabels, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
    webhooks: WebhookSeries,
    ceremonies: CeremonySeries,
    sampled: Sampled,
    /// Two scrapes at once must not read what the other has just cleared.
    reading: Mutex<()>,
}

impl Metrics {
    /// An own registry; `mappings_version` is hex.
    pub fn new(mappings_version: &str, store: &StoreSeries) -> Self {
        let mut new = Self {
            registry: Registry::default(),
            exchanges: Family::default(),
            known: Default::default(),
            seconds: Histogram::new(SECONDS_BUCKETS),
            credentials: Family::default(),
            mints: Family::new_with_constructor(|| Histogram::new(MINT_BUCKETS)),
            turned_away: Family::default(),
            revocations: Counter::default(),
            introspections: Family::default(),
            sts_answers: Family::default(),
            suspensions: Family::default(),
            mappings: Family::default(),
            reloads: Family::default(),
            webhooks: WebhookSeries::default(),
            ceremonies: CeremonySeries::default(),
            sampled: Sampled::default(),
            reading: Mutex::default(),
        };
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("claimbound");
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        ours.register("build", "The running version", Info::new(build));
        ours.register("mappings_info", "The mapping folder that judges", new.mappings.clone());
        ours.register("reloads", "Changes of folder or configuration by what came of them", new.reloads.clone());
        ours.register("exchanges", "Exchanges by what they were about and how they ended", new.exchanges.clone());
        ours.register_with_unit("exchange_duration", "Time of an exchange", Unit::Seconds, new.seconds.clone());
        ours.register("credentials_issued", "Credentials by role", new.credentials.clone());
        ours.register_with_unit("mint_duration", "Time of a backend to mint", Unit::Seconds, new.mints.clone());
        ours.register("turned_away", "Requests refused before a token was read", new.turned_away.clone());
        let about = "Leases, and families of renewals, ended by their holders";
        ours.register("revocations", about, new.revocations.clone());
        let about = "Tokens asked about, and whether they were good";
        ours.register("introspections", about, new.introspections.clone());
        ours.register("sts_answers", "Answers in the words of AWS STS", new.sts_answers.clone());
        ours.register("suspensions", "What stands suspended, by kind", new.suspensions.clone());
        new.webhooks.register(ours);
        new.ceremonies.register(ours);
        store.register(ours);
        TraceSeries::register(ours);
        new.sampled.register(ours);
        new.sampled.register_process(&mut registry);
        new.registry = registry;
        new.mappings(mappings_version);
        new
    }

    /// Another folder judges, or the same by other facts; `version` is hex.
    pub fn mappings(&self, version: &str) {
        self.mappings.clear();
        self.mappings.get_or_create(&VersionLabels { version: version.to_owned() }).set(1);
    }

    /// What webhooks count in.
    pub fn webhooks(&self) -> &WebhookSeries {
        &self.webhooks
    }

    /// What ceremonies count in.
    pub fn ceremonies(&self) -> &CeremonySeries {
        &self.ceremonies
    }

    /// Folder and configuration were read again.
    pub fn reloaded(&self, outcome: Reloaded) {
        self.reloads.get_or_create(&ReloadLabels { outcome: outcome.name() }).inc();
    }

    /// An exchange ended.
    pub fn exchange(&self, ended: Ended, about: About, took: Duration) {
        let (outcome, reason) = ended.names();
        let About { issuer, role, mapping, minted } = about;
        let [issuer, mapping, role] = [issuer, mapping, role].map(Option::unwrap_or_default);
        let labels = self.bounded(ExchangeLabels { issuer, mapping, role, outcome, reason });
        self.exchanges.get_or_create(&labels).inc();
        if let Ended::Granted = ended {
            self.credentials.get_or_create(&RoleLabels { role: labels.role }).inc();
        }
        self.seconds.observe(took.as_secs_f64());
        if let Some(Minted { backend, outcome, took }) = minted {
            self.mints.get_or_create(&MintLabels { backend, outcome }).observe(took.as_secs_f64());
        }
    }

    /// The labels, or `other` where there are too many series. Grants have a number of their own: nobody can use it up
    /// by being refused.
    fn bounded(&self, labels: ExchangeLabels) -> ExchangeLabels {
        let known = &self.known[usize::from(labels.outcome != "granted")];
        if known.read().unwrap_or_else(PoisonError::into_inner).contains(&labels) {
            return labels;
        }
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SERIES_MAX && !known.contains(&labels) {
            let [issuer, mapping, role] = [OTHER; 3].map(str::to_owned);
            return ExchangeLabels { issuer, mapping, role, ..labels };
        }
        known.insert(labels.clone());
        labels
    }

    /// A request was refused before its token was read.
    pub fn turned_away(&self, status: u16) {
        self.turned_away.get_or_create(&StatusLabels { status: status.into() }).inc();
    }

    /// A lease was ended by its holder.
    pub fn revoked(&self) {
        self.revocations.inc();
    }

    /// A resource server asked about a token.
    pub fn introspected(&self, active: bool) {
        let active = if active { "true" } else { "false" };
        self.introspections.get_or_create(&ActiveLabels { active }).inc();
    }

    /// A request in the words of AWS STS was answered.
    pub fn sts_answered(&self, action: &'static str, code: &'static str) {
        self.sts_answers.get_or_create(&StsLabels { action, code }).inc();
    }

    /// How much of each kind stands suspended.
    pub fn suspensions(&self, counts: impl IntoIterator<Item = (&'static str, usize)>) {
        for (scope, number) in counts {
            self.suspensions.get_or_create(&ScopeLabels { scope }).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// All series as OpenMetrics text.
    pub fn text(&self, sample: &Sample<'_>) -> String {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.sampled.set(sample);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sampled::IssuerSample, *};

    fn about(role: &str) -> About {
        let minted = Minted { backend: "jwt".into(), outcome: "issued", took: Duration::from_millis(2) };
        About { issuer: Some("github".into()), role: Some(role.into()), mapping: None, minted: Some(minted) }
    }

    #[test]
    fn series_carry_what_an_exchange_was_about_and_how_it_ended() {
        let store = StoreSeries::default();
        store.records.inc();
        let metrics = Metrics::new("ab", &store);
        metrics.exchange(Ended::Granted, about("deploy.staging"), Duration::from_millis(3));
        metrics.exchange(Ended::Refused(Reason::Replay), About::default(), Duration::from_millis(1));
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
        let sampled = Sample { store_waiting: 4, store_writable: true, summed: (9, 0), ..Sample::default() };
        assert!(metrics.text(&Sample { issuers: &gone, ..sampled.clone() }).contains("gone"));
        let issuers = [sample("github")];
        metrics.text(&Sample { issuers: &issuers, ..sampled.clone() });
        let text = metrics.text(&Sample { issuers: &issuers, ..sampled });
        assert!(!text.contains("gone"), "an issuer that was taken away has no series");
        for line in [
            r#"claimbound_exchanges_total{issuer="github",mapping="",role="deploy.staging",outcome="granted",reason=""} 1"#,
            r#"claimbound_exchanges_total{issuer="",mapping="",role="",outcome="refused",reason="replay"} 1"#,
            r#"claimbound_credentials_issued_total{role="deploy.staging"} 1"#,
            r#"claimbound_mint_duration_seconds_count{backend="jwt",outcome="issued"} 1"#,
            r#"claimbound_turned_away_total{status="413"} 1"#,
            r#"claimbound_refusals_summed_total{standing="stranger"} 9"#,
            r#"claimbound_refusals_summed_total{standing="job"} 0"#,
            "claimbound_evidence_records_total 1",
            r#"claimbound_ceremony_events_total{event="lapsed"} 0"#,
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

    #[test]
    fn too_many_series_are_other_and_refusals_do_not_crowd_out_grants() {
        let metrics = Metrics::new("ab", &StoreSeries::default());
        for role in 0..SERIES_MAX + 5 {
            metrics.exchange(Ended::Refused(Reason::NoMapping), about(&format!("r{role}")), Duration::ZERO);
        }
        metrics.exchange(Ended::Granted, about("deploy"), Duration::ZERO);
        metrics.exchange(Ended::Refused(Reason::NoMapping), about("r7"), Duration::ZERO);
        let text = metrics.text(&Sample::default());
        let series = text.lines().filter(|line| line.starts_with("claimbound_exchanges_total{")).count();
        assert_eq!(series, SERIES_MAX + 2);
        for line in [
            r#"{issuer="other",mapping="other",role="other",outcome="refused",reason="no_mapping"} 5"#,
            r#"{issuer="github",mapping="",role="r7",outcome="refused",reason="no_mapping"} 2"#,
            r#"role="deploy",outcome="granted",reason=""} 1"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
