//! A store that has lost records is accepted as it is: what later evidence still tells is applied again, another epoch
//! begins, and tokens issued before it are refused, because nobody knows which of them were spent.

use super::{StartError, evidence::witness};
use crate::{
    config::Config,
    exchange,
    issuance::Ended,
    operate,
    operators::Operator,
    store::{self, Change, Commit, Denial, Epoch, Guard, Outcome, Reader, Scope, Subject, Suspension, Writer, tree},
};
use claimbound_core::{
    evidence::{
        Body, Checkpoint, Details, LeaseId, Record, SuspensionId, What, details_digest, hex, record::leaf, tree::Tree,
        unhex,
    },
    time::UnixSeconds,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
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
    /// Leases and families of renewals that were ended again.
    pub ended: u64,
    /// Suspensions that stand again, and that were taken back again.
    pub suspended: u64,
    pub resumed: u64,
}

/// One record of an export of everything (`audit export --all`): a line of JSON.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
pub struct Line {
    pub position: i64,
    pub incarnation: String,
    pub sequence: u64,
    pub link: String,
    /// Empty, with its `leaf` beside it, where its time is over.
    pub body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// What a later record changed and a store that lacks it must be told again.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Later {
    Ended {
        lease: LeaseId,
        how: String,
        effect: String,
        at: UnixSeconds,
    },
    FamilyEnded {
        family: LeaseId,
        how: String,
        effect: String,
    },
    Cut(Denial),
    /// In the place of another, or where none stood.
    Suspended {
        suspension: Suspension,
        replaces: Option<SuspensionId>,
    },
    Resumed(SuspensionId),
}

/// The one place where it is decided which kinds of records are applied again.
fn later(body: &Body<'_>, details: &str) -> Result<Option<Later>, String> {
    let text = |text: &Option<Cow<'_, str>>| text.clone().unwrap_or_default().into_owned();
    let (how, effect, at) = (text(&body.how), text(&body.effect), UnixSeconds(body.at));
    Ok(match (body.kind.as_ref(), body) {
        ("ended", Body { lease: Some(lease), .. }) => Some(Later::Ended { lease: *lease, how, effect, at }),
        ("family_ended", Body { family: Some(family), .. }) => {
            Some(Later::FamilyEnded { family: *family, how, effect })
        }
        // Its refresh token was used twice.
        ("refused", Body { family: Some(family), reason, .. }) => {
            let effect = Ended::AtExpiry.name().to_owned();
            Some(Later::FamilyEnded { family: *family, how: text(reason), effect })
        }
        ("cut", Body { until: Some(until), .. }) => {
            let (backend, scope, subject) = (text(&body.backend), text(&body.scope), text(&body.subject));
            operate::cut(backend, &scope, subject, at, UnixSeconds(*until)).map(Later::Cut)
        }
        ("suspended", Body { suspension: Some(id), .. }) => {
            let suspension = suspended(*id, body, told(body, details)?)?;
            Some(Later::Suspended { suspension, replaces: body.replaces })
        }
        ("resumed", Body { suspension: Some(id), .. }) => Some(Later::Resumed(*id)),
        _ => None,
    })
}

/// The details of a record, if nobody has erased or changed them.
fn told(body: &Body<'_>, details: &str) -> Result<Map<String, Value>, String> {
    let digest = details_digest(details.as_bytes()).map(|digest| hex(&digest));
    if digest.is_none() || digest.as_deref() != body.details.as_deref() {
        return Ok(Map::new());
    }
    serde_json::from_str(details).map_err(|error| format!("has details that cannot be read: {error}"))
}

