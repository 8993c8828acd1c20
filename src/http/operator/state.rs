//! Metrics and detailed health: for anyone who reaches the operator listener.

use crate::http::front::Shared;
use actix_web::{
    HttpResponse,
    http::header,
    web::{self, Data},
};

/// OpenMetrics 1.0, which Prometheus reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn metrics(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, METRICS_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(shared.front.metrics())
}

/// Always 200: `ready` is in the body. Who wants a status asks `/readyz`. It asks the store, which may be slow.
pub async fn health(shared: Data<Shared>) -> actix_web::Result<HttpResponse> {
    let health = web::block(move || shared.front.health()).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(health))
}
