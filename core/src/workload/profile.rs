//! An issuer profile as data: which claims an issuer sends, their types, and what may be concluded from them.

use super::Claim;

/// How single use of a token is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SingleUseRule {
    /// By `jti`; its absence refuses.
    Jti,
    /// By SHA-256 over the decoded header and payload.
    SignedPart,
    /// Not at all: actor tokens only.
    Reusable,
}

/// Whether strangers can get tokens of the same issuer URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenancy {
    Multi,
    Single,
}

/// One CI system.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    // private fields with the rest of the data
}

/// A profile file that does not load.
#[derive(Debug, thiserror::Error)]
#[error("profile {file}: {message}")]
pub struct ProfileError {
    pub file: String,
    pub message: String,
}

/// All known profiles.
#[derive(Clone, Debug)]
pub struct Profiles {
    pub(crate) all: Vec<Profile>,
}

impl Profiles {
    /// The profiles compiled in (`profiles/*.toml`).
    pub fn builtin() -> Self {
        unimplemented!()
    }
    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.all.iter().find(|profile| profile.name == name)
    }
    /// All, in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.all.iter()
    }
}

impl Profile {
    /// Whether an issuer of this URL (if it fits one of the profile's URL forms) is shared by strangers;
    /// `None` when no form fits. A `tenancy = "single"` in policy.toml may only be said where the profile allows it.
    pub fn tenancy_of(&self, _url: &str) -> Option<Tenancy> {
        unimplemented!()
    }
    /// The URL forms, for diagnostics and `profile show`.
    pub fn url_forms(&self) -> &[String] {
        unimplemented!()
    }
    /// The rule for single use of subject tokens.
    pub fn single_use(&self) -> SingleUseRule {
        unimplemented!()
    }
    /// Longest `exp - iat` accepted, in seconds.
    pub fn max_lifetime_seconds(&self) -> i64 {
        unimplemented!()
    }
    /// JWS algorithms that the issuer's keys may have (`RS256`, …).
    pub fn algorithms(&self) -> &[String] {
        unimplemented!()
    }
    /// Claims that every token must carry besides the standard ones.
    pub fn required(&self) -> &[String] {
        unimplemented!()
    }
    /// Whether `nbf` is demanded.
    pub fn requires_nbf(&self) -> bool {
        unimplemented!()
    }
    /// Whether a job can mint a second token, so that nothing needs to be sent twice.
    pub fn can_mint_again(&self) -> bool {
        unimplemented!()
    }
    /// Events that a mapping without `event_name` matches.
    pub fn default_events(&self) -> &[String] {
        unimplemented!()
    }
    /// Immutable ids that pin a workload, the narrowest first (`repository_id`, `repository_owner_id`).
    pub fn pins(&self) -> &[Claim] {
        unimplemented!()
    }
    /// Whether the forge folds names (repository, owner) in ASCII case.
    pub fn folds_names(&self) -> bool {
        unimplemented!()
    }
    /// Whether `id` has the syntax of this issuer's ids.
    pub fn id_is_valid(&self, _id: &str) -> bool {
        unimplemented!()
    }
    /// Canonical claims that the job's author controls.
    pub fn author_controlled(&self) -> &[Claim] {
        unimplemented!()
    }
    /// Canonical claims that tokens of this issuer can carry at all.
    pub fn provides(&self, _claim: Claim) -> bool {
        unimplemented!()
    }
    /// The canonical claim that a native claim name becomes (`project_path` → `repository`), for the edit in
    /// diagnostics about native names in mappings.
    pub fn canonical_of(&self, _native: &str) -> Option<Claim> {
        unimplemented!()
    }
}
