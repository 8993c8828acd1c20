//! What runs beside exchanges: strangers' records, issuers' keys, leases that a crash left, our keys' files, reloads, the
//! tree over the evidence.

use super::{
    Broker,
    evidence::SIGN_INTERVAL,
    retention::{Before, Gone, Keeper, LEAST_SECONDS},
};
use crate::{
    exchange,
    keys::signing::RELOAD_SECONDS,
    store::{Change, Commit, Down, LeaseState, Outcome, Settled, StoredLease},
};
use claimbound_core::{
    evidence::{Details, Record, What},
    time::UnixSeconds,
};
use serde_json::Map;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How often leases that a crash left are looked for, the store is swept, and our keys' directory is read again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const _: () = assert!(SWEEP_INTERVAL.as_secs() <= RELOAD_SECONDS, "a rotation counts on being read in time");
/// How often leases are counted, and the published documents looked at, where they are published elsewhere.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How often evidence is looked through for what is too old.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// A lease may be `issuing` for so long before it counts as left: longer than any backend's time limit.
const ISSUING_SECONDS_MAX: i64 = 120;

pub(super) async fn spawn(broker: &Arc<Broker>) -> Vec<JoinHandle<()>> {
    let strangers = {
        let broker = broker.clone();
        tokio::spawn(async move {
            broker.strangers.run(&broker.writer, &*broker.clock, stopping(&broker)).await;
        })
    };
    let keys = {
        let broker = broker.clone();
        tokio::spawn(async move {
            broker.issuers.warm().await;
            let refresh = broker.issuers.spawn_refresh();
            stopping(&broker).await;
            refresh.abort();
        })
    };
    let sweeper = {
        let broker = broker.clone();
        let started = broker.clock.now();
        // Read before any exchange can begin: whatever is `issuing` by now, however late it was opened, is a predecessor's,
        // and nobody works on it any more. Unless the store has other brokers.
        let left = if broker.shared_store { Vec::new() } else { unsettled(&broker, UnixSeconds(i64::MAX)).await };
        tokio::spawn(async move {
            settle_all(&broker, left).await;
            let lived = Instant::now();
            let mut tick = tokio::time::interval(SWEEP_INTERVAL);
            let mut stop = std::pin::pin!(stopping(&broker));
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    () = &mut stop => return,
                }
                let now = broker.clock.now();
                let left = unsettled(&broker, now.plus(-ISSUING_SECONDS_MAX)).await;
                settle_all(&broker, left).await;
                // Forgets single-use records of tokens that cannot verify any more; also finds out whether a store
                // that failed takes writes again.
                let past = surely_past(now, started, lived.elapsed());
                if let Err(error) = broker.writer.sweep(past).await {
                    tracing::error!(%error, "the store could not be swept");
                }
                // By what is surely past as well: a clock that jumps ahead for a while ends for good what people wait for.
                if let Err(error) = broker.desk().expire(past).await {
                    tracing::error!(%error, "ceremonies that are over could not be ended");
                }
                if let Err(error) = broker.desk().lapse(past).await {
                    tracing::error!(%error, "claims whose time is over could not be ended");
                }
                broker.read_keys_again(now).await;
                // Resource servers' secrets are read again with them.
                let clients = broker.clone();
                let _ = tokio::task::spawn_blocking(move || clients.clients.read_again()).await;
            }
        })
    };
    let reloader = {
        let broker = broker.clone();
        tokio::spawn(async move {
            let watching = tokio::spawn(broker.clone().watch());
            stopping(&broker).await;
            watching.abort();
        })
    };
    let evidence = {
        let broker = broker.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(SIGN_INTERVAL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut stop = std::pin::pin!(stopping(&broker));
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    () = &mut stop => return,
                }
                broker.sign_evidence(false).await;
            }
        })
    };
    let looks = {
        let broker = broker.clone();
        tokio::spawn(async move {
            let mut stop = std::pin::pin!(stopping(&broker));
            loop {
                broker.count_store().await;
                tokio::select! {
                    () = tokio::time::sleep(LOOK_INTERVAL) => broker.look_at_published().await,
                    () = &mut stop => return,
                }
            }
        })
    };
    let teller = {
        let broker = broker.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = broker.keep_told() => {}
                () = stopping(&broker) => {}
            }
        })
    };
    let keeper = {
        let broker = broker.clone();
        let (started, lived) = (broker.clock.now(), Instant::now());
        tokio::spawn(async move {
            let keeper = Keeper { reader: broker.reader.clone(), writer: Some(broker.writer.clone()), by: Map::new() };
            let mut tick = tokio::time::interval(FORGET_INTERVAL);
            let mut stop = std::pin::pin!(stopping(&broker));
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    () = &mut stop => return,
                }
                let now = surely_past(broker.clock.now(), started, lived.elapsed());
                let before = Before::of(&broker.config.evidence, now);
                match keeper.forget(before, now, LEAST_SECONDS).await {
                    Ok(gone) if gone == Gone::default() => {}
                    Ok(gone) => tracing::info!(
                        details = gone.details,
                        records = gone.records,
                        leases = gone.leases,
                        "evidence whose time is over is gone"
                    ),
                    Err(error) => tracing::error!(%error, "evidence whose time is over could not be let go"),
                }
            }
        })
    };
    vec![keeper, strangers, keys, sweeper, reloader, looks, teller, evidence]
}

