//! What a proven job may learn about its refusal (design, section 3): its own claims, and mappings that pin it.

use claimbound_core::{
    diag::did_you_mean,
    mapping::{ACTOR, Ask, ConditionReport, Denial, Got, MappingReport, MappingSet, explain, possible_roles},
    time::UnixSeconds,
    workload::{Case, Claim, ClaimKey, Presence, Text},
};
use serde::{Deserialize, Serialize};

/// One failed condition of the nearest mapping.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// Canonical claim name.
    pub claim: String,
    /// In the mapping language's words; `differs` where the rule may not be told.
    pub expected: String,
    /// The job's own value.
    pub got: Got,
}

/// The mapping that came nearest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Nearest {
    pub mapping: String,
    pub role: String,
    /// Only the conditions that failed.
    pub conditions: Vec<Condition>,
    /// What has happened, in plain sentences; none about others.
    pub remarks: Vec<String>,
}

/// Everything that may be told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Hint {
    pub nearest: Option<Nearest>,
    /// Roles that the job may ask for.
    pub roles: Vec<String>,
    /// The job's own canonical claims, in declaration order; nothing about persons.
    pub claims: Vec<(String, String)>,
    /// A role near the asked one that the job may have.
    pub did_you_mean: Option<String>,
    /// Contact of the nearest mapping's team.
    pub contact: Option<String>,
    /// For a repository that no mapping names: the line to paste into a set.
    pub line_to_paste: Option<String>,
    /// No mapping that gives the asked role concerns this job, so nothing may tell the role from one that does not
    /// exist: not a deny about it, nor how near somebody else's mapping came.
    pub role_untold: bool,
}

impl Hint {
    /// Asks again, watched, and keeps what this job may know.
    pub(super) fn about(
        mappings: &MappingSet,
        case: &Case<'_>,
        ask: &Ask<'_>,
        denial: &Denial,
        now: UnixSeconds,
    ) -> Self {
        let roles: Vec<String> =
            possible_roles(mappings, case, now).into_iter().map(|id| mappings.role(id).name.clone()).collect();
        let (_, asked) = explain(mappings, case, ask, now);
        let concerns = |report: &MappingReport| report.pins_caller || report.held;
        let near = asked.mappings.iter().find(|report| report.pins_caller && !report.held);
        let nearest = near.map(|report| Nearest {
            mapping: mappings.mapping(report.mapping).name.clone(),
            role: mappings.role(report.role).name.clone(),
            conditions: report.conditions.iter().filter(|c| !c.held).filter_map(tell).collect(),
            remarks: report.remarks.iter().filter(|one| !one.private).map(|one| one.text.clone()).collect(),
        });
        let team = near.map(|report| &*mappings.mapping(report.mapping).team);
        Self {
            nearest,
            claims: own_claims(case),
            did_you_mean: ask
                .role
                .filter(|asked| !roles.iter().any(|role| role == asked))
                .and_then(|asked| did_you_mean(asked, roles.iter().map(String::as_str)))
                .map(str::to_owned),
            contact: team.and_then(|name| mappings.team(name)).and_then(|team| team.contact.clone()),
            line_to_paste: line_to_paste(mappings, case, denial, now),
            role_untold: ask.role.is_some() && !asked.mappings.iter().any(concerns),
            roles,
        }
    }
}

/// Conditions on persons are not told at all; of one that would show other repositories only that it differs, and of
/// one on a raw claim not even what the job has.
fn tell(report: &ConditionReport) -> Option<Condition> {
    let of_actor = report.claim.strip_prefix(ACTOR).and_then(|part| part.strip_prefix('.'));
    match ClaimKey::from_name(of_actor.unwrap_or(&report.claim)) {
        Some(ClaimKey::Canonical(claim)) if claim.is_person() => return None,
        Some(ClaimKey::Raw(_)) => {
            return Some(Condition { claim: report.claim.clone(), expected: "differs".into(), got: Got::Unknown });
        }
        _ => {}
    }
    let expected = if report.private { "differs".into() } else { report.expected.clone() };
    Some(Condition { claim: report.claim.clone(), expected, got: report.got.clone() })
}

fn own_claims(case: &Case<'_>) -> Vec<(String, String)> {
    let told = Claim::ALL.iter().filter(|claim| !claim.is_person());
    told.filter_map(|claim| match case.principal.get(*claim) {
        Presence::Present(Text::Text(text)) => Some((claim.name().to_owned(), text.to_string())),
        Presence::Present(Text::Boolean(value)) => Some((claim.name().to_owned(), value.to_string())),
        Presence::None | Presence::Unknown => None,
    })
    .collect()
}

/// Only when no mapping at all pins this repository: then the line is what is missing.
fn line_to_paste(mappings: &MappingSet, case: &Case<'_>, denial: &Denial, now: UnixSeconds) -> Option<String> {
    if !denial.roles.is_empty() {
        return None;
    }
    let (id, name) = (case.principal.text(Claim::RepositoryId)?, case.principal.text(Claim::Repository)?);
    let (_, all) = explain(mappings, case, &Ask::default(), now);
    if all.mappings.iter().any(|report| report.pins_caller) {
        return None;
    }
    let quoted = if id.bytes().all(|b| b.is_ascii_digit()) { id.to_owned() } else { format!("\"{id}\"") };
    Some(format!("{{ name = \"{name}\", id = {quoted} }},"))
}
