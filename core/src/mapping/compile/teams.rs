//! `teams/<team>/**.toml`: sets and mappings, and whether the team may write them.

mod pins;

use super::{
    conditions::{self, Compiled, Ground, Set, Sets, Shape, keys_of},
    duration, limit, names,
    policy::{Narrow, PRODUCTION, Policy, TeamRules},
    roles::Roles,
    tests::Pairs,
    values::Values,
};
use crate::{
    diag::{Diagnostic, Span},
    lang::pattern::Lang,
    mapping::{
        Condition, Issuer, IssuerId, Mapping, Origin, RoleId, Test, codes,
        syntax::{Entry, Fields, Findings, Place, Tree},
    },
    workload::{Claim, Profile},
};
use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
};
use toml::de::DeValue;

/// Everything that the teams' files gave.
#[derive(Default, Debug)]
pub(super) struct Mappings {
    pub(super) all: Vec<Mapping>,
    /// Names with the ids they are paired with, for tests.
    pub(super) pairs: Pairs,
    declared: HashMap<String, Span>,
}

/// `[file]`.
struct File<'a, 'f> {
    issuer: Option<(&'a str, Span)>,
    keys: Vec<(Entry<'a, 'f>, Origin)>,
}

/// The issuer that `[file]` names, for the tests of the file.
pub(super) fn file_issuer<'a>(fields: &Fields<'a, '_>) -> Option<&'a str> {
    let file = fields.entry("file")?;
    file.value.get_ref().as_table()?.get("issuer")?.get_ref().as_str()
}

impl Mappings {
    /// Reads one file of a team.
    pub(super) fn compile(
        &mut self,
        tree: &Tree<'_>,
        owner: &TeamRules,
        policy: &Policy<'_>,
        roles: &Roles,
        findings: &mut Findings,
    ) {
        let Some(fields) = Fields::read(&tree.source, Place::TeamFile, &tree.root, findings) else { return };
        let file = file(&fields, findings);
        let known = file.issuer.as_ref().is_none_or(|(name, span)| policy.knows_issuer(name, span, findings));
        let sets = self.sets(&fields, &file, policy, findings);
        for value in fields.array("mapping", findings) {
            let Some(mapping) = Fields::read(&tree.source, Place::Mapping, value, findings) else { continue };
            let reading = Reading { policy, roles, owner, file: &file, sets: &sets };
            // A fault of the file's issuer is one finding, not one for each mapping.
            if known || mapping.entry("issuer").is_some() {
                self.mapping(&mapping, &reading, findings);
            } else {
                conditions::keys_alone(&keys_of(mapping.entry("match"), Origin::Match, findings), findings);
                limit::read(mapping.entry("limit"), None, findings);
            }
        }
        for (name, set) in sets.iter().filter(|(_, set)| !set.used.get()) {
            let finding = Diagnostic::error(
                codes::UNUSED_SET,
                set.span.clone(),
                format!("nothing uses the set `{name}`"),
                format!("remove it, or write `repository = {{ set = \"{name}\" }}` in a mapping of this file"),
            );
            findings.push(finding.warning());
        }
    }

