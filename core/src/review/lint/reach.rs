//! How far a mapping reaches: nowhere, into a deny wholly, or in part.

use super::Bound;
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Deny, IssuerId, MappingSet, RoleId, Test, codes},
    review::{
        World,
        boxes::{self, Jobs, Undecided},
        overlap::example,
    },
    workload::Claim,
};
use std::collections::HashMap;

type Witness = Vec<(Claim, String)>;

/// What was found for conditions that read the same; a hundred repositories are often told apart by their pairs alone.
#[derive(Default)]
pub(super) struct Reaches {
    known: HashMap<String, Verdict>,
}

#[derive(Clone)]
enum Verdict {
    Free,
    Nowhere,
    /// Names of the denies that take all of it.
    Denied(Vec<String>),
    /// One deny takes this job.
    Cut(String, Witness),
    Undecided,
}

impl Reaches {
    pub(super) fn lint(&mut self, bound: &Bound<'_>, world: &World<'_>, found: &mut Vec<Diagnostic>) {
        for (role, named) in bound.roles() {
            let denies = denies_of(bound.set, bound.mapping.issuer, role);
            let conditions: Vec<Condition> = bound.conditions(role).map(representative).collect();
            let texts: Vec<_> = conditions.iter().map(|condition| (condition.claim, &condition.test)).collect();
            let key = format!("{:?} {role:?} {texts:?}", bound.mapping.issuer);
            let verdict = self
                .known
                .entry(key)
                .or_insert_with(|| judge(world, &conditions, &denies).unwrap_or(Verdict::Undecided))
                .clone();
            let (mapping, role) = (&bound.mapping.name, &named.name);
            let span = bound.mapping.span.clone();
            let finding = match verdict {
                Verdict::Free | Verdict::Undecided => continue,
                Verdict::Nowhere => {
                    let message =
                        format!("mapping `{mapping}` gives `{role}` to no job: its conditions contradict each other");
                    let help = "compare them with `require` of the role and with what the issuer sends: \
                                `claimbound explain` shows each for a job";
                    Diagnostic::error(codes::NEVER_MATCHES, span, message, help).warning()
                }
                Verdict::Denied(by) => {
                    let message = format!(
                        "mapping `{mapping}` gives `{role}` to no job: all that it lets through is denied by {}",
                        by.join(", ")
                    );
                    let help = "remove it, or speak with the platform team about the deny";
                    Diagnostic::error(codes::SHADOWED_BY_DENY, span, message, help).warning()
                }
                Verdict::Cut(by, witness) => {
                    let message = format!(
                        "a deny takes some jobs from mapping `{mapping}` and role `{role}`: `{by}`, for example {}",
                        example(&witness)
                    );
                    let help = "nothing, if that is meant; else narrow the mapping so that it says so itself";
                    Diagnostic::error(codes::CUT_BY_DENY, span, message, help).note()
                }
            };
            found.push(finding);
        }
    }
}

/// Pairs differ in name and id; one stands for all of them.
fn representative(condition: &Condition) -> Condition {
    let mut condition = condition.clone();
    if let Test::Repository(pairs) = &mut condition.test {
        pairs.truncate(1);
    }
    condition
}

fn denies_of(set: &MappingSet, issuer: IssuerId, role: RoleId) -> Vec<&Deny> {
    let concerned = |deny: &&Deny| {
        (deny.issuers.is_empty() || deny.issuers.contains(&issuer))
            && (deny.roles.is_empty() || deny.roles.binary_search(&role).is_ok())
    };
    set.denies.iter().filter(concerned).collect()
}

fn judge(world: &World<'_>, conditions: &[Condition], denies: &[&Deny]) -> Result<Verdict, Undecided> {
    let granted = world.granted(conditions)?;
    if first(world, &granted)?.is_none() {
        return Ok(Verdict::Nowhere);
    }
    let mut taken: Vec<Jobs> = Vec::new();
    let (mut by, mut cut) = (Vec::new(), None);
    for deny in denies {
        let denied = world.denied(&deny.conditions)?;
        let Some(witness) = first(world, &boxes::meet(&granted, &denied)?)? else { continue };
        by.push(format!("`{}`", deny.name));
        // A deny on what the mapping says nothing about is a rule for everybody, and needs no note at each of them.
        if deny.conditions.iter().any(|denied| conditions.iter().any(|asked| asked.claim == denied.claim)) {
            cut.get_or_insert((deny.name.clone(), witness));
        }
        taken.extend(denied);
    }
    if by.is_empty() {
        return Ok(Verdict::Free);
    }
    let left = boxes::subtract(granted, &taken)?;
    Ok(match (first(world, &left)?, cut) {
        (None, _) => Verdict::Denied(by),
        (Some(_), Some((name, witness))) => Verdict::Cut(name, witness),
        (Some(_), None) => Verdict::Free,
    })
}

fn first(world: &World<'_>, jobs: &[Jobs]) -> Result<Option<Witness>, Undecided> {
    for jobs in jobs {
        if let Some(witness) = world.witness(jobs)? {
            return Ok(Some(witness));
        }
    }
    Ok(None)
}
