//! The one evaluator, generic over who watches it.
//!
//! Order never changes meaning: two mappings that can give one role to one job do not load, a deny beats every
//! mapping, and what is not known to be present never grants.

mod acting;

use super::{
    MappingId, MappingSet, RoleId,
    set::{Condition, Deny, Issuer, Test},
};
use crate::{
    reason::Reason,
    time::{Seconds, UnixSeconds},
    workload::{Case, Claim, ClaimKey, Presence, RawClaim, Text, Via, Workload},
};

pub(super) use acting::Party;

/// Mappings beyond those of the job's own buckets that are weighed for the nearest miss.
pub(crate) const NEAREST_SCAN_MAPPINGS_MAX: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ask<'r> {
    pub role: Option<&'r str>,
    pub duration: Option<Seconds>,
    pub scope: Option<&'r str>,
}

/// What the rules say. Small: numbers, no text is made on the way to a grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Grant(Grant),
    Deny(Denial),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub mapping: MappingId,
    pub role: RoleId,
    /// Asked for, or given by default; clamped to every ceiling.
    pub duration: Seconds,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// `denied`, `mapping_expired`, `renamed`, `id_mismatch`, `event_not_allowed`, `actor_not_allowed`, `actor_needed`,
    /// `chain_too_long`, `role_needed` or `no_mapping`.
    pub reason: Reason,
    /// The mapping that came nearest, where one gives the asked role.
    pub nearest: Option<MappingId>,
    /// Roles that the job may have: filled for `role_needed`.
    pub roles: Vec<RoleId>,
    /// Name of the deny rule that held: for operators only.
    pub rule: Option<String>,
}

/// How a condition came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Held,
    Failed,
    /// Right id, other name.
    Renamed,
    /// Right name, other id.
    IdMismatch,
}

/// Which reading of "unknown" applies (mappings, "Present, none, unknown").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Mappings and `require`: what is not present is false.
    Grants,
    /// Denies: what is unknown is true.
    Denies,
    /// A mapping, of an actor that only its issuer and subject are known of yet: what is unknown may turn out true.
    Hopes,
}

/// Sees each condition of an evaluation. [`Silent`] compiles to nothing.
pub(crate) trait Observer {
    /// Whether the evaluation goes on after the first condition that fails, and tells near misses apart.
    const ALL: bool;
    fn condition(&mut self, _condition: &Condition, _verdict: Verdict) {}
}

/// Nobody watches.
pub(crate) struct Silent;
impl Observer for Silent {
    const ALL: bool = false;
}

/// How far a mapping is from matching; smaller is nearer.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Distance {
    failed: u32,
    failed_event: u32,
    renamed: bool,
    id_mismatch: bool,
    /// The mapping has had its time.
    over: bool,
    /// A failed condition pins the repository or its owner, and neither id nor name fit.
    elsewhere: bool,
    /// Why it does not take whoever acts, or nobody: counts as one that failed.
    actor: Option<Reason>,
}

impl Observer for Distance {
    const ALL: bool = true;
    fn condition(&mut self, condition: &Condition, verdict: Verdict) {
        self.failed += u32::from(verdict != Verdict::Held);
        match verdict {
            Verdict::Held => {}
            Verdict::Renamed => self.renamed = true,
            Verdict::IdMismatch => self.id_mismatch = true,
            Verdict::Failed if condition.claim == Claim::EventName => self.failed_event += 1,
            Verdict::Failed => self.elsewhere |= condition.claim.canonical().is_some_and(names_repository),
        }
    }
}

fn names_repository(claim: Claim) -> bool {
    use Claim as C;
    matches!(claim, C::Repository | C::RepositoryId | C::RepositoryOwner | C::RepositoryOwnerId)
}

impl Distance {
    /// For sorting. A mapping of another repository comes after all that concern this one.
    pub(crate) fn rank(&self) -> (bool, u32, bool, bool) {
        (self.elsewhere, self.failed, self.over, !(self.renamed || self.id_mismatch))
    }
    /// The reason for a miss.
    pub(crate) fn miss(&self) -> Reason {
        if self.failed == 0 && self.over {
            Reason::MappingExpired
        } else if let (1, Some(reason)) = (self.failed, self.actor) {
            reason
        } else if self.renamed {
            Reason::Renamed
        } else if self.id_mismatch {
            Reason::IdMismatch
        } else if self.failed == self.failed_event {
            Reason::EventNotAllowed
        } else {
            Reason::NoMapping
        }
    }
}

