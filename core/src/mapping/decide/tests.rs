//! The evaluator against tables and, over its index, against itself without one.

use super::*;
use crate::mapping::IssuerId;
use crate::{fixture::*, lang::pattern::Lang, mapping::explain};
use Claim as C;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(0);

fn ask(set: &MappingSet, case: &Case<'_>, role: Option<&str>) -> Decision {
    let ask = Ask { role, ..Ask::default() };
    let decision = decide(set, case, &ask, NOW);
    assert_eq!(explain(set, case, &ask, NOW).0, decision, "watched or not, the answer is one");
    decision
}

/// `mapping role`, or the reason.
fn answer(set: &MappingSet, case: &Case<'_>, role: Option<&str>) -> String {
    match ask(set, case, role) {
        Decision::Grant(grant) => format!("{} {}", set.mapping(grant.mapping).name, set.role(grant.role).name),
        Decision::Pending(grant) => {
            format!("{} {} pending", set.mapping(grant.mapping).name, set.role(grant.role).name)
        }
        Decision::Deny(denial) => denial.reason.name().to_owned(),
    }
}

fn deploy() -> MappingSet {
    Builder::new()
        .mapping(
            "m",
            "deploy",
            [repositories(&[("acme/web", "2"), ("acme/api", "1")]), text(C::Branch, &["main"]), events()],
        )
        .build()
}

#[test]
fn a_pinned_job_gets_its_role_and_nothing_near_it_does() {
    let set = deploy();
    for role in [Some("deploy"), None] {
        assert_eq!(answer(&set, &push(&[]), role), "m deploy");
        for (change, reason) in [
            ((C::Repository, "ACME/Api"), "m deploy"),
            ((C::Repository, "acme/new"), "renamed"),
            ((C::Repository, "acme/web"), "renamed"),
            ((C::RepositoryId, "9"), "id_mismatch"),
            ((C::RepositoryId, "2"), "renamed"),
            ((C::Branch, "dev"), "no_mapping"),
            ((C::EventName, "pull_request_target"), "event_not_allowed"),
        ] {
            assert_eq!(answer(&set, &push(&[change]), role), reason, "{change:?}");
        }
    }
    assert_eq!(answer(&set, &push(&[(C::Repository, "x/y"), (C::RepositoryId, "9")]), Some("deploy")), "no_mapping");
    assert_eq!(answer(&set, &push(&[]), Some("unknown")), "no_mapping");
    assert_eq!(answer(&set, &job_of("gitlab", &[(C::RepositoryId, "1")], &[]), None), "no_mapping");
    assert_eq!(answer(&set, &job_of("elsewhere", &[(C::RepositoryId, "1")], &[]), None), "no_mapping");
}

#[test]
fn without_the_id_a_name_is_nothing() {
    let set = deploy();
    let case = job(&[(C::Repository, "acme/api"), (C::Branch, "main"), (C::EventName, "push")], &[]);
    assert_eq!(answer(&set, &case, Some("deploy")), "no_mapping");
}

#[test]
fn one_possible_role_may_be_left_out_and_several_may_not() {
    let pin = || repositories(&[("acme/api", "1")]);
    let set = Builder::new()
        .mapping_of(0, "m", &["b", "a"], [pin()])
        .mapping("n", "c", [pin(), text(C::Environment, &["production"])])
        .require("a", [text(C::Branch, &["release"])])
        .build();
    assert_eq!(answer(&set, &push(&[]), None), "m b", "`require` keeps `a` away");
    let case = push(&[(C::Environment, "production")]);
    let Decision::Deny(denial) = ask(&set, &case, None) else { panic!("several roles") };
    assert_eq!(denial.reason, Reason::RoleNeeded);
    assert_eq!(denial.roles, possible_roles(&set, &case, NOW));
    assert_eq!(denial.roles.len(), 2);
    assert_eq!(answer(&set, &case, Some("c")), "n c");
    assert_eq!(answer(&set, &case, Some("a")), "no_mapping");
}

