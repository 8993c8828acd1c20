//! Tokens of ours that come back to us: those of `jwt` roles, which whoever they are for exchanges downstream, and handoffs,
//! by which a job lets somebody act. A handoff is good for one exchange with this broker and for nothing else: its `typ` and its
//! audience are nobody's else.

use super::{
    Credential, Later, MintError, Minted, Order, Plan,
    claims::{self, Claims},
};
use crate::{
    keys::signing::{Signer, SigningAlgorithm},
    secret::Secret,
};
use claimbound_core::{
    time::{Seconds, UnixSeconds},
    trust::IssuerTable,
};
use serde::Serialize;
use std::sync::Arc;

/// The `typ` of tokens of `jwt` roles.
pub const TYP: &str = "JWT";
/// The `typ` of handoffs.
pub const HANDOFF_TYP: &str = "claimbound-handoff+jwt";
/// How long a handoff lives, unless another time is asked for; and at most.
pub const HANDOFF_SECONDS: u32 = 300;
pub const HANDOFF_SECONDS_MAX: u32 = 600;

/// What the broker knows of its own tokens.
pub struct OwnTokens {
    issuer_url: Arc<str>,
    handoff_audience: Arc<str>,
    signer: Arc<Signer>,
    /// Tokens of `jwt` roles may be exchanged.
    exchanged: bool,
}

impl OwnTokens {
    pub fn new(public_url: &str, issuer_url: &str, signer: &Arc<Signer>, exchanged: bool) -> Self {
        let handoff_audience = format!("{public_url}/handoff").into();
        Self { issuer_url: issuer_url.into(), handoff_audience, signer: Arc::clone(signer), exchanged }
    }

    /// The `iss` of our tokens.
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// The `aud` of handoffs.
    pub fn handoff_audience(&self) -> &str {
        &self.handoff_audience
    }

    /// Whether tokens of `jwt` roles may be exchanged downstream.
    pub fn are_exchanged(&self) -> bool {
        self.exchanged
    }

    /// We ourselves, with the keys that are good now.
    pub fn table(&self, now: UnixSeconds) -> IssuerTable {
        self.signer.as_issuer(&self.issuer_url, now)
    }

    /// A handoff in place of the credential: who shall act is `may_act`, issuer and subject, and stands outermost in the case.
    pub fn handoff(&self, order: &Order<'_>, may_act: (&str, &str), duration: Seconds) -> Box<dyn Plan> {
        let (jti, expires) = (claims::jti(), order.now.plus(duration.0.into()));
        let token = claims::Token {
            issuer_url: &self.issuer_url,
            audience: &self.handoff_audience,
            subject: &claims::subject(order),
            jti: &jti,
            expires,
        };
        let more = Promise { may_act: MayAct { iss: may_act.0, sub: may_act.1 }, scope: order.scope };
        // Nobody has acted by it yet.
        let claims = Claims::of(order, &token, more).unacted().encode();
        Box::new(Handoff { jti, claims, expires, duration, now: order.now, signer: Arc::clone(&self.signer) })
    }
}

/// What a handoff says beside what every token of ours says.
#[derive(Serialize)]
struct Promise<'a> {
    may_act: MayAct<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

/// RFC 8693 section 4.4.
#[derive(Serialize)]
struct MayAct<'a> {
    iss: &'a str,
    sub: &'a str,
}

/// A planned handoff.
struct Handoff {
    jti: String,
    /// JSON.
    claims: Vec<u8>,
    expires: UnixSeconds,
    duration: Seconds,
    now: UnixSeconds,
    signer: Arc<Signer>,
}

impl Plan for Handoff {
    fn handle(&self) -> Option<&str> {
        Some(&self.jti)
    }

    fn duration(&self) -> Seconds {
        self.duration
    }

    fn mint(&self) -> Later<'_, Result<Minted, MintError>> {
        let signed: Result<Secret, _> =
            self.signer.sign_encoded(HANDOFF_TYP, SigningAlgorithm::Es256, &self.claims, self.now);
        let minted = signed.map_err(|error| MintError::Away(error.to_string())).map(|token| Minted {
            handle: self.jti.clone(),
            expires: self.expires,
            credential: Credential::Handoff(token),
        });
        Box::pin(std::future::ready(minted))
    }
}
