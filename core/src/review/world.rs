//! Which jobs there can be at one issuer: what its profile proves of every token, so that a proof speaks of jobs and
//! not of combinations that no token shows.

use super::{
    boxes::{Axis, Jobs, Undecided, truth},
    given::Job,
    raw,
};
use crate::{
    lang::{
        pattern::{Lang, PatternError, Segments, Step},
        space::{Domain, Gaps, Space},
    },
    mapping::Issuer,
    workload::{Claim, Gap, Kind, Profile, VALUE_BYTES_MAX},
};
use std::collections::BTreeMap;

pub(super) const REFS: &str = "refs/";
pub(super) const HEADS: &str = "refs/heads/";
pub(super) const TAGS: &str = "refs/tags/";

const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const LETTERS_AND_DIGITS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const WORD: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
/// Of decimal ids: 2^64 - 1.
const LARGEST_ID: &str = "18446744073709551615";
/// Of integers: 2^63 - 1, and the smallest without its sign.
const LARGEST: &str = "9223372036854775807";
const SMALLEST_NEGATED: &str = "9223372036854775808";

/// Most parts of one box that are looked at for a job.
pub(super) const PARTS_MAX: usize = 4096;

/// The jobs of one issuer.
#[derive(Clone, Debug)]
pub struct World<'p> {
    profile: &'p Profile,
    folds: bool,
    /// Ids of the owners whose jobs are no strangers'.
    owners: Option<Lang>,
    decimal: Lang,
    repositories: Lang,
    refs: Lang,
    /// What each claim can be at all, in the order of [`Claim::ALL`].
    possible: Vec<Domain>,
    /// Boxes without a job, each with the axis that must be restricted for it to matter.
    impossible: Vec<(Axis, Jobs)>,
}

impl<'p> World<'p> {
    /// # Errors
    /// The profile's texts are beyond the limits of patterns.
    pub fn new(profile: &'p Profile, issuer: &Issuer) -> Result<Self, PatternError> {
        let glob = |pattern| Lang::glob(pattern, Segments::Path, false);
        let mut repositories = graphic().intersect(&glob("**/**")?)?;
        for hollow in ["/**", "**/", "**//**"] {
            repositories = repositories.minus(&glob(hollow)?)?;
        }
        let owners = issuer.multi_tenant.then(|| Lang::one_of(issuer.owners.values().map(String::as_str), false));
        let mut world = Self {
            profile,
            folds: issuer.folds_names,
            owners,
            decimal: decimal()?,
            repositories,
            refs: Lang::texts().after(REFS)?.minus(&Lang::one_of([HEADS, TAGS], false))?,
            possible: Vec::new(),
            impossible: Vec::new(),
        };
        if let Some(prefix) = profile.pull_request_prefix() {
            let numbers = world.merge_refs(prefix, &Lang::anything())?;
            world.refs = world.refs.minus(&Lang::starting(prefix, false)?)?.union(&numbers)?;
        }
        world.possible = Claim::ALL.iter().map(|claim| world.domain(*claim)).collect::<Result<_, _>>()?;
        world.add_presences()?;
        world.add_types()?;
        Ok(world)
    }

    pub(super) fn profile(&self) -> &Profile {
        self.profile
    }
    pub(super) fn folds(&self) -> bool {
        self.folds
    }
    /// Whether this is the repository of a workflow that is always the job's own.
    pub(super) fn is_own(&self, claim: Claim) -> bool {
        self.profile.workflows().any(|([repository, ..], own)| own && repository == claim)
    }
    /// Refs of pull requests of these numbers.
    pub(super) fn merge_refs(&self, prefix: &str, numbers: &Lang) -> Result<Lang, PatternError> {
        let numbers = numbers.intersect(&self.decimal)?;
        let mut refs = Lang::nothing();
        for end in self.profile.pull_request_ends() {
            let ended = match end.as_str() {
                "" => numbers.clone(),
                end => numbers.owning()?.intersect(&Lang::glob(&format!("**{end}"), Segments::Path, false)?)?,
            };
            refs = refs.union(&ended)?;
        }
        refs.after(prefix)
    }

    fn forbid(&mut self, of: Claim, domains: [(Claim, Domain); 2]) -> Result<(), PatternError> {
        let jobs = Space::of(domains.map(|(claim, domain)| (Axis::Claim(claim), domain)))?;
        self.impossible.push((Axis::Claim(of), jobs));
        Ok(())
    }

