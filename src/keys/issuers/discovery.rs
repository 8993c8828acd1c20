//! An issuer's keys over the network: its discovery document, then its key set.

use super::{IssuerConfig, Source};
use crate::net::{Client, FetchRules, Later};
use claimbound_core::trust::{KeySet, parse_jwks};
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// Discovery document and key set, each.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Discovery and key set together.
const FETCH_SECONDS_MAX: u64 = 5;

/// OpenID Connect Discovery over the one client.
pub(super) struct Network {
    pub(super) client: Client,
}

/// The part of an issuer's metadata (OpenID Connect Discovery 1.0, section 3) that is read. CI issuers have no
/// authorization endpoint, so a type that follows the standard to the letter cannot read theirs.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Source for Network {
    fn fetch<'a>(&'a self, issuer: &'a IssuerConfig) -> Later<'a, Result<KeySet, String>> {
        Box::pin(async move {
            let deadline = Duration::from_secs(FETCH_SECONDS_MAX);
            match tokio::time::timeout(deadline, self.fetch_whole(issuer, deadline)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("discovery and keys took longer than {FETCH_SECONDS_MAX} seconds")),
            }
        })
    }
}

impl Network {
    async fn fetch_whole(&self, issuer: &IssuerConfig, timeout: Duration) -> Result<KeySet, String> {
        let rules = FetchRules {
            allow_private_network: issuer.allow_private_network,
            allow_plain_loopback: issuer.development,
            ca_file: issuer.ca_file.as_deref(),
            bytes_max: DOCUMENT_BYTES_MAX,
            timeout,
        };
        let url = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let document = self.client.get(&url, &rules).await.map_err(|error| error.to_string())?;
        let jwks_uri =
            jwks_uri(&document, &issuer.url, issuer.keys_origin.as_deref()).map_err(|why| format!("{url}: {why}"))?;
        let keys = self.client.get(&jwks_uri, &rules).await.map_err(|error| error.to_string())?;
        parse_jwks(&keys, &issuer.algorithms).map_err(|error| format!("{jwks_uri}: {error}"))
    }
}

/// Where the keys are, if the document speaks for this issuer and keeps to its origin, or to the one that its profile
/// names.
pub(super) fn jwks_uri(document: &[u8], issuer_url: &str, keys_origin: Option<&str>) -> Result<String, String> {
    let metadata: Metadata =
        serde_json::from_slice(document).map_err(|error| format!("not an issuer's metadata: {error}"))?;
    if metadata.issuer != issuer_url {
        return Err(format!("names the issuer `{}`, not `{issuer_url}`", metadata.issuer.escape_debug()));
    }
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let allowed = [Some(issuer_url), keys_origin].into_iter().flatten().filter_map(origin);
    match origin(&metadata.jwks_uri).filter(|keys| keys.is_tuple()) {
        Some(keys) if allowed.into_iter().any(|known| known == keys) => Ok(metadata.jwks_uri),
        _ => Err(format!("`jwks_uri` is `{}`: another origin than the issuer's", metadata.jwks_uri.escape_debug())),
    }
}
