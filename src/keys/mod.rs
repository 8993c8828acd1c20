//! Keys: the issuers' (fetched, cached), our own of tokens (made, rotated, published), and the one of checkpoints.

pub mod checkpoint;
pub mod issuers;
pub mod signing;
