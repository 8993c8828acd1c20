//! `[backend.NAME]`: where credentials that are not our own come from.

use super::{AwsDenial, Judge, VALUE, denial::Denial, urls::is_endpoint};
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// `[backend.NAME]` of kind `aws`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AwsBackend {
    pub mode: AwsMode,
    pub region: Option<String>,
    pub endpoint_url: Option<String>,
    pub external_id: Option<String>,
    pub timeout_seconds: u32,
    pub connect_timeout_seconds: u32,
    /// The policy that refuses what was ended, where the broker may write it.
    pub denial: Option<AwsDenial>,
}

/// How the broker proves itself to AWS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AwsMode {
    #[default]
    WebIdentity,
    AssumeRole,
}

/// The kind of backend that can be configured.
const AWS: &str = "aws";
const TIMEOUT_SECONDS: u32 = 10;
const CONNECT_TIMEOUT_SECONDS: u32 = 3;
/// Three calls of this length end before a lease counts as left by a crash.
const TIMEOUT_SECONDS_MAX: i64 = 30;

#[derive(Deserialize)]
pub(super) struct Backend {
    kind: Option<Spanned<String>>,
    #[serde(default)]
    mode: AwsMode,
    region: Option<String>,
    endpoint_url: Option<Spanned<String>>,
    external_id: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    connect_timeout: Option<Spanned<String>>,
    denial: Option<Denial>,
}

impl Judge {
    pub(super) fn backend(
        &mut self,
        name: Spanned<String>,
        backend: Backend,
        development: bool,
    ) -> (String, AwsBackend) {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let given = name.get_ref();
        if given.is_empty() || given.len() > 63 || given.starts_with('-') || !given.bytes().all(letters) {
            let help = "names have lower-case letters, digits and `-`";
            self.error(VALUE, name.span(), format!("`{given}` can be no backend's name"), help);
        }
        match &backend.kind {
            Some(kind) if kind.get_ref() != AWS => {
                let message = format!("`{}` is no kind of backend that can be configured", kind.get_ref());
                self.error(VALUE, kind.span(), message, "write `kind = \"aws\"`; `jwt` needs no configuration");
            }
            None if given != AWS => {
                let message = format!("`[backend.{given}]` does not say its `kind`");
                self.error(
                    VALUE,
                    name.span(),
                    message,
                    "write `kind = \"aws\"`; only `[backend.aws]` may leave it out",
                );
            }
            Some(kind) if given == "jwt" => {
                let message = "the name `jwt` is taken by the broker's own tokens".to_owned();
                self.error(VALUE, kind.span(), message, "give the backend another name");
            }
            _ => {}
        }
        if let Some(url) = backend.endpoint_url.as_ref().filter(|url| !is_endpoint(url.get_ref(), development)) {
            let help = "write an `https://` URL, like that of a VPC endpoint; leave it out for the region's own";
            self.error(VALUE, url.span(), format!("`{}` is no endpoint of STS", url.get_ref()), help);
        }
        if let Some(id) = backend.external_id.as_ref().filter(|_| backend.mode == AwsMode::WebIdentity) {
            let help = "remove it; it belongs to `mode = \"assume-role\"`";
            self.error(VALUE, id.span(), "mode `web-identity` has no external id".to_owned(), help);
        }
        let mut limit = |text: Option<Spanned<String>>, otherwise: u32| {
            let Some(text) = text else { return otherwise };
            let given = self.duration(&text).unwrap_or(1);
            if given > TIMEOUT_SECONDS_MAX {
                let help = format!("write at most `\"{TIMEOUT_SECONDS_MAX}s\"`: a job waits for it");
                self.error(VALUE, text.span(), format!("`{}` is too long for a call", text.get_ref()), help);
            }
            u32::try_from(given).unwrap_or(otherwise)
        };
        let timeout_seconds = limit(backend.timeout, TIMEOUT_SECONDS);
        let connect_timeout_seconds = limit(backend.connect_timeout, CONNECT_TIMEOUT_SECONDS);
        let backend = AwsBackend {
            mode: backend.mode,
            region: backend.region,
            endpoint_url: backend.endpoint_url.map(Spanned::into_inner),
            external_id: backend.external_id.map(Spanned::into_inner),
            timeout_seconds,
            connect_timeout_seconds,
            denial: backend.denial.map(|denial| self.denial(denial, development)),
        };
        (name.into_inner(), backend)
    }
}
