//! The comparison against the evaluator, job by job; its bounds; what it looks at.

use super::*;
use crate::{
    fixture::*,
    lang::{
        pattern::{Lang, Segments},
        space::Gaps,
    },
    mapping::{Ask, Condition, Decision, Limit, Mapping, Test, decide},
    review::{
        boxes::{
            Axis, Jobs,
            tests::{JOBS, conditions},
        },
        overlap,
    },
    time::{Seconds, UnixSeconds},
    workload::{Case, Claim, Claim as C, Presence, Text},
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::cell::Cell;

const ROLES: [&str; 2] = ["r", "s"];

/// Builds a set whose issuers have the built-in profiles that their names mean.
fn built(builder: Builder) -> MappingSet {
    let mut set = builder.build();
    set.issuers[0].profile = "github-actions".to_owned();
    set.finish()
}

fn side<'a>(set: &'a MappingSet, profiles: &'a Profiles, folder: &'a Folder) -> Side<'a> {
    Side { folder, set, profiles }
}

fn compared(before: &MappingSet, after: &MappingSet) -> Result<Diff, Box<Unconfirmed>> {
    let (profiles, folder) = (Profiles::builtin(), Folder::default());
    diff(side(before, &profiles, &folder), side(after, &profiles, &folder))
}

fn differs(before: Builder, after: Builder) -> Diff {
    compared(&built(before), &built(after)).unwrap()
}

/// Whether a job is in a box.
fn holds(jobs: &Jobs, case: &Case<'_>) -> bool {
    let presence = |claim: Claim| case.principal.get(claim);
    jobs.iter().all(|(axis, domain)| match axis {
        Axis::Raw(_) | Axis::Actor(_) => unreachable!("no condition here is on one"),
        Axis::Claim(claim) => match presence(claim) {
            Presence::Present(Text::Text(text)) => domain.allows(text),
            Presence::Present(Text::Boolean(value)) => domain.allows(if *value { "true" } else { "false" }),
            Presence::None => domain.gaps.has(Gaps::NONE),
            Presence::Unknown => domain.gaps.has(Gaps::UNKNOWN),
        },
        Axis::Own(claim) => {
            let text = |claim| match presence(claim) {
                Presence::Present(Text::Text(text)) => Some(text.to_ascii_lowercase()),
                _ => None,
            };
            let own = text(claim).is_some() && text(claim) == text(C::Repository);
            domain.allows(if own { "true" } else { "false" })
        }
    })
}

fn stranger(set: &MappingSet, case: &Case<'_>) -> bool {
    !set.issuers[0].lists_owner_of(&case.principal)
}

/// The mapping that gives a role, by brute force, and how long.
fn given<'s>(set: &'s MappingSet, case: &Case<'_>, role: &str) -> Option<(&'s Mapping, Seconds)> {
    match decide(set, case, &Ask { role: Some(role), ..Ask::default() }, UnixSeconds(0)) {
        Decision::Grant(grant) if !stranger(set, case) => Some((set.mapping(grant.mapping), grant.duration)),
        _ => None,
    }
}

fn soak() -> bool {
    std::env::var_os("CLAIMBOUND_SOAK").is_some_and(|soak| soak == "1")
}

/// Conditions, roles, minutes, grants per hour.
type SmallMapping = (Vec<Condition>, &'static [&'static str], Option<u32>, Option<u32>);

/// A small folder.
#[derive(Clone, Debug)]
struct Small {
    mappings: Vec<SmallMapping>,
    denies: Vec<(Vec<Condition>, &'static [&'static str])>,
    require: Vec<Condition>,
    owned: bool,
}