/// A person stands in the details alone. Without them nobody knows who was meant: empty.
fn suspended(id: SuspensionId, body: &Body<'_>, details: Map<String, Value>) -> Result<Suspension, String> {
    let detail = |name: &str| details.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let scope = body.scope.as_deref().unwrap_or_default();
    let scope =
        Scope::from_name(scope).ok_or_else(|| format!("suspends a `{scope}`, which this version does not know"))?;
    let name = match scope {
        Scope::Person => detail("person"),
        _ => body.subject.as_deref().unwrap_or_default().to_owned(),
    };
    let subject = Subject::new(scope, body.issuer.as_deref().unwrap_or_default(), name);
    let (operator, reason) = (detail("operator"), detail("reason"));
    Ok(Suspension { id, subject, since: body.at, until: body.until, operator, reason })
}

/// What the evidence tells of suspensions, to its end.
#[derive(Default)]
struct Told {
    /// All that it ever told of.
    known: HashSet<SuspensionId>,
    standing: BTreeMap<SuspensionId, Suspension>,
}

/// Tells the store again what it has lost.
struct Again<'a> {
    writer: &'a Writer,
    reader: &'a dyn Reader,
    operator: &'a Operator,
    /// Backends with a deny list that the broker tells.
    backends: Vec<&'a str>,
    now: UnixSeconds,
    done: Adopted,
}

impl Again<'_> {
    async fn all(&mut self, later: Vec<Later>) -> Result<(), StartError> {
        let mut told = Told::default();
        for later in later {
            match later {
                Later::Ended { lease, how, effect, at } => self.lease(lease, &how, &effect, at).await?,
                Later::FamilyEnded { family, how, effect } => {
                    let what = What::FamilyEnded { family, how: &how, effect: &effect };
                    let changes = vec![Change::EndFamily(family)];
                    self.done.ended += u64::from(self.commit(vec![], changes, what, &Details::default()).await?);
                }
                Later::Cut(denial) => self.cut(denial).await?,
                Later::Suspended { suspension, replaces } => {
                    told.standing.retain(|id, _| Some(*id) != replaces);
                    told.known.insert(suspension.id);
                    told.standing.insert(suspension.id, suspension);
                }
                Later::Resumed(id) => drop(told.standing.remove(&id)),
            }
        }
        self.suspensions(told).await
    }

    /// Blocked: the store does not know the lease, or it is over.
    async fn lease(&mut self, lease: LeaseId, how: &str, effect: &str, at: UnixSeconds) -> Result<(), StartError> {
        // Nobody else writes the store.
        let children = u32::try_from(self.reader.children(lease)?.len()).unwrap_or(u32::MAX);
        let mut changes = vec![Change::End { lease, children }];
        if effect == Ended::Denied.name() {
            // Its record names no backend: on the list of another it denies nothing.
            let denials = self.backends.iter().map(|backend| operate::denied_again(lease, backend, at));
            changes.extend(denials.filter(|denial| denial.until > self.now).map(Change::Deny));
        }
        let what = What::Ended { lease, how, effect, children };
        let ended = self.commit(vec![Guard::LeaseAlive(lease)], changes, what, &Details::default()).await?;
        self.done.ended += u64::from(ended);
        Ok(())
    }

    async fn cut(&mut self, denial: Denial) -> Result<(), StartError> {
        let there = self.reader.denials(&denial.backend, self.now)?;
        let covers = |there: &Denial| there.key() == denial.key() && there.before >= denial.before;
        if denial.until <= self.now || there.iter().any(covers) {
            return Ok(());
        }
        let (backend, value) = (denial.backend.clone(), denial.value.clone());
        let what = What::Cut { backend: &backend, scope: denial.scope.name(), subject: &value, until: denial.until };
        self.commit(vec![], vec![Change::Deny(denial)], what, &Details::default()).await?;
        Ok(())
    }

    /// Has what stands be what the evidence says stood at its end. What was suspended since, of which it does not tell,
    /// stays.
    async fn suspensions(&mut self, told: Told) -> Result<(), StartError> {
        for suspension in told.standing.values().filter(|suspension| suspension.stands(self.now)) {
            let subject = &suspension.subject;
            if subject.scope == Scope::Person && subject.name.is_empty() {
                return Err(StartError::Other(format!(
                    "the evidence suspends a person (suspension {}) whose id was erased from it; adopt with \
                     `--accept-lost-suspensions`, and suspend them again",
                    suspension.id
                )));
            }
            let stands = self.reader.suspension(&subject.key())?.map(|stands| stands.id);
            if stands == Some(suspension.id) || stands.is_some_and(|stands| !told.known.contains(&stands)) {
                continue;
            }
            let until = suspension.until.map(UnixSeconds);
            let mut details = details(&suspension.operator, &suspension.reason);
            let is_person = subject.scope == Scope::Person;
            if is_person {
                details.json.insert("person".to_owned(), subject.name.as_str().into());
            }
            let what = What::Suspended {
                suspension: suspension.id,
                scope: subject.scope.name(),
                issuer: Some(subject.issuer.as_str()).filter(|issuer| !issuer.is_empty()),
                subject: Some(subject.name.as_str()).filter(|name| !name.is_empty() && !is_person),
                until,
                replaces: stands,
            };
            let change = Change::Suspend { suspension: suspension.clone(), replaces: stands };
            self.done.suspended += u64::from(self.commit(vec![], vec![change], what, &details).await?);
        }
        for stands in self.reader.suspensions()? {
            if told.known.contains(&stands.id) && !told.standing.contains_key(&stands.id) {
                let what = What::Resumed { suspension: stands.id };
                let change = Change::Resume { subject: stands.subject.key(), suspension: stands.id };
                let details = details(self.operator.name(), "the evidence of the lost store resumed it");
                self.done.resumed += u64::from(self.commit(vec![], vec![change], what, &details).await?);
            }
        }
        Ok(())
    }

    /// Whether it was not so in the store already.
    async fn commit(
        &self,
        guards: Vec<Guard>,
        changes: Vec<Change>,
        what: What<'_>,
        details: &Details,
    ) -> Result<bool, StartError> {
        let record =
            Record { decision: None, at: self.now, what, principal: None, actor: None, mappings_version: None };
        let entry = Some(record.seal(details, exchange::salt()));
        Ok(matches!(self.writer.commit(Commit { guards, changes, entry }).await?, Outcome::Durable { .. }))
    }
}

