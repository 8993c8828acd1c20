//! The only maker of [`Verified`] and of [`SingleUse`].

use super::{IssuerSnapshot, IssuerTable, UnverifiedToken};
use crate::{
    claims::{Claims, Value},
    reason::Reason,
    time::{LEEWAY_SECONDS, SINGLE_USE_MARGIN_SECONDS, UnixSeconds},
    workload::SingleUseRule,
};
use aws_lc_rs::digest;
use std::sync::Arc;

/// Longest `jti`.
const JTI_BYTES_MAX: usize = 512;
/// The last second of the year 9999.
const TIME_MAX_SECONDS: i64 = 253_402_300_799;

/// A token whose issuer, key, signature, type, times, audience and identity all hold; of one that came again
/// ([`verify_again`]), all but its expiry.
pub struct Verified<'t> {
    issuer: Arc<IssuerSnapshot>,
    claims: Claims<'t>,
    issued_at: UnixSeconds,
    expires: UnixSeconds,
    single_use: Option<SingleUse>,
}

/// The right to spend this token once. Only verification makes one; the store decides who is first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SingleUse {
    key: [u8; 32],
    keep_until: UnixSeconds,
}

impl SingleUse {
    /// Hash of the length-prefixed issuer, kind and value.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
    /// Until when the record must be kept.
    pub fn keep_until(&self) -> UnixSeconds {
        self.keep_until
    }
}

impl<'t> Verified<'t> {
    pub fn issuer(&self) -> &IssuerSnapshot {
        &self.issuer
    }
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }
    pub fn expires(&self) -> UnixSeconds {
        self.expires
    }
    /// `None` for issuers whose profile says that tokens are meant to be used more than once.
    pub fn single_use(&self) -> Option<SingleUse> {
        self.single_use
    }
    pub fn claims(&self) -> &Claims<'t> {
        &self.claims
    }
    pub fn into_claims(self) -> Claims<'t> {
        self.claims
    }
}

/// Why a token is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0}")]
    Refused(Reason),
    /// A key refresh may mend it: the issuer, whose name is `issuer`, has no usable key of this `kid`.
    #[error("no usable key of this kid at {issuer}")]
    KeyUnknown { issuer: Arc<str> },
    /// A key refresh may mend it: no keys of the issuer are held, or they are too old to tell what it publishes now.
    #[error("the keys of {issuer} are too old, or none are held")]
    KeysTooOld { issuer: Arc<str> },
}

impl TrustError {
    /// For evidence.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => *reason,
            Self::KeyUnknown { .. } => Reason::KidUnknown,
            Self::KeysTooOld { .. } => Reason::IssuerDown,
        }
    }
}

/// Checks everything about a token together (design, sections 3 and 4): issuer and key first, then the signature,
/// and only then what the token says.
pub fn verify<'t>(
    token: &UnverifiedToken<'t>,
    issuers: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    judge(Use::Subject, token, issuers, now)
}

/// The same for an actor token (RFC 8693 section 2.1), which some issuers mean to be used more than once.
pub fn verify_actor<'t>(
    token: &UnverifiedToken<'t>,
    issuers: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    judge(Use::Actor, token, issuers, now)
}

/// The same for another audience than the one of exchanges: a token that is good here is good for nothing there.
pub fn verify_for<'t>(
    audience: &str,
    token: &UnverifiedToken<'t>,
    issuers: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    judge(Use::Audience(audience), token, issuers, now)
}

/// [`verify`] in all but the expiry: for a token that was believed while it lasted, and comes again as one half of a
/// renewal. Whoever calls it holds it to what it began, by its single-use key, and to an end of that.
pub fn verify_again<'t>(
    token: &UnverifiedToken<'t>,
    issuers: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    judge(Use::Again, token, issuers, now)
}

/// The same for a token that the broker signed itself. Whom it is for is the caller's to judge, where `audience` is left
/// out; it is one text all the same.
pub fn verify_ours<'t>(
    audience: Option<&str>,
    token: &UnverifiedToken<'t>,
    ours: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    judge(Use::Ours(audience), token, ours, now)
}

