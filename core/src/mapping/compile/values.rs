//! One value → conditions (mappings, "Values"): exact, lists, patterns, pairs, workflow parts.

use super::conditions::{Compiled, Ground, Shape, table_name};
use crate::{
    diag::{Span, did_you_mean},
    lang::pattern::Lang,
    mapping::{
        Condition, Origin, Test, codes, is_commit,
        syntax::{Entry, Fields, Findings, Place, Source, Value, describe},
    },
    workload::{Claim, Kind},
};
use foldhash::fast::FixedState;
use std::{borrow::Cow, collections::HashSet};
use toml::de::DeValue;

/// Where a value stands, and how its condition is called.
pub(super) struct Spot<'a, 'f> {
    pub(super) source: &'a Source<'f>,
    pub(super) name: Cow<'a, str>,
    /// Key and value.
    pub(super) span: Span,
    /// `if_unknown = "ignore"` was said.
    pub(super) ignore: bool,
}

impl<'a, 'f> Spot<'a, 'f> {
    pub(super) fn of(entry: Entry<'a, 'f>) -> Self {
        Self { source: entry.source, name: entry.name().into(), span: entry.span(), ignore: false }
    }
}

/// Compiles values into `out`.
pub(super) struct Values<'c, 'o> {
    pub(super) ground: &'c Ground<'c>,
    pub(super) origin: Origin,
    pub(super) findings: &'o mut Findings,
    pub(super) out: &'o mut Vec<Compiled>,
}

pub(in crate::mapping) const OPERATORS: [&str; 10] =
    ["glob", "under", "not_prefix", "any", "all", "absent", "present", "set", "class", "if_unknown"];
/// Those, for messages.
const OPERATORS_SHOWN: &str = "`glob`, `under`, `not_prefix`, `any`, `all`, `absent`, `present`, `set`";

impl Values<'_, '_> {
    pub(super) fn push(&mut self, claim: Claim, test: Test, shape: Shape, spot: &Spot<'_, '_>) {
        let condition = Condition {
            claim: claim.into(),
            test,
            if_unknown_ignore: spot.ignore,
            origin: self.origin,
            span: spot.span.clone(),
        };
        self.out.push(Compiled { condition, shape });
    }

    pub(super) fn bad(&mut self, spot: &Spot<'_, '_>, value: &Value<'_>, message: String, help: impl Into<String>) {
        self.findings.error(codes::BAD_OPERATOR, spot.source.span(value.span()), message, help);
    }

    /// A value for `claim`; `prefix` stands before each of its texts (`refs/heads/`).
    pub(super) fn value(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, value: &Value<'_>) {
        match value.get_ref() {
            DeValue::Boolean(wanted) if claim.kind() == Kind::Boolean => {
                self.push(claim, Test::Is(*wanted), Shape::Is(*wanted), spot);
            }
            DeValue::Array(list) if list.is_empty() => self.findings.error(
                codes::EMPTY_LIST,
                spot.source.span(value.span()),
                format!("`{}` is an empty list", spot.name),
                "name at least one value; an empty list is never read as all nor as none",
            ),
            DeValue::Array(list) if list.iter().any(|element| element.get_ref().is_table()) => {
                self.tables(claim, prefix, spot, value, list);
            }
            DeValue::Array(_) if claim.kind() == Kind::Boolean => {
                self.bad(spot, value, format!("`{}` is true or false", spot.name), "write `true` or `false`");
            }
            DeValue::Array(list) => {
                let values: Vec<&Value<'_>> = list.iter().collect();
                self.exact(claim, prefix, spot, &values, false);
            }
            DeValue::Table(_) => self.operator(claim, prefix, spot, value),
            _ => self.exact(claim, prefix, spot, &[value], true),
        }
    }

