//! `claimbound completions` and `claimbound man`: what shells and `man` know of the command line, made from it.

use super::Cli;
use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::{fs, io::Write as _, path::PathBuf};

const PROGRAM: &str = "claimbound";

/// Print what completes commands and flags in a shell
///
/// Exit code 0: done; 2: I/O.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound completions bash > ~/.local/share/bash-completion/completions/claimbound
  claimbound completions zsh > \"${fpath[1]}/_claimbound\"")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn completions(args: &CompletionsArgs) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), PROGRAM, &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(0)
}

/// Write manual pages, one for each command
///
/// Exit code 0: done; 2: I/O.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Where to; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the command.
pub fn man(args: &ManArgs) -> Result<u8> {
    let failed = || format!("cannot write below `{}`", args.directory.display());
    fs::create_dir_all(&args.directory).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.directory).with_context(failed)?;
    Ok(0)
}
