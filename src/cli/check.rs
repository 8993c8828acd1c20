//! `claimbound check`: everything that can be said of a folder without a server.

use super::render::{self, ReportFormat};
use crate::{
    broker::SystemClock,
    folder::{self, FolderError},
    issuance::catalogue,
};
use anyhow::Context;
use claimbound_core::{
    diag::{Diagnostic, Severity},
    evidence::hex,
    mapping::{Folder, load},
    review::{dates, lint, lint_tests, run_tests},
    time::Clock as _,
    workload::Profiles,
};
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Nothing to report, or warnings alone.
const CLEAN: u8 = 0;
/// The folder has findings.
const FINDINGS: u8 = 1;

/// Judge a mapping folder: parse, compile, prove, run its tests
///
/// Tells all errors of all files in one run: findings on standard output, one summary line on standard error. Exit
/// code 0: clean, or warnings alone; 1: errors, or warnings with `--deny-warnings`; 2: usage, or the folder cannot be
/// read.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The mapping folder, or a part of it: the whole is loaded, the part reported
    #[arg(default_value = "mappings")]
    path: PathBuf,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    /// End with exit code 1 on warnings, too
    #[arg(long)]
    deny_warnings: bool,
    /// Print the page of a code, such as CB0104
    #[arg(long, value_name = "CODE", exclusive = true)]
    explain: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the folder cannot be read, or there is no such code: usage and I/O, exit 2.
pub fn run(args: CheckArgs) -> anyhow::Result<u8> {
    if let Some(code) = &args.explain {
        let page = super::pages::page(code);
        let page = page.with_context(|| format!("there is no diagnostic `{code}`; codes look like `CB0104`"))?;
        io::stdout().write_all(page.as_bytes())?;
        return Ok(CLEAN);
    }
    let report = Report::of(&args.path, Parts::All)?;
    report.print(args.format)?;
    Ok(report.exit(args.deny_warnings))
}

/// What of a folder is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parts {
    All,
    /// Whatever keeps the folder from loading, and its tests: no warnings.
    Tests,
}

/// A folder found, read, loaded and tested.
pub(super) struct Report {
    folder: Folder,
    /// How the folder is shown.
    root: String,
    /// Of the part that was asked about.
    findings: Vec<Diagnostic>,
    /// Errors in other parts.
    elsewhere: usize,
    /// Files of the part.
    files: usize,
    /// Mappings and roles of the part, once the folder loads.
    counts: Option<(usize, usize)>,
    passed: usize,
    failed: usize,
}

impl Report {
    pub(super) fn of(path: &Path, parts: Parts) -> anyhow::Result<Self> {
        let place = Place::find(path)?;
        let mut report = Self {
            folder: Folder::default(),
            root: place.shown.clone(),
            findings: Vec::new(),
            elsewhere: 0,
            files: 0,
            counts: None,
            passed: 0,
            failed: 0,
        };
        let mut findings = match folder::read(&place.root, false) {
            Ok(folder) => {
                report.files = folder.files.keys().filter(|file| place.holds(file)).count();
                report.folder = folder;
                Vec::new()
            }
            Err(FolderError::Refused { findings, .. }) => findings,
            Err(error) => return Err(error.into()),
        };
        if findings.is_empty() {
            let loaded = load(&report.folder, &Profiles::builtin());
            findings = loaded.diagnostics;
            if let Some(set) = &loaded.set {
                let mappings = set.mappings.iter().filter(|one| one.is_first() && place.holds(&one.span.file)).count();
                let roles = set.roles.iter().filter(|role| place.holds(&role.span.file)).count();
                report.counts = Some((mappings, roles));
                findings.extend(lint(set, &loaded.profiles));
                findings.extend(lint_tests(set, &loaded.profiles, &loaded.tests));
                findings.extend(catalogue::check(set, None));
                findings.extend(dates::passed(set, SystemClock.now()));
                for (test, result) in loaded.tests.iter().zip(run_tests(set, &loaded.profiles, &loaded.tests)) {
                    let here = place.holds(&test.span.file);
                    match result.failure {
                        Some(failure) => {
                            report.failed += usize::from(here);
                            findings.push(failure);
                        }
                        None => report.passed += usize::from(here),
                    }
                }
            }
        }
        let here = |finding: &Diagnostic| finding.span.as_ref().is_none_or(|span| place.holds(&span.file));
        let (mut here, elsewhere): (Vec<_>, Vec<_>) = findings.into_iter().partition(here);
        if parts == Parts::Tests {
            here.retain(|finding| finding.severity == Severity::Error);
        }
        here.sort_by_key(|finding| finding.span.as_ref().map(|span| (span.file.clone(), span.bytes().start)));
        report.elsewhere = elsewhere.iter().filter(|finding| finding.severity == Severity::Error).count();
        report.findings = here;
        Ok(report)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    pub(super) fn exit(&self, deny_warnings: bool) -> u8 {
        let fails =
            self.elsewhere + self.count(Severity::Error) > 0 || (deny_warnings && self.count(Severity::Warning) > 0);
        if fails { FINDINGS } else { CLEAN }
    }

    /// Findings to standard output, the one summary line to standard error.
    pub(super) fn print(&self, format: ReportFormat) -> io::Result<()> {
        let (findings, folder, root) = (&self.findings, &self.folder, &*self.root);
        let mut out = io::stdout().lock();
        match format {
            ReportFormat::Human => {
                out.write_all(render::human(findings, folder, root, &render::renderer()).as_bytes())?
            }
            ReportFormat::Json => return writeln!(out, "{}", self.json()),
            ReportFormat::Sarif => writeln!(out, "{}", render::sarif(findings, folder, root))?,
            ReportFormat::Github => out.write_all(render::github(findings, folder, root).as_bytes())?,
        }
        writeln!(io::stderr(), "{}", self.summary())
    }

    fn summary(&self) -> String {
        let mut summary = format!(
            "{}, {} in {}",
            plural(self.count(Severity::Error), "error"),
            plural(self.count(Severity::Warning), "warning"),
            plural(self.files, "file")
        );
        if self.elsewhere > 0 {
            summary.push_str(&format!(" ({} outside of the part asked about)", plural(self.elsewhere, "error")));
        }
        match self.counts {
            Some((mappings, roles)) => {
                let (mappings, roles) = (plural(mappings, "mapping"), plural(roles, "role"));
                summary.push_str(&format!("; {mappings}, {roles}, {} passed", plural(self.passed, "test")));
                if self.failed > 0 {
                    summary.push_str(&format!(", {} failed", self.failed));
                }
            }
            None => summary.push_str("; the folder does not load, so no tests ran"),
        }
        summary
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "folder": self.root,
            "version": hex(&self.folder.version()),
            "loads": self.counts.is_some(),
            "findings": self.findings.iter().map(|finding| render::json(finding, &self.folder)).collect::<Vec<_>>(),
            "summary": {
                "errors": self.count(Severity::Error),
                "warnings": self.count(Severity::Warning),
                "notes": self.count(Severity::Note),
                "errors_elsewhere": self.elsewhere,
                "files": self.files,
                "mappings": self.counts.map(|(mappings, _)| mappings),
                "roles": self.counts.map(|(_, roles)| roles),
                "tests_passed": self.passed,
                "tests_failed": self.failed,
            },
        })
    }
}

