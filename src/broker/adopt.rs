//! A store that has lost records is accepted as it is: what later evidence still tells is applied again, another epoch
//! begins, and tokens issued before it are refused, because nobody knows which of them were spent.

use super::{StartError, evidence::witness};
use crate::{
    config::Config,
    exchange,
    operators::Operator,
    store::{self, Change, Commit, Epoch, Guard, Outcome, Writer, tree},
};
use claimbound_core::{
    evidence::{Body, Checkpoint, Details, LeaseId, Record, What, record::leaf, tree::Tree},
    time::UnixSeconds,
};
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

/// A line of an export beyond this is none.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why an operator accepts the loss.
#[derive(Clone, Debug)]
pub enum Grounds {
    /// An export of the lost store (`audit export --all`): what it tells is applied again.
    Evidence(PathBuf),
    /// There is none, and the operator says why the store is taken all the same.
    AcceptedLoss { reason: String },
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adopted {
    pub epoch: u64,
    /// Records that the checkpoint covers and the store has not, where there was a checkpoint.
    pub lost: Option<u64>,
    /// Leases that were ended again.
    pub ended: u64,
}

/// One record of an export of everything (`audit export --all`): a line of JSON.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
pub struct Line {
    pub position: i64,
    pub incarnation: String,
    pub sequence: u64,
    pub link: String,
    pub body: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// What a later record changed and a store that lacks it must be told again.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Later {
    Ended { lease: LeaseId, how: String, effect: String },
}

/// The one place where it is decided which kinds of records are applied again.
fn later(body: &Body<'_>) -> Option<Later> {
    match (body.kind.as_ref(), body.lease) {
        ("ended", Some(lease)) => Some(Later::Ended {
            lease,
            how: body.how.clone().unwrap_or_default().into_owned(),
            effect: body.effect.clone().unwrap_or_default().into_owned(),
        }),
        _ => None,
    }
}

impl Later {
    /// Whether it was not so in the store already.
    async fn apply(&self, writer: &Writer, now: UnixSeconds) -> Result<bool, StartError> {
        let Self::Ended { lease, how, effect } = self;
        let what = What::Ended { lease: *lease, how, effect };
        let record = Record { decision: None, at: now, what, principal: None, actor: None, mappings_version: None };
        let entry = Some(record.seal(&Details::default(), exchange::salt()));
        let (guards, changes) = (vec![Guard::LeaseAlive(*lease)], vec![Change::End(*lease)]);
        // Blocked: the store does not know the lease, or it is over.
        Ok(matches!(writer.commit(Commit { guards, changes, entry }).await?, Outcome::Durable { .. }))
    }
}

/// Adopts the configured store in an operator's name.
///
/// # Errors
/// The store holds all that its checkpoint covers; the evidence is not that of the checkpoint; store, checkpoint or
/// evidence cannot be read; the store cannot be written, as while a broker holds its file.
pub async fn adopt(
    config: &Config,
    operator: &Operator,
    grounds: &Grounds,
    now: UnixSeconds,
) -> Result<Adopted, StartError> {
    let checkpoint = witness(config)?.map(|witness| witness.checkpoint);
    store::migrate(&config.store, now)?;
    let reader = store::open_reader(&config.store)?;
    let lost = match &checkpoint {
        None => None,
        Some(checkpoint) if tree::behind(&*reader, checkpoint)?.is_none() => {
            return Err(StartError::Other(format!(
                "the store holds all that the checkpoint `{}` covers: there is nothing to adopt",
                config.checkpoint_file.display()
            )));
        }
        Some(checkpoint) => Some(checkpoint.size.saturating_sub(reader.count_after(0)?)),
    };
    let known = match grounds {
        Grounds::Evidence(file) => read(file, checkpoint.as_ref())?,
        Grounds::AcceptedLoss { .. } => Vec::new(),
    };
    let newest = *reader.epochs()?.last().ok_or_else(|| StartError::Other("the store names no epoch".to_owned()))?;
    let opened = store::open(&config.store, now)?;
    let done = async {
        let mut ended = 0;
        for later in &known {
            ended += u64::from(later.apply(&opened.writer, now).await?);
        }
        let epoch = Epoch {
            number: newest.number.max(checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.epoch)) + 1,
            id: u128::from_be_bytes(*exchange::salt().first_chunk().expect("32 bytes begin with 16")),
            began: now,
            instead_of: checkpoint.as_ref().map(|checkpoint| checkpoint.store),
        };
        begin(&opened.writer, operator, grounds, epoch, lost, now).await?;
        Ok(Adopted { epoch: epoch.number, lost, ended })
    }
    .await;
    opened.writer.stop().await;
    done
}

async fn begin(
    writer: &Writer,
    operator: &Operator,
    grounds: &Grounds,
    epoch: Epoch,
    lost: Option<u64>,
    now: UnixSeconds,
) -> Result<(), StartError> {
    let mut details = Details::default();
    details.json.insert("operator".to_owned(), operator.name().into());
    let how = match grounds {
        Grounds::Evidence(file) => {
            details.json.insert("evidence".to_owned(), file.display().to_string().into());
            "evidence"
        }
        Grounds::AcceptedLoss { reason } => {
            details.json.insert("reason".to_owned(), reason.as_str().into());
            "accepted_loss"
        }
    };
    let what = What::Adopted { epoch: epoch.number, store: epoch.id, how, lost };
    let record = Record { decision: None, at: now, what, principal: None, actor: None, mappings_version: None };
    let entry = Some(record.seal(&details, exchange::salt()));
    match writer.commit(Commit { guards: vec![], changes: vec![Change::Adopt(epoch)], entry }).await? {
        Outcome::Durable { .. } => Ok(()),
        Outcome::Blocked(blocked) => Err(StartError::Other(format!("the store refused it: {blocked:?}"))),
    }
}

/// Reads an export of everything: what it tells that may have to be applied again. It must run through the checkpoint, so
/// that nobody can leave something out of it.
fn read(file: &Path, checkpoint: Option<&Checkpoint>) -> Result<Vec<Later>, StartError> {
    let fail = |number: u64, why: String| {
        let place = if number == 0 { String::new() } else { format!(":{number}") };
        StartError::Other(format!("the evidence `{}`{place} {why}", file.display()))
    };
    let opened = File::open(file).map_err(|error| fail(0, format!("cannot be read: {error}")))?;
    let mut lines = BufReader::new(opened);
    let (mut tree, mut found, mut met) = (Tree::default(), Vec::new(), checkpoint.is_none());
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let number = tree.size() + 1;
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.map_err(|error| fail(number, format!("cannot be read: {error}")))? == 0 {
            break;
        }
        let not =
            |error: serde_json::Error| fail(number, format!("is no line of `claimbound audit export --all`: {error}"));
        let line: Line = serde_json::from_slice(&bytes).map_err(not)?;
        let body = Body::parse(line.body.as_bytes()).map_err(|error| fail(number, error.to_string()))?;
        tree.append(leaf(line.body.as_bytes()), |_, _, _| {});
        found.extend(later(&body));
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.size == tree.size()) {
            met = checkpoint.root == tree.root();
        }
    }
    if met {
        return Ok(found);
    }
    Err(fail(
        0,
        "does not run through the checkpoint: it ends before it, or it is of another store or was changed".to_owned(),
    ))
}
