//! Folder → set, with every error of every file in one run.
//!
//! What a file may say follows from where it stands ([`Home`]); nothing in it can change that. Policy comes first,
//! then roles, then the teams' files, then denies and tests, because each names what came before. A part with a
//! fault is left out of the set, so that later rules judge only what can be judged, and a fault is told once.

mod conditions;
mod denies;
mod duration;
mod limit;
mod mixes;
mod names;
mod patterns;
mod placeholders;
mod policy;
mod raw;
mod roles;
mod shared;
mod teams;
mod tests;
mod values;
mod workflows;

pub(super) use self::{conditions::match_keys, raw::CLAIMS, values::OPERATORS, workflows::WORKFLOW_PARTS};

use super::{
    Folder, IssuerId, MappingSet, RoleId, codes,
    syntax::{self, Fields, Findings, Place, Tree},
};
use crate::{
    diag::{Diagnostic, FileName, Severity, Span},
    review::TestCase,
    workload::{Profile, Profiles},
};
use foldhash::fast::FixedState;
use policy::Policy;
use shared::Known;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What a folder gave.
#[derive(Debug)]
pub struct Loaded {
    /// Present when nothing was an error.
    pub set: Option<MappingSet>,
    /// `[[test]]` blocks, in file order; run by [`crate::review::run_tests`].
    pub tests: Vec<TestCase>,
    /// All findings, sorted by file and place.
    pub diagnostics: Vec<Diagnostic>,
    /// Those that were given and the folder's own, `profiles/*.toml`.
    pub profiles: Profiles,
}

const POLICY: &str = "policy.toml";

/// What a file is, by its path alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    Policy,
    Roles,
    Json,
    Team,
    Tests,
    Profile,
}

impl Home {
    fn of(path: &str) -> Option<Self> {
        let (folder, rest) = path.split_once('/').unwrap_or(("", path));
        let toml = rest.ends_with(".toml");
        match folder {
            "" if rest == POLICY => Some(Self::Policy),
            "roles" if toml && !rest.contains('/') => Some(Self::Roles),
            "tests" if toml && !rest.contains('/') => Some(Self::Tests),
            "profiles" if toml && !rest.contains('/') => Some(Self::Profile),
            "policies" if rest.ends_with(".json") && !rest.contains('/') => Some(Self::Json),
            "teams" if toml => Some(Self::Team),
            _ => None,
        }
    }
}

/// Parses, compiles and proves a folder (two mappings that can give one role to one job are an error).
pub fn load(folder: &Folder, profiles: &Profiles) -> Loaded {
    let mut findings = Findings::default();
    let profiles = profiles.with(own_profiles(folder, profiles, &mut findings));
    let (files, policies) = parse(folder, &mut findings);
    let of = |home: Home| files.iter().filter(move |(at, _)| *at == home).map(|(_, tree)| tree);

    let policy_tree = of(Home::Policy).next();
    let policy_fields =
        policy_tree.and_then(|tree| Fields::read(&tree.source, Place::Policy, &tree.root, &mut findings));
    let (Some(policy_tree), Some(policy_fields)) = (policy_tree, policy_fields) else {
        if !folder.files.contains_key(POLICY) {
            findings.push(no_policy());
        }
        // Every reference would be unknown: more findings would not be more help.
        return Loaded { set: None, tests: Vec::new(), diagnostics: findings.into_sorted(), profiles };
    };
    let policy = policy::compile(policy_tree, &policy_fields, &profiles, &mut findings);
    let (mut roles, known) = (roles::Roles::default(), Known::default());
    for tree in of(Home::Roles) {
        roles.compile(tree, &policy, &known, &mut findings);
    }
    let unused_targets = roles.unused_targets(&policy);
    let mut mappings = teams::Mappings::default();
    for part in in_parts(&files, &mut findings, |files, findings| of_teams(files, &policy, &roles, findings)) {
        mappings.append(part);
    }
    let pairs = mappings.settle(&policy, &mut findings);
    let denies = denies::compile(&policy_fields, &policy, &roles, &mut findings);
    let nevers = denies::nevers(&policy_fields, &policy, &roles, &mut findings);
    let known = tests::Known { policy: &policy, roles: &roles, pairs: &pairs };
    let tests = in_parts(&files, &mut findings, |files, findings| read_tests(files, &known, findings)).concat();

    let requires = stripped(roles.requires);
    let profiles_of = policy.profiles;
    let teams = policy.teams.into_iter().map(|rules| rules.team).collect();
    let (issuers, roles, reviews, mappings) = (policy.issuers, roles.all, mappings.reviews, mappings.all);
    let version = folder.version();
    let set = MappingSet {
        version,
        issuers,
        teams,
        roles,
        mappings,
        denies,
        policies,
        requires,
        reviews,
        unused_targets,
        ..MappingSet::default()
    }
    .finish();
    for finding in crate::review::overlap::check(&set) {
        findings.push(finding);
    }
    // Of what could not be read nothing is proved.
    if findings.errors() == 0 {
        for finding in crate::review::never::prove(&set, &nevers, &profiles_of) {
            findings.push(finding);
        }
    }
    let set = (findings.errors() == 0).then_some(set);
    let diagnostics = findings.into_sorted();
    let told = diagnostics.iter().any(|finding| finding.severity == Severity::Error);
    debug_assert_eq!(set.is_none(), told, "what keeps a folder from loading is always told");
    Loaded { set, tests, diagnostics, profiles }
}

