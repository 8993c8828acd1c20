//! The calls to STS, and what their failures mean. Nothing is sent twice unless AWS said that it did nothing and to
//! try again: a request that went out and was not answered may have made a session.

use super::{
    super::{MintError, Room},
    Backend, Mode,
    session::Session,
};
use crate::{keys::signing::SigningAlgorithm, secret::Secret};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{Credentials, PolicyDescriptorType, Tag},
};
use claimbound_core::time::UnixSeconds;
use serde_json::Value;
use std::{error::Error, io, time::Duration};

/// How often a request goes again that AWS said to send again.
const AGAIN_MAX: u32 = 2;
/// Wait before the first of those; doubled for the next, with as much again by chance.
const AGAIN_MILLISECONDS: u64 = 200;
/// Texts of AWS beyond this are cut.
const TEXT_CHARACTERS_MAX: usize = 400;

/// Codes of answers that say: nothing was done, send it again.
const SEND_AGAIN: [&str; 7] = [
    "IDPCommunicationError",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
];

/// One session to ask for.
pub(super) struct Call {
    pub role_arn: String,
    pub region: String,
    pub duration_seconds: u32,
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
    pub session: Session,
    pub proof: Proof,
}

/// How the broker proves itself.
pub(super) enum Proof {
    /// The claims of its own token; signed when it is sent.
    Assertion { claims: Value, now: UnixSeconds },
    /// Its own AWS identity.
    Identity { external_id: Option<String> },
}

/// What STS answered.
pub(super) struct Answer {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires: UnixSeconds,
    pub assumed_role_arn: String,
    pub assumed_role_id: String,
    pub room: Room,
}

/// STS gave no session.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Surely no session was made.
    pub nothing: bool,
    /// AWS's code, where it answered.
    pub code: Option<String>,
    /// For operators.
    pub text: String,
}

impl Failure {
    /// The same, should AWS have put our assertion, or its signature alone, into its words.
    fn without(mut self, assertion: &str) -> Self {
        let (_, signature) = assertion.rsplit_once('.').expect("a token that we signed has three parts");
        self.text = self.text.replace(assertion, "…").replace(signature, "…");
        self
    }

    fn again(&self) -> bool {
        self.nothing && self.code.as_deref().is_some_and(|code| SEND_AGAIN.contains(&code))
    }

    /// What whoever runs the broker can do about it, where the code says it.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.code.as_deref()? {
            "AccessDenied" => {
                "the role's trust policy does not let the broker in: compare it with `claimbound trust aws`; it must \
                 allow `sts:TagSession` and `sts:SetSourceIdentity` too"
            }
            "InvalidIdentityToken" | "InvalidIdentityTokenException" => {
                "the account has no IAM OIDC provider for this issuer, or one with another audience or key: see \
                 `claimbound trust aws`"
            }
            "IDPCommunicationError" | "IDPCommunicationErrorException" => {
                "AWS cannot fetch the broker's discovery document and key set: they must be reachable from the \
                 internet at `issuer_url`"
            }
            "IDPRejectedClaim" => "AWS did not accept the broker's assertion; the role's trust policy may differ",
            "ExpiredTokenException" => "the broker's clock is wrong: its assertion had expired when AWS read it",
            "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => {
                "session policy, policy ARNs and tags together are too large once AWS has packed them: shorten the \
                 policy or drop tags of this role"
            }
            "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => {
                "AWS cannot read the role's session policy"
            }
            "RegionDisabledException" => {
                "STS is not enabled for this region in the account: enable it, or name another"
            }
            "ValidationError" => {
                "AWS finds a parameter wrong; often the role's own maximum session duration is shorter than \
                 `max_duration`"
            }
            "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
                "the broker's own AWS credentials are wrong or have expired"
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&cut(&self.text))?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}

impl From<Failure> for MintError {
    fn from(failure: Failure) -> Self {
        let packed = failure.code.as_deref().is_some_and(|code| code.starts_with("PackedPolicyTooLarge"));
        let text = failure.to_string();
        match (failure.nothing, &failure.code) {
            (false, _) => Self::Unknown(text),
            (true, Some(_)) if packed => Self::PolicyTooLarge(text),
            (true, Some(_)) if !failure.again() => Self::Refused(text),
            // It asked for patience, or nobody could be asked.
            (true, _) => Self::Away(text),
        }
    }
}

impl Backend {
    /// Asks for a session; again only where AWS said so.
    pub(super) async fn session(&self, call: &Call) -> Result<Answer, Failure> {
        let mut tried = 0;
        loop {
            let failure = match self.session_once(call).await {
                Err(failure) if failure.again() && tried < AGAIN_MAX => failure,
                ended => return ended,
            };
            tracing::info!(role_arn = call.role_arn, why = %failure, "AWS asks to try again");
            let wait = AGAIN_MILLISECONDS << tried;
            let mut chance = [0; 2];
            aws_lc_rs::rand::fill(&mut chance).expect("the system's random source works");
            let wait = wait + u64::from(u16::from_be_bytes(chance)) * wait / u64::from(u16::MAX);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            tried += 1;
        }
    }

