//! Two mappings that can give one role to one job are a load error, decided exactly over boxes: so no order of
//! files ever decides what a job gets.
//!
//! Denies are left aside: two mappings overlap even where a deny keeps the job from both.

use super::{
    alike::apart,
    given::Job,
    reach::{Reach, listed_ids, listed_names},
};
use crate::{
    diag::{Code, Diagnostic},
    lang::pattern::PatternError,
    mapping::{ActorRule, IssuerId, Mapping, MappingId, MappingSet, RoleId},
    workload::Claim,
};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

/// Two mappings can give one role to one job.
const OVERLAP: Code = Code(701);
/// Whether two mappings overlap is beyond the stated limits.
const UNDECIDED: Code = Code(702);

/// Most pairs of mappings of one role that are compared: seconds of work, and what it takes to keep them.
const PAIRS_MAX: usize = 250_000;

/// There are more than [`PAIRS_MAX`]; one of them.
struct TooMany(MappingId, MappingId);

/// Findings about all pairs of mappings that share an issuer and a role; one for each pair.
pub(crate) fn check(set: &MappingSet) -> Vec<Diagnostic> {
    let mut groups: BTreeMap<(RoleId, IssuerId), Vec<MappingId>> = BTreeMap::new();
    for (id, mapping) in (0..).map(MappingId).zip(&set.mappings) {
        for role in mapping.roles.iter().filter(|_| !mapping.shadow) {
            let group = groups.entry((*role, mapping.issuer)).or_default();
            // A role that is listed twice makes no mapping its own rival.
            if group.last() != Some(&id) {
                group.push(id);
            }
        }
    }
    // Pairs are told once, under their first common role.
    let mut told = HashSet::new();
    let mut found = Vec::new();
    for ((role, issuer), ids) in groups {
        if ids.len() < 2 {
            continue;
        }
        let folds = set.issuer(issuer).folds_names;
        // Boxes are made only of mappings that have a neighbour: nearly all have none.
        let mut reaches: HashMap<MappingId, Vec<Reach>, FixedState> = HashMap::default();
        let pairs = match neighbours(set, role, &ids) {
            Ok(pairs) => pairs,
            Err(TooMany(first, second)) => {
                let why = PatternError(format!("more than {PAIRS_MAX} pairs of mappings would have to be compared"));
                found.push(undecided(set.mapping(first.min(second)), set.mapping(first.max(second)), &why));
                continue;
            }
        };
        for (first, second) in pairs {
            // Alternatives of one mapping may meet: it gives the same by either.
            let alternatives = set.mapping(first).name == set.mapping(second).name;
            let theirs = &set.mapping(second).conditions;
            let plainly = |one| theirs.iter().any(|other| apart(one, other));
            if alternatives || told.contains(&(first, second)) || set.mapping(first).conditions.iter().any(plainly) {
                continue;
            }
            if let Some(finding) = kept_apart(set, first, second) {
                found.extend(finding);
                continue;
            }
            let met = [first, second].into_iter().try_for_each(|id| {
                if let Entry::Vacant(free) = reaches.entry(id) {
                    free.insert(Reach::of(set.conditions_for(id, role), folds)?);
                }
                Ok(())
            });
            let diagnostic = match met.and_then(|()| meet(&reaches[&first], &reaches[&second])) {
                Ok(None) => continue,
                Ok(Some(witness)) => overlap(set, role, first, second, &witness),
                Err(error) => undecided(set.mapping(first), set.mapping(second), &error),
            };
            told.insert((first, second));
            found.push(diagnostic);
        }
    }
    found
}

/// Whether who acts keeps two mappings apart: one takes none where the other demands some, or they take others. Inside:
/// that it cannot be told.
fn kept_apart(set: &MappingSet, first: MappingId, second: MappingId) -> Option<Option<Diagnostic>> {
    let (first, second) = (set.mapping(first), set.mapping(second));
    let alone = |mapping: &Mapping| mapping.actor.as_ref().is_none_or(|rule| !rule.required);
    if alone(first) && alone(second) {
        return None;
    }
    let (Some(a), Some(b)) = (&first.actor, &second.actor) else { return Some(None) };
    // Of downstream exchanges, tokens for one audience are never for another, nor a job's own.
    if a.issuer != b.issuer || a.audience != b.audience {
        return Some(None);
    }
    let folds = set.issuer(a.issuer).folds_names;
    let reach = |rule: &ActorRule| Reach::of(&rule.conditions, folds);
    match reach(a).and_then(|a| meet(&a, &reach(b)?)) {
        Ok(None) => Some(None),
        Ok(Some(_)) => None,
        Err(error) => Some(Some(undecided(first, second, &error))),
    }
}

