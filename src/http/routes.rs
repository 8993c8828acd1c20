//! One table of endpoints drives the routes, the 404s and 405s, the access log and the tests.

use super::{
    answer::{self, Noted, TurnedAway},
    claim,
    front::Shared,
    introspect,
    limit::{self, Unread},
    operator::{self, Needs},
    sts, token, wellknown,
};
use crate::operators::May;
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse, Route,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    guard,
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::{Next, from_fn},
    web::{self, Bytes, Data, ServiceConfig},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use uuid::Uuid;

/// One way in. An endpoint is a row of one of the tables and nothing else: who may call it, its 405, its place in the
/// OpenAPI document and in the access log follow from that.
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    /// Whom it is for.
    pub needs: Needs,
    /// What it does, in one sentence.
    pub about: &'static str,
    route: fn() -> Route,
}

/// A row that needs nobody.
const fn open(method: Method, path: &'static str, about: &'static str, route: fn() -> Route) -> Endpoint {
    Endpoint { method, path, needs: Needs::Nothing, about, route }
}

/// A row for operators.
const fn for_operators(
    method: Method,
    path: &'static str,
    needs: Needs,
    about: &'static str,
    route: fn() -> Route,
) -> Endpoint {
    Endpoint { method, path, needs, about, route }
}

/// What anyone can reach.
pub const PUBLIC: &[Endpoint] = &[
    open(Method::POST, "/token", "Exchange a CI token for a credential", || web::to(token::token)),
    open(Method::POST, "/aws/sts", "Exchange a CI token in the words of AWS STS", || web::to(sts::sts)),
    open(Method::POST, "/aws/sts/", "The same", || web::to(sts::sts)),
    open(Method::POST, "/revoke", "End the lease of a credential", || web::to(token::revoke)),
    open(Method::POST, "/introspect", "Ask whether a token is still good", || web::to(introspect::introspect)),
    open(Method::GET, "/statuslists/{list}", "A signed list of tokens that were ended", || {
        web::to(wellknown::status_list)
    }),
    open(Method::GET, "/.well-known/openid-configuration", "The broker as an OpenID provider", || {
        web::to(wellknown::openid_configuration)
    }),
    open(Method::GET, "/.well-known/oauth-authorization-server", "The broker as an authorization server", || {
        web::to(wellknown::authorization_server)
    }),
    open(Method::GET, "/.well-known/claimbound", "What clients compare: endpoint, audience, clock, version", || {
        web::to(wellknown::claimbound)
    }),
    open(Method::GET, "/jwks", "The broker's public keys", || web::to(wellknown::jwks)),
    open(Method::GET, "/evidence/checkpoint", "The newest signed checkpoint of the evidence", || {
        web::to(wellknown::checkpoint)
    }),
    open(Method::GET, "/evidence/key", "What verifies checkpoints", || web::to(wellknown::checkpoint_key)),
    open(Method::GET, "/claim", "A person's ceremonies, as a page", || web::to(claim::list)),
    open(Method::GET, "/claim/style.css", "The pages' stylesheet", || web::to(claim::style)),
    open(Method::POST, "/claim/sign-in", "Begin a person's sign-in at a browser", || web::to(claim::sign_in)),
    open(Method::GET, "/claim/callback", "Where a provider sends the browser afterwards", || web::to(claim::callback)),
    open(Method::POST, "/claim/sign-out", "End a person's session at a browser", || web::to(claim::sign_out)),
    open(Method::POST, "/claim/api/sign-in", "Begin a person's sign-in for commands", || {
        web::to(claim::commands::sign_in)
    }),
    open(Method::POST, "/claim/api/session", "End it with a session", || web::to(claim::commands::finish)),
    open(Method::DELETE, "/claim/api/session", "End a person's session", || web::to(claim::commands::sign_out)),
    open(Method::GET, "/claim/api/ceremonies", "A person's ceremonies", || web::to(claim::commands::list)),
    open(Method::GET, "/claim/api/ceremonies/{id}", "What a ceremony binds", || web::to(claim::commands::show)),
    open(Method::POST, "/claim/api/ceremonies/{id}/approve", "Claim a ceremony by command", || {
        web::to(claim::commands::approve)
    }),
    open(Method::POST, "/claim/api/ceremonies/{id}/reject", "Reject a ceremony by command", || {
        web::to(claim::commands::reject)
    }),
    open(Method::POST, "/claim/link", "Begin to show an account at a code host", || web::to(claim::link::begin)),
    open(Method::GET, "/claim/link/callback", "Where a code host sends the browser", || web::to(claim::link::callback)),
    open(Method::POST, "/claim/link/finish", "Keep the account", || web::to(claim::link::finish)),
    open(Method::POST, "/claim/link/remove", "Take an account back", || web::to(claim::link::remove)),
    open(Method::GET, "/claim/{id}", "What a ceremony binds, as a page", || web::to(claim::show)),
    open(Method::POST, "/claim/{id}", "Claim a ceremony", || web::to(claim::claim)),
    open(Method::POST, "/claim/{id}/reject", "Reject a ceremony", || web::to(claim::reject)),
    open(Method::GET, "/healthz", "Whether the process answers", || web::to(wellknown::healthz)),
    open(Method::GET, "/readyz", "Whether exchanges can be answered", || web::to(wellknown::readyz)),
];

