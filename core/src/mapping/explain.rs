//! The evaluation, watched: every candidate, each condition with expected and got, the nearest miss.

use super::{
    ACTOR, Ask, Decision, MappingId, MappingSet, Origin, Remark, RoleId, advice,
    decide::{Distance, Judge, Observer, Party, Side, Verdict, decide, old_name},
    exception::{Exception, Exempt},
    remarks,
    set::{Condition, Mapping, Test},
};
use crate::{
    claims::Value,
    diag::Span,
    reason::Reason,
    time::UnixSeconds,
    workload::{Case, Claim, ClaimKey, Presence, RawClaim, Text, Workload},
};
use serde_json::json;
use std::collections::BTreeSet;

/// Mappings that a trace tells in full; the nearest come first.
pub const TRACE_MAPPINGS_MAX: usize = 50;

/// What the end of a mapping is called among the conditions that fail.
pub(crate) const EXPIRES: &str = "expires";

/// Of the value of a raw claim, what a trace shows.
const RAW_SHOWN_BYTES_MAX: usize = 256;

/// Pairs of repositories that an expectation writes out.
const PAIRS_SHOWN_MAX: usize = 8;

/// What the job had where a condition looked.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Got {
    Value(String),
    /// The profile proves that the job has no such claim.
    None,
    Unknown,
}

/// One condition as it was evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConditionReport {
    /// Canonical name (`job_workflow.ref`), or `claims."name"`.
    pub claim: String,
    /// In the mapping language's words.
    pub expected: String,
    pub got: Got,
    pub held: bool,
    /// It holds by the id alone: the repository has another name by now (`on_rename = "warn"`).
    pub renamed: bool,
    pub origin: Origin,
    pub span: Span,
    /// A condition on persons or on a raw claim, or one whose expected text holds other repositories' ids: a job is told "differs".
    pub private: bool,
}

/// One candidate as it was evaluated, for one role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappingReport {
    pub mapping: MappingId,
    pub role: RoleId,
    pub held: bool,
    /// `renamed`, `id_mismatch`, `event_not_allowed`, or `no_mapping` for any other miss.
    pub miss: Option<Reason>,
    /// Whether it pins the case's own repository id: only then may the job be told about it.
    pub pins_caller: bool,
    pub conditions: Vec<ConditionReport>,
    /// What has happened, in plain sentences.
    pub remarks: Vec<Remark>,
    /// The edit that would allow the job, or bring a name up to date, in words with the TOML to write.
    pub edit: Option<String>,
}

/// The whole evaluation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trace {
    /// What is worth saying of the job itself.
    pub about: Option<String>,
    /// Denies that were looked at: name, the platform's reason text, whether it held, conditions.
    pub denies: Vec<(String, String, bool, Vec<ConditionReport>)>,
    /// Candidates, the nearest first.
    pub mappings: Vec<MappingReport>,
    /// Mappings further away that are not told.
    pub omitted: usize,
    /// Mappings in the shadow that concern the job: they grant nothing, whether they hold or not.
    pub shadows: Vec<MappingReport>,
}

/// The same evaluator as `decide`, with everything it saw. Looks at every mapping that gives the asked role (all of
/// the issuer's when none is asked), so that the nearest miss can be named.
pub fn explain(set: &MappingSet, case: &Case<'_>, ask: &Ask<'_>, now: UnixSeconds) -> (Decision, Trace) {
    let decision = decide(set, case, ask, now);
    let asked = ask.role.map(|name| set.role_named(name));
    let Some(judge) = Judge::new(set, case, now).filter(|_| asked != Some(None)) else {
        return (decision, Trace::default());
    };
    let (nearest, beyond) = judge.nearest(asked.flatten());
    let omitted = beyond + nearest.len().saturating_sub(TRACE_MAPPINGS_MAX);
    let mappings: Vec<MappingReport> =
        nearest.into_iter().take(TRACE_MAPPINGS_MAX).map(|one| report(set, &judge, one, now)).collect();
    let shadows = judge.shadows(asked.flatten()).into_iter().take(TRACE_MAPPINGS_MAX);
    let shadows = shadows.map(|one| report(set, &judge, one, now)).collect();
    let mut roles: Vec<RoleId> = asked.flatten().into_iter().chain(mappings.iter().map(|report| report.role)).collect();
    roles.sort_unstable();
    roles.dedup();
    let mut denies: Vec<(String, String, bool, Vec<ConditionReport>)> = Vec::new();
    let mut looked_at = Vec::new();
    for (party, deny) in roles.into_iter().flat_map(|role| judge.denies(role)) {
        if looked_at.contains(&(party.acts, &deny.name)) {
            continue;
        }
        looked_at.push((party.acts, &deny.name));
        let (held, conditions) = told_of(&judge, party, &deny.conditions, judge.deny_side(party));
        denies.push((deny.name.clone(), deny.reason.clone(), held, conditions));
    }
    let about = remarks::of_job(judge.workload());
    (decision, Trace { about, denies, mappings, omitted, shadows })
}

