//! Who may import whom: the table, and the reader of `use` trees that holds the code to it.
//!
//! A room is a module directly below a crate's root. `docs/ARCHITECTURE.md` says why the edges are as they are.

use super::Source;
use std::collections::BTreeSet;

/// Rooms of the core, and what each may import of the core. A path allows what lies below it.
const CORE: &[(&str, &str)] = &[
    ("time", ""),
    ("reason", ""),
    ("diag", ""),
    ("claims", ""),
    ("lang", ""),
    ("workload", "claims diag reason"),
    ("trust", "claims reason time workload::SingleUseRule"),
    ("ceremony", "time"),
    ("evidence", "reason time"),
    ("delegation", "claims reason trust workload"),
    ("mapping", "ceremony claims diag lang reason time workload"),
    ("review", "ceremony claims delegation diag lang mapping reason time workload"),
];

/// Rooms of the service, and what each may import: of the service, and of the core (`core::…`).
const SERVICE: &[(&str, &str)] = &[
    // Leaves.
    ("secret", ""),
    ("listen", ""),
    ("telemetry", "core::reason core::time otlp"),
    ("net", "secret"),
    ("otlp", "net secret"),
    // A job's side: it knows a broker by its HTTP interface alone.
    ("client", "net secret"),
    ("operators", ""),
    // In an operator's name.
    (
        "operate",
        "core::ceremony core::diag core::evidence core::mapping core::review core::time core::workload exchange::salt folder issuance::Ended issuance::Later issuance::aws operators \
         store",
    ),
    ("rate", ""),
    ("webhooks", "core::ceremony core::time net rate secret telemetry"),
    ("config", "core::diag operators otlp secret webhooks"),
    ("folder", "core::diag core::mapping"),
    // The floors of an exchange.
    (
        "keys",
        "core::claims core::evidence::VerifierKey core::time core::trust core::workload::SingleUseRule net secret telemetry",
    ),
    ("documents", "core::time keys::signing"),
    ("store", "core::ceremony core::evidence core::reason core::time core::trust::SingleUse secret telemetry"),
    (
        "issuance",
        "core::claims core::diag core::evidence::LeaseId core::evidence::hex core::mapping core::reason core::time \
         core::trust::IssuerTable core::workload keys::signing net secret telemetry",
    ),
    // `salt` is the one way to seal details.
    ("ceremony", "core::ceremony core::evidence core::time exchange::salt secret store telemetry webhooks"),
    ("exchange", "ceremony core issuance keys::issuers rate secret store telemetry"),
    // Questions to the evidence, and people's sign-in.
    ("history", "config core folder store"),
    ("people", "config core::ceremony core::time net secret"),
    // Copies of what the store keeps; it never waits for them.
    ("sinks", "config core::evidence core::time net otlp store telemetry"),
    // What builds, speaks and commands.
    (
        "broker",
        "ceremony core config exchange folder issuance keys net operate operators people secret sinks store telemetry webhooks",
    ),
    // `Credential`, `Ended`, `Later` and `Down` are words of the broker's face.
    (
        "http",
        "broker config core::ceremony core::diag core::evidence core::mapping core::reason core::time core::workload documents exchange \
         folder history issuance::AwsSession issuance::Credential issuance::Ended issuance::Later issuance::Narrowing keys::signing::KeyInfo listen operate operators people rate secret store::Down \
         telemetry",
    ),
    ("dev", "broker config core documents exchange http issuance keys net secret store telemetry"),
    (
        "cli",
        "broker client config core dev documents exchange folder history http issuance keys listen net operate operators otlp secret store telemetry",
    ),
];

/// Forbidden although the table allows what lies above; so is importing a room that holds it as a whole.
const NEVER: &[(&str, &str)] = &[("http", "core::mapping::decide")];

/// Edges that stand against the table's direction, each with its reason. One that nobody uses leaves the list.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("mapping", "review::TestCase", "a folder's `[[test]]` blocks are compiled with it and run by `review`"),
    ("mapping", "review::Given", "the same"),
    ("mapping", "review::Job", "the same"),
    ("mapping", "review::Expect", "the same"),
    ("mapping", "review::overlap", "`load` proves that no two mappings give one role to one job"),
    ("mapping", "review::never", "`load` proves every `[[never]]`"),
];

/// Every forbidden edge, every room without a row, every row without a room.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut excused = BTreeSet::new();
    for (root, table) in [("core/src/", CORE), ("src/", SERVICE)] {
        let files: Vec<(&Source, Vec<&str>)> = sources
            .iter()
            .filter(|source| source.is_production())
            .filter_map(|source| Some((source, module_path(source.path.strip_prefix(root)?))))
            .filter(|(_, module)| !module.is_empty())
            .collect();
        let rooms: BTreeSet<&str> = files.iter().map(|(_, module)| module[0]).collect();
        let rows: BTreeSet<&str> = table.iter().map(|(room, _)| *room).collect();
        findings.extend(rooms.difference(&rows).map(|room| format!("{root}{room}: a room without a row in the table")));
        findings.extend(rows.difference(&rooms).map(|room| format!("{root}{room}: a row without a room")));
        for (source, module) in &files {
            let Some((room, may)) = table.iter().find(|(room, _)| *room == module[0]) else { continue };
            let shipped: String = numbered(source);
            for (line, path) in imports(&shipped, module.len(), &rooms) {
                if below(&path, room) {
                    continue;
                }
                let exception = EXCEPTIONS.iter().find(|(from, to, _)| from == room && below(&path, to));
                if let Some(found) = exception {
                    excused.insert(*found);
                    continue;
                }
                let allowed = may.split_whitespace().any(|entry| below(&path, entry));
                let never = NEVER.iter().any(|(from, to)| from == room && (below(&path, to) || below(to, &path)));
                if !allowed || never {
                    findings.push(format!("{}:{line}: `{room}` may not import `{path}`", source.path));
                }
            }
        }
    }
    let unused = EXCEPTIONS.iter().filter(|exception| !excused.contains(*exception));
    findings.extend(unused.map(|(from, to, _)| format!("exception `{from}` → `{to}`: nobody uses it, take it out")));
    findings
}

