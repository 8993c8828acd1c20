//! Records in, groups of what would be otherwise out. Memory grows with the groups, which are bounded, not with the log.

use super::super::{
    Loaded, duration as in_words,
    log::{self, Log, Times},
};
use claimbound_core::{
    evidence::{Body, unhex},
    mapping::{Ask, Decision, Grant, MappingId, RoleId, duration},
    reason::Reason,
    review::{
        diff::{of_mappings, of_roles},
        recorded::{Miss, Told, ask_again, misses},
    },
    time::{Seconds, UnixSeconds},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

/// Groups that are told apart; what comes beyond is counted.
const GROUPS_MAX: usize = 10_000;
/// Reasons that are the rules' own: another folder may say otherwise.
const BY_RULES: [Reason; 10] = [
    Reason::NoMapping,
    Reason::MappingExpired,
    Reason::Renamed,
    Reason::IdMismatch,
    Reason::EventNotAllowed,
    Reason::Denied,
    Reason::RoleNeeded,
    Reason::ActorNotAllowed,
    Reason::ActorNeeded,
    Reason::ChainTooLong,
];

/// What would become of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// It was granted.
    Refused,
    /// It was granted, and would be on other terms.
    Otherwise,
    /// It was refused.
    Granted,
}

/// What changes in a grant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(super) struct Term {
    pub name: String,
    pub before: String,
    pub after: String,
}

/// What the exchanges of a group have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub kind: Kind,
    pub role: String,
    /// The one that granted or, of a refusal, that would.
    pub mapping: String,
    pub issuer: String,
    pub name: String,
    pub id: String,
    pub terms: Vec<Term>,
    /// Of [`Kind::Refused`]; of [`Kind::Granted`] the recorded one.
    pub reason: String,
    pub nearest: Option<String>,
    pub rule: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub times: Times,
    /// Conditions that keep the nearest mapping from granting, of the first exchange of the group.
    pub misses: Vec<Miss>,
}

/// All that was found.
#[derive(Default, Debug)]
pub(super) struct Replay {
    pub groups: BTreeMap<Key, Group>,
    /// Exchanges whose group is not among them.
    pub beyond: BTreeMap<Kind, u64>,
    pub same_granted: u64,
    pub same_refused: u64,
    /// Why, and whether they were granted.
    pub unjudged: BTreeMap<(String, bool), Times>,
    /// Grants whose role and mapping were compared by name alone, and why.
    pub uncompared: BTreeMap<String, u64>,
    /// Refusals that no rule decided, by reason.
    pub aside: BTreeMap<String, u64>,
    /// Refusals of callers that proved nothing: they hold no claims.
    pub strangers: u64,
    /// Refusals that stand in sums.
    pub summed: u64,
}

impl Replay {
    /// How many exchanges.
    pub fn count(&self, kind: Kind) -> u64 {
        let told = self.groups.iter().filter(|(key, _)| key.kind == kind).map(|(_, group)| group.times.count);
        told.sum::<u64>() + self.beyond.get(&kind).copied().unwrap_or_default()
    }

    pub fn unjudged_count(&self) -> u64 {
        self.unjudged.values().map(|times| times.count).sum()
    }
}

/// The folder that a record was judged by.
struct Past {
    version: [u8; 32],
    loaded: Result<Rc<Loaded>, String>,
    mappings: HashMap<String, MappingId>,
    /// What two pairs of mapping and role differ in, whoever asks.
    terms: HashMap<[(MappingId, RoleId); 2], Vec<Term>>,
}

pub(super) struct Judge<'a> {
    head: &'a Loaded,
    log: &'a Log,
    from: i64,
    past: Option<Past>,
    replay: Replay,
}

impl<'a> Judge<'a> {
    pub fn new(head: &'a Loaded, log: &'a Log, from: i64) -> Self {
        Self { head, log, from, past: None, replay: Replay::default() }
    }

    pub fn finish(self) -> Replay {
        self.replay
    }

