//! Our signing keys, in an operator's name.

use super::{broker, respond, say};
use crate::{
    broker::KeysError,
    http::{answer::Reply, front::Shared, limit},
    keys::signing::KeyInfo,
    operators::Operator,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ReqData},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is to be done, in JSON.
const CHANGE_BYTES_MAX: usize = 4 * 1024;

/// What is to be done to the keys.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    /// Makes new ones; `now`: they sign at once.
    Rotate {
        #[serde(default)]
        now: bool,
    },
    /// Ends one.
    Revoke { kid: String },
}

/// `GET /operator/keys`: every key.
pub async fn list(shared: Data<Shared>, by: ReqData<Operator>) -> HttpResponse {
    let listed = || Ok(say::ok(&json!({ "keys": all(&broker(&shared)?.signing_keys(&by).map_err(failed)?) })));
    respond(listed())
}

/// `POST /operator/keys`: `{"do":"rotate"}` or `{"do":"revoke","kid":"…"}`.
pub async fn change(request: HttpRequest, shared: Data<Shared>, by: ReqData<Operator>) -> HttpResponse {
    respond(changed(&request, &shared, &by).await)
}

async fn changed(request: &HttpRequest, shared: &Shared, by: &Operator) -> Result<Reply, Reply> {
    let told = match limit::json(request, shared, CHANGE_BYTES_MAX).await? {
        Change::Rotate { now } => json!({ "keys": all(&broker(shared)?.rotate_keys(by, now).await.map_err(failed)?) }),
        Change::Revoke { kid } => {
            let revocation = broker(shared)?.revoke_key(by, &kid).await.map_err(failed)?;
            json!({ "revoked": revocation.key.to_json(), "made": revocation.made.as_ref().map(KeyInfo::to_json) })
        }
    };
    Ok(say::ok(&told))
}

fn all(keys: &[KeyInfo]) -> Vec<Value> {
    keys.iter().map(KeyInfo::to_json).collect()
}

fn failed(error: KeysError) -> Reply {
    match error {
        KeysError::NotAllowed(not) => say::not_allowed(&not.to_string()),
        // The directory's path is nobody's business over HTTP.
        KeysError::Signing(error) => say::invalid(&error.why),
        KeysError::Store(_) => say::unavailable(),
    }
}