    /// Any of these bare values; `alone`: no list, so that a pattern could stand in its place.
    fn exact(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, values: &[&Value<'_>], alone: bool) {
        let mut texts: Vec<String> = Vec::with_capacity(values.len());
        let mut seen: HashSet<String, FixedState> = HashSet::default();
        for value in values {
            let Some(text) = self.bare(claim, prefix, spot, value, alone) else { continue };
            if values.len() > 1 && !seen.insert(text.clone()) {
                self.findings.error(
                    codes::MEMBER_REPEATED,
                    spot.source.span(value.span()),
                    format!("`{text}` is listed twice in `{}`", spot.name),
                    "remove one of the two",
                );
                continue;
            }
            texts.push(text);
        }
        if texts.len() != values.len() {
            return;
        }
        let fold = self.ground.folds() && claim.kind() == Kind::Name;
        let (test, shape) = match claim {
            Claim::RepositoryId => {
                (Test::Repository(texts.iter().map(|id| (String::new(), id.clone())).collect()), Shape::Pin)
            }
            Claim::RepositoryOwner if !self.ground.owners_open() => {
                (Test::Owner(texts.iter().flat_map(|name| self.ground.owners(name)).collect()), Shape::Owner)
            }
            _ => (Test::Text(self.one_of(&texts, fold)), Shape::Exact(texts)),
        };
        self.push(claim, test, shape, spot);
    }

    /// A single text stands in many mappings.
    fn one_of(&self, texts: &[String], fold: bool) -> Lang {
        match (self.ground.known, texts) {
            (Some(known), [text]) => known.exact(text, fold),
            _ => Lang::one_of(texts.iter().map(String::as_str), fold),
        }
    }

    /// One bare value as text, with its prefix.
    fn bare(
        &mut self,
        claim: Claim,
        prefix: &str,
        spot: &Spot<'_, '_>,
        value: &Value<'_>,
        alone: bool,
    ) -> Option<String> {
        let at = spot.source.span(value.span());
        let name = &spot.name;
        if claim.kind() == Kind::Boolean {
            let text = value.get_ref().as_str().filter(|text| ["true", "false"].contains(text));
            let message = format!("`{name}` must be true or false, not {}", describe(value));
            match text {
                Some(text) => self.findings.edit(codes::WRONG_TYPE, at, message, "write it without quotes", text),
                None => self.findings.error(codes::WRONG_TYPE, at, message, "write `true` or `false`"),
            }
            return None;
        }
        if claim.kind() == Kind::Id {
            return self.id(claim, name, spot.source, value);
        }
        let text = self.literal(spot, value, alone)?;
        self.text(claim, prefix, spot, &at, &text).then(|| format!("{prefix}{text}"))
    }

    /// A bare text, which holds no wildcard.
    pub(super) fn literal(&mut self, spot: &Spot<'_, '_>, value: &Value<'_>, alone: bool) -> Option<String> {
        let (at, name) = (spot.source.span(value.span()), &spot.name);
        let DeValue::String(text) = value.get_ref() else {
            let message = format!("`{name}` must be a text, not {}", describe(value));
            self.findings.error(codes::WRONG_TYPE, at, message, "write it in double quotes");
            return None;
        };
        if let Some(wildcard) = ["*", "{num}"].into_iter().find(|wildcard| text.contains(wildcard)) {
            let message = format!("`{text}` is a bare value and would match only a literal `{wildcard}`");
            if alone {
                let help = format!("a bare value is exact; for a pattern write `{{ glob = \"{text}\" }}`");
                let edit = format!("{{ glob = \"{text}\" }}");
                self.findings.edit(codes::STAR_IN_BARE_VALUE, at, message, help, edit);
            } else {
                let help = format!("for a pattern write `{name} = {{ any = [{{ glob = \"{text}\" }}, …] }}`");
                self.findings.error(codes::STAR_IN_BARE_VALUE, at, message, help);
            }
            return None;
        }
        self.is_text(spot, &at, text).then(|| text.to_string())
    }

    fn is_text(&mut self, spot: &Spot<'_, '_>, at: &Span, text: &str) -> bool {
        if text.is_empty() || text.chars().any(char::is_control) {
            self.findings.error(
                codes::BAD_TEXT,
                at.clone(),
                format!("`{}` is empty or holds control characters, which no claim can have", spot.name),
                "write the claim's text; for a claim that is not there write `{ absent = true }`",
            );
            return false;
        }
        true
    }

    /// Whether a literal text can be a value of the claim; says why not.
    pub(super) fn text(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, at: &Span, text: &str) -> bool {
        let name = &spot.name;
        if !self.is_text(spot, at, text) {
            return false;
        }
        let is_ref = matches!(claim, Claim::Ref | Claim::WorkflowRef | Claim::JobWorkflowRef) && prefix.is_empty();
        if is_ref && is_commit(text) {
            self.findings.error(
                codes::REF_FORM,
                at.clone(),
                format!("`{name}` is always a full ref, and `{text}` is a commit"),
                "write `sha = \"…\"` for a commit; it holds whichever ref leads there",
            );
            return false;
        }
        if is_ref && !text.starts_with("refs/") {
            self.findings.error(
                codes::REF_FORM,
                at.clone(),
                format!("`{name}` is always a full ref, which `{text}` is not"),
                format!(
                    "write `branch = \"{text}\"` or `tag = \"{text}\"` instead, or `{name} = \"refs/heads/{text}\"`"
                ),
            );
            return false;
        }
        let short = match (claim, prefix) {
            (Claim::Branch, _) | (_, "refs/heads/") => text.strip_prefix("refs/heads/"),
            (Claim::Tag, _) | (_, "refs/tags/") => text.strip_prefix("refs/tags/"),
            _ => None,
        };
        if let Some(short) = short {
            self.findings.edit(
                codes::REF_FORM,
                at.clone(),
                format!("`{name}` is a name without `refs/…`"),
                format!("write `{short}`"),
                format!("\"{short}\""),
            );
            return false;
        }
        match claim {
            Claim::Repository | Claim::WorkflowRepository | Claim::JobWorkflowRepository => {
                self.repository(name, at, text)
            }
            Claim::RepositoryOwner => self.listed(name, at, text),
            _ => true,
        }
    }

    fn repository(&mut self, name: &str, at: &Span, text: &str) -> bool {
        let Some((owner, _)) = text.rsplit_once('/').filter(|(owner, rest)| !owner.is_empty() && !rest.is_empty())
        else {
            self.findings.error(
                codes::REPOSITORY_FORM,
                at.clone(),
                format!("`{text}` is not a repository's full name"),
                format!("write owner and name: `{name} = \"owner/{}\"`", text.trim_matches('/')),
            );
            return false;
        };
        self.listed(name, at, owner)
    }

    /// Whether `owners` lists the owner, where an issuer restricts them.
    pub(super) fn listed(&mut self, name: &str, at: &Span, owner: &str) -> bool {
        if self.ground.owners_open() || self.ground.owners(owner).next().is_some() {
            return true;
        }
        let issuers = self.ground.issuer_names();
        let listed = self.ground.issuers.iter().flat_map(|(issuer, _)| issuer.owners.keys().map(String::as_str));
        let meant = did_you_mean(owner, listed).map(|meant| format!("did you mean `{meant}`? Otherwise "));
        let help = format!(
            "{}add `{owner}` with its id to `owners` of {issuers} in `policy.toml`, if its jobs are to be known at all",
            meant.unwrap_or_default()
        );
        self.findings.error(
            codes::OWNER_NOT_LISTED,
            at.clone(),
            format!("`{name}` names the owner `{owner}`, which {issuers} does not list in `owners`"),
            help,
        );
        false
    }

    /// An id: a text or an unquoted integer, in the issuer's syntax.
    fn id(&mut self, claim: Claim, name: &str, source: &Source<'_>, value: &Value<'_>) -> Option<String> {
        let at = source.span(value.span());
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // The parser has already reported what it could not read (a leading zero).
            DeValue::Integer(number) if number.as_str().is_empty() => {
                self.findings.told();
                return None;
            }
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().trim_start_matches('+').to_owned(),
            _ => {
                let message = format!("`{name}` must be an id, not {}", describe(value));
                self.findings.error(codes::WRONG_TYPE, at, message, "write it as an integer, or as a text in quotes");
                return None;
            }
        };
        if text.is_empty() {
            let message = format!("`{name}` is an empty id");
            self.findings.error(codes::BAD_ID, at, message, "write the forge's immutable id");
            return None;
        }
        let decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        if decimal && text.len() > 1 && text.starts_with('0') {
            self.findings.edit(
                codes::BAD_ID,
                at,
                format!("`{name}` has leading zeros, which no id in a token has"),
                "write it without them",
                text.trim_start_matches('0'),
            );
            return None;
        }
        if !self.ground.issuers.iter().any(|(_, profile)| profile.id_fits(claim, &text)) {
            let issuers = self.ground.issuer_names();
            self.findings.error(
                codes::BAD_ID,
                at,
                format!("`{text}` has not the syntax of ids of {issuers}"),
                format!("write the immutable id as the token carries it in `{}`; a name is no id", claim.name()),
            );
            return None;
        }
        Some(text)
    }

