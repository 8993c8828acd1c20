//! Unverified → verified. Pure: no clock, no network, no async.

mod keys;
mod token;
mod verify;

pub use keys::{Algorithm, IssuerRules, IssuerSnapshot, IssuerTable, JwksError, KeySet, ParsedKey, parse_jwks};
pub use token::UnverifiedToken;
pub use verify::{SingleUse, TrustError, Verified, verify};