    /// When a claim is none, when it is unknown.
    fn add_presences(&mut self) -> Result<(), PatternError> {
        let events = Lang::one_of(self.profile.pull_request_events().iter().map(String::as_str), false);
        let (none, unknown) = (Domain::gap(Gaps::NONE), Domain::gap(Gaps::UNKNOWN));
        for &claim in Claim::ALL {
            let Gap::None { outside_pull_requests, unless } = self.profile.gap(claim) else { continue };
            let concerned = Domain::new(Gaps::ANY, events.clone());
            if let Some(other) = unless {
                self.forbid(claim, [(claim, none.clone()), (other, Domain::present())])?;
            }
            if outside_pull_requests {
                self.forbid(claim, [(claim, none.clone()), (Claim::EventName, concerned.clone())])?;
            }
            // Unknown: only where none is not proven.
            let mut proven = Space::of([(Axis::Claim(claim), unknown.clone())])?;
            if let Some(other) = unless {
                proven.narrow(Axis::Claim(other), &Domain::gap(Gaps::ANY))?;
            }
            if outside_pull_requests {
                proven.narrow(Axis::Claim(Claim::EventName), &concerned.complement()?)?;
            }
            self.impossible.push((Axis::Claim(claim), proven));
        }
        let workflows: Vec<_> = self.profile.workflows().map(|(parts, _)| parts).collect();
        for parts in workflows {
            for (claim, other) in parts.into_iter().flat_map(|part| parts.map(|other| (part, other))) {
                if claim != other {
                    self.forbid(claim, [(claim, Domain::present()), (other, Domain::gap(Gaps::ANY))])?;
                    self.forbid(claim, [(claim, Domain::gap(Gaps::ANY)), (other, Domain::present())])?;
                }
            }
        }
        Ok(())
    }

    /// `ref_type` follows `ref`.
    fn add_types(&mut self) -> Result<(), PatternError> {
        if !self.profile.has_refs() {
            return Ok(());
        }
        let mut others = Lang::texts().after(REFS)?;
        for (kind, prefix) in [("branch", HEADS), ("tag", TAGS)] {
            let below = Lang::starting(prefix, false)?;
            others = others.minus(&below)?;
            let otherwise = Domain::of(Lang::exact(kind, false)).complement()?;
            self.forbid(Claim::RefType, [(Claim::Ref, Domain::of(below)), (Claim::RefType, otherwise)])?;
        }
        let mut odd: BTreeMap<&str, Lang> = BTreeMap::new();
        for (prefix, kind) in self.profile.odd_pairs() {
            let allowed = odd.entry(kind).or_insert_with(Lang::nothing);
            *allowed = allowed.union(&Lang::starting(prefix, false)?)?;
        }
        let untold = Lang::one_of(odd.keys().copied(), false).complement()?;
        self.forbid(Claim::RefType, [(Claim::Ref, Domain::of(others.clone())), (Claim::RefType, Domain::of(untold))])?;
        for (kind, allowed) in odd {
            let refs = Domain::of(others.minus(&allowed)?);
            self.forbid(Claim::RefType, [(Claim::Ref, refs), (Claim::RefType, Domain::of(Lang::exact(kind, false)))])?;
        }
        Ok(())
    }

    /// Whether some token has this value of the claim.
    pub(super) fn can_be(&self, claim: Claim, text: &str) -> bool {
        text.len() <= VALUE_BYTES_MAX && self.possible(claim).allows(text)
    }
    fn possible(&self, claim: Claim) -> &Domain {
        &self.possible[claim as usize]
    }

    fn domain(&self, claim: Claim) -> Result<Domain, PatternError> {
        if !self.profile.provides(claim) {
            return Ok(Domain::gap(Gaps::UNKNOWN));
        }
        let gaps = match self.profile.gap(claim) {
            Gap::Never => Gaps::NEVER,
            Gap::Unknown => Gaps::UNKNOWN,
            Gap::None { .. } => Gaps::NONE | Gaps::UNKNOWN,
        };
        let values = match (claim, claim.kind()) {
            (Claim::RepositoryOwnerId, _) if let Some(owners) = &self.owners => owners.clone(),
            (Claim::Ref, _) => self.refs.clone(),
            (_, Kind::Text) => Lang::texts(),
            // An owner of no repository, where tokens name the one and not the other.
            (Claim::RepositoryOwner, _) => graphic(),
            (_, Kind::Name) => self.repositories.clone(),
            (_, Kind::Boolean) => truth(true).union(&truth(false))?,
            (_, Kind::Id) => match self.profile.id_syntax(claim) {
                "decimal" => self.decimal.clone(),
                other => ids(other)?,
            },
        };
        Ok(Domain::new(gaps, values))
    }

    /// A job of one of these boxes: the first that has one.
    pub fn first_witness(&self, jobs: &[Jobs]) -> Result<Option<Job>, Undecided> {
        jobs.iter().find_map(|jobs| self.witness(jobs).transpose()).transpose()
    }

