//! `claimbound login` and `claimbound logout`: a credential for the commands that follow, and its end.

use super::{JobArgs, Pending, StateArgs, Terminal, credential, run, timeout, variable};
use crate::{
    broker::SystemClock,
    client::{
        Log as _,
        broker::{UNREACHABLE, revoke},
        deliver::{Mode, Wanted, moment, undo},
        failure::Failure,
        http::Http,
        keep::{Keep, Lease},
        retry::{Pace as _, RealPace, persist},
    },
    secret::Secret,
};
use anyhow::Result;
use claimbound_core::time::Clock as _;
use clap::{Args, ValueEnum};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

/// How to give the credential on.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Variables: for the next steps in GitHub Actions, else a file for a shell to read
    Env,
    /// A file as AWS clients read profiles
    Profile,
    /// A file that holds the JWT, or AWS keys as JSON
    File,
    /// Standard output, or in GitHub Actions the step's output `token`
    Output,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Env => Self::Env,
            ModeArg::Profile => Self::Profile,
            ModeArg::File => Self::File,
            ModeArg::Output => Self::Output,
        }
    }
}

/// Get a credential for the commands that follow
///
/// Compares the broker with `--url`, asks the CI system for a token and exchanges it. Which CI system it is, the command finds
/// out: GitHub Actions and Forgejo, GitLab (`id_tokens`, as `CLAIMBOUND_TOKEN`), Buildkite, CircleCI, Bitbucket, HCP Terraform,
/// Semaphore, Spacelift, env0; else `CLAIMBOUND_TOKEN`, `CLAIMBOUND_TOKEN_FILE` or `--token-file` names one. Standard output holds
/// what a shell evaluates to use the credential, never the credential, unless `--mode output` asks for that. `claimbound logout` ends
/// it. Exit code 0: done; 2: usage; 3: refused; 4: the broker or the CI system cannot be asked; 5: a person has not answered
/// for it, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  eval \"$(claimbound login --url https://claimbound.example.com --role payments-deploy)\"
  claimbound login --url https://claimbound.example.com --role payments-secrets \\
    --mode file --output /run/user/1000/token")]
pub struct LoginArgs {
    #[command(flatten)]
    job: JobArgs,
    /// How to give it on: by itself `profile` for AWS keys, `file` for a JWT
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// The file to write, instead of one below the state directory
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With `--mode env`: the variable that carries a JWT
    #[arg(long, value_name = "NAME", default_value = "CLAIMBOUND_JWT", value_parser = variable_name)]
    variable: String,
    /// Take keys of these AWS accounts alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    allowed_account_ids: Vec<String>,
    /// Where a person has to answer for the role first
    #[arg(long, value_enum, default_value_t)]
    on_pending: Pending,
}

/// A name that every shell takes.
pub(super) fn variable_name(text: &str) -> Result<String, String> {
    let mut letters = text.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(text.to_owned());
    }
    Err("write letters, digits and `_`, no digit first".to_owned())
}

/// Runs the command.
pub fn login(args: LoginArgs) -> Result<u8> {
    run(async || {
        let log = Terminal::new();
        let job = args.job.job(args.on_pending.into())?;
        let wanted = Wanted {
            mode: args.mode.map(Mode::from),
            output: args.output.as_deref(),
            variable: &args.variable,
            accounts: &args.allowed_account_ids,
        };
        wanted.precheck(&variable, &log)?;
        let keep = args.job.state.open()?;
        let granted = credential(&job, &log).await?;
        let now = SystemClock.now().0;
        let said = match wanted.deliver(&granted, &job.broker.url, now, &keep, &variable) {
            Ok(said) => said,
            Err(failure) => {
                // Nobody will use it.
                let ended = revoke(&job.http, &job.broker.url, &granted.handle).await;
                if let Some(lease) = keep.lease(&granted.lease_id) {
                    let undone = undo(&lease, &mut BTreeMap::new(), &variable, &log);
                    if ended.is_ok() && undone.is_ok() {
                        keep.forget(&lease.lease_id);
                    }
                }
                let end = ended.map_or("was not ended at the broker and runs out by itself", |()| "is ended");
                return Err(Failure { text: format!("{}. The lease {end}", failure.text), ..failure });
            }
        };
        log.say(&format!(
            "This job has {} by {} until {}",
            granted.role,
            granted.mapping,
            moment(now + granted.expires_in)
        ));
        log.say(&format!("Lease {}, decision {}", granted.lease_id, granted.decision_id));
        put(&said)
    })
}

