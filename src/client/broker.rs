//! What is said to the broker. It is compared with what the caller expects before any token exists that could be lost to it.

use super::{
    answer::{Granted, Pending, parts, secrets},
    failure::{Failure, Kind},
    http::{Http, Reply, answered},
    refusal,
    text::plain_of,
};
use crate::secret::Secret;
use serde_json::Value;
use std::time::Duration;
use url::{Host, Url};

/// RFC 8693, section 2.1.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// OpenID Connect Client-Initiated Backchannel Authentication, section 10.1.
const CIBA: &str = "urn:openid:params:grant-type:ciba";
pub const UNREACHABLE: &str = "broker_unreachable";
/// Revoking is a courtesy at a job's end; nobody waits long for it.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The broker's URL as it is configured there, to the letter.
///
/// # Errors
/// Why it is none.
pub fn url(text: &str) -> Result<String, String> {
    let whole = |_| format!("`{text}` is no URL; write it whole, like `https://claimbound.example.com`");
    let url = Url::parse(text).map_err(whole)?;
    if !url.username().is_empty() || url.password().is_some() || text.contains(['?', '#']) {
        return Err("write a plain URL, without user, query and fragment".to_owned());
    }
    if text.ends_with('/') {
        return Err("it ends in a slash; write the broker's `public_url` exactly, without it".to_owned());
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("it names no host".to_owned()),
    };
    match url.scheme() {
        "https" => Ok(text.to_owned()),
        "http" if loopback => Ok(text.to_owned()),
        _ => Err("it must begin with `https://` (`http://` on loopback only): tokens travel to it".to_owned()),
    }
}

/// A broker as the caller names it.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where requests go.
    pub url: String,
    /// What CI tokens are asked for: given by the caller, never taken from an answer.
    pub audience: String,
}

/// What a job asks for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub role: Option<String>,
    /// Seconds.
    pub duration: Option<i64>,
}

/// What came of asking.
#[derive(Debug)]
pub enum Answered {
    Granted(Box<Granted>),
    Pending(Box<Pending>),
}

/// How a request to a person stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Waiting,
    SlowDown,
    Ready,
}

impl Broker {
    fn whom(&self) -> String {
        format!("The broker at {}", self.url)
    }

    /// Compares what the broker says of itself with what is expected of it; which Unix time it is there, if it tells.
    ///
    /// # Errors
    /// It is another one, or none; then no token may be asked for.
    pub async fn compare(&self, http: &Http, timeout: Duration) -> Result<Option<i64>, Failure> {
        let url = format!("{}/.well-known/claimbound", self.url);
        let reply = answered(http.get(&url, &[], timeout).await, &self.whom(), UNREACHABLE)?;
        self.follow_nothing(&reply)?;
        if reply.status != 200 || !reply.body.is_object() {
            let text = format!(
                "No claimbound broker answers at {}: {url} gave {}. Check the URL; no token was requested",
                self.url, reply.status
            );
            return Err(Failure::usage("answer_invalid", text));
        }
        let expected = [
            ("audience", self.audience.clone()),
            ("issuer", self.audience.clone()),
            ("token_endpoint", format!("{}/token", self.audience)),
        ];
        let wrong = expected.iter().filter(|(name, value)| reply.body[name].as_str() != Some(value));
        let lines: Vec<String> = wrong
            .map(|(name, value)| {
                let said = plain_of(&reply.body[name]);
                format!("  {name}: expected {value}, it says {}", if said.is_empty() { "nothing" } else { &said })
            })
            .collect();
        if lines.is_empty() {
            return Ok(reply.body["time"].as_i64());
        }
        let text = format!(
            "{} says that it is another one, so no token was requested:\n{}\nThe URL must be the broker's `public_url`, \
             exactly. If this is another address of the same broker, give its `public_url` as `--audience`. If you know \
             neither, do not go on: a token for another broker is what an impostor would want",
            self.whom(),
            lines.join("\n")
        );
        Err(Failure::usage("audience_mismatch", text))
    }

