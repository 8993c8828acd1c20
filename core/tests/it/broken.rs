//! Folders with planted faults: every fault is told, in one run, with its place and a remedy.
//!
//! `tests/broken/NN-name/` holds `mappings/`, the folder, and `expected.txt`: one line `path:line:column code` for each finding, in
//! order; `. code` for one about the folder as a whole. `serve` and `check` are run over the same folders elsewhere.

use claimbound_core::{
    diag::{Severity, line_column},
    mapping::{Folder, codes, load},
    review::{dates, lint, lint_tests, run_tests},
    time::UnixSeconds,
    workload::Profiles,
};
use std::path::{Path, PathBuf};

/// In the spring of 2026.
const NOW: UnixSeconds = UnixSeconds(1_775_000_000);

/// Codes without a folder, and where they are shown instead.
const ELSEWHERE: [(u16, &str); 7] = [
    (109, "a file that is too large: beside `load`"),
    (120, "no regular file: beside the reader of folders"),
    (121, "a link: beside the reader of folders"),
    (122, "permissions: beside the reader of folders"),
    (123, "a folder of many files: beside the reader of folders"),
    (605, "a role that does not exist: CB0206 when the folder loads; beside the runner of tests"),
    (729, "hundreds of mappings: beside the lint"),
];

pub(crate) fn below(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part)
}

#[expect(clippy::disallowed_methods, reason = "fixtures are files; the crate itself reads none")]
fn read(root: &Path, at: &Path, folder: &mut Folder) {
    for entry in std::fs::read_dir(at).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(root, &path, folder);
        } else {
            let name = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
            folder.files.insert(name, std::fs::read(&path).expect("a readable file"));
        }
    }
}

pub(crate) fn folder(root: &Path) -> Folder {
    let mut folder = Folder::default();
    read(root, root, &mut folder);
    folder
}

fn found(folder: &Folder) -> String {
    let loaded = load(folder, &Profiles::builtin());
    let advice = |set| {
        let failed = run_tests(set, &loaded.profiles, &loaded.tests).into_iter().filter_map(|result| result.failure);
        let tests = lint_tests(set, &loaded.profiles, &loaded.tests);
        [lint(set, &loaded.profiles), tests, dates::passed(set, NOW), failed.collect()].concat()
    };
    let advice = loaded.set.as_ref().map(advice).unwrap_or_default();
    let mut all: Vec<_> = loaded.diagnostics.iter().chain(&advice).collect();
    all.sort_by_key(|finding| finding.span.as_ref().map(|span| (span.file.clone(), span.bytes().start)));
    let mut lines = String::new();
    for finding in all {
        let help = finding.help.as_deref().unwrap_or_default();
        assert!(!help.is_empty(), "{finding:?} says no remedy");
        assert!(!finding.message.ends_with('.'), "{}", finding.message);
        match &finding.span {
            None => lines.push_str(&format!(". {}\n", finding.code)),
            Some(span) => {
                let text = String::from_utf8_lossy(&folder.files[&*span.file]);
                let (line, column) = line_column(&text, span.bytes().start);
                lines.push_str(&format!("{}:{line}:{column} {}\n", span.file, finding.code));
            }
        }
    }
    let errors = loaded.diagnostics.iter().any(|finding| finding.severity == Severity::Error);
    assert_eq!(loaded.set.is_none(), errors, "a set is given exactly when nothing is an error");
    lines
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files; the crate itself reads none")]
fn every_planted_fault_is_told_in_one_run() {
    let mut folders: Vec<_> = std::fs::read_dir(below("tests/broken"))
        .expect("tests/broken is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 60, "only {} folders", folders.len());
    let mut wrong = Vec::new();
    for root in folders {
        let found = found(&folder(&root.join("mappings")));
        let file = root.join("expected.txt");
        if std::env::var_os("BROKEN_UPDATE").is_some() {
            std::fs::write(&file, &found).expect("expected.txt is writable");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", root.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files; the crate itself reads none")]
fn folders_that_load_are_advised_on_each_thing_once() {
    for name in ["one-of-each", "each-reach", "dates-and-tests", "exceptions", "raw-claims", "actors"] {
        let root = below("tests/advised").join(name);
        let (found, file) = (found(&folder(&root.join("mappings"))), root.join("expected.txt"));
        if std::env::var_os("BROKEN_UPDATE").is_some() {
            std::fs::write(&file, &found).expect("expected.txt is writable");
        }
        assert_eq!(found, std::fs::read_to_string(&file).expect("it is there"), "{name}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files; the crate itself reads none")]
fn every_code_of_a_folder_has_a_planted_case() {
    let folders = ["tests/broken", "tests/advised"].map(|part| std::fs::read_dir(below(part)).expect("it is there"));
    let expected = |folder: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(folder.expect("an entry").path().join("expected.txt")).expect("it is there")
    };
    let planted: String = folders.into_iter().flatten().map(expected).collect();
    for (code, title) in codes::ALL {
        let elsewhere = ELSEWHERE.iter().any(|(number, _)| *number == code.0);
        assert_eq!(planted.contains(&format!(" {code}\n")), !elsewhere, "{code}: {title}");
    }
}

#[test]
fn the_sample_folder_has_no_findings() {
    let sample = folder(&below("mappings"));
    assert_eq!(found(&sample), "");
    let set = load(&sample, &Profiles::builtin()).set.expect("it loads");
    let roles: Vec<_> = set.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(roles, ["payments-deploy.staging", "payments-deploy.production", "payments-secrets", "search-index"]);
}
