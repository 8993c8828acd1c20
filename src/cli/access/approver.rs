//! `claimbound access --approver`: what a person, or everybody of a group, may claim, by a mapping folder alone.

use crate::cli::{
    loaded::{self, Loaded},
    render::Format,
};
use anyhow::{Result, bail};
use claimbound_core::{
    ceremony::{Approver, Person, Whom},
    mapping::{Mapping, MappingId, MappingSet, RoleId},
    time::UnixSeconds,
    workload::ClaimKey,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// One role by one mapping.
struct Claims<'s> {
    set: &'s MappingSet,
    mapping: &'s Mapping,
    id: MappingId,
    role: RoleId,
    /// Which of the mapping's approvers they are.
    by: Vec<&'s Approver>,
    /// Where one of their groups is named by a job's claim.
    by_claim: Option<&'s ClaimKey>,
    /// Whom the role's sensitivity demands besides, none of whom is known of them.
    also: Vec<&'s Approver>,
}

/// Says what somebody who is all of these may claim; the exit code.
///
/// # Errors
/// They cannot be one person, or the folder cannot be read.
pub fn run(who: &[Approver], folder: &Path, now: UnixSeconds, format: Format) -> Result<u8> {
    let person = person(who)?;
    let Some(Loaded { set, .. }) = loaded::load(folder)? else { return Ok(2) };
    let mut found = Vec::new();
    for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
        if mapping.is_first() && !mapping.shadow && !mapping.is_over(now) {
            found.extend(mapping.roles.iter().filter_map(|role| claims(&set, id, *role, &person)));
        }
    }
    found.sort_by_key(|one| (&one.set.role(one.role).name, &one.mapping.name));
    loaded::print(&match format {
        Format::Human => to_text(who, &found),
        Format::Json => {
            let who: Vec<_> = who.iter().map(Approver::to_string).collect();
            format!("{:#}\n", json!({ "approver": who, "may_claim": found.iter().map(to_json).collect::<Vec<_>>() }))
        }
    })?;
    Ok(0)
}

/// Somebody who is all of these.
fn person(who: &[Approver]) -> Result<Person> {
    let [first, rest @ ..] = who else { bail!("name an `--approver`") };
    if rest.iter().any(|other| other.sign_in != first.sign_in) {
        bail!("one person is known by one sign-in: ask about `{}` alone", first.sign_in);
    }
    let of = |whom| who.iter().filter(move |one| one.whom == whom).map(|one| one.value.clone()).collect::<Vec<_>>();
    let (subjects, emails) = (of(Whom::Sub), of(Whom::Email));
    if subjects.len() > 1 || emails.len() > 1 {
        bail!("one person has one `sub` and one `email`: ask about each by themselves");
    }
    Ok(Person {
        sign_in: first.sign_in.clone(),
        // No approver is the empty text.
        subject: subjects.into_iter().next().unwrap_or_default(),
        email: emails.into_iter().next(),
        name: None,
        groups: of(Whom::Group),
        acr: None,
        amr: Vec::new(),
        auth_time: None,
        forge_ids: BTreeMap::new(),
    })
}

fn claims<'s>(set: &'s MappingSet, id: MappingId, role: RoleId, person: &Person) -> Option<Claims<'s>> {
    let terms = set.ceremony(id, role)?;
    let mapping = &set.mappings[id.0 as usize];
    let by: Vec<_> = terms.rule.approvers.iter().filter(|one| one.is(person)).collect();
    let by_claim =
        terms.rule.approvers_from.as_ref().filter(|_| {
            !person.groups.is_empty() && terms.rule.approvers.iter().any(|one| one.sign_in == person.sign_in)
        });
    if by.is_empty() && by_claim.is_none() {
        return None;
    }
    let within = terms.floor.map(|floor| &floor.approvers[..]).unwrap_or_default();
    let also = match within.iter().any(|one| one.is(person)) {
        true => Vec::new(),
        false => within.iter().filter(|one| one.sign_in == person.sign_in).collect(),
    };
    // Shut out by the floor, whoever they are besides.
    if also.is_empty() && !within.is_empty() && !within.iter().any(|one| one.is(person)) {
        return None;
    }
    Some(Claims { set, mapping, id, role, by, by_claim, also })
}

fn names(approvers: &[&Approver]) -> Vec<String> {
    approvers.iter().map(ToString::to_string).collect()
}

fn to_json(one: &Claims<'_>) -> Value {
    let role = one.set.role(one.role);
    json!({
        "role": role.name,
        "sensitivity": role.sensitivity,
        "mapping": one.mapping.name,
        "team": one.mapping.team.as_ref(),
        "by": names(&one.by),
        "by_claim": one.by_claim.map(ClaimKey::name),
        "also_of": names(&one.also),
        "ceremony": one.set.ceremony(one.id, one.role).map(|terms| terms.to_json()),
    })
}

fn to_text(who: &[Approver], found: &[Claims<'_>]) -> String {
    let who = who.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" and ");
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all text");
    if found.is_empty() {
        line(format!("who is {who} may claim nothing"));
    } else {
        line(format!("who is {who} may claim:"));
    }
    for one in found {
        let role = one.set.role(one.role);
        line(format!("\n{}  by {} of team {}, {}", role.name, one.mapping.name, one.mapping.team, role.sensitivity));
        if let Some(terms) = one.set.ceremony(one.id, one.role) {
            line(format!("  {terms}"));
        }
        if !one.by.is_empty() {
            line(format!("  as {}", names(&one.by).join(", ")));
        }
        if let Some(claim) = one.by_claim {
            line(format!("  for jobs whose `{}` is one of their groups", claim.name()));
        }
        if !one.also.is_empty() {
            line(format!("  only who is also {}", names(&one.also).join(" or ")));
        }
    }
    text
}
