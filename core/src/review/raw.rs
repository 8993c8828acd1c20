//! Raw claims in boxes: every value that a condition can tell apart is a text.
//!
//! A list is its elements with [`Lang::SEPARATOR`] between them, the empty list the empty text; a text is a list of one,
//! because no condition tells the two apart. What is no list begins with a control character that no element holds: a
//! boolean, an integer. All else (numbers that are no integers, objects, lists of other things, texts that no claim can
//! have) is [`Gaps::MISFIT`]. Nothing proves that a token has no such claim, so there is no none.

use super::boxes::{Axis, Jobs};
use crate::{
    lang::{
        pattern::{Lang, PatternError, Segments},
        space::{Domain, Gaps, Space},
    },
    mapping::Test,
    workload::RawClaim,
};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const BOOLEAN: &str = "\u{1}";
const INTEGER: &str = "\u{2}";

/// Made once: witnesses and denies ask for them again and again.
type Known<T> = LazyLock<Result<T, PatternError>>;

static LISTS: Known<Lang> = LazyLock::new(|| lists_of(&Lang::anything()));
static NO_LISTS: Known<Lang> = LazyLock::new(|| LISTS.clone()?.complement());
static NO_INTEGERS: Known<Lang> = LazyLock::new(|| Lang::starting(INTEGER, false)?.complement());
static POSSIBLE: Known<Domain> = LazyLock::new(|| all_of(&LISTS.clone()?));
static POSSIBLE_JOINED: Known<Domain> = LazyLock::new(|| {
    let apart = Lang::glob("**,**", Segments::Path, false)?.complement()?;
    all_of(&lists_of(&apart)?)
});

fn all_of(lists: &Lang) -> Result<Domain, PatternError> {
    let values = lists.union(&booleans()?)?.union(&super::world::decimals()?.after(INTEGER)?)?;
    Ok(Domain::new(Gaps::UNKNOWN | Gaps::MISFIT, values))
}

fn boolean(value: bool) -> Lang {
    Lang::exact(&format!("{BOOLEAN}{value}"), false)
}

fn booleans() -> Result<Lang, PatternError> {
    boolean(true).union(&boolean(false))
}

fn lists_of(elements: &Lang) -> Result<Lang, PatternError> {
    elements.every_element()?.union(&Lang::exact("", false))
}

fn integers(numbers: &[i64]) -> Lang {
    let texts: Vec<String> = numbers.iter().map(|number| format!("{INTEGER}{number}")).collect();
    Lang::one_of(texts.iter().map(String::as_str), false)
}

/// Everything that a token may hold there.
pub(super) fn possible(raw: &RawClaim) -> Result<Domain, PatternError> {
    if raw.is_joined() { POSSIBLE_JOINED.clone() } else { POSSIBLE.clone() }
}

/// What a test says. `gaps`: the points that hold it whatever it asks; with a misfit among them (in a deny) a value of
/// another type than the test's does too.
pub(super) fn domain(test: &Test, gaps: Gaps) -> Result<Domain, PatternError> {
    let (own, others): (Lang, &dyn Fn() -> Result<Lang, PatternError>) = match test {
        Test::Present => return Ok(Domain::new(gaps | Gaps::MISFIT, Lang::anything())),
        Test::Absent => return Ok(Domain::gap(gaps & Gaps::UNKNOWN)),
        Test::Is(value) => (boolean(*value), &|| booleans()?.complement()),
        Test::Integer(numbers) => (integers(numbers), &|| NO_INTEGERS.clone()),
        Test::Text(lang) => (lang.some_element()?, &|| NO_LISTS.clone()),
        Test::Every(lang) => (lang.every_element()?, &|| NO_LISTS.clone()),
        // Of canonical claims.
        _ => (Lang::nothing(), &|| Ok(Lang::anything())),
    };
    let values = if gaps.has(Gaps::MISFIT) { own.union(&others()?)? } else { own };
    Ok(Domain::new(gaps, values))
}

/// Boxes without a job among the raw claims of this one: what holds another claim is an object.
pub(super) fn tied(jobs: &Jobs) -> Result<Vec<(Axis, Jobs)>, PatternError> {
    let raws: Vec<RawClaim> = jobs
        .iter()
        .filter_map(|(axis, _)| match axis {
            Axis::Raw(raw) => Some(raw),
            _ => None,
        })
        .collect();
    let mut tied = Vec::new();
    for (inner, outer) in raws.iter().flat_map(|inner| raws.iter().map(move |outer| (inner, outer))) {
        if inner.is_inside(outer) {
            let none = Space::of([
                (Axis::Raw(outer.clone()), Domain::gap(Gaps::MISFIT).complement()?),
                (Axis::Raw(inner.clone()), Domain::gap(Gaps::UNKNOWN).complement()?),
            ])?;
            tied.push((Axis::Raw(inner.clone()), none));
        }
    }
    Ok(tied)
}

/// What a token may say so that it is in both boxes of raw claims, all of which conditions ask to be there; `None`: there
/// is nothing.
pub(super) fn job(a: &Jobs, b: &Jobs) -> Result<Option<Map<String, Value>>, PatternError> {
    let Some(mut both) = a.intersect(b)? else { return Ok(None) };
    for (axis, _) in both.clone().iter() {
        if let Axis::Raw(raw) = &axis {
            both.narrow(axis.clone(), &possible(raw)?)?;
        }
    }
    for (inner, none) in tied(&both)? {
        // What is inside is there, so what holds it is an object.
        for (outer, domain) in none.iter().filter(|(axis, _)| *axis != inner) {
            both.narrow(outer, &domain.complement()?)?;
        }
    }
    if both.is_empty() {
        return Ok(None);
    }
    let mut told = Map::new();
    for (axis, domain) in both.iter() {
        if let (Axis::Raw(raw), Some(value)) = (axis, value(domain)) {
            raw.put(&mut told, value);
        }
    }
    Ok(Some(told))
}

/// A value of this domain, which is only what can be; `None`: it may as well be missing.
pub(super) fn value(domain: &Domain) -> Option<Value> {
    if domain.gaps.has(Gaps::UNKNOWN) {
        return None;
    }
    let Some(text) = domain.values.witness() else { return Some(json!({})) };
    Some(if let Some(value) = text.strip_prefix(BOOLEAN) {
        json!(value == "true")
    } else if let Some(number) = text.strip_prefix(INTEGER) {
        json!(number.parse::<i64>().unwrap_or_default())
    } else if text.is_empty() {
        json!([])
    } else if text.contains(Lang::SEPARATOR) {
        json!(text.split(Lang::SEPARATOR).collect::<Vec<_>>())
    } else {
        json!(text)
    })
}

/// In words; `None`: anything.
pub(super) fn words(domain: &Domain) -> Option<String> {
    let mut said = Vec::new();
    match (domain.values.is_empty(), domain.values.is_anything()) {
        (true, _) => {}
        (_, true) if domain.gaps.has(Gaps::UNKNOWN | Gaps::MISFIT) => return None,
        (_, true) => said.push("any value".to_owned()),
        _ => said.push(domain.values.describe().replace(['\u{1}', '\u{2}'], "")),
    }
    for (gap, word) in [(Gaps::UNKNOWN, "unknown"), (Gaps::MISFIT, "of another type")] {
        if domain.gaps.has(gap) {
            said.push(word.to_owned());
        }
    }
    (!said.is_empty()).then(|| said.join(", or "))
}

#[cfg(test)]
mod tests;
