//! Why a mapping missed, in a plain sentence: what has happened to the repository, the workflow or the ref, where the
//! bare claims would leave a person guessing.

use super::{
    decide::Verdict,
    explain,
    set::{Condition, Origin, Test},
    within::is_commit,
};
use crate::workload::{Claim, Presence, Workload};

/// The temporary branches of GitHub's merge queue: behind this the target branch, then `/pr-NUMBER-COMMIT`.
const QUEUE: &str = "gh-readonly-queue/";
/// What a `sub` of GitHub begins with, unless somebody changed its template.
const SUBJECT: &str = "repo:";

/// A sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    pub text: String,
    /// For operators alone: a job is not told so, because it is about others.
    pub private: bool,
}

type Judged<'c> = (&'c Condition, Verdict);

/// What is worth saying of the conditions that failed.
pub(super) fn remarks(workload: &Workload<'_>, judged: &[Judged<'_>]) -> Vec<Remark> {
    let failed: Vec<Judged<'_>> = judged.iter().copied().filter(|(_, verdict)| *verdict != Verdict::Held).collect();
    let public = |text| Remark { text, private: false };
    let mut all: Vec<Remark> = failed.iter().filter_map(|one| repository(workload, one)).collect();
    all.extend(called_workflow(workload, &failed).map(public));
    all.extend(failed.iter().filter_map(|(condition, _)| single(workload, condition)).map(public));
    all
}

/// What is worth saying of the job, whatever mapping is looked at.
pub(super) fn of_job(workload: &Workload<'_>) -> Option<String> {
    let with_ids = subject_has_ids(workload)?;
    let (own, other) = match with_ids {
        true => ("`repo:OWNER@ID/NAME@ID:…`, with ids", "without"),
        false => ("`repo:OWNER/NAME:…`, without ids", "with them"),
    };
    Some(format!("the token's `sub` is {own}; a mapping that pins the repository fits this form and the one {other}"))
}

/// `None`: its form says nothing.
fn subject_has_ids(workload: &Workload<'_>) -> Option<bool> {
    let names = workload.text(Claim::Subject)?.strip_prefix(SUBJECT)?;
    let (owner, name) = workload.text(Claim::Repository)?.rsplit_once('/')?;
    let (own_owner, rest) = names.split_once('/')?;
    let own_name = rest.split(':').next()?;
    let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
    match (own_owner.split_once('@'), own_name.split_once('@')) {
        (None, None) => (is(own_owner, owner) && is(own_name, name)).then_some(false),
        (Some((own_owner, _)), Some((own_name, _))) => (is(own_owner, owner) && is(own_name, name)).then_some(true),
        _ => None,
    }
}

/// Renamed, transferred, created anew.
fn repository(workload: &Workload<'_>, (condition, verdict): &Judged<'_>) -> Option<Remark> {
    let pairs = condition.test.parts().iter().find_map(|part| match part {
        Test::Repository(pairs) => Some(pairs),
        _ => None,
    })?;
    let (name, id) = (workload.text(Claim::Repository)?, workload.text(Claim::RepositoryId)?);
    match verdict {
        Verdict::Renamed => {
            let (old, _) = pairs.iter().find(|(_, other)| other == id)?;
            let owner = |name: &str| name.rsplit_once('/').map(|(owner, _)| owner.to_ascii_lowercase());
            let (from, to) = (owner(old)?, owner(name)?);
            let text = if from == to {
                format!("the repository was renamed: it is the one with id {id}, was `{old}` and is `{name}` now")
            } else {
                format!(
                    "the repository was transferred from `{from}` to `{to}`: it is the one with id {id}, was `{old}` and is \
                     `{name}` now; let it in only if its new owner is meant to have the role"
                )
            };
            Some(Remark { text, private: false })
        }
        Verdict::IdMismatch => {
            let text = format!(
                "`{name}` is another repository than the mapping means: this one has the id {id}. It was deleted and made \
                 again, or somebody took over its name"
            );
            Some(Remark { text, private: true })
        }
        _ => None,
    }
}

