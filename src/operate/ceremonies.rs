//! Looking at ceremonies and standing claims, taking claims back, and carrying them over to a rule that became no wider.

use super::{House, OperateError, details, read, reason};
use crate::{
    folder,
    operators::{May, Operator},
    store::{Change, Down, KeptCeremony, Outcome, Reader, Standing, WhichCeremonies, WhichStanding},
};
use claimbound_core::{
    ceremony::{CeremonyId, Claim, Shown},
    evidence::{What, unhex},
    mapping::{Folder, MappingId, MappingSet, RoleId, load},
    review::diff::{Diff, Direction, Kind, Side, diff},
    time::UnixSeconds,
    workload::Profiles,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// Ceremonies, and standing claims, that one answer shows.
const LISTED_MAX: u32 = 500;
/// Standing claims that one commit takes back or carries over.
const KEYS_MAX: usize = 1_000;

/// Which ceremonies and claims are meant; what is left out means any.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The repository's name, or the immutable id that evidence names it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceremony: Option<CeremonyId>,
    /// `<sign-in>:<subject>` of one who claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
}

impl ClaimFilter {
    /// Whether a ceremony is meant, by the names of mapping and role, and by id and name of its principal.
    pub(super) fn matches<'c>(
        &self,
        ceremony: CeremonyId,
        (mapping, role): (&str, &str),
        (id, name): (&str, &str),
        mut by: impl Iterator<Item = &'c str>,
    ) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let repository = |wanted: &String| [id, name].contains(&wanted.as_str());
        is(&self.mapping, mapping)
            && is(&self.role, role)
            && self.repository.as_ref().is_none_or(repository)
            && self.ceremony.is_none_or(|wanted| wanted == ceremony)
            && self.approver.as_deref().is_none_or(|wanted| by.any(|one| one == wanted))
    }

    fn means(&self, ceremony: CeremonyId, shown: &Shown, claims: &[Claim]) -> bool {
        let by: Vec<String> = claims.iter().map(|claim| claim.by.to_string()).collect();
        let party = (shown.principal.id.as_str(), shown.principal.name.as_str());
        self.matches(ceremony, (&shown.mapping, &shown.role), party, by.iter().map(String::as_str))
    }
}

/// Taking standing claims back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetClaims {
    pub claims: ClaimFilter,
    pub reason: String,
    /// Every claim, where the filter says nothing.
    #[serde(default)]
    pub all: bool,
    #[serde(default)]
    pub dry_run: bool,
}

/// Carrying standing claims over to the folder that judges now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarryClaims {
    #[serde(default)]
    pub claims: ClaimFilter,
    pub reason: String,
    #[serde(default)]
    pub dry_run: bool,
}

/// What is open, and what stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceremonies {
    pub ceremonies: Vec<ListedCeremony>,
    pub standing: Vec<ListedClaim>,
    /// There are more than are shown.
    pub more: bool,
}

/// One open ceremony.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedCeremony {
    pub ceremony: CeremonyId,
    pub state: String,
    pub role: String,
    pub mapping: String,
    pub team: String,
    pub issuer: String,
    pub principal: String,
    pub name: String,
    /// A first use; otherwise one issuance.
    pub first_use: bool,
    /// Who claimed it so far, `<sign-in>:<subject>`.
    pub claimed_by: Vec<String>,
    pub quorum: u8,
    /// Jobs that wait for it.
    pub waiting: usize,
    /// Unix time.
    pub opened: i64,
    pub expires: i64,
}

/// One first use that stands claimed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedClaim {
    pub ceremony: CeremonyId,
    pub role: String,
    pub mapping: String,
    pub team: String,
    pub issuer: String,
    pub principal: String,
    pub name: String,
    /// What it is remembered by, beside the ids.
    pub remembered: Vec<(String, String)>,
    pub claimed_by: Vec<String>,
    /// Unix time.
    pub since: i64,
    pub until: i64,
    /// Under the folder that judges now it is good; `None` where no folder is known.
    pub good: Option<bool>,
}

