//! What the documentation shows is tried: its mappings load, without a warning.

use crate::BINARY;
use claimbound_test_support::command;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Files of a folder, by path.
type Files = BTreeMap<String, String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `toml` blocks of a page, in order.
fn blocks(page: &str) -> Vec<String> {
    blocks_in(page, "toml")
}

/// The blocks of a page in one language, in order.
pub fn blocks_in(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Blocks that begin with `# mappings/…`, each appended to the file that it names.
fn named(blocks: Vec<String>) -> Files {
    let mut files = Files::new();
    for block in blocks {
        let path = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default().to_owned();
        assert!(path.starts_with("mappings/"), "a block does not say its file:\n{block}");
        files.entry(path).or_default().push_str(&block);
    }
    files
}

/// Files of the sample folder.
fn sample(paths: &[&str]) -> Files {
    let read = |path: &&str| ((*path).to_owned(), std::fs::read_to_string(root().join(path)).unwrap());
    paths.iter().map(read).collect()
}

/// `check` of a folder of these files: exit code and output.
async fn check(files: &Files) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = directory.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let exit = command::run(Path::new(BINARY), directory.path(), &["check", "mappings"]).await;
    // Pages show a part of a folder: roles that their mappings do not give are no fault of theirs.
    let counts = |line: &str| line.starts_with("warning[") && !line.starts_with("warning[CB0710]");
    let code = if exit.stdout.lines().any(counts) { Some(1) } else { exit.code };
    (code, format!("{}{}", exit.stdout, exit.stderr))
}

#[tokio::test]
async fn the_page_on_mappings_is_a_folder_that_loads_and_passes_its_tests() {
    let files = named(blocks("docs/mappings.md"));
    assert!(files.len() >= 5, "policy, roles, two teams and tests: {:?}", files.keys());
    let (code, output) = check(&files).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("4 tests passed"), "{output}");

    // It is the blocks that are judged: a fault in one is found.
    let mut faulty = files;
    faulty.values_mut().for_each(|text| *text = text.replace("branch = [\"main\", \"hotfix\"]", "branch = \"*\""));
    assert_eq!(check(&faulty).await.0, Some(1));
}

#[tokio::test]
async fn the_page_on_issuers_is_a_folder_that_loads() {
    let files = named(blocks("docs/issuers.md"));
    assert!(files.contains_key("mappings/profiles/acme-jenkins.toml"), "{:?}", files.keys());
    let (code, output) = check(&files).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("14 mappings,"), "{output}");
    let page = std::fs::read_to_string(root().join("docs/issuers.md")).unwrap();
    for name in claimbound_core::workload::Profiles::builtin_names() {
        assert!(page.contains(&format!("\n| `{name}` |")), "the table lacks `{name}`");
    }
}

#[tokio::test]
async fn the_mapping_of_the_readme_loads_beside_the_sample() {
    let mut files = sample(&["mappings/policy.toml", "mappings/roles/payments.toml"]);
    // The quick start's say their file; `cloud_quickstart` follows them.
    let blocks: Vec<_> = blocks("README.md").into_iter().filter(|block| !block.starts_with("# ")).collect();
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    files.insert("mappings/teams/payments/readme.toml".to_owned(), blocks.concat());
    let (code, output) = check(&files).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 mapping,"), "{output}");
}

#[tokio::test]
async fn the_folder_with_an_agent_passes_its_tests() {
    let (code, output) = check(&named(blocks("docs/delegation.md"))).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("3 tests"), "{output}");
}

#[tokio::test]
async fn the_role_that_relying_parties_read_about_loads() {
    let mut files = sample(&["mappings/policy.toml"]);
    let mut own = blocks("docs/relying-parties.md");
    // The broker's own configuration stands in no folder of mappings.
    own.retain(|block| !block.starts_with("[[resource_server]]"));
    files.extend(named(own));
    let (code, output) = check(&files).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 role,"), "{output}");
}