fn report(
    set: &MappingSet,
    judge: &Judge<'_>,
    (mapping, role, distance): (MappingId, RoleId, Distance),
    now: UnixSeconds,
) -> MappingReport {
    let mut seen = Verdicts::default();
    let end = end(set.mapping(mapping), now);
    let held = end.as_ref().is_none_or(|end| end.held);
    let held = held & judge.check(set.conditions_for(mapping, role), Side::Grants, &mut seen);
    let held = held & judge.actor_miss(set.mapping(mapping)).is_none();
    let judged: Vec<(&Condition, Verdict)> = set.conditions_for(mapping, role).zip(seen.0).collect();
    let workload = judge.workload();
    let issuer = set.issuer(set.mapping(mapping).issuer);
    let renamed = |condition: &Condition| old_name(condition, workload, issuer.folds_names).is_some();
    let condition =
        |(condition, verdict): &(&Condition, Verdict)| told(condition, *verdict, workload, renamed(condition));
    MappingReport {
        mapping,
        role,
        held,
        miss: (!held).then(|| distance.miss()),
        pins_caller: pins_caller(set.mapping(mapping), issuer.multi_tenant, workload),
        remarks: remarks::remarks(workload, &judged),
        edit: advice::edit(set, role, workload, &judged),
        conditions: judged.iter().map(condition).chain(end).chain(acting(set, judge, set.mapping(mapping))).collect(),
    }
}

/// How the conditions came out for one of the case, and whether all hold. An actor's have its name before them.
fn told_of(judge: &Judge<'_>, party: Party<'_>, conditions: &[Condition], side: Side) -> (bool, Vec<ConditionReport>) {
    let mut seen = Verdicts::default();
    let held = judge.check_of(party, conditions, side, &mut seen);
    let one = |(condition, verdict)| {
        let mut report = told(condition, verdict, party.workload, false);
        if party.acts {
            report.claim = format!("{ACTOR}.{}", report.claim);
            // Who else may act is nobody's business.
            report.private |= !report.held;
        }
        report
    };
    (held, conditions.iter().zip(seen.0).map(one).collect())
}

/// What a mapping asks of who acts, or that nobody does.
fn acting(set: &MappingSet, judge: &Judge<'_>, mapping: &Mapping) -> Vec<ConditionReport> {
    let span = mapping.actor.as_ref().map_or(&mapping.span, |rule| &rule.span);
    let report = |claim: String, expected: String, got: Got, held: bool, private: bool| ConditionReport {
        claim,
        expected,
        got,
        held,
        renamed: false,
        origin: Origin::Actor,
        span: span.clone(),
        private,
    };
    let outermost = judge.outermost().map(|workload| workload.issuer.to_string());
    let (wanted, brought) = (mapping.actor.as_ref().and_then(|rule| rule.audience.as_deref()), judge.via().audience());
    let downstream = (wanted.is_some() || brought.is_some()).then(|| {
        let expected = wanted.map_or("the job's own token".to_owned(), |audience| format!("`{audience}`"));
        let got = brought.map_or(Got::None, |audience| Got::Value(audience.to_owned()));
        report(format!("{ACTOR}.audience"), expected, got, wanted == brought, wanted != brought)
    });
    let mut reports: Vec<ConditionReport> = downstream.into_iter().collect();
    reports.extend(match (mapping.actor.as_deref(), outermost) {
        (None, None) => Vec::new(),
        (None, Some(issuer)) => {
            vec![report(ACTOR.to_owned(), "nobody acts".to_owned(), Got::Value(issuer), false, false)]
        }
        (Some(rule), None) if !rule.required => Vec::new(),
        (Some(_), None) => vec![report(ACTOR.to_owned(), "somebody acts".to_owned(), Got::None, false, false)],
        (Some(rule), Some(issuer)) => {
            let wanted = &set.issuer(rule.issuer).name;
            let same = **wanted == *issuer;
            let named = |part: &str| format!("{ACTOR}.{part}");
            let mut reports = vec![report(named("issuer"), format!("`{wanted}`"), Got::Value(issuer), same, !same)];
            if let Some(party) = judge.acting().filter(|_| same) {
                reports.extend(told_of(judge, party, &rule.conditions, judge.actor_side()).1);
            }
            let (depth, most) = (judge.depth(), usize::from(rule.max_depth));
            let expected = format!("at most {most}");
            reports.push(report(named("max_depth"), expected, Got::Value(depth.to_string()), depth <= most, false));
            reports
        }
    });
    reports
}

