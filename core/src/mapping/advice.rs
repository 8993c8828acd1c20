//! The edit that would allow a job: TOML to write, where it is only a line or two away.
//!
//! Advice is given only if following it all would make the mapping hold, and never replaces an id by itself.

use super::{
    MappingSet, RoleId,
    decide::Verdict,
    set::{Condition, Origin, Test},
};
use crate::workload::{Claim, Workload};

/// Conditions that may fail for a mapping to be near enough for advice.
const NEAR_CONDITIONS_MAX: usize = 2;

/// What to write so that a mapping gives this role to this job; `None` when nothing failed or it is not near.
pub(super) fn edit(
    set: &MappingSet,
    role: RoleId,
    workload: &Workload<'_>,
    judged: &[(&Condition, Verdict)],
) -> Option<String> {
    let failed = judged.iter().filter(|(_, verdict)| *verdict != Verdict::Held);
    if !(1..=NEAR_CONDITIONS_MAX).contains(&failed.clone().count()) {
        return None;
    }
    let lines: Option<Vec<String>> = failed
        .map(|(condition, verdict)| {
            let line = line(condition, *verdict, workload)?;
            let place = match condition.origin {
                Origin::Require => format!("in `[role.{}.require]` (the platform's)", set.role(role).name),
                _ => format!("in `{}`", condition.span.file),
            };
            Some(format!("{place} write {line}"))
        })
        .collect();
    Some(lines?.join("; "))
}

fn line(condition: &Condition, verdict: Verdict, workload: &Workload<'_>) -> Option<String> {
    let claim = condition.claim.canonical()?;
    let own = workload.text(claim);
    match (&condition.test, verdict) {
        (Test::Repository(_), _) => {
            let pair = repository_line(workload.text(Claim::Repository)?, workload.text(Claim::RepositoryId)?);
            Some(match verdict {
                Verdict::Renamed => format!("`{pair}` instead of the old name"),
                Verdict::IdMismatch => {
                    format!(
                        "`{pair}`, but only if you know that the repository was re-created: the name may be squatted"
                    )
                }
                _ => format!("`{pair}` beside those that stand there"),
            })
        }
        (Test::Text(lang), _) if !matches!(claim, Claim::RepositoryId | Claim::RepositoryOwnerId) => {
            let key = claim.name();
            let own = quoted(own?);
            Some(match lang.members() {
                Some(members) => {
                    let members: Vec<String> = members.map(quoted).chain([own]).collect();
                    format!("`{key} = [{}]`", members.join(", "))
                }
                None => format!("`{key} = {own}` in a mapping of its own"),
            })
        }
        _ => None,
    }
}

/// The line that names a repository in a mapping or a set.
pub fn repository_line(name: &str, id: &str) -> String {
    let id = if decimal(id) { id.to_owned() } else { quoted(id) };
    format!("{{ name = {}, id = {id} }},", quoted(name))
}

fn decimal(id: &str) -> bool {
    !id.starts_with('0') && id.parse::<i64>().is_ok_and(|number| number.to_string() == id)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
