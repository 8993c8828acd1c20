//! The algebra against the evaluator, job by job.

use super::*;
use crate::{
    fixture::*,
    lang::pattern::Segments,
    mapping::{MappingSet, possible_roles},
    review::Job,
    time::UnixSeconds,
    workload::{Case, Profiles, from_canonical},
};
use Claim as C;
use proptest::prelude::*;
use std::{borrow::Cow, sync::LazyLock};

pub(in crate::review) static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

fn world(profile: &str) -> World<'static> {
    let set = Builder::new().build();
    let issuer = if profile == "gitlab" { 1 } else { 0 };
    World::new(PROFILES.get(profile).unwrap(), &set.issuers[issuer]).unwrap()
}

pub(in crate::review) fn case(profile: &str, given: &Job) -> Option<Case<'static>> {
    let claims: Vec<(Claim, Cow<'_, str>)> =
        given.claims.iter().map(|(claim, text)| (*claim, text.as_str().into())).collect();
    let mut principal = from_canonical(PROFILES.get(profile).unwrap(), "github", &claims).ok()?;
    let raw = serde_json::Value::Object(given.raw.clone()).to_string();
    principal.raw = crate::claims::Claims::parse(raw.as_bytes()).unwrap().into_owned();
    Some(Case::alone(principal))
}

/// Every job over a few values, in which tokens carry what they must.
pub(in crate::review) static JOBS: LazyLock<Vec<Case<'static>>> = LazyLock::new(|| {
    let axes: [(&[Claim], &[&[&str]]); 7] = [
        (&[C::Repository], &[&["acme/api"], &["Acme/web"]]),
        (&[C::RepositoryId], &[&["1"], &["2"]]),
        (&[C::Ref], &[&[], &["refs/heads/main"], &["refs/tags/v1"], &["refs/pull/7/merge"]]),
        (&[C::EventName], &[&["push"], &["pull_request"]]),
        (&[C::HeadRef], &[&[], &["x"]]),
        (
            &[C::JobWorkflowRepository, C::JobWorkflowFile, C::JobWorkflowRef],
            &[&[], &["acme/API", "a.yml", "refs/heads/main"], &["acme/ci", "a.yml", "refs/heads/main"]],
        ),
        (&[C::RunnerEnvironment], &[&[], &["self-hosted"]]),
    ];
    let mut given: Vec<Vec<(Claim, String)>> = vec![vec![(C::RepositoryOwnerId, "65".to_owned())]];
    for (claims, values) in axes {
        let with = |job: &Vec<(Claim, String)>, values: &[&str]| {
            let more = claims.iter().zip(values).map(|(claim, value)| (*claim, (*value).to_owned()));
            job.iter().cloned().chain(more).collect()
        };
        given = given.iter().flat_map(|job| values.iter().map(move |values| with(job, values))).collect();
    }
    let jobs: Vec<_> = given.iter().filter_map(|given| case("github-actions", &given.clone().into())).collect();
    assert_eq!(jobs.len(), given.len(), "no job contradicts itself");
    jobs
});

/// One side: mappings and denies of one role.
#[derive(Clone, Default, Debug)]
struct Side {
    mappings: Vec<Vec<Condition>>,
    denies: Vec<Vec<Condition>>,
}

impl Side {
    fn set(&self) -> MappingSet {
        let mut builder = Builder::new();
        builder.role("r");
        for (at, conditions) in self.mappings.iter().enumerate() {
            builder = builder.mapping(&format!("m{at}"), "r", conditions.clone());
        }
        for (at, conditions) in self.denies.iter().enumerate() {
            builder = builder.deny(&format!("d{at}"), &["r"], conditions.clone());
        }
        builder.build()
    }
    fn access(&self, world: &World<'_>) -> Access {
        let union = |boxes: Vec<Result<Vec<Jobs>, Undecided>>| boxes.into_iter().flat_map(Result::unwrap).collect();
        Access {
            granted: union(self.mappings.iter().map(|conditions| world.granted(conditions)).collect()),
            denied: union(self.denies.iter().map(|conditions| world.denied(conditions)).collect()),
        }
    }
}

fn gives(set: &MappingSet, case: &Case<'_>) -> bool {
    !possible_roles(set, case, UnixSeconds(0)).is_empty()
}

/// Gains that hold a job, with the job.
fn gains(world: &World<'_>, before: &Side, after: &Side) -> Vec<Job> {
    let gains = gain(&before.access(world), &after.access(world)).unwrap();
    gains.iter().filter_map(|jobs| world.witness(jobs).unwrap()).collect()
}

fn one_sided(mapping: Vec<Condition>, denies: Vec<Vec<Condition>>) -> Side {
    Side { mappings: vec![mapping], denies }
}