/// The operator's own profiles. One that cannot be read is told with its place; who names it finds no profile.
fn own_profiles(folder: &Folder, given: &Profiles, findings: &mut Findings) -> Vec<Profile> {
    let mut own = Vec::new();
    for (path, bytes) in folder.files.iter().filter(|(path, _)| Home::of(path) == Some(Home::Profile)) {
        let name = FileName::from(path.as_str());
        let Some(source) = syntax::text_of(&name, bytes, findings) else { continue };
        let profile = match Profile::parse(path, source.text) {
            Ok(profile) => profile,
            Err(error) => {
                let help =
                    "mend it; `claimbound profile show gitlab` shows what a profile says, docs/issuers.md its language";
                findings.error(codes::PROFILE_FILE, source.span(error.bytes), error.message, help);
                continue;
            }
        };
        let stem = path.strip_prefix("profiles/").and_then(|file| file.strip_suffix(".toml")).unwrap_or(path);
        let problem = if given.get(&profile.name).is_some() {
            Some(format!("`{}` is the name of a profile that is built in", profile.name))
        } else if stem != profile.name {
            Some(format!("the profile calls itself `{}`, and its file `{stem}`", profile.name))
        } else {
            None
        };
        match problem {
            None => own.push(profile),
            Some(message) => {
                let help = "give file and `name` one name that no other profile has";
                findings.error(codes::PROFILE_TAKEN, source.span(0..0), message, help);
            }
        }
    }
    own
}

/// Without what only this module asks.
fn stripped(
    requires: BTreeMap<(RoleId, IssuerId), Vec<conditions::Compiled>>,
) -> HashMap<(RoleId, IssuerId), Vec<super::Condition>, FixedState> {
    let strip = |compiled: Vec<conditions::Compiled>| compiled.into_iter().map(|compiled| compiled.condition).collect();
    requires.into_iter().map(|(key, compiled)| (key, strip(compiled))).collect()
}

/// Session policies by path.
type Policies = BTreeMap<String, Arc<str>>;

/// Fewer than this are worked through where they are asked for.
const THREAD_FILES_MIN: usize = 256;
/// Most threads that one folder is loaded on.
const THREADS_MAX: usize = 8;

/// What `work` makes of the files: in parts, on several processors, where there are many (docs/decisions/0031). The parts
/// stand in the files' order, and what comes out is the same as of one.
fn in_parts<F: Sync, T: Send>(
    files: &[F],
    findings: &mut Findings,
    work: impl Fn(&[F], &mut Findings) -> T + Sync,
) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    if threads == 1 || files.len() < THREAD_FILES_MIN {
        return vec![work(files, findings)];
    }
    let work = &work;
    std::thread::scope(|scope| {
        let part = |files| {
            scope.spawn(move || {
                let mut findings = Findings::default();
                (work(files, &mut findings), findings)
            })
        };
        let parts: Vec<_> = files.chunks(files.len().div_ceil(threads)).map(part).collect();
        let joined = parts.into_iter().map(|part| {
            let (made, told) = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            findings.append(told);
            made
        });
        joined.collect()
    })
}

