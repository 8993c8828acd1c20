//! Workflows without the ref from which they are taken: any text that somebody pushes.

use super::{Bound, REFS};
use crate::{
    diag::{Code, Diagnostic, Span},
    mapping::{Condition, Test, codes},
    workload::Claim,
};
use std::collections::HashSet;

#[derive(Default)]
pub(super) struct Workflows {
    told: HashSet<Span>,
}

struct Parts {
    key: &'static str,
    named: [Claim; 2],
    fixed: [Claim; 2],
    code: Code,
}

const CALLED: Parts = Parts {
    key: "job_workflow",
    named: [Claim::JobWorkflowFile, Claim::JobWorkflowRepository],
    fixed: [Claim::JobWorkflowRef, Claim::JobWorkflowSha],
    code: codes::WORKFLOW_AT_ANY_REF,
};
const OWN: Parts = Parts {
    key: "workflow",
    named: [Claim::WorkflowFile, Claim::WorkflowRepository],
    fixed: [Claim::WorkflowRef, Claim::WorkflowSha],
    code: codes::OWN_WORKFLOW_AT_ANY_REF,
};

impl Workflows {
    pub(super) fn lint(&mut self, bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
        for (role, named) in bound.roles() {
            for parts in [CALLED, OWN] {
                let names = |condition: &&Condition| {
                    condition.claim.is_one_of(&parts.named) && !matches!(condition.test, Test::Absent | Test::Present)
                };
                // A condition on the job's own ref fixes its workflow's, too.
                let by_job = parts.key == OWN.key && (bound.demands(role, &REFS) || bound.demands_protection(role));
                let mut named_by: Vec<&Condition> = bound.conditions(role).filter(names).collect();
                named_by.sort_by_key(|condition| condition.claim != parts.named[0]);
                let Some(condition) = named_by.first().filter(|_| !by_job) else { continue };
                let is_any = |claim: Claim| {
                    let mut of_claim = bound.conditions(role).filter(|condition| condition.claim == claim);
                    of_claim.all(|condition| matches!(&condition.test, Test::Present) || reaches_all(&condition.test))
                };
                if !parts.fixed.into_iter().all(is_any) || !self.told.insert(condition.span.clone()) {
                    continue;
                }
                let (whose, risk) = match parts.key {
                    "workflow" => ("a workflow of its repository", "any branch may hold another text under its name"),
                    _ => ("a called workflow", "a branch of that repository is enough to change it"),
                };
                let message = format!("mapping {} gives `{}` to {whose} at any ref: {risk}", bound.name(), named.name);
                let help = format!("add `ref = \"refs/heads/main\"` (or `branch`, `tag`, `sha`) to `{}`", parts.key);
                found.push(Diagnostic::error(parts.code, condition.span.clone(), message, help).warning());
            }
        }
    }
}

/// Whether a pattern holds texts as different as these: then it holds every ref that somebody might choose.
fn reaches_all(test: &Test) -> bool {
    let Test::Text(lang) = test else { return false };
    ["refs/heads/x", "refs/heads/q/7"].iter().all(|text| lang.matches(text))
}
