//! A token that nobody has verified. Compact serialisation only (RFC 7515 section 3.1); what a header may say is a
//! closed matter, because every member that steers verification has once steered it to an attacker's key.

use super::{Algorithm, TrustError};
use crate::{
    claims::{Claims, ClaimsError, Value},
    reason::Reason,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::borrow::Cow;

/// Longest token that is looked at. CI tokens are 1.5 to 2.5 KiB; custom properties and groups need some room.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest `kid`, in tokens and in key sets.
pub const KID_BYTES_MAX: usize = 256;

/// Header members that would choose another key, another encoding or another reading of the payload.
const STEERING: [&str; 7] = ["jku", "x5u", "jwk", "x5c", "b64", "zip", "enc"];

/// Three base64url segments within the limits, header read strictly; nothing about it is believed.
/// `issuer()` is the one field that may be read, and only as an exact key of the issuer table.
pub struct UnverifiedToken<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Cow<'t, str>,
    /// The text before the second dot: what the signature covers.
    pub(super) signed_part: &'t str,
    pub(super) signature: &'t [u8],
    pub(super) claims: Claims<'t>,
    issuer: Cow<'t, str>,
}

impl<'t> UnverifiedToken<'t> {
    /// `decoded` is the caller's buffer for header, payload and signature; what it held is overwritten.
    pub fn parse(token: &'t str, decoded: &'t mut Vec<u8>) -> Result<Self, TrustError> {
        Self::read(token, decoded, Typ::AbsentOr("JWT"))
    }

    /// The same of a token whose `typ` must be this one (RFC 8725 section 3.11): one of ours.
    pub fn parse_typed(token: &'t str, decoded: &'t mut Vec<u8>, typ: &str) -> Result<Self, TrustError> {
        Self::read(token, decoded, Typ::Exactly(typ))
    }

    fn read(token: &'t str, decoded: &'t mut Vec<u8>, typ: Typ<'_>) -> Result<Self, TrustError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TrustError::Refused(Reason::Malformed));
        }
        let (header, payload, signature) = segments(token)?;
        // Decoding only shrinks, so each segment has its own stretch of the buffer.
        decoded.clear();
        decoded.resize(token.len(), 0);
        let (header_buffer, rest) = decoded.split_at_mut(header.len());
        let (payload_buffer, signature_buffer) = rest.split_at_mut(payload.len());

        let (algorithm, kid) = read_header(strict(decode(header, header_buffer)?)?, typ)?;
        let claims = strict(decode(payload, payload_buffer)?)?;
        let signature = decode(signature, signature_buffer)?;
        if signature.is_empty() {
            return Err(TrustError::Refused(Reason::Malformed));
        }
        let issuer = match claims.get("iss") {
            Some(Value::Text(issuer)) => issuer.clone(),
            Some(_) => return Err(TrustError::Refused(Reason::ClaimType)),
            None => return Err(TrustError::Refused(Reason::ClaimMissing)),
        };
        let signed_part = &token[..header.len() + 1 + payload.len()];
        Ok(Self { algorithm, kid, signed_part, signature, claims, issuer })
    }
    /// The `iss` claim, unverified.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Exactly three segments; five are a JWE (RFC 7516 section 3.1). Never more than six pieces are made.
fn segments(token: &str) -> Result<(&str, &str, &str), TrustError> {
    let mut pieces = token.splitn(6, '.');
    let mut next = || pieces.next();
    match (next(), next(), next(), next(), next(), next()) {
        (Some(header), Some(payload), Some(signature), None, ..) => Ok((header, payload, signature)),
        (_, _, _, _, Some(_), None) => Err(TrustError::Refused(Reason::JweUnsupported)),
        _ => Err(TrustError::Refused(Reason::Malformed)),
    }
}

/// Strict base64url: no padding, no white space, no spare bits (RFC 7515 section 2, RFC 4648 section 3.5).
fn decode<'b>(segment: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], TrustError> {
    let length = URL_SAFE_NO_PAD.decode_slice(segment, buffer).map_err(|_| TrustError::Refused(Reason::Malformed))?;
    Ok(&buffer[..length])
}

fn strict(bytes: &[u8]) -> Result<Claims<'_>, TrustError> {
    Claims::parse(bytes).map_err(|error| {
        TrustError::Refused(match error {
            ClaimsError::DuplicateMember => Reason::DuplicateMember,
            ClaimsError::Malformed | ClaimsError::TooDeep => Reason::Malformed,
        })
    })
}

/// What a header's `typ` may be.
#[derive(Clone, Copy)]
enum Typ<'a> {
    AbsentOr(&'a str),
    Exactly(&'a str),
}

fn read_header<'t>(header: Claims<'t>, typ: Typ<'_>) -> Result<(Algorithm, Cow<'t, str>), TrustError> {
    let refuse = |reason| Err(TrustError::Refused(reason));
    if STEERING.iter().any(|name| header.get(name).is_some()) {
        return refuse(Reason::HeaderForbidden);
    }
    if header.get("crit").is_some() {
        return refuse(Reason::Crit);
    }
    if header.get("cty").is_some() {
        return refuse(Reason::Nested);
    }
    match (header.get("typ"), typ) {
        (None, Typ::AbsentOr(_)) => {}
        (Some(Value::Text(typ)), Typ::AbsentOr(wanted)) if typ.eq_ignore_ascii_case(wanted) => {}
        (Some(Value::Text(typ)), Typ::Exactly(wanted)) if typ == wanted => {}
        _ => return refuse(Reason::WrongType),
    }
    // `none`, every HMAC and whatever else is not in the closed list end here, before any key is looked up.
    let Some(algorithm) = header.get("alg").and_then(Value::as_text).and_then(Algorithm::from_name) else {
        return refuse(Reason::AlgNotAllowed);
    };
    match header.get("kid") {
        None => refuse(Reason::KidMissing),
        // What no key set can hold is unknown for good: no refresh would mend it.
        Some(Value::Text(kid)) if is_kid(kid) => Ok((algorithm, kid.clone())),
        Some(_) => refuse(Reason::KidUnknown),
    }
}

/// What a `kid` may be, in tokens and in key sets.
pub(super) fn is_kid(kid: &str) -> bool {
    !kid.is_empty() && kid.len() <= KID_BYTES_MAX && !kid.chars().any(char::is_control)
}
