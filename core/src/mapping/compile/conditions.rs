//! Match tables → conditions: which keys a table has, and what stands together.

use super::{
    raw::CLAIMS,
    shared::Known,
    values::{Spot, Values},
};
use crate::{
    diag::{Diagnostic, Span, Suggestion, did_you_mean},
    lang::pattern::Lang,
    mapping::{
        Condition, Issuer, Origin, Pairs, Test, codes,
        syntax::{Entry, Findings, Place, later},
    },
    workload::{Claim, Profile},
};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// A condition, and what of its value later rules ask (pins, narrowness, placeholders).
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) condition: Condition,
    pub(super) shape: Shape,
}

impl Compiled {
    /// On a profile's default events, where nothing else names events.
    pub(super) fn default_events(events: &[String], span: Span) -> Self {
        let condition = Condition {
            claim: Claim::EventName.into(),
            test: Test::Text(Lang::one_of(events.iter().map(String::as_str), false)),
            if_unknown_ignore: false,
            origin: Origin::DefaultEvents,
            span,
        };
        Self { condition, shape: Shape::Exact(events.to_vec()) }
    }
}

/// What kind of value a condition has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// Any of these texts.
    Exact(Vec<String>),
    Is(bool),
    /// Fixes repositories by id.
    Pin,
    /// Fixes the owners by id.
    Owner,
    Other,
}

/// `[set.*]` of one file: name → pairs of name and id.
pub(super) type Sets = BTreeMap<String, Set>;

#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) pairs: Pairs,
    pub(super) span: Span,
    pub(super) used: std::cell::Cell<bool>,
}

/// What values are judged against.
pub(super) struct Ground<'c> {
    /// One, but for a deny of several issuers.
    pub(super) issuers: Vec<(&'c Issuer, &'c Profile)>,
    pub(super) sets: Option<&'c Sets>,
    /// `None`: nothing stands here twice.
    pub(super) known: Option<&'c Known>,
    pub(super) deny: bool,
}

impl Ground<'_> {
    /// Whether names are folded. In a deny one issuer that folds is enough: it then matches more, never less.
    pub(super) fn folds(&self) -> bool {
        self.issuers.iter().any(|(issuer, _)| issuer.folds_names)
    }
    fn provides(&self, claim: Claim) -> bool {
        self.issuers.iter().any(|(_, profile)| profile.provides(claim))
    }
    fn canonical_of(&self, native: &str) -> Option<Claim> {
        self.issuers.iter().find_map(|(_, profile)| profile.canonical_of(native))
    }
    pub(super) fn issuer_names(&self) -> String {
        self.issuers.iter().map(|(issuer, _)| format!("`{}`", issuer.name)).collect::<Vec<_>>().join(", ")
    }
    /// The owner with its immutable id, at each issuer that lists it.
    pub(super) fn owners(&self, name: &str) -> impl Iterator<Item = (String, String)> {
        self.issuers.iter().filter_map(move |(issuer, _)| owner_of(issuer, name))
    }
    /// Whether no issuer restricts owners.
    pub(super) fn owners_open(&self) -> bool {
        self.issuers.iter().any(|(issuer, _)| issuer.owners.is_empty())
    }
}

/// An owner as `owners` spells it, with its id.
pub(super) fn owner_of(issuer: &Issuer, name: &str) -> Option<(String, String)> {
    let same = |listed: &str| listed == name || (issuer.folds_names && listed.eq_ignore_ascii_case(name));
    issuer.owners.iter().find(|(listed, _)| same(listed)).map(|(listed, id)| (listed.clone(), id.clone()))
}

/// Keys of a match table that are no canonical claim by themselves: workflows are written by their parts.
const WORKFLOWS: [&str; 2] = ["workflow", "job_workflow"];

/// Whether `name` is a key of match tables.
pub(super) fn is_match_key(name: &str) -> bool {
    name == CLAIMS || WORKFLOWS.contains(&name) || (Claim::from_name(name).is_some() && !name.contains('.'))
}

/// The keys of match tables.
pub(in crate::mapping) fn match_keys() -> impl Iterator<Item = &'static str> {
    let claims = Claim::ALL.iter().map(|claim| claim.name()).filter(|name| !name.contains('.'));
    WORKFLOWS.into_iter().chain(claims)
}

