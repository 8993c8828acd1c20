//! What a change of a mapping folder means: who gains which role, who loses it, on which other terms, exactly and
//! with jobs that show it.
//!
//! The universe is the jobs of one issuer in canonical claims ([`World`]), issuers being the same where their URL is.
//! Every job that is shown was given to [`crate::mapping::decide`] on both sides: a comparison that its evaluator does not confirm is
//! an error, never an answer. What is beyond the stated bounds is [`Unsure`], never "no change".

mod fold;
mod group;
mod rules;
mod shape;
mod terms;
mod universe;

pub use group::Unconfirmed;
pub use rules::Reviewer;
pub use shape::Shape;
pub use terms::{Direction, Term, of_mappings, of_roles};

use super::{Job, world::World};
use crate::{
    mapping::{Deny, Folder, Issuer, IssuerId, Mapping, MappingId, MappingSet, RoleId},
    workload::{Profile, Profiles},
};
use foldhash::fast::FixedState;
use group::{Half, same_conditions, same_mapping};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};
use universe::{Of, Universe, ours};

/// Jobs that are shown for one change.
pub const EXAMPLES_MAX: usize = 3;

/// One of two folders.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub folder: &'a Folder,
    pub set: &'a MappingSet,
    pub profiles: &'a Profiles,
}

/// How a job's access changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Gain,
    /// It has the role before and after, and gets it on other terms.
    Terms,
    Loss,
}

/// A change that is the same for all that is named here: each role, each repository.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: Kind,
    pub issuer: String,
    pub roles: Vec<String>,
    /// Name and id, one of them maybe empty. Empty: the jobs are not of one repository each.
    pub repositories: Vec<(String, String)>,
    /// Jobs of any of these shapes.
    pub jobs: Vec<Shape>,
    /// Names of the mappings that give the role before, and after.
    pub mappings: [Vec<String>; 2],
    pub terms: Vec<Term>,
    /// At most [`EXAMPLES_MAX`].
    pub examples: Vec<Example>,
}

/// A job that shows a change, confirmed by the evaluator.
#[derive(Clone, Debug)]
pub struct Example {
    pub role: String,
    pub job: Job,
    /// The name of the issuer of who acts for it, and the actor's job.
    pub actor: Option<(String, Job)>,
    pub before: Outcome,
    pub after: Outcome,
}

impl Example {
    /// The job, and who acts for it, in one line.
    pub fn line(&self) -> String {
        line(&self.job, self.actor.as_ref())
    }
}

fn line(job: &Job, actor: Option<&(String, Job)>) -> String {
    match actor {
        None => job.line(),
        Some((issuer, actor)) => format!("{}; acting for it: issuer = {issuer:?}, {}", job.line(), actor.line()),
    }
}

/// What the evaluator said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The mapping that grants.
    pub mapping: Option<String>,
    /// Why nothing does.
    pub reason: Option<String>,
    /// The deny that holds.
    pub rule: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mapping, &self.rule, &self.reason) {
            (Some(mapping), ..) => write!(f, "granted by `{mapping}`"),
            (None, Some(rule), _) => write!(f, "refused by deny `{rule}`"),
            (None, None, reason) => write!(f, "refused ({})", reason.as_deref().unwrap_or("denied")),
        }
    }
}

/// What could not be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsure {
    pub issuer: String,
    pub roles: Vec<String>,
    pub mappings: Vec<String>,
    pub why: String,
}

/// What the comparison took: for tests and for the curious.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Pairs of issuer and role.
    pub groups: usize,
    /// Mappings that are not the same on both sides.
    pub mappings: usize,
    /// Mappings that these were compared with.
    pub neighbours: usize,
    /// Comparisons of two boxes.
    pub comparisons: usize,
}

/// The difference of two folders.
#[derive(Clone, Default, Debug)]
pub struct Diff {
    pub changes: Vec<Change>,
    pub undecided: Vec<Unsure>,
    /// What else changed in who may do what: sentences.
    pub rules: Vec<String>,
    pub reviewers: Vec<Reviewer>,
    pub work: Work,
    #[cfg(test)]
    pub(crate) boxes: Vec<(Kind, String, String, Vec<super::boxes::Jobs>)>,
}

