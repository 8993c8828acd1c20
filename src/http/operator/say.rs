//! What operators are told. What is not theirs to know is one text, whatever the cause.

use crate::http::answer::Reply;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::json;

/// Before this much time another try is in vain.
const RETRY_SECONDS: u32 = 5;
/// RFC 6750 section 3.
const CHALLENGE: &str = "Bearer realm=\"claimbound operators\"";

/// A JSON answer; never cached.
pub fn ok(body: &impl Serialize) -> Reply {
    Reply::json(StatusCode::OK, body)
}

/// The sign-in on the other device has not come to its end.
pub fn pending(interval_seconds: u64) -> Reply {
    Reply::json(StatusCode::ACCEPTED, &json!({ "pending": true, "interval": interval_seconds }))
}

/// Any other answer that says why something was not done.
pub fn error(status: StatusCode, error: &str, text: &str) -> Reply {
    Reply::json(status, &json!({ "error": error, "error_description": text }))
}

/// Whoever asks is no operator.
pub fn nobody() -> Reply {
    let text = "this needs an operator: sign in with `claimbound operator login`, or present a fresh token of a CI job \
                for the audience `<public_url>/operator`";
    Reply { challenge: Some(CHALLENGE), ..error(StatusCode::UNAUTHORIZED, "invalid_token", text) }
}

/// They are one, and may not do this.
pub fn not_allowed(text: &str) -> Reply {
    error(StatusCode::FORBIDDEN, "insufficient_scope", text)
}

/// The request is none that can be answered.
pub fn invalid(text: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, "invalid_request", text)
}

/// There is nothing of this name.
pub fn not_found(text: &str) -> Reply {
    error(StatusCode::NOT_FOUND, "not_found", text)
}

/// A person whom nobody lets in.
pub fn refused(text: &str) -> Reply {
    error(StatusCode::FORBIDDEN, "access_denied", text)
}

/// Too often.
pub fn later(retry_after_seconds: u32) -> Reply {
    let reply = error(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", "too many; wait as `Retry-After` says");
    Reply { retry_after_seconds: Some(retry_after_seconds), ..reply }
}

/// Store, issuer or provider cannot be asked, or enough questions run already.
pub fn unavailable() -> Reply {
    let text = "this cannot be answered right now; wait as `Retry-After` says";
    let reply = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text);
    Reply { retry_after_seconds: Some(RETRY_SECONDS), ..reply }
}
