//! `[mapping.ceremony]` and `[sensitivity.X.ceremony]`: whose word a grant waits for.

use super::{
    conditions::{Compiled, Shape},
    duration,
    policy::PRODUCTION,
    teams::{self, Reading},
};
use crate::{
    ceremony::{Approver, BadApprover, QUORUM_MAX},
    diag::{Span, did_you_mean},
    mapping::{
        CeremonyFloor, CeremonyRule, Exception, Exempt, RoleId, When,
        ceremony::OF_ONE_RUN,
        codes,
        syntax::{Entry, Fields, Findings, Place},
    },
    time::Seconds,
    workload::{Claim, ClaimKey, Profile, SetBy},
};
use toml::de::DeValue;

/// Of one issuance: a job waits no longer.
const EVERY_WITHIN: [Seconds; 2] = [Seconds(3_600), Seconds(86_400)];
/// Of a first use, which outlives its job. What is taken, and the most.
const FIRST_USE_WITHIN: [Seconds; 2] = [Seconds(7 * 86_400), Seconds(30 * 86_400)];
const VALID_FOR: [Seconds; 2] = [Seconds(365 * 86_400), Seconds(730 * 86_400)];
/// Approvers of one rule.
const APPROVERS_MAX: usize = 64;
/// Claims beside what a key always holds.
const REMEMBERED_MAX: usize = 16;

/// The rule, and its exception where it lets who started a job claim it; `None`: it cannot be read, which is told.
pub(super) fn read(
    entry: Entry<'_, '_>,
    (issuer, profile): (&str, &Profile),
    reading: &Reading<'_, '_, '_>,
    findings: &mut Findings,
) -> Option<(CeremonyRule, Option<Exception>)> {
    let before = findings.errors();
    let fields = Fields::read(entry.source, Place::Ceremony, entry.value, findings)?;
    let when = when(&fields, findings);
    let first_use = when == Some(When::FirstUse);
    for key in ["remember", "valid_for"] {
        if let (Some(When::Every), Some(entry)) = (when, fields.entry(key)) {
            findings.error(
                codes::BAD_CEREMONY,
                entry.key_span(),
                format!("`{key}` says nothing where each issuance is claimed"),
                format!("remove `{key}`, or write `when = \"first_use\"`"),
            );
        }
    }
    let within = if first_use { FIRST_USE_WITHIN } else { EVERY_WITHIN };
    let team = reading.team_rules();
    let own = approvers(fields.entry("approvers"), findings);
    if let (Some(_), Some(entry)) = (&own, fields.entry("approvers"))
        && !team.team.may.contains(&Exempt::OwnApprovers)
    {
        let name = &team.team.name;
        findings.error(
            codes::EXCEPTION_NOT_ALLOWED,
            entry.key_span(),
            format!("team `{name}` may not choose who approves"),
            format!("write `approvers` in `[team.{name}]` of `policy.toml`, or add `\"{}\"` to its `may`, if the platform agrees", Exempt::OwnApprovers),
        );
    }
    let approvers = own.unwrap_or_else(|| team.approvers.clone());
    if findings.errors() == before && approvers.is_empty() {
        findings.error(
            codes::NO_APPROVERS,
            fields.span(),
            "nobody can claim it: neither the ceremony nor the team says who approves",
            format!("write `approvers = [\"NAME:group:…\"]` in `[team.{}]` of `policy.toml`; NAME is that of a `[[sign_in]]`", team.team.name),
        );
    }
    let allowed = fields.entry("allow_self").map(|entry| {
        let reason = teams::reason(entry, findings).unwrap_or_default();
        teams::allowed(&team.team, Exempt::AllowSelf, &entry, findings);
        Exception { exempt: Exempt::AllowSelf, reason: reason.into(), span: entry.span() }
    });
    let rule = CeremonyRule {
        when: when?,
        remember: remember(fields.entry("remember"), (issuer, profile), findings),
        claim_within: span_of_time(fields.entry("claim_within"), within, findings),
        valid_for: span_of_time(fields.entry("valid_for"), VALID_FOR, findings),
        approvers,
        approvers_from: approvers_from(fields.entry("approvers_from"), (issuer, profile), findings),
        quorum: quorum(fields.entry("quorum"), findings),
        allow_self: allowed.is_some(),
        span: entry.key_span(),
    };
    (findings.errors() == before).then_some((rule, allowed))
}