/// What a token is to be good for.
#[derive(Clone, Copy)]
enum Use<'a> {
    Subject,
    Actor,
    /// It was believed while it lasted.
    Again,
    /// Another audience than that of exchanges.
    Audience(&'a str),
    /// To be exchanged by whom it was made for; or for this audience.
    Ours(Option<&'a str>),
}

fn judge<'t>(
    whom: Use<'_>,
    token: &UnverifiedToken<'t>,
    issuers: &IssuerTable,
    now: UnixSeconds,
) -> Result<Verified<'t>, TrustError> {
    let issuer = issuers.get(token.issuer()).ok_or(TrustError::Refused(Reason::IssuerUnknown))?;
    // What an operator cut off is refused before anything that could set off a fetch.
    if issuer.cut.disabled {
        return Err(TrustError::Refused(Reason::IssuerDisabled));
    }
    if issuer.cut.kids.contains(token.kid.as_ref()) {
        return Err(TrustError::Refused(Reason::KidDenied));
    }
    if now > issuer.keys_valid_until {
        return Err(TrustError::KeysTooOld { issuer: issuer.name.clone() });
    }
    let Some(key) = issuer.keys.get(token.kid.as_ref()) else {
        return Err(TrustError::KeyUnknown { issuer: issuer.name.clone() });
    };
    if key.algorithm() != token.algorithm {
        return Err(TrustError::Refused(Reason::AlgNotAllowed));
    }
    if !key.verifies(token.signed_part.as_bytes(), token.signature) {
        return Err(TrustError::Refused(Reason::BadSignature));
    }
    let standing = read_claims(token, issuer, whom, now);
    let (issued_at, expires, single_use) = standing.map_err(TrustError::Refused)?;
    Ok(Verified { issuer: issuer.clone(), claims: token.claims.clone(), issued_at, expires, single_use })
}

type Standing = (UnixSeconds, UnixSeconds, Option<SingleUse>);

fn read_claims(
    token: &UnverifiedToken<'_>,
    issuer: &IssuerSnapshot,
    whom: Use<'_>,
    now: UnixSeconds,
) -> Result<Standing, Reason> {
    let (claims, rules) = (&token.claims, &issuer.rules);
    match whom {
        Use::Audience(audience) | Use::Ours(Some(audience)) => check_audience(claims.get("aud"), audience)?,
        Use::Ours(None) => drop(claims.get("aud").and_then(Value::as_text).ok_or(Reason::Aud)?),
        Use::Subject | Use::Actor | Use::Again => check_audience(claims.get("aud"), &rules.audience)?,
    }
    let exp = time(claims, "exp")?.ok_or(Reason::Exp)?;
    let iat = time(claims, "iat")?.ok_or(Reason::Iat)?;
    let nbf = time(claims, "nbf")?;
    // The range of `time` keeps every sum below away from overflow.
    if !matches!(whom, Use::Again) && now.0 >= exp + LEEWAY_SECONDS {
        return Err(Reason::Exp);
    }
    if iat > now.plus(LEEWAY_SECONDS).0 {
        return Err(Reason::Iat);
    }
    match nbf {
        Some(nbf) if nbf > now.plus(LEEWAY_SECONDS).0 => return Err(Reason::Nbf),
        None if rules.requires_nbf => return Err(Reason::ClaimMissing),
        _ => {}
    }
    if exp <= iat {
        return Err(Reason::ClaimsInconsistent);
    }
    if exp - iat > rules.max_lifetime_seconds {
        return Err(Reason::Lifetime);
    }
    match claims.get("sub") {
        Some(Value::Text(sub)) if !sub.is_empty() => {}
        Some(Value::Text(_)) | None => return Err(Reason::ClaimMissing),
        Some(_) => return Err(Reason::ClaimType),
    }
    let has = |name: &String| if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }.is_some();
    if !rules.required.iter().all(has) {
        return Err(Reason::ClaimMissing);
    }
    let keep_until = UnixSeconds(exp).plus(SINGLE_USE_MARGIN_SECONDS);
    let rule = if let Use::Actor = whom { rules.actor_single_use } else { rules.single_use };
    let single_use = match rule {
        SingleUseRule::Jti => {
            let jti = claims.get("jti").and_then(Value::as_text).ok_or(Reason::Jti)?;
            if jti.is_empty() || jti.len() > JTI_BYTES_MAX {
                return Err(Reason::Jti);
            }
            Some(SingleUse { key: single_use_key(&issuer.url, "jti", jti), keep_until })
        }
        // base64url was read strictly, so this text and the bytes it stands for are one to one.
        SingleUseRule::SignedPart => {
            Some(SingleUse { key: single_use_key(&issuer.url, "signed_part", token.signed_part), keep_until })
        }
        SingleUseRule::Reusable => None,
    };
    Ok((UnixSeconds(iat), UnixSeconds(exp), single_use))
}

/// Ours as a string, or a list of it alone: a token for several audiences can be replayed by any of them.
fn check_audience(aud: Option<&Value<'_>>, ours: &str) -> Result<(), Reason> {
    let one = match aud {
        Some(Value::List(list)) => match &list[..] {
            [one] => one,
            [] => return Err(Reason::Aud),
            _ => return Err(Reason::AudMultiple),
        },
        Some(one) => one,
        None => return Err(Reason::Aud),
    };
    if one.as_text() == Some(ours) { Ok(()) } else { Err(Reason::Aud) }
}

/// A NumericDate (RFC 7519 section 2) that is an integer of this side of the year 10000.
fn time(claims: &Claims<'_>, name: &str) -> Result<Option<i64>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Integer(seconds)) if (0..=TIME_MAX_SECONDS).contains(seconds) => Ok(Some(*seconds)),
        Some(_) => Err(Reason::ClaimType),
    }
}

fn single_use_key(issuer: &str, kind: &str, value: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [issuer, kind, value] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