/// Writes to standard output, and to nowhere else.
pub(super) fn put(text: &Secret) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.reveal().as_bytes()).and_then(|()| out.flush());
    written.map(|()| 0).map_err(|error| Failure::usage("stdout", format!("standard output cannot be written: {error}")))
}

/// End what this job's commands began
///
/// Stops agents in the background, removes the files that `login` wrote, puts back the variables that it set in GitHub Actions, ends
/// the leases of `login` and of all other commands at the broker, and removes what they kept. It is for the last step of a job, so a
/// broker that is away does not fail it: a lease that is not ended is warned about and runs out by itself, and another `logout` tries
/// again. Exit code 0: done, but for what is warned about; 2: usage, or a file or variable is left; 4: an agent does not end, or with
/// `--strict` a lease.
#[derive(Args, Debug)]
#[command(after_help = "Example, as the last step of a job:
  claimbound logout")]
pub struct LogoutArgs {
    /// Fail with exit code 4 where the broker has not ended every lease
    #[arg(long)]
    strict: bool,
    /// How long to ask each broker, at most `10m`
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = timeout)]
    timeout: i64,
    /// Certificate authorities to trust beside the system's, PEM
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_CA_FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

/// Runs the command.
pub fn logout(args: LogoutArgs) -> Result<u8> {
    run(async || {
        let log = Terminal::new();
        let http = Http::new(args.ca_file.as_deref())?;
        let keep = args.state.open()?;
        let mut code = 0;
        let mut failed = |failure: &Failure, counts: bool| {
            log.say(&format!("{}: {failure}", if counts { "error" } else { "warning" }));
            if counts && code == 0 {
                code = failure.kind.code();
            }
        };
        // Before its leases: it would open another.
        if let Err(failure) = super::agent::stop(&keep, &log).await {
            failed(&failure, true);
        }
        let (mut held, mut away) = (BTreeMap::new(), BTreeSet::new());
        let timeout = Duration::from_secs(u64::try_from(args.timeout).unwrap_or_default());
        // The last that was set is put back first.
        for (path, lease) in keep.leases()?.into_iter().rev() {
            let undone = undo(&lease, &mut held, &variable, &log);
            let ended = end(&lease, &http, timeout, &mut away, &log).await;
            if undone.is_ok() && ended.is_ok() {
                drop(fs::remove_file(&path));
            }
            if let Err(failure) = undone {
                failed(&failure, true);
            }
            if let Err(failure) = ended {
                let until = moment(lease.expires);
                let text = format!(
                    "Lease {} was not ended at the broker and runs out by itself at {until}. {failure}",
                    lease.lease_id
                );
                failed(&Failure { text, ..failure }, args.strict);
            }
        }
        if let Err(failure) = super::cache::forget(&keep).and(keep.sweep()) {
            failed(&failure, true);
        }
        keep.tidy();
        Ok(code)
    })
}

/// Ends one lease; not at a broker that could not be asked a moment ago.
async fn end(
    lease: &Lease,
    http: &Http,
    timeout: Duration,
    away: &mut BTreeSet<String>,
    log: &Terminal,
) -> Result<(), Failure> {
    if lease.handles.is_empty() {
        // An agent's, with what it has set and nothing to end.
        return Ok(());
    }
    if SystemClock.now().0 >= lease.expires && lease.handles.len() == 1 {
        log.say(&format!("Lease {} is over since {}; there is nothing to end", lease.lease_id, moment(lease.expires)));
        return Ok(());
    }
    if away.contains(&lease.broker_url) {
        let text = format!("The broker at {} could not be asked a moment ago", lease.broker_url);
        return Err(Failure::passing(UNREACHABLE, text));
    }
    let deadline = RealPace.now() + timeout;
    for handle in &lease.handles {
        let handle = Secret::new(handle.0.clone());
        log.mask(handle.reveal());
        let ended = persist(&RealPace, deadline, async |_| revoke(http, &lease.broker_url, &handle).await).await;
        if ended.is_err() {
            away.insert(lease.broker_url.clone());
        }
        ended?;
    }
    let until = moment(lease.expires);
    log.say(&format!("Lease {} is ended. A copy of its credential may be accepted until {until}", lease.lease_id));
    Ok(())
}

/// Leases that are over need no end any more.
pub(super) fn forget_expired(keep: &Keep, now: i64) -> Result<(), Failure> {
    for (path, lease) in keep.leases()? {
        if lease.expires <= now && lease.files.is_empty() && lease.handles.len() == 1 {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}
