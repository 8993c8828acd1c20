//! One role of one issuer: who gains it, who loses it, on which other terms.
//!
//! Only mappings that are not the same on both sides are worked on, and each only against those that it can meet: what
//! pins another repository is not looked at.

use super::{
    Example, Kind, Outcome, Side, Work,
    shape::Shape,
    terms::{self, Term},
    universe::{Shown, Universe},
};
use crate::{
    mapping::{Ask, Condition, Decision, Deny, IssuerId, Mapping, MappingId, RoleId, decide},
    review::{
        Given, GivenError, Job,
        boxes::{Axis, BOXES_MAX, Jobs, STEPS_MAX, Undecided},
        reach::{listed_ids, listed_names},
    },
    time::UnixSeconds,
    workload::{Case, Claim, Via},
};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most boxes of jobs that one mapping may come to differ in: each is shown by a job.
const PIECES_MAX: usize = 2_000;

/// The other side's mappings with the jobs that meet one here, and the terms that differ for them.
type Differing = Vec<(MappingId, Vec<Jobs>, Vec<Term>)>;

/// One side's part in a role of an issuer.
pub(super) struct Half<'a> {
    pub side: Side<'a>,
    pub issuer: Option<IssuerId>,
    /// Of who acts.
    pub actor: Option<IssuerId>,
    /// Of the token of ours that they bring, in a downstream exchange.
    pub audience: Option<&'a str>,
    pub role: Option<RoleId>,
    /// Those that give the role.
    pub mappings: Vec<MappingId>,
    /// Those of them that are not the same on the other side.
    pub touched: Vec<MappingId>,
    /// About this role and the issuer of the jobs or, `true`, of who acts for them.
    pub denies: Vec<(bool, &'a Deny)>,
    /// Those of them that the other side has not.
    pub new_denies: Vec<(bool, &'a Deny)>,
}

/// What a mapping gives more, less or otherwise.
pub(super) struct Found {
    pub kind: Kind,
    pub role: String,
    /// Name and id, as far as the jobs are of one repository.
    pub repository: Option<(String, String)>,
    pub mappings: [Option<String>; 2],
    pub terms: Vec<Term>,
    pub shapes: Vec<Shape>,
    pub example: Example,
    #[cfg(test)]
    pub jobs: Vec<Jobs>,
}

/// What a group's comparison told.
#[derive(Default)]
pub(super) struct Told {
    pub found: Vec<Found>,
    /// Of these mappings it is not known.
    pub undecided: Vec<(String, Undecided)>,
}

/// The evaluator does not confirm what the comparison found: a fault of the program.
#[derive(Debug, thiserror::Error)]
#[error(
    "internal error: the evaluator does not confirm a difference of role `{role}` for the job {job}: {before} before, \
     {after} after; report this with both folders"
)]
pub struct Unconfirmed {
    pub role: String,
    pub job: String,
    pub before: Outcome,
    pub after: Outcome,
}

/// Comparisons that are left for a group.
struct Meter<'w> {
    left: usize,
    work: &'w mut Work,
}

impl Meter<'_> {
    fn step(&mut self) -> Result<(), Undecided> {
        self.work.comparisons += 1;
        self.left = self.left.checked_sub(1).ok_or(Undecided::Steps)?;
        Ok(())
    }

    fn subtract<'j>(
        &mut self,
        from: Vec<Jobs>,
        taken: impl IntoIterator<Item = &'j Jobs>,
    ) -> Result<Vec<Jobs>, Undecided> {
        let mut rest = from;
        for taken in taken {
            let mut pieces = Vec::with_capacity(rest.len());
            for part in rest {
                self.step()?;
                pieces.extend(part.minus(taken)?);
            }
            if pieces.len() > BOXES_MAX {
                return Err(Undecided::Boxes);
            }
            rest = pieces;
            if rest.is_empty() {
                break;
            }
        }
        Ok(rest)
    }

    fn meet<'j>(&mut self, jobs: &Jobs, others: impl IntoIterator<Item = &'j Jobs>) -> Result<Vec<Jobs>, Undecided> {
        let mut met = Vec::new();
        for other in others {
            self.step()?;
            met.extend(jobs.intersect(other)?);
        }
        Ok(met)
    }
}

