//! The server that AWS clients ask for keys, as the containers of AWS have one:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>. Other users of the machine reach it, too; they
//! learn nothing from it, and cannot keep it from its own clients for long. Under which name they call it is not looked at: what a page in
//! a browser lacks is the token.

use super::locked;
use crate::{
    broker::SystemClock,
    client::{answer::Aws, deliver::moment},
    secret::Secret,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use claimbound_core::time::Clock as _;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

/// Where the keys are.
pub const PATH: &str = "/credentials";
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// AWS clients wait for 1 or 2 s, and try again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECTIONS_MAX: usize = 512;
/// Keys with less left are not given out; of short ones, less than a sixth of their life.
const LEFT_SECONDS_MIN: i64 = 60;

/// What the server knows.
pub struct State {
    /// The authorization token.
    pub bearer: Secret,
    pub held: Mutex<Held>,
}

/// What is given out.
#[derive(Default)]
pub struct Held {
    keys: Option<Aws>,
    /// Unix seconds.
    expires: i64,
    /// Of all their life, in seconds.
    pub life: i64,
    /// When they came, by a clock that nobody sets.
    since: Option<Instant>,
    refresh: Option<Secret>,
    /// Why there will be no others.
    pub refused: Option<String>,
}

impl Held {
    pub fn new(keys: Aws, at: i64, since: Instant, life: i64, refresh: Option<Secret>) -> Self {
        Self { keys: Some(keys), expires: at + life, life, since: Some(since), refresh, refused: None }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_none()
    }

    pub fn refresh(&self) -> Option<Secret> {
        self.refresh.as_ref().map(|refresh| Secret::new(refresh.reveal().to_owned()))
    }

    /// How many seconds are left. The time of day counts the sleep of a machine, and the time that has passed since is not set
    /// back: what is less is believed.
    pub fn left(&self, now: i64, instant: Instant) -> i64 {
        let passed = self.since.map_or(Duration::ZERO, |since| instant.saturating_duration_since(since));
        (self.expires - now).min(self.life - i64::try_from(passed.as_secs()).unwrap_or(i64::MAX))
    }

    /// Status and body at this time.
    fn answer(&self, now: i64, instant: Instant) -> (u16, Zeroizing<String>) {
        let (least, left) = (LEFT_SECONDS_MIN.min(self.life / 6), self.left(now, instant));
        match (&self.keys, &self.refused) {
            (Some(keys), _) if left >= least => (200, written(keys, now + left)),
            (_, Some(why)) => told(403, "Refused", why),
            _ => told(503, "NotRenewed", "The keys have ended, and the broker could not be asked for others yet"),
        }
    }
}

/// As the containers of AWS write it. Nothing in keys needs an escape: what has another letter was refused when it came.
fn written(keys: &Aws, expires: i64) -> Zeroizing<String> {
    Zeroizing::new(format!(
        r#"{{"AccessKeyId":"{}","SecretAccessKey":"{}","Token":"{}","Expiration":"{}","AccountId":"{}"}}"#,
        keys.access_key_id,
        keys.secret_access_key.reveal(),
        keys.session_token.reveal(),
        moment(expires),
        keys.account_id
    ))
}

fn told(status: u16, code: &str, message: &str) -> (u16, Zeroizing<String>) {
    let body: Value = json!({ "code": code, "message": message });
    (status, Zeroizing::new(body.to_string()))
}

impl State {
    /// Status and body. The authorization token is judged first: who does not know it learns not even what is here.
    fn answer(&self, head: &str, now: i64, instant: Instant) -> (u16, Zeroizing<String>) {
        let mut lines = head.split("\r\n");
        let request = lines.next().unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let given =
            headers.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, value)| value.trim());
        let given: Vec<&str> = given.collect();
        let [given] = given[..] else { return told(401, "Unauthorized", "Send one authorization token") };
        if verify_slices_are_equal(given.as_bytes(), self.bearer.reveal().as_bytes()).is_err() {
            return told(401, "Unauthorized", "The authorization token is wrong");
        }
        match request.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["GET", PATH] => locked(&self.held).answer(now, instant),
            _ => told(404, "NotFound", "Keys are at `GET /credentials`"),
        }
    }
}

