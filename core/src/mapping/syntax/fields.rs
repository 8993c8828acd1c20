//! Reads one table: takes the keys that its place has, with their types, and reports every other.

use super::{Place, Source, Value, later};
use crate::{
    diag::{Code, Diagnostic, Span, Suggestion, did_you_mean},
    mapping::codes,
};
use foldhash::fast::FixedState;
use std::{collections::HashSet, ops::Range};
use toml::de::{DeTable, DeValue};

/// Findings as they are made.
#[derive(Default, Debug)]
pub(crate) struct Findings {
    all: Vec<Diagnostic>,
    errors: usize,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Diagnostic) {
        self.errors += usize::from(finding.severity == crate::diag::Severity::Error);
        self.all.push(finding);
    }
    pub(crate) fn error(&mut self, code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::error(code, span, message, help));
    }
    /// An error with the edit that mends it.
    pub(crate) fn edit(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        replacement: impl Into<String>,
    ) {
        let help = help.into();
        let suggestion = Suggestion { span: span.clone(), replacement: replacement.into(), text: help.clone() };
        let mut finding = Diagnostic::error(code, span, message, help);
        finding.suggestion = Some(suggestion);
        self.push(finding);
    }
    /// A fault that another finding has told already: counted, so that nothing is concluded from what is missing.
    pub(crate) fn told(&mut self) {
        self.errors += 1;
    }
    /// Those of another part of the folder.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.errors += other.errors;
        self.all.append(&mut other.all);
    }
    /// How many errors so far: whether a part had any is the difference.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }
    /// All findings by file and place; those about the folder as a whole come first.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        // What the parser made of a text that it could not read says nothing.
        let mut unread: Vec<Span> = self
            .all
            .iter()
            .filter(|finding| finding.code == codes::TOML_SYNTAX)
            .filter_map(|f| f.span.clone())
            .collect();
        unread.sort_by(|a, b| (&a.file, a.bytes().start).cmp(&(&b.file, b.bytes().start)));
        // Each reaches as far as any before it in its file, so that the last one that begins before a place decides.
        for at in 1..unread.len() {
            if unread[at].file == unread[at - 1].file {
                let bytes = unread[at].bytes();
                unread[at] = Span::new(unread[at].file.clone(), bytes.start..bytes.end.max(unread[at - 1].bytes().end));
            }
        }
        let is_unread = |span: &Span| {
            let after =
                unread.partition_point(|bad| (&bad.file, bad.bytes().start) <= (&span.file, span.bytes().start));
            let last = unread[..after].last();
            last.is_some_and(|bad| bad.file == span.file && bad.bytes().contains(&span.bytes().start))
        };
        self.all.retain(|finding| finding.code == codes::TOML_SYNTAX || !finding.span.as_ref().is_some_and(&is_unread));
        self.all.sort_by(|a, b| {
            let key = |finding: &Diagnostic| {
                finding.span.as_ref().map(|span| (span.file.clone(), span.bytes().start, span.bytes().end))
            };
            key(a).cmp(&key(b)).then(a.code.cmp(&b.code))
        });
        self.all.dedup();
        self.all
    }
}

/// One key with its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a, 'f> {
    pub(crate) source: &'a Source<'f>,
    pub(crate) key: &'a toml::Spanned<std::borrow::Cow<'f, str>>,
    pub(crate) value: &'a Value<'f>,
}