/// `expires`, as a condition on the time.
fn end(mapping: &Mapping, now: UnixSeconds) -> Option<ConditionReport> {
    Some(ConditionReport {
        claim: EXPIRES.to_owned(),
        expected: format!("a time before {}", mapping.expires?.rfc3339()),
        got: Got::Value(now.rfc3339()),
        held: !mapping.is_over(now),
        renamed: false,
        origin: Origin::Match,
        span: mapping.span.clone(),
        private: false,
    })
}

/// Keeps how each condition came out.
#[derive(Default)]
struct Verdicts(Vec<Verdict>);

impl Observer for Verdicts {
    const ALL: bool = true;
    fn condition(&mut self, _: &Condition, verdict: Verdict) {
        self.0.push(verdict);
    }
}

fn has_id(pairs: &[(String, String)], id: &str) -> bool {
    pairs.binary_search_by(|(_, other)| other.as_str().cmp(id)).is_ok()
}

/// Whether a mapping pins the job's own repository id or, where it pins no repository, its owner's or its subject. On an
/// issuer that strangers share the owner is enough only for who lets every repository in: a mapping that names one without its
/// id is nobody else's business.
fn pins_caller(mapping: &Mapping, shared: bool, workload: &Workload<'_>) -> bool {
    let listed = |claim: Claim, condition: &Condition| {
        let own = workload.text(claim);
        match &condition.test {
            test if claim == Claim::RepositoryId && test.repositories().is_some() => {
                Some(own.is_some_and(|own| has_id(test.repositories().unwrap_or_default(), own)))
            }
            Test::Owner(pairs) if claim == Claim::RepositoryOwnerId => Some(own.is_some_and(|own| has_id(pairs, own))),
            Test::Text(lang) if condition.claim == claim && lang.members().is_some() => {
                Some(own.is_some_and(|own| lang.matches(own)))
            }
            _ => None,
        }
    };
    let by = |claim| {
        let pins = mapping.conditions.iter().filter_map(|condition| listed(claim, condition));
        pins.reduce(|all, one| all && one)
    };
    let by_owner = !shared || mapping.rests_on(Exempt::AnyRepository);
    let pins = [Claim::RepositoryId, Claim::RepositoryOwnerId, Claim::Subject].into_iter();
    pins.filter(|claim| by_owner || *claim != Claim::RepositoryOwnerId).find_map(by).unwrap_or(false)
}

fn told(condition: &Condition, verdict: Verdict, workload: &Workload<'_>, renamed: bool) -> ConditionReport {
    let held = verdict == Verdict::Held;
    let (expected, foreign) = expected(condition, workload);
    ConditionReport {
        claim: condition.claim.name().to_owned(),
        expected,
        got: got(condition, workload),
        held,
        renamed,
        origin: condition.origin,
        span: condition.span.clone(),
        private: condition.claim.canonical().is_none_or(Claim::is_person) || (foreign && !held),
    }
}

fn got(condition: &Condition, workload: &Workload<'_>) -> Got {
    let pair = condition.test.parts().iter().find_map(|test| match test {
        Test::Repository(_) | Test::ById(_) => Some([Claim::Repository, Claim::RepositoryId]),
        Test::Owner(..) => Some([Claim::RepositoryOwner, Claim::RepositoryOwnerId]),
        _ => None,
    });
    if let Some([name, id]) = pair.map(|pair| pair.map(|claim| workload.text(claim)))
        && (name.is_some() || id.is_some())
    {
        return Got::Value(format!("{} (id {})", name.unwrap_or("unknown"), id.unwrap_or("unknown")));
    }
    let claim = match &condition.claim {
        ClaimKey::Canonical(claim) => *claim,
        ClaimKey::Raw(raw) => return got_raw(raw, &condition.test, workload),
    };
    match workload.get(claim) {
        Presence::None => Got::None,
        Presence::Unknown => Got::Unknown,
        Presence::Present(Text::Text(value)) => Got::Value(value.to_string()),
        Presence::Present(Text::Boolean(value)) => Got::Value(value.to_string()),
    }
}

