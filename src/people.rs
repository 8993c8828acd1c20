//! People's sign-in at an OpenID provider (OpenID Connect Core 1.0): code + PKCE, and the device flow (RFC 8628).
//!
//! Nothing is kept between the beginning of a sign-in and its end, so that any replica can end what another began: the
//! verifier (RFC 7636) is what the person's program keeps, and state and nonce are derived from it. Who does not hold the
//! verifier can end nothing, and a code or an ID token that was made for another beginning does not fit.

mod claims;
mod forge;
mod wire;

use crate::{
    config::{SignIn, Strength},
    net::Client,
    secret::{Place, Secret},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::time::{LEEWAY_SECONDS, UnixSeconds};
use claims::{AllClaims, Provider, Relying};
use openidconnect::{
    AuthType, AuthenticationContextClass, AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    DeviceAuthorizationUrl, IdTokenVerifier, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    TokenResponse as _,
    core::{
        CoreClientAuthMethod, CoreDeviceAuthorizationResponse, CoreJsonWebKey, CoreJwsSigningAlgorithm as Algorithm,
        CoreResponseType,
    },
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use wire::Wire;

pub use claims::Person;
pub use forge::{Account, BegunLink, ReturnedLink, begin as begin_link};

/// From the beginning of a sign-in to its end.
pub const SIGN_IN_SECONDS: i64 = 600;
/// So long ago nobody signed in: ten years.
const AGE_TOLD_SECONDS: i64 = 315_360_000;
/// How long a provider's documents are used before they are fetched again.
const DOCUMENTS_LIFE: Duration = Duration::from_secs(60);
/// A file with a client secret beyond this is no such file.
const SECRET_BYTES_MAX: u64 = 4096;
/// RFC 7636 section 4.1.
const VERIFIER_CHARACTERS: std::ops::RangeInclusive<usize> = 43..=128;
/// Whatever a code, a device code or a state is: longer ones are none.
pub const PRESENTED_BYTES_MAX: usize = 4096;

/// Asymmetric ones alone: with a shared secret, whoever knows it could sign.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];

/// Why nobody was signed in. The texts are for operators' logs.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("provider `{name}` cannot be asked: {why}")]
    Down { name: String, why: String },
    #[error("not signed in at `{name}`: {why}")]
    Refused { name: String, why: String },
}

/// A sign-in that a person goes on with in a browser.
#[derive(Debug)]
pub struct Begun {
    pub authorization_url: String,
    /// What their program shows at the end.
    pub verifier: Secret,
    /// What must come back with the code.
    pub state: String,
}

/// A sign-in that a person goes on with on another device.
#[derive(Debug)]
pub struct BegunDevice {
    /// What their program shows until the end.
    pub device_code: Secret,
    pub user_code: String,
    pub verification_uri: String,
    pub verification_uri_complete: Option<String>,
    pub interval_seconds: u64,
    pub expires_in_seconds: u64,
}

/// Where a provider sends the browser afterwards: nobody who asks can have codes sent elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum Redirect<'a> {
    /// To the person's program, which listens at this port of loopback (RFC 8252 section 7.3).
    Loopback { port: u16 },
    /// To our own pages; this is `public_url`.
    Pages { public_url: &'a str },
}

/// What a person's program, or their browser, brings from the provider.
pub struct Returned<'a> {
    /// As at the beginning.
    pub redirect: Redirect<'a>,
    pub code: &'a Secret,
    pub state: &'a str,
    /// The answer's `iss` (RFC 9207), if it had one.
    pub issuer: Option<&'a str>,
    pub verifier: &'a Secret,
}

/// One question about a device.
pub enum Polled {
    Pending { interval_seconds: u64 },
    Done(Person),
}

/// Every provider's documents, as they were fetched last.
pub struct People {
    client: Client,
    /// Plain HTTP to loopback.
    development: bool,
    documents: Mutex<HashMap<String, Kept>>,
}

/// One provider's documents, or why they could not be fetched, and when: locked by whoever fetches them, for who waits for the same.
type Kept = Arc<tokio::sync::Mutex<Option<(Instant, Result<Arc<Provider>, String>)>>>;

