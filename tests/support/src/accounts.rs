//! A code host where people show their account by OAuth, by GitHub's and GitLab's documentation: it gives each code once, to whoever
//! has the client's secret and the verifier, and tells the account of a token.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request beyond this is none.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

#[derive(Default)]
struct Held {
    /// Code → challenge, redirect, account.
    codes: BTreeMap<String, (String, String, Value)>,
    tokens: BTreeMap<String, Value>,
    /// What was asked for, path by path.
    asked: Vec<String>,
}

/// A running code host; it ends when it is dropped.
pub struct CodeHost {
    url: String,
    held: Arc<Mutex<Held>>,
    running: JoinHandle<()>,
}

impl Drop for CodeHost {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl CodeHost {
    /// Its OAuth application.
    pub const CLIENT_ID: &str = "Iv1.claimbound";
    pub const SECRET: &str = "secret of the code host";

    /// Starts one.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let held = Arc::new(Mutex::new(Held::default()));
        let own = held.clone();
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, own.clone()));
            }
        });
        Self { url, held, running }
    }

    /// Where people sign in.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Paths that were asked for, in their order.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn asked(&self) -> Vec<String> {
        self.held.lock().expect("no request panics").asked.clone()
    }

    /// What it gave for codes.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn tokens(&self) -> Vec<String> {
        self.held.lock().expect("no request panics").tokens.keys().cloned().collect()
    }

    /// A person who is signed in there goes to the address, and agrees: where their browser is sent.
    ///
    /// # Panics
    /// If the address is none of this code host's.
    pub fn agree(&self, url: &str, account: &Value) -> String {
        let of = |name: &str| {
            let query = reqwest::Url::parse(url).expect("it is an address");
            assert!(url.starts_with(&self.url), "{url}");
            query.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned())
        };
        let text = |name: &str| of(name).unwrap_or_else(|| panic!("no `{name}` in {url}"));
        assert_eq!((text("client_id").as_str(), text("response_type").as_str()), (Self::CLIENT_ID, "code"));
        assert_eq!(text("code_challenge_method"), "S256");
        let mut held = self.held.lock().expect("no request panics");
        let code = format!("code{}", held.codes.len());
        held.codes.insert(code.clone(), (text("code_challenge"), text("redirect_uri"), account.clone()));
        format!("{}?code={code}&state={}", text("redirect_uri"), text("state"))
    }
}

async fn answer(mut stream: TcpStream, held: Arc<Mutex<Held>>) {
    let Some(request) = read(&mut stream).await else { return };
    let (status, body) = told(&request, &mut held.lock().expect("no request panics"));
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Whoever is gone has no use for it.
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut room) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut room).await {
            Ok(read @ 1..) if bytes.len() < REQUEST_BYTES_MAX => bytes.extend_from_slice(&room[..read]),
            _ => return None,
        }
    }
}

fn told(request: &str, held: &mut Held) -> (u16, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    let mut line = head.split(' ');
    let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
    held.asked.push(format!("{method} {path}"));
    let header = |name: &str| {
        let values = head.lines().filter_map(|line| line.split_once(": "));
        values.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    };
    if header("user-agent").is_empty() {
        return (403, json!({ "message": "administrative rules need a user agent" }));
    }
    match (method, path) {
        ("POST", "/login/oauth/access_token" | "/oauth/token") => {
            let query = reqwest::Url::parse(&format!("http://host/?{body}")).expect("a form");
            let of =
                |name: &str| query.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned());
            let text = |name: &str| of(name).unwrap_or_default();
            let client = text("client_id") == CodeHost::CLIENT_ID && text("client_secret") == CodeHost::SECRET;
            let taken = held.codes.remove(&text("code"));
            let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text("code_verifier").as_bytes()));
            match taken {
                Some((expected, redirect, account))
                    if client && expected == challenge && redirect == text("redirect_uri") =>
                {
                    let token = format!("gho_{challenge}");
                    held.tokens.insert(token.clone(), account);
                    (200, json!({ "access_token": token, "token_type": "bearer", "scope": "" }))
                }
                // As GitHub says it: with status 200.
                _ => (200, json!({ "error": "bad_verification_code", "error_description": "expired" })),
            }
        }
        ("GET", "/api/v3/user" | "/api/v4/user") => {
            let token = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
            match held.tokens.get(token) {
                Some(account) => (200, account.clone()),
                None => (401, json!({ "message": "Bad credentials" })),
            }
        }
        _ => (404, json!({ "message": "Not Found" })),
    }
}
