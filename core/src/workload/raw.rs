//! `claims."name"`: what a token says beside the canonical claims, by name or by JSON pointer (RFC 6901).
//!
//! A pointer walks objects alone. A list is looked at as a whole, by its elements, so no pointer names one of them: what
//! stands at some place of a list says nothing that a rule could rest on.

use super::Claim;
use crate::claims::{Claims, Value};
use std::{borrow::Cow, fmt, sync::Arc};

/// Most names in one pointer.
pub const POINTER_NAMES_MAX: usize = 8;

/// Longest name or pointer.
pub const RAW_NAME_BYTES_MAX: usize = 256;

/// Between the elements of a list that is one text.
const JOINT: char = ',';

/// A claim that has no canonical name. Equal where it names the same member of a token, however that is written. Sorts
/// after what holds it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawClaim(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    path: Box<[Box<str>]>,
    joined: bool,
    name: Box<str>,
}

/// Why a text names no raw claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RawNameError {
    #[error("it is empty, or holds an empty name or control characters")]
    Empty,
    #[error("`~` in a pointer is written `~0`, and `/` inside a name `~1`")]
    Escape,
    #[error("a pointer walks objects, not lists: a condition on a list looks at all its elements")]
    Index,
    #[error("it is longer than {RAW_NAME_BYTES_MAX} bytes or {POINTER_NAMES_MAX} names")]
    TooLong,
}

impl RawClaim {
    /// Reads a name, or a pointer where it begins with `/`.
    ///
    /// # Errors
    /// It names no member of an object.
    pub fn read(written: &str) -> Result<Self, RawNameError> {
        if written.len() > RAW_NAME_BYTES_MAX {
            return Err(RawNameError::TooLong);
        }
        let path: Vec<Box<str>> = match written.strip_prefix('/') {
            None => vec![written.into()],
            Some(names) => names.split('/').map(unescape).collect::<Option<_>>().ok_or(RawNameError::Escape)?,
        };
        if path.iter().any(|name| name.is_empty() || name.chars().any(char::is_control)) {
            return Err(RawNameError::Empty);
        }
        if path.iter().skip(1).any(|name| name.bytes().all(|byte| byte.is_ascii_digit()) || &**name == "-") {
            return Err(RawNameError::Index);
        }
        if path.len() > POINTER_NAMES_MAX {
            return Err(RawNameError::TooLong);
        }
        Ok(Self::of(path, false))
    }

    fn of(path: Vec<Box<str>>, joined: bool) -> Self {
        let name = format!("claims.{}", quoted(&native(&path))).into();
        Self(Arc::new(Parts { path: path.into(), joined, name }))
    }

    /// The same, whose text is a list joined by commas: so its elements are told apart.
    #[must_use]
    pub fn joined(&self) -> Self {
        Self::of(self.0.path.to_vec(), true)
    }
    /// Whether its text is a list joined by commas.
    pub fn is_joined(&self) -> bool {
        self.0.joined
    }
    /// As mappings, traces and evidence name it: `claims."name"`.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// As profiles and tokens name it: the name, or the pointer to what is nested.
    pub fn native(&self) -> String {
        native(&self.0.path)
    }
    /// The names on the way to it.
    pub fn path(&self) -> &[Box<str>] {
        &self.0.path
    }
    /// Whether it lies inside of the other.
    pub fn is_inside(&self, other: &Self) -> bool {
        self.0.path.len() > other.0.path.len() && self.0.path.starts_with(&other.0.path)
    }
    /// What a token holds there. `null` is no value: like what is not there, it is unknown.
    pub fn value<'c, 't>(&self, claims: &'c Claims<'t>) -> Option<&'c Value<'t>> {
        let (last, way) = self.0.path.split_last()?;
        let mut at = claims;
        for name in way {
            let Value::Object(inner) = at.get(name)? else { return None };
            at = inner;
        }
        at.get(last).filter(|value| **value != Value::Null)
    }
    /// The elements of a value: a list's, or a text as the only one. `None`: it is of another type, which a text that no
    /// claim can have is too (empty, or with control characters).
    pub(crate) fn elements<'v>(&self, value: &'v Value<'_>) -> Option<impl Iterator<Item = &'v str>> {
        let joined = self.0.joined;
        let (text, list): (Option<&str>, &[Value<'_>]) = match value {
            Value::Text(text) if joined && text.is_empty() => (None, &[]),
            Value::Text(text) => (Some(text), &[]),
            Value::List(list) if !joined => (None, list),
            _ => return None,
        };
        let texts = text.into_iter().flat_map(move |text| text.split(move |c| joined && c == JOINT));
        let elements = texts.map(Some).chain(list.iter().map(Value::as_text));
        let plain =
            |element: Option<&str>| element.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control));
        elements.clone().all(plain).then(|| elements.flatten())
    }
    /// Puts a value there, making the objects on the way; of a list what its kind makes of it.
    pub(crate) fn put(&self, claims: &mut serde_json::Map<String, serde_json::Value>, value: serde_json::Value) {
        use serde_json::{Map, Value as Json};
        let value = match value {
            Json::Array(list) if self.0.joined => {
                let elements: Vec<&str> = list.iter().filter_map(Json::as_str).collect();
                elements.join(&JOINT.to_string()).into()
            }
            other => other,
        };
        let Some((last, way)) = self.0.path.split_last() else { return };
        let mut at = claims;
        for name in way {
            let inner = at.entry(&**name).or_insert_with(|| Json::Object(Map::new()));
            let Json::Object(inner) = inner else { return };
            at = inner;
        }
        at.insert(last.to_string(), value);
    }
}

