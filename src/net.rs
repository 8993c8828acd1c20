//! The one HTTP client: no redirects, response caps, time limits, resolved addresses checked.

use std::{path::Path, time::Duration};

/// A GET that did not give a usable body.
#[derive(Clone, Debug, thiserror::Error)]
#[error("GET {url}: {why}")]
pub struct FetchError {
    pub url: String,
    pub why: String,
}

/// Where a request may go and how much it may take.
#[derive(Clone, Debug)]
pub struct FetchRules<'a> {
    /// Private, loopback and link-local addresses are refused unless this issuer's configuration allows them.
    pub allow_private_network: bool,
    /// Plain HTTP to a loopback address: development only.
    pub allow_plain_loopback: bool,
    pub ca_file: Option<&'a Path>,
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Proxies only when configured; none here.
    pub fn new() -> Result<Self, FetchError> {
        unimplemented!()
    }
    /// The body of a 200 answer, whole and within the cap.
    pub async fn get(&self, _url: &str, _rules: &FetchRules<'_>) -> Result<Vec<u8>, FetchError> {
        unimplemented!()
    }
}
