//! What a condition's value means: literal, list, glob, `under` → [`Lang`].

/// A set of texts: finite, or an automaton.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lang {
    pub(crate) _todo: (),
}

/// Where `*` stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segments {
    /// At `/`.
    Path,
    /// At `/`, `:` and `@`: for `subject`.
    Subject,
}

/// Why a pattern is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub String);

impl Lang {
    /// Exactly this text. `fold`: ASCII case does not count.
    pub fn exact(_text: &str, _fold: bool) -> Self {
        unimplemented!()
    }
    /// Any of these texts.
    pub fn one_of<'a>(_texts: impl IntoIterator<Item = &'a str>, _fold: bool) -> Self {
        unimplemented!()
    }
    /// `*` and `**` beside literals (mappings, "Values").
    pub fn glob(_pattern: &str, _segments: Segments, _fold: bool) -> Result<Self, PatternError> {
        unimplemented!()
    }
    /// This path and everything below it.
    pub fn under(_path: &str, _fold: bool) -> Result<Self, PatternError> {
        unimplemented!()
    }
    /// Whether `text` is in the set.
    pub fn matches(&self, _text: &str) -> bool {
        unimplemented!()
    }
    /// The texts in both; `Err` when the automaton would grow beyond the stated number of states.
    pub fn intersect(&self, _other: &Self) -> Result<Self, PatternError> {
        unimplemented!()
    }
    /// Whether no text is in the set.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// A shortest member.
    pub fn witness(&self) -> Option<String> {
        unimplemented!()
    }
    /// The set in the mapping language's own words, for traces ("`main` or `release/*`").
    pub fn describe(&self) -> String {
        unimplemented!()
    }
}
