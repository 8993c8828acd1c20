//! The one HTTP client. What it reads steers trust, so it goes only where the configuration sent it: no redirects, no
//! proxy but for commands of jobs, `https` (plain HTTP to loopback in development), no address inside our own network unless that issuer's
//! configuration allows it, and never more bytes or seconds than the rules of the request.
//!
//! Addresses are judged after resolution and the connection is made to the judged address, so a name that resolves
//! differently a moment later gains nothing.

mod address;

use crate::secret::Secret;
use address::Reach;
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use url::{Host, Url};

/// A file of certificate authorities beyond this is refused.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Distinct rule sets whose clients are kept; a CA file that changes is a new rule set.
const CLIENTS_KEPT_MAX: usize = 64;
const CONNECT_SECONDS_MAX: u64 = 3;

/// A boxed future: what a trait returns that waits for something far away.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A GET that did not give a usable body.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{method} {url}: {why}")]
pub struct FetchError {
    pub method: &'static str,
    pub url: String,
    pub why: String,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub method: &'static str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a Secret)],
    /// With its content type.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// Where a request may go and how much it may take.
#[derive(Clone, Debug)]
pub struct FetchRules<'a> {
    /// Private, loopback and link-local addresses are refused unless this issuer's configuration allows them.
    /// Addresses of cloud metadata services are refused always.
    pub allow_private_network: bool,
    /// Plain HTTP to a loopback address: development only.
    pub allow_plain_loopback: bool,
    pub ca_file: Option<&'a Path>,
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct Client {
    built: Arc<Mutex<HashMap<BuildKey, reqwest::Client>>>,
    proxies: bool,
}

/// What makes two requests need two clients.
#[derive(Clone, PartialEq, Eq, Hash)]
struct BuildKey {
    reach: Reach,
    plain: bool,
    /// The CA file's bytes, not its path: a file that was renewed must not meet an old client.
    authorities: Option<Vec<u8>>,
}

impl Client {
    /// Proxies only when configured; none here. Sets the process-wide TLS provider if nobody did, so that no mix of
    /// features can leave it ambiguous.
    pub fn new() -> Result<Self, FetchError> {
        // An error means that a provider is installed already: `main` and the tests install this same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Ok(Self { built: Arc::default(), proxies: false })
    }

    /// For commands of people and jobs: `https` goes through the proxies that the environment names (`HTTPS_PROXY`, `NO_PROXY`),
    /// and then it is the proxy's address that is judged here.
    pub fn through_proxies() -> Result<Self, FetchError> {
        Ok(Self { proxies: true, ..Self::new()? })
    }

    /// The body of a 200 answer, whole and within the cap. The content type is not judged.
    pub async fn get(&self, url: &str, rules: &FetchRules<'_>) -> Result<Vec<u8>, FetchError> {
        let fail = |why: String| FetchError { method: "GET", url: url.to_owned(), why };
        match tokio::time::timeout(rules.timeout, self.fetch(url, rules)).await {
            Ok(answer) => answer.map_err(fail),
            Err(_) => Err(fail(format!("no whole answer within {:?}", rules.timeout))),
        }
    }

    /// The answer, whatever its status, to a GET with headers of the caller's; redirects are answers, too.
    pub async fn ask(
        &self,
        url: &str,
        headers: &[(&str, &Secret)],
        rules: &FetchRules<'_>,
    ) -> Result<Answer, FetchError> {
        self.call(&Call { method: "GET", url, headers, body: None }, rules).await
    }

    /// The answer, whatever its status, to any request.
    pub async fn call(&self, call: &Call<'_>, rules: &FetchRules<'_>) -> Result<Answer, FetchError> {
        let fail = |why: String| FetchError { method: call.method, url: call.url.to_owned(), why };
        let asked = async {
            let answer = self.send(call, rules).await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok(Answer { status, headers, body: body(answer, rules).await? })
        };
        match tokio::time::timeout(rules.timeout, asked).await {
            Ok(answer) => answer.map_err(fail),
            Err(_) => Err(fail(format!("no whole answer within {:?}", rules.timeout))),
        }
    }

