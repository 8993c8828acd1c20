//! `[evidence]`: where copies of the records go, and where the newest signed checkpoint is kept.

use super::{Judge, VALUE, signing::PlaceFile};
use crate::otlp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use toml::Spanned;

/// Nothing younger is ever forgotten: by then every lease that a record grants is long over.
pub const KEPT_SECONDS_MIN: i64 = 7 * 86_400;

/// What is kept of the records elsewhere than in the store, and how long they are kept there.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Evidence {
    /// The file of the newest signed checkpoint: what the store is compared with at each start.
    pub checkpoint_file: PathBuf,
    pub sinks: Vec<Sink>,
    /// The directory that remembers how far each sink is.
    pub positions: PathBuf,
    /// How long records are kept, in seconds; `None`: for ever.
    pub retain_seconds: Option<i64>,
    /// How long the details of jobs' records are.
    pub retain_details_seconds: Option<i64>,
}

/// `[[evidence.sink]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sink {
    pub name: String,
    pub kind: SinkKind,
    /// Claims, addresses and names of persons go there, too.
    pub details: bool,
}

/// Where to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    File(PathBuf),
    Stdout,
    Otlp(otlp::Settings),
}

impl SinkKind {
    /// As the configuration writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Stdout => "stdout",
            Self::Otlp(_) => "otlp",
        }
    }
}

#[derive(Default, Deserialize)]
pub(super) struct EvidenceFile {
    checkpoint_file: Option<PathBuf>,
    #[serde(default)]
    sink: Vec<Spanned<SinkFile>>,
    positions: Option<PathBuf>,
    retain: Option<Spanned<String>>,
    retain_details: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct SinkFile {
    kind: Spanned<String>,
    name: Option<Spanned<String>>,
    path: Option<Spanned<PathBuf>>,
    #[serde(default)]
    details: bool,
    endpoint: Option<Spanned<String>>,
    #[serde(default)]
    headers: BTreeMap<Spanned<String>, Spanned<PlaceFile>>,
    ca_file: Option<PathBuf>,
}

impl Judge {
    /// By default the checkpoint stands beside the signing keys.
    pub(super) fn evidence(&mut self, file: EvidenceFile, signing_keys: &Path, directory: &Path) -> Evidence {
        let mut names = BTreeSet::new();
        let sinks: Vec<_> = file.sink.into_iter().filter_map(|sink| self.sink(sink, directory, &mut names)).collect();
        if sinks.iter().filter(|sink| sink.kind == SinkKind::Stdout).count() > 1 {
            let help = "keep one; whoever reads it can copy it";
            self.error(VALUE, 0..0, "two sinks write to standard output".to_owned(), help);
        }
        let positions = directory.join(file.positions.unwrap_or_else(|| "evidence-positions".into()));
        let checkpoint_file =
            file.checkpoint_file.map_or_else(|| signing_keys.join("checkpoint"), |file| directory.join(file));
        let retain_details = file.retain_details.and_then(|text| self.kept(&text));
        let retain = file.retain.and_then(|text| Some((self.kept(&text)?, text.span())));
        if let Some((seconds, span)) = retain.clone()
            && retain_details.is_some_and(|details| details > seconds)
        {
            let help = "details go with their record; write a `retain` that is not shorter than `retain_details`";
            self.error(VALUE, span, "records would go before their details".to_owned(), help);
        }
        Evidence {
            checkpoint_file,
            sinks,
            positions,
            retain_seconds: retain.map(|(seconds, _)| seconds),
            retain_details_seconds: retain_details,
        }
    }

    fn kept(&mut self, text: &Spanned<String>) -> Option<i64> {
        let seconds = self.duration(text)?;
        if seconds < KEPT_SECONDS_MIN {
            let help = "write at least `\"7d\"`, or leave it out to keep everything";
            self.error(VALUE, text.span(), "evidence of open leases would be forgotten".to_owned(), help);
            return None;
        }
        Some(seconds)
    }

    fn sink(&mut self, sink: Spanned<SinkFile>, directory: &Path, names: &mut BTreeSet<String>) -> Option<Sink> {
        let whole = sink.span();
        let SinkFile { kind, name, path, details, endpoint, headers, ca_file } = sink.into_inner();
        let told = name.as_ref().map_or_else(|| kind.span(), Spanned::span);
        let name = name.map_or_else(|| kind.get_ref().clone(), Spanned::into_inner);
        // Names a file, too.
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(letters) {
            let help = "names have lower-case letters, digits and `-`";
            self.error(VALUE, told.clone(), format!("`{name}` can be no sink's name"), help);
        }
        if !names.insert(name.clone()) {
            let help = "give each a `name` of its own; by default it is the kind";
            self.error(VALUE, told, format!("two sinks have the name `{name}`"), help);
        }
        let is_otlp = kind.get_ref() == "otlp";
        if !is_otlp && (endpoint.is_some() || !headers.is_empty() || ca_file.is_some()) {
            let help = "remove `endpoint`, `headers` and `ca_file`, or write `kind = \"otlp\"`";
            self.error(VALUE, whole.clone(), format!("a sink of kind `{}` has no collector", kind.get_ref()), help);
        }
        if let Some(path) = path.as_ref().filter(|_| kind.get_ref() != "file") {
            let help = "remove it, or write `kind = \"file\"`";
            self.error(VALUE, path.span(), format!("a sink of kind `{}` has no `path`", kind.get_ref()), help);
        }
        let kind = match (kind.get_ref().as_str(), path, endpoint) {
            ("file", Some(path), _) => SinkKind::File(directory.join(path.into_inner())),
            ("file", None, _) => {
                let help = "write `path = \"evidence.jsonl\"`";
                self.error(VALUE, whole, "a sink of kind `file` names no file".to_owned(), help);
                return None;
            }
            ("stdout", ..) => SinkKind::Stdout,
            ("otlp", _, Some(endpoint)) => SinkKind::Otlp(self.otlp(endpoint, headers, ca_file, directory)),
            ("otlp", _, None) => {
                let help = "write `endpoint = \"https://otlp.acme.example\"`";
                self.error(VALUE, whole, "a sink of kind `otlp` names no collector".to_owned(), help);
                return None;
            }
            (other, ..) => {
                let help = "write `kind = \"file\"`, `\"stdout\"` or `\"otlp\"`";
                self.error(VALUE, kind.span(), format!("`{other}` is no kind of sink"), help);
                return None;
            }
        };
        Some(Sink { name, kind, details })
    }
}
