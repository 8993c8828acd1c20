//! Ceremonies in the mapping language: what loads, what each key means, what tests expect, what a change is called.

use claimbound_core::{
    diag::Severity,
    mapping::{Exempt, Folder, Loaded, When, load},
    review::{diff, run_tests},
    workload::Profiles,
};

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65 }
[issuer.cloud]
profile = "google"
url = "https://accounts.google.com"
[team.payments]
path = "teams/payments"
approvers = ["okta:group:leads"]
may = ["any_repository", "allow_self", "own_approvers"]
[team.strict]
path = "teams/strict"
approvers = ["okta:group:leads"]
[team.nobody]
path = "teams/nobody"
[sensitivity.production]
needs_any = ["branch", "ceremony"]
[sensitivity.production.ceremony]
approvers = ["okta:group:employees"]
quorum = 2
"#;

const ROLES: &str = r#"[role.live]
description = "Deploy"
backend = "jwt"
teams = ["payments", "strict", "nobody"]
issuers = ["github"]
sensitivity = "production"
[role.live.jwt]
audience = "https://live.acme.example"

[role.reader]
description = "Read"
backend = "jwt"
teams = ["payments", "strict", "nobody"]
issuers = ["github"]
sensitivity = "internal"
[role.reader.jwt]
audience = "https://bao.acme.example"
"#;

const MATCH: &str = "[mapping.match]\nrepository = { name = \"acme/api\", id = 7 }\nenvironment = \"production\"\n";

fn folder(team: &str, role: &str, keys: &str) -> Folder {
    let text =
        format!("[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"{role}\"]\n{keys}\n");
    whole(POLICY, team, &text)
}

fn whole(policy: &str, team: &str, text: &str) -> Folder {
    let files = [("policy.toml", policy), ("roles/r.toml", ROLES), (&format!("teams/{team}/m.toml"), text)];
    Folder { files: files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect() }
}

fn loaded(folder: &Folder) -> Loaded {
    load(folder, &Profiles::builtin())
}