/// Judges a case. The same answer as [`super::explain`], without the telling. Allocates nothing on the way to a
/// grant.
pub fn decide(set: &MappingSet, case: &Case<'_>, ask: &Ask<'_>, now: UnixSeconds) -> Decision {
    let role = ask.role.map(|name| set.role_named(name));
    let found = match (Judge::new(set, case, now), role) {
        (None, _) | (_, Some(None)) => Err(refusal(Reason::NoMapping)),
        (Some(judge), Some(Some(role))) => judge.asked(role),
        (Some(judge), None) => judge.unasked(),
    };
    match found {
        Ok((mapping, role)) => {
            Decision::Grant(Grant { mapping, role, duration: duration(set, mapping, role, ask.duration) })
        }
        Err(denial) => Decision::Deny(denial),
    }
}

/// Every role that this case could be granted, one at a time; sorted.
pub fn possible_roles(set: &MappingSet, case: &Case<'_>, now: UnixSeconds) -> Vec<RoleId> {
    Judge::new(set, case, now).map_or_else(Vec::new, |judge| judge.possible())
}

/// The name that the mapping or its role's `require` writes for the job's repository, where it has another one by now and is
/// granted all the same (`on_rename = "warn"`).
pub fn renamed<'s>(set: &'s MappingSet, grant: &Grant, workload: &Workload<'_>) -> Option<&'s str> {
    let folds = set.issuer(set.mapping(grant.mapping).issuer).folds_names;
    set.conditions_for(grant.mapping, grant.role).find_map(|condition| old_name(condition, workload, folds))
}

/// The name that a condition writes for the job's repository and that is not its name any more.
pub(super) fn old_name<'c>(condition: &'c Condition, workload: &Workload<'_>, folds: bool) -> Option<&'c str> {
    let Test::ById(pairs) = &condition.test else { return None };
    let [(name, id)] = &**pairs else { return None };
    let own = |claim| workload.text(claim);
    let moved =
        own(Claim::RepositoryId) == Some(id) && own(Claim::Repository).is_some_and(|own| !same(own, name, folds));
    moved.then_some(name)
}

/// Mappings in the shadow that would give a role to this case, denies included: for evidence.
pub fn shadowed(set: &MappingSet, case: &Case<'_>, ask: &Ask<'_>, now: UnixSeconds) -> Vec<(MappingId, RoleId)> {
    let role = ask.role.map(|name| set.role_named(name));
    let Some(judge) = Judge::new(set, case, now).filter(|_| role != Some(None)) else { return Vec::new() };
    let near = judge.shadows(role.flatten()).into_iter();
    let held =
        near.filter(|(_, role, distance)| distance.failed == 0 && !distance.over && judge.denied(*role).is_none());
    let mut found: Vec<(MappingId, RoleId)> = Vec::new();
    for (id, role, _) in held {
        // By several alternatives it would give the role once.
        let again =
            |(other, given): &(MappingId, RoleId)| *given == role && set.mapping(*other).name == set.mapping(id).name;
        if !found.iter().any(again) {
            found.push((id, role));
        }
    }
    found
}

/// What a grant by this mapping lasts: what was asked for, or its default, within every ceiling.
pub fn duration(set: &MappingSet, mapping: MappingId, role: RoleId, asked: Option<Seconds>) -> Seconds {
    let mapping = set.mapping(mapping);
    let role = set.role(role).max_duration;
    let ceiling = mapping.max_duration.map_or(role, |own| own.min(role));
    asked.or(mapping.duration).unwrap_or(ceiling).min(ceiling).max(Seconds(1))
}

fn refusal(reason: Reason) -> Denial {
    Denial { reason, nearest: None, roles: Vec::new(), rule: None }
}

/// A mapping, a role that it would give, and how far it is from giving it.
pub(crate) type Candidate = (MappingId, RoleId, Distance);

/// A case before the mappings of its issuer.
pub(crate) struct Judge<'a> {
    set: &'a MappingSet,
    principal: Party<'a>,
    /// All of them, the outermost first.
    actors: &'a [Workload<'a>],
    via: &'a Via<'a>,
    now: UnixSeconds,
}

impl<'a> Judge<'a> {
    /// `None` when the folder does not know the issuer.
    pub(crate) fn new(set: &'a MappingSet, case: &'a Case<'_>, now: UnixSeconds) -> Option<Self> {
        let (issuer, _) = set.issuer_named(&case.principal.issuer)?;
        let principal = Party { issuer, workload: &case.principal, acts: false };
        Some(Self { set, principal, actors: &case.actors, via: &case.via, now })
    }

