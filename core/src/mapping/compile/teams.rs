//! `teams/<team>/**.toml`: sets and mappings, and whether the team may write them.

mod exceptions;
mod judged;
mod pins;

pub(super) use exceptions::{allowed, may, reason};
pub(super) use pins::is_pin;

use super::{
    actor, ceremony,
    conditions::{self, Compiled, Ground, Set, Sets, keys_of},
    duration, limit, names,
    policy::{Policy, TeamRules},
    raw::CLAIMS,
    roles::Roles,
    session,
    shared::{self, Known},
    tests::{self, Pairs},
    values::Values,
};
use crate::{
    diag::{Diagnostic, Span},
    mapping::{
        ActorRule, Exception, Exempt, Issuer, IssuerId, Mapping, Origin, Pairs as Members, Role, RoleId, Team, Test,
        codes,
        syntax::{Entry, Fields, Findings, Place, Tree, empty_list},
    },
    review::{Given, TestCase},
    time::UnixSeconds,
    workload::Profile,
};
use foldhash::fast::FixedState;
use judged::Judged;
use std::{
    cell::Cell,
    collections::{HashMap, HashSet, hash_map},
    sync::Arc,
};
use toml::de::DeValue;

/// Most `[[mapping.any]]` of one mapping: each is judged, and compared with others, by itself.
const ALTERNATIVES_MAX: usize = 64;

/// Everything that the teams' files gave.
#[derive(Default, Debug)]
pub(super) struct Mappings {
    pub(super) all: Vec<Mapping>,
    /// Also of the platform's files.
    pub(super) tests: Vec<TestCase>,
    /// Days on which somebody wanted to look at a file again.
    pub(super) reviews: Vec<(UnixSeconds, Span)>,
    /// Names, where each stands, and its mapping.
    declared: Vec<(String, Span, Span)>,
    /// Pairs of repositories, and where they stand.
    paired: Vec<(IssuerId, Members, Span)>,
    values: shared::Values,
}

