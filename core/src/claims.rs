//! A JSON object read strictly: no duplicate member at any depth, bounded depth, no trailing bytes, borrowed text.

use std::borrow::Cow;

/// Nesting beyond this refuses (arrays and objects together; the claims object itself is depth 1).
pub const DEPTH_MAX: usize = 16;

/// One JSON value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'t> {
    Null,
    Boolean(bool),
    /// An integer that fits `i64`.
    Integer(i64),
    /// Any other number (fraction, exponent, too large): never satisfies anything.
    OtherNumber,
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
    /// Reads one object and nothing after it.
    pub fn parse(_bytes: &'t [u8]) -> Result<Self, ClaimsError> {
        unimplemented!()
    }
    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Value<'t>> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    /// The member at an RFC 6901 pointer (`/kubernetes.io/namespace`).
    pub fn pointer(&self, _pointer: &str) -> Option<&Value<'t>> {
        unimplemented!()
    }
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'t>)> {
        self.members.iter().map(|(n, v)| (n.as_ref(), v))
    }
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Claims<'static> {
        unimplemented!()
    }
    /// The object as JSON, for evidence details and `demo`.
    pub fn to_json(&self) -> serde_json::Value {
        unimplemented!()
    }
}
