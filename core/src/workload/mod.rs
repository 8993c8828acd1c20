//! A job in canonical claims, and the case that policy judges.

mod case;
mod claim;
mod profile;
mod translate;

pub use case::{Case, Presence, Text, Workload};
pub use claim::{Claim, Kind};
pub use profile::{Profile, ProfileError, Profiles, SingleUseRule, Tenancy};
pub use translate::{WorkloadError, from_canonical, translate};
