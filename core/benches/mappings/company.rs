//! The mapping folder of a company: as many mappings as are asked for, in the proportions of a real one.
//!
//! A team owns five files of ten mappings. Four files hold two repositories each, with a mapping for production,
//! staging (two alternatives), secrets, releases by tag and pull requests; the fifth holds a set of repositories and a
//! mapping for each of ten environments. Every tenth team is on the company's own GitLab. Each file tests itself. The
//! platform declares four roles a team, one for all, three denies and two nevers.

use claimbound_core::{mapping::Folder, review::Given, workload::Claim};
use std::fmt::Write as _;

/// Mappings of one team.
pub const TEAM_MAPPINGS: usize = 50;
/// Mappings of one file; also of the last, which may be of a team that has no more.
const FILE_MAPPINGS: usize = 10;
/// Teams whose roles stand in one file of the platform's.
const ROLES_FILE_TEAMS: usize = 50;

/// What the mappings of a repository give, by position.
const KINDS: [&str; 5] = ["production", "staging", "secrets", "release", "check"];

/// A folder of so many mappings; alternatives are not counted.
pub fn company(mappings: usize) -> Folder {
    let mut folder = Folder::default();
    let mut add = |path: String, text: String| folder.files.insert(path, text.into_bytes());
    let teams = mappings.div_ceil(TEAM_MAPPINGS);
    add("policy.toml".to_owned(), policy(teams));
    add("roles/all.toml".to_owned(), registry_role(teams));
    for first in (0..teams).step_by(ROLES_FILE_TEAMS) {
        let text = (first..teams.min(first + ROLES_FILE_TEAMS)).map(team_roles).collect();
        add(format!("roles/from-{}.toml", team(first)), text);
    }
    for file in 0..mappings.div_ceil(FILE_MAPPINGS) {
        let (team_number, of_team) = (file * FILE_MAPPINGS / TEAM_MAPPINGS, file % (TEAM_MAPPINGS / FILE_MAPPINGS));
        let count = FILE_MAPPINGS.min(mappings - file * FILE_MAPPINGS);
        add(format!("teams/{}/{of_team}.toml", team(team_number)), team_file(team_number, of_team, count));
    }
    folder
}

/// The same with three edits, in the files of three teams.
pub fn edited(folder: &Folder) -> Folder {
    let mut edited = folder.clone();
    let mut files: Vec<&mut Vec<u8>> =
        edited.files.iter_mut().filter(|(path, _)| path.ends_with("/0.toml")).map(|(_, text)| text).collect();
    for nth in [0, files.len() / 2, files.len() - 1] {
        let text = String::from_utf8_lossy(files[nth]).replacen("branch = \"main\"", "branch = \"trunk\"", 1);
        *files[nth] = text.into_bytes();
    }
    edited
}

/// A push to `main` for production by the first repository of a team that is on GitHub.
pub fn production_job(team_number: usize) -> Given {
    job(team_number, "main")
}

/// The same on a branch that no mapping names.
pub fn stray_job(team_number: usize) -> Given {
    job(team_number, "experiment")
}

/// The role that [`production_job`] gets.
pub fn production_role(team_number: usize) -> String {
    format!("{}-deploy.production", team(team_number))
}

fn job(team_number: usize, branch: &str) -> Given {
    let claims = [
        (Claim::Repository, repository(team_number, 0)),
        (Claim::RepositoryId, repository_id(team_number, 0).to_string()),
        (Claim::RepositoryOwnerId, "65".to_owned()),
        (Claim::Branch, branch.to_owned()),
        (Claim::Environment, "production".to_owned()),
        (Claim::EventName, "push".to_owned()),
        (Claim::RunnerEnvironment, "github-hosted".to_owned()),
        (Claim::JobWorkflowRepository, "acme/ci".to_owned()),
        (Claim::JobWorkflowFile, ".github/workflows/deploy.yml".to_owned()),
        (Claim::JobWorkflowRef, "refs/heads/main".to_owned()),
    ];
    Given::Workload(claims.into_iter().collect())
}

