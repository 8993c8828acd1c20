//! Any folder. It loads, or says why in findings whose places lie in its files; what loads answers every way of asking
//! alike, and a job that was never pinned gets nothing.

use crate::{
    Outcome, Target,
    seeds::{self, packed, unpacked},
};
use claimbound_core::{
    diag::{Diagnostic, Severity},
    mapping::{Ask, Decision, Exempt, Folder, Loaded, MappingSet, Test, decide, explain, load, possible_roles},
    review::{Given, TestCase, run_tests},
    time::UnixSeconds,
    workload::{Case, Claim, Profiles},
};
use std::{collections::BTreeSet, sync::LazyLock};

pub(super) const TARGET: Target = Target {
    name: "mapping",
    run: mapping,
    seeds: || {
        let broken = seeds::repository("tests/broken");
        let mut folders: Vec<_> =
            std::fs::read_dir(broken).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        folders.extend([seeds::repository("mappings"), seeds::repository("examples/aws/mappings")]);
        folders.sort();
        let packed = folders.iter().map(|folder| packed(&seeds::files(folder)));
        packed.chain([SMALL.as_bytes().to_vec()]).collect()
    },
    dictionary: &[
        "[[mapping]]\n",
        "[mapping.match]\n",
        "[file]\n",
        "[file.match]\n",
        "[[deny]]\n",
        "[deny.match]\n",
        "[[test]]\n",
        "[role.r]\n",
        "[role.r.require]\n",
        "[role.r.jwt]\n",
        "[team.t]\n",
        "[issuer.github]\n",
        "[sensitivity.s]\n",
        "[target.t]\n",
        "format = 1\n",
        "name = \"m\"\n",
        "roles = [\"r\"]\n",
        "issuer = \"github\"\n",
        "repository = { name = \"acme/api\", id = 7 }\n",
        "any_repository = \"acme\"\n",
        "branch = \"main\"\n",
        "branch = { glob = \"release/*\" }\n",
        "tag = { glob = \"v**\" }\n",
        "environment = [\"a\", \"b\"]\n",
        "event_name = \"push\"\n",
        "{ absent = true }",
        "{ present = true }",
        "{ under = \"a\" }",
        "{ all = [] }",
        "{ not = \"x\" }",
        "duration = \"1h\"\n",
        "max_duration = \"10m\"\n",
        "{claim.repository_id}",
        "{target.region}",
        "\"*\"",
        "\"**\"",
        "\"?\"",
        "\"a*b*c*d*e*f\"",
        "claims.\"x\" = 1\n",
        "=== teams/t/x.toml\n",
        "=== policy.toml\n",
        "=== roles/r.toml\n",
        "=== tests/t.toml\n",
        "=== policies/p.json\n",
        "\"\"\"",
        "'''",
        "\\",
        "#",
        "true",
        "00",
        "1979-05-27",
        "inf",
        "[a.b.c]\n",
        "{ a = { a = { a = 1 } } }",
        "\u{fc}",
        "\u{202e}",
    ],
    input_bytes_max: 32 * 1024,
    runs: 2_000,
};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

/// Small enough that most changes hit something that means something.
const SMALL: &str = r#"=== policy.toml
format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65 }
[team.t]
path = "teams/t"
[[deny]]
name = "no-forks"
reason = "forks"
[deny.match]
event_name = "pull_request_target"
=== roles/r.toml
[role.r]
description = "Read"
backend = "jwt"
teams = ["t"]
sensitivity = "internal"
[role.r.jwt]
audience = "https://bao.acme.example"
=== teams/t/m.toml
[file]
issuer = "github"
[[mapping]]
name = "m"
description = "d"
roles = ["r"]
[mapping.match]
repository = { name = "acme/api", id = 7 }
branch = { glob = "release/*" }
"#;

/// Jobs of the small folder and of the sample, and one that nobody can have pinned.
const JOBS: [&[(Claim, &str)]; 4] = [
    &[
        (Claim::Repository, "acme/api"),
        (Claim::RepositoryId, "7"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::Branch, "release/1"),
        (Claim::EventName, "push"),
    ],
    &[
        (Claim::Repository, "acme/api"),
        (Claim::RepositoryId, "7"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::Branch, "main"),
        (Claim::EventName, "pull_request_target"),
    ],
    &[
        (Claim::Repository, "acme/payments-api"),
        (Claim::RepositoryId, "740000001"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::Branch, "main"),
        (Claim::Environment, "production"),
        (Claim::EventName, "push"),
        (Claim::RunnerEnvironment, "github-hosted"),
        (Claim::JobWorkflowRepository, "acme/ci"),
        (Claim::JobWorkflowFile, ".github/workflows/deploy.yml"),
        (Claim::JobWorkflowRef, "refs/heads/main"),
    ],
    &[
        (Claim::Repository, "x/y"),
        (Claim::RepositoryId, "18446744073709551615"),
        (Claim::RepositoryOwnerId, "18446744073709551614"),
        (Claim::Branch, "main"),
        (Claim::EventName, "push"),
    ],
];

