//! Another mapping folder, or other facts about issuers and backends, while exchanges run.
//!
//! What changed is read, compiled, proved and tested beside what judges, and takes its place at once and whole. What does
//! not load changes nothing: the last good state goes on, and log, health, metrics and evidence say so. One thing waits
//! for no folder: issuers and keys that an operator cuts off.

use super::{Broker, Prepared, StartError, activation, prepare, trusted};
use crate::{
    config::{Config, Invalid},
    exchange, folder,
    store::{Commit, Down, Outcome},
    telemetry::Reloaded,
};
use claimbound_core::{
    diag::{Diagnostic, Severity},
    evidence::{Details, Record, What},
    time::UnixSeconds,
};
use serde_json::{Value, json};
use std::{
    collections::hash_map::DefaultHasher,
    hash::Hasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How often the files are looked at. A change is taken up when two looks in a row see the same: whoever copies a folder
/// file by file is not judged half-way.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Looking takes at most one part in this many of the time, however large the folder.
const LOOK_SHARE: u32 = 100;
/// Findings of a refused folder that its record keeps.
const FINDINGS_KEPT_MAX: usize = 20;

/// What reloading has come to so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub activated: UnixSeconds,
    /// Why what stands on disk now is not what judges.
    pub error: Option<String>,
    /// The configuration on disk differs in keys that are read at start alone.
    pub restart_needed: bool,
}

pub(super) struct Reload {
    asked: Notify,
    state: Mutex<State>,
    /// The files as they were when the broker read them at its start.
    at_start: u64,
}

/// Why a reload changed nothing.
enum Failed {
    /// What stands on disk must not judge: it is looked at again when it changes.
    Refused { why: String, version: Option<[u8; 32]>, findings: Vec<Value> },
    /// The store did not take the record: tried again.
    Store(Down),
}

