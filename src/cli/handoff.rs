//! `claimbound handoff`: a job lets somebody act for it.
//!
//! What comes out is as good as the job's own token for one exchange, so it goes into a file that nobody else can read, which
//! is made before the job's token is spent for it.

use super::{governed::DONE, job::variable, loaded, serve};
use crate::{
    client::{
        broker::{self, Ask, Broker},
        failure::{Failure, Kind},
        http::Http,
        retry::{Pace as _, RealPace, persist},
        source,
    },
    http::TYPE_HANDOFF,
    secret::Secret,
};
use anyhow::{Context as _, Result};
use clap::Args;
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

const TRY_FOR: Duration = Duration::from_secs(60);

/// Let somebody act for this job, once and for one role
///
/// Asks the broker for a handoff, a token that the named actor exchanges together with one of its own, and writes it into a
/// file that nobody else can read. It is good for one exchange within `--duration`, and costs the job its token: from
/// `--token-file`, `CLAIMBOUND_TOKEN_FILE`, `CLAIMBOUND_TOKEN` or the CI system, as with `claimbound login`. The broker
/// decides now whether a mapping takes this actor, and again when it comes. Exit code 0: done; 2: usage; 3: refused; 4: the
/// broker or the CI system cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound handoff --url https://claimbound.example.com --role payments-deploy \\
    --actor-issuer https://cluster.acme.example \\
    --actor-subject system:serviceaccount:agents:deployer --output handoff.jwt")]
pub struct HandoffArgs {
    /// The broker's public URL, exactly
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_URL", value_parser = broker::url)]
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
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authorities to trust beside the system's, PEM
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
                let written = file.write_all(handoff.reveal().as_bytes()).and_then(|()| file.sync_all());
                if written.is_err() {
                    let _ = fs::remove_file(&args.output);
                }
                written.with_context(|| {
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
        Err(Failure { kind, text, .. }) => (kind.code(), text),
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
async fn handed(args: &HandoffArgs) -> Result<(Secret, String), Failure> {
    let http = Http::new(args.ca_file.as_deref())?;
    let source = source::find(args.token_file.as_deref(), &variable)?;
    let broker = Broker { url: args.url.clone(), audience: args.url.clone() };
    let ask = Ask { role: Some(args.role.clone()), duration: Some(args.duration) };
    let deadline = RealPace.now() + TRY_FOR;
    persist(&RealPace, deadline, async |left| broker.compare(&http, left).await).await?;
    let lasts = args.duration.to_string();
    let answer = persist(&RealPace, deadline, async |left| {
        let token = source.token(&http, &broker.audience, left).await?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("subject_token", token.reveal()),
            ("requested_token_type", TYPE_HANDOFF),
            ("audience", &args.role),
            ("may_act_iss", &args.actor_issuer),
            ("may_act_sub", &args.actor_subject),
            ("requested_expires_in", &lasts),
        ];
        broker.ask(&http, &ask, &form, left).await
    });
    let answer = answer.await?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    match (text("access_token"), text("issued_token_type")) {
        ("", _) => {
            let text = format!("{} answered without a handoff", args.url);
            Err(Failure::new(Kind::Unavailable, "answer_invalid", text))
        }
        (handoff, TYPE_HANDOFF) => {
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
        _ => {
            let text = format!("{} gives no handoffs; it is an older version", args.url);
            Err(Failure::new(Kind::Refused, "answer_invalid", text))
        }
    }
}
