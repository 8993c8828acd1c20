//! A plan for people.

use super::{
    super::log::{counted, date},
    Plan,
    judge::{Group, Key, Kind},
};
use std::fmt::Write as _;

pub(super) fn render(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    write(&mut text, plan).expect("a string takes all text");
    text
}

fn write(text: &mut String, plan: &Plan<'_>) -> std::fmt::Result {
    let replay = &plan.replay;
    writeln!(text, "{}", plan.summary())?;
    writeln!(
        text,
        "recorded since {}, decided again by `{}` (version {:.12})",
        date(plan.from),
        plan.head,
        plan.version
    )?;
    plan.reach.warnings(plan.from).iter().try_for_each(|warning| writeln!(text, "warning: {warning}"))?;
    replay.groups.iter().try_for_each(|(key, group)| write_group(text, key, group))?;
    for (kind, count) in &replay.beyond {
        writeln!(
            text,
            "\nand {} more that {}, in groups beyond those that are told apart",
            counted(*count, "exchange"),
            verb(*kind)
        )?;
    }
    if !replay.unjudged.is_empty() {
        writeln!(text, "\nnot judged:")?;
    }
    for ((why, granted), times) in &replay.unjudged {
        let what = counted(times.count, if *granted { "grant" } else { "refusal" });
        let example = times.example.map(|id| format!(", for example {id}")).unwrap_or_default();
        writeln!(text, "  {what}, {} to {}: {why}{example}", date(times.first), date(times.last))?;
    }
    if !replay.uncompared.is_empty() {
        writeln!(text, "\nby role and mapping alone, without durations and parameters:")?;
    }
    replay.uncompared.iter().try_for_each(|(why, count)| writeln!(text, "  {}: {why}", counted(*count, "grant")))?;
    for line in left_out(plan) {
        writeln!(text, "\nnot asked again: {line}")?;
    }
    Ok(())
}

/// What the rules of no folder decide, or what cannot be asked.
pub(super) fn left_out(plan: &Plan<'_>) -> Vec<String> {
    let replay = &plan.replay;
    let mut lines = Vec::new();
    if !replay.aside.is_empty() {
        let told = replay.aside.iter().map(|(reason, count)| format!("{count} `{reason}`"));
        lines.push(format!("refusals that no rule decided: {}", told.collect::<Vec<_>>().join(", ")));
    }
    if replay.strangers > 0 {
        lines.push(format!(
            "{} of callers that proved nothing: no claims are recorded",
            counted(replay.strangers, "refusal")
        ));
    }
    if replay.summed > 0 {
        lines.push(format!("{} in sums, beyond the rate of single records", counted(replay.summed, "refusal")));
    }
    lines
}

fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => "would be refused",
        Kind::Otherwise => "would change",
        Kind::Granted => "would be granted",
    }
}

/// Why: the reason, the deny or the nearest mapping.
pub(super) fn why(key: &Key) -> String {
    let by = match (&key.rule, &key.nearest) {
        (Some(rule), _) => format!(", by deny `{rule}`"),
        (None, Some(nearest)) => format!(", nearest `{nearest}`"),
        (None, None) => String::new(),
    };
    format!("{}{by}", key.reason)
}

fn write_group(text: &mut String, key: &Key, group: &Group) -> std::fmt::Result {
    let Key { role, mapping, issuer, name, id, .. } = key;
    let by = if key.kind == Kind::Granted { "by" } else { "was granted by" };
    writeln!(text, "\n{}: `{role}` for `{name}` ({id}) of `{issuer}`", verb(key.kind))?;
    writeln!(text, "  {by} `{mapping}`; {}", group.times.to_text())?;
    match key.kind {
        Kind::Refused => writeln!(text, "  why: {}", why(key))?,
        Kind::Granted => writeln!(text, "  was refused: {}", key.reason)?,
        Kind::Otherwise => {}
    }
    for miss in &group.misses {
        writeln!(text, "    {}: expected {}, got {}", miss.claim, miss.expected, miss.got)?;
    }
    for term in &key.terms {
        writeln!(text, "  {}: {} → {}", term.name, term.before, term.after)?;
    }
    match group.times.example {
        Some(id) => writeln!(text, "  for example: claimbound explain --decision {id}"),
        None => Ok(()),
    }
}
