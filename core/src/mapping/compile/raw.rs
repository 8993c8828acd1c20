//! `claims."name"`: conditions on what a token says beside the canonical claims.
//!
//! A value has the type in which it is written: texts look at a text or at a list's elements, booleans and integers at
//! booleans and integers of the token. Nothing is converted, and one condition asks for one type.

use super::{
    conditions::{Shape, suggestion},
    values::{Spot, Values},
};
use crate::{
    diag::{Diagnostic, Span, did_you_mean},
    lang::pattern::{Lang, Segments},
    mapping::{
        Condition, Test, codes,
        syntax::{Entry, Value, describe},
    },
    workload::{ClaimKey, RawClaim, RawKind},
};
use std::collections::HashSet;
use toml::de::DeValue;

/// The key of match tables under which raw claims stand.
pub(in crate::mapping) const CLAIMS: &str = "claims";

/// Claims that the broker judges by itself before any mapping is looked at, and what to do instead.
const JUDGED: [(&str, &str); 8] = [
    ("iss", "name the issuer: `issuer = \"…\"` in the mapping or in `[file]`"),
    ("aud", "remove it: a token for another audience than the broker's is refused before any mapping is looked at"),
    ("exp", "remove it: expired tokens are refused; a mapping ends with `expires = …`"),
    ("nbf", "remove it: tokens that are not valid yet are refused before any mapping is looked at"),
    ("iat", "remove it: the age of a token is judged before any mapping is looked at"),
    ("jti", "remove it: each token has another, and each is good for one exchange"),
    ("act", "remove it: without `[mapping.actor]` a token with an actor is refused"),
    ("may_act", "remove it: whom a token lets act is judged before any mapping is looked at"),
];

/// What a condition asks a value to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Type {
    Text,
    Boolean,
    Integer,
}

impl Type {
    fn of(test: &Test) -> Option<Self> {
        match test {
            Test::Text(_) | Test::Every(_) => Some(Self::Text),
            Test::Is(_) => Some(Self::Boolean),
            Test::Integer(_) => Some(Self::Integer),
            _ => None,
        }
    }
    fn words(self) -> &'static str {
        match self {
            Self::Text => "texts",
            Self::Boolean => "booleans",
            Self::Integer => "integers",
        }
    }
}

impl Values<'_, '_> {
    /// The table `claims`. `seen`: raw claims of the rule so far, with the key that names them.
    pub(super) fn raw_claims(&mut self, entry: Entry<'_, '_>, seen: &mut Vec<(RawClaim, Span)>) {
        let entries = entry.entries(self.findings);
        if entry.value.get_ref().as_table().is_some_and(|table| table.is_empty()) {
            let help = "write `claims.\"name\" = …`, or remove the table";
            self.findings.error(codes::EMPTY_LIST, entry.value_span(), "`claims` is empty", help);
        }
        for key in entries {
            let Some(raw) = self.raw_name(key) else { continue };
            if let Some((_, other)) = seen.iter().find(|(known, _)| *known == raw) {
                let finding = Diagnostic::error(
                    codes::KEY_IN_BOTH,
                    key.span(),
                    format!("`{}` stands in two places", raw.name()),
                    "keep it in one of the two; neither overrides the other",
                );
                self.findings.push(finding.and(other.clone(), "the other one"));
                continue;
            }
            seen.push((raw.clone(), key.span()));
            let before = self.findings.errors();
            let mut spot = Spot { name: raw.name().into(), ..Spot::of(key) };
            let Some(tests) = self.raw_value(&mut spot, key.value) else {
                debug_assert!(self.findings.errors() > before, "what cannot be read is told");
                continue;
            };
            self.raw_types(&raw, &spot, &tests, key.value);
            if self.findings.errors() > before {
                continue;
            }
            for test in tests {
                let (claim, origin) = (ClaimKey::Raw(raw.clone()), self.origin);
                let condition =
                    Condition { claim, test, if_unknown_ignore: spot.ignore, origin, span: spot.span.clone() };
                // Whatever it says, it pins nothing and fixes no placeholder.
                self.out.push(super::conditions::Compiled { condition, shape: Shape::Other });
            }
        }
    }

