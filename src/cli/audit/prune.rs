//! `claimbound audit prune`: lets old evidence go now, where no broker does it by itself.

use crate::{
    broker::{
        SystemClock,
        retention::{Before, Keeper},
    },
    cli::{
        deployment::Deployment,
        governed::{self, Failed},
        loaded::print,
        render::Format,
        serve,
    },
    config::KEPT_SECONDS_MIN,
    history::{
        access::{Moment, moment},
        log::{counted, date},
    },
    store,
};
use anyhow::Result;
use claimbound_core::time::{Clock as _, UnixSeconds};
use serde_json::{Map, json};

/// Arguments of `audit prune`.
#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Let records go that were made before this day (`2026-03-05`, UTC) or time; by default the configuration's
    /// `retain`
    #[arg(long, value_name = "DATE", value_parser = moment)]
    before: Option<Moment>,
    /// Let the details of jobs' records go that were made before this day or time; by default the configuration's
    /// `retain_details`
    #[arg(long, value_name = "DATE", value_parser = moment)]
    details_before: Option<Moment>,
    /// Why; kept in the evidence
    #[arg(long, value_name = "REASON", required_unless_present = "dry_run")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Say what would go, and let nothing go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    deployment: Deployment,
    /// Act on a PostgreSQL store without a broker, and say why
    #[arg(long, value_name = "REASON")]
    break_glass: Option<String>,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code is as its help says.
pub fn run(args: &PruneArgs) -> Result<u8> {
    match serve::runtime()?.block_on(prune(args, SystemClock.now())) {
        Ok(text) => print(&text).map(|()| governed::DONE).map_err(Into::into),
        Err(Failed { code, text }) => {
            eprintln!("error: {text}");
            Ok(code)
        }
    }
}

