//! `claimbound handoff`: a job lets somebody act for it.
//!
//! What comes out is as good as the job's own token for one exchange, so it goes into a file that nobody else can read, which
//! is made before the job's token is spent for it.

use super::{
    governed::{DONE, Failed, REFUSED, USAGE, post},
    loaded, serve,
};
use crate::{
    http::TYPE_HANDOFF,
    net::{Client, FetchRules},
    secret::Secret,
};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use url::form_urlencoded::Serializer;

/// A token of a CI system.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
/// Whatever a server says beside a token.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_SECONDS_MAX: u64 = 30;
/// Where GitHub's runner, and those that are built like it, give tokens.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Let somebody act for this job, once and for one role
///
/// Asks the broker for a handoff, a token that the named actor exchanges together with one of its own, and writes it into a
/// file that nobody else can read. It is good for one exchange within `--duration`, and costs the job its token: from
/// `--token-file`, the variable `CLAIMBOUND_TOKEN`, or asked for where the runner gives tokens as GitHub's does. The broker
/// decides now whether a mapping takes this actor, and again when it comes. Exit code 0: done; 2: usage; 3: refused; 4: the
/// broker or the CI system cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound handoff --url https://claimbound.example.com --role payments-deploy \\
    --actor-issuer https://cluster.acme.example --actor-subject system:serviceaccount:agents:deployer --output handoff.jwt")]
pub struct HandoffArgs {
    /// The broker's public URL
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_URL")]
    url: String,
    /// The role that the actor may ask for
    #[arg(long, value_name = "ROLE", env = "CLAIMBOUND_ROLE")]
    role: String,
    /// The URL of the issuer of the actor's tokens: their `iss`
    #[arg(long, value_name = "URL")]
    actor_issuer: String,
    /// The actor: the `sub` of its tokens
    #[arg(long, value_name = "SUBJECT")]
    actor_subject: String,
    /// How long the handoff is good, at most `10m` and never longer than the job's token
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = super::governed::args::duration)]
    duration: i64,
    /// The file to make; `-` prints the handoff on standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// A file that holds the job's token
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authorities for the broker's certificate beside the system's, PEM
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: HandoffArgs) -> Result<u8> {
    // Before anything is spent: a file that cannot be made would cost the job its token.
    let file = make(&args.output)?;
    let handed = serve::runtime()?.block_on(handed(&args));
    let (code, why) = match handed {
        Ok((handoff, told)) => match file {
            Some(mut file) => {
                file.write_all(handoff.reveal().as_bytes()).and_then(|()| file.sync_all()).with_context(|| {
                    format!(
                        "cannot write `{}`; the handoff is lost, and the job's token is spent",
                        args.output.display()
                    )
                })?;
                eprintln!("{}", loaded::without_control(&told));
                return Ok(DONE);
            }
            None => {
                loaded::print(&format!("{}\n", handoff.reveal()))?;
                return Ok(DONE);
            }
        },
        Err(Failed { code, text }) => (code, text),
    };
    if file.is_some() {
        fs::remove_file(&args.output).with_context(|| format!("cannot remove `{}`", args.output.display()))?;
    }
    eprintln!("error: {}", loaded::without_control(&why));
    Ok(code)
}

