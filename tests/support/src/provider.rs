//! An OpenID provider of people that nobody here wrote (oidc-provider), and a person with a browser.

use crate::{
    command::command,
    http::{self, Answer},
    tools::Tools,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout},
    time::timeout,
};

/// It listens within this, on a busy machine too.
const READY_SECONDS: u64 = 60;
/// Pages and redirects on the way of one sign-in.
const STEPS_MAX: usize = 20;

/// A running provider; stopped by its own process id when it is dropped.
pub struct Provider {
    issuer: String,
    /// It writes there later, too, and ends if nobody could read it.
    _stdout: BufReader<ChildStdout>,
    _child: Child,
    _home: TempDir,
}

impl Provider {
    /// The secret of its client `confidential`; `public` has none.
    pub const SECRET: &str = "secret of the provider";

    /// Starts one that knows these logins, each with its claims.
    ///
    /// # Panics
    /// If Node or the provider is not installed, or does not start.
    pub async fn start(accounts: &Value) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let log = std::fs::File::create(home.path().join("log")).expect("a log can be made");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/provider.mjs");
        let mut child = command(&Tools::young_node(), home.path())
            .arg(script)
            .env("CLAIMBOUND_TEST_TOOLS", Tools::directory())
            .env("ACCOUNTS", accounts.to_string())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("Node starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let read = timeout(Duration::from_secs(READY_SECONDS), stdout.read_line(&mut line)).await;
        let ready: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&line).ok());
        let told = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
        let ready = ready.unwrap_or_else(|| panic!("the provider does not start: {line}{}", told()));
        let issuer = ready["issuer"].as_str().expect("it says its issuer").to_owned();
        Self { issuer, _stdout: stdout, _child: child, _home: home }
    }

    /// Its exact `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// A person at a browser: follows redirects, keeps cookies, fills in forms.
#[derive(Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Goes to an address and signs in as `login` wherever that is asked, until the way leads away from the provider or
    /// no page asks anything more: where it led to, or the last page.
    ///
    /// # Panics
    /// If the way does not end.
    pub async fn sign_in(&mut self, url: &str, login: &str) -> Result<String, Answer> {
        let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let (mut url, mut form) = (url.to_owned(), None);
        for _ in 0..STEPS_MAX {
            let page = self.open(&url, form.take()).await;
            if (300..400).contains(&page.status) {
                let to = page.header("location").to_owned();
                url = if to.starts_with('/') { format!("{origin}{to}") } else { to };
                if !url.starts_with(&format!("{origin}/")) {
                    return Ok(url);
                }
                continue;
            }
            let Some((action, fields)) = read_form(&page.text, login) else { return Err(page) };
            url = if action.starts_with('/') { format!("{origin}{action}") } else { action };
            form = Some(fields);
        }
        panic!("the sign-in does not end: {url}");
    }

    async fn open(&mut self, url: &str, form: Option<Vec<(String, String)>>) -> Answer {
        let request = match &form {
            Some(fields) => http::client().post(url).form(fields),
            None => http::client().get(url),
        };
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = http::send(request.header("cookie", cookies.join("; "))).await;
        let answer = answer.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        for cookie in answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok()) {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
            if let Some((name, value)) = pair {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// The one form of a page, with its hidden fields and what a person types.
fn read_form(page: &str, login: &str) -> Option<(String, Vec<(String, String)>)> {
    let form = &page[page.find("<form")?..];
    let form = form.split("</form>").next()?;
    let action = attribute(form, "action")?;
    let fields = form.split("<input").skip(1).filter_map(|input| {
        let input = input.split('>').next()?;
        let name = attribute(input, "name")?;
        let typed = match name.as_str() {
            "login" => Some(login.to_owned()),
            "password" => Some("any".to_owned()),
            _ => attribute(input, "value"),
        };
        Some((name, typed?))
    });
    Some((action, fields.collect()))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    Some(value.replace("&amp;", "&").replace("&#39;", "'").replace("&quot;", "\""))
}
