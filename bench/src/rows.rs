//! The rows of the table: which server, which requests.

use crate::{
    company,
    floor::{self, Keys, Operation},
    load::{self, Done, Pace, Shape},
    machine::{BUSY_CORES, Moment, resident_kib},
    tokens::{AUDIENCE, Mint, Source, TABLE_LIFETIME_SECONDS, Tokens},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use claimbound_test_support::{
    broker::{Broker, TOKEN_EXCHANGE},
    command::command,
    config::BrokerConfig,
    issuer::Issuer,
    job::Job,
    postgres::Postgres,
    tools::OpenBao,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// Mappings of the small folder, and of the large one.
const FEW: usize = 10;
const MANY: usize = 1_000_000;
/// Jobs that ask where there are many mappings: of as many teams.
const JOBS: usize = 1_000;
/// Asked before anything is measured: connections, caches, allocators.
const WARM_SECONDS: f64 = 0.5;
/// Tokens by which the rate is found that a pool is made for.
const TRIAL_TOKENS: usize = 3_000;
/// A pool has this much more than the trial's rate asks for.
const POOL_ROOM: f64 = 1.3;
/// The load at which the slowest answers are looked at, as a share of what saturates.
const PART: f64 = 0.8;
/// Limits as an operator sets them who trusts the network before the broker: there, and never reached.
const LIMITS: &str = "[server.limits]\nrequests_per_second = 1000000\nrepository_requests_per_second = 1000000\n";
/// The company's folder has roles at AWS, too; nobody asks for them.
const BACKENDS: &str = "[backend.aws]\nkind = \"aws\"\nmode = \"web-identity\"\nregion = \"eu-central-1\"\n";

/// What is measured, in the table's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Row {
    /// Grants, the store a SQLite file
    Sqlite,
    /// A login at OpenBao: JWT, batch token
    Openbao,
    /// The same with a file as audit device
    OpenbaoAudit,
    /// Grants at 80 % of what `sqlite` reached
    Sqlite80,
    /// Jobs to whom no mapping gives the role
    Denied,
    /// Tokens whose signature is not the issuer's
    Forged,
    /// Grants, the store a PostgreSQL server
    Postgres,
    /// Grants among 1,000,000 mappings (only with `--million`)
    Million,
    /// An HTTP server that verifies and signs, and does nothing else
    Floor,
    /// The same, and each token once: a transaction in a SQLite file for all who wait
    FloorDurable,
    /// RS256 verifications by themselves
    Verify,
    /// ES256 signatures by themselves
    Sign,
}

/// One row's numbers; a raw loop has a rate and its processor time alone.
pub struct Measured {
    pub row: Row,
    pub count: u64,
    pub rate: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub cpu_us: f64,
    pub load_us: Option<f64>,
    pub rest_kib: Option<u64>,
    pub after_kib: Option<u64>,
    pub others: f64,
    pub note: String,
}

impl Measured {
    pub fn busy(&self) -> bool {
        self.others > BUSY_CORES
    }
}

/// What all rows share.
pub struct Bench {
    binary: PathBuf,
    seconds: f64,
    connections: usize,
    github: Issuer,
    gitlab: Issuer,
    pool: Arc<Tokens>,
    /// What saturates the broker over SQLite, requests a second: a guess of the trial's until it is measured.
    rate: f64,
}

/// A job of a team that may have `TEAM-secrets`, and nothing else.
pub fn job(issuer: &Issuer, team: usize) -> Job<'_> {
    let id = company::repository_id(team, 0) as u64;
    issuer.job().repository(&company::repository(team, 0)).repository_id(id).branch("main").environment("test")
}

/// Of the teams on GitHub of a folder of so many mappings, some, over all of it.
fn teams(mappings: usize) -> impl Iterator<Item = usize> {
    let teams = mappings.div_ceil(company::TEAM_MAPPINGS);
    (0..teams).step_by((teams / JOBS).max(1)).filter(|team| !company::on_gitlab(*team))
}

