//! `[signing]`: our own keys, and where they are published.

use super::{Judge, VALUE};
use crate::secret::Place;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The shortest `rotate_every`: a rotation takes a day to sign, and its keys another to go.
const ROTATE_SECONDS_MIN: i64 = 7 * 24 * 3600;

/// Our signing keys.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Signing {
    /// Their directory.
    pub keys: PathBuf,
    /// Where the secret stands that they are encrypted with at rest.
    pub seal: Option<Place>,
    /// New keys after so long, without anybody asking.
    pub rotate_every_seconds: Option<i64>,
    /// The host of `issuer_url` may resolve to a private address.
    pub allow_private_network: bool,
    /// An authority beside the system's for that host, PEM.
    pub ca_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
pub(super) struct SigningFile {
    keys: Option<PathBuf>,
    pub(super) issuer_url: Option<Spanned<String>>,
    seal: Option<Spanned<PlaceFile>>,
    rotate_every: Option<Spanned<String>>,
    #[serde(default)]
    allow_private_network: bool,
    ca_file: Option<PathBuf>,
}

/// `{ file = "…" }` or `{ env = "…" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceFile {
    file: Option<PathBuf>,
    env: Option<String>,
}

impl Judge {
    pub(super) fn signing(&mut self, file: SigningFile, directory: &Path) -> Signing {
        let rotate_every_seconds = file.rotate_every.and_then(|text| {
            let seconds = self.duration(&text)?;
            if seconds < ROTATE_SECONDS_MIN {
                let help = "write at least `\"7d\"`, or leave it out to rotate by `claimbound keys rotate` alone";
                self.error(VALUE, text.span(), "`rotate_every` is too short".to_owned(), help);
            }
            Some(seconds)
        });
        Signing {
            keys: directory.join(file.keys.unwrap_or_else(|| "keys".into())),
            seal: file.seal.and_then(|place| self.place(place, "seal", directory)),
            rotate_every_seconds,
            allow_private_network: file.allow_private_network,
            ca_file: file.ca_file.map(|file| directory.join(file)),
        }
    }

    /// One place where a secret stands.
    pub(super) fn place(&mut self, place: Spanned<PlaceFile>, key: &str, directory: &Path) -> Option<Place> {
        let span = place.span();
        match place.into_inner() {
            PlaceFile { file: Some(file), env: None } => Some(Place::File(directory.join(file))),
            PlaceFile { file: None, env: Some(name) } => Some(Place::Variable(name)),
            _ => {
                let help = format!("write `{key} = {{ file = \"PATH\" }}` or `{key} = {{ env = \"NAME\" }}`");
                self.error(VALUE, span, format!("`{key}` names one place where it stands"), help);
                None
            }
        }
    }
}
