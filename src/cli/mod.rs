//! cli

mod pages;

pub mod check;
pub mod render;
pub mod test;
