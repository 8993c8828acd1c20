//! The comments of pull requests at GitHub and the notes of merge requests at GitLab, for workflows that write them.
//!
//! A double, for neither service can be had here, written against their documentation:
//! <https://docs.github.com/en/rest/issues/comments> and <https://docs.gitlab.com/api/notes/#merge-requests>.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What [`Comments`] demand of a request.
pub const TOKEN: &str = "token-of-the-bench";
/// Who the token is.
const SELF_ID: u64 = 41;
/// Where the comments of pull request 7 are at GitHub, and the notes of merge request 7 at GitLab.
const LISTS: [&str; 2] = ["/repos/acme/payments-api/issues/7/comments", "/projects/5/merge_requests/7/notes"];
/// Where one is, before its id.
const ONES: [&str; 2] = ["/repos/acme/payments-api/issues/comments/", "/projects/5/merge_requests/7/notes/"];

/// One comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comment {
    pub id: u64,
    /// By the token's user, or by somebody else.
    pub own: bool,
    pub body: String,
}

/// The double, as long as the test's runtime lives.
pub struct Comments {
    url: String,
    all: Arc<Mutex<Vec<Comment>>>,
}

impl Comments {
    /// Listens on loopback.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let all = Arc::new(Mutex::new(Vec::new()));
        let (seen, base) = (all.clone(), url.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, base.clone(), seen.clone()));
            }
        });
        Self { url, all }
    }

    /// The base of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Comment> {
        lock(&self.all).clone()
    }

    /// Somebody else writes.
    pub fn stranger(&self, body: &str) {
        add(&mut lock(&self.all), false, body);
    }
}

fn lock(all: &Mutex<Vec<Comment>>) -> MutexGuard<'_, Vec<Comment>> {
    all.lock().expect("nobody panics here")
}

fn add(all: &mut Vec<Comment>, own: bool, body: &str) -> Comment {
    let comment = Comment { id: 1_000 + all.len() as u64, own, body: body.to_owned() };
    all.push(comment.clone());
    comment
}

async fn serve(stream: TcpStream, base: String, all: Arc<Mutex<Vec<Comment>>>) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().expect("a length is a number");
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let known = [format!("authorization: bearer {TOKEN}"), format!("private-token: {TOKEN}")];
    let (status, answer) = match head.iter().any(|line| known.contains(&line.to_ascii_lowercase())) {
        true => answer(&head[0], &String::from_utf8_lossy(&body), &base, &mut lock(&all)),
        false => ("401 Unauthorized", json!({ "message": "Bad credentials" })),
    };
    let answer = answer.to_string();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    );
    // A client that goes away is no error of the service's.
    let _ = stream.write_all(text.as_bytes()).await;
}

fn answer(request: &str, body: &str, base: &str, all: &mut Vec<Comment>) -> (&'static str, Value) {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let list = LISTS.contains(&path);
    let one = ONES.iter().find_map(|one| path.strip_prefix(one)).and_then(|id| id.parse::<u64>().ok());
    let show = |comment: &Comment| {
        json!({
            "id": comment.id, "body": comment.body,
            "url": format!("{base}{}{}", ONES[0], comment.id),
            "user": { "type": if comment.own { "Bot" } else { "User" } },
            "author": { "id": if comment.own { SELF_ID } else { SELF_ID + 1 } },
        })
    };
    match (method, list, one) {
        ("GET", true, _) => ("200 OK", all.iter().map(show).collect()),
        ("GET", ..) if path == "/user" => ("200 OK", json!({ "id": SELF_ID })),
        ("POST", true, _) => ("201 Created", show(&add(all, true, &text_of(body)))),
        // GitHub changes by PATCH, GitLab by PUT; only the author may.
        ("PATCH" | "PUT", _, Some(id)) => match all.iter_mut().find(|comment| comment.id == id && comment.own) {
            Some(comment) => {
                comment.body = text_of(body);
                ("200 OK", show(comment))
            }
            None => ("403 Forbidden", json!({ "message": "Forbidden" })),
        },
        _ => ("404 Not Found", json!({ "message": "Not Found" })),
    }
}

/// GitHub takes JSON, GitLab a form as well.
fn text_of(body: &str) -> String {
    let of_json = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body["body"].as_str()?.to_owned()));
    of_json.unwrap_or_else(|| {
        let url = reqwest::Url::parse(&format!("http://localhost/?{body}")).expect("a form is a query");
        let member = url.query_pairs().find(|(name, _)| name == "body");
        member.map(|(_, text)| text.into_owned()).expect("a comment has a body")
    })
}
