//! From nothing to a mapping of one's own, guided by what the commands say; and the commands that keep a folder tidy.

use crate::{BINARY, docs::blocks_in};
use claimbound_test_support::command::{self, Exit};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

const INIT: &str = "init --issuer github --owner acme=65 --team shop --repository acme/shop-api=740000011";
const NEW: &str = "new mapping shop-web --team shop --role shop-deploy --repository acme/shop-web=740000012";
const TEAM_FILE: &str = "mappings/teams/shop/deploy.toml";

/// A file that only its author can love, without a line end.
const UNTIDY: &str = r#"

# of the file


[file]
issuer="github"   # whose
[set.a]
repositories=[{id=1,name="acme/a"}, # first
 # the second
   { name = "acme/b", id=2 }]
[[mapping]]
# how it is called
roles = [ "r" , "s" ]
name   =  "m"


description = 'd'

[mapping.match]
repository = {  set="a"  }
job_workflow = { ref = "refs/heads/main", file = "x", repository = "acme/ci" }
# the end"#;
const TIDY: &str = r#"# of the file

[file]
issuer = "github"   # whose

[set.a]
repositories = [
  { name = "acme/a", id = 1 }, # first
  # the second
  { name = "acme/b", id = 2 },
]

[[mapping]]
name = "m"

description = 'd'
# how it is called
roles = ["r", "s"]
[mapping.match]
repository = { set = "a" }
job_workflow = { repository = "acme/ci", file = "x", ref = "refs/heads/main" }
# the end
"#;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

async fn run(directory: &Path, line: &str) -> Exit {
    command::run(Path::new(BINARY), directory, &line.split_whitespace().collect::<Vec<_>>()).await
}

/// Runs, and demands the exit code; what was said.
async fn ends(directory: &Path, line: &str, code: i32) -> String {
    let exit = run(directory, line).await;
    let said = format!("{}{}", exit.stdout, exit.stderr);
    assert_eq!(exit.code, Some(code), "{line}\n{said}");
    said
}

/// A folder as `init` writes it.
async fn begun() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    ends(directory.path(), INIT, 0).await;
    directory
}

#[tokio::test]
async fn a_platform_engineer_comes_to_a_mapping_of_their_own_by_the_messages_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut transcript = String::new();
    // Each but the first follows from what was said before; the wrong owner is the mistake on the way.
    for line in [
        "init",
        INIT,
        "check mappings",
        "explain --mappings mappings --event push --branch main --repository acme/shop-api --role shop-deploy",
        "new mapping shop-web --team shop --role shop-deplyo --repository acm/shop-web=740000012 --branch main",
        "new mapping shop-web --team shop --role shop-deploy --repository acm/shop-web=740000012 --branch main",
        "new mapping shop-web --team shop --role shop-deploy --repository acme/shop-web=740000012 --branch main",
        "check mappings --deny-warnings",
        "explain --mappings mappings --event push --branch main --repository acme/shop-web --role shop-deploy",
    ] {
        let exit = run(directory.path(), line).await;
        let said = format!("{}{}", exit.stdout, exit.stderr);
        transcript.push_str(&format!("$ claimbound {line}\n{said}(exit code {})\n\n", exit.code.unwrap()));
    }
    insta::assert_snapshot!(transcript);
}

#[tokio::test]
async fn init_begins_only_where_nothing_is_and_only_what_loads() {
    let directory = begun().await;
    let before = fs::read(directory.path().join(TEAM_FILE)).unwrap();
    assert!(ends(directory.path(), INIT, 2).await.contains("nothing is overwritten"));
    assert_eq!(fs::read(directory.path().join(TEAM_FILE)).unwrap(), before);
    for (line, code, told) in [
        ("init a --issuer github --team shop --repository acme/a=1", 2, "say `--owner NAME=ID`"),
        ("init a --issuer google --team shop --repository acme/a=1", 2, "name no repository"),
        ("init a --issuer gitlb --team shop --repository acme/a=1", 2, "did you mean `gitlab`?"),
        ("init a --issuer github --owner acme=65 --team shop --repository acme/a", 2, "acme/a=740000001"),
        ("init a --issuer github --owner acme=65 --team Shop --repository acme/a=1", 1, "nothing is written"),
        ("init a --issuer github --owner acme=65 --team shop --repository else/a=1", 1, "CB0403"),
        ("init a --issuer github --owner acme=x --team shop --repository acme/a=1", 1, "nothing is written"),
    ] {
        let said = ends(directory.path(), line, code).await;
        assert!(said.contains(told), "{line}\n{said}");
        assert!(!directory.path().join("a").exists(), "{line}");
    }
}

