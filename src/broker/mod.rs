//! Composition root: builds and owns what the exchange needs; background tasks; orderly stop.
//! Its public methods are the only face that `http` and `cli` see.

mod adopt;
mod claims;
mod clock;
mod evidence;
mod families;
mod finish;
mod health;
mod identity;
mod introspect;
mod jobs;
mod links;
mod operate;
mod operators;
mod prepare;
mod reload;
pub mod retention;
mod sign_ins;
mod signing;
mod statuslists;
mod tasks;
mod visitors;

pub use crate::ceremony::{Before, Review, Taken};
pub use adopt::{Adopted, Grounds, Line, adopt};
pub use claims::{Listed, NotTaken};
pub use clock::SystemClock;
pub use evidence::{Behind, Witness, is_adopted, standing, witness};
pub use health::{
    CheckpointHealth, EvidenceHealth, Health, IgnoredKey, IssuerHealth, KeyHealth, MappingsHealth, SigningHealth,
    StoreHealth,
};
pub use identity::CallerIdentity;
pub use links::{Link, Linkable};
pub use operators::{NoOperator, Question, SignInFailed, SignedIn, Who};
pub use prepare::{Prepared, StartError, deniers, deployment, prepare, trusted};
pub use signing::{KeysError, made_fact};
pub use statuslists::{StatusList, TTL_SECONDS};
pub use visitors::{Came, Door, Visitor, Weak};

use crate::{
    ceremony::{Desk, Through},
    config::Config,
    exchange::{self, Granted, Parts, Polls, Proof, Refused, Repositories, Request, Snapshot, Strangers, StsAsk},
    folder,
    issuance::{
        Ended as Effect,
        aws::denial::Denier,
        own::{HANDOFF_TYP, OwnTokens, TYP},
        status::StatusLists,
    },
    keys::{
        issuers::{KeyCache, KeyTimes},
        signing::Signer,
    },
    net::Client,
    operate::Targets as _,
    people::People,
    secret::Secret,
    sinks::{Sinks, Source},
    store::{self, Blocked, Change, Commit, Down, Guard, HeldLease, Opened, Outcome, Reader, Watch, Writer},
    telemetry::{self, About, Caller, Ended, Metrics, StoreSample},
    webhooks::{Event, Webhooks},
};
use arc_swap::ArcSwap;
use claimbound_core::{
    evidence::{DecisionId, Details, Record, What},
    mapping::{Ask, Folder},
    reason::Reason,
    time::{Clock, Seconds, UnixSeconds},
};
use evidence::Evidence;
use finish::Finish;
use introspect::Clients;
use reload::Reload;
use std::{collections::BTreeMap, future::Future, net::IpAddr, sync::Arc, time::Instant};
use tokio::{
    runtime::Handle,
    sync::{Mutex, RwLock, watch},
};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

/// One exchange as the form gave it, owned: it outlives the connection that asked.
pub struct Asked {
    pub grant: AskedGrant,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub duration: Option<Seconds>,
    pub dry_run: bool,
    /// SHA-256 over all parameters as sent (length-prefixed, in name order).
    pub digest: [u8; 32],
    pub address: Option<IpAddr>,
    /// A trace that it is part of, by the word of a trusted proxy.
    pub caller: Option<Caller>,
    /// What it says beside, in the words of AWS STS.
    pub sts: Option<Box<StsAsk>>,
}

/// Which door. Tokens are wiped when dropped and do not print.
pub enum AskedGrant {
    Tokens {
        subject: Secret,
        actor: Option<Secret>,
    },
    /// A job asks for a handoff, for whoever this is.
    Promise {
        subject: Secret,
        may_act_iss: String,
        may_act_sub: String,
    },
    Handoff {
        token: Secret,
        actor: Secret,
    },
    Poll {
        auth_req_id: Secret,
        subject: Option<Secret>,
        actor: Option<Secret>,
    },
    Refresh {
        token: Secret,
        subject: Secret,
    },
}

/// The answer to an exchange, with what every answer names.
pub struct Answer {
    pub id: DecisionId,
    /// When it was judged.
    pub at: UnixSeconds,
    /// Hex.
    pub mappings_version: String,
    pub outcome: Result<Granted, Refused>,
}

/// What `/revoke` did: RFC 7009 answers 200 either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revoked {
    Ended,
    Unknown,
}

