//! `claimbound keys`: our signing keys, offline, in the directory that `serve` uses. A running broker reads the
//! directory again by itself.

mod leases;

use super::{
    deployment::Deployment,
    operator::client::{BrokerArgs, Client},
    render::Format,
};
use crate::{
    broker,
    history::log::Log,
    keys::{
        checkpoint,
        signing::{KeyInfo, Revocation, Signer, SigningAlgorithm},
    },
    secret::Place,
    store,
};
use anyhow::Result;
use claimbound_core::time::UnixSeconds;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// List, rotate, revoke and seal the keys that the broker signs with
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Of a broker's operator listener.
const KEYS: &str = "/operator/keys";

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List every key with its state: published, signing, retiring, gone
    ///
    /// Exit code 0; 2: usage, or the directory cannot be opened. With `--broker` a running broker answers; 3: it refused; 4: it
    /// cannot be asked.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make new keys: published now, signing in 24 hours
    ///
    /// Works beside a running broker, which reads the directory again within a minute, or asks it (`--broker`). Exit
    /// code 0; 2: usage, the directory cannot be opened, or a rotation is under way; of a broker, 3: it refused; 4: it cannot
    /// be asked.
    Rotate {
        /// Sign with the new keys at once: relying parties that cache the key set refuse tokens until they fetch it
        /// again
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        common: Common,
    },
    /// End a key at once: it signs no more and leaves the key set; list the credentials that it signed
    ///
    /// Where no other key of its algorithm signs, a new one does from now on. Works beside a running broker, which reads
    /// the directory again within a minute. Asked again, it lists again. Exit code 0; 2: usage, there is no such key, or
    /// the directory or the store cannot be opened; of a broker (`--broker`), 3: it refused; 4: it cannot be asked.
    Revoke {
        /// The key, as `claimbound keys list` shows it
        #[arg(value_name = "KID")]
        kid: String,
        /// The store that knows what was signed, like `sqlite:claimbound.db`; by default the configuration's
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Encrypt the private keys at rest, with the secret that `seal` names
    ///
    /// A broker that finds `seal` in its configuration does so by itself; this is for another secret. A running broker
    /// reads the secret again with the keys. Exit code 0; 2: usage, or a key does not open with either secret.
    Seal {
        /// Where the secret stands that they were sealed with before: `file:PATH` or `env:NAME`
        #[arg(long, value_name = "PLACE")]
        from: Option<Place>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub struct Common {
    /// The key directory; by default the configuration's `[signing] keys`
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Where the secret stands that they are sealed with, `file:PATH` or `env:NAME`; by default the configuration's
    /// `[signing] seal`
    #[arg(long, value_name = "PLACE")]
    pub seal: Option<Place>,
    #[command(flatten)]
    pub deployment: Deployment,
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl Common {
    fn ring(&self) -> Result<(PathBuf, Option<Place>)> {
        ring(self.keys.as_deref(), self.seal.as_ref(), &self.deployment)
    }

    /// A running broker, unless a directory is named.
    fn client(&self) -> Result<Option<Client>> {
        if self.keys.is_some() { Ok(None) } else { self.broker.client() }
    }

    fn open(&self) -> Result<Arc<Signer>> {
        let (directory, seal) = self.ring()?;
        Ok(Signer::open_existing(&directory, seal)?)
    }
}

/// Directory and seal: by flags, or as the configuration says.
pub(super) fn ring(
    keys: Option<&Path>,
    seal: Option<&Place>,
    deployment: &Deployment,
) -> Result<(PathBuf, Option<Place>)> {
    match keys {
        Some(keys) => Ok((keys.to_owned(), seal.cloned())),
        None => {
            let signing = deployment.read()?.signing;
            Ok((signing.keys, seal.cloned().or(signing.seal)))
        }
    }
}

/// Runs the command; `now` is the present time.
pub fn run(args: &KeysArgs, now: UnixSeconds, out: &mut dyn Write) -> Result<u8> {
    match &args.command {
        KeysCommand::List { common } => match common.client()? {
            Some(broker) => tell(&listed(broker.get(KEYS, &[])?), common.format, out)?,
            None => tell(&all(&common.open()?.list(now)), common.format, out)?,
        },
        KeysCommand::Rotate { now: at_once, common } => {
            let (made, whose) = match common.client()? {
                Some(broker) => (listed(broker.post(KEYS, &json!({ "do": "rotate", "now": at_once }))?), "The broker"),
                None => {
                    let signer = common.open()?;
                    let made = signer.rotate(now, *at_once)?;
                    signer.remove_gone(now)?;
                    (all(&made), "A running broker, once it has read the directory again,")
                }
            };
            tell(&made, common.format, out)?;
            if common.format == Format::Human {
                let next = if *at_once { "signs with them" } else { "publishes them" };
                writeln!(out, "\n{whose} {next}.\nWhere `issuer export` publishes the documents, export again now.")?;
            }
        }
        KeysCommand::Revoke { kid, store, common } => revoke(kid, store.as_ref(), common, now, out)?,
        KeysCommand::Seal { from, common } => {
            let (directory, seal) = common.ring()?;
            let sealed = Signer::seal(&directory, seal.clone(), from.as_ref())?;
            let sealed = sealed + usize::from(checkpoint::reseal(&directory, seal.as_ref(), from.as_ref())?);
            match common.format {
                Format::Human => writeln!(out, "{sealed} private keys are sealed")?,
                Format::Json => writeln!(out, "{}", json!({ "sealed": sealed }))?,
            }
        }
    }
    Ok(0)
}

fn revoke(kid: &str, store: Option<&String>, common: &Common, now: UnixSeconds, out: &mut dyn Write) -> Result<()> {
    if let Some(broker) = common.client()? {
        return revoke_at(&broker, kid, common.format, out);
    }
    let signer = common.open()?;
    let store = match (store, &common.keys) {
        (Some(url), _) => Some(url.clone()),
        (None, None) => Some(common.deployment.read()?.store),
        (None, Some(_)) => None,
    };
    // The key ends whether or not the store answers; what the store says is told after it.
    let log = store.map(|url| -> Result<Log> { Ok(Log::new(store::open_reader(&url)?)) });
    let of_store = |log: &Log| -> Result<Option<SigningAlgorithm>> {
        let name = log.reader.facts()?.remove(&broker::made_fact(kid));
        Ok(SigningAlgorithm::ALL.into_iter().find(|one| Some(one.name()) == name.as_deref()))
    };
    let lost = match &log {
        Some(Ok(log)) => of_store(log).unwrap_or_default(),
        _ => None,
    };
    let Revocation { key, made } = signer.revoke(kid, lost, now)?;
    let signed = match &log {
        Some(Ok(log)) => Some(leases::signed(log, &key, now)),
        Some(Err(_)) | None => None,
    };
    if common.format == Format::Json {
        let leases = signed.as_ref().and_then(|signed| signed.as_ref().ok());
        let leases = leases.map(|signed| signed.iter().map(leases::to_json).collect::<Vec<_>>());
        let told = json!({ "revoked": key.to_json(), "made": made.as_ref().map(KeyInfo::to_json), "leases": leases });
        writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
    } else {
        writeln!(out, "revoked {} {}; a running broker follows within a minute", key.algorithm, key.kid)?;
        if let Some(made) = &made {
            writeln!(out, "made    {} {}, which signs from now on", made.algorithm, made.kid)?;
        }
        writeln!(out, "Where `issuer export` publishes the documents, export again now.\n")?;
        if let Some(Ok(signed)) = &signed {
            leases::tell(signed, out)?;
        }
    }
    match (log, signed) {
        (_, Some(Err(error))) | (Some(Err(error)), _) => {
            Err(error.context("the key is revoked; what it signed cannot be listed"))
        }
        (None, _) if common.format == Format::Human => {
            Ok(writeln!(out, "`--store URL` lists the credentials that it signed.")?)
        }
        _ => Ok(()),
    }
}

/// Of a running broker, in the name of whoever is signed in there.
fn revoke_at(broker: &Client, kid: &str, format: Format, out: &mut dyn Write) -> Result<()> {
    let told = broker.post(KEYS, &json!({ "do": "revoke", "kid": kid }))?;
    if format == Format::Json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?);
    }
    let text = |key: &Value| format!("{} {}", word(key, "algorithm"), word(key, "kid"));
    writeln!(out, "revoked {}", text(&told["revoked"]))?;
    if !told["made"].is_null() {
        writeln!(out, "made    {}, which signs from now on", text(&told["made"]))?;
    }
    writeln!(
        out,
        "Where `issuer export` publishes the documents, export again now.\nAsked again with `--store URL` and `--keys DIR`, it lists the credentials that the key signed."
    )?;
    Ok(())
}

/// The keys of a broker's answer.
fn listed(mut answer: Value) -> Vec<Value> {
    match answer["keys"].take() {
        Value::Array(keys) => keys,
        _ => Vec::new(),
    }
}

fn all(keys: &[KeyInfo]) -> Vec<Value> {
    keys.iter().map(KeyInfo::to_json).collect()
}

fn word<'k>(key: &'k Value, member: &str) -> &'k str {
    key[member].as_str().unwrap_or("-")
}

