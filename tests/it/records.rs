//! The evidence of a broker under test, read from its store while it runs.

use claimbound::store::{self, Kept};
use claimbound_test_support::{broker::Broker, time::eventually};
use serde_json::Value;
use std::time::Duration;

/// Strangers are recorded in the background: a record comes within this.
const RECORD_COMES: Duration = Duration::from_secs(20);

/// Every record, oldest first: body and details.
pub fn all(broker: &Broker) -> Vec<(Value, Value)> {
    let reader = store::open_reader(&broker.store()).expect("the store can be read beside the broker");
    let mut found = Vec::new();
    let json = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { serde_json::from_slice(bytes).unwrap() };
    reader
        .snapshot(&mut |kept| {
            if let Kept::Record(stored) = kept {
                found.push((json(&stored.body), json(&stored.details)));
            }
            true
        })
        .expect("records can be read");
    found
}

/// The records of one decision.
pub fn of(broker: &Broker, decision: &str) -> Vec<(Value, Value)> {
    all(broker).into_iter().filter(|(body, _)| body["decision"] == decision).collect()
}

/// Waits for the one record of a decision; panics if there are more.
pub async fn the_one(broker: &Broker, decision: &str) -> (Value, Value) {
    let mut found = eventually(RECORD_COMES, async || Some(of(broker, decision)).filter(|r| !r.is_empty())).await;
    assert_eq!(found.len(), 1, "one answer, one record: {found:?}");
    found.remove(0)
}

/// All records of one kind.
pub fn of_kind(broker: &Broker, kind: &str) -> Vec<Value> {
    all(broker).into_iter().map(|(body, _)| body).filter(|body| body["kind"] == kind).collect()
}
