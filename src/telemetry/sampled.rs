//! State that is read when metrics are asked for.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

/// State that is read when metrics are asked for.
#[derive(Clone, Default, Debug)]
pub struct Sample<'a> {
    pub store_waiting: usize,
    pub store_writable: bool,
    pub issuers: &'a [IssuerSample],
    /// Refusals without a record of their own, since the start: of strangers, of proven jobs.
    pub summed: (u64, u64),
    /// What stands on disk is not what judges; it differs in keys that are read at start alone.
    pub reload_refused: bool,
    pub restart_needed: bool,
    pub sinks: &'a [SinkSample],
    pub signing: SigningSample,
    pub store: StoreSample,
    pub evidence: EvidenceSample,
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

/// One sink of the evidence.
#[derive(Clone, Debug)]
pub struct SinkSample {
    pub sink: String,
    /// It took what it was last given.
    pub up: bool,
    pub behind: u64,
    /// Records, and tries that failed, since the start.
    pub sent: u64,
    pub failures: u64,
    /// Unix time at which it last took something.
    pub last: Option<i64>,
}

/// Our signing keys.
#[derive(Clone, Default, Debug)]
pub struct SigningSample {
    pub stopped: bool,
    pub keys: Vec<SigningKeySample>,
    /// Unix time at which `rotate_every` makes the next keys.
    pub next_rotation: Option<i64>,
}

/// One signing key.
#[derive(Clone, Debug)]
pub struct SigningKeySample {
    pub algorithm: &'static str,
    pub state: &'static str,
    /// It is in state `signing`; Unix times since when, and until when if that is known.
    pub signs: Option<(i64, Option<i64>)>,
}

/// What was last counted in the store.
#[derive(Clone, Default, Debug)]
pub struct StoreSample {
    /// Unix time of the counting; 0: never.
    pub at: i64,
    pub leases: Vec<LeaseSample>,
    pub ceremonies: Vec<CeremonySample>,
    /// Of the database.
    pub bytes: u64,
}

/// The newest signed checkpoint; zeros where there is none.
#[derive(Clone, Copy, Default, Debug)]
pub struct EvidenceSample {
    /// Records that it covers.
    pub size: u64,
    /// Unix time of its signature.
    pub at: i64,
}

/// Leases that are alive and have not expired.
#[derive(Clone, Debug)]
pub struct LeaseSample {
    pub state: &'static str,
    pub count: u64,
}

