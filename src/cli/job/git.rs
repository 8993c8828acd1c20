//! `claimbound git-credential`: a password for Git servers, as Git asks a program for one:
//! <https://git-scm.com/docs/git-credential#IOFMT>.
//!
//! Git asks for whatever server demands a password, also for one that a submodule names. So the hosts are named here, and no other gets
//! the token.

use super::{JobArgs, jwt, login::put, run};
use crate::{client::failure::Failure, secret::Secret};
use anyhow::Result;
use clap::{Args, ValueEnum};

/// What Git wants.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Operation {
    /// A password
    Get,
    /// That a password was right; it is kept already
    Store,
    /// That a password was wrong; it is given no more
    Erase,
}

/// Give Git a token as password
///
/// For `credential.helper` of Git: the JWT of a role, for servers that take the broker's tokens. Asks and answers on standard input and
/// output as Git does; the token is kept for the job, in a file that nobody else can read, and Git is told when it ends, and not to store
/// it. A host that `--host` does not name gets none, and Git goes on as without this command. `claimbound logout` ends what was asked
/// for. Exit code 0: done; 2: usage; 3: refused; 4: the broker or the CI system cannot be asked; 5: a person has to answer for the
/// role, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  git config --global credential.https://git.example.com.helper \\
    '!claimbound git-credential --role payments-git --host git.example.com'
  export CLAIMBOUND_URL=https://claimbound.example.com")]
pub struct GitArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Hosts that may get the token, with their port if it is not the usual one
    #[arg(long, value_name = "HOST", required = true, value_delimiter = ',', value_parser = jwt::host)]
    host: Vec<String>,
    /// Who the token is said to belong to, as the server wants it
    #[arg(long, value_name = "NAME", default_value = "claimbound", value_parser = username)]
    username: String,
    /// What is asked for; Git says it
    #[arg(value_enum)]
    operation: Operation,
}

/// One line of text.
pub(super) fn username(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && !text.contains(|letter: char| letter.is_control());
    if fits { Ok(text.to_owned()) } else { Err("write one line of text".to_owned()) }
}

/// Runs the command.
pub fn git(args: GitArgs) -> Result<u8> {
    run(async || {
        let asked = jwt::asked()?;
        let value = |name: &str| {
            let mut pairs = asked.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
        };
        let (scheme, host) = (value("protocol"), value("host").to_ascii_lowercase());
        if !args.host.contains(&host) || !["", &args.username].contains(&value("username")) {
            return Ok(0);
        }
        match args.operation {
            Operation::Store => {}
            Operation::Erase => jwt::forget(&args.job, "git-credential", Some(value("password")))?,
            Operation::Get => {
                if !jwt::safe(scheme, &host) {
                    let text = format!(
                        "`{host}` is asked over `{scheme}`, where everybody on the way reads the token. Use `https`"
                    );
                    return Err(Failure::usage("insecure", text));
                }
                let (token, kept) = jwt::jwt(&args.job, "git-credential").await?;
                // Known to Git from 2.46 on, which says so.
                let knows = asked.lines().any(|line| line == "capability[]=authtype");
                let ephemeral = if knows { "capability[]=authtype\nephemeral=1\n" } else { "" };
                let (name, until) = (&args.username, kept.expires);
                let said =
                    format!("{ephemeral}username={name}\npassword={}\npassword_expiry_utc={until}\n", token.reveal());
                return put(&Secret::new(said));
            }
        }
        Ok(0)
    })
}