/// `store/sqlite.rs` → `store`, `sqlite`; a crate's own root has no path.
fn module_path(file: &str) -> Vec<&str> {
    let file = file.strip_suffix(".rs").unwrap_or(file);
    let mut path: Vec<&str> = file.split('/').collect();
    if path.last() == Some(&"mod") {
        path.pop();
    }
    if matches!(path.as_slice(), ["lib"] | ["main"]) { Vec::new() } else { path }
}

/// The shipped lines at their places, everything else blank, so that offsets still tell lines.
fn numbered(source: &Source) -> String {
    let mut lines = vec![""; source.text.lines().count()];
    for (number, line) in source.shipped() {
        lines[number - 1] = line;
    }
    lines.join("\n")
}

/// Whether `path` is `room` or lies in it.
fn below(path: &str, room: &str) -> bool {
    path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path into a room of this crate or into the core, with its line. `depth` is that of the file's module:
/// that many `super` lead to the crate's root.
fn imports(text: &str, depth: usize, rooms: &BTreeSet<&str>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let to_root = "super::".repeat(depth);
    for (start, prefix) in [("crate::", ""), ("claimbound_core::", "core"), (to_root.as_str(), "")] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
                continue;
            }
            let mut paths = Vec::new();
            let prefix: Vec<&str> = if prefix.is_empty() { Vec::new() } else { vec![prefix] };
            tree(&text[at + start.len()..], &prefix, &mut paths);
            for (offset, path) in paths {
                let first = path.split("::").next().unwrap_or_default();
                if first == "core" || rooms.contains(first) {
                    let line = text[..at + start.len() + offset].matches('\n').count() + 1;
                    found.push((line, path));
                }
            }
        }
    }
    found
}

/// Reads one use tree (`a::b`, `{a, b::{c, d}}`) and gives its paths with their offsets; returns what it consumed.
fn tree(text: &str, prefix: &[&str], found: &mut Vec<(usize, String)>) -> usize {
    let mut at = text.len() - text.trim_start().len();
    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at += text[at..].len() - text[at..].trim_start_matches([',', ' ', '\n', '\t']).len();
            if text[at..].is_empty() || text[at..].starts_with('}') {
                return at + 1;
            }
            let mut inner = Vec::new();
            let took = tree(&text[at..], prefix, &mut inner);
            found.extend(inner.into_iter().map(|(offset, path)| (at + offset, path)));
            // Past `as name` and whatever else is not a tree.
            at += took.max(1);
            at += text[at..].find([',', '}', '{']).unwrap_or(text.len() - at);
        }
    }
    let name: &str = &text[at..];
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
    let (name, rest) = name.split_at(end);
    let mut path = prefix.to_vec();
    if !name.is_empty() && name != "self" {
        path.push(name);
    }
    if let Some(below) = rest.strip_prefix("::") {
        let start = at + end + 2;
        let mut inner = Vec::new();
        let took = tree(below, &path, &mut inner);
        if !inner.is_empty() {
            found.extend(inner.into_iter().map(|(offset, path)| (start + offset, path)));
            return start + took;
        }
    }
    if !path.is_empty() {
        found.push((at, path.join("::")));
    }
    at + end
}

#[test]
fn use_trees_are_read_with_their_lines() {
    let text = "\
use crate::{
    diag::Span,
    workload::{self, Case as Judged, claim::*},
};
use claimbound_core::{time::UnixSeconds, trust};
fn f() -> crate::reason::Reason { $crate::lang::x(); super::super::store::open::<u8>() }
use super::sibling;
";
    let rooms = BTreeSet::from(["diag", "workload", "reason", "lang", "store"]);
    let found: Vec<String> =
        imports(text, 2, &rooms).into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    assert_eq!(
        found,
        [
            "2 diag::Span",
            "3 workload",
            "3 workload::Case",
            "3 workload::claim",
            "6 reason::Reason",
            "5 core::time::UnixSeconds",
            "5 core::trust",
            "6 store::open",
        ]
    );
}

#[test]
fn a_forbidden_edge_is_named_with_file_and_line() {
    let text = "//! crate::mapping is only named here\n\nuse crate::mapping::decide;\n#[cfg(test)]\nmod tests {\n    use crate::review;\n}\n";
    let source = Source { path: "core/src/trust/verify.rs".to_owned(), text: text.to_owned(), of_tests: false };
    let set = Source { path: "core/src/mapping/set.rs".to_owned(), text: String::new(), of_tests: false };
    let found: Vec<String> = check(&[source, set]).into_iter().filter(|finding| finding.contains("may not")).collect();
    assert_eq!(found, ["core/src/trust/verify.rs:3: `trust` may not import `mapping::decide`"]);
}
