//! GitHub workflows, run by act: on this machine, without containers, with the runner's side played by an issuer.
//!
//! act enforces no permissions and has no issuer of its own. A job may ask for tokens exactly if the run is given a
//! [`TokenRequest`]; the rest (events, outputs, masks, post steps) is act's.

use crate::{
    command::{Exit, command, end, finish},
    issuer::TokenRequest,
    tools::Tools,
};
use serde_json::Value;
use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// How workflows name the action under test.
pub const USES: &str = "acme/claimbound/action@main";
/// The repository of [`USES`].
const REPOSITORY: &str = "acme/claimbound@main";
/// One machine with a runner. Everything that a run writes stands below [`Act::directory`].
pub struct Act {
    program: PathBuf,
    home: TempDir,
    actor: &'static str,
    event: Option<(String, Value)>,
    environment: Vec<String>,
    secrets: Vec<String>,
    job: Option<&'static str>,
    repositories: Vec<String>,
}

/// A workflow that runs.
pub struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: String,
}

impl Run {
    /// Waits for a line that has this in it: what stands behind it.
    ///
    /// # Panics
    /// If the run ends first.
    pub async fn shown(&mut self, mark: &str) -> String {
        while let Some(line) = self.lines.next_line().await.expect("a log is text") {
            self.log.push_str(&line);
            self.log.push('\n');
            if let Some((_, text)) = line.split_once(mark) {
                return text.trim().to_owned();
            }
        }
        panic!("no `{mark}` in\n{}", self.log);
    }

    /// Its end, with all of its log.
    pub async fn end(mut self) -> Exit {
        let rest = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                self.log.push_str(&line);
                self.log.push('\n');
            }
        };
        let (exit, ()) = tokio::join!(end(self.child), rest);
        Exit { stdout: self.log, ..exit }
    }
}

impl Act {
    /// With this built action (`action/` of the repository, after `npm run build`). Panics where act is not installed.
    pub fn new(action: &Path) -> Self {
        let program = Tools::act();
        let home = tempfile::tempdir().expect("a directory can be made");
        let home_of_action = home.path().join("repository");
        let copy = home_of_action.join("action");
        for folder in [copy.join("dist"), home.path().join("proof"), home.path().join("bin"), home.path().join("work")]
        {
            fs::create_dir_all(folder).expect("a folder can be made");
        }
        for file in ["action.yml", "package.json", "dist/main.cjs", "dist/post.cjs", "dist/agent.cjs"] {
            fs::copy(action.join(file), copy.join(file))
                .unwrap_or_else(|error| panic!("{}/{file}: {error}; `npm run build` there", action.display()));
        }
        let act = Self {
            program,
            home,
            actor: "octocat",
            event: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            job: None,
            repositories: vec![format!("{REPOSITORY}={}", home_of_action.display())],
        };
        act.watch_node();
        act.make_repository();
        act
    }

    /// Another user who starts the runs.
    pub fn actor(mut self, name: &'static str) -> Self {
        self.actor = name;
        self
    }

    /// Another event than a push: its name, and its payload.
    pub fn event(mut self, name: &str, payload: Value) -> Self {
        self.event = Some((name.to_owned(), payload));
        self
    }

    /// A variable that every step of the runs sees.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// One job of the workflow, and no other.
    pub fn job(mut self, name: &'static str) -> Self {
        self.job = Some(name);
        self
    }

