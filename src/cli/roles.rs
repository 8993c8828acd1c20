//! `claimbound roles`: the role catalogue with targets expanded, and who gives what.

use super::{
    loaded::{self, Loaded},
    render::Format,
};
use anyhow::Result;
use claimbound_core::mapping::{Mapping, MappingSet, RoleId};
use serde_json::json;
use std::{fmt::Write as _, path::PathBuf};

/// List the roles of a mapping folder after expansion
///
/// Each with its description, ceilings and the mappings that give it.
/// Exit code 0; 2: usage, or the folder does not load.
#[derive(Debug, clap::Args)]
pub struct RolesArgs {
    /// The mapping folder
    #[arg(long, value_name = "DIR", default_value = "mappings")]
    pub mappings: PathBuf,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When the folder cannot be read.
pub fn run(args: RolesArgs) -> Result<u8> {
    let Some(Loaded { set, .. }) = loaded::load(&args.mappings)? else { return Ok(2) };
    let text = match args.format {
        Format::Human => to_text(&set),
        Format::Json => format!("{:#}\n", to_json(&set)),
    };
    loaded::print(&text)?;
    Ok(0)
}

/// Roles in name order, each with the names of the mappings that give it.
fn catalogue(set: &MappingSet) -> Vec<(RoleId, Vec<&Mapping>)> {
    let mut roles: Vec<_> = (0..set.roles.len() as u32)
        .map(RoleId)
        .map(|role| {
            let giving = set.mappings.iter().filter(|one| one.is_first() && !one.shadow && one.roles.contains(&role));
            (role, giving.collect())
        })
        .collect();
    roles.sort_by_key(|(role, _)| &set.role(*role).name);
    roles
}

fn to_json(set: &MappingSet) -> serde_json::Value {
    let roles = catalogue(set).into_iter().map(|(id, mappings)| {
        let role = set.role(id);
        let limits = mappings.iter().filter_map(|mapping| Some((mapping.name.clone(), json!(mapping.limit?))));
        json!({
            "name": role.name,
            "description": role.description,
            "backend": role.backend,
            "sensitivity": role.sensitivity,
            "target": role.target,
            "max_duration_seconds": role.max_duration.0,
            "teams": role.teams,
            "issuers": role.issuers,
            "mappings": mappings.iter().map(|mapping| &mapping.name).collect::<Vec<_>>(),
            "limits": limits.collect::<serde_json::Map<_, _>>(),
        })
    });
    json!({ "roles": roles.collect::<Vec<_>>() })
}

fn to_text(set: &MappingSet) -> String {
    let mut text = String::new();
    for (id, mappings) in catalogue(set) {
        let role = set.role(id);
        let giving = mappings.iter().map(|mapping| match mapping.limit {
            Some(limit) => format!("{} ({limit})", mapping.name),
            None => mapping.name.clone(),
        });
        let giving = giving.collect::<Vec<_>>().join(", ");
        let own = |names: &[String]| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let rows = [
            ("backend", role.backend.clone()),
            ("sensitivity", role.sensitivity.clone()),
            ("longest", loaded::duration(role.max_duration)),
            ("teams", own(&role.teams)),
            ("issuers", own(&role.issuers)),
            ("mappings", if mappings.is_empty() { "none: nobody can get it".to_owned() } else { giving }),
        ];
        let gap = if text.is_empty() { "" } else { "\n" };
        write!(text, "{gap}{}\n  {}\n", role.name, role.description).expect("a string takes all text");
        for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(text, "  {name:<12}{value}").expect("a string takes all text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{mapping::Folder, workload::Profiles};

    #[test]
    fn roles_stand_in_name_order_with_who_gives_them() {
        let files = [
            ("policy.toml", include_str!("../../mappings/policy.toml")),
            ("roles/payments.toml", include_str!("../../mappings/roles/payments.toml")),
            ("teams/payments/deploy.toml", include_str!("../../mappings/teams/payments/deploy.toml")),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect();
        let loaded = claimbound_core::mapping::load(&Folder { files }, &Profiles::builtin());
        let set = loaded.set.expect("it loads");
        let json = to_json(&set);
        let names: Vec<_> = json["roles"].as_array().expect("a list").iter().map(|role| &role["name"]).collect();
        assert_eq!(names, ["payments-deploy.production", "payments-deploy.staging", "payments-secrets"]);
        assert_eq!(json["roles"][0]["mappings"], serde_json::json!(["payments-production"]));
        assert_eq!(json["roles"][0]["max_duration_seconds"], 3600);
        let text = to_text(&set);
        assert!(text.starts_with("payments-deploy.production\n  Update the payments service\n  backend     jwt\n"));
        assert!(text.contains("  sensitivity production\n  longest     1h\n"), "{text}");
    }
}
