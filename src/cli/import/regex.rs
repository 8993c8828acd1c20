//! Regular expressions of trust policies (RE2, matched as a whole) as patterns: literals, alternatives, `.*`, `.+`, runs of
//! digits, `[^/]+`, small classes and optional parts. Nearly every expression of real policies is made of these.
//!
//! An unescaped `.` for one character is taken as the character itself: narrower, and what its author meant.

use super::pattern::{Part, Pattern};
use std::{collections::BTreeSet, iter::Peekable, str::Chars};

/// Alternatives beyond this are not written out.
const ALTERNATIVES_MAX: usize = 64;
const DEPTH_MAX: usize = 16;

type Sequence = Vec<Part>;

/// An expression in our terms.
#[derive(Debug)]
pub struct Reduced {
    pub patterns: Vec<Pattern>,
    /// A `.` became the character itself.
    pub narrowed: bool,
}

/// Reads an expression.
///
/// # Errors
/// What stands in it that has no counterpart.
pub fn reduce(text: &str) -> Result<Reduced, String> {
    let mut reader = Reader { rest: text.chars().peekable(), narrowed: false };
    let found = reader.alternatives(0)?;
    if reader.rest.next().is_some() {
        return Err("a `)` without its `(`".to_owned());
    }
    let patterns: BTreeSet<Pattern> = found.into_iter().map(Pattern::from_iter).collect();
    Ok(Reduced { patterns: patterns.into_iter().collect(), narrowed: reader.narrowed })
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    narrowed: bool,
}

/// What stands at one place, before its quantifier.
enum Atom {
    /// Any character.
    Dot,
    /// Any character but `/`.
    NoSlash,
    Digit,
    One(Vec<char>),
    Group(Vec<Sequence>),
}

