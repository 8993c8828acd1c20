//! What becomes of claim ceremonies.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// From a minute, which is quick for a person, to a week, which is the default of a first use.
const CLAIM_BUCKETS: [f64; 9] = [60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    event: &'static str,
}

/// What can happen to one.
const EVENTS: [&str; 6] = ["opened", "claimed", "rejected", "withdrawn", "expired", "lapsed"];

/// Ceremonies by what happened to them, and how long people took; cheap to clone.
#[derive(Clone, Debug)]
pub struct CeremonySeries {
    events: Family<Labels, Counter>,
    claim_seconds: Histogram,
}

impl Default for CeremonySeries {
    /// Each event begins at 0.
    fn default() -> Self {
        let new = Self { events: Family::default(), claim_seconds: Histogram::new(CLAIM_BUCKETS) };
        for event in EVENTS {
            drop(new.events.get_or_create(&Labels { event }));
        }
        new
    }
}

impl CeremonySeries {
    /// Something happened to one.
    pub fn happened(&self, event: &'static str) {
        self.events.get_or_create(&Labels { event }).inc();
    }

    /// One was claimed by enough people, so many seconds after it was opened.
    pub fn claimed(&self, seconds: i64) {
        self.claim_seconds.observe(f64::from(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)));
    }

    /// Puts them among the others.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("ceremony_events", "What happened to claim ceremonies", self.events.clone());
        let told = "Time from opening a ceremony to the last claim that it needed";
        registry.register_with_unit("ceremony_claim_duration", told, Unit::Seconds, self.claim_seconds.clone());
    }
}
