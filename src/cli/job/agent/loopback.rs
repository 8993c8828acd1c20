//! The server that AWS clients ask for keys, as the containers of AWS have one:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>. Other users of the machine reach it, too; they
//! learn nothing from it, and cannot keep it from its own clients for long.

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
    time::Duration,
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
    keys: Option<Secret>,
    /// Unix seconds.
    pub at: i64,
    pub expires: i64,
    pub refresh: Option<Secret>,
    /// Why there will be no others.
    pub refused: Option<String>,
}

impl Held {
    pub fn new(aws: &Aws, at: i64, life: i64, refresh: Option<Secret>) -> Self {
        let keys = json!({
            "AccessKeyId": aws.access_key_id, "SecretAccessKey": aws.secret_access_key.reveal(),
            "Token": aws.session_token.reveal(), "Expiration": moment(at + life), "AccountId": aws.account_id,
        });
        Self { keys: Some(Secret::new(keys.to_string())), at, expires: at + life, refresh, refused: None }
    }

    /// Status and body at this time.
    fn answer(&self, now: i64) -> (u16, Zeroizing<String>) {
        let least = LEFT_SECONDS_MIN.min((self.expires - self.at) / 6);
        match (&self.keys, &self.refused) {
            (Some(keys), _) if self.expires - now >= least => (200, Zeroizing::new(keys.reveal().to_owned())),
            (_, Some(why)) => told(403, "Refused", why),
            _ => told(503, "NotRenewed", "The keys have ended, and the broker could not be asked for others yet"),
        }
    }
}

fn told(status: u16, code: &str, message: &str) -> (u16, Zeroizing<String>) {
    let body: Value = json!({ "code": code, "message": message });
    (status, Zeroizing::new(body.to_string()))
}

impl State {
    /// Status and body. The authorization token is judged first: who does not know it learns not even what is here.
    fn answer(&self, head: &str, now: i64) -> (u16, Zeroizing<String>) {
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
            ["GET", PATH] => locked(&self.held).answer(now),
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
    let now = SystemClock.now().0;
    let (status, body) = match std::str::from_utf8(&head[..end]) {
        Ok(head) => state.answer(head, now),
        Err(_) => told(400, "BadRequest", "This is not HTTP"),
    };
    let phrase = if status == 200 { "OK" } else { "No" };
    let head = format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
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
        let held = Mutex::new(Held::new(&aws, 1000, life, None));
        State { bearer: Secret::new("right".to_owned()), held }
    }

    #[test]
    fn nobody_without_the_token_learns_anything() {
        let state = state(900);
        let (status, body) = state.answer(ASKED, 1000);
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
            let (status, body) = state.answer(&head, 1000);
            assert!(status == expected && !body.contains("of-aws"), "{head}: {status} {}", *body);
        }
    }

    #[test]
    fn nearly_dead_keys_are_given_to_nobody() {
        let long = state(900);
        assert_eq!(long.answer(ASKED, 1840).0, 200);
        assert_eq!(long.answer(ASKED, 1841).0, 503);
        long.held.lock().unwrap().refused = Some("Not any more".to_owned());
        assert_eq!(long.answer(ASKED, 1840).0, 200, "what is held is given until then");
        let (status, body) = long.answer(ASKED, 1841);
        assert!(status == 403 && body.contains("Not any more"), "{}", *body);
        let short = state(60);
        assert_eq!((short.answer(ASKED, 1050).0, short.answer(ASKED, 1051).0), (200, 503));
    }
}