impl<'a, 'f> Entry<'a, 'f> {
    pub(crate) fn name(&self) -> &'a str {
        self.key.get_ref()
    }
    pub(crate) fn key_span(&self) -> Span {
        self.source.span(self.key.span())
    }
    pub(crate) fn value_span(&self) -> Span {
        self.source.span(self.value.span())
    }
    /// Key and value.
    pub(crate) fn span(&self) -> Span {
        let (key, value) = (self.key.span(), self.value.span());
        self.source.span(key.start.min(value.start)..key.end.max(value.end))
    }
    pub(crate) fn wrong_type(&self, wanted: &str, findings: &mut Findings) {
        wrong_type(self.source, self.name(), self.value, wanted, findings);
    }
    /// The value as text.
    pub(crate) fn text(&self, findings: &mut Findings) -> Option<(&'a str, Span)> {
        match self.value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Some((text, self.value_span())),
            DeValue::String(_) => {
                findings.error(
                    codes::BAD_TEXT,
                    self.value_span(),
                    format!("`{}` is empty", self.name()),
                    "write a text, or leave the key out where it may be left out",
                );
                None
            }
            _ => {
                self.wrong_type("a text in quotes", findings);
                None
            }
        }
    }
    /// The value as a list of texts; an empty one is an error.
    pub(crate) fn texts(&self, findings: &mut Findings) -> Vec<(&'a str, Span)> {
        let DeValue::Array(list) = self.value.get_ref() else {
            self.wrong_type("a list of texts", findings);
            return Vec::new();
        };
        if list.is_empty() {
            empty_list(*self, findings);
        }
        let mut texts: Vec<(&str, Span)> = Vec::new();
        let mut seen: HashSet<&str, FixedState> = HashSet::default();
        for element in list.iter() {
            let span = self.source.span(element.span());
            match element.get_ref().as_str() {
                Some(text) if list.len() > 1 && !seen.insert(text) => findings.error(
                    codes::MEMBER_REPEATED,
                    span,
                    format!("`{text}` is listed twice in `{}`", self.name()),
                    "remove one of the two",
                ),
                Some(text) => texts.push((text, span)),
                None => wrong_type(self.source, self.name(), element, "texts in quotes", findings),
            }
        }
        texts
    }
    /// The keys of a table, in the order of the file.
    pub(crate) fn entries(&self, findings: &mut Findings) -> Vec<Entry<'a, 'f>> {
        match self.value.get_ref() {
            DeValue::Table(table) => entries(self.source, table),
            _ => {
                self.wrong_type("a table", findings);
                Vec::new()
            }
        }
    }
}

pub(crate) fn empty_list(entry: Entry<'_, '_>, findings: &mut Findings) {
    findings.error(
        codes::EMPTY_LIST,
        entry.value_span(),
        format!("`{}` is empty", entry.name()),
        "name at least one, or leave the key out; an empty list is never read as all nor as none",
    );
}

fn wrong_type(source: &Source<'_>, name: &str, value: &Value<'_>, wanted: &str, findings: &mut Findings) {
    findings.error(
        codes::WRONG_TYPE,
        source.span(value.span()),
        format!("`{name}` must be {wanted}, not {}", describe(value)),
        format!("write {wanted}"),
    );
}

/// The type of a value, in words.
pub(crate) fn describe(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn entries<'a, 'f>(source: &'a Source<'f>, table: &'a DeTable<'f>) -> Vec<Entry<'a, 'f>> {
    let mut entries: Vec<_> = table.iter().map(|(key, value)| Entry { source, key, value }).collect();
    entries.sort_by_key(|entry| entry.key.span().start);
    entries
}

/// One table of the language.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a, 'f> {
    pub(crate) source: &'a Source<'f>,
    pub(crate) place: Place,
    table: &'a DeTable<'f>,
    bytes: Range<usize>,
}

