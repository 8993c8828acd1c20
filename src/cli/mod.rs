//! cli

pub mod explain;
mod loaded;
pub mod roles;
