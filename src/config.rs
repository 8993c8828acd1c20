//! `claimbound.toml` as plain data: facts of the deployment. Policy facts stand in the mapping folder.
//!
//! A file is judged whole: unknown keys, wrong types and values that cannot be are all reported in one run, each with
//! its place. Relative paths count from the file's own directory, so that a broker can be started from anywhere.

mod backend;
mod denial;
mod evidence;
mod exchange;
mod forge;
mod issuer;
mod limits;
mod people;
mod resource_server;
mod signing;
mod store;
mod telemetry;
mod urls;
mod webhook;

pub use backend::{AwsBackend, AwsMode};
pub use denial::AwsDenial;
pub use evidence::{Evidence, KEPT_SECONDS_MIN, Sink, SinkKind};
pub use exchange::Exchange;
pub use forge::{Forge, ForgeKind};
pub use issuer::{IssuerNetwork, KID_BYTES_MAX, PinnedKeys, REFRESH_SECONDS};
pub use limits::{CONNECTIONS_MAX, Limits, REQUEST_SECONDS_MAX};
pub use people::{OperatorRule, SignIn, Strength, Who};
pub use resource_server::ResourceServer;
pub use signing::Signing;
pub use telemetry::Traces;

use backend::Backend;
use claimbound_core::diag::{Code, Diagnostic, Span, did_you_mean};
use evidence::EvidenceFile;
use forge::ForgeFile;
use ipnet::IpNet;
use issuer::Issuer;
use limits::LimitsFile;
use people::{OperatorFile, SignInFile};
use resource_server::ResourceServerFile;
use serde::{Deserialize, Serialize, Serializer};
use signing::SigningFile;
use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Store;
use telemetry::TelemetryFile;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use url::Url;
use urls::is_loopback;
use webhook::WebhookFile;

/// What a proven job may learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hints {
    #[default]
    Full,
    /// Names of mappings and conditions, no expected values.
    Names,
    None,
}

/// The whole file, validated. What it becomes as JSON is what evidence keeps of it; secrets do not stand in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Config {
    /// Where it stands.
    pub file: PathBuf,
    pub listen: SocketAddr,
    pub operator_listen: Option<SocketAddr>,
    /// Exact audience of CI tokens; no trailing slash. Left out (development only), it is the bound address of
    /// `listen`: see [`Config::bound_at`].
    pub public_url: String,
    pub hints: Hints,
    #[serde(serialize_with = "as_texts")]
    pub trusted_proxies: Vec<IpNet>,
    pub tls: Option<Tls>,
    pub limits: Limits,
    /// `sqlite:PATH`, or `postgres://…` with the places of its secrets as parameters: nothing secret itself.
    pub store: String,
    pub mappings: PathBuf,
    pub issuers: BTreeMap<String, IssuerNetwork>,
    /// `[backend.NAME]`.
    pub backends: BTreeMap<String, AwsBackend>,
    /// `[[sign_in]]`, each under a name of its own.
    pub sign_ins: Vec<SignIn>,
    /// `[forge.NAME]`.
    pub forges: BTreeMap<String, Forge>,
    pub operators: Vec<OperatorRule>,
    /// `[[resource_server]]`: who may introspect.
    pub resource_servers: Vec<ResourceServer>,
    pub exchange: Exchange,
    /// `[[webhook]]`: whom ceremonies are told to.
    pub webhooks: Vec<crate::webhooks::Settings>,
    pub signing: Signing,
    /// The name in our tokens: `public_url`, unless the documents are published elsewhere.
    pub issuer_url: String,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
    pub evidence: Evidence,
    /// Accepts loopback issuers over plain HTTP.
    pub development: bool,
}

/// Certificate and key of the listeners, PEM; read again when the files change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A configuration file that was read, for rendering its diagnostics.
#[derive(Debug)]
pub struct Invalid {
    pub text: String,
    pub diagnostics: Vec<Diagnostic>,
}

const SYNTAX: Code = Code(1001);
const UNKNOWN_KEY: Code = Code(1002);
const TYPE: Code = Code(1003);
const VALUE: Code = Code(1004);