/// One sentence for all parts of `job_workflow`.
fn called_workflow(workload: &Workload<'_>, failed: &[Judged<'_>]) -> Option<String> {
    use Claim as C;
    let expected_of = |claim| {
        let condition = failed.iter().find(|(condition, _)| condition.claim == claim)?.0;
        (condition.test != Test::Absent).then(|| explain::expected(condition, workload).0)
    };
    let of = |claim| workload.text(claim);
    let [repository, file] = [expected_of(C::JobWorkflowRepository), expected_of(C::JobWorkflowFile)];
    if repository.is_some() || file.is_some() {
        let mut wanted = file.map(|file| format!(" {file}")).unwrap_or_default();
        wanted.extend(repository.map(|repository| format!(" of {repository}")));
        let (Some(called), Some(called_file)) = (of(C::JobWorkflowRepository), of(C::JobWorkflowFile)) else {
            return Some(format!(
                "the token names no called workflow: the job has to be called through{wanted}, by `jobs.NAME.uses` of its workflow"
            ));
        };
        let own = [of(C::WorkflowRepository), of(C::WorkflowFile)] == [Some(called), Some(called_file)]
            || (of(C::WorkflowFile).is_none() && of(C::Repository) == Some(called));
        return Some(if own {
            format!(
                "the job stands in its own workflow, `{called_file}` of `{called}`, and was called through no other: it has to be \
                 called through{wanted}, by `jobs.NAME.uses`"
            )
        } else {
            format!("the job was called through `{called_file}` of `{called}`, and has to be called through{wanted}")
        });
    }
    if let Some(wanted) = expected_of(C::JobWorkflowRef) {
        let at = of(C::JobWorkflowRef)?;
        return Some(if is_commit(at) {
            format!(
                "the right workflow was called by the commit `{at}`, so the token names no branch: call it at {wanted}, or let \
                 the mapping ask for the commit with `sha`"
            )
        } else {
            format!("the right workflow was called at `{at}`: behind its `@` has to stand {wanted}")
        });
    }
    let wanted = expected_of(C::JobWorkflowSha)?;
    let at = of(C::JobWorkflowSha)?;
    Some(format!(
        "the right workflow was called, but it is at the commit `{at}` now, and the mapping knows it at {wanted}"
    ))
}

/// What one condition tells without the others.
fn single(workload: &Workload<'_>, condition: &Condition) -> Option<String> {
    let claim = condition.claim.canonical()?;
    match (claim, workload.text(claim)) {
        (Claim::Branch | Claim::Ref, _) if let Some((branch, target)) = queued(workload) => Some(format!(
            "the job runs in the merge queue of `{target}`, on its temporary branch `{branch}`: after the merge, the push to \
             `{target}` may fit; the queue itself has to be named as a pattern"
        )),
        (Claim::Branch, None) if workload.text(Claim::PullRequest).is_some() => Some(format!(
            "the job of a pull request runs on `{}`, which is no branch: after the merge, the push may fit",
            workload.text(Claim::Ref)?
        )),
        (Claim::Branch, None) if let Some(tag) = workload.text(Claim::Tag) => {
            Some(format!("the job runs on the tag `{tag}`, and a tag is no branch, wherever it points"))
        }
        (Claim::EventName, Some(event)) if condition.origin == Origin::DefaultEvents => Some(format!(
            "the mapping names no events, so it admits the usual ones alone: {}; any other has to be named, as `{event}` in \
             {}",
            explain::expected(condition, workload).0,
            with_event(event)
        )),
        (Claim::Environment, None) if *workload.get(Claim::Environment) == Presence::None => {
            let wanted = explain::expected(condition, workload).0;
            Some(format!("the job names no environment: write `environment:` at the job, with {wanted}"))
        }
        (Claim::Subject, Some(subject)) => {
            let other = other_subject(workload, subject)?;
            let fits = |part: &Test| matches!(part, Test::Text(lang) if lang.matches(&other));
            condition.test.parts().iter().any(fits).then(|| {
                "the mapping's `subject` is written for the other form of this very `sub`: pin `repository` by name and id \
                 in its place, which fits both"
                    .to_owned()
            })
        }
        _ => None,
    }
}

/// The merge queue's branch that the job runs on, and the branch that it stands before.
pub(super) fn queued<'w>(workload: &'w Workload<'_>) -> Option<(&'w str, &'w str)> {
    let branch = workload.text(Claim::Branch)?;
    let (target, _) = branch.strip_prefix(QUEUE)?.rsplit_once("/pr-")?;
    Some((branch, target))
}

/// The pattern of a merge queue's branches.
pub(super) fn queue_of(target: &str) -> String {
    format!("{{ glob = \"{QUEUE}{target}/*\" }}")
}

/// The default events, and one more.
pub(super) fn with_event(event: &str) -> String {
    let event = toml::Value::String(event.to_owned());
    format!("`event_name = {{ any = [{{ class = \"default\" }}, {event}] }}`")
}

