//! `claimbound audit export`: the evidence of one decision as a file that verifies without the store, or all of it.

use super::{super::deployment::Deployment, counted};
use crate::{
    broker::Line,
    folder,
    store::{self, Reader, Stored, tree},
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    evidence::{
        Body, Checkpoint, DecisionId, LeaseId, VerifierKey,
        export::{self, Export, KeptFolder, Proved},
        hex, tree as proofs, unhex, uuid,
    },
    mapping::Folder,
};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// An export of one decision beyond this is none.
const EXPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Arguments of `audit export`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  claimbound audit export --decision 01a20096-c45e-73a6-aa27-a59913fc00f6 --out decision.json
  claimbound audit export --all --out evidence.jsonl")]
#[group(id = "what", required = true, multiple = false, args = ["decision", "all"])]
pub struct ExportArgs {
    /// The decision whose evidence is asked for: its records, those of its lease, the mapping folder that judged, each
    /// record with its proof
    #[arg(long, value_name = "ID")]
    decision: Option<DecisionId>,
    /// All records, a line of JSON each: what `store adopt --evidence` reads
    #[arg(long)]
    all: bool,
    /// Where to write; the file is kept to its owner, since details name persons
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The store, like `sqlite:claimbound.db`; a broker may hold it meanwhile; by default the configuration's
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    deployment: Deployment,
}

/// Writes the file and says what stands in it; exit code 0.
///
/// # Errors
/// The store cannot be read, the file not written, or the decision is unknown or covered by no checkpoint yet.
pub fn run(args: ExportArgs) -> Result<u8> {
    let url = args.deployment.or(args.store.as_ref(), |config| config.store)?;
    let reader = store::open_reader(&url)?;
    let told = match args.decision {
        Some(id) => {
            let export = of_decision(reader.as_ref(), id)?;
            let text = serde_json::to_vec_pretty(&export).context("an export is JSON")?;
            create(&args.out)?.write_all(&text).with_context(|| format!("cannot write `{}`", args.out.display()))?;
            let left = match export.unproven {
                0 => String::new(),
                left => format!("; {} more, which no checkpoint covers yet, left out", counted(left, "record")),
            };
            format!("{} of decision {id}{left}", counted(export.records.len() as u64, "record"))
        }
        None => counted(everything(reader.as_ref(), &args.out)?, "record"),
    };
    eprintln!("wrote {told} to {}", args.out.display());
    Ok(0)
}

fn create(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot write `{}`", path.display()))
}

fn everything(reader: &dyn Reader, path: &Path) -> Result<u64> {
    let mut out = BufWriter::new(create(path)?);
    let (mut written, mut failed) = (0, None);
    reader.records_after(0, &mut |stored| {
        let line = line(&stored).and_then(|line| {
            serde_json::to_writer(&mut out, &line)?;
            Ok(out.write_all(b"\n")?)
        });
        written += u64::from(line.is_ok());
        failed = line.err();
        failed.is_none()
    })?;
    match failed {
        Some(error) => Err(error),
        None => out.flush().map(|()| written).with_context(|| format!("cannot write `{}`", path.display())),
    }
}

fn line(stored: &Stored) -> Result<Line> {
    Ok(Line {
        position: stored.position,
        incarnation: uuid(stored.incarnation),
        sequence: stored.sequence,
        link: hex(&stored.link),
        body: text(&stored.body)?,
        leaf: stored.body.is_empty().then(|| hex(&stored.leaf)),
        details: text(&stored.details)?,
    })
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("a record is no text; `audit verify` says more")?.to_owned())
}

