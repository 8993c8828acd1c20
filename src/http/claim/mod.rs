//! The pages on which people claim: `/claim` and what lies below it. HTML for browsers, without a script.
//!
//! GET, HEAD and OPTIONS change nothing of a ceremony, whoever sends them: links are opened by scanners before people see
//! them. A form is believed if one of our own pages sent it ([`gate`]), for the session that it was made for. What a person
//! may do is the broker's to judge; [`page`] has the words.

mod changes;
pub mod commands;
mod gate;
pub mod link;
mod page;
mod seen;
mod view;

pub use seen::Seen;
pub use view::{Told, View};

use super::{form::Form, front::Shared, limit};
use crate::{
    broker::{Broker, Door, NotTaken, SignInFailed, Visitor},
    config::Strength,
    people::{Redirect, Returned as FromProvider, SIGN_IN_SECONDS},
    secret::Secret,
    store::Down,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::{Data, Path},
};
use claimbound_core::ceremony::{CeremonyId, Refused::Unlinked};
use gate::{SESSION, SIGN_IN, Sent, Site, holds_token};
use page::{Frame, Going, LinkRow, List, Message, Returned, ReviewPage, Start, purpose, respond};
use std::sync::Arc;

/// What a person types for a code.
const CODE_CHARACTERS_MAX: usize = 40;
/// How long a session is at most; the broker ends it.
const SESSION_COOKIE_SECONDS: i64 = 900;
/// An error code of a provider (RFC 6749 section 4.1.2.1) that we repeat.
const ERROR_CODE_CHARACTERS_MAX: usize = 40;
const STYLE: &str = include_str!("../../../templates/claim/style.css");

/// What every handler works with.
struct Desk<'r> {
    request: &'r HttpRequest,
    shared: &'r Shared,
    broker: &'r Arc<Broker>,
    site: Site,
}

/// A person with a session.
struct Signed {
    session: Secret,
    visitor: Visitor,
}

type Answer = Result<HttpResponse, HttpResponse>;

impl<'r> Desk<'r> {
    #[expect(clippy::result_large_err, reason = "it is the answer, sent as it is")]
    fn of(request: &'r HttpRequest, shared: &'r Shared) -> Result<Self, HttpResponse> {
        let site = Site::of(&shared.config.public_url);
        match shared.front.broker() {
            Some(broker) => Ok(Self { request, shared, broker, site }),
            None => Err(away(&site)),
        }
    }

    fn message(&self, status: StatusCode, heading: &str, text: &str) -> HttpResponse {
        respond(status, &Message { frame: Frame::of(&self.site), heading, text, next: None })
    }

    fn down(&self, error: &Down) -> HttpResponse {
        tracing::error!(%error, "a page could not be answered");
        away(&self.site)
    }

    fn too_often(&self, retry_after_seconds: u32) -> HttpResponse {
        let text = "That was too often. Wait a little, and try again.";
        let mut response = self.message(StatusCode::TOO_MANY_REQUESTS, "Too many requests", text);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        response
    }

    /// What the browser's cookie shows.
    async fn signed(&self) -> Result<Option<Signed>, HttpResponse> {
        let Some(session) = self.site.cookie(self.request, SESSION) else { return Ok(None) };
        // Only here is the store asked for whoever comes.
        limit::rate(self.request, self.shared).map_err(|seconds| self.too_often(seconds))?;
        let found = self.broker.visitor(&session, Door::Pages).await.map_err(|error| self.down(&error))?;
        Ok(found.map(|visitor| Signed { session, visitor }))
    }

    fn start(&self, status: StatusCode, to: Option<CeremonyId>, problem: Option<&'static str>) -> HttpResponse {
        let heading = match to {
            Some(_) => "Sign in to see what is asked",
            None => "Sign in",
        };
        let sign_ins = self.broker.sign_ins();
        respond(status, &Start { frame: Frame::of(&self.site), heading, problem, to, sign_ins })
    }