    async fn session_once(&self, call: &Call) -> Result<Answer, Failure> {
        let client = self.client(&call.region).await;
        let seconds = i32::try_from(call.duration_seconds).unwrap_or(i32::MAX);
        let arns = (!call.policy_arns.is_empty())
            .then(|| call.policy_arns.iter().map(|arn| PolicyDescriptorType::builder().arn(arn).build()).collect());
        let (credentials, user, room) = match &call.proof {
            Proof::Assertion { claims, now } => {
                let token = self
                    .signer
                    .sign("JWT", SigningAlgorithm::Es256, claims, *now)
                    .map_err(|error| Failure { nothing: true, code: None, text: error.to_string() })?;
                let answer = client
                    .assume_role_with_web_identity()
                    .role_arn(&call.role_arn)
                    .role_session_name(&call.session.name)
                    .web_identity_token(token.reveal())
                    .duration_seconds(seconds)
                    .set_policy(call.policy.clone())
                    .set_policy_arns(arns)
                    .send()
                    .await
                    .map_err(|error| failure(error).without(token.reveal()))?;
                #[expect(deprecated, reason = "clients read it")]
                let room = Room { policies: answer.packed_policy_size, token: answer.session_token_utilization };
                (answer.credentials, answer.assumed_role_user, room)
            }
            Proof::Identity { external_id } => {
                let tag = |(key, value): &(String, String)| Tag::builder().key(key).value(value).build().ok();
                let answer = client
                    .assume_role()
                    .role_arn(&call.role_arn)
                    .role_session_name(&call.session.name)
                    .source_identity(&call.session.source_identity)
                    .set_tags(Some(call.session.tags.iter().filter_map(tag).collect()))
                    .set_transitive_tag_keys(Some(call.session.transitive()))
                    .set_external_id(external_id.clone())
                    .duration_seconds(seconds)
                    .set_policy(call.policy.clone())
                    .set_policy_arns(arns)
                    .send()
                    .await
                    .map_err(failure)?;
                #[expect(deprecated, reason = "clients read it")]
                let room = Room { policies: answer.packed_policy_size, token: answer.session_token_utilization };
                (answer.credentials, answer.assumed_role_user, room)
            }
        };
        let (Some(credentials), Some(user)) = (credentials, user) else {
            return Err(Failure { nothing: false, code: None, text: "STS answered without credentials".to_owned() });
        };
        let Credentials { access_key_id, secret_access_key, session_token, expiration, .. } = credentials;
        Ok(Answer {
            access_key_id,
            secret_access_key: Secret::new(secret_access_key),
            session_token: Secret::new(session_token),
            expires: UnixSeconds(expiration.secs()),
            assumed_role_arn: user.arn,
            assumed_role_id: user.assumed_role_id,
            room,
        })
    }

    /// The ARN under which AWS knows the broker.
    pub(super) async fn own_arn(&self, region: &str) -> Result<String, Failure> {
        let answer = self.client(region).await.get_caller_identity().send().await.map_err(failure)?;
        Ok(answer.arn.unwrap_or_default())
    }

    /// The client of a region: by default the regional endpoint, never the global one.
    async fn client(&self, region: &str) -> Client {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(region) {
            return client.clone();
        }
        let version = BehaviorVersion::v2026_01_12();
        let named = Region::new(region.to_owned());
        let builder = match self.settings.mode {
            // No AWS identity is looked for: the assertion is the whole proof.
            Mode::WebIdentity => aws_sdk_sts::Config::builder().behavior_version(version),
            Mode::AssumeRole => {
                let shared = aws_config::defaults(version).region(named.clone()).load().await;
                aws_sdk_sts::config::Builder::from(&shared)
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.settings.connect_timeout)
            .read_timeout(self.settings.timeout)
            .operation_attempt_timeout(self.settings.timeout)
            .operation_timeout(self.settings.timeout)
            .build();
        let mut builder = builder.region(named).retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        if let Some(url) = &self.settings.endpoint_url {
            builder = builder.endpoint_url(url);
        }
        let client = Client::from_conf(builder.build());
        clients.insert(region.to_owned(), client.clone());
        client
    }
}

/// What a failed call means. Only an answer, or never having got through, says that nothing was made.
pub(super) fn failure<E>(error: SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let SdkError::ServiceError(answer) = &error {
        let status = answer.raw().status().as_u16();
        let text = match (answer.err().code(), answer.err().message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => format!("STS answered {status}"),
        };
        let nothing = (400..500).contains(&status) && status != 408;
        return Failure { nothing, code: answer.err().code().map(str::to_owned), text: line(&text) };
    }
    let nothing = matches!(error, SdkError::ConstructionFailure(_)) || causes(&error).any(never_sent);
    // Never `Debug`, which prints requests and answers whole.
    let text = causes(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    Failure { nothing, code: None, text: line(&text) }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The connection was refused, or there was nothing to sign the request with.
fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    error.downcast_ref::<io::Error>().is_some_and(refused) || error.downcast_ref::<CredentialsError>().is_some()
}

/// One line. Long ones are cut where the failure is told, after what must not be told is gone.
fn line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARACTERS_MAX).collect()
}
