//! The rules that look at all conditions of a mapping, for each of its alternatives.

use super::Reading;
use crate::{
    diag::{Diagnostic, Span},
    mapping::{
        Condition, Exception, Exempt, Issuer, IssuerId, RoleId, Test, codes,
        compile::{
            conditions::{Compiled, Shape},
            duration,
            policy::{Narrow, PRODUCTION},
        },
        syntax::{Fields, Findings},
    },
    workload::{Claim, ClaimKey, Profile, SetBy},
};

/// A mapping whose conditions could be read, before the rules that look at all of it.
pub(super) struct Judged<'j, 'r, 'a, 'f> {
    pub(super) name: &'j str,
    pub(super) issuer_id: IssuerId,
    pub(super) issuer: &'j Issuer,
    pub(super) profile: &'j Profile,
    pub(super) compiled: &'j [Compiled],
    /// The exceptions that the mapping claims.
    pub(super) claimed: &'j [Exception],
    /// Its grants wait for people: it has a ceremony, and is not in the shadow.
    pub(super) waits: bool,
    pub(super) fields: &'j Fields<'a, 'f>,
    pub(super) reading: &'j Reading<'r, 'a, 'f>,
}

impl Judged<'_, '_, '_, '_> {
    pub(super) fn require(&self, role: RoleId) -> &[Compiled] {
        self.reading.roles.requires.get(&(role, self.issuer_id)).map_or(&[], Vec::as_slice)
    }

    /// Conditions of mapping and role.
    fn all(&self, role: RoleId) -> impl Iterator<Item = &Compiled> {
        self.compiled.iter().chain(self.require(role))
    }

    /// Those on a claim.
    pub(super) fn on(&self, role: RoleId, claim: Claim) -> impl Iterator<Item = &Shape> {
        self.all(role).filter(move |compiled| compiled.condition.claim == claim).map(|compiled| &compiled.shape)
    }

    /// Whether team and issuer may have the roles, and whether their placeholders are fixed.
    pub(super) fn binding(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        let team = &self.reading.owner.team.name;
        for (id, span) in roles {
            let role = &self.reading.roles.all[id.0 as usize];
            if !self.reading.roles.bound_by(team, *id) {
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
                let by_name = self.all(*id).any(|compiled| self.fixes_name(compiled));
                let fixed = self.on(*id, *claim).any(|shape| match shape {
                    Shape::Exact(_) | Shape::Is(_) | Shape::Owner => true,
                    Shape::Pin | Shape::Other => false,
                }) || (by_name && [Claim::Repository, Claim::RepositoryOwner].contains(claim));
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

    /// Whether a condition pins repositories and leaves each only the name that stands there.
    fn fixes_name(&self, compiled: &Compiled) -> bool {
        let goes = |pairs: &[(String, String)]| self.issuer.grants_renamed && pairs.len() == 1;
        let named = |test: &Test| test.repositories().is_some_and(|pairs| !goes(pairs));
        compiled.shape == Shape::Pin
            && compiled.condition.claim == Claim::Repository
            && compiled.condition.test.parts().iter().all(named)
    }

    /// Repositories are pinned by id on shared issuers, and for production everywhere. Returns the exception by which it may be
    /// otherwise.
    pub(super) fn pins(&self, roles: &[(RoleId, Span)], findings: &mut Findings) -> Option<Exempt> {
        if self.is_pinned() {
            return None;
        }
        let production =
            roles.iter().find(|(role, _)| self.reading.roles.all[role.0 as usize].sensitivity == PRODUCTION);
        let production = production.map(|(role, _)| &self.reading.roles.all[role.0 as usize].name);
        if !self.issuer.multi_tenant && production.is_none() {
            self.rests_on_something(roles, findings);
            return None;
        }
        if let Some(exempt) = self.excepted(roles, production.is_some(), findings) {
            return Some(exempt);
        }
        let repository = self.compiled.iter().find(|compiled| compiled.condition.claim == Claim::Repository);
        let by_owner = self.compiled.iter().any(|compiled| compiled.shape == Shape::Owner);
        let span = repository.map_or_else(|| self.fields.span(), |compiled| compiled.condition.span.clone());
        let help = match repository.map(|compiled| &compiled.shape) {
            Some(Shape::Exact(names)) => format!(
                "write `repository = {{ name = \"{}\", id = … }}`: a name can be given up and taken by a stranger, an id cannot{}",
                names.first().map_or("…", String::as_str),
                if self.claims(Exempt::MutableIdentity) { ", and no exception makes a name enough for production" } else { "" }
            ),
            _ if self.by_subject() => "write the token's `sub`, exactly: `subject = \"…\"`; this issuer's tokens have no other identity".to_owned(),
            _ if by_owner => "list the repositories with their ids in `[set.*]`; or say why every repository of the owner may have it, `any_repository = \"…\"`, if the platform lets the team (`may`)".to_owned(),
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
        None
    }

    /// On an issuer of one's own names may carry a mapping, but not claims alone that whoever may push anywhere chooses.
    fn rests_on_something(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        let carries = |compiled: &Compiled| {
            let Condition { claim, test, .. } = &compiled.condition;
            let says_little = |test: &Test| matches!(test, Test::Present | Test::Absent | Test::SameRepository);
            let chosen = match claim {
                ClaimKey::Canonical(claim) => self.profile.author_controlled().contains(claim),
                ClaimKey::Raw(raw) => {
                    self.profile.raw_claim(&raw.native()).is_none_or(|(_, set_by)| set_by == SetBy::Author)
                }
            };
            !chosen && !test.parts().iter().any(says_little)
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
    pub(super) fn narrow(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
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
                Narrow::Ceremony => "`[mapping.ceremony]`, which people claim",
            };
            let remedies = needs.iter().map(remedy).collect::<Vec<_>>().join("; or ");
            findings.error(
                codes::NOT_NARROW,
                span.clone(),
                format!(
                    "role `{}` is `{}`, and mapping `{}` is not narrow enough for it",
                    role.name, role.sensitivity, self.name
                ),
                format!("add {remedies}"),
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
            Narrow::Ceremony => self.waits,
            Narrow::Tag => {
                let absent = |test: &Test| matches!(test, Test::Absent);
                let demands_tag =
                    |condition: &Condition| condition.claim == Claim::Tag && !condition.test.parts().iter().any(absent);
                let tag = self.all(role).any(|compiled| demands_tag(&compiled.condition)) || exact_ref("refs/tags/");
                tag && (is_true(Claim::RefProtected) || is_true(Claim::EnvironmentProtected))
            }
        }
    }

    /// Durations that no role of the mapping can give are clamped; that is worth a warning.
    pub(super) fn durations(
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
    pub(super) fn default_events(&self, roles: &[(RoleId, Span)], findings: &mut Findings) -> Option<Compiled> {
        let names_event =
            |compiled: &[Compiled]| compiled.iter().any(|compiled| compiled.condition.claim == Claim::EventName);
        let events = self.profile.default_events();
        if names_event(self.compiled) || !self.profile.provides(Claim::EventName) || events.is_empty() {
            return None;
        }
        if self.admits_any_event(roles) {
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
        Some(Compiled::default_events(events, self.fields.span()))
    }
}
