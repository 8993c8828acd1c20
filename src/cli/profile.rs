//! `claimbound profile show [NAME]`: what an issuer profile knows, as a table or as JSON.

use super::render::Format;
use claimbound_core::workload::{ProfileTable, Profiles};
use clap::{Args, Subcommand};
use std::io::{self, Write};

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
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Exit code 2 for a name that no profile has.
pub fn run(args: ProfileArgs) -> anyhow::Result<u8> {
    let ProfileCommand::Show { name, format } = args.command;
    let known = show(name.as_deref(), format == Format::Json, &mut io::stdout().lock())?;
    Ok(if known { 0 } else { 2 })
}

/// Writes the profile of this name to `out`; without a name, the names there are. `false` when there is no such
/// profile, after saying so.
pub fn show(name: Option<&str>, json: bool, out: &mut dyn Write) -> io::Result<bool> {
    let profiles = Profiles::builtin();
    let Some(name) = name else {
        return list(&profiles, json, out).map(|()| true);
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
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    for (label, value) in [
        ("pins, narrowest first", table.pins.join(", ")),
        ("ids", table.id_syntax.to_owned()),
        ("default events", table.default_events.join(", ")),
        ("pull request events", table.pull_request_events.join(", ")),
        ("controlled by the author", table.author_controlled.join(", ")),
        ("single use", table.single_use.to_owned()),
        ("algorithms", table.algorithms.join(", ")),
        ("longest life", format!("{} s", table.max_lifetime_seconds)),
        ("demands nbf", yes(table.requires_nbf)),
        ("a job can mint again", yes(table.can_mint_again)),
        ("names fold in ASCII case", yes(table.folds_names)),
    ] {
        writeln!(out, "{label:26}{value}")?;
    }
    writeln!(out, "\nWorth knowing:")?;
    for quirk in table.quirks {
        writeln!(out, "  - {quirk}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::show;

    fn shown(name: Option<&str>, json: bool) -> (bool, String) {
        let mut out = Vec::new();
        let found = show(name, json, &mut out).unwrap();
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
        assert_eq!(shown(None, false).1.lines().count(), 2);
    }
}
