//! Tables and properties of the core, one binary.

mod broken;
mod decide;
mod explain;
mod lang;
mod load;
mod overlap;
