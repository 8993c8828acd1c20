//! `claimbound exec`: a credential for one command, and for nothing beside it.

use super::{JobArgs, Pending, Terminal, credential, login::variable_name, run, variable};
use crate::{
    broker::SystemClock,
    client::{
        Log as _,
        answer::Credential,
        deliver::{admit, end, lease, moment, variables},
        failure::Failure,
        source::executable,
    },
};
use anyhow::Result;
use claimbound_core::time::Clock as _;
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    future::poll_fn,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::ExitStatus,
    task::Poll,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Signals, SignalKind, signal},
};

/// What AWS clients would prefer to the variables that the command gets, or send elsewhere.
pub(super) const RIVALS: [&str; 5] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];
/// The job's own token is of no use to the command: it is spent.
pub(super) const SPENT: &str = "CLAIMBOUND_TOKEN";

/// Run one command with a credential, and end it after
///
/// The credential is in the environment of that command alone: AWS keys as AWS clients read them, a JWT in `--variable`. Signals
/// are passed on, and when the command ends, so does the lease. The command's exit code becomes this one's (128 and the signal's
/// number where a signal ended it); before it runs, exit code 2 is usage, 3 refused, 4 the broker or the CI system cannot be asked, 5 a
/// person has not answered for it. Exit code 0: the command said so.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound exec --url https://claimbound.example.com --role payments-deploy \\
    -- aws s3 sync dist s3://payments")]
pub struct ExecArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The variable that carries a JWT
    #[arg(long, value_name = "NAME", default_value = "CLAIMBOUND_JWT", value_parser = variable_name)]
    variable: String,
    /// Take keys of these AWS accounts alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    allowed_account_ids: Vec<String>,
    /// Where a person has to answer for the role first
    #[arg(long, value_enum, default_value_t)]
    on_pending: Pending,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn exec(args: ExecArgs) -> Result<u8> {
    run(async || {
        let log = Terminal::new();
        let job = args.job.job(args.on_pending.into())?;
        let (program, arguments) =
            args.command.split_first().ok_or_else(|| Failure::usage("command", "Name a command"))?;
        found(program)?;
        let keep = args.job.state.open()?;
        let told = Told::listen()?;
        let granted = credential(&job, &log).await?;
        let now = SystemClock.now().0;
        let lease = lease(&granted, &job.broker.url, now, Vec::new(), Vec::new());
        let ran = async {
            admit(&granted, &args.allowed_account_ids)?;
            // If this process is killed, `logout` ends it.
            keep.remember(&lease)?;
            let mut command = Command::new(program);
            command.args(arguments).env_remove(SPENT);
            if matches!(granted.credential, Credential::Aws(_)) {
                RIVALS.iter().for_each(|name| {
                    command.env_remove(name);
                });
            }
            command.envs(variables(&granted, &args.variable));
            log.say(&format!(
                "{} by {} until {}; lease {}, decision {}",
                granted.role,
                granted.mapping,
                moment(now + granted.expires_in),
                granted.lease_id,
                granted.decision_id
            ));
            let child = command.spawn();
            let child = child.map_err(|error| {
                Failure::usage("command", format!("`{}` does not start: {error}", program.display()))
            })?;
            watched(child, told).await
        };
        let ran = ran.await;
        match end(&job.http, &lease).await {
            Ok(()) => keep.forget(&lease.lease_id),
            Err(failure) => log.say(&format!(
                "warning: lease {} was not ended at the broker and runs out by itself. {failure}",
                lease.lease_id
            )),
        }
        ran.map(code)
    })
}

/// Looked for before a token is spent on it.
pub(super) fn found(program: &OsString) -> Result<(), Failure> {
    let there = if Path::new(program).components().count() > 1 {
        executable(Path::new(program))
    } else {
        let path = variable("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| executable(&folder.join(program)))
    };
    if there { Ok(()) } else { Err(Failure::usage("command", format!("there is no program `{}`", program.display()))) }
}

/// The signals that this process takes from now on: nothing that comes before a command runs is lost.
pub(super) struct Told([(Signals, Signal); 6]);

impl Told {
    /// # Errors
    /// The system gives no signals.
    pub(super) fn listen() -> Result<Self, Failure> {
        let take = |kind: SignalKind, which: Signal| match signal(kind) {
            Ok(signals) => Ok((signals, which)),
            Err(error) => Err(Failure::usage("signal", format!("no signal can be awaited: {error}"))),
        };
        Ok(Self([
            take(SignalKind::hangup(), Signal::HUP)?,
            take(SignalKind::terminate(), Signal::TERM)?,
            take(SignalKind::interrupt(), Signal::INT)?,
            take(SignalKind::quit(), Signal::QUIT)?,
            take(SignalKind::user_defined1(), Signal::USR1)?,
            take(SignalKind::user_defined2(), Signal::USR2)?,
        ]))
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signals, which) in &mut self.0 {
                if signals.poll_recv(context).is_ready() {
                    return Poll::Ready(*which);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for one that ends programs.
    pub(super) async fn until_end(&mut self) {
        while [Signal::USR1, Signal::USR2].contains(&self.next().await) {}
    }
}

/// Waits for the command, and passes on what this process is told.
pub(super) async fn watched(mut child: Child, mut told: Told) -> Result<ExitStatus, Failure> {
    // A terminal sends its own to the command, too.
    let typed = io::stdin().is_terminal();
    loop {
        let which = tokio::select! {
            ended = child.wait() => {
                return ended.map_err(|error| Failure::usage("command", format!("the command cannot be awaited: {error}")));
            }
            which = told.next() => which,
        };
        if typed && [Signal::INT, Signal::QUIT].contains(&which) {
            continue;
        }
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        // It may have ended a moment ago, which `wait` tells next.
        let _ = pid.map(|pid| kill_process(pid, which));
    }
}

/// As shells tell it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
