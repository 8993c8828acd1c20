//! `roles/*.toml`: roles, expanded over their targets, with what they require of every job.

use super::{
    conditions::{self, Compiled, Ground, is_match_key, keys_of},
    duration, names,
    placeholders::Filling,
    policy::{PRODUCTION, Policy, Target},
    shared::Known,
};
use crate::{
    diag::{Diagnostic, Span},
    mapping::{
        IssuerId, Origin, Parameters, Role, RoleId, codes,
        syntax::{Entry, Fields, Findings, Place, Tree},
    },
    time::Seconds,
    workload::Claim,
};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The kinds of backends of this version: a role's one table of such a name gives its kind.
const KINDS: [&str; 2] = ["jwt", "aws"];
/// Kinds of which a deployment may have several, each under a name of its own.
const NAMED_KINDS: [&str; 1] = ["aws"];

#[derive(Default, Debug)]
pub(super) struct Roles {
    pub(super) all: Vec<Role>,
    pub(super) by_name: HashMap<String, RoleId, FixedState>,
    /// Declared, but with faults: no second finding for who uses them.
    pub(super) faulty: BTreeSet<String>,
    pub(super) requires: BTreeMap<(RoleId, IssuerId), Vec<Compiled>>,
    /// Claims in parameters that each mapping must fix.
    pub(super) to_fix: BTreeMap<RoleId, Vec<(Claim, Span)>>,
    /// Targets that some role lists.
    targets: HashSet<String, FixedState>,
    declared: HashMap<String, Span, FixedState>,
    by_team: HashMap<String, HashSet<RoleId, FixedState>, FixedState>,
}

impl Roles {
    /// Targets that no role lists, once all roles are read.
    pub(super) fn unused_targets(&self, policy: &Policy<'_>) -> Vec<(String, Span)> {
        let unused = policy.targets.iter().filter(|(name, _)| !self.targets.contains(*name));
        unused.map(|(name, target)| (name.clone(), target.span.clone())).collect()
    }

    /// Whether a team may bind a role.
    pub(super) fn bound_by(&self, team: &str, role: RoleId) -> bool {
        self.by_team.get(team).is_some_and(|roles| roles.contains(&role))
    }

