//! A PostgreSQL server of the system's own making, one for each test, on a Unix socket below the test's directory.
//!
//! `initdb` runs once and is kept below `target/`; each server starts on a copy. PostgreSQL refuses to run as root: as
//! root it runs as the user `postgres`, whom its package makes, otherwise as ourselves.

use crate::command::limit_files;
use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub mod relay;

/// The password of the role `claimbound`; what a canary looks for.
pub const PASSWORD: &str = "canary-password-of-the-store";
/// A server is up in a quarter of a second; a busy machine takes longer.
const READY_SECONDS: u64 = 60;
/// Of the fixture: another number makes another one.
const FORMAT: u32 = 2;
/// What every server is set to beside its defaults: small, and as safe as a real one.
const SETTINGS: &str = "
shared_buffers = 16MB
max_connections = 60
wal_level = minimal
max_wal_senders = 0
max_wal_size = 64MB
autovacuum = off
deadlock_timeout = 500ms
";
/// Whoever reaches the socket is believed, but for the database `locked`: a password costs a debug build a tenth of a
/// second for each connection.
const ACCESS: &str =
    "local locked claimbound scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A server with the role and the database `claimbound`; stopped when it is dropped.
pub struct Postgres {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    home: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Postgres {
    /// Starts a server on its Unix socket alone.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed.
    pub fn start() -> Self {
        Self::prepared().started(&[])
    }

    /// Starts a server with more settings (`fsync=off`).
    pub fn start_with(settings: &[&str]) -> Self {
        Self::prepared().started(settings)
    }

    /// Starts a server that listens on 127.0.0.1, too, with this certificate and key (PEM).
    pub fn start_over_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::prepared();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = server.data().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            server.give(&file);
        }
        // The server cannot choose a port and tell, so a free one is taken and let go just before.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        server.port = free.expect("loopback has a free port").port();
        server.started(&["ssl=on", "listen_addresses=127.0.0.1"])
    }

    fn prepared() -> Self {
        let (programs, account) = (programs(), account());
        let fixture = fixture(&programs, account);
        let home = tempfile::tempdir().expect("a directory can be made");
        let server = Self { programs, account, home, port: 5432, settings: Vec::new(), running: None };
        server.give(server.home.path());
        copy(&fixture, &server.data(), account);
        let password = server.home.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        server
    }

    fn started(mut self, settings: &[&str]) -> Self {
        self.settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        self.start_again();
        self.sql("postgres", "CREATE DATABASE claimbound OWNER claimbound");
        self
    }

    /// Starts it again over its data.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.path().join("log")).unwrap();
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.home.path());
        server.args(["-p", &self.port.to_string(), "-c", "listen_addresses="]);
        for setting in &self.settings {
            server.args(["-c", setting]);
        }
        self.running = Some(server.stdout(Stdio::null()).stderr(log).spawn().expect("PostgreSQL starts"));
        let started = Instant::now();
        while !self.psql("postgres", "SELECT 1").is_ok_and(|output| output.status.success()) {
            let ended = self.running.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let late = started.elapsed() > Duration::from_secs(READY_SECONDS);
            assert!(ended.is_none() && !late, "PostgreSQL is not ready: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it at once, as a crash does: what was not on the disk is gone.
    pub fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let _ = Command::new("sh").args(["-c", &format!("kill -QUIT {}", child.id())]).status();
        let _ = child.wait();
    }

    /// From now on no process of the server that brokers speak to makes a file longer than this: see [`limit_files`]. Its
    /// log of writes ahead has files of 1 MiB, and a server that cannot write those stops.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let sessions = self.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE usename = 'claimbound'");
        let sessions = sessions.lines().map(|pid| pid.parse().expect("a process has a number"));
        let own = self.running.as_ref().expect("the server runs").id();
        let processes: Vec<u32> = sessions.chain([own]).collect();
        limit_files(bytes, &processes, |prlimit| as_account(prlimit, self.account));
    }

    /// Runs SQL as the server's owner; what it says, unaligned. Panics where it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql).expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> std::io::Result<Output> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        psql.arg("-h").arg(self.home.path()).args(["-p", &self.port.to_string()]).stdin(Stdio::null()).output()
    }

    /// Another empty database of the role `claimbound`.
    pub fn database(&self, name: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER claimbound"));
    }

    /// The store's URL of a database, over the socket.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://claimbound@/{database}?host={}&{}", self.home.path().display(), self.password())
    }

    /// The store's URL of the database `claimbound`.
    pub fn url(&self) -> String {
        self.url_of("claimbound")
    }

    /// The store's URL through a port of 127.0.0.1, where the password is asked for.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://claimbound@127.0.0.1:{port}/claimbound?{}", self.password())
    }

    fn password(&self) -> String {
        format!("password_file={}", self.home.path().join("password").display())
    }

    /// The server's first process; the others are its children.
    ///
    /// # Panics
    /// If it is stopped.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").id()
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// All that it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        program(&self.programs, name, self.account)
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.account {
            chown(path, Some(user), Some(group)).expect("root may give files away");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("--- PostgreSQL's log\n{}---", self.log());
        }
    }
}

