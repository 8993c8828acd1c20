//! Sign-in of people, step by step, and what they hold afterwards.

use super::{broker, respond, say};
use crate::{
    broker::{SignInFailed, SignedIn, Who},
    http::{answer::Reply, front::Shared, limit},
    operators::Operator,
    people::{Begun, BegunDevice, PRESENTED_BYTES_MAX, Redirect, Returned, SIGN_IN_SECONDS},
    secret::Secret,
};
use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    web::{Data, ReqData},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::json;

/// A text that a person's program brings: bounded, wiped when dropped.
pub struct Brought(pub Secret);

impl<'de> Deserialize<'de> for Brought {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.len() {
            1..=PRESENTED_BYTES_MAX => Ok(Self(Secret::new(text))),
            _ => Err(D::Error::custom("it is empty or too long")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// Left out where the configuration has one alone.
    sign_in: Option<String>,
    /// Where the program listens on loopback; without it, another device.
    port: Option<u16>,
    #[serde(default)]
    device: bool,
}

/// The end of a sign-in, as a person's program sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    sign_in: String,
    device_code: Option<Brought>,
    port: Option<u16>,
    code: Option<Brought>,
    verifier: Option<Brought>,
    state: Option<String>,
    iss: Option<String>,
}

/// `POST /operator/sign-in`: where to go on, in a browser or on another device.
pub async fn sign_in(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(begin(&request, &shared).await)
}

async fn begin(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    limit::sign_in_rate(request, shared).map_err(say::later)?;
    let Begin { sign_in, port, device } = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let broker = broker(shared)?;
    let name = sign_in.as_deref();
    match (port, device) {
        (Some(port), false) if port > 0 => {
            let (name, begun) = broker.begin_sign_in(name, port).await.map_err(failed)?;
            Ok(going(&name, &begun))
        }
        (None, true) => {
            let (name, begun) = broker.begin_device(name).await.map_err(failed)?;
            Ok(going_elsewhere(&name, &begun))
        }
        _ => Err(neither()),
    }
}

/// Where a person goes on, in a browser.
pub fn going(sign_in: &str, begun: &Begun) -> Reply {
    say::ok(&json!({
        "sign_in": sign_in,
        "authorization_url": begun.authorization_url,
        "verifier": begun.verifier.reveal(),
        "state": begun.state,
        "expires_in": SIGN_IN_SECONDS,
    }))
}

/// Where a person goes on, on another device.
pub fn going_elsewhere(sign_in: &str, begun: &BegunDevice) -> Reply {
    say::ok(&json!({
        "sign_in": sign_in,
        "device_code": begun.device_code.reveal(),
        "user_code": begun.user_code,
        "verification_uri": begun.verification_uri,
        "verification_uri_complete": begun.verification_uri_complete,
        "interval": begun.interval_seconds,
        "expires_in": begun.expires_in_seconds,
    }))
}

/// A beginning that says neither where the browser is to come back to, nor that there is none.
pub fn neither() -> Reply {
    say::invalid("send `port`, where the program listens on 127.0.0.1, or `device`: true")
}

/// What a person's program brings from the provider.
pub enum Brings<'f> {
    /// From a browser that came back to the program.
    Browser(Returned<'f>),
    /// What asks about another device.
    Device(&'f Secret),
}

impl Finish {
    /// The sign-in's name, and what was brought from there.
    ///
    /// # Errors
    /// It is neither whole.
    pub fn brings(&self) -> Result<(&str, Brings<'_>), Reply> {
        let brings = match self {
            Self { port: Some(port), code: Some(code), verifier: Some(verifier), state: Some(state), iss, .. } => {
                Brings::Browser(Returned {
                    redirect: Redirect::Loopback { port: *port },
                    code: &code.0,
                    verifier: &verifier.0,
                    state,
                    issuer: iss.as_deref(),
                })
            }
            Self { device_code: Some(code), .. } => Brings::Device(&code.0),
            _ => return Err(say::invalid("send `port`, `code`, `verifier` and `state`, or `device_code`")),
        };
        Ok((&self.sign_in, brings))
    }
}

/// `POST /operator/session`: the end of a sign-in.
pub async fn finish(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(end(&request, &shared).await)
}

async fn end(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    limit::sign_in_rate(request, shared).map_err(say::later)?;
    let asked: Finish = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let broker = broker(shared)?;
    let (sign_in, brings) = asked.brings()?;
    match brings {
        Brings::Browser(returned) => {
            broker.finish_sign_in(sign_in, &returned).await.map(|signed_in| session(&signed_in)).map_err(failed)
        }
        Brings::Device(code) => match broker.poll_device(sign_in, code).await.map_err(failed)? {
            Ok(signed_in) => Ok(session(&signed_in)),
            Err(interval_seconds) => Ok(say::pending(interval_seconds)),
        },
    }
}

fn session(signed_in: &SignedIn) -> Reply {
    let SignedIn { token, operator, expires } = signed_in;
    say::ok(&json!({
        "token": token.reveal(),
        "operator": operator.name(),
        "may": operator.may().collect::<Vec<_>>(),
        "expires_at": expires.0,
    }))
}

/// Why nobody was signed in.
pub fn failed(why: SignInFailed) -> Reply {
    match why {
        SignInFailed::Which(names) if names.is_empty() => {
            say::not_found("nobody can sign in here: the configuration has no `[[sign_in]]`")
        }
        SignInFailed::Which(names) => say::invalid(&format!("name a `sign_in`, one of `{}`", names.join("`, `"))),
        SignInFailed::NotAccepted => say::refused("the sign-in was not accepted; the broker's log says why"),
        SignInFailed::NoOperator { name } => {
            say::refused(&format!("you are `{name}`, and no `[[operator]]` of the configuration is about you"))
        }
        SignInFailed::Down => say::unavailable(),
    }
}

/// `GET /operator/session`: who the broker takes you for.
pub async fn whoami(who: ReqData<Who>) -> HttpResponse {
    let operator = &who.operator;
    say::ok(&json!({
        "operator": operator.name(),
        "may": operator.may().collect::<Vec<_>>(),
        "expires_at": who.expires.map(|at| at.0),
    }))
    .respond()
}

/// `DELETE /operator/session`: ends it.
pub async fn sign_out(request: HttpRequest, shared: Data<Shared>, operator: ReqData<Operator>) -> HttpResponse {
    respond(over(&request, &shared, &operator).await)
}

async fn over(request: &HttpRequest, shared: &Shared, operator: &Operator) -> Result<Reply, Reply> {
    let presented: Option<Secret> = request.extensions_mut().remove();
    let presented = presented.ok_or_else(say::nobody)?;
    broker(shared)?.sign_out(operator, &presented).await.map_err(|error| {
        tracing::error!(%error, "a session could not be ended");
        say::unavailable()
    })?;
    Ok(say::ok(&json!({ "signed_out": true })))
}
