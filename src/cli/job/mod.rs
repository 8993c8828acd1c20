//! Commands of jobs: what they share is how they are told which broker and role, and how they tell what came of it.

pub mod agent;
mod cache;
pub mod docker;
pub mod doctor;
pub mod exec;
pub mod git;
mod jwt;
pub mod kube;
pub mod login;
pub mod process;

use super::{governed::args::duration, loaded, serve};
use crate::client::{
    Job, Log, OnPending,
    broker::{self, Ask, Broker},
    failure::Failure,
    http::Http,
    keep::Keep,
    retry::RealPace,
    source,
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use exec::Told;
use std::{
    env,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// For all tries of one command together.
const TIMEOUT_SECONDS_MAX: i64 = 600;

/// Which broker, which role, by which token.
#[derive(Args, Debug)]
pub struct JobArgs {
    /// The broker's public URL, exactly
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_URL", value_parser = broker::url)]
    pub url: String,
    /// The role; may be left out where this job can have one only
    #[arg(long, value_name = "ROLE", env = "CLAIMBOUND_ROLE")]
    role: Option<String>,
    /// The broker's public URL, where `--url` is another address of it
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_AUDIENCE", value_parser = broker::url)]
    audience: Option<String>,
    /// For how long, like `30m`; at most what the role and the mapping allow
    #[arg(long, value_name = "TIME", env = "CLAIMBOUND_DURATION", value_parser = duration)]
    duration: Option<i64>,
    /// A file that holds the job's token, where the CI system is not known by itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file that holds the token of who acts on the job's behalf
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_ACTOR_TOKEN_FILE")]
    actor_token_file: Option<PathBuf>,
    /// Certificate authorities to trust beside the system's, PEM
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// How long to try to reach the broker and the CI system, at most `10m`
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    timeout: i64,
    #[command(flatten)]
    state: StateArgs,
}

/// Where a job's commands keep what they have to end.
#[derive(Args, Debug)]
pub struct StateArgs {
    /// Where to keep what is to be ended and removed; by itself a directory of this user and job below `RUNNER_TEMP` or `TMPDIR`
    #[arg(long, value_name = "DIR", env = "CLAIMBOUND_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

/// What to do where a person has to answer for the role first.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Pending {
    /// Show the link and wait
    #[default]
    Wait,
    /// Show the link and end with exit code 5: where one claim stands for the jobs that follow (`when = "first_use"`)
    Stop,
}

impl From<Pending> for OnPending {
    fn from(pending: Pending) -> Self {
        match pending {
            Pending::Wait => Self::Wait,
            Pending::Stop => Self::Stop,
        }
    }
}

fn timeout(text: &str) -> Result<i64, String> {
    match duration(text)? {
        seconds @ 1..=TIMEOUT_SECONDS_MAX => Ok(seconds),
        _ => Err("it is from `1s` to `10m`".to_owned()),
    }
}

/// A variable of this process; one that is empty is none.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl StateArgs {
    fn open(&self) -> Result<Keep, Failure> {
        Keep::open(self.state_dir.as_deref(), &variable)
    }
}

impl JobArgs {
    /// Everything that can fail without a token.
    fn job(&self, on_pending: OnPending) -> Result<Job, Failure> {
        let http = Http::new(self.ca_file.as_deref())?;
        let source = source::find(self.token_file.as_deref(), &variable)?;
        if let Some(path) = &self.actor_token_file {
            source::holds_token(path, "--actor-token-file")?;
        }
        Ok(Job {
            http,
            broker: Broker {
                url: self.url.clone(),
                audience: self.audience.clone().unwrap_or_else(|| self.url.clone()),
            },
            ask: Ask { role: self.role.clone().filter(|role| !role.is_empty()), duration: self.duration },
            source,
            actor_token_file: self.actor_token_file.clone(),
            on_pending,
            timeout: Duration::from_secs(u64::try_from(self.timeout).unwrap_or_default()),
            waiting: Mutex::default(),
        })
    }
}

/// Standard error. Runners that are built like GitHub's read commands there as they do on standard output, which stays free for
/// a shell to evaluate: a mask must never get there.
pub struct Terminal {
    masks: AtomicBool,
}

impl Terminal {
    pub fn new() -> Self {
        Self { masks: variable("GITHUB_ACTIONS").is_some_and(|on| on == "true").into() }
    }
    /// For a program whose standard error nobody's runner reads.
    fn without_masks() -> Self {
        Self { masks: false.into() }
    }
    /// From now on nobody's runner reads it.
    fn stop_masks(&self) {
        self.masks.store(false, Relaxed);
    }
}

impl Log for Terminal {
    fn say(&self, line: &str) {
        eprintln!("{}", loaded::without_control(line));
    }
    fn mask(&self, secret: &str) {
        if self.masks.load(Relaxed) {
            eprintln!("::add-mask::{}", secret.replace('%', "%25"));
        }
    }
}

/// Runs a command of a job to its end; a failure is told and becomes the exit code. One that is cancelled takes back what it
/// asked of people.
fn run(command: impl AsyncFnOnce() -> Result<u8, Failure>) -> Result<u8> {
    let ended = serve::runtime()?.block_on(command());
    Ok(ended.unwrap_or_else(|failure| {
        eprintln!("error: {}", loaded::without_control(&failure.text));
        failure.kind.code()
    }))
}

/// The job's credential, unless somebody ends this process before.
async fn credential(job: &Job, log: &Terminal) -> Result<crate::client::answer::Granted, Failure> {
    let cancelled = async {
        Told::listen()?.until_end().await;
        Err(Failure::usage("cancelled", "Cancelled by a signal before there was a credential"))
    };
    let granted = tokio::select! {
        granted = job.credential(log, &RealPace) => granted,
        cancelled = cancelled => cancelled,
    };
    if granted.is_err()
        && let Err(failure) = job.withdraw().await
    {
        log.say(&format!(
            "warning: the request that waits for an approver was not withdrawn and runs out by itself. {failure}"
        ));
    }
    granted
}
