//! Findings for people and for programs.
//!
//! Core's diagnostics are plain data; here they meet the text they are about. Everything is readable without colour,
//! and what comes from a file is never written to a terminal unsanitized.

mod github;
mod sarif;

pub use github::github;
pub use sarif::sarif;

use crate::history;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Patch, Renderer, Snippet};
use claimbound_core::{
    diag::{Diagnostic, Severity, Span, line_column},
    mapping::Folder,
};
use serde_json::{Value, json};
use std::{io::IsTerminal, ops::Range};

/// How a command answers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON object.
    Json,
}

/// How `check` reports: to people, to programs, to code hosts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// GitHub's workflow commands: annotations in a pull request.
    Github,
}

impl From<Format> for history::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Human => Self::Human,
            Format::Json => Self::Json,
        }
    }
}

impl From<Format> for ReportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Human => Self::Human,
            Format::Json => Self::Json,
        }
    }
}

/// A renderer for standard output: coloured on a terminal, unless `NO_COLOR` is set.
pub fn renderer() -> Renderer {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if colour { Renderer::styled() } else { Renderer::plain() }
}

/// The findings for people. `root`: how the folder is called where paths are shown.
pub fn human(findings: &[Diagnostic], folder: &Folder, root: &str, renderer: &Renderer) -> String {
    let mut out = String::new();
    for finding in findings {
        out.push_str(&renderer.render(&groups(finding, folder, root)));
        out.push_str("\n\n");
    }
    out
}

fn groups<'a>(finding: &'a Diagnostic, folder: &'a Folder, root: &str) -> Vec<Group<'a>> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(finding.message.as_str()).id(finding.code.to_string());
    let mut group = Group::with_title(title);
    if let Some(span) = &finding.span {
        match text(folder, span) {
            Some(text) => {
                let primary = AnnotationKind::Primary.span(within(text, span));
                let label = (!finding.label.is_empty()).then_some(finding.label.as_str());
                let mut snippet = Snippet::source(text).path(shown(root, span)).annotation(primary.label(label));
                for other in finding.others.iter().filter(|other| other.span.file == span.file) {
                    let annotation = AnnotationKind::Context.span(within(text, &other.span));
                    snippet = snippet.annotation(annotation.label(other.text.as_str()));
                }
                group = group.element(snippet);
            }
            None => {
                let bytes = folder.files.get(&*span.file).map_or(&[][..], Vec::as_slice);
                let (line, column) = line_column(&String::from_utf8_lossy(bytes), span.bytes().start);
                group = group.element(Origin::path(shown(root, span)).line(line).char_column(column));
            }
        }
        for other in finding.others.iter().filter(|other| other.span.file != span.file) {
            let Some(text) = text(folder, &other.span) else { continue };
            let annotation = AnnotationKind::Context.span(within(text, &other.span)).label(other.text.as_str());
            group = group.element(Snippet::source(text).path(shown(root, &other.span)).annotation(annotation));
        }
    }
    let mut groups = Vec::new();
    let patch = finding.suggestion.as_ref().and_then(|suggestion| Some((suggestion, text(folder, &suggestion.span)?)));
    match patch {
        Some((suggestion, text)) => {
            let patch = Patch::new(within(text, &suggestion.span), suggestion.replacement.as_str());
            let help = finding.help.as_deref().unwrap_or(&suggestion.text);
            groups.push(group);
            groups.push(
                Group::with_title(Level::HELP.secondary_title(help))
                    .element(Snippet::source(text).path(shown(root, &suggestion.span)).patch(patch)),
            );
        }
        None => {
            if let Some(help) = &finding.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            groups.push(group);
        }
    }
    groups
}

fn text<'f>(folder: &'f Folder, span: &Span) -> Option<&'f str> {
    std::str::from_utf8(folder.files.get(&*span.file)?).ok().filter(|text| !text.is_empty())
}

fn shown(root: &str, span: &Span) -> String {
    if root.is_empty() { span.file.to_string() } else { format!("{}/{}", root.trim_end_matches('/'), span.file) }
}