    pub fn record(&mut self, body: &Body<'_>, stored: &[u8]) {
        if body.at < self.from {
            return;
        }
        let granted = match &*body.kind {
            "granted" | "dry_run" => true,
            "refused" => false,
            "summed" => {
                self.replay.summed += body.count.unwrap_or_default();
                return;
            }
            _ => return,
        };
        if !granted && body.principal.is_none() {
            self.replay.strangers += 1;
            return;
        }
        let reason = body.reason.as_deref().unwrap_or_default();
        if !granted && !BY_RULES.iter().any(|own| own.name() == reason) {
            *self.replay.aside.entry(reason.to_owned()).or_default() += 1;
            return;
        }
        if let Err(why) = self.ask(body, stored, granted) {
            let times = Times::once(body.at, body.decision);
            self.replay.unjudged.entry((why, granted)).and_modify(|own| own.add(times)).or_insert(times);
        }
    }

    /// Asks the proposed folder; why it cannot be asked.
    fn ask(&mut self, body: &Body<'_>, stored: &[u8], granted: bool) -> Result<(), String> {
        let details = log::details(body, stored)?;
        let asked = &details["asked"];
        if !details["claims"].is_object() {
            return Err("they hold no claims".to_owned());
        }
        let length = |value: &Value| value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()).map(Seconds);
        let ask =
            Ask { role: asked["role"].as_str(), duration: length(&asked["duration"]), scope: asked["scope"].as_str() };
        let at = UnixSeconds(body.at);
        let (set, profiles) = (&self.head.set, &self.head.profiles);
        let told = ask_again(set, profiles, &details, &ask, at).map_err(|error| error.to_string())?;
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        let principal = body.principal.as_ref().ok_or("they name no job")?;
        let mut key = Key {
            kind: Kind::Refused,
            role: text(&body.role),
            mapping: text(&body.mapping),
            issuer: principal.issuer.to_string(),
            name: principal.name.to_string(),
            id: principal.id.to_string(),
            terms: Vec::new(),
            reason: text(&body.reason),
            nearest: None,
            rule: None,
        };
        let missed = match &told {
            Told::Unheard(reason) => Some((reason.name().to_owned(), None)),
            Told::Judged { decision: Decision::Deny(denial), .. } => Some((denial.reason.to_string(), Some(denial))),
            Told::Judged { decision: Decision::Grant(grant) | Decision::Pending(grant), .. } if granted => {
                key.terms = self.terms(body, &ask, grant);
                key.kind = Kind::Otherwise;
                None
            }
            // It waited for people, and would again.
            Told::Judged { decision: Decision::Pending(_), .. } if key.reason == Reason::CeremonyNeeded.name() => {
                Some((key.reason.clone(), None))
            }
            Told::Judged { decision: Decision::Grant(grant) | Decision::Pending(grant), .. } => {
                key.role = set.role(grant.role).name.clone();
                key.mapping = set.mapping(grant.mapping).name.clone();
                key.kind = Kind::Granted;
                None
            }
        };
        match missed {
            Some(_) if !granted => {
                self.replay.same_refused += 1;
                return Ok(());
            }
            None if granted && key.terms.is_empty() => {
                self.replay.same_granted += 1;
                return Ok(());
            }
            Some((reason, denial)) => {
                key.reason = reason;
                key.nearest = denial.and_then(|denial| denial.nearest).map(|id| set.mapping(id).name.clone());
                key.rule = denial.and_then(|denial| denial.rule.clone());
            }
            None => {}
        }
        let missing = || match &told {
            Told::Judged { case, decision: Decision::Deny(denial) } if denial.rule.is_none() => {
                misses(set, case, &ask, at)
            }
            _ => Vec::new(),
        };
        self.replay.put(key, Times::once(body.at, body.decision), missing);
        Ok(())
    }

    /// What a grant would be otherwise in.
    fn terms(&mut self, body: &Body<'_>, ask: &Ask<'_>, grant: &Grant) -> Vec<Term> {
        let set = &self.head.set;
        let mut found = Vec::new();
        let mut differ = |name: &str, before: &str, after: &str| {
            if before != after {
                found.push(Term { name: name.to_owned(), before: before.to_owned(), after: after.to_owned() });
            }
        };
        let (role, mapping) = (body.role.as_deref().unwrap_or_default(), body.mapping.as_deref().unwrap_or_default());
        differ("role", role, &set.role(grant.role).name);
        differ("mapping", mapping, &set.mapping(grant.mapping).name);
        let past = match past(&mut self.past, self.log, body) {
            Ok(past) => past,
            Err(why) => {
                *self.replay.uncompared.entry(why).or_default() += 1;
                return found;
            }
        };
        let before = past
            .loaded
            .as_ref()
            .ok()
            .and_then(|loaded| Some((loaded.clone(), *past.mappings.get(mapping)?, loaded.set.role_named(role)?)));
        let Some((loaded, old_mapping, old_role)) = before else {
            let why = match &past.loaded {
                Err(why) => why.clone(),
                Ok(_) => "the folder that judged has no such mapping or role".to_owned(),
            };
            *self.replay.uncompared.entry(why).or_default() += 1;
            return found;
        };
        let old = &loaded.set;
        let lasts = |seconds| in_words(seconds);
        differ("duration", &lasts(duration(old, old_mapping, old_role, ask.duration)), &lasts(grant.duration));
        let pairs = [(old_mapping, old_role), (grant.mapping, grant.role)];
        let fixed = past.terms.entry(pairs).or_insert_with(|| {
            let (mappings, roles) = ([old_mapping, grant.mapping], [old_role, grant.role]);
            let limits = of_mappings([old, set], mappings, roles).into_iter().filter(|t| t.name.starts_with("limit."));
            let all = of_roles([old, set], roles).into_iter().chain(limits);
            all.map(|term| Term { name: term.name, before: term.before, after: term.after }).collect()
        });
        found.extend(fixed.iter().cloned());
        found
    }
}

