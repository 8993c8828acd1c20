//! cli

mod loaded;
mod pages;

pub mod check;
pub mod explain;
pub mod render;
pub mod roles;
pub mod test;
