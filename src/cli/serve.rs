//! `claimbound serve`: reads, judges, binds, says that it is ready, runs until it is told to stop.

use super::{check::plural, tell};
use crate::{
    broker::{self, Broker, StartError, SystemClock},
    config::Config,
    http,
    net::Client,
    otlp::Otlp,
    store,
    telemetry::{self, Exporter},
};
use anyhow::Context;
use claimbound_core::{evidence::hex, time::Clock};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};

/// Run the broker
///
/// When it is ready it prints one line of JSON with its addresses. Logs are JSON lines on standard error; the variable
/// `CLAIMBOUND_LOG` chooses the level, such as `warn` (by default `info`). A changed folder is taken up within seconds,
/// or at once on SIGHUP. SIGTERM and Ctrl-C stop it in order. Exit code 0: after that, or after a clean `--check`; 2:
/// errors in configuration, folder, keys or store, all of them told.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The configuration; relative paths in it count from its directory
    #[arg(long, value_name = "FILE", default_value = "claimbound.toml")]
    config: PathBuf,
    /// Judge configuration, certificate, folder and audiences together, and stop: opens no port, store or signing key
    #[arg(long)]
    check: bool,
    /// Accept issuers on loopback over plain HTTP; never in production
    #[arg(long)]
    development: bool,
}

/// Exit code 0 after an orderly stop or a clean check, 2 on any error.
pub fn run(args: ServeArgs) -> anyhow::Result<u8> {
    let config = match Config::read(&args.config, args.development) {
        Ok(config) => config,
        Err(invalid) => {
            tell::config(&args.config, &invalid);
            return Ok(2);
        }
    };
    if args.check {
        return check(config);
    }
    let exporter = telemetry::init(tracing_of(&config)?);
    if config.development {
        tracing::warn!("development: issuers on loopback are believed over plain HTTP; never so in production");
    }
    runtime()?.block_on(serve(config, exporter))
}

/// What traces need, where the configuration wants them.
fn tracing_of(config: &Config) -> anyhow::Result<Option<telemetry::Tracing>> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let otlp = Otlp::new(Client::new()?, traces.otlp.clone());
    Ok(Some(telemetry::Tracing { otlp, sample: f64::from(traces.sample_percent) / 100.0 }))
}

/// The runtime of everything but the HTTP workers, which bring their own.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn check(mut config: Config) -> anyhow::Result<u8> {
    config.bound_at(config.listen);
    let root = config.mappings.display().to_string();
    let certificate = http::check(&config);
    if let Err(error) = &certificate {
        eprintln!("error: `[server.tls]`: {error}");
    }
    let store = store::judge(&config.store);
    if let Err(error) = &store {
        eprintln!("error: `[store]`: {}", error.why);
    }
    match broker::prepare(&config) {
        Ok(_) if certificate.is_err() || store.is_err() => Ok(2),
        Ok(prepared) => {
            tell::findings(&root, &prepared.folder, &prepared.diagnostics);
            if let Some(warning) = config.hidden_from_aws() {
                eprintln!("warning: {warning}");
            }
            for issuer in &prepared.issuers {
                if let Some(warning) = issuer.pin.as_ref().and_then(|pin| pin.warning(SystemClock.now())) {
                    eprintln!("warning: issuer `{}`: {warning}", issuer.name);
                }
            }
            let set = &prepared.mappings;
            eprintln!(
                "ok: {}, {}, {}, version {}",
                plural(set.issuers.len(), "issuer"),
                plural(set.roles.len(), "role"),
                plural(set.mappings.iter().filter(|mapping| mapping.is_first()).count(), "mapping"),
                hex(&set.version)
            );
            Ok(0)
        }
        Err(error) => refuse(&root, error),
    }
}

/// Prints why a broker does not start; exit code 2.
fn refuse(root: &str, error: StartError) -> anyhow::Result<u8> {
    match error {
        StartError::Findings { folder, diagnostics } => {
            tell::findings(root, &folder, &diagnostics);
            eprintln!("error: the mapping folder does not load");
            Ok(2)
        }
        other => Err(other.into()),
    }
}

/// A broker for `claimbound dev`: the same, with words for a person in place of the line of JSON.
pub(super) async fn development(
    config: &Path,
    ready: impl FnOnce(&str, http::Bound) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    match Config::read(config, true) {
        Ok(config) => {
            let exporter = telemetry::init(tracing_of(&config)?);
            start(config, exporter, |broker, bound| ready(&broker.config().public_url, bound)).await
        }
        Err(invalid) => {
            tell::config(config, &invalid);
            Ok(2)
        }
    }
}

async fn serve(config: Config, exporter: Option<Exporter>) -> anyhow::Result<u8> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let tell = |broker: &Broker, bound: http::Bound| {
        let ready = serde_json::json!({
            "event": "ready",
            "listen": format!("{scheme}://{}", bound.listen),
            "operator_listen": bound.operator.map(|address| format!("{scheme}://{address}")),
            "public_url": broker.config().public_url,
        });
        println!("{ready}");
        Ok(())
    };
    start(config, exporter, tell).await
}

async fn start(
    mut config: Config,
    exporter: Option<Exporter>,
    tell: impl FnOnce(&Broker, http::Bound) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let root = config.mappings.display().to_string();
    let listeners = http::bind(&config)?;
    let bound = listeners.bound();
    config.bound_at(bound.listen);
    let broker = match Broker::start(config, Arc::new(SystemClock)).await {
        Ok(broker) => broker,
        Err(error) => return refuse(&root, error),
    };
    if let Some(warning) = broker.config().hidden_from_aws() {
        tracing::warn!("{warning}");
    }
    // Waited for before anybody is told that it is ready: until then a SIGHUP would end the process.
    let reloading = broker.clone();
    let stop = stop_signal(move || reloading.ask_reload())?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(async { drop(end.await) })));
    tell(&broker, bound)?;
    tracing::info!(listen = %bound.listen, public_url = broker.config().public_url, "ready");
    listeners.run(broker, stop).await.context("the HTTP server failed")?;
    drop(ended);
    if let Some(exporting) = exporting {
        // It panics nowhere, and ends in time.
        let _ = exporting.await;
    }
    tracing::info!("stopped");
    Ok(0)
}

/// SIGXFSZ, which kills a process that writes beyond its limit on files (`ulimit -f`, `LimitFSIZE=`) unless it is caught.
const FILE_TOO_LARGE: SignalKind = SignalKind::from_raw(25);

/// Resolves on SIGTERM or SIGINT. SIGHUP, which ends a process that does not wait for it, is told to `hung_up`.
pub(super) fn stop_signal(hung_up: impl Fn() + Send) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let wait = |kind| signal(kind).context("cannot wait for signals");
    let mut term = wait(SignalKind::terminate())?;
    let mut int = wait(SignalKind::interrupt())?;
    let mut hangup = wait(SignalKind::hangup())?;
    // Caught once and for all: such a write fails, as on a full disk.
    drop(wait(FILE_TOO_LARGE)?);
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => return,
                _ = int.recv() => return,
                _ = hangup.recv() => hung_up(),
            }
        }
    })
}
