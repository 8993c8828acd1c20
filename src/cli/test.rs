//! `claimbound test`: the `[[test]]` blocks of a folder alone.

use super::{
    check::{Parts, Report},
    render::Format,
};
use std::path::PathBuf;

/// Run the `[[test]]` blocks of a mapping folder alone
///
/// Reports failed tests and what keeps the folder from loading, no warnings. Exit code 0: all pass; 1: one does not, or
/// the folder does not load; 2: usage, or the folder cannot be read.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The mapping folder, or a part of it: the whole is loaded, the part's tests reported
    #[arg(default_value = "mappings")]
    path: PathBuf,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// When the folder cannot be read: usage and I/O, exit 2.
pub fn run(args: TestArgs) -> anyhow::Result<u8> {
    let report = Report::of(&args.path, Parts::Tests)?;
    report.print(args.format.into())?;
    Ok(report.exit(false))
}
