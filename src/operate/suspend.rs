//! The kill switch: a suspension refuses every further grant to what it names, through every broker, from its commit on.

use super::{House, OperateError, Revoke, Revoked, details, names, read, reason, revoke};
use crate::{
    operators::{May, Operator},
    store::{
        Blocked, Change, Outcome, Reader, Scope, Subject, Suspension,
        leases::{LeaseFilter, When, page},
    },
};
use claimbound_core::{
    evidence::{SuspensionId, What},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// A suspension that ends by itself does so within this.
pub const SUSPENSION_SECONDS_MAX: i64 = 400 * 86_400;
/// How often it is tried again where others suspend and resume the same at once.
const TRIES_MAX: u32 = 5;

/// What to suspend.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    pub subject: Subject,
    pub reason: String,
    /// Until it ends by itself; else it stands until it is taken back.
    #[serde(default)]
    pub seconds: Option<i64>,
    /// Also ends the leases that there are.
    #[serde(default)]
    pub revoke: bool,
    /// Takes names that the folder does not know.
    #[serde(default)]
    pub force: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suspended {
    /// What stands now.
    pub suspension: Suspension,
    /// Whether it stood before, for as long or longer: then nothing was changed.
    pub already: bool,
    pub revoked: Option<Revoked>,
}

/// What to take back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    pub subject: Subject,
    pub reason: String,
    /// Although leases from before the suspension are still alive.
    #[serde(default)]
    pub leave_leases: bool,
}

/// Never makes a standing suspension shorter: that would be to resume, which is a right of its own.
pub(super) async fn suspend(house: &House, operator: &Operator, asked: Suspend) -> Result<Suspended, OperateError> {
    operator.require(May::Suspend)?;
    if asked.revoke {
        operator.require(May::Revoke)?;
    }
    let why = reason(&asked.reason)?;
    if asked.seconds.is_some_and(|seconds| !(1..=SUSPENSION_SECONDS_MAX).contains(&seconds)) {
        let days = SUSPENSION_SECONDS_MAX / 86_400;
        return Err(OperateError::Invalid(format!("a suspension that ends by itself lasts from 1 s to {days} d")));
    }
    let subject = names::settle(house, asked.subject, asked.force).await?;
    let until = asked.seconds.map(|seconds| house.now.plus(seconds));
    let (suspension, already) = stand(house, operator, subject, until, why).await?;
    let revoked = match asked.revoke {
        true => Some(ends_with(house, operator, &suspension.subject, why).await?),
        false => None,
    };
    Ok(Suspended { suspension, already, revoked })
}

