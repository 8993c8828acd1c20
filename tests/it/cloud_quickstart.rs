//! The README's quick start for GitHub and AWS, followed to the letter: its files, its commands, its workflow. Replaced
//! are the issuer, the broker's address and the account; `aws` is a few lines over boto3, AWS is ministack.

use crate::{BINARY, cloud_aws, docs::blocks_in};
use claimbound_test_support::{
    act::{Act, USES},
    broker::Broker,
    command,
    config::BrokerConfig,
    issuer::Issuer,
    tools::{Ministack, Tools},
};
use std::{collections::BTreeMap, env, fs, path::Path};

const PUBLIC_URL: &str = "https://claimbound.example.com";
const AWS_CLI: &str = include_str!("../clients/aws");

/// The first block of the README in this language with this in it.
fn block(language: &str, part: &str) -> String {
    let found = blocks_in("README.md", language).into_iter().find(|block| block.contains(part));
    found.unwrap_or_else(|| panic!("README.md has no `{language}` block with `{part}`"))
}

/// The files of the quick start, by path, for this issuer and ministack's account.
fn files(issuer: &Issuer) -> BTreeMap<String, String> {
    let policy = block("json", "Statement");
    let named = blocks_in("README.md", "toml").into_iter().filter_map(|block| {
        let path = block.lines().next()?.strip_prefix("# ")?.to_owned();
        Some((path, block))
    });
    let files = named.chain([("mappings/policies/payments-deploy.json".to_owned(), policy)]);
    let fill = |text: String| {
        text.replace("https://token.actions.githubusercontent.com", issuer.url())
            .replace("111122223333", Ministack::ACCOUNT)
    };
    files.map(|(path, text)| (path, fill(text))).collect()
}

#[tokio::test]
async fn the_quick_start_for_github_and_aws_ends_with_a_working_call() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (home, mut files) = (cloud_aws::broker_s_home(&aws).await, files(&issuer));
    assert_eq!(files.len(), 5, "{:?}", files.keys());
    let packages = Tools::python().1;

    // 1. The files.
    let backend = format!("[backend.aws]\nendpoint_url = \"{}\"", aws.url());
    let configuration = files.remove("claimbound.toml").unwrap().replace("[backend.aws]", &backend);
    let write = |path: &str, text: &str| {
        let file = home.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("claimbound.toml", &configuration);
    files.iter().for_each(|(path, text)| write(path, text));

    // 2. The commands, as the account's owner.
    let commands = block("sh", "claimbound trust aws --role payments-deploy --broker-arn");
    // Issuer and endpoint on loopback are for development only.
    let commands = commands.replace("111122223333", Ministack::ACCOUNT).replace("--check", "--check --development");
    let bin = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(BINARY, bin.path().join("claimbound")).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/aws"), bin.path().join("aws")).unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [bin.path().to_owned()].into_iter().chain(env::split_paths(&path));
    let mut shell = command::command(Path::new("sh"), home.path());
    shell
        .args(["-e", "-c", &commands])
        .env("PATH", env::join_paths(paths).unwrap())
        .env("PYTHONPATH", &packages)
        .envs([("AWS_ENDPOINT_URL", aws.url()), ("AWS_DEFAULT_REGION", "eu-west-1")])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("PYTHONDONTWRITEBYTECODE", "1")]);
    let exit = command::finish(&mut shell).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    assert!(!exit.stderr.contains("warning"), "{}", exit.stderr);

    // 3. The broker, as the user whose keys its home has: the README's backend and folder at an address of the bench.
    let (_, backend) = configuration.split_once("[backend.aws]").unwrap();
    let folder: Vec<_> =
        files.iter().map(|(path, text)| (path.strip_prefix("mappings/").unwrap(), text.as_str())).collect();
    let config = BrokerConfig::with_folder(&folder).issuer("github", &issuer);
    let broker = Broker::start_in(home, BINARY, config.toml(&format!("[backend.aws]{backend}"))).await;

    // The workflow.
    let mut workflow = block("yaml", "jobs:");
    for (from, to) in [("acme/claimbound/action@<sha>", USES), (PUBLIC_URL, broker.audience())] {
        assert!(workflow.contains(from), "the workflow holds `{from}`");
        workflow = workflow.replace(from, to);
    }
    let act = Act::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("action"))
        .program("aws", AWS_CLI)
        .env("AWS_ENDPOINT_URL", aws.url())
        .env("PYTHONPATH", &packages.display().to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let exit = act.run(&workflow, Some(&issuer.run(&issuer.job().branch("main")))).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let arn = format!("arn:aws:sts::{}:assumed-role/payments-deploy/", Ministack::ACCOUNT);
    assert!(exit.stdout.contains(&arn), "{}{}", exit.stdout, exit.stderr);
}
