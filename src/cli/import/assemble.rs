//! What was read of trust policies → a mapping folder.
//!
//! Each repository stands in one mapping of a role, so that mappings never overlap. Ids that no policy names are left out
//! for `claimbound pin` to fill in; with made-up ones in their places the folder is loaded here, and what does not load is
//! reported and not written. Tests are made from the loaded mappings, as `new mapping` makes them.

use super::{
    super::new::quoted,
    model::{Import, Left, Output, RoleOf, Rule},
    names::{Ids, Names, key},
    pins::{Known, Pair, open_to_events, owner_of, pinned, with_named_events},
    tests,
    when::{Value, When, merged},
    write::{Mapping, aside},
};
use crate::issuance::catalogue;
use claimbound_core::{
    diag::Severity,
    mapping::{Folder, load},
    workload::{Claim, Profiles},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// In the places of ids that nobody knows yet, while the folder is tried: unlike any that a forge has given.
const SAMPLE_ID_FIRST: u64 = 9_000_000_000_001;

struct IssuerOf {
    url: String,
    profile: String,
    /// Owner → id, if it is known.
    owners: BTreeMap<String, Option<String>>,
    lists_owners: bool,
}

/// A mapping that is not imported, for whoever wants it nevertheless.
struct Aside {
    issuer: String,
    role: String,
    text: String,
}

struct Assembly {
    team: String,
    issuers: BTreeMap<String, IssuerOf>,
    roles: BTreeMap<String, (RoleOf, BTreeSet<String>)>,
    mappings: Vec<Mapping>,
    /// Blocks for every repository of an owner, as comments.
    asides: Vec<Aside>,
}

/// Makes the folder.
///
/// # Errors
/// When tests of a mapping that loads cannot be made.
pub fn assemble(import: Import<'_>, team: &str, profiles: &Profiles) -> anyhow::Result<Output> {
    let mut output = Output { left: import.left, changed: import.changed, ..Output::default() };
    let mut assembly = Assembly {
        team: team.to_owned(),
        issuers: BTreeMap::new(),
        roles: BTreeMap::new(),
        mappings: Vec::new(),
        asides: Vec::new(),
    };
    let known = Known::of(&import.rules);
    let mut names = Names::default();
    let mut of_role: BTreeMap<(String, String), Vec<Rule<'_>>> = BTreeMap::new();
    for rule in import.rules {
        of_role.entry((rule.role.called.clone(), rule.source.url.clone())).or_default().push(rule);
    }
    for rules in of_role.into_values() {
        assembly.add(rules, &known, &mut names, &mut output);
    }
    assembly.drop_ownerless(&mut output);
    assembly.forget_unused();
    let mappings = std::mem::take(&mut assembly.mappings);
    assembly.keep_what_loads(mappings, profiles, &mut output.left);
    assembly.forget_unused();
    output.files = assembly.files(None).0;
    output.mappings = assembly.mappings.len();
    output.roles = assembly.roles.len();
    output.unpinned = assembly.unpinned();
    assembly.add_tests(profiles, &mut output)?;
    Ok(output)
}

impl Assembly {
    /// The rules of one role for one issuer, as mappings.
    fn add(&mut self, rules: Vec<Rule<'_>>, known: &Known, names: &mut Names, output: &mut Output) {
        let (Some(first), mut found) = (rules.first(), BTreeMap::<Option<Pair>, Vec<When>>::new()) else { return };
        let source = first.source.clone();
        let issuer = names.issuer(&source);
        let entry = self.issuers.entry(issuer.clone()).or_insert_with(|| IssuerOf {
            url: source.url.clone(),
            profile: source.profile.name.clone(),
            owners: BTreeMap::new(),
            lists_owners: source.profile.names_owner(),
        });
        let role = names.role(&first.role);
        for rule in &rules {
            for when in &rule.alternatives {
                match pinned(when, &source) {
                    Ok(pins) => {
                        for (pair, when) in pins {
                            let pair = pair.map(|pair| known.spelled(&source, pair));
                            entry.note_owners(pair.as_ref(), &when);
                            found.entry(pair).or_default().push(entry.without_listed_owner(when));
                        }
                    }
                    Err(why) => {
                        let owner = owner_of(when);
                        let block = owner.as_ref().and_then(|owner| aside(owner, when, &role, names));
                        let help = match &block {
                            Some(_) => {
                                "list its repositories, or take the block that stands as a comment in the team's file: it needs `may = [\"any_repository\"]`"
                            }
                            None => "name the repositories, with their ids",
                        };
                        if let (Some(owner), Some(text)) = (owner, block) {
                            entry.owners.entry(owner).or_default();
                            self.asides.push(Aside { issuer: issuer.clone(), role: role.clone(), text });
                        }
                        output.left.push(Left { place: rule.place.clone(), why, help: help.into() });
                    }
                }
            }
        }
        let mut groups: BTreeMap<(bool, Vec<When>), BTreeSet<Pair>> = BTreeMap::new();
        for (pair, whens) in found {
            let whens = with_named_events(merged(whens), &source);
            groups.entry((pair.is_some(), whens)).or_default().extend(pair);
        }
        let mut places: Vec<&str> = rules.iter().map(|rule| rule.place.as_str()).collect();
        places.dedup();
        let place = match places.as_slice() {
            [first, others @ ..] if !others.is_empty() => format!("{first} and {} more", others.len()),
            _ => places.concat(),
        };
        let several = groups.len() > 1;
        for (number, ((_, alternatives), repositories)) in groups.into_iter().enumerate() {
            if alternatives.iter().any(|when| open_to_events(when, &source)) {
                let events = source.profile.default_events().join("`, `");
                output.changed.push(Left {
                    place: place.clone(),
                    why: format!("every event was let in; now `{events}` are"),
                    help: "name others by `event_name = { any = [{ class = \"default\" }, \"pull_request\"] }`".into(),
                });
            }
            let name = names.mapping(&if several { format!("{role}-{}", number + 1) } else { role.clone() });
            self.mappings.push(Mapping {
                name,
                role: role.clone(),
                place: place.clone(),
                issuer: issuer.clone(),
                repositories,
                alternatives,
            });
        }
        self.roles.entry(role).or_insert_with(|| (first.role.clone(), BTreeSet::new())).1.insert(issuer);
    }

    /// An issuer that strangers share lists owners; where no policy names one, nothing of it can load.
    fn drop_ownerless(&mut self, output: &mut Output) {
        let issuers = &self.issuers;
        let ownerless = |name: &str| issuers[name].lists_owners && issuers[name].owners.is_empty();
        for mapping in self.mappings.extract_if(.., |mapping| ownerless(&mapping.issuer)) {
            output.left.push(Left {
                place: mapping.place,
                why: "its ids are of repositories whose owner nobody names".into(),
                help: "write the mapping by hand, and the owner with its id into `owners`".into(),
            });
        }
    }

    /// Adds the mappings that load beside those that are there. Tried by halves: a large account has few that do not.
    fn keep_what_loads(&mut self, mut mappings: Vec<Mapping>, profiles: &Profiles, left: &mut Vec<Left>) {
        let (before, count) = (self.mappings.len(), mappings.len());
        self.mappings.append(&mut mappings);
        let Some(why) = (count > 0).then(|| self.error(profiles)).flatten() else { return };
        let mut tried = self.mappings.split_off(before);
        let second = tried.split_off(count / 2);
        if tried.is_empty() {
            let help = "change the policy, or write this mapping by hand";
            left.extend(second.into_iter().map(|mapping| Left {
                place: mapping.place,
                why: why.clone(),
                help: help.into(),
            }));
            return;
        }
        self.keep_what_loads(tried, profiles, left);
        self.keep_what_loads(second, profiles, left);
    }

    /// Why the folder would not load, if all ids were there.
    fn error(&self, profiles: &Profiles) -> Option<String> {
        let (files, refused) = self.files(Some(SAMPLE_ID_FIRST));
        if refused.is_some() {
            return refused;
        }
        let loaded = load(&folder(&files), profiles);
        let of_roles = loaded.set.iter().flat_map(|set| catalogue::check(set, None));
        let mut errors = loaded.diagnostics.iter().cloned().chain(of_roles);
        let mut errors = errors.by_ref().filter(|finding| finding.severity == Severity::Error);
        errors.next().map(|finding| format!("it would not load: {} ({})", finding.message, finding.code))
    }

    fn forget_unused(&mut self) {
        let of_mappings = self.mappings.iter().map(|of| (&of.role, &of.issuer));
        let used: BTreeSet<_> = of_mappings.chain(self.asides.iter().map(|of| (&of.role, &of.issuer))).collect();
        for (role, (_, issuers)) in &mut self.roles {
            issuers.retain(|issuer| used.contains(&(role, issuer)));
        }
        self.roles.retain(|_, (_, issuers)| !issuers.is_empty());
        self.issuers.retain(|name, _| used.iter().any(|(_, issuer)| *issuer == name));
    }

    fn unpinned(&self) -> usize {
        let repositories: BTreeSet<&str> = self
            .mappings
            .iter()
            .flat_map(|mapping| &mapping.repositories)
            .filter(|(_, id)| id.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        let owners = self.issuers.values().flat_map(|issuer| issuer.owners.values()).filter(|id| id.is_none());
        repositories.len() + owners.count()
    }

    /// The files, and why a mapping cannot be written. `samples`: the first of the ids to make up.
    fn files(&self, samples: Option<u64>) -> (BTreeMap<String, String>, Option<String>) {
        let mut ids = Ids { samples, given: BTreeMap::new() };
        let mut refused = None;
        let mut policy = String::from(
            "# What may be trusted, as it was imported. All of the language: docs/mappings.md\nformat = 1\n",
        );
        for (name, issuer) in &self.issuers {
            let _ = write!(
                policy,
                "\n[issuer.{name}]\nprofile = {}\nurl = {}\n",
                quoted(&issuer.profile),
                quoted(&issuer.url)
            );
            if issuer.lists_owners {
                let owners: Vec<_> = issuer
                    .owners
                    .iter()
                    .map(|(owner, id)| {
                        let id = ids.owner(name, owner, id.as_deref()).unwrap_or_else(|| "\"\"".to_owned());
                        format!("{} = {id}", key(owner))
                    })
                    .collect();
                let empty = if owners.iter().any(|owner| owner.ends_with("\"\"")) {
                    " # an empty id: `claimbound pin` fills it in"
                } else {
                    ""
                };
                let _ = writeln!(policy, "owners = {{ {} }}{empty}", owners.join(", "));
            }
        }
        let issuers: Vec<_> = self.issuers.keys().map(|name| quoted(name)).collect();
        let team = &self.team;
        let _ = write!(
            policy,
            "\n[team.{team}]\npath = {}\nissuers = [{}]\n",
            quoted(&format!("teams/{team}")),
            issuers.join(", ")
        );
        let mut files = BTreeMap::from([("policy.toml".to_owned(), policy)]);
        let mut roles =
            String::from("# Imported roles. For one that reaches production write `sensitivity = \"production\"`.\n");
        for (name, (role, issuers)) in &self.roles {
            roles.push_str(&role.toml(name, team, issuers));
        }
        files.insert("roles/imported.toml".to_owned(), roles);
        for name in self.issuers.keys() {
            let mut text = format!(
                "# Imported. Names without an id do not load: `claimbound pin` asks the forge for ids, `claimbound check`\n\
                 # judges what comes of it.\n[file]\nissuer = {}\n",
                quoted(name)
            );
            for mapping in self.mappings.iter().filter(|mapping| mapping.issuer == *name) {
                match mapping.toml(&mut ids) {
                    Ok(block) => text.push_str(&block),
                    Err(why) => refused = refused.or(Some(why)),
                }
            }
            for aside in self.asides.iter().filter(|aside| aside.issuer == *name) {
                text.push_str(&aside.text);
            }
            files.insert(format!("teams/{team}/{name}.toml"), text);
        }
        (files, refused)
    }

    fn add_tests(&self, profiles: &Profiles, output: &mut Output) -> anyhow::Result<()> {
        if self.mappings.is_empty() {
            return Ok(());
        }
        let loaded = load(&folder(&self.files(Some(SAMPLE_ID_FIRST)).0), profiles);
        let set = loaded.set.ok_or_else(|| anyhow::anyhow!("the folder loaded before its tests were made"))?;
        for mapping in &self.mappings {
            let text = tests::of(&mapping.name, &set, &loaded.profiles)?;
            output.files.entry(format!("teams/{}/{}.toml", self.team, mapping.issuer)).or_default().push_str(&text);
        }
        Ok(())
    }
}

impl IssuerOf {
    /// Takes note of owners that the conditions name, and of their ids.
    fn note_owners(&mut self, pair: Option<&Pair>, when: &When) {
        if !self.lists_owners {
            return;
        }
        let owner = |name: &str| name.rsplit_once('/').map(|(owner, _)| owner.to_owned());
        let own = pair.and_then(|(name, _)| owner(name));
        let named = [Claim::Repository, Claim::JobWorkflowRepository, Claim::WorkflowRepository];
        let others = named.iter().filter_map(|claim| when.get(*claim)?.texts()).flatten().filter_map(owner);
        let listed = when.get(Claim::RepositoryOwner).and_then(Value::texts).into_iter().flatten().map(str::to_owned);
        for name in own.iter().cloned().chain(others).chain(listed) {
            self.owners.entry(name).or_default();
        }
        if let (Some(own), Some(id)) = (own, when.text(Claim::RepositoryOwnerId)) {
            let known = self.owners.entry(own).or_default();
            if known.is_none() {
                *known = Some(id.to_owned());
            }
        }
    }

    /// `owners` demands the id already.
    fn without_listed_owner(&self, mut when: When) -> When {
        let id = when.text(Claim::RepositoryOwnerId);
        if id.is_some() && self.owners.values().any(|known| known.as_deref() == id) {
            when.0.remove(&Claim::RepositoryOwnerId);
        }
        when
    }
}

fn folder(files: &BTreeMap<String, String>) -> Folder {
    Folder { files: files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect() }
}
