//! What `claimbound claim` asks in a person's name: the same as the pages, as JSON. A session is a bearer token, never a cookie, so
//! that no page of anybody can send it; and JSON bodies, which no form of a browser sends.

use super::view::Told;
use crate::{
    broker::{Broker, Door, NotTaken, Taken, Visitor, Weak},
    config::Strength,
    http::{
        answer::Reply,
        front::Shared,
        limit,
        operator::{
            broker, respond,
            say::{self, error},
            session::{Brings, Brought, Finish, failed, going, going_elsewhere, neither},
        },
    },
    secret::Secret,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use claimbound_core::ceremony::CeremonyId;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// RFC 6750 section 3.
const CHALLENGE: &str = "Bearer realm=\"claimbound claims\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// Left out where the configuration has one alone.
    sign_in: Option<String>,
    /// Where the program listens on loopback; without it, another device.
    port: Option<u16>,
    #[serde(default)]
    device: bool,
    /// What the sign-in has to be fresh and strong enough for; known only to who is signed in and may know of it.
    ceremony: Option<CeremonyId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    code: Brought,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejects {
    reason: String,
}

/// `POST /claim/api/sign-in`: where to go on, in a browser or on another device.
pub async fn sign_in(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(begin(&request, &shared).await)
}

async fn begin(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    let broker = broker(shared)?;
    limit::sign_in_rate(request, shared).map_err(say::later)?;
    let asked: Begin = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let name = asked.sign_in.as_deref();
    match (asked.port, asked.device) {
        (Some(port), false) if port > 0 => {
            let demanded = match asked.ceremony {
                Some(id) => demanded(broker, request, id).await?,
                None => Strength::default(),
            };
            let begun = broker.begin_visit(name, Some(port), &demanded).await;
            begun.map(|(name, begun)| going(&name, &begun)).map_err(failed)
        }
        (None, true) => {
            broker.begin_device(name).await.map(|(name, begun)| going_elsewhere(&name, &begun)).map_err(failed)
        }
        _ => Err(neither()),
    }
}

async fn demanded(broker: &Broker, request: &HttpRequest, id: CeremonyId) -> Result<Strength, Reply> {
    let Ok(visitor) = visitor(broker, request).await else { return Ok(Strength::default()) };
    match broker.review(id, &visitor).await {
        Ok((review, _)) => Ok(broker.demanded(&visitor.person, &review.shown.sensitivity)),
        Err(why) => Err(not_taken(why)),
    }
}

/// `POST /claim/api/session`: the end of a sign-in.
pub async fn finish(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(end(&request, &shared).await)
}

async fn end(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    let broker = broker(shared)?;
    limit::sign_in_rate(request, shared).map_err(say::later)?;
    let asked: Finish = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let (sign_in, brings) = asked.brings()?;
    let (token, visitor) = match brings {
        Brings::Browser(returned) => broker.finish_visit(sign_in, &returned).await.map_err(failed)?,
        Brings::Device(code) => match broker.poll_visit(sign_in, code).await.map_err(failed)? {
            Ok(signed_in) => signed_in,
            Err(interval_seconds) => return Ok(say::pending(interval_seconds)),
        },
    };
    let may: &[&str] = if visitor.only_looks() { &["look"] } else { &["look", "approve", "reject"] };
    Ok(say::ok(&json!({
        "token": token.reveal(),
        "person": visitor.person.to_string(),
        "may": may,
        "expires_at": visitor.expires.0,
    })))
}

/// `DELETE /claim/api/session`: ends it.
pub async fn sign_out(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(over(&request, &shared).await)
}

async fn over(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    let (broker, visitor) = signed(request, shared).await?;
    let presented = presented(request).ok_or_else(nobody)?;
    broker.end_visit(&visitor, &presented).await.map_err(|why| not_taken(NotTaken::Down(why)))?;
    Ok(say::ok(&json!({ "signed_out": true })))
}

/// `GET /claim/api/ceremonies`: those that the person may claim.
pub async fn list(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(listed(&request, &shared).await)
}

async fn listed(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    let (broker, visitor) = signed(request, shared).await?;
    let (open, past) = broker.ceremonies_of(&visitor).await.map_err(|why| not_taken(NotTaken::Down(why)))?;
    Ok(say::ok(&json!({ "open": open, "past": past })))
}

/// `GET /claim/api/ceremonies/{id}`: what is bound, and what is not proven.
pub async fn show(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    respond(shown(&request, &id, &shared).await)
}

async fn shown(request: &HttpRequest, id: &str, shared: &Shared) -> Result<Reply, Reply> {
    let (broker, visitor) = signed(request, shared).await?;
    let id = id.parse().map_err(|_| not_taken(NotTaken::Unknown))?;
    let (review, weak) = broker.review(id, &visitor).await.map_err(not_taken)?;
    Ok(say::ok(&Told::of(&visitor, &review, weak.as_ref(), shared.front.now())))
}

/// `POST /claim/api/ceremonies/{id}/approve`: claims it.
pub async fn approve(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    respond(approved(&request, &id, &shared).await)
}

async fn approved(request: &HttpRequest, id: &str, shared: &Shared) -> Result<Reply, Reply> {
    let (broker, visitor) = sender(request, shared).await?;
    let Claims { code, reason } = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let id = id.parse().map_err(|_| not_taken(NotTaken::Unknown))?;
    broker.claim(id, &visitor, &code.0, &reason).await.map(|taken| done(&taken)).map_err(not_taken)
}

/// `POST /claim/api/ceremonies/{id}/reject`: rejects it.
pub async fn reject(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    respond(rejected(&request, &id, &shared).await)
}

async fn rejected(request: &HttpRequest, id: &str, shared: &Shared) -> Result<Reply, Reply> {
    let (broker, visitor) = sender(request, shared).await?;
    let Rejects { reason } = limit::json(request, shared, limit::BODY_BYTES_MAX).await?;
    let id = id.parse().map_err(|_| not_taken(NotTaken::Unknown))?;
    broker.reject(id, &visitor, &reason).await.map(|taken| done(&taken)).map_err(not_taken)
}

fn done(taken: &Taken) -> Reply {
    say::ok(&json!({ "state": taken.state, "missing": taken.missing }))
}

fn presented(request: &HttpRequest) -> Option<Secret> {
    crate::http::operator::gate::presented(request)
}

async fn visitor(broker: &Broker, request: &HttpRequest) -> Result<Visitor, Reply> {
    let presented = presented(request).ok_or_else(nobody)?;
    let found = broker.visitor(&presented, Door::Commands).await.map_err(|why| not_taken(NotTaken::Down(why)))?;
    found.ok_or_else(nobody)
}

/// Who asks.
async fn signed<'s>(request: &HttpRequest, shared: &'s Shared) -> Result<(&'s Arc<Broker>, Visitor), Reply> {
    let broker = broker(shared)?;
    limit::rate(request, shared).map_err(say::later)?;
    Ok((broker, visitor(broker, request).await?))
}