impl Bench {
    /// Makes the tokens that the rows need: as many as a trial says.
    pub async fn prepare(binary: &Path, seconds: f64, connections: usize) -> Self {
        let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
        let (binary, pool) = (binary.to_owned(), Arc::default());
        let mut bench = Self { binary, seconds, connections, github, gitlab, pool, rate: 0.0 };
        bench.pool = Arc::new(bench.mint().many(TRIAL_TOKENS));
        let (broker, _) = bench.broker(None).await;
        let shape = form(broker.url(), &secrets(0), 200);
        let done = bench.drive(&shape, bench.once(0), Pace::Saturating).await;
        bench.rate = done.count as f64 / done.seconds;
        let tokens = (bench.rate * (seconds + WARM_SECONDS) * POOL_ROOM) as usize;
        bench.pool = Arc::new(bench.mint().many(tokens.max(TRIAL_TOKENS)));
        bench
    }

    /// Tokens of one job: the only one that there is among few mappings.
    fn mint(&self) -> Mint {
        Mint::new(&self.github, [job(&self.github, 0)], TABLE_LIFETIME_SECONDS)
    }

    fn once(&self, from: usize) -> Arc<Source> {
        Arc::new(Source::once(&self.pool, from))
    }

    fn again(&self) -> Arc<Source> {
        Arc::new(Source::again(&self.pool))
    }

    async fn drive(&self, shape: &Shape, source: Arc<Source>, pace: Pace) -> Done {
        let shape = Shape { connections: self.connections, ..shape.clone() };
        load::run(&shape, source, pace, Duration::from_secs_f64(self.seconds), Arc::default()).await
    }

    /// A broker over a fresh store, and what it took to be ready, in milliseconds.
    async fn broker(&self, store: Option<&str>) -> (Broker, f64) {
        let config = configuration(FEW, &self.github, &self.gitlab);
        let config = store.map_or(config.clone(), |url| config.store(url));
        let began = Instant::now();
        let broker = Broker::start(&self.binary, config).await;
        (broker, began.elapsed().as_secs_f64() * 1e3)
    }