/// A team's name, with which those of its roles begin.
pub fn team(number: usize) -> String {
    const NAMES: [&str; 8] = ["billing", "search", "mobile", "ledger", "fraud", "media", "identity", "logistics"];
    format!("{}-{number}", NAMES[number % NAMES.len()])
}

pub fn on_gitlab(team_number: usize) -> bool {
    team_number % 10 == 9
}

/// `owner/name` of a repository of a team.
pub fn repository(team_number: usize, nth: usize) -> String {
    format!("acme/{}-{nth}", team(team_number))
}

/// Its id.
pub fn repository_id(team_number: usize, nth: usize) -> usize {
    700_000_000 + team_number * 100 + nth
}

fn pair(team_number: usize, nth: usize) -> String {
    format!("{{ name = \"{}\", id = {} }}", repository(team_number, nth), repository_id(team_number, nth))
}

fn policy(teams: usize) -> String {
    let mut text = r#"format = 1

[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65, acme-labs = 9917, acme-archive = 9918 }

[issuer.gitlab]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"

[sensitivity.production]
max_duration = "1h"
needs_any = ["branch", "tag"]

[target.staging]
sensitivity = "internal"
account = "111122223333"

[target.production]
sensitivity = "production"
account = "444455556666"

[[deny]]
name = "no-self-hosted-in-production"
reason = "shared runners are not isolated"
issuers = ["github"]
sensitivity = "production"
[deny.match]
runner_environment = "self-hosted"

[[deny]]
name = "archived"
reason = "what is archived deploys nothing"
issuers = ["github"]
[deny.match]
repository_owner = "acme-archive"

[[deny]]
name = "frozen-branches"
reason = "the release train has left"
issuers = ["github"]
sensitivity = "production"
[deny.match]
branch = { glob = "frozen/**" }

[[never]]
name = "outsiders-never-reach-production"
issuers = ["github"]
sensitivity = "production"
[never.match]
event_name = { class = "outsider" }

[[never]]
name = "self-hosted-runners-never-reach-production"
issuers = ["github"]
sensitivity = "production"
[never.match]
runner_environment = "self-hosted"
"#
    .to_owned();
    for number in 0..teams {
        let team = team(number);
        write!(text, "\n[team.{team}]\npath = \"teams/{team}\"\n").expect("a String takes all");
    }
    text
}

fn registry_role(teams: usize) -> String {
    let teams: String = (0..teams).map(|number| format!("  \"{}\",\n", team(number))).collect();
    format!(
        "[role.registry-pull]\ndescription = \"Pull base images\"\nbackend = \"jwt\"\nsensitivity = \"internal\"\n\
         teams = [\n{teams}]\n[role.registry-pull.jwt]\naudience = \"https://registry.acme.example\"\n"
    )
}

fn team_roles(number: usize) -> String {
    let team = team(number);
    let issuer = if on_gitlab(number) { "gitlab" } else { "github" };
    let of = format!("teams = [\"{team}\"]\nissuers = [\"{issuer}\"]\n");
    let workflow = "job_workflow = { repository = \"acme/ci\", file = \".github/workflows/deploy.yml\", ref = \"refs/heads/main\" }";
    let require = match on_gitlab(number) {
        true => String::new(),
        false => format!("[role.{team}-deploy.require]\n{workflow}\n"),
    };
    format!(
        r#"[role.{team}-deploy]
description = "Update the services of {team}"
backend = "aws"
{of}targets = ["staging", "production"]
{require}[role.{team}-deploy.aws]
role_arn = "arn:aws:iam::{{target.account}}:role/{team}-deploy"
region = "eu-central-1"

[role.{team}-secrets]
description = "Read the secrets of {team}"
backend = "jwt"
{of}sensitivity = "internal"
[role.{team}-secrets.jwt]
audience = "https://openbao.acme.example/{team}"

[role.{team}-release]
description = "Publish releases of {team}"
backend = "jwt"
{of}sensitivity = "production"
[role.{team}-release.jwt]
audience = "https://releases.acme.example/{team}"

[role.{team}-fleet]
description = "Move the fleet of {team}"
backend = "jwt"
{of}sensitivity = "internal"
[role.{team}-fleet.jwt]
audience = "https://fleet.acme.example/{team}"

"#
    )
}

