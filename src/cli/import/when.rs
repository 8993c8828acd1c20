//! Conditions on claims as trust policies combine them: alternatives of conditions that hold together.

use super::{
    super::new::quoted,
    pattern::{Pattern, Written},
};
use claimbound_core::workload::Claim;
use std::collections::{BTreeMap, BTreeSet};

/// Alternatives of one statement beyond this are not multiplied out.
pub const ALTERNATIVES_MAX: usize = 256;

/// What one claim must be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    /// Any of these.
    OneOf(BTreeSet<Pattern>),
    Is(bool),
    Absent,
    /// All of these at once.
    All(Vec<Value>),
}

/// Conditions that hold together; without any, every job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct When(pub BTreeMap<Claim, Value>);

impl Value {
    pub fn exact(text: &str) -> Self {
        Self::one(Pattern::exact(text))
    }
    pub fn one(pattern: Pattern) -> Self {
        Self::OneOf([pattern].into())
    }
    pub fn present() -> Self {
        Self::one(Pattern::star("*"))
    }

    /// Its values, if it is nothing but exact ones.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::OneOf(patterns) => patterns.iter().map(Pattern::text).collect(),
            _ => None,
        }
    }

    /// Both at once; `None`: nothing is both.
    fn and(self, other: Self) -> Option<Self> {
        if self == other {
            return Some(self);
        }
        match (&self, &other) {
            (Self::OneOf(a), Self::OneOf(b)) if self.texts().is_some() && other.texts().is_some() => {
                let both: BTreeSet<_> = a.intersection(b).cloned().collect();
                (!both.is_empty()).then_some(Self::OneOf(both))
            }
            (Self::Absent, Self::All(_)) | (Self::All(_), Self::Absent) => None,
            (Self::Absent | Self::Is(_), _) | (_, Self::Absent | Self::Is(_)) => None,
            _ => Some(Self::All([self, other].into_iter().flat_map(Self::all).collect())),
        }
    }

    fn all(self) -> Vec<Self> {
        match self {
            Self::All(values) => values,
            one => vec![one],
        }
    }

    /// As TOML. `prefix` stands before texts that are written in full.
    ///
    /// # Errors
    /// What the language cannot say.
    pub fn toml(&self) -> Result<String, String> {
        match self {
            Self::Is(value) => Ok(value.to_string()),
            Self::Absent => Ok("{ absent = true }".to_owned()),
            Self::All(values) => {
                let values: Vec<_> = values.iter().map(Self::toml).collect::<Result<_, _>>()?;
                Ok(format!("{{ all = [{}] }}", values.join(", ")))
            }
            Self::OneOf(patterns) => {
                let mut forms = BTreeSet::new();
                for pattern in patterns {
                    forms.extend(pattern.written()?);
                }
                if forms.contains(&Written::Present) {
                    return Ok("{ present = true }".to_owned());
                }
                let mixed = forms.iter().any(|form| matches!(form, Written::Glob(_)));
                let texts: Vec<String> = forms
                    .iter()
                    .map(|form| match form {
                        Written::Exact(text) => quoted(text),
                        Written::Glob(glob) => format!("{{ glob = {} }}", quoted(glob)),
                        Written::Present => String::new(),
                    })
                    .collect();
                Ok(match (texts.as_slice(), mixed) {
                    ([one], _) => one.clone(),
                    (several, false) => format!("[{}]", several.join(", ")),
                    (several, true) => format!("{{ any = [{}] }}", several.join(", ")),
                })
            }
        }
    }
}

impl When {
    pub fn of(conditions: impl IntoIterator<Item = (Claim, Value)>) -> Self {
        Self(conditions.into_iter().collect())
    }
    pub fn get(&self, claim: Claim) -> Option<&Value> {
        self.0.get(&claim)
    }
    /// The one exact value of a claim.
    pub fn text(&self, claim: Claim) -> Option<&str> {
        match self.get(claim)?.texts()?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// Both at once; `None`: no job is like this.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.0.clone();
        for (claim, value) in &other.0 {
            let value = match both.remove(claim) {
                Some(present) => present.and(value.clone())?,
                None => value.clone(),
            };
            both.insert(*claim, value);
        }
        Self(both).sound()
    }

    /// Without what another condition says already; `None`: the conditions exclude each other.
    fn sound(mut self) -> Option<Self> {
        let has = |claim| self.get(claim).is_some_and(|value| *value != Value::Absent);
        let (branch, tag) = (has(Claim::Branch), has(Claim::Tag));
        if branch && tag {
            return None;
        }
        // A `sub` that names a ref, and so no environment, is never one of a pull request, whatever its ref is.
        if (branch || tag) && self.get(Claim::Environment) == Some(&Value::Absent) {
            let pull_request = Pattern::exact("pull_request");
            if let Some(Value::OneOf(events)) = self.0.get_mut(&Claim::EventName)
                && events.remove(&pull_request)
                && events.is_empty()
            {
                return None;
            }
        }
        let kind = branch.then_some("branch").or(tag.then_some("tag"));
        if let (Some(kind), Some(types)) = (kind, self.get(Claim::RefType).and_then(Value::texts)) {
            if !types.contains(&kind) {
                return None;
            }
            self.0.remove(&Claim::RefType);
        }
        Some(self)
    }

