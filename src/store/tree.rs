//! The tree over a store's records: grown from what is kept of it, and asked for roots and proofs, in reads of a few
//! hundred rows each whatever its size. Its order is that of `position` (docs/decisions/0035).

use super::{Down, Epoch, Reader};
use claimbound_core::evidence::{
    Checkpoint,
    tree::{self, Hash, TILE, Tree},
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Leaves that one read brings while the tree grows.
const LEAVES_STEP: usize = 4_096;
/// Nodes that are kept in one transaction, at most: of a quarter of a million records.
const NODES_MAX: usize = 1_024;
/// Before every record.
const BEFORE_ALL: i64 = 0;

/// A record's part in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    pub position: i64,
    pub leaf: Hash,
    pub link: [u8; 32],
}

/// The root of a complete subtree, and the position of its last leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// From 1.
    pub level: u8,
    pub number: u64,
    pub last: i64,
    pub hash: Hash,
}

/// What is written of the tree: nodes, which are the same whoever writes them, and a checkpoint, of which the largest
/// stays.
#[derive(Clone, Debug, Default)]
pub struct TreeRows {
    pub nodes: Vec<Node>,
    /// Epoch, size and signed note.
    pub checkpoint: Option<(u64, u64, String)>,
}

/// How far the tree goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stand {
    pub size: u64,
    pub root: Hash,
    /// Position and link of the last record.
    pub last: (i64, [u8; 32]),
}

/// The nodes that new records complete, and how far the tree goes with them.
#[derive(Debug)]
pub struct Growth {
    pub nodes: Vec<Node>,
    /// `None`: keep the nodes, and grow on. Also of a store without records.
    pub stand: Option<Stand>,
    pub more: bool,
}

/// Reads the records behind the last kept node, up to a position behind which alone others can still appear
/// ([`Reader::settled`]).
///
/// # Errors
/// The store cannot be read.
pub fn grow(reader: &dyn Reader, upto: i64) -> Result<Growth, Down> {
    let grown = reader.grown()?;
    let tiles = grown.map_or(0, |node| node.number + 1);
    let mut tree = Tree::resume(tiles, |level, numbers| hashes(reader, level, numbers))?;
    let (mut after, mut nodes, mut last) = (grown.map_or(BEFORE_ALL, |node| node.last), Vec::new(), None);
    loop {
        let leaves = reader.leaves(after, upto, LEAVES_STEP)?;
        for Leaf { position, leaf, link } in &leaves {
            let node = |level, number, hash| nodes.push(Node { level, number, last: *position, hash });
            tree.append(*leaf, node);
            (after, last) = (*position, Some((*position, *link)));
        }
        if leaves.len() < LEAVES_STEP {
            break;
        }
        if nodes.len() >= NODES_MAX {
            return Ok(Growth { nodes, stand: None, more: true });
        }
    }
    if last.is_none() && tree.size() > 0 {
        last = reader.leaves(after - 1, after, 1)?.first().map(|leaf| (leaf.position, leaf.link));
    }
    let stand = last.map(|last| Stand { size: tree.size(), root: tree.root(), last });
    Ok(Growth { nodes, stand, more: false })
}

/// The root over a range of leaves that a proof names. All below the range's end must have been grown.
pub fn root(reader: &dyn Reader, leaves: Range<u64>) -> Result<Hash, Down> {
    tree::subtree(leaves, &mut |level, numbers| hashes(reader, level, numbers))
}

/// The hashes of a proof.
pub fn proof(reader: &dyn Reader, path: Vec<Range<u64>>) -> Result<Vec<Hash>, Down> {
    path.into_iter().map(|leaves| root(reader, leaves)).collect()
}

/// The place in the tree of the record at a position.
pub fn index_of(reader: &dyn Reader, position: i64) -> Result<u64, Down> {
    let (mut low, mut high) = (0, reader.grown()?.map_or(0, |node| node.number + 1));
    while low < high {
        let middle = low.midpoint(high);
        let node = reader.nodes(1, middle..middle + 1)?.pop().ok_or_else(|| lacks(1, &(middle..middle + 1)))?;
        if node.last < position { low = middle + 1 } else { high = middle }
    }
    let before = reader.leaves(end_of(reader, low)?, position - 1, TILE as usize)?;
    Ok(low * TILE + before.len() as u64)
}