/// The span, inside the text and on its characters.
fn within(text: &str, span: &Span) -> Range<usize> {
    let mut start = span.bytes().start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.bytes().end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// One finding for programs: lines and columns from 1, `end_` behind the last character.
pub fn json(finding: &Diagnostic, folder: &Folder) -> Value {
    let mut value = json!({
        "code": finding.code.to_string(),
        "severity": match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": finding.message,
        "help": finding.help,
    });
    if let Some(span) = &finding.span {
        value["place"] = place(folder, span);
    }
    if !finding.label.is_empty() {
        value["label"] = json!(finding.label);
    }
    if !finding.others.is_empty() {
        let other =
            |other: &claimbound_core::diag::Label| json!({ "place": place(folder, &other.span), "text": other.text });
        value["others"] = finding.others.iter().map(other).collect();
    }
    if let Some(suggestion) = &finding.suggestion {
        value["suggestion"] = json!({
            "place": place(folder, &suggestion.span),
            "replacement": suggestion.replacement,
            "text": suggestion.text,
        });
    }
    value
}

/// Where a span stands, in lines and characters from 1; the end is behind the last character.
struct Place {
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

impl Place {
    fn of(folder: &Folder, span: &Span) -> Self {
        let text = String::from_utf8_lossy(folder.files.get(&*span.file).map_or(&[], Vec::as_slice));
        let (line, column) = line_column(&text, span.bytes().start);
        let (end_line, end_column) = line_column(&text, span.bytes().end);
        Self { line, column, end_line, end_column }
    }
}

fn place(folder: &Folder, span: &Span) -> Value {
    let Place { line, column, end_line, end_column } = Place::of(folder, span);
    json!({ "file": &*span.file, "line": line, "column": column, "end_line": end_line, "end_column": end_column })
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::diag::{Code, Suggestion};

    fn folder(text: &[u8]) -> Folder {
        Folder { files: [("policy.toml".to_owned(), text.to_vec())].into() }
    }

    fn finding(bytes: Range<usize>) -> Diagnostic {
        let span = Span::new("policy.toml", bytes);
        Diagnostic::error(Code(103), span, "`format` is misspelt", "write it so")
    }

    #[test]
    fn people_see_line_code_and_remedy() {
        let out = human(&[finding(0..6)], &folder(b"fromat = 1\n"), "mappings", &Renderer::plain());
        for part in ["error[CB0103]", "`format` is misspelt", "mappings/policy.toml:1:1", "fromat = 1", "write it so"] {
            assert!(out.contains(part), "{part} is missing in\n{out}");
        }
    }

    #[test]
    fn an_edit_is_shown_as_it_will_stand() {
        let mut finding = finding(0..6);
        let span = Span::new("policy.toml", 0..6);
        finding.suggestion = Some(Suggestion { span, replacement: "format".into(), text: "write it so".into() });
        let out = human(&[finding], &folder(b"fromat = 1\n"), "", &Renderer::plain());
        assert!(out.contains("format = 1"), "{out}");
    }

    #[test]
    fn no_text_and_no_span_can_break_the_renderer() {
        for text in [&b""[..], b"\xff\xfe", "\u{fc}\u{1b}[31m".as_bytes()] {
            for bytes in [0..0, 0..1, 1..2, 90..99] {
                let (folder, finding) = (folder(text), finding(bytes));
                let out = human(std::slice::from_ref(&finding), &folder, "m", &Renderer::plain());
                assert!(out.contains("CB0103") && !out.contains('\u{1b}'), "{out}");
                assert_eq!(json(&finding, &folder)["code"], "CB0103");
            }
        }
    }

    #[test]
    fn programs_get_places_from_one() {
        let value = json(&finding(0..6), &folder(b"fromat = 1\n"));
        let place = json!({ "file": "policy.toml", "line": 1, "column": 1, "end_line": 1, "end_column": 7 });
        assert_eq!(value["place"], place);
    }
}
