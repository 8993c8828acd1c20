//! The words of the language, each through the `[[test]]` blocks that its users would write.

use claimbound_core::{
    mapping::{Ask, Folder, Loaded, explain, load, shadowed},
    review::{Given, run_tests},
    time::UnixSeconds,
    workload::{Case, Claim, Profiles},
};

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65 }
[issuer.gitlab]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"
[team.a]
path = "teams/a"
"#;
const ROLES: &str = r#"
[role.reader]
description = "Reads"
backend = "jwt"
teams = ["a"]
sensitivity = "internal"
[role.reader.jwt]
audience = "https://a.example"
[role.writer]
description = "Writes"
backend = "jwt"
teams = ["a"]
sensitivity = "internal"
[role.writer.jwt]
audience = "https://a.example"
"#;

/// A folder of one team's file, `more` at the end of the policy.
fn folder(more: &str, team: &str) -> Loaded {
    let policy = format!("{POLICY}{more}");
    let files = [("policy.toml", &*policy), ("roles/a.toml", ROLES), ("teams/a/a.toml", team)];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into();
    load(&Folder { files }, &Profiles::builtin())
}

fn codes(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|one| format!("{}: {}", one.code, one.message)).collect()
}

/// Loads, with tests that all pass.
fn holds(more: &str, team: &str) -> Loaded {
    let loaded = folder(more, team);
    let set = loaded.set.as_ref().unwrap_or_else(|| panic!("{:#?}", codes(&loaded)));
    for result in run_tests(set, &loaded.profiles, &loaded.tests) {
        assert_eq!(result.failure, None, "{}", result.name);
    }
    assert!(!loaded.tests.is_empty());
    loaded
}

/// One mapping of `reader` at GitHub with these conditions; jobs that it grants, and jobs that it does not.
fn judges(conditions: &str, granted: &[&str], refused: &[&str]) {
    let mut team = format!(
        "[file]\nissuer = \"github\"\n[[mapping]]\nname = \"m\"\ndescription = \"d\"\nroles = [\"reader\"]\n\
         [mapping.match]\nrepository = {{ name = \"acme/api\", id = 7 }}\n{conditions}\n"
    );
    let job = |job: &str| match job.contains("event_name") {
        true => format!("{{ repository = \"acme/api\", {job} }}"),
        false => format!("{{ repository = \"acme/api\", event_name = \"push\", {job} }}"),
    };
    for (number, granted) in granted.iter().enumerate() {
        let job = job(granted);
        team +=
            &format!("[[test]]\nname = \"g{number}\"\nworkload = {job}\nexpect = \"grant\"\nroles = [\"reader\"]\n");
    }
    for (number, refused) in refused.iter().enumerate() {
        let job = job(refused);
        team += &format!("[[test]]\nname = \"r{number}\"\nworkload = {job}\nexpect = \"deny\"\nrole = \"reader\"\n");
    }
    holds("", &team);
}

