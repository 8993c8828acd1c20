//! What operators may know of a running broker.

use super::Broker;
use crate::{
    keys::issuers::KeyState,
    keys::signing::KeyState as SigningState,
    sinks::SinkHealth,
    store::{LeaseState, Scope},
    telemetry::{
        CeremonySample, IssuerSample, LeaseSample, Sample, SigningKeySample, SigningSample, SinkSample, StoreSample,
    },
};
use claimbound_core::mapping::{Exception, Mapping, MappingSet};
use serde::Serialize;
use std::sync::PoisonError;

/// Detailed health, for the operator listener.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    pub ready: bool,
    pub version: &'static str,
    pub mappings_version: String,
    pub mappings: MappingsHealth,
    pub store: StoreHealth,
    pub evidence: EvidenceHealth,
    pub issuers: Vec<IssuerHealth>,
    pub signing: SigningHealth,
    /// Copies of the records: one that is down is behind, and stops nothing.
    pub sinks: Vec<SinkHealth>,
    pub keys: Vec<KeyHealth>,
    pub suspensions: Vec<SuspensionHealth>,
}

/// The oldest ones; `claimbound suspensions` shows all.
const SUSPENSIONS_SHOWN_MAX: usize = 1_000;

/// Something that stands suspended. Who did it and why, and a person's id, are for operators who have signed in.
#[derive(Clone, Debug, Serialize)]
pub struct SuspensionHealth {
    pub suspension: String,
    pub scope: &'static str,
    pub issuer: String,
    /// Empty where it is a person, or the issuer itself.
    pub name: String,
    /// Unix times.
    pub since: i64,
    pub until: Option<i64>,
}

/// Our signing keys' part.
#[derive(Clone, Default, Debug, Serialize)]
pub struct SigningHealth {
    /// The name in our tokens.
    pub issuer_url: String,
    /// Private keys are encrypted at rest.
    pub sealed: bool,
    /// Why nothing is signed, and what to do: every exchange for a token of ours, or through one, is answered 503.
    pub stopped: Option<String>,
    /// What is wrong, and does not stop it.
    pub warning: Option<String>,
    /// Unix time of the last look at documents that are published elsewhere.
    pub published_read: Option<i64>,
    /// Unix time at which `rotate_every` makes the next keys.
    pub next_rotation: Option<i64>,
}

/// The part of what judges.
#[derive(Clone, Debug, Serialize)]
pub struct MappingsHealth {
    /// Unix time since which this folder and these facts judge.
    pub activated: i64,
    /// Why what stands on disk was not taken up.
    pub error: Option<String>,
    /// `claimbound.toml` differs in keys that are read at start alone.
    pub restart_needed: bool,
    /// What mappings rest on that the rules would not let them, in the folder that judges.
    pub exceptions: Vec<ExceptionHealth>,
}

/// One exception that a mapping rests on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExceptionHealth {
    pub mapping: String,
    pub team: String,
    /// `any_repository`, `any_event` or `allow_mutable_identity`.
    pub exception: &'static str,
    /// The team's own words.
    pub reason: String,
}

/// Each once, whichever alternatives of the mapping rest on it.
fn exceptions(mappings: &MappingSet) -> Vec<ExceptionHealth> {
    let one = |mapping: &Mapping, exception: &Exception| ExceptionHealth {
        mapping: mapping.name.clone(),
        team: mapping.team.to_string(),
        exception: exception.exempt.name(),
        reason: exception.reason.to_string(),
    };
    let mut all: Vec<ExceptionHealth> = mappings
        .mappings
        .iter()
        .flat_map(|mapping| mapping.exceptions.iter().map(move |other| one(mapping, other)))
        .collect();
    all.sort_unstable_by(|a, b| (&a.mapping, a.exception).cmp(&(&b.mapping, b.exception)));
    all.dedup();
    all
}

/// The store's part.
#[derive(Clone, Debug, Serialize)]
pub struct StoreHealth {
    /// Whether the last batch was written and a read answers.
    pub writable: bool,
    /// Commits waiting.
    pub waiting: usize,
}

