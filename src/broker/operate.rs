//! What operators do, on a running broker.

use super::{Active, Broker};
use crate::{
    issuance::{Ended, Later, aws::denial::Denier},
    operate::{self, Deed, Done, House, OperateError, Targets},
    operators::Operator,
    store::Scope,
};
use claimbound_core::mapping::MappingSet;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How often AWS is told what to refuse, where it has another list; and what stands suspended is counted.
pub(super) const TELL_INTERVAL: Duration = Duration::from_secs(60);

impl Targets for Active {
    fn set(&self) -> &MappingSet {
        &self.snapshot.mappings
    }

    fn deniers(&self) -> &BTreeMap<String, Arc<Denier>> {
        &self.deniers
    }

    fn end<'a>(&'a self, role: &'a str, handle: &'a str) -> Later<'a, Ended> {
        Box::pin(async move {
            // A role that is gone can only be waited out.
            let Some(role) = self.snapshot.mappings.role_named(role) else { return Ended::AtExpiry };
            self.snapshot.minters[role.0 as usize].revoke(handle).await.unwrap_or(Ended::AtExpiry)
        })
    }
}

impl Broker {
    fn house(&self) -> House {
        House {
            writer: self.writer.clone(),
            reader: self.reader.clone(),
            targets: self.active(),
            now: self.clock.now(),
            break_glass: None,
        }
    }

    /// Does what an operator asks, to its end, also when they hang up.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn operate(self: &Arc<Self>, operator: Operator, deed: Deed) -> Result<Done, OperateError> {
        let broker = self.clone();
        let deed = || async move {
            let done = operate::operate(&broker.house(), &operator, deed).await;
            broker.count_suspensions().await;
            done
        };
        self.finish(deed).await
    }

    /// For metrics: how much of each kind stands suspended.
    async fn count_suspensions(&self) {
        let now = self.clock.now();
        match self.read(|reader| reader.suspensions()).await {
            Ok(all) => {
                let of = |scope| all.iter().filter(|one| one.subject.scope == scope && one.stands(now)).count();
                self.metrics.suspensions(Scope::ALL.map(|scope| (scope.name(), of(scope))));
            }
            Err(error) => tracing::error!(%error, "what stands suspended could not be read"),
        }
    }

    /// Keeps AWS's deny lists as the store has them: what has expired leaves them, and what could not be told is told.
    pub(super) async fn keep_told(&self) {
        let (mut told, mut tick) = (BTreeMap::new(), tokio::time::interval(TELL_INTERVAL));
        loop {
            tick.tick().await;
            self.count_suspensions().await;
            for (backend, why) in operate::tell_targets(&self.house(), &mut told).await {
                tracing::error!(backend, why, "AWS could not be told what to refuse; it is tried again in a minute");
            }
        }
    }
}