    /// The form of one of our own pages.
    async fn form(&self) -> Result<Form, HttpResponse> {
        if !self.site.is_own(self.request) {
            let text =
                "This form was not sent by a page of this site, or your browser does not say where it comes from.";
            return Err(self.message(StatusCode::FORBIDDEN, "Not accepted", text));
        }
        limit::sign_in_rate(self.request, self.shared).map_err(|seconds| self.too_often(seconds))?;
        limit::form(self.request, self.shared).await.map_err(|why| {
            let reply = super::answer::turned_away(&why);
            let mut response = self.message(reply.status, "Not accepted", "The form could not be read.");
            if reply.close {
                response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            }
            response
        })
    }

    /// Who sends a form, if it was made for them, for this.
    async fn sender(&self, form: &Form, what: &str, to: Option<CeremonyId>) -> Result<Signed, HttpResponse> {
        let Some(signed) = self.signed().await? else {
            let problem = "You are not signed in any more. Nothing was done; sign in again.";
            return Err(self.start(StatusCode::UNAUTHORIZED, to, Some(problem)));
        };
        if !holds_token(form, &signed.session, what) {
            let text = "This form was made for another session. Go back, load the page again, and send it once more.";
            return Err(self.message(StatusCode::FORBIDDEN, "Not accepted", text));
        }
        self.at_their_rate(&signed)?;
        Ok(signed)
    }

    /// A person sends so many forms and no more.
    #[expect(clippy::result_large_err, reason = "it is the answer, sent as it is")]
    fn at_their_rate(&self, signed: &Signed) -> Result<(), HttpResponse> {
        let Some(rate) = &self.shared.visitor_rate else { return Ok(()) };
        let person = signed.visitor.person.to_string();
        rate.take(person, self.shared.started.elapsed()).map_err(|seconds| self.too_often(seconds))
    }

    /// One answer for a ceremony that is none and for one that is not theirs.
    fn nothing(&self, signed: &Signed) -> HttpResponse {
        let frame = Frame::with(&self.site, &signed.session, &signed.visitor);
        let text = "There is no ceremony behind this link that you can claim: the link is incomplete, it is long over, or \
                    you are not among its approvers.";
        let next = Some((format!("{}/claim", self.site.base), "Your ceremonies"));
        respond(StatusCode::NOT_FOUND, &Message { frame, heading: "Nothing here for you", text, next })
    }

    async fn review(&self, signed: &Signed, id: CeremonyId, status: StatusCode, returned: Returned<'_>) -> Answer {
        let (review, weak) = match self.broker.review(id, &signed.visitor).await {
            Ok(found) => found,
            Err(NotTaken::Down(error)) => return Err(self.down(&error)),
            Err(_) => return Err(self.nothing(signed)),
        };
        let now = self.shared.front.now();
        let mut link = None;
        if review.hindrance == Some(Unlinked) {
            let linkable = self.broker.linkable(&signed.visitor.person).await.map_err(|error| self.down(&error))?;
            link = linkable.into_iter().find(|one| one.issuer == review.shown.principal.issuer);
        }
        let seen = (&review, weak.as_ref(), link);
        let page = ReviewPage::of(&self.site, &signed.session, &signed.visitor, seen, returned, now);
        Ok(respond(status, &page))
    }

    async fn not_taken(&self, signed: &Signed, id: CeremonyId, why: NotTaken, reason: &str) -> Answer {
        let (status, problem, code_wrong) = match why {
            NotTaken::Down(error) => return Err(self.down(&error)),
            NotTaken::Unknown => return Err(self.nothing(signed)),
            NotTaken::WrongCode => {
                let text = "The match code is not the one in the job's log. Nothing was claimed; the try was counted.";
                (StatusCode::UNPROCESSABLE_ENTITY, text.to_owned(), true)
            }
            NotTaken::Refused(why) => (StatusCode::CONFLICT, format!("{}.", sentence(&why)), false),
            NotTaken::Weak(weak) => (StatusCode::FORBIDDEN, format!("For this role {weak}."), false),
        };
        self.review(signed, id, status, Returned { problem: Some(problem), code_wrong, reason }).await
    }