/// Compiles the keys of one rule, from all the tables that hold them.
pub(super) fn compile(ground: &Ground<'_>, keys: &[(Entry<'_, '_>, Origin)], findings: &mut Findings) -> Vec<Compiled> {
    let mut out = Vec::new();
    let mut raw = Vec::new();
    for (entry, origin) in keys {
        let mut values = Values { ground, origin: *origin, findings: &mut *findings, out: &mut out };
        let name = entry.name();
        if name == CLAIMS {
            values.raw_claims(*entry, &mut raw);
        } else if WORKFLOWS.contains(&name) {
            values.workflow(*entry);
        } else if let Some(claim) = Claim::from_name(name).filter(|_| !name.contains('.')) {
            if ground.provides(claim) {
                values.value(claim, "", &Spot::of(*entry), entry.value);
            } else {
                findings.error(
                    codes::CLAIM_NOT_PROVIDED,
                    entry.key_span(),
                    format!("tokens of {} never carry `{name}`", ground.issuer_names()),
                    "remove the condition; `claimbound profile show` lists the claims that the issuer's profile has",
                );
            }
        } else {
            unknown(ground, *entry, *origin, findings);
        }
    }
    pair_repositories(&mut out, findings);
    out.sort_by(|a, b| {
        // Raw claims are looked up by name: last.
        let place = |Compiled { condition, .. }: &Compiled| {
            (condition.claim.canonical().is_none(), condition.span.file.clone(), condition.span.bytes().start)
        };
        place(a).cmp(&place(b))
    });
    out
}

/// The keys of a rule whose issuer is not known: what is no claim at all can still be told.
pub(super) fn keys_alone(keys: &[(Entry<'_, '_>, Origin)], findings: &mut Findings) {
    let ground = Ground { issuers: Vec::new(), sets: None, known: None, deny: false };
    for (entry, origin) in keys.iter().filter(|(entry, _)| !is_match_key(entry.name())) {
        unknown(&ground, *entry, *origin, findings);
    }
}

/// A key that is no claim.
fn unknown(ground: &Ground<'_>, entry: Entry<'_, '_>, origin: Origin, findings: &mut Findings) {
    let name = entry.name();
    let table = table_name(origin);
    if let Some(text) = later(Place::Match, name) {
        let message = format!("`{name}` in `{table}` is not available in this version yet");
        findings.error(codes::LATER_KEY, entry.key_span(), message, text);
    } else if let Some(claim) = ground.canonical_of(name) {
        native(entry, claim, findings);
    } else if let Some(owner) = Place::Match.owner_of(name) {
        findings.error(
            codes::MISPLACED_KEY,
            entry.key_span(),
            format!("`{name}` stands in `{table}` but belongs to `{owner}`"),
            format!("move it above the line `[{table}]`: every key belongs to the table header above it"),
        );
    } else {
        let known = Claim::ALL.iter().map(|claim| claim.name()).filter(|name| !name.contains('.'));
        let known = known.chain(WORKFLOWS).chain([CLAIMS]);
        let message = format!("`{table}` has no claim `{name}`");
        match did_you_mean(name, known) {
            Some(meant) => {
                findings.edit(
                    codes::UNKNOWN_CLAIM,
                    entry.key_span(),
                    message,
                    format!("did you mean `{meant}`?"),
                    meant,
                );
            }
            // It may be a native name of the issuer that is not known.
            None if ground.issuers.is_empty() => findings.told(),
            None => findings.error(
                codes::UNKNOWN_CLAIM,
                entry.key_span(),
                message,
                "remove it, or use a canonical claim; `claimbound profile show` lists them; any other stands under `claims`",
            ),
        }
    }
}