/// What stands in the token, and whether it is of another type than the condition asks for.
fn got_raw(raw: &RawClaim, test: &Test, workload: &Workload<'_>) -> Got {
    let Some(value) = raw.value(workload.raw()) else { return Got::Unknown };
    let mut shown = match value {
        Value::Text(text) => text.to_string(),
        other => other.to_json().to_string(),
    };
    if shown.len() > RAW_SHOWN_BYTES_MAX {
        shown.truncate(shown.floor_char_boundary(RAW_SHOWN_BYTES_MAX));
        shown.push('…');
    }
    if test.parts().iter().all(|test| test.of_raw(raw, value).is_none()) {
        shown.push_str(" (of another type)");
    }
    Got::Value(shown)
}

/// The members of a set that are not written out.
fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " or another".to_owned(),
        _ => format!(" or one of {count} others"),
    }
}

/// What a condition asks, in the mapping language's words, and whether the words hold ids that are not the job's.
pub(super) fn expected(condition: &Condition, workload: &Workload<'_>) -> (String, bool) {
    let parts = condition.test.parts().iter().map(|test| expected_of(condition, test, workload));
    let (words, foreign): (Vec<String>, Vec<bool>) = parts.unzip();
    (words.join(" or "), foreign.contains(&true))
}

fn expected_of(condition: &Condition, test: &Test, workload: &Workload<'_>) -> (String, bool) {
    let own = |id: &str| match test {
        Test::Owner(_) => workload.text(Claim::RepositoryOwnerId) == Some(id),
        _ => workload.text(Claim::RepositoryId) == Some(id),
    };
    let pair = |name: &str, id: &str| match name {
        "" => format!("id {id}"),
        _ => format!("`{name}` (id {id})"),
    };
    match test {
        Test::Is(value) => (value.to_string(), false),
        Test::Present => ("present".to_owned(), false),
        Test::Absent => ("absent".to_owned(), false),
        Test::SameRepository => ("the job's own repository".to_owned(), false),
        Test::Any(_) => ("any".to_owned(), false),
        Test::Every(lang) => (lang.describe(), false),
        Test::Integer(numbers) => {
            (numbers.iter().map(|number| format!("`{number}`")).collect::<Vec<_>>().join(" or "), false)
        }
        Test::Text(lang) => {
            let ids = [Claim::RepositoryId, Claim::RepositoryOwnerId, Claim::Subject];
            let holds_ids = condition.claim.canonical().is_some_and(|claim| ids.contains(&claim));
            (lang.describe(), holds_ids)
        }
        Test::ById(pairs) if let Some((name, id)) = pairs.first() => {
            (format!("{} under any name", pair(name, id)), !own(id))
        }
        Test::Repository(pairs) | Test::ById(pairs) | Test::Owner(pairs) => {
            match pairs.iter().find(|(_, id)| own(id)) {
                // The job's own pair says enough; the other members of a set are nobody else's business.
                Some((name, id)) if pairs.len() == 1 => (pair(name, id), false),
                Some((name, id)) => (pair(name, id) + &others(pairs.len() - 1), false),
                None => {
                    let shown: Vec<_> = pairs.iter().take(PAIRS_SHOWN_MAX).map(|(name, id)| pair(name, id)).collect();
                    (shown.join(" or ") + &others(pairs.len() - shown.len()), true)
                }
            }
        }
    }
}

impl Trace {
    /// The trace for machines: names instead of numbers. Whole, private parts included: for operators.
    pub fn to_json(&self, set: &MappingSet) -> serde_json::Value {
        let mappings: Vec<_> = self.mappings.iter().map(|report| report.to_json(set)).collect();
        let denies = self.denies.iter().map(|(name, reason, held, conditions)| {
            let conditions: Vec<_> = conditions.iter().map(ConditionReport::to_json).collect();
            json!({ "name": name, "reason": reason, "held": held, "conditions": conditions })
        });
        let shadows: Vec<_> = self.shadows.iter().map(|report| report.to_json(set)).collect();
        json!({
            "about": self.about,
            "mappings": mappings,
            "denies": denies.collect::<Vec<_>>(),
            "omitted": self.omitted,
            "shadows": shadows,
        })
    }
}