fn tell(keys: &[Value], format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "keys": keys }))?)?;
        return Ok(());
    }
    writeln!(out, "{:<9}  {:<9}  {:<43}  next", "algorithm", "state", "kid")?;
    for key in keys {
        let (member, what) = match word(key, "state") {
            "published" => ("signs_from", "signs from"),
            "signing" => ("retires", "retires"),
            "retiring" => ("gone", "gone"),
            _ => ("revoked", "revoked"),
        };
        let next = key[member].as_str().map_or("-".to_owned(), |at| format!("{what} {at}"));
        let (algorithm, state, kid) = (word(key, "algorithm"), word(key, "state"), word(key, "kid"));
        writeln!(out, "{algorithm:<9}  {state:<9}  {kid:<43}  {next}")?;
    }
    Ok(())
}

/// RFC 3339; the bare number where the calendar ends.
fn moment(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        keys: KeysArgs,
    }

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn keys(words: &[&str], now: UnixSeconds) -> Result<String> {
        let line = Line::try_parse_from(["keys"].iter().chain(words))?;
        let mut out = Vec::new();
        assert_eq!(run(&line.keys, now, &mut out)?, 0);
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn a_directory_without_keys_is_an_error_and_gets_none() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no");
        for path in [directory.path(), &missing] {
            for command in ["list", "rotate"] {
                keys(&[command, "--keys", path.to_str().unwrap()], NOW).unwrap_err();
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_list_shows_states_and_what_comes_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        Signer::open(directory.path(), None, NOW).unwrap();
        let made = keys(&["rotate", "--keys", path], NOW).unwrap();
        assert_eq!(made.matches("published  ").count(), 2, "{made}");
        assert!(made.contains("signs from 2027-01-16T08:00:00Z") && made.contains("export again now"), "{made}");
        let list = keys(&["list", "--keys", path], NOW.plus(86400)).unwrap();
        assert_eq!(list.lines().count(), 5);
        assert_eq!(list.matches("retiring   ").count(), 2, "{list}");
        assert_eq!(list.matches("gone 2027-01-17T09:00:00Z").count(), 2, "{list}");
        let json: Value =
            serde_json::from_str(&keys(&["list", "--keys", path, "--format", "json"], NOW).unwrap()).unwrap();
        let states: Vec<_> =
            json["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["signing", "signing", "published", "published"]);
        assert_eq!(json["keys"][0]["published"], "2027-01-15T08:00:00Z");
        assert_eq!(json["keys"][0]["retires"], "2027-01-16T08:00:00Z");
        assert_eq!(json["keys"][2]["gone"], Value::Null);
    }

    #[test]
    fn now_signs_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        Signer::open(directory.path(), None, NOW).unwrap();
        let made = keys(&["rotate", "--now", "--keys", path], NOW).unwrap();
        assert_eq!(made.matches("signing    ").count(), 2, "{made}");
    }
}