/// The trees of the TOML files, and the session policies.
fn parse<'f>(folder: &'f Folder, findings: &mut Findings) -> (Vec<(Home, Tree<'f>)>, Policies) {
    let files: Vec<(&String, &Vec<u8>)> = folder.files.iter().collect();
    let (mut trees, mut policies) = (Vec::with_capacity(files.len()), Policies::new());
    for (own, json) in in_parts(&files, findings, parse_some) {
        trees.extend(own);
        policies.extend(json);
    }
    (trees, policies)
}

/// The mappings of the teams' files.
fn of_teams(
    files: &[(Home, Tree<'_>)],
    policy: &Policy<'_>,
    roles: &roles::Roles,
    findings: &mut Findings,
) -> teams::Mappings {
    let (mut mappings, known) = (teams::Mappings::default(), Known::default());
    for (_, tree) in files.iter().filter(|(home, _)| *home == Home::Team) {
        match policy.owner_of(&tree.source.name) {
            Some(owner) => mappings.compile(tree, owner, (policy, roles, &known), findings),
            None => unowned(tree, policy, findings),
        }
    }
    mappings
}

fn parse_some<'f>(files: &[(&String, &'f Vec<u8>)], findings: &mut Findings) -> (Vec<(Home, Tree<'f>)>, Policies) {
    let (mut trees, mut policies) = (Vec::new(), Policies::new());
    for &(path, bytes) in files {
        let name = FileName::from(path.as_str());
        let Some(home) = Home::of(path) else {
            findings.error(
                codes::UNEXPECTED_FILE,
                Span::new(name, 0..0),
                format!("`{path}` is no file of a mapping folder"),
                "a folder holds `policy.toml`, `roles/*.toml`, `policies/*.json`, `profiles/*.toml`, `teams/<team>/*.toml` and `tests/*.toml`: move it or remove it",
            );
            continue;
        };
        if home == Home::Profile {
            continue;
        }
        let Some(source) = syntax::text_of(&name, bytes, findings) else { continue };
        if home == Home::Json {
            json(&source, findings);
            policies.insert(path.clone(), source.text.into());
        } else if let Some(tree) = syntax::parse(source, findings) {
            trees.push((home, tree));
        }
    }
    (trees, policies)
}

/// A session policy must at least be JSON; its backend reads it.
fn json(source: &syntax::Source<'_>, findings: &mut Findings) {
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(source.text) else { return };
    let line_start =
        source.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let at = (line_start + error.column().saturating_sub(1)).min(source.text.len());
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    findings.error(
        codes::POLICY_NOT_JSON,
        source.span(at..at),
        format!("the file is not JSON: {message}"),
        "mend it; it counts in the folder's version even where no role uses it",
    );
}

fn no_policy() -> Diagnostic {
    Diagnostic {
        code: codes::NO_POLICY,
        severity: Severity::Error,
        message: "the folder has no `policy.toml`".to_owned(),
        span: None,
        label: String::new(),
        others: Vec::new(),
        help: Some("write one that declares issuers and teams, beginning with `format = 1`".to_owned()),
        suggestion: None,
    }
}

fn unowned(tree: &Tree<'_>, policy: &Policy<'_>, findings: &mut Findings) {
    let file = &tree.source.name;
    let folder = file.rsplit_once('/').map_or("teams", |(folder, _)| folder);
    let teams = policy.teams.iter().map(|rules| rules.team.path.as_str());
    let help = match crate::diag::did_you_mean(folder, teams) {
        Some(meant) => {
            format!("did you mean `{meant}`? Otherwise add `[team.NAME]` with `path = \"{folder}\"` to `policy.toml`")
        }
        None => format!(
            "add `[team.NAME]` with `path = \"{folder}\"` to `policy.toml`, or move the file below a team's path"
        ),
    };
    findings.error(codes::UNOWNED_FILE, tree.source.span(0..0), format!("no team owns `{file}`"), help);
}

fn read_tests(files: &[(Home, Tree<'_>)], known: &tests::Known<'_>, findings: &mut Findings) -> Vec<TestCase> {
    let mut out = Vec::new();
    for (home, tree) in files {
        let place = match home {
            Home::Tests => Place::Tests,
            Home::Team if known.policy.owner_of(&tree.source.name).is_some() => Place::TeamFile,
            _ => continue,
        };
        // A team's file was read before, and its findings told; the same ones again are dropped at the end.
        let Some(fields) = Fields::read(&tree.source, place, &tree.root, findings) else { continue };
        let issuer = if place == Place::TeamFile { teams::file_issuer(&fields) } else { None };
        for value in fields.array("test", findings) {
            out.extend(tests::compile(&tree.source, value, issuer, known, findings));
        }
    }
    out
}
