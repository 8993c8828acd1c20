//! What a condition's value means: literal, list, glob, `under`, `not_prefix` and what is made of them → [`Lang`].
//!
//! Every operation is exact or an error; none approximates. A text is any valid UTF-8 here; which texts a claim can
//! hold is for the caller to say ([`Lang::witness_within`]).

use super::automaton::{Automaton, Bytes, Item, Keep, STATES_MAX, TooLarge};
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

/// Longest glob or path.
pub const PATTERN_BYTES_MAX: usize = 512;

/// A finite set that comes out of an operation on wildcards is listed up to this many members, so that equal sets are
/// equal values; a larger one stays an automaton. The same holds for a set that lacks so few.
const LISTED_MEMBERS_MAX: usize = 256;

/// Members that [`Lang::describe`] writes out.
const DESCRIBED_MEMBERS_MAX: usize = 8;

/// Longest text that [`Lang::describe`] composes of the texts of two sets.
const DESCRIBED_BYTES_MAX: usize = 400;

/// A set of texts: listed, all but those listed, or an automaton. Sets that are written differently and mean the same
/// are equal as far as they are written with patterns and lists and met with [`Lang::intersect`]; where it matters
/// after other operations, ask [`Lang::is_subset`] both ways.
/// Small, and shared by its clones: a company writes few sets many times.
#[derive(Clone)]
pub struct Lang(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: Set,
    /// What was written, where the set itself cannot tell.
    words: Option<Box<str>>,
}

impl fmt::Debug for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Set {
    Listed(List),
    AllBut(List),
    Automaton(Arc<Automaton>),
}

/// Texts, sorted, each once. If `fold`, in lower case, and ASCII case does not count; never set without letters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct List {
    texts: Arc<[Box<str>]>,
    fold: bool,
}

impl List {
    fn new(mut texts: Vec<Box<str>>, fold: bool) -> Self {
        let fold = fold && texts.iter().any(|text| has_case(text));
        if fold {
            texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
        }
        texts.sort_unstable();
        texts.dedup();
        Self { texts: texts.into(), fold }
    }

    fn has(&self, text: &str) -> bool {
        if self.fold {
            let lower = || text.bytes().map(|byte| byte.to_ascii_lowercase());
            self.texts.binary_search_by(|member| member.bytes().cmp(lower())).is_ok()
        } else {
            self.texts.binary_search_by(|member| member.as_ref().cmp(text)).is_ok()
        }
    }

    fn folds(&self) -> bool {
        self.fold || !self.texts.iter().any(|text| has_case(text))
    }

    /// All of both, if one reading of case serves both.
    fn merged(&self, other: &Self) -> Option<Self> {
        let fold = self.fold || other.fold;
        let alike = !fold || (self.folds() && other.folds());
        alike.then(|| Self::new(self.texts.iter().chain(other.texts.iter()).cloned().collect(), fold))
    }

    /// Those that `keep` keeps, if `keep` cannot tell apart what this list does not.
    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Lang {
        Lang::listed(self.texts.iter().filter(|text| keep(text)).cloned().collect(), self.fold)
    }

    /// `None`: it is empty.
    fn automaton(&self) -> Result<Option<Automaton>, TooLarge> {
        let chains: Vec<_> = self.texts.iter().map(|text| literal(text, self.fold)).collect();
        Automaton::build(&chains)
    }
}

fn has_case(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl PartialEq for Lang {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.set == other.0.set
    }
}
impl Eq for Lang {}

impl Hash for Lang {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.set.hash(state);
    }
}

/// Where `*` stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segments {
    /// At `/`.
    Path,
    /// At `/`, `:` and `@`: for `subject`.
    Subject,
}

impl Segments {
    fn bounds(self) -> &'static [u8] {
        match self {
            Self::Path => b"/",
            Self::Subject => b"/:@",
        }
    }
}

