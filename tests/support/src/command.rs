//! Runs programs: in a clean environment, with an end in sight, stopped by the process id that we started.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// A command that runs longer fails its test.
const COMMAND_SECONDS: u64 = 120;

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A program in `directory` with nothing of the caller's environment but `PATH`; killed when it is dropped.
pub fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().env("HOME", directory).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Runs a program to its end.
pub async fn run(program: &Path, directory: &Path, arguments: &[&str]) -> Exit {
    finish(command(program, directory).args(arguments)).await
}

/// Runs a prepared command to its end.
pub async fn finish(command: &mut Command) -> Exit {
    let output = tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap_or_else(|error| {
        panic!("{command:?} does not start: {error}");
    });
    exit(output)
}

/// Waits for the end of a program that was started; what of its output was piped and is not read yet.
pub async fn end(child: Child) -> Exit {
    let output = tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS), child.wait_with_output()).await;
    exit(output.expect("the program ends").expect("its output can be read"))
}

fn exit(output: Output) -> Exit {
    Exit {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal by name to a child that runs. The shell's own `kill` does it: the workspace forbids unsafe code, and
/// a system call needs it.
pub async fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("the program runs");
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
    assert!(status.expect("a shell can be started").success(), "process {pid} takes no signal {name}");
}

/// Sets the size to which these processes may write files from now on (`RLIMIT_FSIZE`): what is a full disk to the
/// real one. 0 is one that takes no writes at all, `None` gives the room back. `as_user` runs as whom the processes do.
pub fn limit_files(bytes: Option<u64>, processes: &[u32], as_user: impl Fn(&mut std::process::Command)) {
    for process in processes {
        let bytes = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let mut prlimit = std::process::Command::new("prlimit");
        // The soft limit alone, which may be raised again.
        prlimit.args([format!("--fsize={bytes}:"), format!("--pid={process}")]);
        as_user(&mut prlimit);
        let output = prlimit.output().expect("`prlimit` of util-linux is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn code_output_and_environment_are_the_program_s_own() {
        let directory = tempfile::tempdir().unwrap();
        let exit = run(Path::new("sh"), directory.path(), &["-c", "echo out; echo err >&2; pwd -P; exit 3"]).await;
        assert_eq!(exit.code, Some(3));
        assert_eq!(exit.stdout, format!("out\n{}\n", directory.path().canonicalize().unwrap().display()));
        assert_eq!(exit.stderr, "err\n");
        let exit = run(Path::new("sh"), directory.path(), &["-c", "echo $CARGO_MANIFEST_DIR"]).await;
        assert_eq!(exit.stdout, "\n");
    }
}