    async fn send(&self, call: &Call<'_>, rules: &FetchRules<'_>) -> Result<reqwest::Response, String> {
        let url = Url::parse(call.url).map_err(|error| format!("not a URL: {error}"))?;
        let (reach, plain) = permit(&url, rules)?;
        let method = reqwest::Method::from_bytes(call.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client(reach, plain, rules.ca_file)?.request(method, url);
        if let Some((kind, body)) = call.body {
            request = request.header(CONTENT_TYPE, kind).body(body.to_vec());
        }
        for (name, value) in call.headers {
            let mut value = HeaderValue::from_str(value.reveal())
                .map_err(|_| format!("the value for the header `{name}` holds characters that no header has"))?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        request.send().await.map_err(|error| told(&error))
    }

    async fn fetch(&self, url: &str, rules: &FetchRules<'_>) -> Result<Vec<u8>, String> {
        let answer = self.send(&Call { method: "GET", url, headers: &[], body: None }, rules).await?;
        match answer.status() {
            status if status.is_redirection() => {
                return Err(format!("answered {} and redirects are not followed", status.as_u16()));
            }
            status if status != reqwest::StatusCode::OK => return Err(format!("answered {}", status.as_u16())),
            _ => {}
        }
        body(answer, rules).await
    }

    fn client(&self, reach: Reach, plain: bool, ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
        let authorities = ca_file.filter(|_| !plain).map(read_authorities).transpose()?;
        let key = BuildKey { reach, plain, authorities };
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = built.get(&key) {
            return Ok(client.clone());
        }
        let client = build(&key, self.proxies && !plain)?;
        if built.len() >= CLIENTS_KEPT_MAX {
            built.clear();
        }
        built.insert(key, client.clone());
        Ok(client)
    }
}

/// An answer's body, whole and within the cap.
async fn body(mut answer: reqwest::Response, rules: &FetchRules<'_>) -> Result<Vec<u8>, String> {
    let too_long = || format!("the answer is longer than {} bytes", rules.bytes_max);
    if answer.content_length().is_some_and(|length| length > rules.bytes_max as u64) {
        return Err(too_long());
    }
    // None is asked for and no decompression is compiled in: bytes on the wire are the bytes counted here.
    if let Some(coding) = answer.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(format!("answered with the content encoding {coding:?}, which nobody asked for"));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| told(&error))? {
        if body.len() + chunk.len() > rules.bytes_max {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Judges scheme and host before anything is resolved; a literal address never reaches the resolver.
fn permit(url: &Url, rules: &FetchRules<'_>) -> Result<(Reach, bool), String> {
    let Some(host) = url.host() else { return Err("the URL names no host".to_owned()) };
    let loopback_host = match &host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let plain = match url.scheme() {
        "https" => false,
        "http" if loopback_host && rules.allow_plain_loopback => true,
        "http" => return Err("plain HTTP is not used; only `https`".to_owned()),
        other => return Err(format!("`{other}` is not used; only `https`")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL carries a user name or password".to_owned());
    }
    let reach = match (rules.allow_private_network, rules.allow_plain_loopback && loopback_host) {
        // Plain HTTP stays on this machine even where the inner network is allowed.
        (_, true) => Reach::Loopback,
        (true, false) => Reach::Private,
        (false, false) => Reach::Public,
    };
    let literal = match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
    };
    match literal {
        Some(address) if !reach.allows(address) => Err(refusal(&[address])),
        _ => Ok((reach, plain)),
    }
}

fn build(key: &BuildKey, proxies: bool) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(!key.plain)
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        // Fetches are minutes apart; each connects anew, to an address judged anew.
        .pool_max_idle_per_host(0)
        .dns_resolver(Judged { reach: key.reach })
        .user_agent(concat!("claimbound/", env!("CARGO_PKG_VERSION")));
    if !proxies {
        builder = builder.no_proxy();
    }
    if key.plain {
        // No TLS is spoken, so a machine without system certificates can do this too.
        builder = builder.tls_certs_only([]);
    }
    if let Some(authorities) = &key.authorities {
        let certificates = reqwest::Certificate::from_pem_bundle(authorities)
            .map_err(|error| format!("`ca_file` is not PEM certificates: {}", told(&error)))?;
        if certificates.is_empty() {
            return Err("`ca_file` holds no certificate".to_owned());
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("the HTTP client cannot be built: {}", told(&error)))
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("`ca_file` {}: {error}", path.display());
    if fs::metadata(path).map_err(fail)?.len() > CA_FILE_BYTES_MAX {
        return Err(format!("`ca_file` {} is longer than {CA_FILE_BYTES_MAX} bytes", path.display()));
    }
    fs::read(path).map_err(fail)
}

/// The system's resolver, its answers judged.
struct Judged {
    reach: Reach,
}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        Box::pin(async move {
            let allowed = judged(tokio::net::lookup_host((name.as_str(), 0)).await?, reach)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// What of a name's addresses may be connected to. These are the ones that are: nothing resolves the name again.
fn judged(addresses: impl Iterator<Item = SocketAddr>, reach: Reach) -> Result<Vec<SocketAddr>, String> {
    let (allowed, refused): (Vec<_>, Vec<_>) = addresses.partition(|address| reach.allows(address.ip()));
    if allowed.is_empty() {
        let refused: Vec<IpAddr> = refused.iter().map(SocketAddr::ip).collect();
        return Err(refusal(&refused));
    }
    Ok(allowed)
}

fn refusal(addresses: &[IpAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("refused to connect to {}: not a public address (`allow_private_network`)", list.join(", "))
}

/// An error with its causes; the outermost text alone says only "error sending request".
fn told(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    const RULES: FetchRules<'static> = FetchRules {
        allow_private_network: false,
        allow_plain_loopback: true,
        ca_file: None,
        bytes_max: 1000,
        timeout: Duration::from_secs(5),
    };

    /// A server that sends `head`, then `body` over and over until the client goes, or once.
    async fn serve(head: &'static str, body: &'static [u8], for_ever: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(head.as_bytes()).await;
                    while stream.write_all(body).await.is_ok() && for_ever {
                        tokio::task::yield_now().await;
                    }
                });
            }
        });
        url
    }

    async fn why(url: &str, rules: &FetchRules<'_>) -> String {
        Client::new().unwrap().get(url, rules).await.unwrap_err().why
    }

    #[tokio::test]
    async fn a_body_within_the_cap_is_returned_whatever_its_type() {
        let url =
            serve("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 5\r\n\r\n", b"hello", false).await;
        let body = Client::new().unwrap().get(&url, &RULES).await.unwrap();
        assert_eq!(body, b"hello");
        let exact = FetchRules { bytes_max: 5, ..RULES };
        assert_eq!(Client::new().unwrap().get(&url, &exact).await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let head: &'static str = Box::leak(
            format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\n\r\n", trap.local_addr().unwrap()).into_boxed_str(),
        );
        let url = serve(head, b"", false).await;
        assert_eq!(why(&url, &RULES).await, "answered 302 and redirects are not followed");
        let untouched = tokio::time::timeout(Duration::from_millis(20), trap.accept()).await;
        assert!(untouched.is_err(), "nobody connected to the redirect's target");
    }

    #[tokio::test]
    async fn an_answer_that_is_packed_is_refused_unread() {
        let packed = serve("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", b"\x1f\x8b\x08", false).await;
        let why = why(&packed, &RULES).await;
        assert!(why.contains("content encoding \"gzip\""), "{why}");
        let plain =
            serve("HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\n", b"ok", false).await;
        assert_eq!(Client::new().unwrap().get(&plain, &RULES).await.unwrap(), b"ok");
    }

    /// A name that an attacker moves between two lookups gains nothing: only what was judged is connected to.
    #[test]
    fn security_097_of_a_name_s_addresses_only_the_judged_ones_are_left() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let mixed = ["127.0.0.1", "1.1.1.1", "::ffff:169.254.169.254", "10.0.0.1", "64:ff9b::a00:1"].map(address);
        let of = |reach| judged(mixed.into_iter(), reach).map(|left| left.iter().map(|a| a.ip().to_string()).collect());
        assert_eq!(of(Reach::Public), Ok(vec!["1.1.1.1".to_owned()]));
        assert_eq!(of(Reach::Loopback), Ok(vec!["127.0.0.1".to_owned()]));
        assert_eq!(of(Reach::Private).map(|left: Vec<String>| left.len()), Ok(4), "all but the metadata service");
        let none = judged([address("10.0.0.1")].into_iter(), Reach::Public).unwrap_err();
        assert!(none.contains("10.0.0.1: not a public address"), "{none}");
        assert!(judged([].into_iter(), Reach::Private).is_err());
    }

