//! `POST /introspect` (RFC 7662): who asks proves itself first; then it learns of tokens of its own audience alone.

use super::{
    answer::{self, Reply, TurnedAway},
    form,
    front::Shared,
    limit,
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

pub async fn introspect(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    ask(&request, &shared).await.unwrap_or_else(|why| answer::turned_away(&why)).respond()
}

async fn ask(request: &HttpRequest, shared: &Shared) -> Result<Reply, TurnedAway> {
    let Some(server) = authenticated(request, shared) else {
        // Whoever guesses secrets is held by its network's rate.
        limit::rate(request, shared)
            .map_err(|retry_after_seconds| TurnedAway::TooManyRequests { retry_after_seconds })?;
        return Err(TurnedAway::Unauthorized);
    };
    if let Some(rate) = &shared.introspections {
        rate.take(server, shared.started.elapsed())
            .map_err(|retry_after_seconds| TurnedAway::TooManyRequests { retry_after_seconds })?;
    }
    let token = limit::form(request, shared).await?.introspected()?;
    Ok(answer::introspected(shared.front.introspect(server, token).await.ok()))
}

/// `client_secret_basic` (RFC 6749 section 2.3.1): both halves are form-encoded, then joined and put into base64. Many
/// clients leave the encoding out, so a secret is taken as it is, too.
fn authenticated(request: &HttpRequest, shared: &Shared) -> Option<usize> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let (Some(only), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, encoded) = only.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let pair = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
    let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    let found = |id: &str, secret: &str| shared.front.resource_server(id, secret);
    found(id, secret).or_else(|| {
        let (id, secret) = (form::decode(id.as_bytes()).ok()?, form::decode(secret.as_bytes()).ok()?);
        found(&id, &secret)
    })
}
