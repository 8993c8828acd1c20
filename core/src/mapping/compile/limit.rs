//! `[mapping.limit]`: how often a mapping may grant to one repository, and how often one token is good.

use super::{policy::PRODUCTION, teams};
use crate::{
    mapping::{
        Exempt, Limit, Role, Team, codes,
        syntax::{Entry, Fields, Findings, Place},
    },
    workload::{Claim, Profile},
};
use toml::de::DeValue;

/// The highest number that a limit may be. Whoever needs more needs no limit; whoever writes more mistyped.
const USES_MAX: u32 = 1_000_000;
/// The most leases that one token may give through the STS look-alike.
pub(in crate::mapping) const STS_USES_MAX: u32 = 10;
/// The backends that the STS look-alike answers for.
const AWS: &str = "aws";

/// The limit of a mapping of a team for some roles, read against the profile of its issuer where that is known.
pub(super) fn read(
    entry: Option<Entry<'_, '_>>,
    issuer: Option<(&str, &Profile)>,
    given: (&Team, &[&Role]),
    findings: &mut Findings,
) -> Option<Limit> {
    let entry = entry?;
    let before = findings.errors();
    let table = Fields::read(entry.source, Place::Limit, entry.value, findings)?;
    let limit = Limit {
        per_run: uses(table.entry("per_run"), USES_MAX, findings),
        per_hour: uses(table.entry("per_hour"), USES_MAX, findings),
        sts_uses_per_token: uses(table.entry("sts_uses_per_token"), STS_USES_MAX, findings),
    };
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
    if let (Some(entry), Some(issuer)) = (table.entry("sts_uses_per_token"), issuer) {
        judge_sts_uses(&entry, issuer, given, findings);
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

/// Whether one token may be used several times: that wants the team's `may`, an issuer whose jobs have no other token, an
/// `aws` role, and nothing of production.
fn judge_sts_uses(
    entry: &Entry<'_, '_>,
    (issuer, profile): (&str, &Profile),
    (team, roles): (&Team, &[&Role]),
    findings: &mut Findings,
) {
    teams::allowed(team, Exempt::StsUses, entry, findings);
    let mut refuse = |why: String, help: &str| findings.error(codes::STS_USES, entry.span(), why, help);
    if profile.can_mint_again() {
        let why = format!("a job of issuer `{issuer}` can get another token, so one of them is good for one call");
        refuse(why, "remove it; `claimbound credential-process` sends a fresh token each time");
    }
    if let Some(role) = roles.iter().find(|role| role.sensitivity == PRODUCTION) {
        let why = format!("role `{}` is `{PRODUCTION}`, where one token is good for one call", role.name);
        refuse(why, "remove it, or give production by a mapping of its own");
    }
    if !roles.iter().any(|role| role.kind == AWS) {
        let why = "no role of this mapping is an `aws` one, and only those are given through the STS look-alike";
        refuse(why.to_owned(), "remove it");
    }
}

fn uses(entry: Option<Entry<'_, '_>>, most: u32, findings: &mut Findings) -> Option<u32> {
    let entry = entry?;
    let DeValue::Integer(number) = entry.value.get_ref() else {
        entry.wrong_type("a whole number", findings);
        return None;
    };
    let uses = u32::from_str_radix(number.as_str(), number.radix()).ok();
    let uses = uses.filter(|uses| (1..=most).contains(uses));
    if uses.is_none() {
        findings.error(
            codes::BAD_LIMIT,
            entry.value_span(),
            format!("`{}` cannot be {number}", entry.name()),
            format!("write a whole number from 1 to {most}; a mapping that shall grant nothing is removed"),
        );
    }
    uses
}
