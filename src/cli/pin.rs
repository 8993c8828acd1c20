//! `claimbound pin`: ids for names that have none, and what became of those that have one. Works on the files' trees, since
//! a folder with names alone does not load; never puts another id in an id's place unless it is told which.

mod forge;
mod tree;

use super::{check::Place, check::plural, loaded, render::Format, serve::runtime};
use anyhow::{Context as _, Result, bail};
use claimbound_core::mapping::FileKind;
use forge::{Forge, Kind, Known, What};
use serde::Serialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
};
use toml_edit::DocumentMut;
use tree::Name;

/// Names beyond this are too many for one run: a forge's limit is some thousand questions an hour.
const NAMES_MAX: usize = 4000;

/// Fill in the ids of repositories and owners that have none, from the forge's API
///
/// Asks GitHub or GitLab for each name without an id, in files of teams and roles and in `owners`; comments and layout stay.
/// A token stands in `GITHUB_TOKEN` or `GITLAB_TOKEN`; it is sent to github.com's and gitlab.com's API, to one that `--api`
/// names, and to the one that the forge's own runner names. Exit code 0: every name has its id; 1: a name is not known to
/// the forge, or `--check` found something; 2: usage, or the API cannot be asked, and nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  GITHUB_TOKEN=\"$(gh auth token)\" claimbound pin mappings
  claimbound pin mappings --check")]
