//! The broker as an issuer (OpenID Connect Discovery 1.0 section 4, RFC 8414, RFC 7517), what clients compare, and
//! whether it is up; and the status lists.

use super::{
    answer::{self, TurnedAway},
    front::Shared,
    limit,
};
use crate::{
    broker::{StatusList, TTL_SECONDS},
    documents,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path},
};
use serde_json::{Value, json};

/// How long a verifier may keep our keys: far below the 24 hours that a key is published before it signs.
const CACHE: &str = "public, max-age=300";
const NO_CACHE: &str = "no-store";

fn document(value: &Value, caching: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, caching)).json(value)
}

pub async fn openid_configuration(shared: Data<Shared>) -> HttpResponse {
    document(&documents::openid_configuration(&shared.config.issuer_url, Some(&shared.config.public_url)), CACHE)
}

pub async fn authorization_server(shared: Data<Shared>) -> HttpResponse {
    let config = &shared.config;
    document(&documents::authorization_server(&config.public_url, &config.issuer_url), CACHE)
}

/// Carries our clock, so nobody may keep it.
pub async fn claimbound(shared: Data<Shared>) -> HttpResponse {
    document(&documents::claimbound(&shared.config.public_url, shared.front.now()), NO_CACHE)
}

pub async fn jwks(shared: Data<Shared>) -> HttpResponse {
    document(&shared.front.jwks(), CACHE)
}

/// The newest signed checkpoint (C2SP tlog-checkpoint): text that anybody may keep, so that the past cannot be changed
/// behind their back.
pub async fn checkpoint(shared: Data<Shared>) -> HttpResponse {
    match shared.front.checkpoint() {
        Some(note) => text(note),
        None => answer::not_yet("no checkpoint is signed yet; ask again in some seconds").respond(),
    }
}

/// What verifies checkpoints (C2SP signed-note).
pub async fn checkpoint_key(shared: Data<Shared>) -> HttpResponse {
    text(format!("{}\n", shared.front.checkpoint_key()))
}

fn text(text: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, NO_CACHE))
        .body(text)
}

/// draft-ietf-oauth-status-list, section 8.2.
const STATUS_LIST_TYPE: &str = "application/statuslist+jwt";

/// A signed status list. Anyone may read it: it holds bits without names.
pub async fn status_list(request: HttpRequest, name: Path<String>, shared: Data<Shared>) -> HttpResponse {
    if let Err(retry_after_seconds) = limit::rate(&request, &shared) {
        return answer::turned_away(&TurnedAway::TooManyRequests { retry_after_seconds }).respond();
    }
    match shared.front.status_list(&name).await {
        Ok(Some(list)) => listed(&request, &list),
        Ok(None) => {
            let text = "there is no such status list, or all tokens that name it have expired";
            answer::no_such_way(StatusCode::NOT_FOUND, "not_found", text).respond()
        }
        Err(error) => {
            tracing::error!(%error, "a status list could not be built");
            answer::away().respond()
        }
    }
}

fn listed(request: &HttpRequest, list: &StatusList) -> HttpResponse {
    let tag = format!("\"{}\"", list.tag);
    let known = request.headers().get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((header::CACHE_CONTROL, format!("public, max-age={TTL_SECONDS}")));
    response.insert_header((header::ETAG, tag));
    if known {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, STATUS_LIST_TYPE)).body(list.token.clone())
}

/// The process answers.
pub async fn healthz() -> HttpResponse {
    document(&json!({ "up": true }), NO_CACHE)
}

/// Exchanges can be answered. An issuer that is down does not count.
pub async fn readyz(shared: Data<Shared>) -> HttpResponse {
    let ready = shared.front.ready();
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((header::CACHE_CONTROL, NO_CACHE)).json(json!({ "ready": ready }))
}