/// What judges now: built whole, swapped whole, read once per exchange.
pub struct Active {
    /// The running configuration, with the present facts about issuers and backends.
    config: Config,
    pub snapshot: Snapshot,
    /// Whose jobs may act as operators.
    jobs: jobs::OperatorJobs,
    /// By the name of the backend.
    deniers: BTreeMap<String, Arc<Denier>>,
    /// Of the mapping folder; hex.
    version: String,
}

/// The running broker.
pub struct Broker {
    config: Config,
    clock: Arc<dyn Clock>,
    active: ArcSwap<Active>,
    reload: Reload,
    issuers: Arc<KeyCache>,
    signer: Arc<Signer>,
    /// Its tokens, when they come back.
    own: OwnTokens,
    /// How far the ring agrees with the store, and what is published with both.
    trust: std::sync::Mutex<signing::Trust>,
    /// Held while keys change and until that is on record, in the name of whoever changed them.
    changing_keys: tokio::sync::Mutex<()>,
    published: Option<signing::Published>,
    /// What was last counted in the store.
    census: std::sync::Mutex<StoreSample>,
    /// Where the tokens of `jwt` roles have their places, and what is known of those of all brokers.
    places: Arc<StatusLists>,
    lists: statuslists::Lists,
    clients: Clients,
    writer: Writer,
    reader: Arc<dyn Reader>,
    sinks: Sinks,
    webhooks: Arc<Webhooks>,
    /// Other brokers may write the store, too.
    shared_store: bool,
    /// What the store must hold when it comes back.
    watch: Arc<Watch>,
    evidence: Evidence,
    strangers: Strangers,
    repositories: Repositories,
    polls: Polls,
    people: People,
    questions: operators::Questions,
    metrics: Metrics,
    /// Every exchange holds it for reading while it runs: who may write knows that none does.
    running: Arc<RwLock<()>>,
    stopping: watch::Sender<bool>,
    /// Whose timers and connections exchanges use, and where they go on when nobody waits: not on the HTTP workers'
    /// runtimes, which end with their last connection.
    runtime: Handle,
    background: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// How often a lease is tried to be ended where others exchange its token at once.
const TRIES_MAX: u32 = 5;
/// Fact of a store that never changes: which issuer its tokens name.
const ISSUER_URL: &str = "issuer_url";

impl Broker {
    /// Builds everything from a configuration that knows its public URL, and starts the background tasks.
    ///
    /// # Errors
    /// All findings of folder and configuration at once; or why keys or store cannot be opened.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StartError> {
        let now = clock.now();
        // Before anything is read: what changes while it is read shows later.
        let reload = Reload::new(&config, now);
        let prepared = prepare(&config)?;
        let clients = Clients::read(&config).map_err(StartError::Other)?;
        if let Some(behind) = standing(&config, now)? {
            return Err(StartError::Behind(behind));
        }
        let opened = store::open(&config.store, now)?;
        record_start(&opened.writer, &config, &prepared, now).await?;
        let signer = Signer::open(&config.signing.keys, config.signing.seal.clone(), now)?;
        let trust = signing::agree(&opened, &signer, now).await?;
        let evidence = Evidence::open(&config, &opened.watch)?;
        let Opened { writer, reader, shared, incarnation, watch } = opened;
        let client = Client::new().map_err(|error| StartError::Other(error.to_string()))?;
        let source = Source { reader: reader.clone(), writer: writer.clone(), incarnation, clock: clock.clone() };
        let sinks = Sinks::start(&config.evidence.sinks, &config.evidence.positions, &source, &client)
            .map_err(|error| StartError::Other(error.to_string()))?;
        let issuers = prepared.issuers.clone();
        let places = StatusLists::new(&config.public_url);
        let active = prepare::activate(config.clone(), prepared, &signer, &places).await?;
        let client = Client::new().map_err(|error| StartError::Other(error.to_string()))?;
        let (people, hooks) = (People::new(client.clone(), config.development), client.clone());
        let published = signing::Published::new(&config, client.clone());
        let issuers = KeyCache::new(issuers, client, clock.clone(), KeyTimes::default());
        let metrics = Metrics::new(&active.version, writer.series());
        let webhooks = Webhooks::start(&config.webhooks, &config.public_url, &hooks, &clock, metrics.webhooks()).into();
        let broker = Arc::new(Self {
            webhooks,
            trust: trust.into(),
            changing_keys: tokio::sync::Mutex::default(),
            published,
            census: std::sync::Mutex::default(),
            metrics,
            repositories: Repositories::new(config.limits.repository_requests_per_second),
            own: OwnTokens::new(&config.public_url, &config.issuer_url, &signer, config.exchange.own_tokens),
            config,
            clock,
            active: ArcSwap::from_pointee(active),
            reload,
            issuers,
            signer,
            places,
            lists: statuslists::Lists::default(),
            clients,
            writer,
            reader,
            sinks,
            people,
            questions: operators::Questions::default(),
            shared_store: shared,
            watch,
            evidence,
            strangers: Strangers::default(),
            polls: Polls::default(),
            running: Arc::default(),
            stopping: watch::channel(false).0,
            runtime: Handle::current(),
            background: Mutex::default(),
        });
        broker.look_at_published().await;
        *broker.background.lock().await = tasks::spawn(&broker).await;
        Ok(broker)
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its source of time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What it judges by.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Copies of its records.
    pub fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    /// Reads of its store.
    pub fn reader(&self) -> &Arc<dyn Reader> {
        &self.reader
    }

