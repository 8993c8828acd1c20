//! The local issuer: one per built-in profile, each under a path of one loopback address, and the runner's side
//! that hands a job its token.

use super::{
    claims::{claims, owner_id},
    key::{IssuerKey, KeyError, private_directory, private_file},
    request::{Profile, RequestError, TokenRequest},
};
use crate::secret::Secret;
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::header::{AUTHORIZATION, CACHE_CONTROL},
    web,
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::time::Clock;
use serde_json::{Value, json};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// The bearer token of the runner's side, in the issuer's directory.
pub const REQUEST_TOKEN_FILE: &str = "request-token";
const REQUEST_TOKEN_BYTES: usize = 32;
/// Its owner stands in the URL of issuers that have one for each owner.
const SAMPLE_REPOSITORY: &str = "acme/payments-api";
/// A client on loopback sends its request's head at once.
const HEAD_SECONDS: u64 = 5;

/// The local issuer cannot start, or was asked for something that no CI system issues.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error("the local issuer listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    #[error("the local issuer cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the local issuer's files in {directory}")]
    Files { directory: String, source: io::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// All issuers of one address: they share the key, as they share the machine.
pub struct Issuer {
    address: SocketAddr,
    key: IssuerKey,
    request_token: Secret,
    clock: Arc<dyn Clock>,
}

/// A running server; it stops when told to, or with its runtime.
pub struct Running {
    issuer: Arc<Issuer>,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl Issuer {
    /// The issuer of a directory (made on first use), as it is known at this address. Does not listen.
    pub fn open(directory: &Path, address: SocketAddr, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let key = IssuerKey::open(directory)?;
        let request_token = open_request_token(directory)
            .map_err(|source| IssuerError::Files { directory: directory.display().to_string(), source })?;
        Self::new(address, key, request_token, clock)
    }

    /// An issuer that keeps nothing.
    pub fn ephemeral(address: SocketAddr, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        Self::new(address, IssuerKey::ephemeral()?, new_request_token()?, clock)
    }

    fn new(
        address: SocketAddr,
        key: IssuerKey,
        request_token: Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IssuerError> {
        if !address.ip().is_loopback() {
            return Err(IssuerError::NotLoopback(address));
        }
        Ok(Self { address, key, request_token, clock })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `iss` of this profile's tokens; of the sample's owner, where the owner is in it.
    pub fn url(&self, profile: Profile) -> String {
        issuer_url(self.address, profile)
    }

    /// The claims that a token would have now.
    pub fn claims(&self, profile: Profile, request: &TokenRequest) -> Result<Value, IssuerError> {
        request.check(profile)?;
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| KeyError::Crypto)?;
        let jti = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
        let issuer = url_of(self.address, profile, &owner_id(profile, request));
        Ok(claims(profile, &issuer, request, self.clock.now(), &jti)?)
    }

    /// A token for this job.
    pub fn mint(&self, profile: Profile, request: &TokenRequest) -> Result<Secret, IssuerError> {
        Ok(Secret::new(self.key.sign(&self.claims(profile, request)?)?))
    }

    /// What GitHub's runner would give this job as `ACTIONS_ID_TOKEN_REQUEST_URL`; clients append `&audience=…`.
    pub fn request_url(&self, request: &TokenRequest) -> String {
        format!("{}/request-token?api-version=2.0&{}", self.url(Profile::GithubActions), request.query())
    }

    /// What GitHub's runner would give a job as `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub fn request_token(&self) -> &Secret {
        &self.request_token
    }

    fn discovery(&self, profile: Profile, owner: Option<&str>) -> Value {
        let url = owner.map_or_else(|| self.url(profile), |owner| url_of(self.address, profile, owner));
        let mut document = json!({
            "issuer": url, "jwks_uri": format!("{url}{}", profile.keys_path()),
            "subject_types_supported": ["public", "pairwise"], "response_types_supported": ["id_token"],
            "id_token_signing_alg_values_supported": ["RS256"], "scopes_supported": ["openid"],
            "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf"],
        });
        if profile == Profile::Gitlab {
            document["authorization_endpoint"] = json!(format!("{url}/oauth/authorize"));
            document["token_endpoint"] = json!(format!("{url}/oauth/token"));
        }
        document
    }

    /// The runner's side. The token keeps out web pages and other users, who can reach loopback too.
    fn answer_job(&self, bearer: Option<&str>, request: &TokenRequest) -> HttpResponse {
        let scheme_and_token = bearer.and_then(|header| header.split_once(' '));
        let token =
            scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
        let expected = self.request_token.reveal().as_bytes();
        if token.is_none_or(|token| verify_slices_are_equal(token.as_bytes(), expected).is_err()) {
            return HttpResponse::Unauthorized()
                .json(json!({ "message": "`Authorization: bearer …` is not ACTIONS_ID_TOKEN_REQUEST_TOKEN" }));
        }
        match self.mint(Profile::GithubActions, request) {
            Ok(token) => HttpResponse::Ok()
                .insert_header((CACHE_CONTROL, "no-store"))
                .json(json!({ "count": token.reveal().len(), "value": token.reveal() })),
            Err(error) => HttpResponse::BadRequest().json(json!({ "message": error.to_string() })),
        }
    }
}

/// The `iss` of a profile at an address; of the sample's owner, where the owner is in it.
pub fn issuer_url(address: SocketAddr, profile: Profile) -> String {
    url_of(address, profile, &owner_id(profile, &TokenRequest::new(SAMPLE_REPOSITORY, "")))
}

fn url_of(address: SocketAddr, profile: Profile, owner: &str) -> String {
    if profile.data().owner_in_url() {
        return format!("http://{address}/{profile}/{owner}");
    }
    format!("http://{address}/{profile}")
}

/// Starts the issuers of a directory on a loopback address; port 0 takes a free one. `None` keeps nothing.
pub fn start(directory: Option<&Path>, address: SocketAddr, clock: Arc<dyn Clock>) -> Result<Running, IssuerError> {
    if !address.ip().is_loopback() {
        return Err(IssuerError::NotLoopback(address));
    }
    let listen = |source| IssuerError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let issuer = Arc::new(match directory {
        Some(directory) => Issuer::open(directory, bound, clock)?,
        None => Issuer::ephemeral(bound, clock)?,
    });
    let shared = issuer.clone();
    let server = HttpServer::new(move || App::new().configure(|app| routes(app, &shared)))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .client_request_timeout(Duration::from_secs(HEAD_SECONDS))
        .listen(listener)
        .map_err(listen)?
        .run();
    let handle = server.handle();
    Ok(Running { issuer, handle, task: tokio::spawn(server) })
}

fn routes(app: &mut web::ServiceConfig, issuer: &Arc<Issuer>) {
    for profile in Profile::all() {
        let (discovering, keys) = (issuer.clone(), issuer.clone());
        let base = if profile.data().owner_in_url() { format!("/{profile}/{{owner}}") } else { format!("/{profile}") };
        app.route(
            &format!("{base}/.well-known/openid-configuration"),
            web::get().to(move |http: HttpRequest| {
                let document = discovering.discovery(profile, http.match_info().get("owner"));
                std::future::ready(HttpResponse::Ok().json(document))
            }),
        );
        app.route(
            &format!("{base}{}", profile.keys_path()),
            web::get().to(move || std::future::ready(HttpResponse::Ok().json(keys.key.jwks()))),
        );
    }
    let issuer = issuer.clone();
    app.route(
        &format!("/{}/request-token", Profile::GithubActions),
        web::get().to(move |http: HttpRequest, job: web::Query<TokenRequest>| {
            let bearer = http.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            std::future::ready(issuer.answer_job(bearer, &job))
        }),
    );
}

impl Running {
    /// The issuer itself, to mint without HTTP.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Stops listening and lets open requests finish, for a second.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        let _ = self.task.await;
    }
}

