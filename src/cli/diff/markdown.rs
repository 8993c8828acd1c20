//! A difference as a comment on a pull request: whoever wrote the folder's texts writes no Markdown here.

use super::{Compared, jobs, mappings, quoted, repository, some};
use claimbound_core::review::diff::{Change, Kind};

/// A comment may be no longer: GitHub takes 65,536 characters.
const COMMENT_BYTES_MAX: usize = 60_000;
/// Kept for what is said at the end.
const END_BYTES: usize = 400;
/// Names that a cell shows.
const NAMES_SHOWN: usize = 5;
/// Shapes of jobs that a cell shows.
const SHAPES_SHOWN: usize = 3;
/// Bytes of one text of the folder.
const TEXT_BYTES_MAX: usize = 1_000;

pub(super) fn render(compared: &Compared<'_>) -> String {
    let diff = compared.diff;
    let mut page = Page::new(format!("### Access: {}\n\n", diff.summary()));
    if diff.is_none() {
        page.put(
            "No job of any issuer gains or loses a role or gets one on other terms. This is proved, not sampled.\n\n",
        );
    }
    if !diff.changes.is_empty() {
        page.put("| | role | jobs | mapping |\n| --- | --- | --- | --- |\n");
        diff.changes.iter().for_each(|change| page.put(&row(change)));
        page.put("\n");
    }
    for unsure in &diff.undecided {
        let roles = quoted(&unsure.roles, NAMES_SHOWN);
        let of = format!("{roles} for jobs of `{}`: {}", unsure.issuer, unsure.why);
        page.put(&format!("- **undecided** {}\n", prose(&of)));
    }
    diff.rules.iter().for_each(|rule| page.put(&format!("- {}\n", prose(rule))));
    if !diff.reviewers.is_empty() {
        let who = diff.reviewers.iter().map(|reviewer| {
            let contact = reviewer.contact.as_ref().map(|contact| format!(" ({contact})")).unwrap_or_default();
            format!("`{}`{contact}", reviewer.name())
        });
        page.put(&format!("\nTo review: {}\n", prose(&some(who, usize::MAX))));
    }
    if !diff.changes.is_empty() {
        page.details(&diff.changes);
    }
    page.end("claimbound diff")
}

/// A comment within its bound.
pub(in crate::cli) struct Page {
    text: String,
    left_out: usize,
}

impl Page {
    pub(in crate::cli) fn new(heading: String) -> Self {
        Self { text: heading, left_out: 0 }
    }

    /// A part goes in whole or not at all.
    pub(in crate::cli) fn put(&mut self, part: &str) {
        if self.left_out == 0 && self.text.len() + part.len() + END_BYTES <= COMMENT_BYTES_MAX {
            self.text.push_str(part);
        } else {
            self.left_out += 1;
        }
    }

    fn details(&mut self, changes: &[Change]) {
        if self.left_out > 0 {
            return;
        }
        self.text.push_str("\n<details><summary>Jobs that show it</summary>\n\n");
        for example in changes.iter().filter_map(|change| change.examples.first()) {
            self.put(&format!(
                "- {} for {}<br>before: {}<br>after: {}\n",
                code(&example.role),
                code(&example.job.line()),
                prose(&example.before.to_string()),
                prose(&example.after.to_string())
            ));
        }
        self.text.push_str("\n</details>\n");
    }

    /// `command`: what shows the rest.
    pub(in crate::cli) fn end(mut self, command: &str) -> String {
        if self.left_out > 0 {
            let more = self.left_out;
            self.text.push_str(&format!("\n{more} lines more do not fit here; `{command}` shows all.\n"));
        }
        self.text
    }
}

fn row(change: &Change) -> String {
    let kind = match change.kind {
        Kind::Gain => "gain".to_owned(),
        Kind::Loss => "loss".to_owned(),
        Kind::Terms => {
            let terms = change.terms.iter().map(|term| {
                let (name, before, after) = (code(&term.name), code(&term.before), code(&term.after));
                format!("{name} {before} → {after} ({})", term.direction)
            });
            terms.collect::<Vec<_>>().join("<br>")
        }
    };
    let mut who = Vec::new();
    if !change.repositories.is_empty() {
        who.push(prose(&some(change.repositories.iter().map(repository), NAMES_SHOWN)));
    }
    who.extend(change.jobs.iter().take(SHAPES_SHOWN).map(|shape| prose(&jobs(shape))));
    if change.jobs.len() > SHAPES_SHOWN {
        who.push(format!("and {} kinds of jobs more", change.jobs.len() - SHAPES_SHOWN));
    }
    format!(
        "| {kind} | {} ({}) | {} | {} |\n",
        prose(&quoted(&change.roles, NAMES_SHOWN)),
        code(&change.issuer),
        who.join("<br>"),
        prose(&mappings(&change.mappings, NAMES_SHOWN))
    )
}

pub(in crate::cli) fn code(text: &str) -> String {
    format!("<code>{}</code>", inert(text))
}

/// A sentence with names in backticks.
pub(in crate::cli) fn prose(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in cut(text).split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&inert(part)),
            _ => out.push_str(&code(part)),
        }
    }
    out
}

/// Text that is nothing but text, in a table's cell, too.
fn inert(text: &str) -> String {
    let mut out = String::new();
    for letter in cut(text).chars() {
        match letter {
            ' ' | '-' | '.' | ',' | ':' | ';' | '/' | '=' | '(' | ')' => out.push(letter),
            _ if letter.is_alphanumeric() => out.push(letter),
            _ if letter.is_control() => out.push(' '),
            _ => out.push_str(&format!("&#{};", u32::from(letter))),
        }
    }
    out
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::review::diff::Diff;

    #[test]
    fn texts_of_the_folder_are_inert() {
        assert_eq!(inert("a|b<img>@x_y\n*"), "a&#124;b&#60;img&#62;&#64;x&#95;y &#42;");
        assert_eq!(prose("by `a` and `b"), "by <code>a</code> and <code>b</code>");
        assert!(inert(&"é".repeat(9_000)).len() <= TEXT_BYTES_MAX + 10);
    }

    #[test]
    fn a_comment_stays_within_its_bound() {
        let rules =
            (0..5_000).map(|at| format!("issuer `{at}` is new, and it has a name that is rather long")).collect();
        let diff = Diff { rules, ..Diff::default() };
        let compared = Compared { names: ["a", "b"], versions: [String::new(), String::new()], diff: &diff };
        let text = render(&compared);
        assert!(text.len() <= COMMENT_BYTES_MAX && text.len() > COMMENT_BYTES_MAX / 2, "{}", text.len());
        assert!(text.ends_with("do not fit here; `claimbound diff` shows all.\n"));
    }
}