/// A claim by its issuer's own name: shows the edit. A part of a workflow is written in its workflow's table.
fn native(entry: Entry<'_, '_>, claim: Claim, findings: &mut Findings) {
    let (name, canonical) = (entry.name(), claim.name());
    let Some((workflow, _)) = canonical.split_once('.') else {
        findings.edit(
            codes::NATIVE_CLAIM,
            entry.key_span(),
            format!("`{name}` is the issuer's own name of the claim `{canonical}`"),
            format!("write `{canonical}`: mappings use one set of names for all issuers"),
            canonical,
        );
        return;
    };
    let mut finding = Diagnostic::error(
        codes::NATIVE_CLAIM,
        entry.key_span(),
        format!("`{name}` is the issuer's own name of the claim `{workflow}`"),
        format!(
            "write `{workflow}` by its parts: `{workflow} = {{ repository = \"…\", file = \"…\", ref = \"refs/heads/…\" }}`"
        ),
    );
    if let Some(parts) = entry.value.get_ref().as_str().and_then(workflow_parts) {
        finding.suggestion = Some(suggestion(entry.span(), format!("{workflow} = {parts}"), "write the parts"));
    }
    findings.push(finding);
}

/// The parts of `owner/name/.github/workflows/file.yml@refs/heads/main`, as they are written in mappings.
pub(super) fn workflow_parts(text: &str) -> Option<String> {
    let (path, reference) = text.split_once('@')?;
    let (repository, file) = path.split_once("/.")?;
    let plain = |part: &str| !part.contains(['*', '"', '\\']) && !part.chars().any(char::is_control);
    let fits = plain(text) && reference.starts_with("refs/");
    fits.then(|| format!("{{ repository = \"{repository}\", file = \".{file}\", ref = \"{reference}\" }}"))
}

pub(super) fn table_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Match | Origin::DefaultEvents => "mapping.match",
        Origin::Any => "mapping.any",
        Origin::File => "file.match",
        Origin::Require => "role.*.require",
        Origin::Deny => "deny.match",
        Origin::Never => "never.match",
        Origin::Actor => "mapping.actor.match",
    }
}

/// `repository` and `repository_id` beside each other: one pair. More than one of either cannot be paired up.
fn pair_repositories(out: &mut Vec<Compiled>, findings: &mut Findings) {
    let find = |claim: Claim| {
        let mut of = out.iter().enumerate().filter(|(_, compiled)| compiled.condition.claim == claim);
        match (of.next(), of.next()) {
            (Some((at, _)), None) => Some(at),
            _ => None,
        }
    };
    let (Some(name), Some(id)) = (find(Claim::Repository), find(Claim::RepositoryId)) else { return };
    let Shape::Exact(names) = &out[name].shape else { return };
    let Test::Repository(ids) = &out[id].condition.test else { return };
    if let ([name_text], [(_, id_text)]) = (names.as_slice(), &**ids) {
        let pair = (name_text.clone(), id_text.clone());
        out[name].condition.test = Test::Repository([pair].into_iter().collect());
        out[name].shape = Shape::Pin;
        out.remove(id);
        return;
    }
    let (at, other) = (out[id].condition.span.clone(), out[name].condition.span.clone());
    let finding = Diagnostic::error(
        codes::NOT_PAIRED,
        at,
        "several names beside `repository_id` do not say which id is whose",
        "write pairs: `repository = [{ name = \"…\", id = … }, …]`, or a `[set.*]` of them",
    );
    findings.push(finding.and(other, "the names"));
}

/// An edit at the place of an entry's key, for use with [`Diagnostic::suggestion`].
pub(super) fn suggestion(span: Span, replacement: String, text: &str) -> Suggestion {
    Suggestion { span, replacement, text: text.to_owned() }
}

/// The keys of a match table with their origin; a table without keys is an error.
pub(super) fn keys_of<'a, 'f>(
    entry: Option<Entry<'a, 'f>>,
    origin: Origin,
    findings: &mut Findings,
) -> Vec<(Entry<'a, 'f>, Origin)> {
    let Some(entry) = entry else { return Vec::new() };
    if let DeValue::Table(table) = entry.value.get_ref()
        && table.is_empty()
    {
        findings.error(
            codes::EMPTY_LIST,
            entry.value_span(),
            format!("`{}` is empty", table_name(origin)),
            "write its conditions, or remove the table; an empty one is never read as all",
        );
    }
    entry.entries(findings).into_iter().map(|entry| (entry, origin)).collect()
}