impl Small {
    fn set(&self) -> MappingSet {
        let mut builder = Builder::new();
        ROLES.iter().for_each(|role| {
            builder.role(role);
        });
        for (at, (conditions, roles, minutes, per_hour)) in self.mappings.iter().enumerate() {
            builder = builder.mapping_of(0, &format!("m{at}"), roles, conditions.clone()).with(|mapping| {
                mapping.max_duration = minutes.map(|minutes| Seconds(minutes * 60));
                mapping.limit = per_hour.map(|most| Limit { per_hour: Some(most), ..Limit::default() });
            });
        }
        for (at, (conditions, roles)) in self.denies.iter().enumerate() {
            builder = builder.deny(&format!("d{at}"), roles, conditions.clone());
        }
        let mut set = builder.require("s", self.require.clone()).build();
        set.issuers[0].profile = "github-actions".to_owned();
        if !self.owned {
            set.issuers[0].owners = [("other".to_owned(), "66".to_owned())].into();
        }
        set.finish()
    }
}

fn small() -> impl Strategy<Value = Small> {
    let roles = || prop::sample::select(vec![&["r"][..], &["s"], &["r", "s"]]);
    let minutes = || prop::option::of(prop::sample::select(vec![15, 30]));
    let mapping = (conditions(), roles(), minutes(), prop::option::weighted(0.2, 1..3_u32));
    (
        prop::collection::vec(mapping, 1..4),
        prop::collection::vec((conditions(), roles()), 0..3),
        prop_oneof![4 => Just(Vec::new()), 1 => conditions()],
        prop::bool::weighted(0.95),
    )
        .prop_map(|(mappings, denies, require, owned)| Small { mappings, denies, require, owned })
}

/// Two folders, often nearly the same.
fn pair() -> impl Strategy<Value = (Small, Small)> {
    let edited = (small(), small(), 0..6_usize).prop_map(|(before, other, edit)| {
        let mut after = before.clone();
        match edit {
            0 => after.mappings[0] = other.mappings[0].clone(),
            1 => after.mappings.extend(other.mappings.into_iter().take(1)),
            2 => after.denies = other.denies,
            3 => after.require = other.require,
            4 => after.mappings[0].2 = other.mappings[0].2,
            _ => after.owned = other.owned,
        }
        (before, after)
    });
    prop_oneof![1 => (small(), small()), 3 => edited]
}

