//! Tables and properties of the core, one binary.

mod broken;
mod lang;
