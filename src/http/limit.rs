//! Everything that is judged before a byte of a token is read: who sends, how fast, how much, and in which form.

use super::{
    answer::{self, Reply, TurnedAway},
    form::{Form, FormError},
    front::Shared,
};
use crate::rate::Rate;
use actix_web::{HttpMessage, HttpRequest, dev::Payload, http::header};
use futures_util::StreamExt;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use zeroize::Zeroizing;

/// A request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Request line and headers together.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Hops of `X-Forwarded-For` that are looked at.
pub const HOPS_MAX: usize = 16;
/// Steps of sign-ins per second and network, whatever the configuration says of other requests.
pub const SIGN_IN_STEPS_PER_SECOND: u32 = 5;
/// Forms per second and person on the pages for people.
pub const VISITOR_POSTS_PER_SECOND: u32 = 1;
/// People whose rate is remembered, twice.
pub const VISITORS_MAX: usize = 4 * 1024;
/// Networks whose rate is remembered, twice: see [`Rate`].
pub const NETWORKS_MAX: usize = 32 * 1024;

/// A request's body as far as nobody has read it. It travels in the request's extensions and outlives the answer: the
/// server closes a connection whose body somebody still holds, and waits for ever for the end of a chunked one that was
/// dropped.
pub struct Unread(pub Payload);

/// Reads the form of a `POST` of anyone, within all limits.
pub async fn receive(request: &HttpRequest, shared: &Shared) -> Result<Form, TurnedAway> {
    rate(request, shared).map_err(|retry_after_seconds| TurnedAway::TooManyRequests { retry_after_seconds })?;
    form(request, shared).await
}

/// Reads the form of a `POST` whose rate was judged. The raw body is wiped.
pub async fn form(request: &HttpRequest, shared: &Shared) -> Result<Form, TurnedAway> {
    if request.uri().query().is_some() {
        return Err(TurnedAway::QueryParameters);
    }
    if !is_form(request) {
        return Err(TurnedAway::NotAForm);
    }
    Ok(Form::parse(&read(request, shared, BODY_BYTES_MAX).await?)?)
}

/// Reads the JSON of an operator's request, who was let in already, or is about to sign in.
pub async fn json<T: DeserializeOwned>(request: &HttpRequest, shared: &Shared, bytes_max: usize) -> Result<T, Reply> {
    let read = async {
        if request.content_type() != "application/json" || request.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(TurnedAway::NotJson);
        }
        let body = read(request, shared, bytes_max).await?;
        serde_json::from_slice(&body).map_err(|error| TurnedAway::BadJson(format!("the body cannot be read: {error}")))
    };
    read.await.map_err(|why| answer::turned_away(&why))
}

/// One request off the rate of the sender's network, or in how many seconds there is one.
pub fn rate(request: &HttpRequest, shared: &Shared) -> Result<(), u32> {
    take(shared.rate.as_ref(), request, shared)
}

/// One step of a sign-in.
pub fn sign_in_rate(request: &HttpRequest, shared: &Shared) -> Result<(), u32> {
    take(shared.sign_in_rate.as_ref(), request, shared)
}

fn take(rate: Option<&Rate<IpAddr>>, request: &HttpRequest, shared: &Shared) -> Result<(), u32> {
    match (rate, client_address(request, &shared.config.trusted_proxies)) {
        (Some(rate), Some(address)) => rate.take(network(address), shared.started.elapsed()),
        _ => Ok(()),
    }
}

