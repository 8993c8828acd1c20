//! Where people sign in, and what the mapping folder says of people, fitted to each other: who is named in one and unknown in the
//! other would be found out only when somebody waits for them.

use crate::config::Config;
use claimbound_core::{
    diag::{Code, Diagnostic, Span, did_you_mean},
    mapping::{Mapping, MappingId, MappingSet},
};
use std::collections::BTreeSet;

const NOT_IN_POLICY: Code = Code(1009);
const NOT_IN_CONFIGURATION: Code = Code(540);

/// What does not fit.
pub(super) fn judged(config: &Config, set: &MappingSet) -> Vec<Diagnostic> {
    let known = |name: &String| set.issuer_named(name).is_some();
    let sensitive = |name: &String| set.roles.iter().any(|role| role.sensitivity == *name);
    let mut found = Vec::new();
    for sign_in in &config.sign_ins {
        let (issuers, levels) = (sign_in.forge_id_claim.keys(), sign_in.sensitivity.keys());
        let issuers = issuers.filter(|name| !known(name)).map(|name| ("issuer of the folder is called so", name));
        let levels =
            levels.filter(|name| !sensitive(name)).map(|name| ("role of the folder has this sensitivity", name));
        for (what, name) in issuers.chain(levels) {
            let policy = Span::new("policy.toml", 0..0);
            let message = format!("`[[sign_in]]` `{}` speaks of `{name}`, and no {what}", sign_in.name);
            found.push(Diagnostic::error(NOT_IN_POLICY, policy, message, "name it in both, or in neither"));
        }
    }
    for name in config.forges.keys().filter(|name| !known(name)) {
        let message = format!("the configuration has `[forge.{name}]`, and policy.toml names no such issuer");
        let help = "call it as policy.toml calls the issuer whose accounts it shows";
        found.push(Diagnostic::error(NOT_IN_POLICY, Span::new("policy.toml", 0..0), message, help));
    }
    let names: BTreeSet<&str> = config.sign_ins.iter().map(|sign_in| sign_in.name.as_str()).collect();
    let mappings = (0..).map(MappingId).zip(&set.mappings);
    for (id, mapping) in mappings.filter(|(_, mapping)| mapping.is_first() && !mapping.shadow) {
        found.extend(answered(set, id, mapping, &names));
    }
    found
}

/// A ceremony whose approvers nobody can be is an error; one some of whose approvers are known nowhere a warning.
fn answered(set: &MappingSet, id: MappingId, mapping: &Mapping, names: &BTreeSet<&str>) -> Option<Diagnostic> {
    let rule = mapping.ceremony.as_ref()?;
    let of = |approvers: &[claimbound_core::ceremony::Approver]| {
        approvers.iter().map(|one| one.sign_in.clone()).collect::<BTreeSet<_>>()
    };
    let named = of(&rule.approvers);
    let unknown = named.iter().find(|name| !names.contains(name.as_str()));
    let shut_out = mapping.roles.iter().find(|role| {
        let floor = set.ceremony(id, **role).and_then(|terms| terms.floor).map(|floor| of(&floor.approvers));
        let within = floor.filter(|within| !within.is_empty());
        let may =
            |name: &&String| names.contains(name.as_str()) && within.as_ref().is_none_or(|all| all.contains(*name));
        !named.iter().any(|name| may(&name))
    });
    let help = |name: &str| match did_you_mean(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`, in the approvers or in the configuration?"),
        None => format!("write a `[[sign_in]]` with `name = \"{name}\"` in the configuration, or name other approvers"),
    };
    let finding =
        |message: String, help: String| Diagnostic::error(NOT_IN_CONFIGURATION, rule.span.clone(), message, help);
    let name = &mapping.name;
    match (shut_out, unknown) {
        (Some(_), Some(sign_in)) => {
            let message =
                format!("nobody can claim what mapping `{name}` gives: there is no `[[sign_in]]` `{sign_in}`");
            Some(finding(message, help(sign_in)))
        }
        (Some(role), None) => {
            let (role, sensitivity) = (&set.role(*role).name, &set.role(*role).sensitivity);
            let message = format!(
                "nobody can claim `{role}` by mapping `{name}`: its approvers, and those of `[sensitivity.{sensitivity}.ceremony]`, \
                 have no `[[sign_in]]` of the configuration in common"
            );
            Some(finding(message, "name approvers of one sign-in in both".to_owned()))
        }
        (None, Some(sign_in)) => {
            let message =
                format!("an approver of mapping `{name}` is known by `{sign_in}`, and there is no such `[[sign_in]]`");
            Some(finding(message, help(sign_in)).warning())
        }
        (None, None) => None,
    }
}
