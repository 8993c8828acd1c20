//! To a collector: OTLP over HTTP with binary protobuf (OpenTelemetry Protocol 1.x, "OTLP/HTTP"), by the one HTTP client.
//! What was built by the official message types is sent from here; nobody who waits for an answer of the broker waits for
//! a collector's.

use crate::{
    net::{Call, Client, FetchRules},
    secret::{Place, Secret},
};
use std::{path::PathBuf, time::Duration};

/// One request, with its answer.
const SEND_SECONDS_MAX: u64 = 10;
/// Answers say what was refused, no more.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A secret in a header.
const HEADER_BYTES_MAX: u64 = 8 * 1024;
/// Of an answer, what an error repeats.
const ANSWER_CHARACTERS_TOLD_MAX: usize = 200;

/// Where a collector is, and what it asks of us.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Settings {
    /// Without a slash at the end; `/v1/traces` and `/v1/logs` stand below it.
    pub endpoint: String,
    /// Headers whose values are secrets.
    pub headers: Vec<(String, Place)>,
    pub ca_file: Option<PathBuf>,
}

/// One collector.
pub struct Otlp {
    client: Client,
    settings: Settings,
}

/// Of which signal a message is.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Traces,
    Logs,
}

impl Otlp {
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings }
    }

    /// Sends one message. An answer that says that some of it was refused counts as taken: it would be refused again.
    ///
    /// # Errors
    /// It was not taken; for the log.
    pub async fn send(&self, signal: Signal, message: Vec<u8>) -> Result<(), String> {
        let path = match signal {
            Signal::Traces => "v1/traces",
            Signal::Logs => "v1/logs",
        };
        // Read anew: a token that was replaced needs no restart.
        let headers = self.settings.headers.iter().map(|(name, place)| {
            let told = |why: String| format!("the header `{name}` in {place} {why}");
            let bytes = place.read(HEADER_BYTES_MAX).map_err(told)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| told("is not UTF-8".to_owned()))?;
            Ok((name.as_str(), Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
        });
        let headers: Vec<(&str, Secret)> = headers.collect::<Result<_, String>>()?;
        let headers: Vec<(&str, &Secret)> = headers.iter().map(|(name, value)| (*name, value)).collect();
        // The operator names the host: it may be inside. Plain HTTP goes no further than this machine.
        let rules = FetchRules {
            allow_private_network: true,
            allow_plain_loopback: true,
            ca_file: self.settings.ca_file.as_deref(),
            bytes_max: ANSWER_BYTES_MAX,
            timeout: Duration::from_secs(SEND_SECONDS_MAX),
        };
        let url = format!("{}/{path}", self.settings.endpoint);
        let body = Some(("application/x-protobuf", &*message));
        let posted = self.client.call(&Call { method: "POST", url: &url, headers: &headers, body }, &rules).await;
        match posted {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                let told: String = text.chars().filter(|c| !c.is_control()).take(ANSWER_CHARACTERS_TOLD_MAX).collect();
                Err(format!("{url} answered {}: {told}", answer.status))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