fn of_decision(reader: &dyn Reader, id: DecisionId) -> Result<Export> {
    let note = reader.checkpoint()?.context("the store has no checkpoint yet: a broker that runs signs one")?;
    let checkpoint = Checkpoint::open(&note, &[]).context("the store's checkpoint cannot be read")?;
    let mut records = reader.decision(id)?;
    let Some(first) = records.first() else {
        bail!("the store has no decision `{id}`; of refusals that came too fast only their number is kept");
    };
    let after = first.position;
    let body = Body::parse(&first.body)?;
    let mappings = body.mappings.as_deref().and_then(unhex);
    if let Some(lease) = body.lease {
        records.extend(of_lease(reader, lease, after, id)?);
        records.sort_by_key(|record| record.position);
    }
    let proven = records.iter().take_while(|record| record.position <= checkpoint.last.0).count();
    if proven == 0 {
        bail!("no checkpoint covers decision `{id}` yet: a broker that runs signs one every 5 seconds, try again");
    }
    let prove = |record: &Stored| -> Result<Proved> {
        let index = tree::index_of(reader, record.position)?;
        let proof = tree::proof(reader, proofs::inclusion(index, checkpoint.size))?;
        let proof = proof.iter().map(|hash| hex(hash)).collect();
        Ok(Proved { index, body: text(&record.body)?, details: text(&record.details)?, proof })
    };
    let folder = match mappings {
        Some(version) => reader.folder(&version)?.map(|archive| kept(version, &archive)).transpose()?,
        None => None,
    };
    Ok(Export {
        claimbound_export: export::FORM,
        decision: id,
        checkpoint: note,
        records: records[..proven].iter().map(prove).collect::<Result<_>>()?,
        unproven: (records.len() - proven) as u64,
        folder,
    })
}

/// Records of the lease that are of no decision, or of another: how it was settled or ended later.
fn of_lease(reader: &dyn Reader, lease: LeaseId, after: i64, but: DecisionId) -> Result<Vec<Stored>> {
    let wanted = format!(r#""lease":"{lease}""#);
    let (mut found, mut failed) = (Vec::new(), None);
    reader.records_after(after, &mut |stored| {
        // Few bodies hold the text; only these are read whole.
        if stored.body.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            match Body::parse(&stored.body) {
                Ok(body) if body.lease == Some(lease) && body.decision != Some(but) => found.push(stored),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(found), |error| Err(error.into()))
}

fn kept(version: [u8; 32], archive: &[u8]) -> Result<KeptFolder> {
    let files = folder::unarchive(archive)?.files.into_iter();
    let files: Option<BTreeMap<_, _>> =
        files.map(|(path, bytes)| Some((path, String::from_utf8(bytes).ok()?))).collect();
    Ok(KeptFolder { version: hex(&version), files: files.unwrap_or_default() })
}

/// Reads and checks an export; the text for a person, and whether it holds.
///
/// # Errors
/// The file cannot be read.
pub fn verify(path: &Path, keys: &[VerifierKey]) -> Result<(bool, String)> {
    let about = fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if about.len() > EXPORT_BYTES_MAX {
        bail!("`{}` is larger than {EXPORT_BYTES_MAX} bytes", path.display());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let bad = |why: String| Ok((false, format!("bad       {why}")));
    let export: Export = match serde_json::from_slice(&bytes) {
        Ok(export) => export,
        Err(error) => return bad(format!("it is no export: {error}")),
    };
    let told = match export::verify(&export, keys) {
        Ok(told) => told,
        Err(error) => return bad(error.to_string()),
    };
    if let Some(folder) = &export.folder {
        let files = folder.files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        if told.mappings.as_ref() != Some(&folder.version) {
            return bad("its mapping folder is not the one that judged".to_owned());
        }
        if !folder.files.is_empty() && hex(&Folder { files }.version()) != folder.version {
            return bad("its mapping folder was changed: the files do not have its version".to_owned());
        }
    }
    let mut text = format!(
        "verified  decision {}: {}, {} with erased details",
        export.decision,
        counted(export.records.len() as u64, "record"),
        told.erased,
    );
    if export.unproven > 0 {
        text.push_str(&format!("; {} more, which no checkpoint covered, left out", counted(export.unproven, "record")));
    }
    text.push_str(&super::covering(&told.checkpoint));
    for record in &export.records {
        text.push_str(&format!("\nrecord    {} {}", record.index + 1, record.body));
    }
    Ok((true, text))
}