impl Replay {
    fn put(&mut self, key: Key, times: Times, misses: impl FnOnce() -> Vec<Miss>) {
        let (kind, room) = (key.kind, self.groups.len() < GROUPS_MAX);
        match self.groups.get_mut(&key) {
            Some(group) => group.times.add(times),
            None if room => {
                self.groups.insert(key, Group { times, misses: misses() });
            }
            None => *self.beyond.entry(kind).or_default() += times.count,
        }
    }
}

/// The folder that judged a record, kept for the next one.
fn past<'p>(kept: &'p mut Option<Past>, log: &Log, body: &Body<'_>) -> Result<&'p mut Past, String> {
    let version = body.mappings.as_deref().and_then(unhex).ok_or("they name no mapping folder")?;
    if kept.as_ref().is_none_or(|past| past.version != version) {
        let loaded = log.folder(&version);
        let mut mappings = HashMap::new();
        if let Ok(loaded) = &loaded {
            let named = (0..).map(MappingId).zip(&loaded.set.mappings).filter(|(_, mapping)| mapping.is_first());
            mappings.extend(named.map(|(id, mapping)| (mapping.name.clone(), id)));
        }
        *kept = Some(Past { version, loaded, mappings, terms: HashMap::new() });
    }
    kept.as_mut().ok_or_else(|| "no folder".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded_and_the_rest_is_counted() {
        let mut replay = Replay::default();
        let key = |number: usize| Key {
            kind: Kind::Refused,
            role: "r".to_owned(),
            mapping: "m".to_owned(),
            issuer: "github".to_owned(),
            name: format!("acme/{number}"),
            id: number.to_string(),
            terms: vec![],
            reason: "no_mapping".to_owned(),
            nearest: None,
            rule: None,
        };
        for number in 0..GROUPS_MAX + 5 {
            replay.put(key(number), Times::once(1, None), Vec::new);
        }
        replay.put(key(0), Times::once(2, None), || panic!("asked once for a group"));
        assert_eq!((replay.groups.len(), replay.beyond[&Kind::Refused]), (GROUPS_MAX, 5));
        assert_eq!(replay.groups[&key(0)].times.count, 2);
        assert_eq!((replay.count(Kind::Refused), replay.count(Kind::Granted)), (GROUPS_MAX as u64 + 6, 0));
    }
}
