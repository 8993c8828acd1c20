//! Names that operators write: a slip of the pen must not suspend nothing and look like success.

use super::{House, NAME_BYTES_MAX, OperateError};
use crate::store::{
    Scope, Subject,
    leases::{LeaseFilter, When, page},
};
use claimbound_core::{
    diag::did_you_mean,
    mapping::{MappingId, MappingSet},
    time::UnixSeconds,
};
use std::collections::BTreeSet;

/// The subject as it is looked up: with the one issuer there is where none was said, and the id of a repository's or
/// owner's name. `force` lets names stand that the folder does not know.
pub(super) async fn settle(house: &House, subject: Subject, force: bool) -> Result<Subject, OperateError> {
    let set = house.targets.set();
    let Subject { scope, issuer, name } = subject;
    for (what, text) in [("issuer", &issuer), (scope.name(), &name)] {
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(OperateError::Invalid(format!(
                "`{what}` has more than {NAME_BYTES_MAX} bytes or holds control characters"
            )));
        }
    }
    if !scope.needs_issuer() {
        let known: Vec<&str> = match scope {
            Scope::Role => set.roles.iter().map(|role| role.name.as_str()).collect(),
            _ => set.mappings.iter().map(|mapping| mapping.name.as_str()).collect(),
        };
        known_or_forced(scope, &name, &known, force)?;
        return Ok(Subject::new(scope, "", name));
    }
    let issuer = issuer_of(set, issuer, force)?;
    let name = match scope {
        Scope::Issuer if name.is_empty() => name,
        Scope::Issuer => return Err(OperateError::Invalid("an issuer is named by itself alone".to_owned())),
        _ if name.is_empty() => return Err(OperateError::Invalid(format!("the {} is not named", scope.name()))),
        Scope::Tenant => owner(set, &issuer, name, force)?,
        Scope::Repository if name.contains('/') && !force => repository(house, &issuer, &name).await?,
        _ => name,
    };
    Ok(Subject::new(scope, issuer, name))
}

fn known_or_forced(scope: Scope, name: &str, known: &[&str], force: bool) -> Result<(), OperateError> {
    if name.is_empty() {
        return Err(OperateError::Invalid(format!("the {} is not named", scope.name())));
    }
    if force || known.contains(&name) {
        return Ok(());
    }
    let scope = scope.name();
    Err(OperateError::Unknown(match did_you_mean(name, known.iter().copied()) {
        Some(near) => format!("there is no {scope} `{name}`; did you mean `{near}`? `--force` takes it as it is"),
        None => format!("there is no {scope} `{name}` in the folder that judges; `--force` takes it as it is"),
    }))
}

fn issuer_of(set: &MappingSet, issuer: String, force: bool) -> Result<String, OperateError> {
    let known: Vec<&str> = set.issuers.iter().map(|issuer| &*issuer.name).collect();
    match (issuer.is_empty(), known.as_slice()) {
        (true, [only]) => Ok((*only).to_owned()),
        (true, _) => Err(OperateError::Invalid(format!(
            "ids mean something at an issuer alone; name one of `{}` with `--issuer`",
            known.join("`, `")
        ))),
        (false, _) => known_or_forced(Scope::Issuer, &issuer, &known, force).map(|()| issuer),
    }
}

/// The id of an owner; a name is one that `owners` lists.
fn owner(set: &MappingSet, issuer: &str, name: String, force: bool) -> Result<String, OperateError> {
    let Some((_, known)) = set.issuer_named(issuer) else { return Ok(name) };
    if let Some(id) = known.id_of_owner(&name) {
        return Ok(id.to_owned());
    }
    if force || known.owners.values().any(|id| *id == name) {
        return Ok(name);
    }
    let listed: Vec<String> = known.owners.iter().map(|(name, id)| format!("{name} = {id}")).collect();
    Err(OperateError::Unknown(format!(
        "issuer `{issuer}` lists no owner `{name}`; it has `{}`; `--force` takes an id as it is",
        listed.join("`, `")
    )))
}

/// The id of a repository that is named: by the folder, else by the leases that it got.
async fn repository(house: &House, issuer: &str, name: &str) -> Result<String, OperateError> {
    let mut ids = pinned(house.targets.set(), issuer, name);
    if ids.is_empty() {
        let filter =
            LeaseFilter { issuer: Some(issuer.into()), repository: Some(name.into()), ..LeaseFilter::default() };
        let found = house.read(move |reader| page(reader, &filter, When::Since(UnixSeconds(0)), None, 100)).await?;
        ids.extend(found.leases.into_iter().filter_map(|lease| lease.repository_id));
    }
    let listed: Vec<String> = ids.into_iter().collect();
    match listed.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(OperateError::Unknown(format!(
            "neither the folder nor a lease knows the id of `{name}` at `{issuer}`; name the repository by its id"
        ))),
        several => Err(OperateError::Invalid(format!(
            "`{name}` is the name of several repositories, `{}`; name one by its id",
            several.join("`, `")
        ))),
    }
}

/// The ids that the folder pins to this name.
fn pinned(set: &MappingSet, issuer: &str, name: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let Some((known, _)) = set.issuer_named(issuer) else { return ids };
    for (number, mapping) in set.mappings.iter().enumerate().filter(|(_, mapping)| mapping.issuer == known) {
        let Ok(number) = u32::try_from(number) else { break };
        for role in &mapping.roles {
            let conditions = set.conditions_for(MappingId(number), *role);
            let pairs = conditions.filter_map(|condition| condition.test.repositories()).flatten();
            ids.extend(pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, id)| id.clone()));
        }
    }
    ids
}
