//! Logs, metrics and traces. Fields carry ids and closed-list names, never tokens, secrets or claims.

mod metrics;
mod sampled;

pub use metrics::{About, Ended, Metrics, Minted, Reloaded, StoreSeries};
pub use sampled::{IssuerSample, LeaseSample, Sample, SigningKeySample, SigningSample, StoreSample};

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
