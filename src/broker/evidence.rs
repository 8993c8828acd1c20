//! What cannot be rewritten: beside exchanges the tree over the records grows, is signed, and the newest signed checkpoint
//! is written to a file that can live elsewhere than the store. A store that lacks what was signed is not served.

use super::{Broker, CheckpointHealth, EvidenceHealth, StartError};
use crate::{
    config::Config,
    keys::checkpoint::{self, CheckpointKey},
    store::{self, Down, Reader, TreeRows, Watch, tree},
    telemetry::EvidenceSample,
};
use claimbound_core::{
    evidence::{Checkpoint, VerifierKey, checkpoint::origin, tree as proofs},
    time::UnixSeconds,
};
use std::{
    fs,
    io::ErrorKind,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How often the tree is grown and signed: so much of the evidence, at most, is covered by no checkpoint.
pub(super) const SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// Of several brokers over one store whoever finds the newest checkpoint of this age signs the next one.
const CHECKPOINT_SECONDS: i64 = 4;
const _: () = assert!(CHECKPOINT_SECONDS < SIGN_INTERVAL.as_secs() as i64, "a broker alone signs at each look");

/// A signed checkpoint, read.
#[derive(Clone, Debug)]
pub struct Witness {
    pub checkpoint: Checkpoint,
    note: String,
}

/// The store lacks what was signed, or holds something else.
#[derive(Clone, Debug)]
pub struct Behind {
    pub why: String,
    /// Where it stays so until the store's newest epoch is another than this.
    epoch: Option<u128>,
}

/// The broker's own part.
pub(super) struct Evidence {
    key: CheckpointKey,
    file: PathBuf,
    state: Mutex<State>,
    behind: watch::Sender<Option<Behind>>,
}

#[derive(Default)]
struct State {
    signed: Option<Witness>,
    error: Option<String>,
}

/// What one look at the store came to.
enum Look {
    Behind(Behind),
    /// Nodes to keep before anything is signed.
    Nodes(tree::Growth),
    /// Somebody else's checkpoint, newer than ours.
    Newer(Witness),
    /// To be signed.
    Due(Checkpoint),
    Nothing,
}

/// The newest checkpoint that was written beside the signing keys, or where the configuration says.
///
/// # Errors
/// There is one, and it cannot be read, or is not signed by the key beside the signing keys.
pub fn witness(config: &Config) -> Result<Option<Witness>, StartError> {
    let (file, public) = (&config.evidence.checkpoint_file, config.signing.keys.join(checkpoint::PUBLIC));
    let fail = |why: String| {
        let (file, keys) = (file.display(), config.signing.keys.display());
        StartError::Other(format!(
            "the checkpoint `{file}` {why}; put back the signing keys (`{keys}`) that belong to it, or move it away to \
             give up what it proves"
        ))
    };
    let note = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        note => note.map_err(|error| fail(format!("cannot be read: {error}")))?,
    };
    let key = fs::read_to_string(&public).map_err(|error| fail(format!("needs `{}`: {error}", public.display())))?;
    let key = VerifierKey::parse(&key).map_err(|error| fail(format!("needs `{}`: {error}", public.display())))?;
    let checkpoint = Checkpoint::open(&note, &[key]).map_err(|error| fail(format!("does not hold: {error}")))?;
    Ok(Some(Witness { checkpoint, note }))
}

/// Whether the store lacks what the checkpoint beside the signing keys was signed over. Brings the store to the newest
/// version, and writes nothing else.
///
/// # Errors
/// Store or checkpoint cannot be read.
pub fn standing(config: &Config, now: UnixSeconds) -> Result<Option<Behind>, StartError> {
    let Some(Witness { checkpoint, .. }) = witness(config)? else { return Ok(None) };
    store::migrate(&config.store, now)?;
    let reader = store::open_reader(&config.store)?;
    Ok(tree::behind(&*reader, &checkpoint)?.map(|why| Behind { why, epoch: None }))
}

/// Whether a store that was behind has been adopted, or put in order, meanwhile.
///
/// # Errors
/// Store or checkpoint cannot be read.
pub fn is_adopted(config: &Config, behind: &Behind) -> Result<bool, StartError> {
    let reader = store::open_reader(&config.store)?;
    match (behind.epoch, witness(config)?) {
        (Some(epoch), _) => Ok(reader.epochs()?.last().is_some_and(|newest| newest.id != epoch)),
        (None, Some(witness)) => Ok(tree::behind(&*reader, &witness.checkpoint)?.is_none()),
        (None, None) => Ok(true),
    }
}