    fn sets(
        &mut self,
        fields: &Fields<'_, '_>,
        file: &File<'_, '_>,
        policy: &Policy<'_>,
        findings: &mut Findings,
    ) -> Sets {
        let issuers: Vec<(&Issuer, &Profile)> = match file.issuer.as_ref().and_then(|(name, _)| policy.issuer(name)) {
            Some((_, issuer, profile)) => vec![(issuer, profile)],
            None => policy.issuers.iter().zip(policy.profiles.iter().copied()).collect(),
        };
        let ground = Ground { issuers, sets: None, deny: false };
        let mut sets = Sets::new();
        for entry in fields.named("set", findings) {
            names::check("set", entry.name(), &entry.key_span(), findings);
            let set = Set { pairs: Vec::new(), span: entry.key_span(), used: Cell::new(false) };
            let set = sets.entry(entry.name().to_owned()).or_insert(set);
            let Some(fields) = Fields::read(entry.source, Place::Set, entry.value, findings) else { continue };
            let Some(list) = fields.need("repositories", findings) else { continue };
            let DeValue::Array(members) = list.value.get_ref() else {
                list.wrong_type("a list of `{ name = \"…\", id = … }`", findings);
                continue;
            };
            if members.is_empty() {
                findings.error(
                    codes::EMPTY_LIST,
                    list.value_span(),
                    format!("the set `{}` is empty", entry.name()),
                    "list its repositories, or remove it and what uses it",
                );
            }
            let (mut names, mut ids) = (HashSet::new(), HashSet::new());
            for member in members.iter() {
                let mut ignored = Vec::new();
                let mut values = Values { ground: &ground, origin: Origin::Match, findings, out: &mut ignored };
                let Some((name, id)) = values.pair(entry.source, member) else { continue };
                let (new_name, new_id) = (names.insert(name.clone()), ids.insert(id.clone()));
                if !(new_name && new_id) {
                    findings.error(
                        codes::MEMBER_REPEATED,
                        entry.source.span(member.span()),
                        format!("`{name}` or its id stands twice in the set `{}`", entry.name()),
                        "keep one line for each repository; after a rename keep the new name",
                    );
                    continue;
                }
                set.pairs.push((name, id));
            }
        }
        sets
    }

    /// Takes note of a name, which stands once in all teams' files.
    fn declare(&mut self, name: &str, span: Span, findings: &mut Findings) {
        names::check("mapping", name, &span, findings);
        match self.declared.get(name) {
            None => drop(self.declared.insert(name.to_owned(), span)),
            Some(other) => {
                let help = "give one of the two another name: mappings are known by name, across teams";
                let message = format!("there are two mappings `{name}`");
                let finding = Diagnostic::error(codes::NAME_TAKEN, span, message, help);
                findings.push(finding.and(other.clone(), "the other one"));
            }
        }
    }

    fn mapping(&mut self, fields: &Fields<'_, '_>, reading: &Reading<'_, '_, '_>, findings: &mut Findings) {
        let before = findings.errors();
        let named = fields.need_text("name", findings);
        let name = named.as_ref().map_or("without name", |(name, _)| *name);
        if let Some((name, span)) = named {
            self.declare(name, span, findings);
        }
        if fields.lacks("description", findings) {
            let finding = Diagnostic::error(
                codes::NO_DESCRIPTION,
                fields.span(),
                format!("mapping `{name}` has no `description`"),
                "say in one sentence who gets what, and why: reviewers read it in every change",
            );
            findings.push(finding.warning());
        }
        let description = fields.text("description", findings).map(|(text, _)| text.to_owned()).unwrap_or_default();
        let max = duration::read(fields.entry("max_duration"), findings);
        let given = duration::read(fields.entry("duration"), findings);
        if let (Some((given, span)), Some((max, other))) = (&given, &max)
            && given > max
        {
            let message = format!("`duration` is {}, above `max_duration`", duration::write(*given));
            let help = format!("write at most `duration = \"{}\"`", duration::write(*max));
            let finding = Diagnostic::error(codes::DURATION_ABOVE_MAX, span.clone(), message, help);
            findings.push(finding.and(other.clone(), "the ceiling"));
        }
        let roles = reading.roles(fields, findings);
        let Some((issuer_number, issuer, profile)) = reading.issuer(fields, name, findings) else {
            conditions::keys_alone(&keys_of(fields.entry("match"), Origin::Match, findings), findings);
            limit::read(fields.entry("limit"), None, findings);
            return;
        };
        let limit = limit::read(fields.entry("limit"), Some((issuer.name.as_ref(), profile)), findings);
        let issuer_id = IssuerId(issuer_number);
        let conditions_before = findings.errors();
        let compiled = reading.conditions(fields, issuer, profile, findings);
        self.pairs.learn(issuer_id, issuer, &compiled, findings);
        let mut compiled = compiled;
        // Rules over what the conditions are would only repeat the fault of one that could not be read.
        if findings.errors() == conditions_before {
            let judged = Judged { name, issuer_id, issuer, profile, compiled: &compiled, fields, reading };
            judged.binding(&roles, findings);
            judged.pins(&roles, findings);
            judged.narrow(&roles, findings);
            judged.events_told(&roles, findings);
            judged.durations(&roles, &[max.as_ref(), given.as_ref()], findings);
            if let Some(events) = judged.default_events(&roles, findings) {
                compiled.push(events);
            }
        }
        if findings.errors() == before {
            self.all.push(Mapping {
                name: name.to_owned(),
                description,
                team: reading.owner.team.name.clone(),
                issuer: issuer_id,
                roles: roles.into_iter().map(|(role, _)| role).collect(),
                conditions: compiled.into_iter().map(|compiled| compiled.condition).collect(),
                duration: given.map(|(given, _)| given),
                max_duration: max.map(|(max, _)| max),
                limit,
                span: fields.span(),
            });
        }
    }
}

fn file<'a, 'f>(fields: &Fields<'a, 'f>, findings: &mut Findings) -> File<'a, 'f> {
    let mut file = File { issuer: None, keys: Vec::new() };
    let Some(entry) = fields.entry("file") else { return file };
    let Some(table) = Fields::read(entry.source, Place::File, entry.value, findings) else { return file };
    file.issuer = table.text("issuer", findings);
    if let Some(entry) = table.entry("review_by") {
        duration::date(entry, findings);
    }
    file.keys = keys_of(table.entry("match"), Origin::File, findings);
    file
}

/// What a mapping is read against.
struct Reading<'r, 'a, 'f> {
    policy: &'r Policy<'r>,
    roles: &'r Roles,
    owner: &'r TeamRules,
    file: &'r File<'a, 'f>,
    sets: &'r Sets,
}