    pub async fn measure(&mut self, row: Row) -> Measured {
        match row {
            Row::Sqlite => {
                let (broker, ready) = self.broker(None).await;
                let shape = form(broker.url(), &secrets(0), 200);
                let mut measured = self.server(row, &[broker.pid()], &shape, self.once(0), Pace::Saturating).await;
                measured.note = format!("ready {ready:.0} ms after its start");
                self.rate = measured.rate;
                measured
            }
            Row::Sqlite80 => {
                let (broker, _) = self.broker(None).await;
                let shape = form(broker.url(), &secrets(0), 200);
                let pace = Pace::PerSecond(self.rate * PART);
                self.server(row, &[broker.pid()], &shape, self.once(0), pace).await
            }
            Row::Denied => {
                let (broker, _) = self.broker(None).await;
                let shape = form(broker.url(), &format!("{}-release", company::team(0)), 400);
                self.server(row, &[broker.pid()], &shape, self.once(0), Pace::Saturating).await
            }
            Row::Forged => {
                let (broker, _) = self.broker(None).await;
                let shape = Shape { forged: true, ..form(broker.url(), &secrets(0), 400) };
                self.server(row, &[broker.pid()], &shape, self.again(), Pace::Saturating).await
            }
            Row::Postgres => self.postgres().await,
            Row::Million => self.million().await,
            Row::Openbao | Row::OpenbaoAudit => {
                let bao = self.openbao().await;
                if row == Row::OpenbaoAudit {
                    bao.audit().await;
                }
                let shape = Shape {
                    address: address(bao.url()),
                    path: "/v1/auth/jwt/login",
                    content_type: "application/json",
                    around: [r#"{"role":"deploy","jwt":""#.to_owned(), r#""}"#.to_owned()],
                    status: 200,
                    forged: false,
                    connections: load::CONNECTIONS,
                };
                self.server(row, &[bao.pid()], &shape, self.again(), Pace::Saturating).await
            }
            Row::Floor => {
                let (floor, url) = self.floor(None).await;
                let pid = floor.id().expect("the floor runs");
                self.server(row, &[pid], &form(&url, &secrets(0), 200), self.again(), Pace::Saturating).await
            }
            Row::FloorDurable => {
                let mut measured = self.floor_durable(Pace::Saturating).await;
                let part = self.floor_durable(Pace::PerSecond(measured.rate * PART)).await;
                measured.note =
                    part.p99_ms.map_or(String::new(), |p99_ms| format!("at 80 % of it, p99 {p99_ms:.2} ms"));
                measured
            }
            Row::Verify | Row::Sign => {
                let operation = if row == Row::Verify { Operation::Verify } else { Operation::Sign };
                let before = Moment::now(&[]);
                let cpu_us =
                    floor::operation_us(operation, &Keys::new(&self.issuer_key()), &self.pool, self.seconds / 2.0);
                let span = before.until_now();
                Measured { rate: 1e6 / cpu_us, cpu_us, others: span.others, ..Measured::empty(row) }
            }
        }
    }

    async fn postgres(&self) -> Measured {
        let server = Postgres::start_with(&["shared_buffers=128MB", "max_wal_size=1GB", "autovacuum=on"]);
        let (broker, _) = self.broker(Some(&server.url())).await;
        let shape = form(broker.url(), &secrets(0), 200);
        let watched = [broker.pid(), server.pid()];
        self.server(Row::Postgres, &watched, &shape, self.once(0), Pace::Saturating).await
    }

    async fn million(&self) -> Measured {
        let mint = Mint::new(&self.github, teams(MANY).map(|team| job(&self.github, team)), TABLE_LIFETIME_SECONDS);
        let config = configuration(MANY, &self.github, &self.gitlab);
        let began = Instant::now();
        let broker = Broker::start(&self.binary, config).await;
        let ready = began.elapsed().as_secs_f64();
        // The job of the other rows, with their request: only the mappings differ.
        let pids = [broker.pid()];
        let shape = form(broker.url(), &secrets(0), 200);
        let mut measured = self.server(Row::Million, &pids, &shape, self.once(0), Pace::Saturating).await;
        // And as such a folder is asked: by jobs of many teams. None asks for its role by name: there is one that it may have.
        let tokens = Arc::new(mint.many(self.pool.len()));
        let source = Arc::new(Source::once(&tokens, 0));
        let many = self.server(Row::Million, &pids, &form(broker.url(), "", 200), source, Pace::Saturating).await;
        measured.note = format!(
            "folder written, loaded and kept in {ready:.1} s; {} jobs in turn: {:.0} per s, {:.1} µs",
            teams(MANY).count(),
            many.rate,
            many.cpu_us
        );
        measured
    }

    async fn openbao(&self) -> OpenBao {
        let bao = OpenBao::start().await;
        let discovery = self.github.discovery();
        bao.trust(discovery["jwks_uri"].as_str().expect("an issuer has keys"), self.github.url()).await;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE], "token_type": "batch", "token_ttl": "15m",
            "bound_claims": {
                "repository": company::repository(0, 0), "repository_id": company::repository_id(0, 0).to_string(),
                "environment": "test",
            },
        });
        bao.write("auth/jwt/role/deploy", &role).await;
        bao
    }

    /// The issuer's public key as the floor takes it.
    fn issuer_key(&self) -> String {
        BASE64.encode(self.github.key().public_bytes())
    }

    async fn floor_durable(&self, pace: Pace) -> Measured {
        let home = tempfile::tempdir().expect("a directory can be made");
        let (floor, url) = self.floor(Some(&home.path().join("floor.db"))).await;
        let pid = floor.id().expect("the floor runs");
        self.server(Row::FloorDurable, &[pid], &form(&url, &secrets(0), 200), self.once(0), pace).await
    }

    async fn floor(&self, store: Option<&Path>) -> (Child, String) {
        let own = std::env::current_exe().expect("this program has a path");
        let mut floor = command(&own, Path::new("/"));
        let mut child = floor
            .arg("floor")
            .arg(self.issuer_key())
            .args(store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the floor starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).await.expect("the floor says where it listens");
        (child, format!("http://{}", line.trim()))
    }

    /// Measures the first of these processes; the others work for it.
    async fn server(&self, row: Row, pids: &[u32], shape: &Shape, source: Arc<Source>, pace: Pace) -> Measured {
        let rest_kib = resident_kib(pids[0]);
        let warm = Duration::from_secs_f64(WARM_SECONDS);
        load::run(shape, source.clone(), pace, warm, Arc::default()).await;
        let before = Moment::now(pids);
        let done = self.drive(shape, source, pace).await;
        let span = before.until_now();
        assert!(done.count > 0, "{row:?}: nothing was answered");
        let each = |at: usize| span.cpu_us[at] as f64 / done.count as f64;
        Measured {
            count: done.count,
            rate: done.count as f64 / done.seconds,
            p50_ms: Some(done.quantile_ms(0.5)),
            p99_ms: Some(done.quantile_ms(0.99)),
            cpu_us: each(1),
            load_us: Some(each(0)),
            rest_kib: Some(rest_kib),
            after_kib: Some(resident_kib(pids[0])),
            others: span.others,
            note: if pids.len() > 1 {
                format!("the database server itself: {:.0} µs", each(2))
            } else {
                String::new()
            },
            ..Measured::empty(row)
        }
    }
}

