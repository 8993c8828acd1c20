//! What a folder means: compiled conditions, ceilings and tests, and that no damage makes the loader panic.

use claimbound_core::{
    diag::Severity,
    mapping::{Condition, Folder, Limit, Loaded, Mapping, MappingSet, Origin, Test, load},
    review::{Expect, Given, Job},
    time::{Seconds, UnixSeconds},
    workload::{Claim, Profiles},
};
use proptest::prelude::*;
use std::sync::LazyLock;

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65, Labs = 66 }
[issuer.gitlab]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"
[team.payments]
path = "teams/payments"
[sensitivity.brief]
max_duration = "10m"
[target.staging]
sensitivity = "internal"
region = "eu-west-1"
[target.live]
sensitivity = "production"
region = "eu-central-1"
"#;

const ROLES: &str = r#"[role.reader]
description = "Read"
backend = "jwt"
teams = ["payments"]
sensitivity = "internal"
[role.reader.jwt]
audience = "https://bao.acme.example"

[role.deploy]
description = "Deploy"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
targets = ["staging", "live"]
[role.deploy.require]
job_workflow = { file = ".github/workflows/deploy.yml", branch = "main" }
[role.deploy.jwt]
audience = "https://{target.region}.acme.example/{claim.repository_id}"
"#;

const PIN: &str = "repository = { name = \"acme/api\", id = 7 }";

fn loaded(files: &[(&str, &str)]) -> Loaded {
    let base = [("policy.toml", POLICY), ("roles/r.toml", ROLES)];
    let mut folder = Folder::default();
    for (path, text) in base.iter().chain(files) {
        folder.files.insert((*path).to_owned(), text.as_bytes().to_vec());
    }
    load(&folder, &Profiles::builtin())
}

fn set(files: &[(&str, &str)]) -> MappingSet {
    let loaded = loaded(files);
    loaded.set.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}

/// The one mapping with these conditions, giving `reader` to jobs of GitHub.
fn mapping(conditions: &str) -> Mapping {
    let text = format!(
        "[file]\nissuer = \"github\"\n[[mapping]]\nname = \"m\"\ndescription = \"d\"\nroles = [\"reader\"]\n[mapping.match]\n{PIN}\n{conditions}\n"
    );
    set(&[("teams/payments/m.toml", &text)]).mappings.remove(0)
}

fn on(mapping: &Mapping, claim: Claim) -> Vec<&Condition> {
    mapping.conditions.iter().filter(|condition| condition.claim == claim).collect()
}

fn codes(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|finding| finding.code.to_string()).collect()
}

#[track_caller]
fn text(mapping: &Mapping, claim: Claim, inside: &[&str], outside: &[&str]) {
    let [condition] = on(mapping, claim)[..] else { panic!("{:#?}", mapping.conditions) };
    let Test::Text(lang) = &condition.test else { panic!("{condition:?}") };
    for (texts, expected) in [(inside, true), (outside, false)] {
        for text in texts {
            assert_eq!(lang.matches(text), expected, "{} `{text}`", claim.name());
        }
    }
}

#[test]
fn values_mean_what_the_language_says() {
    text(&mapping("branch = \"main\""), Claim::Branch, &["main"], &["Main", "main2", ""]);
    text(&mapping("environment = [\"a\", \"b\"]"), Claim::Environment, &["a", "b"], &["ab", "c"]);
    text(&mapping("branch = { glob = \"release/*\" }"), Claim::Branch, &["release/1"], &["release/1/2", "release/"]);
    text(&mapping("sha = { under = \"a/b\" }"), Claim::Sha, &["a/b", "a/b/c"], &["a/bc", "a"]);
    let workflow = mapping("job_workflow = { repository = \"acme/ci\", file = \"x.yml\", tag = { glob = \"v*\" } }");
    text(&workflow, Claim::JobWorkflowRef, &["refs/tags/v1"], &["refs/heads/v1", "v1"]);
    text(&workflow, Claim::JobWorkflowRepository, &["acme/ci", "ACME/CI"], &["evil/ci"]);
    let several = mapping("sha = { all = [{ glob = \"a*\" }, { glob = \"*b\" }] }");
    assert_eq!(on(&several, Claim::Sha).len(), 2, "all of them hold");
    assert!(matches!(on(&mapping("ref_protected = true"), Claim::RefProtected)[0].test, Test::Is(true)));
    assert!(matches!(on(&mapping("head_ref = { absent = true }"), Claim::HeadRef)[0].test, Test::Absent));
    assert!(matches!(on(&mapping("tag = { present = true }"), Claim::Tag)[0].test, Test::Present));
}