    /// As lines of a table. The parts of a workflow are one table of their own.
    ///
    /// # Errors
    /// What the language cannot say.
    pub fn toml(&self) -> Result<String, String> {
        let mut lines = Vec::new();
        let mut workflows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (claim, value) in &self.0 {
            let told = value.toml().map_err(|why| format!("`{}`: {why}", claim.name()))?;
            match claim.name().split_once('.') {
                Some((workflow, part)) => workflows.entry(workflow).or_default().push(format!("{part} = {told}")),
                None => lines.push(format!("{} = {told}\n", claim.name())),
            }
        }
        let tables = workflows.into_iter().map(|(key, parts)| format!("{key} = {{ {} }}\n", parts.join(", ")));
        Ok(lines.into_iter().chain(tables).collect())
    }
}

/// All of these groups of alternatives at once.
///
/// # Errors
/// When there would be too many.
pub fn together(groups: Vec<Vec<When>>) -> Result<Vec<When>, String> {
    let mut all = vec![When::default()];
    for group in groups {
        if all.len() * group.len() > ALTERNATIVES_MAX {
            return Err(format!("its conditions multiply to more than {ALTERNATIVES_MAX} alternatives"));
        }
        all = all.iter().flat_map(|one| group.iter().filter_map(|other| one.and(other))).collect();
    }
    Ok(all)
}

/// The same alternatives in fewer: those that differ in one claim alone are one, and one that holds wherever another
/// does takes that other's place.
pub fn merged(alternatives: impl IntoIterator<Item = When>) -> Vec<When> {
    let mut all: Vec<When> = alternatives.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    loop {
        let pairs = (0..all.len()).flat_map(|a| (a + 1..all.len()).map(move |b| (a, b)));
        let Some((a, b, one)) = pairs.into_iter().find_map(|(a, b)| Some((a, b, joined(&all[a], &all[b])?))) else {
            return all;
        };
        all.remove(b);
        all[a] = one;
        all.sort();
    }
}

/// Two alternatives as one.
fn joined(a: &When, b: &When) -> Option<When> {
    let holds_within = |wide: &When, narrow: &When| {
        // Without an event the default ones are meant, so a condition on it is no narrowing.
        wide.get(Claim::EventName) == narrow.get(Claim::EventName)
            && wide.0.iter().all(|(claim, value)| narrow.get(*claim) == Some(value))
    };
    if holds_within(a, b) {
        return Some(a.clone());
    }
    if holds_within(b, a) {
        return Some(b.clone());
    }
    if !a.0.keys().eq(b.0.keys()) {
        return None;
    }
    let mut differing = a.0.iter().filter(|(claim, value)| b.get(**claim) != Some(value));
    let (claim, Value::OneOf(left)) = differing.next()? else { return None };
    let (None, Some(Value::OneOf(right))) = (differing.next(), b.get(*claim)) else { return None };
    let mut one = a.clone();
    one.0.insert(*claim, Value::OneOf(left.union(right).cloned().collect()));
    Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> When {
        When::of([(Claim::Branch, Value::one(Pattern::star(name)))])
    }

    #[test]
    fn conditions_hold_together_or_not_at_all() {
        let main = branch("main");
        assert_eq!(main.and(&main), Some(main.clone()));
        assert_eq!(main.and(&branch("other")), None);
        let both = main.and(&branch("m*")).unwrap();
        assert_eq!(both.toml().unwrap(), "branch = { all = [\"main\", { glob = \"m**\" }] }\n");
        assert_eq!(main.and(&When::of([(Claim::Tag, Value::present())])), None);
        let of = |kind| When::of([(Claim::RefType, Value::exact(kind))]);
        assert_eq!(main.and(&of("branch")), Some(main.clone()));
        assert_eq!(main.and(&of("tag")), None);
        let absent = When::of([(Claim::Environment, Value::Absent)]);
        let events = When::of([(Claim::EventName, Value::OneOf(["push", "pull_request"].map(Pattern::exact).into()))]);
        let push = main.and(&absent).and_then(|when| when.and(&events));
        assert_eq!(push.and_then(|when| Some(when.text(Claim::EventName)?.to_owned())).as_deref(), Some("push"));
        assert_eq!(main.and(&events).and_then(|when| Some(when.get(Claim::EventName)?.texts()?.len())), Some(2));
        assert_eq!(absent.and(&When::of([(Claim::Environment, Value::exact("x"))])), None);
        let many = vec![vec![branch("a*"), branch("b*")]; 9];
        assert!(together(many).is_err());
    }

    #[test]
    fn alternatives_that_differ_in_one_claim_are_one() {
        let event = |name| When::of([(Claim::EventName, Value::exact(name))]);
        assert_eq!(merged([branch("main"), branch("v*"), branch("main")]).len(), 1);
        assert_eq!(merged([When::default(), branch("main")]), [When::default()]);
        assert_eq!(merged([When::default(), event("pull_request")]).len(), 2, "other events than the default ones");
        let one = merged([branch("main"), branch("v*")]).remove(0);
        assert_eq!(one.toml().unwrap(), "branch = { any = [\"main\", { glob = \"v**\" }] }\n");
    }

    #[test]
    fn workflows_are_tables() {
        let when = When::of([
            (Claim::JobWorkflowFile, Value::exact("a.yml")),
            (Claim::JobWorkflowRepository, Value::exact("acme/ci")),
            (Claim::RefProtected, Value::Is(true)),
        ]);
        assert_eq!(
            when.toml().unwrap(),
            "ref_protected = true\njob_workflow = { repository = \"acme/ci\", file = \"a.yml\" }\n"
        );
    }
}