fn make(path: &Path) -> Result<Option<File>> {
    if path.as_os_str() == "-" {
        return Ok(None);
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(Some).with_context(|| format!("cannot make `{}`, which must not be there yet", path.display()))
}

/// The handoff, and what to say of it.
async fn handed(args: &HandoffArgs) -> Result<(Secret, String), Failed> {
    let url = args.url.trim_end_matches('/');
    let client = Client::new().map_err(Failed::unavailable)?;
    let audience = audience(&client, url, args).await?;
    let token = token(&client, &audience, args).await?;
    let mut form = Serializer::new(String::new());
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("subject_token", token.reveal()),
        ("requested_token_type", TYPE_HANDOFF),
        ("audience", &args.role),
        ("may_act_iss", &args.actor_issuer),
        ("may_act_sub", &args.actor_subject),
        ("requested_expires_in", &args.duration.to_string()),
    ] {
        form.append_pair(name, value);
    }
    let body = zeroize::Zeroizing::new(form.finish());
    let kind = "application/x-www-form-urlencoded";
    let (status, body) = post(&format!("{url}/token"), kind, body.as_bytes(), args.ca_file.as_deref()).await?;
    let answer: Value = serde_json::from_slice(&zeroize::Zeroizing::new(body)).unwrap_or_default();
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    match (status, text("access_token")) {
        (200, "") => Err(Failed::unavailable(format!("{url} answered without a handoff"))),
        (200, handoff) if text("issued_token_type") == TYPE_HANDOFF => {
            let lasts = answer["expires_in"].as_i64().unwrap_or_default();
            let told = format!(
                "`{}` holds a handoff of `{}` for `{}` of {}: good once, for {lasts} s; lease {}, decision {}",
                args.output.display(),
                args.role,
                args.actor_subject,
                args.actor_issuer,
                text("lease_id"),
                text("decision_id"),
            );
            Ok((Secret::new(handoff.to_owned()), told))
        }
        (200, _) => Err(Failed { code: REFUSED, text: format!("{url} gives no handoffs; it is an older version") }),
        (429 | 500.., _) => Err(Failed::unavailable(format!("{url} answered {status}: {}", text("error_description")))),
        _ => Err(Failed {
            code: REFUSED,
            text: format!("{url} refused ({}): {}", text("reason"), text("error_description")),
        }),
    }
}

fn rules(args: &HandoffArgs, ca: bool) -> FetchRules<'_> {
    FetchRules {
        allow_private_network: true,
        allow_plain_loopback: true,
        ca_file: args.ca_file.as_deref().filter(|_| ca),
        bytes_max: ANSWER_BYTES_MAX,
        timeout: Duration::from_secs(ANSWER_SECONDS_MAX),
    }
}

/// The broker's own URL is the audience of CI tokens. One that says otherwise is not the one that was meant, and gets none.
async fn audience(client: &Client, url: &str, args: &HandoffArgs) -> Result<String, Failed> {
    let document = client.get(&format!("{url}/.well-known/claimbound"), &rules(args, true)).await;
    let document = document.map_err(Failed::unavailable)?;
    let document: Value = serde_json::from_slice(&document).unwrap_or_default();
    match document["audience"].as_str() {
        Some(said) if said == url => Ok(url.to_owned()),
        said => {
            let said = said.unwrap_or("nothing");
            let text = format!("the broker at {url} calls itself `{said}`; name it by `--url` as it does");
            Err(Failed { code: USAGE, text })
        }
    }
}

async fn token(client: &Client, audience: &str, args: &HandoffArgs) -> Result<Secret, Failed> {
    if let Some(path) = &args.token_file {
        return from_file(path).map_err(|error| Failed::usage(format!("{error:#}")));
    }
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(token) = variable("CLAIMBOUND_TOKEN") {
        return Ok(Secret::new(token));
    }
    let (Some(from), Some(bearer)) = (variable(REQUEST_URL), variable(REQUEST_TOKEN)) else {
        return Err(Failed::usage(format!(
            "there is no token of this job: name its file with `--token-file`, put it into `CLAIMBOUND_TOKEN`, or let the \
             workflow ask for one (`permissions: {{ id-token: write }}` gives `{REQUEST_URL}`)"
        )));
    };
    let separator = if from.contains('?') { '&' } else { '?' };
    let query = Serializer::new(String::new()).append_pair("audience", audience).finish();
    let bearer = Secret::new(format!("bearer {bearer}"));
    let asked =
        client.ask(&format!("{from}{separator}{query}"), &[("authorization", &bearer)], &rules(args, false)).await;
    let answer = asked.map_err(Failed::unavailable)?;
    let body = zeroize::Zeroizing::new(answer.body);
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (answer.status, given["value"].as_str()) {
        (200, Some(token)) => Ok(Secret::new(token.to_owned())),
        (status, _) => {
            Err(Failed::unavailable(format!("the CI system answered {status} when it was asked for a token")))
        }
    }
}

fn from_file(path: &Path) -> Result<Secret> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let token = Secret::new(text);
    let trimmed = token.reveal().trim();
    if trimmed.is_empty() || trimmed.len() as u64 > TOKEN_BYTES_MAX {
        bail!("`{}` holds no token of 1 to {TOKEN_BYTES_MAX} bytes", path.display());
    }
    Ok(Secret::new(trimmed.to_owned()))
}