/// One step of a shape that patterns cannot write ([`Lang::shapes`]).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'s> {
    Text(&'s str),
    /// So many of these ASCII characters.
    Some(&'s str, usize),
    /// Any number of these.
    Run(&'s str),
}

static UTF8: LazyLock<Automaton> = LazyLock::new(|| Automaton::utf8(false));

/// Why a pattern is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub String);

impl From<TooLarge> for PatternError {
    fn from(TooLarge: TooLarge) -> Self {
        Self(format!("the pattern needs more than {STATES_MAX} states: use fewer wildcards or shorter literals"))
    }
}

impl Lang {
    fn new(set: Set, words: Option<Box<str>>) -> Self {
        Self(Arc::new(Inner { set, words }))
    }

    /// Exactly this text. `fold`: ASCII case does not count.
    pub fn exact(text: &str, fold: bool) -> Self {
        Self::one_of([text], fold)
    }

    /// Any of these texts.
    pub fn one_of<'a>(texts: impl IntoIterator<Item = &'a str>, fold: bool) -> Self {
        Self::listed(texts.into_iter().map(Box::from).collect(), fold)
    }

    /// No text.
    pub fn nothing() -> Self {
        Self::listed(Vec::new(), false)
    }

    /// Every text.
    pub fn anything() -> Self {
        Self::new(Set::AllBut(List::new(Vec::new(), false)), None)
    }

    /// What a text claim can hold: at least one character, and no control characters.
    pub(crate) fn texts() -> Self {
        static TEXTS: LazyLock<Arc<Automaton>> = LazyLock::new(|| Arc::new(Automaton::utf8(true)));
        Self::new(Set::Automaton(TEXTS.clone()), Some("any text".into()))
    }

    fn listed(texts: Vec<Box<str>>, fold: bool) -> Self {
        Self::new(Set::Listed(List::new(texts, fold)), None)
    }

    /// The set of an automaton, listed if that is short.
    fn of(automaton: Option<Automaton>, words: impl FnOnce() -> String) -> Self {
        let list = |automaton: &Automaton| {
            let members = automaton.members(LISTED_MEMBERS_MAX)?;
            // What is no text is no member.
            let texts = members.into_iter().filter_map(|member| String::from_utf8(member).ok());
            Some(List::new(texts.map(String::into_boxed_str).collect(), automaton.folds()))
        };
        let Some(automaton) = automaton else { return Self::nothing() };
        if let Some(list) = list(&automaton) {
            return Self::new(Set::Listed(list), None);
        }
        if automaton.is_total()
            && let Ok(missing) = automaton.complement()
            && let Some(list) = missing.as_ref().map_or_else(|| Some(List::new(Vec::new(), false)), list)
        {
            return Self::new(Set::AllBut(list), None);
        }
        Self::new(Set::Automaton(Arc::new(automaton)), Some(words().into()))
    }

    /// The same after an operation that may leave bytes alone that are no text.
    fn left(automaton: Option<Automaton>, words: impl FnOnce() -> String) -> Self {
        Self::of(automaton.filter(|automaton| automaton.witness(&UTF8).is_some()), words)
    }

    /// `*`, `**` and `{num}` beside literals (mappings, "Values").
    pub fn glob(pattern: &str, segments: Segments, fold: bool) -> Result<Self, PatternError> {
        const NUM: &str = "{num}";
        if pattern.is_empty() {
            return Err(PatternError("the glob is empty".to_owned()));
        }
        limit(pattern)?;
        let literals = pattern.replace(NUM, "");
        if let Some(byte) = literals.bytes().find(|byte| b"{}[]?\\".contains(byte)) {
            return Err(PatternError(format!(
                "`{}` has no meaning in a glob: `*`, `**` and `{NUM}` (a run of digits) are all its wildcards",
                char::from(byte)
            )));
        }
        if pattern.contains("***") {
            return Err(PatternError("`***` is neither `*` nor `**`".to_owned()));
        }
        if !pattern.contains('*') && literals.len() == pattern.len() {
            return Ok(Self::exact(pattern, fold));
        }
        let bounds = segments.bounds();
        let inside = bounds.iter().fold(Bytes::ANY, |set, byte| set.without(*byte));
        let bytes = pattern.as_bytes();
        let mut chain = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if bytes[at..].starts_with(NUM.as_bytes()) {
                chain.extend([Item::One(Bytes::DIGITS), Item::Run(Bytes::DIGITS)]);
                at += NUM.len() - 1;
            } else if byte != b'*' {
                chain.push(Item::One(Bytes::one(byte, fold)));
            } else if bytes.get(at + 1) == Some(&b'*') {
                chain.push(Item::Run(Bytes::ANY));
                at += 1;
            } else {
                let starts = at == 0 || bounds.contains(&bytes[at - 1]);
                let ends = bytes.get(at + 1).is_none_or(|byte| bounds.contains(byte));
                chain.extend((starts && ends).then_some(Item::One(inside)));
                chain.push(Item::Run(inside));
            }
            at += 1;
        }
        Ok(Self::of(Automaton::build(&[chain])?, || format!("`{pattern}`")))
    }

    /// This path and everything below it.
    pub fn under(path: &str, fold: bool) -> Result<Self, PatternError> {
        limit(path)?;
        if path.contains('*') {
            return Err(PatternError(format!(
                "`{path}` is no path: everything below it is meant already, without `*`"
            )));
        }
        if path.split('/').any(str::is_empty) {
            return Err(PatternError(format!(
                "`{path}` is no path: it needs segments between single slashes, without one at either end"
            )));
        }
        let below = [literal(path, fold), literal("/", fold), beyond()].concat();
        Ok(Self::of(Automaton::build(&[literal(path, fold), below])?, || format!("`{path}` or anything below it")))
    }

    /// Every text that does not begin with `prefix`, wildcards having no meaning in it. That none and unknown hold no
    /// condition is the evaluator's.
    pub fn not_prefix(prefix: &str, fold: bool) -> Result<Self, PatternError> {
        if prefix.is_empty() {
            return Err(PatternError("every text begins with the empty prefix".to_owned()));
        }
        if let Some(byte) = prefix.bytes().find(|byte| b"*{}[]?\\".contains(byte)) {
            return Err(PatternError(format!("`{}` has no meaning in a prefix: write it out", char::from(byte))));
        }
        Self::starting(prefix, fold)?.complement()
    }

    /// Every text that begins with `prefix`, itself included.
    pub(crate) fn starting(prefix: &str, fold: bool) -> Result<Self, PatternError> {
        limit(prefix)?;
        let chain = [literal(prefix, fold), vec![Item::Run(Bytes::ANY)]].concat();
        Ok(Self::of(Automaton::build(&[chain])?, || format!("`{prefix}…`")))
    }

    /// Every text that ends with `end`, itself included.
    pub(crate) fn ending(end: &str) -> Result<Self, PatternError> {
        limit(end)?;
        let chain = [vec![Item::Run(Bytes::ANY)], literal(end, false)].concat();
        Ok(Self::of(Automaton::build(&[chain])?, || format!("`…{end}`")))
    }

    /// Every text of `self` with `prefix` before it.
    pub(crate) fn after(&self, prefix: &str) -> Result<Self, PatternError> {
        match &self.0.set {
            Set::Listed(List { texts, fold: false }) => {
                Ok(Self::listed(texts.iter().map(|text| format!("{prefix}{text}").into()).collect(), false))
            }
            _ => Ok(Self::of(self.automaton()?.map(|own| own.after(prefix.as_bytes())).transpose()?, || {
                format!("`{prefix}` and {}", self.describe())
            })),
        }
    }

    /// Every text of `self`, then `/` and one segment.
    pub(crate) fn owning(&self) -> Result<Self, PatternError> {
        Ok(Self::of(self.automaton()?.map(|own| own.owning()).transpose()?, || match self.members() {
            Some(names) => names.map(|name| format!("`{name}/*`")).collect::<Vec<_>>().join(" or "),
            None => format!("{} and one segment", self.describe()),
        }))
    }

    /// Lists that have some element of `self`, as one text: elements with [`Lang::SEPARATOR`] between them. Elements are
    /// neither empty nor hold control characters; the empty list is the empty text, and never in the set.
    pub fn some_element(&self) -> Result<Self, PatternError> {
        self.of_lists(false, "has")
    }

    /// Lists that are not empty and have elements of `self` alone, as one text like [`Lang::some_element`].
    pub fn every_element(&self) -> Result<Self, PatternError> {
        self.of_lists(true, "has only")
    }

    /// Between the elements of a list that is one text.
    pub const SEPARATOR: char = '\u{1f}';

    fn of_lists(&self, every: bool, words: &str) -> Result<Self, PatternError> {
        let lists = match self.intersect(&Self::texts())?.automaton()? {
            Some(elements) => elements.listed(Self::SEPARATOR as u8, every)?,
            None => None,
        };
        Ok(Self::left(lists, || format!("{words} {}", grouped(self.describe(), ""))))
    }

    /// What any of these rows of steps spells.
    pub(crate) fn shapes(rows: &[&[Step<'_>]], words: &str) -> Result<Self, PatternError> {
        let chain = |row: &&[Step<'_>]| {
            let items = row.iter().flat_map(|step| match step {
                Step::Text(text) => literal(text, false),
                Step::Some(of, count) => vec![Item::One(Bytes::of(of.bytes())); *count],
                Step::Run(of) => vec![Item::Run(Bytes::of(of.bytes()))],
            });
            items.collect()
        };
        let chains: Vec<_> = rows.iter().map(chain).collect();
        Ok(Self::of(Automaton::build(&chains)?, || words.to_owned()))
    }

    /// `None`: it is empty.
    fn automaton(&self) -> Result<Option<Arc<Automaton>>, PatternError> {
        match &self.0.set {
            Set::Automaton(automaton) => Ok(Some(automaton.clone())),
            Set::Listed(list) => Ok(list.automaton()?.map(Arc::new)),
            Set::AllBut(list) => Ok(match list.automaton()? {
                Some(missing) => missing.complement()?.map(Arc::new),
                None => Automaton::build(&[vec![Item::Run(Bytes::ANY)]])?.map(Arc::new),
            }),
        }
    }

    /// Whether `text` is in the set. Linear in its length; allocates nothing.
    pub fn matches(&self, text: &str) -> bool {
        match &self.0.set {
            Set::Listed(list) => list.has(text),
            Set::AllBut(list) => !list.has(text),
            Set::Automaton(automaton) => automaton.matches(text.as_bytes()),
        }
    }

    /// The texts in both.
    ///
    /// # Errors
    /// The automaton would grow beyond the stated number of states; so for every operation here.
    pub fn intersect(&self, other: &Self) -> Result<Self, PatternError> {
        let words = || compose(self, " and ", other);
        match (&self.0.set, &other.0.set) {
            _ if self.is_anything() || other.is_empty() => Ok(other.clone()),
            _ if other.is_anything() || self.is_empty() => Ok(self.clone()),
            (Set::Listed(list), _) if !list.fold || other.folds() => Ok(list.filtered(|text| other.matches(text))),
            (_, Set::Listed(list)) if !list.fold || self.folds() => Ok(list.filtered(|text| self.matches(text))),
            (Set::AllBut(a), Set::AllBut(b)) if let Some(list) = a.merged(b) => Ok(Self::new(Set::AllBut(list), None)),
            // What is missing may be a long list of which little concerns the other set.
            (_, Set::AllBut(missing)) => self.without(missing, words),
            (Set::AllBut(missing), _) => other.without(missing, words),
            _ => self.combine(other, Keep::Both, words),
        }
    }

    /// Whether an equal set also describes itself alike.
    pub(crate) fn is_written_like(&self, equal: &Self) -> bool {
        self.0.words == equal.0.words
    }

    /// Whether the two plainly have no text in common: `false` says nothing. Allocates nothing.
    pub(crate) fn plainly_misses(&self, other: &Self) -> bool {
        match (&self.0.set, &other.0.set) {
            (Set::Listed(list), _) if !list.fold || other.folds() => !list.texts.iter().any(|text| other.matches(text)),
            (_, Set::Listed(list)) if !list.fold || self.folds() => !list.texts.iter().any(|text| self.matches(text)),
            _ => false,
        }
    }

    /// The texts in either.
    pub fn union(&self, other: &Self) -> Result<Self, PatternError> {
        match (&self.0.set, &other.0.set) {
            _ if self.is_anything() || other.is_empty() => Ok(self.clone()),
            _ if other.is_anything() || self.is_empty() => Ok(other.clone()),
            (Set::Listed(a), Set::Listed(b)) if let Some(list) = a.merged(b) => Ok(Self::new(Set::Listed(list), None)),
            (Set::AllBut(_), _) | (_, Set::AllBut(_)) => {
                self.complement()?.intersect(&other.complement()?)?.complement()
            }
            _ => self.combine(other, Keep::Either, || compose(self, " or ", other)),
        }
    }

    /// The texts that are not in the set.
    pub fn complement(&self) -> Result<Self, PatternError> {
        Ok(match &self.0.set {
            Set::Listed(list) => Self::new(Set::AllBut(list.clone()), None),
            Set::AllBut(list) => Self::new(Set::Listed(list.clone()), None),
            Set::Automaton(automaton) => Self::left(automaton.complement()?, || {
                let words = self.describe();
                match words.strip_prefix("not ") {
                    Some(rest) => rest.to_owned(),
                    None => format!("not {}", grouped(words, "")),
                }
            }),
        })
    }

    /// The texts of `self` that are not in `other`.
    pub fn minus(&self, other: &Self) -> Result<Self, PatternError> {
        match (&self.0.set, &other.0.set) {
            (_, Set::Listed(_) | Set::AllBut(_)) => self.intersect(&other.complement()?),
            (Set::Listed(list), _) if !list.fold || other.folds() => Ok(list.filtered(|text| !other.matches(text))),
            _ => self.combine(other, Keep::First, || compose(self, ", not ", other)),
        }
    }

    /// Whether every text of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> Result<bool, PatternError> {
        Ok(self.minus(other)?.is_empty())
    }

    /// The texts of a set that is no list and not all but one, without those of `missing` that are in it.
    fn without(&self, missing: &List, words: impl FnOnce() -> String) -> Result<Self, PatternError> {
        let mut missing = missing.clone();
        if !missing.fold || self.folds() {
            missing.texts = missing.texts.iter().filter(|text| self.matches(text)).cloned().collect();
        }
        if missing.texts.is_empty() {
            return Ok(self.clone());
        }
        self.combine(&Self::new(Set::Listed(missing), None), Keep::First, words)
    }

    fn combine(&self, other: &Self, keep: Keep, words: impl FnOnce() -> String) -> Result<Self, PatternError> {
        match (self.automaton()?, other.automaton()?) {
            (Some(a), Some(b)) => Ok(Self::left(a.combine(&b, keep)?, words)),
            (Some(_), None) if keep != Keep::Both => Ok(self.clone()),
            (None, Some(_)) if keep == Keep::Either => Ok(other.clone()),
            _ => Ok(Self::nothing()),
        }
    }

    /// Whether ASCII case never counts.
    fn folds(&self) -> bool {
        match &self.0.set {
            Set::Listed(list) | Set::AllBut(list) => list.folds(),
            Set::Automaton(automaton) => automaton.folds(),
        }
    }

    /// Whether no text is in the set.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0.set, Set::Listed(list) if list.texts.is_empty())
    }

    /// Whether every text is in the set.
    pub fn is_anything(&self) -> bool {
        matches!(&self.0.set, Set::AllBut(list) if list.texts.is_empty())
    }

    /// The members of a listed set, sorted, in lower case where ASCII case does not count.
    pub fn members(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        match &self.0.set {
            Set::Listed(list) => Some(list.texts.iter().map(|text| &**text)),
            _ => None,
        }
    }

    /// A shortest member (in bytes); of these one that reads well.
    pub fn witness(&self) -> Option<String> {
        match &self.0.set {
            Set::Listed(list) => list.texts.iter().min_by_key(|text| text.len()).map(|text| text.to_string()),
            Set::AllBut(list) => UTF8.first(|text| !list.has(text)),
            Set::Automaton(automaton) => automaton.witness(&UTF8),
        }
    }

    /// A shortest member that is in `within`, too. Never too large: nothing is built.
    pub fn witness_within(&self, within: &Self) -> Result<Option<String>, PatternError> {
        match (&self.0.set, &within.0.set) {
            (Set::Listed(list), _) if !list.fold || within.folds() => {
                let members = list.texts.iter().filter(|text| within.matches(text));
                Ok(members.min_by_key(|text| text.len()).map(|text| text.to_string()))
            }
            (Set::AllBut(list), Set::Automaton(within)) => Ok(within.first(|text| !list.has(text))),
            (Set::Automaton(own), Set::Automaton(within)) => Ok(Automaton::shortest(&[own, within, &UTF8])?),
            _ => Ok(self.intersect(within)?.witness()),
        }
    }

    /// The set in the mapping language's own words, for traces ("`main` or `release/*`").
    pub fn describe(&self) -> String {
        match &self.0.set {
            Set::Listed(list) => list.describe(),
            Set::AllBut(list) if list.texts.is_empty() => "anything".to_owned(),
            Set::AllBut(list) => format!("anything but {}", list.describe()),
            Set::Automaton(_) => self.0.words.as_deref().unwrap_or("a pattern").to_owned(),
        }
    }
}