impl<'r> Reading<'r, '_, '_> {
    fn roles(&self, fields: &Fields<'_, '_>, findings: &mut Findings) -> Vec<(RoleId, Span)> {
        let listed = fields.need("roles", findings).map(|entry| entry.texts(findings)).unwrap_or_default();
        listed.into_iter().filter_map(|(name, span)| Some((self.roles.find(name, &span, findings)?, span))).collect()
    }

    /// The mapping's one issuer, which the team may use.
    fn issuer(
        &self,
        fields: &Fields<'_, '_>,
        name: &str,
        findings: &mut Findings,
    ) -> Option<(u16, &'r Issuer, &'r Profile)> {
        let own = fields.text("issuer", findings);
        if fields.entry("issuer").is_some() && own.is_none() {
            return None;
        }
        let Some((issuer, span)) = own.clone().or_else(|| self.file.issuer.clone()) else {
            if fields.lacks("issuer", findings) {
                findings.error(
                    codes::MISSING_KEY,
                    fields.span(),
                    format!("mapping `{name}` does not say from which issuer"),
                    "write `issuer = \"…\"` here, or once in `[file]`: a mapping has one issuer",
                );
            }
            return None;
        };
        if own.is_some() && !self.policy.knows_issuer(issuer, &span, findings) {
            return None;
        }
        let found = self.policy.issuer(issuer)?;
        if self.owner.issuers.as_ref().is_some_and(|allowed| !allowed.iter().any(|allowed| allowed == issuer)) {
            let team = &self.owner.team.name;
            findings.error(
                codes::ISSUER_NOT_FOR_TEAM,
                span,
                format!("team `{team}` may not write mappings for issuer `{issuer}`"),
                format!("add `{issuer}` to `issuers` of `[team.{team}]` in `policy.toml`, if the platform agrees"),
            );
        }
        Some(found)
    }

