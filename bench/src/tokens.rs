//! CI tokens, minted ahead of what is measured: each is good for one exchange, and signing one costs fifteen times what
//! verifying it does.

use claimbound_test_support::{issuer::Issuer, job::Job, jwt::Key, time::now};
use std::{
    io::Write as _,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// The audience of all tokens, and the name of every broker that is measured: so one token serves several rows.
pub const AUDIENCE: &str = "https://claimbound.bench.example";
/// What real tokens of GitHub's measure, in bytes.
const TOKEN_BYTES: usize = 1_900;
/// Of tokens that a table is measured with; what the profile of GitHub allows at most.
pub const TABLE_LIFETIME_SECONDS: i64 = 3_600;
/// Of tokens that are minted while they are spent; GitHub's own.
pub const SOAK_LIFETIME_SECONDS: i64 = 300;
/// Tokens of one batch of a stream.
const BATCH_TOKENS: usize = 500;
/// Batches of a stream that wait.
const BATCHES_MAX: usize = 8;

const PLACEHOLDER: &str = "the-token-s-own-id";

/// Many tokens in one piece of memory.
#[derive(Default)]
pub struct Tokens {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Tokens {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    fn push(&mut self, token: &str) {
        self.text.extend_from_slice(token.as_bytes());
        self.ends.push(self.text.len());
    }

    fn append(&mut self, other: &Self) {
        let before = self.text.len();
        self.text.extend_from_slice(&other.text);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }
}

/// Claims of a job with a gap for the token's id.
struct Template {
    before: String,
    after: String,
}

/// Signs tokens of some jobs in turn.
pub struct Mint {
    key: Arc<Key>,
    templates: Vec<Template>,
    next: AtomicU64,
}

impl Mint {
    /// For these jobs of an issuer. Tokens are as long as GitHub's, and live for so long from now.
    pub fn new<'i>(issuer: &'i Issuer, jobs: impl IntoIterator<Item = Job<'i>>, lifetime_seconds: i64) -> Self {
        let key = issuer.key();
        let template = |job: Job<'i>| {
            let at = now();
            let of = job.issued_at(at).claim("exp", at + lifetime_seconds).claim("jti", PLACEHOLDER);
            // What is missing to the length of a real one stands in properties that organisations give their repositories.
            let short = TOKEN_BYTES.saturating_sub(of.token(AUDIENCE).len()) * 3 / 4;
            let claims = of.claim("repository_properties", "x".repeat(short.saturating_sub(45))).claims(AUDIENCE);
            let text = claims.to_string();
            let (before, after) = text.split_once(PLACEHOLDER).expect("the claims hold their id");
            Template { before: before.to_owned(), after: after.to_owned() }
        };
        Self { key, templates: jobs.into_iter().map(template).collect(), next: AtomicU64::new(0) }
    }

    /// So many, on all processors.
    pub fn many(&self, count: usize) -> Tokens {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<Tokens> = std::thread::scope(|scope| {
            let part = |_| scope.spawn(|| self.some(count.div_ceil(threads)));
            let running: Vec<_> = (0..threads).map(part).collect();
            running.into_iter().map(|thread| thread.join().expect("minting does not panic")).collect()
        });
        let mut all = Tokens::default();
        parts.iter().for_each(|part| all.append(part));
        all
    }

    fn some(&self, count: usize) -> Tokens {
        let header = self.key.header().to_string();
        let mut tokens = Tokens::default();
        let mut claims = Vec::new();
        for _ in 0..count {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Template { before, after } = &self.templates[number as usize % self.templates.len()];
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
            let random = u64::from_be_bytes(random);
            claims.clear();
            write!(claims, "{before}{:08x}-{:04x}-4000-8000-{number:012x}{after}", random >> 32, random & 0xffff)
                .expect("a Vec takes all");
            tokens.push(&self.key.sign_text(&header, std::str::from_utf8(&claims).expect("claims are text")));
        }
        tokens
    }
}

/// Where connections get their tokens.
pub enum Source {
    /// From a pool, once through; or over and over, where tokens are not spent.
    Pool { tokens: Arc<Tokens>, next: AtomicU64, again: bool },
    /// From a thread that mints meanwhile.
    Stream(tokio::sync::Mutex<mpsc::Receiver<Arc<Tokens>>>),
}

impl Source {
    pub fn once(tokens: &Arc<Tokens>, from: usize) -> Self {
        Self::Pool { tokens: tokens.clone(), next: AtomicU64::new(from as u64), again: false }
    }

    pub fn again(tokens: &Arc<Tokens>) -> Self {
        Self::Pool { tokens: tokens.clone(), next: AtomicU64::new(0), again: true }
    }

    /// The next tokens for one connection; `None` when there are no more.
    pub async fn take(&self) -> Option<(Arc<Tokens>, Range<usize>)> {
        match self {
            Self::Pool { tokens, next, again } => {
                let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                let at = if *again { at % tokens.len() } else { at };
                (at < tokens.len()).then(|| (tokens.clone(), at..at + 1))
            }
            Self::Stream(batches) => {
                let batch = batches.lock().await.recv().await?;
                let all = 0..batch.len();
                Some((batch, all))
            }
        }
    }
}

/// A thread that mints as fast as its tokens are spent.
pub struct Stream {
    pub source: Arc<Source>,
    /// What it used of the processors, in microseconds, and how many tokens that made.
    pub cost: Arc<(AtomicU64, AtomicU64)>,
}

/// Begins one; it ends when nobody takes any more. `mint` is asked again for every batch, so that no token is old.
pub fn stream(mint: impl Fn() -> Mint + Send + 'static) -> Stream {
    let (batches, taken) = mpsc::channel(BATCHES_MAX);
    let cost = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let told = cost.clone();
    std::thread::spawn(move || {
        loop {
            let batch = Arc::new(mint().some(BATCH_TOKENS));
            told.0.store(crate::machine::thread_cpu_us() as u64, Ordering::Relaxed);
            told.1.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if batches.blocking_send(batch).is_err() {
                return;
            }
        }
    });
    Stream { source: Arc::new(Source::Stream(tokio::sync::Mutex::new(taken))), cost }
}