/// What is answered also while nothing else is: whether the broker is up, and why it is closed.
const HEALTH: [&str; 3] = ["/healthz", "/readyz", "/operator/health"];

/// What stands on the operator listener.
pub const OPERATOR: &[Endpoint] = &[
    open(Method::GET, "/metrics", "Metrics as OpenMetrics text", || web::to(operator::metrics)),
    open(Method::GET, "/operator/health", "Detailed health", || web::to(operator::health)),
    open(Method::POST, "/operator/sign-in", "Begin a person's sign-in", || web::to(operator::sign_in)),
    open(Method::POST, "/operator/session", "End a sign-in with a session", || web::to(operator::finish)),
    for_operators(Method::GET, "/operator/session", Needs::Operator, "Who the broker takes you for", || {
        web::to(operator::whoami)
    }),
    for_operators(Method::DELETE, "/operator/session", Needs::Operator, "End your session", || {
        web::to(operator::sign_out)
    }),
    for_operators(Method::POST, "/operator/suspend", Needs::May(May::Suspend), "Refuse further grants", || {
        web::to(operator::deeds::suspend)
    }),
    for_operators(Method::POST, "/operator/resume", Needs::May(May::Resume), "Take a suspension back", || {
        web::to(operator::deeds::resume)
    }),
    for_operators(Method::POST, "/operator/revoke", Needs::May(May::Revoke), "End leases", || {
        web::to(operator::deeds::revoke)
    }),
    for_operators(Method::POST, "/operator/leases", Needs::May(May::Leases), "Leases by what they are about", || {
        web::to(operator::deeds::leases)
    }),
    for_operators(Method::POST, "/operator/ceremonies", Needs::May(May::Leases), "What waits for people", || {
        web::to(operator::deeds::ceremonies)
    }),
    for_operators(
        Method::POST,
        "/operator/ceremonies/lapsed",
        Needs::May(May::Leases),
        "What nobody claimed, and claims that lapsed",
        || web::to(operator::deeds::lapses),
    ),
    for_operators(Method::POST, "/operator/claim-reset", Needs::May(May::ClaimReset), "Take claims back", || {
        web::to(operator::deeds::claim_reset)
    }),
    for_operators(Method::POST, "/operator/claim-carry", Needs::May(May::ClaimReset), "Carry claims over", || {
        web::to(operator::deeds::claim_carry)
    }),
    for_operators(Method::GET, "/operator/suspensions", Needs::May(May::Leases), "What stands suspended", || {
        web::to(operator::deeds::suspensions)
    }),
    for_operators(Method::GET, "/operator/keys", Needs::May(May::Keys), "Our signing keys", || {
        web::to(operator::keys::list)
    }),
    for_operators(Method::POST, "/operator/keys", Needs::May(May::Keys), "Rotate or revoke signing keys", || {
        web::to(operator::keys::change)
    }),
    for_operators(Method::GET, "/operator/decisions", Needs::May(May::Audit), "Records by what they are about", || {
        web::to(operator::decisions)
    }),
    for_operators(
        Method::GET,
        "/operator/decisions/{id}",
        Needs::May(May::Explain),
        "A recorded answer, with the evaluation made again",
        || web::to(operator::decision),
    ),
    for_operators(
        Method::GET,
        "/operator/history",
        Needs::May(May::Audit),
        "Who could and did, and what nobody used",
        || web::to(operator::history),
    ),
    for_operators(
        Method::POST,
        "/operator/history",
        Needs::May(May::Audit),
        "The same, and what a proposed folder would have answered",
        || web::to(operator::history_of),
    ),
    for_operators(Method::GET, "/openapi.json", Needs::Operator, "This interface as OpenAPI 3.1", || {
        web::to(operator::openapi)
    }),
];

