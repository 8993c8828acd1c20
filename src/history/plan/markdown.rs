//! A plan as a comment on a pull request.

use super::{
    super::{
        log::{counted, date},
        page::{Page, code, prose},
    },
    Plan,
    judge::{Group, Key, Kind},
    text::{left_out, why},
};

pub(super) fn render(plan: &Plan<'_>) -> String {
    let replay = &plan.replay;
    let mut page = Page::new(format!("### Recorded exchanges: {}\n\n", plan.summary()));
    page.put(&format!("Recorded since {}, decided again.\n\n", date(plan.from)));
    for warning in plan.reach.warnings(plan.from) {
        page.put(&format!("**Warning**: {}\n\n", prose(&warning)));
    }
    if !replay.groups.is_empty() {
        page.put("| | role | repository | how often | what |\n| --- | --- | --- | --- | --- |\n");
        replay.groups.iter().for_each(|(key, group)| page.put(&row(key, group)));
        page.put("\n");
    }
    for (kind, count) in &replay.beyond {
        page.put(&format!("- {} more: {}\n", counted(*count, "exchange"), verb(*kind)));
    }
    for ((why, granted), times) in &replay.unjudged {
        let what = counted(times.count, if *granted { "grant" } else { "refusal" });
        page.put(&format!("- **not judged** {what}: {}\n", prose(why)));
    }
    for (why, count) in &replay.uncompared {
        page.put(&format!("- {} compared by role and mapping alone: {}\n", counted(*count, "grant"), prose(why)));
    }
    left_out(plan).iter().for_each(|line| page.put(&format!("- not asked again: {}\n", prose(line))));
    page.end("claimbound plan")
}

fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => "**refused**",
        Kind::Otherwise => "changed",
        Kind::Granted => "granted",
    }
}

fn row(key: &Key, group: &Group) -> String {
    let mut what = match key.kind {
        Kind::Refused => vec![prose(&why(key))],
        Kind::Otherwise => vec![],
        Kind::Granted => vec![prose(&format!("by `{}`, was refused: {}", key.mapping, key.reason))],
    };
    let told = group.misses.iter();
    what.extend(told.map(|miss| prose(&format!("{}: expected {}, got {}", miss.claim, miss.expected, miss.got))));
    let terms = key.terms.iter();
    what.extend(terms.map(|term| format!("{} {} → {}", code(&term.name), code(&term.before), code(&term.after))));
    format!(
        "| {} | {} | {} | {} | {} |\n",
        verb(key.kind),
        code(&key.role),
        prose(&format!("`{}` ({})", key.name, key.id)),
        prose(&group.times.to_text()),
        what.join("<br>")
    )
}
