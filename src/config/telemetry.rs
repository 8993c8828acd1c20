//! `[telemetry.otlp]`: the collector that traces go to, and what any collector needs.

use super::{
    Judge, VALUE,
    signing::PlaceFile,
    urls::{is_loopback, is_origin_and_path},
};
use crate::otlp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::Spanned;
use url::Url;

/// Where traces go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Traces {
    #[serde(flatten)]
    pub otlp: otlp::Settings,
    /// The share of traces that is kept, of those that no caller decided on.
    pub sample_percent: u8,
}

#[derive(Default, Deserialize)]
pub(super) struct TelemetryFile {
    otlp: Option<OtlpFile>,
}

#[derive(Deserialize)]
struct OtlpFile {
    endpoint: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<Spanned<String>, Spanned<PlaceFile>>,
    ca_file: Option<PathBuf>,
    sample_percent: Option<Spanned<u8>>,
}

impl Judge {
    pub(super) fn telemetry(&mut self, file: TelemetryFile, directory: &Path) -> Option<Traces> {
        let file = file.otlp?;
        let sample_percent = self.within(file.sample_percent, "sample_percent", 1..=100).unwrap_or(100);
        Some(Traces { otlp: self.otlp(file.endpoint, file.headers, file.ca_file, directory), sample_percent })
    }

    /// A collector.
    pub(super) fn otlp(
        &mut self,
        endpoint: Spanned<String>,
        headers: BTreeMap<Spanned<String>, Spanned<PlaceFile>>,
        ca_file: Option<PathBuf>,
        directory: &Path,
    ) -> otlp::Settings {
        let fits = |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
        let given = endpoint.get_ref();
        let parsed = Url::parse(given).ok().filter(|url| fits(url) && is_origin_and_path(url));
        if parsed.is_none() || given.ends_with('/') {
            let help = "write the collector's base URL without a slash at its end, like `\"https://otlp.acme.example\"`, or \
                        `\"http://127.0.0.1:4318\"` for one on this machine; `/v1/traces` and `/v1/logs` are added";
            self.error(VALUE, endpoint.span(), format!("`{given}` is no OTLP endpoint"), help);
        }
        let mut places = Vec::new();
        for (name, place) in headers {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if name.get_ref().is_empty() || !name.get_ref().bytes().all(letters) {
                let help = "write a name of letters, digits and `-`, like `authorization`";
                self.error(VALUE, name.span(), format!("`{}` is no header", name.get_ref()), help);
            }
            if let Some(place) = self.place(place, name.get_ref(), directory) {
                places.push((name.into_inner(), place));
            }
        }
        let ca_file = ca_file.map(|file| directory.join(file));
        otlp::Settings { endpoint: endpoint.into_inner(), headers: places, ca_file }
    }
}
