//! An agent that outlives the command that started it. Nothing may keep it alive beyond the job: it ends when `logout` says so, when the
//! job's process is gone, and at its own time at the latest. A lock that it holds says that it lives, so that nobody who
//! happens to have its process id later is sent a signal.

use super::{
    super::exec::{RIVALS, Told, code, watched},
    Agent, AgentArgs,
};
use crate::{
    broker::SystemClock,
    cli::job::{Terminal, login::put, variable},
    client::{
        Log as _,
        deliver::{Runner, SECRET_VARIABLES, changes, exports, moment, undo},
        failure::Failure,
        keep::{self, Keep, Lease, name_of},
        retry::{Pace as _, RealPace},
    },
    secret::Secret,
};
use claimbound_core::time::Clock as _;
use rustix::{
    io::Errno,
    process::{Pid, Signal, getppid, kill_process, test_kill_process},
    stdio::{dup2_stderr, dup2_stdout},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::pin,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt as _, process::Command, time::sleep};

/// The agent's first words, after which its standard output is the caller's.
const READY: &[u8] = b"ready\n";
/// Other variables do not matter while this one is replaced.
const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const AGENT: &str = "agent-";
/// It may have to end leases at a broker that is slow.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked whether the job's process is there.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// What `logout` shows of a log.
const LOG_LINES_MAX: usize = 50;
/// Processes that are as old as the job, by what they are called.
const RUNNERS: [&str; 2] = ["Runner.Worker", "buildkite-agent"];
const ANCESTORS_MAX: usize = 64;

/// Starts the agent and returns when it has keys, with its exit code when it has none.
pub async fn start() -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::usage("background", format!("the agent cannot be started: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["agent", "--detached"]).args(std::env::args_os().skip(2));
    let told = Told::listen()?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let mut said = Vec::new();
    let mut ended = pin!(watched(child, told));
    tokio::select! {
        read = stdout.read_to_end(&mut said) => read.map(drop).map_err(failed)?,
        ended = &mut ended => return ended.map(code),
    }
    match said.strip_prefix(READY) {
        Some(text) => put(&Secret::new(String::from_utf8_lossy(text).into_owned())),
        None => ended.await.map(code),
    }
}

/// The agent itself: standard error is the caller's until there are keys, and a log from then on.
pub async fn detached(args: &AgentArgs) -> Result<u8, Failure> {
    let mut told = Told::listen()?;
    let rivals: Vec<&str> =
        SECRET_VARIABLES.into_iter().chain(RIVALS).filter(|name| *name != URI && variable(name).is_some()).collect();
    if !rivals.is_empty() {
        let text = "is set in this job, and AWS clients prefer it to the agent. Do not set it, or run `claimbound agent -- COMMAND`";
        return Err(Failure::usage("mode_unfit", format!("`{}` {text}", rivals.join("`, `"))));
    }
    let job = match args.watch.and_then(Pid::from_raw) {
        Some(pid) => Some(Process::of(pid).ok_or_else(|| {
            Failure::usage("watch", format!("`--watch {}`: there is no such process", pid.as_raw_nonzero()))
        })?),
        None => runner().and_then(Process::of),
    };
    let (agent, listener) = Agent::begin(args, None).await?;
    let files = match settle(&agent, args.lifetime) {
        Ok(files) => files,
        Err(failure) => {
            agent.end().await;
            return Err(failure);
        }
    };
    let why = tokio::select! {
        never = agent.work(listener) => match never {},
        () = told.until_end() => "it was told to",
        () = sleep(Duration::from_secs(u64::try_from(args.lifetime).unwrap_or_default())) => "its lifetime is over",
        () = gone(job.as_ref()) => "the job's process is gone",
    };
    agent.log.say(&format!("Ended at {}: {why}", moment(SystemClock.now().0)));
    agent.end().await;
    keep::remove(&files.token).and(keep::remove(&files.life)).map(|()| 0)
}

/// What stands in the state directory as long as it lives.
struct Files {
    token: PathBuf,
    life: PathBuf,
    /// Held until this process ends.
    _lock: File,
}

/// Tells the commands that follow how to ask, and lets go of what started it.
fn settle(agent: &Agent, lifetime: i64) -> Result<Files, Failure> {
    let now = SystemClock.now().0;
    let name = name_of(&[&agent.uri, &std::process::id().to_string(), &now.to_string()]);
    let path = |ending: &str| agent.keep.path(&format!("{AGENT}{name}.{ending}"));
    let (token, life, log) = (path("token"), path("json"), path("log"));
    let mut variables = vec![(URI, agent.uri.clone()), (TOKEN_FILE, token.display().to_string())];
    variables.extend(agent.region.iter().cloned());
    let runner = Runner::of(&variable);
    let record = Lease {
        broker_url: agent.job.broker.url.clone(),
        lease_id: format!("{AGENT}{name}"),
        handles: Vec::new(),
        at: now,
        expires: now + lifetime,
        files: vec![token.clone(), log.clone()],
        variables: if runner.is_some() { changes(&variables, &variable) } else { Vec::new() },
    };
    agent.keep.remember(&record)?;
    let settled = || -> Result<File, Failure> {
        keep::write(&token, agent.state.bearer.reveal().as_bytes())?;
        let lock = lives(&life)?;
        lets_go(agent, &variables, runner.as_ref(), &log)?;
        Ok(lock)
    };
    match settled() {
        Ok(lock) => Ok(Files { token, life, _lock: lock }),
        Err(failure) => {
            // Nobody will ask this one: no later command shall be told to. What cannot be put back could not be set, either.
            let mut set: BTreeMap<String, String> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let _ = undo(&record, &mut set, &variable, &agent.log).and(keep::remove(&life));
            agent.keep.forget(&record.lease_id);
            Err(failure)
        }
    }
}

/// Says that this process is the agent. The file is locked before it stands where `logout` looks: one without a lock is of an agent
/// that was killed.
fn lives(life: &Path) -> Result<File, Failure> {
    let begins = life.with_extension("json.new");
    keep::write(&begins, json!({ "pid": std::process::id(), "pids": pids() }).to_string().as_bytes())?;
    let locked = || -> io::Result<File> {
        let file = File::open(&begins)?;
        file.try_lock()?;
        fs::rename(&begins, life).map(|()| file)
    };
    locked().map_err(|error| Failure::file("lock", life, &error))
}

/// Which processes can be called by their ids: those of another container have others.
fn pids() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok().map(|space| space.display().to_string())
}

