//! Ending leases, and saying per lease and backend how far that reaches.

use super::{House, OperateError, details, list::person_at_an_issuer, reason};
use crate::{
    issuance::{
        Ended,
        aws::{
            self,
            arn::RoleArn,
            denial::{self, Applied, CHAINED_SECONDS, Denier, Entry},
            session::identity,
        },
    },
    operators::{May, Operator},
    store::{
        Blocked, Change, Denial, DenialScope, Down, Guard, Outcome, Reader,
        leases::{LeaseFilter, ListedLease, When, page},
    },
};
use claimbound_core::{
    evidence::{Details, LeaseId, What},
    mapping::Role,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Leases that an answer names; those beyond it are counted.
const NAMED_MAX: usize = 1_000;
/// Leases of one look at the store.
const STEP_LEASES: usize = 200;
/// How often a lease is tried to be ended where others exchange its token at once.
const TRIES_MAX: u32 = 5;
/// AWS counts a session from its own answer, and by its own clock.
const CLOUD_SECONDS: i64 = 300;
/// AWS's clock and ours differ by no more: what began so shortly after a cut is cut, too.
const CUT_LEEWAY_SECONDS: i64 = 5;

/// Which leases to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    pub leases: LeaseFilter,
    pub reason: String,
    /// Says what would be ended, and ends nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Revoked {
    pub dry_run: bool,
    /// Leases that were ended, or would be.
    pub count: u64,
    /// The first of them.
    pub leases: Vec<EndedLease>,
    /// How many ended in which way: `dead_now`, `denied`, `where_checked`, `at_expiry`.
    pub effects: BTreeMap<String, u64>,
    /// How many of them came of the tokens of others, and ended with those.
    #[serde(default)]
    pub children: u64,
    /// Families of renewals that were ended, or would be.
    #[serde(default)]
    pub families: u64,
    /// The deny lists that were told, by the name of the backend.
    pub backends: BTreeMap<String, BackendTold>,
    /// Policies to be put into roles' boundaries by hand, by the name of the backend: of those that the broker may not
    /// write.
    pub policies: BTreeMap<String, serde_json::Value>,
    /// What is not ended, and what to do about it.
    pub notes: Vec<String>,
}

/// A lease that was ended, and what that means for its credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndedLease {
    pub lease: LeaseId,
    pub role: String,
    pub issuer: String,
    pub principal: String,
    pub name: String,
    pub expires: i64,
    /// `dead_now`: its target refuses it. `denied`: its target is told to. `where_checked`: who introspects, or reads the
    /// status list, refuses it. `at_expiry`: whoever holds it can use it till then.
    pub effect: String,
}

/// What a backend's target said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendTold {
    /// Unix time at which the target had the list; it spreads from then on, at AWS within seconds.
    pub applied: Option<i64>,
    /// Of the target's policy.
    pub version: Option<String>,
    pub entries: usize,
    /// Why it has not; the broker tries again every minute.
    pub error: Option<String>,
}

/// How roles' credentials can be denied at their target.
#[derive(Clone, PartialEq, Eq)]
struct DeniedBy {
    backend: String,
    /// Whether the broker tells it.
    told: bool,
}

pub(super) async fn revoke(house: &House, operator: &Operator, asked: Revoke) -> Result<Revoked, OperateError> {
    operator.require(May::Revoke)?;
    let why = reason(&asked.reason)?;
    if asked.leases.is_empty() {
        return Err(OperateError::Invalid(
            "nothing says which leases; name a lease, role, mapping, repository, run, issuer, principal or actor"
                .to_owned(),
        ));
    }
    person_at_an_issuer(&asked.leases)?;
    let mut ending = Ending {
        house,
        operator,
        why,
        dry_run: asked.dry_run,
        done: Revoked::default(),
        lists: BTreeMap::new(),
        families: BTreeSet::new(),
        met: BTreeSet::new(),
    };
    ending.done.dry_run = asked.dry_run;
    let cut = ending.cut(&asked.leases).await?;
    ending.each(&asked.leases, &cut).await?;
    ending.renewals(&asked.leases, &cut).await?;
    ending.tell().await?;
    Ok(ending.done)
}

