//! `claimbound pin`: ids from a forge's API, and what became of names that have one.

use crate::BINARY;
use claimbound_test_support::{
    command::{self, Exit},
    forge::{Forge, Mood},
};
use serde_json::Value;
use std::{fs, path::Path};

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = "", labs = 9917 } # ours
[team.shop]
path = "teams/shop"
issuers = ["github"]
"#;
const ROLES: &str = r#"[role.r]
description = "R"
backend = "jwt"
teams = ["shop"]
issuers = ["github"]
sensitivity = "internal"
[role.r.jwt]
audience = "https://r.acme.example"
"#;
const TEAM: &str = r#"[file]
issuer = "github"

[set.s]
repositories = [
  { name = "acme/one" },           # the first
  { name = "acme/two", id = 12 },
]

[[mapping]]
name = "m"
description = "M"
roles = ["r"]
[mapping.match]
repository = { set = "s" } # all
branch = "main"

[[mapping]]
name = "n"
description = "N"
roles = ["r"]
[mapping.match]
repository = "labs/three"
"#;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for (path, text) in [("policy.toml", POLICY), ("roles/r.toml", ROLES), ("teams/shop/a.toml", TEAM)] {
            let file = home.0.path().join("mappings").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        home
    }
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join("mappings").join(path)).unwrap()
    }
    async fn run(&self, line: &str, variables: &[(&str, &str)]) -> Exit {
        let mut command = command::command(Path::new(BINARY), self.0.path());
        command::finish(command.args(line.split_whitespace()).envs(variables.iter().copied())).await
    }
    /// Runs, and demands the exit code; what was said.
    async fn ends(&self, line: &str, code: i32) -> String {
        let exit = self.run(line, &[]).await;
        let said = format!("{}{}", exit.stdout, exit.stderr);
        assert_eq!(exit.code, Some(code), "{line}\n{said}");
        said
    }
}

fn forge() -> Forge {
    let forge = Forge::new();
    for (name, id) in [("acme/one", 11), ("acme/two", 12), ("labs/three", 13)] {
        forge.repository(name, id);
    }
    forge.owner("acme", 65);
    forge.owner("labs", 9917);
    forge
}

#[tokio::test]
async fn names_get_their_ids_and_the_folder_loads() {
    let (home, forge) = (Home::new(), forge());
    let api = format!("--api {}", forge.github());
    home.ends("check", 1).await;
    let said = home.ends(&format!("pin --check {api}"), 1).await;
    assert!(said.contains("mappings/teams/shop/a.toml:6: without id: `acme/one` has no id"), "{said}");
    assert_eq!(home.read("teams/shop/a.toml"), TEAM, "`--check` changes nothing");

    let said = home.ends(&format!("pin {api}"), 0).await;
    assert!(said.contains("`acme/one` has id 11") && said.contains("3 ids written"), "{said}");
    let expected = TEAM
        .replace("{ name = \"acme/one\" }", "{ name = \"acme/one\", id = 11 }")
        .replace("repository = \"labs/three\"", "repository = { name = \"labs/three\", id = 13 }");
    assert_eq!(home.read("teams/shop/a.toml"), expected, "everything else stays");
    assert_eq!(home.read("policy.toml"), POLICY.replace("acme = \"\"", "acme = 65"));
    home.ends("check", 0).await;
    home.ends(&format!("pin --check {api}"), 0).await;
    let before = forge.asked().len();
    home.ends(&format!("pin {api}"), 0).await;
    assert_eq!(forge.asked().len(), before, "what has its id is not asked about");
}

#[tokio::test]
async fn check_finds_what_became_of_names_and_pin_never_replaces_an_id_by_itself() {
    let (home, forge) = (Home::new(), forge());
    let api = format!("--api {}", forge.github());
    home.ends(&format!("pin {api}"), 0).await;
    forge.rename("acme/one", "acme/uno");
    forge.repository("labs/other", 1);
    forge.rename("labs/three", "elsewhere/three");
    forge.delete("acme/two");
    forge.repository("acme/two", 99);
    forge.owner("labs", 5);
    let pinned = home.read("teams/shop/a.toml");

    let exit = home.run(&format!("pin --check --format json {api}"), &[]).await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let told: Value = serde_json::from_str(&exit.stdout).unwrap();
    let found: Vec<_> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| format!("{} {}", finding["finding"].as_str().unwrap(), finding["message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            "renamed `acme/one` was renamed: id 11 is called `acme/uno` now",
            "re_created `acme/two` is another repository now, with id 99; id 12 is gone",
            "transferred `labs/three` was transferred: id 13 is called `elsewhere/three` now",
            "re_created `labs` is another owner now, with id 5; id 9917 is gone",
        ]
    );
    home.ends(&format!("pin {api}"), 0).await;
    assert_eq!(home.read("teams/shop/a.toml"), pinned, "no id is replaced unasked");

    forge.delete("acme/uno");
    let said = home.ends(&format!("pin --check mappings/teams/shop {api}"), 1).await;
    assert!(said.contains("deleted: `acme/one` with id 11 is gone") && said.contains("GITHUB_TOKEN"), "{said}");

    let said = home.ends(&format!("pin --replace-id acme/two {api}"), 0).await;
    assert!(said.contains("`acme/two` has id 99 in the place of 12"), "{said}");
    assert_eq!(home.read("teams/shop/a.toml"), pinned.replace("id = 12", "id = 99"));
    let said = home.ends(&format!("pin --replace-id acme/none {api}"), 2).await;
    assert!(said.contains("no file pins an id beside `acme/none`"), "{said}");
}

