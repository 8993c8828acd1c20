//! Raw claims: the evaluator against a plain reading of the rules, and every proof against the evaluator, token by token.

use crate::{
    claims::Claims,
    fixture::*,
    lang::pattern::{Lang, Segments},
    mapping::{Condition, Folder, MappingSet, Test, possible_roles},
    review::{
        Job, World,
        boxes::{Access, Jobs, gain},
        diff::{Kind, Side, diff},
        never::{Never, prove},
        overlap,
    },
    time::UnixSeconds,
    workload::{Case, Claim as C, ClaimKey, Profiles, RawClaim, from_canonical},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

/// `tags` is one text, joined by commas.
fn raw(name: &str) -> RawClaim {
    let raw = RawClaim::read(name).unwrap();
    if name == "tags" { raw.joined() } else { raw }
}

fn of(name: &str, test: Test) -> Condition {
    condition(ClaimKey::Raw(raw(name)), test)
}

fn pin() -> Condition {
    repositories(&[("acme/api", "1")])
}

fn texts(texts: &[&str]) -> Test {
    Test::Text(Lang::one_of(texts.iter().copied(), false))
}

fn job(token: &Value) -> Job {
    let claims = [
        (C::Repository, "acme/api"),
        (C::RepositoryId, "1"),
        (C::RepositoryOwnerId, "65"),
        (C::Branch, "main"),
        (C::EventName, "push"),
    ];
    Job {
        claims: claims.map(|(claim, text)| (claim, text.to_owned())).to_vec(),
        raw: token.as_object().unwrap().clone(),
    }
}

/// Who owns the repository is another matter.
fn case(job: &Job) -> Case<'static> {
    let claims: Vec<_> = job.claims.iter().map(|(claim, text)| (*claim, text.as_str().into())).collect();
    let profile = PROFILES.get("github-actions").unwrap();
    let mut principal = from_canonical(profile, "github", &claims).expect("a job");
    principal.raw = Claims::parse(Value::Object(job.raw.clone()).to_string().as_bytes()).unwrap().into_owned();
    Case::alone(principal)
}

fn tokens() -> Vec<Value> {
    let team = [
        json!("a"),
        json!("b"),
        json!("ab"),
        json!("a,b"),
        json!(["a"]),
        json!(["a", "b"]),
        json!(["b", "b"]),
        json!([]),
        json!(["a", 1]),
        json!(["a", ""]),
        json!([["a"]]),
        json!(""),
        json!("a\u{1f}b"),
        json!("true"),
        json!(true),
        json!(false),
        json!(7),
        json!(-8),
        json!(7.5),
        json!(u64::MAX),
        json!(null),
        json!({}),
        json!({ "x": "a" }),
        json!({ "x": ["b", "a"] }),
        json!({ "x": 7 }),
        json!({ "x": null }),
    ];
    let mut tokens = vec![json!({})];
    tokens.extend(team.iter().map(|value| json!({ "team": value })));
    let tags = [json!("a,b"), json!("a"), json!("b,b"), json!(""), json!("a,,b"), json!(["a"]), json!(7)];
    tokens.extend(tags.iter().map(|value| json!({ "tags": value })));
    tokens.push(json!({ "team": "b", "tags": "a,b" }));
    tokens
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let glob = |pattern: &str| Test::Text(Lang::glob(pattern, Segments::Path, false).unwrap());
    let every = |prefix: &str| Test::Every(Lang::not_prefix(prefix, false).unwrap());
    let test = prop::sample::select(vec![
        texts(&["a"]),
        texts(&["b"]),
        texts(&["a", "b"]),
        texts(&["a,b"]),
        texts(&["true"]),
        glob("a*"),
        glob("**"),
        every("a"),
        every("b"),
        Test::Is(true),
        Test::Is(false),
        Test::Integer([7].into()),
        Test::Integer([7, -8, i64::MAX].into()),
        Test::Present,
        Test::Absent,
        Test::Any([every("a"), texts(&["ab"])].into()),
        Test::Any([Test::Present, texts(&["a"])].into()),
    ]);
    let name = prop::sample::select(vec!["team", "team", "/team/x", "tags"]);
    let one = (name, test, any::<bool>())
        .prop_map(|(name, test, ignore)| Condition { if_unknown_ignore: ignore, ..of(name, test) });
    prop::collection::vec(one, 1..4)
}