/// The evidence's part.
#[derive(Clone, Default, Debug, Serialize)]
pub struct EvidenceHealth {
    /// The newest signed one.
    pub checkpoint: Option<CheckpointHealth>,
    /// Records behind it, which nothing signed covers yet.
    pub unproven: Option<u64>,
    /// Why no newer one could be signed.
    pub error: Option<String>,
    /// Why the store is not served at all, and what to do about it.
    pub behind: Option<String>,
}

/// A signed checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointHealth {
    pub epoch: u64,
    pub size: u64,
    /// Unix time.
    pub at: i64,
}

/// One issuer's part. An issuer that is down makes its own tokens 503 and does not hold up readiness.
#[derive(Clone, Debug, Serialize)]
pub struct IssuerHealth {
    pub issuer: String,
    pub url: String,
    /// `ok`, `stale`, `expiring`, `down` or `disabled`.
    pub state: &'static str,
    pub keys: usize,
    /// Unix time of the last good fetch, or reading of the pinned file.
    pub fetched: Option<i64>,
    /// Unix time of the last moment at which the keys that are held are believed.
    pub believed_until: Option<i64>,
    /// Why the last fetch gave no keys, and how many did not since the start.
    pub error: Option<String>,
    pub failures: u64,
    /// Keys of its set that are not used.
    pub ignored: Vec<IgnoredKey>,
    /// The file that its keys are pinned in.
    pub pinned: Option<String>,
    /// That the pinned keys end soon, or have ended.
    pub warning: Option<String>,
    /// Keys that an operator cut off.
    pub denied_kids: Vec<String>,
}

/// A key that is not used, and why.
#[derive(Clone, Debug, Serialize)]
pub struct IgnoredKey {
    pub kid: String,
    pub why: String,
}

/// One signing key's part.
#[derive(Clone, Debug, Serialize)]
pub struct KeyHealth {
    pub kid: String,
    pub algorithm: &'static str,
    pub state: &'static str,
    /// Unix time since which it is revoked.
    pub revoked: Option<i64>,
}

impl Broker {
    /// Whether the broker can answer exchanges: it is not stopping, and the store takes writes.
    pub fn ready(&self) -> bool {
        !*self.stopping.borrow() && self.writer.healthy()
    }

    /// For operators.
    pub fn health(&self) -> Health {
        let (active, reload) = (self.active(), self.reload.state());
        let issuers = self.issuers.health().into_values().map(|health| {
            let known = active.snapshot.mappings.issuer_named(&health.issuer);
            IssuerHealth {
                url: known.map(|(_, issuer)| issuer.url.clone()).unwrap_or_default(),
                issuer: health.issuer,
                state: health.state.name(),
                keys: health.keys,
                fetched: health.fetched.map(|at| at.0),
                believed_until: health.believed_until.map(|at| at.0),
                error: health.last_error,
                failures: health.failures,
                ignored: health.ignored.into_iter().map(|(kid, why)| IgnoredKey { kid, why }).collect(),
                pinned: health.pinned,
                warning: health.warning,
                denied_kids: health.denied_kids,
            }
        });
        let keys = self.signer.list(self.clock.now()).into_iter().map(|key| KeyHealth {
            kid: key.kid,
            algorithm: key.algorithm.name(),
            state: key.state.name(),
            revoked: key.revoked.map(|at| at.0),
        });
        Health {
            ready: self.ready(),
            version: env!("CARGO_PKG_VERSION"),
            mappings_version: active.version.clone(),
            mappings: MappingsHealth {
                activated: reload.activated.0,
                error: reload.error,
                restart_needed: reload.restart_needed,
                exceptions: exceptions(&active.snapshot.mappings),
            },
            store: StoreHealth {
                writable: self.writer.healthy() && self.reader.ping().is_ok(),
                waiting: self.writer.waiting(),
            },
            evidence: self.evidence_health(),
            issuers: issuers.collect(),
            signing: self.signing_health(),
            sinks: self.sinks.health(),
            keys: keys.collect(),
            suspensions: self.suspensions(),
        }
    }

