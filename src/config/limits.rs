//! `[server.limits]`: what clients may take.

use super::Judge;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// Open connections that may be configured.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Time for a request that may be configured; a stop waits for those that run.
pub const REQUEST_SECONDS_MAX: u32 = 300;

/// `[server.limits]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Limits {
    /// Open connections, over all workers.
    pub connections: usize,
    /// Requests to `/token` and `/revoke` per second and network prefix before the token is read, in bursts of ten
    /// times that; 0 is no limit.
    pub requests_per_second: u32,
    /// The same of exchanges per issuer and immutable repository id, once a token has proven them.
    pub repository_requests_per_second: u32,
    /// Introspections per second and resource server, in bursts of ten times that; 0 is no limit.
    pub introspections_per_second: u32,
    /// Time to send a request's head, and again its body.
    pub request_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests_per_second: 200,
            repository_requests_per_second: 50,
            introspections_per_second: 1_000,
            request_seconds: 10,
        }
    }
}

#[derive(Default, Deserialize)]
pub(super) struct LimitsFile {
    connections: Option<Spanned<usize>>,
    requests_per_second: Option<u32>,
    repository_requests_per_second: Option<u32>,
    introspections_per_second: Option<u32>,
    request_seconds: Option<Spanned<u32>>,
}

impl Judge {
    /// Zero is no way to write "no limit" here: no connection could be made, no request could be sent.
    pub(super) fn limits(&mut self, file: LimitsFile) -> Limits {
        let default = Limits::default();
        let connections = self.within(file.connections, "connections", 1..=CONNECTIONS_MAX);
        let request_seconds = self.within(file.request_seconds, "request_seconds", 1..=REQUEST_SECONDS_MAX);
        Limits {
            connections: connections.unwrap_or(default.connections),
            requests_per_second: file.requests_per_second.unwrap_or(default.requests_per_second),
            repository_requests_per_second: file
                .repository_requests_per_second
                .unwrap_or(default.repository_requests_per_second),
            introspections_per_second: file.introspections_per_second.unwrap_or(default.introspections_per_second),
            request_seconds: request_seconds.unwrap_or(default.request_seconds),
        }
    }
}
