//! Spanned, error-recovering trees of the folder's files.
//!
//! A reviewer should see all faults of a folder at once, so reading goes on after a fault: a file gives a tree *and*
//! a list of findings. What may stand where is data in [`schema`]; [`fields`] reads one table by it; [`scan`] looks
//! at the text before the parser does, for what the parser would accept or could not survive.

mod editor;
mod fields;
mod scan;
mod schema;

pub use editor::{BackendKeys, FileKind, json_schema};
pub(crate) use fields::{Entry, Fields, Findings, describe, empty_list};
pub(crate) use schema::{Place, later};

use super::codes;
use crate::diag::{Diagnostic, FileName, Span};
use std::ops::Range;

/// One value with its place.
pub(crate) type Value<'f> = toml::Spanned<toml::de::DeValue<'f>>;

/// Files beyond this are refused unread.
pub(crate) const FILE_MAX_BYTES: usize = 1024 * 1024;

/// One file's text under its name.
#[derive(Debug)]
pub(crate) struct Source<'f> {
    pub(crate) name: FileName,
    pub(crate) text: &'f str,
}

impl Source<'_> {
    pub(crate) fn span(&self, bytes: Range<usize>) -> Span {
        Span::new(self.name.clone(), bytes)
    }
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Tree<'f> {
    pub(crate) source: Source<'f>,
    pub(crate) root: Value<'f>,
}

/// Bytes → text, or why not.
pub(crate) fn text_of<'f>(name: &FileName, bytes: &'f [u8], findings: &mut Findings) -> Option<Source<'f>> {
    let at = |bytes| Span::new(name.clone(), bytes);
    if bytes.len() > FILE_MAX_BYTES {
        findings.error(
            codes::FILE_TOO_LARGE,
            at(0..0),
            format!("the file has {} bytes; at most {FILE_MAX_BYTES} are read", bytes.len()),
            "split it: every file below a team's path is the team's",
        );
        return None;
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        findings.error(
            codes::BYTE_ORDER_MARK,
            at(0..3),
            "the file begins with a byte order mark",
            "save it as UTF-8 without byte order mark",
        );
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Source { name: name.clone(), text }),
        Err(error) => {
            findings.error(
                codes::NOT_UTF8,
                at(error.valid_up_to()..error.valid_up_to() + 1),
                "the file is not UTF-8",
                "save it as UTF-8",
            );
            None
        }
    }
}

/// Text → tree. `None` only where nesting forbids to parse at all.
pub(crate) fn parse<'f>(source: Source<'f>, findings: &mut Findings) -> Option<Tree<'f>> {
    let scanned = scan::scan(source.text);
    if let Some(at) = scanned.too_deep {
        findings.error(
            codes::TOO_DEEP,
            source.span(at..at + 1),
            format!("values are nested deeper than {}", scan::DEPTH_MAX),
            "flatten the value; no rule of the language needs more than four levels",
        );
        return None;
    }
    let (table, errors) = toml::de::DeTable::parse_recoverable(source.text);
    for error in &errors {
        let bytes = error.span().unwrap_or(0..0);
        if let Some(finding) = syntax_error(&source, table.get_ref(), error.message(), bytes) {
            findings.push(finding);
        }
    }
    for (bytes, what) in scanned.only_1_1 {
        findings.error(
            codes::TOML_1_1,
            source.span(bytes),
            format!("{what} is TOML 1.1, which editors and reviewers' tools read differently or refuse"),
            what.remedy(),
        );
    }
    let root = toml::Spanned::new(0..source.text.len(), toml::de::DeValue::Table(table.into_inner()));
    Some(Tree { source, root })
}

fn syntax_error(
    source: &Source<'_>,
    root: &toml::de::DeTable<'_>,
    message: &str,
    bytes: Range<usize>,
) -> Option<Diagnostic> {
    let span = source.span(bytes.clone());
    if message == "duplicate key" {
        let key = source.text.get(bytes.clone()).unwrap_or_default();
        let is_array_header = source.text[..bytes.start].ends_with("[[") && ["deny", "mapping", "test"].contains(&key);
        if is_array_header && root.get(key).is_some_and(|value| value.get_ref().is_table()) {
            // Reported with its own text where the array is read (`SUBTABLE_FIRST`).
            return None;
        }
        return Some(Diagnostic::error(
            codes::KEY_REPEATED,
            span,
            format!("`{key}` is written twice"),
            "keep one of the two; order never decides which of two values stands",
        ));
    }
    let help = if message.contains("must be quoted") {
        "write texts in double quotes"
    } else if message.contains("leading zero") {
        "write the number without leading zeros; ids that really have them are texts in quotes"
    } else if message.contains("unclosed") || message.contains("expected `\"`") {
        "close the bracket or quote on this line"
    } else if message.contains("no value") {
        "write `key = value`"
    } else {
        "mend the syntax: https://toml.io/en/v1.0.0 describes it"
    };
    Some(Diagnostic::error(codes::TOML_SYNTAX, span, message.to_owned(), help))
}
