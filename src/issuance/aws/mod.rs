//! The `aws` backend: sessions of a role in an account of AWS, through STS.
//!
//! Two ways lead there. `web-identity` shows AWS a token of our own, so the broker holds no AWS key at all and an
//! account trusts our issuer by one statement per role. `assume-role` uses the AWS identity that the broker runs as.
//! Either way the session says who acts: its name, source identity and tags are made of ids, never of text that a
//! job's author chose, and the rights are the role's, narrowed by a session policy of the mapping folder.

pub mod arn;
mod config;
pub mod denial;
mod policy;
pub mod session;
mod sts;

pub use config::{CODES, Config, KEYS, briefs, eager};
pub use sts::Failure;

use super::{
    AwsSession, Credential, Ended, Later, MintError, Minted, Minter, Narrowing, Order, Plan, Unfit,
    claims::{self, Claims},
};
use crate::keys::signing::Signer;
use arn::is_policy;
use claimbound_core::time::Seconds;
use config::POLICY_ARNS_MAX;
use serde_json::{Map, Value, json};
use session::Session;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use sts::{Call, Proof};
use tokio::sync::Mutex;

/// The kind's name in `backend = "…"` and `kind = "…"`.
pub const NAME: &str = "aws";
/// STS gives no shorter session.
pub const DURATION_SECONDS_MIN: u32 = 900;
/// STS gives no longer session.
pub const DURATION_SECONDS_MAX: u32 = 12 * 3600;
/// The same, when the broker's own identity is a session of a role already.
pub const CHAINED_SECONDS_MAX: u32 = 3600;
/// Life of our assertion. It is used at once and by AWS alone.
const ASSERTION_SECONDS: i64 = 60;
/// At start, finding out who we are at AWS may take so long.
const START_SECONDS_MAX: u64 = 5;
/// A session that may do nothing: what `doctor` asks for.
const NOTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

/// How the broker proves itself to STS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// A token of its own.
    #[default]
    WebIdentity,
    /// The AWS identity that it runs as.
    AssumeRole,
}

/// `[backend.NAME]` of kind `aws`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// Of roles that name none.
    pub region: Option<String>,
    /// Instead of the region's own endpoint.
    pub endpoint_url: Option<String>,
    /// Of roles that name none; `assume-role` only.
    pub external_id: Option<String>,
    /// Of one call, connecting included.
    pub timeout: Duration,
    pub connect_timeout: Duration,
}

/// One configured way to STS, shared by its roles.
pub struct Backend {
    name: String,
    settings: Settings,
    issuer_url: Arc<str>,
    signer: Arc<Signer>,
    /// Our own identity is a session of a role: AWS gives at most an hour then.
    chained: AtomicBool,
    /// By region.
    clients: Mutex<BTreeMap<String, aws_sdk_sts::Client>>,
}

impl Backend {
    /// A backend that has not looked at AWS yet.
    pub fn new(name: &str, settings: Settings, issuer_url: Arc<str>, signer: Arc<Signer>) -> Self {
        let (chained, clients) = (AtomicBool::new(false), Mutex::default());
        Self { name: name.to_owned(), settings, issuer_url, signer, chained, clients }
    }

    /// How it proves itself.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Finds out whether the broker's own identity limits sessions to an hour. What AWS does not answer in time is
    /// logged: it decides about nothing but that limit, and every call meets the same fault again.
    pub async fn start(&self, region: &str) {
        if self.settings.mode != Mode::AssumeRole {
            return;
        }
        let backend = self.name.as_str();
        match tokio::time::timeout(Duration::from_secs(START_SECONDS_MAX), self.own_arn(region)).await {
            Ok(Ok(arn)) => {
                let chained = is_session(&arn);
                self.chained.store(chained, Ordering::Relaxed);
                tracing::info!(backend, arn, chained, "the broker's own AWS identity");
                if chained {
                    tracing::warn!(backend, "sessions are limited to 1 h: the broker's identity is a role's session");
                }
            }
            Ok(Err(why)) => tracing::error!(backend, %why, "the broker's own AWS identity cannot be found"),
            Err(_) => tracing::error!(backend, "STS did not say in time who the broker is"),
        }
    }
}

/// `arn:aws:sts::111122223333:assumed-role/NAME/SESSION`.
fn is_session(arn: &str) -> bool {
    arn.split(':').nth(5).is_some_and(|resource| resource.starts_with("assumed-role/"))
}

/// An `aws` role, ready to mint.
pub struct AwsRole {
    config: Config,
    backend: Arc<Backend>,
}

impl AwsRole {
    pub fn new(config: Config, backend: Arc<Backend>) -> Self {
        Self { config, backend }
    }

    /// Asks STS once for a session that may do nothing, under `session`, so that whoever sets up the account learns
    /// what is missing. The session is dropped at once. Gives the ARN that was assumed.
    ///
    /// # Errors
    /// Why AWS gives none.
    pub async fn probe(&self, order: &Order<'_>) -> Result<String, Failure> {
        let unfit = |unfit: Unfit| Failure { nothing: true, code: None, text: unfit.to_string() };
        let mut call = self.call(order).map_err(unfit)?;
        call.policy = Some(NOTHING.to_owned());
        call.policy_arns.clear();
        self.backend.session(&call).await.map(|answer| answer.assumed_role_arn)
    }

