//! What can be suspended, and what is told to targets: who is meant, as one key of one size.

use aws_lc_rs::digest::{Context, SHA256};
use claimbound_core::{evidence::SuspensionId, time::UnixSeconds};
use serde::{Deserialize, Serialize};

/// Of what kind a subject is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every job of an issuer.
    Issuer,
    /// Every job of an owner at an issuer: an organisation, a group.
    Tenant,
    /// Every job of a repository.
    Repository,
    /// Every job of one run.
    Run,
    /// Every job that a person started.
    Person,
    /// Every grant by a mapping.
    Mapping,
    /// Every grant of a role.
    Role,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Issuer, Self::Tenant, Self::Repository, Self::Run, Self::Person, Self::Mapping, Self::Role];

    /// The name in evidence and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Tenant => "tenant",
            Self::Repository => "repository",
            Self::Run => "run",
            Self::Person => "person",
            Self::Mapping => "mapping",
            Self::Role => "role",
        }
    }
    /// The scope of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
    /// Whether its names mean something at an issuer alone.
    pub fn needs_issuer(self) -> bool {
        !matches!(self, Self::Mapping | Self::Role)
    }
}

/// Who or what is meant. Of an issuer `name` is empty, of mappings and roles `issuer` is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Subject {
    pub scope: Scope,
    /// Name of the issuer.
    #[serde(default)]
    pub issuer: String,
    /// An immutable id at the issuer, or the name of a mapping or role.
    #[serde(default)]
    pub name: String,
}

impl Subject {
    pub fn new(scope: Scope, issuer: impl Into<String>, name: impl Into<String>) -> Self {
        Self { scope, issuer: issuer.into(), name: name.into() }
    }

    /// Under which it is looked up: of one size, whatever the name is.
    pub fn key(&self) -> [u8; 32] {
        key(self.scope, &self.issuer, &self.name)
    }
}

/// [`Subject::key`] without the subject.
pub fn key(scope: Scope, issuer: &str, name: &str) -> [u8; 32] {
    hash(&["subject", scope.name(), issuer, name])
}

/// SHA-256 over the parts, each behind its length.
pub(super) fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// What an operator has suspended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspension {
    pub id: SuspensionId,
    #[serde(flatten)]
    pub subject: Subject,
    /// Unix time.
    pub since: i64,
    /// Unix time; `None`: until it is taken back.
    pub until: Option<i64>,
    pub operator: String,
    pub reason: String,
}

impl Suspension {
    /// Whether it suspends anything at this time.
    pub fn stands(&self, now: UnixSeconds) -> bool {
        self.until.is_none_or(|until| until > now.0)
    }
}

/// Of what kind a denial is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialScope {
    /// One lease's credential, whenever it was issued.
    Lease,
    /// All of a role that was issued before a time.
    Role,
    /// All of a principal that was issued before a time.
    Principal,
}

impl DenialScope {
    /// The name in evidence and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Role => "role",
            Self::Principal => "principal",
        }
    }
    /// The scope of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Lease, Self::Role, Self::Principal].into_iter().find(|scope| scope.name() == name)
    }
}

/// Something that a backend's target is to refuse although it was issued.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Denial {
    /// Name of the backend.
    pub backend: String,
    pub scope: DenialScope,
    /// A lease's id, a role's name, or a principal as the target knows it.
    pub value: String,
    /// Of roles and principals: what was issued before it.
    pub before: UnixSeconds,
    /// Nothing that it denies is left then.
    pub until: UnixSeconds,
}

impl Denial {
    /// What makes two denials one, whose times are then the later ones.
    pub fn key(&self) -> [u8; 32] {
        hash(&["denial", &self.backend, self.scope.name(), &self.value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_subjects_have_one_key() {
        let mut keys = BTreeSet::new();
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(scope));
            for (issuer, name) in [("github", "7"), ("githu", "b7"), ("", "github7"), ("github7", ""), ("github", "71")]
            {
                assert!(keys.insert(key(scope, issuer, name)), "{scope:?} {issuer} {name}");
            }
        }
    }
}
