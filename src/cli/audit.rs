//! `claimbound audit`: whether the evidence is as it was written, and what it says.

mod show;

use super::{deployment::Deployment, loaded, render::Format};
use crate::store::{self, Finding, Report};
use claimbound_core::evidence::{hex, unhex};
use serde_json::json;

/// Everything holds.
pub(super) const VERIFIED: u8 = 0;
/// Something is not as it was written.
const BAD: u8 = 1;
/// The store could not be read.
const UNREADABLE: u8 = 2;

/// Verify and read the evidence
#[derive(clap::Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Verify every record, link and lease of a store
    ///
    /// Needs no configuration where `--store` is given, and no network. Exit code 0: verified; 1: something is not as it
    /// was written; 2: usage, or the store cannot be read.
    Verify(Verify),
    /// Show the records about a repository, role, principal, actor, initiator, lease or credential
    ///
    /// The latest first. Everything that is named must hold; nothing named shows all. Exit code 0, whatever is found; 2:
    /// usage, or the store cannot be read. With `--broker` a running broker answers, from its own store, an operator who
    /// may `audit`; 3: it refused; 4: it cannot be asked.
    Show(Box<show::ShowArgs>),
}

/// Arguments of `audit verify`.
#[derive(clap::Args, Debug)]
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
    };
    let store = args.deployment.or(args.store.as_ref(), |config| config.store)?;
    tell(&store, args.expect_head.into_iter().map(|head| head.0).collect(), args.format)
}

/// Verifies a store and prints what a person reads.
pub(super) fn verify(store: &str, expected: Option<[u8; 32]>) -> anyhow::Result<u8> {
    tell(store, expected.into_iter().collect(), Format::Human)
}

fn tell(store: &str, expected: Vec<[u8; 32]>, format: Format) -> anyhow::Result<u8> {
    let expects = !expected.is_empty();
    let audited = store::open_reader(store).and_then(|reader| store::audit(reader.as_ref(), expected));
    let report = match audited {
        Ok(report) => report,
        Err(down) => {
            eprintln!("error: {down}");
            return Ok(UNREADABLE);
        }
    };
    // A pipe that was closed is an error, not a panic.
    match format {
        Format::Human => loaded::print(&format!("{}\n", human(&report, expects)))?,
        Format::Json => loaded::print(&format!("{}\n", as_json(&report)))?,
    }
    Ok(if report.finding.is_none() { VERIFIED } else { BAD })
}

fn human(report: &Report, expected: bool) -> String {
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
    for head in chain.heads() {
        text.push_str(&format!("\nhead      {}", hex(&head)));
    }
    if let Some(last) = report.last_at.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        text.push_str(&format!("\nlast      {last}"));
    }
    match chain.met() {
        Some(met) if expected => {
            text.push_str(&format!(
                "\nexpected  met at record {met}; {} since",
                counted(chain.records() - met, "record")
            ));
        }
        _ if report.finding.is_none() => text.push_str(
            "\n\nA chain alone does not show records cut from its end. Keep the head elsewhere and pass it next time as \
             `--expect-head`.",
        ),
        _ => {}
    }
    text
}

fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn as_json(report: &Report) -> serde_json::Value {
    let chain = &report.chain;
    let finding = report.finding.as_ref().map(|finding| match finding {
        Finding::Record(bad) => json!({
            "position": bad.position,
            "incarnation": claimbound_core::evidence::uuid(bad.incarnation),
            "sequence": bad.sequence,
            "wrong": bad.wrong.to_string(),
        }),
        Finding::Lease { lease, fault } => json!({ "lease": lease, "wrong": fault.to_string() }),
        Finding::Cut { .. }
        | Finding::Start { .. }
        | Finding::SuspensionUnrecorded(_)
        | Finding::SuspensionMissing(_)
        | Finding::HeadNotMet => json!({ "wrong": finding.to_string() }),
    });
    json!({
        "verified": finding.is_none(),
        "records": chain.records(),
        "incarnations": chain.incarnations(),
        "erased": chain.erased(),
        "leases": report.leases,
        "head": hex(&chain.head()),
        "heads": chain.heads().iter().map(|head| hex(head)).collect::<Vec<_>>(),
        "last_at": report.last_at,
        "expected_head_at": chain.met(),
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
        let text = human(&good, false);
        let expected = format!(
            "verified  3 records of 3 incarnations, 0 with erased details; 0 leases\nhead      {head}\n\
             last      1970-01-01T00:00:03Z\n\nA chain alone does not show"
        );
        assert!(text.starts_with(&expected), "{text}");
        let json = as_json(&good);
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
        let text = human(&report(&url, unhex(&two)), true);
        assert!(text.ends_with("expected  met at record 2; 0 records since"), "{text}");

        edit("UPDATE records SET leaf = zeroblob(32) WHERE position = 2");
        assert_eq!(code(&["--store", &url]), BAD);
        let bad = report(&url, None);
        let text = human(&bad, false);
        assert!(text.starts_with("bad       record 2 (incarnation "), "{text}");
        assert!(text.contains("sequence 1): its leaf is not the hash of its body"), "{text}");
        assert!(text.contains("\nbefore it  1 record of 1 incarnation,"), "{text}");
        let json = as_json(&bad);
        assert_eq!((&json["verified"], &json["bad"]["position"]), (&false.into(), &2.into()));
    }

    #[test]
    fn a_head_that_is_none_is_a_usage_error() {
        let error = Cli::try_parse_from(["audit", "verify", "--expect-head", "abc"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("64 hexadecimal characters"), "{error}");
    }
}
