//! What operators do to what is granted: suspend and resume, end leases, look at them. The same for a running broker and
//! offline; who an operator is, was judged before.
//!
//! Everything that is done is one commit with one record, and says honestly how far it reaches: a suspension holds from
//! its commit on through every broker, while a credential that is out ends only as its backend can end it.

mod ceremonies;
mod lapses;
mod list;
mod names;
mod revoke;
mod suspend;

pub use ceremonies::{CarryClaims, Ceremonies, ClaimFilter, Claims, ListedCeremony, ListedClaim, ResetClaims};
pub use lapses::{AskLapses, Lapse, Lapses, Why};
pub use list::{Leases, List, Listed, When};
pub use revoke::{BackendTold, EndedLease, Revoke, Revoked, cut, denied_again, list_of, listed};
pub use suspend::{Resume, Suspend, Suspended};

use crate::{
    exchange::salt,
    issuance::{Ended, Later, aws::denial::Denier},
    operators::{NotAllowed, Operator},
    store::{Change, Commit, Down, Guard, Outcome, Reader, Suspension, Writer},
};
use claimbound_core::{
    evidence::{Details, Record, What},
    mapping::MappingSet,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// A reason's text.
pub const REASON_CHARACTERS_MAX: usize = 500;
/// A name or id.
const NAME_BYTES_MAX: usize = 512;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    Suspend(Suspend),
    Resume(Resume),
    Revoke(Revoke),
    Leases(List),
    /// What waits for people, and what they claimed.
    Ceremonies(ClaimFilter),
    /// What came to nothing.
    Lapses(AskLapses),
    ClaimReset(ResetClaims),
    ClaimCarry(CarryClaims),
    /// What stands suspended.
    Suspensions,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    Suspended(Suspended),
    Resumed {
        /// What stood, if anything did.
        resumed: Option<Suspension>,
    },
    Revoked(Revoked),
    Leases(Leases),
    Ceremonies(Ceremonies),
    Lapses(Lapses),
    Claims(Claims),
    Suspensions {
        suspensions: Vec<Suspension>,
    },
}

/// Why it was not done; nothing was written then, unless `Store` says that nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("{0}")]
    Invalid(String),
    /// A name that nothing has here.
    #[error("{0}")]
    Unknown(String),
    /// It may be done, but not before something else.
    #[error("{0}")]
    NotYet(String),
    #[error(transparent)]
    Store(#[from] Down),
}

impl OperateError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "not_allowed",
            Self::Invalid(_) => "invalid_request",
            Self::Unknown(_) => "unknown",
            Self::NotYet(_) => "not_yet",
            Self::Store(_) => "store_down",
        }
    }
}

/// What leases were granted by: the folder's names, and how far each role's backend can end what it gave.
pub trait Targets: Send + Sync {
    fn set(&self) -> &MappingSet;
    /// Who may tell AWS what to refuse, by the name of the backend.
    fn deniers(&self) -> &BTreeMap<String, Arc<Denier>>;
    /// Ends one credential, without any deny list.
    fn end<'a>(&'a self, role: &'a str, handle: &'a str) -> Later<'a, Ended>;
}

/// Where operators work.
#[derive(Clone)]
pub struct House {
    pub writer: Writer,
    pub reader: Arc<dyn Reader>,
    pub targets: Arc<dyn Targets>,
    pub now: UnixSeconds,
    /// Why somebody acts beside the brokers that hold the store.
    pub break_glass: Option<String>,
}

/// Does what is asked, if the operator may.
///
/// # Errors
/// Why it was not done.
pub async fn operate(house: &House, operator: &Operator, deed: Deed) -> Result<Done, OperateError> {
    Ok(match deed {
        Deed::Suspend(asked) => Done::Suspended(suspend::suspend(house, operator, asked).await?),
        Deed::Resume(asked) => Done::Resumed { resumed: suspend::resume(house, operator, asked).await? },
        Deed::Revoke(asked) => Done::Revoked(revoke::revoke(house, operator, asked).await?),
        Deed::ClaimReset(asked) => Done::Claims(ceremonies::reset(house, operator, asked).await?),
        Deed::ClaimCarry(asked) => Done::Claims(ceremonies::carry(house, operator, asked).await?),
        looking => return look(house.reader.clone(), Some(house.targets.set()), house.now, operator, looking).await,
    })
}

