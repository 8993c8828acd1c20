//! Whether whoever asks may: before the handler, and before a byte of a body is read.

use super::say;
use crate::{
    broker::NoOperator,
    http::{
        answer::Reply,
        front::Shared,
        limit,
        routes::{Endpoint, at},
    },
    operators::May,
    secret::Secret,
};
use actix_web::{
    Error, HttpMessage as _, HttpRequest,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web::Data,
};

/// What an endpoint asks of whoever comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Any operator.
    Operator,
    /// An operator who may this.
    May(May),
}

/// Lets an operator through, with an [`Operator`](crate::operators::Operator), a [`Who`](crate::broker::Who) and what they
/// presented in the request's extensions. A method that the path does not have goes on to its 405: it costs no token.
pub async fn gate(
    rows: &'static [Endpoint],
    path: &'static str,
    shared: Data<Shared>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(endpoint) = at(rows, path).find(|row| row.answers(request.method())) else {
        return next.call(request).await;
    };
    if endpoint.needs != Needs::Nothing
        && let Err(reply) = let_through(endpoint.needs, &shared, request.request()).await
    {
        return Ok(request.into_response(reply.respond()));
    }
    next.call(request).await
}

async fn let_through(needs: Needs, shared: &Shared, request: &HttpRequest) -> Result<(), Reply> {
    limit::rate(request, shared).map_err(say::later)?;
    let presented = presented(request).ok_or_else(say::nobody)?;
    let who = shared.front.operator(Secret::new(presented.reveal().to_owned())).await;
    let who = who.map_err(|why| match why {
        NoOperator::Unknown => say::nobody(),
        NoOperator::TooOften { retry_after_seconds } => say::later(retry_after_seconds),
        NoOperator::Down => say::unavailable(),
    })?;
    if let Needs::May(may) = needs {
        who.operator.require(may).map_err(|not| say::not_allowed(&not.to_string()))?;
    }
    let mut extensions = request.extensions_mut();
    extensions.insert(who.operator.clone());
    extensions.insert(who);
    extensions.insert(presented);
    Ok(())
}

/// The one bearer token of a request (RFC 6750 section 2.1).
pub(in crate::http) fn presented(request: &HttpRequest) -> Option<Secret> {
    let mut given = request.headers().get_all(header::AUTHORIZATION);
    let (Some(one), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    let good = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(fits);
    good.then(|| Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn one_bearer_token_is_read() {
        for (headers, read) in [
            (vec!["Bearer a.b-c"], Some("a.b-c")),
            (vec!["bearer abc="], Some("abc=")),
            (vec![], None),
            (vec!["Bearer "], None),
            (vec!["Bearer  a"], None),
            (vec!["Bearer a b"], None),
            (vec!["Basic YTpi"], None),
            (vec!["Bearer a", "Bearer b"], None),
        ] {
            let request = headers
                .iter()
                .fold(TestRequest::get(), |request, value| request.append_header(("authorization", *value)));
            let found = presented(&request.to_http_request());
            assert_eq!(found.as_ref().map(Secret::reveal), read, "{headers:?}");
        }
    }
}
