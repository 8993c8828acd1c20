//! Where commands over the evidence find it.

use super::deployment::Deployment;
use crate::{history::log::Log, store};
use anyhow::Result;

/// The store whose evidence is read.
#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// The store, like `sqlite:claimbound.db`; a broker may hold it meanwhile; by default the configuration's
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    deployment: Deployment,
}

impl LogArgs {
    /// Opens the store for reading.
    pub fn open(&self) -> Result<Log> {
        let url = self.deployment.or(self.store.as_ref(), |config| config.store)?;
        Ok(Log::new(store::open_reader(&url)?))
    }
}
