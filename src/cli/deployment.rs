//! Where the configuration stands, for commands that work beside a broker: a flag for a single fact beats the file.

use crate::config::Config;
use anyhow::bail;
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
        let path = self.config.display();
        if !self.config.exists() {
            bail!(
                "there is no `{path}`: name the broker's configuration with `--config FILE`, or give by other flags what \
                 is wanted of it, such as `--store URL` or `--broker URL`; `--help` lists those of this command"
            );
        }
        let mut config = Config::read(&self.config, true).map_err(|invalid| {
            super::tell::config(&self.config, &invalid);
            anyhow::anyhow!("`{path}` does not load")
        })?;
        // A development broker need not be told its URL; on a port of the system's choosing nobody else knows it.
        if config.listen.port() != 0 {
            config.bound_at(config.listen);
        }
        Ok(config)
    }

    /// The name in tokens: the flag, else the configuration's.
    pub fn issuer_url(&self, flag: Option<&String>) -> anyhow::Result<String> {
        let url = self.or(flag, |config| config.issuer_url)?;
        if url.is_empty() {
            bail!("`{}` does not say the issuer's URL: give it with `--issuer-url`", self.config.display());
        }
        Ok(url)
    }

    /// What was given by flag, else what the configuration says.
    pub fn or<T: Clone>(&self, flag: Option<&T>, from: impl FnOnce(Config) -> T) -> anyhow::Result<T> {
        match flag {
            Some(given) => Ok(given.clone()),
            None => self.read().map(from),
        }
    }
}
