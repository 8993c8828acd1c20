//! Tells people that somebody must answer for a role, and what became of it: to chat tools and to programs.
//!
//! A message is an invitation, not evidence: it goes out after the commit, is tried a bounded number of times, and is lost
//! with the process; `claimbound ceremonies` lists what waits. It holds no secret and no code: whoever reads it can open the
//! link, sign in, and do there what they may. Programs can verify it (Standard Webhooks 1.0.0: `webhook-id`,
//! `webhook-timestamp`, `webhook-signature`).

mod format;

use crate::{
    net::{Call, Client, FetchRules},
    rate::Rate,
    secret::{Place, Secret},
    telemetry::WebhookSeries,
};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use claimbound_core::{
    ceremony::{CeremonyId, Shown},
    time::{Clock, UnixSeconds},
};
pub use format::Format;
use serde::Serialize;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Messages that wait for one receiver; what comes beyond is dropped, and told in the log.
const WAITING_MAX: usize = 256;
/// So long nothing is tried after each failure; after the last one the message is dropped.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];
/// Messages about one repository: 32 at once, then one in 20 seconds. Jobs that ask and go again and again tire nobody.
const OF_REPOSITORY: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(640));
/// Repositories whose messages are counted.
const REPOSITORIES_MAX: usize = 4096;
/// One request, with its answer.
const SEND_SECONDS_MAX: u64 = 10;
/// Answers are not read, but for their status.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// A URL or a secret.
const SECRET_BYTES_MAX: u64 = 4096;
/// How Standard Webhooks spells a secret: this, and base64.
const SECRET_PREFIX: &str = "whsec_";
/// Of a secret, decoded (Standard Webhooks, "Signature scheme").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// `[[webhook]]`: one receiver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Settings {
    pub name: String,
    pub url: Url,
    pub format: Format,
    /// Signs messages of [`Format::Standard`].
    pub secret: Option<Place>,
    /// Ceremonies of these teams' mappings alone; of all where it is empty.
    pub teams: Vec<String>,
    /// Of these kinds alone.
    pub events: Vec<Event>,
    pub ca_file: Option<PathBuf>,
    pub allow_private_network: bool,
}

/// Where a receiver is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Url {
    Open(String),
    /// Chat tools' addresses are secrets: whoever has one can write there.
    Kept(Place),
}

/// What became of a ceremony.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Opened,
    Claimed,
    Rejected,
    Withdrawn,
    Expired,
    /// The claim of a first use is over: by its time, or by a suspension.
    Lapsed,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Opened, Self::Claimed, Self::Rejected, Self::Withdrawn, Self::Expired, Self::Lapsed];

    /// As configuration and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Claimed => "claimed",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Lapsed => "lapsed",
        }
    }
}

/// What is told: names and ids of the folder and the forge, nothing about a person.
#[derive(Clone, Debug)]
struct Notice {
    event: Event,
    /// The public id.
    ceremony: String,
    /// Where people see it.
    claim_uri: String,
    role: String,
    mapping: String,
    team: String,
    issuer: String,
    /// The job's repository by name, and by its immutable id.
    repository: String,
    repository_id: String,
    expires: UnixSeconds,
}

/// All receivers.
pub struct Webhooks {
    public_url: String,
    receivers: Vec<Receiver>,
    stopping: watch::Sender<bool>,
    started: Instant,
    /// By issuer and immutable id.
    repositories: Rate<(String, String)>,
}

struct Receiver {
    settings: Settings,
    queue: mpsc::Sender<Arc<Notice>>,
    /// `None` once it was waited for.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Webhooks {
    /// Starts a task for each receiver. Links lead to pages below `public_url`.
    pub fn start(
        all: &[Settings],
        public_url: &str,
        client: &Client,
        clock: &Arc<dyn Clock>,
        series: &WebhookSeries,
    ) -> Self {
        Self::with(all, public_url, client, (clock, series), PAUSES)
    }

    fn with(
        all: &[Settings],
        public_url: &str,
        client: &Client,
        (clock, series): (&Arc<dyn Clock>, &WebhookSeries),
        pauses: [Duration; PAUSES.len()],
    ) -> Self {
        let stopping = watch::channel(false).0;
        let one = |settings: &Settings| {
            let (queue, waiting) = mpsc::channel(WAITING_MAX);
            series.begin(&settings.name);
            let sender = Sender {
                settings: settings.clone(),
                client: client.clone(),
                clock: clock.clone(),
                series: series.clone(),
                pauses,
                stopping: stopping.subscribe(),
            };
            let task = Mutex::new(Some(tokio::spawn(sender.run(waiting))));
            Receiver { settings: settings.clone(), queue, task }
        };
        let receivers = all.iter().map(one).collect();
        let (started, repositories) = (Instant::now(), Rate::every(OF_REPOSITORY.0, OF_REPOSITORY.1, REPOSITORIES_MAX));
        Self { public_url: public_url.to_owned(), receivers, stopping, started, repositories }
    }

    /// Tells whoever wants to hear of it. Waits for nobody.
    pub fn tell(&self, event: Event, ceremony: CeremonyId, shown: &Shown, expires: UnixSeconds) {
        if self.receivers.is_empty() {
            return;
        }
        self.send(Notice {
            event,
            ceremony: ceremony.to_string(),
            claim_uri: format!("{}/claim/{ceremony}", self.public_url),
            role: shown.role.clone(),
            mapping: shown.mapping.clone(),
            team: shown.team.clone(),
            issuer: shown.principal.issuer.clone(),
            repository: shown.principal.name.clone(),
            repository_id: shown.principal.id.clone(),
            expires,
        });
    }

