//! What the issuer's profile says of its jobs, held against a mapping: what pins one, and whether pull requests show.

use super::judged::Judged;
use crate::{
    diag::Span,
    mapping::{
        RoleId, codes,
        compile::{
            conditions::{Compiled, Shape},
            policy::PRODUCTION,
        },
        syntax::Findings,
    },
    workload::{Claim, Profile},
};

/// Whether a condition fixes what the profile says to pin: repositories by id or, where an issuer has none, the subject.
pub(in crate::mapping::compile) fn is_pin(profile: &Profile, compiled: &Compiled) -> bool {
    compiled.shape == Shape::Pin
        || (compiled.condition.claim == Claim::Subject
            && matches!(compiled.shape, Shape::Exact(_))
            && profile.pins().contains(&Claim::Subject))
}

impl Judged<'_, '_, '_, '_> {
    /// Whether the alternative pins anything.
    pub(super) fn is_pinned(&self) -> bool {
        self.compiled.iter().any(|compiled| self.is_pin(compiled))
    }

    /// Fixes what the profile says to pin.
    pub(super) fn is_pin(&self, compiled: &Compiled) -> bool {
        is_pin(self.profile, compiled)
    }

    /// The issuer's jobs have no narrower identity than their subject.
    pub(super) fn by_subject(&self) -> bool {
        self.profile.pins().first() == Some(&Claim::Subject)
    }

    /// Where no claim tells a pull request's job from a push's, the branch alone carries no production role: a pull
    /// request's source branch may have any name.
    pub(super) fn events_told(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        if self.profile.tells_events() {
            return;
        }
        for (id, span) in roles {
            let role = &self.reading.roles.all[id.0 as usize];
            let is_true = |claim| self.on(*id, claim).any(|shape| *shape == Shape::Is(true));
            let by_platform = is_true(Claim::RefProtected) || is_true(Claim::EnvironmentProtected);
            if role.sensitivity != PRODUCTION || by_platform || self.waits || !self.profile.provides(Claim::Ref) {
                continue;
            }
            findings.error(
                codes::EVENTS_UNTOLD,
                span.clone(),
                format!(
                    "role `{}` is `{PRODUCTION}`, and tokens of issuer `{}` do not tell a pull request's job from another",
                    role.name, self.issuer.name
                ),
                "add `ref_protected = true` or `environment_protected = true` where the issuer sends it, or let people claim it (`[mapping.ceremony]`); otherwise give the role another sensitivity, or to jobs of another issuer",
            );
        }
    }
}