    fn signing_health(&self) -> SigningHealth {
        let trust = self.trust();
        let unread = trust.unread.as_ref().map(|why| format!("the published documents could not be read: {why}"));
        let warnings: Vec<_> =
            [&trust.ring, &trust.published.differs, &unread].into_iter().flatten().cloned().collect();
        let every = self.config.signing.rotate_every_seconds;
        SigningHealth {
            issuer_url: self.config.issuer_url.clone(),
            sealed: self.config.signing.seal.is_some(),
            stopped: self.signer.stopped().map(|why| (*why).clone()),
            warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
            published_read: trust.read.map(|at| at.0),
            next_rotation: every.and_then(|every| self.signer.next_rotation(every)).map(|at| at.0),
        }
    }

    fn suspensions(&self) -> Vec<SuspensionHealth> {
        let now = self.clock.now();
        let standing = self.reader.suspensions().unwrap_or_default().into_iter().filter(|one| one.stands(now));
        let told = standing.take(SUSPENSIONS_SHOWN_MAX).map(|one| SuspensionHealth {
            suspension: one.id.to_string(),
            scope: one.subject.scope.name(),
            issuer: one.subject.issuer,
            name: if one.subject.scope == Scope::Person { String::new() } else { one.subject.name },
            since: one.since,
            until: one.until,
        });
        told.collect()
    }

    /// All series as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let issuers = self.issuers.health().into_values().map(|health| IssuerSample {
            issuer: health.issuer,
            states: KeyState::ALL.map(|state| (state.name(), state == health.state)).to_vec(),
            keys: health.keys,
            ignored: health.ignored.len(),
            failures: health.failures,
            fetched: health.fetched.map(|at| at.0),
            believed_until: health.believed_until.map(|at| at.0),
        });
        let issuers: Vec<_> = issuers.collect();
        let sinks = self.sinks.health().into_iter().map(|sink| SinkSample {
            up: sink.error.is_none(),
            behind: sink.behind,
            sent: sink.sent,
            failures: sink.failures,
            last: sink.last_sent,
            sink: sink.name,
        });
        let sinks: Vec<_> = sinks.collect();
        let reload = self.reload.state();
        self.metrics.text(&Sample {
            store_waiting: self.writer.waiting(),
            store_writable: self.writer.healthy(),
            issuers: &issuers,
            summed: self.strangers.summed(),
            reload_refused: reload.error.is_some(),
            restart_needed: reload.restart_needed,
            sinks: &sinks,
            signing: self.signing_sample(),
            store: self.census.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            evidence: self.evidence_sample(),
        })
    }

    fn signing_sample(&self) -> SigningSample {
        let keys = self.signer.list(self.clock.now()).into_iter().filter(|key| key.state != SigningState::Gone);
        let every = self.config.signing.rotate_every_seconds;
        SigningSample {
            stopped: self.signer.stopped().is_some(),
            keys: keys
                .map(|key| SigningKeySample {
                    algorithm: key.algorithm.name(),
                    state: key.state.name(),
                    signs: (key.state == SigningState::Signing)
                        .then_some((key.signs_from.0, key.retires.map(|at| at.0))),
                })
                .collect(),
            next_rotation: every.and_then(|every| self.signer.next_rotation(every)).map(|at| at.0),
        }
    }

    /// Counts what is alive, beside everything else: metrics show the last count.
    pub(super) async fn count_store(&self) {
        let now = self.clock.now();
        match self.read(move |reader| reader.census(now)).await {
            Ok(census) => {
                let alive = LeaseState::ALL
                    .into_iter()
                    .filter(|state| ![LeaseState::Failed, LeaseState::Ended].contains(state));
                let count = |state| census.live.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count);
                let leases = alive.map(|state| LeaseSample { state: state.name(), count: count(state) });
                let open =
                    |state: &str| census.ceremonies.iter().find(|(of, _)| of == state).map_or(0, |(_, count)| *count);
                let ceremonies = ["pending", "claimed"].map(|state| CeremonySample { state, count: open(state) });
                let sample = StoreSample {
                    at: now.0,
                    leases: leases.collect(),
                    ceremonies: ceremonies.into(),
                    bytes: census.bytes,
                };
                *self.census.lock().unwrap_or_else(PoisonError::into_inner) = sample;
            }
            Err(error) => tracing::warn!(%error, "leases could not be counted; metrics show the last count"),
        }
    }
}