/// Boxes of one side, found by the repository that they pin.
#[derive(Default)]
struct Shelf {
    has: HashSet<MappingId, FixedState>,
    boxes: Vec<(MappingId, Jobs)>,
    by_id: HashMap<String, Vec<usize>, FixedState>,
    unpinned: Vec<usize>,
}

impl Shelf {
    fn put(&mut self, mapping: MappingId, boxes: Vec<Jobs>) {
        for jobs in boxes {
            let at = self.boxes.len();
            match pinned_id(&jobs) {
                Some(id) => self.by_id.entry(id).or_default().push(at),
                None => self.unpinned.push(at),
            }
            self.boxes.push((mapping, jobs));
        }
        self.has.insert(mapping);
    }

    /// What could meet this box.
    fn beside(&self, jobs: &Jobs) -> impl Iterator<Item = &(MappingId, Jobs)> {
        let (pinned, all) = match pinned_id(jobs) {
            Some(id) => (self.by_id.get(&id).map_or(&[][..], Vec::as_slice), &[][..]),
            None => (&[][..], &self.boxes[..]),
        };
        let unpinned: &[usize] = if all.is_empty() { &self.unpinned } else { &[] };
        pinned.iter().chain(unpinned).map(|at| &self.boxes[*at]).chain(all)
    }
}

fn pinned_id(jobs: &Jobs) -> Option<String> {
    only(jobs, Claim::RepositoryId)
}

/// The one value that a claim may have.
fn only(jobs: &Jobs, claim: Claim) -> Option<String> {
    let domain = jobs.get(Axis::Claim(claim))?;
    let mut members = domain.values.members()?;
    let one = members.next()?.to_owned();
    (members.len() == 0 && domain.gaps == crate::lang::space::Gaps::NEVER).then_some(one)
}

/// Mappings of one side by what they list, so that a mapping's neighbours are found without looking at all.
struct Neighbours {
    listed: HashMap<(bool, String), Vec<MappingId>, FixedState>,
    by_id_alone: Vec<MappingId>,
    by_name_alone: Vec<MappingId>,
    free: Vec<MappingId>,
    all: Vec<MappingId>,
}

/// The ids and names of which a job must have one.
fn lists(half: &Half<'_>, mapping: MappingId) -> [Option<Vec<String>>; 2] {
    let Some(role) = half.role else { return [None, None] };
    let conditions = || half.side.set.conditions_for(mapping, role);
    [listed_ids(conditions()), listed_names(conditions())]
        .map(|listed| Some(listed?.into_iter().map(str::to_ascii_lowercase).collect()))
}

impl Neighbours {
    fn of(half: &Half<'_>) -> Self {
        let mut found = Self {
            listed: HashMap::default(),
            by_id_alone: Vec::new(),
            by_name_alone: Vec::new(),
            free: Vec::new(),
            all: half.mappings.clone(),
        };
        for &mapping in &half.mappings {
            let lists = lists(half, mapping);
            match &lists {
                [None, None] => found.free.push(mapping),
                [Some(_), None] => found.by_id_alone.push(mapping),
                [None, Some(_)] => found.by_name_alone.push(mapping),
                [Some(_), Some(_)] => {}
            }
            for (named, values) in [false, true].into_iter().zip(lists) {
                for value in values.into_iter().flatten() {
                    found.listed.entry((named, value)).or_default().push(mapping);
                }
            }
        }
        found
    }

    fn beside(&self, lists: [Option<Vec<String>>; 2]) -> Vec<MappingId> {
        let mut beside = match &lists {
            [None, None] => return self.all.clone(),
            [Some(_), None] => self.by_name_alone.clone(),
            [None, Some(_)] => self.by_id_alone.clone(),
            [Some(_), Some(_)] => Vec::new(),
        };
        beside.extend(&self.free);
        for (named, values) in [false, true].into_iter().zip(lists) {
            for value in values.into_iter().flatten() {
                beside.extend(self.listed.get(&(named, value)).into_iter().flatten());
            }
        }
        beside.sort_unstable();
        beside.dedup();
        beside
    }
}

