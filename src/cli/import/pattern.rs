//! What a trust policy asks of one claim, between its own spelling of wildcards and ours.
//!
//! Everything here keeps one promise: what is written to the folder matches nothing that the policy would not. Cutting a
//! pattern at a literal keeps it, since the parts put together again match the whole; a form without such a spelling is
//! an error, never an approximation from above.

/// A piece of a pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    Text(String),
    /// Any run of characters: `**`.
    Any,
    /// The same, but not empty.
    Some,
    /// A run of characters within one segment: `*`.
    Segment,
    /// The same, but not empty.
    WholeSegment,
    /// A run of digits: `{num}`.
    Number,
}

/// A text with wildcards; neighbouring texts and runs are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Pattern {
    parts: Vec<Part>,
}

/// How our language writes a pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Written {
    Exact(String),
    Glob(String),
    /// Whatever the claim is, so long as it is there.
    Present,
}

impl Pattern {
    pub fn exact(text: &str) -> Self {
        [Part::Text(text.to_owned())].into_iter().collect()
    }

    /// `*` is any run of characters, everything else is itself: globs of Vault and OpenBao.
    pub fn star(text: &str) -> Self {
        let mut parts = Vec::new();
        for (at, literal) in text.split('*').enumerate() {
            parts.extend((at > 0).then_some(Part::Any));
            parts.push(Part::Text(literal.to_owned()));
        }
        parts.into_iter().collect()
    }

    /// `StringLike` of AWS: as [`Pattern::star`], and `?` is one character, which our language does not have.
    ///
    /// # Errors
    /// What stands in it that cannot be said.
    pub fn aws(text: &str) -> Result<Self, String> {
        if text.contains('?') {
            return Err(format!("`{text}`: `?` is any one character, which the language does not have"));
        }
        Ok(Self::star(text))
    }

    /// The text, if it is nothing else.
    pub fn text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub fn is_anything(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Any | Part::Some])
    }

    pub fn ends_open(&self) -> bool {
        self.parts.last() == Some(&Part::Any)
    }

    /// What follows a literal beginning.
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        if prefix.is_empty() {
            return Some(self.clone());
        }
        let Some((Part::Text(text), rest)) = self.parts.split_first() else { return None };
        let text = text.strip_prefix(prefix)?;
        Some(std::iter::once(Part::Text(text.to_owned())).chain(rest.iter().cloned()).collect())
    }

    /// What stands before and after the first literal `mark`.
    pub fn split_once(&self, mark: &str) -> Option<(Self, Self)> {
        let (at, text) = self.parts.iter().enumerate().find_map(|(at, part)| match part {
            Part::Text(text) if text.contains(mark) => Some((at, text)),
            _ => None,
        })?;
        let (before, after) = text.split_once(mark)?;
        let left = self.parts[..at].iter().cloned().chain([Part::Text(before.to_owned())]);
        let right = std::iter::once(Part::Text(after.to_owned())).chain(self.parts[at + 1..].iter().cloned());
        Some((left.collect(), right.collect()))
    }

    /// In the forms of our language, any of which may match.
    ///
    /// # Errors
    /// What stands in it that cannot be said, or not without matching more.
    pub fn written(&self) -> Result<Vec<Written>, String> {
        if let Some(text) = self.text() {
            if text.contains('*') || text.contains("{num}") {
                return Err(format!("`{text}` holds a literal wildcard, which the language cannot say"));
            }
            return Ok(vec![Written::Exact(text.to_owned())]);
        }
        if self.is_anything() {
            return Ok(vec![Written::Present]);
        }
        let mut globs = vec![String::new()];
        for (at, part) in self.parts.iter().enumerate() {
            let bounded = || {
                let starts = at == 0 || matches!(&self.parts[at - 1], Part::Text(text) if text.ends_with('/'));
                starts
                    && match self.parts.get(at + 1) {
                        None => true,
                        Some(Part::Text(text)) => text.starts_with('/'),
                        Some(_) => false,
                    }
            };
            let ways: &[&str] = match part {
                Part::Text(text) if text.contains(['*', '{', '}', '[', ']', '?', '\\']) => {
                    return Err(format!("`{text}` beside a wildcard holds a character that globs do not have"));
                }
                Part::Text(text) => &[text.as_str()],
                Part::Any => &["**"],
                Part::Segment => &["*"],
                Part::Number => &["{num}"],
                // `*` is not empty where it is a whole segment, and only there.
                Part::Some if bounded() => &["*", "*/**"],
                Part::WholeSegment if bounded() => &["*"],
                Part::Some | Part::WholeSegment => {
                    return Err("a run of characters that must not be empty stands inside a segment".to_owned());
                }
            };
            globs = globs.iter().flat_map(|glob| ways.iter().map(move |way| format!("{glob}{way}"))).collect();
        }
        if globs.iter().any(|glob| glob.contains("***")) {
            return Err("wildcards stand side by side".to_owned());
        }
        Ok(globs.into_iter().map(Written::Glob).collect())
    }
}

