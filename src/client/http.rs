//! One request, one answer, within a time and a size. Redirects are answers like any other: nothing follows them. Proxies
//! are the environment's, as every tool of a job takes them; authorities beside the system's come from one file.

use super::{failure::Failure, text};
use crate::net::{Answer, Call, Client, FetchRules};
use crate::secret::Secret;
use serde_json::Value;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

const BODY_BYTES_MAX: usize = 256 * 1024;
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longer than any command tries, and short enough to be added to the time.
const RETRY_AFTER_SECONDS_MAX: u64 = 3600;
const FORM: &str = "application/x-www-form-urlencoded";

/// Where and how a job's requests go.
pub struct Http {
    client: Client,
    ca_file: Option<PathBuf>,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    retry_after: Option<Duration>,
    /// Null if the body is no JSON.
    pub body: Value,
}

impl Http {
    /// # Errors
    /// The file holds no certificate: said now, since later it would look like a broker that is away.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = ca_file {
            let mut pem = String::new();
            let read = File::open(path).and_then(|file| file.take(CA_FILE_BYTES_MAX).read_to_string(&mut pem));
            read.map_err(|error| Failure::file("read", path, &error))?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                return Err(Failure::usage("ca_file", format!("`{}` holds no certificate in PEM", path.display())));
            }
        }
        let client = Client::through_proxies().map_err(|error| Failure::usage("http", error.to_string()))?;
        Ok(Self { client, ca_file: ca_file.map(Path::to_owned) })
    }

    pub async fn get(&self, url: &str, headers: &[(&str, &Secret)], timeout: Duration) -> Result<Reply, String> {
        self.send(&Call { method: "GET", url, headers, body: None }, timeout).await
    }

    pub async fn post(&self, url: &str, form: &[(&str, &str)], timeout: Duration) -> Result<Reply, String> {
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form);
        let body = Zeroizing::new(body.finish());
        self.send(&Call { method: "POST", url, headers: &[], body: Some((FORM, body.as_bytes())) }, timeout).await
    }

    async fn send(&self, call: &Call<'_>, timeout: Duration) -> Result<Reply, String> {
        let rules = FetchRules {
            allow_private_network: true,
            allow_plain_loopback: true,
            ca_file: self.ca_file.as_deref(),
            bytes_max: BODY_BYTES_MAX,
            timeout,
        };
        let answer = self.client.call(call, &rules).await.map_err(|error| text::plain(&error.why))?;
        let seconds = Answer::header(&answer, "retry-after").and_then(|value| value.parse().ok());
        let seconds = seconds.map(|seconds: u64| seconds.min(RETRY_AFTER_SECONDS_MAX));
        let body = Zeroizing::new(answer.body);
        Ok(Reply {
            status: answer.status,
            retry_after: seconds.map(Duration::from_secs),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }
}

/// What came, unless another try may help: no answer, 429, 5xx.
pub fn answered(asked: Result<Reply, String>, whom: &str, reason: &str) -> Result<Reply, Failure> {
    let reply = match asked {
        Ok(reply) => reply,
        Err(why) => return Err(Failure::passing(reason, format!("{whom} cannot be reached: {why}"))),
    };
    if reply.status != 429 && reply.status < 500 {
        return Ok(reply);
    }
    let told = text::word(&reply.body, "reason");
    let decision = text::decision_id(&reply.body);
    let mut said: Vec<String> = told.map(|told| format!("`{told}`")).into_iter().collect();
    if !decision.is_empty() {
        said.push(format!("decision {decision}"));
    }
    let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) };
    let failure =
        Failure::passing(told.unwrap_or(reason), format!("{whom} answered {}{said}", reply.status)).decided(decision);
    Err(Failure { again: Some(reply.retry_after.unwrap_or_default()), ..failure })
}
