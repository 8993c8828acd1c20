//! The command line: one file per command. Data goes to standard output, everything else to standard error.
//!
//! Exit codes: 0 clean or done, 1 findings, 2 usage or I/O, unless a command says otherwise.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line does")]

mod access;
mod audit;
mod ceremonies;
mod check;
mod claim;
mod codeowners;
mod completions;
mod demo;
mod deployment;
mod dev;
mod diff;
mod doctor;
mod explain;
mod fmt;
mod governed;
mod handoff;
mod import;
mod init;
mod issuer;
mod job;
mod jwks;
mod keys;
mod leases;
mod loaded;
mod log;
mod new;
mod operator;
mod pages;
mod pin;
mod plan;
mod profile;
mod render;
mod revoke;
mod roles;
mod schema;
mod serve;
mod store;
mod suspend;
mod tell;
mod test;
mod trust;
mod unused;

use crate::broker::SystemClock;
use claimbound_core::time::Clock;
use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

/// A CI OIDC federation broker: a CI token in, a short-lived, narrowly scoped credential out
#[derive(Parser, Debug)]
#[command(name = "claimbound", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Begin with `demo`, then `dev`. Jobs use `doctor job` and the commands from `login` to `handoff`; approvers use \
                  `claim`; all else is for whoever writes mappings or runs a broker.
Exit codes: 0 done, 1 findings or a denial, 2 usage or I/O, unless a command says otherwise"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Each is described where its arguments are, in the imperative, as clap's own `help` is.
#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::DemoArgs),
    Dev(dev::DevArgs),
    Serve(serve::ServeArgs),
    Init(init::InitArgs),
    New(new::NewArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Explain(explain::ExplainArgs),
    Diff(diff::DiffArgs),
    Plan(plan::PlanArgs),
    Access(access::AccessArgs),
    Unused(unused::UnusedArgs),
    Roles(roles::RolesArgs),
    Fmt(fmt::FmtArgs),
    Import(import::ImportArgs),
    Pin(pin::PinArgs),
    Schema(schema::SchemaArgs),
    Codeowners(codeowners::CodeownersArgs),
    Profile(profile::ProfileArgs),
    Trust(trust::TrustArgs),
    Doctor(doctor::DoctorArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    Suspensions(suspend::SuspensionsArgs),
    Leases(leases::LeasesArgs),
    Login(job::login::LoginArgs),
    Logout(job::login::LogoutArgs),
    Exec(job::exec::ExecArgs),
    Agent(job::agent::AgentArgs),
    #[command(name = "credential-process")]
    Process(job::process::ProcessArgs),
    Kube(job::kube::KubeArgs),
    #[command(name = "git-credential")]
    Git(job::git::GitArgs),
    #[command(name = "docker-credential")]
    Docker(job::docker::DockerArgs),
    Handoff(handoff::HandoffArgs),
    Ceremonies(ceremonies::CeremoniesArgs),
    #[command(subcommand)]
    Claim(claim::ClaimCommand),
    Revoke(revoke::RevokeArgs),
    Keys(keys::KeysArgs),
    Issuer(issuer::IssuerArgs),
    Jwks(jwks::JwksArgs),
    Audit(audit::AuditArgs),
    Operator(operator::OperatorArgs),
    Store(store::StoreArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// The command line. Docker calls programs by a name that says what for; a variable that is empty is none, since CI systems set
/// inputs that nobody gave so.
pub fn parse() -> Cli {
    let mut words: Vec<OsString> = env::args_os().collect();
    let called = words.first().and_then(|word| Path::new(word).file_name());
    if called.is_some_and(|name| name == "docker-credential-claimbound") {
        words.insert(1, "docker-credential".into());
    }
    let matched = without_empty_variables(Cli::command()).try_get_matches_from(words);
    let cli = matched.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.unwrap_or_else(|mut error| {
        let lacks_url = |lacks: &ContextValue| lacks.to_string().contains("--url <URL>");
        if error.kind() == ErrorKind::MissingRequiredArgument
            && error.get(ContextKind::InvalidArg).is_some_and(lacks_url)
        {
            let tip = "the variable `CLAIMBOUND_URL` may name the broker".into();
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
        }
        error.exit()
    })
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let without = |argument: clap::Arg| match argument.get_env().is_some_and(is_empty) {
        true => argument.env(None::<&str>),
        false => argument,
    };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

/// Runs a command; errors that are no findings are told here, once.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Init(args) => init::run(&args),
        Command::New(args) => new::run(args),
        Command::Check(args) => check::run(args),
        Command::Test(args) => test::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Diff(args) => diff::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Access(args) => access::run(&args),
        Command::Unused(args) => unused::run(&args),
        Command::Roles(args) => roles::run(args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Pin(args) => pin::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Codeowners(args) => codeowners::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Trust(args) => trust::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Suspend(args) => suspend::suspend(args),
        Command::Resume(args) => suspend::resume(args),
        Command::Suspensions(args) => suspend::suspensions(args),
        Command::Leases(args) => leases::run(args),
        Command::Login(args) => job::login::login(args),
        Command::Logout(args) => job::login::logout(args),
        Command::Exec(args) => job::exec::exec(args),
        Command::Agent(args) => job::agent::agent(args),
        Command::Process(args) => job::process::process(args),
        Command::Kube(args) => job::kube::kube(args),
        Command::Git(args) => job::git::git(args),
        Command::Docker(args) => job::docker::docker(args),
        Command::Handoff(args) => handoff::run(args),
        Command::Ceremonies(args) => ceremonies::list(args),
        Command::Claim(command) => claim::run(command),
        Command::Revoke(args) => revoke::run(args),
        Command::Keys(args) => keys::run(&args, SystemClock.now(), &mut std::io::stdout().lock()),
        Command::Issuer(args) => issuer::run(&args, SystemClock.now(), &mut std::io::stdout().lock()),
        Command::Jwks(args) => jwks::run(args, &mut std::io::stdout().lock()),
        Command::Audit(args) => audit::run(args),
        Command::Operator(args) => operator::run(&args),
        Command::Store(args) => store::run(args, SystemClock.now()),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", loaded::without_control(&format!("{error:#}")));
            ExitCode::from(error.downcast_ref::<operator::client::Failed>().map_or(2, operator::client::Failed::code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is missing in the help of a command and all below it.
    fn unexplained(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || about.ends_with('.') {
            found.push(format!("{path}: one sentence without period says what it does, not `{about}`"));
        }
        let arguments =
            command.get_arguments().filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()));
        for argument in arguments.filter(|argument| argument.get_help().is_none_or(|help| help.to_string().is_empty()))
        {
            found.push(format!("{path}: `{}` is not explained", argument.get_id()));
        }
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() && !long.contains("Exit code 0") {
            found.push(format!("{path}: its exit codes are not told"));
        }
        for below in command.get_subcommands() {
            unexplained(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn every_command_flag_and_exit_code_is_explained() {
        // What clap finds wrong with a command shows only where that command is run.
        Cli::command().debug_assert();
        let mut found = Vec::new();
        unexplained(&Cli::command(), "claimbound", &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
