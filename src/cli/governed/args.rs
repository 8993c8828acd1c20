//! Subjects and leases on the command line.

use crate::{
    config,
    store::{Scope, Subject, leases::LeaseFilter},
};
use claimbound_core::evidence::LeaseId;
use clap::Args;

/// One thing to suspend or to resume: exactly one of these, or an issuer alone.
#[derive(Args, Clone, Debug)]
pub struct SubjectArgs {
    /// An issuer by its name in the folder: alone, every job of it; else where the id is from
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Every job of this owner: its immutable id, or a name that `owners` lists
    #[arg(long, value_name = "ID", group = "subject")]
    tenant: Option<String>,
    /// Every job of this repository: its immutable id, or a name that the folder or a lease knows; of issuers without
    /// repositories, the principal's id
    #[arg(long, value_name = "ID", group = "subject")]
    repository: Option<String>,
    /// Every job of this run
    #[arg(long, value_name = "ID", group = "subject")]
    run: Option<String>,
    /// Every job that this person started: the forge's immutable id of the initiator
    #[arg(long, value_name = "ID", group = "subject")]
    person: Option<String>,
    /// Every grant by this mapping
    #[arg(long, value_name = "NAME", group = "subject")]
    mapping: Option<String>,
    /// Every grant of this role
    #[arg(long, value_name = "NAME", group = "subject")]
    role: Option<String>,
}

impl SubjectArgs {
    /// What is named; `None` where nothing is.
    pub fn subject(&self) -> Option<Subject> {
        let named = [
            (Scope::Tenant, &self.tenant),
            (Scope::Repository, &self.repository),
            (Scope::Run, &self.run),
            (Scope::Person, &self.person),
            (Scope::Mapping, &self.mapping),
            (Scope::Role, &self.role),
        ];
        let issuer = self.issuer.clone().unwrap_or_default();
        let named = named.into_iter().find_map(|(scope, name)| Some((scope, name.clone()?)));
        match named {
            Some((scope, name)) => Some(Subject::new(scope, issuer, name)),
            None if issuer.is_empty() => None,
            None => Some(Subject::new(Scope::Issuer, issuer, "")),
        }
    }
}

/// Which leases: all that is given must hold.
#[derive(Args, Clone, Debug)]
pub struct FilterArgs {
    /// The lease of this id
    #[arg(long, value_name = "ID")]
    lease: Option<LeaseId>,
    /// Those of this issuer, by its name in the folder; this and the next four tell of the job, or all of them of who acts for it
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Those of this owner, by its immutable id
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Those of this repository: its immutable id, or the name that it had when the lease was opened
    #[arg(long, value_name = "ID")]
    repository: Option<String>,
    /// Those of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Those of runs that this person of `--issuer` started: the forge's immutable id
    #[arg(long, value_name = "ID", requires = "issuer")]
    person: Option<String>,
    /// Those by this mapping
    #[arg(long, value_name = "NAME")]
    mapping: Option<String>,
    /// Those of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Those by this team's mappings
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Those of this principal: its immutable id, as evidence names it
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// Those for which this actor acts, as evidence names it
    #[arg(long, value_name = "ISSUER:ID")]
    actor: Option<String>,
}

impl FilterArgs {
    pub fn filter(&self) -> LeaseFilter {
        LeaseFilter {
            lease: self.lease,
            issuer: self.issuer.clone(),
            tenant: self.tenant.clone(),
            repository: self.repository.clone(),
            run: self.run.clone(),
            person: self.person.clone(),
            mapping: self.mapping.clone(),
            role: self.role.clone(),
            team: self.team.clone(),
            principal: self.principal.clone(),
            actor: self.actor.clone(),
            state: None,
        }
    }
}

/// An integer and one of s, m, h, d.
pub fn duration(text: &str) -> Result<i64, String> {
    config::seconds(text).ok_or_else(|| "write an integer and one of s, m, h, d, like `2h`".to_owned())
}

/// A time as RFC 3339 writes it, or a day, which is its first second.
pub fn time(text: &str) -> Result<i64, String> {
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == "2026-03-05".len());
    if let Some(midnight) = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
        return Ok(midnight.timestamp().as_second());
    }
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| at.as_second())
        .map_err(|_| "write a day like `2026-03-05` or a time like `2026-03-05T14:00:00Z`".to_owned())
}

/// RFC 3339; the bare number where the calendar ends.
pub fn moment(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}
