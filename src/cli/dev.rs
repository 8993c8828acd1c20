//! `claimbound dev token`, and the directory that `claimbound dev` works in.

mod directory;

pub use directory::{issuer_directory, prepare};

use super::{loaded, serve};
use crate::{
    broker::SystemClock,
    dev::{
        issuer::Issuer,
        request::{Profile, TokenRequest},
    },
    http,
};
use anyhow::bail;
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where `claimbound dev` works when it is not told.
pub const DIRECTORY: &str = "claimbound-dev";
/// Where its issuer listens when it is not told.
pub const ISSUER_ADDRESS: &str = "127.0.0.1:8082";
/// The broker that tokens are for when `--audience` does not say.
pub const AUDIENCE: &str = "http://127.0.0.1:8080";

/// Run a local issuer for every built-in profile and a broker beside it; `dev token` mints
///
/// Prints what to try, and works in a directory that is yours: edit the mappings in it and start again. Logs are JSON
/// lines on standard error. Exit code 0: after SIGTERM or Ctrl-C; 2: it does not start.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevArgs {
    #[command(subcommand)]
    command: Option<DevCommand>,
    /// The directory to work in; made on the first run
    #[arg(long, default_value = DIRECTORY)]
    dir: PathBuf,
    /// Where the local issuers listen, on loopback
    #[arg(long, value_name = "ADDRESS", default_value = ISSUER_ADDRESS, value_parser = loopback)]
    issuer_listen: SocketAddr,
    /// Where the broker listens, on loopback; written into a new directory's configuration, port 0 as the port that was free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = loopback)]
    listen: SocketAddr,
    /// Where the broker's operator listener is, on loopback; written into a new directory's configuration
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", value_parser = loopback)]
    operator_listen: SocketAddr,
}

/// An address that nobody else reaches: whoever has the directory mints tokens that this broker takes.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write an address and a port, like `127.0.0.1:8080`".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("`dev` listens on loopback alone (`127.0.0.1` or `[::1]`), since its broker takes tokens that \
                      anybody on this machine can mint"
            .to_owned()),
    }
}

#[derive(clap::Subcommand, Debug)]
enum DevCommand {
    Token(TokenArgs),
}

/// Runs until it is stopped; exit code 2 when the broker does not start.
pub fn run(args: DevArgs) -> anyhow::Result<u8> {
    match args.command {
        Some(DevCommand::Token(args)) => token(args),
        None => serve::runtime()?.block_on(dev(args)),
    }
}

async fn dev(args: DevArgs) -> anyhow::Result<u8> {
    let clock = Arc::new(SystemClock);
    let issuers = crate::dev::issuer::start(Some(&issuer_directory(&args.dir)), args.issuer_listen, clock)?;
    let config = prepare(&args.dir, issuers.issuer().address(), args.listen, args.operator_listen)?;
    let ready = |public_url: &str, bound: http::Bound| {
        directory::keep_ports(&config, bound.listen, bound.operator)?;
        // Whoever closed standard output does not want to be told; the broker runs on.
        let _ = loaded::print(&to_try(&args.dir, issuers.issuer(), public_url));
        Ok(())
    };
    let code = serve::development(&config, ready).await;
    issuers.stop().await;
    code
}

/// What to try, for the addresses that are really in use.
fn to_try(directory: &Path, issuer: &Issuer, public_url: &str) -> String {
    let dir = match directory == Path::new(DIRECTORY) {
        true => String::new(),
        false => format!(" --dir {}", for_shell(directory)),
    };
    let audience = if public_url == AUDIENCE { String::new() } else { format!(" --audience {public_url}") };
    let job = TokenRequest::new("acme/payments-api", public_url);
    format!(
        r#"
A token of a job that may deploy, and what it says:

  claimbound dev token{dir}{audience} --repository acme/payments-api --environment production \
      --job-workflow acme/ci/.github/workflows/deploy.yml@refs/heads/main --claims

Exchange one (leave `--claims` out):

  token=$(claimbound dev token{dir}{audience} --repository acme/payments-api --environment production \
      --job-workflow acme/ci/.github/workflows/deploy.yml@refs/heads/main)
  curl -s {public_url}/token -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
      -d subject_token_type=urn:ietf:params:oauth:token-type:id_token \
      -d audience=payments-deploy.production -d subject_token="$token"

Send it again: a token is good for one answer. Try `--branch feature`: the refusal says what differs.
The mappings are yours to edit in {mappings}; `claimbound check {mappings}` judges them.

A workflow runner finds its side of GitHub here:

  ACTIONS_ID_TOKEN_REQUEST_URL='{request_url}'
  ACTIONS_ID_TOKEN_REQUEST_TOKEN from {token_file}

Stop with Ctrl-C.
"#,
        mappings = for_shell(&directory.join("mappings")),
        request_url = issuer.request_url(&job),
        token_file = for_shell(&issuer_directory(directory).join(crate::dev::issuer::REQUEST_TOKEN_FILE)),
    )
}

