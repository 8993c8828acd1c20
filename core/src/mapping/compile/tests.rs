//! `[[test]]` blocks → test cases, with the ids filled in that the folder itself pairs with their names.

use super::{conditions::owner_of, duration, policy::Policy, raw::CLAIMS, roles::Roles, workflows::WorkflowClaims};
use crate::{
    diag::{Diagnostic, Span, did_you_mean},
    mapping::{
        ACTOR, EXPIRES, Issuer, IssuerId, codes,
        syntax::{Entry, Fields, Findings, Place, Source, Value, describe},
    },
    review::{Expect, Given, Job, TestCase},
    workload::{Claim, ClaimKey, Kind, Profile},
};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use toml::de::DeValue;

/// Repository names with the ids they are paired with, per issuer.
#[derive(Default, Debug)]
pub(super) struct Pairs {
    ids: HashMap<(IssuerId, String), (String, Span), FixedState>,
}

impl Pairs {
    fn key(issuer_id: IssuerId, issuer: &Issuer, name: &str) -> (IssuerId, String) {
        let name = if issuer.folds_names { name.to_ascii_lowercase() } else { name.to_owned() };
        (issuer_id, name)
    }
    /// Takes note of the pairs of a mapping's condition.
    pub(super) fn learn(
        &mut self,
        issuer_id: IssuerId,
        issuer: &Issuer,
        pairs: &[(String, String)],
        span: &Span,
        findings: &mut Findings,
    ) {
        for (name, id) in pairs.iter().filter(|(name, _)| !name.is_empty()) {
            let (known, other) =
                self.ids.entry(Self::key(issuer_id, issuer, name)).or_insert_with(|| (id.clone(), span.clone()));
            if known == id {
                continue;
            }
            let finding = Diagnostic::error(
                codes::PAIRED_TWICE,
                span.clone(),
                format!("`{name}` is paired with id {id} here and with {known} elsewhere"),
                "one of the two ids is of another repository, a deleted one perhaps: keep the one that the forge shows now",
            );
            findings.push(finding.and(other.clone(), "the other pair").warning());
        }
    }
    fn id(&self, issuer_id: IssuerId, issuer: &Issuer, name: &str) -> Option<&str> {
        self.ids.get(&Self::key(issuer_id, issuer, name)).map(|(id, _)| id.as_str())
    }
}

