//! `claimbound profile show [NAME]`: what an issuer profile knows, as a table or as JSON.

use super::render::{self, Format};
use crate::folder::{self, FolderError};
use annotate_snippets::Renderer;
use claimbound_core::{
    mapping::load,
    workload::{ProfileTable, Profiles},
};
use clap::{Args, Subcommand};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where own profiles are looked for when no folder is named.
const MAPPINGS: &str = "mappings";

/// Show what an issuer profile knows
#[derive(Args, Debug)]
pub struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Subcommand, Debug)]
enum ProfileCommand {
    /// Show a profile's URL forms, claims and how they become canonical, pins and events
    ///
    /// Exit code 0; 2: no profile has this name.
    Show {
        /// The profile, like `github-actions`; left out: the names there are
        name: Option<String>,
        /// The mapping folder whose own profiles, `profiles/*.toml`, are known too [default: mappings, if it is there]
        #[arg(long, value_name = "PATH")]
        mappings: Option<PathBuf>,
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Exit code 2 for a name that no profile has.
pub fn run(args: ProfileArgs) -> anyhow::Result<u8> {
    let ProfileCommand::Show { name, mappings, format } = args.command;
    let profiles = known(mappings.as_deref())?;
    let known = show(&profiles, name.as_deref(), format == Format::Json, &mut io::stdout().lock())?;
    Ok(if known { 0 } else { 2 })
}

/// The built-in profiles and the folder's own. What is wrong with one of those is told; other faults of the folder are
/// `check`'s to tell.
fn known(mappings: Option<&Path>) -> anyhow::Result<Profiles> {
    let builtin = Profiles::builtin();
    let path = match mappings {
        Some(path) => path,
        None if Path::new(MAPPINGS).is_dir() => Path::new(MAPPINGS),
        None => return Ok(builtin),
    };
    let folder = match folder::read(path, false) {
        Ok(folder) => folder,
        Err(FolderError::Refused { .. }) if mappings.is_none() => return Ok(builtin),
        Err(error) => return Err(error.into()),
    };
    let mut loaded = load(&folder, &builtin);
    let of_profiles = |file: &str| file.starts_with("profiles/");
    loaded.diagnostics.retain(|finding| finding.span.as_ref().is_some_and(|span| of_profiles(&span.file)));
    if !loaded.diagnostics.is_empty() {
        let root = path.display().to_string();
        let told = render::human(&loaded.diagnostics, &folder, &root, &Renderer::plain());
        io::stderr().lock().write_all(told.as_bytes())?;
    }
    Ok(loaded.profiles)
}

/// Writes the profile of this name to `out`; without a name, the names there are. `false` when there is no such
/// profile, after saying so.
pub fn show(profiles: &Profiles, name: Option<&str>, json: bool, out: &mut dyn Write) -> io::Result<bool> {
    let Some(name) = name else {
        return list(profiles, json, out).map(|()| true);
    };
    match profiles.get(name) {
        Some(profile) if json => write_json(&profile.table(), out).map(|()| true),
        Some(profile) => write_table(&profile.table(), out).map(|()| true),
        None => {
            let names: Vec<_> = profiles.iter().map(|profile| format!("`{}`", profile.name)).collect();
            eprintln!("error: no profile is named `{name}`; there are {}", names.join(", "));
            Ok(false)
        }
    }
}

fn list(profiles: &Profiles, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        let names: Vec<_> = profiles.iter().map(|profile| &profile.name).collect();
        return write_json(&names, out);
    }
    let width = profiles.iter().map(|profile| profile.name.len()).max().unwrap_or_default();
    for profile in profiles.iter() {
        writeln!(out, "{:width$}  {}", profile.name, profile.title())?;
    }
    Ok(())
}

fn write_json(value: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn write_table(table: &ProfileTable<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} ({})\n", table.title, table.name)?;
    writeln!(out, "Issuer URLs, the first that fits:")?;
    let width = table.urls.iter().map(|(form, _)| form.len()).max().unwrap_or_default();
    for (form, tenancy) in &table.urls {
        writeln!(out, "  {form:width$}  {tenancy}")?;
    }
    let header = ["native", "canonical", "type", "required", "when absent"].map(str::to_owned);
    let rows = table.claims.iter().map(|row| {
        let required = if row.required { "yes" } else { "" };
        [row.native, row.canonical, row.kind, required, &row.absent].map(str::to_owned)
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    writeln!(out, "\nClaims:")?;
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    writeln!(out)?;
    let agree: Vec<_> = table.agree.iter().map(|(left, right)| format!("{left} and {right}")).collect();
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    for (label, value) in [
        ("pins, narrowest first", table.pins.join(", ")),
        ("ids", table.id_syntax.to_owned()),
        ("default events", table.default_events.join(", ")),
        ("pull request events", table.pull_request_events.join(", ")),
        ("outsider events", table.outsider_events.join(", ")),
        ("initiators that are automation", table.automation.join(", ")),
        ("events that are concluded", table.events.join(", ")),
        ("tells pull requests apart", yes(table.tells_events)),
        ("controlled by the author", table.author_controlled.join(", ")),
        ("form of `sub`", table.subject.unwrap_or_default().to_owned()),
        ("must agree", agree.join(", ")),
        ("audience", table.fixed_audience.map_or("as the job asks".to_owned(), |fixed| format!("always {fixed}"))),
        ("single use", table.single_use.to_owned()),
        ("single use of actor tokens", table.actor_single_use.to_owned()),
        ("algorithms", table.algorithms.join(", ")),
        ("keys", table.jwks_origin.unwrap_or("at the issuer's own origin").to_owned()),
        ("usual life", format!("{} s", table.lifetime_seconds)),
        ("longest life", format!("{} s", table.max_lifetime_seconds)),
        ("demands nbf", yes(table.requires_nbf)),
        ("a job can mint again", yes(table.can_mint_again)),
        ("names fold in ASCII case", yes(table.folds_names)),
    ] {
        writeln!(out, "{}", format!("{label:28}{value}").trim_end())?;
    }
    if !table.raw.is_empty() {
        writeln!(out, "\nClaims without a canonical name:")?;
        let width = table.raw.iter().map(|(native, ..)| native.len()).max().unwrap_or_default();
        for (native, kind, set_by) in &table.raw {
            writeln!(out, "  {native:width$}  {kind:10}  set by {set_by}")?;
        }
    }
    writeln!(out, "\nWorth knowing:")?;
    for quirk in table.quirks {
        writeln!(out, "  - {quirk}")?;
    }
    writeln!(out, "\nDocumentation:")?;
    for page in table.documentation {
        writeln!(out, "  {page}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::show;

    fn shown(name: Option<&str>, json: bool) -> (bool, String) {
        let mut out = Vec::new();
        let found = show(&super::Profiles::builtin(), name, json, &mut out).unwrap();
        (found, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_profile_shows_what_native_claims_become() {
        let (found, text) = shown(Some("gitlab"), false);
        assert!(found);
        let row = text.lines().find(|line| line.trim_start().starts_with("project_path")).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["project_path", "repository", "name", "yes", "unknown"]
        );
        assert!(text.contains("https://gitlab.com"));
    }

    #[test]
    fn json_holds_the_same_and_an_unknown_name_is_found_out() {
        let (_, text) = shown(Some("github-actions"), true);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["pins"][0], "repository_id");
        assert!(!shown(Some("github"), false).0, "the command line's tests read what it says");
        assert_eq!(shown(None, false).1.lines().count(), 18);
    }

    #[test]
    fn every_built_in_profile_shows_where_its_maker_describes_it() {
        for name in super::Profiles::builtin_names() {
            let (found, text) = shown(Some(name), false);
            assert!(found && text.contains("https://") && text.contains("Documentation:"), "{text}");
        }
        let (_, text) = shown(Some("azure-devops"), false);
        assert!(text.contains("always api://AzureADTokenExchange"), "{text}");
    }

    #[test]
    fn a_folder_s_own_profile_is_shown_beside_the_built_in_ones() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("profiles")).unwrap();
        let text = include_str!("../../core/src/workload/profiles/generic.toml").replace("\"generic\"", "\"acme-ci\"");
        std::fs::write(home.path().join("profiles/acme-ci.toml"), text).unwrap();
        let profiles = super::known(Some(home.path())).unwrap();
        assert!(profiles.get("acme-ci").is_some() && profiles.get("gitlab").is_some());
        let mut out = Vec::new();
        assert!(show(&profiles, Some("acme-ci"), false, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().starts_with("Any issuer (acme-ci)"));
    }
}
