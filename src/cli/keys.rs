//! `claimbound keys`: our signing keys, offline, in the directory that `serve` uses. A running broker reads the
//! directory again by itself.

use super::{deployment::Deployment, render::Format};
use crate::keys::signing::{KeyInfo, KeyState, Signer};
use anyhow::Result;
use claimbound_core::time::UnixSeconds;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{io::Write, path::PathBuf};

/// List and rotate the keys that the broker signs with
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List every key with its state: published, signing, retiring, gone
    ///
    /// Exit code 0; 2: usage, or the directory cannot be opened.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make new keys: published now, signing in 24 hours
    ///
    /// Works beside a running broker, which reads the directory again within a minute. Exit code 0; 2: usage, the
    /// directory cannot be opened, or a rotation is under way.
    Rotate {
        /// Sign with the new keys at once: relying parties that cache the key set refuse tokens until they fetch it
        /// again
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub struct Common {
    /// The key directory; by default the configuration's `[signing] keys`
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    #[command(flatten)]
    pub deployment: Deployment,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl Common {
    fn directory(&self) -> Result<PathBuf> {
        self.deployment.or(self.keys.as_ref(), |config| config.signing_keys)
    }
}

/// Runs the command; `now` is the present time.
pub fn run(args: &KeysArgs, now: UnixSeconds, out: &mut dyn Write) -> Result<u8> {
    match &args.command {
        KeysCommand::List { common } => {
            let keys = Signer::open_existing(&common.directory()?)?.list(now);
            tell(&keys, common.format, out)?;
        }
        KeysCommand::Rotate { now: at_once, common } => {
            let signer = Signer::open_existing(&common.directory()?)?;
            let made = signer.rotate(now, *at_once)?;
            signer.remove_gone(now)?;
            tell(&made, common.format, out)?;
            if common.format == Format::Human {
                let next = if *at_once {
                    "A running broker signs with them once it has read the directory again."
                } else {
                    "They are published as soon as a running broker has read the directory again."
                };
                writeln!(out, "\n{next}\nWhere `issuer export` publishes the documents, export again now.")?;
            }
        }
    }
    Ok(0)
}

fn tell(keys: &[KeyInfo], format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        let keys: Vec<Value> = keys.iter().map(to_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "keys": keys }))?)?;
        return Ok(());
    }
    writeln!(out, "{:<9}  {:<9}  {:<43}  next", "algorithm", "state", "kid")?;
    for key in keys {
        let next = match key.state {
            KeyState::Published => format!("signs from {}", moment(key.signs_from)),
            KeyState::Signing => key.retires.map_or("-".to_owned(), |at| format!("retires {}", moment(at))),
            KeyState::Retiring => key.gone.map_or("-".to_owned(), |at| format!("gone {}", moment(at))),
            KeyState::Gone => "-".to_owned(),
        };
        writeln!(out, "{:<9}  {:<9}  {:<43}  {next}", key.algorithm.name(), key.state.name(), key.kid)?;
    }
    Ok(())
}

fn to_json(key: &KeyInfo) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm.name(),
        "state": key.state.name(),
        "published": moment(key.published),
        "signs_from": moment(key.signs_from),
        "retires": key.retires.map(moment),
        "gone": key.gone.map(moment),
    })
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
        Signer::open(directory.path(), NOW).unwrap();
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
        Signer::open(directory.path(), NOW).unwrap();
        let made = keys(&["rotate", "--now", "--keys", path], NOW).unwrap();
        assert_eq!(made.matches("signing    ").count(), 2, "{made}");
    }
}