#[tokio::test]
async fn init_begins_for_every_forge_that_names_repositories() {
    let directory = tempfile::tempdir().unwrap();
    for (at, line) in [
        "--issuer gitlab --owner acme=65 --team shop --repository acme/a=1 --repository acme/b=2",
        "--issuer gitlab --url https://gitlab.acme.example --team shop --repository acme/a=1 --branch release/1",
        "--issuer forgejo --owner acme=65 --team shop --repository acme/a=1",
    ]
    .iter()
    .enumerate()
    {
        ends(directory.path(), &format!("init m{at} {line}"), 0).await;
        ends(directory.path(), &format!("check m{at} --deny-warnings"), 0).await;
        ends(directory.path(), &format!("fmt m{at} --check"), 0).await;
    }
}

#[tokio::test]
async fn a_new_mapping_holds_or_is_not_written() {
    let directory = begun().await;
    let file = directory.path().join(TEAM_FILE);
    let before = fs::read_to_string(&file).unwrap() + "\n# kept";
    fs::write(&file, &before).unwrap();
    for (rest, code, told) in [
        ("", 1, "CB0411"),
        ("--branch main --max-duration 30", 1, "nothing is written"),
        ("--branch main --issuer gitlab", 2, "there is no issuer `gitlab`"),
        ("--branch main --print", 0, "[[mapping]]"),
    ] {
        let said = ends(directory.path(), &format!("{NEW} {rest}"), code).await;
        assert!(said.contains(told), "{rest}\n{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{rest}");
    }
    // Two mappings that give one role to one job.
    let same = NEW.replace("acme/shop-web=740000012", "acme/shop-api=740000011");
    ends(directory.path(), &format!("{same} --branch main"), 1).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), before);

    let tag = "--tag v* --protected --environment production --max-duration 10m";
    let said = ends(directory.path(), &format!("{NEW} {tag} --print"), 0).await;
    assert!(said.contains("tag = { glob = \"v*\" }") && said.contains("ref_protected = true"), "{said}");
    ends(directory.path(), &format!("{NEW} --branch main --branch hotfix --environment production"), 0).await;
    assert!(fs::read_to_string(&file).unwrap().starts_with(&before), "what stood there stands");
    let said = ends(directory.path(), "check mappings --deny-warnings", 0).await;
    assert!(said.contains("2 mappings, 1 role, 4 tests passed"), "{said}");
    ends(directory.path(), "fmt --check", 0).await;
}

#[tokio::test]
async fn a_new_mapping_knows_what_its_role_requires_and_what_is_denied() {
    let directory = tempfile::tempdir().unwrap();
    copy(&root().join("mappings"), &directory.path().join("mappings"));
    // The team's file narrows all its mappings, so a file of its own is made.
    let line = "new mapping ledger --team payments --role payments-deploy.production --repository acme/ledger=740000003 \
                --branch main --environment production";
    let said = ends(directory.path(), line, 0).await;
    assert!(said.contains("mappings/teams/payments/ledger.toml"), "{said}");
    let text = fs::read_to_string(directory.path().join("mappings/teams/payments/ledger.toml")).unwrap();
    assert!(text.contains("runner_environment = \"github-hosted\""), "{text}");
    assert!(text.contains("file = \".github/workflows/deploy.yml\""), "{text}");
    ends(directory.path(), "check mappings --deny-warnings", 0).await;
}

