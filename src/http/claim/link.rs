//! Showing an account at a code host to be one's own. A browser is led there and back; only a form of our own page, in the session
//! that began it, keeps anything.

use super::{
    Answer, Desk, either,
    gate::{LINK, Sent},
    page::{Confirm, Frame, Going, respond},
    with_cookie,
};
use crate::{
    broker::SignInFailed,
    http::{form::Form, front::Shared, limit},
    people::{PRESENTED_BYTES_MAX, SIGN_IN_SECONDS},
    secret::Secret,
};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use claimbound_core::ceremony::CeremonyId;

/// What a form's token is for.
pub const PURPOSE: &str = "link";
const HEADING: &str = "Not linked";

/// What the token of a form that takes an account back is for.
pub fn removal(issuer: &str) -> String {
    format!("unlink {issuer}")
}

/// `POST /claim/link`: leads to a code host.
pub async fn begin(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(begun(&request, &shared).await)
}

async fn begun(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let to = form.get("to").and_then(|to| to.parse::<CeremonyId>().ok());
    let signed = desk.sender(&form, PURPOSE, to).await?;
    let issuer = form.get("issuer").unwrap_or_default();
    let Some(begun) = desk.broker.begin_link(&signed.visitor, issuer, &signed.session) else {
        let text = "There is no such code host where you could show an account.";
        return Err(desk.message(StatusCode::NOT_FOUND, HEADING, text));
    };
    let to = to.map_or_else(|| "-".to_owned(), |to| to.to_string());
    let kept = Secret::new(format!("{}.{issuer}.{to}", begun.verifier.reveal()));
    let cookie = desk.site.set(LINK, Some(&kept), SIGN_IN_SECONDS, Sent::Led);
    let heading = format!("Going on to {issuer}");
    let page = Going { frame: Frame::of(&desk.site), heading, url: &begun.authorization_url };
    Ok(with_cookie(respond(StatusCode::OK, &page), &cookie))
}

/// `GET /claim/link/callback`: where the code host sends the browser. Changes nothing: it asks.
pub async fn callback(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(came_back(&request, &shared).await)
}

async fn came_back(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    limit::sign_in_rate(request, shared).map_err(|seconds| desk.too_often(seconds))?;
    let kept = kept(&desk).ok_or_else(|| nothing_begun(&desk))?;
    let query = Form::parse(request.query_string().as_bytes());
    let of = |name: &str| query.as_ref().ok().and_then(|query| query.get(name));
    match (of("code"), of("state")) {
        (Some(code), Some(state)) if code.len() <= PRESENTED_BYTES_MAX && state.len() <= PRESENTED_BYTES_MAX => {
            let page = Confirm { frame: Frame::of(&desk.site), issuer: &kept.issuer, code, state };
            Ok(respond(StatusCode::OK, &page))
        }
        _ => Err(desk.message(
            StatusCode::FORBIDDEN,
            HEADING,
            "The code host did not say whose account it is. Try again.",
        )),
    }
}

/// `POST /claim/link/finish`: keeps the account. What binds the form to its session is the state: the page that has it is
/// led to by another site, and does not know the session.
pub async fn finish(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(finished(&request, &shared).await)
}

async fn finished(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let kept = kept(&desk).ok_or_else(|| nothing_begun(&desk))?;
    let Some(signed) = desk.signed().await? else {
        let problem = "You are not signed in any more. Nothing was linked; sign in again.";
        return Err(desk.start(StatusCode::UNAUTHORIZED, kept.to, Some(problem)));
    };
    desk.at_their_rate(&signed)?;
    // Whatever comes of it: it was good for one answer.
    let taken_back = desk.site.set(LINK, None, 0, Sent::Led);
    let code = Secret::new(form.get("code").unwrap_or_default().to_owned());
    let state = form.get("state").unwrap_or_default();
    let keys = (&kept.verifier, &signed.session);
    match desk.broker.finish_link(&signed.visitor, &kept.issuer, &code, state, keys).await {
        Ok(_) => {
            let path = kept.to.map_or_else(|| "/claim".to_owned(), |to| format!("/claim/{to}"));
            Ok(with_cookie(desk.see_other(&path), &taken_back))
        }
        Err(SignInFailed::Down) => Err(super::away(&desk.site)),
        Err(_) => {
            let text = "The code host's answer was not accepted. Nothing was linked; begin again.";
            Err(with_cookie(desk.message(StatusCode::FORBIDDEN, HEADING, text), &taken_back))
        }
    }
}

/// `POST /claim/link/remove`: takes an account back.
pub async fn remove(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(removed(&request, &shared).await)
}

async fn removed(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let issuer = form.get("issuer").unwrap_or_default();
    let signed = desk.sender(&form, &removal(issuer), None).await?;
    match desk.broker.end_link(&signed.visitor, issuer).await {
        // Also where there was none: sent twice, it is as sent once.
        Ok(_) => Ok(desk.see_other("/claim")),
        Err(error) => Err(desk.down(&error)),
    }
}

/// What this browser began.
struct Kept {
    verifier: Secret,
    issuer: String,
    to: Option<CeremonyId>,
}

fn kept(desk: &Desk<'_>) -> Option<Kept> {
    let kept = desk.site.cookie(desk.request, LINK)?;
    let mut parts = kept.reveal().splitn(3, '.');
    let (verifier, issuer, to) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Kept { verifier: Secret::new(verifier.to_owned()), issuer: issuer.to_owned(), to: to.parse().ok() })
}

fn nothing_begun(desk: &Desk<'_>) -> HttpResponse {
    let text = "No linking has begun at this browser, or it took too long. Begin it from your ceremonies.";
    desk.message(StatusCode::BAD_REQUEST, HEADING, text)
}
