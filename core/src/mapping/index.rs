//! Which mappings can concern a job at all, found without looking at the others.
//!
//! A bucket is only a filter, keyed by a fingerprint: the pin itself stays a condition and is compared, so a
//! collision costs a comparison and can never grant.

use super::{IssuerId, MappingId, MappingSet, RoleId, Test, set::Mapping};
use crate::workload::{Claim, Workload};
use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    ops::Range,
};

/// Where a mapping is filed: under the first of these that it pins, or with the unpinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    RepositoryId,
    OwnerId,
    /// A literal repository name without id.
    Repository,
    /// Where an issuer has no repositories.
    Subject,
    /// Not a place for candidates but for near misses: the name of a pair whose id may differ.
    PairName,
}

/// A mapping, and the role that it gives if that is one: what gives another need not be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Candidate {
    mapping: MappingId,
    sole: Option<RoleId>,
}

impl Candidate {
    fn may_give(self, wanted: Option<RoleId>) -> bool {
        self.sole.is_none() || wanted.is_none() || self.sole == wanted
    }
}

/// The buckets, and names of roles.
#[derive(Clone, Default, Debug)]
pub(crate) struct Index {
    buckets: HashMap<u64, Range<u32>, FixedState>,
    /// Mappings, those of one bucket beside each other.
    candidates: Vec<Candidate>,
    /// By issuer: the levels at which any mapping is filed. The others are not worth a look into memory.
    levels: Vec<[bool; 5]>,
    /// By issuer.
    unpinned: Vec<Vec<Candidate>>,
    /// By issuer: positions in the set's denies.
    denies: Vec<Vec<u32>>,
    /// By deny: a bit for each role that it is about.
    denied: Vec<Box<[u64]>>,
    /// By role.
    gives: Vec<Vec<MappingId>>,
    roles: HashMap<Box<str>, RoleId, FixedState>,
    shadows: bool,
}

impl Index {
    pub(crate) fn build(set: &MappingSet) -> Self {
        let issuers = set.issuers.len();
        let mut index = Self {
            levels: vec![[false; 5]; issuers],
            unpinned: vec![Vec::new(); issuers],
            gives: vec![Vec::new(); set.roles.len()],
            roles: (0..).zip(&set.roles).map(|(at, role)| (role.name.as_str().into(), RoleId(at))).collect(),
            denies: (0..issuers)
                .map(|issuer| {
                    let concerns = |list: &[IssuerId]| list.is_empty() || list.contains(&IssuerId(issuer as u16));
                    (0..).zip(&set.denies).filter(|(_, deny)| concerns(&deny.issuers)).map(|(at, _)| at).collect()
                })
                .collect(),
            denied: set.denies.iter().map(|deny| bits(&deny.roles, set.roles.len())).collect(),
            shadows: set.mappings.iter().any(|mapping| mapping.shadow),
            ..Self::default()
        };
        let mut filed: Vec<(u64, Candidate)> = Vec::with_capacity(2 * set.mappings.len());
        for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
            for role in &mapping.roles {
                index.gives[role.0 as usize].push(id);
            }
            let sole = if let [role] = mapping.roles[..] { Some(role) } else { None };
            let candidate = Candidate { mapping: id, sole };
            let levels = &mut index.levels[usize::from(mapping.issuer.0)];
            let mut file = |level, value: &str| {
                levels[level as usize] = true;
                filed.push((fingerprint(mapping.issuer, level, value), candidate));
            };
            if !pins(mapping, &mut file) {
                index.unpinned[usize::from(mapping.issuer.0)].push(candidate);
            }
        }
        filed.sort_unstable();
        filed.dedup();
        let buckets = filed.chunk_by(|(a, _), (b, _)| a == b);
        index.buckets.reserve(buckets.clone().count());
        let mut at = 0;
        for bucket in buckets {
            let end = at + bucket.len() as u32;
            index.buckets.insert(bucket[0].0, at..end);
            at = end;
        }
        index.candidates = filed.into_iter().map(|(_, candidate)| candidate).collect();
        index
    }

    pub(crate) fn role(&self, name: &str) -> Option<RoleId> {
        self.roles.get(name).copied()
    }

    /// Every mapping of the issuer that can match the job and give the role, where one is wanted, and no other that
    /// pins something else (but for collisions). Collects nothing.
    pub(crate) fn candidates(
        &self,
        issuer: IssuerId,
        workload: &Workload<'_>,
        wanted: Option<RoleId>,
    ) -> impl Iterator<Item = MappingId> {
        let filed = self.filed(
            issuer,
            workload,
            [
                (Level::RepositoryId, Claim::RepositoryId),
                (Level::OwnerId, Claim::RepositoryOwnerId),
                (Level::Repository, Claim::Repository),
                (Level::Subject, Claim::Subject),
            ],
        );
        let all = filed.chain(self.unpinned[usize::from(issuer.0)].iter().copied());
        all.filter(move |one| one.may_give(wanted)).map(|one| one.mapping)
    }

    /// Mappings that name the job's repository or owner beside some id, and can give the role.
    pub(crate) fn namesakes(
        &self,
        issuer: IssuerId,
        workload: &Workload<'_>,
        wanted: Option<RoleId>,
    ) -> impl Iterator<Item = MappingId> {
        let places = [(Level::PairName, Claim::Repository), (Level::PairName, Claim::RepositoryOwner)];
        self.filed(issuer, workload, places).filter(move |one| one.may_give(wanted)).map(|one| one.mapping)
    }

    fn filed<const N: usize>(
        &self,
        issuer: IssuerId,
        workload: &Workload<'_>,
        places: [(Level, Claim); N],
    ) -> impl Iterator<Item = Candidate> {
        let bucket = |(level, claim)| -> &[Candidate] {
            let used = self.levels[usize::from(issuer.0)][level as usize];
            let value = workload.text(claim).filter(|_| used);
            let range = value.and_then(|value| self.buckets.get(&fingerprint(issuer, level, value)));
            range.map_or(&[], |range| &self.candidates[range.start as usize..range.end as usize])
        };
        places.map(bucket).into_iter().flatten().copied()
    }

    /// How many mappings each job of an owner is compared with, whatever its repository: those that pin the owner, and
    /// those that pin nothing.
    pub(crate) fn for_every_job_of(&self, issuer: IssuerId, owner_id: &str) -> usize {
        let owned = self.buckets.get(&fingerprint(issuer, Level::OwnerId, owner_id));
        owned.map_or(0, |range| range.len()) + self.unpinned[usize::from(issuer.0)].len()
    }

    /// The mappings that give a role, in the order of the set.
    pub(crate) fn gives(&self, role: RoleId) -> &[MappingId] {
        &self.gives[role.0 as usize]
    }

    /// Whether any mapping is in the shadow.
    pub(crate) fn has_shadows(&self) -> bool {
        self.shadows
    }

    /// Positions of the denies that concern an issuer.
    pub(crate) fn denies(&self, issuer: IssuerId) -> &[u32] {
        &self.denies[usize::from(issuer.0)]
    }

    /// Whether the deny at a position is about the role.
    pub(crate) fn is_about(&self, deny: u32, role: RoleId) -> bool {
        self.denied[deny as usize][role.0 as usize / 64] >> (role.0 % 64) & 1 == 1
    }
}

