//! The service around `claimbound-core`: it brings time, keys, storage and the network to the judge.
//!
//! Start reading at [`exchange`]: `exchange/mod.rs` is the way of one exchange, nine steps in order.
//! [`broker`] builds everything that the exchange needs, and owns it; [`http`] speaks for it and decides
//! nothing; [`cli`] is the command line. `docs/ARCHITECTURE.md` is the map.

#![forbid(unsafe_code)]

pub mod broker;
pub mod ceremony;
pub mod cli;
pub mod client;
pub mod config;
pub mod dev;
pub mod documents;
pub mod exchange;
pub mod folder;
pub mod history;
pub mod http;
pub mod issuance;
pub mod keys;
pub mod listen;
pub mod net;
pub mod operate;
pub mod operators;
pub mod otlp;
pub mod people;
pub mod rate;
pub mod secret;
pub mod sinks;
pub mod store;
pub mod telemetry;
pub mod webhooks;
