//! A JSON object read strictly: no duplicate member at any depth, bounded depth, no trailing bytes, borrowed text.
//!
//! Parsers differ in what they make of a member that stands twice, so a token that has one means different things to
//! its issuer and to us; a plain map would keep the last silently (RFC 7519 section 4). Everything that comes signed,
//! or that decides about keys, is therefore read here and nowhere else.

use serde::{
    Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, cell::Cell, fmt};

/// Nesting beyond this refuses (arrays and objects together; the claims object itself is depth 1).
pub const DEPTH_MAX: usize = 16;

/// Up to here members are compared pairwise, beyond it by sorting: a wide object costs no quadratic time.
const PAIRWISE_MEMBERS_MAX: usize = 48;

/// One JSON value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'t> {
    Null,
    Boolean(bool),
    /// An integer that fits `i64`.
    Integer(i64),
    /// Any other number (fraction, exponent, too large): never satisfies anything, and is not `null` either.
    OtherNumber(serde_json::Number),
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    Object(Claims<'t>),
}

/// The members of an object, in the order they stood.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Claims<'t> {
    pub(crate) members: Vec<(Cow<'t, str>, Value<'t>)>,
}

/// Why bytes are not a strict JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimsError {
    #[error("not a strict JSON object")]
    Malformed,
    #[error("a member stands twice")]
    DuplicateMember,
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

impl<'t> Claims<'t> {
    /// Reads one object and nothing after it (RFC 8259; white space around it is allowed, a byte order mark is not).
    pub fn parse(bytes: &'t [u8]) -> Result<Self, ClaimsError> {
        let broken = Cell::new(None);
        // All at once: a reader of bytes looks at each text by itself.
        let text = std::str::from_utf8(bytes).map_err(|_| ClaimsError::Malformed)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Reader { depth: 0, broken: &broken }
            .deserialize(&mut reader)
            .map_err(|_| broken.get().unwrap_or(ClaimsError::Malformed))?;
        reader.end().map_err(|_| ClaimsError::Malformed)?;
        match value {
            Value::Object(claims) => Ok(claims),
            _ => Err(ClaimsError::Malformed),
        }
    }
    /// Members that are texts, of names that differ.
    pub(crate) fn of_texts<const N: usize>(members: [(&str, &str); N]) -> Self {
        let own = |text: &str| Cow::Owned(text.to_owned());
        Self { members: members.map(|(name, text)| (own(name), Value::Text(own(text)))).into() }
    }
    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Value<'t>> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    /// The member at an RFC 6901 pointer (`/kubernetes.io/namespace`). The empty pointer names the whole document,
    /// which is no member: `None`.
    pub fn pointer(&self, pointer: &str) -> Option<&Value<'t>> {
        let mut tokens = pointer.strip_prefix('/')?.split('/');
        let mut value = self.get(&unescape(tokens.next()?)?)?;
        for token in tokens {
            value = match value {
                Value::Object(object) => object.get(&unescape(token)?)?,
                Value::List(list) => list.get(index(token)?)?,
                _ => return None,
            };
        }
        Some(value)
    }
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'t>)> {
        self.members.iter().map(|(n, v)| (n.as_ref(), v))
    }
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Claims<'static> {
        let own = |(name, value): (Cow<'t, str>, Value<'t>)| (Cow::Owned(name.into_owned()), value.into_owned());
        Claims { members: self.members.into_iter().map(own).collect() }
    }
    /// The object as JSON: reading it again gives the same claims.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("claims are JSON")
    }

    fn has_duplicates(&self) -> bool {
        if self.members.len() <= PAIRWISE_MEMBERS_MAX {
            let members = &self.members;
            return members.iter().enumerate().any(|(at, (name, _))| members[..at].iter().any(|(n, _)| n == name));
        }
        let mut names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl<'t> Value<'t> {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Boolean(boolean) => Value::Boolean(boolean),
            Value::Integer(integer) => Value::Integer(integer),
            Value::OtherNumber(number) => Value::OtherNumber(number),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::List(list) => Value::List(list.into_iter().map(Value::into_owned).collect()),
            Value::Object(object) => Value::Object(object.into_owned()),
        }
    }
    /// The value as JSON, as [`Claims::to_json`] does it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("claims are JSON")
    }
}

