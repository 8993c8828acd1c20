//! `POST /token` (RFC 8693) and `POST /revoke` (RFC 7009): read, ask the broker, write.

use super::{
    answer::{self, Reply, TurnedAway},
    front::Shared,
    limit,
};
use crate::telemetry::Caller;
use actix_web::{HttpRequest, HttpResponse, web::Data};

/// An exchange. The broker finishes it also when the caller hangs up here.
pub async fn token(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    exchange(&request, &shared).await.unwrap_or_else(|why| answer::turned_away(&why)).respond()
}

async fn exchange(request: &HttpRequest, shared: &Shared) -> Result<Reply, TurnedAway> {
    let form = limit::receive(request, shared).await?;
    let mut asked = form.asked(limit::client_address(request, &shared.config.trusted_proxies))?;
    asked.caller = caller(request, shared);
    drop(form);
    let answer = shared.front.exchange(asked).await;
    Ok(answer::exchanged(&answer, shared.config.hints, &shared.config.public_url))
}

/// The trace that a trusted proxy says this is part of; anybody else could write into traces of others.
pub(super) fn caller(request: &HttpRequest, shared: &Shared) -> Option<Caller> {
    request.peer_addr().filter(|peer| limit::is_trusted(peer.ip(), &shared.config.trusted_proxies))?;
    let mut given = request.headers().get_all("traceparent");
    let (Some(traceparent), None) = (given.next(), given.next()) else { return None };
    Caller::parse(traceparent.to_str().ok()?)
}

/// Ends the lease of the credential in the form. Possession is all that it takes.
pub async fn revoke(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    end(&request, &shared).await.unwrap_or_else(|why| answer::turned_away(&why)).respond()
}

async fn end(request: &HttpRequest, shared: &Shared) -> Result<Reply, TurnedAway> {
    let credential = limit::receive(request, shared).await?.revoked()?;
    Ok(answer::revoked(shared.front.revoke(credential).await))
}
