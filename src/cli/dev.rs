//! `claimbound dev token`, and the directory that `claimbound dev` works in.

use crate::dev::{
    issuer::{Issuer, issuer_url},
    request::{Profile, TokenRequest},
    sample::SAMPLE,
};
use anyhow::{Context as _, anyhow, bail};
use claimbound_core::time::{Clock, UnixSeconds};
use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where `claimbound dev` works when it is not told.
pub const DIRECTORY: &str = "claimbound-dev";
/// Where its issuer listens when it is not told.
pub const ISSUER_ADDRESS: &str = "127.0.0.1:8082";
/// The broker that tokens are for when `--audience` does not say.
pub const AUDIENCE: &str = "http://127.0.0.1:8080";

/// Below the directory: the issuer's key, its request token, and the address that the mappings know it by.
const ISSUER_DIRECTORY: &str = "issuer";
const ADDRESS_FILE: &str = "address";
const CONFIG_FILE: &str = "claimbound.toml";

/// Mints a token that the development issuer of a directory signs.
#[derive(clap::Args, Clone, Debug)]
pub struct TokenArgs {
    /// The CI system to play: `github-actions` or `gitlab`
    #[arg(long, default_value = "github-actions")]
    profile: Profile,
    /// The job's repository, `owner/name`
    #[arg(long)]
    repository: String,
    /// Immutable id of the repository; by default the sample's, or one made from the name
    #[arg(long, value_name = "ID")]
    repository_id: Option<u64>,
    /// Immutable id of the owner; by default the sample's, or one made from the name
    #[arg(long, value_name = "ID")]
    owner_id: Option<u64>,
    /// Run on this branch [default: main]
    #[arg(long, conflicts_with_all = ["tag", "pull_request"])]
    branch: Option<String>,
    /// Run on this tag
    #[arg(long, conflicts_with = "pull_request")]
    tag: Option<String>,
    /// Run for this pull (merge) request
    #[arg(long, value_name = "NUMBER")]
    pull_request: Option<u64>,
    /// Name this environment
    #[arg(long)]
    environment: Option<String>,
    /// The event (GitLab: pipeline source) [default: push, or the pull request's own]
    #[arg(long)]
    event: Option<String>,
    /// File of the workflow in the repository
    #[arg(long, value_name = "FILE")]
    workflow: Option<String>,
    /// The called workflow, `acme/ci/.github/workflows/deploy.yml@refs/heads/main`
    #[arg(long, value_name = "OWNER/NAME/FILE@REF")]
    job_workflow: Option<String>,
    /// Login of who started the run
    #[arg(long, value_name = "LOGIN")]
    initiator: Option<String>,
    /// `github-hosted`, `gitlab-hosted` or `self-hosted`
    #[arg(long, value_name = "KIND")]
    runner_environment: Option<String>,
    /// The ref is not protected
    #[arg(long)]
    unprotected: bool,
    /// `sub` with the immutable ids in it, as GitHub gives new repositories
    #[arg(long)]
    immutable_subject: bool,
    /// Id of the run
    #[arg(long, value_name = "ID")]
    run_id: Option<u64>,
    /// The broker's URL, exactly
    #[arg(long, value_name = "URL", default_value = AUDIENCE)]
    audience: String,
    /// How long the token lives, in seconds
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
    /// The directory of `claimbound dev`
    #[arg(long, default_value = DIRECTORY)]
    dir: PathBuf,
    /// Print the claims instead of the token
    #[arg(long)]
    claims: bool,
}

impl TokenArgs {
    fn request(&self) -> TokenRequest {
        let it = self.clone();
        TokenRequest {
            repository: it.repository,
            repository_id: it.repository_id,
            owner_id: it.owner_id,
            branch: it.branch,
            tag: it.tag,
            pull_request: it.pull_request,
            environment: it.environment,
            event: it.event,
            workflow: it.workflow,
            job_workflow: it.job_workflow,
            initiator: it.initiator,
            runner_environment: it.runner_environment,
            unprotected: it.unprotected,
            immutable_subject: it.immutable_subject,
            run_id: it.run_id,
            run_attempt: None,
            audience: Some(it.audience),
            lifetime_seconds: it.lifetime,
        }
    }
}

/// Prints the token, or its claims. Needs no running issuer: the key and the address stand in the directory.
pub fn token(args: TokenArgs) -> anyhow::Result<u8> {
    let request = args.request();
    let issuer = open_issuer(&args.dir)?;
    let mut out = std::io::stdout().lock();
    if args.claims {
        writeln!(out, "{:#}", issuer.claims(args.profile, &request)?)?;
    } else {
        writeln!(out, "{}", issuer.mint(args.profile, &request)?.reveal())?;
    }
    Ok(0)
}

/// Where the issuer of a development directory keeps its key: for `dev::issuer::start`.
pub fn issuer_directory(directory: &Path) -> PathBuf {
    directory.join(ISSUER_DIRECTORY)
}