    /// The role of this name; reports one that does not exist.
    pub(super) fn find(&self, name: &str, span: &Span, findings: &mut Findings) -> Option<RoleId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        if self.faulty.contains(name) {
            findings.told();
            return None;
        }
        let expanded = format!("{name}.");
        let of_targets: Vec<_> = self
            .by_name
            .keys()
            .chain(&self.faulty)
            .filter(|known| known.starts_with(&expanded))
            .map(|known| format!("`{known}`"))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !of_targets.is_empty() {
            let message = format!("role `{name}` has targets, so it is given by target");
            findings.error(codes::UNKNOWN_ROLE, span.clone(), message, format!("write {}", of_targets.join(" or ")));
            return None;
        }
        let known = self.by_name.keys().chain(&self.faulty).map(String::as_str).collect::<BTreeSet<_>>();
        names::known(codes::UNKNOWN_ROLE, "role", name, known.into_iter(), span, "a file under `roles/`", findings);
        None
    }

    /// Reads one file.
    pub(super) fn compile(&mut self, tree: &Tree<'_>, policy: &Policy<'_>, known: &Known, findings: &mut Findings) {
        let Some(fields) = Fields::read(&tree.source, Place::Roles, &tree.root, findings) else { return };
        for entry in fields.named("role", findings) {
            self.role(entry, policy, known, findings);
        }
    }

    fn role(&mut self, entry: Entry<'_, '_>, policy: &Policy<'_>, known: &Known, findings: &mut Findings) {
        let before = findings.errors();
        let name = entry.name();
        names::check("role", name, &entry.key_span(), findings);
        if let Some(other) = self.declared.get(name) {
            let help = "give one of the two another name: roles are known by name everywhere";
            let finding =
                Diagnostic::error(codes::NAME_TAKEN, entry.key_span(), format!("there are two roles `{name}`"), help);
            findings.push(finding.and(other.clone(), "the other one"));
            return;
        }
        self.declared.insert(name.to_owned(), entry.key_span());
        let Some(fields) = Fields::read(entry.source, Place::Role, entry.value, findings) else {
            self.faulty.insert(name.to_owned());
            return;
        };
        let draft = Draft::read(&fields, name, policy, findings);
        let mut expanded = Vec::new();
        for target in draft.targets() {
            self.targets.extend(target.map(|(name, _)| name.clone()));
            if let Some((role, to_fix)) = draft.expand(&fields, target, policy, findings) {
                let id = RoleId(self.all.len() as u32);
                expanded.push(id);
                self.to_fix.insert(id, to_fix);
                self.by_name.insert(role.name.clone(), id);
                for team in &role.teams {
                    // Most have been heard of.
                    match self.by_team.get_mut(team) {
                        Some(roles) => drop(roles.insert(id)),
                        None => drop(self.by_team.insert(team.clone(), HashSet::from_iter([id]))),
                    }
                }
                self.all.push(role);
            }
        }
        self.require(&fields, &draft, &expanded, (policy, known), findings);
        if findings.errors() != before {
            // Whatever of it stands must not be judged further: its conditions may be missing.
            for target in draft.targets() {
                let name = draft.full_name(target);
                self.by_name.remove(&name);
                self.faulty.insert(name);
            }
        }
    }

    fn require(
        &mut self,
        fields: &Fields<'_, '_>,
        draft: &Draft,
        expanded: &[RoleId],
        (policy, known): (&Policy<'_>, &Known),
        findings: &mut Findings,
    ) {
        let Some(entry) = fields.entry("require") else { return };
        let keys = entry.entries(findings);
        let issuers: Vec<&str> = match &draft.issuers {
            Some(issuers) => issuers.iter().map(String::as_str).collect(),
            None => policy.issuers.iter().map(|issuer| &*issuer.name).collect(),
        };
        let by_issuer = keys.iter().any(|key| policy.issuer(key.name()).is_some() && !is_match_key(key.name()));
        let tables: Vec<(&str, Entry<'_, '_>)> = if by_issuer {
            for issuer in issuers.iter().filter(|issuer| keys.iter().all(|key| key.name() != **issuer)) {
                let finding = Diagnostic::error(
                    codes::REQUIRE_FORM,
                    entry.span(),
                    format!("role `{}` requires nothing of jobs of `{issuer}`", draft.name),
                    format!(
                        "write `[role.{0}.require.{issuer}]`, or name in `issuers` only those that have a table",
                        draft.name
                    ),
                );
                findings.push(finding.warning());
            }
            keys.iter().filter_map(|key| self.require_issuer(*key, &issuers, policy, findings)).collect()
        } else if let [issuer] = issuers.as_slice() {
            vec![(*issuer, entry)]
        } else {
            let written =
                issuers.iter().map(|name| format!("`[role.{}.require.{name}]`", draft.name)).collect::<Vec<_>>();
            let help = match written.is_empty() {
                true => "name the role's issuers first: `issuers = [\"…\"]`".to_owned(),
                false => format!("write {}: claims and owners differ between issuers", written.join(" and ")),
            };
            let message = format!("`require` of role `{}` does not say for which issuer", draft.name);
            findings.error(codes::REQUIRE_FORM, entry.span(), message, help);
            return;
        };
        for (name, table) in tables {
            let Some((number, issuer, profile)) = policy.issuer(name) else { continue };
            let ground = Ground { issuers: vec![(issuer, profile)], sets: None, known: Some(known), deny: false };
            let keys = keys_of(Some(table), Origin::Require, findings);
            let compiled = conditions::compile(&ground, &keys, findings);
            for role in expanded {
                self.requires.insert((*role, IssuerId(number)), compiled.clone());
            }
        }
    }

    /// One key of a `require` that is written by issuer.
    fn require_issuer<'a, 'f>(
        &self,
        key: Entry<'a, 'f>,
        issuers: &[&str],
        policy: &Policy<'_>,
        findings: &mut Findings,
    ) -> Option<(&'a str, Entry<'a, 'f>)> {
        let name = key.name();
        if is_match_key(name) {
            findings.error(
                codes::REQUIRE_FORM,
                key.key_span(),
                format!("`{name}` stands beside tables of issuers"),
                "move it into the tables of the issuers that it is for",
            );
            return None;
        }
        if !policy.knows_issuer(name, &key.key_span(), findings) {
            return None;
        }
        if !issuers.contains(&name) {
            findings.error(
                codes::REQUIRE_FORM,
                key.key_span(),
                format!("the role is not given to jobs of `{name}`, so it can require nothing of them"),
                format!("remove the table, or add `{name}` to the role's `issuers`"),
            );
            return None;
        }
        Some((name, key))
    }
}

/// A role before expansion.
struct Draft {
    name: String,
    description: String,
    teams: Vec<String>,
    /// `None`: every issuer.
    issuers: Option<Vec<String>>,
    /// `None`: not expanded.
    targets: Option<Vec<(String, Span)>>,
    sensitivity: Option<(String, Span)>,
    max: Option<(Seconds, Span)>,
    backend: Option<Backend>,
}

