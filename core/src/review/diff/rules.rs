//! What changes around the access: whose jobs are trusted, who may bind which role, and who answers for the files.

use super::Side;
use crate::mapping::{Issuer, Mapping, MappingId, MappingSet, Team, When};
use std::collections::{BTreeMap, BTreeSet};

/// Who answers for policy and roles.
const PLATFORM: &str = "platform";

/// Somebody whose files changed, and who therefore must review.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reviewer {
    /// A team's name; `None`: the platform team, which owns all that no team owns.
    pub team: Option<String>,
    pub contact: Option<String>,
    /// Files that came, went or changed.
    pub files: Vec<String>,
}

impl Reviewer {
    pub fn name(&self) -> &str {
        self.team.as_deref().unwrap_or(PLATFORM)
    }
}

/// Those whose files changed: of a team's path on either side, its team; of all else, the platform.
pub(super) fn reviewers(sides: [Side<'_>; 2]) -> Vec<Reviewer> {
    let [before, after] = sides.map(|side| &side.folder.files);
    let files: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut found: BTreeMap<Option<&str>, (Option<&str>, Vec<String>)> = BTreeMap::new();
    for file in files.into_iter().filter(|file| before.get(*file) != after.get(*file)) {
        let owns = |team: &&Team| file.strip_prefix(&team.path).is_some_and(|rest| rest.starts_with('/'));
        let owners: Vec<&Team> = sides.iter().filter_map(|side| side.set.teams.iter().find(owns)).collect();
        let names: BTreeSet<Option<&str>> = match owners.is_empty() {
            true => [None].into(),
            false => owners.iter().map(|team| Some(team.name.as_str())).collect(),
        };
        for name in names {
            let (contact, files) = found.entry(name).or_default();
            // The later contact stands.
            *contact =
                owners.iter().rfind(|team| Some(team.name.as_str()) == name).and_then(|team| team.contact.as_deref());
            files.push(file.clone());
        }
    }
    let reviewer = |(team, (contact, files)): (Option<&str>, (Option<&str>, _))| Reviewer {
        team: team.map(str::to_owned),
        contact: contact.map(str::to_owned),
        files,
    };
    found.into_iter().map(reviewer).collect()
}

/// Sentences about issuers, owners, teams, who may bind which role, and exceptions.
pub(super) fn rules(sides: [Side<'_>; 2]) -> Vec<String> {
    let mut said = Vec::new();
    issuers(sides, &mut said);
    let teams = |at: usize| sides[at].set.teams.iter().map(|team| (team.name.as_str(), team.path.as_str()));
    pairs(teams(0), teams(1), |change| {
        said.push(match change {
            Met::Came(team, path) => format!("team `{team}` is new, with `{path}`"),
            Met::Went(team, path) => format!("team `{team}` is gone, with `{path}`"),
            Met::Changed(team, old, new) => format!("team `{team}` has `{new}` where it had `{old}`"),
        });
    });
    let may = |at: usize| sides[at].set.teams.iter().map(|team| (team.name.as_str(), sorted(&team.may, "none")));
    pairs(may(0), may(1), |change| {
        if let Met::Changed(team, old, new) = change {
            said.push(format!("mappings of team `{team}` may use the exceptions {new}, before {old}"));
        }
    });
    exceptions(sides, &mut said);
    claims(sides, &mut said);
    let bind = |at: usize| sides[at].set.roles.iter().map(|role| (role.name.as_str(), sorted(&role.teams, "nobody")));
    pairs(bind(0), bind(1), |change| {
        if let Met::Changed(role, old, new) = change {
            said.push(format!("role `{role}` may be bound by {new}, before by {old}"));
        }
    });
    let from = |at: usize| sides[at].set.roles.iter().map(|role| (role.name.as_str(), sorted(&role.issuers, "nobody")));
    pairs(from(0), from(1), |change| {
        if let Met::Changed(role, old, new) = change {
            said.push(format!("role `{role}` may be given to jobs of {new}, before of {old}"));
        }
    });
    said
}

/// Exceptions that came or went, by mapping; another reason is said, too.
fn exceptions(sides: [Side<'_>; 2], said: &mut Vec<String>) {
    let [before, after] = sides.map(|side| excepted(&side.set.mappings));
    for ((mapping, exception), reason) in &after {
        match before.get(&(mapping, exception)) {
            None => said.push(format!("mapping `{mapping}` rests on the exception `{exception}`: {reason}")),
            Some(old) if old != reason => {
                said.push(format!("mapping `{mapping}` gives another reason for `{exception}`: {reason}"));
            }
            Some(_) => {}
        }
    }
    for (mapping, exception) in before.keys().filter(|key| !after.contains_key(*key)) {
        said.push(format!("mapping `{mapping}` no longer rests on the exception `{exception}`"));
    }
}

/// First uses that people claimed and that the change makes void, by mapping and role.
fn claims(sides: [Side<'_>; 2], said: &mut Vec<String>) {
    let [before, after] = sides.map(|side| standing(side.set));
    for ((mapping, role), (rule, terms)) in &before {
        match after.get(&(*mapping, *role)) {
            Some((other, _)) if other == rule => {}
            Some((_, other)) if other == terms => said.push(format!(
                "claims of `{role}` by mapping `{mapping}` are void, unless `claimbound claim carry` proves that it is not wider"
            )),
            _ => said.push(format!("claims of `{role}` by mapping `{mapping}` are void")),
        }
    }
}

/// Digests of a rule, and of its terms.
type Digests = ([u8; 32], [u8; 32]);

/// The digests of each rule whose claims stand, by mapping and role.
fn standing(set: &MappingSet) -> BTreeMap<(&str, &str), Digests> {
    let first_use = |mapping: &&Mapping| mapping.ceremony.as_ref().is_some_and(|rule| rule.when == When::FirstUse);
    let numbered = (0..).map(MappingId).zip(&set.mappings).filter(|(_, mapping)| first_use(mapping) && !mapping.shadow);
    let rules = numbered.flat_map(|(id, mapping)| mapping.roles.iter().map(move |role| (id, mapping, *role)));
    let digests = |id, role| (set.rule_digest(id, role), set.terms_digest(id, role));
    rules.map(|(id, mapping, role)| ((&*mapping.name, &*set.role(role).name), digests(id, role))).collect()
}

/// The reasons of exceptions, by mapping and exception.
fn excepted(mappings: &[Mapping]) -> BTreeMap<(&str, &'static str), &str> {
    let all = mappings.iter().flat_map(|mapping| mapping.exceptions.iter().map(move |one| (mapping, one)));
    all.map(|(mapping, one)| ((mapping.name.as_str(), one.exempt.name()), &*one.reason)).collect()
}

fn issuers(sides: [Side<'_>; 2], said: &mut Vec<String>) {
    let issuers = |at: usize| sides[at].set.issuers.iter().map(|issuer| (issuer.url.as_str(), issuer));
    let [before, after] = [issuers(0).collect::<BTreeMap<_, _>>(), issuers(1).collect::<BTreeMap<_, _>>()];
    for (url, issuer) in &after {
        match before.get(url) {
            None => said.push(format!("issuer `{}` (`{url}`) is new", issuer.name)),
            Some(old) => changed(old, issuer, said),
        }
    }
    for (url, issuer) in before.iter().filter(|(url, _)| !after.contains_key(*url)) {
        said.push(format!("issuer `{}` (`{url}`) is gone", issuer.name));
    }
}

fn changed(old: &Issuer, new: &Issuer, said: &mut Vec<String>) {
    let name = &new.name;
    if old.name != new.name {
        said.push(format!("issuer `{}` is now called `{name}`", old.name));
    }
    if old.profile != new.profile {
        said.push(format!("issuer `{name}` has the profile `{}`, before `{}`", new.profile, old.profile));
    }
    match (old.multi_tenant, new.multi_tenant) {
        (true, false) => said.push(format!("issuer `{name}` takes everybody who can use it for one of ours")),
        (false, true) => said.push(format!("issuer `{name}` tells strangers from its owners' jobs")),
        _ => {}
    }
    match (old.grants_renamed, new.grants_renamed) {
        (false, true) => {
            said.push(format!(
                "issuer `{name}` grants to a single repository by its id, whatever its name (`on_rename`)"
            ));
        }
        (true, false) => said.push(format!("issuer `{name}` refuses renamed repositories (`on_rename`)")),
        _ => {}
    }
    match (old.trusts_act, new.trusts_act) {
        (false, true) => said.push(format!("issuer `{name}` may say in its tokens who acts for a job (`trust_act`)")),
        (true, false) => said.push(format!("tokens of issuer `{name}` may no longer say who acts (`trust_act`)")),
        _ => {}
    }
    pairs(owners(old), owners(new), |change| {
        said.push(match change {
            Met::Came(owner, id) => format!("issuer `{name}` lists a new owner, `{owner}` ({id})"),
            Met::Went(owner, id) => format!("issuer `{name}` no longer lists the owner `{owner}` ({id})"),
            Met::Changed(owner, old, new) => {
                format!("issuer `{name}` has the id {new} for the owner `{owner}`, before {old}")
            }
        });
    });
}

fn owners(issuer: &Issuer) -> impl Iterator<Item = (&str, &str)> {
    issuer.owners.iter().map(|(name, id)| (name.as_str(), id.as_str()))
}

enum Met<'n, T> {
    Came(&'n str, T),
    Went(&'n str, T),
    Changed(&'n str, T, T),
}

fn pairs<'n, T: PartialEq + Clone>(
    before: impl Iterator<Item = (&'n str, T)>,
    after: impl Iterator<Item = (&'n str, T)>,
    mut tell: impl FnMut(Met<'n, T>),
) {
    let before: BTreeMap<&str, T> = before.collect();
    let after: BTreeMap<&str, T> = after.collect();
    for (name, new) in &after {
        match before.get(name) {
            None => tell(Met::Came(name, new.clone())),
            Some(old) if old != new => tell(Met::Changed(name, old.clone(), new.clone())),
            Some(_) => {}
        }
    }
    for (name, old) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        tell(Met::Went(name, old.clone()));
    }
}

fn sorted(names: &[impl std::fmt::Display], none: &str) -> String {
    let mut names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.sort_unstable();
    match names.is_empty() {
        true => none.to_owned(),
        false => names.join(", "),
    }
}
