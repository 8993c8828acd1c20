//! The load: a few connections that stay open, requests put together beforehand, answers read no further than needed.
//! It runs on one thread, as it shares the processors with what it measures; what it costs itself is told.

use crate::tokens::Source;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

/// Connections of a load, where nothing else is asked for.
pub const CONNECTIONS: usize = 16;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A request but for its token, and the answer that is right.
#[derive(Clone)]
pub struct Shape {
    pub address: SocketAddr,
    pub path: &'static str,
    pub content_type: &'static str,
    /// The body before and after the token.
    pub around: [String; 2],
    pub status: u16,
    /// The signature is changed on the way.
    pub forged: bool,
    /// Over how many connections.
    pub connections: usize,
}

/// How fast to ask.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection asks again as soon as it is answered.
    Saturating,
    /// So many requests a second, whatever the answers take; a request that had to wait for a free connection is late,
    /// and that counts.
    PerSecond(f64),
}

/// What came of it.
pub struct Done {
    pub count: u64,
    pub seconds: f64,
    /// Microseconds that each answer took, the shortest first.
    took_us: Vec<u32>,
}

impl Done {
    /// The time within which this share of all answers came, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let at = (self.took_us.len() as f64 * share) as usize;
        self.took_us.get(at.min(self.took_us.len().saturating_sub(1))).map_or(0.0, |us| f64::from(*us) / 1e3)
    }
}

struct Shared {
    shape: Shape,
    source: Arc<Source>,
    /// Requests answered so far, for whoever looks on.
    answered: Arc<AtomicU64>,
    began: Instant,
    until: Instant,
    /// Of a pace: the time between requests, how many were begun, and how many are due.
    interval: Option<Duration>,
    begun: AtomicU64,
    due: Semaphore,
}

/// Asks until the tokens or the time are at their end.
pub async fn run(shape: &Shape, source: Arc<Source>, pace: Pace, most: Duration, answered: Arc<AtomicU64>) -> Done {
    let began = Instant::now();
    let interval = match pace {
        Pace::Saturating => None,
        Pace::PerSecond(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
    };
    let shared = Arc::new(Shared {
        shape: shape.clone(),
        source,
        answered,
        began,
        until: began + most,
        interval,
        begun: AtomicU64::new(0),
        due: Semaphore::new(0),
    });
    let pacer = interval.map(|interval| {
        let shared = shared.clone();
        std::thread::spawn(move || pace_out(&shared, interval))
    });
    let tasks: Vec<_> = (0..shape.connections).map(|_| tokio::spawn(connection(shared.clone()))).collect();
    let mut took_us = Vec::new();
    for task in tasks {
        took_us.append(&mut task.await.expect("a connection does not panic"));
    }
    let seconds = began.elapsed().as_secs_f64();
    if let Some(pacer) = pacer {
        pacer.join().expect("the pacer does not panic");
    }
    took_us.sort_unstable();
    Done { count: took_us.len() as u64, seconds, took_us }
}

/// Says when each request is due. A thread of its own: the runtime's clock has steps of a millisecond, in which ten
/// requests would come at once.
fn pace_out(shared: &Shared, interval: Duration) {
    let mut told = 0;
    while Instant::now() < shared.until {
        let due = (shared.began.elapsed().as_secs_f64() / interval.as_secs_f64()) as u64;
        if due > told {
            shared.due.add_permits((due - told) as usize);
            told = due;
        }
        std::thread::sleep(interval);
    }
    shared.due.close();
}

async fn connection(shared: Arc<Shared>) -> Vec<u32> {
    let Shape { address, path, content_type, around, status, forged, .. } = &shared.shape;
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket takes options");
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\ncontent-length: ");
    let fixed = around[0].len() + around[1].len();
    let (mut request, mut answer) = (Vec::with_capacity(8 * 1024), vec![0; ANSWER_BYTES_MAX]);
    let mut took = Vec::with_capacity(1 << 16);
    while let Some((tokens, range)) = shared.source.take().await {
        for at in range {
            let asked = match shared.interval {
                None => Instant::now(),
                Some(interval) => {
                    let Ok(permit) = shared.due.acquire().await else { return took };
                    permit.forget();
                    let number = shared.begun.fetch_add(1, Ordering::Relaxed) + 1;
                    shared.began + interval.mul_f64(number as f64)
                }
            };
            if asked >= shared.until {
                return took;
            }
            let token = tokens.get(at);
            request.clear();
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice((fixed + token.len()).to_string().as_bytes());
            request.extend_from_slice(b"\r\n\r\n");
            request.extend_from_slice(around[0].as_bytes());
            request.extend_from_slice(token);
            if *forged {
                // Within the signature, and not at its beginning: as a number it stays below the modulus.
                let middle = request.len() - 100;
                request[middle] = if request[middle] == b'A' { b'B' } else { b'A' };
            }
            request.extend_from_slice(around[1].as_bytes());
            stream.write_all(&request).await.expect("the server reads");
            let read = read_answer(&mut stream, &mut answer).await;
            let answer = &answer[..read];
            assert!(
                answer.get(9..12) == Some(status.to_string().as_bytes()),
                "{status} is due, not {}",
                String::from_utf8_lossy(answer)
            );
            took.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    took
}

/// Reads one answer whole; how many bytes it has.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut read = 0;
    let mut whole = None;
    loop {
        let more = stream.read(&mut buffer[read..]).await.expect("the server answers");
        assert!(more > 0, "the server hung up: {}", String::from_utf8_lossy(&buffer[..read]));
        read += more;
        whole = whole.or_else(|| length(&buffer[..read]));
        if whole.is_some_and(|whole| read >= whole) {
            return read;
        }
    }
}

/// The bytes of an answer with its body, once its head is there.
fn length(read: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let at = read[..end].windows(NAME.len()).position(|name| name.eq_ignore_ascii_case(NAME));
    let at = at.expect("an answer says its length") + NAME.len();
    let digits = read[at..end].iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    Some(end + digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
