//! Logs, metrics and traces. Fields carry ids and closed-list names, never tokens, secrets or claims.

mod ceremonies;
mod metrics;
mod sampled;
mod traces;
mod webhooks;

pub use ceremonies::CeremonySeries;
pub use metrics::{About, Ended, Metrics, Minted, Reloaded, StoreSeries};
pub use sampled::{
    CeremonySample, EvidenceSample, IssuerSample, LeaseSample, Sample, SigningKeySample, SigningSample, SinkSample,
    StoreSample,
};
pub use traces::{Caller, Exporter, Tracing, exchange, step};
pub use webhooks::WebhookSeries;

use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// What is logged unless `CLAIMBOUND_LOG` says otherwise. The HTTP library calls every malformed request an error:
/// anyone could set off alarms with it. Our own line and counter for a request say what an operator needs.
const FILTER: &str = "info,actix_http=off,actix_server=warn";

/// JSON lines on standard error; `CLAIMBOUND_LOG` takes a filter (`info`, `claimbound=debug`). Spans, where a collector
/// wants them: then what must be run to send them.
pub fn init(tracing: Option<Tracing>) -> Option<Exporter> {
    let asked = std::env::var("CLAIMBOUND_LOG").ok().filter(|text| !text.is_empty());
    let (filter, fault) = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(FILTER), Some(error)),
        None => (EnvFilter::new(FILTER), None),
    };
    let (spans, exporter) = tracing.map(traces::layer).unzip();
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
    // Spans are for the collector: a log line says what it has to say itself.
    let lines = lines.with_current_span(false).with_span_list(false).with_writer(std::io::stderr);
    // A second call, as tests make it, keeps the first.
    let _ = tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
    if let Some(error) = fault {
        tracing::warn!(%error, "`CLAIMBOUND_LOG` is no filter and is not used; write one like `info,claimbound=debug`");
    }
    exporter
}
