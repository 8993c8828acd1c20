//! A CI system's issuer on loopback, honest or not, in a thread of its own.

use crate::{
    job::{Forge, Job, token_id},
    jwt::{Algorithm, Key},
    serve::{Get, Serve, answer},
};
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_rustls::TlsAcceptor;

/// A fake issuer: one `iss`, any tenants, signs whatever it is asked to.
pub struct Issuer {
    forge: Forge,
    url: String,
    state: Arc<Mutex<State>>,
    commands: UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    forge: Forge,
    url: String,
    path: String,
    published: Vec<Arc<Key>>,
    signer: Arc<Key>,
    discovery: Serve,
    keys: Serve,
    discovery_fetches: u64,
    key_fetches: u64,
    runner: Option<Runner>,
    given: Vec<String>,
}

/// The job that runs, as the runner's side of the issuer knows it.
struct Runner {
    bearer: String,
    claims: Value,
}

/// What a runner tells a job that may ask for tokens.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`
    pub url: String,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`
    pub bearer: String,
}

/// Below the issuer's URL.
const TOKEN_REQUEST_PATH: &str = "/request-token";

enum Command {
    Open(mpsc::Sender<()>),
    Close(mpsc::Sender<()>),
    Stop,
}

impl Issuer {
    /// As GitHub Actions: RS256, no `authorization_endpoint` in its discovery document.
    pub fn github() -> Self {
        Self::start(Forge::GitHub, "", Algorithm::Rs256)
    }

    /// As a GitLab instance.
    pub fn gitlab() -> Self {
        Self::start(Forge::GitLab, "", Algorithm::Rs256)
    }

    /// Of this forge, with the issuer's URL ending in `path` (empty, or `/slug`), signing with this algorithm.
    pub fn start(forge: Forge, path: &str, algorithm: Algorithm) -> Self {
        Self::listen(forge, path, algorithm, None)
    }

    /// As GitHub Enterprise Server, at `https://127.0.0.1:PORT/_services/token` under this certificate (DER), right or wrong, and its private key
    /// (PKCS #8 DER).
    pub fn github_over_tls(certificate: Vec<u8>, private_key: Vec<u8>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(private_key);
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .expect("a certificate and its key");
        Self::listen(Forge::GitHub, "/_services/token", Algorithm::Rs256, Some(Arc::new(config).into()))
    }

    fn listen(forge: Forge, path: &str, algorithm: Algorithm, tls: Option<TlsAcceptor>) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let url = match &tls {
            None => format!("http://{address}{path}"),
            Some(_) => format!("https://{address}{path}"),
        };
        let signer = Arc::new(Key::generate(algorithm));
        let state = Arc::new(Mutex::new(State {
            forge,
            url: url.clone(),
            path: path.to_owned(),
            published: vec![signer.clone()],
            signer,
            discovery: Serve::Right,
            keys: Serve::Right,
            discovery_fetches: 0,
            key_fetches: 0,
            runner: None,
            given: Vec::new(),
        }));
        let (commands, orders) = unbounded_channel();
        let seen = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(run(listener, address, tls, seen, orders));
        });
        Self { forge, url, state, commands, thread: Some(thread) }
    }

    /// The issuer's name: what `iss` says and where discovery starts.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A job of this forge, with claims as the real one gives them; everything can be changed.
    pub fn job(&self) -> Job<'_> {
        Job::new(self, self.forge)
    }

    /// The key that signs now.
    pub fn key(&self) -> Arc<Key> {
        self.lock().signer.clone()
    }

    /// Publishes a new key beside the old ones and signs with it from now on.
    pub fn rotate(&self) -> Arc<Key> {
        let algorithm = self.key().algorithm();
        self.sign_with(Key::generate(algorithm))
    }

    /// Publishes this key beside the others and signs with it from now on.
    pub fn sign_with(&self, key: Key) -> Arc<Key> {
        let key = Arc::new(key);
        let mut state = self.lock();
        state.published.push(key.clone());
        state.signer = key.clone();
        key
    }

    /// Takes a key out of the published set; it can go on signing.
    pub fn withdraw(&self, kid: &str) {
        self.lock().published.retain(|key| key.kid() != kid);
    }

    /// What the discovery address answers from now on.
    pub fn serve_discovery(&self, serve: Serve) {
        self.lock().discovery = serve;
    }

    /// What the address of the keys answers from now on.
    pub fn serve_keys(&self, serve: Serve) {
        self.lock().keys = serve;
    }

    /// The right discovery document.
    pub fn discovery(&self) -> Value {
        self.lock().discovery_document()
    }

    /// The right key set.
    pub fn jwks(&self) -> Value {
        self.lock().key_set()
    }

    /// How often discovery was asked for.
    pub fn discovery_fetches(&self) -> u64 {
        self.lock().discovery_fetches
    }

    /// How often the keys were asked for.
    pub fn key_fetches(&self) -> u64 {
        self.lock().key_fetches
    }

    /// Lets a job run: from now on the runner's side gives it tokens, for any audience and each with its own `jti`.
    pub fn run(&self, job: &Job<'_>) -> TokenRequest {
        let bearer = format!("request-token-{}", token_id());
        self.lock().runner = Some(Runner { bearer: bearer.clone(), claims: job.claims("") });
        TokenRequest { url: format!("{}{TOKEN_REQUEST_PATH}?api-version=2.0", self.url), bearer }
    }

    /// Every token that the runner's side gave.
    pub fn given(&self) -> Vec<String> {
        self.lock().given.clone()
    }

    /// Refuses connections from now on. Returns when the port is closed.
    pub fn close(&self) {
        self.order(Command::Close);
    }

    /// Listens again, on the same port. Returns when the port is open.
    pub fn open(&self) {
        self.order(Command::Open);
    }

    fn order(&self, command: impl FnOnce(mpsc::Sender<()>) -> Command) {
        let (done, wait) = mpsc::channel();
        self.commands.send(command(done)).expect("the issuer's thread runs");
        wait.recv().expect("the issuer's thread obeys");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked holding the issuer's state")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn discovery_document(&self) -> Value {
        let mut document = json!({
            "issuer": self.url,
            "jwks_uri": format!("{}{}", self.url, self.forge.keys_path()),
            "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"],
            "id_token_signing_alg_values_supported": [self.signer.algorithm().name()],
            "scopes_supported": ["openid"],
            "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf"],
        });
        if self.forge == Forge::GitLab {
            document["authorization_endpoint"] = json!(format!("{}/oauth/authorize", self.url));
            document["token_endpoint"] = json!(format!("{}/oauth/token", self.url));
        }
        document
    }

    fn key_set(&self) -> Value {
        json!({ "keys": self.published.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
    }

    /// The right document of this address and how to serve it; counts.
    fn look_up(&mut self, get: &Get) -> Option<(Value, Serve)> {
        match get.target.strip_prefix(self.path.as_str())? {
            "/.well-known/openid-configuration" => {
                self.discovery_fetches += 1;
                Some((self.discovery_document(), self.discovery.clone()))
            }
            keys if keys == self.forge.keys_path() => {
                self.key_fetches += 1;
                Some((self.key_set(), self.keys.clone()))
            }
            request if request.starts_with(TOKEN_REQUEST_PATH) => Some(self.give(get)),
            _ => None,
        }
    }

    /// A token for the job that runs, if it is the one that asks.
    fn give(&mut self, get: &Get) -> (Value, Serve) {
        let url = reqwest::Url::parse(&format!("http://runner{}", get.target)).expect("a target makes a URL");
        let audience = url.query_pairs().find(|(name, _)| name == "audience").map(|(_, value)| value.into_owned());
        let asks = |runner: &&Runner| get.authorization == format!("bearer {}", runner.bearer);
        let (Some(runner), Some(audience)) = (self.runner.as_ref().filter(asks), audience) else {
            return (Value::Null, Serve::Status(401));
        };
        let mut claims = runner.claims.clone();
        claims["aud"] = json!(audience);
        claims["jti"] = json!(token_id());
        let token = self.signer.sign(&claims);
        self.given.push(token.clone());
        (json!({ "count": token.len(), "value": token }), Serve::Right)
    }
}

async fn run(
    listener: StdListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
    mut orders: UnboundedReceiver<Command>,
) {
    let mut listener = Some(TcpListener::from_std(listener).expect("the listener can be registered"));
    loop {
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(Command::Close(done)) => {
                    listener = None;
                    let _ = done.send(());
                }
                Some(Command::Open(done)) => {
                    if listener.is_none() {
                        listener = Some(TcpListener::bind(address).await.expect("the port is still free"));
                    }
                    let _ = done.send(());
                }
                Some(Command::Stop) | None => return,
            },
            accepted = next => if let Ok((stream, _)) = accepted {
                let state = state.clone();
                let look_up = move |get: &Get| {
                    state.lock().expect("nobody panicked holding the issuer's state").look_up(get)
                };
                let Some(tls) = tls.clone() else {
                    tokio::spawn(answer(stream, look_up));
                    continue;
                };
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, look_up).await;
                    }
                });
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http, trap::Trap};
    use std::time::Duration;

    fn keys_url(issuer: &Issuer) -> String {
        issuer.discovery()["jwks_uri"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn discovery_leads_to_the_keys_and_every_fetch_counts() {
        for issuer in [Issuer::github(), Issuer::gitlab(), Issuer::start(Forge::GitHub, "/slug", Algorithm::Es256)] {
            let discovery = http::get(&format!("{}/.well-known/openid-configuration", issuer.url())).await;
            assert_eq!(discovery.text_of("issuer"), issuer.url());
            let keys = http::get(discovery.text_of("jwks_uri")).await;
            assert_eq!(keys.body["keys"][0]["kid"], issuer.key().kid());
            assert_eq!((issuer.discovery_fetches(), issuer.key_fetches()), (1, 1));
            assert_eq!(http::get(&format!("{}/else", issuer.url())).await.status, 404);
        }
    }

    #[tokio::test]
    async fn keys_rotate_and_are_withdrawn() {
        let issuer = Issuer::github();
        let old = issuer.key();
        let new = issuer.rotate();
        assert_ne!(old.kid(), new.kid());
        assert_eq!(issuer.jwks()["keys"].as_array().unwrap().len(), 2);
        issuer.withdraw(old.kid());
        assert_eq!(http::get(&keys_url(&issuer)).await.body["keys"], json!([new.jwk()]));
    }

    #[tokio::test]
    async fn a_closed_issuer_refuses_and_an_opened_one_answers_again() {
        let issuer = Issuer::github();
        issuer.close();
        assert!(http::send(http::client().get(keys_url(&issuer))).await.unwrap_err().is_connect());
        issuer.open();
        assert_eq!(http::get(&keys_url(&issuer)).await.status, 200);
    }

    #[tokio::test]
    async fn a_job_that_runs_gets_tokens_of_its_own_and_nobody_else_does() {
        let issuer = Issuer::github();
        let asked = issuer.run(&issuer.job().environment("production"));
        let ask = async |bearer: &str| {
            let request = http::client().get(format!("{}&audience=https%3A%2F%2Fb.example", asked.url));
            http::send(request.header("Authorization", format!("bearer {bearer}"))).await.unwrap()
        };
        let tokens = [ask(&asked.bearer).await, ask(&asked.bearer).await].map(|a| a.text_of("value").to_owned());
        assert_eq!(issuer.given(), tokens);
        let claims = tokens.each_ref().map(|token| crate::jwt::claims_of(token));
        assert_eq!((&claims[0]["aud"], &claims[0]["environment"]), (&json!("https://b.example"), &json!("production")));
        assert_ne!(claims[0]["jti"], claims[1]["jti"]);
        assert_eq!(ask("another").await.status, 401);
    }

    #[tokio::test]
    async fn faults_are_what_they_say() {
        let (issuer, trap) = (Issuer::github(), Trap::new());
        let keys = keys_url(&issuer);
        issuer.serve_keys(Serve::Status(500));
        assert_eq!(http::get(&keys).await.status, 500);
        issuer.serve_keys(Serve::Redirect(trap.url()));
        assert_eq!(http::get(&keys).await.header("location"), trap.url());
        issuer.serve_keys(Serve::StatusOver(206));
        let partial = http::get(&keys).await;
        assert_eq!((partial.status, partial.body), (206, issuer.jwks()));
        issuer.serve_keys(Serve::Cut);
        assert!(http::send(http::client().get(&keys)).await.is_err());
        issuer.serve_keys(Serve::Gzip { blanks: 1000 });
        assert_eq!(http::get(&keys).await.header("content-encoding"), "gzip");
        issuer.serve_keys(Serve::ContentType("text/html"));
        assert_eq!(http::get(&keys).await.header("content-type"), "text/html");
        issuer.serve_keys(Serve::Json(json!({ "keys": [] })));
        assert_eq!(http::get(&keys).await.body, json!({ "keys": [] }));
        issuer.serve_keys(Serve::Raw(b"{".to_vec()));
        assert_eq!(http::get(&keys).await.text, "{");
        for announced in [true, false] {
            issuer.serve_keys(Serve::Huge { blanks: 300_000, announced });
            assert!(http::get(&keys).await.text.len() > 300_000);
        }
        for slow in [Serve::Hang, Serve::Drip] {
            issuer.serve_keys(slow);
            let short = http::client().get(&keys).timeout(Duration::from_millis(50));
            assert!(http::send(short).await.unwrap_err().is_timeout());
        }
    }
}