fn team_file(number: usize, of_team: usize, mappings: usize) -> String {
    let team = team(number);
    let issuer = if on_gitlab(number) { "gitlab" } else { "github" };
    let mut text = format!("[file]\nissuer = \"{issuer}\"\nreview_by = 2027-06-30\n");
    if of_team == TEAM_MAPPINGS / FILE_MAPPINGS - 1 {
        fleet(&mut text, number, &team, mappings);
        return text;
    }
    for at in 0..mappings {
        let (nth, kind) = (of_team * 2 + at / KINDS.len(), KINDS[at % KINDS.len()]);
        mapping(&mut text, number, &team, nth, kind);
    }
    let (repository, first) = (repository(number, of_team * 2), of_team * 2);
    let workload = match on_gitlab(number) {
        true => "event_name = \"push\"".to_owned(),
        false => "event_name = \"push\", runner_environment = \"github-hosted\", job_workflow = { repository = \"acme/ci\", file = \".github/workflows/deploy.yml\", ref = \"refs/heads/main\" }".to_owned(),
    };
    write!(
        text,
        "\n[[test]]\nname = \"main of {first} deploys\"\nworkload = {{ repository = \"{repository}\", branch = \"main\", environment = \"production\", {workload} }}\nexpect = \"grant\"\nroles = [\"{team}-deploy.production\"]\n"
    )
    .expect("a String takes all");
    text
}

fn mapping(text: &mut String, number: usize, team: &str, nth: usize, kind: &str) {
    let (role, rest, description) = match kind {
        "production" => ("deploy.production", "branch = \"main\"\nenvironment = \"production\"\n", "Deploys main"),
        "staging" => (
            "deploy.staging",
            "environment = \"staging\"\n[[mapping.any]]\nbranch = \"main\"\n[[mapping.any]]\nbranch = { glob = \"release/*\" }\n",
            "Deploys what will be released",
        ),
        "secrets" => ("secrets", "environment = [\"staging\", \"test\"]\n", "Reads secrets for tests"),
        "release" => {
            ("release", "tag = { glob = \"v{num}.{num}.{num}\" }\nref_protected = true\n", "Publishes what is tagged")
        }
        _ if on_gitlab(number) => ("", "event_name = \"merge_request_event\"\n", "Builds merge requests"),
        _ => ("", "event_name = \"pull_request\"\n", "Builds pull requests"),
    };
    let role = if role.is_empty() { "registry-pull".to_owned() } else { format!("{team}-{role}") };
    write!(
        text,
        "\n[[mapping]]\nname = \"{team}-{nth}-{kind}\"\ndescription = \"{description}\"\nroles = [\"{role}\"]\n[mapping.match]\nrepository = {}\n{rest}",
        pair(number, nth)
    )
    .expect("a String takes all");
}

fn fleet(text: &mut String, number: usize, team: &str, mappings: usize) {
    let members: String = (0..4).map(|nth| format!("  {},\n", pair(number, 90 + nth))).collect();
    write!(text, "[file.match]\nrepository = {{ set = \"fleet\" }}\n\n[set.fleet]\nrepositories = [\n{members}]\n")
        .expect("a String takes all");
    for at in 0..mappings {
        write!(
            text,
            "\n[[mapping]]\nname = \"{team}-fleet-{at}\"\ndescription = \"Moves site {at}\"\nroles = [\"{team}-fleet\"]\nmax_duration = \"30m\"\n[mapping.match]\nbranch = \"main\"\nenvironment = \"site-{at}\"\n"
        )
        .expect("a String takes all");
    }
}
