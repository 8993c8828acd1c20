//! What can be used of a folder, and what records say of its use. Memory grows with the folder, not with the log.

use super::super::{Loaded, log};
use claimbound_core::{
    evidence::Body,
    mapping::{Ask, Decision, Folder, Mapping, MappingId},
    review::recorded::{self, Told, ask_again},
    time::UnixSeconds,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

/// Something that can be used, or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Thing {
    Role(String),
    Mapping {
        name: String,
        team: String,
        shadow: bool,
    },
    /// One of a mapping's `[[mapping.any]]`, from 1.
    Alternative {
        mapping: String,
        number: u32,
    },
    /// A repository of a `[set.*]`.
    Member {
        set: String,
        file: String,
        name: String,
        id: String,
    },
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(name) => write!(f, "role `{name}`"),
            Self::Mapping { name, team, shadow } => {
                let shadow = if *shadow { ", in shadow," } else { "" };
                write!(f, "mapping `{name}`{shadow} of team `{team}`")
            }
            Self::Alternative { mapping, number } => write!(f, "alternative {number} of mapping `{mapping}`"),
            Self::Member { set, file, name, id } => write!(f, "`{name}` ({id}) in set `{set}` of {file}"),
        }
    }
}

impl Thing {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Role(name) => json!({ "kind": "role", "role": name }),
            Self::Mapping { name, team, shadow } => {
                json!({ "kind": "mapping", "mapping": name, "team": team, "shadow": shadow })
            }
            Self::Alternative { mapping, number } => {
                json!({ "kind": "alternative", "mapping": mapping, "alternative": number })
            }
            Self::Member { set, file, name, id } => {
                json!({ "kind": "member", "set": set, "file": file, "repository": { "name": name, "id": id } })
            }
        }
    }
}

/// Name and id of a repository.
type Pair = (String, String);

/// The things of one folder.
pub(super) struct Things {
    all: Vec<Thing>,
    roles: HashMap<String, usize>,
    mappings: HashMap<String, usize>,
    alternatives: HashMap<MappingId, usize>,
    /// By mapping.
    alternatives_of: HashMap<String, Vec<usize>>,
    /// By mapping and repository id.
    members: HashMap<(String, String), Vec<usize>>,
    /// What each alternative asks, in words.
    conditions: HashMap<usize, Vec<String>>,
    sets: BTreeMap<(String, String), BTreeSet<Pair>>,
    /// Set and repository id.
    ids: HashSet<(String, String)>,
    /// The mappings whose repositories a set's are.
    takers: HashMap<(String, String), Vec<String>>,
}