    /// Of `[file.match]` and `[mapping.match]` together.
    fn conditions(
        &self,
        fields: &Fields<'_, '_>,
        issuer: &Issuer,
        profile: &Profile,
        findings: &mut Findings,
    ) -> Vec<Compiled> {
        let own = keys_of(fields.entry("match"), Origin::Match, findings);
        for (entry, _) in &own {
            let Some((other, _)) = self.file.keys.iter().find(|(other, _)| other.name() == entry.name()) else {
                continue;
            };
            let finding = Diagnostic::error(
                codes::KEY_IN_BOTH,
                entry.span(),
                format!("`{}` stands in `[file.match]` and in `[mapping.match]`", entry.name()),
                "keep it in one of the two; neither overrides the other",
            );
            findings.push(finding.and(other.span(), "for the whole file"));
        }
        if own.is_empty() && self.file.keys.is_empty() && fields.entry("match").is_none() {
            findings.error(
                codes::NO_CONDITIONS,
                fields.span(),
                "the mapping has no conditions, so every job of the issuer would have its roles",
                "write `[mapping.match]` with at least the repository",
            );
        }
        let keys: Vec<_> = self.file.keys.iter().chain(&own).copied().collect();
        let ground = Ground { issuers: vec![(issuer, profile)], sets: Some(self.sets), deny: false };
        conditions::compile(&ground, &keys, findings)
    }
}

/// A mapping whose conditions could be read, before the rules that look at all of it.
struct Judged<'j, 'r, 'a, 'f> {
    name: &'j str,
    issuer_id: IssuerId,
    issuer: &'j Issuer,
    profile: &'j Profile,
    compiled: &'j [Compiled],
    fields: &'j Fields<'a, 'f>,
    reading: &'j Reading<'r, 'a, 'f>,
}

impl Judged<'_, '_, '_, '_> {
    fn require(&self, role: RoleId) -> &[Compiled] {
        self.reading.roles.requires.get(&(role, self.issuer_id)).map_or(&[], Vec::as_slice)
    }

    /// Conditions of mapping and role.
    fn all(&self, role: RoleId) -> impl Iterator<Item = &Compiled> {
        self.compiled.iter().chain(self.require(role))
    }

    /// Those on a claim.
    fn on(&self, role: RoleId, claim: Claim) -> impl Iterator<Item = &Shape> {
        self.all(role).filter(move |compiled| compiled.condition.claim == claim).map(|compiled| &compiled.shape)
    }

    /// Whether team and issuer may have the roles, and whether their placeholders are fixed.
    fn binding(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        let team = &self.reading.owner.team.name;
        for (id, span) in roles {
            let role = &self.reading.roles.all[id.0 as usize];
            if !role.teams.contains(team) {
                let finding = Diagnostic::error(
                    codes::ROLE_NOT_FOR_TEAM,
                    span.clone(),
                    format!("team `{team}` may not bind role `{}`", role.name),
                    format!("add `{team}` to the role's `teams` in `{}`, if the platform agrees", role.span.file),
                );
                findings.push(finding.and(role.span.clone(), "the role"));
            }
            if !role.issuers.iter().any(|issuer| **issuer == *self.issuer.name) {
                let finding = Diagnostic::error(
                    codes::ISSUER_NOT_FOR_ROLE,
                    span.clone(),
                    format!("role `{}` is not given to jobs of issuer `{}`", role.name, self.issuer.name),
                    format!(
                        "add `{}` to the role's `issuers` in `{}`, or bind another role",
                        self.issuer.name, role.span.file
                    ),
                );
                findings.push(finding.and(role.span.clone(), "the role"));
            }
            for (claim, parameter) in self.reading.roles.to_fix.get(id).into_iter().flatten() {
                // A condition on the repository by name and id fixes its owner too.
                let by_name = |shape: &Shape| *shape == Shape::Pin;
                let fixed = self.on(*id, *claim).any(|shape| match shape {
                    Shape::Exact(_) | Shape::Is(_) | Shape::Owner => true,
                    Shape::Pin => *claim == Claim::Repository,
                    Shape::Other => false,
                }) || (*claim == Claim::RepositoryOwner && self.on(*id, Claim::Repository).any(by_name));
                if !fixed {
                    let finding = Diagnostic::error(
                        codes::PLACEHOLDER_NOT_FIXED,
                        span.clone(),
                        format!(
                            "role `{}` takes `{{claim.{}}}` from the job, and mapping `{}` does not fix it",
                            role.name,
                            claim.name(),
                            self.name
                        ),
                        format!(
                            "add exact values of `{}` to the mapping or the role's `require`; or use an immutable id, or a key that begins with `info_`",
                            claim.name()
                        ),
                    );
                    findings.push(finding.and(parameter.clone(), "used here"));
                }
            }
        }
    }