/// `[sensitivity.X.ceremony]`.
pub(super) fn floor(entry: Entry<'_, '_>, findings: &mut Findings) -> Option<CeremonyFloor> {
    let before = findings.errors();
    let fields = Fields::read(entry.source, Place::Floor, entry.value, findings)?;
    let approvers = approvers(fields.entry("approvers"), findings).unwrap_or_default();
    let floor = CeremonyFloor { approvers, quorum: quorum(fields.entry("quorum"), findings) };
    if findings.errors() == before && floor.approvers.is_empty() && fields.entry("quorum").is_none() {
        findings.error(
            codes::BAD_CEREMONY,
            entry.key_span(),
            "the table asks nothing of ceremonies",
            "write `approvers`, `quorum` or both, or remove it; that mappings need a ceremony at all is `needs_any = [\"ceremony\"]`",
        );
    }
    (findings.errors() == before).then_some(floor)
}

fn when(fields: &Fields<'_, '_>, findings: &mut Findings) -> Option<When> {
    let (text, span) = fields.need_text("when", findings)?;
    let found = When::ALL.into_iter().find(|when| when.name() == text);
    if found.is_none() {
        let message = format!("`when` cannot be \"{text}\"");
        match did_you_mean(text, When::ALL.map(When::name)) {
            Some(meant) => {
                let help = format!("did you mean `{meant}`?");
                findings.edit(codes::BAD_CEREMONY, span, message, help, format!("\"{meant}\""));
            }
            None => {
                let help = "write \"every\": each issuance is claimed; or \"first_use\": a workload once";
                findings.error(codes::BAD_CEREMONY, span, message, help);
            }
        }
    }
    found
}

/// A duration with what is taken where none is written, and the most that may be.
fn span_of_time(entry: Option<Entry<'_, '_>>, [default, most]: [Seconds; 2], findings: &mut Findings) -> Seconds {
    let Some((time, span)) = duration::read(entry, findings) else { return default };
    if time > most {
        let (name, longest) = (entry.map_or("", |entry| entry.name()), duration::write(most));
        let message = format!("`{name}` is {}, more than {longest}", duration::write(time));
        findings.error(codes::BAD_CEREMONY, span, message, format!("write at most `{name} = \"{longest}\"`"));
    }
    time
}

fn quorum(entry: Option<Entry<'_, '_>>, findings: &mut Findings) -> u8 {
    let Some(entry) = entry else { return 1 };
    let DeValue::Integer(number) = entry.value.get_ref() else {
        entry.wrong_type("a whole number", findings);
        return 1;
    };
    let quorum = u8::from_str_radix(number.as_str(), number.radix()).ok();
    let quorum = quorum.filter(|quorum| (1..=QUORUM_MAX).contains(quorum));
    if quorum.is_none() {
        findings.error(
            codes::BAD_CEREMONY,
            entry.value_span(),
            format!("`quorum` cannot be {number}"),
            format!("write how many distinct people must claim it: a whole number from 1 to {QUORUM_MAX}"),
        );
    }
    quorum.unwrap_or(1)
}

/// A list of approvers, also of a team.
pub(super) fn approvers(entry: Option<Entry<'_, '_>>, findings: &mut Findings) -> Option<Vec<Approver>> {
    let entry = entry?;
    let listed = entry.texts(findings);
    if listed.len() > APPROVERS_MAX {
        let help = "name a group: who belongs to it is the sign-in's to say";
        let message = format!("{} approvers are listed, more than {APPROVERS_MAX}", listed.len());
        findings.error(codes::BAD_CEREMONY, entry.value_span(), message, help);
    }
    let one = |(text, span): (&str, Span)| match text.parse::<Approver>() {
        Ok(approver) => Some(approver),
        Err(why) => {
            let help = match why {
                BadApprover::Whom => "write `NAME:group:…`, `NAME:email:…` or `NAME:sub:…`",
                _ => {
                    "write the name of a `[[sign_in]]`, how the person is known, and the value: `okta:group:payments-leads`"
                }
            };
            findings.error(codes::APPROVER_FORM, span, format!("`{text}` names no approver: {why}"), help);
            None
        }
    };
    Some(listed.into_iter().filter_map(one).collect())
}