/// Eighty pairs, with `CLAIMBOUND_SOAK=1` five hundred. Those with overlaps do not load and do not
/// count.
#[test]
fn gains_losses_and_terms_are_what_the_evaluator_says_of_every_job() {
    let cases = if soak() { 500 } else { 80 };
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_global_rejects: cases * 40,
        ..ProptestConfig::default()
    };
    let seen = Cell::new([0_u32; 4]);
    let count = |kind: usize| {
        let mut now = seen.get();
        now[kind] += 1;
        seen.set(now);
    };
    let run = TestRunner::new(config).run(&pair(), |(before, after)| {
        let (old, new) = (before.set(), after.set());
        prop_assume!(overlap::check(&old).is_empty() && overlap::check(&new).is_empty());
        let told = compared(&old, &new).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&told.undecided, &[]);
        for case in JOBS.iter() {
            for role in ROLES {
                let in_box = |kind| {
                    told.boxes.iter().any(|(other, _, named, boxes)| {
                        (*other, named.as_str()) == (kind, role) && boxes.iter().any(|jobs| holds(jobs, case))
                    })
                };
                let (was, is) = (given(&old, case, role), given(&new, case, role));
                let terms = match (was, is) {
                    (Some((a, before)), Some((b, after))) => before != after || a.limit != b.limit,
                    _ => false,
                };
                for (nth, (kind, expected)) in [
                    (Kind::Gain, was.is_none() && is.is_some()),
                    (Kind::Loss, was.is_some() && is.is_none()),
                    (Kind::Terms, terms),
                ]
                .into_iter()
                .enumerate()
                {
                    prop_assert_eq!(in_box(kind), expected, "{:?} of {} for {:?}", kind, role, case);
                    if expected {
                        count(nth);
                    }
                }
            }
        }
        if told.is_none() {
            count(3);
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    assert!(seen.get().iter().all(|count| *count > 3), "each kind was met: {:?}", seen.get());
}

fn pin() -> Condition {
    repositories(&[("acme/API", "1")])
}
fn glob(claim: Claim, pattern: &str) -> Condition {
    condition(claim, Test::Text(Lang::glob(pattern, Segments::Path, false).unwrap()))
}

#[test]
fn a_change_is_told_in_words_with_a_job_that_shows_it() {
    let on = |branches: &[&str]| Builder::new().mapping("a", "r", [pin(), text(C::Branch, branches)]);
    let told = differs(on(&["main"]), on(&["main", "dev"]));
    assert_eq!(told.summary(), "1 gain");
    let [gain] = &*told.changes else { panic!("{told:?}") };
    assert_eq!(gain.repositories, [("acme/API".to_owned(), "1".to_owned())], "as it is written");
    assert_eq!(gain.jobs, [[("branch".to_owned(), "`dev`".to_owned())]]);
    assert_eq!(gain.examples[0].after.to_string(), "granted by `a`");
    assert_eq!(gain.examples[0].before.to_string(), "refused (no_mapping)");
    assert!(gain.examples[0].job.claims.contains(&(C::Ref, "refs/heads/dev".to_owned())));
    assert!(told.widens() && !told.is_none());

    let told = differs(on(&["main", "dev"]), on(&["main"]));
    assert_eq!((told.summary().as_str(), told.widens()), ("1 loss", false));
    // Written otherwise, and the same.
    let told = differs(on(&["main"]), on(&["main"]).with(|mapping| mapping.name = "b".to_owned()));
    assert_eq!((told.summary().as_str(), told.is_none()), ("no change in access", true));
    assert_eq!(told.work.mappings, 2, "it was proven, not assumed");
}

#[test]
fn equal_changes_of_many_repositories_and_roles_are_one() {
    let side = |branch: &str, more: bool| {
        let mut builder = Builder::new();
        for at in 0..40 {
            let (name, id) = (format!("acme/r{at}"), at.to_string());
            let conditions = [repositories(&[(&name, &id)]), text(C::Branch, &["main", branch])];
            builder = builder.mapping_of(0, &format!("m{at}"), &["r", "s"], conditions);
        }
        if more { builder.mapping("x", "r", [repositories(&[("acme/x", "99")])]) } else { builder }
    };
    let told = differs(side("main", false), side("dev", true));
    assert_eq!(told.summary(), "2 gains");
    let many = told.changes.iter().find(|change| change.repositories.len() == 40).unwrap();
    assert_eq!((&many.roles, many.mappings[1].len()), (&vec!["r".to_owned(), "s".to_owned()], 40));
    assert_eq!(many.examples.len(), EXAMPLES_MAX);
}

#[test]
fn terms_are_compared_field_by_field() {
    let with = |change: fn(&mut Mapping)| Builder::new().mapping("a", "r", [pin()]).with(change);
    type Change = fn(&mut Mapping);
    type Terms = &'static [(&'static str, Direction)];
    let cases: [(Change, Change, Terms); 8] = [
        (|m| m.max_duration = Some(Seconds(600)), |_| {}, &[("max_duration", Direction::Wider)]),
        (|_| {}, |m| m.max_duration = Some(Seconds(600)), &[("max_duration", Direction::Narrower)]),
        (|_| {}, |m| m.max_duration = Some(Seconds(9999)), &[]),
        (|m| m.duration = Some(Seconds(60)), |m| m.duration = Some(Seconds(90)), &[("duration", Direction::Wider)]),
        (
            |m| m.limit = Some(Limit { per_run: Some(1), ..Limit::default() }),
            |m| m.limit = Some(Limit { per_hour: Some(9), ..Limit::default() }),
            &[("limit.per_run", Direction::Wider), ("limit.per_hour", Direction::Narrower)],
        ),
        (
            |m| m.max_session = Some(Seconds(600)),
            |m| m.max_session = Some(Seconds(900)),
            &[("max_session", Direction::Wider)],
        ),
        (|_| {}, |m| m.max_session = Some(Seconds(900)), &[("max_session", Direction::NotComparable)]),
        (|m| m.max_session = Some(Seconds(900)), |_| {}, &[("max_session", Direction::NotComparable)]),
    ];
    for (at, (before, after, expected)) in cases.into_iter().enumerate() {
        let told = differs(with(before), with(after));
        let terms: Vec<_> =
            told.changes.iter().flat_map(|c| &c.terms).map(|term| (term.name.as_str(), term.direction)).collect();
        assert_eq!(terms, expected, "case {at}");
        assert_eq!(told.changes.len(), usize::from(!expected.is_empty()));
        let wide = expected.iter().any(|(_, direction)| *direction != Direction::Narrower);
        assert_eq!(told.widens(), wide, "case {at}");
    }
}

