//! Sets and jobs for the unit tests of rooms that read compiled folders.

use crate::{
    claims::Claims,
    diag::Span,
    lang::pattern::Lang,
    mapping::{
        ActorRule, Condition, Deny, Exception, Exempt, Issuer, IssuerId, Mapping, MappingSet, Origin, Parameters, Role,
        RoleId, Test,
    },
    time::Seconds,
    workload::{Case, Claim, ClaimKey, Kind, Presence, Text, Workload},
};

pub(crate) const EVENTS: [&str; 2] = ["push", "schedule"];

pub(crate) fn span(file: &str, at: usize) -> Span {
    Span::new(file, at..at + 1)
}

pub(crate) fn condition(claim: impl Into<ClaimKey>, test: Test) -> Condition {
    Condition {
        claim: claim.into(),
        test,
        if_unknown_ignore: false,
        origin: Origin::Match,
        span: span("teams/a/deploy.toml", 0),
    }
}

pub(crate) fn text(claim: Claim, texts: &[&str]) -> Condition {
    condition(claim, Test::Text(Lang::one_of(texts.iter().copied(), claim.kind() == Kind::Name)))
}

pub(crate) fn events() -> Condition {
    Condition { origin: Origin::DefaultEvents, ..text(Claim::EventName, &EVENTS) }
}

pub(crate) fn repositories(pairs: &[(&str, &str)]) -> Condition {
    let pairs = pairs.iter().map(|(name, id)| (name.to_string(), id.to_string())).collect();
    condition(Claim::Repository, Test::Repository(pairs))
}

/// A set with the issuers `github` (0, folds names) and `gitlab` (1), and a role for each name that is used.
#[derive(Default)]
pub(crate) struct Builder {
    set: MappingSet,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let issuer = |name: &str, folds_names| Issuer {
            name: name.into(),
            profile: name.to_owned(),
            url: format!("https://{name}.example"),
            multi_tenant: true,
            owners: [("acme".to_owned(), "65".to_owned())].into(),
            pin: None,
            pinned: Default::default(),
            folds_names,
            grants_renamed: false,
            trusts_act: false,
            span: span("policy.toml", 0),
        };
        let set =
            MappingSet { issuers: vec![issuer("github", true), issuer("gitlab", false)], ..MappingSet::default() };
        Self { set }
    }
    pub(crate) fn role(&mut self, name: &str) -> RoleId {
        let known = self.set.roles.iter().position(|role| role.name == name);
        let at = known.unwrap_or_else(|| {
            self.set.roles.push(Role {
                name: name.to_owned(),
                description: String::new(),
                backend: "jwt".to_owned(),
                kind: "jwt",
                parameters: Parameters { values: Default::default(), span: span("roles/a.toml", 0) },
                sensitivity: "internal".to_owned(),
                target: None,
                teams: vec!["a".to_owned()],
                issuers: vec!["github".to_owned()],
                max_duration: Seconds(3600),
                span: span("roles/a.toml", 0),
            });
            self.set.roles.len() - 1
        });
        RoleId(at as u32)
    }
    pub(crate) fn mapping_of(
        mut self,
        issuer: u16,
        name: &str,
        roles: &[&str],
        conditions: impl IntoIterator<Item = Condition>,
    ) -> Self {
        let roles = roles.iter().map(|role| self.role(role)).collect();
        let at = self.set.mappings.len();
        self.set.mappings.push(Mapping {
            name: name.to_owned(),
            alternative: None,
            team: "a".into(),
            issuer: IssuerId(issuer),
            roles,
            conditions: conditions.into_iter().collect(),
            duration: None,
            max_duration: None,
            max_session: None,
            actor: None,
            limit: None,
            expires: None,
            shadow: false,
            exceptions: Vec::new(),
            span: span("teams/a/deploy.toml", at),
        });
        self
    }
    pub(crate) fn mapping(self, name: &str, role: &str, conditions: impl IntoIterator<Item = Condition>) -> Self {
        self.mapping_of(0, name, &[role], conditions)
    }
    pub(crate) fn deny(mut self, name: &str, roles: &[&str], conditions: impl IntoIterator<Item = Condition>) -> Self {
        let mut roles: Vec<RoleId> = roles.iter().map(|role| self.role(role)).collect();
        roles.reverse();
        self.set.denies.push(Deny {
            name: name.to_owned(),
            reason: "because".to_owned(),
            issuers: vec![IssuerId(0)],
            roles,
            conditions: conditions.into_iter().map(|c| Condition { origin: Origin::Deny, ..c }).collect(),
            span: span("policy.toml", 1),
        });
        self
    }
    pub(crate) fn require(mut self, role: &str, conditions: impl IntoIterator<Item = Condition>) -> Self {
        let role = self.role(role);
        let conditions = conditions.into_iter().map(|c| Condition { origin: Origin::Require, ..c }).collect();
        self.set.requires.insert((role, IssuerId(0)), conditions);
        self
    }
    /// Lets who meets the conditions act for the last mapping's jobs, an issuer's job.
    pub(crate) fn acting(
        self,
        issuer: u16,
        required: bool,
        max_depth: u8,
        conditions: impl IntoIterator<Item = Condition>,
    ) -> Self {
        let conditions = conditions.into_iter().map(|one| Condition { origin: Origin::Actor, ..one }).collect();
        let span = span("teams/a/deploy.toml", 9);
        let rule = ActorRule { required, audience: None, max_depth, issuer: IssuerId(issuer), conditions, span };
        self.with(|mapping| mapping.actor = Some(rule.into()))
    }
    /// Makes the last mapping one for downstream exchanges of tokens for this audience.
    pub(crate) fn downstream(self, audience: &str) -> Self {
        self.with(|mapping| {
            let rule = mapping.actor.as_deref().expect("somebody may act").clone();
            mapping.actor = Some(ActorRule { required: true, audience: Some(audience.to_owned()), ..rule }.into());
        })
    }
    /// `on_rename = "warn"` at every issuer.
    pub(crate) fn warns_of_renames(mut self) -> Self {
        self.set.issuers.iter_mut().for_each(|issuer| issuer.grants_renamed = true);
        self
    }
    /// Lets the last mapping rest on an exception.
    pub(crate) fn excepted(self, exempt: Exempt) -> Self {
        let exception = Exception { exempt, reason: "because".into(), span: span("teams/a/deploy.toml", 0) };
        self.with(|mapping| mapping.exceptions.push(exception))
    }
    /// Changes the last mapping.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Mapping)) -> Self {
        change(self.set.mappings.last_mut().expect("a mapping"));
        self
    }
    pub(crate) fn build(self) -> MappingSet {
        self.set.finish()
    }
}