    /// A job of this box, as a `[[test]]` would state it (what it does not state is left out); `None`: there is none.
    pub fn witness(&self, jobs: &Jobs) -> Result<Option<Job>, Undecided> {
        let all: Vec<Axis> = jobs.iter().map(|(axis, _)| axis).collect();
        // Parts of the box, each with the number of the next impossible box that is to be taken from it.
        let mut open: Vec<(Jobs, usize)> =
            self.sensible(jobs.clone(), all)?.map(|jobs| (jobs, 0)).into_iter().collect();
        let tied = raw::tied(jobs)?;
        let impossible: Vec<&(Axis, Jobs)> = self.impossible.iter().chain(&tied).collect();
        let mut undecided = None;
        let mut looked_at = 0;
        while let Some((part, at)) = open.pop() {
            looked_at += 1;
            if looked_at > PARTS_MAX {
                return Err(Undecided::Parts);
            }
            let matters = |rule: &&(Axis, Jobs)| part.get(&rule.0).is_some();
            let Some(skipped) = impossible[at..].iter().position(matters) else {
                match self.settle(&part) {
                    Ok(None) => {}
                    Err(error) => undecided = Some(error),
                    found => return found,
                }
                continue;
            };
            let (_, none) = impossible[at + skipped];
            for left in part.minus(none)? {
                let left = self.sensible(left, none.iter().map(|(axis, _)| axis))?;
                open.extend(left.map(|left| (left, at + skipped + 1)));
            }
        }
        undecided.map_or(Ok(None), Err)
    }

    /// A box whose claims, of these, are only what they can be; `None`: nothing is left.
    fn sensible(&self, mut jobs: Jobs, axes: impl IntoIterator<Item = Axis>) -> Result<Option<Jobs>, PatternError> {
        for axis in axes {
            if jobs.get(&axis).is_none() {
                continue;
            }
            match &axis {
                Axis::Claim(claim) => jobs.narrow(axis.clone(), self.possible(*claim))?,
                Axis::Raw(raw) => jobs.narrow(axis.clone(), &raw::possible(raw)?)?,
                Axis::Own(_) | Axis::Actor(_) => {}
            }
        }
        Ok((!jobs.is_empty()).then_some(jobs))
    }

    /// Values for a box in which only the repository ties claims together.
    fn settle(&self, jobs: &Jobs) -> Result<Option<Job>, Undecided> {
        let Some(mut witness) = self.repositories_of(jobs)? else { return Ok(None) };
        let own = witness.get(&Claim::Repository).cloned();
        let mut told = serde_json::Map::new();
        for (axis, domain) in jobs.iter() {
            let claim = match axis {
                Axis::Claim(claim) => claim,
                Axis::Own(_) | Axis::Actor(_) => continue,
                Axis::Raw(raw) => {
                    // What holds another claim comes before it.
                    if let Some(value) = raw::value(domain) {
                        raw.put(&mut told, value);
                    }
                    continue;
                }
            };
            // Missing if it may be.
            if domain.gaps != Gaps::NEVER || witness.contains_key(&claim) {
                continue;
            }
            let value = match (claim, &own, self.profile.subject_prefix()) {
                (Claim::Subject, own, Some(prefix)) => subject(&domain.values, prefix, own.as_deref())?,
                (claim, Some(own), _) if self.is_own(claim) => Some(own.clone()),
                _ => domain.values.witness_within(&Lang::texts())?,
            };
            let Some(value) = value.filter(|value| value.len() <= VALUE_BYTES_MAX) else { return Ok(None) };
            witness.insert(claim, value);
        }
        Ok(Some(Job { claims: witness.into_iter().collect(), raw: told }))
    }

