//! Whose claims a case is judged by: the job's, and those of who acts for it. A chain's inner actors are read by nobody
//! (RFC 8693 section 4.1).

use super::{Judge, Side, Silent};
use crate::{
    mapping::{
        RoleId,
        set::{Deny, IssuerId, Mapping},
    },
    reason::Reason,
    workload::{Via, Workload},
};

/// One of a case whose claims conditions are on: the principal, or the outermost actor.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    pub(super) issuer: IssuerId,
    pub(crate) workload: &'a Workload<'a>,
    /// Whether it acts on another's behalf.
    pub(crate) acts: bool,
}

impl<'a> Judge<'a> {
    /// The outermost actor, where the folder knows its issuer: no mapping takes another.
    pub(crate) fn acting(&self) -> Option<Party<'a>> {
        let workload = self.actors.first()?;
        let (issuer, _) = self.set.issuer_named(&workload.issuer)?;
        Some(Party { issuer, workload, acts: true })
    }

    /// The outermost actor, whoever it is.
    pub(crate) fn outermost(&self) -> Option<&'a Workload<'a>> {
        self.actors.first()
    }

    /// How many act, one for another.
    pub(crate) fn depth(&self) -> usize {
        self.actors.len()
    }

    /// By what the case was brought.
    pub(crate) fn via(&self) -> &'a Via<'a> {
        self.via
    }

    /// How what is unknown of who acts is read by mappings.
    pub(crate) fn actor_side(&self) -> Side {
        if *self.via == Via::Handoff { Side::Hopes } else { Side::Grants }
    }

    /// How what is unknown of one of the case is read by denies. Nearly all is, of who shall act once: a deny about it is for
    /// the exchange that it comes to.
    pub(crate) fn deny_side(&self, party: Party<'_>) -> Side {
        if party.acts && *self.via == Via::Handoff { Side::Grants } else { Side::Denies }
    }

    /// Why a mapping does not take whoever acts, or nobody; `None`: it does. A job's own token never goes by a mapping for
    /// downstream exchanges, nor a token of ours by any other.
    pub(crate) fn actor_miss(&self, mapping: &Mapping) -> Option<Reason> {
        let rule = mapping.actor.as_deref();
        if rule.and_then(|rule| rule.audience.as_deref()) != self.via.audience() {
            let alone = rule.is_some() && self.actors.is_empty();
            return Some(if alone { Reason::ActorNeeded } else { Reason::ActorNotAllowed });
        }
        match (rule, self.actors.is_empty()) {
            (None, true) => None,
            (None, false) => Some(Reason::ActorNotAllowed),
            (Some(rule), true) => rule.required.then_some(Reason::ActorNeeded),
            (Some(rule), false) => {
                let acting = self.acting().filter(|acting| acting.issuer == rule.issuer);
                let fits = |acting| self.check_of(acting, &rule.conditions, self.actor_side(), &mut Silent);
                if !acting.is_some_and(fits) {
                    Some(Reason::ActorNotAllowed)
                } else if self.depth() > usize::from(rule.max_depth) {
                    Some(Reason::ChainTooLong)
                } else {
                    None
                }
            }
        }
    }

    /// The first deny about this role that holds, of the job or of who acts for it: the credential is for both.
    pub(crate) fn denied(&self, role: RoleId) -> Option<&'a Deny> {
        let mut denies = self.denies(role);
        let holds = |(party, deny): &(Party<'a>, &'a Deny)| {
            self.check_of(*party, &deny.conditions, self.deny_side(*party), &mut Silent)
        };
        let held = denies.find(holds);
        held.map(|(_, deny)| deny)
    }

    /// The denies that are about this role and the issuer of the job, or of who acts for it.
    pub(crate) fn denies(&self, role: RoleId) -> impl Iterator<Item = (Party<'a>, &'a Deny)> {
        let (set, index) = (self.set, self.set.index());
        [Some(self.principal), self.acting()].into_iter().flatten().flat_map(move |party| {
            let denies = index.denies(party.issuer).iter().filter(move |at| index.is_about(**at, role));
            denies.map(move |at| (party, &set.denies[*at as usize]))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        fixture::*,
        mapping::{Ask, Decision, Got, IssuerId, MappingSet, decide, explain},
        reason::Reason,
        time::UnixSeconds,
        workload::{Case, Claim as C, Via, Workload},
    };

    const BOT: (C, &str) = (C::Subject, "bot");

    fn acted(job: Case<'static>, actors: &[Case<'static>]) -> Case<'static> {
        let actors: Vec<Workload<'static>> = actors.iter().map(|actor| actor.principal.clone()).collect();
        Case { actors, ..job }
    }
    fn bot() -> Case<'static> {
        job_of("gitlab", &[BOT], &[])
    }
    fn denied(set: &MappingSet, case: &Case<'_>) -> Option<Reason> {
        let ask = Ask { role: Some("r"), ..Ask::default() };
        let (decision, trace) = explain(set, case, &ask, UnixSeconds(0));
        assert_eq!(decision, decide(set, case, &ask, UnixSeconds(0)));
        let held = trace.mappings.iter().any(|report| report.held && report.conditions.iter().all(|one| one.held));
        match decision {
            Decision::Grant(_) => {
                assert!(held);
                None
            }
            Decision::Deny(denial) => {
                let all_held = trace.mappings.iter().any(|report| report.conditions.iter().all(|one| one.held));
                assert!(denial.reason == Reason::Denied || (!held && !all_held), "{trace:?}");
                Some(denial.reason)
            }
        }
    }
    fn with_bot(required: bool, max_depth: u8) -> MappingSet {
        let pin = repositories(&[("acme/api", "1")]);
        Builder::new().mapping("m", "r", [pin]).acting(1, required, max_depth, [text(C::Subject, &["bot"])]).build()
    }

    #[test]
    fn without_a_rule_nobody_acts() {
        let set = Builder::new().mapping("m", "r", [repositories(&[("acme/api", "1")])]).build();
        assert_eq!(denied(&set, &push(&[])), None);
        assert_eq!(denied(&set, &acted(push(&[]), &[bot()])), Some(Reason::ActorNotAllowed));
    }

    #[test]
    fn a_rule_takes_its_actor_and_no_other() {
        for (required, alone) in [(false, None), (true, Some(Reason::ActorNeeded))] {
            let set = with_bot(required, 1);
            assert_eq!(denied(&set, &push(&[])), alone);
            assert_eq!(denied(&set, &acted(push(&[]), &[bot()])), None);
            for other in [
                job_of("gitlab", &[(C::Subject, "bot2")], &[]),
                job_of("github", &[BOT], &[]),
                job_of("https://else.example", &[BOT], &[]),
                job_of("gitlab", &[], &[]),
            ] {
                assert_eq!(denied(&set, &acted(push(&[]), &[other])), Some(Reason::ActorNotAllowed));
            }
            let elsewhere = push(&[(C::RepositoryId, "9"), (C::Repository, "acme/x")]);
            assert_eq!(denied(&set, &acted(elsewhere, &[bot()])), Some(Reason::NoMapping));
        }
    }

    #[test]
    fn only_the_outermost_is_read_and_all_are_counted() {
        let (admin, set) = (job_of("gitlab", &[(C::Subject, "admin")], &[]), with_bot(true, 2));
        assert_eq!(denied(&set, &acted(push(&[]), &[bot(), admin.clone()])), None);
        assert_eq!(denied(&set, &acted(push(&[]), &[admin.clone(), bot()])), Some(Reason::ActorNotAllowed));
        let three = [bot(), admin.clone(), admin.clone()];
        assert_eq!(denied(&set, &acted(push(&[]), &three)), Some(Reason::ChainTooLong));
        let two = [bot(), admin];
        assert_eq!(denied(&with_bot(true, 1), &acted(push(&[]), &two)), Some(Reason::ChainTooLong));
    }

    #[test]
    fn a_token_of_ours_goes_by_mappings_of_its_audience_and_by_no_other() {
        let pin = || repositories(&[("acme/api", "1")]);
        let builder = || Builder::new().mapping("m", "r", [pin()]).acting(1, true, 2, [text(C::Subject, &["bot"])]);
        let (own, onward) = (builder().build(), builder().downstream("https://a.example").build());
        let by = |audience: &'static str| Case {
            via: Via::Downstream(audience.into()),
            ..acted(push(&[]), &[bot(), job_of("gitlab", &[], &[])])
        };
        assert_eq!(denied(&onward, &by("https://a.example")), None);
        assert_eq!(denied(&onward, &by("https://b.example")), Some(Reason::ActorNotAllowed));
        assert_eq!(denied(&own, &by("https://a.example")), Some(Reason::ActorNotAllowed));
        assert_eq!(denied(&onward, &acted(push(&[]), &[bot()])), Some(Reason::ActorNotAllowed));
        assert_eq!(denied(&onward, &push(&[])), Some(Reason::ActorNeeded));
        let plain = Builder::new().mapping("m", "r", [pin()]).build();
        assert_eq!(denied(&plain, &by("https://a.example")), Some(Reason::ActorNotAllowed));
    }

    #[test]
    fn of_who_shall_act_only_what_is_known_can_refuse() {
        let pin = || repositories(&[("acme/api", "1")]);
        let promised = |sub: &str| {
            let actor = Workload::named("gitlab".to_owned(), "https://gitlab.example", sub);
            Case { actors: vec![actor], via: Via::Handoff, ..push(&[]) }
        };
        let rule = [text(C::Subject, &["bot"]), repositories(&[("acme/bot", "7")]), text(C::Branch, &["main"])];
        let set = || Builder::new().mapping("m", "r", [pin()]).acting(1, true, 1, rule.clone());
        assert_eq!(denied(&set().build(), &promised("bot")), None, "the rest is asked when it acts");
        assert_eq!(denied(&set().build(), &promised("other")), Some(Reason::ActorNotAllowed));
        assert_eq!(denied(&set().build(), &acted(push(&[]), &[bot()])), Some(Reason::ActorNotAllowed));
        let of_actor = |condition| {
            let mut set = set().deny("d", &["r"], [condition]).build();
            set.denies[0].issuers = vec![IssuerId(1)];
            set.finish()
        };
        assert_eq!(denied(&of_actor(text(C::Branch, &["main"])), &promised("bot")), None);
        assert_eq!(denied(&of_actor(text(C::Subject, &["bot"])), &promised("bot")), Some(Reason::Denied));
        let far =
            Case { principal: push(&[(C::RepositoryId, "9"), (C::Repository, "acme/x")]).principal, ..promised("bot") };
        assert_eq!(denied(&set().build(), &far), Some(Reason::NoMapping));
    }

    #[test]
    fn a_deny_holds_of_who_acts_too() {
        let pin = || repositories(&[("acme/api", "1")]);
        let runner = || text(C::RunnerEnvironment, &["self-hosted"]);
        let agent = |runner| job(&[(C::Subject, "agent"), (C::RunnerEnvironment, runner)], &[]);
        let set = Builder::new()
            .mapping("m", "r", [pin()])
            .acting(0, false, 1, [text(C::Subject, &["agent"])])
            .deny("hosted", &["r"], [runner()])
            .build();
        let hosted = push(&[(C::RunnerEnvironment, "github-hosted")]);
        assert_eq!(denied(&set, &acted(hosted.clone(), &[agent("github-hosted")])), None);
        assert_eq!(denied(&set, &acted(hosted, &[agent("self-hosted")])), Some(Reason::Denied));
    }

    #[test]
    fn a_trace_says_what_is_asked_of_who_acts() {
        let set = with_bot(true, 1);
        let told = |case: &Case<'_>| {
            let (_, trace) = explain(&set, case, &Ask::default(), UnixSeconds(0));
            let failed = trace.mappings[0].conditions.iter().filter(|one| !one.held);
            failed.map(|one| (one.claim.clone(), one.got.clone(), one.private)).collect::<Vec<_>>()
        };
        assert_eq!(told(&push(&[])), [("actor".to_owned(), Got::None, false)]);
        let other = job_of("gitlab", &[(C::Subject, "bot2")], &[]);
        assert_eq!(
            told(&acted(push(&[]), &[other])),
            [("actor.subject".to_owned(), Got::Value("bot2".to_owned()), true)]
        );
        let github = job_of("github", &[BOT], &[]);
        assert_eq!(
            told(&acted(push(&[]), &[github])),
            [("actor.issuer".to_owned(), Got::Value("github".to_owned()), true)]
        );
    }
}