/// A job of `github` with these claims; `none` are proven absent, all others unknown.
pub(crate) fn job(claims: &[(Claim, &str)], none: &[Claim]) -> Case<'static> {
    job_of("github", claims, none)
}

pub(crate) fn job_of(issuer: &str, claims: &[(Claim, &str)], none: &[Claim]) -> Case<'static> {
    let presence = |claim: Claim| match claims.iter().rev().find(|(given, _)| *given == claim) {
        Some((_, value)) if claim.kind() == Kind::Boolean && ["true", "false"].contains(value) => {
            Presence::Present(Text::Boolean(*value == "true"))
        }
        Some((_, value)) => Presence::Present(Text::Text(value.to_string().into())),
        None if none.contains(&claim) => Presence::None,
        None => Presence::Unknown,
    };
    let principal = Workload {
        issuer: issuer.to_owned().into(),
        canonical: Claim::ALL.iter().map(|claim| presence(*claim)).collect(),
        raw: Claims::default(),
    };
    Case::alone(principal)
}

/// A push to `main` of `acme/api` (id 1, owner `acme`, id 65), with changes.
pub(crate) fn push(changes: &[(Claim, &str)]) -> Case<'static> {
    let mut claims = vec![
        (Claim::Repository, "acme/api"),
        (Claim::RepositoryId, "1"),
        (Claim::RepositoryOwner, "acme"),
        (Claim::RepositoryOwnerId, "65"),
        (Claim::Ref, "refs/heads/main"),
        (Claim::Branch, "main"),
        (Claim::EventName, "push"),
    ];
    claims.extend(changes);
    job(&claims, &[Claim::Tag, Claim::PullRequest])
}
