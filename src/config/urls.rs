//! The URLs that stand for the broker itself.

use super::{Judge, VALUE};
use toml::Spanned;
use url::{Host, Url};

impl Judge {
    /// An origin with an optional path: exactly as it will be compared, so nothing is normalised.
    pub(super) fn url(&mut self, text: Spanned<String>, key: &str, development: bool) -> String {
        let given = text.get_ref();
        let fault = match Url::parse(given) {
            Err(error) => Some(format!("`{key}` is no URL: {error}")),
            Ok(url) if url.scheme() != "https" && !(development && is_loopback(&url)) => {
                Some(format!("`{key}` must begin with `https://`"))
            }
            Ok(url) if !is_origin_and_path(&url) => Some(format!("`{key}` must be an origin and a path, nothing more")),
            Ok(_) if given.ends_with('/') => Some(format!("`{key}` must not end with a slash: it is compared exactly")),
            // A client that writes the URL as everybody does would ask for another audience, for ever in vain.
            Ok(url) if url.as_str().trim_end_matches('/') != given => Some(format!(
                "`{key}` is written otherwise than it is compared: `{}`",
                url.as_str().trim_end_matches('/')
            )),
            Ok(_) if is_a_clouds_audience(given) => Some(format!("`{key}` is an audience that a cloud uses")),
            Ok(_) => None,
        };
        if let Some(message) = fault {
            let help = "write the URL under which clients reach this broker, like `\"https://claimbound.example.com\"`";
            self.error(VALUE, text.span(), message, help);
        }
        text.into_inner()
    }
}

/// An `https` URL with nothing secret in it; in development also one of loopback.
pub(super) fn is_endpoint(text: &str, development: bool) -> bool {
    let fits = |url: &Url| url.scheme() == "https" || (development && is_loopback(url));
    let plain = |url: &Url| url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
    Url::parse(text).is_ok_and(|url| fits(&url) && plain(&url))
}

pub(super) fn is_origin_and_path(url: &Url) -> bool {
    url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Audiences that many relying parties accept: a broker of this name would take tokens minted for them.
fn is_a_clouds_audience(url: &str) -> bool {
    ["https://sts.amazonaws.com", "https://iam.googleapis.com", "https://github.com/"]
        .iter()
        .any(|known| url.to_ascii_lowercase().starts_with(known))
}
