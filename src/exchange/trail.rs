//! What is established so far; turns a refusal into its record.

/// What has been established so far.
#[derive(Default)]
pub struct Trail {}
