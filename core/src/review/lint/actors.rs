//! What a mapping that takes who acts lets in beside them, and where their tokens cannot be told from others.

use super::{Bound, PRODUCTION};
use crate::{
    diag::Diagnostic,
    mapping::{Role, codes},
};

/// The job gets the role for itself as well: who reads the actor's conditions may take them for the way in.
pub(super) fn not_required(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some(rule) = bound.mapping.actor.as_ref().filter(|rule| !rule.required && bound.mapping.is_first()) else {
        return;
    };
    let Some((_, role)) = bound.roles().find(|(_, role)| role.sensitivity == PRODUCTION) else { return };
    let message = format!(
        "mapping {} gives the production role `{}` to its jobs by themselves, too, not only where somebody acts",
        bound.name(),
        role.name
    );
    let help = "write `required = true` if only who acts shall have it; else give the role by two mappings, one of them without `[mapping.actor]`, so that each says what it lets in";
    found.push(Diagnostic::error(codes::ACTOR_NOT_REQUIRED, rule.span.clone(), message, help).warning());
}

/// Nothing of what the actor is to bring is ever made.
pub(super) fn audience_of_nobody(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some(rule) = bound.mapping.actor.as_ref().filter(|_| bound.mapping.is_first()) else { return };
    let Some(wanted) = &rule.audience else { return };
    if bound.set.roles.iter().any(|role| audience(role).and_then(toml::Value::as_str) == Some(wanted)) {
        return;
    }
    let message = format!(
        "mapping {} takes an actor that exchanges tokens for `{wanted}`, and no `jwt` role makes any",
        bound.name()
    );
    let help = "write the `audience` of a `jwt` role, exactly as it stands there";
    found.push(Diagnostic::error(codes::AUDIENCE_OF_NOBODY, rule.span.clone(), message, help).warning());
}

fn audience(role: &Role) -> Option<&toml::Value> {
    role.parameters.values.get("audience").map(|(value, _)| value).filter(|_| role.kind == "jwt")
}

/// Relying parties often ignore `act`: an audience of its own is what they tell tokens of who acts by.
pub(super) fn shared_audience(bound: &Bound<'_>, found: &mut Vec<Diagnostic>) {
    let Some(rule) = bound.mapping.actor.as_ref().filter(|_| bound.mapping.is_first()) else { return };
    for (id, role) in bound.roles() {
        let Some(own) = audience(role) else { continue };
        let others = bound.set.roles.iter().enumerate().filter(|(at, _)| *at != id.0 as usize);
        let Some((_, other)) = others.into_iter().find(|(_, other)| audience(other) == Some(own)) else { continue };
        let message = format!(
            "mapping {} lets somebody act and have `{}`, whose audience role `{}` has, too",
            bound.name(),
            role.name,
            other.name
        );
        let help = "give the role an audience of its own: a relying party that ignores `act` cannot tell who acts from the job itself";
        let finding = Diagnostic::error(codes::ACTOR_AUDIENCE, rule.span.clone(), message, help);
        found.push(finding.and(other.parameters.span.clone(), "the other role").warning());
        return;
    }
}
