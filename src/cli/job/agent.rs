//! `claimbound agent`: keys for commands that outlive them.
//!
//! AWS clients ask a server on loopback, as they do in a container, and it answers from memory: whatever the broker does
//! meanwhile, no client waits for it. It lives as long as one command, or in the background of a job until that is over:
//! docs/decisions/0060.

mod background;
mod loopback;

use super::{
    JobArgs, Pending, Terminal,
    cache::renew_at,
    credential,
    exec::{RIVALS, SPENT, Told, code, found, watched},
    login::forget_expired,
    run, variable,
};
use crate::{
    broker::SystemClock,
    cli::governed::args::duration,
    client::{
        Job, Log as _, OnPending,
        answer::{Credential, Granted},
        deliver::{SECRET_VARIABLES, admit, default_profile, end, lease, moment, region},
        failure::{Failure, Kind},
        keep::{Keep, Lease},
        retry::{Pace as _, RealPace},
    },
    listen::crowded,
    secret::Secret,
};
use anyhow::Result;
pub(super) use background::stop;
use claimbound_core::time::Clock as _;
use clap::Args;
use loopback::{Held, State};
use std::{
    convert::Infallible,
    ffi::OsString,
    fs::OpenOptions,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, process::Command, time::sleep};

/// After a broker that could not be asked, on top of the tries of one renewal.
const AGAIN: Duration = Duration::from_secs(30);
/// However short the keys live, they are not renewed more often.
const RENEWAL_MIN: Duration = Duration::from_secs(1);
/// How often it is looked whether keys are due: a machine may sleep, and its clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const BEARER_BYTES: usize = 32;
/// How long a background agent may live.
const LIFETIME_SECONDS_MAX: i64 = 24 * 3600;
/// What clients would send to this server instead of the authorization token that they are given.
const OTHER_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Give AWS keys that are renewed, to one command or to all that follow
///
/// For commands that outlive one credential. AWS clients get their keys from a server on loopback
/// (`AWS_CONTAINER_CREDENTIALS_FULL_URI`), which answers from memory, and nobody without its authorization token. Keys are renewed when 16
/// minutes or a third of their life are left; if that is refused, standard error says why, and what is held is given until it is nearly
/// dead. With a command the agent ends when that ends, and its exit code becomes this one's; before it runs, exit code 2 is usage, 3
/// refused, 4 the broker or the CI system cannot be asked, 5 a person has not answered for it. With `--background` it returns when there are
/// keys: standard output is what a shell evaluates to use them (GitHub Actions: the next steps use them), and the agent ends with
/// `claimbound logout`, `--lifetime` or the job. However it ends, so do its leases. Exit code 0: done, or the command said so.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound agent --url https://claimbound.example.com --role payments-deploy -- terraform apply
  eval \"$(claimbound agent --url https://claimbound.example.com \\
    --role payments-deploy --background)\"")]
pub struct AgentArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Take keys of these AWS accounts alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    allowed_account_ids: Vec<String>,
    /// Where a person has to answer for the role first; renewals never wait for one
    #[arg(long, value_enum, default_value_t)]
    on_pending: Pending,
    /// Stay in the background once there are keys, for the commands that follow
    #[arg(long)]
    background: bool,
    /// With `--background`: end after this time, at most `24h`
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = lifetime, requires = "background", conflicts_with = "command")]
    lifetime: i64,
    /// With `--background`: end with this process; by itself the one that runs the job, as far as the CI system shows it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..), requires = "background", conflicts_with = "command")]
    watch: Option<i32>,
    /// What `--background` starts
    #[arg(long, hide = true, requires = "background")]
    detached: bool,
    /// The command and its arguments
    #[arg(required_unless_present = "background", conflicts_with = "background", last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn lifetime(text: &str) -> Result<i64, String> {
    match duration(text)? {
        seconds @ 1..=LIFETIME_SECONDS_MAX => Ok(seconds),
        _ => Err("it is from `1s` to `24h`".to_owned()),
    }
}