    /// The claim that a key names, if a mapping may ask for it so.
    fn raw_name(&mut self, key: Entry<'_, '_>) -> Option<RawClaim> {
        let written = key.name();
        let raw = match RawClaim::read(written) {
            Ok(raw) => raw,
            Err(error) => {
                let help = "write a claim's name as the token has it, or a JSON pointer to a nested one: \
                            `claims.\"/kubernetes.io/namespace\"`";
                let message = format!("`{written}` names no claim: {error}");
                self.findings.error(codes::RAW_NAME, key.key_span(), message, help);
                return None;
            }
        };
        if let Some((_, help)) = JUDGED.iter().find(|(name, _)| *name == &*raw.path()[0]) {
            let message = format!("`{written}` is no claim that a mapping asks for");
            self.findings.error(codes::RAW_JUDGED, key.key_span(), message, *help);
            return None;
        }
        let native = raw.native();
        let profiles = || self.ground.issuers.iter().map(|(_, profile)| *profile);
        if let Some(claim) = profiles().find_map(|profile| profile.canonical_of(&native)) {
            let canonical = claim.name().split_once('.').map_or(claim.name(), |(workflow, _)| workflow);
            let table = super::conditions::table_name(self.origin);
            // A workflow is written by its parts.
            let value = key.source.text.get(key.value.span()).filter(|_| canonical == claim.name()).unwrap_or("…");
            self.findings.error(
                codes::NATIVE_CLAIM,
                key.key_span(),
                format!("`{written}` is the issuer's own name of the claim `{canonical}`"),
                format!("write `{canonical} = {value}` in `[{table}]`, without `claims`"),
            );
            return None;
        }
        if let Some(claim) = profiles().find_map(|profile| profile.canonical_inside(&native)) {
            let message = format!("`{written}` holds the claim `{}`", claim.name());
            let help = format!("write a condition on `{}`, or a pointer to what else is in it", claim.name());
            self.findings.error(codes::NATIVE_CLAIM, key.key_span(), message, help);
            return None;
        }
        let kinds: Vec<_> = profiles().map(|profile| profile.raw_claim(&native)).collect();
        if kinds.iter().all(Option::is_none) {
            self.unlisted(key, &native);
        }
        let joined = |kind: &Option<(RawKind, _)>| matches!(kind, Some((RawKind::CommaList, _)));
        match (kinds.iter().any(joined), kinds.iter().all(joined)) {
            (true, true) => Some(raw.joined()),
            (true, false) => {
                let message = format!("`{written}` is a list for some of {} alone", self.ground.issuer_names());
                let help = "name the issuers in whose tokens it means one thing: `issuers = [\"…\"]`";
                self.findings.error(codes::RAW_DIFFERS, key.key_span(), message, help);
                None
            }
            _ => Some(raw),
        }
    }

    /// A claim of which no profile says anything: one's own, or a slip of the pen.
    fn unlisted(&mut self, key: Entry<'_, '_>, native: &str) {
        let profiles = || self.ground.issuers.iter().map(|(_, profile)| *profile);
        let known: Vec<&str> = profiles().flat_map(|profile| profile.raw_names()).collect();
        let message = format!(
            "no profile knows `{native}`: whoever writes a job of {} may be able to choose it",
            self.ground.issuer_names()
        );
        let finding = match did_you_mean(native, known.iter().copied()) {
            Some(meant) => {
                let text = format!("did you mean `{meant}`?");
                let mut finding = Diagnostic::error(codes::RAW_UNLISTED, key.key_span(), message, text.clone());
                finding.suggestion = Some(suggestion(key.key_span(), format!("\"{meant}\""), &text));
                finding.warning()
            }
            None => {
                let help = "nothing, if your own system sends it; a profile of one's own can say who sets it";
                Diagnostic::error(codes::RAW_UNLISTED, key.key_span(), message, help).note()
            }
        };
        self.findings.push(finding);
    }

