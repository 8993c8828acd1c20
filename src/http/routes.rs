//! One table of endpoints drives the routes, the 404s and 405s, the access log and the tests.

use super::{
    answer::{self, Noted, TurnedAway},
    front::Shared,
    limit::{self, Unread},
    operator, token, wellknown,
};
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse, Route,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    guard,
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web::{self, Bytes, Data, ServiceConfig},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use uuid::Uuid;

/// One way in.
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    route: fn() -> Route,
}

/// What anyone can reach.
pub const PUBLIC: &[Endpoint] = &[
    Endpoint { method: Method::POST, path: "/token", route: || web::to(token::token) },
    Endpoint { method: Method::POST, path: "/revoke", route: || web::to(token::revoke) },
    Endpoint {
        method: Method::GET,
        path: "/.well-known/openid-configuration",
        route: || web::to(wellknown::openid_configuration),
    },
    Endpoint {
        method: Method::GET,
        path: "/.well-known/oauth-authorization-server",
        route: || web::to(wellknown::authorization_server),
    },
    Endpoint { method: Method::GET, path: "/.well-known/claimbound", route: || web::to(wellknown::claimbound) },
    Endpoint { method: Method::GET, path: "/jwks", route: || web::to(wellknown::jwks) },
    Endpoint { method: Method::GET, path: "/evidence/checkpoint", route: || web::to(wellknown::checkpoint) },
    Endpoint { method: Method::GET, path: "/evidence/key", route: || web::to(wellknown::checkpoint_key) },
    Endpoint { method: Method::GET, path: "/healthz", route: || web::to(wellknown::healthz) },
    Endpoint { method: Method::GET, path: "/readyz", route: || web::to(wellknown::readyz) },
];

/// What is answered also while nothing else is: whether the broker is up, and why it is closed.
const HEALTH: [&str; 3] = ["/healthz", "/readyz", "/operator/health"];

/// What stands on the operator listener.
pub const OPERATOR: &[Endpoint] = &[
    Endpoint { method: Method::GET, path: "/metrics", route: || web::to(operator::metrics) },
    Endpoint { method: Method::GET, path: "/operator/health", route: || web::to(operator::health) },
];

impl Endpoint {
    fn allow(&self) -> &'static str {
        if self.method == Method::GET { "GET, HEAD" } else { "POST" }
    }

    /// RFC 9110 section 9.3.2: whoever answers GET answers HEAD.
    fn answers(&self, method: &Method) -> bool {
        *method == self.method || (*method == Method::HEAD && self.method == Method::GET)
    }
}

/// Hangs a table in. Every path stands in it once.
pub fn configure(table: &'static [Endpoint]) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        for endpoint in table {
            let resource = web::resource(endpoint.path)
                .route((endpoint.route)().guard(guard::fn_guard(|request| endpoint.answers(&request.head().method))))
                .default_service(web::to(move || async move { wrong_method(endpoint.allow()) }));
            config.service(resource);
        }
        config.default_service(web::to(not_found));
    }
}

async fn not_found() -> HttpResponse {
    let text = "there is no such path here; `/.well-known/oauth-authorization-server` lists the endpoints";
    answer::no_such_way(StatusCode::NOT_FOUND, "not_found", text).respond()
}

fn wrong_method(allow: &'static str) -> HttpResponse {
    let text = format!("this path answers {allow} only");
    let mut response = answer::no_such_way(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &text).respond();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// Around every request: the head's size, the connection's fate, the access log.
pub async fn around(
    shared: Data<Shared>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let payload = request.take_payload();
    request.extensions_mut().insert(Unread(payload));
    let mut response = if limit::head_bytes(request.request()) > limit::HEAD_BYTES_MAX {
        let away = answer::turned_away(&TurnedAway::HeadTooLarge).respond();
        request.into_response(away).map_into_right_body()
    } else if shared.front.closed() && !HEALTH.contains(&request.path()) {
        request.into_response(answer::closed().respond()).map_into_right_body()
    } else {
        next.call(request).await?.map_into_left_body()
    };

    let noted = response.response().extensions().get::<Noted>().copied().unwrap_or_default();
    let status = response.status();
    if status.is_client_error() && noted.decision.is_none() {
        shared.front.count_turned_away(status.as_u16());
    }
    log(response.request(), status, noted, started, &shared);
    let keep = noted.granted || is_ours(response.request(), &shared);
    let head = response.response_mut().head_mut();
    head.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !keep {
        head.set_connection_type(ConnectionType::Close);
    }
    let unread = response.request().extensions_mut().remove::<Unread>();
    Ok(response.map_body(|_, body| Holding { body: body.boxed(), _unread: unread }))
}

/// An answer's body that keeps the request's from being dropped: see [`Unread`].
struct Holding {
    body: BoxBody,
    _unread: Option<Unread>,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// Whether the peer may hold a connection. The server times a connection's first head only: a stranger that was let
/// keep one could send a second head for ever. So it is kept for trusted proxies, for this host, and after a grant.
fn is_ours(request: &HttpRequest, shared: &Shared) -> bool {
    request.peer_addr().is_some_and(|peer| {
        let address = peer.ip().to_canonical();
        address.is_loopback() || limit::is_trusted(address, &shared.config.trusted_proxies)
    })
}

/// One line per request; nothing in it is of the sender's choosing but its network. Unknown paths are not repeated: a
/// mangled URL may hold a token.
fn log(request: &HttpRequest, status: StatusCode, noted: Noted, started: Instant, shared: &Shared) {
    let path = PUBLIC.iter().chain(OPERATOR).map(|endpoint| endpoint.path).find(|path| *path == request.path());
    let method = [Method::GET, Method::HEAD, Method::POST].into_iter().find(|method| method == request.method());
    tracing::info!(
        method = method.as_ref().map_or("other", Method::as_str),
        path = path.unwrap_or("unknown"),
        status = status.as_u16(),
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        decision_id = noted.decision.map(|id| display(Uuid::from_u128(id.0))),
        network = limit::client_address(request, &shared.config.trusted_proxies)
            .map(|address| display(limit::network(address))),
        "request answered"
    );
}

#[cfg(test)]
pub(super) mod tests;
