//! Where an operator's commands act: on a running broker, or offline on its store.
//!
//! Offline whoever can write the store's file is an operator, `local:<uid>@<host>`. A SQLite store that a broker holds is
//! refused, by its lock: what a broker does not see it cannot keep. A PostgreSQL that others write beside needs
//! `--break-glass`, whose reason stands in the evidence.

pub mod args;

use super::{
    deployment::Deployment,
    operator::client::{self, BrokerArgs, Client as Broker},
};
use crate::{
    broker::{SystemClock, deniers},
    config::Config,
    folder,
    issuance::{Ended, Later, aws::denial::Denier},
    net::{Call, Client, FetchRules},
    operate::{self, Deed, Done, House, OperateError, Targets},
    operators::Operator,
    store::{self, Opened},
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    mapping::{self, MappingSet},
    time::{Clock as _, UnixSeconds},
    workload::Profiles,
};
use clap::Args;
use serde_json::Value;
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

/// Done.
pub const DONE: u8 = 0;
/// Wrong usage, or files that cannot be read.
pub const USAGE: u8 = 2;
/// The broker says no.
pub const REFUSED: u8 = 3;
/// The broker or its store cannot be asked.
pub const UNAVAILABLE: u8 = 4;

/// A broker's answer.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ending many leases takes its time.
const ANSWER_SECONDS_MAX: u64 = 120;

/// Where to act.
#[derive(Args, Clone, Debug)]
pub struct Where {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    deployment: Deployment,
    /// Act on a PostgreSQL store without a broker, and say why
    #[arg(long, value_name = "REASON", conflicts_with = "broker")]
    break_glass: Option<String>,
}

impl Where {
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.broker.ca_file()
    }
}

/// A command that was not carried out, and with which code it exits.
pub struct Failed {
    pub code: u8,
    pub text: String,
}

impl Failed {
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self { code: USAGE, text: error.to_string() }
    }
    pub fn unavailable(error: impl std::fmt::Display) -> Self {
        Self { code: UNAVAILABLE, text: error.to_string() }
    }
}

impl From<OperateError> for Failed {
    fn from(error: OperateError) -> Self {
        let code = match &error {
            OperateError::Invalid(_) => USAGE,
            OperateError::Store(_) => UNAVAILABLE,
            _ => REFUSED,
        };
        Self { code, text: error.to_string() }
    }
}

/// Has the deed done where it is to be done, and tells what came of it.
///
/// # Errors
/// Standard output is closed.
pub fn run(place: &Where, deed: Deed, tell: impl FnOnce(&Done) -> Result<()>) -> Result<u8> {
    let done = match place.broker.client()? {
        Some(broker) => over_http(&broker, &deed),
        None => super::serve::runtime()?.block_on(offline(place, deed)),
    };
    match done {
        Ok(done) => tell(&done).map(|()| DONE),
        Err(Failed { code, text }) => {
            eprintln!("error: {text}");
            Ok(code)
        }
    }
}

fn over_http(broker: &Broker, deed: &Deed) -> Result<Done, Failed> {
    let post = |path: &str, asked: serde_json::Result<Value>| broker.post(path, &asked.context("the request")?);
    let answer = match deed {
        Deed::Suspend(asked) => post("/operator/suspend", serde_json::to_value(asked)),
        Deed::Resume(asked) => post("/operator/resume", serde_json::to_value(asked)),
        Deed::Revoke(asked) => post("/operator/revoke", serde_json::to_value(asked)),
        Deed::Leases(asked) => post("/operator/leases", serde_json::to_value(asked)),
        Deed::Ceremonies(asked) => post("/operator/ceremonies", serde_json::to_value(asked)),
        Deed::Lapses(asked) => post("/operator/ceremonies/lapsed", serde_json::to_value(asked)),
        Deed::ClaimReset(asked) => post("/operator/claim-reset", serde_json::to_value(asked)),
        Deed::ClaimCarry(asked) => post("/operator/claim-carry", serde_json::to_value(asked)),
        Deed::Suspensions => broker.get("/operator/suspensions", &[]),
    };
    let answer = answer.map_err(|error| {
        let code = error.downcast_ref::<client::Failed>().map_or(USAGE, client::Failed::code);
        Failed { code, text: super::loaded::without_control(&format!("{error:#}")) }
    })?;
    serde_json::from_value(answer).map_err(|error| Failed::unavailable(format!("the broker's answer: {error}")))
}

