//! Who could: the conditions of the folders that judged in a span, each with the time in which it stood.

use super::{
    super::{
        Loaded, duration,
        log::{Activation, Log, date},
    },
    Asked,
    span::Span,
};
use claimbound_core::{
    diag::did_you_mean,
    mapping::{Condition, MappingId, MappingSet, Origin, RoleId},
    review::recorded::{concerns, denies, repositories, words},
    time::Seconds,
    workload::Claim,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Repositories that a line shows.
const NAMES_SHOWN: usize = 8;

/// What one mapping, or one alternative of it, let through for one role.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Way {
    role: String,
    mapping: String,
    alternative: Option<u32>,
    team: String,
    issuer: String,
    /// Pairs of name and id; `None`: it pins none.
    repositories: Option<BTreeSet<(String, String)>>,
    /// Claim, what it asks, where it is written.
    conditions: Vec<[String; 3]>,
    /// Denies that end it, with reason and conditions.
    unless: Vec<(String, String, Vec<[String; 3]>)>,
    max_duration: Seconds,
    max_session: Option<Seconds>,
    /// Who may act for the job.
    actor: Option<Acting>,
    limit: Option<String>,
}

/// Whether somebody must act, by a token of ours for which audience, how many at most, and what the outermost is asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Acting {
    required: bool,
    audience: Option<String>,
    max_depth: u8,
    conditions: Vec<[String; 3]>,
}

/// Who could.
#[derive(Default, Debug)]
pub(super) struct Could {
    /// Each with the times, first and last second, in which it was so.
    ways: BTreeMap<Way, Vec<(i64, i64)>>,
    /// Folders that judged in the span, and when.
    folders: Vec<(i64, i64, [u8; 32])>,
    /// What could not be told.
    pub notes: Vec<String>,
    /// The last folder has no such role, and maybe one that was meant.
    no_such_role: Option<Option<String>>,
}

impl Could {
    /// Goes through the folders that judged in the span.
    pub fn find(log: &Log, activations: &[Activation], asked: Asked<'_>, span: Span) -> Self {
        let mut could = Self::default();
        for (at, active) in activations.iter().enumerate() {
            let until = activations.get(at + 1).map(|next| next.at);
            let Some((from, to)) = span.meet(active.at, until) else { continue };
            could.folders.push((from, to, active.version));
            match log.folder(&active.version) {
                Ok(folder) => could.add(&folder, asked, (from, to)),
                Err(why) => {
                    could.notes.push(format!("who could from {} to {} is not known: {why}", date(from), date(to)))
                }
            }
        }
        if could.folders.is_empty() {
            could.notes.push("no mapping folder is known to have judged then".to_owned());
        }
        if let (Asked::Role(role), Some(meant)) = (asked, could.no_such_role.take()) {
            let meant = meant.map(|meant| format!(": did you mean `{meant}`?")).unwrap_or_default();
            could.notes.push(format!("the last folder of that time has no role `{role}`{meant}"));
        }
        could
    }

    fn add(&mut self, loaded: &Loaded, asked: Asked<'_>, (from, to): (i64, i64)) {
        let set = &loaded.set;
        if let Asked::Role(role) = asked {
            let meant = || did_you_mean(role, set.role_names()).map(str::to_owned);
            self.no_such_role = set.role_named(role).is_none().then(meant);
        }
        for (id, mapping) in (0..).map(MappingId).zip(&set.mappings).filter(|(_, mapping)| !mapping.shadow) {
            // From then on it grants nothing.
            let to = mapping.expires.map_or(to, |end| to.min(end.0 - 1));
            for role in mapping.roles.iter().copied().filter(|_| from <= to) {
                let wanted = match asked {
                    Asked::Role(name) => set.role(role).name == name,
                    Asked::Repository(name) => {
                        concerns(set.conditions_for(id, role), name, set.issuer(mapping.issuer).folds_names)
                    }
                };
                if wanted {
                    let times = self.ways.entry(way(set, id, role)).or_default();
                    match times.last_mut() {
                        // The folder changed, and this did not.
                        Some(last) if last.1 + 1 >= from => last.1 = last.1.max(to),
                        _ => times.push((from, to)),
                    }
                }
            }
        }
    }

