//! Any bytes as claims, held against another reader: the same object, or a reason that this one does not know.

use crate::{Outcome, Target, seeds};
use claimbound_core::claims::{Claims, ClaimsError, DEPTH_MAX, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

pub(super) const TARGET: Target = Target {
    name: "claims",
    run: claims,
    seeds: || {
        let mut found: Vec<Vec<u8>> = seeds::files(&seeds::repository("core/tests/it/data")).into_values().collect();
        found.push(
            br#"{"a":[1,-2,3.5,1e9,true,false,null,"\u00e9\n",{"b/c":{"~":[]}}],"kubernetes.io":{"pod":{"uid":"x"}}}"#
                .to_vec(),
        );
        found
    },
    dictionary: &[
        "{\"a\":",
        "\"a\":1,",
        "\"a\":1",
        "\\u0061",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\u0000",
        "[[[[[[[[",
        "]]]]]]]]",
        "{\"x\":{\"x\":{\"x\":{\"x\":",
        "}}}}",
        "1e400",
        "-0",
        "1E-7",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "null",
        "true",
        "\u{feff}",
        "\u{fffe}",
        "//",
        "NaN",
        "\"\"",
    ],
    input_bytes_max: 8 * 1024,
    runs: 20_000,
};

fn claims(bytes: &[u8]) -> Outcome {
    let ours = Claims::parse(bytes);
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes).ok().filter(serde_json::Value::is_object);
    match (ours, theirs) {
        (Err(error), None) => format!("{error}"),
        (Err(ClaimsError::Malformed), Some(_)) => panic!("a JSON object was called malformed"),
        (Err(ClaimsError::TooDeep), Some(object)) => {
            assert!(depth(&object) > DEPTH_MAX || doubled(bytes), "too deep at {}", depth(&object));
            "deep".to_owned()
        }
        (Err(ClaimsError::DuplicateMember), Some(_)) => {
            assert!(doubled(bytes), "no member stands twice");
            "doubled".to_owned()
        }
        (Ok(_), None) => panic!("accepted what is no JSON object"),
        (Ok(claims), Some(object)) => {
            assert!(!doubled(bytes), "a member stands twice and was accepted");
            assert!(depth(&object) <= DEPTH_MAX);
            same(&claims, &object);
            let text = claims.to_json().to_string();
            let again = Claims::parse(text.as_bytes()).expect("what is written is read again");
            assert_eq!(again.to_json(), claims.to_json());
            assert_eq!(claims.clone().into_owned(), claims);
            format!("object of {} and depth {}", claims.iter().count().min(20), depth(&object))
        }
    }
}

/// Member for member the same, and each reachable by its pointer.
fn same(claims: &Claims<'_>, object: &serde_json::Value) {
    let members = object.as_object().expect("an object");
    assert_eq!(claims.iter().count(), members.len());
    for (name, value) in claims.iter() {
        equal(value, members.get(name).expect("the same names"));
        assert_eq!(claims.get(name), Some(value));
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        assert_eq!(claims.pointer(&pointer), Some(value), "`{pointer}`");
    }
}

fn equal(value: &Value<'_>, other: &serde_json::Value) {
    match (value, other) {
        (Value::Null, serde_json::Value::Null) => {}
        (Value::Boolean(one), serde_json::Value::Bool(other)) => assert_eq!(one, other),
        (Value::Integer(one), serde_json::Value::Number(other)) => assert_eq!(Some(*one), other.as_i64()),
        (Value::OtherNumber(own), serde_json::Value::Number(other)) => assert_eq!((own, other.as_i64()), (other, None)),
        (Value::Text(one), serde_json::Value::String(other)) => assert_eq!(one, other),
        (Value::List(one), serde_json::Value::Array(other)) => {
            assert_eq!(one.len(), other.len());
            one.iter().zip(other).for_each(|(one, other)| equal(one, other));
        }
        (Value::Object(one), other) => same(one, other),
        (one, other) => panic!("{one:?} and {other}"),
    }
}

fn depth(value: &serde_json::Value) -> usize {
    let inner: Option<usize> = match value {
        serde_json::Value::Object(members) => members.values().map(depth).max().or(Some(0)),
        serde_json::Value::Array(list) => list.iter().map(depth).max().or(Some(0)),
        _ => None,
    };
    inner.map_or(0, |inner| inner + 1)
}

/// Whether a member stands twice somewhere: more members were read than a map holds.
fn doubled(bytes: &[u8]) -> bool {
    fn held(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Object(members) => members.len() + members.values().map(held).sum::<usize>(),
            serde_json::Value::Array(list) => list.iter().map(held).sum(),
            _ => 0,
        }
    }
    let held = serde_json::from_slice(bytes).map_or(0, |value: serde_json::Value| held(&value));
    let read = serde_json::from_slice(bytes).map_or(0, |Count(count)| count);
    // Members below one that was overwritten are read and not held, too: that is the same fault.
    read != held
}

/// How many members stand in a document, at all depths.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counter)
    }
}

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = Count;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Count, E> {
        Ok(Count(0))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        let mut count = 0;
        while let Some(Count(inner)) = seq.next_element()? {
            count += inner;
        }
        Ok(Count(count))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        let mut count = 0;
        while let Some((_, Count(inner))) = map.next_entry::<String, Count>()? {
            count += inner + 1;
        }
        Ok(Count(count))
    }
}