impl Reload {
    pub(super) fn new(config: &Config, now: UnixSeconds) -> Self {
        let state = State { activated: now, error: None, restart_needed: false };
        Self { asked: Notify::new(), state: Mutex::new(state), at_start: look(config) }
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Reads configuration, folder and signing keys again, soon and whether or not they seem to have changed, and looks at
    /// what is published elsewhere (SIGHUP).
    pub fn ask_reload(&self) {
        self.reload.asked.notify_one();
    }

    /// Looks at the files until the task is ended.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut judged = self.reload.at_start;
        let (mut last, mut wait) = (judged, LOOK_INTERVAL);
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(wait) => false,
                () = self.reload.asked.notified() => true,
            };
            let (began, config) = (Instant::now(), self.config.clone());
            let Ok(seen) = tokio::task::spawn_blocking(move || look(&config)).await else { continue };
            wait = LOOK_INTERVAL.max(began.elapsed() * LOOK_SHARE);
            let settled = std::mem::replace(&mut last, seen) == seen;
            if asked {
                self.read_keys_again(self.clock.now()).await;
                self.look_at_published().await;
            }
            if asked || (settled && seen != judged) {
                match self.take_up().await {
                    Err(Failed::Store(_)) => {}
                    _ => judged = seen,
                }
            }
        }
    }

    /// One reload, told to whoever may want to know.
    async fn take_up(self: &Arc<Self>) -> Result<Reloaded, Failed> {
        let outcome = self.replace_active().await;
        match &outcome {
            Ok(Reloaded::Activated) => {
                let version = self.active.load().version.clone();
                tracing::info!(
                    mappings_version = version,
                    "another mapping folder or configuration judges from now on"
                );
                self.metrics.mappings(&version);
            }
            Ok(_) => tracing::info!("nothing changed that is read while the broker runs"),
            Err(Failed::Refused { why, version, findings }) => {
                tracing::error!(why, "the change is not taken up: the last good folder and configuration go on");
                for finding in findings {
                    tracing::error!(%finding, "a finding of the folder that is not taken up");
                }
                self.record_refused(*version, findings).await;
            }
            Err(Failed::Store(error)) => tracing::error!(%error, "the change is not taken up: it cannot be recorded"),
        }
        let mut state = self.reload.lock();
        state.error = match &outcome {
            Ok(_) => None,
            Err(Failed::Refused { why, .. }) => Some(why.clone()),
            Err(Failed::Store(error)) => Some(error.to_string()),
        };
        if let Ok(Reloaded::Activated) = outcome {
            state.activated = self.clock.now();
        }
        drop(state);
        self.metrics.reloaded(outcome.as_ref().map_or(Reloaded::Refused, |outcome| *outcome));
        outcome
    }

    async fn replace_active(self: &Arc<Self>) -> Result<Reloaded, Failed> {
        let config = self.read_again()?;
        let judging = config.clone();
        let judged = tokio::task::spawn_blocking(move || prepare(&judging).map_err(refused)).await;
        let prepared = match judged.unwrap_or_else(|_| Err(Failed::refused("judging it panicked".to_owned()))) {
            Ok(prepared) => prepared,
            Err(failed) => return Err(failed.beside(self.cut_off(&config))),
        };
        let Prepared { issuers, archive, .. } = &prepared;
        let (issuers, archive) = (issuers.clone(), archive.clone());
        let (current, version) = (self.active(), prepared.mappings.version);
        if version == current.snapshot.mappings.version && config == current.config {
            // What was cut off beside a folder that did not load may have been taken back with it.
            self.issuers.replace(issuers);
            return Ok(Reloaded::Unchanged);
        }
        let now = self.clock.now();
        let activation = activation(version, archive, &config, now).map_err(Failed::refused)?;
        let active = prepare::activate(config, prepared, &self.signer, &self.places).await.map_err(refused)?;
        match self.writer.commit(activation).await.map_err(Failed::Store)? {
            Outcome::Durable { .. } => {}
            Outcome::Blocked(blocked) => return Err(Failed::refused(format!("the store refused it: {blocked:?}"))),
        }
        // An exchange that meets the one and not yet the other finds no issuer of that URL, and is refused.
        self.issuers.replace(issuers);
        self.active.store(Arc::new(active));
        Ok(Reloaded::Activated)
    }

    /// Puts in place what the file cuts off, and nothing else of it: that only refuses more. Says of whom it cuts what.
    fn cut_off(&self, config: &Config) -> Vec<Value> {
        let active = self.active();
        let (mappings, profiles) = (&active.snapshot.mappings, &active.snapshot.profiles);
        let mut told = Vec::new();
        let issuers = mappings.issuers.iter().map(|issuer| {
            let mut issuer = trusted(issuer, &active.config, profiles);
            if let Some(network) = config.issuers.get(&issuer.name).filter(|n| n.disabled || !n.deny_kids.is_empty()) {
                issuer.cut.disabled |= network.disabled;
                issuer.cut.kids.extend(network.deny_kids.iter().cloned());
                told.push(
                    json!({ "cut_off": issuer.name, "disabled": network.disabled, "deny_kids": network.deny_kids }),
                );
            }
            issuer
        });
        let issuers = issuers.collect();
        self.issuers.replace(issuers);
        told
    }

    /// The running configuration with what the file says now about issuers, backends and operators.
    fn read_again(&self) -> Result<Config, Failed> {
        let found = Config::read(&self.config.file, self.config.development);
        let found =
            found.map_err(|Invalid { diagnostics, .. }| Failed::over("the configuration", None, &diagnostics))?;
        let mut told = found.clone();
        for (url, own) in
            [(&mut told.public_url, &self.config.public_url), (&mut told.issuer_url, &self.config.issuer_url)]
        {
            if url.is_empty() {
                url.clone_from(own);
            }
        }
        let fresh = Config {
            issuers: found.issuers,
            backends: found.backends,
            sign_ins: found.sign_ins,
            forges: found.forges,
            operators: found.operators,
            ..self.config.clone()
        };
        let restart_needed = told != fresh;
        if restart_needed {
            tracing::warn!(
                "claimbound.toml has changed beyond issuers, backends, sign-ins, forges and operators: the rest is read at the \
                 next start"
            );
        }
        self.reload.lock().restart_needed = restart_needed;
        Ok(fresh)
    }

    async fn record_refused(&self, version: Option<[u8; 32]>, findings: &[Value]) {
        let mut details = Details::default();
        let kept = &findings[..findings.len().min(FINDINGS_KEPT_MAX)];
        details.json.insert("findings".to_owned(), kept.into());
        let record = Record {
            decision: None,
            at: self.clock.now(),
            what: What::MappingsRefused { version },
            principal: None,
            actor: None,
            mappings_version: Some(self.active.load().snapshot.mappings.version),
        };
        let entry = Some(record.seal(&details, exchange::salt()));
        if let Err(error) = self.writer.commit(Commit { guards: vec![], changes: vec![], entry }).await {
            tracing::error!(%error, "that a folder was not taken up could not be recorded");
        }
    }
}

impl Failed {
    fn refused(why: String) -> Self {
        Self::Refused { why, version: None, findings: vec![] }
    }

    /// With what was done all the same.
    fn beside(mut self, done: Vec<Value>) -> Self {
        if let Self::Refused { findings, .. } = &mut self {
            findings.splice(0..0, done);
        }
        self
    }

    fn over(what: &str, version: Option<[u8; 32]>, diagnostics: &[Diagnostic]) -> Self {
        let errors: Vec<_> = diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
        let first = errors.first().map(|first| {
            let file = first.span.as_ref().map_or("", |span| &span.file);
            format!("; the first, {} in `{file}`: {}", first.code, first.message)
        });
        let why = format!("{what} has {} errors{}", errors.len(), first.unwrap_or_default());
        let told = |found: &&Diagnostic| {
            let file = found.span.as_ref().map(|span| &*span.file);
            json!({ "code": found.code.to_string(), "file": file, "message": found.message })
        };
        Self::Refused { why, version, findings: errors.iter().map(told).collect() }
    }
}

fn refused(error: StartError) -> Failed {
    match error {
        StartError::Findings { folder, diagnostics } => {
            let version = (!folder.files.is_empty()).then(|| folder.version());
            Failed::over("the mapping folder", version, &diagnostics)
        }
        StartError::Folder(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Failed::refused(format!("{error}{}", cause.unwrap_or_default()))
        }
        other => Failed::refused(other.to_string()),
    }
}

/// Differs when configuration or folder may have changed.
fn look(config: &Config) -> u64 {
    let mut hash = DefaultHasher::new();
    folder::mark(&config.file, &mut hash);
    folder::mark(&config.mappings, &mut hash);
    hash.finish()
}