/// What changes nothing, and so needs no hand on the store. `set`: the folder that judges now, where it is known.
///
/// # Errors
/// Why it was not done; also of a deed that would change something.
pub async fn look(
    reader: Arc<dyn Reader>,
    set: Option<&MappingSet>,
    now: UnixSeconds,
    operator: &Operator,
    deed: Deed,
) -> Result<Done, OperateError> {
    Ok(match deed {
        Deed::Leases(asked) => Done::Leases(list::list(reader, now, operator, asked).await?),
        Deed::Ceremonies(asked) => Done::Ceremonies(ceremonies::list(reader, set, now, operator, asked).await?),
        Deed::Lapses(asked) => Done::Lapses(lapses::list(reader, set, now, operator, asked).await?),
        Deed::Suspensions => Done::Suspensions { suspensions: suspend::standing(reader, now, operator).await? },
        _ => return Err(OperateError::Invalid("this is more than looking".to_owned())),
    })
}

/// Asks the store where waiting for it holds up nobody else.
async fn read<T: Send + 'static>(
    reader: Arc<dyn Reader>,
    ask: impl FnOnce(&dyn Reader) -> Result<T, Down> + Send + 'static,
) -> Result<T, Down> {
    match tokio::task::spawn_blocking(move || ask(&*reader)).await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Has AWS take the deny lists of all backends: whenever something is denied, since others may write the policy, too, and where
/// that is not what AWS was last told. `told` keeps what that was; by the name of the backend, why one could not be told.
pub async fn tell_targets(house: &House, told: &mut BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    for backend in house.targets.deniers().keys() {
        let entries = match revoke::entries(house, backend).await {
            Ok(entries) => entries,
            Err(down) => {
                failed.insert(backend.clone(), down.to_string());
                continue;
            }
        };
        let (policy, _) = crate::issuance::aws::denial::policy(&entries);
        if entries.is_empty() && told.get(backend) == Some(&policy) {
            continue;
        }
        match revoke::tell(house, backend).await {
            Ok(_) => drop(told.insert(backend.clone(), policy)),
            Err(why) => drop(failed.insert(backend.clone(), why)),
        }
    }
    failed
}

impl House {
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Reader) -> Result<T, Down> + Send + 'static,
    ) -> Result<T, Down> {
        read(self.reader.clone(), ask).await
    }

    /// One deed of an operator: its record says what, and its details who and why.
    async fn commit(
        &self,
        guards: Vec<Guard>,
        changes: Vec<Change>,
        what: What<'_>,
        mut details: Details,
    ) -> Result<Outcome, Down> {
        if let Some(why) = &self.break_glass {
            details.json.insert("break_glass".into(), why.as_str().into());
        }
        let version = self.targets.set().version;
        let record = Record {
            decision: None,
            at: self.now,
            what,
            principal: None,
            actor: None,
            mappings_version: (version != [0; 32]).then_some(version),
        };
        let entry = Some(record.seal(&details, salt()));
        self.writer.commit(Commit { guards, changes, entry }).await
    }
}

/// Who and why, for a record's details: both may name persons.
fn details(operator: &Operator, reason: &str) -> Details {
    let mut details = Details::default();
    details.json.insert("operator".into(), operator.name().into());
    details.json.insert("reason".into(), reason.into());
    details
}

/// A reason that says something.
fn reason(text: &str) -> Result<&str, OperateError> {
    let text = text.trim();
    let fault = match text.chars().count() {
        0 => "is missing: say why, for whoever reads the evidence".to_owned(),
        length if length > REASON_CHARACTERS_MAX => format!("has more than {REASON_CHARACTERS_MAX} characters"),
        _ if text.chars().any(|letter| letter.is_control() && letter != '\n') => "holds control characters".to_owned(),
        _ => return Ok(text),
    };
    Err(OperateError::Invalid(format!("the reason {fault}")))
}
