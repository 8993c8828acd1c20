//! Who may do what an operator does. How they showed who they are is not known here: whatever acts in an operator's
//! name takes an [`Operator`], and asks it.

use std::{collections::BTreeSet, fmt};

/// What an operator may do: the words of `[[operator]] may`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    /// Refuse further grants.
    Suspend,
    /// Take a suspension back.
    Resume,
    /// End leases.
    Revoke,
    /// See how a decision came about, and what would be decided.
    Explain,
    /// See leases.
    Leases,
    /// Read the evidence.
    Audit,
    /// Rotate and revoke signing keys.
    Keys,
    /// Take standing claims back.
    ClaimReset,
}

impl May {
    /// All of them, as the configuration's documentation lists them.
    pub const ALL: [Self; 8] = [
        Self::Suspend,
        Self::Resume,
        Self::Revoke,
        Self::Explain,
        Self::Leases,
        Self::Audit,
        Self::Keys,
        Self::ClaimReset,
    ];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Revoke => "revoke",
            Self::Explain => "explain",
            Self::Leases => "leases",
            Self::Audit => "audit",
            Self::Keys => "keys",
            Self::ClaimReset => "claim-reset",
        }
    }
}

/// Someone who was let in as an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    name: String,
    may: BTreeSet<May>,
}

/// What this operator may not do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{name}` may not `{}`; an `[[operator]]` of the configuration that matches must list it in `may`", wanted.name())]
pub struct NotAllowed {
    name: String,
    wanted: May,
}

impl Operator {
    /// `name` is what evidence calls them: `<sign-in or issuer>:<subject>`.
    pub fn new(name: impl Into<String>, may: impl IntoIterator<Item = May>) -> Self {
        Self { name: name.into(), may: may.into_iter().collect() }
    }

    /// Whoever can write the store's file can do anything: `local:<uid>@<host>`.
    pub fn local(uid: u32, host: &str) -> Self {
        Self::new(format!("local:{uid}@{host}"), May::ALL)
    }

    /// # Errors
    /// If they may not.
    pub fn require(&self, wanted: May) -> Result<(), NotAllowed> {
        if self.may.contains(&wanted) { Ok(()) } else { Err(NotAllowed { name: self.name.clone(), wanted }) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn may(&self) -> impl Iterator<Item = May> {
        self.may.iter().copied()
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_does_what_it_may_and_nothing_else() {
        let bob = Operator::new("okta:bob", [May::Suspend]);
        assert_eq!(bob.require(May::Suspend), Ok(()));
        let refused = bob.require(May::Resume).expect_err("not listed");
        assert!(refused.to_string().starts_with("`okta:bob` may not `resume`"), "{refused}");
        assert!(May::ALL.iter().all(|may| Operator::local(0, "host").require(*may).is_ok()));
    }

    #[test]
    fn the_words_are_the_configurations() {
        for may in May::ALL {
            assert_eq!(serde_json::to_value(may).expect("a word"), may.name());
        }
    }
}