impl Reader<'_> {
    fn alternatives(&mut self, depth: usize) -> Result<Vec<Sequence>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("groups are nested deeper than {DEPTH_MAX}"));
        }
        let mut all = Vec::new();
        loop {
            all.extend(self.sequence(depth)?);
            if all.len() > ALTERNATIVES_MAX {
                return Err(format!("it has more than {ALTERNATIVES_MAX} alternatives"));
            }
            if self.rest.next_if_eq(&'|').is_none() {
                return Ok(all);
            }
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Sequence>, String> {
        let mut all = vec![Sequence::new()];
        if depth == 0 {
            self.rest.next_if_eq(&'^');
        }
        while let Some(&letter) = self.rest.peek() {
            if matches!(letter, '|' | ')') {
                break;
            }
            self.rest.next();
            if letter == '$' {
                if depth == 0 && self.rest.peek().is_none_or(|next| *next == '|') {
                    break;
                }
                return Err("`$` stands inside the expression".to_owned());
            }
            let atom = self.atom(letter, depth)?;
            let ways = self.quantified(atom)?;
            if all.len() * ways.len() > ALTERNATIVES_MAX {
                return Err(format!("it has more than {ALTERNATIVES_MAX} alternatives"));
            }
            all = all.iter().flat_map(|one| ways.iter().map(move |way| [one.clone(), way.clone()].concat())).collect();
        }
        Ok(all)
    }

    fn atom(&mut self, letter: char, depth: usize) -> Result<Atom, String> {
        match letter {
            '.' => Ok(Atom::Dot),
            '\\' => self.escaped(),
            '[' => self.class(),
            '(' => {
                if self.rest.next_if_eq(&'?').is_some() && self.rest.next_if_eq(&':').is_none() {
                    return Err("flags and named groups have no counterpart".to_owned());
                }
                let found = self.alternatives(depth + 1)?;
                self.rest.next_if_eq(&')').map(|_| Atom::Group(found)).ok_or_else(|| "a `(` without its `)`".to_owned())
            }
            '^' | '*' | '+' | '?' => Err(format!("`{letter}` stands where it has no counterpart")),
            letter => Ok(Atom::One(vec![letter])),
        }
    }

    fn escaped(&mut self) -> Result<Atom, String> {
        match self.rest.next() {
            Some('d') => Ok(Atom::Digit),
            Some(letter) if letter.is_ascii_punctuation() => Ok(Atom::One(vec![letter])),
            Some(letter) => Err(format!("`\\{letter}` has no counterpart")),
            None => Err("it ends with `\\`".to_owned()),
        }
    }

    /// `[…]`: digits, anything but a slash, or few characters.
    fn class(&mut self) -> Result<Atom, String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err("a `[` without its `]`".to_owned()),
                Some(']') if !text.is_empty() && text != "^" => break,
                Some('\\') => {
                    let next = self.rest.next().unwrap_or(' ');
                    if !next.is_ascii_punctuation() && next != 'd' {
                        return Err(format!("`\\{next}` in `[…]` has no counterpart"));
                    }
                    if next == 'd' {
                        text.push_str("0-9");
                    } else if matches!(next, '-' | '^' | ']' | '\\') {
                        return Err(format!("`\\{next}` in `[…]` has no counterpart"));
                    } else {
                        text.push(next);
                    }
                }
                Some('[') if self.rest.peek() == Some(&':') => {
                    return Err("named classes have no counterpart".to_owned());
                }
                Some(letter) => text.push(letter),
            }
        }
        match text.as_str() {
            "0-9" => return Ok(Atom::Digit),
            "^/" => return Ok(Atom::NoSlash),
            text if text.starts_with('^') => return Err(format!("`[{text}]` has no counterpart")),
            _ => {}
        }
        let letters: Vec<char> = text.chars().collect();
        let mut one = BTreeSet::new();
        let mut at = 0;
        while at < letters.len() {
            let range = (letters.get(at + 1) == Some(&'-')).then(|| letters.get(at + 2)).flatten();
            match range {
                Some(&end) if letters[at] <= end && (end as u32 - letters[at] as u32) < ALTERNATIVES_MAX as u32 => {
                    one.extend(letters[at]..=end);
                    at += 3;
                }
                Some(_) => return Err(format!("`[{text}]` has no counterpart")),
                None => {
                    one.insert(letters[at]);
                    at += 1;
                }
            }
        }
        Ok(Atom::One(one.into_iter().collect()))
    }

    fn quantified(&mut self, atom: Atom) -> Result<Vec<Sequence>, String> {
        let quantifier = self.rest.next_if(|next| matches!(next, '*' | '+' | '?' | '{'));
        if quantifier.is_some() {
            // Greedy or not, the same texts match.
            self.rest.next_if_eq(&'?');
        }
        let texts =
            |letters: &[char]| letters.iter().map(|letter| vec![Part::Text(letter.to_string())]).collect::<Vec<_>>();
        let digits: Vec<char> = ('0'..='9').collect();
        let mut found = match (atom, quantifier) {
            (Atom::Dot, Some('*')) => return Ok(vec![vec![Part::Any]]),
            (Atom::Dot, Some('+')) => return Ok(vec![vec![Part::Some]]),
            (Atom::Dot, None) => {
                self.narrowed = true;
                return Ok(texts(&['.']));
            }
            (Atom::NoSlash, Some('*')) => return Ok(vec![vec![Part::Segment]]),
            (Atom::NoSlash, Some('+')) => return Ok(vec![vec![Part::WholeSegment]]),
            (Atom::Digit, Some('+')) => return Ok(vec![vec![Part::Number]]),
            (Atom::Digit, Some('*')) => return Ok(vec![Vec::new(), vec![Part::Number]]),
            (Atom::Digit, None | Some('?')) => texts(&digits),
            (Atom::One(letters), None | Some('?')) => texts(&letters),
            (Atom::Group(ways), None | Some('?')) => ways,
            (_, Some(letter)) => return Err(format!("`{letter}` repeats what has no counterpart")),
            (Atom::NoSlash, None) => return Err("`[^/]` for one character has no counterpart".to_owned()),
        };
        if quantifier == Some('?') {
            found.push(Vec::new());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pattern::Written, *};
    use claimbound_core::lang::pattern::{Lang, Segments};
    use proptest::{collection, prelude::*, sample};
    use regex_automata::meta::Regex;

    const PIECES: &[&str] = &[
        "a", "b", "x?", "/", ".", r"\.", ".*", ".+", r"\d+", "[0-9]*", "[0-2]", "(a|b/)", "(ab)?", "(a|)", "[^/]+",
        "[^/]*", "[ab]", "-", "|", "(.+|x)", "(/.+)?", ".*?",
    ];

    fn said(text: &str) -> String {
        let reduced = match reduce(text) {
            Ok(reduced) => reduced,
            Err(why) => return format!("! {why}"),
        };
        let forms = reduced.patterns.iter().map(|pattern| match pattern.written() {
            Ok(forms) => forms
                .into_iter()
                .map(|form| match form {
                    Written::Exact(text) | Written::Glob(text) => text,
                    Written::Present => "…".to_owned(),
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(why) => format!("! {why}"),
        });
        forms.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn expressions_of_real_policies_have_counterparts() {
        for (expression, expected) in [
            ("refs/heads/(main|master)", "refs/heads/main refs/heads/master"),
            ("refs/heads/.*", "refs/heads/**"),
            ("refs/heads/.+", "refs/heads/* refs/heads/*/**"),
            (r"refs/tags/v\d+\.\d+\.0", "refs/tags/v{num}.{num}.0"),
            ("^v[0-9]+\\.[0-9]+$", "v{num}.{num}"),
            (r"refs/tags/v\d+(-docker\.\d+)?", "refs/tags/v{num} refs/tags/v{num}-docker.{num}"),
            (r"v[3456]\.x", "v3.x v4.x v5.x v6.x"),
            ("push|pull_request", "pull_request push"),
            ("^a$|^b$", "a b"),
            ("acme/[^/]+/x", "acme/*/x"),
            ("release.yml", "release.yml"),
            ("a.*?b", "a**b"),
            ("a/[^/]*[^/]*", "a/*"),
            (".+", "…"),
            (r"refs/pull/\d+/merge", "refs/pull/{num}/merge"),
            (
                "[0-9].*-stable",
                "0**-stable 1**-stable 2**-stable 3**-stable 4**-stable 5**-stable 6**-stable 7**-stable 8**-stable 9**-stable",
            ),
        ] {
            assert_eq!(said(expression), expected, "{expression}");
        }
        assert!(reduce("a.b").is_ok_and(|reduced| reduced.narrowed));
        assert!(reduce(r"a\.b").is_ok_and(|reduced| !reduced.narrowed));
    }

    #[test]
    fn the_others_are_refused() {
        for expression in [
            "(?i)main",
            "(?P<x>a)",
            "[a-z]+",
            r"\w+",
            "a{2}",
            "x.+",
            "[^g]|g[^h]",
            "(ab)+",
            "a$b",
            "(a",
            "a)",
            "[a",
            "a**",
            r"\",
            r"[\w]",
            "[[:alpha:]]",
            "[0-9a-f]{40}",
            "x^",
            "(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)",
            "\\pL",
            "((((((((((((((((((a))))))))))))))))))",
        ] {
            assert!(said(expression).starts_with('!'), "{expression}: {}", said(expression));
        }
    }

    proptest! {
        /// What a form of ours matches, the expression matches, by an engine that shares nothing with this file.
        #[test]
        fn no_form_matches_more_than_its_expression(
            pieces in collection::vec(sample::select(PIECES), 0..7),
            text in "[abx0-2/.-]{0,7}",
        ) {
            let expression = pieces.concat();
            let patterns = reduce(&expression).map(|reduced| reduced.patterns).unwrap_or_default();
            let forms = patterns.iter().filter_map(|pattern| pattern.written().ok()).flatten();
            let matches = |form: Written| match form {
                Written::Exact(exact) => exact == text,
                Written::Glob(glob) => Lang::glob(&glob, Segments::Path, false).unwrap().matches(&text),
                Written::Present => !text.is_empty(),
            };
            if forms.into_iter().any(matches) {
                let whole = Regex::new(&format!("^(?:{expression})$")).unwrap();
                prop_assert!(whole.is_match(&text), "{} matches {}", expression, text);
            }
        }

        #[test]
        fn no_text_breaks_a_reader(text in ".{0,40}", odd in "[(\\[a*+?|)\\]^$.\\\\'= &:{}-]{0,24}") {
            for text in [text, odd] {
                let _ = (reduce(&text), super::super::cel::parse(&text), super::super::yaml::parse(&text));
            }
        }
    }
}