/// How many claims were taken back or carried over, and which.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub claims: Vec<ListedClaim>,
    pub dry_run: bool,
    /// Of those that were not carried over: why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<(CeremonyId, String)>,
}

impl ListedClaim {
    fn of(standing: &Standing, set: Option<&MappingSet>) -> Self {
        let shown = &standing.shown;
        Self {
            ceremony: standing.ceremony,
            role: shown.role.clone(),
            mapping: shown.mapping.clone(),
            team: shown.team.clone(),
            issuer: shown.principal.issuer.clone(),
            principal: shown.principal.id.clone(),
            name: shown.principal.name.clone(),
            remembered: shown.remembered.clone(),
            claimed_by: standing.claims.iter().map(|claim| claim.by.to_string()).collect(),
            since: standing.since.0,
            until: standing.until.0,
            good: set.map(|set| rule_now(set, shown).is_some_and(|(rule, ..)| rule == standing.rule)),
        }
    }
}

/// The rule of a mapping and role by their names, as a folder has it.
pub(super) fn rule_now(set: &MappingSet, shown: &Shown) -> Option<([u8; 32], MappingId, RoleId)> {
    let role = set.role_named(&shown.role)?;
    let at = set.mappings.iter().position(|one| one.name == shown.mapping && one.roles.contains(&role))?;
    let mapping = MappingId(u32::try_from(at).ok()?);
    set.ceremony(mapping, role)?;
    Some((set.rule_digest(mapping, role), mapping, role))
}

pub(super) async fn list(
    reader: Arc<dyn Reader>,
    set: Option<&MappingSet>,
    now: UnixSeconds,
    operator: &Operator,
    asked: ClaimFilter,
) -> Result<Ceremonies, OperateError> {
    operator.require(May::Leases)?;
    let filter = asked.clone();
    let open = read(reader.clone(), |reader| all_open(reader)).await?;
    let meant = |kept: &&KeptCeremony| {
        let ceremony = &kept.ceremony;
        filter.means(ceremony.id, &ceremony.bound.shown, ceremony.state.claims())
    };
    let mut ceremonies: Vec<ListedCeremony> = open.iter().filter(meant).map(listed).collect();
    let (standing, more) = found(reader, now, asked, LISTED_MAX as usize).await?;
    let more = more || ceremonies.len() > LISTED_MAX as usize;
    ceremonies.truncate(LISTED_MAX as usize);
    let standing = standing.iter().map(|one| ListedClaim::of(one, set)).collect();
    Ok(Ceremonies { ceremonies, standing, more })
}

/// Every open ceremony: there are few of each repository.
fn all_open(reader: &dyn Reader) -> Result<Vec<KeptCeremony>, Down> {
    let (mut all, mut after) = (Vec::new(), CeremonyId(0));
    loop {
        let page = reader.ceremonies(WhichCeremonies::Open(after), LISTED_MAX)?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.ceremony.id;
        all.extend(page);
    }
}

fn listed(kept: &KeptCeremony) -> ListedCeremony {
    let (ceremony, starters) = (&kept.ceremony, kept.starters());
    let shown = &ceremony.bound.shown;
    ListedCeremony {
        ceremony: ceremony.id,
        state: ceremony.state.name().to_owned(),
        role: shown.role.clone(),
        mapping: shown.mapping.clone(),
        team: shown.team.clone(),
        issuer: shown.principal.issuer.clone(),
        principal: shown.principal.id.clone(),
        name: shown.principal.name.clone(),
        first_use: ceremony.bound.terms.standing,
        claimed_by: ceremony.state.claims().iter().map(|claim| claim.by.to_string()).collect(),
        quorum: ceremony.bound.terms.quorum(starters.iter()),
        waiting: kept.jobs.iter().filter(|job| !job.withdrawn).count(),
        opened: ceremony.opened.0,
        expires: ceremony.bound.terms.expires.0,
    }
}

