//! `workflow` and `job_workflow`: matched by their parts, never by the beginning of a string.

use super::{
    conditions::{Shape, suggestion, workflow_parts},
    values::{Spot, Values},
};
use crate::{
    diag::{Diagnostic, did_you_mean},
    mapping::{Test, codes, syntax::Entry},
    workload::Claim,
};
use toml::de::DeValue;

/// The parts of a workflow, as they are written.
pub(in crate::mapping) const WORKFLOW_PARTS: [&str; 6] = ["repository", "file", "ref", "branch", "tag", "sha"];

impl Values<'_, '_> {
    /// `workflow` and `job_workflow`.
    pub(super) fn workflow(&mut self, entry: Entry<'_, '_>) {
        let parts = WorkflowClaims::of(entry.name());
        if !self.ground.issuers.iter().any(|(_, profile)| profile.provides(parts.file)) {
            let issuers = self.ground.issuer_names();
            self.findings.error(
                codes::CLAIM_NOT_PROVIDED,
                entry.key_span(),
                format!("tokens of {issuers} never carry `{}`", entry.name()),
                "remove the condition; `claimbound profile show` lists the claims that the issuer's profile has",
            );
            return;
        }
        let table = match entry.value.get_ref() {
            DeValue::Table(table) => table,
            DeValue::String(text) => return self.workflow_text(entry, text),
            _ => {
                return entry.wrong_type(
                    "a table of `repository`, `file`, `ref` (or `branch`, `tag`) and `sha`",
                    self.findings,
                );
            }
        };
        let whole = Spot::of(entry);
        if table.contains_key("absent") || table.contains_key("present") {
            self.operator(parts.file, "", &whole, entry.value);
            return;
        }
        let (mut repository, mut refs, mut any) = (false, Vec::new(), false);
        for part in entry.entries(self.findings) {
            let (claim, prefix) = match part.name() {
                "repository" => (parts.repository, ""),
                "file" => (parts.file, ""),
                "ref" => (parts.r#ref, ""),
                "branch" => (parts.r#ref, "refs/heads/"),
                "tag" => (parts.r#ref, "refs/tags/"),
                "sha" => (parts.sha, ""),
                other => {
                    self.unknown_part(part, entry.name(), other);
                    any = true;
                    continue;
                }
            };
            any = true;
            repository |= claim == parts.repository;
            if claim == parts.r#ref {
                refs.push(part);
            }
            let spot = Spot { name: format!("{}.{}", entry.name(), part.name()).into(), ..Spot::of(part) };
            self.value(claim, prefix, &spot, part.value);
        }
        if let [_, second, ..] = refs.as_slice() {
            self.findings.error(
                codes::WORKFLOW_FORM,
                second.key_span(),
                format!("`{}` has more than one of `ref`, `branch` and `tag`", entry.name()),
                "keep one: `branch` and `tag` are short for a `ref` below `refs/heads/` and `refs/tags/`",
            );
        }
        if !any {
            self.workflow_text(entry, "");
        } else if !repository {
            self.push(parts.repository, Test::SameRepository, Shape::Other, &whole);
        }
    }

    fn unknown_part(&mut self, part: Entry<'_, '_>, workflow: &str, name: &str) {
        let message = format!("`{workflow}` has no part `{name}`");
        match did_you_mean(name, WORKFLOW_PARTS) {
            Some(meant) => self.findings.edit(
                codes::WORKFLOW_FORM,
                part.key_span(),
                message,
                format!("did you mean `{meant}`?"),
                meant,
            ),
            None => self.findings.error(
                codes::WORKFLOW_FORM,
                part.key_span(),
                message,
                "its parts are `repository`, `file`, `ref` (or `branch`, `tag`) and `sha`",
            ),
        }
    }

    /// A workflow written as one string: shows its parts.
    fn workflow_text(&mut self, entry: Entry<'_, '_>, text: &str) {
        let mut finding = Diagnostic::error(
            codes::WORKFLOW_FORM,
            entry.value_span(),
            format!("`{}` must be written by its parts", entry.name()),
            "write `{ repository = \"owner/name\", file = \".github/workflows/deploy.yml\", ref = \"refs/heads/main\" }`: a string compared as a whole or by its beginning says too little",
        );
        finding.suggestion = workflow_parts(text).map(|edit| suggestion(entry.value_span(), edit, "write the parts"));
        self.findings.push(finding);
    }
}

/// The claims of one workflow's parts.
pub(super) struct WorkflowClaims {
    pub(super) repository: Claim,
    pub(super) file: Claim,
    pub(super) r#ref: Claim,
    pub(super) sha: Claim,
}

impl WorkflowClaims {
    pub(super) fn of(key: &str) -> Self {
        match key {
            "workflow" => Self {
                repository: Claim::WorkflowRepository,
                file: Claim::WorkflowFile,
                r#ref: Claim::WorkflowRef,
                sha: Claim::WorkflowSha,
            },
            _ => Self {
                repository: Claim::JobWorkflowRepository,
                file: Claim::JobWorkflowFile,
                r#ref: Claim::JobWorkflowRef,
                sha: Claim::JobWorkflowSha,
            },
        }
    }
}