struct Ending<'e> {
    house: &'e House,
    operator: &'e Operator,
    why: &'e str,
    dry_run: bool,
    done: Revoked,
    /// What is denied by now, by the name of the backend.
    lists: BTreeMap<String, Vec<Entry>>,
    /// Of the leases that were ended.
    families: BTreeSet<LeaseId>,
    /// Leases that were ended, or would be: one that ends with another is met once more by itself.
    met: BTreeSet<LeaseId>,
}

impl Ending<'_> {
    /// Whoever means a whole role or principal has AWS refuse all that began before now: one entry, however many leases.
    /// The backends that this was said of.
    async fn cut(&mut self, filter: &LeaseFilter) -> Result<BTreeSet<String>, OperateError> {
        let only = |filter: &LeaseFilter| filter.is_empty();
        let set = self.house.targets.set();
        let (scope, subject, value, backends) = match filter {
            LeaseFilter { role: Some(name), .. } if only(&LeaseFilter { role: None, ..filter.clone() }) => {
                let of = set.roles.iter().find(|role| role.name == *name).and_then(|role| denied_by(self.house, role));
                (DenialScope::Role, name.clone(), name.clone(), of.into_iter().map(|of| of.backend).collect())
            }
            LeaseFilter { principal: Some(id), issuer: Some(issuer), .. }
                if only(&LeaseFilter { principal: None, issuer: None, ..filter.clone() }) =>
            {
                let backends: BTreeSet<String> =
                    set.roles.iter().filter_map(|role| denied_by(self.house, role)).map(|of| of.backend).collect();
                (DenialScope::Principal, format!("{issuer}:{id}"), identity(issuer, id), backends)
            }
            _ => return Ok(BTreeSet::new()),
        };
        for backend in &backends {
            let now = self.house.now;
            let until = now.plus(i64::from(aws::DURATION_SECONDS_MAX) + CHAINED_SECONDS + CLOUD_SECONDS);
            let denial = Denial {
                backend: backend.clone(),
                scope,
                value: value.clone(),
                before: now.plus(CUT_LEEWAY_SECONDS),
                until,
            };
            self.list(backend).await?;
            if self.dry_run {
                continue;
            }
            let what = What::Cut { backend, scope: scope.name(), subject: &subject, until };
            self.house.commit(vec![], vec![Change::Deny(denial)], what, details(self.operator, self.why)).await?;
        }
        Ok(backends)
    }

    /// Ends every lease that is alive and meant.
    async fn each(&mut self, filter: &LeaseFilter, cut: &BTreeSet<String>) -> Result<(), OperateError> {
        let (mut cursor, now) = (None, self.house.now);
        loop {
            let (wanted, from) = (filter.clone(), cursor);
            let when = When::Alive { now, until: None };
            let found = self.house.read(move |reader| page(reader, &wanted, when, from, STEP_LEASES)).await?;
            for lease in found.leases {
                self.one(lease, cut).await?;
            }
            match found.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Ends what leases are renewed by: the families of those that were ended, and those that such a lease began, however
    /// long ago it ended.
    async fn renewals(&mut self, filter: &LeaseFilter, cut: &BTreeSet<String>) -> Result<(), OperateError> {
        let (mut after, now) = (LeaseId(0), self.house.now);
        loop {
            let found = self.house.read(move |reader| reader.renewable(after, now, STEP_LEASES as u32)).await?;
            let Some(last) = found.last() else { return Ok(()) };
            after = last.id;
            for began in found {
                if self.families.contains(&began.id) || filter.matches(&began) {
                    self.family(began.id, cut).await?;
                }
            }
        }
    }

    async fn family(&mut self, family: LeaseId, cut: &BTreeSet<String>) -> Result<(), OperateError> {
        // Its leases that were not meant by themselves, or came since, end as their backends can end them.
        let now = self.house.now;
        let alive = self.house.read(move |reader| {
            let mut leases = Vec::new();
            for held in reader.leases_of(family)? {
                let only = LeaseFilter { lease: Some(held.id), ..LeaseFilter::default() };
                leases.extend(page(reader, &only, When::Alive { now, until: None }, None, 1)?.leases);
            }
            Ok(leases)
        });
        for lease in alive.await? {
            self.one(lease, cut).await?;
        }
        if !self.dry_run {
            let what = What::FamilyEnded { family, how: "operator", effect: Ended::DeadNow.name() };
            let ended = vec![Change::EndFamily(family)];
            let ended = self.house.commit(vec![], ended, what, details(self.operator, self.why)).await?;
            if !matches!(ended, Outcome::Durable { .. }) {
                return Ok(());
            }
        }
        self.done.families += 1;
        Ok(())
    }

    /// Ends one, with all that came of its token.
    async fn one(&mut self, lease: ListedLease, cut: &BTreeSet<String>) -> Result<(), OperateError> {
        for _ in 0..TRIES_MAX {
            if self.met.contains(&lease.id) || self.try_one(&lease, cut).await? {
                return Ok(());
            }
        }
        Err(OperateError::NotYet(format!("tokens of lease {} are exchanged right now; try again", lease.id)))
    }

    /// `false`: somebody exchanged its token meanwhile.
    async fn try_one(&mut self, lease: &ListedLease, cut: &BTreeSet<String>) -> Result<bool, OperateError> {
        let (id, now) = (lease.id, self.house.now);
        let children = self.house.read(move |reader| reader.children(id)).await?;
        let count = u32::try_from(children.len()).unwrap_or(u32::MAX);
        let (mut ended, mut denied, mut weakest) = (Vec::new(), Vec::new(), Ended::DeadNow);
        for one in std::iter::once(lease.clone()).chain(children) {
            let (effect, denials) = match one.expires > now {
                true => self.effect(&one, cut).await?,
                false => (Ended::DeadNow, Vec::new()),
            };
            weakest = weakest.max(effect);
            denied.extend(denials);
            ended.push((one, effect));
        }
        if !self.dry_run {
            let mut changes = vec![Change::End { lease: id, children: count }];
            changes.extend(denied.into_iter().map(Change::Deny));
            let what = What::Ended { lease: id, how: "operator", effect: weakest.name(), children: count };
            let guards = vec![Guard::LeaseAlive(id)];
            match self.house.commit(guards, changes, what, details(self.operator, self.why)).await? {
                Outcome::Durable { .. } => {}
                Outcome::Blocked(Blocked::Moved) => return Ok(false),
                // Somebody else ended it meanwhile, or nothing was minted for it.
                Outcome::Blocked(_) => return Ok(true),
            }
        }
        for (one, effect) in ended {
            self.tell_of(one, effect, id);
        }
        Ok(true)
    }

    /// One was ended, by itself or with this one.
    fn tell_of(&mut self, lease: ListedLease, effect: Ended, with: LeaseId) {
        if !self.met.insert(lease.id) {
            return;
        }
        self.families.extend(lease.family);
        self.done.count += 1;
        self.done.children += u64::from(lease.id != with);
        *self.done.effects.entry(effect.name().to_owned()).or_default() += 1;
        if self.done.leases.len() < NAMED_MAX {
            self.done.leases.push(EndedLease {
                lease: lease.id,
                role: lease.role,
                issuer: lease.issuer,
                principal: lease.principal_id,
                name: lease.principal_name,
                expires: lease.expires.0,
                effect: effect.name().to_owned(),
            });
        }
    }

    /// What ending a lease means for its credential, and what is denied at targets for that.
    async fn effect(
        &mut self,
        lease: &ListedLease,
        cut: &BTreeSet<String>,
    ) -> Result<(Ended, Vec<Denial>), OperateError> {
        if lease.handoff {
            return Ok((Ended::DeadNow, Vec::new()));
        }
        let role = self.house.targets.set().roles.iter().find(|role| role.name == lease.role);
        let by = role.and_then(|role| denied_by(self.house, role));
        let mut denied = Vec::new();
        let effect = match by {
            Some(by) if cut.contains(&by.backend) => {
                if by.told {
                    Ended::Denied
                } else {
                    Ended::AtExpiry
                }
            }
            Some(by) if self.fits(&by.backend, lease.id).await? => {
                denied.push(denial_of(lease, by.backend, self.house.now));
                if by.told { Ended::Denied } else { Ended::AtExpiry }
            }
            Some(by) => {
                self.note(format!(
                    "the deny list of backend `{}` is full: leases that it has no room for end at expiry; `claimbound revoke \
                     --role ROLE` cuts off every session of a role with one entry",
                    by.backend
                ));
                Ended::AtExpiry
            }
            None if role.is_none() && may_be_aws(lease) => {
                for backend in self.house.targets.deniers().keys() {
                    if self.fits(backend, lease.id).await? {
                        denied.push(denial_of(lease, backend.clone(), self.house.now));
                    }
                }
                self.note(format!(
                    "role `{}` is not in the folder that judges, so nobody knows its backend: its leases are put on every deny \
                     list, and are not said to be denied",
                    lease.role
                ));
                Ended::AtExpiry
            }
            None if self.dry_run => Ended::AtExpiry,
            None => self.house.targets.end(&lease.role, lease.handle.as_deref().unwrap_or_default()).await,
        };
        Ok((effect, denied))
    }

    /// What is denied at a backend, as far as it is known here.
    async fn list(&mut self, backend: &str) -> Result<&mut Vec<Entry>, Down> {
        if !self.lists.contains_key(backend) {
            let entries = entries(self.house, backend).await?;
            self.lists.insert(backend.to_owned(), entries);
        }
        Ok(self.lists.get_mut(backend).expect("it was put in just now"))
    }

    /// Whether a lease has room on a backend's list, which it then takes.
    async fn fits(&mut self, backend: &str, lease: LeaseId) -> Result<bool, Down> {
        let list = self.list(backend).await?;
        list.push(Entry::Lease(lease.to_string()));
        let fits = denial::policy(list).1 == 0;
        if !fits {
            list.pop();
        }
        Ok(fits)
    }

    fn note(&mut self, note: String) {
        if !self.done.notes.contains(&note) {
            self.done.notes.push(note);
        }
    }

    /// Has the targets take their lists, or prints them for who can.
    async fn tell(&mut self) -> Result<(), OperateError> {
        let backends: Vec<String> = self.lists.keys().cloned().collect();
        for backend in backends {
            self.note(format!(
                "sessions that were assumed from one of backend `{backend}` (role chaining) carry its tags and source \
                 identity, and end only where the role that they are of has the same boundary"
            ));
            if self.dry_run {
                continue;
            }
            if self.house.targets.deniers().contains_key(&backend) {
                let told = match tell(self.house, &backend).await {
                    Ok(Applied { version, entries, left_out, .. }) => {
                        if left_out > 0 {
                            self.note(format!(
                                "{left_out} entries have no room on the deny list of backend `{backend}`"
                            ));
                        }
                        let applied = Some(self.house.now.0);
                        BackendTold { applied, version: Some(version), entries, error: None }
                    }
                    Err(why) => BackendTold { applied: None, version: None, entries: 0, error: Some(why) },
                };
                self.done.backends.insert(backend, told);
                continue;
            }
            let (policy, _) = denial::policy(&entries(self.house, &backend).await?);
            let policy = serde_json::from_str(&policy).unwrap_or_default();
            self.note(format!(
                "the broker may not write a policy for backend `{backend}`: until the printed one stands in the permissions \
                 boundary of its roles, their sessions work until they expire"
            ));
            self.done.policies.insert(backend, policy);
        }
        Ok(())
    }
}

/// A lease that is meant and can still be renewed, if there is one.
pub(super) async fn is_renewed(house: &House, filter: LeaseFilter) -> Result<Option<LeaseId>, OperateError> {
    let now = house.now;
    let found = house.read(move |reader| {
        let mut after = LeaseId(0);
        loop {
            let leases = reader.renewable(after, now, STEP_LEASES as u32)?;
            let Some(last) = leases.last() else { return Ok(None) };
            after = last.id;
            if let Some(lease) = leases.iter().find(|lease| filter.matches(lease)) {
                return Ok(Some(lease.id));
            }
        }
    });
    Ok(found.await?)
}

/// What a recorded cut denies: for a store that has lost it. `None`: of a kind that this version does not know.
pub fn cut(backend: String, scope: &str, subject: String, at: UnixSeconds, until: UnixSeconds) -> Option<Denial> {
    let (scope, before) = (DenialScope::from_name(scope)?, at.plus(CUT_LEEWAY_SECONDS));
    let value = match scope {
        DenialScope::Principal => subject.split_once(':').map(|(issuer, id)| identity(issuer, id))?,
        DenialScope::Lease | DenialScope::Role => subject,
    };
    Some(Denial { backend, scope, value, before, until })
}

/// What denies a lease that ended then: for a store that has lost it.
pub fn denied_again(lease: LeaseId, backend: &str, at: UnixSeconds) -> Denial {
    let until = at.plus(i64::from(aws::DURATION_SECONDS_MAX) + CHAINED_SECONDS + CLOUD_SECONDS);
    Denial { backend: backend.to_owned(), scope: DenialScope::Lease, value: lease.to_string(), before: at, until }
}

fn denial_of(lease: &ListedLease, backend: String, now: UnixSeconds) -> Denial {
    let (scope, value) = (DenialScope::Lease, lease.id.to_string());
    Denial { backend, scope, value, before: now, until: lease.expires.plus(CHAINED_SECONDS + CLOUD_SECONDS) }
}

/// Its handle is the id of a session's access key, or was never learned.
fn may_be_aws(lease: &ListedLease) -> bool {
    lease.handle.as_deref().is_none_or(|handle| handle.starts_with("ASIA"))
}

/// By which list a role's sessions can be denied; `None` where there is none.
fn denied_by(house: &House, role: &Role) -> Option<DeniedBy> {
    let (backend, told) = list_of(house.targets.deniers(), role)?;
    Some(DeniedBy { backend, told })
}

/// The deny list of a role by its name, and whether the broker tells AWS: a boundary is of the same account as its role,
/// so where the broker's policy is of another one, that account's list is for somebody else to write.
pub fn list_of(deniers: &BTreeMap<String, Arc<Denier>>, role: &Role) -> Option<(String, bool)> {
    if role.kind != aws::NAME {
        return None;
    }
    let (arn, _) = role.parameters.values.get("role_arn")?;
    let arn = RoleArn::parse(arn.as_str()?).ok()?;
    Some(match deniers.get(&role.backend) {
        None => (role.backend.clone(), false),
        Some(denier) if denier.covers(&arn) => (role.backend.clone(), true),
        Some(_) => (format!("{}@{}", role.backend, arn.account), false),
    })
}

/// What a deny list holds now.
pub fn listed(reader: &dyn Reader, list: &str, now: UnixSeconds) -> Result<Vec<Entry>, Down> {
    let one = |denial: Denial| match denial.scope {
        DenialScope::Lease => Entry::Lease(denial.value),
        DenialScope::Role => Entry::Role(denial.value, denial.before.0),
        DenialScope::Principal => Entry::Principal(denial.value, denial.before.0),
    };
    Ok(reader.denials(list, now)?.into_iter().map(one).collect())
}

/// What a backend's target is to refuse now.
pub(super) async fn entries(house: &House, backend: &str) -> Result<Vec<Entry>, Down> {
    let (name, now) = (backend.to_owned(), house.now);
    house.read(move |reader| listed(reader, &name, now)).await
}

/// Has a backend's target take the list. Once more, if the list has changed meanwhile: then another broker may have told it
/// a newer one before it was told this.
pub(super) async fn tell(house: &House, backend: &str) -> Result<Applied, String> {
    let Some(denier) = house.targets.deniers().get(backend) else {
        return Err(format!("backend `{backend}` has no `denial` in the configuration"));
    };
    let mut list = entries(house, backend).await.map_err(|down| down.to_string())?;
    let mut changed = false;
    loop {
        let applied = denier.apply(&list).await?;
        changed |= applied.changed;
        let now = entries(house, backend).await.map_err(|down| down.to_string())?;
        if now != list {
            list = now;
            continue;
        }
        if changed {
            let count = applied.entries as u64;
            let what = What::DenialsApplied { backend, version: &applied.version, count };
            house.commit(vec![], vec![], what, Details::default()).await.map_err(|down| down.to_string())?;
        }
        return Ok(applied);
    }
}