/// A bit for each of `count` roles: of which there may be as many as teams, too many to search.
fn bits(roles: &[RoleId], count: usize) -> Box<[u64]> {
    let mut bits = vec![0; count.div_ceil(64)];
    for role in roles {
        bits[role.0 as usize / 64] |= 1 << (role.0 % 64);
    }
    bits.into()
}

/// Files a mapping under the first level that it pins, and under the names of its pairs; `false` without a pin.
fn pins(mapping: &Mapping, file: &mut impl FnMut(Level, &str)) -> bool {
    let mut at = [None; 4];
    for condition in &mapping.conditions {
        let listed = || match &condition.test {
            Test::Text(lang) => lang.members().is_some(),
            Test::Repository(_) | Test::ById(_) | Test::Owner(..) => true,
            _ => false,
        };
        let Some(claim) = condition.claim.canonical() else { continue };
        let level = match (&condition.test, claim) {
            (Test::Repository(_) | Test::ById(_), _) | (_, Claim::RepositoryId) => 0,
            (Test::Owner(..), _) | (_, Claim::RepositoryOwnerId) => 1,
            (_, Claim::Repository) => 2,
            (_, Claim::Subject) => 3,
            _ => continue,
        };
        if listed() && at[level].is_none() {
            at[level] = Some(condition);
        }
        pairs_of(&condition.test).iter().for_each(|(name, _)| file(Level::PairName, name));
    }
    let levels = [Level::RepositoryId, Level::OwnerId, Level::Repository, Level::Subject];
    let Some((level, condition)) = levels.into_iter().zip(at).find_map(|(level, at)| Some((level, at?))) else {
        return false;
    };
    match &condition.test {
        Test::Text(lang) => lang.members().into_iter().flatten().for_each(|value| file(level, value)),
        test => pairs_of(test).iter().for_each(|(_, id)| file(level, id)),
    }
    true
}

/// The pairs of names and ids that a test lists.
fn pairs_of(test: &Test) -> &[(String, String)] {
    match test {
        Test::Owner(pairs) => pairs,
        test => test.repositories().unwrap_or_default(),
    }
}

/// Folds ASCII case whatever the issuer does: a filter may let through too much.
fn fingerprint(issuer: IssuerId, level: Level, value: &str) -> u64 {
    let mut hasher = FixedState::with_seed(u64::from(issuer.0) << 8 | level as u64).build_hasher();
    let mut block = [0; 64];
    for chunk in value.as_bytes().chunks(block.len()) {
        let block = &mut block[..chunk.len()];
        block.copy_from_slice(chunk);
        block.make_ascii_lowercase();
        hasher.write(block);
    }
    hasher.finish()
}
