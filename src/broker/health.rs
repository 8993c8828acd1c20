//! What operators may know of a running broker.

use super::Broker;
use crate::{
    keys::issuers::KeyState,
    store::Scope,
    telemetry::{IssuerSample, Sample},
};
use claimbound_core::mapping::{Exception, Mapping, MappingSet};
use serde::Serialize;

/// Detailed health, for the operator listener.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    pub ready: bool,
    pub version: &'static str,
    pub mappings_version: String,
    pub mappings: MappingsHealth,
    pub store: StoreHealth,
    pub issuers: Vec<IssuerHealth>,
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
        team: mapping.team.clone(),
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
            issuers: issuers.collect(),
            keys: keys.collect(),
            suspensions: self.suspensions(),
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
        self.metrics.text(&Sample {
            store_waiting: self.writer.waiting(),
            store_writable: self.writer.healthy(),
            issuers: &issuers,
            summed: self.strangers.summed(),
        })
    }
}
