//! What was read of trust policies → a mapping folder.
//!
//! Each repository stands in one mapping of a role, so that mappings never overlap. Ids that no policy names are left out
//! for `claimbound pin` to fill in; with made-up ones in their places the folder is loaded here, and what does not load is
//! reported and not written. Tests are made from the loaded mappings, as `new mapping` makes them.

use super::{
    super::new::quoted,
    names::{Ids, Names, key},
    native::Source,
    pattern::Pattern,
    tests,
    when::{Value, When, merged},
};
use claimbound_core::{
    diag::Severity,
    mapping::{Folder, load},
    workload::{Claim, Profiles},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// In the places of ids that nobody knows yet, while the folder is tried: unlike any that a forge has given.
const SAMPLE_ID_FIRST: u64 = 9_000_000_000_001;
const REASON: &str = "imported: write why every repository may";

/// Something of a source that the folder does not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Left {
    /// File, and the statement or field of it.
    pub place: String,
    pub why: String,
    pub help: String,
}

/// What a role gives, before it has its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gives {
    Aws { role_arn: String, max_seconds: Option<u64> },
    Jwt { audience: String },
}

/// A role as a source names it.
#[derive(Clone, Debug)]
pub struct RoleOf {
    /// Distinguishes roles.
    pub called: String,
    /// The source's name for it; the folder's is made of it.
    pub name: String,
    pub description: String,
    pub gives: Gives,
    /// Lines for whoever edits the role.
    pub remarks: Vec<String>,
}

/// One rule of a source: jobs that may have a role.
#[derive(Clone, Debug)]
pub struct Rule<'p> {
    pub place: String,
    pub role: RoleOf,
    pub source: Source<'p>,
    pub alternatives: Vec<When>,
}

/// What reading the sources gave.
#[derive(Debug, Default)]
pub struct Import<'p> {
    pub rules: Vec<Rule<'p>>,
    pub left: Vec<Left>,
    /// What is kept, but narrower or otherwise than it was.
    pub changed: Vec<Left>,
}

/// A folder, ready to be written.
#[derive(Debug, Default)]
pub struct Output {
    pub files: BTreeMap<String, String>,
    pub roles: usize,
    pub mappings: usize,
    pub left: Vec<Left>,
    pub changed: Vec<Left>,
    /// Repositories and owners without ids.
    pub unpinned: usize,
}

impl Import<'_> {
    pub fn left(&mut self, place: &str, why: impl Into<String>, help: impl Into<String>) {
        self.left.push(Left { place: place.to_owned(), why: why.into(), help: help.into() });
    }
    pub fn changed(&mut self, place: &str, why: impl Into<String>, help: impl Into<String>) {
        self.changed.push(Left { place: place.to_owned(), why: why.into(), help: help.into() });
    }
}

/// A repository by name, with the id if it is known.
type Pair = (String, Option<String>);

/// One spelling and at most one id for each repository: two mappings for one would overlap once ids are filled in.
struct Known(BTreeMap<(String, String), (String, BTreeSet<String>)>);

impl Known {
    fn of(rules: &[Rule<'_>]) -> Self {
        let mut known = Self(BTreeMap::new());
        for rule in rules {
            let pins = rule.alternatives.iter().filter_map(|when| pinned(when, &rule.source).ok()).flatten();
            for (name, id) in pins.filter_map(|(pair, _)| pair) {
                let entry = known.0.entry(Self::key(&rule.source, &name)).or_insert((name, BTreeSet::new()));
                entry.1.extend(id);
            }
        }
        known
    }
    fn key(source: &Source<'_>, name: &str) -> (String, String) {
        let name = if source.profile.folds_names() { name.to_ascii_lowercase() } else { name.to_owned() };
        (source.url.clone(), name)
    }
    /// Another policy's id for the name narrows this one's.
    fn spelled(&self, source: &Source<'_>, (name, id): Pair) -> Pair {
        let Some((spelled, ids)) = self.0.get(&Self::key(source, &name)) else { return (name, id) };
        let only = ids.first().filter(|_| ids.len() == 1).cloned();
        (spelled.clone(), id.or(only))
    }
}

/// A mapping of the folder.
struct Mapping {
    name: String,
    role: String,
    place: String,
    issuer: String,
    /// Empty: the alternatives pin otherwise.
    repositories: BTreeSet<Pair>,
    alternatives: Vec<When>,
}

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
    // All at once, and one by one only where that fails: then each is tried beside those that are fine.
    if !assembly.mappings.is_empty() && assembly.error(profiles).is_some() {
        for mapping in std::mem::take(&mut assembly.mappings) {
            assembly.mappings.push(mapping);
            if let Some(why) = assembly.error(profiles)
                && let Some(mapping) = assembly.mappings.pop()
            {
                let help = "change the policy, or write this mapping by hand";
                output.left.push(Left { place: mapping.place, why, help: help.into() });
            }
        }
    }
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
                        let block = owner.as_ref().and_then(|owner| aside(owner, when, &role));
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