fn details(operator: &str, reason: &str) -> Details {
    let member = |(name, text): (&str, &str)| (!text.is_empty()).then(|| (name.to_owned(), text.into()));
    Details::from(Map::from_iter([("operator", operator), ("reason", reason)].into_iter().filter_map(member)))
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
                config.evidence.checkpoint_file.display()
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
        let told = config.backends.iter().filter(|(_, backend)| backend.denial.is_some());
        let mut again = Again {
            writer: &opened.writer,
            reader: &*opened.reader,
            operator,
            backends: told.map(|(name, _)| name.as_str()).collect(),
            now,
            done: Adopted { epoch: 0, lost, ended: 0, suspended: 0, resumed: 0 },
        };
        again.all(known).await?;
        let epoch = Epoch {
            number: newest.number.max(checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.epoch)) + 1,
            id: u128::from_be_bytes(*exchange::salt().first_chunk().expect("32 bytes begin with 16")),
            began: now,
            instead_of: checkpoint.as_ref().map(|checkpoint| checkpoint.store),
        };
        begin(&opened.writer, operator, grounds, epoch, lost, now).await?;
        Ok(Adopted { epoch: epoch.number, ..again.done })
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
        // Such an old one tells of nothing that still stands.
        let emptied = line.leaf.as_deref().and_then(unhex).filter(|_| line.body.is_empty());
        tree.append(emptied.unwrap_or_else(|| leaf(line.body.as_bytes())), |_, _, _| {});
        if emptied.is_none() {
            let body = Body::parse(line.body.as_bytes()).map_err(|error| fail(number, error.to_string()))?;
            found.extend(later(&body, &line.details).map_err(|why| fail(number, why))?);
        }
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
