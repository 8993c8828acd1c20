//! Where commands over the evidence find it.

use super::{
    deployment::Deployment,
    operator::client::{BrokerArgs, Client},
};
use crate::{history::log::Log, store};
use anyhow::Result;

/// The store whose evidence is read.
#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// The store, like `sqlite:claimbound.db`; a broker may hold it meanwhile; by default the configuration's
    #[arg(long, value_name = "URL", conflicts_with = "broker")]
    store: Option<String>,
    #[command(flatten)]
    deployment: Deployment,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Whom to ask.
pub enum Source {
    Store(Log),
    /// A running broker, which asks its own store.
    Broker(Client),
}

impl LogArgs {
    /// A broker if one is named; else the store, opened for reading.
    pub fn open(&self) -> Result<Source> {
        if self.store.is_none()
            && let Some(client) = self.broker.client()?
        {
            return Ok(Source::Broker(client));
        }
        let url = self.deployment.or(self.store.as_ref(), |config| config.store)?;
        Ok(Source::Store(Log::new(store::open_reader(&url)?)))
    }
}