impl<'a, 'f> Fields<'a, 'f> {
    /// A table at its place; every key that does not belong there is reported now.
    pub(crate) fn read(
        source: &'a Source<'f>,
        place: Place,
        value: &'a Value<'f>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            wrong_type(source, place.title(), value, "a table", findings);
            return None;
        };
        if table.keys().any(|key| !place.has(key.get_ref())) {
            for entry in entries(source, table).into_iter().filter(|entry| !place.has(entry.name())) {
                unknown_key(place, entry, findings);
            }
        }
        Some(Self { source, place, table, bytes: value.span() })
    }
    /// The table's header, or the inline table.
    pub(crate) fn span(&self) -> Span {
        self.source.span(self.bytes.clone())
    }
    pub(crate) fn entry(&self, key: &'static str) -> Option<Entry<'a, 'f>> {
        debug_assert!(self.place.has(key), "`{key}` is missing in the schema of {}", self.place.title());
        self.table.get_key_value(key).map(|(key, value)| Entry { source: self.source, key, value })
    }
    /// Whether a key is missing, and that is still to be told: not where it is only misspelt, or slid below the
    /// header of a table further down.
    pub(crate) fn lacks(&self, key: &'static str, findings: &mut Findings) -> bool {
        if self.table.contains_key(key) {
            return false;
        }
        let misspelt = self.table.keys().any(|other| {
            !self.place.has(other.get_ref())
                && did_you_mean(other.get_ref(), self.place.keys().iter().copied()) == Some(key)
        });
        // Of these tables every foreign key is told where they are read.
        let slid = ["match", "require", "jwt", "limit", "actor", "ceremony", "workload"].iter().any(|table| {
            let table = self.table.get(*table).and_then(|value| value.get_ref().as_table());
            table.is_some_and(|table| table.contains_key(key))
        });
        if misspelt || slid {
            findings.told();
        }
        !misspelt && !slid
    }
    /// A key that must be there.
    pub(crate) fn need(&self, key: &'static str, findings: &mut Findings) -> Option<Entry<'a, 'f>> {
        let entry = self.entry(key);
        if self.lacks(key, findings) {
            findings.error(
                codes::MISSING_KEY,
                self.span(),
                format!("`{}` has no `{key}`", self.place.title()),
                self.place.remedy_for_missing(key),
            );
        }
        entry
    }
    pub(crate) fn text(&self, key: &'static str, findings: &mut Findings) -> Option<(&'a str, Span)> {
        self.entry(key)?.text(findings)
    }
    pub(crate) fn need_text(&self, key: &'static str, findings: &mut Findings) -> Option<(&'a str, Span)> {
        self.need(key, findings)?.text(findings)
    }
    pub(crate) fn boolean(&self, key: &'static str, findings: &mut Findings) -> Option<bool> {
        let entry = self.entry(key)?;
        let value = entry.value.get_ref().as_bool();
        if value.is_none() {
            entry.wrong_type("`true` or `false`", findings);
        }
        value
    }
    pub(crate) fn texts(&self, key: &'static str, findings: &mut Findings) -> Option<Vec<(&'a str, Span)>> {
        Some(self.entry(key)?.texts(findings))
    }
    /// `[key.NAME]` tables, in the order of the file.
    pub(crate) fn named(&self, key: &'static str, findings: &mut Findings) -> Vec<Entry<'a, 'f>> {
        self.entry(key).map(|entry| entry.entries(findings)).unwrap_or_default()
    }
    /// `[[key]]` tables, in the order of the file.
    pub(crate) fn array(&self, key: &'static str, findings: &mut Findings) -> &'a [Value<'f>] {
        let Some(entry) = self.entry(key) else { return &[] };
        let within = if self.place == Place::Mapping { "mapping." } else { "" };
        match entry.value.get_ref() {
            DeValue::Array(list) => list,
            DeValue::Table(_) => {
                let header = &self.source.text[entry.value.span()];
                if header.starts_with('[') {
                    findings.edit(
                        codes::SUBTABLE_FIRST,
                        entry.value_span(),
                        format!("`{key}` is a list of tables, and this is a single one"),
                        format!("write `[[{within}{key}]]`"),
                        format!("[[{within}{key}]]"),
                    );
                } else {
                    findings.error(
                        codes::SUBTABLE_FIRST,
                        entry.key_span(),
                        format!("a table of `{key}` stands before the `[[{key}]]` it belongs to"),
                        format!("move it below its `[[{key}]]` line: TOML gives a sub-table to the last `[[{key}]]` above it"),
                    );
                }
                &[]
            }
            _ => {
                entry.wrong_type("a list of tables", findings);
                &[]
            }
        }
    }
}

/// Reports a key that its table does not have, with the best remedy known.
fn unknown_key(place: Place, entry: Entry<'_, '_>, findings: &mut Findings) {
    let (name, title) = (entry.name(), place.title());
    if let Some(text) = later(place, name) {
        findings.error(
            codes::LATER_KEY,
            entry.key_span(),
            format!("`{name}` in `{title}` is not available in this version yet"),
            text,
        );
    } else if let Some(home) = place.home_of_table(name) {
        findings.error(
            codes::MISPLACED_TABLE,
            entry.key_span(),
            format!("`{name}` may not stand in {}", place.file()),
            format!("it belongs in {home}: authority comes from the folder, never from what a file says of itself"),
        );
    } else if let Some(owner) = place.owner_of(name) {
        findings.error(
            codes::MISPLACED_KEY,
            entry.key_span(),
            format!("`{name}` stands in `{title}` but belongs to `{owner}`"),
            format!("move it: every key belongs to the table header above it, so keys of `{owner}` stand directly below its own header"),
        );
    } else if let Some(meant) = did_you_mean(name, place.keys().iter().copied()) {
        findings.edit(
            codes::UNKNOWN_KEY,
            entry.key_span(),
            format!("`{title}` has no key `{name}`"),
            format!("did you mean `{meant}`?"),
            meant,
        );
    } else {
        findings.error(
            codes::UNKNOWN_KEY,
            entry.key_span(),
            format!("`{title}` has no key `{name}`"),
            format!("remove it; the keys here are {}", list(place.keys())),
        );
    }
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
