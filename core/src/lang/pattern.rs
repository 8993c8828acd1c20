//! What a condition's value means: literal, list, glob, `under` → [`Lang`].

use super::automaton::{Automaton, Bytes, Item, STATES_MAX, TooLarge};
use std::sync::Arc;

/// Longest glob or path.
pub const PATTERN_BYTES_MAX: usize = 512;

/// A finite set that comes out of an intersection of wildcards is listed up to this many members, so that equal
/// sets are equal values; a larger one stays an automaton.
const LISTED_MEMBERS_MAX: usize = 256;

/// Members that [`Lang::describe`] writes out.
const DESCRIBED_MEMBERS_MAX: usize = 8;

/// A set of texts: finite, or an automaton. Sets that are written differently and mean the same are equal.
#[derive(Clone, Debug)]
pub struct Lang {
    set: Set,
    /// What was written, where the set itself cannot tell.
    words: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Set {
    /// Sorted, each once. If `fold`, in lower case, and ASCII case does not count; never set without letters.
    Finite {
        texts: Box<[Box<str>]>,
        fold: bool,
    },
    Automaton(Arc<Automaton>),
}

impl PartialEq for Lang {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set
    }
}
impl Eq for Lang {}

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
    /// Exactly this text. `fold`: ASCII case does not count.
    pub fn exact(text: &str, fold: bool) -> Self {
        Self::one_of([text], fold)
    }

    /// Any of these texts.
    pub fn one_of<'a>(texts: impl IntoIterator<Item = &'a str>, fold: bool) -> Self {
        Self::finite(texts.into_iter().map(Box::from).collect(), fold)
    }

    fn finite(mut texts: Vec<Box<str>>, fold: bool) -> Self {
        let fold = fold && texts.iter().any(|text| text.bytes().any(|byte| byte.is_ascii_alphabetic()));
        if fold {
            texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
        }
        texts.sort_unstable();
        texts.dedup();
        Self { set: Set::Finite { texts: texts.into(), fold }, words: None }
    }

    fn infinite(automaton: Option<Automaton>, words: impl Into<Arc<str>>) -> Self {
        let Some(automaton) = automaton else { return Self::finite(Vec::new(), false) };
        if let Some(members) = automaton.members(LISTED_MEMBERS_MAX) {
            let texts: Result<Vec<_>, _> = members.into_iter().map(String::from_utf8).collect();
            if let Ok(texts) = texts {
                return Self::finite(texts.into_iter().map(String::into_boxed_str).collect(), automaton.folds());
            }
        }
        Self { set: Set::Automaton(Arc::new(automaton)), words: Some(words.into()) }
    }

    /// `*` and `**` beside literals (mappings, "Values").
    pub fn glob(pattern: &str, segments: Segments, fold: bool) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError("the glob is empty".to_owned()));
        }
        limit(pattern)?;
        if let Some(byte) = pattern.bytes().find(|byte| b"{}[]?\\".contains(byte)) {
            return Err(PatternError(format!(
                "`{}` has no meaning in a glob: only `*` and `**` are wildcards",
                char::from(byte)
            )));
        }
        if pattern.contains("***") {
            return Err(PatternError("`***` is neither `*` nor `**`".to_owned()));
        }
        if !pattern.contains('*') {
            return Ok(Self::exact(pattern, fold));
        }
        let bounds = segments.bounds();
        let inside = bounds.iter().fold(Bytes::ANY, |set, byte| set.without(*byte));
        let bytes = pattern.as_bytes();
        let mut chain = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte != b'*' {
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
        Ok(Self::infinite(Automaton::build(&[chain])?, format!("`{pattern}`")))
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
        Ok(Self::infinite(Automaton::build(&[literal(path, fold), below])?, format!("`{path}` or anything below it")))
    }

    /// This text, then at least one character more.
    pub(crate) fn longer_than(prefix: &str, fold: bool) -> Result<Self, PatternError> {
        limit(prefix)?;
        let chain = [literal(prefix, fold), beyond()].concat();
        Ok(Self::infinite(Automaton::build(&[chain])?, format!("`{prefix}…`")))
    }

    /// Any of these prefixes, then one segment without `/`.
    pub(crate) fn segment_after(prefixes: impl Iterator<Item = String>, fold: bool) -> Result<Self, PatternError> {
        let inside = Bytes::ANY.without(b'/');
        let prefixes: Vec<String> = prefixes.collect();
        prefixes.iter().try_for_each(|prefix| limit(prefix))?;
        let chain = |prefix: &String| [literal(prefix, fold), vec![Item::One(inside), Item::Run(inside)]].concat();
        let chains: Vec<_> = prefixes.iter().map(chain).collect();
        let words = prefixes.iter().map(|prefix| format!("`{prefix}*`")).collect::<Vec<_>>().join(" or ");
        Ok(Self::infinite(Automaton::build(&chains)?, words))
    }

    /// Every text that does not begin with `prefix`, which is ASCII.
    pub(crate) fn not_prefix(prefix: &str) -> Result<Self, PatternError> {
        limit(prefix)?;
        let chains: Vec<_> = (0..prefix.len())
            .flat_map(|kept| {
                let start = literal(&prefix[..kept], false);
                let other = Item::One(Bytes::ANY.without(prefix.as_bytes()[kept]));
                [start.clone(), [start, vec![other, Item::Run(Bytes::ANY)]].concat()]
            })
            .collect();
        Ok(Self::infinite(Automaton::build(&chains)?, format!("not `{prefix}…`")))
    }

    /// Every text of `self` with `prefix` before it.
    pub(crate) fn after(&self, prefix: &str) -> Result<Self, PatternError> {
        match &self.set {
            Set::Finite { texts, fold: false } => {
                Ok(Self::finite(texts.iter().map(|text| format!("{prefix}{text}").into()).collect(), false))
            }
            _ => Ok(Self::infinite(
                Some(self.automaton()?.after(prefix.as_bytes())?),
                format!("`{prefix}` and {}", self.describe()),
            )),
        }
    }

    /// The set as an automaton; of an empty set, whose automaton does not exist, nobody asks.
    fn automaton(&self) -> Result<Arc<Automaton>, PatternError> {
        match &self.set {
            Set::Automaton(automaton) => Ok(automaton.clone()),
            Set::Finite { texts, fold } => {
                let chains: Vec<_> = texts.iter().map(|text| literal(text, *fold)).collect();
                let built = Automaton::build(&chains)?;
                Ok(Arc::new(built.ok_or_else(|| PatternError("the list is empty".to_owned()))?))
            }
        }
    }

    /// Whether `text` is in the set. Linear in its length; allocates nothing.
    pub fn matches(&self, text: &str) -> bool {
        match &self.set {
            Set::Finite { texts, fold: false } => texts.binary_search_by(|member| member.as_ref().cmp(text)).is_ok(),
            Set::Finite { texts, fold: true } => texts
                .binary_search_by(|member| member.bytes().cmp(text.bytes().map(|byte| byte.to_ascii_lowercase())))
                .is_ok(),
            Set::Automaton(automaton) => automaton.matches(text.as_bytes()),
        }
    }

    /// The texts in both; `Err` when the automaton would grow beyond the stated number of states.
    pub fn intersect(&self, other: &Self) -> Result<Self, PatternError> {
        let kept = |texts: &[Box<str>], by: &Self, fold| {
            let texts = texts.iter().filter(|text| by.matches(text)).cloned().collect();
            Ok(Self::finite(texts, fold))
        };
        match (&self.set, &other.set) {
            _ if self.is_empty() || other.is_empty() => Ok(Self::finite(Vec::new(), false)),
            (Set::Finite { texts, fold: false }, _) => kept(texts, other, false),
            (_, Set::Finite { texts, fold: false }) => kept(texts, self, false),
            (Set::Finite { texts, .. }, _) if other.folds() => kept(texts, other, true),
            (_, Set::Finite { texts, .. }) if self.folds() => kept(texts, self, true),
            _ => {
                let both = self.automaton()?.intersect(&*other.automaton()?)?;
                Ok(Self::infinite(both, format!("{} and {}", self.describe(), other.describe())))
            }
        }
    }

    fn folds(&self) -> bool {
        match &self.set {
            Set::Finite { fold, .. } => *fold,
            Set::Automaton(automaton) => automaton.folds(),
        }
    }

    /// Whether no text is in the set.
    pub fn is_empty(&self) -> bool {
        matches!(&self.set, Set::Finite { texts, .. } if texts.is_empty())
    }

    /// The members of a listed set, sorted, in lower case where ASCII case does not count.
    pub fn members(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        match &self.set {
            Set::Finite { texts, .. } => Some(texts.iter().map(|text| &**text)),
            Set::Automaton(_) => None,
        }
    }

    /// A shortest member.
    pub fn witness(&self) -> Option<String> {
        match &self.set {
            Set::Finite { texts, .. } => texts.iter().min_by_key(|text| text.len()).map(|text| text.to_string()),
            Set::Automaton(automaton) => Some(
                String::from_utf8(automaton.witness())
                    .expect("literals are whole characters, and wildcards prefer ASCII in a witness"),
            ),
        }
    }

    /// The set in the mapping language's own words, for traces ("`main` or `release/*`").
    pub fn describe(&self) -> String {
        let Some(members) = self.members() else {
            return self.words.as_deref().unwrap_or("a pattern").to_owned();
        };
        let count = members.len();
        let shown: Vec<String> = members.take(DESCRIBED_MEMBERS_MAX).map(|text| format!("`{text}`")).collect();
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
        for pattern in ["", "***", "v{num}", "a?", "[ab]*", "a\\*"] {
            assert!(Lang::glob(pattern, Segments::Path, false).is_err(), "{pattern}");
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
        let not = Lang::not_prefix("refs/heads/").unwrap();
        assert!(not.matches("refs/tags/v1") && not.matches("refs/heads") && !not.matches("refs/heads/main"));
        assert!(!not.matches("refs/heads/"));
        assert!(Lang::one_of(["main", "x"], false).after("refs/heads/").unwrap().matches("refs/heads/x"));
        let release = glob("release/*").after("refs/heads/").unwrap();
        assert!(release.matches("refs/heads/release/1") && !release.matches("release/1"));
        assert_eq!(release.witness().unwrap(), "refs/heads/release/x");
        assert!(Lang::longer_than("Acme/", true).unwrap().matches("acme/x"));
    }

    #[test]
    fn words() {
        assert_eq!(Lang::one_of(["main", "a", "b"], false).describe(), "`a`, `b` or `main`");
        assert_eq!(glob("release/*").describe(), "`release/*`");
        assert_eq!(Lang::under("a/b", false).unwrap().describe(), "`a/b` or anything below it");
        let many: Vec<String> = (10..30).map(|n| n.to_string()).collect();
        assert!(Lang::one_of(many.iter().map(String::as_str), false).describe().ends_with("`17` or one of 12 more"));
    }
}
