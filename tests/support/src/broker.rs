//! A broker under test: the built program, in a directory of its own, on ports of its own.

use crate::{
    command::{Exit, command, finish, limit_files, signal},
    config::BrokerConfig,
    http::{self, Answer},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout},
    time::timeout,
};

/// The `grant_type` of an exchange (RFC 8693 section 2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The type of a CI token (RFC 8693 section 3).
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// A broker must be ready, or have said why not, within this.
const READY_SECONDS: u64 = 60;
/// After SIGTERM a broker must have ended within this.
const STOP_SECONDS: u64 = 60;

/// A running broker; killed when it is dropped.
pub struct Broker {
    binary: PathBuf,
    directory: TempDir,
    config: BrokerConfig,
    url: String,
    operator_url: String,
    public_url: String,
    /// Addresses in `claimbound.toml`; of a first start, port 0.
    written: [String; 2],
    running: Option<(Child, BufReader<ChildStdout>)>,
}

impl Broker {
    /// Starts `binary` (the caller's `env!("CARGO_BIN_EXE_claimbound")`) and waits until it says that it is ready.
    pub async fn start(binary: impl AsRef<Path>, config: BrokerConfig) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory can be made"), binary, config).await
    }

    /// The same in a directory that is there already, with whatever stands in it.
    pub async fn start_in(directory: TempDir, binary: impl AsRef<Path>, config: BrokerConfig) -> Self {
        let mut broker = Self {
            binary: binary.as_ref().to_owned(),
            directory,
            config,
            url: "http://127.0.0.1:0".to_owned(),
            operator_url: "http://127.0.0.1:0".to_owned(),
            public_url: String::new(),
            written: Default::default(),
            running: None,
        };
        broker.launch("ready").await;
        broker
    }

    /// Another broker beside this one: of the same configuration, with the same signing keys, on ports of its own. It
    /// needs a store that both may write, and a `public_url`.
    pub async fn replica(&self) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let keys = directory.path().join("keys");
        fs::create_dir(&keys).expect("a directory can be made");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).expect("a mode can be set");
        for key in fs::read_dir(self.directory().join("keys")).expect("a broker has keys").flatten() {
            // Not yet in its place, and gone in a moment.
            if key.file_name().to_string_lossy().contains(".new") {
                continue;
            }
            fs::copy(key.path(), keys.join(key.file_name())).expect("a key can be copied");
        }
        Self::start_in(directory, &self.binary, self.config.clone()).await
    }

    /// Runs a broker that must not start: its exit code and texts. A broker that starts after all fails the test.
    pub async fn refused(binary: impl AsRef<Path>, config: &BrokerConfig) -> Exit {
        let directory = tempfile::tempdir().expect("a directory can be made");
        config.write(directory.path(), "127.0.0.1:0", "127.0.0.1:0");
        let mut serve = command(binary.as_ref(), directory.path());
        finish(serve.args(["serve", "--config", "claimbound.toml", "--development"])).await
    }

    /// Puts another configuration and folder beside the running broker.
    pub fn rewrite(&mut self, config: BrokerConfig) {
        self.config = config;
        let [listen, operator_listen] = &self.written;
        self.config.write(self.directory.path(), listen, operator_listen);
    }

    /// What operators are told of its health.
    pub async fn health(&self) -> Value {
        http::get(&format!("{}/operator/health", self.operator_url)).await.body
    }

    async fn launch(&mut self, event: &str) {
        self.written = [&self.url, &self.operator_url].map(|url| url.trim_start_matches("http://").to_owned());
        self.rewrite(self.config.clone());
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be opened");
        let mut child = command(&self.binary, self.directory.path())
            .args(["serve", "--config", "claimbound.toml", "--development"])
            .envs(self.config.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        self.running = Some((child, stdout));
        let ready = self.line().await;
        assert_eq!(ready["event"], event, "{ready}");
        let url = |name: &str| ready[name].as_str().map(|url| url.trim_end_matches('/').to_owned());
        let known = |name: &str| url(name).unwrap_or_else(|| panic!("no `{name}` in {ready}"));
        (self.url, self.public_url) = (known("listen"), known("public_url"));
        self.operator_url = url("operator_listen").unwrap_or_default();
    }

    /// The next line that the broker says on standard output.
    pub async fn line(&mut self) -> Value {
        let (_, stdout) = self.running.as_mut().expect("the broker runs");
        let mut line = String::new();
        let read = timeout(Duration::from_secs(READY_SECONDS), stdout.read_line(&mut line)).await;
        match (read, serde_json::from_str(&line)) {
            (Ok(Ok(_)), Ok(told)) => told,
            _ => panic!("the broker is not ready: {line}\n{}", self.log()),
        }
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
    /// Where operators and metrics are; empty where the configuration has no such listener.
    pub fn operator_url(&self) -> &str {
        &self.operator_url
    }
    /// The audience of CI tokens.
    pub fn audience(&self) -> &str {
        &self.public_url
    }
    /// Everything that it reads and writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
    /// `claimbound.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.directory().join("claimbound.toml")
    }
    /// The store's URL.
    pub fn store(&self) -> String {
        self.config.store_in(self.directory())
    }
    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.directory().join("claimbound.db")
    }
    /// Where stderr goes, over restarts.
    fn log_path(&self) -> PathBuf {
        self.directory().join("stderr.log")
    }
    /// All that it logged so far.
    pub fn log(&self) -> String {
        text(&self.log_path())
    }

    /// `POST /token` with exactly these fields.
    pub async fn exchange(&self, form: &[(&str, &str)]) -> Answer {
        http::post_form(&format!("{}/token", self.url), form).await
    }

    /// A plain exchange of a CI token for a role.
    pub async fn exchange_for(&self, token: &str, role: &str) -> Answer {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ID_TOKEN),
            ("audience", role),
        ];
        self.exchange(&form).await
    }

    /// `POST /revoke` (RFC 7009) by possession.
    pub async fn revoke(&self, token: &str) -> Answer {
        http::post_form(&format!("{}/revoke", self.url), &[("token", token)]).await
    }

    /// GET of a path of the public listener.
    pub async fn get(&self, path: &str) -> Answer {
        http::get(&format!("{}{path}", self.url)).await
    }

    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Metrics {
        Metrics(http::get(&format!("{}/metrics", self.operator_url)).await.text)
    }

    /// Sends a signal by name (`HUP`). Returns at once.
    pub async fn signal(&self, name: &str) {
        let (child, _) = self.running.as_ref().expect("the broker runs");
        signal(child, name).await;
    }

    /// The process that runs.
    pub fn pid(&self) -> u32 {
        let (child, _) = self.running.as_ref().expect("the broker runs");
        child.id().expect("the broker has not ended")
    }

    /// From now on no file gets longer than this: see [`limit_files`].
    pub fn limit_files(&self, bytes: Option<u64>) {
        limit_files(bytes, &[self.pid()], |_| {});
    }

    /// Memory that the process holds right now, in KiB (`VmRSS`, proc(5)).
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has a size");
        line.trim().trim_end_matches(" kB").parse().expect("a size is a number")
    }

    /// SIGKILL, as a power cut is to the process.
    pub async fn kill9(&mut self) {
        let (mut child, _) = self.running.take().expect("the broker runs");
        child.kill().await.expect("the broker can be killed");
    }

    /// SIGTERM; the exit code and what it still wrote to stdout. Panics if it does not end.
    pub async fn terminate(&mut self) -> Exit {
        let (mut child, mut stdout) = self.running.take().expect("the broker runs");
        signal(&child, "TERM").await;
        let mut rest = String::new();
        let ended = async { (stdout.read_to_string(&mut rest).await, child.wait().await) };
        let (_, status) = timeout(Duration::from_secs(STOP_SECONDS), ended)
            .await
            .unwrap_or_else(|_| panic!("the broker does not stop\n{}", self.log()));
        let code = status.expect("the broker's end can be awaited").code();
        Exit { code, stdout: rest, stderr: self.log() }
    }

    /// Starts it again, on the same ports, over the same store and keys; kills it first if it still runs.
    pub async fn restart(&mut self) {
        if self.running.is_some() {
            self.kill9().await;
        }
        self.launch("ready").await;
    }

    /// The same over a store that it will not serve.
    pub async fn restart_closed(&mut self) {
        if self.running.is_some() {
            self.kill9().await;
        }
        self.launch("closed").await;
    }

    /// A command of the same program in the broker's directory, to be run by the caller.
    pub fn prepared(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut prepared = command(&self.binary, self.directory());
        prepared.args(arguments);
        prepared
    }

    /// Another command of the same program, in the broker's directory.
    pub async fn command(&self, arguments: &[&str]) -> Exit {
        finish(command(&self.binary, self.directory()).args(arguments)).await
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Broker {
    /// A failed test shows what the broker had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the broker's log\n{}---", self.log());
        }
    }
}