/// The rows of one path.
pub fn at<'e>(table: &'e [Endpoint], path: &str) -> impl Iterator<Item = &'e Endpoint> {
    table.iter().filter(move |endpoint| endpoint.path == path)
}

/// The methods of one path, as `Allow` lists them.
fn allow(table: &[Endpoint], path: &str) -> String {
    let told = |endpoint: &Endpoint| match endpoint.method {
        Method::GET => "GET, HEAD".to_owned(),
        ref other => other.to_string(),
    };
    at(table, path).map(told).collect::<Vec<_>>().join(", ")
}

impl Endpoint {
    /// RFC 9110 section 9.3.2: whoever answers GET answers HEAD.
    pub fn answers(&self, method: &Method) -> bool {
        *method == self.method || (*method == Method::HEAD && self.method == Method::GET)
    }
}

/// Hangs a table in. Every path is one resource, whatever its methods; one that somebody may not reach has a gate.
pub fn configure(table: &'static [Endpoint]) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        for (number, first) in table.iter().enumerate() {
            let path = first.path;
            if table[..number].iter().any(|earlier| earlier.path == path) {
                continue;
            }
            let mut resource = web::resource(path);
            for endpoint in at(table, path) {
                let answers = guard::fn_guard(|request| endpoint.answers(&request.head().method));
                resource = resource.route((endpoint.route)().guard(answers));
            }
            let resource = resource.default_service(web::to(move || async move { wrong_method(&allow(table, path)) }));
            match at(table, path).all(|endpoint| endpoint.needs == Needs::Nothing) {
                true => config.service(resource),
                false => config.service(resource.wrap(from_fn(move |shared: Data<Shared>, request, next| {
                    operator::gate(table, path, shared, request, next)
                }))),
            };
        }
        config.default_service(web::to(not_found));
    }
}

async fn not_found() -> HttpResponse {
    let text = "there is no such path here; `/.well-known/oauth-authorization-server` lists the endpoints";
    answer::no_such_way(StatusCode::NOT_FOUND, "not_found", text).respond()
}

fn wrong_method(allow: &str) -> HttpResponse {
    let text = format!("this path answers {allow} only");
    let mut response = answer::no_such_way(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &text).respond();
    let allow = HeaderValue::from_str(allow).expect("methods are text");
    response.headers_mut().insert(header::ALLOW, allow);
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
    let pattern = request.match_pattern();
    let known = |path: &&str| Some(*path) == pattern.as_deref();
    let path = PUBLIC.iter().chain(OPERATOR).map(|endpoint| endpoint.path).find(known);
    let method =
        [Method::GET, Method::HEAD, Method::POST, Method::DELETE].into_iter().find(|method| method == request.method());
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
