//! Tests for mappings that are loaded: a job that gets the role, and one that differs from it in one thing and does not.

use super::super::new::{quoted, workload, workload_with_id};
use anyhow::{Context as _, Result};
use claimbound_core::{
    lang::{
        pattern::Lang,
        space::{Domain, Space},
    },
    mapping::{IssuerId, MappingSet, RoleId, possible_roles},
    review::{
        Given, GivenError, World,
        boxes::{Axis, Jobs, meet},
    },
    time::UnixSeconds,
    workload::{Case, Claim, Profile, Profiles, WorkloadError},
};

/// Any number that no repository is likely to have.
const OTHER_ID: u64 = 987_654_321;

/// Two `[[test]]` blocks for a mapping of the set.
///
/// # Errors
/// When no job gets the role by it, or none can be told from those that do.
pub fn of(name: &str, set: &MappingSet, profiles: &Profiles) -> Result<String> {
    let mapping = set.mappings.iter().find(|mapping| mapping.name == name).context("the mapping is in the set")?;
    let profile = profiles.get(&set.issuer(mapping.issuer).profile).context("the issuer's profile is known")?;
    let role = *mapping.roles.first().context("a mapping has a role")?;
    let world = World::new(profile, set.issuer(mapping.issuer))?;
    let mut jobs = world.granted(&mapping.conditions)?;
    let preferred = profile.default_events().iter().map(|event| (Claim::EventName, event.as_str()));
    let refs = [Claim::Ref, Claim::JobWorkflowRef, Claim::WorkflowRef];
    let refs = refs.into_iter().flat_map(|claim| [(claim, "refs/heads/main"), (claim, "refs/tags/v1")]);
    for (claim, text) in preferred.chain(refs) {
        let only: Jobs = Space::of([(Axis::Claim(claim), Domain::of(Lang::exact(text, false)))])?;
        if jobs.iter().all(|jobs| jobs.get(Axis::Claim(claim)).is_none()) {
            continue;
        }
        let narrowed = meet(&jobs, &[only])?;
        if world.first_witness(&narrowed)?.is_some() {
            jobs = narrowed;
        }
    }
    let job = world
        .first_witness(&jobs)?
        .map(|job| job.claims)
        .with_context(|| format!("no job could get a role by `{name}`"))?;
    let given = |job: &[(Claim, String)]| roles(job, set, profiles, mapping.issuer);
    let roles = given(&job).with_context(|| format!("the job of `{name}` is refused"))?;
    let names: Vec<_> = roles.iter().map(|role| quoted(&set.role(*role).name)).collect();
    let near =
        others(&job, profile).into_iter().find(|(_, job)| given(job).is_some_and(|roles| !roles.contains(&role)));
    let (what, other) = near.with_context(|| format!("no job can be told from those that `{name}` is for"))?;
    let keeps_id =
        other.iter().any(|(claim, id)| *claim == Claim::RepositoryId && !job.contains(&(*claim, id.clone())));
    let other = if keeps_id { workload_with_id(&other) } else { workload(&other) };
    Ok(format!(
        "\n[[test]]\nname = {}\nworkload = {}\nexpect = \"grant\"\nroles = [{}]\n\n[[test]]\nname = {}\nworkload = {other}\n\
         expect = \"deny\"\nrole = {}\n",
        quoted(&format!("{name} gives its role")),
        workload(&job),
        names.join(", "),
        quoted(&format!("{name} is not for {what}")),
        quoted(&set.role(role).name),
    ))
}

/// What a job could be granted; `None`: there is no such job.
fn roles(job: &[(Claim, String)], set: &MappingSet, profiles: &Profiles, issuer: IssuerId) -> Option<Vec<RoleId>> {
    let mut given = Given::Workload(job.to_vec().into());
    given.fill_ids(set, issuer);
    let principal = match given.workload(set, profiles, issuer) {
        Ok(workload) => workload,
        Err(GivenError::Refused(WorkloadError::Stranger)) => return Some(Vec::new()),
        Err(_) => return None,
    };
    Some(possible_roles(set, &Case::alone(principal), UnixSeconds(0)))
}

/// Jobs that differ in one thing, the likeliest first.
fn others(job: &[(Claim, String)], profile: &Profile) -> Vec<(&'static str, Vec<(Claim, String)>)> {
    let other = |claim: Claim, value: &str| {
        let mut job: Vec<_> = job.iter().filter(|(of, _)| *of != claim).cloned().collect();
        job.push((claim, value.to_owned()));
        job
    };
    let has = |claim: Claim| job.iter().any(|(of, _)| *of == claim);
    let mut ways = Vec::new();
    if has(Claim::Ref) {
        ways.push(("another branch", other(Claim::Ref, "refs/heads/another-branch")));
        ways.push(("a tag", other(Claim::Ref, "refs/tags/another-tag")));
    }
    for (claim, what, value) in [
        (Claim::Environment, "another environment", "another-environment"),
        (Claim::JobWorkflowRef, "another ref of the workflow", "refs/heads/another-branch"),
        (Claim::JobWorkflowFile, "another workflow", ".github/workflows/another.yml"),
        (Claim::WorkflowFile, "another workflow", ".github/workflows/another.yml"),
        (Claim::Subject, "another subject", "another-subject"),
    ] {
        ways.extend(has(claim).then(|| (what, other(claim, value))));
    }
    if let Some(event) = profile.pull_request_events().first() {
        ways.push(("a pull request", other(Claim::EventName, event)));
    }
    if profile.provides(Claim::RepositoryId) {
        let id = profile.sample_id(Claim::RepositoryId, OTHER_ID);
        ways.push(("a new repository under the old name", other(Claim::RepositoryId, &id)));
    }
    ways
}
