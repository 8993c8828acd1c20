//! The `jwt` backend: a short-lived token that the broker signs itself, for whatever can verify a JWT against a
//! published key set (OpenBao, Vault, Kubernetes, a service of one's own).
//!
//! The relying party judges by `aud`, `role` and `sub`, so these are fixed by the platform: the audience is a constant
//! of the role, nothing that a job says reaches it. An audience that would make our tokens good somewhere else (at the
//! broker itself, at a cloud that trusts our issuer through another backend) does not load.

use super::{
    Credential, Ended, Later, MintError, Minted, Minter, Order, Plan, Unfit,
    catalogue::Deployment,
    claims::{self, Claims},
    own,
    status::{Place, StatusLists},
};
use crate::{
    keys::signing::{CREDENTIAL_SECONDS_MAX, Signer, SigningAlgorithm},
    secret::Secret,
};
use claimbound_core::{
    diag::{Code, Diagnostic, Span, did_you_mean},
    mapping::Role,
    time::{Seconds, UnixSeconds},
};
use std::sync::Arc;

/// The backend's name in `backend = "…"`.
pub const NAME: &str = "jwt";
/// Longer audiences do not load.
pub const AUDIENCE_BYTES_MAX: usize = 256;

pub const KEYS: [&str; 2] = ["audience", "algorithm"];
const UNKNOWN_KEY: Code = Code(801);
const AUDIENCE_MISSING: Code = Code(802);
const AUDIENCE_UNFIT: Code = Code(803);
const ALGORITHM_UNKNOWN: Code = Code(804);
const AUDIENCE_OURS: Code = Code(805);
const AUDIENCE_OF_A_CLOUD: Code = Code(806);
const LIVES_TOO_LONG: Code = Code(807);
/// The codes of this backend's findings, with their titles.
pub const CODES: [(Code, &str); 7] = [
    (UNKNOWN_KEY, "a key that a `jwt` role does not have"),
    (AUDIENCE_MISSING, "a `jwt` role without `audience`"),
    (AUDIENCE_UNFIT, "an `audience` that is not one plain string"),
    (ALGORITHM_UNKNOWN, "an `algorithm` that the broker does not sign with"),
    (AUDIENCE_OURS, "an `audience` that begins with the broker's own URL"),
    (AUDIENCE_OF_A_CLOUD, "an `audience` that is a cloud's"),
    (LIVES_TOO_LONG, "a `jwt` role whose tokens would outlive the keys that sign them"),
];

/// Audiences that clouds expect of federated tokens, in lower case. A `jwt` role with one of them would be a second,
/// unguarded way to that cloud.
const CLOUDS: [(&str, &str); 4] = [
    ("sts.amazonaws.com", "AWS STS"),
    ("//iam.googleapis.com/", "Google Cloud"),
    ("https://iam.googleapis.com/", "Google Cloud"),
    ("api://azureadtokenexchange", "Microsoft Entra"),
];

/// The `[role.NAME.jwt]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The one `aud`.
    pub audience: String,
    pub algorithm: SigningAlgorithm,
}

impl Config {
    /// Reads a role's parameters; all faults at once. Without a deployment, clashes with the broker's own URLs cannot
    /// be judged.
    pub fn parse(role: &Role, deployment: Option<&Deployment<'_>>) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let values = &role.parameters.values;
        for (key, (_, span)) in values {
            if !KEYS.contains(&key.as_str()) {
                faults.push(unknown_key(role, key, span));
            }
        }
        let audience = match values.get("audience") {
            Some((value, span)) => audience(value, span, deployment, &mut faults),
            None => {
                faults.push(Diagnostic::error(
                    AUDIENCE_MISSING,
                    role.parameters.span.clone(),
                    format!("role `{}` has no `audience`", role.name),
                    "write whom the token is for, as the relying party expects it: \
                     `audience = \"https://openbao.acme.example\"`",
                ));
                None
            }
        };
        let algorithm = match values.get("algorithm") {
            Some((value, span)) => algorithm(value, span, &mut faults),
            None => Some(SigningAlgorithm::Es256),
        };
        if role.max_duration.0 > CREDENTIAL_SECONDS_MAX {
            faults.push(Diagnostic::error(
                LIVES_TOO_LONG,
                role.span.clone(),
                format!("role `{}` gives tokens that outlive the keys that sign them", role.name),
                format!("`max_duration` of a `jwt` role is at most {}h", CREDENTIAL_SECONDS_MAX / 3600),
            ));
        }
        match (audience, algorithm) {
            (Some(audience), Some(algorithm)) if faults.is_empty() => Ok(Self { audience, algorithm }),
            _ => Err(faults),
        }
    }
}

fn unknown_key(role: &Role, key: &str, span: &Span) -> Diagnostic {
    let help = match did_you_mean(key, KEYS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a `jwt` role has the keys `{}`", KEYS.join("` and `")),
    };
    Diagnostic::error(UNKNOWN_KEY, span.clone(), format!("role `{}`: unknown key `jwt.{key}`", role.name), help)
}

