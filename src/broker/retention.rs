//! How long evidence is kept: details of answers for a shorter time, whole records for a longer one. What goes is first
//! told by a record, then goes step by step between the writes of exchanges.

use crate::{
    config::{Evidence, KEPT_SECONDS_MIN},
    exchange,
    store::{
        Commit, Down, Reader, Writer,
        forget::{self, Forget, Part},
    },
};
use claimbound_core::{
    evidence::{Record, What},
    time::UnixSeconds,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Brokers forget a day at a time: one record a day tells of it.
pub(super) const LEAST_SECONDS: i64 = 86_400;

/// What is older goes; `None`: nothing does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Before {
    pub details: Option<UnixSeconds>,
    pub records: Option<UnixSeconds>,
}

impl Before {
    /// What the configuration lets go by now.
    pub fn of(evidence: &Evidence, now: UnixSeconds) -> Self {
        let ago = |kept: Option<i64>| kept.map(|seconds| now.plus(-seconds));
        Self { details: ago(evidence.retain_details_seconds), records: ago(evidence.retain_seconds) }
    }
}

/// What went.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Gone {
    pub details: u64,
    pub records: u64,
    pub leases: u64,
}

impl Gone {
    /// With what one step takes.
    fn and(&mut self, step: &Forget) {
        self.details += step.details.len() as u64;
        self.records += step.records.len() as u64;
        self.leases += step.leases.len() as u64;
    }
}

/// Whose store it is.
#[derive(Clone)]
pub struct Keeper {
    pub reader: Arc<dyn Reader>,
    /// `None`: says what would go, and lets nothing go.
    pub writer: Option<Writer>,
    /// Details of the records that tell of it: who did it and why, if a person did.
    pub by: Map<String, Value>,
}

impl Keeper {
    /// Forgets what is old enough; with `least_seconds` only if it is that much older.
    ///
    /// # Errors
    /// The store's. What went by then is gone; the rest goes next time.
    pub async fn forget(&self, before: Before, now: UnixSeconds, least_seconds: i64) -> Result<Gone, Down> {
        let mut gone = Gone::default();
        for (part, before) in [(Part::Records, before.records), (Part::Details, before.details)] {
            let Some(before) = before.map(|before| before.min(now.plus(-KEPT_SECONDS_MIN))) else { continue };
            let found = self.read(move |reader| forget::through(reader, part, before, least_seconds)).await?;
            let Some(through) = found else { continue };
            if let Some(writer) = &self.writer {
                writer.commit(self.told(part, through, before, now)).await?;
            }
            let mut done = self.read(|reader| reader.forgotten()).await?;
            while let Some(step) = self.read(move |reader| forget::step(reader, part, done, through, now)).await? {
                done = step.reached;
                gone.and(&step);
                if let Some(writer) = &self.writer {
                    writer.forget(step).await?;
                }
            }
        }
        Ok(gone)
    }

    fn told(&self, part: Part, through: i64, before: UnixSeconds, at: UnixSeconds) -> Commit {
        let what = match part {
            Part::Details => What::DetailsErased { through, before },
            Part::Records => What::RecordsPruned { through, before },
        };
        let record = Record { decision: None, at, what, principal: None, actor: None, mappings_version: None };
        let entry = record.seal(&self.by.clone().into(), exchange::salt());
        Commit { guards: vec![], changes: vec![], entry: Some(entry) }
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Reader) -> Result<T, Down> + Send + 'static,
    ) -> Result<T, Down> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || ask(&*reader)).await;
        read.unwrap_or_else(|_| Err(Down::new("reading the store panicked")))
    }
}
