//! What operators may know of a running broker.

use super::Broker;
use crate::telemetry::Sample;
use serde::Serialize;

/// Detailed health, for the operator listener.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    pub ready: bool,
    pub version: &'static str,
    pub mappings_version: String,
    pub store: StoreHealth,
    pub issuers: Vec<IssuerHealth>,
    pub keys: Vec<KeyHealth>,
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
    pub keys: usize,
    /// Unix time of the last good fetch.
    pub fetched: Option<i64>,
    pub error: Option<String>,
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
        let issuers = self.issuers.health().into_values().map(|health| {
            let known = self.snapshot.mappings.issuer_named(&health.issuer);
            IssuerHealth {
                url: known.map(|(_, issuer)| issuer.url.clone()).unwrap_or_default(),
                issuer: health.issuer,
                keys: health.keys,
                fetched: health.fetched.map(|at| at.0),
                error: health.last_error,
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
            mappings_version: self.mappings_version.clone(),
            store: StoreHealth {
                writable: self.writer.healthy() && self.reader.ping().is_ok(),
                waiting: self.writer.waiting(),
            },
            issuers: issuers.collect(),
            keys: keys.collect(),
        }
    }

    /// All series as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let issuers: Vec<_> = self.issuers.health().into_values().collect();
        let issuers: Vec<_> = issuers.into_iter().map(|h| (h.issuer, h.keys, h.fetched.map(|at| at.0))).collect();
        self.metrics.text(&Sample {
            store_waiting: self.writer.waiting(),
            store_writable: self.writer.healthy(),
            issuers: &issuers,
            summed: self.strangers.summed(),
        })
    }
}
