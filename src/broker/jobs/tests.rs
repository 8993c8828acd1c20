//! What an `[[operator]]` of jobs may say, and whom it lets in.

use super::*;
use claimbound_core::{
    claims::Claims,
    workload::{Profile, translate},
};
use serde_json::json;

const PINNED: &str =
    "repository = { name = \"acme/ops\", id = 740000009 }\nbranch = \"main\"\nenvironment = \"oncall\"\n";

fn compile(operators: &str) -> Result<OperatorJobs, Vec<String>> {
    let text =
        format!("[server]\npublic_url = \"https://cb.example\"\noperator_listen = \"127.0.0.1:8081\"\n{operators}");
    let directory = std::path::Path::new("/etc/claimbound");
    let mut config = Config::parse(&text, &"claimbound.toml".into(), directory, false).unwrap();
    config.file = "claimbound.toml".into();
    let files = [
        ("policy.toml", include_str!("../../../mappings/policy.toml")),
        ("roles/payments.toml", include_str!("../../../mappings/roles/payments.toml")),
        ("roles/search.toml", include_str!("../../../mappings/roles/search.toml")),
        ("teams/payments/deploy.toml", include_str!("../../../mappings/teams/payments/deploy.toml")),
        ("teams/search/index.toml", include_str!("../../../mappings/teams/search/index.toml")),
    ];
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect();
    let folder = Folder { files };
    let known = load(&folder, &Profiles::builtin()).set.expect("the sample loads");
    OperatorJobs::compile(&config, &known, &folder).map_err(|found| {
        found.into_iter().map(|one| format!("{} {}", one.message, one.help.unwrap_or_default())).collect()
    })
}

fn operator(issuer: &str, matches: &str) -> String {
    format!("[[operator]]\nissuer = \"{issuer}\"\nmay = [\"suspend\"]\n[operator.match]\n{matches}")
}

#[test]
fn conditions_are_those_of_a_mapping_for_production() {
    assert!(compile(&operator("github", PINNED)).is_ok());
    for (issuer, matches, told) in [
        ("githbu", PINNED, "did you mean `github`?"),
        ("github", "repository = \"acme/ops\"\nbranch = \"main\"\n", "id"),
        ("github", "repository = { name = \"acme/ops\", id = 740000009 }\n", "branch"),
        ("github", &PINNED.replace("branch", "brnach"), "brnach"),
        ("github", &PINNED.replace("environment", "project_path"), "project_path"),
    ] {
        let found = compile(&operator(issuer, matches)).err().expect(told);
        let first = &found[0];
        assert!(
            first.starts_with("the `[[operator]]` in line 4 of `claimbound.toml`: ") && first.contains(told),
            "{found:?}"
        );
    }
    let two = format!("{}\n{}", operator("github", PINNED), operator("github", "branch = 1\n"));
    let found = compile(&two).err().expect("the second");
    assert!(found.iter().all(|one| one.contains("in line 12 ")), "{found:?}");
}

#[test]
fn a_job_may_what_all_that_it_meets_say() {
    let more = operator("github", PINNED).replace("suspend", "explain");
    let none = operator("github", &PINNED.replace("740000009", "740000010")).replace("suspend", "keys");
    let jobs = compile(&[operator("github", PINNED), more, none].join("\n")).unwrap();
    let may = |environment: &str, event: &str, runner: &str| {
        let claims = json!({
            "iss": "https://token.actions.githubusercontent.com", "repository": "acme/ops",
            "sub": format!("repo:acme/ops:environment:{environment}"), "repository_id": "740000009",
            "repository_owner": "acme", "repository_owner_id": "65", "ref": "refs/heads/main", "ref_type": "branch",
            "event_name": event, "environment": environment, "runner_environment": runner,
        });
        let text = claims.to_string();
        let profiles = Profiles::builtin();
        let profile: &Profile = profiles.get("github-actions").unwrap();
        let principal = translate(profile, "github", Claims::parse(text.as_bytes()).unwrap()).unwrap();
        let case = Case::alone(principal);
        jobs.may(&case, UnixSeconds(0)).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(may("oncall", "push", "github-hosted"), [May::Suspend, May::Explain]);
    assert_eq!(may("other", "push", "github-hosted"), []);
    assert_eq!(may("oncall", "pull_request", "github-hosted"), [], "no default event");
    assert_eq!(may("oncall", "push", "self-hosted"), [], "the platform's deny for production");
    assert_eq!(OperatorJobs::default().may.len(), 0);
}
