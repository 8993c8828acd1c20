//! `[issuer.NAME]`: how an issuer's keys are reached, and what an operator cut off of it.

use super::{Judge, VALUE, is_loopback};
use serde::{Deserialize, Serialize};
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};
use toml::{Spanned, value::Datetime};
use url::Url;

/// `[issuer.NAME]`: network facts of an issuer that policy.toml names, and what an operator cut off.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct IssuerNetwork {
    pub ca_file: Option<PathBuf>,
    pub allow_private_network: bool,
    pub max_lifetime_seconds: Option<i64>,
    /// Its keys stand in a file, and it is never asked.
    pub jwks: Option<PinnedKeys>,
    /// Where its keys may be besides its own origin.
    pub jwks_origin: Option<String>,
    /// How often its keys are looked for.
    pub refresh_seconds: Option<u32>,
    pub disabled: bool,
    pub deny_kids: Vec<String>,
}

/// `jwks = { file, expires, warn_before }`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PinnedKeys {
    pub file: PathBuf,
    /// Unix time: the beginning of the day that was written, in UTC.
    pub expires: i64,
    pub warn_before_seconds: i64,
}

/// Seconds between two looks for an issuer's keys that may be configured. Longer, and a withdrawn key would outlive the
/// bound that operators are told.
pub const REFRESH_SECONDS: RangeInclusive<u32> = 30..=240;
/// On loopback, where tests cannot wait.
const REFRESH_SECONDS_DEVELOPMENT: RangeInclusive<u32> = 1..=240;
const WARN_BEFORE_SECONDS: i64 = 30 * 86_400;
/// As long as a `kid` may be in a token.
pub const KID_BYTES_MAX: usize = 256;

#[derive(Deserialize)]
pub(super) struct Issuer {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_private_network: bool,
    max_lifetime: Option<Spanned<String>>,
    jwks: Option<Jwks>,
    jwks_origin: Option<Spanned<String>>,
    refresh: Option<Spanned<String>>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    deny_kids: Vec<Spanned<String>>,
}
#[derive(Deserialize)]
struct Jwks {
    file: PathBuf,
    expires: Spanned<Datetime>,
    warn_before: Option<Spanned<String>>,
}
impl Judge {
    pub(super) fn issuer(&mut self, issuer: Issuer, directory: &Path, development: bool) -> IssuerNetwork {
        let max_lifetime_seconds = issuer.max_lifetime.and_then(|text| self.duration(&text));
        if let Some(origin) = &issuer.jwks_origin {
            let parsed = Url::parse(origin.get_ref()).ok();
            let fits = |url: &Url| url.scheme() == "https" || (development && is_loopback(url));
            if !parsed.is_some_and(|url| fits(&url) && url.origin().ascii_serialization() == *origin.get_ref()) {
                let help = "write scheme and host, and nothing after them, like `\"https://keys.example.com\"`";
                self.error(VALUE, origin.span(), format!("`{}` is no origin of keys", origin.get_ref()), help);
            }
        }
        let refresh_seconds = issuer.refresh.and_then(|text| {
            let range = if development { REFRESH_SECONDS_DEVELOPMENT } else { REFRESH_SECONDS };
            let given = self.duration(&text)?;
            let seconds = u32::try_from(given).ok().filter(|seconds| range.contains(seconds));
            if seconds.is_none() {
                let help = format!(
                    "write a time from `\"{}s\"` to `\"{}s\"`: an issuer is not to be flooded, and a key that it \
                     withdrew must end within 5 minutes",
                    range.start(),
                    range.end()
                );
                self.error(VALUE, text.span(), format!("`refresh` cannot be `{}`", text.get_ref()), help);
            }
            seconds
        });
        for kid in &issuer.deny_kids {
            let text = kid.get_ref();
            if text.is_empty() || text.len() > KID_BYTES_MAX || text.chars().any(char::is_control) {
                let help = "write the `kid` as it stands in the key set and in the headers of tokens";
                self.error(VALUE, kid.span(), format!("no key can have the kid `{}`", text.escape_debug()), help);
            }
        }
        IssuerNetwork {
            ca_file: issuer.ca_file.map(|path| directory.join(path)),
            allow_private_network: issuer.allow_private_network,
            max_lifetime_seconds,
            jwks: issuer.jwks.and_then(|jwks| self.pinned(jwks, directory)),
            jwks_origin: issuer.jwks_origin.map(Spanned::into_inner),
            refresh_seconds,
            disabled: issuer.disabled,
            deny_kids: issuer.deny_kids.into_iter().map(Spanned::into_inner).collect(),
        }
    }

    fn pinned(&mut self, jwks: Jwks, directory: &Path) -> Option<PinnedKeys> {
        let warn_before_seconds = match jwks.warn_before {
            Some(text) => self.duration(&text),
            None => Some(WARN_BEFORE_SECONDS),
        };
        let written = jwks.expires.get_ref();
        let day = written.date.filter(|_| written.time.is_none() && written.offset.is_none()).and_then(|date| {
            let date = jiff::civil::Date::new(
                date.year.try_into().ok()?,
                date.month.try_into().ok()?,
                date.day.try_into().ok()?,
            );
            Some(date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
        });
        if day.is_none() {
            let help =
                "write a day, like `expires = 2027-01-31`: from its beginning in UTC on the keys are not believed";
            self.error(VALUE, jwks.expires.span(), format!("`expires` cannot be `{written}`"), help);
        }
        Some(PinnedKeys { file: directory.join(jwks.file), expires: day?, warn_before_seconds: warn_before_seconds? })
    }
}