    /// What the profiles know of the claim's type, and what can hold at all.
    fn raw_types(&mut self, raw: &RawClaim, spot: &Spot<'_, '_>, tests: &[Test], value: &Value<'_>) {
        let mut asked = tests.iter().flat_map(Test::parts).filter_map(Type::of);
        let native = raw.native();
        let kinds = self.ground.issuers.iter().filter_map(|(_, profile)| profile.raw_claim(&native));
        let wanted = |kind| if kind == RawKind::Boolean { Type::Boolean } else { Type::Text };
        let kinds: Vec<Type> = kinds.map(|(kind, _)| wanted(kind)).collect();
        if let Some(wrong) = asked.find(|asked| kinds.iter().any(|kind| kind != asked)) {
            let wanted = kinds.iter().find(|kind| **kind != wrong).map_or("others", |kind| kind.words());
            let message = format!("`{}` is asked for {}, and its values are {wanted}", spot.name, wrong.words());
            let help = "write the value in the token's own type: `claimbound profile show` lists it";
            self.findings.error(codes::RAW_TYPE, spot.source.span(value.span()), message, help);
        }
        let asks_nothing = |test: &Test| matches!(test, Test::Absent) && (!self.ground.deny || spot.ignore);
        if tests.iter().flat_map(Test::parts).any(asks_nothing) {
            let message = format!("`{}` can never be known to be absent", spot.name);
            let help = "no profile proves that a token has no such claim, so the condition never holds; ask for a value \
                        that it must have, or write a `[[deny]]` for jobs that have it";
            self.findings.error(codes::RAW_ABSENT, spot.source.span(value.span()), message, help);
        }
    }