#[test]
fn a_deny_beats_every_mapping_but_only_for_its_roles() {
    let pin = || repositories(&[("acme/api", "1")]);
    let set = Builder::new()
        .mapping_of(0, "m", &["a", "b", "c"], [pin()])
        .deny("d", &["a", "b"], [text(C::RunnerEnvironment, &["self-hosted"])])
        .build();
    let own = push(&[(C::RunnerEnvironment, "self-hosted")]);
    assert_eq!(answer(&set, &own, Some("a")), "denied");
    assert_eq!(answer(&set, &own, None), "m c", "the one that is left");
    let hosted = push(&[(C::RunnerEnvironment, "github-hosted")]);
    assert_eq!(answer(&set, &hosted, Some("a")), "m a");
    assert_eq!(answer(&set, &push(&[]), Some("a")), "denied", "unknown is true in a deny");
    let Decision::Deny(denial) = ask(&set, &own, Some("a")) else { panic!("denied") };
    assert_eq!(denial.rule.as_deref(), Some("d"));
    assert_eq!(denial.nearest, Some(MappingId(0)));
}

#[test]
fn the_only_role_denied_is_denied() {
    let set = Builder::new().mapping("m", "a", [repositories(&[("acme/api", "1")])]).deny("d", &["a"], []).build();
    assert_eq!(answer(&set, &push(&[]), None), "denied");
}

/// Present, none, unknown and a wrong type, for each test, on both sides.
#[test]
fn presence_is_one_table() {
    let lang = || Test::Text(Lang::exact("v1", false));
    // test, present and equal, present and other, none, unknown, wrong type
    for (claim, test, granting, denying) in [
        (C::Tag, lang(), "tff ff", "tff tt"),
        (C::Tag, Test::Absent, "fft ff", "fft tf"),
        (C::Tag, Test::Present, "ttf ft", "ttf tt"),
        (C::Tag, Test::Is(true), "fff ft", "ttf tt"),
    ] {
        for (side, expected) in [(Side::Grants, granting), (Side::Denies, denying)] {
            let cases = [
                job(&[(claim, "v1")], &[]),
                job(&[(claim, "v2")], &[]),
                job(&[], &[claim]),
                job(&[], &[]),
                wrong_type(claim),
            ];
            let set = Builder::new().build();
            let held = |case: &Case<'static>, ignore| {
                let judge = Judge::new(&set, case, UnixSeconds(0)).unwrap();
                let condition = Condition { if_unknown_ignore: ignore, ..condition(claim, test.clone()) };
                judge.check([&condition], side, &mut Silent)
            };
            let got: String = cases.iter().map(|case| if held(case, false) { 't' } else { 'f' }).collect();
            assert_eq!(got, expected.replace(' ', ""), "{test:?} {side:?}");
            assert!(!held(&cases[3], true), "unknown, said to be ignored");
        }
    }
}

fn wrong_type(claim: Claim) -> Case<'static> {
    let mut case = job(&[], &[]);
    case.principal.canonical[claim as usize] = Presence::Present(Text::Boolean(true));
    case
}

#[test]
fn a_workflow_of_the_own_repository() {
    let set = Builder::new()
        .mapping(
            "m",
            "a",
            [repositories(&[("acme/api", "1")]), condition(C::JobWorkflowRepository, Test::SameRepository)],
        )
        .build();
    assert_eq!(answer(&set, &push(&[(C::JobWorkflowRepository, "Acme/api")]), None), "m a");
    assert_eq!(answer(&set, &push(&[(C::JobWorkflowRepository, "acme/ci")]), None), "no_mapping");
    assert_eq!(answer(&set, &push(&[]), None), "no_mapping");
}

#[test]
fn owners_are_pinned_by_name_and_id() {
    let owner =
        || condition(C::RepositoryOwner, Test::Owner([("acme".to_owned(), "65".to_owned())].into_iter().collect()));
    let set = Builder::new().mapping("m", "a", [owner()]).build();
    assert_eq!(answer(&set, &push(&[]), None), "m a");
    assert_eq!(answer(&set, &push(&[(C::RepositoryOwner, "acme-labs")]), None), "renamed");
    assert_eq!(answer(&set, &push(&[(C::RepositoryOwnerId, "66")]), None), "id_mismatch");
}

