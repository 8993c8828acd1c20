//! Folder → set, with every error of every file in one run.
//!
//! What a file may say follows from where it stands ([`Home`]); nothing in it can change that. Policy comes first,
//! then roles, then the teams' files, then denies and tests, because each names what came before. A part with a
//! fault is left out of the set, so that later rules judge only what can be judged, and a fault is told once.

mod actor;
mod ceremony;
mod conditions;
mod denies;
mod duration;
mod limit;
pub(crate) mod mixes;
mod names;
mod patterns;
mod placeholders;
mod policy;
mod raw;
mod roles;
mod session;
mod shared;
mod teams;
mod tests;
mod values;
mod workflows;

pub(super) use self::{
    conditions::match_keys, limit::STS_USES_MAX, raw::CLAIMS, values::OPERATORS, workflows::WORKFLOW_PARTS,
};

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
    let files = files(folder, &mut findings);
    let of = |homes: &[Home]| files.iter().filter(|file| homes.contains(&file.home)).copied().collect::<Vec<_>>();
    let (roles_files, teams_files) = (of(&[Home::Roles]), of(&[Home::Team, Home::Tests]));
    let policies = policies(&of(&[Home::Json]), &mut findings);

    let policy_tree = of(&[Home::Policy]).first().and_then(|file| file.parse(&mut findings));
    let policy_fields = policy_tree
        .as_ref()
        .and_then(|tree| Some((tree, Fields::read(&tree.source, Place::Policy, &tree.root, &mut findings)?)));
    let Some((policy_tree, policy_fields)) = policy_fields else {
        if !folder.files.contains_key(POLICY) {
            findings.push(no_policy());
        }
        // Every reference would be unknown: more findings than those of syntax would not be more help.
        for part in [roles_files, teams_files] {
            in_parts(&part, &mut findings, |files, findings| drop(parse(files, findings)));
        }
        return Loaded { set: None, tests: Vec::new(), diagnostics: findings.into_sorted(), profiles };
    };
    let policy = policy::compile(policy_tree, &policy_fields, &profiles, &mut findings);
    let (mut roles, known) = (roles::Roles::default(), Known::default());
    for tree in in_parts(&roles_files, &mut findings, parse).iter().flatten() {
        roles.compile(tree, &policy, &known, &mut findings);
    }
    let unused_targets = roles.unused_targets(&policy);
    let mut mappings = teams::Mappings::default();
    for part in in_parts(&teams_files, &mut findings, |files, findings| read(files, &policy, &roles, findings)) {
        mappings.append(part);
    }
    mappings.settle(&policy, &mut findings);
    let denies = denies::compile(&policy_fields, &policy, &roles, &mut findings);
    let nevers = denies::nevers(&policy_fields, &policy, &roles, &mut findings);

    let requires = stripped(roles.requires);
    let floors = policy.sensitivities.into_iter().filter_map(|(name, one)| Some((name, one.floor?)));
    let ceremony_floors = floors.collect();
    let profiles_of = policy.profiles;
    let teams = policy.teams.into_iter().map(|rules| rules.team).collect();
    let (issuers, roles, tests) = (policy.issuers, roles.all, mappings.tests);
    let (reviews, mappings) = (mappings.reviews, mappings.all);
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
        ceremony_floors,
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

/// A file that was not read yet.
#[derive(Clone, Copy)]
struct File<'f> {
    home: Home,
    path: &'f str,
    bytes: &'f [u8],
}

impl<'f> File<'f> {
    fn text(&self, findings: &mut Findings) -> Option<syntax::Source<'f>> {
        syntax::text_of(&self.path.into(), self.bytes, findings)
    }
    fn parse(&self, findings: &mut Findings) -> Option<Tree<'f>> {
        syntax::parse(self.text(findings)?, findings)
    }
}

/// The folder's files, in order, but for profiles. One that has no place in a folder is told.
fn files<'f>(folder: &'f Folder, findings: &mut Findings) -> Vec<File<'f>> {
    let mut files = Vec::with_capacity(folder.files.len());
    for (path, bytes) in &folder.files {
        match Home::of(path) {
            Some(Home::Profile) => {}
            Some(home) => files.push(File { home, path, bytes }),
            None => findings.error(
                codes::UNEXPECTED_FILE,
                Span::new(path.as_str(), 0..0),
                format!("`{path}` is no file of a mapping folder"),
                "a folder holds `policy.toml`, `roles/*.toml`, `policies/*.json`, `profiles/*.toml`, `teams/<team>/*.toml` and `tests/*.toml`: move it or remove it",
            ),
        }
    }
    files
}

/// Less than this is worked through where it is asked for.
const THREADS_BYTES_MIN: usize = 512 * 1024;
/// Most threads that one folder is loaded on.
const THREADS_MAX: usize = 8;

/// What `work` makes of the files: in parts, on several processors, where there is much (docs/decisions/0031). The parts
/// stand in the files' order, and what comes out is the same as of one.
fn in_parts<'f, T: Send>(
    files: &[File<'f>],
    findings: &mut Findings,
    work: impl Fn(&[File<'f>], &mut Findings) -> T + Sync,
) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    if threads == 1 || bytes < THREADS_BYTES_MIN {
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

fn parse<'f>(files: &[File<'f>], findings: &mut Findings) -> Vec<Tree<'f>> {
    files.iter().filter_map(|file| file.parse(findings)).collect()
}

/// Mappings and tests, file by file: no more than one tree stands in memory, and it is in the processor's cache.
fn read(files: &[File<'_>], policy: &Policy<'_>, roles: &roles::Roles, findings: &mut Findings) -> teams::Mappings {
    let (mut mappings, known) = (teams::Mappings::default(), Known::default());
    for file in files {
        let Some(tree) = file.parse(findings) else { continue };
        match policy.owner_of(file.path) {
            _ if file.home == Home::Tests => mappings.of_platform(&tree, policy, roles, findings),
            Some(owner) => mappings.compile(&tree, owner, (policy, roles, &known), findings),
            None => unowned(&tree, policy, findings),
        }
    }
    mappings
}

/// Session policies by path.
fn policies(files: &[File<'_>], findings: &mut Findings) -> BTreeMap<String, Arc<str>> {
    let mut policies = BTreeMap::new();
    for file in files {
        let Some(source) = file.text(findings) else { continue };
        json(&source, findings);
        policies.insert(file.path.to_owned(), source.text.into());
    }
    policies
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
