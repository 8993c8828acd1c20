//! `POST /aws/sts`: the exchange in the words of AWS STS, for clients that know no others (service, section 5).
//!
//! It decides nothing and mints nothing of its own: a form becomes the same question as at `/token`, and the same answer
//! becomes XML. Refusals have codes that no client sends again.

mod ask;
mod say;
mod sigv4;

use super::{
    answer::{self, InWords, Noted, TurnedAway},
    form::Form,
    front::Shared,
    limit,
};
use crate::{
    broker::Answer,
    config::Hints,
    exchange::{FirstAnswer, Granted, Refused},
    issuance::Credential,
    secret::Secret,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::HeaderMap},
    web::Data,
};
use ask::{Action, Fault};
use say::Said;
use uuid::Uuid;

/// The header that a session's keys come with.
const SESSION_TOKEN: &str = "x-amz-security-token";
/// How long a client that found the same request under way is told to wait.
const RETRY_SECONDS: u32 = 2;

/// A request in the words of STS.
pub async fn sts(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    if !shared.config.exchange.aws_sts {
        let text = "this broker does not answer as AWS STS; `[exchange] aws_sts` switches that on";
        return answer::no_such_way(StatusCode::NOT_FOUND, "not_found", text).respond();
    }
    let (action, said) = match limit::receive(&request, &shared).await {
        Ok(form) => answered(&request, &shared, &form).await,
        Err(why) => ("other", turned_away(&why)),
    };
    shared.front.count_sts(action, said.code());
    said.respond()
}

async fn answered(request: &HttpRequest, shared: &Shared, form: &Form) -> (&'static str, Said) {
    let address = limit::client_address(request, &shared.config.trusted_proxies);
    match ask::read(form, address) {
        Ok(Action::Assume(mut asked)) => {
            asked.caller = super::token::caller(request, shared);
            let answer = shared.front.exchange(*asked).await;
            ("assume_role_with_web_identity", exchanged(&answer, shared.config.hints, &shared.config.public_url))
        }
        Ok(Action::Identity) => ("get_caller_identity", identity(request.headers(), shared).await),
        Err(Fault { code, text }) => ("other", Said::refused(400, code, &text, &new_id())),
    }
}

/// Who the keys are of: by the session's token, which was signed with the request, and by its key. One answer for every
/// reason to say no.
async fn identity(headers: &HeaderMap, shared: &Shared) -> Said {
    let unknown = || {
        let text = "The security token included in the request is invalid, or its lease is over. This is no AWS STS: it knows \
            the sessions that it gave";
        Said::refused(403, "InvalidClientTokenId", text, &new_id())
    };
    let Some((access_key_id, token)) = presented(headers) else { return unknown() };
    match shared.front.caller_identity(access_key_id, token).await {
        Ok(Some(identity)) => say::identity(&identity, &new_id()),
        Ok(None) => unknown(),
        Err(_) => unavailable("The broker's store cannot be asked right now"),
    }
}

fn presented(headers: &HeaderMap) -> Option<(String, Secret)> {
    let one = |name: &str| {
        let mut values = headers.get_all(name);
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        value.to_str().ok()
    };
    let signed = sigv4::Signed::read(one("authorization")?)?;
    let token = one(SESSION_TOKEN).filter(|token| !token.is_empty() && signed.covers(SESSION_TOKEN))?;
    Some((signed.access_key_id.to_owned(), Secret::new(token.to_owned())))
}

fn exchanged(answer: &Answer, hints: Hints, public_url: &str) -> Said {
    let mut said = match &answer.outcome {
        Ok(Granted::Issued(issued)) => match (&issued.credential, &issued.web_identity) {
            (Credential::Aws(session), Some(whom)) => say::session(answer, session, whom, public_url),
            _ => unavailable("The answer is of another kind"),
        },
        Ok(Granted::DryRun { .. }) => unavailable("The answer is of another kind"),
        Err(refused) => refusal(answer, refused, hints),
    };
    said.noted = Noted { decision: Some(answer.id), granted: answer.outcome.is_ok() };
    said
}

/// A refusal, or the first one that the same request had.
fn refusal(answer: &Answer, refused: &Refused, hints: Hints) -> Said {
    let Some(first) = refused.first.as_deref() else { return told(refused, hints, &id(answer.id.0)) };
    match &first.answer {
        FirstAnswer::Granted(lease) => {
            let text = format!(
                "this token was used for lease {lease}; one token is good for one call: get a fresh one from the CI system, or use \
                 `claimbound credential-process`, which keeps what it got"
            );
            Said::refused(403, "AccessDenied", &text, &id(first.decision.0))
        }
        // Whatever it was, another try is in vain: it is told as a refusal.
        FirstAnswer::Refused(refused) => {
            let id = id(first.decision.0);
            Said::refused(403, "AccessDenied", &text_of(&answer::in_words(refused, hints), &id), &id)
        }
    }
}

fn told(refused: &Refused, hints: Hints, id: &str) -> Said {
    let words = answer::in_words(refused, hints);
    let text = text_of(&words, id);
    match words.status {
        503 => Said::unavailable(&text, id, words.retry_after_seconds),
        // Nothing was judged and nothing spent: it may come again. A mapping's limit is a refusal like any other.
        429 if words.is_rate => Said::throttled(&text, id, words.retry_after_seconds),
        _ if words.is_stranger => Said::refused(400, "InvalidIdentityToken", &text, id),
        _ => Said::refused(403, "AccessDenied", &text, id),
    }
}

fn text_of(words: &InWords, id: &str) -> String {
    format!("{} (reason `{}`, decision {id})", words.text, words.reason)
}

fn turned_away(why: &TurnedAway) -> Said {
    let (status, _, text) = answer::away_in_words(why);
    let mut said = match why {
        TurnedAway::TooManyRequests { retry_after_seconds } => {
            Said::throttled(text, &new_id(), Some(*retry_after_seconds))
        }
        _ => Said::refused(status, "ValidationError", text, &new_id()),
    };
    said.close = !matches!(why, TurnedAway::Form(_));
    said
}

fn unavailable(text: &str) -> Said {
    Said::unavailable(text, &new_id(), Some(RETRY_SECONDS))
}

fn id(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

/// Of an answer that no decision stands behind.
fn new_id() -> String {
    id(Uuid::now_v7().as_u128())
}