impl Diff {
    /// Changes of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.kind == kind)
    }
    /// Terms that changed in a direction.
    pub fn terms(&self, direction: Direction) -> usize {
        let terms = self.of(Kind::Terms).flat_map(|change| &change.terms);
        terms.filter(|term| term.direction == direction).count()
    }
    /// Whether it is proven that every job has the same access on the same terms.
    pub fn is_none(&self) -> bool {
        self.changes.is_empty() && self.undecided.is_empty()
    }
    /// Whether somebody gains something, or it is not proven that nobody does: a term that cannot be compared may be
    /// wider.
    pub fn widens(&self) -> bool {
        self.of(Kind::Gain).next().is_some()
            || self.terms(Direction::Wider) + self.terms(Direction::NotComparable) > 0
            || !self.undecided.is_empty()
    }
    /// One line: "2 gains, 1 loss, 1 wider term".
    pub fn summary(&self) -> String {
        let count = |count: usize, one: &str, many: &str| {
            (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
        };
        let parts = [
            count(self.of(Kind::Gain).count(), "gain", "gains"),
            count(self.of(Kind::Loss).count(), "loss", "losses"),
            count(self.terms(Direction::Wider), "wider term", "wider terms"),
            count(
                self.terms(Direction::NotComparable),
                "term that cannot be compared",
                "terms that cannot be compared",
            ),
            count(self.terms(Direction::Narrower), "narrower term", "narrower terms"),
            count(self.undecided.len(), "undecided", "undecided"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no change in access".to_owned() } else { parts.join(", ") }
    }
}

/// What is compared at a time: the jobs' issuer, that of who acts for them, and the role.
type Group<'a> = (usize, Option<usize>, Option<&'a str>, &'a str);

/// An issuer on both sides, or on one.
type Met<'a> = [Option<(IssuerId, &'a Issuer)>; 2];

/// Compares two folders.
///
/// # Errors
/// The evaluator does not confirm a job that the comparison found: a fault of the program.
pub fn diff(before: Side<'_>, after: Side<'_>) -> Result<Diff, Box<Unconfirmed>> {
    let sides = [before, after];
    let mut out = Diff { rules: rules::rules(sides), reviewers: rules::reviewers(sides), ..Diff::default() };
    let issuers = issuers(sides);
    let same = unchanged(sides, &issuers);
    let mut groups: BTreeMap<Group<'_>, [Vec<MappingId>; 2]> = BTreeMap::new();
    for (at, side) in sides.iter().enumerate() {
        let number = |id: IssuerId| issuers.iter().position(|met| met[at].is_some_and(|(own, _)| own == id));
        let numbers: Vec<Option<usize>> = (0..side.set.issuers.len()).map(|id| number(IssuerId(id as u16))).collect();
        // What is in shadow gives nothing.
        for (id, mapping) in (0..).map(MappingId).zip(&side.set.mappings).filter(|(_, mapping)| !mapping.shadow) {
            let Some(issuer) = numbers[usize::from(mapping.issuer.0)] else { continue };
            let rule = mapping.actor.as_deref();
            let alone = rule.is_none_or(|rule| !rule.required).then_some(None);
            let acting = rule.and_then(|rule| numbers[usize::from(rule.issuer.0)]).map(Some);
            let audience = rule.and_then(|rule| rule.audience.as_deref());
            for (role, actor) in mapping.roles.iter().flat_map(|role| [(role, alone), (role, acting)]) {
                let Some(actor) = actor else { continue };
                let group = groups.entry((issuer, actor, audience, &side.set.role(*role).name)).or_default();
                if group[at].last() != Some(&id) {
                    group[at].push(id);
                }
            }
        }
    }
    let mut fold = fold::Fold::default();
    let mut worlds: Vec<Option<Result<(World<'_>, shape::Owners), String>>> = issuers.iter().map(|_| None).collect();
    let other_profile: Vec<bool> = issuers.iter().map(|met| profile_differs(sides, *met)).collect();
    let names: Vec<String> = issuers
        .iter()
        .map(|met| met.iter().rev().flatten().next().map(|(_, issuer)| issuer.name.to_string()).unwrap_or_default())
        .collect();
    for ((issuer, actor, audience, role), mappings) in groups {
        let name = &names[issuer];
        let others = [Some(issuer), actor].into_iter().flatten();
        let halves =
            halves(sides, issuers[issuer], (actor.map(|actor| issuers[actor]), audience), role, mappings, &same);
        if halves.iter().all(|half| half.touched.is_empty()) && !others.clone().any(|at| other_profile[at]) {
            continue;
        }
        for at in others {
            worlds[at].get_or_insert_with(|| world(sides, issuers[at], other_profile[at]));
        }
        let of = |at: usize| match &worlds[at] {
            Some(Ok((world, owners))) => Ok(Of { world, owners, issuer: &names[at] }),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the issuer is not known".to_owned()),
        };
        let universe =
            of(issuer).and_then(|principal| Ok(Universe { principal, actor: actor.map(of).transpose()?, audience }));
        let universe = match universe {
            Ok(universe) => universe,
            Err(why) => {
                fold.undecided(name, role, None, why);
                continue;
            }
        };
        let told = group::compare(&universe, role, [&halves[0], &halves[1]], &mut out.work)?;
        for (mapping, why) in told.undecided {
            fold.undecided(name, role, Some(mapping), why.to_string());
        }
        for found in told.found {
            #[cfg(test)]
            out.boxes.push((found.kind, name.clone(), found.role.clone(), found.jobs.clone()));
            fold.add(name, found);
        }
    }
    (out.changes, out.undecided) = fold.finish();
    Ok(out)
}

/// Issuers by URL: what a token says of itself.
fn issuers<'a>(sides: [Side<'a>; 2]) -> Vec<Met<'a>> {
    let mut by_url: BTreeMap<&str, Met<'a>> = BTreeMap::new();
    for (at, side) in sides.iter().enumerate() {
        for (id, issuer) in side.set.issuers.iter().enumerate() {
            by_url.entry(&issuer.url).or_default()[at] = Some((IssuerId(id as u16), issuer));
        }
    }
    by_url.into_values().collect()
}