#[tokio::test]
async fn programs_are_told_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let json = async |line: &str, code: i32| {
        let exit = run(directory.path(), &format!("{line} --format json")).await;
        assert_eq!(exit.code, Some(code), "{line}\n{}{}", exit.stdout, exit.stderr);
        serde_json::from_str::<Value>(&exit.stdout).unwrap_or_else(|error| panic!("{line}: {error}\n{}", exit.stdout))
    };
    let refused = json(&INIT.replace("acme/shop-api", "else/shop-api"), 1).await;
    assert_eq!((&refused["written"], &refused["findings"][0]["code"]), (&json!(false), &json!("CB0403")));
    let begun = json(INIT, 0).await;
    assert_eq!(begun["files"], json!(["mappings/policy.toml", "mappings/roles/shop.toml", TEAM_FILE]));
    assert_eq!(begun["next"][0], "claimbound check mappings");

    let refused = json(NEW, 1).await;
    assert_eq!((&refused["written"], &refused["findings"][0]["code"]), (&json!(false), &json!("CB0411")));
    assert_eq!(refused["findings"][0]["place"]["file"], "teams/shop/deploy.toml");
    let printed = json(&format!("{NEW} --branch main --print"), 0).await;
    assert_eq!((&printed["written"], &printed["file"]), (&json!(false), &json!(TEAM_FILE)));
    let text = printed["text"].as_str().unwrap();
    assert!(!fs::read_to_string(directory.path().join(TEAM_FILE)).unwrap().contains(text));
    let written = json(&format!("{NEW} --branch main"), 0).await;
    assert_eq!((&written["written"], &written["text"], &written["findings"]), (&json!(true), &json!(text), &json!([])));
    assert!(fs::read_to_string(directory.path().join(TEAM_FILE)).unwrap().ends_with(text));

    assert_eq!(json("fmt --check", 0).await, json!({ "files": [], "written": false }));
    fs::write(directory.path().join(TEAM_FILE), "[file]\nissuer=\"github\"\n").unwrap();
    assert_eq!(json("fmt --check", 1).await, json!({ "files": [TEAM_FILE], "written": false }));
    assert_eq!(json("fmt", 0).await, json!({ "files": [TEAM_FILE], "written": true }));

    let owners = json("codeowners --platform @acme/platform", 0).await;
    let platform = json!({ "path": "/mappings/", "team": null, "owner": "@acme/platform" });
    let team = json!({ "path": "/mappings/teams/shop/", "team": "shop", "owner": null });
    assert_eq!(owners["owners"], json!([platform, team]));
}

#[tokio::test]
async fn the_folders_of_this_repository_are_formatted() {
    for folder in ["mappings", "examples/aws/mappings"] {
        ends(&root(), &format!("fmt {folder} --check"), 0).await;
    }
}

#[tokio::test]
async fn fmt_writes_what_means_the_same_and_nothing_else() {
    let directory = begun().await;
    let file = directory.path().join(TEAM_FILE);
    let tidy = fs::read_to_string(&file).unwrap();
    let untidy = tidy.replace(" = ", "=").replace("\n\n", "\n\n\n\n") + "\n\n# the end\n";
    fs::write(&file, &untidy).unwrap();
    let said = ends(directory.path(), "fmt --check", 1).await;
    assert!(said.contains("mappings/teams/shop/deploy.toml\n1 file would change"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), untidy);
    ends(directory.path(), "fmt mappings/roles", 0).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), untidy, "another part was asked for");
    ends(directory.path(), "fmt", 0).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{tidy}\n# the end\n"));
    ends(directory.path(), "fmt --check", 0).await;

    fs::write(&file, "[file\n").unwrap();
    assert!(ends(directory.path(), "fmt", 2).await.contains("is left as it is"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "[file\n");
    ends(directory.path(), "fmt nowhere", 2).await;
}

#[tokio::test]
async fn keys_have_one_order_and_comments_stay_with_them() {
    let directory = begun().await;
    let file = directory.path().join(TEAM_FILE);
    for text in [UNTIDY.to_owned(), UNTIDY.replace('\n', "\r\n"), TIDY.to_owned()] {
        fs::write(&file, &text).unwrap();
        ends(directory.path(), "fmt", 0).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), TIDY);
    }
}