    /// A list that holds tables: pairs of repositories. Any other mixture says that it is one.
    fn tables(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, value: &Value<'_>, list: &[Value<'_>]) {
        let is_pair = |element: &Value<'_>| {
            element.get_ref().as_table().is_some_and(|table| table.contains_key("name") || table.contains_key("id"))
        };
        if claim == Claim::Repository && list.iter().all(is_pair) {
            let pairs: Vec<_> = list.iter().filter_map(|element| self.pair(spot.source, element)).collect();
            if pairs.len() == list.len() {
                self.push(claim, Test::Repository(pairs.into_iter().collect()), Shape::Pin, spot);
            }
            return;
        }
        let before = self.findings.errors();
        let mut ignored = Vec::new();
        let mut values =
            Values { ground: self.ground, origin: self.origin, findings: &mut *self.findings, out: &mut ignored };
        values.any(claim, prefix, spot, value);
        if self.findings.errors() == before {
            let written = spot.source.text.get(value.span()).unwrap_or("[ … ]");
            self.findings.edit(
                codes::BAD_OPERATOR,
                spot.source.span(value.span()),
                format!("the list of `{}` mixes exact values with other forms", spot.name),
                "write `{ any = [ … ] }`: a plain list holds exact values alone",
                format!("{{ any = {written} }}"),
            );
        }
    }

    /// `{ name, id }`.
    pub(super) fn pair(&mut self, source: &Source<'_>, value: &Value<'_>) -> Option<(String, String)> {
        let fields = Fields::read(source, Place::Member, value, self.findings)?;
        let id = fields.need("id", self.findings);
        let id = id.and_then(|entry| self.id(Claim::RepositoryId, "id", source, entry.value));
        let entry = fields.need("name", self.findings)?;
        let spot = Spot { name: "repository".into(), ..Spot::of(entry) };
        let name = self.bare(Claim::Repository, "", &spot, entry.value, false)?;
        Some((name, id?))
    }

    /// `{ glob = … }` and its like.
    pub(super) fn operator(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else { return };
        if claim == Claim::Repository && (table.contains_key("name") || table.contains_key("id")) {
            if let Some(pair) = self.pair(spot.source, value) {
                self.push(claim, Test::Repository([pair].into_iter().collect()), Shape::Pin, spot);
            }
            return;
        }
        let mut ignore = spot.ignore;
        if let Some(entry) = self.one_operator(spot, value, &mut ignore) {
            let (name, span) = (spot.name.clone(), spot.span.clone());
            self.operate(claim, prefix, &Spot { source: spot.source, name, span, ignore }, entry);
        }
    }

    /// The one operator of a table; `if_unknown` beside it is taken note of.
    pub(super) fn one_operator<'v>(
        &mut self,
        spot: &Spot<'v, 'v>,
        value: &'v Value<'v>,
        ignore: &mut bool,
    ) -> Option<Entry<'v, 'v>> {
        let DeValue::Table(table) = value.get_ref() else { return None };
        let mut operators = Vec::new();
        for (key, operand) in table {
            let entry = Entry { source: spot.source, key, value: operand };
            match key.get_ref().as_ref() {
                "if_unknown" => match self.if_unknown(entry) {
                    Some(()) => *ignore = true,
                    None => return None,
                },
                _ => operators.push(entry),
            }
        }
        let [entry] = operators.as_slice() else {
            self.bad(
                spot,
                value,
                format!("`{}` needs exactly one of {OPERATORS_SHOWN}", spot.name),
                "write one of them; a second condition on the same claim goes into `{ all = [ … ] }`",
            );
            return None;
        };
        Some(*entry)
    }

    fn operate(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, entry: Entry<'_, '_>) {
        let value = entry.value;
        let open = matches!(entry.name(), "glob" | "under" | "not_prefix" | "absent" | "present");
        if open && claim == Claim::EventName && !self.ground.deny {
            self.bad(
                spot,
                value,
                format!("`event_name` cannot be given by `{}`", entry.name()),
                "name each event: one not yet invented must not be granted anything by a pattern",
            );
            return;
        }
        match entry.name() {
            operator @ ("glob" | "under" | "not_prefix") => self.pattern(claim, prefix, spot, operator, value),
            "any" => self.any(claim, prefix, spot, value),
            "class" => self.class(claim, spot, entry),
            "all" => match value.get_ref() {
                DeValue::Array(list) if !list.is_empty() => {
                    for element in list.iter() {
                        self.value(claim, prefix, spot, element);
                    }
                }
                _ => self.bad(spot, value, "`all` must be a list that is not empty".into(), "write `{ all = [ … ] }`"),
            },
            operator @ ("absent" | "present") => match (value.get_ref().as_bool(), operator) {
                (Some(true), "absent") => self.push(claim, Test::Absent, Shape::Other, spot),
                (Some(true), _) => self.push(claim, Test::Present, Shape::Other, spot),
                _ => {
                    let opposite = if operator == "absent" { "present" } else { "absent" };
                    self.bad(
                        spot,
                        value,
                        format!("`{operator}` can only be `true`"),
                        format!("write `{{ {operator} = true }}`, or `{{ {opposite} = true }}` for the contrary"),
                    );
                }
            },
            "set" => self.set(claim, spot, value),
            name => self.unknown_operator(spot, entry, name),
        }
    }

    pub(super) fn unknown_operator(&mut self, spot: &Spot<'_, '_>, entry: Entry<'_, '_>, name: &str) {
        let message = format!("`{}` cannot be given by `{name}`", spot.name);
        let known = OPERATORS.iter().copied().filter(|known| *known != "if_unknown" || self.ground.deny);
        match did_you_mean(name, known) {
            Some(meant) => self.findings.edit(
                codes::BAD_OPERATOR,
                entry.key_span(),
                message,
                format!("did you mean `{meant}`?"),
                meant,
            ),
            None => self.findings.error(
                codes::BAD_OPERATOR,
                entry.key_span(),
                message,
                format!("write a bare value, a list, or one of {OPERATORS_SHOWN}"),
            ),
        }
    }

    fn if_unknown(&mut self, entry: Entry<'_, '_>) -> Option<()> {
        if !self.ground.deny {
            self.findings.error(
                codes::BAD_OPERATOR,
                entry.key_span(),
                format!("`if_unknown` has no meaning in `{}`", table_name(self.origin)),
                "remove it; in mappings and `require` a condition on an unknown claim is always false",
            );
            return None;
        }
        if entry.value.get_ref().as_str() != Some("ignore") {
            self.findings.error(
                codes::BAD_OPERATOR,
                entry.value_span(),
                "`if_unknown` can only be \"ignore\"",
                "write `if_unknown = \"ignore\"`, or leave it out: then a deny holds when the claim is unknown",
            );
            return None;
        }
        Some(())
    }

    fn set(&mut self, claim: Claim, spot: &Spot<'_, '_>, value: &Value<'_>) {
        let of_repositories =
            matches!(claim, Claim::Repository | Claim::WorkflowRepository | Claim::JobWorkflowRepository);
        let Some(name) = value.get_ref().as_str().filter(|_| of_repositories) else {
            let help = "a set holds repositories: write `repository = { set = \"…\" }`";
            self.bad(spot, value, format!("`{}` cannot be given by a set", spot.name), help);
            return;
        };
        let Some(set) = self.ground.sets.and_then(|sets| sets.get(name)) else {
            let meant = self.ground.sets.and_then(|sets| did_you_mean(name, sets.keys().map(String::as_str)));
            let help = match (meant, self.ground.sets) {
                (Some(meant), Some(sets)) => {
                    sets[meant].used.set(true);
                    format!("did you mean `{meant}`?")
                }
                (None, Some(_)) => format!(
                    "declare it in this file: `[set.{name}]` with `repositories = [{{ name = \"…\", id = … }}]`"
                ),
                (_, None) => "sets live in a team's file and are known only there; write the values here".to_owned(),
            };
            let at = spot.source.span(value.span());
            self.findings.error(codes::UNKNOWN_SET, at, format!("there is no set `{name}` in this file"), help);
            return;
        };
        set.used.set(true);
        // The set was judged where it stands; a mapping of another issuer than its file's is judged here.
        let at = spot.source.span(value.span());
        for (member, _) in set.pairs.iter() {
            if let Some((owner, _)) = member.rsplit_once('/')
                && !self.listed(&spot.name, &at, owner)
            {
                return;
            }
        }
        match claim {
            Claim::Repository => self.push(claim, Test::Repository(set.pairs.clone()), Shape::Pin, spot),
            _ => {
                let names: Vec<String> = set.pairs.iter().map(|(name, _)| name.clone()).collect();
                let lang = Lang::one_of(names.iter().map(String::as_str), self.ground.folds());
                self.push(claim, Test::Text(lang), Shape::Exact(names), spot);
            }
        }
    }
}
