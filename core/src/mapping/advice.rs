//! The edit that would allow a job: TOML to write, where it is only a line or two away.
//!
//! Advice is given only if following it all would make the mapping hold, and never replaces an id by itself.

use super::{
    MappingSet, RoleId,
    decide::{Verdict, old_name},
    is_commit, remarks,
    set::{Condition, Origin, Test},
};
use crate::workload::{Claim, Workload};

/// Conditions that may fail for a mapping to be near enough for advice.
const NEAR_CONDITIONS_MAX: usize = 2;

/// What to write so that a mapping gives this role to this job, or writes its name as it is by now; `None` when nothing failed
/// or it is not near.
pub(super) fn edit(
    set: &MappingSet,
    role: RoleId,
    workload: &Workload<'_>,
    judged: &[(&Condition, Verdict)],
) -> Option<String> {
    let folds = set.issuers.iter().any(|issuer| *issuer.name == *workload.issuer && issuer.folds_names);
    let renamed = |condition: &Condition| old_name(condition, workload, folds).is_some();
    let failed = judged.iter().filter(|(condition, verdict)| *verdict != Verdict::Held || renamed(condition));
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
        (Test::Repository(_) | Test::ById(_), _) => {
            let pair = repository_line(workload.text(Claim::Repository)?, workload.text(Claim::RepositoryId)?);
            Some(match verdict {
                Verdict::Renamed | Verdict::Held => format!("`{pair}` instead of the old name"),
                Verdict::IdMismatch => {
                    format!(
                        "`{pair}`, but only if you know that the repository was re-created: the name may be squatted"
                    )
                }
                _ => format!("`{pair}` beside those that stand there"),
            })
        }
        (Test::Text(_), _) if condition.origin == Origin::DefaultEvents => Some(remarks::with_event(own?)),
        // The temporary branch is gone tomorrow, and a commit is no ref.
        (Test::Text(lang), _) if claim == Claim::Branch && remarks::queued(workload).is_some() => {
            let (_, target) = remarks::queued(workload)?;
            let members = lang.members()?.map(quoted).chain([remarks::queue_of(target)]);
            Some(format!("`branch = {{ any = [{}] }}`", members.collect::<Vec<_>>().join(", ")))
        }
        // To admit other workflows than the one demanded would give up what it is demanded for.
        (Test::Text(_), _) if claim == Claim::JobWorkflowRepository => None,
        (Test::Text(_), _) if claim == Claim::JobWorkflowRef && is_commit(own?) => {
            Some(format!("`sha = {}` in place of the ref of `job_workflow`", quoted(own?)))
        }
        (Test::Text(lang), _) if !matches!(claim, Claim::RepositoryId | Claim::RepositoryOwnerId) => {
            // A part of a workflow is written in its workflow's table.
            let (table, key) = match claim.name().split_once('.') {
                Some((table, key)) => (format!(" in `{table}`"), key),
                None => (String::new(), claim.name()),
            };
            let own = quoted(own?);
            Some(match lang.members() {
                Some(members) => {
                    let members: Vec<String> = members.map(quoted).chain([own]).collect();
                    format!("`{key} = [{}]`{table}", members.join(", "))
                }
                None => format!("`{key} = {own}`{table} in a mapping of its own"),
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