impl Behind {
    /// Why, and what to do about it.
    pub fn told(&self) -> String {
        format!(
            "{}; nothing is served before `claimbound store adopt`, which docs/operations.md explains, or before the right \
             store is back",
            self.why
        )
    }
}

impl Evidence {
    /// Reads the key, making it at the first start, and the last checkpoint.
    pub(super) fn open(config: &Config, watch: &Watch) -> Result<Self, StartError> {
        let signed = witness(config)?;
        let key = CheckpointKey::open(&config.signing.keys, &origin(&config.issuer_url), config.signing.seal.as_ref())?;
        if let Some(signed) = &signed {
            watch.expect(&signed.checkpoint);
        }
        let state = Mutex::new(State { signed, error: None });
        Ok(Self { key, file: config.evidence.checkpoint_file.clone(), state, behind: watch::channel(None).0 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> Option<String> {
        self.evidence.state().signed.as_ref().map(|signed| signed.note.clone())
    }

    /// What verifies checkpoints.
    pub fn checkpoint_key(&self) -> String {
        self.evidence.key.verifier().to_string()
    }

    /// Resolves when the store is found behind what was signed, or written by this broker.
    pub fn behind(&self) -> impl Future<Output = Behind> + Send + use<> {
        let mut behind = self.evidence.behind.subscribe();
        async move {
            let found = behind.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            match found {
                Some(behind) => behind,
                // The broker is gone.
                None => std::future::pending().await,
            }
        }
    }

    /// For metrics.
    pub(super) fn evidence_sample(&self) -> EvidenceSample {
        let signed = self.signed_checkpoint();
        EvidenceSample {
            size: signed.as_ref().map_or(0, |signed| signed.size),
            at: signed.map_or(0, |signed| signed.at.0),
        }
    }

    fn signed_checkpoint(&self) -> Option<Checkpoint> {
        self.evidence.state().signed.as_ref().map(|signed| signed.checkpoint.clone())
    }

    pub(super) fn evidence_health(&self) -> EvidenceHealth {
        let (signed, error) = (self.signed_checkpoint(), self.evidence.state().error.clone());
        EvidenceHealth {
            unproven: self.reader.count_after(signed.as_ref().map_or(0, |signed| signed.last.0)).ok(),
            checkpoint: signed.map(|Checkpoint { epoch, size, at, .. }| CheckpointHealth { epoch, size, at: at.0 }),
            error,
            behind: self.evidence.behind.borrow().as_ref().map(Behind::told),
        }
    }

    /// Grows the tree and signs it, if that is due or `now_or_never`.
    pub(super) async fn sign_evidence(&self, now_or_never: bool) {
        let outcome = self.signed(now_or_never).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the evidence could not be signed: its newest records are covered by no checkpoint");
        }
        self.evidence.state().error = outcome.err().map(|down| down.why);
    }

    async fn signed(&self, now_or_never: bool) -> Result<(), Down> {
        let verifier = self.evidence.key.verifier().clone();
        loop {
            let known = self.signed_checkpoint();
            let (now, verifier, watch) = (self.clock.now(), verifier.clone(), self.watch.clone());
            let looking = move |reader: &dyn Reader| look(reader, &watch, known.as_ref(), &verifier, now, now_or_never);
            match self.read(looking).await? {
                Look::Nothing => return Ok(()),
                Look::Behind(behind) => {
                    tracing::error!(why = behind.why, "the store is behind what was signed: nothing more is served");
                    self.evidence.behind.send_replace(Some(behind));
                    return Ok(());
                }
                Look::Nodes(growth) => {
                    self.writer.keep_tree(TreeRows { nodes: growth.nodes, checkpoint: None }).await?;
                }
                Look::Newer(witness) => self.took(witness).await?,
                Look::Due(checkpoint) => {
                    let note = self.evidence.key.note(&checkpoint.text());
                    let row = (checkpoint.epoch, checkpoint.size, note.clone());
                    self.writer.keep_tree(TreeRows { nodes: vec![], checkpoint: Some(row) }).await?;
                    self.copy(&checkpoint, &note);
                    return self.took(Witness { checkpoint, note }).await;
                }
            }
        }
    }

    /// Whoever gets copies of the records gets what they can be held against.
    fn copy(&self, checkpoint: &Checkpoint, note: &str) {
        let Checkpoint { epoch, size, at, .. } = *checkpoint;
        let mut line = serde_json::Map::new();
        line.insert("type".to_owned(), "checkpoint".into());
        line.insert("epoch".to_owned(), epoch.into());
        line.insert("size".to_owned(), size.into());
        line.insert("at".to_owned(), at.0.into());
        line.insert("note".to_owned(), note.into());
        self.sinks.note(&line);
    }

    /// A checkpoint is the newest one from now on: in memory, for the store's connections, and in the file.
    async fn took(&self, witness: Witness) -> Result<(), Down> {
        self.watch.expect(&witness.checkpoint);
        let (file, note) = (self.evidence.file.clone(), witness.note.clone());
        self.evidence.state().signed = Some(witness);
        let written = tokio::task::spawn_blocking(move || {
            let told = |error| Down::new(format!("the checkpoint `{}` cannot be written: {error}", file.display()));
            checkpoint::replace(&file, note.as_bytes()).map_err(told)
        });
        written.await.unwrap_or_else(|_| Err(Down::new("writing the checkpoint panicked")))
    }
}

/// Reads what there is to do.
fn look(
    reader: &dyn Reader,
    watch: &Arc<Watch>,
    known: Option<&Checkpoint>,
    verifier: &VerifierKey,
    now: UnixSeconds,
    now_or_never: bool,
) -> Result<Look, Down> {
    if let Some(why) = watch.behind() {
        return Ok(Look::Behind(Behind { why, epoch: known.map(|known| known.store) }));
    }
    let upto = reader.settled()?;
    if let Some(known) = known
        && let Some(why) = tree::lost(reader, known)?
    {
        return Ok(Look::Behind(Behind { why, epoch: None }));
    }
    let epoch = *reader.epochs()?.last().ok_or_else(|| Down::new("the store names no epoch"))?;
    let known = known.filter(|known| known.store == epoch.id);
    let kept = reader.checkpoint()?.map(|note| (Checkpoint::open(&note, &[]), note));
    let kept = match kept {
        Some((Ok(kept), note)) if kept.store == epoch.id => {
            Checkpoint::open(&note, std::slice::from_ref(verifier)).map_err(|error| {
                Down::new(format!(
                    "the store's newest checkpoint {error}: give all brokers the same `checkpoint.key` beside their \
                     signing keys"
                ))
            })?;
            Some(Witness { checkpoint: kept, note })
        }
        _ => None,
    };
    let follows = |size: u64, root: &proofs::Hash| -> Result<bool, Down> {
        let Some(known) = known else { return Ok(true) };
        let proof = tree::proof(reader, proofs::consistency(known.size, size))?;
        Ok(proofs::consistent((known.size, &known.root), (size, root), &proof))
    };
    let rewritten = || {
        let why = "its records are not those that the last checkpoint was signed over: they were rewritten".to_owned();
        Ok(Look::Behind(Behind { why, epoch: None }))
    };
    let newest = kept.as_ref().map(|kept| kept.checkpoint.size).max(known.map(|known| known.size));
    if let Some(kept) = kept {
        let Checkpoint { size, ref root, at, .. } = kept.checkpoint;
        if known.is_none_or(|known| known.size < size) {
            return if follows(size, root)? { Ok(Look::Newer(kept)) } else { rewritten() };
        }
        // One of the future was signed by a clock that ran ahead: it holds up nobody.
        if !now_or_never && (now.0 - at.0).abs() < CHECKPOINT_SECONDS {
            return Ok(Look::Nothing);
        }
    }
    let growth = tree::grow(reader, upto)?;
    if growth.more || !growth.nodes.is_empty() {
        return Ok(Look::Nodes(growth));
    }
    match growth.stand {
        Some(stand) if newest.is_none_or(|newest| newest < stand.size) => {
            if !follows(stand.size, &stand.root)? {
                return rewritten();
            }
            let (size, root, last) = (stand.size, stand.root, stand.last);
            let origin = verifier.name().to_owned();
            Ok(Look::Due(Checkpoint { origin, size, root, epoch: epoch.number, store: epoch.id, at: now, last }))
        }
        _ => Ok(Look::Nothing),
    }
}