fn glob(claim: Claim, pattern: &str) -> Condition {
    let fold = claim.kind() == Kind::Name;
    condition(claim, Test::Text(Lang::glob(pattern, Segments::Path, fold).unwrap()))
}

fn ignoring(condition: Condition) -> Condition {
    Condition { if_unknown_ignore: true, ..condition }
}

fn absent(claim: Claim) -> Condition {
    condition(claim, Test::Absent)
}
fn present(claim: Claim) -> Condition {
    condition(claim, Test::Present)
}
fn same() -> Condition {
    condition(C::JobWorkflowRepository, Test::SameRepository)
}

/// (conditions, denies) before and after; the job that gains, if any.
#[test]
fn what_one_side_has_that_the_other_has_not() {
    let pin = || repositories(&[("acme/api", "1"), ("acme/web", "2")]);
    let world = world("github-actions");
    type Case = (Vec<Condition>, Vec<Vec<Condition>>, Vec<Condition>, Vec<Vec<Condition>>, Option<&'static str>);
    let cases: Vec<Case> = vec![
        (vec![pin()], vec![], vec![pin()], vec![], None),
        (vec![pin()], vec![], vec![repositories(&[("acme/api", "1")])], vec![], None),
        (vec![repositories(&[("acme/api", "1")])], vec![], vec![pin()], vec![], Some("acme/web 2")),
        // Pairs are no product: a name with the other's id is neither's.
        (
            vec![pin()],
            vec![],
            vec![text(C::Repository, &["acme/api", "acme/web"]), text(C::RepositoryId, &["1", "2"])],
            vec![],
            Some("acme/api 2"),
        ),
        // A glob that covers another, and one that only nearly does.
        (vec![glob(C::Branch, "**")], vec![], vec![glob(C::Branch, "release/{num}")], vec![], None),
        (
            vec![glob(C::Branch, "release/{num}")],
            vec![],
            vec![glob(C::Branch, "release/*")],
            vec![],
            Some("refs/heads/release/x"),
        ),
        // No branch is empty, and no tag is a branch.
        (vec![glob(C::Branch, "*")], vec![], vec![glob(C::Branch, "**")], vec![vec![glob(C::Branch, "**/**")]], None),
        (vec![absent(C::Branch)], vec![], vec![present(C::Tag)], vec![], None),
        (
            vec![text(C::RefType, &["tag"])],
            vec![],
            vec![glob(C::Ref, "refs/tags/**"), present(C::RefType)],
            vec![],
            None,
        ),
        (vec![glob(C::Ref, "refs/tags/**")], vec![], vec![text(C::RefType, &["tag"])], vec![], Some("tag")),
        // None and unknown before a deny.
        (
            vec![pin()],
            vec![vec![present(C::RunnerEnvironment)]],
            vec![pin()],
            vec![vec![ignoring(present(C::RunnerEnvironment))]],
            Some("acme/api 1"),
        ),
        (
            vec![pin()],
            vec![vec![text(C::Environment, &["p"])]],
            vec![pin()],
            vec![vec![ignoring(text(C::Environment, &["p"]))]],
            None,
        ),
        (
            vec![pin()],
            vec![vec![text(C::RunnerEnvironment, &["a"])]],
            vec![pin(), text(C::RunnerEnvironment, &["b"])],
            vec![],
            None,
        ),
        (
            vec![pin()],
            vec![vec![text(C::RunnerEnvironment, &["a"])]],
            vec![pin()],
            vec![vec![ignoring(text(C::RunnerEnvironment, &["a"]))]],
            Some("acme/api 1"),
        ),
        // `head_ref` is known to be none on a push.
        (
            vec![text(C::EventName, &["push"]), absent(C::HeadRef)],
            vec![],
            vec![text(C::EventName, &["push"])],
            vec![vec![present(C::HeadRef)]],
            None,
        ),
        (
            vec![absent(C::HeadRef)],
            vec![],
            vec![text(C::EventName, &["pull_request"])],
            vec![vec![ignoring(present(C::HeadRef))]],
            Some("pull_request"),
        ),
        // The own repository.
        (
            vec![pin(), same()],
            vec![],
            vec![repositories(&[("acme/api", "1")]), text(C::JobWorkflowRepository, &["ACME/api"])],
            vec![],
            None,
        ),
        (
            vec![pin(), text(C::JobWorkflowRepository, &["acme/api"])],
            vec![],
            vec![pin(), same()],
            vec![],
            Some("acme/web acme/web 2"),
        ),
        (vec![text(C::JobWorkflowRepository, &["acme/api"])], vec![], vec![same()], vec![], Some("x/x")),
        (vec![same()], vec![], vec![present(C::JobWorkflowRepository)], vec![vec![same()]], Some("x/x x/a")),
        // A workflow of one's own is a caller's own by nature.
        (
            vec![present(C::WorkflowFile)],
            vec![],
            vec![condition(C::WorkflowRepository, Test::SameRepository)],
            vec![],
            None,
        ),
        (
            vec![text(C::Repository, &["acme/api"])],
            vec![],
            vec![text(C::WorkflowRepository, &["acme/api"])],
            vec![],
            None,
        ),
        // Strangers get nothing anyway.
        (vec![text(C::RepositoryOwnerId, &["65"])], vec![], vec![], vec![], None),
        (vec![glob(C::Repository, "acme/*")], vec![], vec![text(C::RepositoryOwner, &["acme"])], vec![], None),
        (vec![glob(C::PullRequest, "*")], vec![], vec![glob(C::Ref, "refs/pull/**")], vec![], None),
        (
            vec![text(C::PullRequest, &["7"])],
            vec![],
            vec![glob(C::Ref, "refs/pull/**")],
            vec![],
            Some("refs/pull/0/head"),
        ),
    ];
    for (at, (before, denied, after, denies, expected)) in cases.into_iter().enumerate() {
        let (before, after) = (one_sided(before, denied), one_sided(after, denies));
        let found = gains(&world, &before, &after);
        let Some(expected) = expected else {
            assert!(found.is_empty(), "case {at}: {found:?}");
            continue;
        };
        let shown = |job: &Job| job.claims.iter().map(|(_, value)| value.to_lowercase()).collect::<Vec<_>>().join(" ");
        assert!(
            found.iter().any(|job| {
                let shown = shown(job);
                expected.split(' ').all(|part| shown.contains(part))
            }),
            "case {at}: {found:?}"
        );
        for job in &found {
            let case = case("github-actions", job).expect("a job");
            assert!(gives(&after.set(), &case) && !gives(&before.set(), &case), "case {at}: {job:?}");
        }
    }
}

#[test]
fn a_subject_names_its_repository() {
    let world = world("github-actions");
    let holds = |conditions: Vec<Condition>| {
        let boxes = world.granted(&conditions).unwrap();
        let found = world.witness(&boxes[0]);
        if let Ok(Some(job)) = &found {
            let case = case("github-actions", job).expect("no contradiction");
            assert!(gives(&one_sided(conditions, Vec::new()).set(), &case));
        }
        found.map(|found| found.is_some())
    };
    let api = || text(C::Repository, &["acme/api"]);
    assert_eq!(holds(vec![api(), text(C::Subject, &["repo:acme/api:ref:refs/heads/main"])]), Ok(true));
    assert_eq!(holds(vec![api(), glob(C::Subject, "*")]), Ok(true));
    assert_eq!(holds(vec![text(C::Subject, &["repo:acme/api:x"])]), Ok(true));
    assert_eq!(holds(vec![api(), text(C::Subject, &["repo:acme/web:x"])]), Err(Undecided::Subject));
}

#[test]
fn gitlab_knows_whether_an_environment_is_protected_only_beside_one() {
    let world = world("gitlab");
    let (environment, protected) = (C::Environment, C::EnvironmentProtected);
    let is = |value| condition(protected, Test::Is(value));
    for (before, after, gain) in [
        // An older instance names an environment and says no more: a deny holds there, and no other job differs.
        (vec![vec![is(true)]], vec![vec![ignoring(is(true))]], true),
        (vec![vec![is(true), absent(environment)]], vec![vec![ignoring(is(true)), absent(environment)]], false),
        (vec![vec![is(true), present(environment)]], vec![vec![ignoring(is(true)), present(environment)]], true),
    ] {
        let mapping = || vec![repositories(&[("", "1")]), absent(C::PullRequest)];
        let (before, after) = (one_sided(mapping(), before), one_sided(mapping(), after));
        let found = gains(&world, &before, &after);
        assert_eq!(!found.is_empty(), gain, "{found:?}");
    }
}

#[test]
fn ids_that_are_no_ids_are_no_jobs() {
    let world = world("github-actions");
    for (id, expected) in [
        ("0", true),
        ("01", false),
        ("", false),
        ("x", false),
        ("18446744073709551615", true),
        ("18446744073709551616", false),
        ("18446744073709551609", true),
        ("18446744073709551700", false),
        ("20000000000000000000", false),
        ("9999999999999999999", true),
        ("99999999999999999999", false),
    ] {
        let boxes = world.granted(&[text(C::RunId, &[id])]).unwrap();
        assert_eq!(world.witness(&boxes[0]).unwrap().is_some(), expected, "{id}");
        assert_eq!(PROFILES.get("github-actions").unwrap().id_is_valid(id), expected, "{id}");
    }
}

#[test]
fn a_great_many_repositories_are_subtracted_and_too_many_are_not() {
    let world = world("github-actions");
    let pairs = |ids: std::ops::Range<u32>| {
        let pairs: Vec<(String, String)> = ids.map(|id| (format!("acme/r{id}"), id.to_string())).collect();
        condition(C::Repository, Test::Repository(pairs.into_iter().collect()))
    };
    let access = |condition: Condition| Access { granted: world.granted(&[condition]).unwrap(), denied: Vec::new() };
    let (few, more) = (access(pairs(1..150)), access(pairs(1..151)));
    assert!(gain(&more, &few).unwrap().is_empty());
    let found = gain(&few, &more).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(world.witness(&found[0]).unwrap().unwrap().claims[1], (C::RepositoryId, "150".to_owned()));
    let all = condition(
        C::Repository,
        Test::Repository((0..=BOXES_MAX).map(|at| (format!("a/{at}"), at.to_string())).collect()),
    );
    assert_eq!(world.granted(&[all]).unwrap_err(), Undecided::Boxes);
    let wide = |letters: &str| glob(C::Environment, &format!("**{letters}").repeat(60));
    assert!(matches!(world.granted(&[wide("ab"), wide("cd"), wide("ef")]), Err(Undecided::Pattern(_))));
}

pub(in crate::review) fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let id = || prop::sample::select(vec!["1", "2"]);
    let name = || prop::sample::select(vec!["acme/api", "ACME/web", "acme/ci", ""]);
    let claim = prop::sample::select(vec![
        C::Branch,
        C::Tag,
        C::PullRequest,
        C::HeadRef,
        C::RefType,
        C::RunnerEnvironment,
        C::JobWorkflowRepository,
        C::Ref,
        C::RefProtected,
        C::WorkflowRepository,
    ]);
    let one = prop_oneof![
        2 => prop::collection::vec((name(), id()), 1..3).prop_map(|pairs| repositories(&pairs)),
        1 => id().prop_map(|id| text(C::RepositoryId, &[id])),
        1 => id().prop_map(|id| condition(C::Repository, Test::ById([("acme/api".to_owned(), id.to_owned())].into_iter().collect()))),
        2 => name().prop_map(|name| text(C::Repository, &[name])),
        1 => (prop::sample::select(vec!["acme", "other"]), prop::sample::select(vec!["65", "66"])).prop_map(|(name, id)| {
            condition(C::RepositoryOwner, Test::Owner([(name.to_owned(), id.to_owned())].into_iter().collect()))
        }),
        1 => Just(glob(C::RepositoryOwner, "a*")),
        4 => (claim, any::<bool>()).prop_map(|(claim, is)| if is { present(claim) } else { absent(claim) }),
        1 => prop::sample::select(vec!["main", "m*", "**", "{num}"]).prop_map(|pattern| glob(C::Branch, pattern)),
        1 => prop::sample::select(vec!["v{num}", "v*"]).prop_map(|pattern| glob(C::Tag, pattern)),
        1 => prop::sample::select(vec!["push", "pull_request"]).prop_map(|event| text(C::EventName, &[event])),
        1 => prop::sample::select(vec!["branch", "tag"]).prop_map(|kind| text(C::RefType, &[kind])),
        1 => Just(text(C::PullRequest, &["7"])),
        1 => Just(text(C::HeadRef, &["x"])),
        1 => Just(text(C::RunnerEnvironment, &["self-hosted"])),
        2 => Just(same()),
        1 => Just(condition(C::WorkflowRepository, Test::SameRepository)),
        2 => name().prop_map(|name| text(C::JobWorkflowRepository, &[name])),
        1 => Just(condition(C::RefProtected, Test::Is(true))),
        1 => Just(text(C::RefProtected, &["true"])),
        1 => Just(condition(C::Ref, Test::Is(true))),
    ];
    let one = (one, any::<bool>()).prop_map(|(one, ignore)| Condition { if_unknown_ignore: ignore, ..one });
    prop::collection::vec(one, 0..4)
}

fn side() -> impl Strategy<Value = Side> {
    let union = |most| prop::collection::vec(conditions(), 0..most);
    (union(4), union(3)).prop_map(|(mappings, denies)| Side { mappings, denies })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A job that gains is in a box, and every box that claims to hold a job shows one that gains.
    #[test]
    fn a_gain_is_what_the_evaluator_says(before in side(), after in side()) {
        let world = world("github-actions");
        let access = [before.access(&world), after.access(&world)];
        let (old, new) = (before.set(), after.set());
        let found = gain(&access[0], &access[1]).unwrap();
        let mut shown = false;
        for jobs in &found {
            if let Some(job) = world.witness(jobs).unwrap() {
                let case = case("github-actions", &job).expect("a job that does not contradict itself");
                prop_assert!(gives(&new, &case) && !gives(&old, &case), "{:?} of {:?}", job, jobs);
                shown = true;
            }
        }
        let missed = JOBS.iter().find(|case| gives(&new, case) && !gives(&old, case));
        prop_assert!(shown || missed.is_none(), "{:?}", missed);
    }
}
