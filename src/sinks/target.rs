//! Where lines go. Each write has a time limit: a file on a share that hangs, or a pipe that nobody reads, makes its own
//! sink late and nothing else.

use super::line::{Line, Record};
use crate::{
    net::Client,
    otlp::{Otlp, Settings, Signal},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message as _;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

/// One write of a file or pipe.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Whoever collects files reads them as their group.
const FILE_MODE: u32 = 0o640;

pub(super) enum Target {
    /// Writes that wait for the kernel happen elsewhere.
    Aside {
        to: Arc<Mutex<Out>>,
        late: Option<JoinHandle<io::Result<()>>>,
    },
    Otlp(Otlp),
}

pub(super) enum Out {
    Stdout,
    File {
        path: PathBuf,
        open: Option<File>,
        /// A write failed half-way: the next one begins on a line of its own.
        torn: bool,
    },
}

impl Target {
    pub(super) fn file(path: &Path) -> Self {
        Self::aside(Out::File { path: path.to_owned(), open: None, torn: false })
    }

    pub(super) fn stdout() -> Self {
        Self::aside(Out::Stdout)
    }

    pub(super) fn otlp(client: Client, settings: Settings) -> Self {
        Self::Otlp(Otlp::new(client, settings))
    }

    fn aside(out: Out) -> Self {
        Self::Aside { to: Arc::new(Mutex::new(out)), late: None }
    }

    /// All lines, or an error; then any of them may have gone.
    pub(super) async fn write(&mut self, lines: Vec<Line>) -> Result<(), String> {
        match self {
            Self::Otlp(otlp) => otlp.send(Signal::Logs, message(lines).encode_to_vec()).await,
            Self::Aside { to, late } => {
                let told = |limit: Duration| format!("a write did not end within {limit:?}");
                // One that hangs is waited for before another begins: it holds what that one needs.
                if let Some(before) = late.as_mut() {
                    if tokio::time::timeout(WRITE_WAIT_MAX, before).await.is_err() {
                        return Err(told(WRITE_WAIT_MAX));
                    }
                    *late = None;
                }
                let to = to.clone();
                let mut writing = tokio::task::spawn_blocking(move || {
                    let mut text = Vec::new();
                    for line in &lines {
                        text.extend_from_slice(&line.text);
                        text.push(b'\n');
                    }
                    to.lock().unwrap_or_else(PoisonError::into_inner).write(&text)
                });
                match tokio::time::timeout(WRITE_WAIT_MAX, &mut writing).await {
                    Ok(written) => written.map_err(|error| error.to_string())?.map_err(|error| error.to_string()),
                    Err(_) => {
                        *late = Some(writing);
                        Err(told(WRITE_WAIT_MAX))
                    }
                }
            }
        }
    }
}

impl Out {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text)?;
                out.flush()
            }
            Self::File { path, open, torn } => {
                let file = current(path, open)?;
                let begin: &[u8] = if *torn { b"\n" } else { b"" };
                *torn = true;
                file.write_all(begin)?;
                file.write_all(text)?;
                // Before its place is remembered.
                file.sync_data()?;
                *torn = false;
                Ok(())
            }
        }
    }
}

/// The file of this name: another one, if somebody renamed or removed the one that is open.
fn current<'f>(path: &Path, open: &'f mut Option<File>) -> io::Result<&'f mut File> {
    let same = |file: &File| -> io::Result<bool> {
        let (own, named) = (file.metadata()?, fs::metadata(path)?);
        Ok((own.dev(), own.ino()) == (named.dev(), named.ino()))
    };
    if open.as_ref().is_some_and(|file| !same(file).unwrap_or(false)) {
        *open = None;
    }
    Ok(match open {
        Some(file) => file,
        None => open.insert(OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?),
    })
}

fn message(lines: Vec<Line>) -> ExportLogsServiceRequest {
    let resource = Resource {
        attributes: vec![text("service.name", "claimbound"), text("service.version", env!("CARGO_PKG_VERSION"))],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "claimbound.evidence".to_owned(), ..InstrumentationScope::default() };
    let log_records = lines.into_iter().map(log_record).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, schema_url: String::new() }];
    let resource_logs = ResourceLogs { resource: Some(resource), scope_logs, schema_url: String::new() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

/// The body is the record's own, as it was hashed.
fn log_record(line: Line) -> LogRecord {
    let Some(record) = line.record else {
        let attributes = vec![text("claimbound.type", "note")];
        return of(String::from_utf8_lossy(&line.text).into_owned(), attributes, 0);
    };
    let Record { at, kind, position, incarnation, sequence, link, leaf, body, details } = record;
    let mut attributes = vec![
        text("claimbound.type", "record"),
        text("claimbound.kind", &kind),
        number("claimbound.position", position),
        text("claimbound.incarnation", &incarnation),
        number("claimbound.sequence", sequence.cast_signed()),
        text("claimbound.link", &link),
        text("claimbound.leaf", &leaf),
    ];
    attributes.extend(details.map(|details| text("claimbound.details", &details)));
    of(body, attributes, at)
}

fn of(body: String, attributes: Vec<KeyValue>, at: i64) -> LogRecord {
    let nanoseconds = at.max(0).unsigned_abs().saturating_mul(1_000_000_000);
    LogRecord {
        time_unix_nano: nanoseconds,
        observed_time_unix_nano: nanoseconds,
        severity_number: SeverityNumber::Info.into(),
        event_name: "claimbound.evidence".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        ..LogRecord::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