    /// One exchange. Secrets of the answer go to `mask` before anything else is done with it.
    ///
    /// # Errors
    /// The broker's refusal, or what may pass.
    pub async fn exchange(
        &self,
        http: &Http,
        ask: &Ask,
        token: &Secret,
        actor: Option<&Secret>,
        mask: &dyn Fn(&str),
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let duration = ask.duration.map(|seconds| seconds.to_string());
        let form = form(ask, token, actor, duration.as_deref());
        self.decided(http, self.post(http, &form, timeout).await?, ask, mask).await
    }

    /// What an exchange would be answered. It spends the token and gives nothing.
    ///
    /// # Errors
    /// The broker's refusal, or what may pass.
    pub async fn dry_run(
        &self,
        http: &Http,
        ask: &Ask,
        token: &Secret,
        actor: Option<&Secret>,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let duration = ask.duration.map(|seconds| seconds.to_string());
        let mut form = form(ask, token, actor, duration.as_deref());
        form.push(("dry_run", "true"));
        self.ask(http, ask, &form, timeout).await
    }

    /// The next credential of a job that gets no second token.
    ///
    /// # Errors
    /// The broker's refusal, or what may pass.
    pub async fn renew(
        &self,
        http: &Http,
        ask: &Ask,
        refresh: &Secret,
        token: &Secret,
        mask: &dyn Fn(&str),
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal()), ("subject_token", token.reveal())];
        self.decided(http, self.post(http, &form, timeout).await?, ask, mask).await
    }

    /// Whether somebody has answered for it. Spends nothing.
    ///
    /// # Errors
    /// A person said no, nobody did in time, or what may pass.
    pub async fn poll(&self, http: &Http, ask: &Ask, request: &Secret, timeout: Duration) -> Result<State, Failure> {
        let form = [("grant_type", CIBA), ("auth_req_id", request.reveal())];
        let reply = self.post(http, &form, timeout).await?;
        match (reply.body["error"].as_str(), reply.body["ready"].as_bool()) {
            (Some("slow_down"), _) => Ok(State::SlowDown),
            (Some("authorization_pending"), Some(true)) => Ok(State::Ready),
            (Some("authorization_pending"), _) => Ok(State::Waiting),
            _ => Err(self.refused(&reply, ask)),
        }
    }

    /// Trades what somebody answered for against the credential, with a token of this job that no exchange has seen.
    ///
    /// # Errors
    /// The broker's refusal, or what may pass.
    pub async fn redeem(
        &self,
        http: &Http,
        ask: &Ask,
        request: &Secret,
        token: &Secret,
        mask: &dyn Fn(&str),
        timeout: Duration,
    ) -> Result<Option<Granted>, Failure> {
        let form = [
            ("grant_type", CIBA),
            ("auth_req_id", request.reveal()),
            ("subject_token", token.reveal()),
            ("subject_token_type", ID_TOKEN),
        ];
        let reply = self.post(http, &form, timeout).await?;
        if matches!(reply.body["error"].as_str(), Some("authorization_pending" | "slow_down")) {
            return Ok(None);
        }
        match self.decided(http, reply, ask, mask).await? {
            Answered::Granted(granted) => Ok(Some(*granted)),
            Answered::Pending(_) => Ok(None),
        }
    }

    /// `POST /token` with a form of the caller's: the answer to a 200, whole.
    ///
    /// # Errors
    /// The broker's refusal, or what may pass.
    pub async fn ask(
        &self,
        http: &Http,
        ask: &Ask,
        form: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let reply = self.post(http, form, timeout).await?;
        if reply.status == 200 && reply.body.is_object() { Ok(reply.body) } else { Err(self.refused(&reply, ask)) }
    }

    async fn post(&self, http: &Http, form: &[(&str, &str)], timeout: Duration) -> Result<Reply, Failure> {
        let asked = http.post(&format!("{}/token", self.url), form, timeout).await;
        let reply = answered(asked, &self.whom(), UNREACHABLE)?;
        self.follow_nothing(&reply)?;
        Ok(reply)
    }

    async fn decided(&self, http: &Http, reply: Reply, ask: &Ask, mask: &dyn Fn(&str)) -> Result<Answered, Failure> {
        secrets(&reply.body).iter().for_each(|secret| mask(secret));
        if reply.body["error"].as_str() == Some("authorization_pending") {
            return Ok(Answered::Pending(Box::new(Pending::read(&reply.body, &self.audience)?)));
        }
        if reply.status != 200 || !reply.body.is_object() {
            return Err(self.refused(&reply, ask));
        }
        match Granted::read(&reply.body, ask.role.as_deref()) {
            Ok(granted) => Ok(Answered::Granted(Box::new(granted))),
            Err(failure) => Err(self.discarded(http, &reply.body, failure).await),
        }
    }

    /// An answer that is not to be used may have opened a lease all the same: one try to end it, and what came of it.
    async fn discarded(&self, http: &Http, body: &Value, failure: Failure) -> Failure {
        // What is too short to be masked is no handle, either.
        let Some(handle) = body["access_token"].as_str().filter(|handle| !parts(handle).is_empty()) else {
            return failure;
        };
        let end = match revoke(http, &self.url, &Secret::new(handle.to_owned())).await {
            Ok(()) => "Its lease is ended at the broker".to_owned(),
            Err(error) => format!("Its lease was not ended at the broker and runs out by itself. {error}"),
        };
        Failure { text: format!("{}. {end}", failure.text), ..failure }
    }

    fn refused(&self, reply: &Reply, ask: &Ask) -> Failure {
        if reply.body["error"].is_string() {
            return refusal::read(&reply.body, ask.role.as_deref());
        }
        let text = format!("{}/token gave {} and not what a broker answers", self.url, reply.status);
        Failure::new(Kind::Unavailable, "answer_invalid", text)
    }

    fn follow_nothing(&self, reply: &Reply) -> Result<(), Failure> {
        if !(300..400).contains(&reply.status) {
            return Ok(());
        }
        let text = format!(
            "{} redirects ({}), and redirects are not followed: a token would travel where nobody configured it. Give the \
             broker's own URL",
            self.url, reply.status
        );
        Err(Failure::usage("redirect", text))
    }
}

