//! Tables and properties of the core, one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broken;
mod ceremony;
mod claims;
mod decide;
mod evidence;
mod exceptions;
mod explain;
mod keys;
mod lang;
mod load;
mod minting;
mod oracle;
mod overlap;
mod profiles;
mod rules;
mod security;
mod trust;
mod words;
mod workload;
