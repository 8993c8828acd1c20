//! Which repositories rules pin, and what stands in for what they do not say.

use super::{
    model::Rule,
    native::Source,
    pattern::Pattern,
    when::{Value, When},
};
use claimbound_core::workload::Claim;
use std::collections::{BTreeMap, BTreeSet};

/// A repository by name, with the id if it is known.
pub type Pair = (String, Option<String>);

/// One spelling and at most one id for each repository: two mappings for one would overlap once ids are filled in.
pub struct Known(BTreeMap<(String, String), (String, BTreeSet<String>)>);

impl Known {
    pub fn of(rules: &[Rule<'_>]) -> Self {
        let mut known = Self(BTreeMap::new());
        for rule in rules {
            let pins = rule.alternatives.iter().filter_map(|when| pinned(when, &rule.source).ok()).flatten();
            for (name, id) in pins.filter_map(|(pair, _)| pair) {
                let entry = known.0.entry(Self::key(&rule.source, &name)).or_insert((name, BTreeSet::new()));
                entry.1.extend(id);
            }
        }
        known
    }
    fn key(source: &Source<'_>, name: &str) -> (String, String) {
        let name = if source.profile.folds_names() { name.to_ascii_lowercase() } else { name.to_owned() };
        (source.url.clone(), name)
    }
    /// Another policy's id for the name narrows this one's.
    pub fn spelled(&self, source: &Source<'_>, (name, id): Pair) -> Pair {
        let Some((spelled, ids)) = self.0.get(&Self::key(source, &name)) else { return (name, id) };
        let only = ids.first().filter(|_| ids.len() == 1).cloned();
        (spelled.clone(), id.or(only))
    }
}

/// Which repositories conditions pin, each with what is left of them. `None` in a pair's place: they pin otherwise.
pub fn pinned(when: &When, source: &Source<'_>) -> Result<Vec<(Option<Pair>, When)>, String> {
    let mut rest = when.clone();
    let by_subject = source.profile.pins().first() == Some(&Claim::Subject);
    if by_subject {
        let exact = when.get(Claim::Subject).and_then(Value::texts).is_some();
        return exact.then(|| vec![(None, rest)]).ok_or_else(|| "it names no subject exactly".to_owned());
    }
    let names = when.get(Claim::Repository).map(|value| value.texts().ok_or(()));
    let ids = when.get(Claim::RepositoryId).and_then(Value::texts);
    match (names, ids) {
        (Some(Ok(names)), ids) if ids.as_ref().is_none_or(|ids| names.len() == 1 && ids.len() == 1) => {
            for claim in [Claim::Repository, Claim::RepositoryId, Claim::RepositoryOwner] {
                rest.0.remove(&claim);
            }
            let id = ids.and_then(|ids| ids.first().map(|id| (*id).to_owned()));
            let owned = |name: &str| match when.get(Claim::RepositoryOwner).and_then(Value::texts) {
                None => when.get(Claim::RepositoryOwner).is_none(),
                Some(owners) => owners
                    .iter()
                    .any(|owner| name.rsplit_once('/').is_some_and(|(of, _)| of.eq_ignore_ascii_case(owner))),
            };
            let pairs: Vec<_> = names
                .into_iter()
                .filter(|name| owned(name))
                .map(|name| (Some((name.to_owned(), id.clone())), rest.clone()))
                .collect();
            if pairs.is_empty() {
                return Err("its repositories are not its owner's, so no job fits".to_owned());
            }
            Ok(pairs)
        }
        (_, Some(_)) => Ok(vec![(None, rest)]),
        (Some(_), None) => Err("it names repositories by a pattern, so by no id".to_owned()),
        (None, None) if owner_of(when).is_some() => Err("it is for every repository of an owner".to_owned()),
        (None, None) => Err("it names no repository: jobs of any stranger's would fit".to_owned()),
    }
}

/// The owner of every repository that the conditions are for.
pub fn owner_of(when: &When) -> Option<String> {
    if let Some(owner) = when.text(Claim::RepositoryOwner) {
        return Some(owner.to_owned());
    }
    let Some(Value::OneOf(patterns)) = when.get(Claim::Repository) else { return None };
    let owners: Option<BTreeSet<String>> =
        patterns.iter().map(|pattern| Some(pattern.split_once("/")?.0.text()?.to_owned())).collect();
    owners.filter(|owners| owners.len() == 1)?.pop_first()
}

/// Whether every event would fit, if it were not for the default ones.
pub fn open_to_events(when: &When, source: &Source<'_>) -> bool {
    let narrow = [Claim::EventName, Claim::Branch, Claim::Tag, Claim::Ref, Claim::Subject];
    source.profile.tells_events() && narrow.iter().all(|claim| when.get(*claim).is_none())
}

/// Where one alternative admits every job and others name events, one that names the default events and these: the
/// policy let in whatever else these others demand.
pub fn with_named_events(alternatives: Vec<When>, source: &Source<'_>) -> Vec<When> {
    let events = alternatives.iter().filter_map(|when| when.get(Claim::EventName)?.texts()).flatten();
    let mut events: BTreeSet<_> = events.map(Pattern::exact).collect();
    if alternatives.len() < 2 || events.is_empty() || !alternatives.contains(&When::default()) {
        return alternatives;
    }
    events.extend(source.profile.default_events().iter().map(|event| Pattern::exact(event)));
    let all = When::of([(Claim::EventName, Value::OneOf(events))]);
    vec![all]
}
