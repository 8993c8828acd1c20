//! `claimbound audit`: whether the evidence is as it was written, what it says, and parts of it as files.

mod export;
mod prune;
mod show;

use super::{deployment::Deployment, loaded, render::Format};
use crate::{
    keys::checkpoint::PUBLIC,
    store::{self, Expected, Finding, Report},
};
use anyhow::{Context as _, bail};
use claimbound_core::evidence::{Checkpoint, VerifierKey, checkpoint::NOTE_BYTES_MAX, hex, unhex};
use serde_json::json;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Everything holds.
pub(super) const VERIFIED: u8 = 0;
/// Something is not as it was written.
const BAD: u8 = 1;
/// The store could not be read.
const UNREADABLE: u8 = 2;

/// Verify, read and export the evidence
#[derive(clap::Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Verify every record, link, checkpoint and lease of a store, or the export of a decision
    ///
    /// Needs no configuration where `--store` is given, and no network. Without `--store` and `--checkpoint`, the
    /// checkpoint that the configured broker wrote is compared, too. Exit code 0: verified; 1: something is not as it
    /// was written; 2: usage, or store or file cannot be read.
    Verify(Verify),
    /// Show the records about a repository, role, principal, actor, initiator, approver, lease or credential
    ///
    /// The latest first. Everything that is named must hold; nothing named shows all. Exit code 0, whatever is found; 2:
    /// usage, or the store cannot be read. With `--broker` a running broker answers, from its own store, an operator who
    /// may `audit`; 3: it refused; 4: it cannot be asked.
    Show(Box<show::ShowArgs>),
    /// Let old evidence go
    ///
    /// Brokers do it by themselves once a day where `[evidence]` says `retain` or `retain_details`. Leaves and links stay:
    /// chain, tree and checkpoints verify as before. Details of jobs' records go first (claims, addresses, persons), whole
    /// records of jobs later, with their leases; records of what operators did stay, their details go with the records. A
    /// SQLite store must not be held by a broker. Exit code 0: done; 2: usage; 3: a broker is at work on the store; 4: the
    /// store cannot be read or written.
    Prune(Box<prune::PruneArgs>),
    /// Write the evidence of one decision, or of all, to a file
    ///
    /// That of one decision verifies by itself: `audit verify --export FILE --checkpoint-key KEY`. Exit code 0: written;
    /// 2: usage, the store cannot be read, or no checkpoint covers the decision yet.
    Export(export::ExportArgs),
}

/// Arguments of `audit verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  claimbound audit verify --store sqlite:claimbound.db
  claimbound audit verify --export decision.json --checkpoint-key checkpoint-key.txt")]
pub struct Verify {
    /// The store, like `sqlite:claimbound.db`; a broker may hold it meanwhile; by default the configuration's
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    deployment: Deployment,
    /// A head noted earlier: fails unless the chain still runs through it, and so shows that nothing was cut off; may be
    /// given for each head of a store that several brokers write
    #[arg(long, value_name = "HEX", value_parser = head)]
    expect_head: Vec<Head>,
    /// A signed checkpoint kept earlier, from `GET /evidence/checkpoint` or the broker's file: fails unless the store's
    /// first records are the ones that it was signed over; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Who must have signed checkpoints: the text of `GET /evidence/key`, or a file with it; of several, any one
    #[arg(long, value_name = "KEY")]
    checkpoint_key: Vec<String>,
    /// Verify this export of a decision instead of a store
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "expect_head", "checkpoint"])]
    export: Option<PathBuf>,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug)]
struct Head([u8; 32]);

fn head(text: &str) -> Result<Head, String> {
    unhex(text).map(Head).ok_or_else(|| "a head is 64 hexadecimal characters, as `audit verify` prints it".into())
}

