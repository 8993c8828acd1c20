//! The group commit, once for every engine.

use super::{Commit, Down, Engine, Outcome};
use claimbound_core::evidence::Chain;

/// Commits of one transaction, at most.
pub const BATCH_COMMITS_MAX: usize = 256;
/// Commits that may wait; beyond it the answer is 503.
pub const QUEUE_COMMITS_MAX: usize = 4096;

/// The handle of the writer thread.
#[derive(Clone)]
pub struct Writer {}

impl Writer {
    /// Starts the thread.
    pub fn start(_engine: Box<dyn Engine>, _chain: Chain) -> Self {
        unimplemented!()
    }
    /// Waits until the commit is durable or blocked. Full queue, slow disk, stopped thread: [`Down`].
    pub async fn commit(&self, _commit: Commit) -> Result<Outcome, Down> {
        unimplemented!()
    }
    /// Writes what waits, closes the store and joins the thread; commits after it are [`Down`].
    pub async fn stop(&self) {
        unimplemented!()
    }
    /// Commits waiting right now, for metrics.
    pub fn waiting(&self) -> usize {
        unimplemented!()
    }
    /// Whether the last batch was written.
    pub fn healthy(&self) -> bool {
        unimplemented!()
    }
}