    fn asked(&self, role: RoleId) -> Result<(MappingId, RoleId), Denial> {
        // Mappings first: a deny is told only to a job that would have the role but for it, or the answer would show
        // which roles exist.
        let found = self.held(Some(role)).next().ok_or_else(|| self.miss(Some(role)))?;
        match self.denied(role) {
            Some(deny) => Err(self.denial(deny, Some(role))),
            None => Ok(found),
        }
    }

    fn unasked(&self) -> Result<(MappingId, RoleId), Denial> {
        let mut found: Option<(MappingId, RoleId)> = None;
        let mut denied = None;
        for (mapping, role) in self.held(None) {
            match self.denied(role) {
                Some(deny) => denied = denied.or(Some((deny, role))),
                None if found.is_some_and(|(_, other)| other != role) => {
                    return Err(Denial { roles: self.possible(), ..refusal(Reason::RoleNeeded) });
                }
                None => found = found.or(Some((mapping, role))),
            }
        }
        match (found, denied) {
            (Some(found), _) => Ok(found),
            (None, Some((deny, role))) => Err(self.denial(deny, Some(role))),
            (None, None) => Err(self.miss(None)),
        }
    }

    fn possible(&self) -> Vec<RoleId> {
        let mut roles: Vec<RoleId> =
            self.held(None).map(|(_, role)| role).filter(|role| self.denied(*role).is_none()).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Mappings whose conditions hold, with each role that they give to this job, denies aside.
    fn held(&self, wanted: Option<RoleId>) -> impl Iterator<Item = (MappingId, RoleId)> {
        let candidates = self.set.index().candidates(self.principal.issuer, self.principal.workload, wanted);
        let candidates = candidates.filter(move |id| {
            let mapping = self.set.mapping(*id);
            mapping.issuer == self.principal.issuer
                && !mapping.shadow
                && !mapping.is_over(self.now)
                && wanted.is_none_or(|role| mapping.roles.contains(&role))
                && self.check(&mapping.conditions, Side::Grants, &mut Silent)
                && self.actor_miss(mapping).is_none()
        });
        candidates.flat_map(move |id| {
            let roles = self.set.mapping(id).roles.iter().copied();
            roles.filter(move |role| wanted.is_none_or(|wanted| wanted == *role)).filter_map(move |role| {
                let required = self.set.required(role, self.principal.issuer);
                self.check(required, Side::Grants, &mut Silent).then_some((id, role))
            })
        })
    }

    /// Whether all of some conditions hold for the job.
    pub(crate) fn check<'c, O: Observer>(
        &self,
        conditions: impl IntoIterator<Item = &'c Condition>,
        side: Side,
        watch: &mut O,
    ) -> bool {
        self.check_of(self.principal, conditions, side, watch)
    }

