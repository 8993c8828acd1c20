//! The interface as an OpenAPI document, made from the tables that route it. What requests and answers hold is told in
//! docs/api.md; here stand the paths, who may call them, and the parameters of questions.

use super::{Needs, say};
use crate::{
    http::{
        front::Shared,
        routes::{Endpoint, OPERATOR, PUBLIC},
    },
    operators::May,
};
use actix_web::{HttpResponse, http::Method, web::Data};
use serde_json::{Map, Value, json};

/// Parameters in a URL, by path, each with what it is.
const PARAMETERS: &[(&str, &[(&str, &str)])] = &[
    ("/operator/decisions/{id}", &[("format", "`json` or `human`")]),
    (
        "/operator/decisions",
        &[
            ("repository", "name or immutable id"),
            ("principal", "`ISSUER:ID`"),
            ("actor", "`ISSUER:ID`"),
            ("role", "the role that was asked for or granted"),
            ("mapping", "the mapping that granted, or the nearest"),
            ("lease", "a lease's id"),
            ("initiator", "who started the run"),
            ("approver", "who claimed or rejected, `SIGN-IN:SUBJECT`"),
            ("handle", "a credential's public handle"),
            ("outcome", "the record's kind, or a refusal's reason"),
            ("from", "a day or a time; records since then"),
            ("to", "a day or a time; records until then"),
            ("limit", "records on a page, at most 500; by default 50"),
            ("cursor", "`next` of the page before"),
        ],
    ),
    (
        "/operator/history",
        &[
            ("question", "`access`, `unused` or, by POST, `plan`"),
            ("format", "`json`, `human` or `markdown`"),
            ("role", "of `access`"),
            ("repository", "of `access`: name or immutable id"),
            ("at", "of `access`: a day or a time"),
            ("from", "of `access`: the beginning of a span"),
            ("to", "of `access`: its end"),
            ("since", "of `unused` and `plan`: how far back to look, like `90d`"),
        ],
    ),
];

/// `GET /openapi.json`.
pub async fn openapi(shared: Data<Shared>) -> HttpResponse {
    say::ok(&document(&shared.config.public_url)).respond()
}

fn document(public_url: &str) -> Value {
    let mut paths = Map::new();
    for (table, public) in [(PUBLIC, true), (OPERATOR, false)] {
        for endpoint in table {
            let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
            path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint, public, public_url);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "claimbound",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A CI OIDC federation broker. Paths below /operator, /metrics and this document stand on the operator listener.",
        },
        "paths": paths,
        "components": { "securitySchemes": { "operator": {
            "type": "http",
            "scheme": "bearer",
            "description": "A session of `claimbound operator login`, or a fresh token of a CI job for the audience `<public_url>/operator`.",
        } } },
    })
}

fn operation(endpoint: &Endpoint, public: bool, public_url: &str) -> Value {
    let needs = match endpoint.needs {
        Needs::Nothing => None,
        Needs::Operator => Some(Vec::new()),
        Needs::May(may) => Some(vec![May::name(may)]),
    };
    let mut parameters: Vec<Value> = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let listed = PARAMETERS.iter().filter(|(path, _)| *path == endpoint.path && endpoint.method == Method::GET);
    parameters.extend(listed.flat_map(|(_, all)| *all).map(
        |(name, about)| json!({ "name": name, "in": "query", "description": about, "schema": { "type": "string" } }),
    ));
    let mut responses = json!({ "200": { "description": "done" }, "default": { "description": "`error` and `error_description` say why not" } });
    let mut told = json!({ "summary": endpoint.about, "parameters": parameters });
    if let Some(may) = needs {
        responses["401"] = json!({ "description": "no operator" });
        responses["403"] = json!({ "description": "an operator who may not" });
        told["security"] = json!([{ "operator": may }]);
    }
    if endpoint.method == Method::POST {
        let form = public && !endpoint.path.starts_with("/claim/api/");
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        told["requestBody"] = json!({ "required": true, "content": { kind: { "schema": { "type": "object" } } } });
    }
    if public {
        told["servers"] = json!([{ "url": public_url }]);
    }
    told["responses"] = responses;
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The document is the tables: every endpoint once, with who may call it; and no parameter of a path that is not there.
    #[test]
    fn the_document_is_the_tables() {
        let document = document("https://cb.example");
        let told: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let rows = || PUBLIC.iter().chain(OPERATOR);
        let known: BTreeSet<(String, String)> =
            rows().map(|row| (row.path.to_owned(), row.method.to_string())).collect();
        assert_eq!(told, known);
        assert_eq!(rows().count(), known.len(), "no row stands twice");
        assert!(rows().all(|row| !row.about.is_empty() && !row.about.ends_with('.')));
        assert!(PARAMETERS.iter().all(|(path, _)| rows().any(|row| row.path == *path)));
        let decisions = &document["paths"]["/operator/decisions"]["get"];
        assert_eq!(decisions["security"], json!([{ "operator": ["audit"] }]));
        assert!(document["paths"]["/metrics"]["get"].get("security").is_none());
    }

    /// Beyond metrics, health and the way in, nothing is open, and nothing of the public table needs an operator.
    #[test]
    fn what_is_open_is_listed() {
        let open: Vec<String> = OPERATOR
            .iter()
            .filter(|row| row.needs == Needs::Nothing)
            .map(|row| format!("{} {}", row.method, row.path))
            .collect();
        assert_eq!(open, ["GET /metrics", "GET /operator/health", "POST /operator/sign-in", "POST /operator/session"]);
        assert!(PUBLIC.iter().all(|row| row.needs == Needs::Nothing));
    }
}