#[derive(Deserialize)]
struct File {
    server: Server,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    mappings: Mappings,
    #[serde(default)]
    issuer: BTreeMap<String, Issuer>,
    #[serde(default)]
    exchange: Exchange,
    #[serde(default)]
    signing: SigningFile,
    #[serde(default)]
    backend: BTreeMap<Spanned<String>, Backend>,
    #[serde(default)]
    sign_in: Vec<SignInFile>,
    #[serde(default)]
    forge: BTreeMap<String, ForgeFile>,
    #[serde(default)]
    operator: Vec<Spanned<OperatorFile>>,
    #[serde(default)]
    telemetry: TelemetryFile,
    #[serde(default)]
    evidence: EvidenceFile,
    #[serde(default)]
    resource_server: Vec<ResourceServerFile>,
    #[serde(default)]
    webhook: Vec<WebhookFile>,
}
#[derive(Deserialize)]
struct Server {
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    operator_listen: Option<Spanned<SocketAddr>>,
    public_url: Option<Spanned<String>>,
    #[serde(default)]
    hints: Hints,
    #[serde(default)]
    trusted_proxies: Vec<Spanned<String>>,
    tls: Option<TlsFile>,
    #[serde(default)]
    limits: LimitsFile,
}
#[derive(Deserialize)]
struct TlsFile {
    certificate: PathBuf,
    key: PathBuf,
}
#[derive(Default, Deserialize)]
struct Mappings {
    path: Option<PathBuf>,
}
/// Which keys a table may have; `*` is any name. What stands here and in the structs above is kept equal by the
/// annotated reference file, which a test loads.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "server",
            "store",
            "mappings",
            "issuer",
            "exchange",
            "signing",
            "backend",
            "telemetry",
            "evidence",
            "sign_in",
            "forge",
            "operator",
            "resource_server",
            "webhook",
        ],
    ),
    ("server", &["listen", "operator_listen", "public_url", "hints", "trusted_proxies", "tls", "limits"]),
    ("server.tls", &["certificate", "key"]),
    (
        "server.limits",
        &[
            "connections",
            "requests_per_second",
            "repository_requests_per_second",
            "introspections_per_second",
            "request_seconds",
        ],
    ),
    ("store", &["url", "password", "sslrootcert"]),
    ("mappings", &["path"]),
    ("issuer", &["*"]),
    (
        "issuer.*",
        &[
            "ca_file",
            "allow_private_network",
            "max_lifetime",
            "jwks",
            "jwks_origin",
            "refresh",
            "disabled",
            "deny_kids",
        ],
    ),
    ("issuer.*.jwks", &["file", "expires", "warn_before"]),
    ("exchange", &["own_tokens", "aws_sts"]),
    ("signing", &["keys", "issuer_url", "seal", "rotate_every", "allow_private_network", "ca_file"]),
    ("telemetry", &["otlp"]),
    ("telemetry.otlp", &["endpoint", "headers", "ca_file", "sample_percent"]),
    ("evidence", &["checkpoint_file", "sink", "positions", "retain", "retain_details"]),
    ("evidence.sink", &["kind", "name", "path", "details", "endpoint", "headers", "ca_file"]),
    ("resource_server", &["audience", "client_id", "client_secret"]),
    ("webhook", &["name", "url", "format", "secret", "teams", "events", "ca_file", "allow_private_network"]),
    ("backend", &["*"]),
    ("backend.*", &["kind", "mode", "region", "endpoint_url", "external_id", "timeout", "connect_timeout", "denial"]),
    ("backend.*.denial", &["policy_arn", "endpoint_url"]),
    (
        "sign_in",
        &[
            "name",
            "issuer",
            "client_id",
            "client_secret",
            "groups_claim",
            "forge_id_claim",
            "scopes",
            "max_age",
            "sensitivity",
            "ca_file",
            "allow_private_network",
        ],
    ),
    ("forge", &["*"]),
    ("forge.*", &["kind", "url", "client_id", "client_secret", "ca_file", "allow_private_network"]),
    ("sign_in.sensitivity", &["*"]),
    ("sign_in.sensitivity.*", &["max_age", "acr_values"]),
    ("sign_in.forge_id_claim", &["*"]),
    // What a job is matched by is the mapping language's, and judged with the folder.
    ("operator", &["sign_in", "issuer", "match", "may"]),
];

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