    /// Repositories are pinned by id on shared issuers, and for production everywhere.
    fn pins(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        if self.compiled.iter().any(|compiled| self.is_pin(compiled)) {
            return;
        }
        let production =
            roles.iter().find(|(role, _)| self.reading.roles.all[role.0 as usize].sensitivity == PRODUCTION);
        let production = production.map(|(role, _)| &self.reading.roles.all[role.0 as usize].name);
        if !self.issuer.multi_tenant && production.is_none() {
            return self.rests_on_something(roles, findings);
        }
        let repository = self.compiled.iter().find(|compiled| compiled.condition.claim == Claim::Repository);
        let by_owner = self.compiled.iter().any(|compiled| compiled.shape == Shape::Owner);
        let span = repository.map_or_else(|| self.fields.span(), |compiled| compiled.condition.span.clone());
        let help = match repository.map(|compiled| &compiled.shape) {
            Some(Shape::Exact(names)) => format!(
                "write `repository = {{ name = \"{}\", id = … }}`: a name can be given up and taken by a stranger, an id cannot",
                names.first().map_or("…", String::as_str)
            ),
            _ if self.by_subject() => "write the token's `sub`, exactly: `subject = \"…\"`; this issuer's tokens have no other identity".to_owned(),
            _ if by_owner => "list the repositories with their ids in `[set.*]`: mappings for every repository of an owner (`any_repository`) are not available in this version yet".to_owned(),
            _ => "write `repository = { name = \"…\", id = … }`, a set, or `repository_id`".to_owned(),
        };
        let pin = if self.by_subject() { "subject" } else { "repository id" };
        match production {
            Some(role) => findings.error(
                codes::PRODUCTION_NOT_PINNED,
                span,
                format!("mapping `{}` gives the production role `{role}` and pins no {pin}", self.name),
                help,
            ),
            None => findings.error(
                codes::NOT_PINNED,
                span,
                format!(
                    "mapping `{}` pins no {pin}, and issuer `{}` is shared by strangers",
                    self.name, self.issuer.name
                ),
                help,
            ),
        }
    }

    /// On an issuer of one's own names may carry a mapping, but not claims alone that whoever may push anywhere chooses.
    fn rests_on_something(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        let carries = |compiled: &Compiled| {
            let Condition { claim, test, .. } = &compiled.condition;
            let says_little = |test: &Test| matches!(test, Test::Present | Test::Absent | Test::SameRepository);
            !self.profile.author_controlled().contains(claim) && !test.parts().iter().any(says_little)
        };
        if let Some((role, _)) = roles.iter().find(|(role, _)| !self.all(*role).any(carries)) {
            findings.error(
                codes::NOT_PINNED,
                self.fields.span(),
                format!(
                    "mapping `{}` gives `{}` by claims that the author of any job of issuer `{}` can choose",
                    self.name, self.reading.roles.all[role.0 as usize].name, self.issuer.name
                ),
                "add the repository: `repository = { name = \"…\", id = … }`, its name, or `{ under = \"…\" }` a group",
            );
        }
    }

