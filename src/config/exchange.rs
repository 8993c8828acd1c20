//! `[exchange]`: which tokens may be exchanged beside those of the folder's issuers.

use serde::{Deserialize, Serialize};

/// `[exchange]`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Tokens of `jwt` roles, downstream: by whoever they were made for, where a mapping takes it.
    #[serde(default)]
    pub own_tokens: bool,
}
