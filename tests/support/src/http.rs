//! A few lines over the HTTP client, so that tests read as request and answer.

use serde_json::Value;
use std::{sync::OnceLock, time::Duration};

/// A test's request may take this long, then the test fails rather than hangs.
const REQUEST_SECONDS: u64 = 30;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// The body as JSON; null when it is not JSON.
    pub body: Value,
}

impl Answer {
    /// A header's value as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header is text"))
    }

    /// A member of the body as text; panics with the whole answer when there is none.
    pub fn text_of(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {} {}", self.status, self.text))
    }
}

/// A client that follows no redirect, uses no proxy and keeps no connection, so that it may outlive a test's runtime.
pub fn client() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let build = || {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(REQUEST_SECONDS))
            .build()
            .expect("the HTTP client can be built")
    };
    CLIENT.get_or_init(build).clone()
}

/// Sends; `Err` only when no answer came at all.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, headers, text, body })
}

/// GET that must be answered.
pub async fn get(url: &str) -> Answer {
    send(client().get(url)).await.unwrap_or_else(|error| panic!("GET {url}: {error:?}"))
}

/// POST of a form that must be answered.
pub async fn post_form(url: &str, form: &[(&str, &str)]) -> Answer {
    send(client().post(url).form(form)).await.unwrap_or_else(|error| panic!("POST {url}: {error:?}"))
}
