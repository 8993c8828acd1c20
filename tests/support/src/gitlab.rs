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
        let rsync = bin.join("rsync");
        fs::write(&rsync, RSYNC).expect("a script can be written");
        fs::set_permissions(&rsync, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
        Self { home }
    }

    /// The project.
    pub fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// Runs one job of the project's `.gitlab-ci.yml` with these variables.
    pub async fn run(&self, job: &str, variables: &[(&str, &str)]) -> Exit {
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
        finish(runner.arg(job)).await
    }
}