impl People {
    pub fn new(client: Client, development: bool) -> Self {
        Self { client, development, documents: Mutex::default() }
    }

    /// Where a person signs in, as fresh and as strong as this demands beyond what the sign-in always demands.
    ///
    /// # Errors
    /// The provider cannot be asked, or the client secret cannot be read.
    pub async fn begin(
        &self,
        sign_in: &SignIn,
        redirect: Redirect<'_>,
        demanded: &Strength,
    ) -> Result<Begun, SignInError> {
        let relying = self.relying(sign_in).await?.set_redirect_uri(redirect.uri(sign_in)?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = (derived("state", &challenge), derived("nonce", &challenge));
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = relying
            .authorize_url(
                flow,
                {
                    let state = state.clone();
                    || CsrfToken::new(state)
                },
                || Nonce::new(nonce),
            )
            .add_scopes(sign_in.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge);
        // Many providers say when it was only if they are asked for an age; this one demands nothing.
        let told = sign_in.sensitivity.values().any(|strength| strength.max_age_seconds.is_some());
        let told = told.then_some(AGE_TOLD_SECONDS);
        let max_age = [sign_in.max_age_seconds, demanded.max_age_seconds, told].into_iter().flatten().min();
        if let Some(seconds) = max_age {
            request = request.set_max_age(Duration::from_secs(seconds.unsigned_abs()));
        }
        for value in &demanded.acr_values {
            request = request.add_auth_context_value(AuthenticationContextClass::new(value.clone()));
        }
        let (url, ..) = request.url();
        Ok(Begun { authorization_url: url.into(), verifier: Secret::new(verifier.into_secret()), state })
    }

    /// Trades the code for an ID token, and believes it if everything about it holds.
    ///
    /// # Errors
    /// It does not, or the provider cannot be asked.
    pub async fn finish(
        &self,
        sign_in: &SignIn,
        returned: &Returned<'_>,
        now: UnixSeconds,
    ) -> Result<Person, SignInError> {
        let refused = |why: &str| refused(sign_in, why);
        let verifier = returned.verifier.reveal();
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        if !VERIFIER_CHARACTERS.contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
            return Err(refused("the verifier is none"));
        }
        let verifier = PkceCodeVerifier::new(verifier.to_owned());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        if derived("state", &challenge) != returned.state {
            return Err(refused("the state is not that of this sign-in"));
        }
        if returned.issuer.is_some_and(|issuer| issuer != sign_in.issuer) {
            return Err(refused("the answer is another provider's (`iss`)"));
        }
        let relying = self.relying(sign_in).await?.set_redirect_uri(returned.redirect.uri(sign_in)?);
        let wire = self.wire(sign_in);
        let code = AuthorizationCode::new(returned.code.reveal().to_owned());
        let request = relying.exchange_code(code).map_err(|error| refused(&error.to_string()))?;
        let response = request.set_pkce_verifier(verifier).request_async(&wire).await;
        let response = response.map_err(|error| wire::told(sign_in, &error))?;
        let nonce = Nonce::new(derived("nonce", &challenge));
        person(sign_in, relying.id_token_verifier(), response.id_token(), Some(&nonce), now)
    }

    /// Asks the provider for a code that a person types elsewhere.
    ///
    /// # Errors
    /// The provider cannot be asked, or has no such flow.
    pub async fn begin_device(&self, sign_in: &SignIn) -> Result<BegunDevice, SignInError> {
        let relying = self.relying(sign_in).await?.set_device_authorization_url(self.device_url(sign_in).await?);
        let wire = self.wire(sign_in);
        let mut request = relying.exchange_device_code().add_scopes(sign_in.scopes.iter().cloned().map(Scope::new));
        if let Some(seconds) = sign_in.max_age_seconds {
            request = request.add_extra_param("max_age", seconds.to_string());
        }
        let begun: CoreDeviceAuthorizationResponse =
            request.request_async(&wire).await.map_err(|error| wire::told(sign_in, &error))?;
        Ok(BegunDevice {
            device_code: Secret::new(begun.device_code().secret().clone()),
            user_code: begun.user_code().secret().clone(),
            verification_uri: begun.verification_uri().to_string(),
            verification_uri_complete: begun.verification_uri_complete().map(|uri| uri.secret().clone()),
            interval_seconds: begun.interval().as_secs(),
            expires_in_seconds: begun.expires_in().as_secs(),
        })
    }