/// RFC 8693, section 2.1.
fn form<'a>(
    ask: &'a Ask,
    token: &'a Secret,
    actor: Option<&'a Secret>,
    duration: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![("grant_type", EXCHANGE), ("subject_token", token.reveal()), ("subject_token_type", ID_TOKEN)];
    form.extend(ask.role.as_deref().map(|role| ("audience", role)));
    form.extend(duration.map(|seconds| ("requested_expires_in", seconds)));
    if let Some(actor) = actor {
        form.extend([("actor_token", actor.reveal()), ("actor_token_type", JWT)]);
    }
    form
}

/// Ends a lease, or withdraws a request.
///
/// # Errors
/// The broker did not say that it did.
pub async fn revoke(http: &Http, broker_url: &str, handle: &Secret) -> Result<(), Failure> {
    let asked = http.post(&format!("{broker_url}/revoke"), &[("token", handle.reveal())], REVOKE_TIMEOUT).await;
    let reply = answered(asked, &format!("The broker at {broker_url}"), UNREACHABLE)?;
    match reply.status {
        200 => Ok(()),
        status => Err(Failure::passing(UNREACHABLE, format!("The broker at {broker_url} answered {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_s_url_is_its_public_url_to_the_letter() {
        for good in [
            "https://b.example",
            "https://b.example/ci",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert_eq!(url(good).as_deref(), Ok(good));
        }
        for (bad, part) in [
            ("https://b.example/", "slash"),
            ("http://b.example", "https://"),
            ("ftp://127.0.0.1", "https://"),
            ("https://user@b.example", "plain URL"),
            ("https://b.example?x", "plain URL"),
            ("b.example", "no URL"),
        ] {
            assert!(url(bad).unwrap_err().contains(part), "{bad}");
        }
    }
}