impl fmt::Debug for RawClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn native(path: &[Box<str>]) -> String {
    match path {
        [name] if !name.starts_with('/') => name.to_string(),
        names => names.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect(),
    }
}

/// `~1` is `/` and `~0` is `~`; any other `~` is no pointer (RFC 6901 section 3).
fn unescape(name: &str) -> Option<Box<str>> {
    let fine = name.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    fine.then(|| name.replace("~1", "/").replace("~0", "~").into())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a condition is on.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ClaimKey {
    Canonical(Claim),
    Raw(RawClaim),
}

impl ClaimKey {
    /// The canonical claim, if it is one.
    pub fn canonical(&self) -> Option<Claim> {
        match self {
            Self::Canonical(claim) => Some(*claim),
            Self::Raw(_) => None,
        }
    }
    /// Whether it is one of these.
    pub(crate) fn is_one_of(&self, claims: &[Claim]) -> bool {
        self.canonical().is_some_and(|claim| claims.contains(&claim))
    }
    /// The name in mappings, traces and evidence.
    pub fn name(&self) -> &str {
        match self {
            Self::Canonical(claim) => claim.name(),
            Self::Raw(raw) => raw.name(),
        }
    }
    /// The claim of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(claim) = Claim::from_name(name) {
            return Some(Self::Canonical(claim));
        }
        let quoted = name.strip_prefix("claims.\"")?.strip_suffix('"')?;
        let written: Cow<'_, str> = match quoted.contains('\\') {
            true => quoted.replace("\\\"", "\"").replace("\\\\", "\\").into(),
            false => quoted.into(),
        };
        RawClaim::read(&written).ok().map(Self::Raw)
    }
}

impl From<Claim> for ClaimKey {
    fn from(claim: Claim) -> Self {
        Self::Canonical(claim)
    }
}
impl PartialEq<Claim> for ClaimKey {
    fn eq(&self, other: &Claim) -> bool {
        self.canonical() == Some(*other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> RawClaim {
        RawClaim::read(written).unwrap()
    }

    #[test]
    fn one_member_has_one_name_however_it_is_written() {
        assert_eq!(read("/team"), read("team"));
        assert_eq!(read("/team").name(), r#"claims."team""#);
        assert_eq!(read("/kubernetes.io/namespace").name(), r#"claims."/kubernetes.io/namespace""#);
        assert_eq!(read("/a~1b/c~0d~01").path(), ["a/b".into(), "c~d~1".into()]);
        assert_eq!(read("/a~1b/c~0d~01").native(), "/a~1b/c~0d~01");
        assert_eq!(read("/~1x").native(), "/~1x", "a name that begins with a slash is a pointer");
        assert_ne!(read("a/b"), read("/a/b"));
        for name in ["team", "/a/b", r#"a"b"#, r"a\b", "/~1x"] {
            let key = ClaimKey::Raw(read(name));
            assert_eq!(ClaimKey::from_name(key.name()), Some(key.clone()), "{}", key.name());
        }
        assert_eq!(ClaimKey::from_name("claims.team"), None);
        assert_eq!(ClaimKey::from_name("branch"), Some(Claim::Branch.into()));
    }

    #[test]
    fn what_names_no_member_is_refused() {
        use RawNameError::*;
        for (written, error) in [
            ("", Empty),
            ("/", Empty),
            ("/a/", Empty),
            ("//a", Empty),
            ("a\nb", Empty),
            ("/a~2", Escape),
            ("/a~", Escape),
            ("/a/0", Index),
            ("/a/-", Index),
            ("/a/b/c/d/e/f/g/h/i", TooLong),
        ] {
            assert_eq!(RawClaim::read(written), Err(error), "{written:?}");
        }
        assert_eq!(RawClaim::read(&"x".repeat(RAW_NAME_BYTES_MAX + 1)), Err(TooLong));
    }

    #[test]
    fn values_are_found_in_objects_alone_and_null_is_none_of_them() {
        let claims = Claims::parse(br#"{"a":{"b":{"c":1},"n":null,"l":["x"]},"a/b":2,"":3}"#).unwrap();
        let value = |written: &str| read(written).value(&claims).cloned();
        assert_eq!(value("/a/b/c"), Some(Value::Integer(1)));
        assert_eq!(value("a/b"), Some(Value::Integer(2)));
        assert_eq!(value("/a~1b"), Some(Value::Integer(2)));
        for none in ["/a/n", "/a/x", "/a/b/c/d", "b", "/a/l/x"] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    #[test]
    fn a_text_is_a_list_of_one_and_a_joined_one_of_several() {
        let claims =
            Claims::parse(br#"{"t":"a,b","e":"","l":["a","b"],"n":["a",1],"g":[],"c":"a\nb","d":"a,,b","i":1}"#);
        let claims = claims.unwrap();
        let elements = |name: &str, joined: bool| {
            let raw = if joined { read(name).joined() } else { read(name) };
            let found = raw.elements(raw.value(&claims).unwrap());
            found.map(|found| found.map(str::to_owned).collect::<Vec<_>>().join("|"))
        };
        let of = |name| (elements(name, false), elements(name, true));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("t"), (some("a,b"), some("a|b")));
        assert_eq!(of("e"), (None, some("")));
        assert_eq!(of("l"), (some("a|b"), None));
        assert_eq!(of("n"), (None, None), "an element of another type makes the whole one of another type");
        assert_eq!(of("g"), (some(""), None));
        assert_eq!((of("c"), of("d").1, of("i")), ((None, None), None, (None, None)));
    }
}