#[test]
fn what_a_role_gives_is_a_term_of_its_jobs() {
    let set = |kind: &'static str, values: &[(&str, &str)], policy: &str| {
        let mut set = built(Builder::new().mapping("a", "r", [pin()]));
        let span = || span("roles/a.toml", 0);
        set.roles[0].kind = kind;
        set.roles[0].parameters.values =
            values.iter().map(|(key, value)| (key.to_string(), ((*value).into(), span()))).collect();
        set.policies = [("policies/p.json".to_owned(), policy.into())].into();
        set
    };
    let policy = ("session_policy", "policies/p.json");
    for (before, after, expected) in [
        (set("jwt", &[("audience", "a")], ""), set("jwt", &[("audience", "a")], "x"), None),
        (
            set("jwt", &[("audience", "a")], ""),
            set("jwt", &[("audience", "b")], ""),
            Some(("jwt.audience", Direction::NotComparable)),
        ),
        (set("aws", &[policy], "{}"), set("aws", &[], "{}"), Some(("aws.session_policy", Direction::Wider))),
        (set("aws", &[], "{}"), set("aws", &[policy], "{}"), Some(("aws.session_policy", Direction::Narrower))),
        (
            set("aws", &[policy], "{}"),
            set("aws", &[policy], "[]"),
            Some(("aws.session_policy", Direction::NotComparable)),
        ),
    ] {
        let told = compared(&before, &after).unwrap();
        let term = told.changes.first().map(|change| (change.terms[0].name.as_str(), change.terms[0].direction));
        assert_eq!(term, expected);
        assert_eq!(told.widens(), expected.is_some_and(|(_, direction)| direction != Direction::Narrower));
    }
}

#[test]
fn issuers_and_owners_come_and_go() {
    let mapped = || Builder::new().mapping("a", "r", [text(C::RepositoryOwner, &["acme", "labs"])]);
    let before = built(mapped());
    let mut owner = before.clone();
    owner.issuers[0].owners.insert("labs".to_owned(), "77".to_owned());
    let told = compared(&before, &owner).unwrap();
    assert_eq!(told.summary(), "1 gain");
    assert_eq!(told.rules, ["issuer `github` lists a new owner, `labs` (77)"]);
    assert_eq!(compared(&owner, &before).unwrap().summary(), "1 loss");

    let mut renamed = before.clone();
    renamed.issuers[0].name = "hub".into();
    let told = compared(&before, &renamed.finish()).unwrap();
    assert!(told.is_none(), "one URL, one issuer: {told:?}");
    assert_eq!(told.rules, ["issuer `github` is now called `hub`"]);

    let mut moved = before.clone();
    moved.issuers[0].url = "https://else.example".to_owned();
    assert_eq!(compared(&before, &moved).unwrap().summary(), "1 gain, 1 loss");

    let mut other = before.clone();
    other.issuers[0].profile = "gitlab".to_owned();
    let told = compared(&before, &other).unwrap();
    assert_eq!(told.summary(), "1 undecided");
    assert!(told.widens() && told.undecided[0].why.contains("profile"));
}