#[test]
fn numbers_are_runs_of_digits_and_nothing_else() {
    judges(
        "tag = { glob = \"v{num}.{num}\" }",
        &["tag = \"v1.22\"", "tag = \"v007.0\""],
        &["tag = \"v1\"", "tag = \"v1.x\"", "tag = \"v1.2-rc\"", "tag = \"v.1\"", "branch = \"v1.2\""],
    );
    judges(
        "job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", tag = { glob = \"v{num}\" } }",
        &[
            "tag = \"x\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", ref = \"refs/tags/v2\" }",
        ],
        &[
            "tag = \"x\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", ref = \"refs/heads/v2\" }",
        ],
    );
}

#[test]
fn a_negation_holds_only_for_what_is_there() {
    judges(
        "branch = { not_prefix = \"gh-readonly-queue\" }",
        &["branch = \"main\"", "branch = \"gh\""],
        &["branch = \"gh-readonly-queue/main/pr-1\"", "branch = \"gh-readonly-queue\"", "tag = \"v1\""],
    );
    judges(
        "environment = { not_prefix = \"prod\" }",
        &["branch = \"main\", environment = \"staging\""],
        &["branch = \"main\"", "branch = \"main\", environment = \"production\""],
    );
    judges(
        "job_workflow = { repository = \"acme/ci\", branch = { not_prefix = \"wip\" } }",
        &[
            "branch = \"x\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", ref = \"refs/heads/main\" }",
        ],
        &[
            "branch = \"x\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", ref = \"refs/heads/wip/1\" }",
            "branch = \"x\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/a.yml\", ref = \"refs/tags/main\" }",
        ],
    );
}

#[test]
fn forms_of_one_value_can_be_mixed() {
    judges(
        "branch = { any = [\"main\", { glob = \"release/{num}\" }, { all = [{ glob = \"fix/*\" }, { not_prefix = \"fix/no\" }] }] }",
        &["branch = \"main\"", "branch = \"release/7\"", "branch = \"fix/a\""],
        &["branch = \"release/x\"", "branch = \"fix/no1\"", "branch = \"other\"", "tag = \"main\""],
    );
    judges(
        "environment = { any = [\"staging\", { absent = true }] }",
        &["branch = \"main\", environment = \"staging\"", "branch = \"main\""],
        &["branch = \"main\", environment = \"production\""],
    );
    judges(
        "event_name = { any = [{ class = \"default\" }, \"pull_request\"] }",
        &["event_name = \"push\", branch = \"main\"", "event_name = \"pull_request\", base_ref = \"main\""],
        &["event_name = \"issues\", branch = \"main\"", "event_name = \"not_yet_invented\", branch = \"main\""],
    );
}

#[test]
fn a_mix_of_pins_pins() {
    holds(
        "",
        r#"[file]
issuer = "github"
[set.two]
repositories = [{ name = "acme/a", id = 1 }, { name = "acme/b", id = 2 }]
[[mapping]]
name = "m"
description = "d"
roles = ["reader"]
[mapping.match]
repository = { any = [{ set = "two" }, { name = "acme/c", id = 3 }] }
[[test]]
name = "of the set"
workload = { repository = "acme/b", branch = "main", event_name = "push" }
expect = "grant"
roles = ["reader"]
[[test]]
name = "beside it"
workload = { repository = "acme/c", branch = "main", event_name = "push" }
expect = "grant"
roles = ["reader"]
[[test]]
name = "crosswise"
workload = { repository = "acme/c", repository_id = 1, branch = "main", event_name = "push" }
expect = "deny"
role = "reader"
fails = ["repository"]
"#,
    );
}

#[test]
fn classes_of_events_and_what_is_unknown_in_a_deny() {
    holds(
        r#"[[deny]]
name = "outsiders"
reason = "r"
issuers = ["github"]
[deny.match]
event_name = { any = [{ class = "outsider" }, "x"], if_unknown = "ignore" }
"#,
        r#"[file]
issuer = "github"
[[mapping]]
name = "m"
description = "d"
roles = ["reader"]
[mapping.match]
repository = { name = "acme/api", id = 7 }
event_name = ["push", "issue_comment"]
[[test]]
name = "push"
workload = { repository = "acme/api", branch = "main", event_name = "push" }
expect = "grant"
roles = ["reader"]
[[test]]
name = "a comment"
workload = { repository = "acme/api", branch = "main", event_name = "issue_comment" }
expect = "deny"
role = "reader"
"#,
    );
}

#[test]
fn classes_of_initiators() {
    let job = |initiator: &str| {
        format!("workload = {{ repository = \"acme/api\", branch = \"main\", event_name = \"push\"{initiator} }}")
    };
    let test = |name: &str, initiator: &str, outcome: &str| {
        format!("[[test]]\nname = \"{name}\"\n{}\n{outcome}\n", job(initiator))
    };
    let (grant, deny) = ("expect = \"grant\"\nroles = [\"reader\"]", "expect = \"deny\"\nrole = \"reader\"");
    let mapping = "[file]\nissuer = \"github\"\n[[mapping]]\nname = \"m\"\ndescription = \"d\"\nroles = [\"reader\"]\n\
                   [mapping.match]\nrepository = { name = \"acme/api\", id = 7 }\n";
    let person = test("a person", ", initiator = \"octocat\"", grant);
    let bots = ["dependabot[bot]", "copilot-swe-agent[bot]"]
        .map(|bot| test(bot, &format!(", initiator = \"{bot}\""), deny))
        .concat();
    // Who started it is not told: no person in a mapping, and automation in a deny.
    let nobody = test("nobody", "", deny);
    holds("", &format!("{mapping}initiator = {{ class = \"person\" }}\n{person}{bots}{nobody}"));
    let rule = "[[deny]]\nname = \"no-automation\"\nreason = \"r\"\nissuers = [\"github\"]\n[deny.match]\n\
                initiator = { class = \"automation\" }\n";
    holds(rule, &format!("{mapping}{person}{bots}{nobody}"));
    let wrong = |condition: &str| codes(&folder("", &format!("{mapping}{condition}\n")));
    assert_eq!(wrong("initiator = { class = \"people\" }").len(), 1);
    assert_eq!(wrong("branch = { class = \"person\" }").len(), 1);
}

#[test]
fn mixes_that_share_a_job_overlap() {
    let two = |first: &str, second: &str| {
        let mapping = |name: &str, condition: &str| {
            format!(
                "[[mapping]]\nname = \"{name}\"\ndescription = \"d\"\nroles = [\"reader\"]\n[mapping.match]\n\
                 repository = {{ name = \"acme/api\", id = 7 }}\n{condition}\n"
            )
        };
        let team = format!("[file]\nissuer = \"github\"\n{}{}", mapping("a", first), mapping("b", second));
        codes(&folder("", &team)).iter().map(|one| one[..6].to_owned()).collect::<Vec<_>>()
    };
    let staging = "environment = { any = [\"staging\", { absent = true }] }";
    assert_eq!(two(staging, "environment = \"production\""), [""; 0]);
    assert_eq!(two(staging, "environment = { any = [\"production\", { absent = true }] }"), ["CB0701"]);
    assert_eq!(two("tag = { glob = \"v{num}\" }", "tag = { not_prefix = \"v1\" }"), ["CB0701"]);
    assert_eq!(two("tag = { glob = \"v{num}\" }", "tag = { not_prefix = \"v\" }"), [""; 0]);
    let alternatives = "branch = \"main\"\n[[mapping.any]]\nenvironment = \"a\"\n[[mapping.any]]\nrunner_environment = \"github-hosted\"";
    assert_eq!(two(alternatives, "branch = \"main\"\nenvironment = \"b\""), ["CB0701"]);
    assert_eq!(
        two(alternatives, "branch = \"main\"\nenvironment = \"b\"\nrunner_environment = \"self-hosted\""),
        [""; 0]
    );
}

const SHAPES: &str = r#"[file]
issuer = "github"
[[mapping]]
name = "shapes"
description = "d"
roles = ["reader"]
expires = 2027-12-31T00:00:00Z
[mapping.match]
repository = { name = "acme/api", id = 7 }
[[mapping.any]]
branch = "main"
[[mapping.any]]
tag = { glob = "v{num}" }
event_name = "release"
[[mapping]]
name = "tried"
description = "d"
shadow = true
roles = ["reader", "writer"]
[mapping.match]
repository = { name = "acme/api", id = 7 }
[[test]]
name = "the first alternative"
workload = { repository = "acme/api", branch = "main", event_name = "push" }
expect = "grant"
roles = ["reader"]
[[test]]
name = "the second"
workload = { repository = "acme/api", tag = "v1", event_name = "release" }
expect = "grant"
roles = ["reader"]
[[test]]
name = "events are judged for each"
workload = { repository = "acme/api", branch = "main", event_name = "issues" }
expect = "deny"
role = "reader"
fails = ["event_name"]
[[test]]
name = "the nearest alternative is told"
workload = { repository = "acme/api", tag = "v1", event_name = "issues" }
expect = "deny"
role = "reader"
fails = ["event_name"]
[[test]]
name = "a shadow grants nothing"
workload = { repository = "acme/api", branch = "main", event_name = "push" }
expect = "deny"
role = "writer"
[[test]]
name = "just before its end"
workload = { repository = "acme/api", branch = "main", event_name = "push" }
at = 2027-12-30T23:59:59Z
expect = "grant"
roles = ["reader"]
[[test]]
name = "at its end"
workload = { repository = "acme/api", branch = "main", event_name = "push" }
at = 2027-12-31T00:00:00Z
expect = "deny"
role = "reader"
fails = ["expires"]
"#;

#[test]
fn alternatives_ends_and_shadows() {
    let loaded = holds("", SHAPES);
    let set = loaded.set.expect("it loads");
    let names: Vec<_> = set.mappings.iter().map(|one| (&*one.name, one.alternative, one.is_first())).collect();
    assert_eq!(names, [("shapes", Some(1), true), ("shapes", Some(2), false), ("tried", None, true)]);
    let issuer = set.issuer_named("github").expect("it is there").0;
    let given = [(Claim::Repository, "acme/api"), (Claim::Branch, "main"), (Claim::EventName, "push")];
    let mut given = Given::Workload(given.map(|(claim, value)| (claim, value.to_owned())).to_vec().into());
    given.fill_ids(&set, issuer);
    let case = Case::alone(given.workload(&set, &loaded.profiles, issuer).expect("a job"));
    let end = UnixSeconds(1_830_211_200);
    let ask = Ask { role: Some("reader"), ..Ask::default() };
    let (decision, trace) = explain(&set, &case, &ask, end);
    assert_eq!(decision.to_json(&set)["reason"], "mapping_expired");
    assert_eq!(decision.to_json(&set)["nearest"], "shapes");
    assert_eq!(trace.mappings.iter().filter(|one| set.mapping(one.mapping).shadow).count(), 0);
    assert_eq!(trace.shadows.iter().map(|one| one.held).collect::<Vec<_>>(), [true]);
    let told = trace.to_json(&set);
    assert_eq!(told["mappings"][0]["conditions"].as_array().expect("a list").last().expect("one")["claim"], "expires");
    let found = shadowed(&set, &case, &Ask::default(), UnixSeconds(0));
    let found: Vec<_> = found.into_iter().map(|(one, role)| (&*set.mapping(one).name, &*set.role(role).name)).collect();
    assert_eq!(found, [("tried", "reader"), ("tried", "writer")]);
    assert_eq!(shadowed(&set, &case, &ask, UnixSeconds(0)).len(), 1);
}

#[test]
fn what_never_may_be_is_proved_with_a_witness() {
    let never = r#"[[never]]
name = "outsiders-get-nothing"
issuers = ["github"]
[never.match]
event_name = { class = "outsider" }
"#;
    let team = |events: &str| {
        format!(
            "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"reader\"]\n[mapping.match]\n\
             repository = {{ name = \"acme/api\", id = 7 }}\n{events}"
        )
    };
    assert_eq!(codes(&folder(never, &team(""))), [""; 0]);
    assert_eq!(codes(&folder(never, &team("event_name = \"push\""))), [""; 0]);
    let told = codes(&folder(never, &team("event_name = [\"push\", \"issue_comment\"]")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("CB0703") && told[0].contains("`event_name = \"issue_comment\"`"), "{told:?}");
    // A deny holds at run time, so it counts.
    let denied = format!(
        "{never}[[deny]]\nname = \"c\"\nreason = \"r\"\nissuers = [\"github\"]\n[deny.match]\nevent_name = \"issue_comment\"\n"
    );
    assert_eq!(codes(&folder(&denied, &team("event_name = [\"push\", \"issue_comment\"]"))), [""; 0]);
    // What is unknown counts: a job may have such a runner.
    let unknown =
        "[[never]]\nname = \"own\"\nissuers = [\"github\"]\n[never.match]\nrunner_environment = \"self-hosted\"\n";
    assert!(codes(&folder(unknown, &team("")))[0].starts_with("CB0703"));
    assert_eq!(codes(&folder(unknown, &team("runner_environment = \"github-hosted\""))), [""; 0]);
    // Shadows give nothing, alternatives count each.
    let shadow = team("event_name = \"issues\"").replace("issuer =", "shadow = true\nissuer =");
    assert_eq!(codes(&folder(never, &shadow)), [""; 0]);
    let any = team("") + "[[mapping.any]]\nbranch = \"a\"\n[[mapping.any]]\nbranch = \"b\"\nevent_name = \"fork\"\n";
    assert_eq!(codes(&folder(never, &any)).len(), 1);
    let other = never.replace("[never.match]", "roles = [\"writer\"]\n[never.match]");
    assert_eq!(codes(&folder(&other, &team("event_name = \"issues\""))), [""; 0]);
}