/// The same `sub` in the other of GitHub's two forms.
fn other_subject(workload: &Workload<'_>, subject: &str) -> Option<String> {
    let rest = subject.strip_prefix(SUBJECT)?;
    let (owner, rest) = rest.split_once('/')?;
    let (name, context) = rest.split_once(':')?;
    if subject_has_ids(workload)? {
        let [owner, name] = [owner, name].map(|part| part.split('@').next().unwrap_or(part));
        return Some(format!("{SUBJECT}{owner}/{name}:{context}"));
    }
    let (owner_id, id) = (workload.text(Claim::RepositoryOwnerId)?, workload.text(Claim::RepositoryId)?);
    Some(format!("{SUBJECT}{owner}@{owner_id}/{name}@{id}:{context}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::*,
        mapping::{Ask, explain as asked},
        time::UnixSeconds,
    };
    use Claim as C;

    const COMMIT: &str = "2f1d3e5a7b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e";

    /// The sentences of the nearest mapping, and its edit.
    fn told(conditions: Vec<Condition>, changes: &[(C, &str)]) -> String {
        let set = Builder::new().mapping("m", "r", conditions).build();
        let case = push(changes);
        let report = asked(&set, &case, &Ask::default(), UnixSeconds(0)).1.mappings.remove(0);
        let private = |remark: &Remark| if remark.private { " (operators)" } else { "" };
        let mut lines: Vec<String> =
            report.remarks.iter().map(|remark| format!("- {}{}", remark.text, private(remark))).collect();
        lines.extend(report.edit.map(|edit| format!("> {edit}")));
        lines.join("\n")
    }

    #[test]
    fn each_has_its_sentence() {
        let pin = || repositories(&[("acme/api", "1")]);
        let main = || vec![pin(), text(C::Branch, &["main"])];
        let workflow = || {
            vec![
                pin(),
                text(C::JobWorkflowRepository, &["acme/ci"]),
                text(C::JobWorkflowFile, &[".github/workflows/deploy.yml"]),
                text(C::JobWorkflowRef, &["refs/heads/main"]),
            ]
        };
        let called = |at: &'static str| {
            [
                (C::JobWorkflowRepository, "acme/ci"),
                (C::JobWorkflowFile, ".github/workflows/deploy.yml"),
                (C::JobWorkflowRef, at),
            ]
        };
        let own = [
            (C::WorkflowRepository, "acme/api"),
            (C::WorkflowFile, ".github/workflows/ci.yml"),
            (C::JobWorkflowRepository, "acme/api"),
            (C::JobWorkflowFile, ".github/workflows/ci.yml"),
            (C::JobWorkflowRef, "refs/heads/main"),
        ];
        let other = [
            (C::JobWorkflowRepository, "acme/ci"),
            (C::JobWorkflowFile, ".github/workflows/test.yml"),
            (C::JobWorkflowRef, "refs/heads/main"),
        ];
        let queue = "gh-readonly-queue/release/1/pr-7-2f1d3e5a";
        let subjects = |text_of: &str| vec![pin(), text(C::Subject, &[text_of])];
        let (plain, with_ids) = ("repo:acme/api:ref:refs/heads/main", "repo:acme@65/api@1:ref:refs/heads/main");
        let mut pinned = workflow();
        pinned[3] = text(C::JobWorkflowSha, &[COMMIT]);
        let mut moved = called("refs/heads/main").to_vec();
        moved.push((C::JobWorkflowSha, "0000000000000000000000000000000000000000"));
        let rows: Vec<(&str, String)> = vec![
            ("renamed", told(vec![pin()], &[(C::Repository, "acme/new")])),
            ("transferred", told(vec![pin()], &[(C::Repository, "acme-labs/api"), (C::RepositoryOwner, "acme-labs")])),
            ("created anew", told(vec![pin()], &[(C::RepositoryId, "9")])),
            ("not called", told(workflow(), &[])),
            ("its own workflow", told(workflow(), &own)),
            ("another workflow", told(workflow(), &other)),
            ("called at another ref", told(workflow(), &called("refs/heads/dev"))),
            ("called by commit", told(workflow(), &called(COMMIT))),
            ("changed since", told(pinned, &moved)),
            ("merge queue", told(main(), &[(C::Branch, queue), (C::EventName, "merge_group")])),
            ("tag", {
                let set = Builder::new().mapping("m", "r", main()).build();
                let claims = [(C::Repository, "acme/api"), (C::RepositoryId, "1"), (C::Tag, "v1")];
                let case = job(&claims, &[C::Branch]);
                asked(&set, &case, &Ask::default(), UnixSeconds(0)).1.mappings[0].remarks[0].text.clone()
            }),
            ("default events", told(vec![pin(), events()], &[(C::EventName, "pull_request")])),
            ("named events", told(vec![pin(), text(C::EventName, &["push"])], &[(C::EventName, "schedule")])),
            ("subject without ids", told(subjects(plain), &[(C::Subject, with_ids)])),
            ("subject with ids", told(subjects(with_ids), &[(C::Subject, plain)])),
            ("subject of another", told(subjects("repo:acme/web:ref:refs/heads/main"), &[(C::Subject, plain)])),
        ];
        let all: String = rows.iter().map(|(what, told)| format!("{what}\n{told}\n\n")).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn a_job_learns_which_form_its_subject_has() {
        let of = |subject| {
            let case = push(&[(C::Subject, subject)]);
            of_job(&case.principal)
        };
        assert!(of("repo:acme/api:ref:x").is_some_and(|text| text.contains("without ids")));
        assert!(of("repo:Acme@65/api@1:ref:x").is_some_and(|text| text.contains("with ids")));
        for strange in ["repo:acme/web:x", "repo:acme@65/api:x", "project_path:acme/api", "repo:", "repo:acme"] {
            assert_eq!(of(strange), None, "{strange}");
        }
    }
}