/// `approvers_from`: a raw claim that administrators set.
fn approvers_from(
    entry: Option<Entry<'_, '_>>,
    (issuer, profile): (&str, &Profile),
    findings: &mut Findings,
) -> Option<ClaimKey> {
    let entry = entry?;
    let (text, span) = entry.text(findings)?;
    let claim = ClaimKey::from_name(text);
    let by_administrators = match &claim {
        Some(ClaimKey::Raw(raw)) => {
            profile.raw_claim(&raw.native()).is_some_and(|(_, set_by)| set_by == SetBy::Administrators)
        }
        _ => false,
    };
    if !by_administrators {
        findings.error(
            codes::BAD_CEREMONY,
            span,
            format!("`{text}` is no claim of issuer `{issuer}` that its administrators set"),
            "write a raw claim that the issuer's profile marks so, like `claims.\"team\"`: whoever writes a job could choose its approvers by any other",
        );
        return None;
    }
    claim
}

/// `remember`: claims that a first use's key holds, too.
fn remember(
    entry: Option<Entry<'_, '_>>,
    (issuer, profile): (&str, &Profile),
    findings: &mut Findings,
) -> Option<Vec<ClaimKey>> {
    let entry = entry?;
    let listed = entry.texts(findings);
    if listed.len() > REMEMBERED_MAX {
        let message = format!("{} claims are listed, more than {REMEMBERED_MAX}", listed.len());
        findings.error(codes::BAD_CEREMONY, entry.value_span(), message, "list what tells the workload from others");
    }
    let mut claims = Vec::new();
    for (name, span) in listed {
        let parts: Vec<ClaimKey> = match name {
            "workflow" | "job_workflow" => {
                let part = |part: &&str| ClaimKey::from_name(&format!("{name}.{part}"));
                ["repository", "file", "ref"].iter().filter_map(part).collect()
            }
            _ => ClaimKey::from_name(name).into_iter().collect(),
        };
        let Some(first) = parts.first() else {
            let help = match did_you_mean(name, Claim::ALL.iter().map(|claim| claim.name())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "name claims as `[mapping.match]` does".to_owned(),
            };
            findings.error(codes::UNKNOWN_CLAIM, span, format!("there is no claim `{name}`"), help);
            continue;
        };
        if first.is_one_of(&OF_ONE_RUN) {
            let help = "remove it: the next run would have to be claimed again; for that write `when = \"every\"`";
            findings.error(codes::BAD_CEREMONY, span, format!("`{name}` is of one run or commit alone"), help);
        } else if first.canonical().is_some_and(|claim| !profile.provides(claim)) {
            let message = format!("tokens of `{issuer}` never carry `{name}`");
            findings.error(codes::CLAIM_NOT_PROVIDED, span, message, "remove it");
        } else {
            claims.extend(parts);
        }
    }
    Some(claims)
}

/// Where jobs have no id, any job of a run could redeem what was claimed for another: for production the environment must
/// tell them apart.
pub(super) fn judge(
    rule: &CeremonyRule,
    (issuer, profile): (&str, &Profile),
    roles: &[(RoleId, Span)],
    compiled: &[&Compiled],
    reading: &Reading<'_, '_, '_>,
    findings: &mut Findings,
) {
    let exact = |one: &&Compiled| one.condition.claim == Claim::Environment && matches!(one.shape, Shape::Exact(_));
    if rule.when != When::Every || profile.provides(Claim::JobId) || compiled.iter().any(exact) {
        return;
    }
    let production = roles.iter().find(|(role, _)| reading.roles.all[role.0 as usize].sensitivity == PRODUCTION);
    if let Some((role, span)) = production {
        let name = &reading.roles.all[role.0 as usize].name;
        findings.error(
            codes::CEREMONY_UNBOUND,
            span.clone(),
            format!("tokens of issuer `{issuer}` have no job id, so any job of a run could redeem what was claimed for `{name}`"),
            "add an exact `environment` to the conditions: then only jobs of the run that name it can",
        );
    }
}