impl FromIterator<Part> for Pattern {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut all: Vec<Part> = Vec::new();
        for part in parts {
            match (all.last_mut(), part) {
                (_, Part::Text(text)) if text.is_empty() => {}
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                // Written one after the other they would mean more.
                (Some(Part::Any), Part::Any) | (Some(Part::Segment), Part::Segment) => {}
                (_, part) => all.push(part),
            }
        }
        Self { parts: all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(pattern: &Pattern) -> Vec<String> {
        let texts = pattern.written().unwrap().into_iter().map(|written| match written {
            Written::Exact(text) => format!("={text}"),
            Written::Glob(glob) => glob,
            Written::Present => "present".to_owned(),
        });
        texts.collect()
    }

    #[test]
    fn a_star_of_theirs_crosses_every_boundary() {
        for (text, expected) in
            [("main", "=main"), ("release/*", "release/**"), ("*", "present"), ("a**b", "a**b"), ("v*.*", "v**.**")]
        {
            assert_eq!(globs(&Pattern::star(text)), [expected], "{text}");
        }
        assert!(Pattern::aws("v?").is_err());
        assert!(Pattern::star("a[b]*").written().is_err());
        assert!(Pattern::exact("a*").written().is_err());
        assert_eq!(globs(&Pattern::exact("a[b]")), ["=a[b]"]);
    }

    #[test]
    fn a_run_that_is_not_empty_is_said_only_as_whole_segments() {
        let with = |parts: &[Part]| parts.iter().cloned().collect::<Pattern>();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(globs(&with(&[text("a/"), Part::Some])), ["a/*", "a/*/**"]);
        assert_eq!(globs(&with(&[text("a/"), Part::Some, text("/b")])), ["a/*/b", "a/*/**/b"]);
        assert_eq!(globs(&with(&[text("a/"), Part::WholeSegment])), ["a/*"]);
        assert_eq!(globs(&with(&[Part::Some])), ["present"]);
        assert!(with(&[text("a"), Part::Some]).written().is_err());
        assert!(with(&[text("a/"), Part::WholeSegment, text("b")]).written().is_err());
        assert!(with(&[Part::Segment, Part::Any]).written().is_err());
    }

    #[test]
    fn patterns_are_cut_at_literals_alone() {
        let pattern = Pattern::star("repo:acme/*:ref:refs/heads/main");
        let (left, right) = pattern.strip_prefix("repo:").unwrap().split_once(":").unwrap();
        assert_eq!((globs(&left), right.text()), (vec!["acme/**".to_owned()], Some("ref:refs/heads/main")));
        assert!(Pattern::star("*x").strip_prefix("x").is_none());
        assert!(Pattern::star("repo*").split_once(":").is_none());
        assert!(Pattern::star("a*").ends_open() && !Pattern::star("*a").ends_open());
    }
}
