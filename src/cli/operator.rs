//! `claimbound operator`: a person signs in at a broker, so that other commands can act in their name.

mod browser;
pub mod client;
pub mod login;
pub mod session;

use super::{loaded, render::Format};
use crate::history::log::date;
use anyhow::Result;
use client::{BrokerArgs, Client};
use serde_json::Value;

/// Sign in at a running broker, to act as an operator
#[derive(clap::Args, Debug)]
pub struct OperatorArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Login(LoginArgs),
    Logout(LogoutArgs),
    Status(StatusArgs),
}

/// Sign in with a browser, or on another device
///
/// The broker sends you to the provider that its configuration names; the answer comes back to a port of this machine. The
/// session lasts 15 minutes and is kept in a file of your own, below `$XDG_RUNTIME_DIR` or `$XDG_STATE_HOME`. With `--device`
/// you type a code anywhere else, and the session can only look: explain, leases, audit. CI jobs need no sign-in: their
/// commands take the token in `CLAIMBOUND_TOKEN` or `CLAIMBOUND_TOKEN_FILE`. Exit code 0: signed in; 2: usage, or nobody signed
/// in in time; 3: refused; 4: the broker or its provider cannot be asked.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  claimbound operator login --broker https://claimbound.internal.example:8081
  claimbound operator login --device --sign-in okta")]
struct LoginArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    how: login::How,
}

/// End the session
///
/// It ends at the broker and in the file. Exit code 0: it is over; 2: usage; 3: the broker does not know it any more,
/// and the file does not hold it any more; 4: the broker cannot be asked, and the file is as it was.
#[derive(clap::Args, Debug)]
struct LogoutArgs {
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Say who the broker takes you for, and what you may
///
/// Exit code 0: you are an operator; 2: usage, or you are not signed in; 3: the session is over; 4: the broker cannot be asked.
#[derive(clap::Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// Whatever keeps it from being done; those of the broker are [`client::Failed`].
pub fn run(args: &OperatorArgs) -> Result<u8> {
    match &args.command {
        Command::Login(args) => login(args),
        Command::Logout(args) => login::out(&args.broker.required()?),
        Command::Status(args) => status(&args.broker.required()?, args.format),
    }
}

fn login(args: &LoginArgs) -> Result<u8> {
    login::run(&args.broker.required()?, &args.how, None)
}

fn status(client: &Client, format: Format) -> Result<u8> {
    let me = client.get("/operator/session", &[])?;
    match format {
        Format::Json => loaded::print(&format!("{me:#}\n"))?,
        Format::Human => {
            let may: Vec<&str> = me["may"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let until = me["expires_at"].as_i64().map(|at| format!(" until {}", date(at))).unwrap_or_default();
            loaded::print(&format!("{}{until}; may: {}\n", login::text(&me, "operator")?, may.join(", ")))?;
        }
    }
    Ok(0)
}
