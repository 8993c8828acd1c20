//! `claimbound audit show`: the records about something, the latest first.

use crate::{
    cli::{
        loaded,
        log::{LogArgs, Source},
        render::Format,
    },
    history::{
        access::{Moment, moment},
        find::{self, PAGE, PAGE_MAX, Wanted},
        log::{Log, date},
    },
};
use anyhow::{Context as _, Result};
use claimbound_core::evidence::LeaseId;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

const LIMIT: NonZeroUsize = NonZeroUsize::new(PAGE).expect("a page holds records");

/// Arguments of `audit show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  claimbound audit show --repository acme/payments-api --from 2026-03-01 --to 2026-03-31
  claimbound audit show --role payments-deploy.production --outcome granted
  claimbound audit show --handle 7f0c2d0e-51f0-4a0a-9d0a-2a3c4d5e6f70 --format json")]
pub struct ShowArgs {
    /// The repository, `OWNER/NAME` or its immutable id
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// The job on whose behalf, `ISSUER:ID`
    #[arg(long, value_name = "ISSUER:ID", value_parser = party)]
    principal: Option<String>,
    /// The party that acted, `ISSUER:ID`
    #[arg(long, value_name = "ISSUER:ID", value_parser = party)]
    actor: Option<String>,
    /// Who started the run; known as long as the details are kept
    #[arg(long, value_name = "NAME")]
    initiator: Option<String>,
    /// Who claimed or rejected it, `SIGN-IN:SUBJECT`; known as long as the details are kept
    #[arg(long, value_name = "PERSON", value_parser = person)]
    approver: Option<String>,
    /// The role that was asked for or granted
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// The mapping that granted, or the nearest
    #[arg(long, value_name = "MAPPING")]
    mapping: Option<String>,
    /// A lease's id
    #[arg(long, value_name = "ID")]
    lease: Option<LeaseId>,
    /// A credential's public handle, such as a `jti` or an access key's id
    #[arg(long, value_name = "HANDLE")]
    handle: Option<String>,
    /// The kind of record (`granted`, `refused`, `ended`, …), or a refusal's reason
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Since this day (`2026-03-05`, UTC) or time (`2026-03-05T14:00:00Z`)
    #[arg(long, value_name = "DATE", value_parser = moment)]
    from: Option<Moment>,
    /// Until this day or time, which is included
    #[arg(long, value_name = "DATE", value_parser = moment)]
    to: Option<Moment>,
    /// Records, at most
    #[arg(long, value_name = "NUMBER", default_value_t = LIMIT)]
    limit: NonZeroUsize,
    /// Where the answer before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<i64>,
    #[command(flatten)]
    log: LogArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn party(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((issuer, id)) if !issuer.is_empty() && !id.is_empty() => Ok(text.to_owned()),
        _ => Err("write the issuer's name, a colon and its immutable id, like `github:740000001`".to_owned()),
    }
}

fn person(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((sign_in, subject)) if !sign_in.is_empty() && !subject.is_empty() => Ok(text.to_owned()),
        _ => Err("write the name of the sign-in, a colon and the person's `sub` there, like `okta:00u1`".to_owned()),
    }
}

/// Runs the command; the exit code is 0.
pub fn run(args: &ShowArgs) -> Result<u8> {
    let (limit, source) = (args.limit.get(), args.log.open()?);
    let (mut records, mut cursor) = (Vec::new(), args.cursor);
    // A page looks at so many records and no further; what is asked for may stand behind many pages.
    loop {
        let most = (limit - records.len()).min(PAGE_MAX);
        let page = match &source {
            Source::Store(log) => of_store(log, args, cursor, most)?,
            Source::Broker(client) => {
                let parameters = parameters(args, cursor, most);
                let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
                client.get("/operator/decisions", &parameters)?
            }
        };
        records.extend(page["records"].as_array().context("the broker answered no records")?.iter().cloned());
        cursor = page["next"].as_i64();
        if cursor.is_none() || records.len() >= limit {
            break;
        }
    }
    match args.format {
        Format::Json => loaded::print(&format!("{:#}\n", json!({ "records": records, "next": cursor })))?,
        Format::Human => loaded::print(&human(&records, cursor))?,
    }
    Ok(0)
}

fn of_store(log: &Log, args: &ShowArgs, cursor: Option<i64>, limit: usize) -> Result<Value> {
    let wanted = Wanted {
        repository: args.repository.clone(),
        principal: args.principal.clone(),
        actor: args.actor.clone(),
        role: args.role.clone(),
        mapping: args.mapping.clone(),
        lease: args.lease,
        initiator: args.initiator.clone(),
        approver: args.approver.clone(),
        handle: args.handle.clone(),
        outcome: args.outcome.clone(),
        from: args.from.map(Moment::first),
        to: args.to.map(Moment::last),
    };
    let page = find::page(log, &wanted, cursor, limit)?;
    Ok(json!({ "records": page.records, "next": page.next }))
}

fn parameters(args: &ShowArgs, cursor: Option<i64>, limit: usize) -> Vec<(&'static str, String)> {
    let given = [
        ("repository", args.repository.clone()),
        ("principal", args.principal.clone()),
        ("actor", args.actor.clone()),
        ("role", args.role.clone()),
        ("mapping", args.mapping.clone()),
        ("lease", args.lease.map(|lease| lease.to_string())),
        ("initiator", args.initiator.clone()),
        ("approver", args.approver.clone()),
        ("handle", args.handle.clone()),
        ("outcome", args.outcome.clone()),
        ("from", args.from.map(|from| date(from.first()))),
        ("to", args.to.map(|to| date(to.last()))),
        ("cursor", cursor.map(|cursor| cursor.to_string())),
        ("limit", Some(limit.to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A line for each record: when, what, for whom, and what to ask next about it.
fn human(records: &[Value], next: Option<i64>) -> String {
    let mut text = String::new();
    for found in records {
        let record = &found["record"];
        let named = |name: &str| record[name].as_str();
        let at = record["at"].as_i64().map(date).unwrap_or_default();
        text.push_str(&format!("{at}  {}", named("kind").unwrap_or("?")));
        if let Some(reason) = named("reason") {
            text.push_str(&format!(" ({reason})"));
        }
        for (before, name) in [(" ", "role"), (" by ", "mapping"), (" of ", "subject")] {
            if let Some(value) = named(name) {
                text.push_str(&format!("{before}{value}"));
            }
        }
        for (before, name) in [(" for ", "principal"), (", acting: ", "actor")] {
            if let Some(id) = record[name]["id"].as_str() {
                let text_of = |member: &str| record[name][member].as_str().unwrap_or_default();
                text.push_str(&format!("{before}{} ({}:{id})", text_of("name"), text_of("issuer")));
            }
        }
        for name in ["how", "effect", "state", "handle", "lease", "parent", "decision"] {
            if let Some(value) = named(name) {
                text.push_str(&format!(", {name} {value}"));
            }
        }
        text.push('\n');
    }
    match next {
        Some(next) => text.push_str(&format!("there may be more: --cursor {next}\n")),
        None if records.is_empty() => text.push_str("no record is about that\n"),
        None => {}
    }
    text
}