pub struct PinArgs {
    /// The mapping folder, or a part of it
    #[arg(default_value = "mappings")]
    path: PathBuf,
    /// Change nothing; find names without an id, and pairs whose repository was renamed, transferred, deleted or re-created
    #[arg(long, conflicts_with = "replace_id")]
    check: bool,
    /// Put the id that this name has now in the place of the one that stands beside it, after you know why it changed
    #[arg(long, value_name = "NAME")]
    replace_id: Option<String>,
    /// Names of this issuer alone
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Where the API is, such as `https://ghes.acme.example/api/v3`; by default the issuer's URL tells it
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A name somewhere in the folder.
#[derive(Clone, Debug)]
struct Spot {
    file: String,
    line: usize,
    name: Name,
}

/// Which name of which issuer, with the id beside it.
type Question = (String, What, String, Option<String>);

/// An id that was filled in or replaced.
#[derive(Clone, Debug, Serialize)]
struct Pinned {
    place: String,
    kind: What,
    name: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

/// What is wrong with a name.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    place: String,
    finding: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    message: String,
    help: String,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When the folder cannot be read or written, or a forge not asked.
pub fn run(args: &PinArgs) -> Result<u8> {
    let place = Place::find(&args.path)?;
    let folder = crate::folder::read(&place.root, false)?;
    let mut documents: BTreeMap<String, (FileKind, DocumentMut)> = BTreeMap::new();
    for (path, bytes) in &folder.files {
        let Some(kind) = FileKind::of_path(path) else { continue };
        let shown = format!("{}/{path}", place.shown);
        let text = std::str::from_utf8(bytes).with_context(|| format!("`{shown}` is not UTF-8"))?;
        let document = text.parse::<DocumentMut>().with_context(|| format!("`{shown}` is no TOML"))?;
        documents.insert(path.clone(), (kind, document));
    }
    let policy = documents.get("policy.toml").with_context(|| format!("`{}` has no policy.toml", place.shown))?;
    let issuers = tree::issuers(&policy.1);
    if let Some(issuer) = args.issuer.as_ref().filter(|issuer| !issuers.contains_key(*issuer)) {
        let names = issuers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        bail!("policy.toml has no issuer `{issuer}`; there are {names}");
    }
    let only = issuers.keys().next().filter(|_| issuers.len() == 1).cloned();
    let spots = spots(&mut documents, &folder, &place, only.as_deref());
    let spots: Vec<Spot> =
        spots.into_iter().filter(|spot| args.issuer.as_ref().is_none_or(|of| *of == spot.name.issuer)).collect();
    if let Some(name) = &args.replace_id
        && !spots.iter().any(|spot| spot.name.name == *name && spot.name.id.is_some())
    {
        bail!("no file pins an id beside `{name}`; names without one are filled in without `--replace-id`");
    }
    let asked: Vec<&Spot> = spots
        .iter()
        .filter(|spot| match &args.replace_id {
            _ if args.check => true,
            Some(name) => spot.name.name == *name,
            None => spot.name.id.is_none(),
        })
        .collect();
    let (known, findings) = runtime()?.block_on(ask(args, &asked, &issuers))?;
    let mut pinned = Vec::new();
    if !args.check {
        for (path, (kind, document)) in &mut documents {
            let shown = format!("{}/{path}", place.shown);
            if !place.holds(path) {
                continue;
            }
            let before = document.to_string();
            tree::visit(document, *kind, only.as_deref(), &mut |name| {
                let wanted = args.issuer.as_ref().is_none_or(|of| *of == name.issuer)
                    && args.replace_id.as_ref().map_or(name.id.is_none(), |of| *of == name.name);
                let id = known.get(&(name.issuer.clone(), name.what, name.name.clone())).filter(|_| wanted)?;
                if name.id.as_ref() == Some(id) {
                    return None;
                }
                let line = line_of(&before, name);
                pinned.push(Pinned {
                    place: format!("{shown}:{line}"),
                    kind: name.what,
                    name: name.name.clone(),
                    id: id.clone(),
                    before: name.id.clone(),
                });
                Some(id.clone())
            });
            let after = document.to_string();
            if after != before {
                loaded::replace(&place.root.join(path.as_str()), after.as_bytes())?;
            }
        }
    }
    answer(args, asked.len(), &pinned, &findings)?;
    Ok(u8::from(!findings.is_empty()))
}

/// Every name of the part that was asked about.
fn spots(
    documents: &mut BTreeMap<String, (FileKind, DocumentMut)>,
    folder: &claimbound_core::mapping::Folder,
    place: &Place,
    only: Option<&str>,
) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (path, (kind, document)) in documents.iter_mut().filter(|(path, _)| place.holds(path)) {
        let text = String::from_utf8_lossy(&folder.files[path]);
        let file = format!("{}/{path}", place.shown);
        tree::visit(document, *kind, only, &mut |name| {
            spots.push(Spot { file: file.clone(), line: line_of(&text, name), name: name.clone() });
            None
        });
    }
    spots
}

/// The line where a name stands first, for people to find it.
fn line_of(text: &str, name: &Name) -> usize {
    let quoted = format!("\"{}\"", name.name);
    let stands = |line: &str| {
        let code = line.split('#').next().unwrap_or_default();
        code.contains(&quoted) || (name.what == What::Owner && code.contains("owners") && code.contains(&name.name))
    };
    text.lines().position(stands).map_or(1, |at| at + 1)
}

type Ids = BTreeMap<(String, What, String), String>;

/// Asks the forges, each name once: ids by name, and what is wrong.
async fn ask(
    args: &PinArgs,
    spots: &[&Spot],
    issuers: &BTreeMap<String, (String, String)>,
) -> Result<(Ids, Vec<Finding>)> {
    let mut questions: BTreeMap<Question, Vec<&Spot>> = BTreeMap::new();
    for spot in spots {
        let Name { issuer, what, name, id } = spot.name.clone();
        questions.entry((issuer, what, name, id)).or_default().push(spot);
    }
    if questions.len() > NAMES_MAX {
        bail!("{} names are more than {NAMES_MAX}; name a part of the folder, or an `--issuer`", questions.len());
    }
    let concerned: BTreeSet<&String> = questions.keys().map(|(issuer, ..)| issuer).collect();
    if args.api.is_some() && concerned.len() > 1 {
        bail!("`--api` is one issuer's; say which with `--issuer`");
    }
    let mut forges: BTreeMap<String, Forge> = BTreeMap::new();
    let (mut ids, mut findings) = (Ids::new(), Vec::new());
    for ((issuer, what, name, id), places) in &questions {
        let mut tell = |finding: &'static str, message: String, help: String| {
            for spot in places {
                let place = format!("{}:{}", spot.file, spot.line);
                let (name, id) = (name.clone(), id.clone());
                findings.push(Finding { place, finding, name, id, message: message.clone(), help: help.clone() });
            }
        };
        let (profile, url) = match issuers.get(issuer) {
            Some((profile, url)) => (profile, url),
            None => {
                let message = format!("nothing says whose `{name}` is");
                tell("no_issuer", message, "write `issuer = \"…\"` below `[file]` or in the mapping".into());
                continue;
            }
        };
        let Some(kind) = Kind::of_profile(profile) else {
            let message = format!("no API tells the id of `{name}`: issuer `{issuer}` has the profile `{profile}`");
            // A pair of another CI system is none of this command's.
            if id.is_none() {
                tell("no_api", message, "write the immutable id by hand".into());
            }
            continue;
        };
        if !forges.contains_key(issuer) {
            forges.insert(issuer.clone(), Forge::open(kind, url, args.api.as_deref())?);
        }
        let forge = &forges[issuer];
        let now = forge.by_name(*what, name).await?;
        let same = |known: &Known| known.name.eq_ignore_ascii_case(name);
        match (now, id) {
            (Some(known), _) if !same(&known) => {
                tell("renamed", format!("`{name}` is called `{}` now", known.name), format!("write `{}`", known.name));
            }
            (Some(known), None) if args.check => {
                tell(
                    "without_id",
                    format!("`{name}` has no id"),
                    format!("write `{}`, or run `claimbound pin`", known.id),
                );
            }
            (Some(known), Some(id)) if args.check && known.id != *id => {
                let elsewhere = match forge.by_id(*what, id).await? {
                    Some(old) => format!("; id {id} is called `{}` now", old.name),
                    None => format!("; id {id} is gone"),
                };
                let message = format!("`{name}` is another {} now, with id {}{elsewhere}", noun(*what), known.id);
                let help = format!("find out who made it; only then `claimbound pin --replace-id {name}`");
                tell("re_created", message, help);
            }
            (Some(known), _) => {
                ids.insert((issuer.clone(), *what, name.clone()), known.id);
            }
            (None, Some(id)) if args.check => match forge.by_id(*what, id).await? {
                Some(known) => {
                    let owner = |name: &str| name.rsplit_once('/').map(|(owner, _)| owner.to_ascii_lowercase());
                    let moved = *what == What::Repository && owner(name) != owner(&known.name);
                    let (finding, done) =
                        if moved { ("transferred", "was transferred") } else { ("renamed", "was renamed") };
                    let help = match moved {
                        true => "if it is still yours to trust, write its new name and list its owner; else remove it"
                            .to_owned(),
                        false => format!("write `{}`", known.name),
                    };
                    tell(finding, format!("`{name}` {done}: id {id} is called `{}` now", known.name), help);
                }
                None => tell("deleted", format!("`{name}` with id {id} is gone"), unseen(forge, "remove it")),
            },
            (None, _) => tell(
                "unknown",
                format!("the forge knows no {} `{name}`", noun(*what)),
                unseen(forge, "write its present name"),
            ),
        }
    }
    Ok((ids, findings))
}