/// The time that may be forgotten by: the clock's, but no later than this process has lived to see. A clock that jumps
/// ahead and is set back would otherwise make spent tokens good again. One that was asleep forgets later, no more.
fn surely_past(now: UnixSeconds, at_start: UnixSeconds, lived: Duration) -> UnixSeconds {
    now.min(at_start.plus(i64::try_from(lived.as_secs()).unwrap_or(i64::MAX)))
}

async fn stopping(broker: &Broker) {
    let mut stopping = broker.stopping.subscribe();
    // An error means that the broker is gone: stopped as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Leases that are `issuing` and were opened before this; none where the store cannot be asked.
async fn unsettled(broker: &Broker, before: UnixSeconds) -> Vec<StoredLease> {
    broker.read(move |reader| reader.unsettled(before)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "leases could not be looked through");
        Vec::new()
    })
}

/// Settles leases left `issuing` as `unknown`: their credential may exist, and they stay open until they expire.
async fn settle_all(broker: &Broker, left: Vec<StoredLease>) {
    for lease in left {
        if let Err(error) = settle(broker, &lease).await {
            return tracing::error!(%error, lease_id = %lease.id, "a lease could not be settled");
        }
    }
}

async fn settle(broker: &Broker, lease: &StoredLease) -> Result<(), Down> {
    let state = LeaseState::Unknown;
    let record = Record {
        decision: None,
        at: broker.clock.now(),
        what: What::Settled { lease: lease.id, state: state.name(), handle: None },
        principal: None,
        actor: None,
        mappings_version: None,
    };
    let settled = Settled { lease: lease.id, from: LeaseState::Issuing, state, handle: None };
    let entry = record.seal(&Details::default(), exchange::salt());
    let commit = Commit { guards: vec![], changes: vec![Change::Settle(settled)], entry: Some(entry) };
    // Blocked: its exchange came first after all.
    if let Outcome::Durable { .. } = broker.writer.commit(commit).await? {
        tracing::warn!(lease_id = %lease.id, role = lease.role, "a lease was left without an outcome: now unknown");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_makes_nothing_forgotten() {
        let at = |now, lived| surely_past(UnixSeconds(now), UnixSeconds(1_000), Duration::from_secs(lived)).0;
        assert_eq!(at(1_010, 10), 1_010);
        assert_eq!(at(90_000, 10), 1_010, "a day ahead");
        assert_eq!(at(500, 10), 500, "set back");
    }
}