    fn see_other(&self, path: &str) -> HttpResponse {
        HttpResponse::SeeOther()
            .insert_header((header::LOCATION, format!("{}{path}", self.site.base)))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish()
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn away(site: &Site) -> HttpResponse {
    let text = "The broker cannot answer now. Nothing was changed; try again in a few seconds.";
    let page = Message { frame: Frame::of(site), heading: "Not available", text, next: None };
    let mut response = respond(StatusCode::SERVICE_UNAVAILABLE, &page);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

fn either(answer: Answer) -> HttpResponse {
    answer.unwrap_or_else(|response| response)
}

fn with_cookie(mut response: HttpResponse, cookie: &str) -> HttpResponse {
    let value = HeaderValue::from_str(cookie).expect("cookies of ours are visible ASCII");
    response.headers_mut().append(header::SET_COOKIE, value);
    response
}

/// `GET /claim`: a person's ceremonies.
pub async fn list(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(listed(&request, &shared).await)
}

async fn listed(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let Some(signed) = desk.signed().await? else { return Ok(desk.start(StatusCode::OK, None, None)) };
    let found = desk.broker.ceremonies_of(&signed.visitor).await.map_err(|error| desk.down(&error))?;
    let linkable = desk.broker.linkable(&signed.visitor.person).await.map_err(|error| desk.down(&error))?;
    let links = linkable.iter().map(|one| LinkRow::of(one, &signed.session, shared.front.now())).collect();
    let frame = Frame::with(&desk.site, &signed.session, &signed.visitor);
    Ok(respond(StatusCode::OK, &List::of(frame, &found.0, &found.1, links, shared.front.now())))
}

/// `GET /claim/{id}`: what is asked, for whoever is signed in; otherwise where to sign in, whatever the link says.
pub async fn show(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    either(shown(&request, &id, &shared).await)
}

async fn shown(request: &HttpRequest, id: &str, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let id = id.parse::<CeremonyId>().ok();
    let Some(signed) = desk.signed().await? else { return Ok(desk.start(StatusCode::OK, id, None)) };
    let Some(id) = id else { return Err(desk.nothing(&signed)) };
    desk.review(&signed, id, StatusCode::OK, Returned::default()).await
}

/// `POST /claim/{id}`: claims it.
pub async fn claim(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    either(said(&request, &id, &shared, true).await)
}

/// `POST /claim/{id}/reject`: rejects it.
pub async fn reject(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    either(said(&request, &id, &shared, false).await)
}

async fn said(request: &HttpRequest, id: &str, shared: &Shared, claims: bool) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let Ok(id) = id.parse::<CeremonyId>() else {
        return Err(desk.message(StatusCode::NOT_FOUND, "Nothing here for you", "The link is incomplete."));
    };
    let what = purpose(if claims { "claim" } else { "reject" }, id);
    let signed = desk.sender(&form, &what, Some(id)).await?;
    // Browsers send the lines of what was typed.
    let reason = form.get("reason").unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let taken = match claims {
        true => {
            let code: String = form.get("code").unwrap_or_default().chars().take(CODE_CHARACTERS_MAX).collect();
            desk.broker.claim(id, &signed.visitor, &Secret::new(code), &reason).await
        }
        false => desk.broker.reject(id, &signed.visitor, &reason).await,
    };
    match taken {
        Ok(_) => Ok(desk.see_other(&format!("/claim/{id}"))),
        Err(why) => desk.not_taken(&signed, id, why, if claims { &reason } else { "" }).await,
    }
}

/// `POST /claim/sign-in`: leads to a provider. What the browser keeps until it comes back binds the sign-in to it.
pub async fn sign_in(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(begin(&request, &shared).await)
}

async fn begin(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let name = form.get("sign_in").unwrap_or_default();
    let to = form.get("to").and_then(|to| to.parse::<CeremonyId>().ok());
    // Who is known already may need a fresher or stronger sign-in for what they look at.
    let demanded = match (desk.signed().await?, to) {
        (Some(signed), Some(to)) => {
            let of = |sensitivity: &str| desk.broker.demanded(&signed.visitor.person, sensitivity);
            match desk.broker.review(to, &signed.visitor).await {
                Ok((review, _)) => of(&review.shown.sensitivity),
                Err(NotTaken::Down(error)) => return Err(desk.down(&error)),
                Err(_) => Strength::default(),
            }
        }
        _ => Strength::default(),
    };
    let begun = desk.broker.begin_visit(Some(name), None, &demanded).await;
    let (_, begun) = begun.map_err(|why| failed(&desk, to, &why))?;
    let to = to.map_or_else(|| "-".to_owned(), |to| to.to_string());
    let kept = Secret::new(format!("{}.{name}.{to}", begun.verifier.reveal()));
    let cookie = desk.site.set(SIGN_IN, Some(&kept), SIGN_IN_SECONDS, Sent::Led);
    let heading = format!("Going on to {name}");
    let page = Going { frame: Frame::of(&desk.site), heading, url: &begun.authorization_url };
    Ok(with_cookie(respond(StatusCode::OK, &page), &cookie))
}

fn failed(desk: &Desk<'_>, to: Option<CeremonyId>, why: &SignInFailed) -> HttpResponse {
    match why {
        SignInFailed::Down => away(&desk.site),
        SignInFailed::Which(_) => desk.start(StatusCode::BAD_REQUEST, to, Some("There is no such sign-in.")),
        SignInFailed::NotAccepted | SignInFailed::NoOperator { .. } => {
            desk.start(StatusCode::FORBIDDEN, to, Some("The sign-in was not accepted. Try again."))
        }
    }
}

/// `GET /claim/callback`: where a provider sends the browser. Only the browser that began can end it.
pub async fn callback(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(finish(&request, &shared).await)
}

async fn finish(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    limit::sign_in_rate(request, shared).map_err(|seconds| desk.too_often(seconds))?;
    let begun = desk.site.cookie(request, SIGN_IN);
    let kept = begun.as_ref().and_then(|kept| {
        let mut parts = kept.reveal().splitn(3, '.');
        let (verifier, name, to) = (parts.next()?, parts.next()?, parts.next()?);
        Some((Secret::new(verifier.to_owned()), name, to.parse::<CeremonyId>().ok()))
    });
    let Some((verifier, name, to)) = kept else {
        let problem = "No sign-in has begun at this browser, or it took too long. Begin it here.";
        return Err(desk.start(StatusCode::BAD_REQUEST, None, Some(problem)));
    };
    // Whatever comes of it: it was good for one answer.
    let taken_back = desk.site.set(SIGN_IN, None, 0, Sent::Led);
    let query = Form::parse(request.query_string().as_bytes());
    let of = |name: &str| query.as_ref().ok().and_then(|query| query.get(name));
    let (Some(code), Some(state)) = (of("code"), of("state")) else {
        let plain = |code: &&str| {
            code.len() <= ERROR_CODE_CHARACTERS_MAX && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        tracing::info!(sign_in = name, error = of("error").filter(plain), "a provider signed nobody in");
        let start = desk.start(StatusCode::FORBIDDEN, to, Some("The provider did not sign you in. Try again."));
        return Err(with_cookie(start, &taken_back));
    };
    let code = Secret::new(code.to_owned());
    let redirect = Redirect::Pages { public_url: &shared.config.public_url };
    let returned = FromProvider { redirect, code: &code, state, issuer: of("iss"), verifier: &verifier };
    let session = desk.broker.finish_visit(name, &returned).await;
    let (session, _) = session.map_err(|why| with_cookie(failed(&desk, to, &why), &taken_back))?;
    // A page, not a redirect: cookies of our own pages alone do not come with what another site began.
    let path = to.map_or_else(|| "/claim".to_owned(), |to| format!("/claim/{to}"));
    let url = format!("{}{path}", desk.site.base);
    let page = Going { frame: Frame::of(&desk.site), heading: "You are signed in".to_owned(), url: &url };
    let cookie = desk.site.set(SESSION, Some(&session), SESSION_COOKIE_SECONDS, Sent::Ours);
    Ok(with_cookie(with_cookie(respond(StatusCode::OK, &page), &taken_back), &cookie))
}

/// `POST /claim/sign-out`: ends the session.
pub async fn sign_out(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    either(over(&request, &shared).await)
}

async fn over(request: &HttpRequest, shared: &Shared) -> Answer {
    let desk = Desk::of(request, shared)?;
    let form = desk.form().await?;
    let signed = desk.sender(&form, "sign-out", None).await?;
    desk.broker.end_visit(&signed.visitor, &signed.session).await.map_err(|error| desk.down(&error))?;
    let cookie = desk.site.set(SESSION, None, 0, Sent::Ours);
    Ok(with_cookie(desk.see_other("/claim"), &cookie))
}

/// `GET /claim/style.css`.
pub async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .body(STYLE)
}