impl Things {
    pub fn of(loaded: &Loaded) -> Self {
        let set = &loaded.set;
        let mut things = Self {
            all: Vec::new(),
            roles: HashMap::new(),
            mappings: HashMap::new(),
            alternatives: HashMap::new(),
            alternatives_of: HashMap::new(),
            members: HashMap::new(),
            conditions: HashMap::new(),
            sets: sets(&loaded.folder),
            ids: HashSet::new(),
            takers: HashMap::new(),
        };
        for role in &set.roles {
            things.roles.insert(role.name.clone(), things.all.len());
            things.all.push(Thing::Role(role.name.clone()));
        }
        for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
            let (name, team, shadow) = (mapping.name.clone(), mapping.team.to_string(), mapping.shadow);
            if mapping.is_first() {
                things.mappings.insert(name.clone(), things.all.len());
                things.all.push(Thing::Mapping { name: name.clone(), team, shadow });
            }
            if let Some(number) = mapping.alternative {
                things.conditions.insert(things.all.len(), in_words(mapping));
                things.alternatives.insert(id, things.all.len());
                things.alternatives_of.entry(name.clone()).or_default().push(things.all.len());
                things.all.push(Thing::Alternative { mapping: name, number });
            }
        }
        things.take_members(&set.mappings);
        things
    }

    /// A mapping of the file that pins all of a set's repositories takes the set.
    fn take_members(&mut self, mappings: &[Mapping]) {
        for ((file, set), pairs) in &self.sets {
            self.ids.extend(pairs.iter().map(|(_, id)| (set.clone(), id.clone())));
            let ids: BTreeSet<&str> = pairs.iter().map(|(_, id)| id.as_str()).collect();
            let mut takers = Vec::new();
            for mapping in mappings.iter().filter(|mapping| *mapping.span.file == **file && mapping.is_first()) {
                let pinned = recorded::repositories(&mapping.conditions).unwrap_or_default();
                let pinned: BTreeSet<&str> = pinned.iter().map(|(_, id)| id.as_str()).collect();
                if ids.is_subset(&pinned) {
                    takers.push(mapping.name.clone());
                }
            }
            for (name, id) in pairs.iter().filter(|_| !takers.is_empty()) {
                for mapping in &takers {
                    self.members.entry((mapping.clone(), id.clone())).or_default().push(self.all.len());
                }
                let (set, file) = (set.clone(), file.clone());
                self.all.push(Thing::Member { set, file, name: name.clone(), id: id.clone() });
            }
            self.takers.insert((file.clone(), set.clone()), takers);
        }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, at: usize) -> &Thing {
        &self.all[at]
    }

    /// Whether this folder has a thing of another one. Numbers of alternatives change: what counts is what they ask.
    pub fn has(&self, other: &Self, at: usize) -> bool {
        match other.get(at) {
            Thing::Role(name) => self.roles.contains_key(name),
            Thing::Mapping { name, .. } => self.mappings.contains_key(name),
            Thing::Alternative { mapping, .. } => {
                let own = self.alternatives_of.get(mapping).into_iter().flatten();
                own.into_iter().any(|own| self.conditions.get(own) == other.conditions.get(&at))
            }
            Thing::Member { set, id, .. } => self.ids.contains(&(set.clone(), id.clone())),
        }
    }
}

fn in_words(mapping: &Mapping) -> Vec<String> {
    let told = mapping.conditions.iter();
    told.map(|condition| format!("{}: {}", condition.claim.name(), recorded::words(condition))).collect()
}

/// `[set.*]` of the teams' files, by file and name; members without an id are left out.
fn sets(folder: &Folder) -> BTreeMap<(String, String), BTreeSet<Pair>> {
    let mut found = BTreeMap::new();
    for (file, text) in folder.files.iter().filter(|(file, _)| file.starts_with("teams/")) {
        let table = std::str::from_utf8(text).ok().and_then(|text| text.parse::<toml::Table>().ok());
        let sets = table.as_ref().and_then(|table| table.get("set")?.as_table());
        for (name, set) in sets.into_iter().flatten() {
            let members = set.get("repositories").and_then(toml::Value::as_array);
            let pairs: BTreeSet<Pair> = members.into_iter().flatten().filter_map(pair).collect();
            found.insert((file.clone(), name.clone()), pairs);
        }
    }
    found
}

fn pair(member: &toml::Value) -> Option<Pair> {
    let id = match member.get("id")? {
        toml::Value::Integer(id) => id.to_string(),
        toml::Value::String(id) => id.clone(),
        _ => return None,
    };
    Some((member.get("name")?.as_str()?.to_owned(), id))
}

/// What records say of the use of things.
pub(super) struct Tally<'a> {
    things: &'a Things,
    loaded: &'a Loaded,
    from: i64,
    last: Vec<Option<i64>>,
    has_shadows: bool,
    untold: u64,
    shadows_untold: u64,
}

impl<'a> Tally<'a> {
    pub fn new(things: &'a Things, loaded: &'a Loaded, from: i64) -> Self {
        let has_shadows = loaded.set.mappings.iter().any(|mapping| mapping.shadow);
        Self { things, loaded, from, last: vec![None; things.len()], has_shadows, untold: 0, shadows_untold: 0 }
    }

