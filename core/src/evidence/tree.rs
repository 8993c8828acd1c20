//! The Merkle tree over all records (RFC 6962, section 2.1): its root stands for every leaf before it, and a short proof
//! shows that one leaf is among them, or that a later tree only went on from an earlier one.
//!
//! A tree of any size is grown and proved in little memory: complete subtrees of [`TILE`] leaves, of [`TILE`] of those,
//! and so on are *nodes* of levels 1, 2, …, told when they are complete and asked for again by a proof. Level 0 are the
//! leaves.

use super::chain::sha256;
use std::ops::Range;

/// A leaf or the root of a subtree.
pub type Hash = [u8; 32];

/// How many nodes of one level make one of the next.
pub const TILE: u64 = 1 << TILE_BITS;
const TILE_BITS: u32 = 8;
/// Separates inner nodes from leaves (RFC 6962, section 2.1).
const NODE_PREFIX: &[u8] = &[1];
/// More hashes than a proof of any tree has.
pub const PROOF_HASHES_MAX: usize = 64;

/// The parent of two nodes: SHA-256 of 0x01 and both.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    sha256(&[NODE_PREFIX, left, right])
}

/// Complete subtrees, the largest first: one for each binary digit 1 of their leaves' number.
#[derive(Clone, Debug, Default)]
struct Peaks {
    size: u64,
    peaks: Vec<Hash>,
}

impl Peaks {
    fn push(&mut self, hash: Hash) {
        let mut merged = hash;
        for _ in 0..self.size.trailing_ones() {
            merged = self.peaks.pop().map_or(merged, |left| parent(&left, &merged));
        }
        self.peaks.push(merged);
        self.size += 1;
    }
}

/// The root over nodes of one level, which is that of all their leaves.
fn over(hashes: impl IntoIterator<Item = Hash>) -> Option<Hash> {
    let mut peaks = Peaks::default();
    hashes.into_iter().for_each(|hash| peaks.push(hash));
    joined(peaks.peaks)
}

/// The root of subtrees that stand beside each other, the largest first.
fn joined(peaks: Vec<Hash>) -> Option<Hash> {
    peaks.into_iter().rev().reduce(|right, left| parent(&left, &right))
}

/// A tree that grows at its end.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Of each level the nodes since the last complete tile.
    levels: Vec<Peaks>,
}

impl Tree {
    /// A tree of complete tiles, so many of level 1, to go on from. `nodes` is asked for those of a level.
    pub fn resume<E>(tiles: u64, mut nodes: impl FnMut(u8, Range<u64>) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = vec![Peaks { size: tiles * TILE, peaks: Vec::new() }];
        let (mut level, mut complete) = (1, tiles);
        while complete > 0 {
            let above = complete / TILE;
            let mut peaks = Peaks { size: above * TILE, peaks: Vec::new() };
            if above * TILE < complete {
                nodes(level, above * TILE..complete)?.into_iter().for_each(|hash| peaks.push(hash));
            }
            levels.push(peaks);
            (level, complete) = (level + 1, above);
        }
        Ok(Self { levels })
    }

    /// Adds a leaf; `complete` is told each node that it completes, by level and number.
    pub fn append(&mut self, leaf: Hash, mut complete: impl FnMut(u8, u64, Hash)) {
        let mut hash = leaf;
        for level in 0_u8.. {
            if self.levels.len() == usize::from(level) {
                self.levels.push(Peaks::default());
            }
            let peaks = &mut self.levels[usize::from(level)];
            peaks.push(hash);
            if !peaks.size.is_multiple_of(TILE) {
                return;
            }
            // A tile is one subtree, so this is its only peak.
            let Some(tile) = peaks.peaks.pop() else { return };
            complete(level + 1, peaks.size / TILE - 1, tile);
            hash = tile;
        }
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.size)
    }

    /// Its root; of no leaves, the SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let peaks = self.levels.iter().rev().flat_map(|level| level.peaks.iter().copied()).collect();
        joined(peaks).unwrap_or_else(|| sha256(&[]))
    }
}