/// The issuer of a directory that `claimbound dev` has made.
fn open_issuer(directory: &Path) -> anyhow::Result<Issuer> {
    let home = issuer_directory(directory);
    let Some(address) = known_address(&home)? else {
        bail!(
            "`{}` is no directory of `claimbound dev`: run `claimbound dev` first, or name the directory with `--dir`",
            directory.display()
        );
    };
    Ok(Issuer::open(&home, address, Arc::new(SystemClock))?)
}

/// Makes the development directory on the first run: the sample mappings with the local issuers in place of the real
/// ones, and a `claimbound.toml`, whose path is returned. What is there already belongs to its user and stays, but
/// for the issuers' address in `policy.toml`, which follows `issuer`.
pub fn prepare(
    directory: &Path,
    issuer: SocketAddr,
    listen: SocketAddr,
    operator_listen: SocketAddr,
) -> anyhow::Result<PathBuf> {
    let policy = directory.join("mappings/policy.toml");
    let home = issuer_directory(directory);
    crate::dev::key::private_directory(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
    // Keys and tokens below are good for nothing elsewhere, but a secret scanner cannot know that.
    write_new(&directory.join(".gitignore"), "*\n")?;
    // The policy is written last: where it stands, the folder is in use, and a file that its user deleted stays deleted.
    if !policy.exists() {
        for (path, text) in SAMPLE.iter().filter(|(path, _)| *path != "policy.toml") {
            write_new(&directory.join("mappings").join(path), text)?;
        }
        write_new(&policy, &with_local_issuers(sample_policy()?, issuer)?)?;
    }
    if let Some(known) = known_address(&home)?.filter(|known| *known != issuer) {
        let text = fs::read_to_string(&policy).with_context(|| format!("cannot read `{}`", policy.display()))?;
        let moved = Profile::ALL.into_iter().fold(text, |text, profile| {
            text.replace(&quoted(&issuer_url(known, profile)), &quoted(&issuer_url(issuer, profile)))
        });
        fs::write(&policy, moved).with_context(|| format!("cannot write `{}`", policy.display()))?;
    }
    let address = home.join(ADDRESS_FILE);
    fs::write(&address, format!("{issuer}\n")).with_context(|| format!("cannot write `{}`", address.display()))?;
    let config = directory.join(CONFIG_FILE);
    write_new(&config, &config_text(listen, operator_listen)?)?;
    Ok(config)
}

fn config_text(listen: SocketAddr, operator_listen: SocketAddr) -> anyhow::Result<String> {
    let mut text = format!(
        r#"# Written by `claimbound dev` on its first run; from then on it is yours. Paths are relative to this file.

[server]
listen = "{listen}"
operator_listen = "{operator_listen}"

[store]
url = "sqlite:claimbound.db"

[mappings]
path = "mappings"

[signing]
keys = "keys"

# The local issuers are on loopback, which is a private network.
"#
    );
    for (name, _, _) in sample_issuers(sample_policy()?)? {
        text.push_str(&format!("[issuer.{name}]\nallow_private_network = true\n"));
    }
    Ok(text)
}

fn sample_policy() -> anyhow::Result<&'static str> {
    let policy = SAMPLE.iter().find(|(path, _)| *path == "policy.toml");
    Ok(policy.ok_or_else(|| anyhow!("the sample has no `policy.toml`"))?.1)
}

/// Name, profile and URL of every issuer in a policy.
fn sample_issuers(policy: &str) -> anyhow::Result<Vec<(String, Profile, String)>> {
    let table: toml::Table = policy.parse().context("the sample's `policy.toml` is no TOML")?;
    let issuers = table.get("issuer").and_then(toml::Value::as_table).into_iter().flatten();
    let of = |(name, issuer): (&String, &toml::Value)| {
        let text = |key: &str| issuer.get(key).and_then(toml::Value::as_str);
        let (Some(profile), Some(url)) = (text("profile"), text("url")) else {
            bail!("the sample's issuer `{name}` has no `profile` or no `url`");
        };
        Ok((name.clone(), profile.parse()?, url.to_owned()))
    };
    issuers.map(of).collect()
}

