//! Tables and properties of the core, one binary.

mod broken;
mod evidence;
mod lang;
