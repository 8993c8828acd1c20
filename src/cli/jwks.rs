//! `claimbound jwks`: an issuer's key set, fetched as a broker fetches it, and what changes between two of them. For
//! issuers whose keys are pinned in a file.

use super::{
    deployment::Deployment,
    issuer::{issuer_url, write},
    loaded::{self, Loaded},
    render::Format,
    serve::runtime,
};
use crate::{
    broker::trusted,
    keys::issuers::{IssuerConfig, Published, published},
    net::Client,
};
use anyhow::{Context, Result, anyhow, bail};
use claimbound_core::{
    trust::{Algorithm, Cut, IssuerRules, JWKS_BYTES_MAX, KeySet, ParsedKey, parse_jwks},
    workload::SingleUseRule,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// Fetch an issuer's keys for pinning, and compare key sets
#[derive(Debug, Args)]
pub struct JwksArgs {
    #[command(subcommand)]
    command: JwksCommand,
}

#[derive(Debug, Subcommand)]
enum JwksCommand {
    /// Fetch the keys that an issuer publishes, by the same client and checks as the broker's
    ///
    /// What is written fits `jwks = { file = "…" }` of the issuer's configuration: its usable keys alone; those that
    /// a broker would ignore are told on standard error. Exit code 0; 2: usage, or the keys cannot be had.
    #[command(after_help = "Example:
  claimbound jwks fetch --issuer gitlab --out gitlab-jwks.json")]
    Fetch {
        /// The issuer: its name in the configuration, or its URL. A URL is asked without a configuration: at public
        /// addresses, under the system's authorities, for keys of any algorithm
        #[arg(long, value_name = "NAME|URL")]
        issuer: String,
        /// Where to write, replaced at once; by default standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        deployment: Deployment,
    },
    /// Show which keys come, go and change from one key set to another
    ///
    /// A side is a file, an issuer's name in the configuration, or its URL. Issuers are asked, also those whose keys are
    /// pinned. Files are read by the rules of the first side that has a name, by itself for keys of any algorithm. Exit
    /// code 0: the usable keys are the same, 1: they differ, 2: usage, or a side cannot be had.
    #[command(after_help = "Example:
  claimbound jwks diff gitlab-jwks.json gitlab")]
    Diff {
        /// What is there now, like the pinned file
        #[arg(value_name = "FILE|NAME|URL")]
        before: String,
        /// What it would become, like the issuer
        #[arg(value_name = "FILE|NAME|URL")]
        after: String,
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        deployment: Deployment,
    },
}

/// Exit code 1 when two sets differ.
pub fn run(args: JwksArgs, out: &mut dyn Write) -> Result<u8> {
    match args.command {
        JwksCommand::Fetch { issuer, out: file, deployment } => {
            let source = Named { deployment: &deployment }.issuer(&issuer)?;
            let Published { jwks_uri, document } = fetch(&source)?;
            let set = parse_jwks(&document, &source.algorithms).with_context(|| jwks_uri.clone())?;
            for (kid, why) in &set.ignored {
                eprintln!("ignored  {}: {why}", kid.escape_debug());
            }
            if set.keys.is_empty() {
                bail!("{jwks_uri} publishes no key that can be used");
            }
            let usable = usable(&document, &set, &source.algorithms)?;
            match file {
                None => writeln!(out, "{}", serde_json::to_string_pretty(&usable)?)?,
                Some(file) => {
                    let there = file.parent().filter(|parent| !parent.as_os_str().is_empty());
                    if let Some(missing) = there.filter(|parent| !parent.is_dir()) {
                        bail!("there is no directory `{}`", missing.display());
                    }
                    write(&file, &usable).with_context(|| format!("cannot write `{}`", file.display()))?;
                    let keys = super::check::plural(set.keys.len(), "key");
                    eprintln!("wrote {keys} of {jwks_uri} to `{}`", file.display());
                }
            }
            Ok(0)
        }
        JwksCommand::Diff { before, after, format, deployment } => {
            let named = Named { deployment: &deployment };
            let sides = [named.side(&before)?, named.side(&after)?];
            let of_name = sides.iter().find_map(|side| match side {
                Side::Issuer(issuer) if !issuer.name.is_empty() => Some(issuer.algorithms.clone()),
                _ => None,
            });
            let permitted = of_name.unwrap_or_else(|| Algorithm::ALL.to_vec());
            let [before, after] = sides.map(|side| side.read(&permitted));
            let diff = Diff { before: before?, after: after? };
            match format {
                Format::Human => diff.tell(out)?,
                Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&diff.json())?)?,
            }
            Ok(u8::from(!diff.same()))
        }
    }
}

/// One side of a comparison.
enum Side {
    File(PathBuf),
    Issuer(Box<IssuerConfig>),
}

impl Side {
    fn read(&self, permitted: &[Algorithm]) -> Result<KeySet> {
        let (place, document) = match self {
            Self::File(path) => (path.display().to_string(), read(path)?),
            Self::Issuer(issuer) => {
                let Published { jwks_uri, document } = fetch(issuer)?;
                (jwks_uri, document)
            }
        };
        parse_jwks(&document, permitted).with_context(|| place)
    }
}

/// Finds issuers by name where there is a configuration.
struct Named<'d> {
    deployment: &'d Deployment,
}