fn audience(
    value: &toml::Value,
    span: &Span,
    deployment: Option<&Deployment<'_>>,
    faults: &mut Vec<Diagnostic>,
) -> Option<String> {
    let text = value.as_str().unwrap_or_default();
    let (message, help) = if !value.is_str() {
        let message = format!("`audience` is one string, not {}", kind(value));
        (message, "a token has one audience; make a role for each relying party".to_owned())
    } else if text.is_empty() {
        ("`audience` is empty".to_owned(), "write whom the token is for".to_owned())
    } else if text.contains(['{', '}']) {
        let help = "the audience of a `jwt` role is fixed by the platform; claims are in the token's own members";
        ("`audience` holds a placeholder".to_owned(), help.to_owned())
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "`audience` holds white space, a control character or a letter beyond ASCII";
        let help = "write printable ASCII without spaces, exactly as the relying party compares it";
        (message.to_owned(), help.to_owned())
    } else if text.len() > AUDIENCE_BYTES_MAX {
        let message = format!("`audience` has {} bytes; at most {AUDIENCE_BYTES_MAX} are allowed", text.len());
        (message, "write a shorter one".to_owned())
    } else {
        let clash = clash(text, span, deployment);
        let fits = clash.is_none();
        faults.extend(clash);
        return fits.then(|| text.to_owned());
    };
    faults.push(Diagnostic::error(AUDIENCE_UNFIT, span.clone(), message, help));
    None
}

fn algorithm(value: &toml::Value, span: &Span, faults: &mut Vec<Diagnostic>) -> Option<SigningAlgorithm> {
    let found = SigningAlgorithm::ALL.into_iter().find(|one| value.as_str() == Some(one.name()));
    if found.is_none() {
        let written = value.as_str().map_or_else(|| kind(value).to_owned(), |text| format!("`{text}`"));
        let names = SigningAlgorithm::ALL.map(SigningAlgorithm::name);
        let help = match value.as_str().and_then(|text| did_you_mean(&text.to_ascii_uppercase(), names)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write `ES256`, or `RS256` where the relying party cannot verify that".to_owned(),
        };
        let message = format!("`algorithm` is {written}, which the broker does not sign with");
        faults.push(Diagnostic::error(ALGORITHM_UNKNOWN, span.clone(), message, help));
    }
    found
}

/// Whose audience this is, if it may not be a `jwt` role's. Hosts know no letter case, so the comparison knows none.
fn clash(audience: &str, span: &Span, deployment: Option<&Deployment<'_>>) -> Option<Diagnostic> {
    let folded = audience.to_ascii_lowercase();
    if let Some((_, cloud)) = CLOUDS.iter().find(|(start, _)| folded.starts_with(start)) {
        return Some(Diagnostic::error(
            AUDIENCE_OF_A_CLOUD,
            span.clone(),
            format!("`audience` is {cloud}'s own"),
            format!("a `jwt` role may not make tokens that {cloud} accepts; use a backend of that cloud"),
        ));
    }
    let Deployment { public_url, issuer_url, .. } = *deployment?;
    let ours = [("public_url", public_url), ("issuer_url", issuer_url)]
        .into_iter()
        .find(|(_, url)| !url.is_empty() && folded.starts_with(&url.to_ascii_lowercase()))?;
    Some(Diagnostic::error(
        AUDIENCE_OURS,
        span.clone(),
        format!("`audience` begins with the broker's own `{}`", ours.0),
        format!("`{}` and what is below it are for the broker; write the relying party's audience", ours.1),
    ))
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) | toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "a boolean",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

/// A `jwt` role, ready to mint.
pub(super) struct JwtRole {
    config: Config,
    issuer_url: Arc<str>,
    signer: Arc<Signer>,
    lists: Arc<StatusLists>,
}

impl JwtRole {
    pub(super) fn new(config: Config, issuer_url: Arc<str>, signer: Arc<Signer>, lists: Arc<StatusLists>) -> Self {
        Self { config, issuer_url, signer, lists }
    }
}

impl Minter for JwtRole {
    fn plan(&self, order: &Order<'_>) -> Result<Box<dyn Plan>, Unfit> {
        if order.scope.is_some() {
            return Err(Unfit::Scope);
        }
        let jti = claims::jti();
        let expires = order.now.plus(order.duration.0.into());
        let token = claims::Token {
            issuer_url: &self.issuer_url,
            audience: &self.config.audience,
            subject: &claims::subject(order),
            jti: &jti,
            expires,
        };
        let status = self.lists.draw(order.now);
        let claims = Claims::of(order, &token, self.lists.claim(&status)).encode();
        Ok(Box::new(Token {
            jti,
            claims,
            status,
            expires,
            duration: order.duration,
            now: order.now,
            algorithm: self.config.algorithm,
            signer: Arc::clone(&self.signer),
        }))
    }

    fn revoke<'a>(&'a self, _handle: &'a str) -> Later<'a, Result<Ended, MintError>> {
        // Relying parties that verify offline learn of nothing; those that ask, or read the status list, do.
        Box::pin(std::future::ready(Ok(Ended::WhereChecked)))
    }
}

/// A planned token.
struct Token {
    jti: String,
    /// JSON.
    claims: Vec<u8>,
    status: Place,
    expires: UnixSeconds,
    duration: Seconds,
    now: UnixSeconds,
    algorithm: SigningAlgorithm,
    signer: Arc<Signer>,
}

impl Plan for Token {
    fn handle(&self) -> Option<&str> {
        Some(&self.jti)
    }

    fn status(&self) -> Option<&Place> {
        Some(&self.status)
    }

    fn duration(&self) -> Seconds {
        self.duration
    }

    fn mint(&self) -> Later<'_, Result<Minted, MintError>> {
        let signed: Result<Secret, _> = self.signer.sign_encoded(own::TYP, self.algorithm, &self.claims, self.now);
        let minted = signed.map_err(|error| MintError::Away(error.to_string())).map(|token| Minted {
            handle: self.jti.clone(),
            expires: self.expires,
            credential: Credential::Jwt(token),
        });
        Box::pin(std::future::ready(minted))
    }
}

#[cfg(test)]
pub(super) mod tests;
