//! The claims that every token of ours has, whoever it is for (design, section 5).

use super::Order;
use claimbound_core::{
    time::UnixSeconds,
    workload::{Claim, Workload},
};
use serde::Serialize;
use uuid::Uuid;

/// The claims of a token have about so many.
const CLAIMS_BYTES: usize = 1024;

/// What differs between kinds of tokens.
pub(super) struct Token<'a> {
    pub issuer_url: &'a str,
    pub audience: &'a str,
    pub subject: &'a str,
    pub jti: &'a str,
    pub expires: UnixSeconds,
}

/// RFC 7519 section 4.1 and our own members; `More` are those that one kind of token has beside them.
#[derive(Serialize)]
pub(super) struct Claims<'a, More> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: &'a str,
    role: &'a str,
    mapping: &'a str,
    lease_id: String,
    principal: Principal<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Act<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    approved_by: &'a [String],
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize)]
struct Principal<'a> {
    issuer: &'a str,
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_owner_id: Option<&'a str>,
}

/// Who acts, and inside it who acted before (RFC 8693 section 4.1): by issuer and subject, whole.
#[derive(Serialize)]
struct Act<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act<'a>>>,
}

impl<'a, More: Serialize> Claims<'a, More> {
    pub(super) fn of(order: &Order<'a>, token: &Token<'a>, more: More) -> Self {
        let workload = &order.case.principal;
        Self {
            iss: token.issuer_url,
            sub: token.subject,
            aud: token.audience,
            iat: order.now.0,
            nbf: order.now.0,
            exp: token.expires.0,
            jti: token.jti,
            role: order.role,
            mapping: order.mapping,
            lease_id: lease_text(order),
            principal: Principal {
                issuer: &workload.issuer,
                id: order.principal_id,
                name: order.principal_name,
                repository_id: workload.text(Claim::RepositoryId),
                repository_owner_id: workload.text(Claim::RepositoryOwnerId),
            },
            act: act(&order.case.actors),
            approved_by: order.approved_by,
            more,
        }
    }

    /// The same where nobody has acted yet.
    pub(super) fn unacted(self) -> Self {
        Self { act: None, ..self }
    }

    /// As the token carries them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut claims = Vec::with_capacity(CLAIMS_BYTES);
        serde_json::to_writer(&mut claims, self).expect("texts and numbers are JSON");
        claims
    }
}

/// Whose the token is: the role, and the principal's immutable id at its issuer.
pub(super) fn subject(order: &Order<'_>) -> String {
    format!("role:{}:{}:{}", order.role, order.case.principal.issuer, order.principal_id)
}

fn act<'a>(actors: &'a [Workload<'_>]) -> Option<Act<'a>> {
    let (outermost, earlier) = actors.split_first()?;
    let (iss, sub) = outermost.party();
    Some(Act { iss, sub, act: act(earlier).map(Box::new) })
}

/// The lease's id as it is written everywhere.
pub(super) fn lease_text(order: &Order<'_>) -> String {
    Uuid::from_u128(order.lease.0).hyphenated().to_string()
}

/// A `jti` that nobody can guess.
pub(super) fn jti() -> String {
    let mut jti = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut jti).expect("the system's random source works");
    uuid::Builder::from_random_bytes(jti).into_uuid().hyphenated().to_string()
}