/// Who is about to do something: no more often than on the pages.
async fn sender<'s>(request: &HttpRequest, shared: &'s Shared) -> Result<(&'s Arc<Broker>, Visitor), Reply> {
    let broker = broker(shared)?;
    limit::sign_in_rate(request, shared).map_err(say::later)?;
    let visitor = visitor(broker, request).await?;
    if let Some(rate) = &shared.visitor_rate {
        rate.take(visitor.person.to_string(), shared.started.elapsed()).map_err(say::later)?;
    }
    Ok((broker, visitor))
}

fn nobody() -> Reply {
    let text = "you are not signed in, or not any more: run `claimbound claim login`";
    Reply { challenge: Some(CHALLENGE), ..error(StatusCode::UNAUTHORIZED, "invalid_token", text) }
}

fn not_taken(why: NotTaken) -> Reply {
    match why {
        NotTaken::Unknown => say::not_found(
            "there is no ceremony of this id that you can claim: the id is incomplete, it is long over, or you are not among its \
             approvers",
        ),
        NotTaken::Weak(weak @ Weak::Elsewhere) => {
            error(StatusCode::FORBIDDEN, "insufficient_user_authentication", &weak.to_string())
        }
        // RFC 9470 section 3.
        NotTaken::Weak(weak) => {
            error(StatusCode::FORBIDDEN, "insufficient_user_authentication", &format!("for this role {weak}"))
        }
        NotTaken::WrongCode => {
            let text = "the match code is not the one in the job's log; nothing was claimed, and the try was counted";
            error(StatusCode::UNPROCESSABLE_ENTITY, "wrong_code", text)
        }
        NotTaken::Refused(why) => error(StatusCode::CONFLICT, "refused", &why),
        NotTaken::Down(why) => {
            tracing::error!(%why, "a person's command could not be answered");
            say::unavailable()
        }
    }
}
