//! Commits in rules: one that pins a workflow holds until its next change, and one in a ref's place holds never.

use super::Bound;
use crate::{
    diag::{Diagnostic, Span},
    mapping::{Condition, Test, codes, is_commit},
    workload::Claim,
};
use std::collections::HashSet;

#[derive(Default)]
pub(super) struct Commits {
    /// What stands in `require` is told once, not for each mapping that binds the role.
    told: HashSet<Span>,
}

impl Commits {
    pub(super) fn lint(&mut self, bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
        for (role, _) in bound.roles() {
            for condition in bound.conditions(role) {
                let Some(claim) = condition.claim.canonical() else { continue };
                let finding = match claim {
                    Claim::Branch | Claim::Tag | Claim::Ref | Claim::WorkflowRef | Claim::JobWorkflowRef => {
                        in_place_of_a_ref(condition)
                    }
                    Claim::JobWorkflowSha => {
                        pinned(condition, bound.conditions(role).any(|other| other.claim == Claim::JobWorkflowRef))
                    }
                    _ => None,
                };
                if let Some(finding) = finding
                    && self.told.insert(condition.span.clone())
                {
                    found.push(finding);
                }
            }
        }
    }
}

/// The texts that a condition lists.
fn listed(condition: &Condition) -> impl Iterator<Item = &str> {
    condition.test.parts().iter().flat_map(|part| match part {
        Test::Text(lang) => lang.members().into_iter().flatten().collect(),
        _ => Vec::new(),
    })
}

fn in_place_of_a_ref(condition: &Condition) -> Option<Diagnostic> {
    let short = |text: &str| is_commit(text.rsplit('/').next().unwrap_or(text));
    let commit = listed(condition).find(|text| short(text))?;
    let key = match condition.claim.canonical() {
        Some(Claim::WorkflowRef) => "the `sha` of `workflow`",
        Some(Claim::JobWorkflowRef) => "the `sha` of `job_workflow`",
        _ => "`sha`",
    };
    let message =
        format!("`{}` names the commit `{commit}`, which no branch or tag is called by", condition.claim.name());
    let help = format!("write it as {key}, or name the branch or tag");
    Some(Diagnostic::error(codes::COMMIT_AS_REF, condition.span.clone(), message, help).warning())
}

fn pinned(condition: &Condition, with_ref: bool) -> Option<Diagnostic> {
    listed(condition).next()?;
    let (message, help) = if with_ref {
        (
            "the called workflow is pinned to a commit and a ref: with the ref's next commit no job fits any more, and one \
             that calls it by the commit itself never does",
            "keep `sha` alone where callers write the commit behind `@`; else keep `ref` alone",
        )
    } else {
        (
            "the called workflow is pinned to a commit: with its next change no job fits until the commit stands here",
            "list the next commit beside this one before callers change over",
        )
    };
    Some(Diagnostic::error(codes::PINNED_TO_COMMIT, condition.span.clone(), message, help).note())
}