fn program(programs: &Path, name: &str, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir("/").env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null());
    as_account(&mut command, account);
    command
}

fn as_account(command: &mut Command, account: Option<(u32, u32)>) {
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
}

/// Where the server's programs are: the newest of the distribution's, or on `PATH`.
fn programs() -> PathBuf {
    let version = |path: &Path| path.parent()?.file_name()?.to_str()?.parse::<f64>().ok();
    let listed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = listed.map(|entry| entry.path().join("bin")).collect();
    found.retain(|path| path.join("initdb").is_file());
    found.sort_by(|one, other| version(one).partial_cmp(&version(other)).unwrap_or(std::cmp::Ordering::Equal));
    let paths = env::var_os("PATH").unwrap_or_default();
    let mut on_path = env::split_paths(&paths).filter(|path| path.join("initdb").is_file());
    found.pop().or_else(|| on_path.next()).unwrap_or_else(|| {
        panic!(
            "PostgreSQL is missing: install it (`apt-get install postgresql`, `dnf install postgresql-server`); its tests \
             look into /usr/lib/postgresql/*/bin and on `PATH`"
        )
    })
}

/// Whom the server runs as: nobody else than ourselves, unless we are root.
fn account() -> Option<(u32, u32)> {
    let root = fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    if !root {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    of("postgres").or_else(|| of("nobody")).or_else(|| panic!("root needs a user `postgres` to run PostgreSQL as"))
}

/// An initialised data directory, made once.
fn fixture(programs: &Path, account: Option<(u32, u32)>) -> PathBuf {
    let told = Command::new(programs.join("postgres")).arg("--version").output().expect("PostgreSQL tells its version");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let version = told.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let fixtures = target.join("fixtures");
    fs::create_dir_all(&fixtures).expect("target/ can be written");
    let fixture = fixtures.join(format!("pg-{version}-{FORMAT}"));
    let lock = File::create(fixtures.join("pg.lock")).expect("target/ can be written");
    lock.lock().expect("a file can be locked");
    if fixture.exists() {
        return fixture;
    }
    // Made where another user gets to, which below somebody's home it may not.
    let home = tempfile::tempdir().expect("a directory can be made");
    if let Some((user, group)) = account {
        chown(home.path(), Some(user), Some(group)).expect("root may give files away");
    }
    let data = home.path().join("data");
    let mut init = program(programs, "initdb", account);
    init.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]);
    let made = init.output().expect("initdb starts");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    File::options().append(true).open(data.join("postgresql.conf")).unwrap().write_all(SETTINGS.as_bytes()).unwrap();
    fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
    let mut single = program(programs, "postgres", account);
    single.args(["--single", "-D"]).arg(&data).arg("postgres").stdin(Stdio::piped());
    single.stdout(Stdio::null()).stderr(Stdio::null());
    let mut single = single.spawn().expect("PostgreSQL starts");
    let role = format!("CREATE ROLE claimbound LOGIN PASSWORD '{PASSWORD}'\n");
    single.stdin.take().unwrap().write_all(role.as_bytes()).unwrap();
    assert!(single.wait().unwrap().success(), "the role cannot be made");
    let half = fixtures.join(format!("pg-half-{}", std::process::id()));
    copy(&data, &half, None);
    fs::rename(&half, &fixture).expect("a directory can be renamed");
    fixture
}

/// A tree, given to whom it shall belong.
fn copy(from: &Path, to: &Path, account: Option<(u32, u32)>) {
    fs::create_dir(to).expect("a directory can be made");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).expect("a directory can be read").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&source, &target, account);
        } else {
            fs::copy(&source, &target).expect("a file can be copied");
            if let Some((user, group)) = account {
                chown(&target, Some(user), Some(group)).expect("root may give files away");
            }
        }
    }
    if let Some((user, group)) = account {
        chown(to, Some(user), Some(group)).expect("root may give files away");
    }
}
