//! The library's requests, made by the house's one HTTP client.

use super::SignInError;
use crate::{
    config::SignIn,
    net::{Call, Client, FetchError, FetchRules},
    secret::Secret,
};
use openidconnect::{
    AsyncHttpClient, ErrorResponse, HttpRequest, HttpResponse, RequestTokenError,
    http::{Response, header},
};
use std::{error::Error, pin::Pin, time::Duration};

/// Of any answer of a provider.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// What of a provider's own words a log keeps.
const TOLD_CHARACTERS_MAX: usize = 300;

pub(super) struct Wire<'a> {
    pub client: &'a Client,
    pub sign_in: &'a SignIn,
    pub development: bool,
}

impl<'c> AsyncHttpClient<'c> for Wire<'_> {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let method = if request.method() == "POST" { "POST" } else { "GET" };
            let url = request.uri().to_string();
            let text = |name: header::HeaderName| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
            let secrets = [("accept", header::ACCEPT), ("authorization", header::AUTHORIZATION)];
            let secrets: Vec<_> =
                secrets.into_iter().filter_map(|(name, at)| Some((name, Secret::new(text(at)?)))).collect();
            let headers: Vec<_> = secrets.iter().map(|(name, value)| (*name, value)).collect();
            let kind = text(header::CONTENT_TYPE).unwrap_or_default();
            let body = (method == "POST").then_some((kind.as_str(), request.body().as_slice()));
            let rules = FetchRules {
                allow_private_network: self.sign_in.allow_private_network,
                allow_plain_loopback: self.development,
                ca_file: self.sign_in.ca_file.as_deref(),
                bytes_max: ANSWER_BYTES_MAX,
                timeout: ANSWER_WAIT_MAX,
            };
            let answer = self.client.call(&Call { method, url: &url, headers: &headers, body }, &rules).await?;
            let mut response = Response::builder().status(answer.status);
            if let Some(kind) = answer.header("content-type") {
                response = response.header(header::CONTENT_TYPE, kind);
            }
            response.body(answer.body).map_err(|error| FetchError { method, url, why: error.to_string() })
        })
    }
}

/// A provider that says no, or that does not answer.
pub(super) fn told<T: ErrorResponse + 'static>(
    sign_in: &SignIn,
    error: &RequestTokenError<FetchError, T>,
) -> SignInError {
    let name = sign_in.name.clone();
    match error {
        RequestTokenError::ServerResponse(_) => SignInError::Refused { name, why: causes(error) },
        // The answer's bytes are not told: they may hold a token.
        RequestTokenError::Parse(error, _) => {
            SignInError::Down { name, why: format!("it answered what is no OpenID provider's: {error}") }
        }
        RequestTokenError::Request(_) | RequestTokenError::Other(_) => SignInError::Down { name, why: causes(error) },
    }
}

/// An error with its causes.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = cause.source();
    }
    let short: String = text.chars().take(TOLD_CHARACTERS_MAX).collect();
    short.replace(char::is_control, " ")
}
