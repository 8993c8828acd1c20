//! cli

pub mod issuer;
pub mod keys;
pub mod trust;