/// `[file]`.
struct File<'a, 'f> {
    issuer: Option<(&'a str, Span)>,
    keys: Vec<(Entry<'a, 'f>, Origin)>,
    review_by: Option<(UnixSeconds, Span)>,
}

/// The issuer that `[file]` names, for the tests of the file.
fn file_issuer<'a>(fields: &Fields<'a, '_>) -> Option<&'a str> {
    let file = fields.entry("file")?;
    file.value.get_ref().as_table()?.get("issuer")?.get_ref().as_str()
}

impl Mappings {
    /// Reads one file of a team.
    pub(super) fn compile(
        &mut self,
        tree: &Tree<'_>,
        owner: &TeamRules,
        (policy, roles, known): (&Policy<'_>, &Roles, &Known),
        findings: &mut Findings,
    ) {
        let Some(fields) = Fields::read(&tree.source, Place::TeamFile, &tree.root, findings) else { return };
        let file = file(&fields, findings);
        self.reviews.extend(file.review_by.clone());
        let is_known = file.issuer.as_ref().is_none_or(|(name, span)| policy.knows_issuer(name, span, findings));
        let sets = self.sets(&fields, &file, policy, findings);
        let team = owner.team.name.as_str().into();
        let reading = Reading { policy, roles, known, owner, team, file: &file, sets: &sets };
        for value in fields.array("mapping", findings) {
            let Some(mapping) = Fields::read(&tree.source, Place::Mapping, value, findings) else { continue };
            // A fault of the file's issuer is one finding, not one for each mapping.
            if is_known || mapping.entry("issuer").is_some() {
                self.mapping(&mapping, &reading, findings);
            } else {
                conditions::keys_alone(&keys_of(mapping.entry("match"), Origin::Match, findings), findings);
                limit::read(mapping.entry("limit"), None, (&owner.team, &[]), findings);
                self.actor(&mapping, &[], &reading, findings);
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
        self.tests_of(&fields, file_issuer(&fields), policy, roles, findings);
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
        let ground = Ground { issuers, sets: None, known: None, deny: false };
        let mut sets = Sets::new();
        for entry in fields.named("set", findings) {
            names::check("set", entry.name(), &entry.key_span(), findings);
            let mut pairs = Vec::new();
            let set = Set { pairs: Members::default(), span: entry.key_span(), used: Cell::new(false) };
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
            let (mut names, mut ids) =
                (HashSet::with_hasher(FixedState::default()), HashSet::with_hasher(FixedState::default()));
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
                pairs.push((name, id));
            }
            set.pairs = pairs.into_iter().collect();
        }
        sets
    }

    /// Takes those of files further on.
    pub(super) fn append(&mut self, mut other: Self) {
        self.all.append(&mut other.all);
        self.tests.append(&mut other.tests);
        self.reviews.append(&mut other.reviews);
        self.declared.append(&mut other.declared);
        self.paired.append(&mut other.paired);
    }

    /// Reads one file of `tests/`.
    pub(super) fn of_platform(&mut self, tree: &Tree<'_>, policy: &Policy<'_>, roles: &Roles, findings: &mut Findings) {
        let Some(fields) = Fields::read(&tree.source, Place::Tests, &tree.root, findings) else { return };
        self.tests_of(&fields, None, policy, roles, findings);
    }

    fn tests_of(
        &mut self,
        fields: &Fields<'_, '_>,
        issuer: Option<&str>,
        policy: &Policy<'_>,
        roles: &Roles,
        findings: &mut Findings,
    ) {
        for value in fields.array("test", findings) {
            self.tests.extend(tests::compile(fields.source, value, issuer, (policy, roles), findings));
        }
    }

    /// Once all files are read: each name stands once in all of them, and goes with one id, which tests learn.
    pub(super) fn settle(&mut self, policy: &Policy<'_>, findings: &mut Findings) {
        let mut known: HashMap<&str, &Span, FixedState> = HashMap::default();
        let mut repeated: HashSet<&Span, FixedState> = HashSet::default();
        for (name, span, mapping) in &self.declared {
            match known.entry(name) {
                hash_map::Entry::Vacant(free) => drop(free.insert(span)),
                hash_map::Entry::Occupied(other) => {
                    let help = "give one of the two another name: mappings are known by name, across teams";
                    let message = format!("there are two mappings `{name}`");
                    let finding = Diagnostic::error(codes::NAME_TAKEN, span.clone(), message, help);
                    findings.push(finding.and((*other.get()).clone(), "the other one"));
                    repeated.insert(mapping);
                }
            }
        }
        self.all.retain(|mapping| repeated.is_empty() || !repeated.contains(&mapping.span));
        let mut pairs = Pairs::default();
        for (issuer, members, span) in std::mem::take(&mut self.paired) {
            pairs.learn(issuer, &policy.issuers[usize::from(issuer.0)], &members, &span, findings);
        }
        for test in &mut self.tests {
            if let Given::Workload(job) = &mut test.given {
                tests::fill(&mut job.claims, test.issuer, &policy.issuers[usize::from(test.issuer.0)], &pairs);
            }
            if let Some((issuer, job)) = &mut test.actor {
                tests::fill(&mut job.claims, *issuer, &policy.issuers[usize::from(issuer.0)], &pairs);
            }
        }
    }

    /// `[mapping.actor]`, read against the profile of the actor's own issuer.
    fn actor(
        &mut self,
        fields: &Fields<'_, '_>,
        roles: &[(RoleId, Span)],
        reading: &Reading<'_, '_, '_>,
        findings: &mut Findings,
    ) -> Option<Arc<ActorRule>> {
        let (rule, compiled) = actor::read(fields.entry("actor")?, roles, reading, findings)?;
        let pairs = compiled.iter().filter_map(|Compiled { condition, .. }| match &condition.test {
            Test::Repository(pairs) => Some((rule.issuer, pairs.clone(), condition.span.clone())),
            _ => None,
        });
        self.paired.extend(pairs);
        Some(Arc::new(ActorRule { conditions: self.values.share(compiled), ..rule }))
    }

    fn mapping(&mut self, fields: &Fields<'_, '_>, reading: &Reading<'_, '_, '_>, findings: &mut Findings) {
        let before = findings.errors();
        let named = fields.need_text("name", findings);
        let name = named.as_ref().map_or("without name", |(name, _)| *name);
        if let Some((name, span)) = named {
            names::check("mapping", name, &span, findings);
            self.declared.push((name.to_owned(), span, fields.span()));
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
        // For readers of the file: nothing else asks for it.
        let _ = fields.text("description", findings);
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
        let known_roles: Vec<&Role> = roles.iter().map(|(role, _)| &reading.roles.all[role.0 as usize]).collect();
        let given_to = (&reading.owner.team, known_roles.as_slice());
        let Some((issuer_number, issuer, profile)) = reading.issuer(fields, name, findings) else {
            conditions::keys_alone(&keys_of(fields.entry("match"), Origin::Match, findings), findings);
            limit::read(fields.entry("limit"), None, given_to, findings);
            self.actor(fields, &roles, reading, findings);
            duration::read(fields.entry("max_session"), findings);
            return;
        };
        let limit = limit::read(fields.entry("limit"), Some((issuer.name.as_ref(), profile)), given_to, findings);
        let max_session =
            session::read(fields.entry("max_session"), max.as_ref(), (issuer.name.as_ref(), profile), findings);
        let issuer_id = IssuerId(issuer_number);
        let actor = self.actor(fields, &roles, reading, findings);
        let expires = fields.entry("expires").and_then(|entry| duration::moment(entry, findings));
        let shadow = fields.boolean("shadow", findings).unwrap_or(false);
        let known_issuer = (issuer.name.as_ref(), profile);
        let ceremony = fields.entry("ceremony").map(|entry| ceremony::read(entry, known_issuer, reading, findings));
        let waits = ceremony.is_some() && !shadow;
        let (ceremony, allow_self) = ceremony.flatten().unzip();
        if let (Some(rule), true) = (&ceremony, shadow) {
            let help = "remove one of the two: nobody is asked to claim what is not given";
            let message = "the mapping is in the shadow, so its ceremony never begins";
            findings.push(Diagnostic::error(codes::CEREMONY_IN_SHADOW, rule.span.clone(), message, help).warning());
        }
        let claimed = exceptions::claimed(fields, &reading.owner.team, findings);
        let alternatives = alternatives(fields, findings);
        let mut rows: Vec<(Vec<Compiled>, Vec<Exempt>)> = Vec::new();
        let mut excuses = Vec::new();
        for keys in &alternatives {
            let conditions_before = findings.errors();
            let mut used = Vec::new();
            let mut compiled = reading.conditions(fields, keys, issuer, profile, findings);
            let pairs = compiled.iter().filter_map(|Compiled { condition, .. }| match &condition.test {
                Test::Repository(pairs) => Some((issuer_id, pairs.clone(), condition.span.clone())),
                _ => None,
            });
            self.paired.extend(pairs);
            // Rules over what the conditions are would only repeat the fault of one that could not be read.
            if findings.errors() == conditions_before {
                let name = match alternatives.len() {
                    1 => name.to_owned(),
                    // Stands between backticks.
                    _ => format!("{name}`, alternative `{}", rows.len() + 1),
                };
                let judged = Judged {
                    name: &name,
                    issuer_id,
                    issuer,
                    profile,
                    compiled: &compiled,
                    claimed: &claimed,
                    waits,
                    fields,
                    reading,
                };
                judged.binding(&roles, findings);
                used.extend(judged.pins(&roles, findings));
                judged.narrow(&roles, findings);
                judged.events_told(&roles, findings);
                if let Some(rule) = &ceremony {
                    let all: Vec<&Compiled> = compiled.iter().collect();
                    ceremony::judge(rule, known_issuer, &roles, &all, reading, findings);
                }
                judged.durations(&roles, &[max.as_ref(), given.as_ref()], findings);
                used.extend(judged.admits_any_event(&roles).then_some(Exempt::AnyEvent));
                excuses.extend(judged.needless(&used));
                if let Some(events) = judged.default_events(&roles, findings) {
                    compiled.push(events);
                }
            }
            rows.push((compiled, used));
        }
        let allow_self: Option<Exception> = allow_self.flatten();
        if let (0, Some(Exception { exempt, reason, span })) = (findings.errors() - before, &allow_self) {
            exceptions::in_force(name, *exempt, reason, span, findings);
        }
        let ceremony = ceremony.map(Arc::new);
        if findings.errors() == before {
            exceptions::tell(name, &claimed, &rows, &excuses, findings);
        }
        if findings.errors() != before {
            return;
        }
        let several = rows.len() > 1;
        for (number, (compiled, used)) in (1..).zip(rows) {
            self.all.push(Mapping {
                name: name.to_owned(),
                alternative: several.then_some(number),
                team: reading.team.clone(),
                issuer: issuer_id,
                roles: roles.iter().map(|(role, _)| *role).collect(),
                conditions: self.values.share(compiled),
                duration: given.as_ref().map(|(given, _)| *given),
                max_duration: max.as_ref().map(|(max, _)| *max),
                max_session,
                actor: actor.clone(),
                ceremony: ceremony.clone(),
                limit,
                expires,
                shadow,
                exceptions: claimed
                    .iter()
                    .filter(|one| used.contains(&one.exempt))
                    .chain(&allow_self)
                    .cloned()
                    .collect(),
                span: fields.span(),
            });
        }
    }
}

/// The keys of each `[[mapping.any]]`; one without keys where there is none.
fn alternatives<'a, 'f>(fields: &Fields<'a, 'f>, findings: &mut Findings) -> Vec<Vec<(Entry<'a, 'f>, Origin)>> {
    let Some(entry) = fields.entry("any") else { return vec![Vec::new()] };
    let alternatives = fields.array("any", findings);
    if alternatives.is_empty() {
        if entry.value.get_ref().is_array() {
            empty_list(entry, findings);
        }
        return vec![Vec::new()];
    }
    if alternatives.len() > ALTERNATIVES_MAX {
        findings.error(
            codes::TOO_MANY_ALTERNATIVES,
            entry.span(),
            format!("the mapping has {} alternatives, more than {ALTERNATIVES_MAX}", alternatives.len()),
            "write values that differ in one claim as a list, or several mappings",
        );
        return vec![Vec::new()];
    }
    let keys = |value| keys_of(Some(Entry { value, ..entry }), Origin::Any, findings);
    alternatives.iter().map(keys).collect()
}

fn file<'a, 'f>(fields: &Fields<'a, 'f>, findings: &mut Findings) -> File<'a, 'f> {
    let mut file = File { issuer: None, keys: Vec::new(), review_by: None };
    let Some(entry) = fields.entry("file") else { return file };
    let Some(table) = Fields::read(entry.source, Place::File, entry.value, findings) else { return file };
    file.issuer = table.text("issuer", findings);
    file.review_by = table.entry("review_by").and_then(|entry| Some((duration::date(entry, findings)?, entry.span())));
    file.keys = keys_of(table.entry("match"), Origin::File, findings);
    file
}

/// What a mapping is read against.
pub(super) struct Reading<'r, 'a, 'f> {
    pub(super) policy: &'r Policy<'r>,
    pub(super) roles: &'r Roles,
    pub(super) known: &'r Known,
    owner: &'r TeamRules,
    /// The owner's name, shared by its mappings.
    team: Arc<str>,
    file: &'r File<'a, 'f>,
    pub(super) sets: &'r Sets,
}

impl<'r> Reading<'r, '_, '_> {
    /// The team whose file it is, with what its mappings may use.
    pub(super) fn team_rules(&self) -> &'r TeamRules {
        self.owner
    }

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
        self.may_use(issuer, span, findings);
        Some(found)
    }

