//! The tree beside the chain: every checkpoint, the store's own and those kept elsewhere, must be the root of the records
//! that it says it covers. What nobody recomputed to fit finds whoever recomputed every link.

use super::{Expected, Finding};
use crate::store::{Epoch, Node};
use claimbound_core::evidence::{
    Checkpoint,
    checkpoint::NoteError,
    tree::{Hash, TILE, Tree},
};
use std::collections::HashMap;

/// Why a checkpoint does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointFault {
    #[error("{0}")]
    Note(NoteError),
    #[error("it is of another database, or of an epoch that this one does not have: other records were put in place")]
    Other,
    #[error(
        "it covers {size} records of epoch {epoch}, and epoch {later} began with record {}: some of what it covers \
         were given up when the store was adopted", began + 1
    )]
    GivenUp { size: u64, epoch: u64, later: u64, began: u64 },
    #[error(
        "it covers {size} records, and there are {records}: record {} and all after it are missing, they were cut off or \
         this is an old copy", records + 1
    )]
    Cut { size: u64, records: u64 },
    #[error(
        "its root is not that of the first {size} records: one from record {} to record {size} was changed, added, removed \
         or moved, and the chain computed anew", good + 1
    )]
    Root { size: u64, good: u64 },
}

/// A checkpoint that waits for its last record.
struct Due {
    name: String,
    checkpoint: Checkpoint,
}

/// The tree as it grows along the walk, and what it must come to.
#[derive(Default)]
pub(super) struct Growing {
    tree: Tree,
    nodes: HashMap<(u8, u64), Hash>,
    epochs: Vec<Epoch>,
    /// Number, identity, and records before it.
    adopted: Vec<(u64, Option<String>, u64)>,
    /// By size, the smallest last.
    due: Vec<Due>,
    /// The largest that held.
    held: Option<Checkpoint>,
    /// Another root than that of an earlier epoch's checkpoint, and how many records were proven good before it. An
    /// adoption that gave these records up tells of it behind what it applied again.
    parted: Option<(Due, u64)>,
    begun: bool,
}

impl Growing {
    pub(super) fn epoch(&mut self, epoch: Epoch) {
        self.epochs.push(epoch);
    }

    pub(super) fn node(&mut self, node: Node) {
        self.nodes.insert((node.level, node.number), node.hash);
    }

    pub(super) fn note(&mut self, name: &str, note: &str, expected: &Expected) -> Result<(), Finding> {
        let name = name.to_owned();
        match Checkpoint::open(note, &expected.keys) {
            Ok(checkpoint) => self.due.push(Due { name, checkpoint }),
            Err(error) => return Err(Finding::Checkpoint { name, fault: CheckpointFault::Note(error) }),
        }
        Ok(())
    }

    /// Everything that is no record has been seen.
    pub(super) fn begin(&mut self) -> Result<(), Finding> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        self.due.sort_by_key(|due| std::cmp::Reverse(due.checkpoint.size));
        let known = |due: &&Due| {
            let is = |epoch: &Epoch| (epoch.number, epoch.id) == (due.checkpoint.epoch, due.checkpoint.store);
            !self.epochs.iter().any(is)
        };
        match self.due.iter().find(known) {
            Some(due) => Err(Finding::Checkpoint { name: due.name.clone(), fault: CheckpointFault::Other }),
            None => Ok(()),
        }
    }

    /// The next record, which the chain holds to be in its place.
    pub(super) fn append(&mut self, leaf: Hash) -> Result<(), Finding> {
        let (nodes, mut wrong) = (&mut self.nodes, None);
        self.tree.append(leaf, |level, number, hash| {
            if nodes.remove(&(level, number)).is_some_and(|kept| kept != hash) {
                let leaves = TILE.saturating_pow(level.into());
                wrong = wrong.or(Some((number * leaves, (number + 1) * leaves)));
            }
        });
        if let Some((from, to)) = wrong {
            return Err(Finding::Tree { from: from + 1, to });
        }
        while self.due.last().is_some_and(|due| due.checkpoint.size == self.tree.size()) {
            let Some(due) = self.due.pop() else { break };
            self.holds(due)?;
        }
        Ok(())
    }

    fn holds(&mut self, due: Due) -> Result<(), Finding> {
        let Due { name, checkpoint } = due;
        let size = checkpoint.size;
        if checkpoint.root == self.tree.root() {
            self.held = Some(checkpoint);
            return Ok(());
        }
        let good = self.held.as_ref().map_or(0, |held| held.size);
        if self.epochs.iter().any(|epoch| epoch.number > checkpoint.epoch) {
            self.parted.get_or_insert((Due { name, checkpoint }, good));
            return Ok(());
        }
        Err(Finding::Checkpoint { name, fault: CheckpointFault::Root { size, good } })
    }

    /// A checkpoint of records that an adoption gave up.
    fn given_up(&self, checkpoint: &Checkpoint) -> Option<CheckpointFault> {
        let Checkpoint { size, epoch, .. } = *checkpoint;
        let (later, _, began) = self.adopted.iter().find(|(number, ..)| *number > epoch)?;
        Some(CheckpointFault::GivenUp { size, epoch, later: *later, began: *began })
    }

    /// Whether what an earlier epoch's checkpoint covers was given up: so it was if a later one's holds.
    fn parted(&mut self) -> Result<(), Finding> {
        let Some((Due { name, checkpoint }, good)) = self.parted.take() else { return Ok(()) };
        let signed_since = self.held.as_ref().is_some_and(|held| held.epoch > checkpoint.epoch);
        let given_up = self.given_up(&checkpoint).filter(|_| signed_since);
        let fault = given_up.unwrap_or(CheckpointFault::Root { size: checkpoint.size, good });
        Err(Finding::Checkpoint { name, fault })
    }

    /// A record tells of an adoption: the record itself is the first of its epoch.
    pub(super) fn adoption(&mut self, epoch: u64, store: Option<&str>) {
        self.adopted.push((epoch, store.map(str::to_owned), self.tree.size()));
    }

    /// All records have been seen.
    pub(super) fn end(&mut self) -> Result<(), Finding> {
        self.begin()?;
        self.parted()?;
        let records = self.tree.size();
        if let Some(Due { name, checkpoint }) = self.due.pop() {
            let cut = CheckpointFault::Cut { size: checkpoint.size, records };
            let fault = self.given_up(&checkpoint).unwrap_or(cut);
            return Err(Finding::Checkpoint { name, fault });
        }
        if let Some((_, number)) = self.nodes.keys().filter(|(level, _)| *level == 1).min() {
            return Err(Finding::Tree { from: number * TILE + 1, to: (number + 1) * TILE });
        }
        let told = |epoch: &Epoch| {
            let id = claimbound_core::evidence::uuid(epoch.id);
            let same = |(number, store, _): &(u64, Option<String>, u64)| {
                *number == epoch.number && store.as_ref() == Some(&id)
            };
            epoch.number == 1 || self.adopted.iter().any(same)
        };
        match self.epochs.iter().find(|epoch| !told(epoch)) {
            Some(epoch) => Err(Finding::Epoch { number: epoch.number }),
            None => Ok(()),
        }
    }

    /// The largest checkpoint that holds, and the records behind it.
    pub(super) fn held(&self) -> Option<(&Checkpoint, u64)> {
        self.held.as_ref().map(|held| (held, self.tree.size() - held.size))
    }
}
