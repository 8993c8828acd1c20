//! Exceptions: who may claim them, what each still rests on, and that none stands in a mapping without effect.
//!
//! Each is written with its reason, and told by a note wherever it is in force: an exception that nobody reads about is a hole.

use super::{Team, judged::Judged};
use crate::{
    diag::{Diagnostic, Span, did_you_mean},
    mapping::{
        Exception, Exempt, RoleId, codes,
        compile::{
            conditions::{Compiled, Shape},
            policy::PRODUCTION,
        },
        syntax::{Entry, Fields, Findings},
    },
    workload::Claim,
};

/// Bytes of a reason: a few sentences.
const REASON_BYTES_MAX: usize = 1000;

/// `may` of a team. An empty list is as good as none.
pub(in crate::mapping::compile) fn may(fields: &Fields<'_, '_>, findings: &mut Findings) -> Vec<Exempt> {
    let Some(entry) = fields.entry("may") else { return Vec::new() };
    if entry.value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        return Vec::new();
    }
    let mut may = Vec::new();
    for (name, span) in entry.texts(findings) {
        if let Some(exempt) = Exempt::from_name(name) {
            may.push(exempt);
        } else {
            unknown(name, span, findings);
        }
    }
    may
}

fn unknown(name: &str, span: Span, findings: &mut Findings) {
    let message = format!("there is no exception `{name}`");
    match did_you_mean(name, Exempt::ALL.map(Exempt::name)) {
        Some(meant) => {
            let help = format!("did you mean `{meant}`?");
            findings.edit(codes::UNKNOWN_EXCEPTION, span, message, help, format!("\"{meant}\""));
        }
        None => {
            let names = Exempt::ALL.map(|exempt| format!("`{exempt}`")).join(", ");
            findings.error(codes::UNKNOWN_EXCEPTION, span, message, format!("remove it; there are {names}"));
        }
    }
}

/// The exceptions that a mapping claims, as far as its team may.
pub(super) fn claimed(fields: &Fields<'_, '_>, team: &Team, findings: &mut Findings) -> Vec<Exception> {
    let claimed = Exempt::OF_MAPPING.into_iter().filter_map(|exempt| {
        let entry = fields.entry(exempt.name())?;
        let reason = reason(entry, findings);
        allowed(team, exempt, &entry, findings);
        // Claimed all the same, so that the fault is told once.
        Some(Exception { exempt, reason: reason.unwrap_or_default().into(), span: entry.span() })
    });
    claimed.collect()
}

/// Tells an exception that the team may not claim.
pub(in crate::mapping::compile) fn allowed(
    team: &Team,
    exempt: Exempt,
    entry: &Entry<'_, '_>,
    findings: &mut Findings,
) {
    if !team.may.contains(&exempt) {
        let name = &team.name;
        findings.error(
            codes::EXCEPTION_NOT_ALLOWED,
            entry.key_span(),
            format!("team `{name}` may not claim the exception `{exempt}`"),
            format!("add `\"{exempt}\"` to `may` of `[team.{name}]` in `policy.toml`, if the platform agrees"),
        );
    }
}

/// Why an exception is claimed, in its author's words.
pub(in crate::mapping::compile) fn reason<'a>(entry: Entry<'a, '_>, findings: &mut Findings) -> Option<&'a str> {
    let reason = entry.value.get_ref().as_str().map(str::trim);
    let said =
        reason.filter(|text| !text.is_empty() && text.len() <= REASON_BYTES_MAX && !text.contains(char::is_control));
    if said.is_none() {
        let name = entry.name();
        let help = format!(
            "say why, in one line of at most {REASON_BYTES_MAX} bytes: `{name} = \"…\"`; it is told by `check`, health and evidence"
        );
        findings.error(codes::EXCEPTION_REASON, entry.value_span(), format!("`{name}` gives no reason"), help);
    }
    said
}

/// Why an alternative has no use for an exception.
pub(super) struct Needless {
    exempt: Exempt,
    why: String,
    /// The condition of the mapping's own that contradicts it.
    at: Option<Span>,
}

