//! Looking through leases: a page at a time, along an index, in bounded memory and a bounded number of rows.

use super::{Down, LeaseState, Reader, Scope, subject_key};
use claimbound_core::{evidence::LeaseId, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Leases of one page, at most.
pub const PAGE_LEASES_MAX: usize = 1_000;
/// Rows that one read brings.
const STEP_ROWS: u32 = 500;
/// Rows that one page looks at, at most: what matches rarely is found over several pages, some of them short.
const PAGE_ROWS_MAX: u32 = 50_000;

/// Who acts on the principal's behalf, as far as its token says it: the outermost actor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acting {
    /// Issuer name, immutable id and readable name, as evidence names it.
    pub issuer: String,
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

impl Acting {
    /// As the store keeps it.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts always encode")
    }
    /// # Errors
    /// Another program wrote it.
    pub(super) fn of_text(text: &str) -> Result<Self, Down> {
        serde_json::from_str(text).map_err(|error| Down::new(format!("who acts cannot be read: {error}")))
    }
}

/// A stored lease, as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedLease {
    pub id: LeaseId,
    pub role: String,
    pub mapping: String,
    pub team: String,
    pub issuer: String,
    pub principal_id: String,
    pub principal_name: String,
    pub repository_id: Option<String>,
    pub owner_id: Option<String>,
    pub run_id: Option<String>,
    pub person: Option<[u8; 32]>,
    pub acting: Option<Acting>,
    pub acting_person: Option<[u8; 32]>,
    pub parent: Option<LeaseId>,
    pub handoff: bool,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    pub handle: Option<String>,
    pub state: LeaseState,
    /// Of renewals, that it belongs to.
    pub family: Option<LeaseId>,
}

/// One of those that a lease is for, as filters ask about it.
struct Whom<'l> {
    issuer: &'l str,
    name: &'l str,
    repository_id: Option<&'l str>,
    owner_id: Option<&'l str>,
    run_id: Option<&'l str>,
    person: Option<[u8; 32]>,
}

impl ListedLease {
    /// Whether a credential of it may be good at this time.
    pub fn is_alive(&self, now: UnixSeconds) -> bool {
        self.expires > now && !matches!(self.state, LeaseState::Failed | LeaseState::Ended)
    }
}

/// Which leases a read shows, and in what order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseOrder {
    /// Those that end soonest first: behind this place, and not later than that.
    Ending { after: (UnixSeconds, LeaseId), until: UnixSeconds },
    /// The youngest first: below this id, where that is said of the repository with this immutable id, be it the principal's or
    /// the actor's. There is no other
    /// index: each would be written with every grant, and read when an operator asks.
    Youngest { below: LeaseId, of: Option<String> },
}

/// Which leases are meant; what is left out means any.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Name of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Immutable id of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Immutable id of the repository, or its name, which has a `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Immutable id of who started the run, at `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Immutable id of the principal, as evidence names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The outermost actor: its issuer's name, a colon and its immutable id, as evidence names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Name of a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl LeaseFilter {
    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a lease is meant: issuer, owner, repository, run and person are the principal's, or all of them the actor's.
    pub fn matches(&self, lease: &ListedLease) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let principal = Whom {
            issuer: &lease.issuer,
            name: &lease.principal_name,
            repository_id: lease.repository_id.as_deref(),
            owner_id: lease.owner_id.as_deref(),
            run_id: lease.run_id.as_deref(),
            person: lease.person,
        };
        let acting = lease.acting.as_ref().map(|acting| Whom {
            issuer: &acting.issuer,
            name: &acting.name,
            repository_id: acting.repository_id.as_deref(),
            owner_id: acting.owner_id.as_deref(),
            run_id: acting.run_id.as_deref(),
            person: lease.acting_person,
        });
        let acts = |wanted: &String| {
            let acting = lease.acting.as_ref();
            acting.is_some_and(|acting| wanted.split_once(':') == Some((&acting.issuer, &acting.id)))
        };
        self.lease.is_none_or(|id| id == lease.id)
            && (self.means(&principal) || acting.is_some_and(|acting| self.means(&acting)))
            && self.actor.as_ref().is_none_or(acts)
            && is(&self.mapping, &lease.mapping)
            && is(&self.role, &lease.role)
            && is(&self.team, &lease.team)
            && is(&self.principal, &lease.principal_id)
            && is(&self.state, lease.state.name())
    }

    /// Whether one that a lease is for is meant.
    fn means(&self, whom: &Whom<'_>) -> bool {
        let may_be = |wanted: &Option<String>, value: Option<&str>| wanted.is_none() || wanted.as_deref() == value;
        let person = |id: &String| whom.person == Some(subject_key(Scope::Person, whom.issuer, id));
        let repository = |wanted: &String| match wanted.contains('/') {
            true => whom.name == wanted,
            false => whom.repository_id == Some(wanted),
        };
        may_be(&self.issuer, Some(whom.issuer))
            && may_be(&self.tenant, whom.owner_id)
            && self.repository.as_ref().is_none_or(repository)
            && may_be(&self.run, whom.run_id)
            && self.person.as_ref().is_none_or(person)
    }

    /// The repository's immutable id, if that is what it is named by.
    fn repository_id(&self) -> Option<String> {
        self.repository.clone().filter(|wanted| !wanted.contains('/'))
    }
}