fn noun(what: What) -> &'static str {
    match what {
        What::Repository => "repository",
        What::Owner => "owner",
    }
}

/// What is private looks like what is not there.
fn unseen(forge: &Forge, remedy: &str) -> String {
    let variable = forge.variable();
    let token = match forge.has_token() {
        true => format!("if it is private, the token in `{variable}` must be allowed to see it"),
        false => format!("if it is private, put a token that may see it into `{variable}`"),
    };
    format!("{remedy}; {token}")
}

fn answer(args: &PinArgs, asked: usize, pinned: &[Pinned], findings: &[Finding]) -> Result<()> {
    if args.format == Format::Json {
        let document = json!({ "names": asked, "pinned": pinned, "findings": findings });
        return Ok(loaded::print(&format!("{document:#}\n"))?);
    }
    let mut text = String::new();
    for Pinned { place, name, id, before, .. } in pinned {
        let before = before.as_ref().map(|before| format!(" in the place of {before}")).unwrap_or_default();
        text.push_str(&format!("{place}: `{name}` has id {id}{before}\n"));
    }
    for Finding { place, finding, message, help, .. } in findings {
        text.push_str(&format!("{place}: {}: {message}\n  = help: {help}\n", finding.replace('_', " ")));
    }
    loaded::print(&text)?;
    let ids = if args.check { String::new() } else { format!(", {} written", plural(pinned.len(), "id")) };
    let told = format!("{} asked about{ids}; {}\n", plural(asked, "name"), plural(findings.len(), "finding"));
    std::io::stderr().lock().write_all(told.as_bytes())?;
    Ok(())
}
