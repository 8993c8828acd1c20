//! The targets. Each says what holds for any input besides "no panic".

mod claims;
mod jwks;
mod mapping;
mod signed;
mod token;
mod translate;

use crate::Target;

/// All targets of the core; those of the service's own parsers stand in its tests.
pub static ALL: [Target; 6] =
    [token::TARGET, signed::TARGET, jwks::TARGET, claims::TARGET, translate::TARGET, mapping::TARGET];