#[test]
fn a_workflow_without_repository_is_the_jobs_own() {
    let mapping = mapping("job_workflow = { file = \"x.yml\" }");
    assert!(matches!(on(&mapping, Claim::JobWorkflowRepository)[0].test, Test::SameRepository));
}

#[test]
fn owners_are_pinned_by_their_ids() {
    let one = mapping("repository_owner = \"LABS\"");
    let two = mapping("repository_owner = [\"acme\", \"Labs\"]");
    for (mapping, expected) in [(one, &[("Labs", "66")][..]), (two, &[("acme", "65"), ("Labs", "66")])] {
        let Test::Owner(pairs) = &on(&mapping, Claim::RepositoryOwner)[0].test else { panic!("{mapping:?}") };
        let pairs: Vec<_> = pairs.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
        assert_eq!(pairs, expected);
    }
}

#[test]
fn events_are_the_profiles_unless_named() {
    let unnamed = mapping("branch = \"main\"");
    text(&unnamed, Claim::EventName, &["push", "schedule"], &["pull_request", "pull_request_target", "new"]);
    assert_eq!(on(&unnamed, Claim::EventName)[0].origin, Origin::DefaultEvents);
    let named = mapping("event_name = \"pull_request\"");
    text(&named, Claim::EventName, &["pull_request"], &["push"]);
    assert_eq!(on(&named, Claim::EventName)[0].origin, Origin::Match);
}

#[test]
fn names_and_ids_beside_each_other_are_pairs() {
    let text = "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"reader\"]\n[mapping.match]\nrepository = \"acme/api\"\nrepository_id = 7\n";
    let mapping = set(&[("teams/payments/m.toml", text)]).mappings.remove(0);
    let Test::Repository(pairs) = &on(&mapping, Claim::Repository)[0].test else { panic!("{mapping:?}") };
    assert_eq!(**pairs, [("acme/api".to_owned(), "7".to_owned())]);
    assert!(on(&mapping, Claim::RepositoryId).is_empty());
}

#[test]
fn roles_are_expanded_over_their_targets() {
    let set = set(&[]);
    // In the order of the file.
    let names: Vec<_> = set.roles.iter().map(|role| (role.name.as_str(), role.max_duration)).collect();
    let (half_day, hour) = (Seconds(43_200), Seconds(3_600));
    assert_eq!(names, [("reader", half_day), ("deploy.staging", half_day), ("deploy.live", hour)]);
    assert_eq!(set.roles[2].target.as_deref(), Some("live"));
    let (audience, _) = &set.roles[2].parameters.values["audience"];
    assert_eq!(audience.as_str(), Some("https://eu-central-1.acme.example/{claim.repository_id}"));
    assert_eq!(set.roles[0].issuers, ["github", "gitlab"], "every issuer where it names none");
    let claims: Vec<_> = set
        .requires
        .values()
        .map(|all| all.iter().map(|condition| condition.claim.name()).collect::<Vec<_>>())
        .collect();
    let workflow = vec!["job_workflow.repository", "job_workflow.file", "job_workflow.ref"];
    assert_eq!(claims, [workflow.clone(), workflow], "for each target, at the one issuer");
}

