//! Who may claim: `okta:group:payments-leads`, `okta:email:ada@acme.example`, `okta:sub:00u1…`.

use super::Person;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What an approver is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Whom {
    Group,
    /// Only an address that the provider verified.
    Email,
    /// The provider's immutable id.
    Sub,
}

impl Whom {
    pub const ALL: [Self; 3] = [Self::Group, Self::Email, Self::Sub];
    pub fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Email => "email",
            Self::Sub => "sub",
        }
    }
}

/// One who may claim, or everybody of a group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Approver {
    /// Name of the `[[sign_in]]` that vouches for them.
    pub sign_in: String,
    pub whom: Whom,
    pub value: String,
}

/// Why a text names no approver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadApprover {
    #[error("it has no three parts")]
    Parts,
    #[error("it does not begin with the name of a sign-in")]
    SignIn,
    #[error("its second part is none of `group`, `email` and `sub`")]
    Whom,
    #[error("its last part is empty, or has spaces or control characters at its ends")]
    Value,
}

impl FromStr for Approver {
    type Err = BadApprover;
    fn from_str(text: &str) -> Result<Self, BadApprover> {
        let (sign_in, rest) = text.split_once(':').ok_or(BadApprover::Parts)?;
        let (whom, value) = rest.split_once(':').ok_or(BadApprover::Parts)?;
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if sign_in.is_empty() || sign_in.len() > 63 || !sign_in.bytes().all(letters) {
            return Err(BadApprover::SignIn);
        }
        let whom = Whom::ALL.into_iter().find(|one| one.name() == whom).ok_or(BadApprover::Whom)?;
        if value.is_empty() || value.trim() != value || value.chars().any(char::is_control) {
            return Err(BadApprover::Value);
        }
        Ok(Self { sign_in: sign_in.to_owned(), whom, value: value.to_owned() })
    }
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.sign_in, self.whom.name(), self.value)
    }
}

impl Serialize for Approver {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Approver {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Approver {
    /// Whether it is this person, or one of their groups. Addresses are compared as mail servers do that fold nothing but
    /// the domain's letters; the provider writes the address, so the whole is folded.
    pub fn is(&self, person: &Person) -> bool {
        self.sign_in == person.sign_in
            && match self.whom {
                Whom::Group => person.groups.contains(&self.value),
                Whom::Email => person.email.as_deref().is_some_and(|email| email.eq_ignore_ascii_case(&self.value)),
                Whom::Sub => person.subject == self.value,
            }
    }
}

/// Who may claim: one of `any` and, where a sensitivity states its own, one of those too.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Approvers {
    pub any: Vec<Approver>,
    /// The floor of the role's sensitivity; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Approver>,
}

impl Approvers {
    /// Whether this person is among them.
    pub fn admit(&self, person: &Person) -> bool {
        let one = |approvers: &[Approver]| approvers.iter().any(|approver| approver.is(person));
        one(&self.any) && (self.within.is_empty() || one(&self.within))
    }
}