/// A POST to the broker: status and body.
pub async fn post(
    url: &str,
    content_type: &'static str,
    body: &[u8],
    ca_file: Option<&std::path::Path>,
) -> Result<(u16, Vec<u8>), Failed> {
    let rules = FetchRules {
        allow_private_network: true,
        allow_plain_loopback: true,
        ca_file,
        bytes_max: ANSWER_BYTES_MAX,
        timeout: Duration::from_secs(ANSWER_SECONDS_MAX),
    };
    let client = Client::new().map_err(Failed::unavailable)?;
    let call = Call { method: "POST", url, headers: &[], body: Some((content_type, body)) };
    let answer = client.call(&call, &rules).await.map_err(Failed::unavailable)?;
    Ok((answer.status, answer.body))
}

/// What is known of roles without a broker.
struct Offline {
    set: MappingSet,
    deniers: BTreeMap<String, Arc<Denier>>,
}

impl Targets for Offline {
    fn set(&self) -> &MappingSet {
        &self.set
    }
    fn deniers(&self) -> &BTreeMap<String, Arc<Denier>> {
        &self.deniers
    }
    fn end<'a>(&'a self, _role: &'a str, _handle: &'a str) -> Later<'a, Ended> {
        Box::pin(std::future::ready(Ended::AtExpiry))
    }
}

async fn offline(place: &Where, deed: Deed) -> Result<Done, Failed> {
    let config = place.deployment.read().map_err(Failed::usage)?;
    let operator = local().map_err(Failed::usage)?;
    let now = SystemClock.now();
    // One that is not there is not made, and one of another version is not touched.
    let reader = store::open_reader(&config.store).map_err(Failed::unavailable)?;
    if matches!(deed, Deed::Leases(_) | Deed::Ceremonies(_) | Deed::Lapses(_) | Deed::Suspensions) {
        let judged = matches!(deed, Deed::Ceremonies(_) | Deed::Lapses(_));
        // The folder as it stands there. Where it does not load, nothing is said of what it would make of claims.
        let folder = judged.then(|| folder::read(&config.mappings, false).ok()).flatten();
        let set = folder.and_then(|folder| mapping::load(&folder, &Profiles::builtin()).set);
        return Ok(operate::look(reader, set.as_ref(), now, &operator, deed).await?);
    }
    let targets = Offline { set: folder_of(&config).map_err(Failed::usage)?, deniers: deniers(&config) };
    let opened = hold(&config, place.break_glass.as_deref(), "a broker that runs is asked with `--broker URL`", now)?;
    let house = House {
        writer: opened.writer.clone(),
        reader: opened.reader,
        targets: Arc::new(targets),
        now,
        break_glass: place.break_glass.clone(),
    };
    let done = operate::operate(&house, &operator, deed).await;
    opened.writer.stop().await;
    Ok(done?)
}

/// Opens the store to write, where no broker holds it; a PostgreSQL, beside which brokers may be at work, for a reason.
pub fn hold(config: &Config, break_glass: Option<&str>, instead: &str, now: UnixSeconds) -> Result<Opened, Failed> {
    let shared = !config.store.starts_with("sqlite:");
    if shared && break_glass.is_none_or(|why| why.trim().is_empty()) {
        let text = format!(
            "brokers may be at work on this store: {instead}; or say with `--break-glass REASON` why you act without"
        );
        return Err(Failed { code: REFUSED, text });
    }
    store::open(&config.store, now).map_err(|down| Failed { code: REFUSED, text: format!("{down}; {instead}") })
}

/// The folder that names are judged by. One that does not load judges none: an operator in a hurry can still act, with
/// `--force`.
fn folder_of(config: &Config) -> Result<MappingSet> {
    let read = folder::read(&config.mappings, false);
    let set = read.ok().and_then(|folder| mapping::load(&folder, &Profiles::builtin()).set);
    if set.is_none() {
        eprintln!("warning: the folder `{}` does not load, so no name can be judged by it", config.mappings.display());
    }
    Ok(set.unwrap_or_default())
}

/// Whoever runs this program.
pub fn local() -> Result<Operator> {
    let uid = fs::metadata("/proc/self").map(|own| own.uid()).context("the system does not say who runs this")?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() {
        bail!("the system does not say what this host is called");
    }
    Ok(Operator::local(uid, host))
}
