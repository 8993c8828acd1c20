//! Conditions on the ref that say nothing, and production that has none.

use super::{Bound, PRODUCTION, REFS};
use crate::{
    diag::Diagnostic,
    lang::pattern::{Lang, PatternError},
    mapping::{Condition, Test, codes},
    workload::Claim,
};

pub(super) fn matched(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    for condition in &bound.mapping.conditions {
        let Some(what) = all_of(condition) else { continue };
        let message = format!("`{}` of mapping {} holds for {what}", condition.claim.name(), bound.name());
        let help = match &condition.claim {
            claim if *claim == Claim::Ref => "remove it, or name refs: `branch = \"main\"`".to_owned(),
            claim => format!(
                "name some, such as `{0} = \"…\"`; where any will do, `{0} = {{ present = true }}` says so",
                claim.name()
            ),
        };
        found.push(Diagnostic::error(codes::EVERY_REF, condition.span.clone(), message, help).warning());
    }
    let Some((role, named)) = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION) else { return };
    let narrowed = bound.demands(role, &REFS) || bound.demands(role, &[Claim::Environment]);
    if bound.profile.provides(Claim::Ref) && !narrowed && !bound.demands_protection(role) {
        let message = format!("mapping {} gives `{}` to jobs of every ref", bound.name(), named.name);
        let help = "add `branch = \"main\"`, or `ref_protected = true`";
        found.push(Diagnostic::error(codes::EVERY_REF, bound.mapping.span.clone(), message, help).warning());
    }
}

/// What a condition on refs leaves out nothing of.
fn all_of(condition: &Condition) -> Option<&'static str> {
    let (prefixes, what): (&[&str], _) = match condition.claim.canonical()? {
        Claim::Branch => (&[""], "every branch"),
        Claim::Tag => (&[""], "every tag"),
        Claim::Ref => (&["refs/heads/", "refs/tags/"], "every ref"),
        _ => return None,
    };
    let all = condition.test.parts().iter().any(|part| match part {
        Test::Text(lang) => lang.is_anything() || has_all(lang, prefixes).unwrap_or(false),
        Test::Present => condition.claim == Claim::Ref,
        _ => false,
    });
    all.then_some(what)
}

/// Whether all texts with these beginnings are in the set. Most sets show at one text that they are not.
fn has_all(lang: &Lang, prefixes: &[&str]) -> Result<bool, PatternError> {
    let unusual = |prefix: &&str| lang.matches(&format!("{prefix}9-z")) && lang.matches(&format!("{prefix}Q/x.7"));
    if !prefixes.iter().all(unusual) {
        return Ok(false);
    }
    for prefix in prefixes {
        let texts = if prefix.is_empty() { Lang::texts() } else { Lang::texts().after(prefix)? };
        if !texts.is_subset(lang)? {
            return Ok(false);
        }
    }
    Ok(true)
}
