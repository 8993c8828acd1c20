//! What operators have done: a JSON body, an answer in JSON.

use crate::{
    http::{front::Shared, limit},
    operate::{Deed, Done, OperateError},
    operators::Operator,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, ReqData},
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Before this much time another try is in vain.
const RETRY_SECONDS: u32 = 5;
/// What is to be done, in JSON.
const DEED_BYTES_MAX: usize = 64 * 1024;

type By = ReqData<Operator>;

/// `/operator/suspend`: an [`crate::operate::Suspend`].
pub async fn suspend(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Suspend).await
}

/// `/operator/resume`: an [`crate::operate::Resume`].
pub async fn resume(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Resume).await
}

/// `/operator/revoke`: an [`crate::operate::Revoke`].
pub async fn revoke(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Revoke).await
}

/// `/operator/leases`: an [`crate::operate::List`]; `{}` asks for the first page of what is alive.
pub async fn leases(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Leases).await
}

/// `/operator/ceremonies`: a [`crate::operate::ClaimFilter`]; `{}` asks for all that is open or stands.
pub async fn ceremonies(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Ceremonies).await
}

/// `/operator/ceremonies/lapsed`: a [`crate::operate::AskLapses`].
pub async fn lapses(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::Lapses).await
}

/// `/operator/claim-reset`: a [`crate::operate::ResetClaims`].
pub async fn claim_reset(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::ClaimReset).await
}

/// `/operator/claim-carry`: a [`crate::operate::CarryClaims`].
pub async fn claim_carry(request: HttpRequest, shared: Data<Shared>, by: By) -> HttpResponse {
    done(&request, &shared, by, Deed::ClaimCarry).await
}

/// `/operator/suspensions`: everything that stands suspended.
pub async fn suspensions(shared: Data<Shared>, by: By) -> HttpResponse {
    answer(shared.front.operate(by.into_inner(), Deed::Suspensions).await)
}

async fn done<T: DeserializeOwned>(
    request: &HttpRequest,
    shared: &Shared,
    by: By,
    deed: impl FnOnce(T) -> Deed,
) -> HttpResponse {
    match limit::json(request, shared, DEED_BYTES_MAX).await {
        Ok(asked) => answer(shared.front.operate(by.into_inner(), deed(asked)).await),
        Err(reply) => reply.respond(),
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
        operate,
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

    fn of<T: DeserializeOwned>(body: &[u8]) -> T {
        serde_json::from_slice(body).unwrap()
    }

    async fn by(deed: Deed, shared: &Shared) -> HttpResponse {
        answer(shared.front.operate(Operator::new("okta:alice", May::ALL), deed).await)
    }

    #[tokio::test]
    async fn each_outcome_has_its_status() {
        let shared = Shared::new(Box::new(Arc::new(Fake::default())), config());
        let role = |name: &str| format!(r#"{{"subject":{{"scope":"role","name":"{name}"}},"reason":"why"}}"#);
        for (name, status, later, code) in [
            ("not-allowed", 403, false, "not_allowed"),
            ("invalid", 400, false, "invalid_request"),
            ("unknown", 404, false, "unknown"),
            ("not-yet", 409, false, "not_yet"),
            ("down", 503, true, "store_down"),
        ] {
            let (got, retry, body) = told(by(Deed::Suspend(of(role(name).as_bytes())), &shared).await).await;
            assert_eq!((got, retry, &body["error"]), (status, later, &code.into()), "{body}");
            assert!(body["error_description"].as_str().is_some_and(|text| !text.is_empty()));
        }
        let (status, _, body) = told(by(Deed::Resume(of(role("r").as_bytes())), &shared).await).await;
        assert_eq!((status, body), (200, json!({ "done": "suspensions", "suspensions": [] })));
        for body in ["", "{}", "[]", r#"{"subject":{"scope":"role"},"reason":"x","unknown":1}"#] {
            assert!(serde_json::from_str::<operate::Suspend>(body).is_err(), "{body}");
        }
        let by_role = br#"{"leases":{"role":"r"},"reason":"x","dry_run":true}"#;
        assert_eq!(told(by(Deed::Revoke(of(by_role)), &shared).await).await.0, 200);
        assert_eq!(told(by(Deed::Leases(of(b"{}")), &shared).await).await.0, 200, "the first page");
        assert_eq!(told(by(Deed::Leases(of(br#"{"when":{"at":1}}"#)), &shared).await).await.0, 200);
        assert_eq!(told(by(Deed::Suspensions, &shared).await).await.0, 200);
    }
}
