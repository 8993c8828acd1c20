//! A job that acts as an operator: the same trust and the same workload as in an exchange, for another audience. A token
//! that is good here is good for nothing at `/token`, and the other way round.

use super::{Parts, Refusal, proof, subjects};
use crate::store::{LeaseState, Spend};
use claimbound_core::{delegation, trust::UnverifiedToken, workload::Case};
use serde_json::Value;

/// A job that proved itself for the operators' audience.
pub struct OperatorJob<T> {
    pub issuer: String,
    /// Immutable id and name of its repository, as evidence names them.
    pub id: String,
    pub name: String,
    pub claims: Value,
    /// What believing it costs, whatever comes of it.
    pub spend: Spend,
    /// What of it may be suspended.
    pub subjects: Vec<[u8; 32]>,
    /// What was made of it.
    pub judged: T,
}

/// Proves a job by its token and shows it to `judge`.
///
/// # Errors
/// The token is not accepted, or its repository asks too often. Nothing was spent.
pub async fn operator_job<T>(
    parts: &Parts<'_>,
    token: &str,
    audience: &str,
    judge: impl FnOnce(&Case<'_>) -> T,
) -> Result<OperatorJob<T>, Refusal> {
    let mut decoded = Vec::new();
    let token = UnverifiedToken::parse(token, &mut decoded)?;
    let audience = proof::For::Audience(audience);
    let proof::Job { workload, profile, issuer, token, issued, .. } = proof::job(parts, &token, audience).await?;
    let (id, name) = workload.principal_id(profile);
    let (id, name) = (id.to_owned(), name.to_owned());
    let limited = |retry_after_seconds| Refusal::RateLimited { retry_after_seconds };
    parts.repositories.take(&issuer, &id).map_err(limited)?;
    let claims = workload.raw().to_json();
    let case = delegation::chain(workload, None, false, |_| None)?;
    // One token, one request: nothing is ever sent again.
    let leaves = LeaseState::Issued;
    let spend = Spend { token: token.into(), issued, request: [0; 32], leaves, may_retry: false, uses: 1 };
    let subjects = subjects::of_principal(&case, &id);
    Ok(OperatorJob { issuer: issuer.to_string(), id, name, claims, spend, subjects, judged: judge(&case) })
}