/// A scrape in the OpenMetrics text format.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all samples of `name` that have all of these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let has = |series: &str| {
            let (of, braced) = series.split_once('{').unwrap_or((series, ""));
            let own = format!(",{}", braced.trim_end_matches('}'));
            of == name && wanted.iter().all(|label| own.contains(&format!(",{label}")))
        };
        let samples = self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        samples.filter(|(series, _)| has(series)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::BrokerConfig, issuer::Issuer};

    /// A program that stands in for the broker as far as starting and stopping go.
    fn program(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("claimbound");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    const READY: &str = r#"echo '{"event":"ready","listen":"http://127.0.0.1:7001","operator_listen":"http://127.0.0.1:7002","public_url":"http://127.0.0.1:7001"}'"#;

    #[tokio::test]
    async fn a_broker_starts_stops_and_starts_again_on_its_ports() {
        let home = tempfile::tempdir().unwrap();
        let script = format!("trap 'echo bye; exit 7' TERM; echo started >&2; {READY}; while :; do sleep 0.01; done");
        let (issuer, binary) = (Issuer::github(), program(home.path(), &script));
        let mut broker = Broker::start(&binary, BrokerConfig::new(&issuer)).await;
        assert_eq!((broker.url(), broker.operator_url()), ("http://127.0.0.1:7001", "http://127.0.0.1:7002"));
        let exit = broker.terminate().await;
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(7), "bye\n"));
        broker.restart().await;
        assert!(fs::read_to_string(broker.config_path()).unwrap().contains("listen = \"127.0.0.1:7001\""));
        broker.kill9().await;
        assert_eq!(broker.log(), "started\nstarted\n");
    }

    #[tokio::test]
    #[should_panic(expected = "policy.toml:3: no")]
    async fn a_broker_that_ends_before_it_is_ready_fails_the_test_with_its_log() {
        let home = tempfile::tempdir().unwrap();
        let binary = program(home.path(), "echo 'policy.toml:3: no' >&2; exit 2");
        Broker::start(&binary, BrokerConfig::new(&Issuer::github())).await;
    }

    #[test]
    fn metrics_are_summed_over_the_labels_left_open() {
        let text = "# TYPE x counter\nx_total{outcome=\"grant\",role=\"a\"} 2\nx_total{outcome=\"grant\",role=\"b\"} 3\nx_total{outcome=\"deny\"} 5\ny 1\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("x_total", &[("outcome", "grant")]), 5.0);
        assert_eq!(metrics.sum("x_total", &[("role", "b"), ("outcome", "grant")]), 3.0);
        assert_eq!(metrics.sum("x_total", &[]), 10.0);
        assert_eq!(metrics.sum("y", &[]), 1.0);
        assert_eq!(metrics.sum("absent", &[]), 0.0);
    }
}
