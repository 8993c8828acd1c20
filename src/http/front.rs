//! What the endpoints need of the broker, as a trait: so that they can be tested without one.

use super::limit::{NETWORKS_MAX, SIGN_IN_STEPS_PER_SECOND, VISITOR_POSTS_PER_SECOND, VISITORS_MAX};
use crate::{
    broker::{Answer, Asked, Broker, CallerIdentity, Health, NoOperator, StatusList, Who},
    config::Config,
    operate::{Deed, Done, OperateError},
    operators::Operator,
    rate::Rate,
    secret::Secret,
    store::Down,
};
use claimbound_core::time::UnixSeconds;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use std::{net::IpAddr, sync::Arc, time::Instant};

/// The broker's face, as [`Broker`] describes it.
pub trait Front: Send + Sync {
    fn exchange(&self, asked: Asked) -> BoxFuture<'_, Answer>;
    /// Whether it is on record.
    fn revoke(&self, token: Secret) -> BoxFuture<'_, bool>;
    /// In an operator's name, who has been let in.
    fn operate(&self, operator: Operator, deed: Deed) -> BoxFuture<'_, Result<Done, OperateError>>;
    fn resource_server(&self, id: &str, secret: &str) -> Option<usize>;
    fn introspect(&self, server: usize, token: Secret) -> BoxFuture<'_, Result<Option<Map<String, Value>>, Down>>;
    /// Who a session's keys are at AWS, while its lease lives: of the key's id and the session's token.
    fn caller_identity(&self, key: String, token: Secret) -> BoxFuture<'_, Result<Option<CallerIdentity>, Down>>;
    /// An answer in the words of AWS STS.
    fn count_sts(&self, action: &'static str, code: &'static str);
    fn status_list<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<StatusList>>, Down>>;
    fn jwks(&self) -> Value;
    fn ready(&self) -> bool;
    fn health(&self) -> Health;
    fn metrics(&self) -> String;
    fn count_turned_away(&self, status: u16);
    fn now(&self) -> UnixSeconds;
    /// The newest signed checkpoint of the evidence.
    fn checkpoint(&self) -> Option<String>;
    /// What verifies it.
    fn checkpoint_key(&self) -> String;
    /// Whether nothing but health is answered.
    fn closed(&self) -> bool {
        false
    }
    /// Who it is that presents this; a job's token is spent by it.
    fn operator(&self, presented: Secret) -> BoxFuture<'_, Result<Who, NoOperator>>;
    /// What operators act on; `None` in tests of everything else.
    fn broker(&self) -> Option<&Arc<Broker>>;
}

impl Front for Arc<Broker> {
    fn exchange(&self, asked: Asked) -> BoxFuture<'_, Answer> {
        Box::pin(Broker::exchange(self, asked))
    }
    fn revoke(&self, token: Secret) -> BoxFuture<'_, bool> {
        Box::pin(async { Broker::revoke(self, token).await.is_ok() })
    }
    fn operate(&self, operator: Operator, deed: Deed) -> BoxFuture<'_, Result<Done, OperateError>> {
        Box::pin(Broker::operate(self, operator, deed))
    }
    fn resource_server(&self, id: &str, secret: &str) -> Option<usize> {
        Broker::resource_server(self, id, secret)
    }
    fn introspect(&self, server: usize, token: Secret) -> BoxFuture<'_, Result<Option<Map<String, Value>>, Down>> {
        Box::pin(async move { Broker::introspect(self, server, &token).await })
    }
    fn caller_identity(&self, key: String, token: Secret) -> BoxFuture<'_, Result<Option<CallerIdentity>, Down>> {
        Box::pin(async move { Broker::caller_identity(self, &key, &token).await })
    }
    fn count_sts(&self, action: &'static str, code: &'static str) {
        Broker::count_sts(self, action, code);
    }
    fn status_list<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<StatusList>>, Down>> {
        Box::pin(Broker::status_list(self, name))
    }
    fn jwks(&self) -> Value {
        Broker::jwks(self)
    }
    fn ready(&self) -> bool {
        Broker::ready(self)
    }
    fn health(&self) -> Health {
        Broker::health(self)
    }
    fn metrics(&self) -> String {
        Broker::metrics(self)
    }
    fn count_turned_away(&self, status: u16) {
        Broker::count_turned_away(self, status);
    }
    fn now(&self) -> UnixSeconds {
        self.clock().now()
    }
    fn checkpoint(&self) -> Option<String> {
        Broker::checkpoint(self)
    }
    fn checkpoint_key(&self) -> String {
        Broker::checkpoint_key(self)
    }
    fn operator(&self, presented: Secret) -> BoxFuture<'_, Result<Who, NoOperator>> {
        Box::pin(Broker::operator(self, presented))
    }
    fn broker(&self) -> Option<&Arc<Broker>> {
        Some(self)
    }
}

/// What all workers share. Built once, outside the factory that runs once per worker.
pub struct Shared {
    pub front: Box<dyn Front>,
    pub config: Config,
    /// By network.
    pub rate: Option<Rate<IpAddr>>,
    /// By network, of steps of sign-ins.
    pub sign_in_rate: Option<Rate<IpAddr>>,
    /// By person, of what they do on pages.
    pub visitor_rate: Option<Rate<String>>,
    /// By resource server.
    pub introspections: Option<Rate<usize>>,
    /// The rate's clock: it never steps back.
    pub started: Instant,
}

impl Shared {
    /// Over a broker, by its configuration.
    pub fn new(front: Box<dyn Front>, config: Config) -> Self {
        let rate = Rate::new(config.limits.requests_per_second, NETWORKS_MAX);
        let sign_in_rate = Rate::new(SIGN_IN_STEPS_PER_SECOND, NETWORKS_MAX);
        let visitor_rate = Rate::new(VISITOR_POSTS_PER_SECOND, VISITORS_MAX);
        let introspections = Rate::new(config.limits.introspections_per_second, config.resource_servers.len().max(1));
        Self { front, config, rate, sign_in_rate, visitor_rate, introspections, started: Instant::now() }
    }
}
