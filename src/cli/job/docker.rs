//! `claimbound docker-credential`: a password for container registries, as Docker and what is built like it ask a program for one:
//! <https://github.com/docker/docker-credential-helpers#development>.
//!
//! They call a program `docker-credential-NAME` without flags, so this is also what the binary does under the name
//! `docker-credential-claimbound`, told by variables.

use super::{JobArgs, git::username, jwt, login::put, run};
use crate::{client::failure::Failure, secret::Secret};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// The words by which clients know that there is none, and go on without: of `docker-credential-helpers`, `credentials/error.go`.
const NONE: &str = "credentials not found in native keychain";

/// What Docker wants.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Operation {
    /// The password for the registry on standard input
    Get,
    /// To keep a password; refused
    Store,
    /// To forget the password for the registry on standard input
    Erase,
    /// The registries
    List,
    /// Which program this is
    Version,
}

/// Give Docker a token as password
///
/// For `credHelpers` of Docker's `config.json`: the JWT of a role, for registries that take the broker's tokens. It is asked for when an image
/// is pulled or pushed and kept for the job, in a file that nobody else can read, so that a push at the end of a long build has
/// a good one. Docker calls `docker-credential-claimbound`: link that name to this program, and say the rest by variables. A registry that
/// `--registry` does not name gets nothing. As Docker wants it, errors are on standard output, too. `claimbound logout` ends what was asked
/// for. Exit code 0: done; 1: no password for this registry; 2: usage; 3: refused; 4: the broker or the CI system cannot be
/// asked; 5: a person has to answer for the role, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  ln -s \"$(command -v claimbound)\" /usr/local/bin/docker-credential-claimbound
  export CLAIMBOUND_URL=https://claimbound.example.com
  export CLAIMBOUND_ROLE=payments-images CLAIMBOUND_REGISTRY=registry.example.com
and in ~/.docker/config.json:
  { \"credHelpers\": { \"registry.example.com\": \"claimbound\" } }")]
pub struct DockerArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Registries that may get the token, with their port if it is not the usual one
    #[arg(long, value_name = "HOST", env = "CLAIMBOUND_REGISTRY", required = true, value_delimiter = ',', value_parser = jwt::host)]
    registry: Vec<String>,
    /// Who the token is said to belong to, as the registry wants it
    #[arg(long, value_name = "NAME", env = "CLAIMBOUND_USERNAME", default_value = "claimbound", value_parser = username)]
    username: String,
    /// What is asked for; Docker says it
    #[arg(value_enum)]
    operation: Operation,
}

/// Runs the command.
pub fn docker(args: DockerArgs) -> Result<u8> {
    run(async || match answer(&args).await {
        Err(failure) => {
            // What clients show when the program fails.
            put(&Secret::new(format!("{}\n", failure.text)))?;
            Err(failure)
        }
        answered => answered,
    })
}

async fn answer(args: &DockerArgs) -> Result<u8, Failure> {
    let said = match args.operation {
        Operation::Version => json!({ "Name": "docker-credential-claimbound", "Version": env!("CARGO_PKG_VERSION") }),
        Operation::List => {
            let all = args.registry.iter().map(|registry| (registry.clone(), args.username.clone().into()));
            Value::Object(all.collect::<Map<_, _>>())
        }
        Operation::Store => {
            let text = "Passwords are asked for when they are needed, and none is stored: leave `docker login` out";
            return Err(Failure::usage("store", text));
        }
        Operation::Get | Operation::Erase => {
            let asked = jwt::asked()?;
            let (server, host) = (asked.trim(), named(asked.trim()));
            if !args.registry.contains(&host) {
                return put(&Secret::new(format!("{NONE}\n"))).map(|_| 1);
            }
            if matches!(args.operation, Operation::Erase) {
                return jwt::forget(&args.job, "docker-credential", None).map(|()| 0);
            }
            if !jwt::safe(server.split_once("://").map_or("https", |(scheme, _)| scheme), &host) {
                let text =
                    format!("`{server}` is asked without TLS, where everybody on the way reads the token. Use `https`");
                return Err(Failure::usage("insecure", text));
            }
            let (token, _) = jwt::jwt(&args.job, "docker-credential").await?;
            json!({ "ServerURL": server, "Username": args.username, "Secret": token.reveal() })
        }
    };
    put(&Secret::new(format!("{said}\n")))
}

/// The host of a registry as clients name one: with or without a scheme and a path.
fn named(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_their_host() {
        for (server, host) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("Registry.example.com:5000", "registry.example.com:5000"),
            ("registry.example.com/team", "registry.example.com"),
            ("https://registry.example.com@evil.example/", "registry.example.com@evil.example"),
            ("", ""),
        ] {
            assert_eq!(named(server), host);
        }
    }
}
