//! `{target.x}` and `{claim.x}` in a role's parameters.
//!
//! What a target says is filled in here, so that a compiled role knows no targets. What a claim says is filled in at
//! issuance; here it is only made sure that no job can choose it: an immutable id, or a claim that the mapping or
//! `require` fixes. A key that begins with `info_` may hold anything, because nothing decides by it.

use super::policy::Target;
use crate::{
    diag::{Span, did_you_mean},
    mapping::{
        codes,
        syntax::{Findings, Source, Value},
    },
    workload::{Claim, Kind},
};
use toml::de::DeValue;

/// What filling one table found.
pub(super) struct Filling<'a, 'f> {
    pub(super) source: &'a Source<'f>,
    /// The target's name and values, if the role has targets.
    pub(super) target: Option<(&'a str, &'a Target)>,
    /// Claims that something must fix, with the place that names them.
    pub(super) to_fix: Vec<(Claim, Span)>,
}

impl Filling<'_, '_> {
    /// A value with its targets filled in; `None` where it cannot be.
    pub(super) fn value(&mut self, key: &str, value: &Value<'_>, findings: &mut Findings) -> Option<toml::Value> {
        Some(match value.get_ref() {
            DeValue::String(text) => toml::Value::String(self.text(key, text, value.span(), findings)?),
            DeValue::Integer(number) => {
                toml::Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
            }
            DeValue::Float(number) => toml::Value::Float(number.as_str().parse().ok()?),
            DeValue::Boolean(value) => toml::Value::Boolean(*value),
            DeValue::Datetime(date) => toml::Value::Datetime(*date),
            DeValue::Array(list) => {
                toml::Value::Array(list.iter().filter_map(|element| self.value(key, element, findings)).collect())
            }
            DeValue::Table(table) => toml::Value::Table(
                table
                    .iter()
                    .filter_map(|(key, value)| {
                        Some((key.get_ref().to_string(), self.value(key.get_ref(), value, findings)?))
                    })
                    .collect(),
            ),
        })
    }

    fn text(
        &mut self,
        key: &str,
        text: &str,
        bytes: std::ops::Range<usize>,
        findings: &mut Findings,
    ) -> Option<String> {
        let span = self.source.span(bytes);
        let bad = |findings: &mut Findings, message: String| {
            let help = "placeholders are `{target.KEY}` and `{claim.NAME}`; every other brace is refused";
            findings.error(codes::BAD_PLACEHOLDER, span.clone(), message, help);
            None
        };
        let (mut filled, mut rest, mut claims) = (String::new(), text, 0);
        while let Some(open) = rest.find(['{', '}']) {
            filled.push_str(&rest[..open]);
            let Some((inside, after)) = rest[open..].strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
                return bad(findings, format!("`{key}` holds a brace that is no placeholder"));
            };
            rest = after;
            if let Some(name) = inside.strip_prefix("target.") {
                filled.push_str(&self.target_value(name, &span, findings)?);
            } else if let Some(name) = inside.strip_prefix("claim.") {
                let Some(claim) = Claim::from_name(name) else {
                    let meant = did_you_mean(name, Claim::ALL.iter().map(|claim| claim.name()));
                    let meant = match (meant, name.strip_prefix("claims")) {
                        (_, Some(_)) => ": what a token says beside the canonical claims fills nothing in".to_owned(),
                        (Some(meant), None) => format!(": did you mean `{meant}`?"),
                        (None, None) => String::new(),
                    };
                    return bad(findings, format!("`{{claim.{name}}}` names no canonical claim{meant}"));
                };
                claims += 1;
                filled.push_str(&format!("{{claim.{name}}}"));
                if !is_immutable(claim) && !key.starts_with("info_") {
                    self.to_fix.push((claim, span.clone()));
                }
            } else {
                return bad(findings, format!("`{{{inside}}}` in `{key}` is no placeholder"));
            }
        }
        if claims > 1 {
            return bad(
                findings,
                format!(
                    "`{key}` holds more than one `{{claim.…}}`: where one ends and the next begins could not be told"
                ),
            );
        }
        filled.push_str(rest);
        Some(filled)
    }

    fn target_value(&self, name: &str, span: &Span, findings: &mut Findings) -> Option<String> {
        let Some((target_name, target)) = self.target else {
            findings.error(
                codes::UNKNOWN_TARGET_KEY,
                span.clone(),
                format!("`{{target.{name}}}` in a role without targets"),
                "give the role `targets = […]`, or write the value itself",
            );
            return None;
        };
        let value = target.values.get(name);
        if value.is_none() {
            let help = match did_you_mean(name, target.values.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{{target.{meant}}}`?"),
                None => format!("add `{name} = \"…\"` to `[target.{target_name}]` in `policy.toml`"),
            };
            let message = format!("target `{target_name}` has no `{name}`");
            findings.error(codes::UNKNOWN_TARGET_KEY, span.clone(), message, help);
        }
        value.cloned()
    }
}

/// Ids that the forge never gives to another.
fn is_immutable(claim: Claim) -> bool {
    claim.kind() == Kind::Id && matches!(claim, Claim::RepositoryId | Claim::RepositoryOwnerId | Claim::InitiatorId)
}
