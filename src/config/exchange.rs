//! `[exchange]`: which tokens may be exchanged beside those of the folder's issuers, and in whose words.

use serde::{Deserialize, Serialize};

/// `[exchange]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Tokens of `jwt` roles, downstream: by whoever they were made for, where a mapping takes it.
    #[serde(default)]
    pub own_tokens: bool,
    /// Whether `/aws/sts` answers.
    #[serde(default = "yes")]
    pub aws_sts: bool,
}

fn yes() -> bool {
    true
}

impl Default for Exchange {
    fn default() -> Self {
        Self { own_tokens: false, aws_sts: true }
    }
}