    /// Whether the team's mappings may speak of an issuer's jobs.
    pub(super) fn may_use(&self, issuer: &str, span: Span, findings: &mut Findings) {
        if self.owner.issuers.as_ref().is_some_and(|allowed| !allowed.iter().any(|allowed| allowed == issuer)) {
            let team = &self.owner.team.name;
            findings.error(
                codes::ISSUER_NOT_FOR_TEAM,
                span,
                format!("team `{team}` may not write mappings for issuer `{issuer}`"),
                format!("add `{issuer}` to `issuers` of `[team.{team}]` in `policy.toml`, if the platform agrees"),
            );
        }
    }

    /// Of `[file.match]`, `[mapping.match]` and one `[[mapping.any]]` together.
    fn conditions(
        &self,
        fields: &Fields<'_, '_>,
        alternative: &[(Entry<'_, '_>, Origin)],
        issuer: &Issuer,
        profile: &Profile,
        findings: &mut Findings,
    ) -> Vec<Compiled> {
        let own = keys_of(fields.entry("match"), Origin::Match, findings);
        let mut keys: Vec<(Entry<'_, '_>, Origin)> = Vec::new();
        for (entry, origin) in self.file.keys.iter().chain(&own).chain(alternative) {
            if let Some((other, of)) =
                keys.iter().find(|(other, _)| other.name() == entry.name() && entry.name() != CLAIMS)
            {
                let (table, other_table) = (conditions::table_name(*origin), conditions::table_name(*of));
                let finding = Diagnostic::error(
                    codes::KEY_IN_BOTH,
                    entry.span(),
                    format!("`{}` stands in `[{other_table}]` and in `[{table}]`", entry.name()),
                    "keep it in one of the two; neither overrides the other",
                );
                findings.push(finding.and(other.span(), "the other one"));
            }
            keys.push((*entry, *origin));
        }
        if keys.is_empty() && fields.entry("match").is_none() && fields.entry("any").is_none() {
            findings.error(
                codes::NO_CONDITIONS,
                fields.span(),
                "the mapping has no conditions, so every job of the issuer would have its roles",
                "write `[mapping.match]` with at least the repository",
            );
        }
        let known = Some(self.known);
        let ground = Ground { issuers: vec![(issuer, profile)], sets: Some(self.sets), known, deny: false };
        conditions::compile(&ground, &keys, findings)
    }
}
