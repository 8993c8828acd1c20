//! The directory of `claimbound dev`: the sample folder with local issuers, a configuration, the issuers' key.

use crate::dev::{issuer::issuer_url, request::Profile, sample::SAMPLE};
use anyhow::{Context as _, anyhow, bail};
use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Below the directory: the issuer's key, its request token, and the address that the mappings know it by.
const ISSUER_DIRECTORY: &str = "issuer";
const ADDRESS_FILE: &str = "address";
const CONFIG_FILE: &str = "claimbound.toml";

/// Where the issuer of a development directory keeps its key: for `dev::issuer::start`.
pub fn issuer_directory(directory: &Path) -> PathBuf {
    directory.join(ISSUER_DIRECTORY)
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
        let moved = Profile::all().fold(text, |text, profile| {
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

/// Writes the ports that were taken for port 0 into the configuration. The next start must find the same ones: the
/// broker's URL is its issuer name, which its store fixes.
pub fn keep_ports(config: &Path, listen: SocketAddr, operator_listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let text = fs::read_to_string(config).with_context(|| format!("cannot read `{}`", config.display()))?;
    let taken = [("listen", Some(listen)), ("operator_listen", operator_listen)];
    let kept = taken.into_iter().fold(text.clone(), |text, (key, bound)| match bound {
        Some(bound) => {
            let free = format!("\n{key} = \"{}\"\n", SocketAddr::new(bound.ip(), 0));
            text.replace(&free, &format!("\n{key} = \"{bound}\"\n"))
        }
        None => text,
    });
    if kept != text {
        fs::write(config, kept).with_context(|| format!("cannot write `{}`", config.display()))?;
    }
    Ok(())
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
pub(super) fn known_address(home: &Path) -> anyhow::Result<Option<SocketAddr>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{
        diag::Severity,
        mapping::{Folder, load},
        workload::Profiles,
    };
    use claimbound_test_support::{config::BrokerConfig, issuer::Issuer as FakeIssuer};

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
    fn a_free_port_that_was_taken_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let free = address("127.0.0.1:0");
        let config = prepare(home.path(), address("127.0.0.1:9001"), free, free).unwrap();
        for _ in 0..2 {
            keep_ports(&config, address("127.0.0.1:7001"), Some(address("127.0.0.1:7002"))).unwrap();
            let text = fs::read_to_string(&config).unwrap();
            assert!(text.contains("\nlisten = \"127.0.0.1:7001\"\noperator_listen = \"127.0.0.1:7002\"\n"), "{text}");
        }
        keep_ports(&config, address("127.0.0.1:7003"), None).unwrap();
        assert!(fs::read_to_string(&config).unwrap().contains(":7001\""), "a port that is written down stays");
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