#[test]
fn a_deny_on_a_repository_outlives_a_rename() {
    let set = Builder::new()
        .mapping("m", "a", [text(C::EventName, &["push"])])
        .deny("d", &["a"], [repositories(&[("acme/api", "1")])])
        .build();
    assert_eq!(answer(&set, &push(&[(C::Repository, "acme/new")]), None), "denied");
    assert_eq!(answer(&set, &push(&[(C::RepositoryId, "7")]), None), "denied");
    assert_eq!(answer(&set, &push(&[(C::Repository, "acme/new"), (C::RepositoryId, "7")]), None), "m a");
}

#[test]
fn durations_are_the_least_of_all_ceilings_and_never_nothing() {
    let pin = || repositories(&[("acme/api", "1")]);
    let plain = Builder::new().mapping("m", "a", [pin()]);
    let full = Builder::new().mapping("m", "a", [pin()]).with(|mapping| {
        mapping.duration = Some(Seconds(600));
        mapping.max_duration = Some(Seconds(1800));
    });
    let wide = Builder::new().mapping("m", "a", [pin()]).with(|mapping| mapping.max_duration = Some(Seconds(9999)));
    for (builder, table) in [
        (plain, [(None, 3600), (Some(60), 60), (Some(7200), 3600), (Some(0), 1)]),
        (full, [(None, 600), (Some(60), 60), (Some(7200), 1800), (Some(0), 1)]),
        (wide, [(None, 3600), (Some(60), 60), (Some(7200), 3600), (Some(0), 1)]),
    ] {
        let set = builder.build();
        for (asked, given) in table {
            let ask = Ask { duration: asked.map(Seconds), ..Ask::default() };
            let Decision::Grant(grant) = decide(&set, &push(&[]), &ask, NOW) else { panic!("granted") };
            assert_eq!(grant.duration, Seconds(given), "asked for {asked:?}");
        }
    }
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let id = || prop::sample::select(vec!["1", "2", "3"]);
    let name = || prop::sample::select(vec!["acme/api", "acme/WEB", "acme/x"]);
    let one = prop_oneof![
        prop::collection::vec((name(), id()), 1..3).prop_map(|pairs| repositories(&pairs)),
        id().prop_map(|id| text(C::RepositoryId, &[id])),
        name().prop_map(|name| text(C::Repository, &[name])),
        id().prop_map(|id| condition(
            C::RepositoryOwner,
            Test::Owner([("acme".to_owned(), id.to_owned())].into_iter().collect())
        )),
        Just(text(C::Branch, &["main", "dev"])),
        Just(condition(C::Tag, Test::Absent)),
        Just(condition(C::Repository, Test::Text(Lang::under("acme", true).unwrap()))),
    ];
    prop::collection::vec(one, 0..4)
}

proptest! {
    /// The index may hide nothing: asking every mapping gives the same roles.
    #[test]
    fn the_index_hides_nothing(
        mappings in prop::collection::vec((0u16..2, conditions()), 1..8),
        (name, id, owner, branch) in (
            prop::sample::select(vec!["acme/api", "ACME/web", "acme/x"]),
            prop::sample::select(vec!["1", "2", "3"]),
            prop::sample::select(vec!["1", "2", "3"]),
            prop::sample::select(vec!["main", "dev", "x"]),
        ),
    ) {
        let mut builder = Builder::new();
        for (at, (issuer, conditions)) in mappings.into_iter().enumerate() {
            builder = builder.mapping_of(issuer, &format!("m{at}"), &[&format!("r{at}")], conditions);
        }
        let set = builder.build();
        let case = push(&[(C::Repository, name), (C::RepositoryId, id), (C::RepositoryOwnerId, owner), (C::Branch, branch)]);
        let judge = Judge::new(&set, &case, UnixSeconds(0)).unwrap();
        let all: Vec<RoleId> = (0..)
            .zip(&set.mappings)
            .filter(|(_, mapping)| mapping.issuer == IssuerId(0))
            .filter(|(_, mapping)| judge.check(&mapping.conditions, Side::Grants, &mut Silent))
            .map(|(at, _)| RoleId(at))
            .collect();
        prop_assert_eq!(possible_roles(&set, &case, NOW), all);
    }
}
