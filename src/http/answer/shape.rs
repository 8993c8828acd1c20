//! The JSON of every answer. Members stand in the order in which they are sent.

use crate::{
    broker::Answer,
    config::Hints,
    exchange::{Condition, Issued, Nearest},
    http::form::{TYPE_HANDOFF, TYPE_JWT},
    issuance::Credential,
};
use claimbound_core::{mapping::Got, time::UnixSeconds};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// RFC 6749 wants a URI here; a name needs no host that could be down or taken over.
pub fn uri(reason: &str) -> String {
    format!("urn:claimbound:reason:{reason}")
}

pub fn text(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

#[derive(Serialize)]
pub struct Success<'a> {
    access_token: &'a str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: i64,
    credential: ToldCredential<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_expires_in: Option<i64>,
    decision_id: String,
    lease_id: String,
    role: &'a str,
    mapping: &'a str,
    mappings_version: &'a str,
}

/// Shaped by its backend; `kind` says which shape.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToldCredential<'a> {
    Jwt {
        jwt: &'a str,
    },
    Aws {
        access_key_id: &'a str,
        secret_access_key: &'a str,
        session_token: &'a str,
        /// RFC 3339.
        expiration: String,
        region: &'a str,
        assumed_role_arn: &'a str,
    },
    Handoff {
        jwt: &'a str,
    },
}

/// The type of a lease handle: good for `/revoke` alone.
pub const TYPE_LEASE: &str = "urn:claimbound:params:oauth:token-type:lease";

impl<'a> Success<'a> {
    pub fn of(answer: &'a Answer, issued: &'a Issued, now: UnixSeconds) -> Self {
        let (access_token, issued_token_type, token_type, credential) = match &issued.credential {
            Credential::Jwt(jwt) => (jwt, TYPE_JWT, "Bearer", ToldCredential::Jwt { jwt: jwt.reveal() }),
            // Nothing that takes a credential takes it (RFC 8693 section 2.2.1).
            Credential::Handoff(jwt) => (jwt, TYPE_HANDOFF, "N_A", ToldCredential::Handoff { jwt: jwt.reveal() }),
            Credential::Aws(session) => {
                let handle = issued.lease_handle.as_ref().expect("keys of AWS come with a lease handle");
                let told = ToldCredential::Aws {
                    access_key_id: &session.access_key_id,
                    secret_access_key: session.secret_access_key.reveal(),
                    session_token: session.session_token.reveal(),
                    expiration: rfc3339(session.expires),
                    region: &session.region,
                    assumed_role_arn: &session.assumed_role_arn,
                };
                (handle, TYPE_LEASE, "N_A", told)
            }
        };
        let until = |at: UnixSeconds| at.0.saturating_sub(now.0).max(0);
        Self {
            access_token: access_token.reveal(),
            issued_token_type,
            token_type,
            expires_in: until(issued.expires),
            credential,
            refresh_token: issued.refresh.as_ref().map(|refresh| refresh.token.reveal()),
            refresh_expires_in: issued.refresh.as_ref().map(|refresh| until(refresh.expires)),
            decision_id: text(answer.id.0),
            lease_id: text(issued.lease.0),
            role: &issued.role,
            mapping: &issued.mapping,
            mappings_version: &answer.mappings_version,
        }
    }
}

fn rfc3339(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.to_string()).unwrap_or_default()
}

/// Of a token that is good: RFC 7662 section 2.2.
#[derive(Serialize)]
pub struct Active {
    pub active: bool,
    pub token_type: &'static str,
    #[serde(flatten)]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
pub struct DryRun<'a> {
    pub dry_run: bool,
    pub role: &'a str,
    pub mapping: &'a str,
    pub expires_in: u32,
    pub decision_id: String,
    pub mappings_version: &'a str,
}

#[derive(Serialize)]
pub struct Early {
    error: &'static str,
    error_description: String,
    error_uri: String,
    reason: &'static str,
}

impl Early {
    pub fn of(error: &'static str, reason: &'static str, error_description: String) -> Self {
        Self { error, error_description, error_uri: uri(reason), reason }
    }
}

#[derive(Serialize)]
pub struct Told<'a> {
    pub error: &'static str,
    pub error_description: String,
    pub error_uri: String,
    pub reason: &'static str,
    pub decision_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mappings_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<ToldNearest<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub roles: &'a [String],
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub claims: Pairs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<&'a str>,
}

#[derive(Serialize)]
pub struct ToldNearest<'a> {
    mapping: &'a str,
    role: &'a str,
    conditions: Vec<ToldCondition<'a>>,
    /// They hold values, as conditions do.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    remarks: &'a [String],
}

#[derive(Serialize)]
pub struct ToldCondition<'a> {
    claim: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    /// Text; `null` where the job has no such claim; left out where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<Option<&'a str>>,
}

impl<'a> ToldNearest<'a> {
    pub fn of(nearest: &'a Nearest, hints: Hints) -> Self {
        let condition = |condition: &'a Condition| ToldCondition {
            claim: &condition.claim,
            expected: Some(condition.expected.as_str()).filter(|_| hints == Hints::Full),
            got: match &condition.got {
                _ if hints != Hints::Full => None,
                Got::Value(value) => Some(Some(value.as_str())),
                Got::None => Some(None),
                Got::Unknown => None,
            },
        };
        Self {
            mapping: &nearest.mapping,
            role: &nearest.role,
            conditions: nearest.conditions.iter().map(condition).collect(),
            remarks: if hints == Hints::Full { &nearest.remarks } else { &[] },
        }
    }
}

/// An object whose members keep their order.
pub struct Pairs<'a>(pub &'a [(String, String)]);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
