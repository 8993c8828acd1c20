//! An issuer's keys over the network: its discovery document, then its key set.

use super::{IssuerConfig, Source};
#[cfg(test)]
mod fuzz;

use crate::net::{Client, FetchRules, Later};
use claimbound_core::{
    claims::{Claims, Value},
    trust::{JWKS_BYTES_MAX, KeySet, parse_jwks},
};
use std::{fmt, time::Duration};
use url::Url;

/// Discovery document and key set, each.
const DOCUMENT_BYTES_MAX: usize = JWKS_BYTES_MAX;
/// Discovery and key set together.
pub(super) const FETCH_SECONDS_MAX: u64 = 5;

/// OpenID Connect Discovery over the one client.
pub(super) struct Network {
    pub(super) client: Client,
}

/// A key set as its issuer publishes it.
#[derive(Debug)]
pub struct Published {
    /// Where it stands.
    pub jwks_uri: String,
    pub document: Vec<u8>,
}

impl Source for Network {
    fn fetch<'a>(&'a self, issuer: &'a IssuerConfig) -> Later<'a, Result<KeySet, String>> {
        Box::pin(async move {
            let published = published(&self.client, issuer).await?;
            parse_jwks(&published.document, &issuer.algorithms)
                .map_err(|error| format!("{}: {error}", published.jwks_uri))
        })
    }
}

/// Asks the issuer for its keys, whether or not they are pinned: by its discovery document, under the rules of its
/// configuration and within one deadline.
///
/// # Errors
/// Why they cannot be had, for operators.
pub async fn published(client: &Client, issuer: &IssuerConfig) -> Result<Published, String> {
    let deadline = Duration::from_secs(FETCH_SECONDS_MAX);
    match tokio::time::timeout(deadline, ask(client, issuer, deadline)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("discovery and keys took longer than {FETCH_SECONDS_MAX} seconds")),
    }
}

async fn ask(client: &Client, issuer: &IssuerConfig, timeout: Duration) -> Result<Published, String> {
    let rules = FetchRules {
        allow_private_network: issuer.allow_private_network,
        allow_plain_loopback: issuer.development,
        ca_file: issuer.ca_file.as_deref(),
        bytes_max: DOCUMENT_BYTES_MAX,
        timeout,
    };
    let url = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
    let document = client.get(&url, &rules).await.map_err(|error| error.to_string())?;
    let jwks_uri =
        jwks_uri(&document, &issuer.url, issuer.jwks_origin.as_deref()).map_err(|why| format!("{url}: {why}"))?;
    let document = client.get(&jwks_uri, &rules).await.map_err(|error| error.to_string())?;
    Ok(Published { jwks_uri, document })
}

/// Where the keys are, if the document speaks for this issuer and keeps to its origin, or to the one other that the
/// configuration names. Two members of an issuer's metadata (OpenID Connect Discovery 1.0, section 3) are read, as
/// strictly as all that decides about keys. CI issuers have no authorization endpoint, so a type that follows the
/// standard to the letter cannot read theirs.
pub(super) fn jwks_uri(document: &[u8], issuer_url: &str, jwks_origin: Option<&str>) -> Result<String, String> {
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
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
    let keys = origin(jwks_uri);
    if keys.is_some() && (keys == origin(issuer_url) || keys == jwks_origin.and_then(origin)) {
        return Ok(jwks_uri.to_owned());
    }
    Err(format!(
        "`jwks_uri` is `{}`: another origin than the issuer's; if its keys stand there, write it as `jwks_origin`",
        jwks_uri.escape_debug()
    ))
}