/// Ceremonies that are open.
#[derive(Clone, Debug)]
pub struct CeremonySample {
    pub state: &'static str,
    pub count: u64,
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
struct SinkLabels {
    sink: String,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StandingLabels {
    standing: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AlgorithmLabels {
    algorithm: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KeyLabels {
    algorithm: &'static str,
    state: &'static str,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// The series of a [`Sample`].
#[derive(Default)]
pub(super) struct Sampled {
    summed: Family<StandingLabels, Counter>,
    store_waiting: Gauge,
    store_writable: Gauge,
    store_bytes: Gauge,
    counted: Gauge,
    signed_records: Gauge,
    signed: Gauge,
    leases: Family<StateLabels, Gauge>,
    ceremonies: Family<StateLabels, Gauge>,
    reload_refused: Gauge,
    restart_needed: Gauge,
    signing_stopped: Gauge,
    signing_keys: Family<KeyLabels, Gauge>,
    signs_from: Family<AlgorithmLabels, Gauge>,
    retires: Family<AlgorithmLabels, Gauge>,
    next_rotation: Gauge,
    sink_up: Family<SinkLabels, Gauge>,
    sink_behind: Family<SinkLabels, Gauge>,
    sink_sent: Family<SinkLabels, Counter>,
    sink_failures: Family<SinkLabels, Counter>,
    sink_last: Family<SinkLabels, Gauge>,
    issuers: IssuerSeries,
    memory: Gauge,
    files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

impl Sampled {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("refusals_summed", "Refusals recorded in a sum alone", self.summed.clone());
        registry.register("store_waiting_commits", "Commits in the writer's queue", self.store_waiting.clone());
        registry.register("store_writable", "Whether the last batch was written", self.store_writable.clone());
        registry.register_with_unit("store", "Size of the database", Unit::Bytes, self.store_bytes.clone());
        registry.register("leases", "Leases that are alive and have not expired", self.leases.clone());
        let told = "Claim ceremonies that wait for people or for their job";
        registry.register("ceremonies", told, self.ceremonies.clone());
        let at = Unit::Seconds;
        let told = "When leases and size were last counted; 0 before the first time";
        registry.register_with_unit("store_counted_timestamp", told, at.clone(), self.counted.clone());
        let told = "Records that the newest signed checkpoint covers";
        registry.register("evidence_signed_records", told, self.signed_records.clone());
        let told = "When the newest checkpoint was signed; 0 before the first";
        registry.register_with_unit("evidence_signed_timestamp", told, at.clone(), self.signed.clone());
        let told = "1 while what stands on disk was not taken up";
        registry.register("reload_refused", told, self.reload_refused.clone());
        let told = "1 while claimbound.toml differs in keys that are read at start alone";
        registry.register("restart_needed", told, self.restart_needed.clone());
        registry.register("signing_stopped", "1 while nothing is signed", self.signing_stopped.clone());
        registry.register("signing_keys", "Our keys that are not gone", self.signing_keys.clone());
        let told = "Since when the key that signs does";
        registry.register_with_unit("signing_key_signs_from_timestamp", told, at.clone(), self.signs_from.clone());
        let told = "When another key takes over; 0 while no rotation is under way";
        registry.register_with_unit("signing_key_retires_timestamp", told, at.clone(), self.retires.clone());
        let told = "When new keys are made by `rotate_every`; 0 without it";
        registry.register_with_unit("signing_next_rotation_timestamp", told, at.clone(), self.next_rotation.clone());
        registry.register("sink_up", "Whether a sink took what it was last given", self.sink_up.clone());
        registry.register("sink_behind_records", "Records that a sink does not have yet", self.sink_behind.clone());
        registry.register("sink_records", "Records that a sink took", self.sink_sent.clone());
        registry.register("sink_failures", "Tries of a sink that failed", self.sink_failures.clone());
        let told = "When a sink last took something; 0 before the first time";
        registry.register_with_unit("sink_last_sent_timestamp", told, at, self.sink_last.clone());
        self.issuers.register(registry);
    }

    /// Under the names that every program has them by.
    pub(super) fn register_process(&self, registry: &mut Registry) {
        let resident = self.memory.clone();
        registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, resident);
        registry.register_with_unit("process_cpu", "CPU time, user and system", Unit::Seconds, self.cpu.clone());
        registry.register("process_open_fds", "Open file descriptors", self.files.clone());
    }

    pub(super) fn set(&self, sample: &Sample<'_>) {
        self.store_waiting.set(count(sample.store_waiting));
        self.store_writable.set(sample.store_writable.into());
        for (standing, count) in [("stranger", sample.summed.0), ("job", sample.summed.1)] {
            self.summed.get_or_create(&StandingLabels { standing }).inner().store(count, Ordering::Relaxed);
        }
        self.store_bytes.set(sample.store.bytes.try_into().unwrap_or(i64::MAX));
        self.counted.set(sample.store.at);
        self.signed_records.set(sample.evidence.size.try_into().unwrap_or(i64::MAX));
        self.signed.set(sample.evidence.at);
        self.leases.clear();
        for LeaseSample { state, count } in &sample.store.leases {
            self.leases.get_or_create(&StateLabels { state }).set((*count).try_into().unwrap_or(i64::MAX));
        }
        for CeremonySample { state, count } in &sample.store.ceremonies {
            self.ceremonies.get_or_create(&StateLabels { state }).set((*count).try_into().unwrap_or(i64::MAX));
        }
        self.reload_refused.set(sample.reload_refused.into());
        self.restart_needed.set(sample.restart_needed.into());
        self.signing(&sample.signing);
        self.sinks(sample.sinks);
        self.issuers.set(sample.issuers);
        let process = Process::read();
        self.memory.set(process.resident_bytes);
        self.files.set(process.files);
        self.cpu.inner().store(process.cpu_seconds.to_bits(), Ordering::Relaxed);
    }

    /// Sinks are named at start: none goes away.
    fn sinks(&self, samples: &[SinkSample]) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for sample in samples {
            let labels = SinkLabels { sink: sample.sink.clone() };
            self.sink_up.get_or_create(&labels).set(sample.up.into());
            self.sink_behind.get_or_create(&labels).set(number(sample.behind));
            self.sink_sent.get_or_create(&labels).inner().store(sample.sent, Ordering::Relaxed);
            self.sink_failures.get_or_create(&labels).inner().store(sample.failures, Ordering::Relaxed);
            self.sink_last.get_or_create(&labels).set(sample.last.unwrap_or(0));
        }
    }

    fn signing(&self, sample: &SigningSample) {
        self.signing_stopped.set(sample.stopped.into());
        self.next_rotation.set(sample.next_rotation.unwrap_or(0));
        self.signing_keys.clear();
        self.signs_from.clear();
        self.retires.clear();
        for SigningKeySample { algorithm, state, signs } in &sample.keys {
            self.signing_keys.get_or_create(&KeyLabels { algorithm, state }).inc();
            if let Some((from, until)) = signs {
                let labels = AlgorithmLabels { algorithm };
                self.signs_from.get_or_create(&labels).set(*from);
                self.retires.get_or_create(&labels).set(until.unwrap_or(0));
            }
        }
    }
}

/// What the kernel says of this process (proc(5)); zeros where it says nothing.
#[derive(Default)]
struct Process {
    resident_bytes: i64,
    cpu_seconds: f64,
    files: i64,
}

/// Of the times in `/proc/self/stat`: the same on every Linux that we run on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    fn read() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse::<i64>().ok());
        let stat = read("stat");
        // Behind the name, which may hold anything; `utime` and `stime` are fields 14 and 15.
        let times = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
        let ticks: f64 = times.into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum();
        Self {
            resident_bytes: kibibytes.unwrap_or(0).saturating_mul(1024),
            cpu_seconds: ticks / TICKS_PER_SECOND,
            files: fs::read_dir("/proc/self/fd").map_or(0, |files| count(files.count())),
        }
    }
}

/// Series that are read from the key cache when metrics are asked for: an issuer that a reload took away leaves them.
#[derive(Default)]
struct IssuerSeries {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_this_process_stands() {
        let process = Process::read();
        assert!(process.resident_bytes > 1024 * 1024 && process.files >= 3);
        assert!(process.cpu_seconds.is_finite());
    }
}