async fn read(request: &HttpRequest, shared: &Shared, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, TurnedAway> {
    let most = Duration::from_secs(shared.config.limits.request_seconds.into());
    let taken = request.extensions_mut().remove();
    let Unread(mut payload) = taken.unwrap_or(Unread(Payload::None));
    let read = tokio::time::timeout(most, body(request, &mut payload, bytes_max)).await;
    request.extensions_mut().insert(Unread(payload));
    read.map_err(|_| TurnedAway::BodyTooSlow)?
}

impl From<FormError> for TurnedAway {
    fn from(error: FormError) -> Self {
        Self::Form(error)
    }
}

async fn body(
    request: &HttpRequest,
    payload: &mut Payload,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, TurnedAway> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(TurnedAway::BodyTooLarge);
    }
    // The whole room at once: a vector that grows leaves copies of a token behind.
    let mut body = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(BODY_BYTES_MAX)));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| TurnedAway::BodyBroken)?;
        if body.len() + chunk.len() > bytes_max {
            return Err(TurnedAway::BodyTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// `application/x-www-form-urlencoded`, alone or with `charset=utf-8`; once, and not compressed.
fn is_form(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let mut kinds = headers.get_all(header::CONTENT_TYPE);
    let (Some(kind), None) = (kinds.next().and_then(|kind| kind.to_str().ok()), kinds.next()) else { return false };
    let (essence, parameters) = match kind.split_once(';') {
        Some((essence, parameters)) => (essence, Some(parameters)),
        None => (kind, None),
    };
    let utf_8 = |parameters: &str| {
        parameters.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset") && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    };
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && parameters.is_none_or(utf_8)
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Bytes of a request's head, as near as the parsed form tells.
pub fn head_bytes(request: &HttpRequest) -> usize {
    let line = request.method().as_str().len() + request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // Four bytes each: colon, space, CR LF.
    request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + line
}

/// Who sends: the peer; behind trusted proxies the nearest hop that is none. A header of anyone else is not read.
pub fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let forwarded: Vec<&str> =
        request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    Some(nearest_stranger(request.peer_addr()?.ip(), &forwarded, trusted))
}

/// Whether the peer is one of ours.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address.to_canonical()))
}

fn nearest_stranger(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    let hops = forwarded.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !is_trusted(address, trusted) {
            break;
        }
        // What a trusted proxy wrote and nobody can read ends the way: the last hop that is known counts.
        let Some(further) = hop_address(hop.trim()) else { break };
        address = further.to_canonical();
    }
    address
}

/// An address, with or without a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().map(|socket| socket.ip()).ok()).or_else(bracketed)
}

/// The prefix that one party holds: IPv4 whole, IPv6 cut to /48.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_party_is_one_network() {
        assert_eq!(network(ip("192.0.2.7")), ip("192.0.2.7"));
        assert_eq!(network(ip("::ffff:192.0.2.7")), ip("192.0.2.7"));
        assert_eq!(network(ip("2001:db8:1:2::3")), ip("2001:db8:1::"));
    }

    #[test]
    fn only_trusted_proxies_say_who_sends() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["192.0.2.66", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", vec!["192.0.2.66,unknown,10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("2001:db8::1", vec!["[2001:4860::8]:443"], "2001:4860::8"),
            ("2001:db8::1", vec!["[2001:4860::8]"], "2001:4860::8"),
            ("::ffff:10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["10.0.0.3"], "10.0.0.3"),
        ] {
            assert_eq!(nearest_stranger(ip(peer), &forwarded, &trusted), ip(expected), "{peer} {forwarded:?}");
        }
        let many = vec!["10.9.9.9"; HOPS_MAX + 1].join(",");
        let hops = format!("198.51.100.1,{many}");
        assert_eq!(nearest_stranger(ip("10.0.0.1"), &[&hops], &trusted), ip("10.9.9.9"), "hops are bounded");
    }

    #[test]
    fn content_types() {
        let form = "application/x-www-form-urlencoded";
        for (kind, expected) in [
            (form.to_owned(), true),
            (form.to_uppercase(), true),
            (format!("{form};charset=UTF-8"), true),
            (format!("{form} ; charset=\"utf-8\""), true),
            (format!("{form}; charset=iso-8859-1"), false),
            (format!("{form}; charset=utf-8; x=y"), false),
            (format!("{form};"), false),
            (format!("{form}x"), false),
            ("application/json".to_owned(), false),
            (String::new(), false),
        ] {
            let request = TestRequest::post().insert_header(("content-type", kind.as_str())).to_http_request();
            assert_eq!(is_form(&request), expected, "{kind}");
        }
        assert!(!is_form(&TestRequest::post().to_http_request()), "absent");
        let twice = TestRequest::post().insert_header(("content-type", form)).append_header(("content-type", form));
        assert!(!is_form(&twice.to_http_request()), "twice");
        let packed =
            TestRequest::post().insert_header(("content-type", form)).insert_header(("content-encoding", "gzip"));
        assert!(!is_form(&packed.to_http_request()), "compressed");
    }
}
