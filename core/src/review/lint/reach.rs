//! How far a mapping reaches: nowhere, into a deny wholly, or in part.

use super::{Bound, plain};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, Deny, IssuerId, MappingSet, RoleId, Test, codes},
    review::{
        Job, World,
        alike::Alike,
        boxes::{self, Jobs, Undecided},
        overlap::example,
    },
    workload::{Claim, ClaimKey},
};
use foldhash::fast::FixedState;
use std::{collections::HashMap, rc::Rc};

/// What was found for conditions that come out alike beside the same denies, which are known by their positions.
#[derive(Default)]
pub(super) struct Reaches {
    denies: HashMap<(IssuerId, RoleId), Rc<[usize]>, FixedState>,
    known: HashMap<Question, Verdict, FixedState>,
}

type Question = (IssuerId, Rc<[usize]>, Vec<(ClaimKey, Test)>);

#[derive(Clone)]
enum Verdict {
    Free,
    Nowhere,
    /// Names of the denies that take all of it.
    Denied(Vec<String>),
    /// One deny takes this job.
    Cut(String, Job),
    Undecided,
}

impl Reaches {
    pub(super) fn lint(&mut self, bound: &Bound<'_>, world: &World<'_>, found: &mut Vec<Diagnostic>) {
        for (role, named) in bound.roles() {
            let (set, issuer) = (bound.set, bound.mapping.issuer);
            let about = self.denies.entry((issuer, role)).or_insert_with(|| denies_of(set, issuer, role)).clone();
            let denies: Vec<&Deny> = about.iter().map(|at| &set.denies[*at]).collect();
            let asked = denies.iter().flat_map(|deny| &deny.conditions);
            let Alike { conditions, key } = Alike::of(world, bound.conditions(role), asked);
            if plain::reaches(world.profile(), &conditions, &denies) {
                continue;
            }
            let judged = || judge(world, &conditions, &denies).unwrap_or(Verdict::Undecided);
            let verdict = self.known.entry((issuer, about, key)).or_insert_with(judged).clone();
            let (mapping, role) = (bound.name(), &named.name);
            let span = bound.mapping.span.clone();
            let finding = match verdict {
                Verdict::Free | Verdict::Undecided => continue,
                Verdict::Nowhere => {
                    let message =
                        format!("mapping {mapping} gives `{role}` to no job: its conditions contradict each other");
                    let help = "compare them with `require` of the role and with what the issuer sends: \
                                `claimbound explain` shows each for a job";
                    Diagnostic::error(codes::NEVER_MATCHES, span, message, help).warning()
                }
                Verdict::Denied(by) => {
                    let message = format!(
                        "mapping {mapping} gives `{role}` to no job: all that it lets through is denied by {}",
                        by.join(", ")
                    );
                    let help = "remove it, or speak with the platform team about the deny";
                    Diagnostic::error(codes::SHADOWED_BY_DENY, span, message, help).warning()
                }
                Verdict::Cut(by, mut witness) => {
                    make_own(&mut witness, &conditions);
                    let message = format!(
                        "a deny takes some jobs from mapping {mapping} and role `{role}`: `{by}`, for example {}",
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

/// The job that was found may be of another repository of the same owner: names one of these conditions' own.
pub(super) fn make_own(witness: &mut Job, conditions: &[Condition]) {
    let pairs = conditions.iter().find_map(|condition| match &condition.test {
        Test::Repository(pairs) => Some(pairs),
        _ => None,
    });
    let (Some(pairs), Some(id)) = (pairs, witness.text(Claim::RepositoryId)) else { return };
    if pairs.iter().any(|(_, own)| own == id) {
        return;
    }
    let owner = |name: &str| name.rsplit_once('/').map(|(owner, _)| owner.to_ascii_lowercase());
    let theirs = witness.text(Claim::Repository).and_then(owner);
    let Some((name, id)) = pairs.iter().find(|(name, _)| name.is_empty() || owner(name) == theirs) else { return };
    for (claim, text) in &mut witness.claims {
        match claim {
            Claim::RepositoryId => id.clone_into(text),
            Claim::Repository if !name.is_empty() => name.clone_into(text),
            _ => {}
        }
    }
}

fn denies_of(set: &MappingSet, issuer: IssuerId, role: RoleId) -> Rc<[usize]> {
    let concerned = |deny: &Deny| {
        (deny.issuers.is_empty() || deny.issuers.contains(&issuer))
            && (deny.roles.is_empty() || deny.roles.binary_search(&role).is_ok())
    };
    (0..set.denies.len()).filter(|at| concerned(&set.denies[*at])).collect()
}

fn judge(world: &World<'_>, conditions: &[Condition], denies: &[&Deny]) -> Result<Verdict, Undecided> {
    let granted = world.granted(conditions)?;
    if world.first_witness(&granted)?.is_none() {
        return Ok(Verdict::Nowhere);
    }
    let mut taken: Vec<Jobs> = Vec::new();
    let (mut by, mut cut) = (Vec::new(), None);
    for deny in denies {
        let denied = world.denied(&deny.conditions)?;
        let Some(witness) = world.first_witness(&boxes::meet(&granted, &denied)?)? else { continue };
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
    Ok(match (world.first_witness(&left)?, cut) {
        (None, _) => Verdict::Denied(by),
        (Some(_), Some((name, witness))) => Verdict::Cut(name, witness),
        (Some(_), None) => Verdict::Free,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::*,
        lang::pattern::{Lang, Segments},
        workload::{Claim, Profiles},
    };
    use Claim as C;
    use proptest::{prelude::*, sample::subsequence};

    fn asked() -> Vec<Condition> {
        let glob = |claim, pattern| condition(claim, Test::Text(Lang::glob(pattern, Segments::Path, false).unwrap()));
        let owner = |name: &str, id: &str| Test::Owner([(name.to_owned(), id.to_owned())].into_iter().collect());
        vec![
            repositories(&[("acme/api", "1")]),
            repositories(&[("acme-labs/api", "2")]),
            condition(C::RepositoryOwner, owner("acme", "65")),
            text(C::Branch, &["main"]),
            glob(C::Branch, "release/*"),
            glob(C::Ref, "refs/tags/**"),
            text(C::RefType, &["tag"]),
            condition(C::RefProtected, Test::Is(true)),
            events(),
            text(C::EventName, &["pull_request"]),
            text(C::HeadRef, &["x"]),
            text(C::Environment, &["production"]),
            text(C::RunnerEnvironment, &["self-hosted"]),
            text(C::RunnerEnvironment, &["github-hosted"]),
            condition(C::JobWorkflowRepository, Test::SameRepository),
            text(C::JobWorkflowRef, &["refs/heads/main"]),
        ]
    }

    fn denied() -> Vec<Condition> {
        let owner = |name: &str, id: &str| {
            condition(C::RepositoryOwner, Test::Owner([(name.to_owned(), id.to_owned())].into_iter().collect()))
        };
        vec![
            text(C::RunnerEnvironment, &["self-hosted"]),
            text(C::Branch, &["main"]),
            owner("acme", "65"),
            owner("acme-labs", "9917"),
            text(C::Environment, &["staging"]),
            condition(C::RefProtected, Test::Is(false)),
            // GitHub's tokens never say it.
            condition(C::EnvironmentProtected, Test::Is(false)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// What reaches a job without a proof reaches one by the proof.
        #[test]
        fn what_plainly_reaches_a_job_is_proven_to(
            asked in subsequence(asked(), 0..=5),
            denied in proptest::collection::vec(subsequence(denied(), 1..=2), 0..=2),
        ) {
            let profiles = Profiles::builtin();
            let mut builder = Builder::new().mapping("m", "r", asked.clone());
            for (at, conditions) in denied.into_iter().enumerate() {
                builder = builder.deny(&format!("d{at}"), &["r"], conditions);
            }
            let mut set = builder.build();
            set.issuers[0].owners.insert("acme-labs".to_owned(), "9917".to_owned());
            let denies: Vec<&Deny> = set.denies.iter().collect();
            let profile = profiles.get("github-actions").unwrap();
            if plain::reaches(profile, &asked, &denies) {
                let world = World::new(profile, &set.issuers[0]).unwrap();
                let verdict = judge(&world, &asked, &denies);
                // A job with the name of one owner and the id of another is no job, but the boxes hold it.
                let reached = matches!(verdict, Ok(Verdict::Free | Verdict::Cut(..)));
                prop_assert!(reached, "{asked:?} {denies:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
        /// Repositories that are told apart by nothing but their pairs come out alike.
        #[test]
        fn one_repository_stands_for_its_like(
            asked in subsequence(asked().split_off(2), 0..=4),
            denied in proptest::collection::vec(subsequence(denied(), 1..=2), 0..=2),
            names in subsequence(vec!["acme/api", "acme/web", "acme-labs/api", "acme/two words"], 1..=3),
            foreign in any::<bool>(),
        ) {
            let mut builder = Builder::new().mapping("m", "r", []);
            for (at, conditions) in denied.into_iter().enumerate() {
                builder = builder.deny(&format!("d{at}"), &["r"], conditions);
            }
            if foreign {
                builder = builder.deny("named", &["r"], [text(C::Repository, &["acme/web"])]);
            }
            let mut set = builder.build();
            set.issuers[0].owners.insert("acme-labs".to_owned(), "9917".to_owned());
            let profiles = Profiles::builtin();
            let world = World::new(profiles.get("github-actions").unwrap(), &set.issuers[0]).unwrap();
            let denies: Vec<&Deny> = set.denies.iter().collect();
            let told = |verdict: Result<Verdict, Undecided>| match verdict {
                Ok(Verdict::Cut(by, _)) => format!("cut by {by}"),
                Ok(Verdict::Denied(by)) => format!("denied by {by:?}"),
                Ok(Verdict::Nowhere) => "nowhere".to_owned(),
                Ok(Verdict::Free) => "free".to_owned(),
                Ok(Verdict::Undecided) | Err(_) => "undecided".to_owned(),
            };
            let mut by_key: HashMap<Vec<(ClaimKey, Test)>, String> = HashMap::new();
            for first in 0..names.len() {
                let pairs: Vec<(String, String)> =
                    (first..names.len()).map(|at| (names[at].to_owned(), at.to_string())).collect();
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
                let own: Vec<Condition> = [repositories(&pairs)].into_iter().chain(asked.clone()).collect();
                let alike = Alike::of(&world, own.iter(), denies.iter().flat_map(|deny| &deny.conditions));
                let whole = told(judge(&world, &own, &denies));
                prop_assert_eq!(&told(judge(&world, &alike.conditions, &denies)), &whole, "{:?}", own);
                prop_assert_eq!(by_key.entry(alike.key).or_insert_with(|| whole.clone()), &whole, "{:?}", own);
            }
        }
    }
}