    fn send(&self, notice: Notice) {
        let of = (notice.issuer.clone(), notice.repository_id.clone());
        if self.repositories.take(of, self.started.elapsed()).is_err() {
            let Notice { event, ceremony, repository_id, .. } = &notice;
            let event = event.name();
            return tracing::warn!(
                event,
                ceremony,
                repository_id,
                "a message is dropped: too many about this repository"
            );
        }
        let notice = Arc::new(notice);
        for Receiver { settings, queue, .. } in &self.receivers {
            let of_team = settings.teams.is_empty() || settings.teams.contains(&notice.team);
            if of_team && settings.events.contains(&notice.event) && queue.try_send(notice.clone()).is_err() {
                tracing::warn!(webhook = settings.name, "a message is dropped: too many wait for this receiver");
            }
        }
    }

    /// Tries what waits once more, and no longer.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        for Receiver { task, .. } in &self.receivers {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // Its panics were printed.
                let _ = task.await;
            }
        }
    }
}

struct Sender {
    settings: Settings,
    client: Client,
    clock: Arc<dyn Clock>,
    series: WebhookSeries,
    pauses: [Duration; PAUSES.len()],
    stopping: watch::Receiver<bool>,
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Arc<Notice>>) {
        let mut stopping = self.stopping.clone();
        loop {
            let notice = tokio::select! {
                biased;
                notice = waiting.recv() => notice,
                _ = stopping.wait_for(|stop| *stop) => waiting.try_recv().ok(),
            };
            let Some(notice) = notice else { return };
            let sent = self.send(&notice).await;
            self.series.sent(&self.settings.name, sent);
        }
    }

    /// Whether it was taken in the end.
    async fn send(&mut self, notice: &Notice) -> bool {
        let name = self.settings.name.clone();
        for pause in self.pauses.map(Some).into_iter().chain([None]) {
            let why = match self.try_once(notice).await {
                Ok(()) => return true,
                Err(why) => why,
            };
            let pause = pause.filter(|_| !*self.stopping.borrow());
            let Some(pause) = pause else {
                tracing::warn!(webhook = name, ceremony = notice.ceremony, %why, "a message was not taken, and is dropped");
                return false;
            };
            tracing::info!(webhook = name, ceremony = notice.ceremony, %why, "a message was not taken; it is tried again");
            // An error means that nobody can stop it any more.
            let _ = tokio::time::timeout(pause, self.stopping.wait_for(|stop| *stop)).await;
        }
        false
    }

    /// The error repeats nothing of the address.
    async fn try_once(&self, notice: &Notice) -> Result<(), String> {
        let Settings { url, secret, format, ca_file, allow_private_network, .. } = &self.settings;
        // Read anew: what was replaced needs no restart.
        let url = match url {
            Url::Open(url) => Secret::new(url.clone()),
            Url::Kept(place) => text(place)?,
        };
        let now = self.clock.now();
        let body = format.write(notice, now);
        let id = format!("{}-{}", notice.ceremony, notice.event.name());
        let mut headers =
            vec![("webhook-id", Secret::new(id.clone())), ("webhook-timestamp", Secret::new(now.0.to_string()))];
        if let Some(place) = secret {
            headers.push(("webhook-signature", Secret::new(signature(&key(place)?, &id, now, &body))));
        }
        let headers: Vec<(&str, &Secret)> = headers.iter().map(|(name, value)| (*name, value)).collect();
        let rules = FetchRules {
            allow_private_network: *allow_private_network,
            allow_plain_loopback: *allow_private_network,
            ca_file: ca_file.as_deref(),
            bytes_max: ANSWER_BYTES_MAX,
            timeout: Duration::from_secs(SEND_SECONDS_MAX),
        };
        let body = Some(("application/json", body.as_bytes()));
        let call = Call { method: "POST", url: url.reveal(), headers: &headers, body };
        match self.client.call(&call, &rules).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status)),
            Err(error) => Err(error.why),
        }
    }
}

/// A URL as it stands in its place.
fn text(place: &Place) -> Result<Secret, String> {
    let told = |why: &str| format!("the URL in {place} {why}");
    let bytes = place.read(SECRET_BYTES_MAX).map_err(|why| told(&why))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| told("is not UTF-8"))?;
    Ok(Secret::new(text.trim_ascii().to_owned()))
}

/// The key of a Standard Webhooks secret.
fn key(place: &Place) -> Result<hmac::Key, String> {
    let told = |why: &str| format!("the secret in {place} {why}");
    let bytes = place.read(SECRET_BYTES_MAX).map_err(|why| told(&why))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| told("is not UTF-8"))?.trim_ascii();
    let decoded = BASE64_STANDARD.decode(text.strip_prefix(SECRET_PREFIX).unwrap_or(text));
    let decoded =
        zeroize::Zeroizing::new(decoded.map_err(|_| told("is not base64, with or without `whsec_` before it"))?);
    if !SECRET_BYTES.contains(&decoded.len()) {
        let text =
            format!("has {} bytes; {} to {} are asked for", decoded.len(), SECRET_BYTES.start(), SECRET_BYTES.end());
        return Err(told(&text));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &decoded))
}

/// Standard Webhooks, "Signature scheme": over id, time and body.
fn signature(key: &hmac::Key, id: &str, now: UnixSeconds, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{}.{body}", now.0).as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

#[cfg(test)]
mod tests;