/// Which backend mints, and what the role's table of it is called.
struct Backend {
    name: String,
    kind: &'static str,
}

impl Draft {
    fn read(fields: &Fields<'_, '_>, name: &str, policy: &Policy<'_>, findings: &mut Findings) -> Self {
        if fields.lacks("description", findings) {
            let finding = Diagnostic::error(
                codes::NO_DESCRIPTION,
                fields.span(),
                format!("role `{name}` has no `description`"),
                "say in one sentence what its credential may do: reviewers read it in every change",
            );
            findings.push(finding.warning());
        }
        let description = fields.text("description", findings).map(|(text, _)| text.to_owned()).unwrap_or_default();
        let teams = fields.need("teams", findings).map(|entry| entry.texts(findings)).unwrap_or_default();
        let teams = teams.into_iter().filter(|(team, span)| policy.knows_team(team, span, findings));
        let teams = teams.map(|(team, _)| team.to_owned()).collect();
        let issuers = fields.texts("issuers", findings).map(|listed| {
            let known = listed.into_iter().filter(|(issuer, span)| policy.knows_issuer(issuer, span, findings));
            known.map(|(issuer, _)| issuer.to_owned()).collect()
        });
        let targets = fields
            .texts("targets", findings)
            .map(|listed| listed.into_iter().map(|(target, span)| (target.to_owned(), span)).collect());
        let sensitivity = fields.text("sensitivity", findings).and_then(|(sensitivity, span)| {
            policy.knows_sensitivity(sensitivity, &span, findings).then(|| (sensitivity.to_owned(), span))
        });
        Self {
            name: name.to_owned(),
            description,
            teams,
            issuers,
            targets,
            sensitivity,
            max: duration::read(fields.entry("max_duration"), findings),
            backend: backend(fields, name, findings),
        }
    }

    /// One for each target; one without target for a role that has none.
    fn targets(&self) -> Vec<Option<&(String, Span)>> {
        match &self.targets {
            Some(targets) => targets.iter().map(Some).collect(),
            None => vec![None],
        }
    }

    fn full_name(&self, target: Option<&(String, Span)>) -> String {
        match target {
            Some((target, _)) => format!("{}.{target}", self.name),
            None => self.name.clone(),
        }
    }

    /// The role for one target.
    fn expand(
        &self,
        fields: &Fields<'_, '_>,
        target: Option<&(String, Span)>,
        policy: &Policy<'_>,
        findings: &mut Findings,
    ) -> Option<(Role, Vec<(Claim, Span)>)> {
        let filled = match target {
            None => None,
            Some((name, span)) => {
                let known = policy.targets.keys().map(String::as_str);
                names::known(codes::UNKNOWN_TARGET, "target", name, known, span, "`policy.toml`", findings);
                let target = policy.targets.get(name)?;
                Some((name.as_str(), target))
            }
        };
        let sensitivity = self.sensitivity(fields, filled, policy, findings)?;
        let ceiling = policy.sensitivities.get(&sensitivity)?.max;
        if let Some((max, span)) = &self.max
            && *max > ceiling
        {
            findings.error(
                codes::ABOVE_SENSITIVITY,
                span.clone(),
                format!(
                    "`{}` may live {}, but its sensitivity `{sensitivity}` allows {}",
                    self.full_name(target),
                    duration::write(*max),
                    duration::write(ceiling)
                ),
                format!("write at most `max_duration = \"{}\"`", duration::write(ceiling)),
            );
        }
        if sensitivity == PRODUCTION && self.issuers.is_none() {
            findings.error(
                codes::PRODUCTION_ISSUERS,
                fields.span(),
                format!("role `{}` is `production` and does not say from which issuers", self.full_name(target)),
                "write `issuers = [\"…\"]`: an issuer that is added later must not reach production by itself",
            );
        }
        let Backend { name: backend, kind } = self.backend.as_ref()?;
        let table = fields.entry(kind)?;
        let mut filling = Filling { source: fields.source, target: filled, to_fix: Vec::new() };
        let mut values = BTreeMap::new();
        for parameter in table.entries(findings).into_iter().filter(|entry| !Place::Role.has(entry.name())) {
            if let Some(value) = filling.value(parameter.name(), parameter.value, findings) {
                values.insert(parameter.name().to_owned(), (value, parameter.value_span()));
            }
        }
        let role = Role {
            name: self.full_name(target),
            description: self.description.clone(),
            backend: backend.clone(),
            kind,
            parameters: Parameters { values, span: table.value_span() },
            sensitivity,
            target: target.map(|(name, _)| name.clone()),
            teams: self.teams.clone(),
            issuers: self
                .issuers
                .clone()
                .unwrap_or_else(|| policy.issuers.iter().map(|issuer| issuer.name.to_string()).collect()),
            max_duration: self.max.as_ref().map_or(ceiling, |(max, _)| (*max).min(ceiling)),
            span: fields.span(),
        };
        Some((role, filling.to_fix))
    }