    pub fn to_json(&self) -> Value {
        let times = |times: &[(i64, i64)]| {
            times.iter().map(|(from, to)| json!({ "from_at": from, "to_at": to })).collect::<Vec<_>>()
        };
        let asks = |conditions: &[[String; 3]]| {
            let told = conditions.iter();
            let told = told.map(|[claim, asks, origin]| json!({ "claim": claim, "expected": asks, "origin": origin }));
            told.collect::<Vec<_>>()
        };
        let ways = self.ways.iter().map(|(way, when)| {
            let repositories = way
                .repositories
                .as_ref()
                .map(|pairs| pairs.iter().map(|(name, id)| json!({ "name": name, "id": id })).collect::<Vec<_>>());
            let unless = way.unless.iter().map(
                |(name, reason, conditions)| json!({ "deny": name, "reason": reason, "conditions": asks(conditions) }),
            );
            json!({
                "role": way.role,
                "mapping": way.mapping,
                "alternative": way.alternative,
                "team": way.team,
                "issuer": way.issuer,
                "repositories": repositories,
                "conditions": asks(&way.conditions),
                "unless": unless.collect::<Vec<_>>(),
                "max_duration_seconds": way.max_duration.0,
                "max_session_seconds": way.max_session.map(|session| session.0),
                "limit": way.limit,
                "actor": way.actor.as_ref().map(|acting| json!({
                    "required": acting.required,
                    "audience": acting.audience,
                    "max_depth": acting.max_depth,
                    "conditions": asks(&acting.conditions),
                })),
                "when": times(when),
            })
        });
        let folders = self.folders.iter().map(|(from, to, version)| {
            json!({ "from_at": from, "to_at": to, "version": claimbound_core::evidence::hex(version) })
        });
        json!({ "ways": ways.collect::<Vec<_>>(), "folders": folders.collect::<Vec<_>>(), "notes": self.notes })
    }

    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        if self.ways.is_empty() {
            writeln!(text, "  nobody, by any folder that is known to have judged then")?;
        }
        for (way, when) in &self.ways {
            let alternative = way.alternative.map(|number| format!(", alternative {number},")).unwrap_or_default();
            let Way { role, mapping, team, issuer, .. } = way;
            writeln!(text, "  `{role}` by `{mapping}`{alternative} of team `{team}`, for jobs of `{issuer}`")?;
            for (from, to) in when {
                writeln!(text, "    from {} to {}", date(*from), date(*to))?;
            }
            match &way.repositories {
                None => writeln!(text, "    repositories: not pinned one by one")?,
                Some(pairs) => {
                    let told = pairs.iter().take(NAMES_SHOWN).map(|(name, id)| match name.as_str() {
                        "" => id.clone(),
                        _ => format!("`{name}` ({id})"),
                    });
                    let more = pairs.len().saturating_sub(NAMES_SHOWN);
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    writeln!(text, "    repositories: {}{more}", told.collect::<Vec<_>>().join(", "))?;
                }
            }
            for [claim, asks, origin] in &way.conditions {
                writeln!(text, "    {claim}: {asks}  [{origin}]")?;
            }
            if let Some(Acting { required, audience, max_depth, conditions }) = &way.actor {
                let must = match audience {
                    Some(audience) => format!("somebody must act for it by a token of ours for `{audience}`"),
                    None if *required => "somebody must act for it".to_owned(),
                    None => "somebody may act for it".to_owned(),
                };
                writeln!(text, "    {must}, at most {max_depth} one for another:")?;
                for [claim, asks, _] in conditions {
                    writeln!(text, "      {claim}: {asks}")?;
                }
            }
            for (name, reason, conditions) in &way.unless {
                let told = conditions.iter().map(|[claim, asks, _]| format!("{claim} {asks}"));
                writeln!(text, "    unless deny `{name}` holds ({reason}): {}", told.collect::<Vec<_>>().join(", "))?;
            }
            writeln!(text, "    for at most {}", duration(way.max_duration))?;
            if let Some(session) = way.max_session {
                writeln!(text, "    renewed for at most {}", duration(session))?;
            }
            if let Some(limit) = &way.limit {
                writeln!(text, "    limited for each repository: {limit}")?;
            }
        }
        Ok(())
    }
}

fn way(set: &MappingSet, id: MappingId, role: RoleId) -> Way {
    let mapping = set.mapping(id);
    let ceiling = set.role(role).max_duration;
    let pinned = |condition: &&Condition| {
        ![Claim::Repository, Claim::RepositoryId].iter().any(|claim| condition.claim == *claim)
            || repositories(std::slice::from_ref(condition)).is_none()
    };
    let told = |condition: &Condition| {
        [condition.claim.name().to_owned(), words(condition), condition.origin.name().to_owned()]
    };
    let actor = mapping.actor.as_deref().map(|rule| {
        let issuer =
            ["issuer".to_owned(), format!("`{}`", set.issuer(rule.issuer).name), Origin::Actor.name().to_owned()];
        let conditions = [issuer].into_iter().chain(rule.conditions.iter().map(told)).collect();
        Acting { required: rule.required, audience: rule.audience.clone(), max_depth: rule.max_depth, conditions }
    });
    Way {
        actor,
        role: set.role(role).name.clone(),
        mapping: mapping.name.clone(),
        alternative: mapping.alternative,
        team: mapping.team.to_string(),
        issuer: set.issuer(mapping.issuer).name.to_string(),
        repositories: repositories(&mapping.conditions),
        conditions: set.conditions_for(id, role).filter(pinned).map(told).collect(),
        unless: denies(set, id, role)
            .map(|deny| (deny.name.clone(), deny.reason.clone(), deny.conditions.iter().map(told).collect()))
            .collect(),
        max_duration: mapping.max_duration.map_or(ceiling, |own| own.min(ceiling)),
        max_session: mapping.max_session,
        limit: mapping.limit.map(|limit| limit.to_string()),
    }
}