impl Measured {
    fn empty(row: Row) -> Self {
        Self {
            row,
            count: 0,
            rate: 0.0,
            p50_ms: None,
            p99_ms: None,
            cpu_us: 0.0,
            load_us: None,
            rest_kib: None,
            after_kib: None,
            others: 0.0,
            note: String::new(),
        }
    }
}

/// A broker's configuration with the company's folder of so many mappings.
pub fn configuration(mappings: usize, github: &Issuer, gitlab: &Issuer) -> BrokerConfig {
    let files: Vec<(String, String)> = company::company(mappings)
        .files
        .into_iter()
        .map(|(path, text)| (path, String::from_utf8(text).expect("the folder is text")))
        .collect();
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    BrokerConfig::with_folder(&borrowed)
        .edit("policy.toml", "https://token.actions.githubusercontent.com", "{issuer.github}")
        .edit("policy.toml", "https://gitlab.acme.example", "{issuer.gitlab}")
        .issuer("github", github)
        .issuer("gitlab", gitlab)
        .server(&format!("public_url = \"{AUDIENCE}\""))
        .server(LIMITS)
        .toml(BACKENDS)
}

/// The role that every job of the rows asks for.
pub fn secrets(team: usize) -> String {
    format!("{}-secrets", company::team(team))
}

/// An exchange at a broker; an empty role is left out.
pub fn form(url: &str, role: &str, status: u16) -> Shape {
    let escaped = |text: &str| text.replace(':', "%3A");
    let role = if role.is_empty() { String::new() } else { format!("&audience={role}") };
    let before = format!(
        "grant_type={}&subject_token_type={}{role}&subject_token=",
        escaped(TOKEN_EXCHANGE),
        escaped(claimbound_test_support::broker::ID_TOKEN)
    );
    Shape {
        address: address(url),
        path: "/token",
        content_type: "application/x-www-form-urlencoded",
        around: [before, String::new()],
        status,
        forged: false,
        connections: load::CONNECTIONS,
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("a server of the bench listens on an address")
}
