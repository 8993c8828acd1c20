//! `claimbound issuer`: the documents of the broker as an issuer, for a static host.

use super::{deployment::Deployment, keys::ring, loaded};
use crate::{
    documents::{JWKS_PATH, OPENID_CONFIGURATION_PATH, openid_configuration},
    keys::signing::{KeyState, Signer},
    secret::Place,
};
use anyhow::{Context, Result};
use claimbound_core::time::UnixSeconds;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use url::Url;

/// Publish the broker's issuer documents elsewhere
#[derive(Debug, Args)]
pub struct IssuerArgs {
    #[command(subcommand)]
    pub command: IssuerCommand,
}

#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Write the discovery document and the key set for any static host
    ///
    /// Each is replaced at once, so a reader never sees half of one. Exit code 0; 2: usage, or a directory cannot be
    /// read or written.
    #[command(after_help = "Example:
  claimbound issuer export site")]
    Export {
        /// Where to write `.well-known/openid-configuration` and `jwks`: what stands at the issuer's URL
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The key directory; by default the configuration's `[signing] keys`
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
        /// Where the secret stands that they are sealed with, `file:PATH` or `env:NAME`; by default the configuration's
        /// `[signing] seal`
        #[arg(long, value_name = "PLACE")]
        seal: Option<Place>,
        /// The issuer's URL, as tokens name it (`iss`); by default the configuration's `[signing] issuer_url`
        #[arg(long, value_name = "URL", value_parser = issuer_url)]
        issuer_url: Option<String>,
        #[command(flatten)]
        deployment: Deployment,
    },
}

/// Runs the command; `now` is the present time.
pub fn run(args: &IssuerArgs, now: UnixSeconds, out: &mut dyn Write) -> Result<u8> {
    let IssuerCommand::Export { directory, keys, seal, issuer_url, deployment } = &args.command;
    let (ring, seal) = ring(keys.as_deref(), seal.as_ref(), deployment)?;
    let signer = Signer::open_existing(&ring, seal)?;
    let issuer_url = &deployment.issuer_url(issuer_url.as_ref())?;
    // Where the broker itself is, is in its configuration alone.
    let broker = deployment.config.exists().then(|| deployment.read().ok()).flatten().map(|config| config.public_url);
    let broker = broker.as_deref().filter(|url| !url.is_empty());
    // The key set first: whoever reads the discovery document finds the keys that it speaks of.
    for (path, document) in
        [(JWKS_PATH, signer.jwks(now)), (OPENID_CONFIGURATION_PATH, openid_configuration(issuer_url, broker))]
    {
        let file = directory.join(path.trim_start_matches('/'));
        write(&file, &document).with_context(|| format!("cannot write `{}`", file.display()))?;
        writeln!(out, "wrote {} for {issuer_url}{path}", file.display())?;
    }
    writeln!(
        out,
        "Serve both as `application/json`. Export again after every `claimbound keys rotate`, before its keys sign."
    )?;
    let soonest =
        signer.list(now).into_iter().filter(|key| key.state == KeyState::Published).map(|key| key.signs_from).min();
    if let Some(at) = soonest.and_then(|at| jiff::Timestamp::from_second(at.0).ok()) {
        writeln!(out, "New keys sign from {at}: publish these files before.")?;
    }
    Ok(0)
}

/// A reader sees the old document or the new one, never half of it.
pub(super) fn write(file: &Path, document: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    fs::create_dir_all(file.parent().context("the file has no directory")?)?;
    loaded::replace(file, text.as_bytes())
}

/// A URL that can be `iss`: exact text, so in the one spelling that nobody would normalise away.
pub(super) fn issuer_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err("write an `https` URL; plain HTTP is for loopback alone".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("write it without user, query and fragment".to_owned());
    }
    if text.ends_with('/') {
        return Err("write it without the trailing slash".to_owned());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_~[]%".contains(&byte);
    if !text.bytes().all(plain) || url.as_str().trim_end_matches('/') != text {
        return Err(format!("write it as `{}`", url.as_str().trim_end_matches('/')));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_url_has_one_spelling() {
        for good in ["https://a.example", "https://a.example/x/y-z", "https://a.example:8443", "http://127.0.0.1:8080"]
        {
            assert_eq!(issuer_url(good).as_deref(), Ok(good));
        }
        for (bad, text) in [
            ("https://a.example/", "trailing slash"),
            ("http://a.example", "https"),
            ("https://A.example", "`https://a.example`"),
            ("https://a.example:443", "`https://a.example`"),
            ("https://a.example/a/../b", "`https://a.example/b`"),
            ("https://a.example?x", "without user"),
            ("https://u@a.example", "without user"),
            ("https://a.example/'x", "write it as"),
            ("a.example", "not a URL"),
        ] {
            let why = issuer_url(bad).expect_err(bad);
            assert!(why.contains(text), "{bad}: {why}");
        }
    }

    #[test]
    fn the_export_is_what_a_relying_party_looks_for() {
        const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
        let home = tempfile::tempdir().unwrap();
        let keys = home.path().join("keys");
        let signer = Signer::open(&keys, None, NOW).unwrap();
        let args = IssuerArgs {
            command: IssuerCommand::Export {
                directory: home.path().join("site"),
                keys: Some(keys),
                seal: None,
                issuer_url: Some("https://oidc.example/prod".to_owned()),
                deployment: Deployment { config: "none.toml".into() },
            },
        };
        let mut out = Vec::new();
        assert_eq!(run(&args, NOW, &mut out).unwrap(), 0);
        assert!(!String::from_utf8(out).unwrap().contains("New keys sign"));
        let read = |name: &str| -> Value {
            serde_json::from_slice(&fs::read(home.path().join("site").join(name)).unwrap()).unwrap()
        };
        assert_eq!(read(".well-known/openid-configuration")["jwks_uri"], "https://oidc.example/prod/jwks");
        assert_eq!(read("jwks"), signer.jwks(NOW));

        signer.rotate(NOW, false).unwrap();
        let mut out = Vec::new();
        run(&args, NOW, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("New keys sign from 2027-01-16T08:00:00Z"));
        assert_eq!(read("jwks")["keys"].as_array().unwrap().len(), 4);
        assert_eq!(fs::read_dir(home.path().join("site")).unwrap().count(), 2, "nothing is left beside them");
    }
}