/// The rules as they are written, read anew: mappings, "Types and lists" and "Present, none, unknown".
mod plain {
    use super::*;

    fn at<'v>(token: &'v Value, name: &str) -> Option<&'v Value> {
        let found = match name.strip_prefix('/') {
            Some(_) => token.pointer(name),
            None => token.get(name),
        };
        found.filter(|value| !value.is_null())
    }

    fn elements(name: &str, value: &Value) -> Option<Vec<String>> {
        let elements: Vec<String> = match value {
            Value::String(text) if name == "tags" && text.is_empty() => Vec::new(),
            Value::String(text) if name == "tags" => text.split(',').map(str::to_owned).collect(),
            Value::String(text) => vec![text.clone()],
            Value::Array(list) if name != "tags" => {
                list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let texts = elements.iter().all(|text| !text.is_empty() && !text.chars().any(char::is_control));
        texts.then_some(elements)
    }

    /// `None`: of another type.
    fn meets(name: &str, test: &Test, value: &Value) -> Option<bool> {
        match test {
            Test::Present => Some(true),
            Test::Absent => Some(false),
            Test::Is(wanted) => value.as_bool().map(|value| value == *wanted),
            Test::Integer(wanted) => value.as_i64().map(|value| wanted.contains(&value)),
            Test::Text(lang) => elements(name, value).map(|all| all.iter().any(|one| lang.matches(one))),
            Test::Every(lang) => {
                elements(name, value).map(|all| !all.is_empty() && all.iter().all(|one| lang.matches(one)))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn holds(condition: &Condition, token: &Value, deny: bool) -> bool {
        let ClaimKey::Raw(raw) = &condition.claim else { return true };
        let name = raw.native();
        let unknown = deny && !condition.if_unknown_ignore;
        match at(token, &name) {
            None => unknown,
            Some(value) => condition.test.parts().iter().any(|test| meets(&name, test, value).unwrap_or(deny)),
        }
    }
}

#[derive(Clone, Debug)]
struct Rules {
    mappings: Vec<Vec<Condition>>,
    denies: Vec<Vec<Condition>>,
}

impl Rules {
    fn set(&self) -> MappingSet {
        let mut builder = Builder::new();
        builder.role("r");
        for (at, conditions) in self.mappings.iter().enumerate() {
            builder = builder.mapping(&format!("m{at}"), "r", [pin()].into_iter().chain(conditions.clone()));
        }
        for (at, conditions) in self.denies.iter().enumerate() {
            builder = builder.deny(&format!("d{at}"), &["r"], conditions.clone());
        }
        known(builder)
    }
    fn access(&self, world: &World<'_>) -> Access {
        let union = |all: &[Vec<Condition>], of: &dyn Fn(&[Condition]) -> Vec<Jobs>| -> Vec<Jobs> {
            all.iter().flat_map(|conditions| of(conditions)).collect()
        };
        let granted = |conditions: &[Condition]| world.granted(conditions.iter().chain([&pin()])).unwrap();
        Access {
            granted: union(&self.mappings, &granted),
            denied: union(&self.denies, &|conditions| world.denied(conditions).unwrap()),
        }
    }
    fn give(&self, token: &Value) -> bool {
        let all = |conditions: &Vec<Condition>, deny| conditions.iter().all(|one| plain::holds(one, token, deny));
        self.mappings.iter().any(|one| all(one, false)) && !self.denies.iter().any(|one| all(one, true))
    }
}

fn known(builder: Builder) -> MappingSet {
    let mut set = builder.build();
    set.issuers[0].profile = "github-actions".to_owned();
    set.finish()
}

fn gives(set: &MappingSet, job: &Job) -> bool {
    !possible_roles(set, &case(job), UnixSeconds(0)).is_empty()
}

fn world(set: &MappingSet) -> World<'static> {
    World::new(PROFILES.get("github-actions").unwrap(), &set.issuers[0]).unwrap()
}

fn rules() -> impl Strategy<Value = Rules> {
    let union = |least, most| prop::collection::vec(conditions(), least..most);
    (union(1, 3), union(0, 3)).prop_map(|(mappings, denies)| Rules { mappings, denies })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_evaluator_reads_the_rules_plainly(rules in rules()) {
        let set = rules.set();
        for token in tokens() {
            prop_assert_eq!(gives(&set, &job(&token)), rules.give(&token), "{}", token);
        }
    }

    #[test]
    fn a_gain_is_what_the_evaluator_says(before in rules(), after in rules()) {
        let (old, new) = (before.set(), after.set());
        let world = world(&old);
        let mut shown = false;
        for jobs in &gain(&before.access(&world), &after.access(&world)).unwrap() {
            if let Some(job) = world.witness(jobs).unwrap() {
                prop_assert!(gives(&new, &job) && !gives(&old, &job), "{:?} of {:?}", job, jobs);
                shown = true;
            }
        }
        let missed = tokens().into_iter().find(|token| after.give(token) && !before.give(token));
        prop_assert!(shown || missed.is_none(), "{:?}", missed);
    }

    #[test]
    fn a_difference_is_confirmed_and_none_is_missed(before in rules(), after in rules()) {
        // Two mappings that meet do not load.
        let one = |rules: Rules| Rules { mappings: rules.mappings.into_iter().take(1).collect(), ..rules };
        let (before, after) = (one(before), one(after));
        let (old, new) = (before.set(), after.set());
        let folder = Folder::default();
        let side = |set| Side { folder: &folder, set, profiles: &PROFILES };
        let found = diff(side(&old), side(&new)).unwrap();
        prop_assert!(found.undecided.is_empty());
        for (kind, from, to) in [(Kind::Gain, &before, &after), (Kind::Loss, &after, &before)] {
            let missed = tokens().into_iter().find(|token| to.give(token) && !from.give(token));
            prop_assert!(missed.is_none() || found.of(kind).next().is_some(), "{:?} {:?}", kind, missed);
            for change in found.of(kind) {
                prop_assert!(change.jobs.iter().flatten().all(|(_, words)| !words.contains(char::is_control)));
            }
        }
    }

    #[test]
    fn an_overlap_is_found_when_a_token_shows_it(a in conditions(), b in conditions()) {
        let with_pin = |conditions: &Vec<Condition>| [pin()].into_iter().chain(conditions.clone()).collect::<Vec<_>>();
        let both = known(Builder::new().mapping("a", "r", with_pin(&a)).mapping("b", "r", with_pin(&b)));
        let rules = |conditions| Rules { mappings: vec![conditions], denies: Vec::new() };
        let (a, b) = (rules(a), rules(b));
        let shown = tokens().iter().any(|token| a.give(token) && b.give(token));
        let found = overlap::check(&both);
        prop_assert!(!shown || !found.is_empty());
        // Where none of the tokens shows it, the boxes of the other proof do.
        let world = world(&both);
        let boxes = crate::review::boxes::meet(&a.access(&world).granted, &b.access(&world).granted).unwrap();
        let witness = boxes.iter().find_map(|jobs| world.witness(jobs).unwrap());
        prop_assert_eq!(!found.is_empty(), witness.is_some(), "{:?} {:?}", found, witness);
        if let Some(job) = witness {
            prop_assert!(gives(&a.set(), &job) && gives(&b.set(), &job), "{:?}", job);
        }
    }

    #[test]
    fn a_promise_is_broken_exactly_when_a_job_shows_it(rules in rules(), promise in conditions()) {
        let rules = Rules { mappings: rules.mappings.into_iter().take(1).collect(), ..rules };
        let set = rules.set();
        let never = Never {
            name: "n".to_owned(),
            issuers: Vec::new(),
            roles: vec![set.role_named("r").unwrap()],
            conditions: promise.clone(),
            span: span("policy.toml", 2),
        };
        let found = prove(&set, &[never], &[PROFILES.get("github-actions").unwrap()]);
        let spoken = |token: &Value| promise.iter().all(|one| plain::holds(one, token, true));
        let shown = tokens().into_iter().find(|token| rules.give(token) && spoken(token));
        prop_assert!(shown.is_none() || found.len() == 1, "{:?}", shown);
        let world = world(&set);
        let denied = world.denied(&promise).unwrap();
        let all = crate::review::boxes::meet(&rules.access(&world).granted, &denied).unwrap();
        let left = crate::review::boxes::subtract(all, &rules.access(&world).denied).unwrap();
        let witness = left.iter().find_map(|jobs| world.witness(jobs).unwrap());
        prop_assert_eq!(!found.is_empty(), witness.is_some());
        if let Some(job) = witness {
            let token = Value::Object(job.raw.clone());
            prop_assert!(gives(&set, &job) && spoken(&token), "{}", token);
        }
    }
}

#[test]
fn a_witness_is_such_a_token() {
    let set = Builder::new().build();
    let world = world(&set);
    let witness = |conditions: &[Condition]| {
        let boxes = world.granted(conditions).unwrap();
        boxes.iter().find_map(|jobs| world.witness(jobs).unwrap()).map(|job| Value::Object(job.raw))
    };
    let every = |prefix: &str| Test::Every(Lang::not_prefix(prefix, false).unwrap());
    for (conditions, expected) in [
        (vec![of("team", texts(&["a"]))], Some(json!({ "team": "a" }))),
        (vec![of("team", texts(&["a"])), of("team", texts(&["b"]))], Some(json!({ "team": ["a", "b"] }))),
        (vec![of("tags", texts(&["a"])), of("tags", texts(&["b"]))], Some(json!({ "tags": "a,b" }))),
        (vec![of("team", texts(&["a"])), of("team", every("a"))], None),
        (vec![of("team", texts(&["a"])), of("team", Test::Is(true))], None),
        (vec![of("team", Test::Is(true))], Some(json!({ "team": true }))),
        (vec![of("team", Test::Integer([i64::MIN].into()))], Some(json!({ "team": i64::MIN }))),
        (vec![of("/team/x", texts(&["a"]))], Some(json!({ "team": { "x": "a" } }))),
        (vec![of("/team/x", texts(&["a"])), of("team", Test::Present)], Some(json!({ "team": { "x": "a" } }))),
        (vec![of("/team/x", texts(&["a"])), of("team", texts(&["a"]))], None),
        (vec![of("tags", texts(&["a,b"]))], None),
    ] {
        assert_eq!(witness(&conditions), expected, "{conditions:?}");
    }
}

#[test]
fn what_a_token_may_hold_is_what_can_be_parsed() {
    let possible = super::possible(&raw("team")).unwrap();
    for (text, allowed) in [
        ("", true),
        ("a", true),
        ("a\u{1f}b", true),
        ("a\u{1f}", false),
        ("\u{1}true", true),
        ("\u{1}x", false),
        ("\u{2}0", true),
        ("\u{2}-0", false),
        ("\u{2}9223372036854775807", true),
        ("\u{2}9223372036854775808", false),
        ("\u{2}-9223372036854775808", true),
        ("\u{2}-9223372036854775809", false),
    ] {
        assert_eq!(possible.allows(text), allowed, "{text:?}");
    }
    assert!(Claims::parse(br#"{"a":-9223372036854775808}"#).is_ok());
}