    /// Asks the provider once whether the person has come to an end.
    ///
    /// # Errors
    /// They refused, took too long, or are not believed; or the provider cannot be asked.
    pub async fn poll_device(
        &self,
        sign_in: &SignIn,
        device_code: &Secret,
        now: UnixSeconds,
    ) -> Result<Polled, SignInError> {
        let relying = self.relying(sign_in).await?.set_device_authorization_url(self.device_url(sign_in).await?);
        // The library asks about what the provider answered; of that only the code counts.
        let begun = json!({
            "device_code": device_code.reveal(), "user_code": "", "verification_uri": sign_in.issuer,
            "expires_in": SIGN_IN_SECONDS, "interval": 5,
        });
        let begun: CoreDeviceAuthorizationResponse =
            serde_json::from_value(begun).map_err(|error| refused(sign_in, &error.to_string()))?;
        let wire = self.wire(sign_in);
        let (pending, mut waits) = tokio::sync::mpsc::channel(1);
        let wait = |interval: Duration| {
            let _ = pending.try_send(interval.as_secs());
            std::future::pending()
        };
        let request = relying
            .exchange_device_access_token(&begun)
            .map_err(|error| refused(sign_in, &error.to_string()))?
            .request_async(&wire, wait, None);
        let response = tokio::select! {
            response = request => response.map_err(|error| wire::told(sign_in, &error))?,
            Some(interval_seconds) = waits.recv() => return Ok(Polled::Pending { interval_seconds }),
        };
        // The device flow knows no nonce.
        person(sign_in, relying.id_token_verifier(), response.id_token(), None, now).map(Polled::Done)
    }

    async fn device_url(&self, sign_in: &SignIn) -> Result<DeviceAuthorizationUrl, SignInError> {
        let provider = self.provider(sign_in).await?;
        let url = provider.additional_metadata().device_authorization_endpoint.clone();
        url.ok_or_else(|| refused(sign_in, "the provider has no `device_authorization_endpoint`"))
    }

    async fn relying(&self, sign_in: &SignIn) -> Result<Relying, SignInError> {
        let provider = self.provider(sign_in).await?;
        let secret = sign_in.client_secret.as_ref().map(|place| secret(sign_in, place)).transpose()?;
        let id = ClientId::new(sign_in.client_id.clone());
        let methods = provider.token_endpoint_auth_methods_supported();
        // RFC 8414 section 2: where nothing is said it is HTTP Basic.
        let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let kind = if basic { AuthType::BasicAuth } else { AuthType::RequestBody };
        Ok(Relying::from_provider_metadata((*provider).clone(), id, secret).set_auth_type(kind))
    }

    /// The provider's documents. Whoever waits for them waits for one fetch, whatever comes of it, and for no other provider.
    async fn provider(&self, sign_in: &SignIn) -> Result<Arc<Provider>, SignInError> {
        let (asked, kept) = (Instant::now(), self.kept(sign_in));
        let mut kept = kept.lock().await;
        let down = |why: String| SignInError::Down { name: sign_in.name.clone(), why };
        match &*kept {
            Some((at, Ok(provider))) if at.elapsed() < DOCUMENTS_LIFE => return Ok(provider.clone()),
            Some((at, Err(why))) if *at > asked => return Err(down(why.clone())),
            _ => {}
        }
        let issuer = IssuerUrl::new(sign_in.issuer.clone()).map_err(|error| down(error.to_string()))?;
        let found = Provider::discover_async(issuer, &self.wire(sign_in)).await;
        let found = found.map(Arc::new).map_err(|error| wire::causes(&error));
        *kept = Some((Instant::now(), found.clone()));
        found.map_err(down)
    }

