//! `claimbound schema`: what an editor needs to complete and to check the folder's files while one types.

use super::loaded;
use crate::issuance::catalogue;
use claimbound_core::mapping::{FileKind, json_schema};

/// Print the JSON Schema of a kind of file of the mapping folder
///
/// Draft 2020-12, for editors: it knows every key of every table, with a line on each. `claimbound check` judges the
/// rest. Exit code 0; 2: usage.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Which files it is for
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// `policy.toml`
    Policy,
    /// `roles/*.toml`
    Roles,
    /// `teams/<team>/**.toml`
    Team,
    /// `tests/*.toml`
    Tests,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When standard output is closed.
pub fn run(args: &SchemaArgs) -> anyhow::Result<u8> {
    let kind = match args.kind {
        Kind::Policy => FileKind::Policy,
        Kind::Roles => FileKind::Roles,
        Kind::Team => FileKind::Team,
        Kind::Tests => FileKind::Tests,
    };
    loaded::print(&format!("{:#}\n", json_schema(kind, &catalogue::KEYS)))?;
    Ok(0)
}