#[tokio::test]
async fn what_the_api_refuses_is_told_and_nothing_is_written() {
    let (home, forge) = (Home::new(), forge());
    let api = format!("--api {}", forge.github());
    for (mood, told) in [
        (Mood::Limited, "rate limit is used up: again at 2027-01-15T08:00:00Z; a token in `GITHUB_TOKEN` may ask more"),
        (Mood::Status(500), "answered 500"),
        (Mood::Status(401), "put a token that may read into `GITHUB_TOKEN`"),
        (Mood::Garble, "not the documented answer"),
    ] {
        forge.mood(mood);
        let said = home.ends(&format!("pin {api}"), 2).await;
        assert!(said.contains(told), "{said}");
        assert_eq!((home.read("policy.toml").as_str(), home.read("teams/shop/a.toml").as_str()), (POLICY, TEAM));
    }
    forge.mood(Mood::Right);
    forge.delete("acme/one");
    let said = home.ends(&format!("pin {api}"), 1).await;
    assert!(said.contains("unknown: the forge knows no repository `acme/one`"), "{said}");
    assert!(home.read("teams/shop/a.toml").contains("id = 13"), "what is known is written");
    let said = home.ends("pin --issuer gitlab", 2).await;
    assert!(said.contains("policy.toml has no issuer `gitlab`; there are `github`"), "{said}");
}

#[tokio::test]
async fn a_token_goes_where_the_user_or_the_forge_s_runner_says_and_is_never_told() {
    let (home, forge) = (Home::new(), forge());
    let token = ("GITHUB_TOKEN", "ghp_canary0123456789");
    let exit = home.run(&format!("pin --api {}", forge.github()), &[token]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(forge.asked().iter().all(|(_, sent)| sent.as_deref() == Some("Bearer ghp_canary0123456789")));
    assert!(!format!("{}{}", exit.stdout, exit.stderr).contains("canary"));

    // A folder that calls some host its Enterprise Server gets no token sent there.
    let home = Home::new();
    let url = "https://127.0.0.1:9/_services/token";
    fs::write(
        home.0.path().join("mappings/policy.toml"),
        POLICY.replace("https://token.actions.githubusercontent.com", url),
    )
    .unwrap();
    let exit = home.run("pin", &[token]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.stdout);
    assert!(exit.stderr.contains("https://127.0.0.1:9/api/v3/"), "{}", exit.stderr);
}

#[tokio::test]
async fn gitlab_s_projects_and_namespaces_are_asked_by_their_whole_paths() {
    let (home, forge) = (Home::new(), Forge::new());
    forge.repository("acme/group/app", 21);
    forge.owner("acme/group", 22);
    let policy = POLICY
        .replace("issuer.github", "issuer.gitlab")
        .replace("github-actions", "gitlab")
        .replace("https://token.actions.githubusercontent.com", "https://gitlab.com")
        .replace("{ acme = \"\", labs = 9917 }", "{ \"acme/group\" = \"\" }")
        .replace("[\"github\"]", "[\"gitlab\"]");
    let team = "[file]\nissuer = \"gitlab\"\n[[mapping]]\nname = \"m\"\ndescription = \"M\"\nroles = [\"r\"]\n\
                [mapping.match]\nrepository = { name = \"acme/group/app\" }\n";
    let folder = home.0.path().join("mappings");
    fs::write(folder.join("policy.toml"), policy).unwrap();
    fs::write(folder.join("roles/r.toml"), ROLES.replace("github", "gitlab")).unwrap();
    fs::write(folder.join("teams/shop/a.toml"), team).unwrap();
    let exit = home.run(&format!("pin --api {}", forge.gitlab()), &[("GITLAB_TOKEN", "glpat-x")]).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    assert_eq!(
        forge.asked(),
        [
            ("/api/v4/projects/acme%2Fgroup%2Fapp".to_owned(), Some("glpat-x".to_owned())),
            ("/api/v4/namespaces/acme%2Fgroup".to_owned(), Some("glpat-x".to_owned())),
        ]
    );
    home.ends("check", 0).await;
}