impl List {
    fn describe(&self) -> String {
        let count = self.texts.len();
        let shown: Vec<String> =
            self.texts.iter().take(DESCRIBED_MEMBERS_MAX).map(|text| format!("`{text}`")).collect();
        match &*shown {
            [] => "nothing".to_owned(),
            _ if count > DESCRIBED_MEMBERS_MAX => {
                format!("{} or one of {} more", shown.join(", "), count - DESCRIBED_MEMBERS_MAX)
            }
            [one] => one.clone(),
            [most @ .., last] => format!("{} or {last}", most.join(", ")),
        }
    }
}

/// What two sets say, joined; parentheses where another joint could be misread.
fn compose(a: &Lang, joint: &str, b: &Lang) -> String {
    let composed = format!("{}{joint}{}", grouped(a.describe(), joint), grouped(b.describe(), joint));
    if composed.len() > DESCRIBED_BYTES_MAX { "a combination of patterns".to_owned() } else { composed }
}

fn grouped(words: String, beside: &str) -> String {
    let joints = [" or ", " and ", ", not "];
    let other = joints.iter().any(|joint| (*joint != beside || *joint == ", not ") && words.contains(joint));
    if other { format!("({words})") } else { words }
}

fn limit(pattern: &str) -> Result<(), PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn literal(text: &str, fold: bool) -> Vec<Item> {
    text.bytes().map(|byte| Item::One(Bytes::one(byte, fold))).collect()
}