/// Tells each exception that is in force, and each that no alternative has a use for. That two conditions of one mapping
/// contradict each other is its author's error; what the issuer or the role makes needless is a warning.
pub(super) fn tell(
    mapping: &str,
    claimed: &[Exception],
    rows: &[(Vec<Compiled>, Vec<Exempt>)],
    excuses: &[Needless],
    findings: &mut Findings,
) {
    for Exception { exempt, reason, span } in claimed {
        if rows.iter().any(|(_, used)| used.contains(exempt)) {
            in_force(mapping, *exempt, reason, span, findings);
            continue;
        }
        let mut whys = excuses.iter().filter(|needless| needless.exempt == *exempt);
        let Some(first) = whys.next() else { continue };
        let own = first.at.clone().filter(|_| whys.all(|other| other.at.is_some()));
        let (code, contradicted) = match own {
            Some(_) => (codes::EXCEPTION_CONTRADICTED, "contradicts"),
            None => (codes::EXCEPTION_NOT_NEEDED, "changes nothing in"),
        };
        let finding = Diagnostic::error(
            code,
            span.clone(),
            format!("`{exempt}` {contradicted} mapping `{mapping}`: {}", first.why),
            format!("remove `{exempt}`"),
        );
        findings.push(match own {
            Some(at) => finding.and(at, "this stands against it"),
            None => finding.warning(),
        });
    }
}

/// Tells an exception that a mapping rests on.
pub(super) fn in_force(mapping: &str, exempt: Exempt, reason: &str, span: &Span, findings: &mut Findings) {
    let told = Diagnostic::error(
        codes::EXCEPTION,
        span.clone(),
        format!("mapping `{mapping}` rests on the exception `{exempt}`: {reason}"),
        "nothing, as long as that is so; take the exception from the team's `may` to end it everywhere",
    );
    findings.push(told.note());
}

impl Judged<'_, '_, '_, '_> {
    pub(super) fn claims(&self, exempt: Exempt) -> bool {
        self.claimed.iter().any(|exception| exception.exempt == exempt)
    }

    /// The exception by which an alternative without pin may load, if the mapping claims one; says what it still lacks.
    pub(super) fn excepted(
        &self,
        roles: &[(RoleId, Span)],
        production: bool,
        findings: &mut Findings,
    ) -> Option<Exempt> {
        let by_name = self.claims(Exempt::MutableIdentity) && !production;
        let (any, owned, named) = (self.claims(Exempt::AnyRepository), self.names_owner(), self.names_exactly());
        if any && (owned || !(by_name && named)) {
            if !owned {
                self.lacks(Exempt::AnyRepository, "pins no owner", &self.owner_remedy(), findings);
            }
            self.called_exactly(roles, findings);
            return Some(Exempt::AnyRepository);
        }
        if !by_name {
            return None;
        }
        if self.issuer.pin.is_some() {
            let help = "pin what the issuer's profile names; `claimbound profile show` tells it";
            let what =
                format!("is for issuer `{}`, whose tokens tell strangers by nothing but the pin", self.issuer.name);
            self.lacks(Exempt::MutableIdentity, &what, help, findings);
        } else if !named {
            let help = "name each repository in full, `repository = \"owner/name\"`; for every repository of an owner there is `any_repository`";
            self.lacks(Exempt::MutableIdentity, "names no repository exactly", help, findings);
        }
        Some(Exempt::MutableIdentity)
    }

    fn lacks(&self, exempt: Exempt, what: &str, help: &str, findings: &mut Findings) {
        let at = self.claimed.iter().find(|exception| exception.exempt == exempt);
        let span = at.map_or_else(|| self.fields.span(), |exception| exception.span.clone());
        let message = format!("mapping `{}` claims `{exempt}` and {what}", self.name);
        findings.error(codes::EXCEPTION_WITHOUT_GROUND, span, message, help);
    }

    fn owner_remedy(&self) -> String {
        if !self.profile.names_owner() {
            return "pin what the issuer's profile names: its tokens hold no owner's id".to_owned();
        }
        match self.issuer.owners.keys().next() {
            Some(owner) => format!("add the owner, which `owners` pins by its id: `repository_owner = \"{owner}\"`"),
            None => format!(
                "list the owner with its id in `owners` of `[issuer.{}]`, and add it: `repository_owner = \"…\"`",
                self.issuer.name
            ),
        }
    }