/// Runs the command; the exit code is 0, 1 or 2 as its help says.
pub fn run(args: AuditArgs) -> anyhow::Result<u8> {
    let args = match args.command {
        Command::Verify(args) => args,
        Command::Show(args) => return show::run(&args),
        Command::Prune(args) => return prune::run(&args),
        Command::Export(args) => return export::run(args),
    };
    let mut keys = args.checkpoint_key.iter().map(|key| verifier(key)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(file) = &args.export {
        if keys.is_empty() {
            keys = vec![verifier(&args.deployment.read()?.signing.keys.join(PUBLIC).display().to_string())?];
        }
        let (holds, text) = export::verify(file, &keys)?;
        match args.format {
            Format::Human => loaded::print(&format!("{text}\n"))?,
            Format::Json => loaded::print(&format!("{}\n", json!({ "verified": holds, "text": text })))?,
        }
        return Ok(if holds { VERIFIED } else { BAD });
    }
    let mut files = args.checkpoint.clone();
    let store = match &args.store {
        Some(store) => store.clone(),
        None => {
            let config = args.deployment.read()?;
            if files.is_empty() && config.evidence.checkpoint_file.exists() {
                files.push(config.evidence.checkpoint_file.clone());
            }
            let public = config.signing.keys.join(PUBLIC);
            if keys.is_empty() && public.exists() {
                keys.push(verifier(&public.display().to_string())?);
            }
            config.store
        }
    };
    let notes = files.iter().map(|file| Ok((format!("checkpoint `{}`", file.display()), small(file)?)));
    let notes = notes.collect::<anyhow::Result<_>>()?;
    let heads = args.expect_head.into_iter().map(|head| head.0).collect();
    tell(&store, &Expected { heads, notes, keys }, args.format)
}

/// A key given as text, or by a file.
fn verifier(given: &str) -> anyhow::Result<VerifierKey> {
    if let Ok(key) = VerifierKey::parse(given) {
        return Ok(key);
    }
    let path = Path::new(given);
    if !path.exists() {
        bail!("`{given}` is neither a file nor a checkpoint key; `GET /evidence/key` answers one");
    }
    VerifierKey::parse(&small(path)?).with_context(|| format!("`{given}` holds no checkpoint key"))
}

/// A note or a key.
fn small(path: &Path) -> anyhow::Result<String> {
    let told = || format!("cannot read `{}`", path.display());
    let mut text = String::new();
    File::open(path)
        .with_context(told)?
        .take(NOTE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .with_context(told)?;
    Ok(text)
}

/// Verifies a store and prints what a person reads.
pub(super) fn verify(store: &str) -> anyhow::Result<u8> {
    tell(store, &Expected::default(), Format::Human)
}

fn tell(store: &str, expected: &Expected, format: Format) -> anyhow::Result<u8> {
    let audited = store::open_reader(store).and_then(|reader| store::audit_against(reader.as_ref(), expected));
    let report = match audited {
        Ok(report) => report,
        Err(down) => {
            eprintln!("error: {down}");
            return Ok(UNREADABLE);
        }
    };
    // A pipe that was closed is an error, not a panic.
    match format {
        Format::Human => loaded::print(&format!("{}\n", human(&report, expected)))?,
        Format::Json => loaded::print(&format!("{}\n", as_json(&report, expected)))?,
    }
    Ok(if report.finding.is_none() { VERIFIED } else { BAD })
}

/// What a checkpoint covers, and when it was signed.
fn covering(checkpoint: &Checkpoint) -> String {
    let at =
        jiff::Timestamp::from_second(checkpoint.at.0).map_or_else(|_| checkpoint.at.0.to_string(), |at| at.to_string());
    let Checkpoint { size, epoch, .. } = *checkpoint;
    format!("\nsigned    {} at {at}, in epoch {epoch}", counted(size, "record"))
}

fn human(report: &Report, expected: &Expected) -> String {
    let chain = &report.chain;
    let verdict = match &report.finding {
        None => "verified".to_owned(),
        Some(finding) => format!("bad       {finding}\nbefore it"),
    };
    let mut text = format!(
        "{verdict}  {} of {}, {} with erased details; {}",
        counted(chain.records(), "record"),
        counted(chain.incarnations(), "incarnation"),
        chain.erased(),
        counted(report.leases, "lease"),
    );
    if chain.emptied() > 0 {
        text.push_str(&format!("\nof these  {} emptied, its time being over", counted(chain.emptied(), "record")));
    }
    for head in chain.heads() {
        text.push_str(&format!("\nhead      {}", hex(&head)));
    }
    if let Some(last) = report.last_at.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        text.push_str(&format!("\nlast      {last}"));
    }
    if let Some((checkpoint, behind)) = &report.checkpoint {
        text.push_str(&covering(checkpoint));
        text.push_str(match (expected.keys.is_empty(), expected.notes.is_empty()) {
            (true, _) => "; by whom was not checked: give `--checkpoint-key`",
            (false, true) => "; the store's own word: give a `--checkpoint` that was kept elsewhere",
            (false, false) => "",
        });
        text.push_str(&format!("\nunproven  {} behind it", counted(*behind, "record")));
    }
    match chain.met() {
        Some(met) if !expected.heads.is_empty() => {
            text.push_str(&format!(
                "\nexpected  met at record {met}; {} since",
                counted(chain.records() - met, "record")
            ));
        }
        _ if report.finding.is_none() && expected.notes.is_empty() => text.push_str(
            "\n\nA store alone does not show records cut from its end. Keep a signed checkpoint (`GET /evidence/checkpoint`) or \
             the head elsewhere and pass it next time as `--checkpoint` or `--expect-head`.",
        ),
        _ => {}
    }
    text
}

pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn as_json(report: &Report, expected: &Expected) -> serde_json::Value {
    let chain = &report.chain;
    let finding = report.finding.as_ref().map(|finding| match finding {
        Finding::Record(bad) => json!({
            "position": bad.position,
            "incarnation": claimbound_core::evidence::uuid(bad.incarnation),
            "sequence": bad.sequence,
            "wrong": bad.wrong.to_string(),
        }),
        Finding::Lease { lease, fault } => json!({ "lease": lease, "wrong": fault.to_string() }),
        Finding::Tree { from, to } => json!({ "records": [from, to], "wrong": finding.to_string() }),
        other => json!({ "wrong": other.to_string() }),
    });
    json!({
        "verified": finding.is_none(),
        "records": chain.records(),
        "incarnations": chain.incarnations(),
        "erased": chain.erased(),
        "emptied": chain.emptied(),
        "leases": report.leases,
        "head": hex(&chain.head()),
        "heads": chain.heads().iter().map(|head| hex(head)).collect::<Vec<_>>(),
        "last_at": report.last_at,
        "expected_head_at": chain.met(),
        "checkpoint": report.checkpoint.as_ref().map(|(checkpoint, behind)| json!({
            "epoch": checkpoint.epoch,
            "size": checkpoint.size,
            "at": checkpoint.at.0,
            "root": hex(&checkpoint.root),
            "signature_checked": !expected.keys.is_empty(),
            "unproven": behind,
        })),
        "bad": finding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Commit, open};
    use claimbound_core::{
        evidence::{Details, Record, What},
        time::UnixSeconds,
    };
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        args: AuditArgs,
    }

    fn code(args: &[&str]) -> u8 {
        run(Cli::try_parse_from([&["audit", "verify"], args].concat()).unwrap().args).unwrap()
    }

    /// Three starts, as three brokers.
    fn filled(url: &str) {
        for at in 1..=3 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let writer = open(url, UnixSeconds(at)).unwrap().writer;
                let what = What::Started { version: "0.1.0" };
                let record = Record {
                    decision: None,
                    at: UnixSeconds(at),
                    what,
                    principal: None,
                    actor: None,
                    mappings_version: None,
                };
                let entry = record.seal(&Details::default(), [0; 32]);
                writer.commit(Commit { guards: vec![], changes: vec![], entry: Some(entry) }).await.unwrap();
                writer.stop().await;
            });
        }
    }

    fn report(url: &str, expected: Option<[u8; 32]>) -> Report {
        store::audit(store::open_reader(url).unwrap().as_ref(), expected).unwrap()
    }

    #[test]
    fn exit_codes_and_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let url = format!("sqlite:{}", path.display());
        assert_eq!(code(&["--store", &url]), UNREADABLE, "no store yet");
        assert_eq!(code(&["--store", "postgres://db/c"]), UNREADABLE, "no user");
        filled(&url);
        assert_eq!(code(&["--store", &url]), VERIFIED);
        let held = open(&url, UnixSeconds(4)).unwrap();
        assert_eq!(code(&["--store", &url, "--format", "json"]), VERIFIED, "beside a broker");
        drop(held);

        let good = report(&url, None);
        let head = hex(&good.chain.head());
        let text = human(&good, &Expected::default());
        let expected = format!(
            "verified  3 records of 3 incarnations, 0 with erased details; 0 leases\nhead      {head}\n\
             last      1970-01-01T00:00:03Z\n\nA store alone does not show"
        );
        assert!(text.starts_with(&expected), "{text}");
        let json = as_json(&good, &Expected::default());
        assert_eq!(
            (&json["verified"], &json["records"], &json["head"]),
            (&true.into(), &3.into(), &head.clone().into())
        );

        let edit = |sql| store::tests::edit(&path, sql);
        edit("DELETE FROM records WHERE position = 3");
        assert_eq!(code(&["--store", &url]), VERIFIED, "a cut tail shows only against a head");
        assert_eq!(code(&["--store", &url, "--expect-head", &head]), BAD);
        let two = hex(&report(&url, None).chain.head());
        assert_eq!(code(&["--store", &url, "--expect-head", &two]), VERIFIED);
        let heads = Expected { heads: vec![unhex(&two).unwrap()], ..Expected::default() };
        let text = human(&report(&url, unhex(&two)), &heads);
        assert!(text.ends_with("expected  met at record 2; 0 records since"), "{text}");

        edit("UPDATE records SET leaf = zeroblob(32) WHERE position = 2");
        assert_eq!(code(&["--store", &url]), BAD);
        let bad = report(&url, None);
        let text = human(&bad, &Expected::default());
        assert!(text.starts_with("bad       record 2 (incarnation "), "{text}");
        assert!(text.contains("sequence 1): its leaf is not the hash of its body"), "{text}");
        assert!(text.contains("\nbefore it  1 record of 1 incarnation,"), "{text}");
        let json = as_json(&bad, &Expected::default());
        assert_eq!((&json["verified"], &json["bad"]["position"]), (&false.into(), &2.into()));
    }

    #[test]
    fn a_head_that_is_none_is_a_usage_error() {
        let error = Cli::try_parse_from(["audit", "verify", "--expect-head", "abc"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("64 hexadecimal characters"), "{error}");
    }
}