    /// What the roles' sensitivities demand (mappings, "Narrow").
    fn narrow(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        for (id, span) in roles {
            let role = &self.reading.roles.all[id.0 as usize];
            let Some(sensitivity) = self.reading.policy.sensitivities.get(&role.sensitivity) else { continue };
            let needs = &sensitivity.needs_any;
            if needs.is_empty() || needs.iter().any(|need| self.narrows(*id, *need)) {
                continue;
            }
            let remedy = |need: &Narrow| match need {
                Narrow::Branch => "`branch` with exact values, or `ref_protected = true`",
                Narrow::Tag => "`tag` with `ref_protected = true` or `environment_protected = true`",
            };
            let remedies = needs.iter().map(remedy).collect::<Vec<_>>().join("; or ");
            findings.error(
                codes::NOT_NARROW,
                span.clone(),
                format!(
                    "role `{}` is `{}`, and mapping `{}` is not narrow enough for it",
                    role.name, role.sensitivity, self.name
                ),
                format!("add to its conditions {remedies}"),
            );
        }
    }

    fn narrows(&self, role: RoleId, need: Narrow) -> bool {
        let is_true = |claim| self.on(role, claim).any(|shape| *shape == Shape::Is(true));
        let exact_ref = |prefix: &str| {
            self.on(role, Claim::Ref)
                .any(|shape| matches!(shape, Shape::Exact(refs) if refs.iter().all(|text| text.starts_with(prefix))))
        };
        match need {
            Narrow::Branch => {
                self.on(role, Claim::Branch).any(|shape| matches!(shape, Shape::Exact(_)))
                    || exact_ref("refs/heads/")
                    || is_true(Claim::RefProtected)
            }
            Narrow::Tag => {
                let absent = |test: &Test| matches!(test, Test::Absent);
                let demands_tag = |condition: &Condition| {
                    condition.claim == Claim::Tag && !condition.test.parts().iter().any(absent)
                };
                let tag = self.all(role).any(|compiled| demands_tag(&compiled.condition)) || exact_ref("refs/tags/");
                tag && (is_true(Claim::RefProtected) || is_true(Claim::EnvironmentProtected))
            }
        }
    }

    /// Durations that no role of the mapping can give are clamped; that is worth a warning.
    fn durations(
        &self,
        roles: &[(RoleId, Span)],
        durations: &[Option<&(crate::time::Seconds, Span)>],
        findings: &mut Findings,
    ) {
        let Some(most) = roles.iter().map(|(role, _)| self.reading.roles.all[role.0 as usize].max_duration).max()
        else {
            return;
        };
        for (given, span) in durations.iter().flatten().filter(|(given, _)| *given > most) {
            let finding = Diagnostic::error(
                codes::MAX_ABOVE_ROLE,
                span.clone(),
                format!("{} is more than any role of the mapping gives", duration::write(*given)),
                format!("write at most `\"{}\"`: the role's own maximum stands", duration::write(most)),
            );
            findings.push(finding.warning());
        }
    }

    /// The condition on the profile's default events, where neither mapping nor roles name events.
    fn default_events(&self, roles: &[(RoleId, Span)], findings: &mut Findings) -> Option<Compiled> {
        let names_event =
            |compiled: &[Compiled]| compiled.iter().any(|compiled| compiled.condition.claim == Claim::EventName);
        let events = self.profile.default_events();
        if names_event(self.compiled) || !self.profile.provides(Claim::EventName) || events.is_empty() {
            return None;
        }
        let (with, without): (Vec<_>, Vec<_>) = roles.iter().partition(|(role, _)| names_event(self.require(*role)));
        if !with.is_empty() && !without.is_empty() {
            let (role, span) = with[0];
            let name = &self.reading.roles.all[role.0 as usize].name;
            findings.error(
                codes::EVENTS_DIFFER,
                span.clone(),
                format!("role `{name}` requires events of its own, other roles of this mapping do not"),
                "name `event_name` in the mapping, or give the roles by two mappings",
            );
            return None;
        }
        if !with.is_empty() {
            return None;
        }
        let condition = Condition {
            claim: Claim::EventName,
            test: Test::Text(Lang::one_of(events.iter().map(String::as_str), false)),
            if_unknown_ignore: false,
            origin: Origin::DefaultEvents,
            span: self.fields.span(),
        };
        Some(Compiled { condition, shape: Shape::Exact(events.to_vec()) })
    }
}