    #[tokio::test]
    async fn a_body_beyond_the_cap_is_cut_whether_announced_or_not() {
        let announced = serve("HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n", b"x", true).await;
        assert_eq!(why(&announced, &RULES).await, "the answer is longer than 1000 bytes");
        let endless = serve("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 512], true).await;
        assert_eq!(why(&endless, &RULES).await, "the answer is longer than 1000 bytes");
    }

    #[tokio::test]
    async fn a_slow_body_is_cut_at_the_deadline() {
        let url = serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"", true).await;
        let rules = FetchRules { timeout: Duration::from_millis(60), ..RULES };
        assert_eq!(why(&url, &rules).await, "no whole answer within 60ms");
    }

    #[tokio::test]
    async fn a_short_body_and_a_status_other_than_200_are_failures() {
        let short = serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"abc", false).await;
        assert!(Client::new().unwrap().get(&short, &RULES).await.is_err());
        let gone = serve("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b"", false).await;
        assert_eq!(why(&gone, &RULES).await, "answered 404");
    }

    #[tokio::test]
    async fn schemes_and_inner_addresses_are_refused_before_a_connection() {
        let strict = FetchRules { allow_plain_loopback: false, ..RULES };
        let inner = FetchRules { allow_private_network: true, ..strict.clone() };
        for (url, rules, text) in [
            ("http://127.0.0.1:1/", &strict, "plain HTTP"),
            ("http://10.0.0.1/", &RULES, "plain HTTP"),
            ("http://example.com/", &inner, "plain HTTP"),
            ("http://localhost.example.com/", &RULES, "plain HTTP"),
            ("ftp://127.0.0.1/", &RULES, "only `https`"),
            ("file:///etc/passwd", &RULES, "no host"),
            ("https://u:p@example.com/", &RULES, "user name"),
            ("https://127.0.0.1/", &strict, "not a public address"),
            ("https://0x7f.1/", &strict, "not a public address"),
            ("https://2130706433/", &strict, "not a public address"),
            ("https://[::1]/", &strict, "not a public address"),
            ("https://[::ffff:169.254.169.254]/", &strict, "not a public address"),
            ("https://169.254.169.254/", &inner, "not a public address"),
            ("https://localhost/", &strict, "not a public address"),
        ] {
            let why = why(url, rules).await;
            assert!(why.contains(text), "{url}: {why}");
        }
    }

    #[tokio::test]
    async fn a_private_issuer_is_reached_with_its_own_authority_and_only_then() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Client::new().unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for mut stream in listener.incoming().flatten() {
                let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = rustls::Stream::new(&mut session, &mut stream);
                if tls.read(&mut [0; 4096]).is_ok() {
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, made.cert.pem()).unwrap();
        let client = Client::new().unwrap();
        let rules =
            FetchRules { allow_private_network: true, allow_plain_loopback: false, ca_file: Some(&ca), ..RULES };
        assert_eq!(client.get(&url, &rules).await.unwrap(), b"ok");
        let unknown = FetchRules { ca_file: None, ..rules.clone() };
        assert!(client.get(&url, &unknown).await.is_err(), "an authority that nobody named is not believed");
        fs::write(&ca, "no certificate").unwrap();
        assert!(client.get(&url, &rules).await.is_err(), "the file is read anew");
    }
}