impl MappingReport {
    /// Names of the claims whose conditions failed, sorted, each once.
    pub fn failed(&self) -> BTreeSet<&str> {
        self.conditions.iter().filter(|condition| !condition.held).map(|condition| &*condition.claim).collect()
    }
    fn to_json(&self, set: &MappingSet) -> serde_json::Value {
        let mapping = set.mapping(self.mapping);
        let conditions: Vec<_> = self.conditions.iter().map(ConditionReport::to_json).collect();
        json!({
            "mapping": mapping.name,
            "alternative": mapping.alternative,
            "team": &*mapping.team,
            "role": set.role(self.role).name,
            "held": self.held,
            "miss": self.miss.map(Reason::name),
            "conditions": conditions,
            "remarks": self.remarks.iter().map(|remark| &remark.text).collect::<Vec<_>>(),
            "edit": self.edit,
            "exceptions": mapping.exceptions.iter().map(exception_json).collect::<Vec<_>>(),
        })
    }
}

fn exception_json(exception: &Exception) -> serde_json::Value {
    json!({ "exception": exception.exempt.name(), "reason": &*exception.reason })
}

impl ConditionReport {
    fn to_json(&self) -> serde_json::Value {
        let got = match &self.got {
            Got::Value(value) => json!({ "value": value }),
            Got::None => json!("none"),
            Got::Unknown => json!("unknown"),
        };
        json!({
            "claim": self.claim,
            "expected": self.expected,
            "got": got,
            "held": self.held,
            "renamed": self.renamed,
            "origin": self.origin.name(),
            "file": &*self.span.file,
            "private": self.private,
        })
    }
}

