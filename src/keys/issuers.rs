//! Discovery and key refresh: single flight, a floor between fetches that counts failures, last good keys kept.

use crate::{issuance::Later, net::Client};
use claimbound_core::{
    time::{Clock, UnixSeconds},
    trust::IssuerTable,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The keys of an issuer cannot be had. `why` is for operators.
#[derive(Clone, Debug, thiserror::Error)]
#[error("issuer {issuer}: {why}")]
pub struct IssuerDown {
    pub issuer: String,
    pub why: String,
}

/// What the exchange needs of issuers' keys.
pub trait Issuers: Send + Sync {
    /// The table as it is now; lock-free.
    fn table(&self) -> Arc<IssuerTable>;
    /// Fetches the keys of the issuer named `name` anew: single flight; inside the floor it answers at once, with the
    /// table or with the last failure.
    fn refresh<'a>(&'a self, name: &'a str) -> Later<'a, Result<Arc<IssuerTable>, IssuerDown>>;
}

/// One issuer as configured: trust facts from policy.toml and its profile, network facts from claimbound.toml.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    pub name: String,
    pub url: String,
    pub rules: claimbound_core::trust::IssuerRules,
    pub algorithms: Vec<claimbound_core::trust::Algorithm>,
    pub allow_private_network: bool,
    /// A loopback issuer over plain HTTP: only with `--development`.
    pub development: bool,
    pub ca_file: Option<std::path::PathBuf>,
}

/// Waits and limits; tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct KeyTimes {
    /// Between two fetches for one issuer, failures and empty answers included.
    pub floor: Duration,
    /// Background refresh.
    pub interval: Duration,
    /// How long last good keys are believed when the issuer is down.
    pub keep: Duration,
}

/// The state of one issuer's keys, for health and metrics.
#[derive(Clone, Debug)]
pub struct KeyHealth {
    pub issuer: String,
    pub keys: usize,
    pub fetched: Option<UnixSeconds>,
    pub last_error: Option<String>,
}

/// The cache over the network.
pub struct KeyCache {}

impl KeyCache {
    /// Nothing is fetched yet: [`KeyCache::warm`] does.
    pub fn new(_issuers: Vec<IssuerConfig>, _client: Client, _clock: Arc<dyn Clock>, _times: KeyTimes) -> Arc<Self> {
        unimplemented!()
    }
    /// Fetches all issuers' keys at once; an issuer that is down does not hold up the others or the start.
    pub async fn warm(self: &Arc<Self>) {
        unimplemented!()
    }
    /// Refreshes in the background until the returned handle is aborted.
    pub fn spawn_refresh(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        unimplemented!()
    }
    /// Puts another set of issuers in place (reload); keys of issuers that stay are kept.
    pub fn replace(&self, _issuers: Vec<IssuerConfig>) {
        unimplemented!()
    }
    /// For health and metrics.
    pub fn health(&self) -> BTreeMap<String, KeyHealth> {
        unimplemented!()
    }
}
