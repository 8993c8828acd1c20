//! `[[deny]]` and `[[never]]`: read when roles are known, because each is expanded to the roles it is about.

use super::{
    conditions::{self, Ground, keys_of},
    names,
    policy::Policy,
    roles::Roles,
};
use crate::{
    diag::{Diagnostic, Span},
    mapping::{
        Condition, Deny, IssuerId, Origin, RoleId, codes,
        syntax::{Fields, Findings, Place},
    },
    review::never::Never,
};
use std::collections::HashMap;

pub(super) fn compile(
    policy_fields: &Fields<'_, '_>,
    policy: &Policy<'_>,
    roles: &Roles,
    findings: &mut Findings,
) -> Vec<Deny> {
    let mut denies = Vec::new();
    let mut declared: HashMap<&str, Span> = HashMap::new();
    for value in policy_fields.array("deny", findings) {
        let Some(fields) = Fields::read(policy_fields.source, Place::Deny, value, findings) else { continue };
        let name = fields.need_text("name", findings);
        if let Some((name, span)) = &name {
            names::check("deny", name, span, findings);
            if let Some(other) = declared.insert(name, span.clone()) {
                let help = "give one of the two another name: a denial names its rule to operators";
                let message = format!("there are two denies `{name}`");
                findings.push(
                    Diagnostic::error(codes::NAME_TAKEN, span.clone(), message, help).and(other, "the other one"),
                );
            }
        }
        if let Some(deny) = deny(&fields, name.map_or("", |(name, _)| name), policy, roles, findings) {
            denies.push(deny);
        }
    }
    denies
}

fn deny(
    fields: &Fields<'_, '_>,
    name: &str,
    policy: &Policy<'_>,
    roles: &Roles,
    findings: &mut Findings,
) -> Option<Deny> {
    let before = findings.errors();
    let reason = fields.need_text("reason", findings).map(|(text, _)| text.to_owned());
    let Rule { issuers, roles, conditions } = rule(fields, Origin::Deny, policy, roles, findings)?;
    if findings.errors() != before {
        return None;
    }
    Some(Deny { name: name.to_owned(), reason: reason?, issuers, roles, conditions, span: fields.span() })
}

/// What both kinds have in common.
struct Rule {
    issuers: Vec<IssuerId>,
    roles: Vec<RoleId>,
    conditions: Vec<Condition>,
}

fn rule(
    fields: &Fields<'_, '_>,
    origin: Origin,
    policy: &Policy<'_>,
    roles: &Roles,
    findings: &mut Findings,
) -> Option<Rule> {
    let before = findings.errors();
    let mut issuers = Vec::new();
    for (issuer, span) in fields.texts("issuers", findings).unwrap_or_default() {
        if policy.knows_issuer(issuer, &span, findings)
            && let Some((number, ..)) = policy.issuer(issuer)
        {
            issuers.push(IssuerId(number));
        }
    }
    let about = about(fields, policy, roles, findings);
    let keys = keys_of(fields.need("match", findings), origin, findings);
    let ground = Ground {
        issuers: policy
            .issuers
            .iter()
            .zip(policy.profiles.iter().copied())
            .enumerate()
            .filter(|(number, _)| issuers.is_empty() || issuers.contains(&IssuerId(*number as u16)))
            .map(|(_, issuer)| issuer)
            .collect(),
        sets: None,
        known: None,
        deny: true,
    };
    if ground.issuers.is_empty() {
        return None;
    }
    let compiled = conditions::compile(&ground, &keys, findings);
    let conditions = compiled.into_iter().map(|compiled| compiled.condition).collect();
    (findings.errors() == before).then_some(Rule { issuers, roles: about, conditions })
}

/// Every `[[never]]`.
pub(super) fn nevers(
    policy_fields: &Fields<'_, '_>,
    policy: &Policy<'_>,
    roles: &Roles,
    findings: &mut Findings,
) -> Vec<Never> {
    let mut nevers: Vec<Never> = Vec::new();
    for value in policy_fields.array("never", findings) {
        let Some(fields) = Fields::read(policy_fields.source, Place::Never, value, findings) else { continue };
        let name = fields.need_text("name", findings);
        if let Some((name, span)) = &name {
            names::check("never", name, span, findings);
            if let Some(other) = nevers.iter().find(|other| other.name == *name) {
                let help = "give one of the two another name: a proof that fails names its rule";
                let message = format!("there are two nevers `{name}`");
                let finding = Diagnostic::error(codes::NAME_TAKEN, span.clone(), message, help);
                findings.push(finding.and(other.span.clone(), "the other one"));
            }
        }
        let rule = rule(&fields, Origin::Never, policy, roles, findings);
        if let (Some((name, _)), Some(Rule { issuers, mut roles, conditions })) = (name, rule) {
            roles.sort_unstable();
            nevers.push(Never { name: name.to_owned(), issuers, roles, conditions, span: fields.span() });
        }
    }
    nevers
}

/// The roles that a rule is about; all where it names none.
fn about(fields: &Fields<'_, '_>, policy: &Policy<'_>, roles: &Roles, findings: &mut Findings) -> Vec<RoleId> {
    let all = || (0..roles.all.len() as u32).map(RoleId);
    let sensitivity = fields.text("sensitivity", findings);
    let listed = fields.texts("roles", findings);
    match (sensitivity, listed) {
        (Some((_, span)), Some(_)) => {
            findings.error(
                codes::MISPLACED_KEY,
                span,
                "a rule names `roles` or a `sensitivity`, not both",
                "keep one of the two, or write two rules",
            );
            Vec::new()
        }
        (Some((sensitivity, span)), None) => {
            policy.knows_sensitivity(sensitivity, &span, findings);
            all().filter(|role| roles.all[role.0 as usize].sensitivity == sensitivity).collect()
        }
        (None, Some(listed)) => {
            listed.into_iter().filter_map(|(role, span)| roles.find(role, &span, findings)).collect()
        }
        (None, None) => all().collect(),
    }
}
