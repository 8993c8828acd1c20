//! Spans of exchanges, for a collector. Nothing waits for it: spans go into a queue of bounded length, and what does not
//! fit is dropped and counted. Their attributes are what metrics' labels are, and the decision id.

use crate::otlp::{Otlp, Signal};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt, TracerProvider as _},
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest, transform::trace::tonic::group_spans_by_resource_and_scope,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, Span as Started, SpanData, SpanProcessor},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use prost::Message;
use std::{collections::HashMap, fmt::Display, sync::LazyLock, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry as Subscribers, filter::Targets};

/// What the collector's layer listens to, and logs leave out unless they are asked for everything.
const TARGET: &str = "claimbound::span";
/// Spans that wait; beyond it they are dropped.
const QUEUE_SPANS_MAX: usize = 8_192;
/// Spans of one message.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// At the end, what waits is sent within this.
const STOP_WAIT_MAX: Duration = Duration::from_secs(3);
/// A `traceparent` of version 00 has 55 bytes; later ones may be longer.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// What became of spans; one for the process, as the subscriber is.
#[derive(Default)]
pub(super) struct TraceSeries {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

static SERIES: LazyLock<TraceSeries> = LazyLock::new(TraceSeries::default);

impl TraceSeries {
    pub(super) fn register(registry: &mut Registry) {
        registry.register("spans_exported", "Spans that a collector took", SERIES.exported.clone());
        registry.register("spans_dropped", "Spans for which the queue had no room", SERIES.dropped.clone());
        registry.register("spans_failed", "Spans that no collector took", SERIES.failed.clone());
    }
}

/// Where the caller stands in a trace of its own (W3C Trace Context).
#[derive(Clone, Debug)]
pub struct Caller(SpanContext);

impl Caller {
    /// Reads a `traceparent` header; `None` if it is none.
    pub fn parse(traceparent: &str) -> Option<Self> {
        if traceparent.len() > TRACEPARENT_BYTES_MAX {
            return None;
        }
        let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }
}

/// The span of one exchange. Disabled, and nearly free, without a collector.
pub fn exchange(decision_id: &dyn Display, caller: Option<&Caller>) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        "exchange",
        otel.kind = "server",
        otel.status_code = Empty,
        decision_id = %decision_id,
        issuer = Empty,
        mapping = Empty,
        role = Empty,
        outcome = Empty,
        reason = Empty,
    );
    if let Some(Caller(of)) = caller.filter(|_| !span.is_disabled()) {
        // Fails only where nobody listens.
        let _ = span.set_parent(Context::new().with_remote_span_context(of.clone()));
    }
    span
}

/// One of its steps (design, section 3).
pub mod step {
    use super::{Span, TARGET};

    macro_rules! steps {
        ($($(#[$told:meta])* $name:ident)*) => { $(
            $(#[$told])*
            pub fn $name() -> Span {
                tracing::debug_span!(target: TARGET, stringify!($name))
            }
        )* };
    }

    steps! {
        /// Steps 2 to 4.
        prove
        /// Step 5.
        decide
        /// Step 6.
        admit
        /// Step 7.
        mint
        /// Step 8.
        bind
        /// A refusal's record.
        refuse
    }
}

/// How traces are made.
pub struct Tracing {
    pub otlp: Otlp,
    /// The share of traces that is kept, 0 to 1, of those that no caller decided on.
    pub sample: f64,
}

/// Takes spans out of the queue.
pub struct Exporter {
    queue: mpsc::Receiver<SpanData>,
    otlp: Otlp,
    resource: Resource,
}

#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Started, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            SERIES.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The layer that makes spans, and who sends them.
pub(super) fn layer(tracing: Tracing) -> (impl Layer<Subscribers> + Send + Sync, Exporter) {
    let (queue, spans) = mpsc::channel(QUEUE_SPANS_MAX);
    let resource = Resource::builder_empty()
        .with_service_name("claimbound")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Queue(queue))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(tracing.sample))))
        .with_resource(resource.clone())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("claimbound"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, tracing::Level::DEBUG));
    (layer, Exporter { queue: spans, otlp: tracing.otlp, resource })
}

impl Exporter {
    /// Sends until it is told to stop, and then what waits.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let (mut stopping, mut failing) = (false, false);
        let mut batch = Vec::new();
        loop {
            let mut until = None;
            while batch.len() < BATCH_SPANS_MAX {
                let room = BATCH_SPANS_MAX - batch.len();
                tokio::select! {
                    biased;
                    taken = self.queue.recv_many(&mut batch, room) => match taken {
                        0 => break,
                        _ => until = until.or_else(|| Some(Instant::now() + BATCH_WAIT)),
                    },
                    () = &mut stop, if !stopping => {
                        stopping = true;
                        self.queue.close();
                    }
                    () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
                }
            }
            if batch.is_empty() {
                return;
            }
            let sent = self.send(std::mem::take(&mut batch));
            let sent = if stopping {
                tokio::time::timeout(STOP_WAIT_MAX, sent).await.unwrap_or_else(|_| Err("no time is left".to_owned()))
            } else {
                sent.await
            };
            let failed = sent.is_err();
            match sent {
                Ok(()) if failing => tracing::info!("the collector takes spans again"),
                Err(why) if !failing => tracing::warn!(why, "spans cannot be sent; they are dropped and counted"),
                _ => {}
            }
            failing = failed;
            if stopping && failing {
                return;
            }
        }
    }

    async fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        let number = spans.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(spans, &(&self.resource).into());
        let message = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let sent = self.otlp.send(Signal::Traces, message).await;
        match &sent {
            Ok(()) => SERIES.exported.inc_by(number),
            Err(_) => SERIES.failed.inc_by(number),
        };
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_who_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let Caller(of) = Caller::parse(good).unwrap();
        assert_eq!(of.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(of.is_sampled() && of.is_remote());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            &format!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-{}", "x".repeat(200)),
        ] {
            assert!(Caller::parse(bad).is_none(), "{bad}");
        }
    }
}