    /// The job's repository, and the workflows' repositories that are tied to it.
    ///
    /// Where a forge folds names, so do the conditions on them: equal names are in the same domains.
    fn repositories_of(&self, jobs: &Jobs) -> Result<Option<BTreeMap<Claim, String>>, Undecided> {
        let of = |claim| jobs.get(Axis::Claim(claim)).unwrap_or_else(|| self.possible(claim));
        let mut own = of(Claim::Repository).clone();
        let mut alike = Vec::new();
        let mut unlike = Vec::new();
        for (axis, told) in jobs.iter() {
            let Axis::Own(claim) = axis else { continue };
            match (told.allows("true"), told.allows("false")) {
                (true, true) => {}
                (false, false) => return Ok(None),
                (true, false) => {
                    own = own.intersect(&Domain::of(of(claim).values.clone()))?;
                    alike.push(claim);
                }
                (false, true) => unlike.push((claim, of(claim))),
            }
        }
        // What can be missing, or can be several names, can always be unlike.
        unlike.retain(|(_, domain)| domain.gaps == Gaps::NEVER);
        let mut left = own.values.clone();
        for (_, domain) in &unlike {
            let Some(name) = domain.values.witness() else { return Ok(None) };
            let name = Lang::exact(&name, self.folds);
            if domain.values.is_subset(&name)? {
                left = left.minus(&name)?;
            }
        }
        let mut witness = BTreeMap::new();
        let needed =
            own.gaps == Gaps::NEVER && (jobs.get(Axis::Claim(Claim::Repository)).is_some() || !alike.is_empty());
        let name = if needed || !unlike.is_empty() { left.witness_within(&self.repositories)? } else { None };
        let Some(name) = name else {
            return Ok((!needed && (unlike.is_empty() || own.gaps != Gaps::NEVER)).then_some(witness));
        };
        for claim in alike {
            witness.insert(claim, name.clone());
        }
        for (claim, domain) in unlike {
            let other = domain.values.minus(&Lang::exact(&name, self.folds))?.witness_within(&self.repositories)?;
            let Some(other) = other else { return Ok(None) };
            witness.insert(claim, other);
        }
        witness.insert(Claim::Repository, name);
        Ok(Some(witness))
    }
}

/// A subject that does not speak of another repository than this.
fn subject(values: &Lang, prefix: &str, own: Option<&str>) -> Result<Option<String>, Undecided> {
    let texts = Lang::texts();
    if let Some(free) = values.minus(&Lang::starting(prefix, false)?)?.witness_within(&texts)? {
        return Ok(Some(free));
    }
    let fitting = match own {
        Some(own) => {
            let named = format!("{prefix}{own}");
            Lang::starting(&format!("{named}:"), false)?.union(&Lang::exact(&named, false))?
        }
        // Without ids, which could contradict the job's.
        None => Lang::glob("**@**", Segments::Path, false)?.complement()?,
    };
    match values.intersect(&fitting)?.witness_within(&texts)? {
        Some(subject) => Ok(Some(subject)),
        // There are other ways to name a repository, and other repositories.
        None if !values.is_empty() => Err(Undecided::Subject),
        None => Ok(None),
    }
}

/// ASCII characters that can be seen.
fn graphic() -> Lang {
    let seen: String = ('!'..='~').collect();
    Lang::shapes(&[&[Step::Some(&seen, 1), Step::Run(&seen)]], "a name").unwrap_or_else(|_| Lang::texts())
}

/// Up to 2^64 - 1, without leading zeros.
fn decimal() -> Result<Lang, PatternError> {
    positive(LARGEST_ID)?.union(&Lang::exact("0", false))
}

/// What an `i64` is written as.
pub(super) fn decimals() -> Result<Lang, PatternError> {
    let negative = positive(SMALLEST_NEGATED)?.after("-")?;
    positive(LARGEST)?.union(&negative)?.union(&Lang::exact("0", false))
}

/// From 1 to this.
fn positive(largest: &str) -> Result<Lang, PatternError> {
    let digits = largest.len();
    let mut rows: Vec<Vec<Step<'_>>> = vec![vec![Step::Text(largest)]];
    rows.extend((0..digits - 1).map(|more| vec![Step::Some(&DIGITS[1..], 1), Step::Some(DIGITS, more)]));
    for (at, digit) in largest.bytes().enumerate() {
        let smaller = &DIGITS[usize::from(at == 0)..usize::from(digit - b'0').max(usize::from(at == 0))];
        if !smaller.is_empty() {
            let rest = Step::Some(DIGITS, digits - 1 - at);
            rows.push(vec![Step::Text(&largest[..at]), Step::Some(smaller, 1), rest]);
        }
    }
    Lang::shapes(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), "an id")
}

/// Ids of another syntax than decimal, by the name that profiles give it.
fn ids(syntax: &str) -> Result<Lang, PatternError> {
    let mut uuid = vec![Step::Some(HEX, 8)];
    uuid.extend([4, 4, 4, 12].into_iter().flat_map(|count| [Step::Text("-"), Step::Some(HEX, count)]));
    let row = match syntax {
        "uuid" => uuid,
        "braced_uuid" => [vec![Step::Text("{")], uuid, vec![Step::Text("}")]].concat(),
        "prefixed" => {
            let word = [Step::Some(LETTERS_AND_DIGITS, 1), Step::Run(LETTERS_AND_DIGITS)];
            [&word[..], &[Step::Some("-_", 1)], &word[..]].concat()
        }
        "hex24" => vec![Step::Some(HEX, 24)],
        // The widest: an id that a profile admits is never left out of a proof.
        _ => vec![Step::Some(WORD, 1), Step::Run(WORD)],
    };
    Lang::shapes(&[&row], "an id")
}