#[tokio::test]
async fn what_loads_fits_the_schema_and_an_unknown_key_does_not() {
    let directory = begun().await;
    let mut files = Vec::new();
    for folder in [root().join("mappings"), root().join("examples/aws/mappings"), directory.path().join("mappings")] {
        read(&folder, "", &mut files);
    }
    for block in blocks_in("docs/mappings.md", "toml") {
        let path = block.lines().next().unwrap().strip_prefix("# mappings/").unwrap().to_owned();
        files.push((path, block));
    }
    let (mut seen, mut places) = (std::collections::BTreeSet::new(), 0);
    for (path, text) in files {
        let kind = match path.split('/').next().unwrap() {
            "policy.toml" => "policy",
            "teams" => "team",
            "profiles" => continue,
            other => other,
        };
        let exit = run(directory.path(), &format!("schema {kind}")).await;
        let schema: Value = serde_json::from_str(&exit.stdout).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
        let value = plain(value);
        fits(&schema, &schema, &value).unwrap_or_else(|why| panic!("{path}: {why}"));
        each_with_a_key_more(&value, &mut |faulty| {
            places += usize::from(fits(&schema, &schema, faulty).is_err());
        });
        let mut faulty = value;
        faulty["colour"] = json!(1);
        assert!(fits(&schema, &schema, &faulty).is_err(), "{path}");
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(places >= 20, "{places} tables with a key more were found out");
    ends(directory.path(), "schema colours", 2).await;
}

/// Dates as editors hand them on.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) if map.len() == 1 && map.contains_key("$__toml_private_datetime") => {
            map.into_iter().next().unwrap().1
        }
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Value::Array(list) => list.into_iter().map(plain).collect(),
        other => other,
    }
}

/// The value, with an unknown key in one table of an array of tables after the other.
fn each_with_a_key_more(value: &Value, judge: &mut impl FnMut(&Value)) {
    for pointer in
        ["/mapping/0", "/mapping/0/match", "/file", "/test/0", "/test/0/workload", "/deny/0", "/issuer/github"]
    {
        let mut faulty = value.clone();
        if let Some(table) = faulty.pointer_mut(pointer) {
            table["colour"] = json!(1);
            judge(&faulty);
        }
    }
    let mut faulty = value.clone();
    if let Some(roles) = faulty.get_mut("role").and_then(Value::as_object_mut) {
        for role in roles.values_mut() {
            role["colour"] = json!(1);
        }
    }
    if faulty != *value {
        judge(&faulty);
    }
}

/// Judges by the part of JSON Schema that our schemas are written in; another keyword is a fault of the test.
fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(schema) = schema.as_object() else {
        return if schema == &json!(true) { Ok(()) } else { Err("no schema".to_owned()) };
    };
    let no = |why: &str| Err(format!("{value} {why}"));
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "examples" => {}
            "$ref" => fits(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value)?,
            "const" if rule != value => return no("is another constant"),
            "enum" if !rule.as_array().unwrap().contains(value) => return no("is not listed"),
            "const" | "enum" => {}
            "type" => {
                let is = match value {
                    Value::String(_) => "string",
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "integer",
                    Value::Array(_) => "array",
                    _ => "object",
                };
                if rule != is && !rule.as_array().is_some_and(|types| types.contains(&json!(is))) {
                    return no(&format!("is no {rule}"));
                }
            }
            "anyOf" => {
                let tried: Vec<_> = rule.as_array().unwrap().iter().map(|rule| fits(root, rule, value)).collect();
                if tried.iter().all(Result::is_err) {
                    return Err(format!("{tried:?}"));
                }
            }
            "properties" | "additionalProperties" | "propertyNames" => {
                for (key, below) in value.as_object().into_iter().flatten() {
                    let known = schema.get("properties").and_then(|known| known.get(key));
                    match (keyword.as_str(), known) {
                        ("propertyNames", _) => fits(root, rule, &json!(key))?,
                        ("properties", Some(known)) => fits(root, known, below)?,
                        ("additionalProperties", None) if rule == false => return no(&format!("has `{key}`")),
                        ("additionalProperties", None) => fits(root, rule, below)?,
                        _ => {}
                    }
                }
            }
            "items" => value.as_array().into_iter().flatten().try_for_each(|of| fits(root, rule, of))?,
            "minItems" | "uniqueItems" if value.as_array().is_some_and(Vec::is_empty) => return no("is empty"),
            "minLength" if value.as_str().is_some_and(str::is_empty) => return no("is empty"),
            "minimum" if value.as_i64() < rule.as_i64() => return no("is too small"),
            "minItems" | "uniqueItems" | "minLength" | "minimum" => {}
            "pattern" => {
                let name = value.as_str().unwrap_or_default();
                let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                if name.is_empty() || !plain {
                    return no("has another form");
                }
            }
            other => panic!("this test does not judge `{other}`"),
        }
    }
    Ok(())
}

/// TOML files below a folder, by path in it.
fn read(folder: &Path, below: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{path}/"), files);
        } else if path.ends_with(".toml") {
            files.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let mut files = Vec::new();
    read(from, "", &mut files);
    for (path, text) in files {
        let file = to.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}
