//! A finding about the mapping folder or the configuration: plain data. Renderers live in the command line.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

/// A stable code: `CB` and four digits. Each has a page under `docs/diagnostics/`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CB{:04}", self.0)
    }
}

/// What a finding means for loading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Loads; `--deny-warnings` makes it a failure.
    Warning,
    /// Does not load.
    Error,
}

/// A file's path relative to the folder, `/`-separated; shared by all places in the file, of which there are many.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<String>);

impl Deref for FileName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for FileName {
    fn from(path: &str) -> Self {
        path.to_owned().into()
    }
}

impl From<String> for FileName {
    fn from(path: String) -> Self {
        Self(Arc::new(path))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Bytes of one file. Small: every condition of a hundred thousand mappings has one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub file: FileName,
    start: u32,
    end: u32,
}

impl Span {
    /// The range may be empty, for "at this place". No file that is read comes near 4 GiB, where places end.
    pub fn new(file: impl Into<FileName>, bytes: Range<usize>) -> Self {
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file: file.into(), start: place(bytes.start), end: place(bytes.end) }
    }

    pub fn bytes(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A second place that explains the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// An edit that mends the finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suggestion {
    pub span: Span,
    pub replacement: String,
    pub text: String,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// One sentence without trailing period; names the field.
    pub message: String,
    /// Where; `None` only for findings about the folder as a whole.
    pub span: Option<Span>,
    /// What to write at the primary span; may be empty.
    pub label: String,
    pub others: Vec<Label>,
    /// The remedy: what to do next. Never empty for errors.
    pub help: Option<String>,
    pub suggestion: Option<Suggestion>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: Some(span),
            label: String::new(),
            others: Vec::new(),
            help: Some(help.into()),
            suggestion: None,
        }
    }
    /// Adds a second place.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.others.push(Label { span, text: text.into() });
        self
    }
    /// The finding as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same as a note.
    pub fn note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }
}

/// Line and column of a byte, both from 1; columns count characters, as editors do.
pub fn line_column(text: &str, byte: usize) -> (usize, usize) {
    let byte = byte.min(text.len());
    let before = &text.as_bytes()[..byte];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

/// The candidate nearest to `word`, if near enough to be a slip of the finger.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = word.chars().count().div_ceil(3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nü = x\n";
        assert_eq!(line_column(text, 0), (1, 1));
        assert_eq!(line_column(text, 6), (2, 1));
        assert_eq!(line_column(text, 8), (2, 2), "a two-byte letter is one column");
        assert_eq!(line_column(text, 999), (3, 1));
    }

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let keys = ["environment", "event_name", "branch"];
        assert_eq!(did_you_mean("enviroment", keys), Some("environment"));
        assert_eq!(did_you_mean("brnach", keys), Some("branch"));
        assert_eq!(did_you_mean("colour", keys), None);
    }
}