impl Half<'_> {
    fn reach(&self, universe: &Universe<'_>, mapping: MappingId) -> Result<Vec<Jobs>, Undecided> {
        let (Some(issuer), Some(role)) = (self.issuer, self.role) else { return Ok(Vec::new()) };
        let set = self.side.set;
        let rule = set.mapping(mapping).actor.as_deref().filter(|_| universe.actor.is_some());
        let actor = rule.map(|rule| (set.issuer(rule.issuer), rule.conditions.iter().collect()));
        universe.granted((set.issuer(issuer), set.conditions_for(mapping, role).collect()), actor)
    }

    /// What the evaluator says of a job.
    fn outcome(&self, role: &str, (job, actor): &Shown) -> (Option<MappingId>, Outcome) {
        let refused = |reason: &str| (None, Outcome { mapping: None, reason: Some(reason.to_owned()), rule: None });
        let Some(issuer) = self.issuer else { return refused("issuer_unknown") };
        let Side { set, profiles, .. } = self.side;
        let workload = |issuer, job: &Job| match Given::Workload(job.clone()).workload(set, profiles, issuer) {
            Ok(workload) => Ok(workload),
            Err(GivenError::Refused(error)) => Err(refused(error.reason().name())),
            Err(error) => Err(refused(&error.to_string())),
        };
        let principal = match workload(issuer, job) {
            Ok(principal) => principal,
            Err(refused) => return refused,
        };
        let actors = match (actor, self.actor) {
            (None, _) => Vec::new(),
            (Some(_), None) => return refused("issuer_unknown"),
            (Some((_, job)), Some(issuer)) => match workload(issuer, job) {
                Ok(actor) => vec![actor],
                Err(refused) => return refused,
            },
        };
        let via = self.audience.map_or(Via::Job, |audience| Via::Downstream(audience.into()));
        let case = Case { principal, actors, via };
        match decide(set, &case, &Ask { role: Some(role), ..Ask::default() }, UnixSeconds(0)) {
            Decision::Grant(grant) => {
                let name = set.mapping(grant.mapping).name.clone();
                (Some(grant.mapping), Outcome { mapping: Some(name), reason: None, rule: None })
            }
            Decision::Deny(denial) => {
                let reason = Some(denial.reason.name().to_owned());
                (None, Outcome { mapping: None, reason, rule: denial.rule })
            }
        }
    }

    /// The repository that the boxes of a mapping pin, as the mapping writes it.
    fn repository(&self, mapping: MappingId, jobs: &Jobs) -> Option<(String, String)> {
        let (id, name) = (pinned_id(jobs), only(jobs, Claim::Repository));
        let conditions = self.side.set.mapping(mapping).conditions.iter();
        let pairs = conditions.filter_map(|condition| condition.test.repositories());
        let written = pairs.flatten().find(|(other, own)| {
            Some(own) == id.as_ref() && name.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(other))
        });
        match (written, id, name) {
            (Some((name, id)), ..) => Some((name.clone(), id.clone())),
            (None, None, None) => None,
            (None, id, name) => Some((name.unwrap_or_default(), id.unwrap_or_default())),
        }
    }
}

/// Compares one role of one issuer.
pub(super) fn compare(
    universe: &Universe<'_>,
    role: &str,
    halves: [&Half<'_>; 2],
    work: &mut Work,
) -> Result<Told, Box<Unconfirmed>> {
    let mut told = Told::default();
    work.groups += 1;
    let mut meter = Meter { left: STEPS_MAX, work };
    for kind in [Kind::Gain, Kind::Loss] {
        let at = usize::from(kind == Kind::Gain);
        let (from, other) = (halves[at], halves[1 - at]);
        if from.touched.is_empty() {
            continue;
        }
        let role_terms = match halves.map(|half| half.role) {
            [Some(old), Some(new)] => terms::of_roles(halves.map(|half| half.side.set), [old, new]),
            _ => Vec::new(),
        };
        let (shelf, denied) = Default::default();
        let mut pass = Pass { universe, role, halves, kind, from, other, role_terms, shelf, denied };
        match pass.denied() {
            Ok(denied) => pass.denied = denied,
            Err(error) => {
                let name = |id: &MappingId| from.side.set.mapping(*id).name.clone();
                told.undecided.extend(from.touched.iter().map(|id| (name(id), error.clone())));
                continue;
            }
        }
        let neighbours = Neighbours::of(other);
        for &mapping in &from.touched {
            let name = &from.side.set.mapping(mapping).name;
            match pass.pieces(mapping, &neighbours, &mut meter).and_then(|pieces| pass.witnessed(mapping, pieces)) {
                Ok(shown) => told.found.extend(pass.confirmed(shown)?),
                Err(error) => told.undecided.push((name.clone(), error)),
            }
        }
    }
    Ok(told)
}

/// Boxes that the denies take: all of this side's, those that only the other side has, all of the other side's.
#[derive(Default)]
struct Denied {
    own: Vec<Jobs>,
    gone: Vec<Jobs>,
    other: Vec<Jobs>,
}

/// What one side gives and the other does not; with the later side, also what both give on other terms.
struct Pass<'p, 'a> {
    universe: &'p Universe<'p>,
    role: &'p str,
    halves: [&'p Half<'a>; 2],
    kind: Kind,
    from: &'p Half<'a>,
    other: &'p Half<'a>,
    /// In which the role itself differs.
    role_terms: Vec<Term>,
    shelf: Shelf,
    denied: Denied,
}

/// Boxes of one mapping that differ alike. `with`: the other side's mapping, where there is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    with: Option<MappingId>,
    repository: Option<(String, String)>,
    terms: Vec<Term>,
}