/// A path that can be pasted into a shell.
pub(super) fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Mint a token that the development issuer of a directory signs
///
/// The issuer need not run: its key and address stand in the directory. Exit code 0; 2: usage, or no such directory.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  claimbound dev token --repository acme/payments-api --environment staging
  claimbound dev token --profile gitlab --repository search/indexer --claims")]
pub struct TokenArgs {
    /// The CI system to play: any profile that `claimbound profile show` lists
    #[arg(long, default_value = "github-actions")]
    profile: Profile,
    /// The job's repository, `owner/name`; at CI systems without, its workspace, pipeline or service account
    #[arg(long, required_unless_present = "subject")]
    repository: Option<String>,
    /// Immutable id of the repository; by default the sample's, or one made from the name
    #[arg(long, value_name = "ID")]
    repository_id: Option<String>,
    /// Immutable id of the owner; by default the sample's, or one made from the name
    #[arg(long, value_name = "ID")]
    owner_id: Option<String>,
    /// The token's `sub`; by default as the CI system forms it
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// The branch that the job runs on [default: main]
    #[arg(long, conflicts_with_all = ["tag", "pull_request"])]
    branch: Option<String>,
    /// The tag that the job runs on
    #[arg(long, conflicts_with = "pull_request")]
    tag: Option<String>,
    /// The pull (merge) request that the job runs for
    #[arg(long, value_name = "NUMBER")]
    pull_request: Option<u64>,
    /// The environment that the job names
    #[arg(long)]
    environment: Option<String>,
    /// The event (GitLab: pipeline source) [default: push, or the pull request's own]
    #[arg(long)]
    event: Option<String>,
    /// File of the workflow in the repository [default: .github/workflows/deploy.yml; GitLab: .gitlab-ci.yml]
    #[arg(long, value_name = "FILE")]
    workflow: Option<String>,
    /// The called workflow, `acme/ci/.github/workflows/deploy.yml@refs/heads/main`
    #[arg(long, value_name = "OWNER/NAME/FILE@REF")]
    job_workflow: Option<String>,
    /// Login of who started the run [default: octocat; GitLab: tanuki]
    #[arg(long, value_name = "LOGIN")]
    initiator: Option<String>,
    /// `github-hosted`, `gitlab-hosted` or `self-hosted` [default: hosted by the CI system]
    #[arg(long, value_name = "KIND")]
    runner_environment: Option<String>,
    /// Say that the ref is not protected
    #[arg(long)]
    unprotected: bool,
    /// Put the immutable ids into `sub`, as GitHub does for new repositories
    #[arg(long)]
    immutable_subject: bool,
    /// Id of the run [default: one made from the time]
    #[arg(long, value_name = "ID")]
    run_id: Option<u64>,
    /// The broker's URL, exactly
    #[arg(long, value_name = "URL", default_value = AUDIENCE)]
    audience: String,
    /// How long the token lives, in seconds [default: 300; GitLab: 3600]
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
    /// The directory of `claimbound dev`
    #[arg(long, default_value = DIRECTORY)]
    dir: PathBuf,
    /// Print the claims instead of the token
    #[arg(long)]
    claims: bool,
}