/// Runs the command.
pub fn agent(args: AgentArgs) -> Result<u8> {
    run(async || match (args.background, args.detached) {
        (true, false) => background::start().await,
        (true, true) => background::detached(&args).await,
        (false, _) => around(&args).await,
    })
}

/// The agent of one command.
async fn around(args: &AgentArgs) -> Result<u8, Failure> {
    let (program, arguments) = args.command.split_first().ok_or_else(|| Failure::usage("command", "Name a command"))?;
    found(program)?;
    let (told, summary) = (Told::listen()?, variable("GITHUB_STEP_SUMMARY"));
    let (agent, listener) = Agent::begin(args, summary).await?;
    let mut command = Command::new(program);
    command.args(arguments);
    for name in RIVALS.iter().chain(&SECRET_VARIABLES).chain([&SPENT, &OTHER_TOKEN]) {
        command.env_remove(name);
    }
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.uri);
    command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", agent.state.bearer.reveal());
    command.envs(agent.region.iter().cloned());
    let ran = match command.spawn() {
        Ok(child) => tokio::select! {
            ended = watched(child, told) => ended.map(code),
            never = agent.work(listener) => match never {},
        },
        Err(error) => Err(Failure::usage("command", format!("`{}` does not start: {error}", program.display()))),
    };
    agent.end().await;
    ran
}

/// What renews, and what it has opened.
struct Agent {
    job: Job,
    keep: Keep,
    accounts: Vec<String>,
    log: Terminal,
    uri: String,
    region: Vec<(&'static str, String)>,
    /// Where GitHub's runner takes what is to be shown with the step.
    summary: Option<String>,
    state: Arc<State>,
    leases: Mutex<Vec<Lease>>,
}

impl Agent {
    /// Gets the first keys.
    async fn begin(args: &AgentArgs, summary: Option<String>) -> Result<(Self, TcpListener), Failure> {
        let log = Terminal::new();
        let job = args.job.job(args.on_pending.into())?;
        let keep = args.job.state.open()?;
        if let Some(path) = default_profile(&variable) {
            let path = path.display();
            log.say(&format!("warning: `{path}` has a profile `default`, which AWS clients prefer to the agent"));
        }
        let listen = |error: std::io::Error| Failure::usage("listen", format!("loopback has no free port: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(listen)?;
        crowded(&listener).map_err(listen)?;
        let uri = format!("http://{}{}", listener.local_addr().map_err(listen)?, loopback::PATH);
        let mut random = [0; BEARER_BYTES];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::usage("random", "The system gives no random bytes"))?;
        let bearer = Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect());
        log.mask(bearer.reveal());
        let granted = credential(&job, &log).await?;
        let mut agent = Self {
            job,
            keep,
            accounts: args.allowed_account_ids.clone(),
            log,
            uri,
            region: Vec::new(),
            summary,
            state: Arc::new(State { bearer, held: Mutex::default() }),
            leases: Mutex::default(),
        };
        // Nobody looks for a link while commands run.
        agent.job.on_pending = OnPending::Stop;
        if let Credential::Aws(aws) = &granted.credential {
            agent.region = region(aws);
        }
        match agent.take(granted, None) {
            Ok(()) => Ok((agent, listener)),
            Err(failure) => {
                // Nobody will use it.
                agent.end().await;
                Err(failure)
            }
        }
    }