type Pieces = BTreeMap<Key, Vec<Jobs>>;
type Witnessed = Vec<(Key, MappingId, Vec<(Jobs, Shown)>)>;

impl Pass<'_, '_> {
    fn denied(&self) -> Result<Denied, Undecided> {
        Ok(Denied {
            own: self.universe.denied(&self.from.denies)?,
            gone: self.universe.denied(&self.other.new_denies)?,
            other: self.universe.denied(&self.other.denies)?,
        })
    }

    fn pieces(
        &mut self,
        mapping: MappingId,
        neighbours: &Neighbours,
        meter: &mut Meter<'_>,
    ) -> Result<Pieces, Undecided> {
        let boxes = self.from.reach(self.universe, mapping)?;
        meter.work.mappings += 1;
        for other in neighbours.beside(lists(self.from, mapping)) {
            if !self.shelf.has.contains(&other) {
                self.shelf.put(other, self.other.reach(self.universe, other)?);
                meter.work.neighbours += 1;
            }
        }
        let mut pieces = Pieces::new();
        for jobs in &boxes {
            let repository = self.from.repository(mapping, jobs);
            let outside = meter.subtract(vec![jobs.clone()], self.shelf.beside(jobs).map(|(_, jobs)| jobs))?;
            let mut differing = meter.subtract(outside, &self.denied.own)?;
            let freed = meter.meet(jobs, &self.denied.gone)?;
            differing.extend(meter.subtract(freed, &self.denied.own)?);
            if !differing.is_empty() {
                let key = Key { kind: self.kind, with: None, repository: repository.clone(), terms: Vec::new() };
                pieces.entry(key).or_default().extend(differing);
            }
            if self.kind == Kind::Gain {
                for (before, shared, terms) in self.shared(mapping, jobs, meter)? {
                    let repository = repository.clone();
                    let key = Key { kind: Kind::Terms, with: Some(before), repository, terms };
                    pieces.entry(key).or_default().extend(shared);
                }
            }
        }
        if pieces.values().map(Vec::len).sum::<usize>() > PIECES_MAX {
            return Err(Undecided::Boxes);
        }
        Ok(pieces)
    }

    /// Jobs that have the role on both sides, on other terms.
    fn shared(&self, mapping: MappingId, jobs: &Jobs, meter: &mut Meter<'_>) -> Result<Differing, Undecided> {
        let [Some(old), Some(new)] = self.halves.map(|half| half.role) else { return Ok(Vec::new()) };
        let sets = self.halves.map(|half| half.side.set);
        let mut shared = Vec::new();
        for (before, theirs) in self.shelf.beside(jobs) {
            meter.step()?;
            let mut own = terms::of_mappings(sets, [*before, mapping], [old, new]);
            if self.universe.actor.is_some() {
                own.extend(terms::of_actors(sets, [*before, mapping]));
            }
            if own.is_empty() && self.role_terms.is_empty() {
                continue;
            }
            let terms = self.role_terms.iter().cloned().chain(own).collect();
            let both = meter.meet(jobs, [theirs])?;
            let both = meter.subtract(both, self.denied.own.iter().chain(&self.denied.other))?;
            if !both.is_empty() {
                shared.push((*before, both, terms));
            }
        }
        Ok(shared)
    }