/// Reads one block; [`fill`] ends it. `file_issuer`: of `[file]`, where there is one.
pub(super) fn compile(
    source: &Source<'_>,
    value: &Value<'_>,
    file_issuer: Option<&str>,
    (policy, roles): (&Policy<'_>, &Roles),
    findings: &mut Findings,
) -> Option<TestCase> {
    let before = findings.errors();
    let fields = Fields::read(source, Place::Test, value, findings)?;
    let name = fields.need_text("name", findings).map(|(name, _)| name.to_owned());
    let expect = expect(&fields, roles, findings);
    let at = fields.entry("at").and_then(|entry| duration::moment(entry, findings));
    let issuer_name = match fields.text("issuer", findings) {
        Some((name, span)) => policy.knows_issuer(name, &span, findings).then_some(name),
        None if fields.entry("issuer").is_some() => None,
        None => match file_issuer {
            Some(name) => Some(name),
            None => {
                let help = "write `issuer = \"…\"`, or in a team's file once in `[file]`";
                findings.error(
                    codes::TEST_FORM,
                    fields.span(),
                    "the test does not say from which issuer its job comes",
                    help,
                );
                None
            }
        },
    };
    let (number, _, profile) = policy.issuer(issuer_name?)?;
    let issuer_id = IssuerId(number);
    let given = given(&fields, profile, findings);
    let actor = fields.entry("actor").and_then(|entry| actor(entry, policy, findings));
    let audience = fields.text("audience", findings).map(|(audience, span)| (audience.to_owned(), span));
    if let (Some((_, span)), None) = (&audience, fields.entry("actor")) {
        let help = "add `actor = { issuer = \"…\", … }`: nobody exchanges a token of ours on their own behalf";
        form(findings, span.clone(), "`audience` stands without `actor`", help);
    }
    if findings.errors() != before {
        return None;
    }
    let (given, expect, audience) = (given?, expect?, audience.map(|(audience, _)| audience));
    Some(TestCase { name: name?, issuer: issuer_id, given, actor, audience, expect, at, span: fields.span() })
}

fn form(findings: &mut Findings, span: Span, message: impl Into<String>, help: impl Into<String>) {
    findings.error(codes::TEST_FORM, span, message, help);
}

fn expect(fields: &Fields<'_, '_>, roles: &Roles, findings: &mut Findings) -> Option<Expect> {
    let (expect, span) = fields.need_text("expect", findings)?;
    let surplus: &[(&'static str, &str)] = match expect {
        "grant" => &[
            ("role", "a grant is stated with `roles`: exactly those that are possible"),
            ("fails", "nothing fails where a role is granted; remove it"),
        ],
        "deny" => &[("roles", "a denial is stated with `role`: the one that is not granted")],
        "pending" => {
            let message = "`expect = \"pending\"` is not available in this version yet";
            let help = "expect `grant` or `deny`; this version has no grants that wait for a person";
            findings.error(codes::LATER_VALUE, span, message, help);
            return None;
        }
        _ => {
            let meant = did_you_mean(expect, ["grant", "deny"]).map(|meant| format!("did you mean `{meant}`?"));
            let help = meant.unwrap_or_else(|| "write `grant` or `deny`".to_owned());
            form(findings, span, format!("a test cannot expect `{expect}`"), help);
            return None;
        }
    };
    for (key, help) in surplus {
        if let Some(entry) = fields.entry(key) {
            form(findings, entry.key_span(), format!("`{key}` does not go with `expect = \"{expect}\"`"), *help);
        }
    }
    if expect == "grant" {
        let Some(listed) = fields.texts("roles", findings) else {
            form(
                findings,
                span,
                "the test expects a grant and does not say of what",
                "add `roles = […]`: exactly the roles that the job may have",
            );
            return None;
        };
        for (role, span) in &listed {
            roles.find(role, span, findings);
        }
        return Some(Expect::Grant { roles: listed.into_iter().map(|(role, _)| role.to_owned()).collect() });
    }
    let role = fields.text("role", findings);
    if let Some((role, span)) = &role {
        roles.find(role, span, findings);
    }
    let fails = fields.texts("fails", findings);
    for (claim, span) in fails.iter().flatten().filter(|(claim, _)| {
        *claim != EXPIRES && *claim != CLAIMS && !is_of_actor(claim) && ClaimKey::from_name(claim).is_none()
    }) {
        let meant = did_you_mean(claim, Claim::ALL.iter().map(|claim| claim.name()));
        let help = meant.map_or_else(
            || {
                "write the canonical claims whose conditions fail, parts of workflows as `job_workflow.ref`, others as \
             `claims.\"name\"`"
                    .to_owned()
            },
            |meant| format!("did you mean `{meant}`?"),
        );
        findings.error(
            codes::UNKNOWN_CLAIM,
            span.clone(),
            format!("there is no claim `{claim}` that a condition could be on"),
            help,
        );
    }
    Some(Expect::Deny {
        role: role.map(|(role, _)| role.to_owned()),
        fails: fails.map(|fails| fails.into_iter().map(|(claim, _)| claim.to_owned()).collect()),
    })
}

fn given(fields: &Fields<'_, '_>, profile: &Profile, findings: &mut Findings) -> Option<Given> {
    match (fields.entry("workload"), fields.entry("claims")) {
        (Some(_), Some(claims)) => {
            let help = "keep one: `workload` in canonical claims, or `claims` as the token has them";
            form(findings, claims.key_span(), "the test gives a workload and a token's claims", help);
            None
        }
        (None, None) => {
            let help =
                "write `workload = { repository = \"…\", branch = \"…\" }`, or `claims = { … }` as a token has them";
            form(findings, fields.span(), "the test gives no job", help);
            None
        }
        (None, Some(claims)) => {
            if !claims.value.get_ref().is_table() {
                claims.wrong_type("a table of a token's claims", findings);
                return None;
            }
            json(claims, claims.value, findings).map(Given::Claims)
        }
        (Some(workload), None) => Some(Given::Workload(job(workload.entries(findings), profile, findings))),
    }
}

fn job(entries: Vec<Entry<'_, '_>>, profile: &Profile, findings: &mut Findings) -> Job {
    let (mut given, mut raw) = (Vec::new(), serde_json::Map::new());
    for entry in entries {
        match entry.name() {
            CLAIMS => raw = raw_claims(entry, profile, findings),
            name @ ("workflow" | "job_workflow") => workflow(name, entry, &mut given, findings),
            _ => claim(entry, profile, &mut given, findings),
        }
    }
    Job { claims: given, raw }
}

/// Who acts for the job: its issuer, and its canonical claims.
fn actor(entry: Entry<'_, '_>, policy: &Policy<'_>, findings: &mut Findings) -> Option<(IssuerId, Job)> {
    let (named, claims): (Vec<_>, Vec<_>) =
        entry.entries(findings).into_iter().partition(|entry| entry.name() == "issuer");
    let Some(issuer) = named.first() else {
        let help = "write `actor = { issuer = \"…\", … }`: what the actor's claims are is its issuer's to say";
        form(findings, entry.span(), "the test's `actor` does not say from which issuer it comes", help);
        return None;
    };
    let (name, span) = issuer.text(findings)?;
    let known = policy.knows_issuer(name, &span, findings);
    let (number, _, profile) = policy.issuer(name).filter(|_| known)?;
    Some((IssuerId(number), job(claims, profile, findings)))
}

/// What the job's token says beside the canonical claims.
fn raw_claims(
    entry: Entry<'_, '_>,
    profile: &Profile,
    findings: &mut Findings,
) -> serde_json::Map<String, serde_json::Value> {
    let mut raw = serde_json::Map::new();
    for member in entry.entries(findings) {
        if let Some(claim) = profile.canonical_of(member.name()) {
            let message = format!("`{}` is the issuer's own name of the claim `{}`", member.name(), claim.name());
            let help =
                format!("write `{}` beside `claims`, or the whole token under the test's `claims`", claim.name());
            findings.error(codes::NATIVE_CLAIM, member.key_span(), message, help);
        } else if let Some(value) = json(member, member.value, findings) {
            raw.insert(member.name().to_owned(), value);
        }
    }
    raw
}

/// What a trace calls a condition on who acts.
fn is_of_actor(name: &str) -> bool {
    let part = name.strip_prefix(ACTOR);
    part.is_some_and(|part| match part.strip_prefix('.') {
        None => part.is_empty(),
        Some(part) => ["issuer", "max_depth"].contains(&part) || ClaimKey::from_name(part).is_some(),
    })
}

/// One canonical claim of a workload.
fn claim(entry: Entry<'_, '_>, profile: &Profile, given: &mut Vec<(Claim, String)>, findings: &mut Findings) {
    let name = entry.name();
    let Some(claim) = Claim::from_name(name).filter(|_| !name.contains('.')) else {
        if let Some(claim) = profile.canonical_of(name) {
            let help = "write the canonical claim, or the whole token under `claims`";
            let message = format!("`{name}` is the issuer's own name of the claim `{}`", claim.name());
            findings.edit(codes::NATIVE_CLAIM, entry.key_span(), message, help, claim.name());
            return;
        }
        let known = Claim::ALL.iter().map(|claim| claim.name()).filter(|name| !name.contains('.'));
        let meant = did_you_mean(name, known).map(|meant| format!("did you mean `{meant}`?"));
        let help = meant.unwrap_or_else(|| "use canonical claims; `claimbound profile show` lists them".to_owned());
        findings.error(codes::UNKNOWN_CLAIM, entry.key_span(), format!("there is no claim `{name}`"), help);
        return;
    };
    if let Some(text) = scalar(claim, entry, findings) {
        given.push((claim, text));
    }
}

fn scalar(claim: Claim, entry: Entry<'_, '_>, findings: &mut Findings) -> Option<String> {
    match (entry.value.get_ref(), claim.kind()) {
        (DeValue::String(text), _) => Some(text.to_string()),
        (DeValue::Integer(number), Kind::Id) if number.radix() == 10 => Some(number.as_str().to_owned()),
        (DeValue::Boolean(value), Kind::Boolean) => Some(value.to_string()),
        _ => {
            let message = format!("a job cannot have {} as `{}`", describe(entry.value), entry.name());
            let help = "write the one value that the job has; a test gives a job, not a condition";
            findings.error(codes::WRONG_TYPE, entry.value_span(), message, help);
            None
        }
    }
}

/// A workflow by its parts.
fn workflow(name: &str, entry: Entry<'_, '_>, given: &mut Vec<(Claim, String)>, findings: &mut Findings) {
    let parts = WorkflowClaims::of(name);
    for part in entry.entries(findings) {
        let (claim, prefix) = match part.name() {
            "repository" => (parts.repository, ""),
            "file" => (parts.file, ""),
            "ref" => (parts.r#ref, ""),
            "branch" => (parts.r#ref, "refs/heads/"),
            "tag" => (parts.r#ref, "refs/tags/"),
            "sha" => (parts.sha, ""),
            other => {
                let help = "its parts are `repository`, `file`, `ref` (or `branch`, `tag`) and `sha`";
                findings.error(codes::WORKFLOW_FORM, part.key_span(), format!("`{name}` has no part `{other}`"), help);
                continue;
            }
        };
        if let Some(text) = scalar(claim, part, findings) {
            given.push((claim, format!("{prefix}{text}")));
        }
    }
}

/// Fills ids from the folder's own pairs, and a workflow's repository from the job's.
pub(super) fn fill(given: &mut Vec<(Claim, String)>, issuer_id: IssuerId, issuer: &Issuer, pairs: &Pairs) {
    let has = |given: &[(Claim, String)], claim| given.iter().any(|(known, _)| *known == claim);
    let Some(repository) = given.iter().find(|(claim, _)| *claim == Claim::Repository).map(|(_, name)| name.clone())
    else {
        return;
    };
    if !has(given, Claim::RepositoryId)
        && let Some(id) = pairs.id(issuer_id, issuer, &repository)
    {
        given.push((Claim::RepositoryId, id.to_owned()));
    }
    let owner = given.iter().find(|(claim, _)| *claim == Claim::RepositoryOwner).map(|(_, name)| name.clone());
    let owner = owner.or_else(|| repository.rsplit_once('/').map(|(owner, _)| owner.to_owned()));
    if !has(given, Claim::RepositoryOwnerId)
        && let Some((_, id)) = owner.and_then(|owner| owner_of(issuer, &owner))
    {
        given.push((Claim::RepositoryOwnerId, id));
    }
    for (file, own) in
        [(Claim::WorkflowFile, Claim::WorkflowRepository), (Claim::JobWorkflowFile, Claim::JobWorkflowRepository)]
    {
        if has(given, file) && !has(given, own) {
            given.push((own, repository.clone()));
        }
    }
}

/// A token's claims as JSON; dates have no place in a token.
fn json(entry: Entry<'_, '_>, value: &Value<'_>, findings: &mut Findings) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    Some(match value.get_ref() {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(value) => Json::from(*value),
        DeValue::Integer(number) => Json::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Json::from(number.as_str().parse::<f64>().ok()?),
        DeValue::Array(list) => {
            Json::Array(list.iter().map(|element| json(entry, element, findings)).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => Json::Object(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), json(entry, value, findings)?)))
                .collect::<Option<_>>()?,
        ),
        DeValue::Datetime(_) => {
            findings.error(
                codes::WRONG_TYPE,
                entry.source.span(value.span()),
                "a token has no dates",
                "write seconds since 1970 as an integer, as `exp` and `iat` have them",
            );
            return None;
        }
    })
}
