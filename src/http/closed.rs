//! What is served while the store is behind its checkpoint: health, which says why, and nothing else.

use super::front::Front;
use crate::{
    broker::{
        Answer, Asked, Broker, CallerIdentity, EvidenceHealth, Health, MappingsHealth, NoOperator, SigningHealth,
        StatusList, StoreHealth, Who,
    },
    exchange::Refused,
    operate::{Deed, Done, OperateError},
    operators::Operator,
    secret::Secret,
    store::Down,
};
use claimbound_core::{
    evidence::DecisionId,
    reason::{Reason, Standing},
    time::UnixSeconds,
};
use futures_util::future::{BoxFuture, ready};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// In the broker's place. [`super::routes`] answers all but health before it comes here.
pub struct Closed {
    /// For operators.
    pub why: String,
}

impl Closed {
    fn down(&self) -> Down {
        Down::new(self.why.as_str())
    }
}

impl Front for Closed {
    fn exchange(&self, _asked: Asked) -> BoxFuture<'_, Answer> {
        let refused = Refused {
            reason: Reason::StoreDown,
            standing: Standing::Stranger,
            role_asked: false,
            retry_after_seconds: None,
            waits: None,
            said: None,
            first: None,
            hint: None,
        };
        let (id, at) = (DecisionId(uuid::Uuid::now_v7().as_u128()), self.now());
        Box::pin(ready(Answer { id, at, mappings_version: String::new(), outcome: Err(refused) }))
    }
    fn revoke(&self, _token: Secret) -> BoxFuture<'_, bool> {
        Box::pin(ready(false))
    }
    fn operate(&self, _operator: Operator, _deed: Deed) -> BoxFuture<'_, Result<Done, OperateError>> {
        Box::pin(ready(Err(self.down().into())))
    }
    fn resource_server(&self, _id: &str, _secret: &str) -> Option<usize> {
        None
    }
    fn caller_identity(&self, _key: String, _token: Secret) -> BoxFuture<'_, Result<Option<CallerIdentity>, Down>> {
        Box::pin(ready(Err(self.down())))
    }
    fn count_sts(&self, _action: &'static str, _code: &'static str) {}
    fn introspect(&self, _server: usize, _token: Secret) -> BoxFuture<'_, Result<Option<Map<String, Value>>, Down>> {
        Box::pin(ready(Err(self.down())))
    }
    fn status_list<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<Arc<StatusList>>, Down>> {
        Box::pin(ready(Err(self.down())))
    }
    fn operator(&self, _presented: Secret) -> BoxFuture<'_, Result<Who, NoOperator>> {
        Box::pin(ready(Err(NoOperator::Down)))
    }
    fn broker(&self) -> Option<&Arc<Broker>> {
        None
    }
    fn jwks(&self) -> Value {
        json!({ "keys": [] })
    }
    fn ready(&self) -> bool {
        false
    }
    fn health(&self) -> Health {
        Health {
            ready: false,
            version: env!("CARGO_PKG_VERSION"),
            mappings_version: String::new(),
            mappings: MappingsHealth { activated: 0, error: None, restart_needed: false, exceptions: Vec::new() },
            store: StoreHealth { writable: false, waiting: 0 },
            evidence: EvidenceHealth { behind: Some(self.why.clone()), ..EvidenceHealth::default() },
            issuers: Vec::new(),
            signing: SigningHealth::default(),
            sinks: Vec::new(),
            keys: Vec::new(),
            suspensions: Vec::new(),
        }
    }
    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
    fn count_turned_away(&self, _status: u16) {}
    fn now(&self) -> UnixSeconds {
        UnixSeconds(jiff::Timestamp::now().as_second())
    }
    fn checkpoint(&self) -> Option<String> {
        None
    }
    fn checkpoint_key(&self) -> String {
        String::new()
    }
    fn closed(&self) -> bool {
        true
    }
}