    fn call(&self, order: &Order<'_>) -> Result<Call, Unfit> {
        if order.scope.is_some() {
            return Err(Unfit::Scope);
        }
        let most = match self.backend.chained.load(Ordering::Relaxed) {
            true => CHAINED_SECONDS_MAX,
            false => DURATION_SECONDS_MAX,
        };
        let seconds = order.duration.0.min(most);
        if seconds < DURATION_SECONDS_MIN {
            return Err(Unfit::TooShort { seconds, least: DURATION_SECONDS_MIN });
        }
        let session = Session::of(order, &self.config.tags)?;
        let (policy, policy_arns) = self.policies(order.narrowing)?;
        let proof = match self.backend.settings.mode {
            Mode::WebIdentity => Proof::Assertion { claims: self.assertion(order, &session), now: order.now },
            Mode::AssumeRole => {
                let own = self.config.external_id.as_ref();
                Proof::Identity { external_id: own.or(self.backend.settings.external_id.as_ref()).cloned() }
            }
        };
        Ok(Call {
            role_arn: self.config.role_arn.text.clone(),
            region: self.region().to_owned(),
            duration_seconds: seconds,
            policy,
            policy_arns,
            session,
            proof,
        })
    }

    /// The session's policies. AWS lets a session do what *one* of them allows, so the asker's are taken where the role has
    /// none, or where they leave some of the role's out.
    fn policies(&self, asked: Option<&Narrowing>) -> Result<(Option<String>, Vec<String>), Unfit> {
        let Config { policy, policy_arns, role_arn, .. } = &self.config;
        let asked = asked.filter(|asked| **asked != Narrowing::default());
        let Some(asked) = asked else { return Ok((policy.clone(), policy_arns.clone())) };
        let arns = &asked.policy_arns;
        if let Some(arn) = arns.iter().find(|arn| !is_policy(arn, role_arn.partition)) {
            return Err(Unfit::Narrowing(format!("`{arn}` is no managed policy of the role's partition")));
        }
        if arns.len() > POLICY_ARNS_MAX {
            return Err(Unfit::Narrowing(format!(
                "AWS takes {POLICY_ARNS_MAX} managed policies, and these are {}",
                arns.len()
            )));
        }
        let own = asked.policy.as_deref().map(|text| {
            policy::judge(text).map_err(|fault| match fault {
                policy::Fault::Unfit(why) => Unfit::Narrowing(why),
                policy::Fault::TooLong(length) => {
                    Unfit::Narrowing(format!("it has {length} characters without blanks"))
                }
            })
        });
        let own = own.transpose()?;
        let free = policy.is_none() && policy_arns.is_empty();
        let fewer = policy.is_none() && own.is_none() && arns.iter().all(|arn| policy_arns.contains(arn));
        if free || fewer {
            return Ok((own, arns.clone()));
        }
        Err(Unfit::Narrowing(
            "the role has session policies of its own, and another beside them would allow more".to_owned(),
        ))
    }

    /// The role's region, or its backend's.
    pub fn region(&self) -> &str {
        self.config.region.as_deref().or(self.backend.settings.region.as_deref()).unwrap_or_default()
    }

    /// What AWS reads of us: tags and source identity are claims of the token, in AWS's own form.
    fn assertion(&self, order: &Order<'_>, session: &Session) -> Value {
        let token = claims::Token {
            issuer_url: &self.backend.issuer_url,
            audience: self.config.role_arn.partition.audience,
            subject: &subject(order.role),
            jti: &claims::jti(),
            expires: order.now.plus(ASSERTION_SECONDS),
        };
        let mut claims = json!(Claims::of(order, &token, ()));
        let tags: Map<String, Value> = session.tags.iter().map(|(key, value)| (key.clone(), json!([value]))).collect();
        claims["https://aws.amazon.com/tags"] =
            json!({ "principal_tags": tags, "transitive_tag_keys": session.transitive() });
        claims["https://aws.amazon.com/source_identity"] = session.source_identity.as_str().into();
        claims
    }
}

/// `sub` of the assertion: a role's trust policy names it exactly.
pub fn subject(role: &str) -> String {
    format!("role:{role}")
}

impl Minter for AwsRole {
    fn aws_role_arn(&self) -> Option<&str> {
        Some(&self.config.role_arn.text)
    }

    fn plan(&self, order: &Order<'_>) -> Result<Box<dyn Plan>, Unfit> {
        Ok(Box::new(Planned { call: self.call(order)?, backend: Arc::clone(&self.backend) }))
    }

    fn revoke<'a>(&'a self, _handle: &'a str) -> Later<'a, Result<Ended, MintError>> {
        // The keys work until they expire: a deny list (`denial`) is for operators, whoever holds keys could fill it.
        Box::pin(std::future::ready(Ok(Ended::AtExpiry)))
    }
}

/// A planned session.
struct Planned {
    call: Call,
    backend: Arc<Backend>,
}

impl Plan for Planned {
    fn handle(&self) -> Option<&str> {
        // AWS makes the access key's id.
        None
    }

    fn duration(&self) -> Seconds {
        Seconds(self.call.duration_seconds)
    }

    fn mint(&self) -> Later<'_, Result<Minted, MintError>> {
        Box::pin(async {
            let answer = self.backend.session(&self.call).await?;
            Ok(Minted {
                handle: answer.access_key_id.clone(),
                expires: answer.expires,
                credential: Credential::Aws(Box::new(AwsSession {
                    access_key_id: answer.access_key_id,
                    secret_access_key: answer.secret_access_key,
                    session_token: answer.session_token,
                    expires: answer.expires,
                    region: self.call.region.clone(),
                    assumed_role_arn: answer.assumed_role_arn,
                    assumed_role_id: answer.assumed_role_id,
                    source_identity: self.call.session.source_identity.clone(),
                    room: answer.room,
                })),
            })
        })
    }
}

#[cfg(test)]
mod tests;
