//! Composition root: builds, owns and swaps what the exchange needs; background tasks; orderly stop.
//! Its public methods are the only face that `http` and `cli` see.

use crate::{
    config::Config,
    exchange::{Granted, Refused},
    store::Down,
};
use claimbound_core::{
    evidence::DecisionId,
    time::{Clock, Seconds},
};
use std::{net::IpAddr, sync::Arc};

/// One exchange as the form gave it, owned: it outlives the connection that asked.
pub struct Asked {
    pub grant: AskedGrant,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub duration: Option<Seconds>,
    pub dry_run: bool,
    /// SHA-256 over all parameters as sent (length-prefixed, in name order).
    pub digest: [u8; 32],
    pub address: Option<IpAddr>,
}

/// Which door. Tokens are wiped when dropped and do not print.
pub enum AskedGrant {
    Tokens { subject: crate::secret::Secret, actor: Option<crate::secret::Secret> },
    Poll { auth_req_id: crate::secret::Secret },
    Refresh { token: crate::secret::Secret },
}

/// The answer to an exchange, with what every answer names.
pub struct Answer {
    pub id: DecisionId,
    /// Hex.
    pub mappings_version: String,
    pub outcome: Result<Granted, Refused>,
}

/// What `/revoke` did: RFC 7009 answers 200 either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revoked {
    Ended,
    Unknown,
}

/// Detailed health for operators.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Health {
    pub ready: bool,
    pub version: &'static str,
    pub mappings_version: String,
    pub store: StoreHealth,
    pub issuers: Vec<IssuerHealth>,
    pub keys: Vec<KeyHealth>,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct StoreHealth {
    pub writable: bool,
    pub waiting: usize,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct IssuerHealth {
    pub issuer: String,
    pub url: String,
    pub keys: usize,
    pub fetched: Option<i64>,
    pub error: Option<String>,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct KeyHealth {
    pub kid: String,
    pub algorithm: String,
    pub state: String,
}

/// The running broker.
pub struct Broker {
    config: Config,
    clock: Arc<dyn Clock>,
}

impl Broker {
    pub fn config(&self) -> &Config {
        &self.config
    }
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
    /// Runs one exchange to its end, also when the caller is gone: the work is a task of its own.
    pub async fn exchange(self: &Arc<Self>, _asked: Asked) -> Answer {
        unimplemented!()
    }
    /// Ends the lease of the presented credential (RFC 7009).
    pub async fn revoke(self: &Arc<Self>, _token: crate::secret::Secret) -> Result<Revoked, Down> {
        unimplemented!()
    }
    /// Our published keys.
    pub fn jwks(&self) -> serde_json::Value {
        unimplemented!()
    }
    /// Whether the broker can answer exchanges: the store takes writes.
    pub fn ready(&self) -> bool {
        unimplemented!()
    }
    /// For operators.
    pub fn health(&self) -> Health {
        unimplemented!()
    }
    /// Prometheus text.
    pub fn metrics(&self) -> String {
        unimplemented!()
    }
    /// A request was refused before its token was read (413, 415, 429, …): counted only.
    pub fn count_turned_away(&self, _status: u16) {
        unimplemented!()
    }
    /// Fails readiness, settles what runs, flushes the store.
    pub async fn stop(self: &Arc<Self>) {
        unimplemented!()
    }
}