/// Answers for ever.
pub async fn serve(listener: TcpListener, state: Arc<State>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptors, for a moment.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            // A client that hangs up or is slow is its own business.
            let _ = timeout(REQUEST_TIMEOUT, speak(stream, &state)).await;
            drop(place);
        });
    }
}

async fn speak(mut stream: TcpStream, state: &State) -> io::Result<()> {
    let mut head = Zeroizing::new(Vec::new());
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut *head).await? == 0 {
            return Ok(());
        }
    };
    let (status, body) = match std::str::from_utf8(&head[..end]) {
        Ok(head) => state.answer(head, SystemClock.now().0, Instant::now()),
        Err(_) => told(400, "BadRequest", "This is not HTTP"),
    };
    let phrase = if status == 200 { "OK" } else { "No" };
    // One write: who reads once has it all.
    let answer = Zeroizing::new(format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n{}",
        body.len(),
        *body
    ));
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "GET /credentials HTTP/1.1\r\nHost: x\r\nAuthorization: right";

    fn state(life: i64) -> State {
        let aws = Aws {
            access_key_id: "ASIAEXAMPLE".to_owned(),
            secret_access_key: Secret::new("secret-of-aws".to_owned()),
            session_token: Secret::new("session-of-aws".to_owned()),
            region: None,
            account_id: "111122223333".to_owned(),
            assumed_role_arn: String::new(),
        };
        let held = Mutex::new(Held::new(aws, 1000, Instant::now(), life, None));
        State { bearer: Secret::new("right".to_owned()), held }
    }

    /// At this time of day, so many seconds after the keys came.
    fn later(state: &State, now: i64, passed: u64) -> (u16, Zeroizing<String>) {
        let since = state.held.lock().unwrap().since.unwrap();
        state.answer(ASKED, now, since + Duration::from_secs(passed))
    }

    #[test]
    fn nobody_without_the_token_learns_anything() {
        let state = state(900);
        let (status, body) = later(&state, 1000, 0);
        let keys: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &keys["SecretAccessKey"], &keys["Expiration"]),
            (200, &json!("secret-of-aws"), &json!("1970-01-01T00:31:40Z"))
        );
        for (head, expected) in [
            ("GET /credentials HTTP/1.1\r\nHost: x".to_owned(), 401),
            (ASKED.replace("right", "wrong"), 401),
            (ASKED.replace("right", ""), 401),
            (format!("{ASKED}\r\nAuthorization: right"), 401),
            (ASKED.replace("right", "right, right"), 401),
            (ASKED.replace("GET", "POST"), 404),
            (ASKED.replace("/credentials", "/credentials/x"), 404),
            (String::new(), 401),
        ] {
            let (status, body) = state.answer(&head, 1000, Instant::now());
            assert!(status == expected && !body.contains("of-aws"), "{head}: {status} {}", *body);
        }
    }

    #[test]
    fn nearly_dead_keys_are_given_to_nobody() {
        let long = state(900);
        assert_eq!(later(&long, 1840, 840).0, 200);
        assert_eq!(later(&long, 1841, 841).0, 503);
        long.held.lock().unwrap().refused = Some("Not any more".to_owned());
        assert_eq!(later(&long, 1840, 840).0, 200, "what is held is given until then");
        let (status, body) = later(&long, 1841, 841);
        assert!(status == 403 && body.contains("Not any more"), "{}", *body);
        let short = state(60);
        assert_eq!((later(&short, 1050, 50).0, later(&short, 1051, 51).0), (200, 503));
    }

    #[test]
    fn a_clock_that_is_set_and_a_machine_that_sleeps_make_keys_last_no_longer() {
        let state = state(900);
        let told =
            |now, passed| serde_json::from_str::<Value>(&later(&state, now, passed).1).unwrap()["Expiration"].clone();
        assert_eq!(told(1300, 300), "1970-01-01T00:31:40Z");
        // An hour back, after 300 s: clients that go by the same clock are told when that is by it.
        assert_eq!(told(-2300, 300), "1969-12-31T23:31:40Z");
        assert_eq!((later(&state, -2300, 840).0, later(&state, -2300, 841).0), (200, 503));
        // It slept for 800 s.
        assert_eq!((later(&state, 1840, 40).0, later(&state, 1841, 41).0), (200, 503));
    }
}
