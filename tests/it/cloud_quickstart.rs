//! The README's quick start for GitHub and AWS, followed to the letter: its files, its commands with the AWS command
//! line, its workflow. AWS is ministack, found by the variables that AWS clients read (`AWS_ENDPOINT_URL`, keys), and its
//! account is the README's; `cargo install` and `gh` are left out. [`differs`] lists all that is written otherwise.

use crate::{BINARY, cloud_aws, docs::blocks_in};
use claimbound_test_support::{
    act::{Act, USES},
    broker::Broker,
    command,
    config::BrokerConfig,
    issuer::Issuer,
    tools::{Ministack, Tools},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::{collections::BTreeMap, env, fs, os::unix::fs::symlink, path::Path};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// The host of the README's `public_url`.
pub const HOST: &str = "claimbound.example.com";

/// All that is not as the README has it, and why loopback forces it: `(where, what it says, what the test writes)`.
///
/// - GitHub's issuer is the bench's, over plain HTTP at a private address: its URL in `policy.toml`,
///   `allow_private_network` in `claimbound.toml`, and `--development`.
/// - The port is a free one, not 8080, since other tests run beside this.
/// - What "speaks TLS for `public_url`" is the broker itself, with a certificate of the bench. Its name has no address, so
///   the job reaches it through a proxy (`https_proxy`, `NODE_EXTRA_CA_CERTS`).
/// - The action is the one just built, not that of a release.
fn differs(issuer: &Issuer) -> [(&'static str, &'static str, String); 5] {
    let tls = "[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"";
    let private = "[issuer.github]\nallow_private_network = true";
    [
        ("mappings/policy.toml", "https://token.actions.githubusercontent.com", issuer.url().to_owned()),
        ("claimbound.toml", "[server]\n", "[server]\nlisten = \"127.0.0.1:0\"\n".to_owned()),
        ("claimbound.toml", "[mappings]", format!("{tls}\n{private}\n[mappings]")),
        ("the commands", "claimbound serve", "claimbound serve --development".to_owned()),
        ("the workflow", "acme/claimbound/action@<sha>", USES.to_owned()),
    ]
}

/// The first block of the README in this language with this in it.
fn block(language: &str, part: &str) -> String {
    let found = blocks_in("README.md", language).into_iter().find(|block| block.contains(part));
    found.unwrap_or_else(|| panic!("README.md has no `{language}` block with `{part}`"))
}

/// What the README says to write and to run, by path; changed as [`differs`] says and in nothing else.
fn told(issuer: &Issuer) -> BTreeMap<String, String> {
    let named = blocks_in("README.md", "toml").into_iter().filter_map(|block| {
        let path = block.lines().next()?.strip_prefix("# ")?.to_owned();
        Some((path, block))
    });
    let others = [
        ("mappings/policies/payments-deploy.json", block("json", "Statement")),
        ("the commands", block("sh", "claimbound trust aws --role payments-deploy --broker-arn")),
        ("the workflow", block("yaml", "jobs:")),
    ];
    let mut told: BTreeMap<_, _> = named.chain(others.map(|(path, text)| (path.to_owned(), text))).collect();
    for (path, from, to) in differs(issuer) {
        let text = told.get_mut(path).unwrap_or_else(|| panic!("README.md has no {path}"));
        assert_eq!(text.matches(from).count(), 1, "{path} holds `{from}` once:\n{text}");
        *text = text.replace(from, &to);
    }
    told
}

/// A proxy on loopback that leads every CONNECT to this address. Runs until the test ends.
pub async fn proxy_to(address: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut stream, address) = (BufReader::new(stream), address.clone());
            tokio::spawn(async move {
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    assert!(line.starts_with(&format!("CONNECT {HOST}:443 ")), "{line}");
                }
                let mut broker = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 -\r\n\r\n").await.unwrap();
                // How a connection ends is no matter here.
                let _ = copy_bidirectional(&mut stream, &mut broker).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn the_quick_start_for_github_and_aws_ends_with_a_working_call() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    // The user that step 3 speaks of.
    let home = cloud_aws::broker_s_home(&aws).await;
    let mut told = told(&issuer);
    let (commands, workflow) = (told.remove("the commands").unwrap(), told.remove("the workflow").unwrap());

    // 1. The files, and a certificate.
    assert_eq!(told.len(), 5, "{:?}", told.keys());
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    told.extend([("certificate.pem".into(), cert.pem()), ("key.pem".into(), signing_key.serialize_pem())]);
    for (path, text) in &told {
        let file = home.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let certificate = home.path().join("certificate.pem").display().to_string();

    // 2. The commands, as the account's owner.
    let bin = tempfile::tempdir().unwrap();
    for (name, program) in [("claimbound", Path::new(BINARY)), ("aws", &Tools::aws())] {
        symlink(program, bin.path().join(name)).unwrap();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [bin.path().to_owned()].into_iter().chain(env::split_paths(&path));
    // No variable of the README's: where AWS is, and where its command line has its packages.
    let [packages, bytecode] = Tools::python_environment();
    let reach = [("AWS_ENDPOINT_URL", aws.url().to_owned()), packages, bytecode];
    let mut shell = command::command(Path::new("sh"), home.path());
    shell.args(["-e", "-c", &commands]).env("PATH", env::join_paths(paths).unwrap()).envs(reach.clone()).envs([
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    let exit = command::finish(&mut shell).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    assert!(!exit.stderr.contains("warning"), "{}", exit.stderr);

    // 3. The broker in that folder, as the user whose keys its home has.
    let config = BrokerConfig::in_place().env("AWS_ENDPOINT_URL", aws.url());
    let broker = Broker::start_in(home, BINARY, config).await;
    assert_eq!(broker.audience(), format!("https://{HOST}"));
    let proxy = proxy_to(broker.url().strip_prefix("https://").unwrap().to_owned()).await;

    // The workflow.
    let act = Act::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("action")).program("aws", &Tools::aws());
    let act = reach.iter().fold(act, |act, (name, value)| act.env(name, value));
    let act = act.env("https_proxy", &proxy).env("NODE_EXTRA_CA_CERTS", &certificate);
    let exit = act.run(&workflow, Some(&issuer.run(&issuer.job().branch("main")))).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let arn = format!("arn:aws:sts::{}:assumed-role/payments-deploy/", Ministack::ACCOUNT);
    assert!(exit.stdout.contains(&arn), "{}{}", exit.stdout, exit.stderr);
}
