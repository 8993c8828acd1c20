//! The claims that every token of ours has, whoever it is for (design, section 5).

use super::Order;
use claimbound_core::{
    time::UnixSeconds,
    workload::{Claim, Workload},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// What differs between kinds of tokens.
pub(super) struct Token<'a> {
    pub issuer_url: &'a str,
    pub audience: &'a str,
    pub subject: &'a str,
    pub jti: &'a str,
    pub expires: UnixSeconds,
}

/// RFC 7519 section 4.1 and our own members.
pub(super) fn of(order: &Order<'_>, token: &Token<'_>) -> Value {
    let workload = &order.case.principal;
    let mut principal = Map::new();
    for (member, text) in [
        ("issuer", Some(&*workload.issuer)),
        ("id", Some(order.principal_id)),
        ("name", Some(order.principal_name)),
        ("repository_id", workload.text(Claim::RepositoryId)),
        ("repository_owner_id", workload.text(Claim::RepositoryOwnerId)),
    ] {
        if let Some(text) = text {
            principal.insert(member.to_owned(), text.into());
        }
    }
    let mut claims = json!({
        "iss": token.issuer_url,
        "sub": token.subject,
        "aud": token.audience,
        "iat": order.now.0,
        "nbf": order.now.0,
        "exp": token.expires.0,
        "jti": token.jti,
        "role": order.role,
        "mapping": order.mapping,
        "lease_id": lease_text(order),
        "principal": principal,
    });
    if let Some(act) = act(&order.case.actors) {
        claims["act"] = act;
    }
    claims
}

/// Whose the token is: the role, and the principal's immutable id at its issuer.
pub(super) fn subject(order: &Order<'_>) -> String {
    format!("role:{}:{}:{}", order.role, order.case.principal.issuer, order.principal_id)
}

/// Who acts, and inside it who acted before (RFC 8693 section 4.1): by issuer and subject, whole.
fn act(actors: &[Workload<'_>]) -> Option<Value> {
    let (outermost, earlier) = actors.split_first()?;
    let (iss, sub) = outermost.party();
    let mut claim = json!({ "iss": iss, "sub": sub });
    if let Some(earlier) = act(earlier) {
        claim["act"] = earlier;
    }
    Some(claim)
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