/// The position of the last leaf before this tile.
fn end_of(reader: &dyn Reader, tile: u64) -> Result<i64, Down> {
    let Some(before) = tile.checked_sub(1) else { return Ok(BEFORE_ALL) };
    let node = reader.nodes(1, before..tile)?.pop();
    node.map(|node| node.last).ok_or_else(|| lacks(1, &(before..tile)))
}

/// Leaves (level 0) or nodes within one tile.
fn hashes(reader: &dyn Reader, level: u8, numbers: Range<u64>) -> Result<Vec<Hash>, Down> {
    let found: Vec<Hash> = if level == 0 {
        let (tile, skip) = (numbers.start / TILE, (numbers.start % TILE) as usize);
        let most = skip + (numbers.end - numbers.start) as usize;
        let leaves = reader.leaves(end_of(reader, tile)?, i64::MAX, most)?;
        leaves.into_iter().skip(skip).map(|leaf| leaf.leaf).collect()
    } else {
        reader.nodes(level, numbers.clone())?.into_iter().map(|node| node.hash).collect()
    };
    let whole = found.len() as u64 == numbers.end - numbers.start;
    if whole { Ok(found) } else { Err(lacks(level, &numbers)) }
}

fn lacks(level: u8, numbers: &Range<u64>) -> Down {
    let what = if level == 0 { "records".to_owned() } else { format!("nodes of level {level}") };
    Down::new(format!("the tree lacks {what} {} to {}", numbers.start, numbers.end))
}

/// Why a store is behind a checkpoint that was signed over it, if it is.
///
/// # Errors
/// The store cannot be read.
pub fn behind(reader: &dyn Reader, witness: &Checkpoint) -> Result<Option<String>, Down> {
    // Of a standby nobody can say.
    reader.settled()?;
    if let Some(why) = lost(reader, witness)? {
        return Ok(Some(why));
    }
    if reader.epochs()?.last().is_none_or(|newest| newest.id != witness.store) {
        return Ok(None);
    }
    let same = root(reader, 0..witness.size)? == witness.root;
    let why = || format!("its first {} records are not those that the checkpoint was signed over", witness.size);
    Ok((!same).then(why))
}

/// The same in two reads: whether the last record of the checkpoint is there, which the records before it lead to.
pub fn lost(reader: &dyn Reader, witness: &Checkpoint) -> Result<Option<String>, Down> {
    let epochs = reader.epochs()?;
    if epochs.last().is_none_or(|newest| newest.id != witness.store) {
        let followed = |epoch: &Epoch| epoch.id == witness.store || epoch.instead_of == Some(witness.store);
        let why = "it is another database than the one that the checkpoint was signed over";
        return Ok((!epochs.iter().any(followed)).then(|| why.to_owned()));
    }
    let (position, link) = witness.last;
    let there = reader.leaves(position - 1, position, 1)?.first().is_some_and(|leaf| leaf.link == link);
    let why = || {
        format!(
            "it lacks record {} of the checkpoint, or has another one in its place: an old copy was restored, or a standby \
             promoted that lacks commits",
            witness.size
        )
    };
    Ok((!there).then(why))
}

/// What an engine must find again in the store when it connects anew, and what it found instead.
#[derive(Debug, Default)]
pub struct Watch {
    mark: Mutex<Option<Mark>>,
    behind: Mutex<Option<String>>,
}

/// The last record of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub position: i64,
    pub link: [u8; 32],
    /// Identity of the store's newest epoch.
    pub store: u128,
}

impl Watch {
    /// From now on the store must hold the records of this checkpoint.
    pub fn expect(&self, checkpoint: &Checkpoint) {
        let (position, link) = checkpoint.last;
        let mark = Mark { position, link, store: checkpoint.store };
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark);
    }
    pub(super) fn mark(&self) -> Option<Mark> {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The store was found behind what this process knows of it.
    pub(super) fn tell(&self, why: &str) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }
    /// Why the store is behind, where an engine found that.
    pub fn behind(&self) -> Option<String> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
