//! GitLab pipelines, run by gitlab-ci-local: on this machine, without containers.
//!
//! It copies the project with `rsync` before it begins, for jobs in containers. There are none here, and so is a program
//! of that name put before it that copies as much.

use crate::{
    command::{Exit, command, finish},
    tools::Tools,
};
use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const RSYNC: &str =
    "#!/bin/sh\nfor to; do :; done\nmkdir -p \"$to\" && tar -c --exclude=./.gitlab-ci-local . | tar -x -C \"$to\"\n";

/// The runner starts `bash`, which reads the name of a job's script. Real ones set `pipefail` only where the shell has it.
const OTHER_SHELL: &str = r#"#!/bin/sh
case "$1" in
'') read -r script; sed -i 's/^set -eo pipefail$/set -e/' "$script"; exec SHELL "$script" ;;
*) exec /bin/bash "$@" ;;
esac
"#;

/// One machine with a runner; a project stands in [`Gitlab::work`].
pub struct Gitlab {
    home: TempDir,
}

impl Gitlab {
    /// With these programs before others of their names.
    ///
    /// # Panics
    /// If the machine cannot be made.
    pub fn new(programs: &[(&str, &Path)]) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        for folder in ["bin", "work"] {
            fs::create_dir(home.path().join(folder)).expect("a folder can be made");
        }
        let bin = home.path().join("bin");
        for (name, program) in programs {
            symlink(program, bin.join(name)).expect("a link can be made");
        }
        let gitlab = Self { home };
        gitlab.script("rsync", RSYNC);
        gitlab
    }

    /// Has jobs run in this shell (`dash`, `busybox sh`), as in an image without bash.
    pub fn in_shell(self, shell: &str) -> Self {
        self.script("bash", &OTHER_SHELL.replace("SHELL", shell));
        self
    }

    /// A script that jobs find before any other program of its name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.home.path().join("bin").join(name);
        fs::write(&path, text).expect("a script can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    }

    /// The project.
    pub fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// Runs jobs (names with blanks between) of the project's `.gitlab-ci.yml` with these variables.
    pub async fn run(&self, jobs: &str, variables: &[(&str, &str)]) -> Exit {
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = [self.home.path().join("bin")].into_iter().chain(env::split_paths(&path));
        let mut runner = command(&Tools::young_node(), &self.work());
        runner
            .env("HOME", self.home.path())
            .env("PATH", env::join_paths(paths).expect("paths can be joined"))
            .arg(Tools::gitlab_ci_local())
            .args(["--force-shell-executor", "--color=false"]);
        // Otherwise it warns that they may not be set.
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        runner.arg("--ignore-predefined-vars").arg(names.join(","));
        for (name, value) in variables {
            runner.args(["--variable", &format!("{name}={value}")]);
        }
        finish(runner.args(jobs.split(' '))).await
    }
}