fn with_local_issuers(policy: &str, address: SocketAddr) -> anyhow::Result<String> {
    let issuers = sample_issuers(policy)?;
    let replaced = issuers.into_iter().fold(policy.to_owned(), |text, (_, profile, url)| {
        text.replace(&quoted(&url), &quoted(&issuer_url(address, profile)))
    });
    Ok(replaced)
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The address that the directory's mappings know their issuers by; `None` before the first run.
fn known_address(home: &Path) -> anyhow::Result<Option<SocketAddr>> {
    let path = home.join(ADDRESS_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let address = text.trim().parse();
            Ok(Some(address.with_context(|| format!("`{}` holds no address: delete it", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// Writes a file that is not there yet, with a mode that the broker accepts for mappings whatever the umask.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
            Ok(mut file) => {
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
                file.write_all(text.as_bytes())
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// The machine's clock: `dev token` runs apart from any broker.
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        #[expect(clippy::disallowed_methods, reason = "this is the system clock itself")]
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        UnixSeconds(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{
        diag::Severity,
        mapping::{Folder, load},
        workload::Profiles,
    };
    use claimbound_test_support::{config::BrokerConfig, issuer::Issuer as FakeIssuer, jwt};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: TokenArgs,
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn prepared(directory: &Path, issuer: &str) -> PathBuf {
        prepare(directory, address(issuer), address("127.0.0.1:8080"), address("127.0.0.1:8081")).unwrap()
    }

    #[test]
    fn the_first_run_makes_a_directory_that_names_the_local_issuers() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("dev");
        let config = fs::read_to_string(prepared(&directory, "127.0.0.1:9001")).unwrap();
        let policy = fs::read_to_string(directory.join("mappings/policy.toml")).unwrap();
        for (name, profile, url) in sample_issuers(&policy).unwrap() {
            assert_eq!(url, format!("http://127.0.0.1:9001/{profile}"));
            assert!(config.contains(&format!("[issuer.{name}]")), "{config}");
        }
        assert!(config.parse::<toml::Table>().unwrap().contains_key("store"));
        for (path, _) in SAMPLE {
            assert!(directory.join("mappings").join(path).is_file(), "{path}");
        }
    }

    #[test]
    fn a_later_run_moves_the_issuers_and_keeps_what_its_user_changed() {
        let home = tempfile::tempdir().unwrap();
        let config = prepared(home.path(), "127.0.0.1:9001");
        let (path, _) = SAMPLE.iter().find(|(path, _)| path.starts_with("teams/")).unwrap();
        let team = home.path().join("mappings").join(path);
        fs::remove_file(&team).unwrap();
        fs::write(&config, "# mine").unwrap();
        prepared(home.path(), "127.0.0.1:9002");
        let policy = fs::read_to_string(home.path().join("mappings/policy.toml")).unwrap();
        assert!(policy.contains("http://127.0.0.1:9002/github-actions") && !policy.contains(":9001"));
        assert_eq!(fs::read_to_string(&config).unwrap(), "# mine");
        assert!(!team.exists());
    }

    #[test]
    fn a_token_is_the_directory_s_own_issuer_s() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_str().unwrap();
        let line = Line::parse_from(["x", "--repository", "acme/payments-api", "--dir", directory, "--tag", "v1"]);
        let missing = token(line.token.clone()).unwrap_err().to_string();
        assert!(missing.contains("run `claimbound dev` first"), "{missing}");
        prepared(home.path(), "127.0.0.1:9001");
        let issuer = open_issuer(home.path()).unwrap();
        let minted = issuer.mint(line.token.profile, &line.token.request()).unwrap();
        let claims = jwt::claims_of(minted.reveal());
        assert_eq!(claims["iss"], "http://127.0.0.1:9001/github-actions");
        assert_eq!((&claims["ref"], &claims["aud"]), (&"refs/tags/v1".into(), &AUDIENCE.into()));
        assert_eq!(token(line.token).unwrap(), 0);
    }

    #[test]
    fn one_ref_at_most() {
        let both = ["x", "--repository", "acme/payments-api", "--tag", "v1", "--branch", "main"];
        assert!(Line::try_parse_from(both).is_err());
    }

    /// The errors of a folder on disk, its loopback URLs exchanged for those of the real issuers: whether a loopback
    /// issuer may stand in a folder is the development mode's business.
    fn errors(root: &Path, urls: &[(String, &str)]) -> Vec<String> {
        let (mut folder, mut open) = (Folder::default(), vec![root.to_owned()]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let text = fs::read_to_string(path).unwrap();
                let text = urls.iter().fold(text, |text, (from, to)| text.replace(from.as_str(), to));
                folder.files.insert(name, text.into_bytes());
            }
        }
        let findings = load(&folder, &Profiles::builtin()).diagnostics.into_iter();
        findings.filter(|it| it.severity == Severity::Error).map(|it| format!("{:?} {}", it.span, it.message)).collect()
    }

    #[test]
    fn the_prepared_folder_and_the_bench_s_load() {
        const GITHUB: &str = "https://token.actions.githubusercontent.com";
        let (ours, bench, fake) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), FakeIssuer::github());
        prepared(ours.path(), "127.0.0.1:9001");
        let github = (issuer_url(address("127.0.0.1:9001"), Profile::GithubActions), GITHUB);
        let gitlab = (issuer_url(address("127.0.0.1:9001"), Profile::Gitlab), "https://gitlab.acme.example");
        assert_eq!(errors(&ours.path().join("mappings"), &[github, gitlab]), Vec::<String>::new());
        BrokerConfig::new(&fake).write(bench.path(), "127.0.0.1:0", "127.0.0.1:0");
        assert_eq!(errors(&bench.path().join("mappings"), &[(fake.url().to_owned(), GITHUB)]), Vec::<String>::new());
    }
}