/// The root over a range of leaves that a proof names, from the fewest nodes. `nodes` is asked for ranges within one tile
/// of a level; 0 are leaves.
pub fn subtree<E>(
    leaves: Range<u64>,
    nodes: &mut dyn FnMut(u8, Range<u64>) -> Result<Vec<Hash>, E>,
) -> Result<Hash, E> {
    let (mut roots, mut at) = (Vec::new(), leaves.start);
    while at < leaves.end {
        let fits = (leaves.end - at).ilog2();
        let height = if at == 0 { fits } else { fits.min(at.trailing_zeros()) };
        let level = height / TILE_BITS;
        let first = at >> (level * TILE_BITS);
        let hashes = nodes(level as u8, first..first + (1 << (height % TILE_BITS)))?;
        roots.extend(over(hashes));
        at += 1 << height;
    }
    Ok(joined(roots).unwrap_or_else(|| sha256(&[])))
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The subtrees whose roots prove that a leaf is in a tree of this size (RFC 6962, section 2.1.1), the lowest first.
pub fn inclusion(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut tree, mut path) = (0..size, Vec::new());
    while index < size && tree.end - tree.start > 1 {
        let middle = tree.start + split(tree.end - tree.start);
        let (into, beside) = if index < middle {
            (tree.start..middle, middle..tree.end)
        } else {
            (middle..tree.end, tree.start..middle)
        };
        path.push(beside);
        tree = into;
    }
    path.reverse();
    path
}

