//! What runs on a laptop: a local issuer that stands in for the CI systems, and the sample to try it with.
//!
//! The issuer says what the real ones say, down to claims that nobody reads, because a mapping that was tried here
//! must mean the same there. It binds to loopback only, and a broker accepts a loopback issuer only with
//! `--development`, so nothing that is signed here is worth anything elsewhere.

pub mod claims;
pub mod issuer;
pub mod key;
pub mod request;
pub mod sample;
