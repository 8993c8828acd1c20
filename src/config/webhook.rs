//! `[[webhook]]`: whom claim ceremonies are told to.

use super::{Judge, VALUE, is_loopback, signing::PlaceFile};
use crate::webhooks::{Event, Format, Settings, Url};
use claimbound_core::diag::did_you_mean;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Spanned;

#[derive(Deserialize)]
pub(super) struct WebhookFile {
    name: Spanned<String>,
    url: Spanned<UrlFile>,
    format: Option<Spanned<String>>,
    secret: Option<Spanned<PlaceFile>>,
    #[serde(default)]
    teams: Vec<String>,
    events: Option<Spanned<Vec<Spanned<String>>>>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_private_network: bool,
}

/// A URL, or the place where it is kept.
#[derive(Deserialize)]
#[serde(untagged)]
enum UrlFile {
    Open(String),
    Kept(PlaceFile),
}

impl Judge {
    pub(super) fn webhooks(&mut self, all: Vec<WebhookFile>, directory: &Path) -> Vec<Settings> {
        let mut judged: Vec<Settings> = Vec::with_capacity(all.len());
        for file in all {
            let name = file.name.get_ref();
            let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || name.len() > 63 || !name.bytes().all(letters) {
                let help = "names have lower-case letters, digits and `-`";
                self.error(VALUE, file.name.span(), format!("`{name}` can be no webhook's name"), help);
            } else if judged.iter().any(|other| other.name == *name) {
                let help = "give each `[[webhook]]` a name of its own";
                self.error(VALUE, file.name.span(), format!("there are two webhooks `{name}`"), help);
            }
            judged.extend(self.webhook(file, directory));
        }
        judged
    }

    fn webhook(&mut self, file: WebhookFile, directory: &Path) -> Option<Settings> {
        let WebhookFile { name, url, format, secret, teams, events, ca_file, allow_private_network } = file;
        let format = match &format {
            None => Some(Format::Standard),
            Some(given) => self.one_of(given, "format", &Format::ALL.map(|one| (one.name(), one))),
        };
        if let (Some(secret), Some(other)) = (&secret, format.filter(|format| *format != Format::Standard)) {
            let help = "remove it: chat tools verify nothing, and their URL is the secret";
            self.error(VALUE, secret.span(), format!("messages of the format `{}` are not signed", other.name()), help);
        }
        if secret.is_none() && format == Some(Format::Standard) {
            let help = "write `secret = { file = \"webhook-secret\" }` with `whsec_` and base64 of 24 bytes in it, or name a `format`";
            self.error(
                VALUE,
                name.span(),
                "messages for programs are signed, and there is no `secret`".to_owned(),
                help,
            );
        }
        let secret = secret.and_then(|secret| self.place(secret, "secret", directory));
        let span = url.span();
        let url = match url.into_inner() {
            UrlFile::Kept(place) => self.place(Spanned::new(span, place), "url", directory).map(Url::Kept),
            UrlFile::Open(text) => {
                let fits = |url: &url::Url| url.scheme() == "https" || (allow_private_network && is_loopback(url));
                let plain = url::Url::parse(&text).is_ok_and(|url| fits(&url) && url.username().is_empty());
                if !plain {
                    let help = "write an `https://` URL; plain `http://` goes no further than loopback, with `allow_private_network = true`";
                    self.error(VALUE, span, "`url` is nowhere that a message may go".to_owned(), help);
                }
                plain.then_some(Url::Open(text))
            }
        };
        let named = events.map(Spanned::into_inner);
        let known = Event::ALL.map(|one| (one.name(), one));
        let events = match &named {
            None => Event::ALL.to_vec(),
            Some(named) => named.iter().filter_map(|given| self.one_of(given, "events", &known)).collect(),
        };
        let ca_file = ca_file.map(|file| directory.join(file));
        Some(Settings {
            name: name.into_inner(),
            url: url?,
            format: format?,
            secret,
            teams,
            events,
            ca_file,
            allow_private_network,
        })
    }

    fn one_of<T: Copy>(&mut self, given: &Spanned<String>, key: &str, known: &[(&'static str, T)]) -> Option<T> {
        let text = given.get_ref().as_str();
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let help = match did_you_mean(text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `{}`", names.join("`, `")),
            };
            self.error(VALUE, given.span(), format!("`{text}` is nothing that `{key}` can be"), help);
        }
        found
    }
}
