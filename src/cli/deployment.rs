//! Where the configuration stands, for commands that work beside a broker: a flag for a single fact beats the file.

use crate::config::{Config, Invalid};
use clap::Args;
use std::path::PathBuf;

/// The configuration file of the broker.
#[derive(Args, Clone, Debug)]
pub struct Deployment {
    /// The broker's configuration, for what no other flag says
    #[arg(long, value_name = "FILE", default_value = "claimbound.toml")]
    pub config: PathBuf,
}

impl Deployment {
    /// Reads and judges the file.
    pub fn read(&self) -> anyhow::Result<Config> {
        Config::read(&self.config, true).map_err(|invalid| {
            super::tell::config(&self.config, &invalid);
            let Invalid { diagnostics, .. } = invalid;
            anyhow::anyhow!("{} errors in `{}`", diagnostics.len(), self.config.display())
        })
    }

    /// What was given by flag, else what the configuration says.
    pub fn or<T: Clone>(&self, flag: Option<&T>, from: impl FnOnce(Config) -> T) -> anyhow::Result<T> {
        match flag {
            Some(given) => Ok(given.clone()),
            None => self.read().map(from),
        }
    }
}