/// For each side and mapping, the other side's mapping that says the same.
fn unchanged<'a>(sides: [Side<'a>; 2], issuers: &[Met<'_>]) -> [Vec<Option<MappingId>>; 2] {
    let [before, after] = sides.map(|side| side.set);
    // Alternatives stand as mappings of one name.
    let name = |mapping: &'a Mapping| (mapping.name.as_str(), mapping.alternative);
    let by_name: HashMap<_, MappingId, FixedState> =
        (0..).map(MappingId).zip(&before.mappings).map(|(id, mapping)| (name(mapping), id)).collect();
    let mut same = [vec![None; before.mappings.len()], vec![None; after.mappings.len()]];
    for (id, mapping) in (0..).map(MappingId).zip(&after.mappings) {
        let Some(&old) = by_name.get(&name(mapping)) else { continue };
        let other = before.mapping(old);
        let alike = |met: &Met<'_>| {
            met[0].is_some_and(|(id, _)| id == other.issuer) && met[1].is_some_and(|(id, _)| id == mapping.issuer)
        };
        let same_actor = |(a, b): (IssuerId, IssuerId)| {
            let is = |met: Option<(IssuerId, &Issuer)>, own| met.is_some_and(|(id, _)| id == own);
            issuers.iter().any(|met| is(met[0], a) && is(met[1], b))
        };
        let actors = other.actor.as_deref().zip(mapping.actor.as_deref()).map(|(a, b)| (a.issuer, b.issuer));
        if issuers.iter().any(alike) && same_mapping(other, mapping) && actors.is_none_or(same_actor) {
            same[0][old.0 as usize] = Some(id);
            same[1][id.0 as usize] = Some(old);
        }
    }
    same
}

fn profile<'a>(side: Side<'a>, issuer: &Issuer) -> Option<&'a Profile> {
    side.profiles.get(&issuer.profile)
}

/// Whether the same token means something else.
fn profile_differs(sides: [Side<'_>; 2], met: Met<'_>) -> bool {
    let [Some((_, a)), Some((_, b))] = met else { return false };
    let [old, new] = [profile(sides[0], a), profile(sides[1], b)];
    match (old, new) {
        (Some(old), Some(new)) => format!("{old:?}") != format!("{new:?}") || a.folds_names != b.folds_names,
        _ => true,
    }
}

/// The jobs of an issuer: of every owner that either side lists.
fn world<'a>(sides: [Side<'a>; 2], met: Met<'a>, other_profile: bool) -> Result<(World<'a>, shape::Owners), String> {
    if other_profile {
        return Err("the issuer's profile is another than before, so the same token makes another job".to_owned());
    }
    let known = met.into_iter().zip(sides).filter_map(|(met, side)| Some((met?.1, side)));
    let known: Vec<_> = known.collect();
    let Some((issuer, side)) = known.last() else { return Err("no side knows the issuer".to_owned()) };
    let profile = profile(*side, issuer).ok_or_else(|| format!("no profile `{}` is known", issuer.profile))?;
    let mut all = (*issuer).clone();
    // A name may have another id on the other side: only the ids matter here.
    let owners = known.iter().flat_map(|(issuer, _)| issuer.owners.values());
    all.owners = owners.map(|id| (id.clone(), id.clone())).collect();
    all.multi_tenant = known.iter().all(|(issuer, _)| issuer.multi_tenant && issuer.pin.is_none());
    let owners = shape::Owners::of(known.iter().map(|(issuer, _)| *issuer)).map_err(|error| error.to_string())?;
    Ok((World::new(profile, &all).map_err(|error| error.to_string())?, owners))
}

