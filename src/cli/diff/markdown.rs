//! A difference as a comment on a pull request: whoever wrote the folder's texts writes no Markdown here.

use super::{Compared, jobs, mappings, quoted, repository, some};
use crate::history::page::{Page, code, prose};
use claimbound_core::review::diff::{Change, Kind};

/// Names that a cell shows.
const NAMES_SHOWN: usize = 5;
/// Shapes of jobs that a cell shows.
const SHAPES_SHOWN: usize = 3;

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
        details(&mut page, &diff.changes);
    }
    page.end("claimbound diff")
}

fn details(page: &mut Page, changes: &[Change]) {
    if page.is_full() {
        return;
    }
    page.close("\n<details><summary>Jobs that show it</summary>\n\n");
    for example in changes.iter().filter_map(|change| change.examples.first()) {
        page.put(&format!(
            "- {} for {}<br>before: {}<br>after: {}\n",
            code(&example.role),
            code(&example.line()),
            prose(&example.before.to_string()),
            prose(&example.after.to_string())
        ));
    }
    page.close("\n</details>\n");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::page::COMMENT_BYTES_MAX;
    use claimbound_core::review::diff::Diff;

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