    /// Whether all of some conditions hold for one of the case.
    pub(crate) fn check_of<'c, O: Observer>(
        &self,
        party: Party<'_>,
        conditions: impl IntoIterator<Item = &'c Condition>,
        side: Side,
        watch: &mut O,
    ) -> bool {
        let issuer = self.set.issuer(party.issuer);
        let mut all = true;
        for condition in conditions {
            let verdict = test(issuer, condition, party.workload, side, O::ALL);
            watch.condition(condition, verdict);
            all &= verdict == Verdict::Held;
            if !all && !O::ALL {
                break;
            }
        }
        all
    }

    /// Mappings with each role that they would give, the nearest first; those of the job's own buckets are always
    /// among them, others up to a limit. Also says how many were left out.
    pub(crate) fn nearest(&self, wanted: Option<RoleId>) -> (Vec<Candidate>, usize) {
        let own = self.own(wanted);
        let index = self.set.index();
        let all = (0..self.set.mappings.len() as u32).map(MappingId);
        let (giving, all) = match wanted {
            Some(role) => (index.gives(role), None),
            None => (&[][..], Some(all)),
        };
        let others = giving.iter().copied().chain(all.into_iter().flatten());
        let mut others: Vec<MappingId> = others
            .filter(|id| self.set.mapping(*id).issuer == self.principal.issuer && own.binary_search(id).is_err())
            .collect();
        let omitted = others.len().saturating_sub(NEAREST_SCAN_MAPPINGS_MAX);
        others.truncate(NEAREST_SCAN_MAPPINGS_MAX);
        (self.ranked(own.into_iter().chain(others), wanted, false), omitted)
    }

    /// The first of [`Judge::nearest`]. Whatever is not in the job's own buckets pins another repository and comes
    /// after all that does not, so the others are looked at only if nothing concerns this one.
    fn first(&self, wanted: Option<RoleId>) -> Option<Candidate> {
        let own = self.ranked(self.own(wanted), wanted, false).first().copied();
        own.filter(|(.., distance)| !distance.elsewhere).or_else(|| self.nearest(wanted).0.first().copied())
    }

    fn own(&self, wanted: Option<RoleId>) -> Vec<MappingId> {
        let index = self.set.index();
        let mut own: Vec<MappingId> =
            index.candidates(self.principal.issuer, self.principal.workload, wanted).collect();
        own.extend(index.namesakes(self.principal.issuer, self.principal.workload, wanted));
        own.sort_unstable();
        own.dedup();
        own
    }

    /// Mappings in the shadow that concern the job, the nearest first.
    pub(crate) fn shadows(&self, wanted: Option<RoleId>) -> Vec<Candidate> {
        if !self.set.index().has_shadows() { Vec::new() } else { self.ranked(self.own(wanted), wanted, true) }
    }

    fn ranked(&self, ids: impl IntoIterator<Item = MappingId>, wanted: Option<RoleId>, shadow: bool) -> Vec<Candidate> {
        let mut found = Vec::new();
        for id in ids {
            let mapping = self.set.mapping(id);
            if mapping.shadow != shadow {
                continue;
            }
            let roles = mapping.roles.iter().filter(|role| wanted.is_none_or(|wanted| wanted == **role));
            for role in roles.filter(|_| mapping.issuer == self.principal.issuer) {
                let mut distance = Distance { over: mapping.is_over(self.now), ..Distance::default() };
                self.check(self.set.conditions_for(id, *role), Side::Grants, &mut distance);
                distance.actor = self.actor_miss(mapping);
                distance.failed += u32::from(distance.actor.is_some());
                found.push((id, *role, distance));
            }
        }
        found.sort_by_key(|(id, role, distance)| (distance.rank(), *id, *role));
        found
    }

    fn miss(&self, wanted: Option<RoleId>) -> Denial {
        match self.first(wanted) {
            Some((nearest, _, distance)) => Denial { nearest: Some(nearest), ..refusal(distance.miss()) },
            None => refusal(Reason::NoMapping),
        }
    }

    fn denial(&self, deny: &Deny, role: Option<RoleId>) -> Denial {
        let nearest = self.first(role).map(|(id, ..)| id);
        Denial { nearest, rule: Some(deny.name.clone()), ..refusal(Reason::Denied) }
    }

    pub(crate) fn workload(&self) -> &'a Workload<'a> {
        self.principal.workload
    }
}

/// Judges one condition. `finely`: tells a renamed repository and a mismatched id from any other failure.
fn test(issuer: &Issuer, condition: &Condition, workload: &Workload<'_>, side: Side, finely: bool) -> Verdict {
    let verdict = |part| match &condition.claim {
        ClaimKey::Canonical(claim) => part_of(issuer, condition, (*claim, part), workload, side, finely),
        ClaimKey::Raw(raw) if raw_holds(condition, (raw, part), workload, side) => Verdict::Held,
        ClaimKey::Raw(_) => Verdict::Failed,
    };
    let mut best = Verdict::Failed;
    for part in condition.test.parts() {
        match verdict(part) {
            Verdict::Held => return Verdict::Held,
            Verdict::Failed => {}
            near => best = near,
        }
    }
    best
}

/// One test of a condition on a raw claim. What is not there is unknown, never none: no profile proves it.
fn raw_holds(condition: &Condition, (raw, test): (&RawClaim, &Test), workload: &Workload<'_>, side: Side) -> bool {
    match raw.value(workload.raw()) {
        None => unknown_is(condition, side),
        Some(value) => test.of_raw(raw, value).unwrap_or(side == Side::Denies),
    }
}