    /// Why the folder would not load, if all ids were there.
    fn error(&self, profiles: &Profiles) -> Option<String> {
        let (files, refused) = self.files(Some(SAMPLE_ID_FIRST));
        if refused.is_some() {
            return refused;
        }
        let loaded = load(&folder(&files), profiles);
        let mut errors = loaded.diagnostics.into_iter().filter(|finding| finding.severity == Severity::Error);
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
        for name in own.iter().cloned().chain(others) {
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

/// Which repositories conditions pin, each with what is left of them. `None` in a pair's place: they pin otherwise.
fn pinned(when: &When, source: &Source<'_>) -> Result<Vec<(Option<Pair>, When)>, String> {
    let mut rest = when.clone();
    let by_subject = source.profile.pins().first() == Some(&Claim::Subject);
    if by_subject {
        let exact = when.get(Claim::Subject).and_then(Value::texts).is_some();
        return exact.then(|| vec![(None, rest)]).ok_or_else(|| "it names no subject exactly".to_owned());
    }
    let names = when.get(Claim::Repository).map(|value| value.texts().ok_or(()));
    let ids = when.get(Claim::RepositoryId).and_then(Value::texts);
    match (names, ids) {
        (Some(Ok(names)), ids) if ids.as_ref().is_none_or(|ids| names.len() == 1 && ids.len() == 1) => {
            for claim in [Claim::Repository, Claim::RepositoryId, Claim::RepositoryOwner] {
                rest.0.remove(&claim);
            }
            let id = ids.and_then(|ids| ids.first().map(|id| (*id).to_owned()));
            let owned = |name: &str| match when.get(Claim::RepositoryOwner).and_then(Value::texts) {
                None => when.get(Claim::RepositoryOwner).is_none(),
                Some(owners) => owners
                    .iter()
                    .any(|owner| name.rsplit_once('/').is_some_and(|(of, _)| of.eq_ignore_ascii_case(owner))),
            };
            let pairs: Vec<_> = names
                .into_iter()
                .filter(|name| owned(name))
                .map(|name| (Some((name.to_owned(), id.clone())), rest.clone()))
                .collect();
            if pairs.is_empty() {
                return Err("its repositories are not its owner's, so no job fits".to_owned());
            }
            Ok(pairs)
        }
        (_, Some(_)) => Ok(vec![(None, rest)]),
        (Some(_), None) => Err("it names repositories by a pattern, so by no id".to_owned()),
        (None, None) if owner_of(when).is_some() => Err("it is for every repository of an owner".to_owned()),
        (None, None) => Err("it names no repository: jobs of any stranger's would fit".to_owned()),
    }
}

/// The owner of every repository that the conditions are for.
fn owner_of(when: &When) -> Option<String> {
    if let Some(owner) = when.text(Claim::RepositoryOwner) {
        return Some(owner.to_owned());
    }
    let Some(Value::OneOf(patterns)) = when.get(Claim::Repository) else { return None };
    let owners: Option<BTreeSet<String>> =
        patterns.iter().map(|pattern| Some(pattern.split_once("/")?.0.text()?.to_owned())).collect();
    owners.filter(|owners| owners.len() == 1)?.pop_first()
}

/// A mapping for every repository of an owner, as a comment.
fn aside(owner: &str, when: &When, role: &str) -> Option<String> {
    let mut rest = when.clone();
    rest.0.remove(&Claim::RepositoryOwner);
    let all = Pattern::star(&format!("{owner}/*"));
    if rest.get(Claim::Repository) == Some(&Value::one(all)) {
        rest.0.remove(&Claim::Repository);
    }
    let lines = format!(
        "[[mapping]]\nname = {}\ndescription = {}\nroles = [{}]\nany_repository = {}\n[mapping.match]\nrepository_owner = {}\n{}",
        quoted(&format!("{role}-any")),
        quoted(&format!("Every repository of {owner}")),
        quoted(role),
        quoted(REASON),
        quoted(owner),
        rest.toml().ok()?
    );
    let lines: String = lines.lines().map(|line| format!("# {line}\n")).collect();
    Some(format!("\n# Not imported, since it is for every repository of an owner:\n{lines}"))
}

/// Whether every event would fit, if it were not for the default ones.
fn open_to_events(when: &When, source: &Source<'_>) -> bool {
    let narrow = [Claim::EventName, Claim::Branch, Claim::Tag, Claim::Ref, Claim::Subject];
    source.profile.tells_events() && narrow.iter().all(|claim| when.get(*claim).is_none())
}

/// Where one alternative admits every job and others name events, one that names the default events and these: the
/// policy let in whatever else these others demand.
fn with_named_events(alternatives: Vec<When>, source: &Source<'_>) -> Vec<When> {
    let events = alternatives.iter().filter_map(|when| when.get(Claim::EventName)?.texts()).flatten();
    let mut events: BTreeSet<_> = events.map(Pattern::exact).collect();
    if alternatives.len() < 2 || events.is_empty() || !alternatives.contains(&When::default()) {
        return alternatives;
    }
    events.extend(source.profile.default_events().iter().map(|event| Pattern::exact(event)));
    let all = When::of([(Claim::EventName, Value::OneOf(events))]);
    vec![all]
}

impl RoleOf {
    fn toml(&self, name: &str, team: &str, issuers: &BTreeSet<String>) -> String {
        let issuers: Vec<_> = issuers.iter().map(|issuer| quoted(issuer)).collect();
        let mut text = String::from("\n");
        for remark in &self.remarks {
            let _ = writeln!(text, "# {remark}");
        }
        let (backend, seconds, table) = match &self.gives {
            Gives::Aws { role_arn, max_seconds } => {
                ("aws", max_seconds.unwrap_or(3600).clamp(900, 43_200), format!("role_arn = {}\n", quoted(role_arn)))
            }
            Gives::Jwt { audience } => ("jwt", 3600, format!("audience = {}\n", quoted(audience))),
        };
        let duration = if seconds % 3600 == 0 { format!("{}h", seconds / 3600) } else { format!("{seconds}s") };
        let _ = write!(
            text,
            "[role.{name}]\ndescription = {}\nbackend = {}\nteams = [{}]\nissuers = [{}]\nsensitivity = \"internal\"\n\
             max_duration = {}\n[role.{name}.{backend}]\n{table}",
            quoted(&self.description),
            quoted(backend),
            quoted(team),
            issuers.join(", "),
            quoted(&duration),
        );
        text
    }
}

impl Mapping {
    fn toml(&self, ids: &mut Ids) -> Result<String, String> {
        let mut text = String::new();
        let mut pair = |(name, id): &Pair| match ids.repository(&self.issuer, name, id.as_deref()) {
            Some(id) => format!("{{ name = {}, id = {id} }}", quoted(name)),
            None => format!("{{ name = {} }}", quoted(name)),
        };
        let pairs: Vec<String> = self.repositories.iter().map(&mut pair).collect();
        if pairs.len() > 1 {
            let rows: String = pairs.iter().map(|pair| format!("  {pair},\n")).collect();
            let _ = write!(text, "\n[set.{}]\nrepositories = [\n{rows}]\n", self.name);
        }
        let _ = write!(
            text,
            "\n[[mapping]]\nname = {}\ndescription = {}\nroles = [{}]\n[mapping.match]\n",
            quoted(&self.name),
            quoted(&format!("Imported from {}", self.place)),
            quoted(&self.role),
        );
        match pairs.as_slice() {
            [] => {}
            [one] => {
                let _ = writeln!(text, "repository = {one}");
            }
            _ => {
                let _ = writeln!(text, "repository = {{ set = {} }}", quoted(&self.name));
            }
        }
        let first = self.alternatives.first().cloned().unwrap_or_default();
        let common = When::of(
            first
                .0
                .into_iter()
                .filter(|(claim, value)| self.alternatives.iter().all(|of| of.get(*claim) == Some(value))),
        );
        // The parts of a workflow are one table, which stands in one place.
        let split = |claim: &Claim| {
            let table = claim.name().split_once('.').map(|(table, _)| table);
            table.is_some_and(|table| {
                let differs = |of: &When| {
                    of.0.keys().any(|key| key.name().starts_with(&format!("{table}.")) && common.get(*key).is_none())
                };
                self.alternatives.iter().any(differs)
            })
        };
        let common = When::of(common.0.iter().filter(|(claim, _)| !split(claim)).map(|(a, b)| (*a, b.clone())));
        text.push_str(&common.toml()?);
        if self.alternatives.len() > 1 {
            for when in &self.alternatives {
                let own = When::of(
                    when.0.iter().filter(|(claim, _)| common.get(**claim).is_none()).map(|(a, b)| (*a, b.clone())),
                );
                text.push_str("[[mapping.any]]\n");
                text.push_str(&own.toml()?);
            }
        }
        Ok(text)
    }
}

fn folder(files: &BTreeMap<String, String>) -> Folder {
    Folder { files: files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect() }
}
