//! Looking at leases.

use super::{OperateError, read};
use crate::{
    operators::{May, Operator},
    store::{
        Acting, Reader,
        leases::{self, Cursor, LeaseFilter, ListedLease, PAGE_LEASES_MAX},
    },
};
use claimbound_core::{evidence::LeaseId, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Leases of a page, unless another number is asked for.
const PAGE_LEASES: usize = 100;

/// Which leases to show.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    #[serde(default)]
    pub leases: LeaseFilter,
    #[serde(default)]
    pub when: When,
    /// Where the page before ended.
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// At what time they are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Alive now.
    #[default]
    Alive,
    /// Alive now, and no longer than so many seconds.
    ExpiringWithin(i64),
    /// Open at a time, whatever became of them since.
    At(i64),
    /// Opened since a time, dead or alive.
    Since(i64),
}

/// A page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leases {
    pub leases: Vec<Listed>,
    /// Of the next page; a page may hold few and still have one.
    pub cursor: Option<String>,
}

/// One lease. Whom it was started by is not shown: the evidence says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub lease: LeaseId,
    pub state: String,
    pub role: String,
    pub mapping: String,
    pub team: String,
    pub issuer: String,
    /// Immutable id, as evidence names it.
    pub principal: String,
    /// Readable: the repository.
    pub name: String,
    pub repository: Option<String>,
    pub tenant: Option<String>,
    pub run: Option<String>,
    /// Who acts on the principal's behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Acting>,
    /// The lease whose token was exchanged for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<LeaseId>,
    /// What was issued is a handoff.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handoff: bool,
    /// Unix time.
    pub opened: i64,
    pub expires: i64,
    /// The credential's public handle.
    pub handle: Option<String>,
}

impl From<ListedLease> for Listed {
    fn from(lease: ListedLease) -> Self {
        Self {
            lease: lease.id,
            state: lease.state.name().to_owned(),
            role: lease.role,
            mapping: lease.mapping,
            team: lease.team,
            issuer: lease.issuer,
            principal: lease.principal_id,
            name: lease.principal_name,
            repository: lease.repository_id,
            tenant: lease.owner_id,
            run: lease.run_id,
            actor: lease.acting,
            parent: lease.parent,
            handoff: lease.handoff,
            opened: lease.opened.0,
            expires: lease.expires.0,
            handle: lease.handle,
        }
    }
}

pub(super) async fn list(
    reader: Arc<dyn Reader>,
    now: UnixSeconds,
    operator: &Operator,
    asked: List,
) -> Result<Leases, OperateError> {
    operator.require(May::Leases)?;
    let cursor = asked.cursor.map(|text| text.parse::<Cursor>()).transpose();
    let cursor =
        cursor.map_err(|()| OperateError::Invalid("the cursor is not one that a page ended with".to_owned()))?;
    let limit = asked.limit.unwrap_or(PAGE_LEASES);
    if !(1..=PAGE_LEASES_MAX).contains(&limit) {
        return Err(OperateError::Invalid(format!("a page has from 1 to {PAGE_LEASES_MAX} leases")));
    }
    person_at_an_issuer(&asked.leases)?;
    let when = match asked.when {
        When::Alive => leases::When::Alive { now, until: None },
        When::ExpiringWithin(seconds) => leases::When::Alive { now, until: Some(now.plus(seconds)) },
        When::At(at) => leases::When::At(UnixSeconds(at)),
        When::Since(since) => leases::When::Since(UnixSeconds(since)),
    };
    let filter = asked.leases;
    let page = read(reader, move |reader| leases::page(reader, &filter, when, cursor, limit)).await?;
    Ok(Leases {
        leases: page.leases.into_iter().map(Listed::from).collect(),
        cursor: page.next.map(|cursor| cursor.to_string()),
    })
}

/// Persons are forgotten with the leases that are over, and known by their hash alone.
pub(super) fn person_at_an_issuer(filter: &LeaseFilter) -> Result<(), OperateError> {
    match filter.person.is_some() && filter.issuer.is_none() {
        true => Err(OperateError::Invalid("a person is one of an issuer; name it with `--issuer`".to_owned())),
        false => Ok(()),
    }
}
