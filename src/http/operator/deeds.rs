//! What operators do over HTTP: an operator that has been let in, a JSON body, an answer in JSON. Who is an operator is
//! judged before, and which path leads here stands in the table of endpoints.

use crate::{
    http::front::Shared,
    operate::{Deed, Done, OperateError},
    operators::Operator,
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Before this much time another try is in vain.
const RETRY_SECONDS: u32 = 5;

/// `/operator/suspend`: an [`crate::operate::Suspend`].
pub async fn suspend(shared: &Shared, operator: Operator, body: &[u8]) -> HttpResponse {
    done(shared, operator, body, Deed::Suspend).await
}

/// `/operator/resume`: an [`crate::operate::Resume`].
pub async fn resume(shared: &Shared, operator: Operator, body: &[u8]) -> HttpResponse {
    done(shared, operator, body, Deed::Resume).await
}

/// `/operator/revoke`: an [`crate::operate::Revoke`].
pub async fn revoke(shared: &Shared, operator: Operator, body: &[u8]) -> HttpResponse {
    done(shared, operator, body, Deed::Revoke).await
}

/// `/operator/leases`: an [`crate::operate::List`]; an empty body asks for the first page of what is alive.
pub async fn leases(shared: &Shared, operator: Operator, body: &[u8]) -> HttpResponse {
    done(shared, operator, if body.is_empty() { b"{}" } else { body }, Deed::Leases).await
}

/// `/operator/suspensions`: everything that stands suspended.
pub async fn suspensions(shared: &Shared, operator: Operator) -> HttpResponse {
    answer(shared.front.operate(operator, Deed::Suspensions).await)
}

async fn done<T: DeserializeOwned>(
    shared: &Shared,
    operator: Operator,
    body: &[u8],
    deed: impl FnOnce(T) -> Deed,
) -> HttpResponse {
    match serde_json::from_slice(body) {
        Ok(asked) => answer(shared.front.operate(operator, deed(asked)).await),
        Err(error) => answer(Err(OperateError::Invalid(format!("the body is not what is asked for here: {error}")))),
    }
}

fn answer(done: Result<Done, OperateError>) -> HttpResponse {
    let error = match done {
        Ok(done) => return HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(done),
        Err(error) => error,
    };
    let status = match &error {
        OperateError::NotAllowed(_) => StatusCode::FORBIDDEN,
        OperateError::Invalid(_) => StatusCode::BAD_REQUEST,
        OperateError::Unknown(_) => StatusCode::NOT_FOUND,
        OperateError::NotYet(_) => StatusCode::CONFLICT,
        OperateError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, RETRY_SECONDS));
    }
    response.json(json!({ "error": error.code(), "error_description": error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::routes::tests::{Fake, config},
        operators::May,
    };
    use std::sync::Arc;

    /// Status, `Retry-After`, body.
    async fn told(response: HttpResponse) -> (u16, bool, serde_json::Value) {
        let (status, later) = (response.status().as_u16(), response.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        (status, later, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn each_outcome_has_its_status() {
        let shared = Shared::new(Box::new(Arc::new(Fake::default())), config());
        let alice = || Operator::new("okta:alice", May::ALL);
        let role = |name: &str| format!(r#"{{"subject":{{"scope":"role","name":"{name}"}},"reason":"why"}}"#);
        for (name, status, later, code) in [
            ("not-allowed", 403, false, "not_allowed"),
            ("invalid", 400, false, "invalid_request"),
            ("unknown", 404, false, "unknown"),
            ("not-yet", 409, false, "not_yet"),
            ("down", 503, true, "store_down"),
        ] {
            let (got, retry, body) = told(suspend(&shared, alice(), role(name).as_bytes()).await).await;
            assert_eq!((got, retry, &body["error"]), (status, later, &code.into()), "{body}");
            assert!(body["error_description"].as_str().is_some_and(|text| !text.is_empty()));
        }
        let (status, _, body) = told(resume(&shared, alice(), role("r").as_bytes()).await).await;
        assert_eq!((status, body), (200, json!({ "done": "suspensions", "suspensions": [] })));
        for body in ["", "{}", "[]", r#"{"subject":{"scope":"role"},"reason":"x","unknown":1}"#] {
            assert_eq!(told(suspend(&shared, alice(), body.as_bytes()).await).await.0, 400, "{body}");
        }
        let by_role = br#"{"leases":{"role":"r"},"reason":"x","dry_run":true}"#;
        assert_eq!(told(revoke(&shared, alice(), by_role).await).await.0, 200);
        assert_eq!(told(leases(&shared, alice(), b"").await).await.0, 200, "the first page");
        assert_eq!(told(leases(&shared, alice(), br#"{"when":{"at":1}}"#).await).await.0, 200);
        assert_eq!(told(suspensions(&shared, alice()).await).await.0, 200);
    }
}
