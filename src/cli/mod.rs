//! The command line: one file per command. Data goes to standard output, everything else to standard error.
//!
//! Exit codes: 0 clean or done, 1 findings, 2 usage or I/O, unless a command says otherwise.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line does")]

mod audit;
mod check;
mod decision;
mod demo;
mod deployment;
mod dev;
mod doctor;
mod explain;
mod issuer;
mod keys;
mod loaded;
mod pages;
mod profile;
mod render;
mod roles;
mod serve;
mod tell;
mod test;
mod trust;

use crate::broker::SystemClock;
use claimbound_core::time::Clock;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A CI OIDC federation broker: a CI token in, a short-lived, narrowly scoped credential out.
#[derive(Parser, Debug)]
#[command(name = "claimbound", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// One exchange from beginning to end, with no cloud, network or configuration
    Demo(demo::DemoArgs),
    /// A local issuer for every built-in profile and a broker beside it; `dev token` mints
    Dev(dev::DevArgs),
    /// Runs the broker
    Serve(serve::ServeArgs),
    /// Judges a mapping folder: parse, compile, prove, run its tests
    Check(check::CheckArgs),
    /// Runs the `[[test]]` blocks of a mapping folder alone
    Test(test::TestArgs),
    /// Says what a job may have, and why not more
    Explain(explain::ExplainArgs),
    /// Lists the roles of a mapping folder after expansion
    Roles(roles::RolesArgs),
    /// Shows what an issuer profile knows
    Profile(profile::ProfileArgs),
    /// Prints what to configure on the other side
    Trust(trust::TrustArgs),
    /// Asks the other side whether it is set up
    Doctor(doctor::DoctorArgs),
    /// Lists and rotates the broker's signing keys
    Keys(keys::KeysArgs),
    /// Exports the broker's issuer documents for a static host
    Issuer(issuer::IssuerArgs),
    /// Verifies the evidence
    Audit(audit::AuditArgs),
}

/// Runs a command; errors that are no findings are told here, once.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Test(args) => test::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Roles(args) => roles::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Trust(args) => trust::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Keys(args) => keys::run(&args, SystemClock.now(), &mut std::io::stdout().lock()),
        Command::Issuer(args) => issuer::run(&args, SystemClock.now(), &mut std::io::stdout().lock()),
        Command::Audit(args) => audit::run(args),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
