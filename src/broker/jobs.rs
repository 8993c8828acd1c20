//! Which CI jobs may act as operators: `[[operator]] issuer = …` of the configuration, judged by the mapping language.
//!
//! Each becomes a mapping of a folder that is made up for it, which gives a role of sensitivity `production`. So its
//! conditions mean what a mapping's do, the same pins are asked for, events are the profile's default ones, and the
//! platform's denies for production hold. The folder is judged by the one evaluator and can give nothing.

use crate::{
    config::{Config, OperatorRule, Who},
    operators::May,
};
use claimbound_core::{
    diag::{Code, Diagnostic, Severity, Span, did_you_mean},
    mapping::{Ask, Decision, Folder, MappingSet, decide, load},
    time::UnixSeconds,
    workload::{Case, Profiles},
};
use std::{collections::BTreeSet, sync::Arc};
use toml::{Table, Value};

/// What an `[[operator]]` says of jobs cannot be.
const OPERATOR: Code = Code(1008);

/// Jobs that may act as operators.
#[derive(Default)]
pub(super) struct OperatorJobs {
    /// `None`: there are none.
    set: Option<MappingSet>,
    /// A role each, at the place of its name's number.
    may: Vec<BTreeSet<May>>,
}

impl OperatorJobs {
    /// # Errors
    /// What is wrong with the conditions, each named by its line in the configuration.
    pub(super) fn compile(config: &Config, known: &MappingSet, folder: &Folder) -> Result<Self, Vec<Diagnostic>> {
        let rules: Vec<(&OperatorRule, &str, &str)> = config
            .operators
            .iter()
            .filter_map(|rule| match &rule.who {
                Who::Job { issuer, matches } => Some((rule, issuer.as_str(), matches.as_str())),
                Who::Person { .. } => None,
            })
            .collect();
        if rules.is_empty() {
            return Ok(Self::default());
        }
        let at = |rule: &OperatorRule, code: Code, message: &str, help: String| {
            // Not a place of the folder.
            let span = Span::new("policy.toml", 0..0);
            let message = format!("the `[[operator]]` in line {} of `{}`: {message}", rule.line, config.file.display());
            Diagnostic { span: None, ..Diagnostic::error(code, span, message, help) }
        };
        let issuers: Vec<Arc<str>> = known.issuers.iter().map(|issuer| issuer.name.clone()).collect();
        let unknown = |(rule, issuer, _): &(&OperatorRule, &str, &str)| {
            let names = || issuers.iter().map(|name| &**name);
            if names().any(|name| name == *issuer) {
                return None;
            }
            let help = match did_you_mean(issuer, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("policy.toml has {}", names().collect::<Vec<_>>().join(", ")),
            };
            Some(at(rule, OPERATOR, &format!("policy.toml names no issuer `{issuer}`"), help))
        };
        let found: Vec<Diagnostic> = rules.iter().filter_map(unknown).collect();
        if !found.is_empty() {
            return Err(found);
        }
        let made = made_up(folder, &rules).map_err(|why| vec![at(rules[0].0, OPERATOR, &why, String::new())])?;
        let loaded = load(&made, &Profiles::builtin());
        let errors = loaded.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let found: Vec<Diagnostic> = errors
            .map(|found| {
                let file = found.span.as_ref().map_or("", |span| &span.file);
                let of = (0..rules.len()).find(|number| file == team_file(*number)).unwrap_or(0);
                let help = found.help.clone().unwrap_or_else(|| "conditions are written as in a mapping".to_owned());
                at(rules[of].0, found.code, &found.message, help)
            })
            .collect();
        match loaded.set {
            Some(set) if found.is_empty() => {
                Ok(Self { set: Some(set), may: rules.iter().map(|(rule, ..)| rule.may.clone()).collect() })
            }
            _ => Err(found),
        }
    }

    /// Whether no job is one.
    pub(super) fn is_empty(&self) -> bool {
        self.may.is_empty()
    }

    /// What this job may do; nothing, if it is no operator.
    pub(super) fn may(&self, case: &Case<'_>, now: UnixSeconds) -> BTreeSet<May> {
        let Some(set) = &self.set else { return BTreeSet::new() };
        let holds = |number: &usize| {
            let role = role(*number);
            matches!(decide(set, case, &Ask { role: Some(&role), ..Ask::default() }, now), Decision::Grant(_))
        };
        (0..self.may.len()).filter(holds).flat_map(|number| &self.may[number]).copied().collect()
    }
}

fn role(number: usize) -> String {
    format!("operator-{}", number + 1)
}

fn team_file(number: usize) -> String {
    format!("teams/operators/{}.toml", role(number))
}

/// Issuers, profiles, sensitivities and denies of the real folder, and for each rule a role and a mapping.
fn made_up(folder: &Folder, rules: &[(&OperatorRule, &str, &str)]) -> Result<Folder, String> {
    let policy = folder.files.get("policy.toml").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let mut policy: Table = policy.parse().map_err(|error: toml::de::Error| error.to_string())?;
    policy.retain(|key, _| ["format", "issuer", "sensitivity", "deny"].contains(&key));
    // A deny of some roles is about those.
    if let Some(Value::Array(denies)) = policy.get_mut("deny") {
        denies.retain(|deny| deny.get("roles").is_none());
    }
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |all: Vec<&str>| Value::Array(all.into_iter().map(text).collect());
    let issuers: BTreeSet<&str> = rules.iter().map(|(_, issuer, _)| *issuer).collect();
    let team = [("path", text("teams/operators")), ("issuers", texts(issuers.into_iter().collect()))];
    let table = |pairs: Vec<(&str, Value)>| {
        Value::Table(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    policy.insert("team".to_owned(), table(vec![("operators", table(team.to_vec()))]));
    let mut made = Folder::default();
    let mut put = |path: String, table: Table| -> Result<(), String> {
        made.files.insert(path, toml::to_string(&table).map_err(|error| error.to_string())?.into_bytes());
        Ok(())
    };
    put("policy.toml".to_owned(), policy)?;
    let mut roles = Table::new();
    for (number, (_, issuer, matches)) in rules.iter().enumerate() {
        let name = role(number);
        let one = vec![
            ("description", text("Acts as an operator")),
            ("backend", text("jwt")),
            ("teams", texts(vec!["operators"])),
            ("issuers", texts(vec![issuer])),
            ("sensitivity", text("production")),
            ("jwt", table(vec![("audience", text("urn:claimbound:operator"))])),
        ];
        roles.insert(name.clone(), table(one));
        let matches: Table = matches.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mapping = vec![
            ("name", text(&name)),
            ("description", text("Acts as an operator")),
            ("issuer", text(issuer)),
            ("roles", texts(vec![&name])),
            ("match", Value::Table(matches)),
        ];
        let mapping = Value::Array(vec![table(mapping)]);
        put(team_file(number), [("mapping".to_owned(), mapping)].into_iter().collect())?;
    }
    put("roles/operators.toml".to_owned(), [("role".to_owned(), Value::Table(roles))].into_iter().collect())?;
    let own = folder.files.iter().filter(|(path, _)| path.starts_with("profiles/"));
    made.files.extend(own.map(|(path, bytes)| (path.clone(), bytes.clone())));
    Ok(made)
}

#[cfg(test)]
mod tests;