impl TokenArgs {
    fn request(&self) -> TokenRequest {
        let it = self.clone();
        TokenRequest {
            repository: it.repository.unwrap_or_default(),
            repository_id: it.repository_id,
            owner_id: it.owner_id,
            subject: it.subject,
            branch: it.branch,
            tag: it.tag,
            pull_request: it.pull_request,
            environment: it.environment,
            event: it.event,
            workflow: it.workflow,
            job_workflow: it.job_workflow,
            initiator: it.initiator,
            runner_environment: it.runner_environment,
            unprotected: it.unprotected,
            immutable_subject: it.immutable_subject,
            run_id: it.run_id,
            run_attempt: None,
            audience: Some(it.audience),
            lifetime_seconds: it.lifetime,
        }
    }
}

/// Prints the token, or its claims. Needs no running issuer: the key and the address stand in the directory.
pub fn token(args: TokenArgs) -> anyhow::Result<u8> {
    let request = args.request();
    let issuer = open_issuer(&args.dir)?;
    let mut out = std::io::stdout().lock();
    if args.claims {
        writeln!(out, "{:#}", issuer.claims(args.profile, &request)?)?;
    } else {
        writeln!(out, "{}", issuer.mint(args.profile, &request)?.reveal())?;
    }
    Ok(0)
}

/// The issuer of a directory that `claimbound dev` has made.
fn open_issuer(directory: &Path) -> anyhow::Result<Issuer> {
    let home = issuer_directory(directory);
    let Some(address) = directory::known_address(&home)? else {
        bail!(
            "`{}` is no directory of `claimbound dev`: run `claimbound dev` first, or name the directory with `--dir`",
            directory.display()
        );
    };
    Ok(Issuer::open(&home, address, Arc::new(SystemClock))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_test_support::jwt;
    use clap::Parser;
    use std::net::SocketAddr;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: TokenArgs,
    }

    #[test]
    fn a_token_is_the_directory_s_own_issuer_s() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_str().unwrap();
        let line = Line::parse_from(["x", "--repository", "acme/payments-api", "--dir", directory, "--tag", "v1"]);
        let missing = token(line.token.clone()).unwrap_err().to_string();
        assert!(missing.contains("run `claimbound dev` first"), "{missing}");
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        prepare(home.path(), address(9001), address(8080), address(8081)).unwrap();
        let issuer = open_issuer(home.path()).unwrap();
        let minted = issuer.mint(line.token.profile, &line.token.request()).unwrap();
        let claims = jwt::claims_of(minted.reveal());
        assert_eq!(claims["iss"], "http://127.0.0.1:9001/github-actions");
        assert_eq!((&claims["ref"], &claims["aud"]), (&"refs/tags/v1".into(), &AUDIENCE.into()));
        assert_eq!(token(line.token).unwrap(), 0);
    }

    #[test]
    fn a_printed_path_survives_a_shell() {
        assert_eq!(for_shell(Path::new("/tmp/a-b_c.d")), "/tmp/a-b_c.d");
        assert_eq!(for_shell(Path::new("my dir's")), r"'my dir'\''s'");
    }

    #[test]
    fn every_profile_mints() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_str().unwrap();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        prepare(home.path(), address(9001), address(8080), address(8081)).unwrap();
        for profile in Profile::all() {
            let line = ["x", "--profile", profile.name(), "--repository", "acme/payments-api", "--dir", directory];
            assert_eq!(token(Line::parse_from(line).token).unwrap(), 0, "{profile}");
        }
        let google = ["x", "--profile", "google", "--subject", "103700000000000000001", "--dir", directory];
        let line = Line::parse_from(google).token;
        let minted = open_issuer(home.path()).unwrap().mint(line.profile, &line.request()).unwrap();
        assert_eq!(jwt::claims_of(minted.reveal())["sub"], "103700000000000000001");
        assert!(Line::try_parse_from(["x", "--profile", "google"]).is_err(), "neither repository nor subject");
    }

    #[test]
    fn nobody_else_reaches_it() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:8080").is_ok());
        for open in ["0.0.0.0:8080", "[::]:8080", "192.0.2.7:80"] {
            assert!(loopback(open).unwrap_err().contains("on loopback alone"), "{open}");
        }
        assert!(loopback("8080").unwrap_err().contains("like `127.0.0.1:8080`"));
    }

    #[test]
    fn one_ref_at_most() {
        let both = ["x", "--repository", "acme/payments-api", "--tag", "v1", "--branch", "main"];
        assert!(Line::try_parse_from(both).is_err());
    }
}