    /// Asks the store where waiting for it holds up nobody else.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Reader) -> Result<T, Down> + Send + 'static,
    ) -> Result<T, Down> {
        let reader = self.reader.clone();
        match self.runtime.spawn_blocking(move || ask(&*reader)).await {
            Ok(answer) => answer,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Runs one exchange to its end, also when the caller is gone: the work is a task of its own, or a connection
    /// that drops during minting would leave a live credential without an outcome.
    pub async fn exchange(self: &Arc<Self>, asked: Asked) -> Answer {
        let broker = self.clone();
        self.finish(|| async move { broker.exchange_here(&asked).await }).await
    }

    /// Does it to its end, also when whoever asked hangs up; a stop waits for it.
    fn finish<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Finish<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
    {
        let running = self.running.clone();
        // Begun in its place: a future that is handed over is copied, and has room for itself twice.
        Finish::new(self.runtime.clone(), async move {
            let _running = running.read_owned().await;
            work().await
        })
    }

    async fn exchange_here(&self, asked: &Asked) -> Answer {
        let started = Instant::now();
        let id = DecisionId(Uuid::now_v7().as_u128());
        let now = self.clock.now();
        let request = Request {
            id,
            proof: match &asked.grant {
                AskedGrant::Tokens { subject, actor } => {
                    Proof::Tokens { subject: subject.reveal(), actor: actor.as_ref().map(Secret::reveal) }
                }
                AskedGrant::Promise { subject, may_act_iss, may_act_sub } => {
                    Proof::Promise { subject: subject.reveal(), may_act: (may_act_iss, may_act_sub) }
                }
                AskedGrant::Handoff { token, actor } => Proof::Handoff { token: token.reveal(), actor: actor.reveal() },
                AskedGrant::Poll { auth_req_id, subject, actor } => Proof::Poll {
                    auth_req_id: auth_req_id.reveal(),
                    subject: subject.as_ref().map(Secret::reveal),
                    actor: actor.as_ref().map(Secret::reveal),
                },
                AskedGrant::Refresh { token, subject } => {
                    Proof::Refresh { token: token.reveal(), subject: subject.reveal() }
                }
            },
            ask: Ask { role: asked.role.as_deref(), duration: asked.duration, scope: asked.scope.as_deref() },
            dry_run: asked.dry_run,
            digest: asked.digest,
            address: asked.address,
            sts: asked.sts.as_deref(),
        };
        let active = self.active();
        let parts = self.parts(&active.snapshot, now);
        let span = telemetry::exchange(&id, asked.caller.as_ref());
        let (outcome, about) = exchange::run(&parts, &request).instrument(span.clone()).await;
        if let Err(Refused { waits: Some(waits), .. }) = &outcome
            && let Some(opened) = &waits.opened
        {
            let desk = self.desk();
            if let Some((ceremony, shown, until)) = &opened.instead_of {
                desk.happened(Event::Withdrawn, *ceremony, shown, *until);
            }
            desk.happened(Event::Opened, waits.ceremony, &opened.shown, opened.until);
        }
        let ended = match &outcome {
            Ok(Granted::Issued(_)) => Ended::Granted,
            Ok(Granted::DryRun { .. }) => Ended::DryRun,
            Err(refused) => Ended::Refused(refused.reason),
        };
        describe(&span, ended, &about);
        drop(span);
        self.metrics.exchange(ended, about, started.elapsed());
        Answer { id, at: now, mappings_version: active.version.clone(), outcome }
    }

    fn parts<'b>(&'b self, snapshot: &'b Snapshot, now: UnixSeconds) -> Parts<'b> {
        Parts {
            snapshot,
            issuers: &*self.issuers,
            own: &self.own,
            writer: &self.writer,
            reader: &self.reader,
            strangers: &self.strangers,
            repositories: &self.repositories,
            polls: &self.polls,
            now,
        }
    }

    /// Ends the lease of the presented credential (RFC 7009): possession of a token that we signed, or of a lease
    /// handle, is the right to. A refresh token ends its family and all its leases (section 2.1).
    ///
    /// # Errors
    /// The store cannot record it.
    pub async fn revoke(self: &Arc<Self>, token: Secret) -> Result<Revoked, Down> {
        let broker = self.clone();
        self.finish(|| async move { broker.revoke_here(&token).await }).await
    }

    async fn revoke_here(&self, token: &Secret) -> Result<Revoked, Down> {
        let now = self.clock.now();
        if let Some(secret) = exchange::family_secret(token.reveal()) {
            return self.revoke_family(secret, now).await;
        }
        if self.desk().withdraw(token, now).await? {
            return Ok(Revoked::Ended);
        }
        let Some(held) = self.held(token, now).await? else { return Ok(Revoked::Unknown) };
        let lease = held.id;
        let own = self.effect_of_ending(&held.role, held.handle.as_deref(), held.handoff).await;
        for _ in 0..TRIES_MAX {
            // What came of it ends with it; all of them together can promise what the weakest does.
            let children = self.read(move |reader| reader.children(lease)).await?;
            let mut effect = own;
            for child in children.iter().filter(|child| child.expires > now) {
                effect = effect.max(self.effect_of_ending(&child.role, child.handle.as_deref(), child.handoff).await);
            }
            let children = u32::try_from(children.len()).unwrap_or(u32::MAX);
            let record = Record {
                decision: None,
                at: now,
                what: What::Ended { lease, how: "revoked", effect: effect.name(), children },
                principal: None,
                actor: None,
                mappings_version: None,
            };
            let entry = record.seal(&Details::default(), exchange::salt());
            let (guards, changes) = (vec![Guard::LeaseAlive(lease)], vec![Change::End { lease, children }]);
            match self.writer.commit(Commit { guards, changes, entry: Some(entry) }).await? {
                Outcome::Durable { .. } => {
                    self.metrics.revoked();
                    return Ok(Revoked::Ended);
                }
                Outcome::Blocked(Blocked::Moved) => {}
                Outcome::Blocked(_) => return Ok(Revoked::Unknown),
            }
        }
        Err(Down::new("others exchange tokens of this lease all the time; try again"))
    }

    /// The lease that a presented secret ends: of a token that we signed, or of a lease handle.
    async fn held(&self, token: &Secret, now: UnixSeconds) -> Result<Option<HeldLease>, Down> {
        let signed = [TYP, HANDOFF_TYP].into_iter().find_map(|typ| self.signer.verify(typ, token.reveal(), now));
        if let Some(claims) = signed {
            let text = |name: &str| claims.get(name).and_then(|value| value.as_str());
            let Some(lease) = text("lease_id").and_then(|lease| lease.parse().ok()) else { return Ok(None) };
            // Whoever holds another token that names the lease, as a cloud holds our assertion, does not hold the lease.
            let found = self.read(move |reader| reader.lease(lease)).await?;
            return Ok(found.filter(|lease| lease.handle.is_some() && lease.handle.as_deref() == text("jti")));
        }
        if !exchange::is_lease_handle(token.reveal()) {
            return Ok(None);
        }
        let possession = exchange::possession(token.reveal().as_bytes());
        let found = self.read(move |reader| reader.held(&possession)).await?;
        Ok(found.filter(|lease| lease.expires > now))
    }

    /// How far the role's backend can end what it gave; a role that is gone can only be waited out.
    /// A handoff is good with us alone.
    async fn effect_of_ending(&self, role: &str, handle: Option<&str>, handoff: bool) -> Effect {
        if handoff { Effect::DeadNow } else { self.active().end(role, handle.unwrap_or_default()).await }
    }

    /// Where people claim what waits for them.
    pub fn desk(&self) -> Desk {
        Desk {
            reader: self.reader.clone(),
            writer: self.writer.clone(),
            webhooks: self.webhooks.clone(),
            series: self.metrics.ceremonies().clone(),
            through: Through::Page,
        }
    }

    /// Our published keys.
    pub fn jwks(&self) -> serde_json::Value {
        self.signer.jwks(self.clock.now())
    }

    /// A request was refused before its token was read (413, 415, 429, …): counted only.
    pub fn count_turned_away(&self, status: u16) {
        self.metrics.turned_away(status);
    }

    /// Fails readiness, waits for what runs, writes what waits, closes the store.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        drop(self.running.write().await);
        for task in self.background.lock().await.drain(..) {
            let _ = task.await;
        }
        // Exchanges whose callers hung up may have been refused after the background task's last look.
        self.strangers.flush(&self.writer, self.clock.now(), true).await;
        self.sign_evidence(true).await;
        self.writer.stop().await;
        self.sinks.stop().await;
        self.webhooks.stop().await;
    }
}

/// The same as metrics' labels say.
fn describe(span: &Span, ended: Ended, about: &About) {
    if span.is_disabled() {
        return;
    }
    for (name, value) in [("issuer", &about.issuer), ("mapping", &about.mapping), ("role", &about.role)] {
        if let Some(value) = value {
            span.record(name, value.as_str());
        }
    }
    let (outcome, reason) = ended.names();
    span.record("outcome", outcome).record("reason", reason);
    if let Ended::Refused(Reason::StoreDown | Reason::BackendDown | Reason::IssuerDown) = ended {
        span.record("otel.status_code", "error");
    }
}

/// The first records of this process: which broker, which folder; the folder itself is kept by its hash.
async fn record_start(
    writer: &Writer,
    config: &Config,
    prepared: &Prepared,
    now: UnixSeconds,
) -> Result<(), StartError> {
    let version = prepared.mappings.version;
    let fix = Change::Fix { name: ISSUER_URL.into(), value: config.issuer_url.clone() };
    let started = of_folder(What::Started { version: env!("CARGO_PKG_VERSION") }, vec![fix], version, now);
    if writer.commit(started).await? == Outcome::Blocked(Blocked::FixedOtherwise) {
        return Err(StartError::Other(format!(
            "this store signs as another issuer than `{}`; an issuer name is fixed at first start: put `issuer_url` \
             back, or start with an empty store and new signing keys",
            config.issuer_url
        )));
    }
    let activation = activation(version, prepared.archive.clone(), config, now).map_err(StartError::Other)?;
    writer.commit(activation).await?;
    Ok(())
}

/// The one file of a kept configuration.
const CONFIGURATION_FILE: &str = "claimbound.json";

/// A folder becomes the one that judges; it and the effective configuration are kept by their versions.
///
/// # Errors
/// A path in the configuration is no text.
fn activation(version: [u8; 32], archive: Vec<u8>, config: &Config, now: UnixSeconds) -> Result<Commit, String> {
    let effective = serde_json::to_vec(config)
        .map_err(|error| format!("evidence cannot keep the configuration: {error}; use paths in UTF-8"))?;
    let effective = Folder { files: [(CONFIGURATION_FILE.to_owned(), effective)].into() };
    let configuration = effective.version();
    let kept = vec![
        Change::KeepFolder { version, archive },
        Change::KeepFolder { version: configuration, archive: folder::archive(&effective) },
    ];
    Ok(of_folder(What::MappingsActivated { version, configuration }, kept, version, now))
}

fn of_folder(what: What<'_>, changes: Vec<Change>, version: [u8; 32], now: UnixSeconds) -> Commit {
    let record =
        Record { decision: None, at: now, what, principal: None, actor: None, mappings_version: Some(version) };
    Commit { guards: vec![], changes, entry: Some(record.seal(&Details::default(), exchange::salt())) }
}