pub(super) fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// Where a folder lies, and which part of it was asked about.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) shown: String,
    /// Relative to the root; empty for all of it.
    part: String,
}

impl Place {
    /// The nearest folder at or above `path` that has a `policy.toml`; `path` itself where there is none.
    pub(super) fn find(path: &Path) -> anyhow::Result<Self> {
        let real = path.canonicalize().with_context(|| format!("cannot read `{}`", path.display()))?;
        let root = real.ancestors().find(|folder| folder.join("policy.toml").is_file());
        let Some(root) = root.filter(|root| *root != real) else {
            anyhow::ensure!(real.is_dir(), "`{}` is no mapping folder and lies in none", path.display());
            return Ok(Self { root: real, shown: path.display().to_string(), part: String::new() });
        };
        let part = real.strip_prefix(root).unwrap_or(&real).to_string_lossy().into_owned();
        let shown = std::env::current_dir().ok().and_then(|here| Some(root.strip_prefix(here).ok()?.to_owned()));
        let shown = shown.unwrap_or_else(|| root.to_owned()).display().to_string();
        Ok(Self { root: root.to_owned(), shown, part })
    }
    pub(super) fn holds(&self, file: &str) -> bool {
        let rest = file.strip_prefix(&self.part);
        self.part.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_finds_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("teams/a/deep")).unwrap();
        std::fs::write(root.join("policy.toml"), "").unwrap();
        std::fs::write(root.join("teams/a/x.toml"), "").unwrap();
        for (path, part) in [("", ""), ("teams/a", "teams/a"), ("teams/a/x.toml", "teams/a/x.toml")] {
            let place = Place::find(&root.join(path)).unwrap();
            assert_eq!((place.root, place.part.as_str()), (root.clone(), part));
        }
        let place = Place::find(&root.join("teams/a")).unwrap();
        assert!(place.holds("teams/a/deep/y.toml") && !place.holds("teams/ab/x.toml") && !place.holds("policy.toml"));
        assert!(Place::find(&root.join("nowhere")).is_err());
    }

    fn report(path: &str) -> Report {
        Report::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken").join(path), Parts::All).unwrap()
    }

    #[test]
    fn a_broken_folder_is_told_in_numbers_and_places() {
        let report = report("42-repeated-members/mappings");
        assert_eq!(report.exit(false), FINDINGS);
        assert_eq!(report.summary(), "5 errors, 1 warning in 3 files; the folder does not load, so no tests ran");
        let json = report.json();
        assert_eq!((&json["loads"], &json["summary"]["errors"]), (&false.into(), &5.into()));
        assert_eq!(json["findings"][0]["place"]["file"], "roles/payments.toml");
        assert!(json["findings"].as_array().unwrap().iter().all(|finding| finding["help"].is_string()));
    }

    #[test]
    fn a_part_is_not_clean_while_the_whole_does_not_load() {
        let report = report("42-repeated-members/mappings/policy.toml");
        assert!(report.findings.is_empty());
        assert_eq!(report.exit(false), FINDINGS);
        assert!(report.summary().contains("(5 errors outside of the part asked about)"), "{}", report.summary());
    }

    #[test]
    fn a_lone_file_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.toml"), "").unwrap();
        assert!(Place::find(&folder.path().join("x.toml")).is_err());
        assert!(Place::find(folder.path()).is_ok(), "`load` says what is missing");
    }
}