impl Named<'_> {
    fn side(&self, text: &str) -> Result<Side> {
        if !text.contains("://") && Path::new(text).exists() {
            return Ok(Side::File(text.into()));
        }
        let of_no_file = || format!("there is no file `{text}`, and no issuer can be asked in its place");
        self.issuer(text).with_context(of_no_file).map(|issuer| Side::Issuer(Box::new(issuer)))
    }

    fn issuer(&self, text: &str) -> Result<IssuerConfig> {
        if text.contains("://") {
            let url = issuer_url(text.trim_end_matches('/')).map_err(|why| anyhow!("`{text}`: {why}"))?;
            // With or without the slash: the issuer's own document says which it is.
            return Ok(unnamed(if text.ends_with('/') { text.to_owned() } else { url }));
        }
        let config = self.deployment.read()?;
        let Some(Loaded { set, profiles, .. }) = loaded::load(&config.mappings)? else {
            bail!("`{}` names its issuers, and does not load", config.mappings.display());
        };
        let Some((_, issuer)) = set.issuer_named(text) else {
            let names: Vec<_> = set.issuers.iter().map(|issuer| format!("`{}`", issuer.name)).collect();
            bail!("policy.toml has no issuer `{text}`; there are {}", names.join(", "));
        };
        Ok(trusted(issuer, &config, &profiles))
    }
}

/// An issuer that no configuration names: everything about it is as strict as can be, but for algorithms, which only
/// a profile would know.
fn unnamed(url: String) -> IssuerConfig {
    IssuerConfig {
        name: String::new(),
        rules: IssuerRules {
            audience: String::new(),
            max_lifetime_seconds: 0,
            single_use: SingleUseRule::Jti,
            actor_single_use: SingleUseRule::Jti,
            requires_nbf: true,
            required: Vec::new(),
        },
        algorithms: Algorithm::ALL.to_vec(),
        allow_private_network: false,
        development: url.starts_with("http://"),
        ca_file: None,
        jwks_origin: None,
        pin: None,
        refresh: None,
        cut: Cut::default(),
        url,
    }
}

fn fetch(issuer: &IssuerConfig) -> Result<Published> {
    let client = Client::new()?;
    runtime()?.block_on(published(&client, issuer)).map_err(|why| anyhow!(why))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let told = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(told)?;
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(told)?;
    Ok(bytes)
}

/// The document without the keys that a broker would ignore, so without private members too. A bad key may stand beside
/// a good one of the same `kid`, so each is judged by itself.
fn usable(document: &[u8], set: &KeySet, permitted: &[Algorithm]) -> Result<Value> {
    let mut document: Value = serde_json::from_slice(document)?;
    let Value::Array(mut keys) = document["keys"].take() else { bail!("a key set has a list of keys") };
    keys.retain(|key| {
        let alone = json!({ "keys": [key] }).to_string();
        let good = parse_jwks(alone.as_bytes(), permitted).is_ok_and(|one| one.ignored.is_empty());
        good && key["kid"].as_str().is_some_and(|kid| set.keys.contains_key(kid))
    });
    Ok(json!({ "keys": keys }))
}

/// What becomes of one key.
struct Change<'s> {
    kid: &'s str,
    before: Option<&'s ParsedKey>,
    after: Option<&'s ParsedKey>,
}

impl Change<'_> {
    fn name(&self) -> &'static str {
        match (self.before, self.after) {
            (Some(before), Some(after)) if before.same_as(after) => "stays",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "goes",
            (None, _) => "comes",
        }
    }
}

struct Diff {
    before: KeySet,
    after: KeySet,
}

impl Diff {
    /// Every usable key of either side, in the order of names.
    fn changes(&self) -> Vec<Change<'_>> {
        let kids: BTreeSet<&str> = self.before.keys.keys().chain(self.after.keys.keys()).map(String::as_str).collect();
        kids.into_iter()
            .map(|kid| Change {
                kid,
                before: self.before.keys.get(kid).map(|key| &**key),
                after: self.after.keys.get(kid).map(|key| &**key),
            })
            .collect()
    }

    fn same(&self) -> bool {
        self.changes().iter().all(|change| change.name() == "stays")
    }

    fn ignored(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        let before = self.before.ignored.iter().map(|(kid, why)| ("before", kid.as_str(), why.as_str()));
        before.chain(self.after.ignored.iter().map(|(kid, why)| ("after", kid.as_str(), why.as_str())))
    }

    fn tell(&self, out: &mut dyn Write) -> Result<()> {
        let strength = |key: Option<&ParsedKey>| {
            key.map_or("-".to_owned(), |key| format!("{} {}", key.algorithm().name(), key.strength()))
        };
        for change in self.changes() {
            let (before, after) = (strength(change.before), strength(change.after));
            let kid = change.kid.escape_debug();
            match change.name() {
                "changed" => writeln!(out, "changed  {kid}  {before} -> {after}, another key")?,
                "comes" => writeln!(out, "comes    {kid}  {after}")?,
                name => writeln!(out, "{name:<7}  {kid}  {before}")?,
            }
        }
        for (side, kid, why) in self.ignored() {
            writeln!(out, "ignored  {}  {side}: {why}", kid.escape_debug())?;
        }
        writeln!(out, "{}", if self.same() { "the same keys" } else { "the keys differ" })?;
        Ok(())
    }

    fn json(&self) -> Value {
        let told = |key: Option<&ParsedKey>| {
            key.map(|key| json!({ "algorithm": key.algorithm().name(), "strength": key.strength().to_string() }))
        };
        let changes = self.changes();
        let keys = changes.iter().map(|change| {
            json!({ "kid": change.kid, "change": change.name(),
                "before": told(change.before), "after": told(change.after) })
        });
        let ignored = self.ignored().map(|(side, kid, why)| json!({ "side": side, "kid": kid, "why": why }));
        json!({
            "same": self.same(),
            "keys": keys.collect::<Vec<_>>(),
            "ignored": ignored.collect::<Vec<_>>(),
        })
    }
}