/// Codes of errors and warnings.
fn told(folder: &Folder) -> String {
    let findings = loaded(folder).diagnostics.into_iter().filter(|finding| finding.severity != Severity::Note);
    findings.map(|finding| finding.code.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_ceremony_may_say() {
    for (team, role, table, codes) in [
        ("payments", "live", "when = \"every\"", ""),
        ("payments", "live", "when = \"first_use\"", ""),
        (
            "payments",
            "live",
            "when = \"first_use\"\nremember = [\"environment\", \"job_workflow\"]\nclaim_within = \"30d\"\nvalid_for = \"730d\"\nquorum = 10",
            "",
        ),
        ("payments", "live", "when = \"every\"\napprovers = [\"okta:sub:00u1\", \"entra:email:a@acme.example\"]", ""),
        ("payments", "live", "when = \"every\"\nallow_self = \"a shop of one\"", ""),
        ("payments", "live", "quorum = 2", "CB0106"),
        ("payments", "live", "when = \"evry\"", "CB0532"),
        ("payments", "live", "when = \"each\"", "CB0532"),
        ("payments", "live", "when = \"every\"\nremember = [\"branch\"]", "CB0532"),
        ("payments", "live", "when = \"every\"\nvalid_for = \"1d\"", "CB0532"),
        ("payments", "live", "when = \"every\"\nclaim_within = \"25h\"", "CB0532"),
        ("payments", "live", "when = \"every\"\nclaim_within = 60", "CB0501"),
        ("payments", "live", "when = \"first_use\"\nclaim_within = \"31d\"", "CB0532"),
        ("payments", "live", "when = \"first_use\"\nvalid_for = \"731d\"", "CB0532"),
        ("payments", "live", "when = \"first_use\"\nremember = [\"sha\"]", "CB0532"),
        ("payments", "live", "when = \"first_use\"\nremember = [\"run_id\"]", "CB0532"),
        ("payments", "live", "when = \"first_use\"\nremember = [\"brnch\"]", "CB0303"),
        ("payments", "live", "when = \"first_use\"\nremember = []", "CB0304"),
        ("payments", "live", "when = \"every\"\nquorum = 0", "CB0532"),
        ("payments", "live", "when = \"every\"\nquorum = 11", "CB0532"),
        ("payments", "live", "when = \"every\"\nquorum = \"2\"", "CB0105"),
        ("payments", "live", "when = \"every\"\napprovers = []", "CB0304"),
        ("payments", "live", "when = \"every\"\napprovers = [\"leads\"]", "CB0534"),
        ("payments", "live", "when = \"every\"\napprovers = [\"okta:team:leads\"]", "CB0534"),
        ("payments", "live", "when = \"every\"\napprovers_from = \"claims.\\\"team\\\"\"", "CB0532"),
        ("payments", "live", "when = \"every\"\napprovers_from = \"environment\"", "CB0532"),
        ("payments", "live", "when = \"every\"\nallow_self = \"\"", "CB0522"),
        ("payments", "live", "when = \"every\"\nunknown = 1", "CB0103"),
        ("strict", "live", "when = \"every\"", ""),
        ("strict", "live", "when = \"every\"\napprovers = [\"okta:group:own\"]", "CB0521"),
        ("strict", "live", "when = \"every\"\nallow_self = \"a shop of one\"", "CB0521"),
        ("nobody", "reader", "when = \"every\"", "CB0533"),
    ] {
        let given = folder(team, role, &format!("{MATCH}[mapping.ceremony]\n{table}"));
        assert_eq!(told(&given), codes, "{table}: {:#?}", loaded(&given).diagnostics);
    }
}

#[test]
fn a_ceremony_narrows_unless_it_is_in_the_shadow() {
    let with = |keys: &str| folder("payments", "live", &format!("{keys}{MATCH}[mapping.ceremony]\nwhen = \"every\""));
    assert_eq!(told(&folder("payments", "live", MATCH)), "CB0411");
    assert_eq!(told(&with("")), "");
    assert_eq!(told(&with("shadow = true\n")), "CB0411 CB0736");
    // Any repository of the owner, in production: one workflow, or people.
    let any = "any_repository = \"all may\"\n";
    let owner = "[mapping.match]\nrepository_owner = \"acme\"\nenvironment = \"production\"\nbranch = \"main\"\n";
    assert_eq!(told(&folder("payments", "live", &format!("{any}{owner}"))), "CB0526");
    let waits = format!("{any}{owner}[mapping.ceremony]\nwhen = \"first_use\"");
    let told_of = told(&folder("payments", "live", &waits));
    assert!(!told_of.contains("CB0526"), "{told_of}");
}

#[test]
fn the_rule_and_its_floor() {
    let given =
        folder("payments", "live", &format!("{MATCH}[mapping.ceremony]\nwhen = \"first_use\"\nallow_self = \"one\""));
    let set = loaded(&given).set.unwrap();
    let role = set.role_named("live").unwrap();
    let terms = set.ceremony(claimbound_core::mapping::MappingId(0), role).unwrap();
    assert_eq!((terms.rule.when, terms.quorum(), terms.rule.quorum), (When::FirstUse, 2, 1));
    assert_eq!((terms.rule.claim_within.0, terms.rule.valid_for.0), (7 * 86_400, 365 * 86_400));
    let floor = terms.floor.unwrap();
    assert_eq!(floor.approvers[0].to_string(), "okta:group:employees");
    assert_eq!(terms.rule.approvers[0].to_string(), "okta:group:leads");
    let exceptions: Vec<_> = set.mappings[0].exceptions.iter().map(|one| one.exempt).collect();
    assert_eq!(exceptions, [Exempt::AllowSelf]);
    let every = POLICY.replace("quorum = 2\n", "").replace("approvers = [\"okta:group:employees\"]\n", "");
    assert_eq!(told(&whole(&every, "payments", "")), "CB0532");
}

#[test]
fn tests_say_what_waits() {
    let job = "workload = { repository = \"acme/api\", environment = \"production\", branch = \"main\", event_name = \"push\" }";
    let results = |mapping: &str, test: &str| {
        let text = format!("{MATCH}{mapping}[[test]]\nname = \"t\"\nissuer = \"github\"\n{job}\n{test}");
        let given = loaded(&folder("payments", "reader", &text));
        let set = given.set.unwrap_or_else(|| panic!("{:#?}", given.diagnostics));
        let failure = run_tests(&set, &given.profiles, &given.tests).remove(0).failure;
        failure.map(|finding| finding.code.to_string()).unwrap_or_default()
    };
    let waits = "[mapping.ceremony]\nwhen = \"every\"\n";
    assert_eq!(results(waits, "expect = \"pending\"\nroles = [\"reader\"]"), "");
    assert_eq!(results(waits, "expect = \"grant\"\nroles = [\"reader\"]"), "CB0601");
    assert_eq!(results(waits, "expect = \"deny\"\nrole = \"reader\""), "CB0602");
    assert_eq!(results("", "expect = \"pending\"\nroles = [\"reader\"]"), "CB0601");
    assert_eq!(results("", "expect = \"grant\"\nroles = [\"reader\"]"), "");
    let bad = loaded(&folder(
        "payments",
        "reader",
        &format!("{MATCH}[[test]]\nname = \"t\"\nissuer = \"github\"\n{job}\nexpect = \"pending\""),
    ));
    assert!(bad.diagnostics.iter().any(|finding| finding.code.to_string() == "CB0610"));
}

#[test]
fn a_change_of_a_ceremony_is_wider_narrower_or_neither() {
    let with = |table: &str| {
        let table = if table.is_empty() { String::new() } else { format!("[mapping.ceremony]\n{table}") };
        let folder = folder("payments", "reader", &format!("{MATCH}{table}"));
        (loaded(&folder), folder)
    };
    let terms = |before: &str, after: &str| {
        let ((old, old_folder), (new, new_folder)) = (with(before), with(after));
        let [a, b] = [(&old, &old_folder), (&new, &new_folder)].map(|(loaded, folder)| diff::Side {
            folder,
            set: loaded.set.as_ref().unwrap(),
            profiles: &loaded.profiles,
        });
        let found = diff::diff(a, b).unwrap();
        let void: Vec<_> =
            found.rules.iter().filter(|said| said.starts_with("claims of `reader` by mapping `m` are void")).collect();
        // Only what nobody could have meant keeps what was claimed; a request's own end is no part of a claim.
        let kept = before == after || before.is_empty() || after.contains("claim_within");
        assert_eq!(void.len(), usize::from(!kept), "{before} → {after}: {:?}", found.rules);
        let terms = found.changes.iter().flat_map(|change| &change.terms);
        terms.map(|term| format!("{} {}", term.name, term.direction)).collect::<Vec<_>>().join(", ")
    };
    let base =
        "when = \"first_use\"\nquorum = 2\napprovers = [\"okta:group:a\", \"okta:group:b\"]\nvalid_for = \"30d\"";
    assert_eq!(terms(base, base), "");
    assert_eq!(terms(base, ""), "ceremony wider");
    assert_eq!(terms("", base), "ceremony narrower");
    for (from, to, told) in [
        ("quorum = 2", "quorum = 1", "ceremony.quorum wider"),
        ("quorum = 2", "quorum = 3", "ceremony.quorum narrower"),
        ("\"okta:group:b\"", "\"okta:group:b\", \"okta:group:c\"", "ceremony.approvers wider"),
        (", \"okta:group:b\"", "", "ceremony.approvers narrower"),
        ("\"okta:group:b\"", "\"okta:group:c\"", "ceremony.approvers not comparable"),
        ("30d", "60d", "ceremony.valid_for wider"),
        ("quorum = 2", "quorum = 2\nallow_self = \"one\"", "ceremony.allow_self wider"),
        ("quorum = 2", "quorum = 2\nclaim_within = \"1d\"", "ceremony.claim_within narrower"),
        ("quorum = 2", "quorum = 2\nremember = [\"branch\"]", "ceremony.remember not comparable"),
    ] {
        assert_eq!(terms(base, &base.replace(from, to)), told, "{to}");
    }
}