#[test]
fn hard_cases_are_undecided_within_bounds_and_never_no_change() {
    let wide = |letters: &str| glob(C::Environment, &format!("**{letters}").repeat(60));
    let one = |conditions: Vec<Condition>| Builder::new().mapping("a", "r", conditions);
    // Automata that grow beyond their bound.
    let told = differs(one(vec![pin(), wide("ab")]), one(vec![pin(), wide("ab"), wide("cd"), wide("ef")]));
    assert!(!told.undecided.is_empty() && !told.is_none() && told.widens());
    assert_eq!(
        (told.undecided[0].mappings.as_slice(), &told.undecided[0].roles[..]),
        (&["a".to_owned()][..], &["r".to_owned()][..])
    );
    // Denies that cut a mapping into ever more pieces.
    let claims = [
        C::Environment,
        C::RunnerEnvironment,
        C::Initiator,
        C::WorkflowFile,
        C::RepositoryVisibility,
        C::HeadRef,
        C::BaseRef,
        C::Sha,
    ];
    let mut many = one(vec![pin()]);
    for bit in 0..6 {
        let values: Vec<String> = (0..64_u32).filter(|at| at >> bit & 1 == 1).map(|at| format!("v{at}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        many = many.deny(&format!("d{bit}"), &["r"], claims.map(|claim| text(claim, &values)));
    }
    let told = differs(Builder::new(), many);
    assert_eq!(told.summary(), "1 undecided", "{told:?}");
    // More unpinned mappings than can be compared with each other.
    let unpinned = |letter: &str| {
        let mut builder = Builder::new();
        for at in 0..2_500 {
            builder = builder.mapping(&format!("m{at}"), "r", [text(C::Branch, &[&format!("{letter}{at}")])]);
        }
        builder
    };
    let told = differs(unpinned("a"), unpinned("b"));
    assert!(told.undecided.iter().any(|unsure| unsure.why.contains("steps")), "{:?}", told.undecided);
    // The bound is looked at between mappings: one may go over it by its own neighbours.
    assert!(told.work.comparisons <= crate::review::boxes::STEPS_MAX + 5_000, "{:?}", told.work);
}

/// Twenty thousand mappings of two hundred roles (a hundred thousand with `CLAIMBOUND_SOAK=1`), three of them edited:
/// little is looked at.
#[test]
fn three_edits_among_many_mappings_touch_only_their_own_groups() {
    let mappings = if soak() { 100_000 } else { 20_000 };
    let side = |edited: bool| {
        let mut builder = Builder::new();
        for at in 0..mappings {
            let (id, role) = (at.to_string(), format!("r{}", at % 200));
            let branch = if edited && [7, 7_007, 19_999].contains(&at) { "dev" } else { "main" };
            let conditions = [repositories(&[(&format!("acme/r{at}"), &id)]), text(C::Branch, &[branch]), events()];
            builder = builder.mapping(&id, &role, conditions);
        }
        builder.deny("d", &["r7"], [text(C::RunnerEnvironment, &["self-hosted"])])
    };
    let (before, after) = (built(side(false)), built(side(true)));
    let told = compared(&before, &after).unwrap();
    assert_eq!((told.of(Kind::Gain).count() > 0, told.of(Kind::Loss).count() > 0), (true, true));
    let touched: usize = told.of(Kind::Gain).map(|change| change.repositories.len()).sum();
    assert_eq!(touched, 3, "{told:?}");
    assert_eq!((told.work.groups, told.work.mappings, told.work.neighbours), (2, 6, 6), "{:?}", told.work);
    assert!(told.work.comparisons < 100, "{:?}", told.work);
}

#[test]
fn one_repository_more_in_a_long_set_is_one_gain() {
    let set = |count: usize| {
        let pairs: Vec<(String, String)> = (0..count).map(|at| (format!("acme/r{at}"), at.to_string())).collect();
        Builder::new().mapping(
            "a",
            "r",
            [condition(C::Repository, Test::Repository(pairs.into_iter().collect())), text(C::Branch, &["main"])],
        )
    };
    let told = differs(set(3_000), set(3_001));
    let [gain] = &*told.changes else { panic!("{told:?}") };
    assert_eq!(gain.repositories, [("acme/r3000".to_owned(), "3000".to_owned())]);
    assert!(told.work.comparisons < 10_000, "each is compared with its own: {:?}", told.work);
}

/// A set whose second issuer is a GitLab of one's own: of whose jobs the actors are.
fn acted(builder: Builder) -> MappingSet {
    let mut set = built(builder);
    set.issuers[1].multi_tenant = false;
    set.finish()
}

fn told_of_actors(before: Builder, after: Builder) -> Vec<(Kind, bool, Vec<String>)> {
    let told = compared(&acted(before), &acted(after)).unwrap();
    assert_eq!(told.undecided, []);
    let one = |change: &Change| {
        let acting = change.jobs.iter().all(|shape| shape.iter().any(|(claim, _)| claim == "actor.issuer"));
        assert!(change.examples.iter().all(|example| example.actor.is_some() == acting), "{change:?}");
        let terms = change.terms.iter().map(|term| format!("{} {}", term.name, term.direction));
        (change.kind, acting, terms.collect())
    };
    told.changes.iter().map(one).collect()
}

/// Who may act is an axis like another: what is gained, lost or changed is told of those for whom somebody acts alone.
#[test]
fn what_changes_in_who_acts_is_told() {
    let plain = || Builder::new().mapping("a", "r", [repositories(&[("acme/api", "1")]), text(C::Branch, &["main"])]);
    let bot = |ids: &[&str]| [text(C::RepositoryId, ids), text(C::Branch, &["main"])];
    let may = |ids: &[&str], depth| plain().acting(1, false, depth, bot(ids));
    let must = |ids: &[&str]| plain().acting(1, true, 1, bot(ids));
    let (gain, loss) = (|| (Kind::Gain, true, vec![]), || (Kind::Loss, true, vec![]));
    assert_eq!(told_of_actors(may(&["7"], 1), may(&["7"], 1)), []);
    assert_eq!(told_of_actors(plain(), may(&["7"], 1)), [gain()], "gained");
    assert_eq!(told_of_actors(may(&["7"], 1), plain()), [loss()], "lost");
    assert_eq!(told_of_actors(may(&["7"], 1), may(&["7", "8"], 1)), [gain()], "wider");
    assert_eq!(told_of_actors(may(&["7", "8"], 1), may(&["7"], 1)), [loss()], "narrower");
    assert_eq!(told_of_actors(may(&["7"], 1), may(&["8"], 1)), [gain(), loss()], "another");
    assert_eq!(told_of_actors(may(&["7"], 1), must(&["7"])), [(Kind::Loss, false, vec![])], "no more by itself");
    let deeper = told_of_actors(may(&["7"], 1), may(&["7"], 3));
    assert_eq!(deeper, [(Kind::Terms, true, vec!["actor.max_depth wider".to_owned()])]);
    let onward = |audience: &str| must(&["7"]).downstream(audience);
    assert_eq!(told_of_actors(onward("https://a.example"), onward("https://a.example")), []);
    assert_eq!(told_of_actors(must(&["7"]), onward("https://a.example")), [gain(), loss()], "other tokens");
    assert_eq!(
        told_of_actors(onward("https://a.example"), onward("https://b.example")),
        [gain(), loss()],
        "for others"
    );
    let denied = |builder: Builder| builder.deny("d", &["r"], [text(C::Branch, &["main"])]);
    let mut set = acted(denied(may(&["7"], 1)));
    set.denies[0].issuers = vec![crate::mapping::IssuerId(1)];
    let told = compared(&acted(may(&["7"], 1)), &set.finish()).unwrap();
    assert_eq!(told.changes.iter().map(|change| change.kind).collect::<Vec<_>>(), [Kind::Loss], "of who acts alone");
}