/// At least one character, whatever it is.
fn beyond() -> Vec<Item> {
    vec![Item::One(Bytes::ANY), Item::Run(Bytes::ANY)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str) -> Lang {
        Lang::glob(pattern, Segments::Path, false).unwrap()
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        for (pattern, yes, no) in [
            ("release/*", &["release/1", "release/ü"][..], &["release/", "release", "release/1/2", "xrelease/1"][..]),
            ("v*", &["v", "v1", "v1.2"], &["", "v/1", "w"]),
            ("*", &["main"], &["", "a/b"]),
            ("*/x", &["a/x"], &["/x", "x", "a/b/x"]),
            ("**", &["", "a/b"], &[]),
            ("a/**", &["a/", "a/b/c"], &["a"]),
            ("**/x", &["/x", "a/b/x"], &["x"]),
            ("a**c*", &["ac", "a/b/cd"], &["a/b/cd/e", "b"]),
            ("a*a*", &["aa", "abab"], &["a", "a/a"]),
            ("v{num}.{num}", &["v1.0", "v007.12"], &["v1", "v1.", "v.1", "v1.0.0", "v1.x", "v1.٣", "v-1.0"]),
            ("{num}", &["0", "42"], &["", "4 2", "x"]),
            ("{num}{num}*", &["12", "12a"], &["1", "1a", "12/a"]),
            ("{num}*", &["1", "1a"], &["a", "1/a"]),
        ] {
            let lang = glob(pattern);
            yes.iter().for_each(|text| assert!(lang.matches(text), "`{pattern}` has `{text}`"));
            no.iter().for_each(|text| assert!(!lang.matches(text), "`{pattern}` has not `{text}`"));
        }
    }

    #[test]
    fn in_a_subject_colon_and_at_also_end_a_segment() {
        let lang = Lang::glob("repo:acme/*:ref:*", Segments::Subject, false).unwrap();
        assert!(lang.matches("repo:acme/api:ref:main"));
        for text in
            ["repo:acme/api:x:ref:main", "repo:acme/:ref:main", "repo:acme/api@1:ref:main", "repo:acme/api:ref:a/b"]
        {
            assert!(!lang.matches(text), "{text}");
        }
    }

    #[test]
    fn under_ends_at_a_slash() {
        let lang = Lang::under("acme/payments", false).unwrap();
        for text in ["acme/payments", "acme/payments/api", "acme/payments/a/b"] {
            assert!(lang.matches(text), "{text}");
        }
        for text in ["acme/payments-x", "acme/payments/", "acme", "Acme/payments"] {
            assert!(!lang.matches(text), "{text}");
        }
    }

    #[test]
    fn folding_is_ascii_only_and_the_same_in_both_forms() {
        for lang in [Lang::exact("Acme/Ünit", true), Lang::under("Acme/Ünit", true).unwrap()] {
            assert!(lang.matches("aCME/Ünit"));
            assert!(!lang.matches("acme/ünit"));
        }
        let folded = Lang::one_of(["ACME/api", "acme/API", "other/x"], true);
        let wild = Lang::under("acme", false).unwrap();
        let both = folded.intersect(&wild).unwrap();
        assert!(both.matches("acme/API") && !both.matches("Acme/api"));
        assert_eq!(Lang::exact("1/2", true), Lang::exact("1/2", false));
    }

    #[test]
    fn equal_sets_are_equal_values() {
        assert_eq!(glob("a/*").intersect(&glob("*/b")).unwrap(), Lang::exact("a/b", false));
        assert_eq!(glob("**a").intersect(&glob("**")).unwrap(), glob("**a"));
        assert_ne!(glob("a*"), glob("a**"));
        assert!(glob("a*").intersect(&glob("b*")).unwrap().is_empty());
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for pattern in ["", "***", "v{Num}", "v{}", "{num", "num}", "{{num}}", "{n{num}um}", "a?", "[ab]*", "a\\*"] {
            let error = Lang::glob(pattern, Segments::Path, false).expect_err(pattern);
            assert!(pattern.is_empty() || error.0.contains("`*`"), "{pattern}: {error}");
        }
        for prefix in ["", "a*", "{num}"] {
            assert!(Lang::not_prefix(prefix, false).is_err(), "{prefix}");
        }
        for path in ["", "/a", "a/", "a//b"] {
            assert!(Lang::under(path, false).is_err(), "{path}");
        }
        let long = "x".repeat(PATTERN_BYTES_MAX);
        assert!(Lang::glob(&format!("{long}*"), Segments::Path, false).is_err());
        let large = "ab*".repeat(PATTERN_BYTES_MAX / 3);
        assert!(Lang::glob(&large, Segments::Path, false).is_ok(), "stars in a row stay linear");
    }

    #[test]
    fn growth_beyond_the_limit_is_an_error_and_not_an_answer() {
        let wide = |letters: &str| glob(&format!("**{letters}**").repeat(30).replace("****", "**"));
        let grown = wide("ab").intersect(&wide("cd")).and_then(|both| both.intersect(&wide("ef")));
        assert!(grown.is_err());
    }

    #[test]
    fn helpers_of_the_prover() {
        let heads = Lang::starting("refs/heads/", false).unwrap();
        assert!(heads.matches("refs/heads/") && !heads.matches("refs/heads"));
        assert!(Lang::one_of(["main", "x"], false).after("refs/heads/").unwrap().matches("refs/heads/x"));
        let release = glob("release/*").after("refs/heads/").unwrap();
        assert!(release.matches("refs/heads/release/1") && !release.matches("release/1"));
        assert_eq!(release.witness().unwrap(), "refs/heads/release/x");
        let owned = Lang::one_of(["Acme", "a/b"], true).owning().unwrap();
        for (text, expected) in
            [("acme/x", true), ("A/B/x", true), ("acme/", false), ("acme", false), ("acme/x/y", false), ("a/x", false)]
        {
            assert_eq!(owned.matches(text), expected, "{text}");
        }
        assert!(Lang::under("a", false).unwrap().owning().unwrap().matches("a/b/c"));
        assert!(Lang::nothing().owning().unwrap().is_empty() && Lang::nothing().after("a").unwrap().is_empty());
    }

    #[test]
    fn a_prefix_that_is_forbidden() {
        let not = Lang::not_prefix("gh-readonly-queue/ü", false).unwrap();
        assert!(not.matches("main") && not.matches("") && not.matches("GH-readonly-queue/ü"));
        assert!(not.matches("gh-readonly-queue/ö") && !not.matches("gh-readonly-queue/ü/x"));
        let folded = Lang::not_prefix("Acme", true).unwrap();
        assert!(folded.matches("acm") && !folded.matches("aCME/x"));
        assert_eq!(folded, Lang::not_prefix("acME", true).unwrap());
    }

    #[test]
    fn what_is_left_over() {
        let all = Lang::anything();
        let main = Lang::exact("main", false);
        let but = all.minus(&main).unwrap();
        assert!(but.matches("Main") && but.matches("") && !but.matches("main"));
        assert_eq!(but.union(&main).unwrap(), all);
        assert_eq!(but.complement().unwrap(), main);
        let folded = all.minus(&Lang::exact("main", true)).unwrap();
        assert!(!folded.matches("MAIN"));
        let between = but.minus(&folded).unwrap();
        assert!(between.matches("MAIN") && !between.matches("main") && !between.matches("x"));
        assert_eq!(between.witness().unwrap().to_lowercase(), "main");
        assert!(glob("release/*").is_subset(&glob("**/*")).unwrap());
        assert!(!glob("**/*").is_subset(&glob("release/*")).unwrap());
        assert_eq!(
            glob("**").minus(&glob("**a**")).unwrap().minus(&Lang::exact("", false)).unwrap().witness().unwrap(),
            "x"
        );
        assert!(glob("**").is_anything());
        assert_eq!(glob("**").minus(&main).unwrap(), but, "written differently");
    }

    #[test]
    fn what_is_no_text_is_no_member() {
        // Everything that begins with no ASCII character: one byte of a longer character would be shortest.
        let mut rest = Lang::anything().minus(&Lang::exact("", false)).unwrap();
        for byte in 0..=127u8 {
            rest = rest.minus(&Lang::starting(&char::from(byte).to_string(), false).unwrap()).unwrap();
        }
        let witness = rest.witness().unwrap();
        assert!(witness.chars().count() == 1 && !witness.is_ascii() && rest.matches(&witness));
        let two: Vec<String> = ('\u{80}'..'\u{c0}').map(String::from).collect();
        let c2 = Lang::one_of(two.iter().map(String::as_str), false);
        let starting = c2.after("ü").unwrap();
        assert_eq!(starting.members().unwrap().len(), 64);
        let texts = Lang::texts();
        for (text, expected) in [
            ("", false),
            ("a\n", false),
            ("\u{7f}", false),
            ("\u{85}", false),
            ("\u{a0}", true),
            ("ü", true),
            ("€", true),
            ("\u{800}", true),
            ("\u{d7ff}", true),
            ("\u{ffff}", true),
            ("\u{10000}", true),
            ("\u{10ffff}", true),
        ] {
            assert_eq!(texts.matches(text), expected, "{text:?}");
        }
        for bytes in
            [&b"\xc0\x80"[..], b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\x80", b"\xc3"]
        {
            assert!(!Automaton::utf8(false).matches(bytes) && std::str::from_utf8(bytes).is_err());
        }
    }

    #[test]
    fn lists_are_texts() {
        let list = |elements: &[&str]| elements.join(&Lang::SEPARATOR.to_string());
        let admins = Lang::one_of(["admins", "root"], false);
        let not = admins.complement().unwrap();
        let release = glob("release-*");
        // (elements, some is an admin, every one is no admin, some is a release, every one is)
        for (elements, expected) in [
            (&[][..], [false, false, false, false]),
            (&["admins"], [true, false, false, false]),
            (&["users"], [false, true, false, false]),
            (&["release-", "release-1"], [false, true, true, true]),
            (&["release-1", "root", "release-2"], [true, false, true, false]),
            (&["xadmins", "adminsx", "x"], [false, true, false, false]),
        ] {
            let sets = [admins.some_element(), not.every_element(), release.some_element(), release.every_element()];
            assert_eq!(sets.map(|set| set.unwrap().matches(&list(elements))), expected, "{elements:?}");
        }
        let both = admins.some_element().unwrap().intersect(&release.some_element().unwrap()).unwrap();
        assert_eq!(both.witness().unwrap(), list(&["release-", "root"]));
        assert!(not.every_element().unwrap().intersect(&admins.some_element().unwrap()).unwrap().is_empty());
        assert!(Lang::nothing().some_element().unwrap().is_empty());
        assert!(admins.some_element().unwrap().describe().contains("`admins`"));
    }

    #[test]
    fn a_witness_within() {
        let ids = Lang::shapes(&[&[Step::Some("123456789", 1), Step::Run("0123456789")]], "ids").unwrap();
        let taken: Vec<String> = (1..3000).map(|id| id.to_string()).collect();
        let free = Lang::anything().minus(&Lang::one_of(taken.iter().map(String::as_str), false)).unwrap();
        assert_eq!(free.witness_within(&ids).unwrap().unwrap(), "3000");
        assert_eq!(glob("*5*").witness_within(&ids).unwrap().unwrap(), "5");
        assert_eq!(glob("0*").witness_within(&ids).unwrap(), None);
        assert_eq!(Lang::one_of(["a", "07", "123", "70"], false).witness_within(&ids).unwrap().unwrap(), "70");
        let hex = "0123456789abcdef";
        let uuid = Lang::shapes(&[&[Step::Some(hex, 8), Step::Text("-"), Step::Some(hex, 4)]], "").unwrap();
        assert_eq!(free.witness_within(&uuid).unwrap().unwrap(), "aaaaaaaa-aaaa", "not by trying all prefixes");
        let few = Lang::shapes(&[&[Step::Some(hex, 3)]], "").unwrap();
        let all: Vec<String> = (0..4096).map(|id| format!("{id:03x}")).collect();
        let none = Lang::anything().minus(&Lang::one_of(all.iter().map(String::as_str), false)).unwrap();
        assert_eq!(none.witness_within(&few).unwrap(), None, "and there is an end to it");
        assert_eq!(none.witness().unwrap(), "");
    }

    #[test]
    fn words() {
        assert_eq!(Lang::one_of(["main", "a", "b"], false).describe(), "`a`, `b` or `main`");
        assert_eq!(glob("release/*").describe(), "`release/*`");
        assert_eq!(glob("v{num}").describe(), "`v{num}`");
        assert_eq!(Lang::under("a/b", false).unwrap().describe(), "`a/b` or anything below it");
        let many: Vec<String> = (10..30).map(|n| n.to_string()).collect();
        let many = Lang::one_of(many.iter().map(String::as_str), false);
        assert!(many.describe().ends_with("`17` or one of 12 more"));
        let not = Lang::not_prefix("x-", false).unwrap();
        assert_eq!(not.describe(), "not `x-…`");
        assert_eq!(not.complement().unwrap().describe(), "`x-…`");
        assert_eq!(Lang::anything().describe(), "anything");
        assert_eq!(Lang::nothing().describe(), "nothing");
        let one = Lang::exact("main", false);
        assert_eq!(one.complement().unwrap().describe(), "anything but `main`");
        let mixed = glob("v*").union(&one).unwrap();
        assert_eq!(mixed.describe(), "`v*` or `main`");
        assert_eq!(mixed.union(&glob("w*")).unwrap().describe(), "`v*` or `main` or `w*`");
        assert_eq!(mixed.intersect(&not).unwrap().describe(), "(`v*` or `main`) and not `x-…`");
        assert_eq!(glob("v*").minus(&glob("*x")).unwrap().describe(), "`v*`, not `*x`");
        assert_eq!(mixed.complement().unwrap().describe(), "not (`v*` or `main`)");
        assert_eq!(mixed.complement().unwrap().complement().unwrap().describe(), "(`v*` or `main`)");
        let long =
            (0..40).fold(not, |long, at| long.union(&Lang::exact(&format!("x-{at}-0123456789"), false)).unwrap());
        assert!(
            long.describe().starts_with("a combination of patterns") && long.describe().len() <= DESCRIBED_BYTES_MAX
        );
    }
}