    /// A secret of the repository; `GITHUB_TOKEN` is the job's own token.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push(format!("{name}={value}"));
        self
    }

    /// Another repository that workflows may name, with one file of an action; `name` is `owner/name@ref`.
    pub fn repository(mut self, name: &str, path: &str, text: &str) -> Self {
        let folder = self.home.path().join("repositories").join(name.replace('/', "-"));
        let file = folder.join(path);
        fs::create_dir_all(file.parent().expect("a file stands somewhere")).expect("a folder can be made");
        fs::write(file, text).expect("an action can be written");
        self.repositories.push(format!("{name}={}", folder.display()));
        self
    }

    /// A program that the steps find before any other of its name.
    pub fn program(self, name: &str, program: &Path) -> Self {
        symlink(program, self.home.path().join("bin").join(name)).expect("a link can be made");
        self
    }

    /// Runs a workflow; `$PROOF` in its steps is a folder outside the workspace, for what the test wants to see.
    pub async fn run(&self, workflow: &str, request: Option<&TokenRequest>) -> Exit {
        finish(&mut self.prepared(workflow, request)).await
    }

    /// Begins to run a workflow, whose log is read while it goes on.
    pub fn begin(&self, workflow: &str, request: Option<&TokenRequest>) -> Run {
        let mut act = self.prepared(workflow, request);
        let mut child = act.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("act starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Run { child, lines, log: String::new() }
    }

    /// The same, to be run by the caller.
    pub fn prepared(&self, workflow: &str, request: Option<&TokenRequest>) -> Command {
        let (home, work) = (self.home.path(), self.home.path().join("work"));
        let proof = self.proof();
        let file = work.join("workflow.yml");
        fs::write(&file, workflow).expect("a workflow can be written");
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = [home.join("bin")].into_iter().chain(env::split_paths(&path));
        let mut act = command(&self.program, &work);
        act.env("HOME", home)
            .env("PATH", env::join_paths(paths).expect("paths can be joined"))
            .args(["--no-cache-server", "--platform", "ubuntu-24.04=-self-hosted"])
            .args(["--actor", self.actor, "--env", "GITHUB_REPOSITORY=acme/payments-api"])
            .arg("--env")
            .arg(format!("PROOF={}", proof.display()))
            .args(self.environment.iter().flat_map(|variable| ["--env", variable]))
            .args(self.secrets.iter().flat_map(|secret| ["--secret", secret]))
            .args(self.job.iter().flat_map(|job| ["--job", job]))
            .args(self.repositories.iter().flat_map(|repository| ["--local-repository", repository]))
            .arg("--workflows")
            .arg(&file);
        // In the environment and not among the arguments, as a runner has them.
        if let Some(TokenRequest { url, bearer }) = request {
            act.env("ACTIONS_ID_TOKEN_REQUEST_URL", url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer);
        }
        let name = match &self.event {
            Some((name, payload)) => {
                let file = home.join("event.json");
                fs::write(&file, payload.to_string()).expect("an event can be written");
                act.arg("--eventpath").arg(file);
                name
            }
            None => "push",
        };
        act.arg(name);
        act
    }

    /// The repository that workflows run in.
    pub fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// The folder that workflows know as `$PROOF`.
    pub fn proof(&self) -> PathBuf {
        self.home.path().join("proof")
    }

    /// A file that a workflow left there.
    pub fn left(&self, name: &str) -> String {
        let path = self.proof().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The whole machine.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The arguments of every Node process so far, one process a line.
    pub fn arguments(&self) -> String {
        fs::read_to_string(self.home.path().join("arguments")).unwrap_or_default()
    }

    /// act looks for the branch and the commit that a run is about.
    fn make_repository(&self) {
        let git = |arguments: &[&str]| {
            let status = std::process::Command::new("git")
                .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"])
                .args(arguments)
                .current_dir(self.home.path().join("work"))
                .status();
            assert!(status.expect("git starts").success(), "git {arguments:?}");
        };
        git(&["init", "--quiet", "--initial-branch", "main"]);
        git(&["commit", "--quiet", "--allow-empty", "--message", "Begin"]);
    }

    /// Puts a `node` before the real one that writes down how it was called. act asks once where Node really is, so it
    /// answers that itself. act closes the terminal of a step that failed without reading what is left in it: such a step
    /// ends half a second late, so that act has read it by then.
    fn watch_node(&self) {
        let real = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .map(|path| path.join("node"))
            .find(|path| path.is_file())
            .expect("Node is on `PATH`");
        // No shell: shells drop variables like `INPUT_BROKER-URL`.
        let script = format!(
            "#!{}\nconst given = process.argv.slice(2);\n\
             if (given.join().includes('process.execPath')) {{ console.log(__filename); process.exit(); }}\n\
             require('fs').appendFileSync('{}', given.join(' ') + '\\n');\n\
             const {{ status }} = require('child_process').spawnSync(process.execPath, given, {{ stdio: 'inherit' }});\n\
             setTimeout(() => process.exit(status), status === 0 ? 0 : 500);\n",
            real.display(),
            self.home.path().join("arguments").display(),
        );
        executable(&self.home.path().join("bin/node"), &script);
        // What a script without an extension is, the nearest package says; above here may stand anything.
        let package = self.home.path().join("bin/package.json");
        fs::write(package, "{ \"type\": \"commonjs\" }").expect("a package can be written");
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("a script can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
}