    /// The target's sensitivity, or the role's, which may only raise it.
    fn sensitivity(
        &self,
        fields: &Fields<'_, '_>,
        target: Option<(&str, &Target)>,
        policy: &Policy<'_>,
        findings: &mut Findings,
    ) -> Option<String> {
        let of_target = target.and_then(|(name, target)| Some((name, target.sensitivity.as_ref()?)));
        match (of_target, &self.sensitivity) {
            (Some((_, low)), None) => Some(low.clone()),
            (None, Some((own, _))) => Some(own.clone()),
            (Some((target, low)), Some((own, span))) => {
                if !policy.raises(low, own) {
                    findings.error(
                        codes::SENSITIVITY_LOWERED,
                        span.clone(),
                        format!("`{own}` is less strict than `{low}`, the sensitivity of target `{target}`"),
                        format!("remove it, or write one that demands at least what `{low}` demands: a role may raise a sensitivity, never lower it"),
                    );
                }
                Some(own.clone())
            }
            (None, None) => {
                if fields.lacks("sensitivity", findings) {
                    findings.error(
                        codes::NO_SENSITIVITY,
                        fields.span(),
                        format!("role `{}` has no sensitivity", self.name),
                        "write `sensitivity = \"internal\"` (or `production`, or one that `policy.toml` declares), or give it targets that have one",
                    );
                }
                None
            }
        }
    }
}

/// The backend that the role names, if the role has that backend's table and no other.
fn backend(fields: &Fields<'_, '_>, name: &str, findings: &mut Findings) -> Option<Backend> {
    let tables: Vec<&'static str> = KINDS.into_iter().filter(|kind| fields.entry(kind).is_some()).collect();
    for kind in &tables {
        for entry in fields.named(kind, findings).into_iter().filter(|entry| Place::Role.has(entry.name())) {
            findings.error(
                codes::MISPLACED_KEY,
                entry.key_span(),
                format!("`{}` stands in `[role.{name}.{kind}]` but belongs to `[role.{name}]`", entry.name()),
                "move it above the backend's table: every key belongs to the table header above it",
            );
        }
    }
    let (backend, span) = fields.need_text("backend", findings)?;
    let kind = match (KINDS.into_iter().find(|kind| *kind == backend), tables.as_slice()) {
        (Some(kind), [table]) if *table == kind => kind,
        (None, [table]) if NAMED_KINDS.contains(table) => table,
        (Some(kind), []) => {
            findings.error(
                codes::BACKEND_TABLE,
                fields.span(),
                format!("role `{name}` has no `[role.{name}.{kind}]`"),
                format!("write the table with its `{}`: the role's one backend table gives its kind", first_key(kind)),
            );
            return None;
        }
        (_, [_, _, ..]) => {
            findings.error(
                codes::BACKEND_TABLE,
                fields.span(),
                format!("role `{name}` has the backend tables `{}`", tables.join("` and `")),
                "keep the one of its backend, and write another role for the other: a role gives one credential",
            );
            return None;
        }
        (Some(kind), [table]) => {
            findings.error(
                codes::BACKEND_TABLE,
                span,
                format!("role `{name}` has the backend `{kind}` and a table of `{table}`"),
                format!("write `backend = \"{table}\"`, or `[role.{name}.{kind}]`"),
            );
            return None;
        }
        (None, _) => {
            findings.error(
                codes::LATER_BACKEND,
                span,
                format!("backend `{backend}` is not available in this version yet"),
                format!(
                    "write `backend = \"aws\"` with a `[role.{name}.aws]`, or `backend = \"jwt\"` with a `[role.{name}.jwt]` if the relying party accepts a signed token; otherwise leave the role out"
                ),
            );
            return None;
        }
    };
    Some(Backend { name: backend.to_owned(), kind })
}

/// What a table of this kind cannot do without.
fn first_key(kind: &str) -> &'static str {
    if kind == "aws" { "role_arn" } else { "audience" }
}
