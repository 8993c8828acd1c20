//! `[mapping.limit]`: how often a mapping may grant to one repository.

use crate::{
    mapping::{
        Limit, codes,
        syntax::{Entry, Fields, Findings, Place},
    },
    workload::{Claim, Profile},
};
use toml::de::DeValue;

/// The highest number that a limit may be. Whoever needs more needs no limit; whoever writes more mistyped.
const USES_MAX: u32 = 1_000_000;

/// The limit of a mapping, read against the profile of its issuer where that is known.
pub(super) fn read(
    entry: Option<Entry<'_, '_>>,
    issuer: Option<(&str, &Profile)>,
    findings: &mut Findings,
) -> Option<Limit> {
    let entry = entry?;
    let before = findings.errors();
    let table = Fields::read(entry.source, Place::Limit, entry.value, findings)?;
    let limit =
        Limit { per_run: uses(table.entry("per_run"), findings), per_hour: uses(table.entry("per_hour"), findings) };
    if let (Some(per_run), Some((name, profile))) = (table.entry("per_run"), issuer)
        && !profile.provides(Claim::RunId)
    {
        findings.error(
            codes::CLAIM_NOT_PROVIDED,
            per_run.key_span(),
            format!("tokens of `{name}` never carry `run_id`, so nothing can be counted per run"),
            "write `per_hour` instead",
        );
    }
    if findings.errors() == before && limit == Limit::default() {
        findings.error(
            codes::BAD_LIMIT,
            entry.span(),
            "`[mapping.limit]` limits nothing",
            "write `per_run`, `per_hour` or both, or remove the table",
        );
    }
    Some(limit)
}

fn uses(entry: Option<Entry<'_, '_>>, findings: &mut Findings) -> Option<u32> {
    let entry = entry?;
    let DeValue::Integer(number) = entry.value.get_ref() else {
        entry.wrong_type("a whole number", findings);
        return None;
    };
    let uses = u32::from_str_radix(number.as_str(), number.radix()).ok();
    let uses = uses.filter(|uses| (1..=USES_MAX).contains(uses));
    if uses.is_none() {
        findings.error(
            codes::BAD_LIMIT,
            entry.value_span(),
            format!("`{}` cannot be {number}", entry.name()),
            format!("write a whole number from 1 to {USES_MAX}; a mapping that shall grant nothing is removed"),
        );
    }
    uses
}