/// Standing claims that are meant, at most so many, and whether there are more.
pub(super) async fn found(
    reader: Arc<dyn Reader>,
    now: UnixSeconds,
    filter: ClaimFilter,
    most: usize,
) -> Result<(Vec<Standing>, bool), Down> {
    read(reader, move |reader| {
        let (mut all, mut after) = (Vec::new(), [0; 32]);
        loop {
            let page = reader.standing(WhichStanding::After(after), LISTED_MAX)?;
            let Some(last) = page.last() else { return Ok((all, false)) };
            after = last.key;
            for one in
                page.into_iter().filter(|one| one.until > now && filter.means(one.ceremony, &one.shown, &one.claims))
            {
                if all.len() == most {
                    return Ok((all, true));
                }
                all.push(one);
            }
        }
    })
    .await
}

pub(super) async fn reset(house: &House, operator: &Operator, asked: ResetClaims) -> Result<Claims, OperateError> {
    operator.require(May::ClaimReset)?;
    let why = reason(&asked.reason)?;
    if asked.claims == ClaimFilter::default() && !asked.all {
        return Err(OperateError::Invalid(
            "name a mapping, role, repository, ceremony or approver, or say `all`".to_owned(),
        ));
    }
    let (meant, _) = found(house.reader.clone(), house.now, asked.claims, usize::MAX).await?;
    if !asked.dry_run {
        for some in meant.chunks(KEYS_MAX) {
            let changes = vec![Change::ResetClaims(some.iter().map(|one| one.key).collect())];
            commit(house, operator, ("reset", why), some, changes).await?;
        }
    }
    let set = house.targets.set();
    Ok(Claims {
        claims: meant.iter().map(|one| ListedClaim::of(one, Some(set))).collect(),
        dry_run: asked.dry_run,
        left: vec![],
    })
}

/// One commit: how many, and in the details which.
async fn commit(
    house: &House,
    operator: &Operator,
    (how, why): (&'static str, &str),
    some: &[Standing],
    changes: Vec<Change>,
) -> Result<(), OperateError> {
    let mut details = details(operator, why);
    let which = some.iter().map(|one| {
        let shown = &one.shown;
        let by: Vec<String> = one.claims.iter().map(|claim| claim.by.to_string()).collect();
        json!({ "ceremony": one.ceremony, "role": shown.role, "mapping": shown.mapping, "principal": shown.principal,
                "claimed_by": by })
    });
    details.json.insert("claims".into(), which.collect());
    match house.commit(vec![], changes, What::Claims { how, count: some.len() as u64 }, details).await? {
        Outcome::Durable { .. } => Ok(()),
        Outcome::Blocked(blocked) => Err(Down::new(format!("it was blocked: {blocked:?}")).into()),
    }
}

/// A folder as it judged once, or judges now.
struct Judged {
    folder: Folder,
    set: MappingSet,
    profiles: Profiles,
}

impl Judged {
    fn read(reader: &dyn Reader, version: &[u8; 32]) -> Result<Option<Self>, Down> {
        let Some(folder) = reader.folder(version)?.and_then(|archive| folder::unarchive(&archive).ok()) else {
            return Ok(None);
        };
        let loaded = load(&folder, &Profiles::builtin());
        Ok(loaded.set.map(|set| Self { folder, set, profiles: loaded.profiles }))
    }
    fn side(&self) -> Side<'_> {
        Side { folder: &self.folder, set: &self.set, profiles: &self.profiles }
    }
}

