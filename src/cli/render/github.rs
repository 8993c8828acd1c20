//! Findings as GitHub's workflow commands: annotations at the lines of a pull request.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use super::{Place, shown};
use claimbound_core::{
    diag::{Diagnostic, Severity},
    mapping::Folder,
};

/// GitHub shows this many annotations of a level for a step, and drops the rest without a word.
const SHOWN_MAX: usize = 10;

/// One command a finding; where there are more of a level than GitHub shows, the last one tells of all the others.
pub fn github(findings: &[Diagnostic], folder: &Folder, root: &str) -> String {
    let mut out = String::new();
    for (severity, command) in [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "notice")]
    {
        let of_level: Vec<_> = findings.iter().filter(|finding| finding.severity == severity).collect();
        let alone = if of_level.len() > SHOWN_MAX { SHOWN_MAX - 1 } else { of_level.len() };
        for finding in &of_level[..alone] {
            let mut properties = String::new();
            if let Some(span) = &finding.span {
                let Place { line, column, end_line, end_column } = Place::of(folder, span);
                properties = format!("file={},line={line},endLine={end_line}", property(&shown(root, span)));
                // Columns mean something within one line alone.
                if line == end_line {
                    properties.push_str(&format!(",col={column},endColumn={end_column}"));
                }
                properties.push(',');
            }
            let help = finding.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
            let text = message(&format!("{}{help}", finding.message));
            out.push_str(&format!("::{command} {properties}title={}::{text}\n", finding.code));
        }
        let rest = &of_level[alone..];
        if !rest.is_empty() {
            let line = |finding: &&Diagnostic| {
                let at = finding
                    .span
                    .as_ref()
                    .map_or(String::new(), |span| format!("{}:{} ", shown(root, span), Place::of(folder, span).line));
                format!("\n{at}{}: {}", finding.code, finding.message)
            };
            let lines: String = rest.iter().map(line).collect();
            let text = message(&format!("{} more:{lines}", rest.len()));
            out.push_str(&format!("::{command} title=More findings::{text}\n"));
        }
    }
    out
}

/// Text of a file must not end a command and begin another.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::diag::{Code, Span};

    fn finding(bytes: std::ops::Range<usize>) -> Diagnostic {
        let span = Span::new("a,b.toml", bytes);
        Diagnostic::error(Code(103), span, "`x` is 100%\n::stop-commands::x", "mend it")
    }

    #[test]
    fn no_text_leaves_its_command() {
        let folder = Folder { files: [("a,b.toml".to_owned(), b"abc\ndef\n".to_vec())].into() };
        assert_eq!(
            github(&[finding(0..3)], &folder, "m"),
            "::error file=m/a%2Cb.toml,line=1,endLine=1,col=1,endColumn=4,title=CB0103::`x` is 100%25%0A::stop-commands::x%0Amend it\n"
        );
        let over_lines = github(&[finding(0..6)], &folder, "m");
        assert!(over_lines.contains("line=1,endLine=2,title="), "{over_lines}");
    }

    #[test]
    fn what_github_would_drop_is_told_together() {
        let folder = Folder::default();
        let lines = |count: usize| github(&vec![finding(0..0); count], &folder, "m").lines().count();
        assert_eq!([lines(9), lines(10), lines(11), lines(200)], [9, 10, 10, 10]);
        let eleven = github(&vec![finding(0..0); 11], &folder, "m");
        assert!(eleven.ends_with("CB0103: `x` is 100%25%0A::stop-commands::x\n"), "{eleven}");
        assert!(eleven.contains("::2 more:%0Am/a,b.toml:1 CB0103"), "{eleven}");
    }
}
