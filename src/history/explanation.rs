//! Why a job gets a role, or does not: an evaluation, in words.

use super::duration;
use claimbound_core::{
    diag::line_column,
    mapping::{
        Ask, ConditionReport, Decision, Exception, Folder, Got, IssuerId, MappingReport, MappingSet, Trace, explain,
    },
    reason::Reason,
    review::{Given, GivenError, recorded::chained},
    time::UnixSeconds,
    workload::Profiles,
};
use std::fmt::Write as _;

/// What became of a job.
#[derive(Debug)]
pub enum Explanation {
    /// The mappings were asked.
    Judged { decision: Decision, trace: Trace },
    /// It is refused before any mapping is looked at.
    Refused { reason: Reason, why: String },
}

/// Judges a job from what was given or recorded, as of a time. `actor`: who acts for it; `details` say by what token, as a record's do.
pub fn explain_case(
    set: &MappingSet,
    profiles: &Profiles,
    (issuer, given): (IssuerId, &Given),
    (actor, details): (Option<(IssuerId, &Given)>, &serde_json::Value),
    role: Option<&str>,
    now: UnixSeconds,
) -> Result<Explanation, GivenError> {
    let workload = |issuer, given: &Given| match given.workload(set, profiles, issuer) {
        Ok(workload) => Ok(Ok(workload)),
        Err(GivenError::Refused(error)) => {
            Ok(Err(Explanation::Refused { reason: error.reason(), why: error.to_string() }))
        }
        Err(error) => Err(error),
    };
    let principal = match workload(issuer, given)? {
        Ok(principal) => principal,
        Err(refused) => return Ok(refused),
    };
    let actor = match actor.map(|(issuer, given)| workload(issuer, given)).transpose()?.transpose() {
        Ok(actor) => actor,
        Err(refused) => return Ok(refused),
    };
    let trusts_act = set.issuer(issuer).trusts_act;
    let case = match chained(principal, actor, details, trusts_act, |url| set.issuer_at(url)) {
        Ok(case) => case,
        Err(error) => return Ok(Explanation::Refused { reason: error.reason(), why: error.to_string() }),
    };
    let (decision, trace) = explain(set, &case, &Ask { role, ..Ask::default() }, now);
    Ok(Explanation::Judged { decision, trace })
}

impl Explanation {
    /// 0 for a grant, 1 for a denial.
    pub fn exit_code(&self) -> u8 {
        u8::from(!matches!(self, Self::Judged { decision: Decision::Grant(_), .. }))
    }

    /// For machines; whole, so for operators only.
    pub fn to_json(&self, set: &MappingSet) -> serde_json::Value {
        match self {
            Self::Judged { decision, trace } => {
                let mut json = decision.to_json(set);
                json["trace"] = trace.to_json(set);
                json
            }
            Self::Refused { reason, why } => serde_json::json!({
                "decision": "deny",
                "reason": reason.name(),
                "message": why,
            }),
        }
    }

    /// For people; with the folder, places are lines.
    pub fn to_text(&self, set: &MappingSet, folder: Option<&Folder>) -> String {
        match self {
            Self::Judged { decision, trace } => {
                let mut text = verdict(decision, set);
                if let Some(about) = &trace.about {
                    line(&mut text, format_args!("{about}"));
                }
                for (name, reason, held, conditions) in trace.denies.iter().filter(|(.., held, _)| *held) {
                    line(&mut text, format_args!("\ndeny `{name}` holds: {reason}"));
                    conditions.iter().for_each(|condition| condition_line(&mut text, condition, *held, folder));
                }
                trace.mappings.iter().for_each(|report| mapping_lines(&mut text, report, set, folder));
                trace.shadows.iter().for_each(|report| mapping_lines(&mut text, report, set, folder));
                if trace.omitted > 0 {
                    line(&mut text, format_args!("\n{} mappings that are further away are not shown", trace.omitted));
                }
                text
            }
            Self::Refused { reason, why } => {
                format!("deny: {}\nno mapping was looked at: {why}\n", reason.meaning())
            }
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes all text");
}

fn verdict(decision: &Decision, set: &MappingSet) -> String {
    match decision {
        Decision::Grant(grant) => {
            let mapping = set.mapping(grant.mapping);
            let (role, duration) = (&set.role(grant.role).name, duration(grant.duration));
            let mut text = format!("grant: mapping `{}` gives `{role}` for {duration}\n", mapping.name);
            for Exception { exempt, reason, .. } in &mapping.exceptions {
                line(&mut text, format_args!("by the exception `{exempt}`: {reason}"));
            }
            if let Some(session) = mapping.max_session {
                let session = self::duration(session);
                line(&mut text, format_args!("renewed, where a job cannot mint again, for at most {session}"));
            }
            if let Some(limit) = mapping.limit {
                line(&mut text, format_args!("unless its limit for this repository is used up: {limit}"));
            }
            text
        }
        Decision::Deny(denial) => {
            let mut text = format!("deny: {} ({})\n", denial.reason.meaning(), denial.reason);
            if !denial.roles.is_empty() {
                let roles: Vec<_> = denial.roles.iter().map(|role| format!("`{}`", set.role(*role).name)).collect();
                line(&mut text, format_args!("ask for one of {} with `--role`", roles.join(", ")));
            }
            text
        }
    }
}

fn mapping_lines(text: &mut String, report: &MappingReport, set: &MappingSet, folder: Option<&Folder>) {
    let mapping = set.mapping(report.mapping);
    let verdict = match report.miss {
        None if mapping.shadow => "would hold, but is a shadow and grants nothing".to_owned(),
        None => "holds".to_owned(),
        Some(reason) => format!("misses ({reason})"),
    };
    let role = &set.role(report.role).name;
    let alternative = mapping.alternative.map(|number| format!(", alternative {number},")).unwrap_or_default();
    line(
        text,
        format_args!("\nmapping `{}`{alternative} of team `{}` for `{role}` {verdict}", mapping.name, mapping.team),
    );
    report.conditions.iter().for_each(|condition| condition_line(text, condition, condition.held, folder));
    report.remarks.iter().for_each(|remark| line(text, format_args!("  {}", remark.text)));
    if let Some(edit) = &report.edit {
        let what = if report.held { "to bring it up to date" } else { "to allow it" };
        line(text, format_args!("  {what}: {edit}"));
    }
}

fn condition_line(text: &mut String, condition: &ConditionReport, held: bool, folder: Option<&Folder>) {
    let got = match &condition.got {
        Got::Value(value) => format!("`{value}`"),
        Got::None => "none".to_owned(),
        Got::Unknown => "unknown".to_owned(),
    };
    let mark = if held { "ok  " } else { "FAIL" };
    let renamed = if condition.renamed { ", renamed" } else { "" };
    let place = place(condition, folder);
    let (claim, expected) = (&condition.claim, &condition.expected);
    line(
        text,
        format_args!(
            "  {mark} {claim}: expected {expected}, got {got}{renamed}  [{}, {place}]",
            condition.origin.name()
        ),
    );
}

fn place(condition: &ConditionReport, folder: Option<&Folder>) -> String {
    let file = &*condition.span.file;
    let bytes = folder.and_then(|folder| folder.files.get(file));
    match bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) => format!("{file}:{}", line_column(text, condition.span.bytes().start).0),
        None => file.to_owned(),
    }
}
