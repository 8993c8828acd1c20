//! A double of the forges' APIs for `claimbound pin`, written by hand from the REST documentation of GitHub
//! (`/repos/{owner}/{repo}`, `/users/{name}`, `/user/{id}`, and `/repositories/{id}`, where redirects of renamed repositories
//! lead) and GitLab (`/projects/:id`, `/namespaces/:id`, both by number or by path with `%2F`). No forge was asked.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::TcpListener as StdListener,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Ids that the double makes up begin here.
const MADE_UP_FROM: u64 = 600_000_000;

/// What the double does with the next calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Answers for what was put into it.
    #[default]
    Right,
    /// Knows every name, with an id of [`made_up`].
    KnowsAll,
    /// The rate limit is used up.
    Limited,
    /// Answers with this status.
    Status(u16),
    /// Answers 200 with something else.
    Garble,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// Repositories: name → id.
    repositories: BTreeMap<String, u64>,
    owners: BTreeMap<String, u64>,
    /// Old names that lead to a repository's id.
    moved: BTreeMap<String, u64>,
    /// Path, and the token that came with it.
    asked: Vec<(String, Option<String>)>,
}

/// The double.
pub struct Forge {
    address: String,
    state: Arc<Mutex<State>>,
}

/// The id that [`Mood::KnowsAll`] gives a name.
pub fn made_up(name: &str) -> u64 {
    let hash = name.to_ascii_lowercase().bytes().fold(7_u64, |hash, byte| (hash * 31 + u64::from(byte)) % 99_999_989);
    MADE_UP_FROM + hash
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no test panics with the state in hand")
}

impl Forge {
    /// Serves on a free port, within the test's runtime.
    #[allow(clippy::new_without_default, reason = "opening a listener is no default")]
    pub fn new() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("the runtime takes the listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// For `--api` of a GitHub.
    pub fn github(&self) -> String {
        self.address.clone()
    }
    /// For `--api` of a GitLab.
    pub fn gitlab(&self) -> String {
        format!("{}/api/v4", self.address)
    }
    pub fn mood(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }
    pub fn repository(&self, name: &str, id: u64) {
        lock(&self.state).repositories.insert(name.to_owned(), id);
    }
    pub fn owner(&self, name: &str, id: u64) {
        lock(&self.state).owners.insert(name.to_owned(), id);
    }
    /// Gives a repository another name; the old one redirects.
    pub fn rename(&self, old: &str, new: &str) {
        let mut state = lock(&self.state);
        let id = state.repositories.remove(old).expect("the repository is there");
        state.repositories.insert(new.to_owned(), id);
        state.moved.insert(old.to_owned(), id);
    }
    pub fn delete(&self, name: &str) {
        lock(&self.state).repositories.remove(name);
    }
    /// Paths that were asked for, each with the token that came with it.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        lock(&self.state).asked.clone()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut read = Vec::new();
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        if read.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&read);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let token = header("authorization").or_else(|| header("private-token"));
    let (status, headers, body) = {
        let mut state = lock(&state);
        state.asked.push((path.clone(), token));
        match state.mood.clone() {
            Mood::Limited => (
                403,
                "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1800000000\r\n".to_owned(),
                json!({ "message": "limit" }),
            ),
            Mood::Status(status) => (status, String::new(), json!({})),
            Mood::Garble => (200, String::new(), json!(["what"])),
            mood => answer(&path, &state, mood == Mood::KnowsAll),
        }
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(path: &str, state: &State, knows_all: bool) -> (u16, String, Value) {
    let parts: Vec<String> =
        path.trim_start_matches('/').split('/').map(|part| part.replace("%2F", "/").replace("%2f", "/")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let by_name = |of: &BTreeMap<String, u64>, name: &str| {
        let known = of.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(name, id)| (name.clone(), *id));
        known.or_else(|| knows_all.then(|| (name.to_owned(), made_up(name))))
    };
    let by_id = |of: &BTreeMap<String, u64>, id: &str| {
        of.iter().find(|(_, known)| known.to_string() == id).map(|(name, id)| (name.clone(), *id))
    };
    let of = |of: &BTreeMap<String, u64>, text: &str| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) { by_id(of, text) } else { by_name(of, text) }
    };
    let gitlab = parts.first() == Some(&"api");
    let (found, wanted) = match parts.as_slice() {
        ["repos", owner, name] => (by_name(&state.repositories, &format!("{owner}/{name}")), format!("{owner}/{name}")),
        ["repositories", id] => (by_id(&state.repositories, id), String::new()),
        ["users", name] => (by_name(&state.owners, name), String::new()),
        ["user", id] => (by_id(&state.owners, id), String::new()),
        ["api", "v4", "projects", text] => (of(&state.repositories, text), (*text).to_owned()),
        ["api", "v4", "namespaces", text] => (of(&state.owners, text), String::new()),
        _ => return (400, String::new(), json!({ "message": "no such path" })),
    };
    match (found, state.moved.get(&wanted)) {
        (Some((name, id)), _) => {
            let keys = if gitlab { ["path_with_namespace", "full_path"] } else { ["full_name", "login"] };
            (200, String::new(), json!({ "id": id, keys[0]: name, keys[1]: name }))
        }
        (None, Some(id)) => {
            (301, format!("location: /repositories/{id}\r\n"), json!({ "message": "Moved Permanently" }))
        }
        (None, None) => (404, String::new(), json!({ "message": "Not Found" })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[tokio::test]
    async fn names_ids_and_redirects_are_answered_as_documented() {
        let forge = Forge::new();
        forge.repository("acme/api", 7);
        forge.owner("acme", 65);
        let get = async |path: &str| http::get(&format!("{}{path}", forge.github())).await;
        assert_eq!(get("/repos/Acme/api").await.body["id"], 7);
        assert_eq!(get("/users/acme").await.body["login"], "acme");
        assert_eq!(get("/api/v4/projects/acme%2Fapi").await.body["path_with_namespace"], "acme/api");
        forge.rename("acme/api", "acme/new");
        assert_eq!(get("/repos/acme/api").await.status, 301);
        assert_eq!(get("/repositories/7").await.body["full_name"], "acme/new");
        assert_eq!(get("/repos/acme/none").await.status, 404);
        assert_eq!(forge.asked().len(), 6);
    }
}