    /// From now on clients get these: the first, or what came for this refresh token or another token of the job.
    fn take(&self, granted: Granted, spent: Option<&Secret>) -> Result<(), Failure> {
        let now = SystemClock.now().0;
        let lease = lease(&granted, &self.job.broker.url, now, Vec::new(), Vec::new());
        let spent = spent.filter(|_| granted.refresh.is_some());
        {
            let mut leases = locked(&self.leases);
            for before in leases.iter_mut() {
                before.handles.retain(|handle| spent.is_none_or(|spent| handle.0 != spent.reveal()));
            }
            leases.retain(|before| !over(before, now));
            leases.push(lease.clone());
        }
        admit(&granted, &self.accounts)?;
        let Granted { role, mapping, lease_id, decision_id, refresh, expires_in, credential, .. } = granted;
        let Credential::Aws(aws) = credential else {
            let text = format!("The role `{role}` gives a JWT, and `agent` is for AWS keys. Use `claimbound exec`");
            return Err(Failure::usage("mode_unfit", text));
        };
        // If this process is killed, `logout` ends it.
        let noted = self.keep.remember(&lease).and_then(|()| {
            spent.map_or(Ok(()), |spent| self.keep.spent(spent))?;
            forget_expired(&self.keep, now)
        });
        if let Err(failure) = noted {
            if locked(&self.state.held).is_empty() {
                return Err(failure);
            }
            // The command does not have to end for a full disk: this process ends the lease.
            self.log.say(&format!("warning: {failure}"));
        }
        let until = moment(lease.expires);
        self.log.say(&format!("{role} by {mapping} until {until}; lease {lease_id}, decision {decision_id}"));
        *locked(&self.state.held) = Held::new(aws, now, Instant::now(), expires_in, refresh);
        Ok(())
    }

    /// Answers clients and renews, for ever.
    async fn work(&self, listener: TcpListener) -> Infallible {
        tokio::select! {
            never = loopback::serve(listener, self.state.clone()) => never,
            never = self.renew() => never,
        }
    }

    /// What fails is said; what is held is given until it is nearly dead.
    async fn renew(&self) -> Infallible {
        loop {
            sleep(RENEWAL_MIN).await;
            let refresh = loop {
                let due = {
                    let held = locked(&self.state.held);
                    let due = held.left(SystemClock.now().0, Instant::now()) - renew_at(held.life);
                    u64::try_from(due).ok().filter(|due| *due > 0).ok_or_else(|| held.refresh())
                };
                match due {
                    Ok(due) => sleep(Duration::from_secs(due).min(LOOK_EVERY)).await,
                    Err(refresh) => break refresh,
                }
            };
            let next = self.job.next(refresh.as_ref(), &self.log, &RealPace).await;
            let Err(failure) = next.and_then(|granted| self.take(granted, refresh.as_ref())) else { continue };
            let now = moment(SystemClock.now().0);
            if failure.kind == Kind::Unavailable {
                self.log.say(&format!("warning: not renewed at {now}, tried again soon: {failure}"));
                RealPace.sleep(AGAIN).await;
                continue;
            }
            // The same job gets the same answer.
            self.log.say(&format!("error: not renewed at {now}: {failure}"));
            self.show(&failure);
            locked(&self.state.held).refused = Some(failure.text);
            return std::future::pending().await;
        }
    }

    /// AWS clients drop what the agent answers them, so the step says it.
    fn show(&self, failure: &Failure) {
        let Some(path) = &self.summary else { return };
        let lines: String = failure.text.lines().map(|line| format!("    {line}\n")).collect();
        let written = OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| {
            file.write_all(format!("\n`claimbound agent` could not renew the AWS keys:\n\n{lines}\n").as_bytes())
        });
        if let Err(error) = written {
            self.log.say(&format!("warning: {}", Failure::file("write", Path::new(path), &error)));
        }
    }

    /// Ends every lease that is not over, the last first: it matters most.
    async fn end(&self) {
        let leases = std::mem::take(&mut *locked(&self.leases));
        for lease in leases.iter().rev() {
            if !over(lease, SystemClock.now().0)
                && let Err(failure) = end(&self.job.http, lease).await
            {
                let text = "was not ended at the broker and runs out by itself, unless `claimbound logout` ends it";
                // Those before it are at the same broker.
                return self.log.say(&format!("warning: lease {} {text}. {failure}", lease.lease_id));
            }
            self.keep.forget(&lease.lease_id);
        }
    }
}

/// Whether nothing of it is left to be ended: a refresh token may outlive what it came with.
fn over(lease: &Lease, now: i64) -> bool {
    lease.expires <= now && lease.handles.len() == 1
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