impl Config {
    /// Reads and judges a file.
    ///
    /// # Errors
    /// All findings at once; the text is empty when the file could not be read.
    pub fn read(path: &Path, development: bool) -> Result<Self, Invalid> {
        let name: Arc<str> = path.display().to_string().into();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let help = "name the file with `--config FILE`; `docs/claimbound.toml` shows every key";
            let span = Span::new(&*name, 0..0);
            let diagnostic = Diagnostic::error(SYNTAX, span, format!("cannot read `{name}`: {error}"), help);
            Invalid { text: String::new(), diagnostics: vec![diagnostic] }
        })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let judged = Self::parse(&text, &name, directory, development).and_then(|config| config.with_files(&name));
        let of_file = |config| Self { file: path.to_owned(), ..config };
        judged.map(of_file).map_err(|diagnostics| Invalid { text, diagnostics })
    }

    /// A file of authorities that is not there would only show as an issuer that is down.
    fn with_files(self, name: &Arc<str>) -> Result<Self, Vec<Diagnostic>> {
        let of_issuers = self.issuers.iter().map(|(issuer, network)| (format!("[issuer.{issuer}]"), &network.ca_file));
        let of_people = self.sign_ins.iter().map(|one| (format!("[[sign_in]]` `{}", one.name), &one.ca_file));
        let of_forges = self.forges.iter().map(|(name, forge)| (format!("[forge.{name}]"), &forge.ca_file));
        let unreadable = of_issuers.chain(of_people).chain(of_forges).filter_map(|(whose, file)| {
            let file = file.as_ref()?;
            let error = std::fs::File::open(file).err()?;
            let span = Span::new(&**name, 0..0);
            let message = format!("`ca_file` of `{whose}` cannot be read: `{}`: {error}", file.display());
            let help = "name a PEM file that this user can read; relative paths count from this file's directory";
            Some(Diagnostic::error(VALUE, span, message, help))
        });
        let found: Vec<_> = unreadable.collect();
        if found.is_empty() { Ok(self) } else { Err(found) }
    }

    /// Why AWS could not fetch the documents that it needs to believe our assertions, if that shows: for a warning.
    pub fn hidden_from_aws(&self) -> Option<String> {
        if !self.backends.values().any(|backend| backend.mode == AwsMode::WebIdentity) {
            return None;
        }
        let url = Url::parse(&self.issuer_url).ok()?;
        let private = match url.host()? {
            url::Host::Ipv4(ip) => ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
            url::Host::Ipv6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified(),
            url::Host::Domain(name) => {
                !name.contains('.') || [".internal", ".local", ".localhost"].iter().any(|end| name.ends_with(end))
            }
        };
        let why = match url.scheme() {
            _ if is_loopback(&url) => "is a loopback address",
            "https" if private => "is a private address",
            "https" => return None,
            _ => "is not `https`",
        };
        Some(format!(
            "`issuer_url` {why}: `{}`; AWS must fetch the documents of a `web-identity` broker from the internet. \
             Publish them with `claimbound issuer export` and name that place, or use `mode = \"assume-role\"`",
            self.issuer_url
        ))
    }

    /// Fills in what only the bound address tells: the public URL of a development broker that was given none.
    pub fn bound_at(&mut self, listen: SocketAddr) {
        let own = format!("http://{listen}");
        for url in [&mut self.public_url, &mut self.issuer_url] {
            if url.is_empty() {
                url.clone_from(&own);
            }
        }
    }

    /// Judges the text of a file named `name` whose relative paths count from `directory`.
    ///
    /// # Errors
    /// All findings.
    pub fn parse(text: &str, name: &Arc<str>, directory: &Path, development: bool) -> Result<Self, Vec<Diagnostic>> {
        let mut judge = Judge { file: name.clone(), found: Vec::new() };
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let help = "mend the TOML at this place";
            judge.error(SYNTAX, error.span().unwrap_or(0..0), error.message().to_owned(), help);
        }
        if judge.found.is_empty() {
            judge.keys(tree.get_ref(), "");
        }
        let file = match toml::from_str::<File>(text) {
            Ok(file) => file,
            Err(error) => {
                if judge.found.is_empty() {
                    let help = "`docs/claimbound.toml` shows every key with its type";
                    judge.error(TYPE, error.span().unwrap_or(0..0), error.message().to_owned(), help);
                }
                judge.found.sort_by_key(|found| found.span.as_ref().map(|span| span.bytes().start));
                return Err(judge.found);
            }
        };
        let config = judge.values(file, directory, development, text);
        judge.policies_apart(&config.backends);
        judge.found.sort_by_key(|found| found.span.as_ref().map(|span| span.bytes().start));
        if judge.found.is_empty() { Ok(config) } else { Err(judge.found) }
    }
}

struct Judge {
    file: Arc<str>,
    found: Vec<Diagnostic>,
}

impl Judge {
    fn error(&mut self, code: Code, bytes: Range<usize>, message: String, help: impl Into<String>) {
        let span = Span::new(&*self.file, bytes);
        self.found.push(Diagnostic::error(code, span, message, help));
    }

