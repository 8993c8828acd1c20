//! What a grant is bounded by, and how two bounds compare.

use crate::{
    ceremony::Approver,
    mapping::{CeremonyRule, CeremonyTerms, Limit, Mapping, MappingId, MappingSet, Parameters, Role, RoleId, When},
    time::{Seconds, UnixSeconds},
};
use std::{collections::BTreeSet, fmt};

/// Bytes of a policy's SHA-256 that tell versions apart for a reader.
const HASH_BYTES_SHOWN: usize = 6;

/// How the later value compares with the earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    Wider,
    /// Neither is known to be contained in the other.
    NotComparable,
    Narrower,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wider => "wider",
            Self::NotComparable => "not comparable",
            Self::Narrower => "narrower",
        })
    }
}

/// One term that differs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term {
    /// As in the mapping language: `max_duration`, `limit.per_hour`, `aws.role_arn`.
    pub name: String,
    pub before: String,
    pub after: String,
    pub direction: Direction,
}

/// The terms in which two mappings give one role; none: the same, as far as the mappings say it.
pub fn of_mappings([before, after]: [&MappingSet; 2], mappings: [MappingId; 2], roles: [RoleId; 2]) -> Vec<Term> {
    let mut terms = Vec::new();
    let [a, b] = [(before, mappings[0], roles[0]), (after, mappings[1], roles[1])]
        .map(|(set, mapping, role)| (set.mapping(mapping), set.role(role)));
    term(&mut terms, "max_duration", ceiling(a), ceiling(b), |a, b| a < b, show_seconds);
    // Without a default of its own, what is given follows the ceiling.
    if [a, b].iter().any(|side| default(*side) != ceiling(*side)) {
        term(&mut terms, "duration", default(a), default(b), |a, b| a < b, show_seconds);
    }
    session(&mut terms, a.0.max_session, b.0.max_session);
    let [a_limit, b_limit] = [a, b].map(|(mapping, _)| mapping.limit.unwrap_or_default());
    let Limit { per_run: a_run, per_hour: a_hour, sts_uses_per_token: a_token } = a_limit;
    let Limit { per_run: b_run, per_hour: b_hour, sts_uses_per_token: b_token } = b_limit;
    let [a_uses, b_uses] = [a_token, b_token].map(|uses| uses.unwrap_or(1));
    term(&mut terms, "limit.sts_uses_per_token", a_uses, b_uses, |a, b| a < b, |uses| uses.to_string());
    for (name, a, b) in [("limit.per_run", a_run, b_run), ("limit.per_hour", a_hour, b_hour)] {
        let most = |limit: &Option<u32>| limit.map_or(u64::MAX, u64::from);
        let show = |limit: Option<u32>| limit.map_or("none".to_owned(), |limit| limit.to_string());
        term(&mut terms, name, a, b, |a, b| most(a) < most(b), show);
    }
    ceremonies(&mut terms, before.ceremony(mappings[0], roles[0]), after.ceremony(mappings[1], roles[1]));
    let end = |end: &Option<UnixSeconds>| end.map_or(i64::MAX, |end| end.0);
    let show = |end: Option<UnixSeconds>| end.map_or("never".to_owned(), UnixSeconds::rfc3339);
    term(&mut terms, "expires", a.0.expires, b.0.expires, |a, b| end(a) < end(b), show);
    terms
}