/// Has a suspension stand for at least so long.
async fn stand(
    house: &House,
    operator: &Operator,
    subject: Subject,
    until: Option<UnixSeconds>,
    why: &str,
) -> Result<(Suspension, bool), OperateError> {
    for _ in 0..TRIES_MAX {
        let before = of(house, &subject).await?;
        if let Some(stands) = before.as_ref().filter(|stands| stands.stands(house.now)) {
            let longer = match (stands.until, until) {
                (Some(ends), Some(until)) => until.0 > ends,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if !longer {
                return Ok((stands.clone(), true));
            }
        }
        let suspension = Suspension {
            id: SuspensionId(Uuid::now_v7().as_u128()),
            subject: subject.clone(),
            since: house.now.0,
            until: until.map(|until| until.0),
            operator: operator.name().to_owned(),
            reason: why.to_owned(),
        };
        let replaces = before.map(|before| before.id);
        let mut details = details(operator, why);
        let is_person = subject.scope == Scope::Person;
        if is_person {
            details.json.insert("person".into(), subject.name.as_str().into());
        }
        let what = What::Suspended {
            suspension: suspension.id,
            scope: subject.scope.name(),
            issuer: Some(subject.issuer.as_str()).filter(|issuer| !issuer.is_empty()),
            subject: Some(subject.name.as_str()).filter(|name| !name.is_empty() && !is_person),
            until,
            replaces,
        };
        let change = Change::Suspend { suspension: suspension.clone(), replaces };
        if let Outcome::Durable { .. } = house.commit(vec![], vec![change], what, details).await? {
            tracing::warn!(suspension = %suspension.id, scope = subject.scope.name(), "suspended");
            return Ok((suspension, false));
        }
    }
    Err(OperateError::NotYet("others suspend and resume the same right now; look, and try again".to_owned()))
}

/// What ends with a subject, beside what it may still get: its leases, and what they are renewed by.
async fn ends_with(house: &House, operator: &Operator, subject: &Subject, why: &str) -> Result<Revoked, OperateError> {
    let leases = leases_of(subject);
    revoke::revoke(house, operator, Revoke { leases, reason: why.to_owned(), dry_run: false }).await
}

/// The leases of a subject.
fn leases_of(subject: &Subject) -> LeaseFilter {
    let Subject { scope, issuer, name } = subject.clone();
    let mut filter = LeaseFilter { issuer: scope.needs_issuer().then_some(issuer), ..LeaseFilter::default() };
    let named = match scope {
        Scope::Issuer => return filter,
        Scope::Tenant => &mut filter.tenant,
        Scope::Repository => &mut filter.repository,
        Scope::Run => &mut filter.run,
        Scope::Person => &mut filter.person,
        Scope::Mapping => &mut filter.mapping,
        Scope::Role => &mut filter.role,
    };
    *named = Some(name);
    filter
}

/// What was suspended; `None` where nothing was. Not while leases from before it are alive, unless that is meant: what an
/// incident began with would go on beside what is granted anew.
pub(super) async fn resume(
    house: &House,
    operator: &Operator,
    asked: Resume,
) -> Result<Option<Suspension>, OperateError> {
    operator.require(May::Resume)?;
    let why = reason(&asked.reason)?;
    // What stands may have been forced, or its name may have left the folder.
    let subject = names::settle(house, asked.subject, true).await?;
    for _ in 0..TRIES_MAX {
        let Some(stands) = of(house, &subject).await? else { return Ok(None) };
        if !asked.leave_leases && stands.stands(house.now) {
            let (filter, now) = (leases_of(&subject), house.now);
            let alive =
                house.read(move |reader| page(reader, &filter, When::Alive { now, until: None }, None, 1)).await?;
            let renewable = revoke::is_renewed(house, leases_of(&subject)).await?;
            if let Some(lease) = alive.leases.first().map(|lease| lease.id).or(renewable) {
                return Err(OperateError::NotYet(format!(
                    "leases from before the suspension are alive or can be renewed, {lease} is one; end them with \
                     `claimbound revoke`, or leave them with `--leave-leases`"
                )));
            }
        }
        let what = What::Resumed { suspension: stands.id };
        let change = Change::Resume { subject: subject.key(), suspension: stands.id };
        match house.commit(vec![], vec![change], what, details(operator, why)).await? {
            Outcome::Durable { .. } => {
                tracing::warn!(suspension = %stands.id, scope = subject.scope.name(), "resumed");
                return Ok(Some(stands));
            }
            Outcome::Blocked(Blocked::Moved) => {}
            Outcome::Blocked(other) => return Err(OperateError::NotYet(format!("it could not be resumed: {other:?}"))),
        }
    }
    Err(OperateError::NotYet("others suspend and resume the same right now; look, and try again".to_owned()))
}

/// Everything that stands.
pub(super) async fn standing(
    reader: Arc<dyn Reader>,
    now: UnixSeconds,
    operator: &Operator,
) -> Result<Vec<Suspension>, OperateError> {
    // Whoever may change it may see it.
    operator
        .require(May::Suspend)
        .or_else(|_| operator.require(May::Resume))
        .or_else(|_| operator.require(May::Leases))?;
    let mut all = read(reader, |reader| reader.suspensions()).await?;
    all.retain(|suspension| suspension.stands(now));
    Ok(all)
}

/// The row of a subject, whether it still suspends anything or not.
async fn of(house: &House, subject: &Subject) -> Result<Option<Suspension>, OperateError> {
    let key = subject.key();
    Ok(house.read(move |reader| reader.suspension(&key)).await?)
}
