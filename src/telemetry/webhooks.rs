//! What webhooks count.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    webhook: String,
    outcome: &'static str,
}

/// Messages by receiver, and whether they were taken in the end; cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct WebhookSeries {
    messages: Family<Labels, Counter>,
}

impl WebhookSeries {
    /// A receiver that there is: its series begin at 0.
    pub fn begin(&self, webhook: &str) {
        for outcome in ["taken", "dropped"] {
            drop(self.messages.get_or_create(&Labels { webhook: webhook.to_owned(), outcome }));
        }
    }

    /// One message reached its end.
    pub fn sent(&self, webhook: &str, taken: bool) {
        let outcome = if taken { "taken" } else { "dropped" };
        self.messages.get_or_create(&Labels { webhook: webhook.to_owned(), outcome }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_messages",
            "Messages of claim ceremonies by what came of them",
            self.messages.clone(),
        );
    }
}
