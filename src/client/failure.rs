//! Why a job ends without a credential. One type, so that every ending has a reason for programs, a text for people and an
//! exit code.

use std::time::Duration;

/// What kind of ending it is: the exit codes of all commands of jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The call or the job's definition is to be changed.
    Usage,
    /// The broker says no; the same job gets the same answer.
    Refused,
    /// Somebody could not be reached, or says that it cannot now.
    Unavailable,
    /// A person has not answered for it, or has said no.
    Pending,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unavailable => 4,
            Self::Pending => 5,
        }
    }

    /// The one of this exit code.
    pub fn of(code: u64) -> Option<Self> {
        [Self::Usage, Self::Refused, Self::Unavailable, Self::Pending]
            .into_iter()
            .find(|kind| u64::from(kind.code()) == code)
    }
}

/// No credential. The text is fit for a terminal and holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub kind: Kind,
    /// A word: the broker's own where it refused.
    pub reason: String,
    pub text: String,
    /// Where the broker has decided.
    pub decision_id: String,
    /// Another try may help, so long from now at the earliest.
    pub again: Option<Duration>,
}

impl Failure {
    pub fn new(kind: Kind, reason: &str, text: impl Into<String>) -> Self {
        Self { kind, reason: reason.to_owned(), text: text.into(), decision_id: String::new(), again: None }
    }
    pub fn usage(reason: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::Usage, reason, text)
    }
    /// What may pass by itself.
    pub fn passing(reason: &str, text: impl Into<String>) -> Self {
        Self { again: Some(Duration::ZERO), ..Self::new(Kind::Unavailable, reason, text) }
    }
    /// A file of our own that cannot be read or written.
    pub fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::usage("file", format!("cannot {what} `{}`: {error}", path.display()))
    }
    pub fn decided(self, decision_id: &str) -> Self {
        Self { decision_id: decision_id.to_owned(), ..self }
    }
}
