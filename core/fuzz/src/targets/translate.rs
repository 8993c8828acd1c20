//! Any claims under any profile. What becomes a workload obeys the types of canonical claims, says of its ref what the
//! ref says, and is the same again from what evidence keeps of it.

use crate::{Outcome, Target, seeds};
use claimbound_core::{
    claims::Claims,
    workload::{Claim, Kind, Presence, Profile, Profiles, Text, Workload, from_canonical, translate},
};
use std::{borrow::Cow, sync::LazyLock};

pub(super) const TARGET: Target = Target {
    name: "translate",
    run: translated,
    seeds: || {
        let golden = seeds::files(&seeds::repository("core/tests/it/data"));
        let tokens = golden.iter().filter(|(path, _)| path.ends_with(".json"));
        tokens.map(|(path, claims)| [profile_for(path).name.as_bytes(), b"\n", claims].concat()).collect()
    },
    dictionary: &[
        "refs/heads/",
        "refs/tags/",
        "refs/pull/1/merge",
        "refs/pull//merge",
        "refs/merge-requests/1/head",
        "branch",
        "tag",
        "\"\"",
        "null",
        "true",
        "\"true\"",
        "\"false\"",
        "false",
        "pull_request",
        "merge_request_event",
        "push",
        "repo:acme/api:ref:refs/heads/main",
        "repo:acme@65/api@7:x",
        "project_path:acme/api:ref_type:branch:ref:main",
        "acme/api",
        "acme",
        "/",
        "//",
        "@",
        "@refs/heads/main",
        "@refs/tags/v1",
        ".github/workflows/d.yml",
        "github\n",
        "gitlab\n",
        "github-actions\n",
        "18446744073709551615",
        "18446744073709551616",
        "00",
        "\\u0000",
        "\\u00e9",
        "0123456789abcdef0123456789abcdef01234567",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
    ],
    input_bytes_max: 8 * 1024,
    runs: 20_000,
};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

/// Longest value of a canonical claim, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// The profile that a golden token's file is named after (`github-push` → `github-actions`).
fn profile_for(path: &str) -> &'static Profile {
    let first = |name: &str| name.split(['-', '_', '/', '.']).next().unwrap_or_default().to_owned();
    let named = PROFILES.iter().find(|profile| first(&profile.name) == first(path));
    named.or_else(|| PROFILES.iter().next()).expect("there are profiles")
}

fn translated(bytes: &[u8]) -> Outcome {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let name = String::from_utf8_lossy(&bytes[..at]);
    let profile = PROFILES.get(&name).unwrap_or_else(|| profile_for(&name));
    let Ok(claims) = Claims::parse(&bytes[(at + 1).min(bytes.len())..]) else { return "no claims".to_owned() };
    let recorded = claims.to_json().to_string();
    let kept = || Claims::parse(recorded.as_bytes()).expect("what is written is read again");
    let workload = match (translate(profile, "ci", claims.clone()), translate(profile, "ci", kept())) {
        (Ok(workload), Ok(again)) => {
            assert!(same(&workload, &again), "evidence tells another job");
            workload
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again, "evidence tells another refusal");
            return format!("{}: {error}", profile.name);
        }
        (one, again) => panic!("the token {:?}, its record {:?}", one.err(), again.err()),
    };
    for claim in Claim::ALL {
        typed(profile, *claim, &workload);
    }
    of_ref(&workload);
    let owner = workload.text(Claim::RepositoryOwner).zip(workload.text(Claim::Repository));
    assert!(owner.is_none_or(|(owner, repository)| {
        let above = repository.rsplit_once('/').map(|(above, _)| above);
        above
            .is_some_and(|above| if profile.folds_names() { above.eq_ignore_ascii_case(owner) } else { above == owner })
    }));
    by_hand(profile, &workload);
    let shape: String = Claim::ALL
        .iter()
        .map(|claim| match workload.get(*claim) {
            Presence::Present(_) => '1',
            Presence::None => '0',
            Presence::Unknown => '?',
        })
        .collect();
    format!("{}: {shape}", profile.name)
}

fn same(one: &Workload<'_>, other: &Workload<'_>) -> bool {
    Claim::ALL.iter().all(|claim| one.get(*claim) == other.get(*claim))
}

fn typed(profile: &Profile, claim: Claim, workload: &Workload<'_>) {
    match (claim.kind(), workload.get(claim)) {
        (_, Presence::None | Presence::Unknown) | (Kind::Boolean, Presence::Present(Text::Boolean(_))) => {}
        (Kind::Boolean, Presence::Present(Text::Text(_))) | (_, Presence::Present(Text::Boolean(_))) => {
            panic!("`{}` has another type", claim.name())
        }
        (kind, Presence::Present(Text::Text(text))) => {
            let name = claim.name();
            assert!(profile.provides(claim), "`{}` does not provide `{name}`", profile.name);
            assert!(!text.is_empty() && text.len() <= VALUE_BYTES_MAX, "`{name}`");
            assert!(!text.chars().any(char::is_control), "`{name}`");
            let ascii = text.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(ascii || !matches!(kind, Kind::Name | Kind::Id), "`{name}`");
            assert!(claim != Claim::PullRequest || text.parse::<u64>().is_ok_and(|number| number.to_string() == *text));
        }
    }
}

/// A branch is a branch's ref, a tag a tag's, and no job has both.
fn of_ref(workload: &Workload<'_>) {
    let Some(full) = workload.text(Claim::Ref) else {
        assert!([Claim::Branch, Claim::Tag].iter().all(|claim| workload.text(*claim).is_none()), "of no ref");
        return;
    };
    assert!(full.starts_with("refs/"));
    for (claim, prefix, kind) in [(Claim::Branch, "refs/heads/", "branch"), (Claim::Tag, "refs/tags/", "tag")] {
        assert_eq!(workload.text(claim), full.strip_prefix(prefix), "`{}` of `{full}`", claim.name());
        let stated = workload.text(Claim::RefType);
        assert!(!full.starts_with(prefix) || stated == Some(kind), "`{full}` as {stated:?}");
    }
}

/// The same job stated by hand, as `explain` takes it, is possible and the same where it is present.
fn by_hand(profile: &Profile, workload: &Workload<'_>) {
    let given: Vec<(Claim, Cow<'_, str>)> = Claim::ALL
        .iter()
        .filter_map(|claim| match workload.get(*claim) {
            Presence::Present(Text::Text(text)) => Some((*claim, Cow::Borrowed(text.as_ref()))),
            Presence::Present(Text::Boolean(value)) => Some((*claim, value.to_string().into())),
            _ => None,
        })
        .collect();
    let again = from_canonical(profile, "ci", &given).unwrap_or_else(|error| panic!("by hand: {error}"));
    for (claim, text) in &given {
        let stated = match again.get(*claim) {
            Presence::Present(Text::Text(text)) => text.to_string(),
            Presence::Present(Text::Boolean(value)) => value.to_string(),
            other => panic!("`{}` by hand is {other:?}", claim.name()),
        };
        assert_eq!(stated, *text, "`{}` by hand", claim.name());
    }
}