    /// Owners by id: through `owners`, or written as ids.
    fn names_owner(&self) -> bool {
        self.compiled.iter().any(|compiled| {
            compiled.shape == Shape::Owner
                || (compiled.condition.claim == Claim::RepositoryOwnerId && matches!(compiled.shape, Shape::Exact(_)))
        })
    }

    /// Repositories, or whole subjects, by exact names.
    fn names_exactly(&self) -> bool {
        self.compiled.iter().any(|compiled| {
            compiled.condition.claim.is_one_of(&[Claim::Repository, Claim::Subject])
                && matches!(compiled.shape, Shape::Exact(_))
        })
    }

    /// A production role for repositories that nobody listed is only for one workflow that the platform wrote.
    fn called_exactly(&self, roles: &[(RoleId, Span)], findings: &mut Findings) {
        let parts = [Claim::JobWorkflowRepository, Claim::JobWorkflowFile, Claim::JobWorkflowRef];
        for (id, span) in roles {
            let role = &self.reading.roles.all[id.0 as usize];
            let exact = |claim: &Claim| {
                let fixes = |compiled: &Compiled| {
                    compiled.condition.claim == *claim && matches!(compiled.shape, Shape::Exact(_))
                };
                self.require(*id).iter().any(fixes)
            };
            if role.sensitivity != PRODUCTION || parts.iter().all(exact) || self.waits {
                continue;
            }
            let finding = Diagnostic::error(
                codes::ANY_REPOSITORY_IN_PRODUCTION,
                span.clone(),
                format!(
                    "mapping `{}` gives the production role `{}` to any repository, and the role does not require one workflow",
                    self.name, role.name
                ),
                format!(
                    "write `job_workflow = {{ repository = \"…\", file = \"…\", ref = \"refs/heads/…\" }}`, each exact, in `[role.*.require]` of `{}`; or let people claim it, `[mapping.ceremony]`; or list the repositories with their ids",
                    role.span.file
                ),
            );
            findings.push(finding.and(role.span.clone(), "the role"));
        }
    }

    /// Whether the alternative admits every event by exception: it names none, and some role leaves it to the mapping.
    pub(super) fn admits_any_event(&self, roles: &[(RoleId, Span)]) -> bool {
        let names = |compiled: &[Compiled]| compiled.iter().any(|one| one.condition.claim == Claim::EventName);
        self.claims(Exempt::AnyEvent)
            && self.tells_events()
            && !names(self.compiled)
            && roles.iter().any(|(role, _)| !names(self.require(*role)))
    }

    fn tells_events(&self) -> bool {
        self.profile.provides(Claim::EventName) && !self.profile.default_events().is_empty()
    }

    /// Of the exceptions that the alternative does not use: why.
    pub(super) fn needless(&self, used: &[Exempt]) -> Vec<Needless> {
        let unused = self.claimed.iter().map(|exception| exception.exempt).filter(|exempt| !used.contains(exempt));
        unused.map(|exempt| self.why_not(exempt, used)).collect()
    }

    fn why_not(&self, exempt: Exempt, used: &[Exempt]) -> Needless {
        let stands = |is: &dyn Fn(&Compiled) -> bool| {
            self.compiled.iter().find(|compiled| is(compiled)).map(|compiled| compiled.condition.span.clone())
        };
        let (why, at) = match exempt {
            Exempt::AnyEvent => match stands(&|compiled| compiled.condition.claim == Claim::EventName) {
                Some(at) => ("it names its events", Some(at)),
                None if self.tells_events() => ("its roles require events of their own", None),
                None => ("the issuer's tokens tell no events by which a mapping is limited", None),
            },
            _ => match stands(&|compiled| self.is_pin(compiled)) {
                Some(at) => ("it pins what it is about", Some(at)),
                None if used.contains(&Exempt::AnyRepository) => ("`any_repository` stands already", None),
                None if used.contains(&Exempt::MutableIdentity) => ("`allow_mutable_identity` stands already", None),
                None => ("the issuer is one's own, where names may carry a mapping", None),
            },
        };
        Needless { exempt, why: why.to_owned(), at }
    }
}