/// Whether two ceremonies are the same, wherever they stand.
pub(super) fn same_ceremony(a: Option<&CeremonyRule>, b: Option<&CeremonyRule>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => *a == CeremonyRule { span: a.span.clone(), ..b.clone() },
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Who is asked, and how: without a ceremony nobody is.
fn ceremonies(terms: &mut Vec<Term>, before: Option<CeremonyTerms<'_>>, after: Option<CeremonyTerms<'_>>) {
    let (a, b) = match (before, after) {
        (None, None) => return,
        (Some(a), Some(b)) => (a, b),
        (a, b) => {
            let show = |side: Option<CeremonyTerms<'_>>| side.map_or("none".to_owned(), |side| side.to_string());
            let direction = if a.is_some() { Direction::Wider } else { Direction::Narrower };
            terms.push(Term { name: "ceremony".to_owned(), before: show(a), after: show(b), direction });
            return;
        }
    };
    let often = |side: &CeremonyTerms<'_>| side.rule.when == When::FirstUse;
    of_ceremony(
        terms,
        "ceremony.when",
        a,
        b,
        |a, b| often(b) && !often(a),
        |side| side.rule.when.name().to_owned(),
        often,
    );
    let quorum = |side: &CeremonyTerms<'_>| side.quorum();
    of_ceremony(terms, "ceremony.quorum", a, b, |a, b| quorum(a) > quorum(b), |side| side.quorum().to_string(), quorum);
    let own = |side: &CeremonyTerms<'_>| side.rule.allow_self;
    of_ceremony(
        terms,
        "ceremony.allow_self",
        a,
        b,
        |a, b| own(b) && !own(a),
        |side| side.rule.allow_self.to_string(),
        own,
    );
    if often(&a) && often(&b) {
        let stands = |side: &CeremonyTerms<'_>| side.rule.valid_for;
        of_ceremony(
            terms,
            "ceremony.valid_for",
            a,
            b,
            |a, b| stands(a) < stands(b),
            |s| show_seconds(s.rule.valid_for),
            stands,
        );
        approvers(terms, "ceremony.remember", [remembered(&a), remembered(&b)], None);
    }
    let within = |side: &CeremonyTerms<'_>| side.rule.claim_within;
    of_ceremony(
        terms,
        "ceremony.claim_within",
        a,
        b,
        |a, b| within(a) < within(b),
        |s| show_seconds(s.rule.claim_within),
        within,
    );
    let own = |side: &CeremonyTerms<'_>| texts(&side.rule.approvers);
    approvers(terms, "ceremony.approvers", [own(&a), own(&b)], Some(false));
    // Whoever is shut out by the floor: an empty one shuts out nobody.
    let floor = |side: &CeremonyTerms<'_>| texts(side.floor.map(|floor| &floor.approvers[..]).unwrap_or_default());
    approvers(terms, "ceremony.approvers_within", [floor(&a), floor(&b)], Some(true));
    let from =
        |side: &CeremonyTerms<'_>| side.rule.approvers_from.iter().map(|claim| claim.name().to_owned()).collect();
    approvers(terms, "ceremony.approvers_from", [from(&a), from(&b)], None);
}

/// One part of two ceremonies.
fn of_ceremony<'s, K: PartialEq>(
    terms: &mut Vec<Term>,
    name: &str,
    before: CeremonyTerms<'s>,
    after: CeremonyTerms<'s>,
    wider: impl Fn(&CeremonyTerms<'s>, &CeremonyTerms<'s>) -> bool,
    show: impl Fn(&CeremonyTerms<'s>) -> String,
    part: impl Fn(&CeremonyTerms<'s>) -> K,
) {
    if part(&before) != part(&after) {
        let direction = if wider(&before, &after) { Direction::Wider } else { Direction::Narrower };
        terms.push(Term { name: name.to_owned(), before: show(&before), after: show(&after), direction });
    }
}

fn texts(approvers: &[Approver]) -> BTreeSet<String> {
    approvers.iter().map(Approver::to_string).collect()
}

fn remembered(side: &CeremonyTerms<'_>) -> BTreeSet<String> {
    side.rule.remember.iter().flatten().map(|claim| claim.name().to_owned()).collect()
}

/// Sets of which more members let in more people. `all_if_empty`: whether an empty one lets everybody in; `None`: sets that
/// are not to be compared.
fn approvers(terms: &mut Vec<Term>, name: &str, [a, b]: [BTreeSet<String>; 2], all_if_empty: Option<bool>) {
    if a == b {
        return;
    }
    let within = |a: &BTreeSet<String>, b: &BTreeSet<String>| match all_if_empty {
        Some(true) if b.is_empty() => true,
        Some(true) if a.is_empty() => false,
        Some(_) => a.is_subset(b),
        None => false,
    };
    let direction = match (within(&a, &b), within(&b, &a)) {
        (true, false) => Direction::Wider,
        (false, true) => Direction::Narrower,
        _ => Direction::NotComparable,
    };
    let show = |side: BTreeSet<String>| match side.is_empty() {
        true => "none".to_owned(),
        false => side.into_iter().collect::<Vec<_>>().join(", "),
    };
    terms.push(Term { name: name.to_owned(), before: show(a), after: show(b), direction });
}

/// The terms in which two mappings take who acts, beside who that is.
pub(super) fn of_actors([before, after]: [&MappingSet; 2], mappings: [MappingId; 2]) -> Vec<Term> {
    let depth = |set: &MappingSet, id| set.mapping(id).actor.as_ref().map_or(0, |rule| rule.max_depth);
    let (a, b) = (depth(before, mappings[0]), depth(after, mappings[1]));
    let mut terms = Vec::new();
    term(&mut terms, "actor.max_depth", a, b, |a, b| a < b, |depth| depth.to_string());
    terms
}

/// Whether the role gives another credential than before, whoever asks.
pub(super) fn roles_differ(sets: [&MappingSet; 2], roles: [RoleId; 2]) -> bool {
    let [a, b] = [sets[0].role(roles[0]), sets[1].role(roles[1])];
    let floor = |at: usize| sets[at].ceremony_floors.get(&sets[at].role(roles[at]).sensitivity);
    a.max_duration != b.max_duration || floor(0) != floor(1) || !of_roles(sets, roles).is_empty()
}

/// The terms in which a role gives another credential, whoever asks.
pub fn of_roles(sets: [&MappingSet; 2], roles: [RoleId; 2]) -> Vec<Term> {
    let [a, b] = [sets[0].role(roles[0]), sets[1].role(roles[1])];
    let mut terms = Vec::new();
    let mut differ = |name: &str, before: String, after: String, direction| {
        if before != after {
            terms.push(Term { name: name.to_owned(), before, after, direction });
        }
    };
    // Whatever a role says that is no condition is a term; a field that is new must be put here or left out on purpose.
    let said = |role: &Role| {
        let Role {
            backend,
            kind,
            sensitivity,
            target,
            parameters: _,
            max_duration: _,
            name: _,
            description: _,
            teams: _,
            issuers: _,
            span: _,
        } = role;
        let target = target.clone().unwrap_or_else(|| "none".to_owned());
        [
            ("backend", backend.clone()),
            ("kind", (*kind).to_owned()),
            ("target", target),
            ("sensitivity", sensitivity.clone()),
        ]
    };
    for ((name, before), (_, after)) in said(a).into_iter().zip(said(b)) {
        differ(name, before, after, Direction::NotComparable);
    }
    let keys = a.parameters.values.keys().chain(b.parameters.values.keys());
    let mut keys: Vec<&String> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let shown = |set: &MappingSet, parameters: &Parameters| {
            let (value, _) = parameters.values.get(key)?;
            Some(shown(set, key, value))
        };
        let (before, after) = (shown(sets[0], &a.parameters), shown(sets[1], &b.parameters));
        let restricts = a.kind == "aws" && b.kind == "aws" && ["session_policy", "policy_arns"].contains(&key.as_str());
        let direction = match (&before, &after) {
            // A session's policy only takes away from what the role may do.
            (Some(_), None) if restricts && !has_policy(b) => Direction::Wider,
            (None, Some(_)) if restricts && !has_policy(a) => Direction::Narrower,
            _ => Direction::NotComparable,
        };
        let none = || "none".to_owned();
        let name = format!("{}.{key}", b.kind);
        differ(&name, before.unwrap_or_else(none), after.unwrap_or_else(none), direction);
    }
    terms
}

fn has_policy(role: &Role) -> bool {
    ["session_policy", "policy_arns"].iter().any(|key| role.parameters.values.contains_key(*key))
}

/// A parameter as one would write it; a policy with a hash of its text, for that is what it means.
fn shown(set: &MappingSet, key: &str, value: &toml::Value) -> String {
    let policy = value.as_str().filter(|_| key == "session_policy").and_then(|path| set.policies.get(path));
    match policy {
        Some(text) => {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            let hash: String = hash.as_ref()[..HASH_BYTES_SHOWN].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{value} (SHA-256 {hash}…)")
        }
        None => value.to_string(),
    }
}

type Given<'s> = (&'s Mapping, &'s Role);

fn ceiling((mapping, role): Given<'_>) -> Seconds {
    mapping.max_duration.map_or(role.max_duration, |own| own.min(role.max_duration))
}

fn default((mapping, role): Given<'_>) -> Seconds {
    mapping.duration.map_or(ceiling((mapping, role)), |own| own.min(ceiling((mapping, role))))
}

/// Without a session of its own, a mapping's grants are renewed until the job's token expires, whenever that is.
fn session(terms: &mut Vec<Term>, before: Option<Seconds>, after: Option<Seconds>) {
    let direction = match (before, after) {
        (Some(before), Some(after)) if before < after => Direction::Wider,
        (Some(before), Some(after)) if before > after => Direction::Narrower,
        (Some(_), Some(_)) | (None, None) => return,
        _ => Direction::NotComparable,
    };
    let show = |session: Option<Seconds>| session.map_or("the token's life".to_owned(), show_seconds);
    terms.push(Term { name: "max_session".to_owned(), before: show(before), after: show(after), direction });
}

fn show_seconds(seconds: Seconds) -> String {
    match seconds.0 {
        s if s != 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s != 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

fn term<T: PartialEq>(
    terms: &mut Vec<Term>,
    name: &str,
    before: T,
    after: T,
    less: impl Fn(&T, &T) -> bool,
    show: impl Fn(T) -> String,
) {
    if before != after {
        let direction = if less(&before, &after) { Direction::Wider } else { Direction::Narrower };
        terms.push(Term { name: name.to_owned(), before: show(before), after: show(after), direction });
    }
}