/// Both sides of one role of one issuer.
fn halves<'a>(
    sides: [Side<'a>; 2],
    met: Met<'a>,
    (acting, audience): (Option<Met<'a>>, Option<&'a str>),
    role: &str,
    mappings: [Vec<MappingId>; 2],
    same: &[Vec<Option<MappingId>>; 2],
) -> [Half<'a>; 2] {
    let roles = sides.map(|side| side.set.role_named(role));
    let ids = met.map(|met| met.map(|(id, _)| id));
    let actors = acting.unwrap_or_default().map(|met| met.map(|(id, _)| id));
    let denies: [Vec<(bool, &Deny)>; 2] = [0, 1].map(|at| {
        let Some(role) = roles[at] else { return Vec::new() };
        let about = |issuer: Option<IssuerId>, deny: &Deny| {
            let concerns = |issuer| deny.issuers.is_empty() || deny.issuers.contains(&issuer);
            issuer.is_some_and(concerns) && deny.roles.binary_search(&role).is_ok()
        };
        let of = |acts, issuer| {
            let denies = sides[at].set.denies.iter().filter(move |deny| about(issuer, deny));
            denies.map(move |deny| (acts, deny))
        };
        of(false, ids[at]).chain(of(true, actors[at])).collect()
    });
    let new_denies: [Vec<(bool, &Deny)>; 2] = [0, 1].map(|at| {
        let other = &denies[1 - at];
        let same = |(acts, deny): &(bool, &Deny), (theirs, other): &(bool, &Deny)| {
            acts == theirs && same_conditions(&deny.conditions, &other.conditions)
        };
        denies[at].iter().filter(|deny| !other.iter().any(|other| same(deny, other))).copied().collect()
    });
    let everything = !new_denies.iter().all(Vec::is_empty)
        || context_differs(sides, met, ids, roles)
        || acting.is_some_and(strangers_differ);
    let [a, b] = mappings;
    let touched = |at: usize, own: &[MappingId], other: &[MappingId]| -> Vec<MappingId> {
        let unchanged = |id: &MappingId| {
            let counterpart = same[at][id.0 as usize];
            // Those that give a role stand in the order of their numbers.
            !everything && counterpart.is_some_and(|counterpart| other.binary_search(&counterpart).is_ok())
        };
        own.iter().copied().filter(|id| !unchanged(id)).collect()
    };
    let touched = [touched(0, &a, &b), touched(1, &b, &a)];
    let mut parts = [a, b].into_iter().zip(touched).zip(denies).zip(new_denies).enumerate().map(
        |(at, (((mappings, touched), denies), new_denies))| Half {
            side: sides[at],
            issuer: ids[at],
            actor: actors[at],
            audience,
            role: roles[at],
            mappings,
            touched,
            denies,
            new_denies,
        },
    );
    std::array::from_fn(|_| parts.next().expect("two sides"))
}

/// Whether others are strangers than before.
fn strangers_differ(met: Met<'_>) -> bool {
    let [Some((_, before)), Some((_, after))] = met else { return true };
    let strangers = |issuer: &Issuer| ours(issuer).map(|condition| (condition.claim, condition.test));
    // Where pins tell strangers apart, each mapping pins its own.
    match (before.pin, after.pin) {
        (Some(a), Some(b)) => a != b || before.multi_tenant != after.multi_tenant,
        _ => strangers(before) != strangers(after),
    }
}

/// Whether something that concerns all mappings of the role differs: what it requires, what it gives, who is a
/// stranger.
fn context_differs(sides: [Side<'_>; 2], met: Met<'_>, ids: [Option<IssuerId>; 2], roles: [Option<RoleId>; 2]) -> bool {
    let ([Some(a), Some(b)], [Some(old), Some(new)]) = (ids, roles) else { return true };
    let required = |at: usize, role, issuer| sides[at].set.required(role, issuer);
    strangers_differ(met)
        || !same_conditions(required(0, old, a), required(1, new, b))
        || terms::roles_differ(sides.map(|side| side.set), [old, new])
}

#[cfg(test)]
mod tests;