    fn keys(&mut self, table: &DeTable<'_>, path: &str) {
        let Some((_, known)) = KEYS.iter().find(|(at, _)| *at == path) else { return };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let any = known.contains(&"*");
            if !any && !known.contains(&name) {
                let help = match did_you_mean(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                let place = match path {
                    "" => "at the top".to_owned(),
                    "sign_in" | "operator" => format!("in `[[{path}]]`"),
                    _ => format!("in `[{path}]`"),
                };
                self.error(UNKNOWN_KEY, key.span(), format!("unknown key `{name}` {place}"), help);
            } else {
                let name = if any { "*" } else { name };
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                match value.get_ref() {
                    DeValue::Table(inner) => self.keys(inner, &below),
                    DeValue::Array(tables) => {
                        for table in tables.iter().filter_map(|table| table.get_ref().as_table()) {
                            self.keys(table, &below);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn values(&mut self, file: File, directory: &Path, development: bool, text: &str) -> Config {
        let File {
            server,
            store,
            mappings,
            issuer,
            exchange,
            mut signing,
            backend,
            telemetry,
            evidence,
            sign_in,
            forge,
            operator,
            resource_server,
            webhook,
        } = file;
        if server.public_url.is_none() && !development {
            let help = "write `public_url = \"https://claimbound.example.com\"`: it is the audience of CI tokens";
            self.error(VALUE, 0..0, "`[server] public_url` is missing".to_owned(), help);
        }
        if let Some(operator) = &server.operator_listen
            && server.tls.is_none()
            && !operator.get_ref().ip().is_loopback()
        {
            let help = "listen on 127.0.0.1, or configure `[server.tls]`";
            let message = "`operator_listen` on a network needs TLS".to_owned();
            self.error(VALUE, operator.span(), message, help);
        }
        if let Some(operator) = &server.operator_listen
            && *operator.get_ref() == server.listen
            && server.listen.port() != 0
        {
            let help = "give it a port of its own: it is not for the public";
            self.error(VALUE, operator.span(), "`operator_listen` is the address of `listen`".to_owned(), help);
        }
        if server.operator_listen.is_none()
            && let Some(first) = operator.first()
        {
            let help = "add `operator_listen = \"127.0.0.1:8081\"` to `[server]`";
            let message = "there are operators, and no listener for them".to_owned();
            self.error(VALUE, first.span().start..first.span().start, message, help);
        }
        let sign_ins = self.sign_ins(sign_in, directory, development);
        let forges = forge.into_iter();
        let forges =
            forges.filter_map(|(name, forge)| Some((name, self.forge(forge, directory, development)?))).collect();
        let operators = self.operators(operator, &sign_ins, text);
        let trusted_proxies = server.trusted_proxies.iter().filter_map(|text| self.network(text)).collect();
        let issuers =
            issuer.into_iter().map(|(name, issuer)| (name, self.issuer(issuer, directory, development))).collect();
        let public_url = server.public_url.map(|url| self.url(url, "public_url", development)).unwrap_or_default();
        let issuer_url = signing.issuer_url.take().map(|url| self.url(url, "issuer_url", development));
        let signing = self.signing(signing, directory);
        Config {
            file: PathBuf::new(),
            listen: server.listen,
            operator_listen: server.operator_listen.map(Spanned::into_inner),
            issuer_url: issuer_url.unwrap_or_else(|| public_url.clone()),
            public_url,
            hints: server.hints,
            trusted_proxies,
            tls: server
                .tls
                .map(|tls| Tls { certificate: directory.join(tls.certificate), key: directory.join(tls.key) }),
            limits: self.limits(server.limits),
            store: self.store(store, directory),
            mappings: directory.join(mappings.path.unwrap_or_else(|| "mappings".into())),
            issuers,
            backends: backend.into_iter().map(|(name, backend)| self.backend(name, backend, development)).collect(),
            sign_ins,
            forges,
            operators,
            resource_servers: self.resource_servers(resource_server, directory),
            webhooks: self.webhooks(webhook, directory),
            evidence: self.evidence(evidence, &signing.keys, directory),
            exchange,
            signing,
            traces: self.telemetry(telemetry, directory),
            development,
        }
    }

    fn network(&mut self, text: &Spanned<String>) -> Option<IpNet> {
        let given = text.get_ref();
        let parsed = given.parse::<IpNet>().ok().or_else(|| given.parse::<IpAddr>().ok().map(IpNet::from));
        if parsed.is_none() {
            let help = "write an address or a prefix, like `\"10.0.0.0/8\"`";
            self.error(VALUE, text.span(), format!("`{given}` is no network"), help);
        }
        parsed
    }

    fn within<N>(&mut self, given: Option<Spanned<N>>, key: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: PartialOrd + Display + Copy,
    {
        let given = given?;
        let value = *given.get_ref();
        if !range.contains(&value) {
            let help = format!("write a number from {} to {}, or leave it out", range.start(), range.end());
            self.error(VALUE, given.span(), format!("`{key}` cannot be {value}"), help);
        }
        Some(value)
    }

    fn duration(&mut self, text: &Spanned<String>) -> Option<i64> {
        let seconds = seconds(text.get_ref());
        if seconds.is_none() {
            let help = "write an integer and one of s, m, h, d, like `\"1h\"`";
            self.error(VALUE, text.span(), format!("`{}` is no duration", text.get_ref()), help);
        }
        seconds
    }
}

fn as_texts<S: Serializer>(networks: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(ToString::to_string))
}

/// An integer and one of `s m h d`, in seconds.
pub fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: i64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(factor).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests;