pub(super) async fn carry(house: &House, operator: &Operator, asked: CarryClaims) -> Result<Claims, OperateError> {
    operator.require(May::ClaimReset)?;
    let why = reason(&asked.reason)?.to_owned();
    let (meant, _) = found(house.reader.clone(), house.now, asked.claims, usize::MAX).await?;
    let version = house.targets.set().version;
    let (carried, left) = read(house.reader.clone(), move |reader| judge(reader, &version, meant)).await?;
    let mut claims = Vec::new();
    for (rules, some) in carried {
        for some in some.chunks(KEYS_MAX) {
            let keys = some.iter().map(|one| one.key).collect();
            if !asked.dry_run {
                let carry = Change::CarryClaims { keys, from: rules[0], to: rules[1] };
                commit(house, operator, ("carried", &why), some, vec![carry]).await?;
            }
            claims.extend(some.iter().map(|one| ListedClaim { good: Some(true), ..ListedClaim::of(one, None) }));
        }
    }
    Ok(Claims { claims, dry_run: asked.dry_run, left })
}

/// Claims by the rule that they stand under and the one that they may be carried to; and why others may not.
type Carried = (Vec<([[u8; 32]; 2], Vec<Standing>)>, Vec<(CeremonyId, String)>);

/// Which claims a change of the folder leaves as they were meant: role, policies, approvers and quorum are the same, and
/// nobody gets the role by the mapping who did not before.
fn judge(reader: &dyn Reader, version: &[u8; 32], meant: Vec<Standing>) -> Result<Carried, Down> {
    let Some(now) = Judged::read(reader, version)? else {
        return Err(Down::new("the folder that judges now is not kept in the store"));
    };
    let mut before: HashMap<[u8; 32], Option<(Judged, Option<Diff>)>> = HashMap::new();
    let mut carried: HashMap<[[u8; 32]; 2], Vec<Standing>> = HashMap::new();
    let mut left = Vec::new();
    for one in meant {
        let told = match rule_now(&now.set, &one.shown) {
            None => Err("the mapping gives the role no more, or without a ceremony"),
            Some((rule, ..)) if rule == one.rule => continue,
            Some(found) => {
                let version = unhex(&one.shown.mappings_version).unwrap_or_default();
                if let Entry::Vacant(free) = before.entry(version) {
                    let old = Judged::read(reader, &version)?;
                    let compared = old.map(|old| {
                        let diff = diff(old.side(), now.side()).ok();
                        (old, diff)
                    });
                    free.insert(compared);
                }
                is_no_wider(before.get(&version).and_then(Option::as_ref), &now, found, &one).map(|()| found.0)
            }
        };
        match told {
            Ok(rule) => carried.entry([one.rule, rule]).or_default().push(one),
            Err(why) => left.push((one.ceremony, why.to_owned())),
        }
    }
    Ok((carried.into_iter().collect(), left))
}

fn is_no_wider(
    before: Option<&(Judged, Option<Diff>)>,
    now: &Judged,
    (_, mapping, role): ([u8; 32], MappingId, RoleId),
    one: &Standing,
) -> Result<(), &'static str> {
    let Some((old, compared)) = before else {
        return Err("the folder that it was claimed under is not kept, or does not load");
    };
    let Some((rule, old_mapping, old_role)) = rule_now(&old.set, &one.shown).filter(|(rule, ..)| *rule == one.rule)
    else {
        return Err("it was carried over before; the folder in between is not known");
    };
    debug_assert_eq!(rule, one.rule);
    if old.set.terms_digest(old_mapping, old_role) != now.set.terms_digest(mapping, role) {
        return Err("the role, its policies, who approves or how many must is another by now");
    }
    let Some(diff) = compared else { return Err("the two folders cannot be compared") };
    let unsure = |names: &[String]| names.is_empty() || names.contains(&one.shown.mapping);
    if diff.undecided.iter().any(|undecided| unsure(&undecided.mappings)) {
        return Err("whether the mapping is wider is undecided");
    }
    let mut changes = diff
        .changes
        .iter()
        .filter(|change| change.roles.contains(&one.shown.role) && change.mappings[1].contains(&one.shown.mapping));
    let wider = changes.any(|change| {
        let terms = change.terms.iter().any(|term| term.direction != Direction::Narrower);
        change.kind == Kind::Gain || terms
    });
    if wider { Err("the mapping is wider than it was") } else { Ok(()) }
}