    /// The tests that a value means, all of which must hold.
    fn raw_value(&mut self, spot: &mut Spot<'_, '_>, value: &Value<'_>) -> Option<Vec<Test>> {
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let message = format!("`{}` is an empty list", spot.name);
                let help = "name at least one value; an empty list is never read as all nor as none";
                self.findings.error(codes::EMPTY_LIST, spot.source.span(value.span()), message, help);
                None
            }
            DeValue::Array(list) if list.iter().any(|element| element.get_ref().is_table()) => {
                let written = spot.source.text.get(value.span()).unwrap_or("[ … ]");
                self.findings.edit(
                    codes::BAD_OPERATOR,
                    spot.source.span(value.span()),
                    format!("the list of `{}` mixes exact values with other forms", spot.name),
                    "write `{ any = [ … ] }`: a plain list holds exact values alone",
                    format!("{{ any = {written} }}"),
                );
                None
            }
            DeValue::Array(list) => {
                let mut written = HashSet::new();
                for element in list.iter() {
                    let text = spot.source.text.get(element.span()).unwrap_or_default();
                    if !written.insert(text) {
                        let at = spot.source.span(element.span());
                        let message = format!("`{text}` is listed twice in `{}`", spot.name);
                        self.findings.error(codes::MEMBER_REPEATED, at, message, "remove one of the two");
                        return None;
                    }
                }
                self.raw_any(spot, value, list, false)
            }
            DeValue::Table(_) => self.raw_operator(spot, value),
            _ => self.raw_bare(spot, value, true).map(|test| vec![test]),
        }
    }

    /// One exact value.
    fn raw_bare(&mut self, spot: &Spot<'_, '_>, value: &Value<'_>, alone: bool) -> Option<Test> {
        let at = spot.source.span(value.span());
        match value.get_ref() {
            DeValue::Boolean(wanted) => Some(Test::Is(*wanted)),
            DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Some(Test::Integer([number].into())),
                Err(_) => {
                    let message = format!("`{}` is no integer that a token can be asked for", spot.name);
                    let help = "write an integer of at most 64 bits";
                    self.findings.error(codes::WRONG_TYPE, at, message, help);
                    None
                }
            },
            DeValue::String(_) => {
                let text = self.literal(spot, value, alone)?;
                Some(Test::Text(Lang::exact(&text, false)))
            }
            _ => {
                let message =
                    format!("`{}` must be a text, a boolean or an integer, not {}", spot.name, describe(value));
                self.findings.error(codes::WRONG_TYPE, at, message, "write the value as the token has it");
                None
            }
        }
    }

    /// Any of these, of one type.
    fn raw_any(
        &mut self,
        spot: &mut Spot<'_, '_>,
        value: &Value<'_>,
        list: &[Value<'_>],
        forms: bool,
    ) -> Option<Vec<Test>> {
        let before = self.findings.errors();
        let (mut texts, mut numbers, mut others): (Option<Lang>, Vec<i64>, Vec<Test>) = (None, Vec::new(), Vec::new());
        for element in list {
            let found = match element.get_ref() {
                DeValue::Array(_) | DeValue::Table(_) if forms => {
                    let ignored = spot.ignore;
                    spot.ignore = false;
                    let found = self.raw_value(spot, element);
                    if std::mem::replace(&mut spot.ignore, ignored) {
                        let message = "`if_unknown` stands inside `any`".to_owned();
                        let help = "write it beside `any`: `{ any = [ … ], if_unknown = \"ignore\" }`";
                        self.bad(spot, element, message, help);
                    }
                    found
                }
                _ => self.raw_bare(spot, element, false).map(|test| vec![test]),
            };
            let test = match <[Test; 1]>::try_from(found.unwrap_or_default()) {
                Ok([test]) => test,
                Err(none) if none.is_empty() => continue,
                Err(_) => {
                    let message = "`all` stands inside `any`".to_owned();
                    self.bad(spot, element, message, "write an alternative for each: `[[mapping.any]]`");
                    continue;
                }
            };
            match test {
                Test::Text(lang) => match texts.take().map_or(Ok(lang.clone()), |texts| texts.union(&lang)) {
                    Ok(both) => texts = Some(both),
                    Err(error) => {
                        let at = spot.source.span(element.span());
                        let message = format!("the patterns of `{}` are too much together: {error}", spot.name);
                        let help = "write fewer wildcards, or a mapping for each";
                        self.findings.error(codes::BAD_PATTERN, at, message, help);
                    }
                },
                Test::Integer(more) => numbers.extend(more),
                Test::Any(tests) => others.extend(tests),
                test => others.push(test),
            }
        }
        if self.findings.errors() != before {
            return None;
        }
        others.extend(texts.map(Test::Text));
        others.extend((!numbers.is_empty()).then_some(Test::Integer(numbers.into())));
        let mut types = others.iter().filter_map(Type::of);
        if let Some(first) = types.next()
            && let Some(other) = types.find(|other| *other != first)
        {
            let message = format!("`{}` is asked for {} and for {}", spot.name, first.words(), other.words());
            let help = "keep to one type: a claim has one, and nothing is converted";
            self.findings.error(codes::RAW_TYPE, spot.source.span(value.span()), message, help);
            return None;
        }
        Some(match <[Test; 1]>::try_from(others) {
            Ok([test]) => vec![test],
            Err(tests) => vec![Test::Any(tests.into())],
        })
    }

    fn raw_operator(&mut self, spot: &mut Spot<'_, '_>, value: &Value<'_>) -> Option<Vec<Test>> {
        let mut ignore = spot.ignore;
        let entry = self.one_operator(spot, value, &mut ignore)?;
        spot.ignore = ignore;
        let operand = entry.value;
        match (entry.name(), operand.get_ref()) {
            (operator @ ("glob" | "under" | "not_prefix"), DeValue::String(text)) => {
                let lang = match operator {
                    "glob" => Lang::glob(text, Segments::Path, false),
                    "under" => Lang::under(text, false),
                    _ => Lang::not_prefix(text, false),
                };
                match lang {
                    Ok(lang) if operator == "not_prefix" => Some(vec![Test::Every(lang)]),
                    Ok(lang) => Some(vec![Test::Text(lang)]),
                    Err(error) => {
                        self.no_pattern(spot, operand, text, &error);
                        None
                    }
                }
            }
            (operator @ ("any" | "all"), DeValue::Array(list)) if !list.is_empty() => {
                if operator == "any" {
                    return self.raw_any(spot, operand, list, true);
                }
                let mut all = Vec::new();
                for element in list.iter() {
                    all.extend(self.raw_value(spot, element)?);
                }
                Some(all)
            }
            ("absent", DeValue::Boolean(true)) => Some(vec![Test::Absent]),
            ("present", DeValue::Boolean(true)) => Some(vec![Test::Present]),
            (operator @ ("glob" | "under" | "not_prefix"), _) => {
                let help = format!("write `{{ {operator} = \"…\" }}`");
                self.bad(spot, operand, format!("`{operator}` must be a text"), help);
                None
            }
            (operator @ ("any" | "all"), _) => {
                let message = format!("`{operator}` must be a list that is not empty");
                self.bad(spot, operand, message, format!("write `{{ {operator} = [ … ] }}`"));
                None
            }
            (operator @ ("absent" | "present"), _) => {
                let help = format!("write `{{ {operator} = true }}`");
                self.bad(spot, operand, format!("`{operator}` can only be `true`"), help);
                None
            }
            (name @ ("set" | "class"), _) => {
                let help = "sets are of repositories and classes of events; write the values";
                self.bad(spot, operand, format!("`{}` cannot be given by a {name}", spot.name), help);
                None
            }
            (name, _) => {
                self.unknown_operator(spot, entry, name);
                None
            }
        }
    }
}