#[test]
fn denies_are_expanded_to_roles_and_may_ignore_the_unknown() {
    let deny = "\n[[deny]]\nname = \"d\"\nreason = \"r\"\nsensitivity = \"production\"\n[deny.match]\nrunner_environment = { all = [\"self-hosted\"], if_unknown = \"ignore\" }\nevent_name = { glob = \"pull*\" }\n";
    let set = set(&[("policy.toml", &format!("{POLICY}{deny}"))]);
    let [deny] = &set.denies[..] else { panic!("{:?}", set.denies) };
    assert!(deny.issuers.is_empty());
    assert_eq!(deny.roles.iter().map(|id| set.role(*id).name.as_str()).collect::<Vec<_>>(), ["deploy.live"]);
    assert_eq!(deny.conditions.iter().map(|one| one.if_unknown_ignore).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn tests_take_ids_from_the_folders_own_pairs() {
    let text = format!(
        "[file]\nissuer = \"github\"\n[[mapping]]\nname = \"m\"\ndescription = \"d\"\nroles = [\"reader\"]\n[mapping.match]\n{PIN}\n\n[[test]]\nname = \"t\"\nworkload = {{ repository = \"ACME/api\", branch = \"main\", ref_protected = true, workflow = {{ file = \"x.yml\", branch = \"main\" }} }}\nexpect = \"deny\"\nrole = \"reader\"\nfails = [\"event_name\"]\nat = 2027-01-01T01:00:00+01:00\n"
    );
    let loaded = loaded(&[("teams/payments/m.toml", &text)]);
    let test = &loaded.tests[0];
    let Given::Workload(Job { claims: given, .. }) = &test.given else { panic!("{test:?}") };
    for (claim, value) in [
        (Claim::RepositoryId, "7"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::RefProtected, "true"),
        (Claim::WorkflowRef, "refs/heads/main"),
        (Claim::WorkflowRepository, "ACME/api"),
    ] {
        assert!(given.contains(&(claim, value.to_owned())), "{} in {given:?}", claim.name());
    }
    assert_eq!(test.at, Some(UnixSeconds(1_798_761_600)));
    let fails = Some(vec!["event_name".to_owned()]);
    assert_eq!(test.expect, Expect::Deny { role: Some("reader".to_owned()), fails });
}

#[test]
fn a_single_tenant_issuer_needs_no_ids_outside_production() {
    let text = "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"gitlab\"\nroles = [\"reader\"]\n[mapping.match]\nrepository = \"any/where\"\n";
    assert_eq!(codes(&loaded(&[("teams/payments/m.toml", text)])), Vec::<String>::new());
    let text = text.replace("gitlab", "github").replace("any/where", "acme/api");
    assert_eq!(codes(&loaded(&[("teams/payments/m.toml", &text)])), ["CB0401"]);
}

#[test]
fn a_target_is_never_made_less_strict() {
    for (sensitivity, fine) in [("internal", false), ("production", true), ("brief", false)] {
        let roles = ROLES.replace("targets = [", &format!("sensitivity = \"{sensitivity}\"\ntargets = ["));
        let found = codes(&loaded(&[("roles/r.toml", &roles)]));
        assert_eq!(found.is_empty(), fine, "{sensitivity}: {found:?}");
    }
    let roles = ROLES
        .replace("\"staging\", \"live\"", "\"staging\"")
        .replace("targets = [", "sensitivity = \"brief\"\ntargets = [");
    assert_eq!(codes(&loaded(&[("roles/r.toml", &roles)])), Vec::<String>::new(), "shorter than internal");
}

#[test]
fn a_large_file_is_refused_unread() {
    let text = format!("# {}\n", "x".repeat(1024 * 1024));
    assert_eq!(codes(&loaded(&[("teams/payments/m.toml", &text)])), ["CB0109"]);
}

static SAMPLE: LazyLock<Folder> = LazyLock::new(|| super::broken::folder(&super::broken::below("mappings")));

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A line or a piece of one file lost, doubled or replaced: the folder loads or says why not, and never panics.
    #[test]
    fn damage_is_told_and_never_a_panic(
        file in any::<prop::sample::Index>(),
        start in any::<prop::sample::Index>(),
        length in 0_usize..60,
        instead in prop::sample::select(vec!["", "\"", "[", "]", "{", "}", "=", ".", "\n", "\u{fc}", "*", "007", "[[mapping]]\n", "true"]),
    ) {
        let mut folder = SAMPLE.clone();
        let path = folder.files.keys().nth(file.index(folder.files.len())).expect("a file").clone();
        let text = String::from_utf8(folder.files[&path].clone()).expect("the sample is UTF-8");
        let start = start.index(text.len());
        let end = (start + length).min(text.len());
        prop_assume!(text.is_char_boundary(start) && text.is_char_boundary(end));
        let damaged = format!("{}{instead}{}", &text[..start], &text[end..]);
        folder.files.insert(path, damaged.into_bytes());
        let loaded = load(&folder, &Profiles::builtin());
        let errors = loaded.diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
        prop_assert_eq!(loaded.set.is_none(), errors > 0);
        for finding in &loaded.diagnostics {
            prop_assert!(finding.help.as_ref().is_some_and(|help| !help.is_empty()), "{:?}", finding);
        }
    }
}

#[test]
fn limits_are_read_as_they_are_written() {
    let limited = |limit: &str| mapping(&format!("[mapping.limit]\n{limit}")).limit.unwrap();
    assert_eq!(
        limited("per_run = 5\nper_hour = 1_000"),
        Limit { per_run: Some(5), per_hour: Some(1_000), ..Limit::default() }
    );
    assert_eq!(limited("per_hour = 0x10"), Limit { per_hour: Some(16), ..Limit::default() });
    assert_eq!(limited("per_run = 1_000_000").to_string(), "1000000 per run");
    assert_eq!(mapping("branch = \"main\"").limit, None);
}
