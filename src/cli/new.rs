//! `claimbound new`: blocks of the folder that hold as they are written.

mod block;

use super::{
    loaded::{self, Loaded},
    render::{self, Format},
};
use crate::issuance::catalogue;
use annotate_snippets::Renderer;
use anyhow::{Result, bail};
pub use block::{Block, Pair, Written, quoted, workload, workload_with_id};
use claimbound_core::{
    diag::{Diagnostic, Severity, did_you_mean},
    mapping::{Folder, load},
    review::run_tests,
    workload::Profiles,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::PathBuf,
};

/// Add to a mapping folder
#[derive(Debug, Args)]
pub struct NewArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Mapping(MappingArgs),
}

/// Write a mapping with two tests: a job that gets the roles, and one that does not
///
/// It goes to the end of a file of the team's; what stands there stays as it is. Nothing is written unless the folder
/// loads with it and all tests pass. Exit code 0; 1: the folder would not load, or a test would fail, and nothing is
/// written; 2: usage, or the folder does not load now.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  claimbound new mapping shop-production --team shop --role shop-deploy.production \\
    --repository acme/shop-api=740000011 --branch main --environment production")]
struct MappingArgs {
    /// What it is called
    name: String,
    /// The mapping folder
    #[arg(long, value_name = "DIR", default_value = "mappings")]
    mappings: PathBuf,
    /// Print the block and write nothing
    #[arg(long)]
    print: bool,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    block: Block,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When the folder cannot be read or written, or what is asked for does not exist.
pub fn run(args: NewArgs) -> Result<u8> {
    let What::Mapping(args) = args.what;
    let Some(loaded) = loaded::load(&args.mappings)? else { return Ok(2) };
    let root = args.mappings.display().to_string();
    let root = root.trim_end_matches('/');
    if let Some(role) = args.block.roles.iter().find(|role| loaded.set.role_named(role).is_none()) {
        let meant = did_you_mean(role, loaded.set.role_names()).map(|meant| format!("did you mean `{meant}`? "));
        bail!("there is no role `{role}`; {}`claimbound roles` lists them", meant.unwrap_or_default());
    }
    let Some(team) = loaded.set.team(&args.block.team) else {
        let teams = loaded.set.teams.iter().map(|team| team.name.as_str());
        let known = teams.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        bail!("there is no team `{}` in policy.toml; it has {known}", args.block.team);
    };
    let (path, text, job) = match args.block.write(&args.name, &loaded, &team.path)? {
        block::Written::Done { path, text, job } => (path, text, job),
        block::Written::Refused { folder, findings } => {
            return refuse(args.format, &findings, &folder, root, "with the mapping the folder would not load");
        }
    };
    let Loaded { mut folder, .. } = loaded;
    let mut content = folder.files.get(&path).cloned().unwrap_or_default();
    if args.print && args.format == Format::Human {
        loaded::print(&text)?;
    }
    content.extend(text.as_bytes());
    folder.files.insert(path.clone(), content);
    let findings = findings(&folder);
    if is_refused(&findings) {
        return refuse(args.format, &findings, &folder, root, "with the mapping the folder would not hold");
    }
    let next = [
        format!("claimbound check {root}"),
        format!("claimbound roles --mappings {root}"),
        format!("claimbound explain --mappings {root} {job} --role {}", args.block.roles[0]),
    ];
    match args.format {
        Format::Human => tell(&findings, &folder, root)?,
        Format::Json => {
            let findings: Vec<_> = findings.iter().map(|finding| render::json(finding, &folder)).collect();
            let file = format!("{root}/{path}");
            let told = json!({
                "mapping": args.name, "file": file, "text": text, "written": !args.print, "findings": findings,
                "next": next,
            });
            loaded::print(&format!("{told:#}\n"))?;
        }
    }
    if args.print {
        return Ok(0);
    }
    let file = args.mappings.join(&path);
    if let Some(above) = file.parent() {
        std::fs::create_dir_all(above)?;
    }
    loaded::replace(&file, &folder.files[&path])?;
    if args.format == Format::Human {
        let told = format!(
            "{root}/{path}: mapping `{}` and two tests are written; the folder loads and all tests pass\n\nTo go on:\n",
            args.name
        );
        loaded::print(&next.iter().fold(told, |told, line| told + &format!("  {line}\n")))?;
    }
    Ok(0)
}

/// Says why nothing is written; the exit code.
///
/// # Errors
/// When nobody listens.
pub fn refuse(format: Format, findings: &[Diagnostic], folder: &Folder, root: &str, why: &str) -> Result<u8> {
    match format {
        Format::Human => tell(findings, folder, root)?,
        Format::Json => {
            let findings: Vec<_> = findings.iter().map(|finding| render::json(finding, folder)).collect();
            loaded::print(&format!("{:#}\n", json!({ "written": false, "findings": findings })))?;
        }
    }
    writeln!(io::stderr(), "error: {why}; nothing is written")?;
    Ok(1)
}

/// Everything that `check` would say of a folder.
pub fn findings(folder: &Folder) -> Vec<Diagnostic> {
    let loaded = load(folder, &Profiles::builtin());
    let mut findings = loaded.diagnostics;
    if let Some(set) = &loaded.set {
        findings.extend(catalogue::check(set, None));
        findings.extend(run_tests(set, &loaded.profiles, &loaded.tests).into_iter().filter_map(|test| test.failure));
    }
    findings
}

/// Whether one of the findings keeps a folder from being used.
fn is_refused(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// Tells findings on standard error.
///
/// # Errors
/// When it is closed.
fn tell(findings: &[Diagnostic], folder: &Folder, root: &str) -> io::Result<()> {
    io::stderr().lock().write_all(render::human(findings, folder, root, &Renderer::plain()).as_bytes())
}
