//! `[forge.NAME]`: a code host at which people show which account is theirs.

use super::{Judge, VALUE, is_loopback, signing::PlaceFile};
use crate::secret::Place;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::Spanned;
use url::Url;

/// Whose interface it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    Github,
    Gitlab,
}

/// `[forge.NAME]`, under the name of an issuer of the mapping folder whose tokens say who started a job by the account's id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Forge {
    pub kind: ForgeKind,
    /// Where people sign in; no slash at its end.
    pub url: String,
    pub client_id: String,
    pub client_secret: Place,
    pub ca_file: Option<PathBuf>,
    pub allow_private_network: bool,
}

#[derive(Deserialize)]
pub(super) struct ForgeFile {
    kind: ForgeKind,
    url: Option<Spanned<String>>,
    client_id: Spanned<String>,
    client_secret: Spanned<PlaceFile>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_private_network: bool,
}

impl Judge {
    /// `None`: what is wrong was told.
    pub(super) fn forge(&mut self, file: ForgeFile, directory: &Path, development: bool) -> Option<Forge> {
        let usual = match file.kind {
            ForgeKind::Github => "https://github.com",
            ForgeKind::Gitlab => "https://gitlab.com",
        };
        let url = file.url.as_ref().map_or(usual, |url| url.get_ref());
        let fits = |parsed: &Url| {
            let plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty();
            plain && !url.ends_with('/') && (parsed.scheme() == "https" || (development && is_loopback(parsed)))
        };
        let place = file.url.as_ref().map_or(0..0, Spanned::span);
        if !Url::parse(url).is_ok_and(|parsed| fits(&parsed)) {
            let help = "write where people sign in, like `https://github.com` or `https://gitlab.acme.example`";
            self.error(VALUE, place, format!("`{url}` is no address of a code host"), help);
        }
        let client_id = file.client_id.get_ref();
        if client_id.is_empty() || client_id.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let help = "write it as the code host shows it";
            self.error(VALUE, file.client_id.span(), format!("`client_id` cannot be `{client_id}`"), help);
        }
        let client_secret = self.place(file.client_secret, "client_secret", directory)?;
        Some(Forge {
            kind: file.kind,
            url: url.to_owned(),
            client_id: file.client_id.into_inner(),
            client_secret,
            ca_file: file.ca_file.map(|path| directory.join(path)),
            allow_private_network: file.allow_private_network,
        })
    }
}
