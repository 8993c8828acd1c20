//! Tables and properties of the core, one binary.

mod evidence;
mod lang;
