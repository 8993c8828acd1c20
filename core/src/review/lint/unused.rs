//! Roles that nobody can get, and targets that no role has.

use crate::{
    diag::Diagnostic,
    mapping::{MappingSet, codes},
};
use std::collections::BTreeSet;

pub(super) fn roles(set: &MappingSet, found: &mut Vec<Diagnostic>) {
    let given: BTreeSet<_> = set.mappings.iter().flat_map(|mapping| &mapping.roles).collect();
    // Roles of one table stand at one place: told once, together.
    let mut at = 0;
    while at < set.roles.len() {
        let span = &set.roles[at].span;
        let family: Vec<_> = (at..set.roles.len()).take_while(|other| set.roles[*other].span == *span).collect();
        let idle: Vec<_> = family
            .iter()
            .filter(|role| !given.contains(&crate::mapping::RoleId(**role as u32)))
            .map(|role| format!("`{}`", set.roles[*role].name))
            .collect();
        if !idle.is_empty() {
            let message = match &idle[..] {
                [role] => format!("no mapping gives {role}"),
                roles => format!("no mapping gives {}", roles.join(", ")),
            };
            let help = "bind it in a mapping, or remove it: a role that nobody gets is one that nobody reviews";
            found.push(Diagnostic::error(codes::UNUSED_ROLE, span.clone(), message, help).warning());
        }
        at += family.len();
    }
}

pub(super) fn targets(set: &MappingSet, found: &mut Vec<Diagnostic>) {
    for (name, span) in &set.unused_targets {
        let message = format!("no role has the target `{name}`");
        let help = format!("write it in the `targets` of a role, or remove `[target.{name}]`");
        found.push(Diagnostic::error(codes::UNUSED_TARGET, span.clone(), message, help).note());
    }
}