    pub fn record(&mut self, body: &Body<'_>, stored: &[u8]) {
        let id = body.principal.as_ref().map_or("", |principal| &principal.id);
        if body.kind == "granted" {
            let mapping = body.mapping.as_deref().unwrap_or_default();
            self.use_at(self.things.roles.get(body.role.as_deref().unwrap_or_default()).copied(), body.at);
            self.use_mapping(mapping, id, body.at);
            self.use_alternative(mapping, body, stored);
        }
        if self.has_shadows && body.principal.is_some() && matches!(&*body.kind, "granted" | "refused" | "dry_run") {
            match log::details(body, stored) {
                Ok(details) => {
                    let shadows = details["shadows"].as_array();
                    let names = shadows.into_iter().flatten().filter_map(|shadow| shadow["mapping"].as_str());
                    names.for_each(|mapping| self.use_mapping(mapping, id, body.at));
                }
                Err(_) => self.shadows_untold += 1,
            }
        }
    }

    fn use_at(&mut self, at: Option<usize>, time: i64) {
        if let Some(at) = at {
            self.last[at] = self.last[at].max(Some(time));
        }
    }

    fn use_mapping(&mut self, mapping: &str, id: &str, time: i64) {
        self.use_at(self.things.mappings.get(mapping).copied(), time);
        let key = (mapping.to_owned(), id.to_owned());
        for at in self.things.members.get(&key).into_iter().flatten() {
            self.use_at(Some(*at), time);
        }
    }

    /// A record names the mapping alone: the folder is asked again which alternative it is.
    fn use_alternative(&mut self, mapping: &str, body: &Body<'_>, stored: &[u8]) {
        let Some(own) = self.things.alternatives_of.get(mapping) else { return };
        // Those that were used in the period are not in question.
        if own.iter().all(|at| self.last[*at].is_some_and(|last| last >= self.from)) {
            return;
        }
        let asked = || {
            let details = log::details(body, stored).ok()?;
            let ask = Ask { role: body.role.as_deref(), ..Ask::default() };
            let (set, profiles) = (&self.loaded.set, &self.loaded.profiles);
            match ask_again(set, profiles, &details, &ask, UnixSeconds(body.at)).ok()? {
                Told::Judged { decision: Decision::Grant(grant) | Decision::Pending(grant), .. } => {
                    self.things.alternatives.get(&grant.mapping).copied().filter(|at| own.contains(at))
                }
                _ => None,
            }
        };
        match asked() {
            Some(at) => self.use_at(Some(at), body.at),
            None if body.at >= self.from => self.untold += 1,
            None => {}
        }
    }

    /// What could not be told.
    pub fn notes(&self) -> Vec<String> {
        let shadows = (self.shadows_untold > 0).then(|| {
            let count = log::counted(self.shadows_untold, "record");
            format!("whether mappings in shadow would have held is not known of {count}: their details are erased or damaged")
        });
        super::untold(self.untold).into_iter().chain(shadows).collect()
    }

    /// How many things were used in the period.
    pub fn used(&self) -> usize {
        self.last.iter().filter(|last| last.is_some_and(|last| last >= self.from)).count()
    }

    /// What was not used in the period, each with its last use. What follows from something else that was not is left out:
    /// alternatives of a mapping, members of a set that no used mapping takes.
    pub fn idle(&self) -> Vec<(usize, Option<i64>)> {
        let idle = |at: usize| self.last[at].is_none_or(|last| last < self.from);
        let unused = |mapping: &String| self.things.mappings.get(mapping).is_none_or(|at| idle(*at));
        let follows = |thing: &Thing| match thing {
            Thing::Alternative { mapping, .. } => {
                let own = self.things.mappings.get(mapping).map(|at| self.things.get(*at));
                unused(mapping) || matches!(own, Some(Thing::Mapping { shadow: true, .. }))
            }
            Thing::Member { set, file, .. } => {
                let takers = self.things.takers.get(&(file.clone(), set.clone()));
                takers.is_none_or(|takers| takers.iter().all(unused))
            }
            _ => false,
        };
        let all = (0..self.things.len()).filter(|at| idle(*at) && !follows(self.things.get(*at)));
        all.map(|at| (at, self.last[at])).collect()
    }
}