/// The root that a leaf and its proof lead to (RFC 9162, section 2.1.3.2); `None` if the proof has not the form that this
/// place in a tree of this size needs.
pub fn included(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let (mut at, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    let mut root = *leaf;
    for beside in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = parent(beside, &root);
            let skip = if at == 0 { 0 } else { at.trailing_zeros() };
            (at, last) = (at >> skip, last >> skip);
        } else {
            root = parent(&root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// The subtrees whose roots prove that a tree goes on from an earlier one (RFC 6962, section 2.1.2).
pub fn consistency(old: u64, new: u64) -> Vec<Range<u64>> {
    if old == 0 || old >= new {
        return Vec::new();
    }
    let (mut tree, mut path) = (0..new, Vec::new());
    // Down to the subtree that ends where the old tree did.
    while tree.end != old {
        let middle = tree.start + split(tree.end - tree.start);
        let (into, beside) =
            if old <= middle { (tree.start..middle, middle..tree.end) } else { (middle..tree.end, tree.start..middle) };
        path.push(beside);
        tree = into;
    }
    // The old tree itself, if it is a subtree of the new one, is known to who asks.
    if tree.start != 0 {
        path.push(tree);
    }
    path.reverse();
    path
}

/// Whether a proof shows that a tree goes on from an earlier one (RFC 9162, section 2.1.4.2): sizes and roots of both.
pub fn consistent((old, old_root): (u64, &Hash), (new, new_root): (u64, &Hash), proof: &[Hash]) -> bool {
    if old == 0 || old >= new {
        return proof.is_empty() && (old == 0 || (old == new && old_root == new_root));
    }
    let (mut at, mut last) = (old - 1, new - 1);
    let skip = at.trailing_ones();
    (at, last) = (at >> skip, last >> skip);
    let whole = [*old_root];
    let mut path = whole[usize::from(!old.is_power_of_two())..].iter().chain(proof);
    let Some(first) = path.next() else { return false };
    let (mut was, mut is) = (*first, *first);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (was, is) = (parent(beside, &was), parent(beside, &is));
            let skip = if at == 0 { 0 } else { at.trailing_zeros() };
            (at, last) = (at >> skip, last >> skip);
        } else {
            is = parent(&is, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && was == *old_root && is == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{hex, record::leaf, unhex};
    use proptest::prelude::*;
    use std::{collections::HashMap, convert::Infallible};

    /// RFC 6962, section 2.1, word for word: the oracle.
    fn oracle(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                parent(&oracle(left), &oracle(right))
            }
        }
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    /// Roots over the ranges of a proof, by the oracle.
    fn proof(leaves: &[Hash], path: Vec<Range<u64>>) -> Vec<Hash> {
        path.into_iter().map(|range| oracle(&leaves[range.start as usize..range.end as usize])).collect()
    }

    /// The inputs and roots that implementations of RFC 6962 have in common.
    #[test]
    fn known_roots() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (input, root) in inputs.into_iter().zip(roots) {
            tree.append(leaf(input), |_, _, _| {});
            assert_eq!(tree.root(), unhex(root).unwrap(), "{}", tree.size());
        }
    }

    #[test]
    fn proofs_of_all_small_trees() {
        let all = leaves(40);
        for size in 0..=40_u64 {
            let here = &all[..size as usize];
            let root = oracle(here);
            for index in 0..size {
                let proof = proof(here, inclusion(index, size));
                assert_eq!(included(&all[index as usize], index, size, &proof), Some(root), "{index} of {size}");
                assert_ne!(included(&[9; 32], index, size, &proof), Some(root));
                assert!(size == 1 || included(&all[index as usize], index ^ 1, size, &proof) != Some(root));
                assert_eq!(included(&all[index as usize], size, size, &proof), None);
            }
            for old in 0..=size {
                let before = oracle(&all[..old as usize]);
                let proof = proof(here, consistency(old, size));
                assert!(consistent((old, &before), (size, &root), &proof), "{old} to {size}");
                assert!(old == 0 || !consistent((old, &[9; 32]), (size, &root), &proof));
                assert!(old == 0 || !consistent((old, &before), (size, &[9; 32]), &proof));
                assert!(!consistent((old, &before), (size, &root), &[&proof[..], &[[0; 32]]].concat()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10))]
        /// Grown leaf by leaf, broken off and gone on with from its nodes: the oracle's root, and its proofs.
        #[test]
        fn a_tree_of_nodes_is_the_tree(size in 1..70_000_u64, old in 0..70_000_u64, index in 0..70_000_u64) {
            let (old, index) = (old % size, index % size);
            let all = leaves(size);
            let mut kept: HashMap<(u8, u64), Hash> = HashMap::new();
            let mut tree = Tree::default();
            for leaf in &all[..old as usize] {
                tree.append(*leaf, |level, number, hash| { kept.insert((level, number), hash); });
            }
            prop_assert_eq!(tree.root(), oracle(&all[..old as usize]));
            let tiles = old / TILE;
            let node = |kept: &HashMap<(u8, u64), Hash>, level, numbers: Range<u64>| {
                let of = |number| if level == 0 { all[number as usize] } else { kept[&(level, number)] };
                Ok::<_, Infallible>(numbers.map(of).collect::<Vec<_>>())
            };
            let Ok(mut tree) = Tree::resume(tiles, |level, numbers| node(&kept, level, numbers));
            for leaf in &all[(tiles * TILE) as usize..] {
                tree.append(*leaf, |level, number, hash| { kept.insert((level, number), hash); });
            }
            let root = oracle(&all);
            prop_assert_eq!((tree.size(), tree.root()), (size, root));
            let mut nodes = |level: u8, numbers: Range<u64>| {
                assert_eq!(numbers.start / TILE, (numbers.end - 1) / TILE, "within one tile");
                node(&kept, level, numbers)
            };
            let mut roots = |path: Vec<Range<u64>>| -> Vec<Hash> {
                path.into_iter().map(|range| { let Ok(hash) = subtree(range, &mut nodes); hash }).collect()
            };
            prop_assert_eq!(included(&all[index as usize], index, size, &roots(inclusion(index, size))), Some(root));
            let before = oracle(&all[..old as usize]);
            prop_assert!(consistent((old, &before), (size, &root), &roots(consistency(old, size))));
            prop_assert!(inclusion(index, size).len() <= PROOF_HASHES_MAX);
        }
    }
}