/// Sets the variables, and gives the caller's output back.
fn lets_go(agent: &Agent, variables: &[(&str, String)], runner: Option<&Runner>, log: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(log);
    let opened = opened.map_err(|error| Failure::file("make", log, &error))?;
    let said = match runner {
        Some(runner) => {
            runner.export(variables)?;
            String::new()
        }
        None => exports(variables),
    };
    agent.log.stop_masks();
    let lost = |error: Errno| Failure::file("write", log, &error.into());
    dup2_stderr(&opened).map_err(lost)?;
    put(&Secret::new(format!("{}{said}", String::from_utf8_lossy(READY))))?;
    dup2_stdout(&opened).map_err(lost)
}

/// A process, and nobody who has its id later.
struct Process {
    pid: Pid,
    begun: Option<String>,
}

impl Process {
    /// The one of this id, if there is one.
    fn of(pid: Pid) -> Option<Self> {
        let process = Self { pid, begun: Stat::of(pid).map(|stat| stat.begun) };
        process.lives().then_some(process)
    }

    /// One that has ended, and that nobody has waited for, lives no more.
    fn lives(&self) -> bool {
        let same = |stat: Stat| !stat.is_over && Some(&stat.begun) == self.begun.as_ref();
        test_kill_process(self.pid) != Err(Errno::SRCH) && Stat::of(self.pid).is_none_or(same)
    }
}

/// What proc_pid_stat(5) tells of a process, where the system shows processes as files.
struct Stat {
    name: String,
    is_over: bool,
    parent: Option<Pid>,
    begun: String,
}

impl Stat {
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // `pid (name) state ppid …`, where the name may hold anything; when it began is the 22nd.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let rest: Vec<&str> = rest.split_whitespace().collect();
        let [state, parent, ..] = rest[..] else { return None };
        Some(Self {
            name: name.to_owned(),
            is_over: ["Z", "X"].contains(&state),
            parent: Pid::from_raw(parent.parse().ok()?),
            begun: (*rest.get(22 - 3)?).to_owned(),
        })
    }
}

/// Waits for the end of a process; for ever where there is none to wait for.
async fn gone(process: Option<&Process>) {
    let Some(process) = process else { return std::future::pending().await };
    while process.lives() {
        sleep(WATCH_EVERY).await;
    }
}

/// The nearest process above this one that runs the job, where the system shows processes as files.
fn runner() -> Option<Pid> {
    let mut pid = getppid();
    for _ in 0..ANCESTORS_MAX {
        let stat = Stat::of(pid?)?;
        if RUNNERS.contains(&&*stat.name) {
            return pid;
        }
        pid = stat.parent;
    }
    None
}

/// Ends the agents of this job, and shows what they had to say.
///
/// # Errors
/// One does not end.
pub async fn stop(keep: &Keep, log: &Terminal) -> Result<(), Failure> {
    let of = |ending: &'static str| -> Result<Vec<PathBuf>, Failure> {
        let ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(AGENT))
                && path.extension().is_some_and(|have| have == ending)
        };
        Ok(keep.files()?.into_iter().filter(ours).collect())
    };
    let mut stopped = Ok(());
    for path in of("json")? {
        stopped = stopped.and(ended(&path).await);
    }
    for path in of("log")? {
        let text = fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
            log.say(&format!("agent: {line}"));
        }
    }
    stopped
}

async fn ended(path: &Path) -> Result<(), Failure> {
    let said = keep::read(path).map_err(|error| Failure::file("read", path, &error))?.unwrap_or_default();
    // Where ids are another container's, this one is somebody else's here.
    let ours = said["pids"].as_str() == pids().as_deref();
    let pid = said["pid"].as_i64().filter(|_| ours).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| Failure::file("open", path, &error))?,
    };
    let until = Instant::now() + STOP_TIMEOUT;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(Failure::file("lock", path, &error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                let why = if ours { "" } else { ": it is in another container, where `claimbound logout` ends it" };
                let text =
                    format!("The agent of `{}` does not end{why}. It does at its lifetime's end", path.display());
                return Err(Failure::passing("agent", text));
            }
            Err(TryLockError::WouldBlock) => {
                if !told {
                    told = true;
                    // It may have ended a moment ago, which the lock tells next.
                    let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
                }
                RealPace.sleep(LOOK_EVERY).await;
            }
        }
    }
    keep::remove(path)
}