impl Serialize for Claims<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => to.serialize_unit(),
            Value::Boolean(boolean) => to.serialize_bool(*boolean),
            Value::Integer(integer) => to.serialize_i64(*integer),
            Value::OtherNumber(number) => number.serialize(to),
            Value::Text(text) => to.serialize_str(text),
            Value::List(list) => list.serialize(to),
            Value::Object(object) => object.serialize(to),
        }
    }
}

/// `~1` is `/` and `~0` is `~`; any other `~` is no pointer (RFC 6901 section 3).
fn unescape(token: &str) -> Option<Cow<'_, str>> {
    if !token.contains('~') {
        return Some(Cow::Borrowed(token));
    }
    let mut pieces = token.split('~');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = piece.split_at_checked(1)?;
        text.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(Cow::Owned(text))
}

/// Digits without a leading zero (RFC 6901 section 4).
fn index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    plain.then(|| token.parse().ok()).flatten()
}

/// Builds a [`Value`] and says in `broken` what JSON itself does not forbid.
#[derive(Clone, Copy)]
struct Reader<'b> {
    depth: usize,
    broken: &'b Cell<Option<ClaimsError>>,
}

impl<'b> Reader<'b> {
    fn deeper<E: de::Error>(self) -> Result<Reader<'b>, E> {
        if self.depth == DEPTH_MAX {
            Err(self.fail(ClaimsError::TooDeep))
        } else {
            Ok(Self { depth: self.depth + 1, ..self })
        }
    }
    fn fail<E: de::Error>(self, error: ClaimsError) -> E {
        self.broken.set(Some(error));
        E::custom(error)
    }
}

impl<'t> DeserializeSeed<'t> for Reader<'_> {
    type Value = Value<'t>;
    fn deserialize<D: de::Deserializer<'t>>(self, deserializer: D) -> Result<Value<'t>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Reader<'_> {
    type Value = Value<'t>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value<'t>, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, boolean: bool) -> Result<Value<'t>, E> {
        Ok(Value::Boolean(boolean))
    }
    fn visit_i64<E>(self, integer: i64) -> Result<Value<'t>, E> {
        Ok(Value::Integer(integer))
    }
    fn visit_u64<E>(self, integer: u64) -> Result<Value<'t>, E> {
        Ok(i64::try_from(integer).map_or_else(|_| Value::OtherNumber(integer.into()), Value::Integer))
    }
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value<'t>, E> {
        serde_json::Number::from_f64(number).map(Value::OtherNumber).ok_or_else(|| E::custom("no number"))
    }
    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Value<'t>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value<'t>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'t>>(self, mut seq: A) -> Result<Value<'t>, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Value<'t>, A::Error> {
        let inner = self.deeper()?;
        // Room at once for what a CI system's token has.
        let mut members = Vec::with_capacity(if self.depth == 0 { PAIRWISE_MEMBERS_MAX } else { 0 });
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value_seed(inner)?));
        }
        let claims = Claims { members };
        if claims.has_duplicates() { Err(self.fail(ClaimsError::DuplicateMember)) } else { Ok(Value::Object(claims)) }
    }
}

/// A member's name, borrowed where it holds no escape.
struct Name;

impl<'t> DeserializeSeed<'t> for Name {
    type Value = Cow<'t, str>;
    fn deserialize<D: de::Deserializer<'t>>(self, deserializer: D) -> Result<Cow<'t, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'t> for Name {
    type Value = Cow<'t, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_borrowed_str<E>(self, name: &'t str) -> Result<Cow<'t, str>, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Cow<'t, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_borrowed_unless_it_was_escaped() {
        let claims = Claims::parse(br#"{"plain":"main","esc\u0061ped":"ma\u0069n"}"#).unwrap();
        assert!(matches!(&claims.members[0], (Cow::Borrowed("plain"), Value::Text(Cow::Borrowed("main")))));
        assert!(
            matches!(&claims.members[1], (Cow::Owned(n), Value::Text(Cow::Owned(v))) if n == "escaped" && v == "main")
        );
    }

    #[test]
    fn wide_objects_are_searched_by_sorting_and_still_exactly() {
        let members = |count: usize| (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
        let wide = format!("{{{}}}", members(PAIRWISE_MEMBERS_MAX + 1));
        assert!(Claims::parse(wide.as_bytes()).is_ok());
        let doubled = format!("{{{},\"k7\":1}}", members(PAIRWISE_MEMBERS_MAX + 1));
        assert_eq!(Claims::parse(doubled.as_bytes()), Err(ClaimsError::DuplicateMember));
    }
}