fn mapping(bytes: &[u8]) -> Outcome {
    let folder = Folder { files: unpacked(bytes) };
    let Loaded { set, tests, diagnostics, profiles } = load(&folder, &PROFILES);
    let again = load(&folder, &PROFILES);
    assert_eq!(diagnostics, again.diagnostics, "one folder, two lists of findings");
    assert_eq!(set.is_some(), diagnostics.iter().all(|finding| finding.severity != Severity::Error));
    for finding in &diagnostics {
        told(finding, &folder);
    }
    let codes: BTreeSet<String> = diagnostics.iter().map(|finding| finding.code.to_string()).collect();
    let found = codes.into_iter().collect::<Vec<_>>().join(" ");
    match set {
        None => found,
        Some(set) => {
            asked(&set, &profiles, &tests);
            format!("loads {} mappings, {} denies; {found}", set.mappings.len().min(9), set.denies.len().min(9))
        }
    }
}

/// A finding lies in a file of the folder, between characters, and an error says what to do.
fn told(finding: &Diagnostic, folder: &Folder) {
    let code = finding.code;
    assert!(!finding.message.is_empty(), "{code}");
    assert!(
        finding.severity != Severity::Error || finding.help.as_ref().is_some_and(|help| !help.is_empty()),
        "{code}"
    );
    let places = finding.span.iter().chain(finding.others.iter().map(|label| &label.span));
    for place in places.chain(finding.suggestion.iter().map(|suggestion| &suggestion.span)) {
        let (file, bytes) = (&place.file, place.bytes());
        let content = folder.files.get(&**file).unwrap_or_else(|| panic!("{code} names the file `{file}`"));
        assert!(bytes.start <= bytes.end && bytes.end <= content.len(), "{code} at {bytes:?} of {}", content.len());
        if let Ok(text) = std::str::from_utf8(content) {
            assert!(
                text.is_char_boundary(bytes.start) && text.is_char_boundary(bytes.end),
                "{code} splits a character"
            );
        }
    }
}

fn asked(set: &MappingSet, profiles: &Profiles, tests: &[TestCase]) {
    let results = run_tests(set, profiles, tests);
    assert_eq!(results.len(), tests.len());
    let roles: Vec<&str> = set.role_names().collect();
    for issuer in set.issuers.iter().map(|issuer| &issuer.name) {
        let id = set.issuer_named(issuer).expect("it is there").0;
        for job in JOBS {
            let given = Given::Workload(job.iter().map(|(claim, text)| (*claim, (*text).to_owned())).collect());
            let Ok(principal) = given.workload(set, profiles, id) else { continue };
            let case = Case::alone(principal);
            let possible = possible_roles(set, &case, NOW);
            for role in [None].into_iter().chain(roles.iter().map(|role| Some(*role))) {
                let ask = Ask { role, ..Ask::default() };
                let decision = decide(set, &case, &ask, NOW);
                let (explained, trace) = explain(set, &case, &ask, NOW);
                assert_eq!(decision, explained, "two ways of asking for {role:?}");
                let _ = (decision.to_json(set), trace.to_json(set));
                let Decision::Grant(grant) = decision else { continue };
                assert!(possible.contains(&grant.role), "{role:?} is granted and not possible");
                assert!(role.is_none_or(|role| set.role(grant.role).name == role), "another role than asked for");
                assert!(grant.duration <= set.role(grant.role).max_duration);
                let report = trace.mappings.iter().find(|report| report.mapping == grant.mapping);
                assert!(report.is_some_and(|report| report.held && report.conditions.iter().all(|one| one.held)));
                pinned(set, grant.mapping, &case);
            }
        }
    }
}

const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

/// What granted pins an immutable id of the job, or its issuer is not shared with strangers.
fn pinned(set: &MappingSet, mapping: claimbound_core::mapping::MappingId, case: &Case<'_>) {
    let mapping = set.mapping(mapping);
    let own = |id: &str| {
        [Claim::RepositoryId, Claim::RepositoryOwnerId].iter().any(|claim| case.principal.text(*claim) == Some(id))
    };
    let pins = mapping.conditions.iter().any(|condition| match &condition.test {
        Test::Repository(pairs) | Test::ById(pairs) | Test::Owner(pairs) => pairs.iter().any(|(_, id)| own(id)),
        Test::Text(lang) => {
            let id = |claim| condition.claim == claim && case.principal.text(claim).is_some_and(|id| lang.matches(id));
            id(Claim::RepositoryId) || id(Claim::RepositoryOwnerId)
        }
        _ => false,
    });
    let pins = pins || mapping.rests_on(Exempt::MutableIdentity);
    assert!(pins || !set.issuer(mapping.issuer).multi_tenant, "`{}` grants without a pinned id", mapping.name);
}