    /// Boxes that hold a job, with the job.
    fn witnessed(&self, mapping: MappingId, pieces: Pieces) -> Result<Witnessed, Undecided> {
        let mut found = Vec::new();
        for (key, boxes) in pieces {
            let mut shown = Vec::new();
            for jobs in boxes {
                if let Some(job) = self.universe.example(&jobs)? {
                    shown.push((jobs, job));
                }
            }
            if !shown.is_empty() {
                found.push((key, mapping, shown));
            }
        }
        Ok(found)
    }

    fn confirmed(&self, shown: Witnessed) -> Result<Vec<Found>, Box<Unconfirmed>> {
        let mut found = Vec::new();
        for (key, mapping, shown) in shown {
            let expected = match key.kind {
                Kind::Gain => [None, Some(mapping)],
                Kind::Loss => [Some(mapping), None],
                Kind::Terms => [key.with, Some(mapping)],
            };
            let mut example = None;
            for (_, job) in &shown {
                let [(a, before), (b, after)] = self.halves.map(|half| half.outcome(self.role, job));
                if [a, b] != expected {
                    let (role, job) = (self.role.to_owned(), super::line(&job.0, job.1.as_ref()));
                    return Err(Box::new(Unconfirmed { role, job, before, after }));
                }
                example.get_or_insert_with(|| {
                    let (role, (job, actor)) = (self.role.to_owned(), job.clone());
                    Example { role, job, actor, before, after }
                });
            }
            let Some(example) = example else { continue };
            let issuers = [self.from.issuer, self.from.actor].map(|id| id.map(|id| self.from.side.set.issuer(id)));
            let shape = |(jobs, _): &(Jobs, Shown)| self.universe.shape(jobs, issuers, key.repository.is_some());
            let mut shapes: Vec<Shape> = shown.iter().map(shape).collect();
            shapes.sort();
            shapes.dedup();
            let named = |at: usize| expected[at].map(|id| self.halves[at].side.set.mapping(id).name.clone());
            found.push(Found {
                kind: key.kind,
                role: self.role.to_owned(),
                repository: key.repository,
                mappings: [named(0), named(1)],
                terms: key.terms,
                shapes,
                example,
                #[cfg(test)]
                jobs: shown.into_iter().map(|(jobs, _)| jobs).collect(),
            });
        }
        Ok(found)
    }
}

/// Whether two mappings say the same but for their names. What is new in a mapping must be compared here, or be left
/// out on purpose: so this names every field.
pub(super) fn same_mapping(a: &Mapping, b: &Mapping) -> bool {
    let Mapping {
        name: _,
        // Alternatives are mappings of their own.
        alternative: _,
        team: _,
        issuer: _,
        roles: _,
        conditions,
        actor,
        duration,
        max_duration,
        max_session,
        limit,
        expires,
        shadow,
        // What they let in shows in the conditions; that they came or went is told among the rules.
        exceptions: _,
        span: _,
    } = a;
    let same_actors = match (actor.as_deref(), b.actor.as_deref()) {
        // Whether their issuers are the same is the caller's to see to: numbers are of one folder.
        (Some(a), Some(b)) => {
            (a.required, &a.audience, a.max_depth) == (b.required, &b.audience, b.max_depth)
                && same_conditions(&a.conditions, &b.conditions)
        }
        (a, b) => a.is_none() && b.is_none(),
    };
    same_conditions(conditions, &b.conditions)
        && same_actors
        && (duration, max_duration, max_session) == (&b.duration, &b.max_duration, &b.max_session)
        && *limit == b.limit
        && (expires, shadow) == (&b.expires, &b.shadow)
}

/// Whether conditions ask the same, wherever they stand.
pub(super) fn same_conditions(a: &[Condition], b: &[Condition]) -> bool {
    let same = |(a, b): (&Condition, &Condition)| {
        (&a.claim, a.if_unknown_ignore) == (&b.claim, b.if_unknown_ignore) && a.test == b.test
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}
