//! Unverified → verified. Pure: no clock, no network, no async.

mod keys;
mod token;
mod verify;
#[cfg(test)]
mod wycheproof;

pub use keys::{
    Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, JWKS_BYTES_MAX, JWKS_KEYS_MAX, JwksError, KeySet,
    ParsedKey, Strength, parse_jwks,
};
pub use token::{KID_BYTES_MAX, TOKEN_BYTES_MAX, UnverifiedToken};
pub use verify::{SingleUse, TrustError, Verified, verify, verify_actor, verify_again, verify_for, verify_ours};
