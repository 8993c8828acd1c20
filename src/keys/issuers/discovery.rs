//! An issuer's keys over the network: its discovery document, then its key set.

use super::{IssuerConfig, Source};
#[cfg(test)]
mod fuzz;

use crate::net::{Client, FetchRules, Later};
use claimbound_core::{
    claims::{Claims, Value},
    trust::{KeySet, parse_jwks},
};
use std::{fmt, time::Duration};
use url::Url;

/// Discovery document and key set, each.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Discovery and key set together.
const FETCH_SECONDS_MAX: u64 = 5;

/// OpenID Connect Discovery over the one client.
pub(super) struct Network {
    pub(super) client: Client,
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
        let jwks_uri = jwks_uri(&document, &issuer.url).map_err(|why| format!("{url}: {why}"))?;
        let keys = self.client.get(&jwks_uri, &rules).await.map_err(|error| error.to_string())?;
        parse_jwks(&keys, &issuer.algorithms).map_err(|error| format!("{jwks_uri}: {error}"))
    }
}

/// Where the keys are, if the document speaks for this issuer and keeps to its origin. Two members of an issuer's
/// metadata (OpenID Connect Discovery 1.0, section 3) are read, as strictly as all that decides about keys. CI issuers
/// have no authorization endpoint, so a type that follows the standard to the letter cannot read theirs.
pub(super) fn jwks_uri(document: &[u8], issuer_url: &str) -> Result<String, String> {
    let broken = |why: &dyn fmt::Display| format!("not an issuer's metadata: {why}");
    let metadata = Claims::parse(document).map_err(|error| broken(&error))?;
    let text = |name: &str| {
        let text = metadata.get(name).and_then(Value::as_text);
        text.ok_or_else(|| broken(&format_args!("no text `{name}`")))
    };
    let (issuer, jwks_uri) = (text("issuer")?, text("jwks_uri")?);
    if issuer != issuer_url {
        return Err(format!("names the issuer `{}`, not `{issuer_url}`", issuer.escape_debug()));
    }
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    match (origin(jwks_uri), origin(issuer_url)) {
        (Some(keys), Some(issuer)) if keys == issuer && keys.is_tuple() => Ok(jwks_uri.to_owned()),
        _ => Err(format!("`jwks_uri` is `{}`: another origin than the issuer's", jwks_uri.escape_debug())),
    }
}
