//! A person's account at a code host, shown by OAuth 2.0 (RFC 6749, with PKCE): GitHub ("Authorizing OAuth apps", "Get the
//! authenticated user") and GitLab ("OAuth 2.0 identity provider API", "Retrieve the current user"), as their documentation says.
//!
//! What comes back is one id and a name. The token that it was asked with is wiped at once: nothing is done in the person's
//! name.

use super::{
    People, SECRET_BYTES_MAX, SignInError,
    wire::{ANSWER_BYTES_MAX, ANSWER_WAIT_MAX},
};
use crate::{
    config::{Forge, ForgeKind},
    net::{Answer, Call, FetchRules},
    secret::Secret,
};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use url::{Url, form_urlencoded::Serializer};

/// GitHub's own. That of its Enterprise Server stands below the server's address.
const GITHUB: &str = "https://github.com";
const GITHUB_API: &str = "https://api.github.com";
/// GitHub refuses requests of nobody in particular.
const USER_AGENT: &str = "claimbound";
const RANDOM_BYTES: usize = 32;
/// Of an account's name.
const NAME_CHARACTERS_MAX: usize = 200;

/// A linking that a person goes on with at the code host.
#[derive(Debug)]
pub struct BegunLink {
    pub authorization_url: String,
    /// What their browser shows at the end.
    pub verifier: Secret,
}

/// An account at a code host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Immutable: what tokens of jobs call who started them.
    pub id: String,
    /// For people's eyes; it changes.
    pub name: String,
}

/// What a person's browser brings from the code host.
pub struct ReturnedLink<'a> {
    pub code: &'a Secret,
    pub state: &'a str,
    pub verifier: &'a Secret,
    /// The session that began it: another one ends nothing.
    pub session: &'a Secret,
    pub public_url: &'a str,
}

fn encoded(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// What belongs to one beginning, in one session.
fn state(verifier: &Secret, session: &Secret) -> String {
    encoded(&format!("claimbound link\0{}\0{}", verifier.reveal(), session.reveal()))
}

fn redirect(public_url: &str) -> String {
    format!("{public_url}/claim/link/callback")
}

/// Where a person goes on.
pub fn begin(forge: &Forge, public_url: &str, session: &Secret) -> BegunLink {
    let mut random = [0; RANDOM_BYTES];
    rand::fill(&mut random).expect("the system's random source answers");
    let verifier = Secret::new(BASE64_URL_SAFE_NO_PAD.encode(random));
    let (path, scope) = match forge.kind {
        // Without a scope GitHub shows what is public: id and login.
        ForgeKind::Github => ("/login/oauth/authorize", None),
        ForgeKind::Gitlab => ("/oauth/authorize", Some("read_user")),
    };
    let mut query = Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &forge.client_id)
        .append_pair("redirect_uri", &redirect(public_url))
        .append_pair("state", &state(&verifier, session))
        .append_pair("code_challenge", &encoded(verifier.reveal()))
        .append_pair("code_challenge_method", "S256")
        .extend_pairs(scope.map(|scope| ("scope", scope)));
    BegunLink { authorization_url: format!("{}{path}?{}", forge.url, query.finish()), verifier }
}

impl People {
    /// Whose account it is that the person came back with.
    ///
    /// # Errors
    /// The code host says no, is not believed, or cannot be asked.
    pub async fn account(
        &self,
        name: &str,
        forge: &Forge,
        returned: &ReturnedLink<'_>,
    ) -> Result<Account, SignInError> {
        let refused = |why: &str| SignInError::Refused { name: name.to_owned(), why: why.to_owned() };
        let down = |why: String| SignInError::Down { name: name.to_owned(), why };
        let expected = state(returned.verifier, returned.session);
        if verify_slices_are_equal(expected.as_bytes(), returned.state.as_bytes()).is_err() {
            return Err(refused("the state is not that of this session's linking"));
        }
        let secret = forge.client_secret.read(SECRET_BYTES_MAX);
        let secret = secret.map_err(|why| down(format!("its client secret: {} {why}", forge.client_secret)))?;
        let secret = std::str::from_utf8(&secret).map_err(|_| down("its client secret is no text".to_owned()))?;
        let token_path = match forge.kind {
            ForgeKind::Github => "/login/oauth/access_token",
            ForgeKind::Gitlab => "/oauth/token",
        };
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("client_id", &forge.client_id)
            .append_pair("client_secret", secret.trim())
            .append_pair("code", returned.code.reveal())
            .append_pair("redirect_uri", &redirect(returned.public_url))
            .append_pair("code_verifier", returned.verifier.reveal())
            .finish();
        let form = Secret::new(form);
        let body = Some(("application/x-www-form-urlencoded", form.reveal().as_bytes()));
        let answer = self.asked(forge, "POST", &format!("{}{token_path}", forge.url), None, body).await;
        let told = read(&answer.map_err(down)?).map_err(down)?;
        // GitHub says 200 also where it refuses.
        let token = told["access_token"].as_str().ok_or_else(|| match told["error"].as_str() {
            Some(error) if error.len() <= 40 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                refused(error)
            }
            _ => refused("it gave no token"),
        })?;
        let bearer = Secret::new(format!("Bearer {token}"));
        let url = match (forge.kind, forge.url.as_str()) {
            (ForgeKind::Github, GITHUB) => format!("{GITHUB_API}/user"),
            (ForgeKind::Github, own) => format!("{own}/api/v3/user"),
            (ForgeKind::Gitlab, own) => format!("{own}/api/v4/user"),
        };
        let answer = self.asked(forge, "GET", &url, Some(&bearer), None).await.map_err(down)?;
        let user = read(&answer).map_err(down)?;
        let named = match forge.kind {
            ForgeKind::Github => &user["login"],
            ForgeKind::Gitlab => &user["username"],
        };
        match (answer.status, user["id"].as_u64(), named.as_str()) {
            (200, Some(id), Some(login)) if id > 0 => {
                Ok(Account { id: id.to_string(), name: login.chars().take(NAME_CHARACTERS_MAX).collect() })
            }
            (status, ..) => Err(refused(&format!("it does not say whose account it is ({status})"))),
        }
    }

    async fn asked(
        &self,
        forge: &Forge,
        method: &'static str,
        url: &str,
        bearer: Option<&Secret>,
        body: Option<(&str, &[u8])>,
    ) -> Result<Answer, String> {
        // A relative address would go nowhere.
        Url::parse(url).map_err(|error| error.to_string())?;
        let (json, agent) = (Secret::new("application/json".to_owned()), Secret::new(USER_AGENT.to_owned()));
        let mut headers = vec![("accept", &json), ("user-agent", &agent)];
        headers.extend(bearer.map(|bearer| ("authorization", bearer)));
        let rules = FetchRules {
            allow_private_network: forge.allow_private_network,
            allow_plain_loopback: self.development,
            ca_file: forge.ca_file.as_deref(),
            bytes_max: ANSWER_BYTES_MAX,
            timeout: ANSWER_WAIT_MAX,
        };
        let call = Call { method, url, headers: &headers, body };
        self.client.call(&call, &rules).await.map_err(|error| error.to_string())
    }
}

/// The answer's bytes are not told: they may hold a token.
fn read(answer: &Answer) -> Result<Value, String> {
    match answer.status {
        200..=299 | 400..=499 => serde_json::from_slice(&answer.body).map_err(|_| "its answer is no JSON".to_owned()),
        status => Err(format!("it answered {status}")),
    }
}
