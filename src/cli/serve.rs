//! `claimbound serve`: reads, judges, binds, says that it is ready, runs until it is told to stop.

use super::{check::plural, tell};
use crate::{
    broker::{self, Behind, Broker, StartError, SystemClock},
    config::Config,
    http,
    net::Client,
    otlp::Otlp,
    store,
    telemetry::{self, Exporter},
};
use anyhow::Context;
use arc_swap::ArcSwapOption;
use claimbound_core::{evidence::hex, time::Clock};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Run the broker
///
/// When it is ready it prints one line of JSON with its addresses. Logs are JSON lines on standard error; the variable
/// `CLAIMBOUND_LOG` chooses the level, such as `warn` (by default `info`). A changed folder is taken up within seconds,
/// or at once on SIGHUP. SIGTERM and Ctrl-C stop it in order. Exit code 0: after that, or after a clean `--check`; 2:
/// errors in configuration, folder, keys or store, all of them told.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound serve --config /etc/claimbound/claimbound.toml --check
  claimbound serve --config /etc/claimbound/claimbound.toml")]
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
    mut ready: impl FnMut(&str, http::Bound) -> anyhow::Result<()>,
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

/// Listening sockets that outlive a server, for the next one; closed by a stop, so that nobody connects to a broker that
/// drains.
#[derive(Clone)]
struct Sockets(Arc<Mutex<Option<http::Listeners>>>);

impl Sockets {
    fn again(&self, config: &Config) -> anyhow::Result<http::Listeners> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(held.as_ref().context("the listeners are closed")?.again(config)?)
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Signals, waited for from before anybody is told that the broker is ready: until then they end the process. None that
/// comes between two servers is lost.
struct Signals {
    stop: watch::Receiver<bool>,
    /// Who is told of a SIGHUP.
    broker: Arc<ArcSwapOption<Broker>>,
}

impl Signals {
    fn wait() -> anyhow::Result<Self> {
        let broker = Arc::new(ArcSwapOption::<Broker>::empty());
        let reloading = broker.clone();
        let stop = stop_signal(move || {
            if let Some(broker) = &*reloading.load() {
                broker.ask_reload();
            }
        })?;
        let (told, stopped) = watch::channel(false);
        tokio::spawn(async move {
            stop.await;
            told.send_replace(true);
        });
        Ok(Self { stop: stopped, broker })
    }

    fn stop(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that nobody waits for signals any more: stopped as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

/// How often a store that is behind its checkpoint is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

async fn start(
    config: Config,
    exporter: Option<Exporter>,
    tell: impl FnMut(&Broker, http::Bound) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(async { drop(end.await) })));
    let code = one_after_another(config, tell).await;
    drop(ended);
    if let Some(exporting) = exporting {
        // It panics nowhere, and ends in time.
        let _ = exporting.await;
    }
    code
}

/// A broker, and after one whose store was adopted, the next.
async fn one_after_another(
    mut config: Config,
    mut tell: impl FnMut(&Broker, http::Bound) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let root = config.mappings.display().to_string();
    let listeners = http::bind(&config)?;
    let bound = listeners.bound();
    config.bound_at(bound.listen);
    let sockets = Sockets(Arc::new(Mutex::new(Some(listeners))));
    let (mut behind, mut signals) = (None::<Behind>, None::<Signals>);
    loop {
        let started = match behind.take() {
            Some(behind) => Err(StartError::Behind(behind)),
            None => Broker::start(config.clone(), Arc::new(SystemClock)).await,
        };
        let broker = match started {
            Ok(broker) => broker,
            Err(StartError::Behind(behind)) => {
                let signals = match &mut signals {
                    Some(signals) => signals,
                    none => none.insert(Signals::wait()?),
                };
                if closed(&config, &sockets, signals, bound, &behind).await? {
                    continue;
                }
                return Ok(0);
            }
            Err(error) => return refuse(&root, error),
        };
        let signals = match &mut signals {
            Some(signals) => signals,
            none => none.insert(Signals::wait()?),
        };
        signals.broker.store(Some(broker.clone()));
        if let Some(warning) = broker.config().hidden_from_aws() {
            tracing::warn!("{warning}");
        }
        tell(&broker, bound)?;
        tracing::info!(listen = %bound.listen, public_url = broker.config().public_url, "ready");
        let (found, lost) = (broker.behind(), Arc::new(OnceLock::new()));
        let (told, held, stop) = (lost.clone(), sockets.clone(), signals.stop());
        let until = async move {
            tokio::select! {
                () = stop => held.close(),
                behind = found => drop(told.set(behind)),
            }
        };
        sockets.again(&config)?.run(broker, until).await.context("the HTTP server failed")?;
        signals.broker.store(None);
        behind = lost.get().cloned();
        if behind.is_none() {
            tracing::info!("stopped");
            return Ok(0);
        }
    }
}

/// Serves health alone until the store was adopted (then true) or somebody stops the process.
async fn closed(
    config: &Config,
    sockets: &Sockets,
    signals: &Signals,
    bound: http::Bound,
    behind: &Behind,
) -> anyhow::Result<bool> {
    let (why, held, stop) = (behind.told(), sockets.clone(), signals.stop());
    tracing::error!(why, "the store is behind its checkpoint: only health is served");
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let line = serde_json::json!({
        "event": "closed",
        "why": why,
        "listen": format!("{scheme}://{}", bound.listen),
        "operator_listen": bound.operator.map(|address| format!("{scheme}://{address}")),
        "public_url": config.public_url,
    });
    println!("{line}");
    let adopted = Arc::new(AtomicBool::new(false));
    let (told, looking, behind) = (adopted.clone(), config.clone(), behind.clone());
    let until = async move {
        let look = async {
            loop {
                tokio::time::sleep(LOOK_AGAIN).await;
                let (config, behind) = (looking.clone(), behind.clone());
                let looked = tokio::task::spawn_blocking(move || broker::is_adopted(&config, &behind)).await;
                match looked {
                    Ok(Ok(true)) => return,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "the store cannot be looked at"),
                    Err(error) => tracing::error!(%error, "looking at the store panicked"),
                }
            }
        };
        tokio::select! {
            () = stop => held.close(),
            () = look => told.store(true, Ordering::Relaxed),
        }
    };
    sockets.again(config)?.closed(config.clone(), why, until).await.context("the HTTP server failed")?;
    Ok(adopted.load(Ordering::Relaxed))
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
