//! A job in canonical claims, and the case that policy judges.

mod case;
mod claim;
mod data;
mod draft;
mod profile;
mod raw;
mod reference;
mod reverse;
mod template;
mod translate;
mod url_form;
mod valid;

pub use case::{ACTORS_MAX, Case, Presence, Text, Via, Workload};
pub use claim::{Claim, Kind};
pub use data::{Mark, RawKind, SetBy, SingleUseRule, Tenancy};
pub(crate) use draft::VALUE_BYTES_MAX;
pub(crate) use profile::Gap;
pub use profile::{ClaimRow, Profile, ProfileError, ProfileTable, Profiles};
pub use raw::{ClaimKey, POINTER_NAMES_MAX, RAW_NAME_BYTES_MAX, RawClaim, RawNameError};
pub use reverse::native_claims;
pub use translate::{WorkloadError, from_canonical, translate};