async fn prune(args: &PruneArgs, now: UnixSeconds) -> Result<String, Failed> {
    let config = args.deployment.read().map_err(Failed::usage)?;
    let configured = Before::of(&config.evidence, now);
    let given = |moment: Option<Moment>| moment.map(|moment| UnixSeconds(moment.first()));
    let before = Before {
        details: given(args.details_before).or(configured.details),
        records: given(args.before).or(configured.records),
    };
    if before == Before::default() {
        return Err(Failed::usage(
            "nothing is to go: name `--before` or `--details-before`, or write `retain` or `retain_details` below \
             `[evidence]`",
        ));
    }
    let youngest = now.plus(-KEPT_SECONDS_MIN);
    if let Some(late) = [before.details, before.records].into_iter().flatten().find(|before| *before > youngest) {
        return Err(Failed::usage(format!(
            "{} is too late: evidence of the last {} days is always kept",
            date(late.0),
            KEPT_SECONDS_MIN / 86_400
        )));
    }
    let gone = if args.dry_run {
        let reader = store::open_reader(&config.store).map_err(Failed::unavailable)?;
        Keeper { reader, writer: None, by: Map::new() }.forget(before, now, 0).await
    } else {
        let operator = governed::local().map_err(Failed::usage)?;
        let instead = "a broker lets old evidence go by itself, as `retain` and `retain_details` say";
        let opened = governed::hold(&config, args.break_glass.as_deref(), instead, now)?;
        let mut by = Map::from_iter([
            ("operator".to_owned(), json!(operator.name())),
            ("reason".to_owned(), json!(args.reason)),
        ]);
        by.extend(args.break_glass.iter().map(|why| ("break_glass".to_owned(), json!(why))));
        let keeper = Keeper { reader: opened.reader, writer: Some(opened.writer.clone()), by };
        let gone = keeper.forget(before, now, 0).await;
        opened.writer.stop().await;
        gone
    }
    .map_err(Failed::unavailable)?;
    Ok(match args.format {
        Format::Json => {
            let told = json!({
                "dry_run": args.dry_run,
                "records": gone.records,
                "details": gone.details,
                "leases": gone.leases,
                "records_before": before.records.map(|before| before.0),
                "details_before": before.details.map(|before| before.0),
            });
            format!("{told:#}\n")
        }
        Format::Human => format!(
            "{}: {}, {}, the details of {}\n",
            if args.dry_run { "would go" } else { "gone" },
            counted(gone.records, "record"),
            counted(gone.leases, "lease"),
            counted(gone.details, "record"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Commit, open};
    use claimbound_core::{
        evidence::{DecisionId, Details, Record, What},
        reason::Reason,
    };
    use clap::Parser;
    use std::{fs, path::Path};

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        args: PruneArgs,
    }

    /// What the command answers, or its exit code and error.
    fn prune_at(directory: &Path, args: &[&str]) -> Result<String, (u8, String)> {
        let config = directory.join("claimbound.toml").display().to_string();
        let args = Cli::try_parse_from([&["prune", "--config", &config], args].concat()).unwrap().args;
        let pruned = serve::runtime().unwrap().block_on(prune(&args, SystemClock.now()));
        pruned.map_err(|failed| (failed.code, failed.text))
    }

    fn configure(directory: &Path, evidence: &str) {
        let text = format!("[server]\npublic_url = \"https://cb.example\"\n[evidence]\n{evidence}\n");
        fs::write(directory.join("claimbound.toml"), text).unwrap();
    }

    /// A refusal of the year 2020.
    async fn refused(url: &str) {
        let at = UnixSeconds(1_600_000_000);
        let writer = open(url, at).unwrap().writer;
        let what = What::Refused { reason: Reason::NoMapping, role: None, mapping: None };
        let decision = Some(DecisionId(7));
        let record = Record { decision, at, what, principal: None, actor: None, mappings_version: None };
        let details = Details::from(Map::from_iter([("claims".to_owned(), json!({ "actor": "jo" }))]));
        let entry = record.seal(&details, [0; 32]);
        writer.commit(Commit { guards: vec![], changes: vec![], entry: Some(entry) }).await.unwrap();
        writer.stop().await;
    }

    #[test]
    fn old_evidence_goes_where_no_broker_is_at_work_and_it_is_on_record() {
        let directory = tempfile::tempdir().unwrap();
        let (path, url) = (directory.path(), format!("sqlite:{}", directory.path().join("claimbound.db").display()));
        configure(path, "");
        serve::runtime().unwrap().block_on(refused(&url));
        let why = ["--reason", "spring"];
        let (code, told) = prune_at(path, &why).unwrap_err();
        assert!((code, told.contains("`--before`")) == (2, true), "{told}");
        let (code, told) = prune_at(path, &[&why[..], &["--before", "2999-01-01"]].concat()).unwrap_err();
        assert!(code == 2 && told.contains("is too late: evidence of the last 7 days is always kept"), "{told}");
        configure(path, "retain_details = \"90d\"");
        assert_eq!(prune_at(path, &["--dry-run"]).unwrap(), "would go: 0 records, 0 leases, the details of 1 record\n");

        let held = open(&url, UnixSeconds(1_600_000_001)).unwrap();
        let (code, told) = prune_at(path, &why).unwrap_err();
        assert!(code == 3 && told.contains("a broker lets old evidence go by itself"), "{told}");
        serve::runtime().unwrap().block_on(held.writer.stop());
        drop(held.reader);

        assert_eq!(prune_at(path, &why).unwrap(), "gone: 0 records, 0 leases, the details of 1 record\n");
        let both = prune_at(path, &[&why[..], &["--before", "2020-12-31", "--format", "json"]].concat()).unwrap();
        let both: serde_json::Value = serde_json::from_str(&both).unwrap();
        assert_eq!((&both["records"], &both["details"]), (&1.into(), &0.into()), "{both}");
        let reader = store::open_reader(&url).unwrap();
        let report = store::audit(&*reader, []).unwrap();
        assert!(report.finding.is_none(), "{:?}", report.finding);
        assert_eq!((report.chain.records(), report.chain.emptied()), (3, 1));
        let kept = reader.before(None, 5).unwrap();
        let text: Vec<_> = kept.iter().map(|one| String::from_utf8_lossy(&one.details).into_owned()).collect();
        assert!(text.iter().all(|text| text.contains("spring") && text.contains("local:")), "{text:?}");
        assert!(prune_at(path, &["--dry-run", "--break-glass", "x"]).is_ok());
    }
}
