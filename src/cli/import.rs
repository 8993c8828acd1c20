//! `claimbound import`: trust policies that are there already, as a mapping folder. What cannot be said as narrowly is not
//! imported but reported: the folder never gives a role to a job that the policy would not have.

mod assemble;
mod aws;
mod cel;
mod gcp;
mod json;
mod model;
mod names;
mod native;
mod octo_sts;
mod pattern;
mod pins;
mod regex;
mod tests;
mod vault;
mod when;
mod write;
mod yaml;

use super::{check::plural, loaded, render::Format};
use anyhow::{Context as _, Result, bail};
use assemble::assemble;
use claimbound_core::workload::Profiles;
use model::{Import, Left, Output};
use serde_json::json;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Longer files are not read; a large account's authorization details have a few MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Places that are told of one finding, for people.
const PLACES_SHOWN_MAX: usize = 3;

/// Turn trust policies of another system into a mapping folder
///
/// Writes issuers, roles, mappings and tests, and tells what could not be kept and why: whatever cannot be said as
/// narrowly as it was is not imported. Names stand without ids, so the folder loads once `claimbound pin` has filled
/// them in. Exit code 0: all is imported; 1: something is not; 2: usage, or a file cannot be read, and nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound import octo-sts .github/chainguard/*.sts.yaml --out mappings
  aws iam get-account-authorization-details --filter Role > roles.json
  claimbound import aws roles.json --out mappings")]
pub struct ImportArgs {
    /// What the files are
    #[arg(value_enum)]
    from: From,
    /// Files, as the system's own tools give them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The folder to write; it must not be there. By default all files go to standard output, each behind its path
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The team whose files hold the mappings
    #[arg(long, default_value = "imported")]
    team: String,
    /// Whose tokens these are, where no file says it: roles of Vault do not
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// How to report; `json` holds the files, too, where there is no `--out`
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum From {
    /// Trust policies of AWS roles: `aws iam get-role`, `list-roles`, `get-account-authorization-details`, or a policy alone
    Aws,
    /// Trust policies of octo-sts: `*.sts.yaml`
    OctoSts,
    /// Google's Workload Identity Federation: providers and IAM policies, as `gcloud … --format=json` gives them
    Gcp,
    /// JWT roles of Vault or OpenBao, and the method's configuration, as `bao read -format=json` gives them
    Vault,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When a file cannot be read or is none of what it should be, or the folder cannot be written.
pub fn run(args: &ImportArgs) -> Result<u8> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        bail!("`{}` is there already, and nothing is overwritten; name another folder", out.display());
    }
    let named = !args.team.is_empty() && args.team.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !named || args.team.starts_with('-') || args.team.len() > 63 {
        bail!("`{}` is no team's name: 1 to 63 of `a-z`, `0-9` and `-`", args.team);
    }
    if args.issuer.is_some() && args.from != From::Vault {
        bail!("`--issuer` is for roles of Vault; other files say whose tokens they take");
    }
    let profiles = Profiles::builtin();
    let mut import = Import::default();
    let mut files = Vec::new();
    for path in &args.files {
        let shown = path.display().to_string();
        let text = read(path).with_context(|| format!("cannot read `{shown}`"))?;
        files.push((shown, text));
    }
    if args.from == From::Gcp {
        gcp::read(&files, &profiles, &mut import)?;
    }
    let issuer = args.issuer.clone().or_else(|| files.iter().find_map(|(_, text)| vault::issuer(text)));
    for (shown, text) in &files {
        let read = match args.from {
            From::Aws => aws::read(shown, text, &profiles, &mut import),
            From::OctoSts => octo_sts::read(shown, text, &profiles, &mut import),
            From::Vault => vault::read(shown, text, issuer.as_deref(), &profiles, &mut import),
            From::Gcp => Ok(()),
        };
        read.with_context(|| format!("cannot import `{shown}`"))?;
    }
    let output = assemble(import, &args.team, &profiles)?;
    let is_empty = output.mappings == 0;
    if let Some(out) = args.out.as_ref().filter(|_| !is_empty) {
        for (path, text) in &output.files {
            write(&out.join(path), text)?;
        }
    }
    match args.format {
        Format::Json => loaded::print(&format!("{:#}\n", report(&output, args.out.as_deref())))?,
        Format::Human => tell(&output, args.out.as_deref())?,
    }
    Ok(u8::from(!output.left.is_empty()))
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("it is longer than {FILE_BYTES_MAX} bytes");
    }
    Ok(text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let done = path.parent().map_or(Ok(()), fs::create_dir_all);
    let done = done.and_then(|()| fs::File::create_new(path)?.write_all(text.as_bytes()));
    done.with_context(|| format!("cannot write `{}`", path.display()))
}

fn report(output: &Output, out: Option<&Path>) -> serde_json::Value {
    let files = match out {
        Some(_) => json!(output.files.keys().collect::<Vec<_>>()),
        None => json!(output.files),
    };
    json!({
        "folder": out.map(|out| out.display().to_string()),
        "files": if output.mappings == 0 { json!([]) } else { files },
        "roles": output.roles,
        "mappings": output.mappings,
        "without_id": output.unpinned,
        "not_imported": output.left,
        "changed": output.changed,
    })
}

/// What is said of several places, once.
fn alike(all: &[Left]) -> Vec<((&str, &str), Vec<&str>)> {
    let mut found: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    for Left { place, why, help } in all {
        match found.iter_mut().find(|(told, _)| *told == (why.as_str(), help.as_str())) {
            Some((_, places)) => places.push(place),
            None => found.push(((why, help), vec![place])),
        }
    }
    found
}

fn tell(output: &Output, out: Option<&Path>) -> Result<()> {
    if out.is_none() && output.mappings > 0 {
        let files: Vec<_> = output.files.iter().map(|(path, text)| format!("# ==> {path} <==\n{text}")).collect();
        loaded::print(&files.join("\n"))?;
    }
    let mut text = String::new();
    for (title, all) in [("not imported", &output.left), ("changed", &output.changed)] {
        for ((why, help), places) in alike(all) {
            let more = match places.len() {
                0..=PLACES_SHOWN_MAX => String::new(),
                count => format!(" and {} more", count - PLACES_SHOWN_MAX),
            };
            let places: String = places.iter().take(PLACES_SHOWN_MAX).map(|place| format!("\n  --> {place}")).collect();
            text.push_str(&format!("{title}: {why}{places}{more}\n  = help: {help}\n"));
        }
    }
    let made =
        [(output.mappings, "mapping"), (output.roles, "role")].map(|(count, what)| plural(count, what)).join(", ");
    text.push_str(&format!("{made}; {} not imported, {} changed\n", output.left.len(), output.changed.len()));
    if let Some(out) = out.filter(|_| output.mappings > 0) {
        let out = out.display();
        text.push_str(&format!(
            "\nTo go on:\n  claimbound pin {out}      ids for {}\n",
            plural(output.unpinned, "name")
        ));
        text.push_str(&format!("  claimbound check {out}\n"));
    }
    io::stderr().lock().write_all(loaded::without_control(&text).as_bytes())?;
    Ok(())
}
