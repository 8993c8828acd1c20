//! What must be known of a file's text before it is parsed: how deep it nests, and where it uses TOML 1.1.
//!
//! The parser accepts TOML 1.1 and builds dotted keys of any depth. A tree that deep could not even be dropped, and
//! a file that other tools read differently must not decide who gets access; so both are found on the text.

use std::ops::Range;

/// Nesting beyond this refuses: brackets, and the dots of one key, each by themselves.
pub(super) const DEPTH_MAX: usize = 32;

/// A construct that only TOML 1.1 has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Only {
    NewlineInInlineTable,
    TrailingComma,
    Escape,
}

impl std::fmt::Display for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NewlineInInlineTable => "a line break inside `{ … }`",
            Self::TrailingComma => "a trailing comma inside `{ … }`",
            Self::Escape => "the escape `\\e` or `\\x`",
        })
    }
}

impl Only {
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::NewlineInInlineTable => {
                "write the inline table on one line, or as a table of its own: `[mapping.match.job_workflow]`"
            }
            Self::TrailingComma => "remove the comma before `}`",
            Self::Escape => "write the character itself, or `\\u` and four digits",
        }
    }
}

#[derive(Default, Debug)]
pub(super) struct Scanned {
    /// Where nesting passes [`DEPTH_MAX`].
    pub(super) too_deep: Option<usize>,
    pub(super) only_1_1: Vec<(Range<usize>, Only)>,
}

pub(super) fn scan(text: &str) -> Scanned {
    let bytes = text.as_bytes();
    let mut scanned = Scanned::default();
    let mut open: Vec<u8> = Vec::new();
    let mut comma: Option<usize> = None;
    let (mut at, mut dots) = (0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            b'"' | b'\'' => {
                at = string(bytes, at, &mut scanned.only_1_1);
                comma = None;
                continue;
            }
            b'#' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'[' | b'{' => {
                open.push(byte);
                dots = 0;
                comma = None;
            }
            b']' | b'}' => {
                if byte == b'}'
                    && open.last() == Some(&b'{')
                    && let Some(comma) = comma
                {
                    scanned.only_1_1.push((comma..comma + 1, Only::TrailingComma));
                }
                open.pop();
                comma = None;
            }
            b',' => {
                comma = Some(at);
                dots = 0;
            }
            b'=' => dots = 0,
            b'.' => dots += 1,
            b'\n' => {
                dots = 0;
                if open.last() == Some(&b'{') {
                    scanned.only_1_1.push((at..at + 1, Only::NewlineInInlineTable));
                    // One finding per table is enough, and a brace left open must not colour the whole file.
                    open.pop();
                    open.push(b'[');
                }
            }
            b' ' | b'\t' | b'\r' => {}
            _ => comma = None,
        }
        if (open.len() > DEPTH_MAX || dots > DEPTH_MAX) && scanned.too_deep.is_none() {
            scanned.too_deep = Some(at);
        }
        at += 1;
    }
    scanned
}

/// The end of the string that begins at `start`; one that is never closed ends with its line.
fn string(bytes: &[u8], start: usize, only_1_1: &mut Vec<(Range<usize>, Only)>) -> usize {
    let quote = bytes[start];
    let long = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if long { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => {
                if matches!(bytes.get(at + 1), Some(b'e' | b'x')) {
                    only_1_1.push((at..at + 2, Only::Escape));
                }
                at += 2;
            }
            b'\n' if !long => return at,
            byte if byte == quote && !long => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => {
                at += 3;
                while bytes.get(at) == Some(&quote) {
                    at += 1;
                }
                return at;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Only> {
        scan(text).only_1_1.into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn only_what_1_1_added_is_found() {
        assert_eq!(found("a = { b = 1,\n c = 2 }"), [Only::NewlineInInlineTable]);
        assert_eq!(found("a = { b = 1, }"), [Only::TrailingComma]);
        assert_eq!(found(r#"a = "\x41""#), [Only::Escape]);
        assert_eq!(found("a = [\n { b = 1 },\n]\nc = '\\x41'\n# { \nd = \"{\"\n"), []);
        assert_eq!(found("a = \"\"\"\n{\n\"\"\"\nb = '''\n{'''\n"), []);
    }

    #[test]
    fn depth_is_bounded_in_brackets_and_in_dots() {
        let nested = |depth: usize| format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(scan(&nested(DEPTH_MAX)).too_deep, None);
        assert_eq!(scan(&nested(DEPTH_MAX + 1)).too_deep, Some(4 + DEPTH_MAX));
        assert!(scan(&format!("{} = 1", vec!["a"; 40].join("."))).too_deep.is_some());
        assert_eq!(scan(&format!("a = [{}]", vec!["1.5"; 99].join(", "))).too_deep, None);
    }
}