    fn kept(&self, sign_in: &SignIn) -> Kept {
        // Under another configuration they may be another provider's.
        let key = serde_json::to_string(sign_in).unwrap_or_default();
        let mut all = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other, kept| {
            let fresh = |(at, _): &(Instant, Result<_, _>)| at.elapsed() < DOCUMENTS_LIFE;
            *other == key || kept.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(fresh))
        });
        all.entry(key).or_default().clone()
    }

    fn wire<'a>(&'a self, sign_in: &'a SignIn) -> Wire<'a> {
        Wire { client: &self.client, sign_in, development: self.development }
    }
}

fn refused(sign_in: &SignIn, why: &str) -> SignInError {
    SignInError::Refused { name: sign_in.name.clone(), why: why.to_owned() }
}

impl Redirect<'_> {
    fn uri(self, sign_in: &SignIn) -> Result<RedirectUrl, SignInError> {
        let uri = match self {
            Self::Loopback { port } => format!("http://127.0.0.1:{port}/callback"),
            Self::Pages { public_url } => format!("{public_url}/claim/callback"),
        };
        RedirectUrl::new(uri).map_err(|error| refused(sign_in, &error.to_string()))
    }
}

/// What belongs to a beginning, and to no other: nobody can compute it before they have seen its challenge.
fn derived(what: &str, challenge: &PkceCodeChallenge) -> String {
    let text = format!("claimbound sign-in {what}\0{}", challenge.as_str());
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

fn secret(sign_in: &SignIn, place: &Place) -> Result<ClientSecret, SignInError> {
    let read = || -> Result<String, String> {
        let bytes = place.read(SECRET_BYTES_MAX).map_err(|why| format!("{place} {why}"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("{place} holds no text"))?;
        match text.trim() {
            "" => Err(format!("{place} is empty")),
            text => Ok(text.to_owned()),
        }
    };
    let text = read();
    let down = |why| SignInError::Down { name: sign_in.name.clone(), why: format!("its client secret: {why}") };
    text.map(ClientSecret::new).map_err(down)
}

/// What must hold of an ID token (OpenID Connect Core 1.0 section 3.1.3.7).
fn person(
    sign_in: &SignIn,
    verifier: IdTokenVerifier<'_, CoreJsonWebKey>,
    token: Option<&claims::Token>,
    nonce: Option<&Nonce>,
    now: UnixSeconds,
) -> Result<Person, SignInError> {
    let token = token.ok_or_else(|| refused(sign_in, "the provider gave no ID token"))?;
    let max_age = sign_in.max_age_seconds;
    let fresh = move |what: &'static str, at: i64, seconds: i64| match now.0 - at {
        age if age < -LEEWAY_SECONDS => Err(format!("its `{what}` is in the future")),
        age if age > seconds + LEEWAY_SECONDS => Err(format!("its `{what}` is longer ago than {seconds} seconds")),
        _ => Ok(()),
    };
    let verifier = verifier
        .set_allowed_algs(ALGORITHMS)
        .set_issue_time_verifier_fn(move |at| fresh("iat", at.timestamp(), SIGN_IN_SECONDS))
        .set_auth_time_verifier_fn(move |at| match (at, max_age) {
            (Some(at), Some(seconds)) => fresh("auth_time", at.timestamp(), seconds),
            (Some(at), None) => fresh("auth_time", at.timestamp(), i64::from(u32::MAX)),
            (None, Some(_)) => Err("it has no `auth_time`, and `max_age` needs one".to_owned()),
            (None, None) => Ok(()),
        });
    let believed = match nonce {
        Some(nonce) => token.claims(&verifier, nonce),
        None => token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
    };
    let believed = believed.map_err(|error| refused(sign_in, &wire::causes(&error)))?;
    // Not the library's to judge.
    if believed.authorized_party().is_some_and(|party| **party != *sign_in.client_id) {
        return Err(refused(sign_in, "its `azp` is another client"));
    }
    Ok(AllClaims::person(believed, &sign_in.groups_claim, &sign_in.forge_id_claim))
}

#[cfg(test)]
mod tests;
