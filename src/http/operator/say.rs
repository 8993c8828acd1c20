//! What operators are told. What is not theirs to know is one text, whatever the cause.

use crate::http::answer::Reply;
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::json;

/// Before this much time another try is in vain.
const RETRY_SECONDS: u32 = 5;
/// RFC 6750 section 3.
const CHALLENGE: &str = "Bearer realm=\"claimbound operators\"";

/// A JSON answer; never cached.
pub fn ok(body: &impl Serialize) -> HttpResponse {
    Reply::json(StatusCode::OK, body).respond()
}

/// The sign-in on the other device has not come to its end.
pub fn pending(interval_seconds: u64) -> HttpResponse {
    Reply::json(StatusCode::ACCEPTED, &json!({ "pending": true, "interval": interval_seconds })).respond()
}

fn error(status: StatusCode, error: &str, text: &str) -> Reply {
    Reply::json(status, &json!({ "error": error, "error_description": text }))
}

/// Whoever asks is no operator.
pub fn nobody() -> HttpResponse {
    let text = "this needs an operator: sign in with `claimbound operator login`, or present a fresh token of a CI job \
                for the audience `<public_url>/operator`";
    let mut response = error(StatusCode::UNAUTHORIZED, "invalid_token", text).respond();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(CHALLENGE));
    response
}

/// They are one, and may not do this.
pub fn not_allowed(text: &str) -> HttpResponse {
    error(StatusCode::FORBIDDEN, "insufficient_scope", text).respond()
}

/// The request is none that can be answered.
pub fn invalid(text: &str) -> HttpResponse {
    error(StatusCode::BAD_REQUEST, "invalid_request", text).respond()
}

/// There is nothing of this name.
pub fn not_found(text: &str) -> HttpResponse {
    error(StatusCode::NOT_FOUND, "not_found", text).respond()
}

/// A person whom nobody lets in.
pub fn refused(text: &str) -> HttpResponse {
    error(StatusCode::FORBIDDEN, "access_denied", text).respond()
}

/// Too often.
pub fn later(retry_after_seconds: u32) -> HttpResponse {
    let reply = error(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", "too many; wait as `Retry-After` says");
    Reply { retry_after_seconds: Some(retry_after_seconds), ..reply }.respond()
}

/// Store, issuer or provider cannot be asked, or enough questions run already.
pub fn unavailable() -> HttpResponse {
    let text = "this cannot be answered right now; wait as `Retry-After` says";
    let reply = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text);
    Reply { retry_after_seconds: Some(RETRY_SECONDS), ..reply }.respond()
}
