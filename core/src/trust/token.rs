//! A token that nobody has verified.

use super::TrustError;

/// Three base64url segments within the limits, header read strictly; nothing about it is believed.
/// `issuer()` is the one field that may be read, and only as an exact key of the issuer table.
pub struct UnverifiedToken<'t> {
    pub(super) _todo: std::marker::PhantomData<&'t ()>,
}

impl<'t> UnverifiedToken<'t> {
    /// `decoded` is the caller's buffer for header and payload.
    pub fn parse(_token: &'t str, _decoded: &'t mut Vec<u8>) -> Result<Self, TrustError> {
        unimplemented!()
    }
    /// The `iss` claim, unverified.
    pub fn issuer(&self) -> &str {
        unimplemented!()
    }
}