/// One test of a condition on a canonical claim.
fn part_of(
    issuer: &Issuer,
    condition: &Condition,
    (claim, test): (Claim, &Test),
    workload: &Workload<'_>,
    side: Side,
    finely: bool,
) -> Verdict {
    let held = match test {
        // None is made of others of its kind; the others are of raw claims.
        Test::Any(_) | Test::Every(_) | Test::Integer(_) => false,
        Test::Repository(pairs) => {
            let claims = [Claim::Repository, Claim::RepositoryId];
            return pair(issuer, condition, workload, side, claims, finely, pairs);
        }
        Test::ById(pairs)
            if side == Side::Grants && pairs.iter().any(|(_, id)| workload.text(Claim::RepositoryId) == Some(id)) =>
        {
            true
        }
        Test::ById(pairs) => {
            let claims = [Claim::Repository, Claim::RepositoryId];
            return pair(issuer, condition, workload, side, claims, finely, pairs);
        }
        Test::Owner(pairs) => {
            let claims = [Claim::RepositoryOwner, Claim::RepositoryOwnerId];
            return pair(issuer, condition, workload, side, claims, finely, pairs);
        }
        Test::Present => known(condition, workload.get(claim), side, |_| Some(true)),
        // None is false in a deny; but this condition asks for none itself.
        Test::Absent => match workload.get(claim) {
            Presence::Present(_) => false,
            Presence::None => true,
            Presence::Unknown => unknown_is(condition, side),
        },
        Test::Is(wanted) => known(condition, workload.get(claim), side, |value| match value {
            Text::Boolean(value) => Some(value == wanted),
            Text::Text(_) => None,
        }),
        Test::Text(lang) => known(condition, workload.get(claim), side, |value| match value {
            Text::Text(value) => Some(lang.matches(value)),
            Text::Boolean(_) => None,
        }),
        Test::SameRepository => known(condition, workload.get(claim), side, |value| match value {
            Text::Boolean(_) => None,
            Text::Text(theirs) => Some(known(condition, workload.get(Claim::Repository), side, |own| match own {
                Text::Text(own) => Some(same(own, theirs, issuer.folds_names)),
                Text::Boolean(_) => None,
            })),
        }),
    };
    if held { Verdict::Held } else { Verdict::Failed }
}

/// A test of a value that is present; `None` from it: another type than it should be.
fn known<'w>(
    condition: &Condition,
    presence: &'w Presence<'_>,
    side: Side,
    test: impl FnOnce(&'w Text<'w>) -> Option<bool>,
) -> bool {
    match presence {
        Presence::Present(value) => test(value).unwrap_or(side == Side::Denies),
        Presence::None => false,
        Presence::Unknown => unknown_is(condition, side),
    }
}

fn unknown_is(condition: &Condition, side: Side) -> bool {
    side == Side::Hopes || (side == Side::Denies && !condition.if_unknown_ignore)
}

fn same(a: &str, b: &str, fold: bool) -> bool {
    if fold { a.eq_ignore_ascii_case(b) } else { a == b }
}

/// The names that go with an id in pairs sorted by id, an empty one for "any".
fn names_of<'p>(pairs: &'p [(String, String)], id: &'p str) -> impl Iterator<Item = &'p str> {
    let from = pairs.partition_point(|pair| *pair.1 < *id);
    pairs[from..].iter().take_while(move |pair| pair.1 == id).map(|(name, _)| name.as_str())
}

/// Name and id must both fit, pairwise. In a deny one of them is enough: a rename must not end it, and what took
/// over the name is not trusted either.
fn pair(
    issuer: &Issuer,
    condition: &Condition,
    workload: &Workload<'_>,
    side: Side,
    [name, id]: [Claim; 2],
    finely: bool,
    pairs: &[(String, String)],
) -> Verdict {
    let fits = |own: &str, name: &str| name.is_empty() || same(own, name, issuer.folds_names);
    let names = || pairs.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty());
    let is_named = |own: &str| names().any(|name| fits(own, name));
    let (own_name, own_id) = (workload.text(name), workload.text(id));
    if side == Side::Denies {
        let by_id = known(condition, workload.get(id), side, |value| match value {
            Text::Text(id) => Some(names_of(pairs, id).next().is_some()),
            Text::Boolean(_) => None,
        });
        let by_name = || {
            known(condition, workload.get(name), side, |value| match value {
                Text::Text(own) => Some(is_named(own)),
                Text::Boolean(_) => None,
            })
        };
        return if by_id || (names().next().is_some() && by_name()) { Verdict::Held } else { Verdict::Failed };
    }
    let Some(own_id) = own_id else {
        let hoped = side == Side::Hopes && matches!(workload.get(id), Presence::Unknown);
        return if hoped { Verdict::Held } else { Verdict::Failed };
    };
    let mut id_fits = false;
    for name in names_of(pairs, own_id) {
        id_fits = true;
        if name.is_empty() || own_name.is_some_and(|own| fits(own, name)) {
            return Verdict::Held;
        }
    }
    if id_fits && own_name.is_some() {
        Verdict::Renamed
    } else if finely && !id_fits && own_name.is_some_and(is_named) {
        Verdict::IdMismatch
    } else {
        Verdict::Failed
    }
}

#[cfg(test)]
mod tests;
