//! `claimbound.toml` as plain data: facts of the deployment. Policy facts stand in the mapping folder.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// What a proven job may learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hints {
    Full,
    /// Names of mappings and conditions, no expected values.
    Names,
    None,
}

/// The whole file, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub operator_listen: Option<SocketAddr>,
    /// Exact audience of CI tokens; no trailing slash.
    pub public_url: String,
    pub hints: Hints,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub tls: Option<Tls>,
    pub limits: Limits,
    pub store: String,
    pub mappings: PathBuf,
    pub issuers: BTreeMap<String, IssuerNetwork>,
    pub signing_keys: PathBuf,
    /// The name in tokens; `public_url` unless the documents are published elsewhere.
    pub issuer_url: String,
    /// Accepts loopback issuers over plain HTTP.
    pub development: bool,
}

/// Certificate and key of a listener, PEM; read again when the files change.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `[server.limits]`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, over all workers.
    pub connections: usize,
    /// Exchanges per second and network prefix before the token is read; bursts of ten times that.
    pub requests_per_second: u32,
    /// Time to send a request's head, and its body.
    pub request_seconds: u32,
}

/// Network facts of an issuer that policy.toml names.
#[derive(Clone, Debug, Default)]
pub struct IssuerNetwork {
    pub ca_file: Option<PathBuf>,
    pub allow_private_network: bool,
    pub max_lifetime_seconds: Option<i64>,
}