fn open_request_token(directory: &Path) -> io::Result<Secret> {
    let path = directory.join(REQUEST_TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => Ok(Secret::new(token.trim().to_owned())),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is empty: delete it", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = new_request_token().map_err(io::Error::other)?;
            private_directory(directory)?;
            private_file(&path, token.reveal().as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

fn new_request_token() -> Result<Secret, KeyError> {
    let mut random = [0; REQUEST_TOKEN_BYTES];
    rand::fill(&mut random).map_err(|_| KeyError::Crypto)?;
    Ok(Secret::new(BASE64_URL_SAFE_NO_PAD.encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{
        time::UnixSeconds,
        trust::{Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, UnverifiedToken, parse_jwks, verify},
        workload::Profiles,
    };
    use claimbound_test_support::{http, issuer::Issuer as FakeIssuer, jwt};

    struct Fixed;
    impl Clock for Fixed {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(1_800_000_000)
        }
    }

    fn running(directory: Option<&Path>) -> Running {
        start(directory, "127.0.0.1:0".parse().unwrap(), Arc::new(Fixed)).unwrap()
    }

    // The broker's own runtime, not actix's.
    #[tokio::test(flavor = "multi_thread")]
    async fn every_profile_has_an_issuer_whose_discovery_leads_to_the_key() {
        let running = running(None);
        for profile in Profile::all() {
            let url = running.issuer().url(profile);
            let discovery = http::get(&format!("{url}/.well-known/openid-configuration")).await;
            assert_eq!(discovery.text_of("issuer"), url);
            assert_eq!(discovery.body.get("authorization_endpoint").is_some(), profile == Profile::Gitlab);
            let keys = http::get(discovery.text_of("jwks_uri")).await.body;
            let token = running.issuer().mint(profile, &TokenRequest::new("acme/payments-api", "x")).unwrap();
            assert_eq!(keys["keys"][0]["kid"], jwt::header_of(token.reveal())["kid"]);
            assert_eq!(jwt::claims_of(token.reveal())["iss"], url);
        }
        running.stop().await;
    }

    #[actix_web::test]
    async fn the_runner_s_side_gives_the_job_of_the_url_a_token_for_the_audience_asked() {
        let running = running(None);
        let mut job = TokenRequest::new("acme/payments-api", "not this");
        job.environment = Some("production".into());
        let url = running.issuer().request_url(&job);
        let ask = |url: String, header: String| http::send(http::client().get(url).header("authorization", header));
        let bearer = format!("bearer {}", running.issuer().request_token().reveal());
        let answer = ask(format!("{url}&audience=https%3A%2F%2Fb.example"), bearer.clone()).await.unwrap();
        let claims = jwt::claims_of(answer.text_of("value"));
        assert_eq!((&claims["aud"], &claims["environment"]), (&json!("https://b.example"), &json!("production")));
        let answer = ask(url.clone(), bearer.clone()).await.unwrap();
        assert_eq!(jwt::claims_of(answer.text_of("value"))["aud"], "https://github.com/acme");
        for wrong in ["bearer x".to_owned(), bearer.replace("bearer", "basic"), "bearer".to_owned()] {
            assert_eq!(ask(url.clone(), wrong).await.unwrap().status, 401);
        }
        assert_eq!(ask(format!("{url}&tag=v1&branch=main"), bearer).await.unwrap().status, 400);
        running.stop().await;
    }

    #[actix_web::test]
    async fn it_binds_to_loopback_only() {
        let everywhere = start(None, "0.0.0.0:0".parse().unwrap(), Arc::new(Fixed));
        assert!(matches!(everywhere, Err(IssuerError::NotLoopback(_))));
    }

    #[actix_web::test]
    async fn a_directory_keeps_key_and_request_token() {
        let directory = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:8082".parse().unwrap();
        let open = || Issuer::open(directory.path(), address, Arc::new(Fixed)).unwrap();
        let (first, second) = (open(), open());
        assert_eq!(first.request_token().reveal(), second.request_token().reveal());
        let kid = |issuer: &Issuer| {
            let token = issuer.mint(Profile::GithubActions, &TokenRequest::new("acme/payments-api", "x")).unwrap();
            jwt::header_of(token.reveal())["kid"].clone()
        };
        assert_eq!(kid(&first), kid(&second));
    }

    /// Step 2 of an exchange over a token and a key set; the table is as the profile says.
    fn believed(profile: Profile, url: &str, jwks: &Value, token: &str, now: UnixSeconds) -> Result<(), String> {
        let profiles = Profiles::builtin();
        let profile = profiles.get(profile.name()).unwrap();
        let permitted: Vec<_> = profile.algorithms().iter().filter_map(|name| Algorithm::from_name(name)).collect();
        let keys = parse_jwks(jwks.to_string().as_bytes(), &permitted).unwrap().keys;
        let rules = IssuerRules {
            audience: "https://b.example".into(),
            max_lifetime_seconds: profile.max_lifetime_seconds(),
            single_use: profile.single_use(),
            actor_single_use: profile.actor_single_use(),
            requires_nbf: profile.requires_nbf(),
            required: profile.required().to_vec(),
        };
        let mut table = IssuerTable::default();
        let (keys_valid_until, cut) = (now.plus(1), Cut::default());
        table.insert(IssuerSnapshot { name: "x".into(), url: url.into(), rules, keys, keys_valid_until, cut });
        let mut decoded = Vec::new();
        let token = UnverifiedToken::parse(token, &mut decoded).map_err(|error| error.to_string())?;
        verify(&token, &table, now).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_broker_believes_these_tokens_and_the_bench_s_and_no_forgery() {
        let address = "127.0.0.1:8082".parse().unwrap();
        let issuer = Issuer::ephemeral(address, Arc::new(Fixed)).unwrap();
        for (profile, fake) in [(Profile::GithubActions, FakeIssuer::github()), (Profile::Gitlab, FakeIssuer::gitlab())]
        {
            let token = issuer.mint(profile, &TokenRequest::new("acme/payments-api", "https://b.example")).unwrap();
            let believe = |token: &str| believed(profile, &issuer.url(profile), &issuer.key.jwks(), token, Fixed.now());
            assert_eq!(believe(token.reveal()), Ok(()));
            let forged = fake.job().claim("iss", issuer.url(profile)).issued_at(Fixed.now().0);
            assert!(believe(&forged.token("https://b.example")).is_err());

            let believe = |token: &str| believed(profile, fake.url(), &fake.jwks(), token, Fixed.now());
            let job = fake.job().issued_at(Fixed.now().0);
            assert_eq!(believe(&job.token("https://b.example")), Ok(()));
            assert!(believe(&job.token("https://another.example")).is_err());
            assert!(believe(&job.clone().without("jti").token("https://b.example")).is_err());
            let claims = job.claims("https://b.example");
            assert!(believe(&jwt::hs256(fake.key().public_bytes(), fake.key().kid(), &claims)).is_err());
            assert!(believe(&jwt::unsigned(&fake.key().header(), &claims)).is_err());
        }
    }
}