/// A job that both let through.
fn meet(first: &[Reach], second: &[Reach]) -> Result<Option<Job>, PatternError> {
    for (one, other) in first.iter().flat_map(|one| second.iter().map(move |other| (one, other))) {
        if let Some(witness) = one.meet(other)? {
            return Ok(Some(witness));
        }
    }
    Ok(None)
}

/// Pairs that can meet at all: those that list an id or a name in common, and whatever lists neither with all others.
/// Without this a hundred thousand mappings would be five thousand million pairs. `Err`: there are too many all the same.
fn neighbours(set: &MappingSet, role: RoleId, ids: &[MappingId]) -> Result<Vec<(MappingId, MappingId)>, TooMany> {
    let mut buckets: HashMap<(bool, String), Vec<MappingId>, FixedState> = HashMap::default();
    // Those with ids, with names alone, with neither.
    let (mut by_id, mut by_name, mut free) = (Vec::new(), Vec::new(), Vec::new());
    for &id in ids {
        let listed = [listed_ids(set.conditions_for(id, role)), listed_names(set.conditions_for(id, role))];
        match &listed {
            [None, None] => free.push(id),
            [None, _] => by_name.push(id),
            [Some(_), None] => by_id.push(id),
            _ => {}
        }
        for (named, values) in [false, true].into_iter().zip(listed) {
            let mut keys: Vec<String> = values.into_iter().flatten().map(str::to_ascii_lowercase).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter().for_each(|key| buckets.entry((named, key)).or_default().push(id));
        }
    }
    let mut pairs: HashSet<(MappingId, MappingId), FixedState> = HashSet::default();
    let mut add = |a: MappingId, b: MappingId| {
        pairs.insert((a.min(b), a.max(b)));
        if pairs.len() > PAIRS_MAX { Err(TooMany(a, b)) } else { Ok(()) }
    };
    for bucket in buckets.values() {
        for (nth, a) in bucket.iter().enumerate() {
            bucket[nth + 1..].iter().try_for_each(|b| add(*a, *b))?;
        }
    }
    for a in by_id {
        by_name.iter().try_for_each(|b| add(a, *b))?;
    }
    for a in free {
        ids.iter().filter(|b| **b != a).try_for_each(|b| add(a, *b))?;
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_unstable();
    Ok(pairs)
}

fn overlap(set: &MappingSet, role: RoleId, first: MappingId, second: MappingId, witness: &Job) -> Diagnostic {
    let (first, second) = (set.mapping(first), set.mapping(second));
    let role = &set.role(role).name;
    let mut diagnostic = Diagnostic::error(
        OVERLAP,
        second.span.clone(),
        format!(
            "mappings `{}` and `{}` can both give `{role}` to one job, for example {}",
            first.name,
            second.name,
            example(witness)
        ),
        "narrow one of them so that no job fits both, or take the role from one of them",
    )
    .and(first.span.clone(), format!("`{}` gives it too", first.name));
    diagnostic.label = format!("`{}` gives `{role}`", second.name);
    diagnostic
}

fn undecided(mapping: &Mapping, other: &Mapping, error: &PatternError) -> Diagnostic {
    Diagnostic::error(
        UNDECIDED,
        mapping.span.clone(),
        format!("whether mappings `{}` and `{}` overlap cannot be decided: {error}", mapping.name, other.name),
        "use fewer wildcards in their conditions, and name repositories in them",
    )
    .and(other.span.clone(), format!("`{}`", other.name))
}

/// A job as one would write it in a `[[test]]`.
pub(super) fn example(witness: &Job) -> String {
    let one = |(claim, value): &(Claim, String)| {
        let (name, value) = match (claim, value.strip_prefix("refs/heads/"), value.strip_prefix("refs/tags/")) {
            (Claim::Ref, Some(branch), _) => (Claim::Branch.name(), branch),
            (Claim::Ref, _, Some(tag)) => (Claim::Tag.name(), tag),
            _ => (claim.name(), value.as_str()),
        };
        format!("`{name} = {}`", toml::Value::String(value.to_owned()))
    };
    let raw = (!witness.raw.is_empty()).then(|| format!("`claims = {}`", inline(&witness.raw)));
    let all: Vec<String> = witness.claims.iter().map(one).chain(raw).collect();
    if all.is_empty() { "any".to_owned() } else { all.join(", ") }
}

/// Raw claims as an inline table.
fn inline(raw: &serde_json::Map<String, serde_json::Value>) -> String {
    toml::Value::try_from(raw)
        .map_or_else(|_| serde_json::Value::Object(raw.clone()).to_string(), |raw| raw.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::*,
        lang::pattern::{Lang, Segments},
        mapping::{Condition, Test, possible_roles},
        time::UnixSeconds,
        workload::Case,
    };
    use Claim as C;
    use proptest::prelude::*;

    fn glob(claim: Claim, pattern: &str) -> Condition {
        condition(claim, Test::Text(Lang::glob(pattern, Segments::Path, false).unwrap()))
    }
    fn owner(name: &str, id: &str) -> Condition {
        condition(C::RepositoryOwner, Test::Owner([(name.to_owned(), id.to_owned())].into_iter().collect()))
    }
    fn pin() -> Condition {
        repositories(&[("acme/api", "1")])
    }

    /// The witness of two mappings of one role, or nothing.
    fn meet(a: Vec<Condition>, b: Vec<Condition>) -> Option<String> {
        let set = Builder::new().mapping("a", "r", a).mapping("b", "r", b).build();
        let mut found = check(&set);
        assert!(found.len() < 2);
        let found = found.pop()?;
        assert_eq!((found.code, found.others.len()), (OVERLAP, 1));
        assert_ne!(found.span.as_ref(), Some(&found.others[0].span), "both places are shown");
        Some(found.message.split_once("for example ").unwrap().1.to_owned())
    }

    #[test]
    fn mappings_that_share_no_job_load() {
        for (a, b) in [
            (vec![pin()], vec![repositories(&[("acme/web", "2")])]),
            (vec![pin()], vec![repositories(&[("acme/old", "1")])]),
            (vec![pin(), text(C::Branch, &["main"])], vec![pin(), text(C::Branch, &["dev"])]),
            (vec![pin(), text(C::Branch, &["main"])], vec![pin(), text(C::Tag, &["main"])]),
            (vec![pin(), text(C::Branch, &["main"])], vec![pin(), glob(C::Ref, "refs/tags/**")]),
            (vec![pin(), glob(C::Branch, "release/*")], vec![pin(), glob(C::Branch, "*")]),
            (vec![pin(), condition(C::Tag, Test::Absent)], vec![pin(), condition(C::Tag, Test::Present)]),
            (vec![pin(), condition(C::Branch, Test::Absent)], vec![pin(), text(C::Ref, &["refs/heads/main"])]),
            (
                vec![pin(), condition(C::RefProtected, Test::Is(true))],
                vec![pin(), condition(C::RefProtected, Test::Is(false))],
            ),
            (vec![pin(), events()], vec![pin(), text(C::EventName, &["pull_request"])]),
            (vec![pin(), text(C::Branch, &["main"])], vec![pin(), text(C::RefType, &["tag"])]),
            (vec![pin()], vec![owner("other", "66")]),
            (vec![owner("acme", "65")], vec![owner("acme", "66")]),
            (vec![owner("acme", "65")], vec![text(C::Repository, &["acme-labs/x"])]),
            (
                vec![pin(), condition(C::JobWorkflowRepository, Test::SameRepository)],
                vec![pin(), text(C::JobWorkflowRepository, &["acme/ci"])],
            ),
            (
                vec![repositories(&[("acme/api", "1"), ("acme/web", "2")]), text(C::RepositoryId, &["1"])],
                vec![repositories(&[("acme/api", "1"), ("acme/web", "2")]), text(C::Repository, &["acme/web"])],
            ),
        ] {
            assert_eq!(meet(a.clone(), b.clone()), None, "{a:?} {b:?}");
            assert_eq!(meet(b, a), None);
        }
    }

    #[test]
    fn mappings_that_share_a_job_do_not() {
        for (a, b, witness) in [
            (vec![pin()], vec![pin()], r#"`repository = "acme/api"`, `repository_id = "1"`"#),
            (vec![pin()], vec![repositories(&[("Acme/API", "1"), ("x/y", "2")])], r#"`repository = "acme/api"`"#),
            (vec![pin()], vec![repositories(&[("", "1")])], r#"`repository = "acme/api"`"#),
            (
                vec![pin(), glob(C::Branch, "release/*")],
                vec![pin(), glob(C::Branch, "**")],
                r#"`branch = "release/x"`"#,
            ),
            (
                vec![pin(), condition(C::Tag, Test::Absent)],
                vec![pin(), text(C::Branch, &["main"])],
                r#"`branch = "main"`"#,
            ),
            (vec![pin(), events()], vec![pin()], r#"`event_name = "push"`"#),
            (vec![pin(), text(C::Environment, &["a"])], vec![owner("ACME", "65")], r#"`environment = "a"`"#),
            (vec![text(C::Branch, &["main"])], vec![pin()], r#"`branch = "main"`"#),
            (
                vec![pin(), condition(C::JobWorkflowRepository, Test::SameRepository)],
                vec![pin(), text(C::JobWorkflowRepository, &["Acme/Api"])],
                r#"`job_workflow.repository = "acme/api"`"#,
            ),
        ] {
            for found in [meet(a.clone(), b.clone()), meet(b.clone(), a.clone())] {
                let found = found.unwrap_or_else(|| panic!("{a:?} and {b:?} overlap"));
                assert!(found.to_lowercase().contains(witness), "{found}");
            }
        }
    }

    #[test]
    fn mappings_meet_only_where_who_acts_may_be_the_same() {
        let found = |a: Option<(u16, bool, &str)>, b: Option<(u16, bool, &str)>| {
            let with = |builder: Builder, name, rule: Option<(u16, bool, &str)>| {
                let builder = builder.mapping(name, "r", [pin()]);
                match rule {
                    None => builder,
                    Some((issuer, required, sub)) => builder.acting(issuer, required, 1, [text(C::Subject, &[sub])]),
                }
            };
            !check(&with(with(Builder::new(), "a", a), "b", b).build()).is_empty()
        };
        for (a, b, meet) in [
            (None, Some((1, true, "x")), false),
            (None, Some((1, false, "x")), true),
            (Some((1, true, "x")), Some((1, true, "y")), false),
            (Some((1, true, "x")), Some((1, false, "y")), false),
            (Some((1, true, "x")), Some((0, true, "x")), false),
            (Some((1, true, "x")), Some((1, true, "x")), true),
            (Some((1, false, "x")), Some((1, false, "y")), true),
        ] {
            assert_eq!((found(a, b), found(b, a)), (meet, meet), "{a:?} {b:?}");
        }
    }

    #[test]
    fn downstream_exchanges_meet_only_for_tokens_of_one_audience() {
        let found = |a: Option<&str>, b: Option<&str>| {
            let with = |builder: Builder, name, audience: Option<&str>| {
                let builder = builder.mapping(name, "r", [pin()]).acting(1, false, 1, [text(C::Subject, &["x"])]);
                match audience {
                    None => builder,
                    Some(audience) => builder.downstream(audience),
                }
            };
            !check(&with(with(Builder::new(), "a", a), "b", b).build()).is_empty()
        };
        for (a, b, meet) in [
            (None, Some("https://a.example"), false),
            (Some("https://a.example"), Some("https://b.example"), false),
            (Some("https://a.example"), Some("https://a.example"), true),
        ] {
            assert_eq!((found(a, b), found(b, a)), (meet, meet), "{a:?} {b:?}");
        }
    }

    #[test]
    fn other_roles_and_issuers_do_not_meet() {
        let set = Builder::new()
            .mapping("a", "r", [pin()])
            .mapping("b", "s", [pin()])
            .mapping_of(1, "c", &["r"], [pin()])
            .build();
        assert_eq!(check(&set), []);
    }

    #[test]
    fn what_the_role_requires_counts_for_both() {
        let set = Builder::new()
            .mapping("a", "r", [text(C::Branch, &["main"])])
            .mapping("b", "r", [text(C::Branch, &["main"])])
            .require("r", [text(C::Tag, &["v1"])]);
        assert_eq!(check(&set.build()), [], "no job at all");
    }

    #[test]
    fn growth_is_told_and_not_taken_for_an_answer() {
        let wide = |letters: &str| glob(C::Environment, &format!("**{letters}").repeat(60));
        let set = Builder::new().mapping("a", "r", [pin(), wide("ab")]).mapping("b", "r", [pin(), wide("cd")]).mapping(
            "c",
            "r",
            [pin(), wide("ab"), wide("cd"), wide("ef")],
        );
        let found = check(&set.build());
        assert!(found.iter().any(|one| one.code == UNDECIDED), "{found:?}");
    }

    #[test]
    fn many_mappings_of_one_role_are_not_compared_with_each_other() {
        let mut builder = Builder::new();
        for at in 0..20_000 {
            let id = at.to_string();
            builder = builder.mapping(&id, "r", [repositories(&[("", &id)]), text(C::Branch, &["main"])]);
        }
        assert_eq!(check(&builder.build()), []);
    }

    #[test]
    fn nor_are_those_that_name_repositories_without_ids() {
        let mut builder = Builder::new();
        for at in 0..5_000 {
            let name = format!("acme/r{at}");
            builder = builder.mapping(&name, "r", [text(C::Repository, &[&name])]);
        }
        let twice = builder.mapping("twice", "r", [text(C::Repository, &["Acme/R7"])]);
        assert_eq!(check(&twice.build()).len(), 1);
    }

    #[test]
    fn too_many_pairs_are_told_and_not_waited_for() {
        let mut builder = Builder::new();
        for at in 0..800 {
            builder = builder.mapping(&format!("m{at}"), "r", [text(C::Branch, &[&format!("b{at}")])]);
        }
        let found = check(&builder.build());
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [UNDECIDED]);
        assert!(found[0].message.contains("pairs"), "{}", found[0].message);
    }

    fn conditions() -> impl Strategy<Value = Vec<Condition>> {
        let id = || prop::sample::select(vec!["1", "2"]);
        let name = || prop::sample::select(vec!["acme/api", "acme/WEB", "b/x"]);
        let branch = || prop::sample::select(vec!["main", "release/1", "*", "release/*", "**", "m*"]);
        let one = prop_oneof![
            prop::collection::vec((name(), id()), 1..3).prop_map(|pairs| repositories(&pairs)),
            id().prop_map(|id| text(C::RepositoryId, &[id])),
            name().prop_map(|name| text(C::Repository, &[name])),
            Just(owner("acme", "65")),
            branch().prop_map(|pattern| glob(C::Branch, pattern)),
            branch().prop_map(|pattern| glob(C::Tag, pattern)),
            Just(text(C::Ref, &["refs/heads/main", "refs/pull/1/merge"])),
            Just(condition(C::Tag, Test::Absent)),
            Just(condition(C::Branch, Test::Absent)),
            Just(condition(C::Branch, Test::Present)),
            prop::sample::select(vec!["branch", "tag"]).prop_map(|kind| text(C::RefType, &[kind])),
            Just(condition(C::JobWorkflowRepository, Test::SameRepository)),
            name().prop_map(|name| text(C::JobWorkflowRepository, &[name])),
        ];
        prop::collection::vec(one, 0..4)
    }

    /// Every job over a few values, derived claims filled as the profiles fill them.
    fn jobs() -> Vec<Case<'static>> {
        let mut jobs = Vec::new();
        for name in ["acme/api", "acme/web", "b/x"] {
            for id in ["1", "2", "3"] {
                for r#ref in [
                    "refs/heads/main",
                    "refs/heads/release/1",
                    "refs/tags/main",
                    "refs/tags/release/1",
                    "refs/pull/1/merge",
                ] {
                    for workflow in ["acme/api", "acme/web", "b/x", "z/z"] {
                        let owner = name.split('/').next().unwrap();
                        let owner_id = if owner == "acme" { "65" } else { "66" };
                        let mut claims = vec![
                            (C::Repository, name),
                            (C::RepositoryId, id),
                            (C::RepositoryOwner, owner),
                            (C::RepositoryOwnerId, owner_id),
                            (C::Ref, r#ref),
                            (C::JobWorkflowRepository, workflow),
                        ];
                        claims.extend(r#ref.strip_prefix("refs/heads/").map(|branch| (C::Branch, branch)));
                        claims.extend(r#ref.strip_prefix("refs/tags/").map(|tag| (C::Tag, tag)));
                        // Which types other refs may have is the profile's business: here any.
                        let kinds: &[_] = match r#ref.split('/').nth(1) {
                            Some("heads") => &["branch"],
                            Some("tags") => &["tag"],
                            _ => &["branch", "tag"],
                        };
                        for kind in kinds {
                            claims.push((C::RefType, kind));
                            jobs.push(job(&claims, &[C::Branch, C::Tag]));
                        }
                    }
                }
            }
        }
        jobs
    }

    proptest! {
        /// The prover against the evaluator: a job that two mappings serve is an overlap, always; and where the
        /// small world has all values that the conditions can tell apart, an overlap has such a job.
        #[test]
        fn an_overlap_is_found_exactly_when_a_job_shows_it(
            a in conditions(), b in conditions(), names_go in any::<bool>(),
        ) {
            let builder = || if names_go { Builder::new().warns_of_renames() } else { Builder::new() };
            let both = builder().mapping("a", "r", a.clone()).mapping("b", "r", b.clone()).build();
            let alone = builder().mapping("a", "r", a).mapping("b", "s", b).build();
            let shown = jobs().iter().any(|case| possible_roles(&alone, case, UnixSeconds(0)).len() == 2);
            prop_assert_eq!(!check(&both).is_empty(), shown);
        }
    }
}
