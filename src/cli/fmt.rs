//! `claimbound fmt`: one order of keys and one spacing for the whole folder, so that reviews show what changed and not
//! who typed it. Nothing is written of which it is not proved that it means the same.

use super::{check::Place, loaded, render::Format};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    mapping::{FileKind, Folder, load},
    workload::Profiles,
};
use serde_json::json;
use std::{io::Write as _, path::PathBuf};
use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, Table, Value};

/// Spaces before an element of a list that is written over several lines.
const INDENT: usize = 2;
/// The order of keys in tables within a line, where all its keys are of these.
const INLINE_KEYS: [&str; 8] = ["name", "id", "repository", "file", "ref", "branch", "tag", "sha"];

/// Write a mapping folder's TOML in one order of keys and one spacing
///
/// Comments and the order of tables stay. A file is written only if it means the same afterwards. Exit code 0: all is
/// formatted; 1: with `--check`, files would change; 2: usage, or a file is no TOML.
#[derive(Debug, clap::Args)]
pub struct FmtArgs {
    /// The mapping folder, or a part of it
    #[arg(default_value = "mappings")]
    path: PathBuf,
    /// Change nothing; list the files that would change
    #[arg(long)]
    check: bool,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When a file cannot be read, is no TOML, or cannot be written.
pub fn run(args: &FmtArgs) -> Result<u8> {
    let place = Place::find(&args.path)?;
    let before = crate::folder::read(&place.root, false)?;
    let mut after = before.clone();
    let mut changed = Vec::new();
    for (path, bytes) in &before.files {
        let Some(kind) = FileKind::of_path(path).filter(|_| place.holds(path)) else { continue };
        let shown = format!("{}/{path}", place.shown);
        let text = std::str::from_utf8(bytes).with_context(|| format!("`{shown}` is not UTF-8"))?;
        let formatted = format(kind, text).with_context(|| format!("`{shown}` is left as it is"))?;
        if formatted != text {
            after.files.insert(path.clone(), formatted.into_bytes());
            changed.push((path, shown));
        }
    }
    if !changed.is_empty() && outcome(&before) != outcome(&after) {
        bail!("formatting would change what the folder means; nothing is written. Please report this with the folder");
    }
    for (path, _) in &changed {
        if !args.check {
            loaded::replace(&place.root.join(path.as_str()), &after.files[*path])?;
        }
    }
    let files: Vec<&str> = changed.iter().map(|(_, shown)| shown.as_str()).collect();
    match args.format {
        Format::Human => {
            loaded::print(&files.iter().map(|file| format!("{file}\n")).collect::<String>())?;
            let done = if args.check { "would change" } else { "changed" };
            let noun = if files.len() == 1 { "file" } else { "files" };
            writeln!(std::io::stderr(), "{} {noun} {done}", files.len())?;
        }
        Format::Json => loaded::print(&format!("{:#}\n", json!({ "files": files, "written": !args.check })))?,
    }
    Ok(u8::from(args.check && !files.is_empty()))
}

/// What a folder comes to, without places: findings, and the tests that ran.
fn outcome(folder: &Folder) -> (Vec<String>, usize) {
    let loaded = load(folder, &Profiles::builtin());
    let mut findings: Vec<_> =
        loaded.diagnostics.iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect();
    findings.sort();
    (findings, loaded.tests.len())
}

/// A file's text in canonical form. Its data are the same, which is compared.
fn format(kind: FileKind, text: &str) -> Result<String> {
    let mut document: DocumentMut = text.parse()?;
    table(document.as_table_mut(), kind, &mut Vec::new());
    let trailing = lines_before(&format!("{}\n", document.trailing().as_str().unwrap_or_default()));
    document.set_trailing(trailing.trim_end());
    let mut formatted = document.to_string().trim_matches('\n').to_owned();
    formatted.push('\n');
    if text.parse::<toml::Table>()? != formatted.parse::<toml::Table>()? {
        bail!("formatting would change its data; please report this with the file");
    }
    Ok(formatted)
}

fn table(table: &mut Table, kind: FileKind, header: &mut Vec<String>) {
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let order = kind.keys(&names);
    let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
    table.sort_values_by(|a, _, b, _| place(a.get()).cmp(&place(b.get())));
    for (mut key, item) in table.iter_mut() {
        let name = key.get().to_owned();
        match item {
            Item::Value(Value::InlineTable(dotted)) if dotted.is_dotted() => {}
            Item::Value(of_key) => {
                let comments = lines_before(prefix(key.leaf_decor()));
                *key.leaf_decor_mut() = Decor::new(comments, " ");
                let comment = beside(suffix(of_key.decor()));
                value(of_key, 1);
                *of_key.decor_mut() = Decor::new(" ", comment);
            }
            Item::Table(below) if below.is_dotted() => {}
            Item::Table(below) => {
                header.push(name);
                below_header(below, header.len() > depth_of_blocks(&header[0]));
                self::table(below, kind, header);
                header.pop();
            }
            Item::ArrayOfTables(list) => {
                header.push(name);
                for below in list.iter_mut() {
                    below_header(below, header.len() > 1);
                    self::table(below, kind, header);
                }
                header.pop();
            }
            Item::None => {}
        }
    }
}

/// How many names the header of a block has; those with more belong to the block above them.
fn depth_of_blocks(first: &str) -> usize {
    if ["file", "mapping", "deny", "never", "test"].contains(&first) { 1 } else { 2 }
}

/// Before a header stands an empty line, unless the table belongs to the block above it.
fn below_header(table: &mut Table, belongs: bool) {
    let comments = lines_before(prefix(table.decor())).trim_start_matches('\n').to_owned();
    let gap = if belongs { "" } else { "\n" };
    let comment = beside(suffix(table.decor()));
    *table.decor_mut() = Decor::new(format!("{gap}{comments}"), comment);
}

fn prefix(decor: &Decor) -> &str {
    decor.prefix().and_then(|text| text.as_str()).unwrap_or_default()
}

fn suffix(decor: &Decor) -> &str {
    decor.suffix().and_then(|text| text.as_str()).unwrap_or_default()
}

/// A comment behind something on its line; how far it is set off is the author's choice.
fn beside(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() || text.starts_with([' ', '\t']) { text.to_owned() } else { format!(" {text}") }
}

/// Whole lines of comments, at most one empty line in a row.
fn lines_before(text: &str) -> String {
    let mut out = String::new();
    let mut lines: Vec<&str> = text.split('\n').map(str::trim).collect();
    // The last one is what stands before the key on its own line.
    lines.pop();
    for line in lines {
        if !line.is_empty() {
            out.push_str(line);
            out.push('\n');
        } else if !out.ends_with("\n\n") && out != "\n" {
            out.push('\n');
        }
    }
    out
}

fn value(value: &mut Value, depth: usize) {
    match value {
        Value::Array(list) => array(list, depth),
        Value::InlineTable(table) => inline(table, depth),
        _ => {}
    }
}

fn array(list: &mut Array, depth: usize) {
    let trailing = list.trailing().as_str().unwrap_or_default().to_owned();
    let mut before: Vec<String> = list.iter().map(|element| prefix(element.decor()).to_owned()).collect();
    if list.iter().any(|element| suffix(element.decor()).contains('#')) {
        // A comment between a value and its comma has no better place.
        return;
    }
    let over_lines = before.iter().chain([&trailing]).any(|text| text.contains('\n'))
        || list.iter().any(|element| suffix(element.decor()).contains('\n'));
    before.push(trailing);
    let gaps: Vec<String> = before
        .iter()
        .enumerate()
        .map(|(at, text)| match (over_lines, at) {
            (true, _) => gap(text, depth, at == list.len()),
            (false, 0) => String::new(),
            (false, _) if at == list.len() => String::new(),
            (false, _) => " ".to_owned(),
        })
        .collect();
    for (element, gap) in list.iter_mut().zip(&gaps) {
        value(element, depth + 1);
        *element.decor_mut() = Decor::new(gap.as_str(), "");
    }
    list.set_trailing_comma(over_lines && !list.is_empty());
    list.set_trailing(gaps.last().map(String::as_str).unwrap_or_default());
}

/// What stands between two elements on lines of their own: the comment behind the first, comments before the second.
fn gap(text: &str, depth: usize, last: bool) -> String {
    let indent = " ".repeat(INDENT * depth);
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut out = beside(first);
    for line in rest.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        out.push('\n');
        out.push_str(&indent);
        out.push_str(line);
    }
    out.push('\n');
    out.push_str(if last { &indent[INDENT..] } else { &indent });
    out
}

fn inline(table: &mut InlineTable, depth: usize) {
    let is_plain = |text: &str| !text.contains(['\n', '#']);
    let plain = table.iter().all(|(_, of_key)| is_plain(prefix(of_key.decor())) && is_plain(suffix(of_key.decor())))
        && is_plain(table.trailing().as_str().unwrap_or_default());
    let dotted = table.iter().any(|(_, of_key)| matches!(of_key, Value::InlineTable(below) if below.is_dotted()));
    if !plain || dotted {
        return;
    }
    let place = |key: &str| INLINE_KEYS.iter().position(|known| *known == key);
    if table.iter().all(|(key, _)| place(key).is_some()) {
        table.sort_values_by(|a, _, b, _| place(a.get()).cmp(&place(b.get())));
    }
    let count = table.len();
    for (at, (mut key, of_key)) in table.iter_mut().enumerate() {
        *key.leaf_decor_mut() = Decor::new(" ", " ");
        value(of_key, depth);
        *of_key.decor_mut() = Decor::new(" ", if at + 1 == count { " " } else { "" });
    }
    table.set_trailing_comma(false);
    table.set_trailing("");
}