impl Decision {
    /// The decision for machines: names instead of numbers. For operators: it names the deny rule.
    pub fn to_json(&self, set: &MappingSet) -> serde_json::Value {
        let waits = matches!(self, Self::Pending(_));
        match self {
            Self::Grant(grant) | Self::Pending(grant) => json!({
                "decision": if waits { "pending" } else { "grant" },
                "mapping": set.mapping(grant.mapping).name,
                "role": set.role(grant.role).name,
                "duration_seconds": grant.duration.0,
                "max_session_seconds": set.mapping(grant.mapping).max_session.map(|session| session.0),
                "limit": set.mapping(grant.mapping).limit,
                "ceremony": set.ceremony(grant.mapping, grant.role).map(|terms| terms.to_json()),
            }),
            Self::Deny(denial) => json!({
                "decision": "deny",
                "reason": denial.reason.name(),
                "nearest": denial.nearest.map(|id| &set.mapping(id).name),
                "roles": denial.roles.iter().map(|role| &set.role(*role).name).collect::<Vec<_>>(),
                "rule": denial.rule,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, lang::pattern::Lang, mapping::renamed};
    use Claim as C;

    fn traced(set: &MappingSet, case: &Case<'_>, role: Option<&str>) -> Trace {
        explain(set, case, &Ask { role, ..Ask::default() }, UnixSeconds(0)).1
    }
    fn names<'s>(set: &'s MappingSet, trace: &Trace) -> Vec<&'s str> {
        trace.mappings.iter().map(|report| set.mapping(report.mapping).name.as_str()).collect()
    }
    fn pin() -> Condition {
        repositories(&[("acme/api", "1")])
    }

    #[test]
    fn the_nearest_comes_first_and_other_repositories_last() {
        let set = Builder::new()
            .mapping("far", "r", [pin(), text(C::Branch, &["x"]), text(C::Environment, &["y"]), text(C::Sha, &["z"])])
            .mapping("foreign", "r", [repositories(&[("acme/web", "2")])])
            .mapping("near", "r", [pin(), text(C::Branch, &["x"])])
            .mapping("renamed", "r", [repositories(&[("acme/old", "1")])])
            .mapping("other role", "s", [pin()])
            .build();
        let trace = traced(&set, &push(&[]), Some("r"));
        assert_eq!(names(&set, &trace), ["renamed", "near", "far", "foreign"]);
        let told: Vec<_> = trace.mappings.iter().map(|one| (one.pins_caller, one.miss)).collect();
        assert_eq!(told[0], (true, Some(Reason::Renamed)));
        assert_eq!(told[1], (true, Some(Reason::NoMapping)));
        assert_eq!(told[3], (false, Some(Reason::NoMapping)));
        assert_eq!(traced(&set, &push(&[]), None).mappings.len(), 5);
        assert_eq!(traced(&set, &push(&[]), Some("nothing")), Trace::default());
    }

    #[test]
    fn every_condition_tells_what_was_expected_and_got() {
        let set = Builder::new()
            .mapping(
                "m",
                "r",
                [
                    pin(),
                    text(C::Branch, &["main", "x"]),
                    condition(C::Tag, Test::Present),
                    text(C::Environment, &["e"]),
                ],
            )
            .require("r", [condition(C::RefProtected, Test::Is(true))])
            .build();
        let trace = traced(&set, &push(&[(C::RefProtected, "false")]), None);
        let told: Vec<_> = trace.mappings[0]
            .conditions
            .iter()
            .map(|one| (one.claim.as_str(), one.expected.as_str(), one.got.clone(), one.held))
            .collect();
        let value = |text: &str| Got::Value(text.to_owned());
        assert_eq!(
            told,
            [
                ("repository", "`acme/api` (id 1)", value("acme/api (id 1)"), true),
                ("branch", "`main` or `x`", value("main"), true),
                ("tag", "present", Got::None, false),
                ("environment", "`e`", Got::Unknown, false),
                ("ref_protected", "true", value("false"), false),
            ]
        );
        assert_eq!(trace.mappings[0].failed(), ["environment", "ref_protected", "tag"].into());
        assert_eq!(trace.mappings[0].edit, None, "three conditions away is not near");
    }

    #[test]
    fn other_repositories_and_persons_stay_private() {
        let members: Vec<(String, String)> = (2..40).map(|id| (format!("acme/r{id}"), id.to_string())).collect();
        let foreign: Vec<(&str, &str)> = members.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
        let with_own: Vec<_> = foreign.iter().copied().chain([("acme/old", "1")]).collect();
        let set = Builder::new()
            .mapping("foreign", "a", [repositories(&foreign)])
            .mapping("set", "b", [repositories(&with_own)])
            .mapping("squatted", "c", [repositories(&[("acme/api", "9")])])
            .mapping("person", "d", [pin(), text(C::Initiator, &["jo"])])
            .mapping("subject", "e", [text(C::Subject, &["repo:acme@65/api@9:x"])])
            .build();
        let first =
            |role| traced(&set, &push(&[(C::Subject, "x"), (C::Initiator, "ann")]), Some(role)).mappings.remove(0);
        let one = |role, at: usize| first(role).conditions.remove(at);
        assert!(one("a", 0).private && one("a", 0).expected.ends_with("or one of 30 others"));
        assert!(!one("b", 0).private, "its own old name is its own business");
        assert_eq!(one("b", 0).expected, "`acme/old` (id 1) or one of 38 others");
        assert!(one("c", 0).private && !first("c").pins_caller);
        assert!(one("d", 1).private && !one("d", 0).private);
        assert!(one("e", 0).private);
    }

    #[test]
    fn an_owners_mapping_concerns_its_jobs_unless_it_pins_another_repository() {
        let owner =
            || condition(C::RepositoryOwner, Test::Owner([("acme".to_owned(), "65".to_owned())].into_iter().collect()));
        let set = Builder::new()
            .mapping("wide", "a", [owner(), text(C::Branch, &["x"])])
            .excepted(Exempt::AnyRepository)
            .mapping("pinned", "b", [owner(), repositories(&[("acme/web", "2")])])
            .mapping("by name", "c", [owner(), text(C::Repository, &["acme/web"])])
            .excepted(Exempt::MutableIdentity)
            .build();
        assert!(traced(&set, &push(&[]), Some("a")).mappings[0].pins_caller);
        assert!(!traced(&set, &push(&[]), Some("c")).mappings[0].pins_caller, "a name is not told to others");
        assert!(!traced(&set, &push(&[]), Some("b")).mappings[0].pins_caller);
    }

    #[test]
    fn a_grant_under_another_name_is_told_with_its_line() {
        let set = Builder::new().warns_of_renames().mapping("m", "r", [pin()]).build();
        let case = push(&[(C::Repository, "acme/new")]);
        let ask = Ask { role: Some("r"), ..Ask::default() };
        let (decision, trace) = explain(&set, &case, &ask, UnixSeconds(0));
        let Decision::Grant(grant) = decision else { panic!("{decision:?}") };
        assert_eq!(renamed(&set, &grant, &case.principal), Some("acme/api"));
        let report = &trace.mappings[0];
        assert!(report.held && report.conditions[0].renamed);
        assert_eq!(report.conditions[0].expected, "`acme/api` (id 1) under any name");
        assert!(report.edit.as_deref().is_some_and(|edit| edit.contains("`{ name = \"acme/new\", id = 1 },` instead")));
        let same = push(&[(C::Repository, "ACME/Api")]);
        assert_eq!(renamed(&set, &grant, &same.principal), None, "the forge folds");
        assert!(!traced(&set, &same, Some("r")).mappings[0].conditions[0].renamed);
        let squatted = traced(&set, &push(&[(C::RepositoryId, "9")]), Some("r"));
        assert_eq!(squatted.mappings[0].miss, Some(Reason::IdMismatch));
        assert!(squatted.mappings[0].conditions[0].private);
    }

    #[test]
    fn the_edit_is_what_to_write() {
        let under = Test::Text(Lang::under("release", false).unwrap());
        for (conditions, change, edit) in [
            (
                vec![pin()],
                vec![(C::Repository, "acme/new")],
                Some("`{ name = \"acme/new\", id = 1 },` instead of the old name"),
            ),
            (
                vec![pin(), text(C::Branch, &["main"])],
                vec![(C::Branch, "dev")],
                Some("write `branch = [\"main\", \"dev\"]`"),
            ),
            (
                vec![pin(), events()],
                vec![(C::EventName, "x")],
                Some("`event_name = { any = [{ class = \"default\" }, \"x\"] }`"),
            ),
            (
                vec![pin()],
                vec![(C::RepositoryId, "7"), (C::Repository, "acme/n")],
                Some("`{ name = \"acme/n\", id = 7 },` beside"),
            ),
            (vec![pin()], vec![(C::RepositoryId, "07")], Some("id = \"07\" },`, but only if you know")),
            (vec![pin(), condition(C::Branch, under)], vec![], Some("`branch = \"main\"` in a mapping of its own")),
            (vec![pin(), text(C::Environment, &["e"])], vec![], None),
            (vec![pin(), condition(C::Branch, Test::Absent)], vec![], None),
        ] {
            let set = Builder::new().mapping("m", "r", conditions).build();
            let got = traced(&set, &push(&change), None).mappings.remove(0).edit;
            match edit {
                Some(part) => assert!(got.as_deref().is_some_and(|got| got.contains(part)), "{part}: {got:?}"),
                None => assert_eq!(got, None),
            }
        }
        let set = Builder::new().mapping("m", "r", [pin()]).require("r", [text(C::Branch, &["x"])]).build();
        let edit = traced(&set, &push(&[]), None).mappings.remove(0).edit.unwrap();
        assert_eq!(edit, "in `[role.r.require]` (the platform's) write `branch = [\"x\", \"main\"]`");
    }

    #[test]
    fn denies_are_told_with_their_reason_once() {
        let set = Builder::new()
            .mapping_of(0, "m", &["a", "b"], [pin()])
            .deny("d", &["a", "b"], [text(C::EventName, &["push"])])
            .deny("e", &["z"], [])
            .build();
        let trace = traced(&set, &push(&[]), None);
        let [(name, reason, held, conditions)] = &*trace.denies else { panic!("{:?}", trace.denies) };
        assert_eq!((name.as_str(), reason.as_str(), *held, conditions.len()), ("d", "because", true, 1));
        let json = trace.to_json(&set);
        assert_eq!(json["denies"][0]["name"], "d");
        assert_eq!(json["mappings"][0]["conditions"][0]["got"]["value"], "acme/api (id 1)");
    }

    #[test]
    fn a_trace_has_an_end() {
        let mut builder = Builder::new();
        for at in 0..TRACE_MAPPINGS_MAX + 5 {
            builder = builder.mapping(&format!("m{at}"), "r", [text(C::Branch, &["x"])]);
        }
        let trace = traced(&builder.build(), &push(&[]), Some("r"));
        assert_eq!((trace.mappings.len(), trace.omitted), (TRACE_MAPPINGS_MAX, 5));
    }
}