/// At what time leases are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Alive at `now`; with `until`, no longer than that.
    Alive { now: UnixSeconds, until: Option<UnixSeconds> },
    /// Open at a time that may be past. What ended them since shows in their state; those that gave nothing are left out.
    At(UnixSeconds),
    /// Whatever was opened since then, dead or alive.
    Since(UnixSeconds),
}

/// Where the next page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cursor {
    Ending(UnixSeconds, LeaseId),
    Youngest(LeaseId),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ending(at, lease) => write!(f, "{}.{lease}", at.0),
            Self::Youngest(lease) => write!(f, "{lease}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('.') {
            Some((at, lease)) => {
                Ok(Self::Ending(UnixSeconds(at.parse().map_err(|_| ())?), lease.parse().map_err(|_| ())?))
            }
            None => text.parse().map(Self::Youngest).map_err(|_| ()),
        }
    }
}

/// Some of the leases that are looked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub leases: Vec<ListedLease>,
    /// Where to go on; `None` behind the last one.
    pub next: Option<Cursor>,
}

/// The next at most `most` leases that are meant. A page may hold fewer and still have a next one.
pub fn page(
    reader: &dyn Reader,
    filter: &LeaseFilter,
    when: When,
    cursor: Option<Cursor>,
    most: usize,
) -> Result<Page, Down> {
    if let Some(id) = filter.lease {
        // Of one that is there it is the first below the next id.
        let order = LeaseOrder::Youngest { below: LeaseId(id.0.saturating_add(1)), of: None };
        let mut leases = reader.leases(&order, 1)?;
        leases.retain(|lease| filter.matches(lease) && is_then(lease, when));
        return Ok(Page { leases, next: None });
    }
    let mut order = first(filter, when, cursor);
    let (mut found, mut looked_at) = (Page::default(), 0);
    let most = most.clamp(1, PAGE_LEASES_MAX);
    loop {
        let rows = reader.leases(&order, STEP_ROWS)?;
        let last = rows.len() < STEP_ROWS as usize;
        looked_at += STEP_ROWS;
        for lease in rows {
            // Ids of leases grow with time, as far as the brokers' clocks agree.
            if matches!(when, When::Since(since) if lease.opened.plus(CLOCKS_APART_SECONDS) < since) {
                return Ok(found);
            }
            let here = match &mut order {
                LeaseOrder::Ending { after, .. } => {
                    *after = (lease.expires, lease.id);
                    Cursor::Ending(lease.expires, lease.id)
                }
                LeaseOrder::Youngest { below, .. } => {
                    *below = lease.id;
                    Cursor::Youngest(lease.id)
                }
            };
            if filter.matches(&lease) && is_then(&lease, when) {
                found.leases.push(lease);
                if found.leases.len() == most {
                    found.next = Some(here);
                    return Ok(found);
                }
            }
        }
        if last {
            return Ok(found);
        }
        if looked_at >= PAGE_ROWS_MAX {
            found.next = Some(match order {
                LeaseOrder::Ending { after, .. } => Cursor::Ending(after.0, after.1),
                LeaseOrder::Youngest { below, .. } => Cursor::Youngest(below),
            });
            return Ok(found);
        }
    }
}

/// Brokers over one store agree on the time within this.
const CLOCKS_APART_SECONDS: i64 = 120;
const NEVER: UnixSeconds = UnixSeconds(i64::MAX);

fn first(filter: &LeaseFilter, when: When, cursor: Option<Cursor>) -> LeaseOrder {
    let ending = |from: UnixSeconds, until| {
        let after = match cursor {
            Some(Cursor::Ending(at, lease)) => (at, lease),
            _ => (from, LeaseId(u128::MAX)),
        };
        LeaseOrder::Ending { after, until }
    };
    match when {
        // Whatever is alive, there are never many of them.
        When::Alive { now, until } => ending(now, until.unwrap_or(NEVER)),
        When::At(at) => ending(at, NEVER),
        When::Since(_) => {
            let below = match cursor {
                Some(Cursor::Youngest(lease)) => lease,
                _ => LeaseId(u128::MAX),
            };
            LeaseOrder::Youngest { below, of: filter.repository_id() }
        }
    }
}

fn is_then(lease: &ListedLease, when: When) -> bool {
    match when {
        When::Alive { now, until } => lease.is_alive(now) && until.is_none_or(|until| lease.expires <= until),
        When::At(at) => lease.opened <= at && lease.expires > at && lease.state != LeaseState::Failed,
        When::Since(since) => lease.opened >= since,
    }
}
