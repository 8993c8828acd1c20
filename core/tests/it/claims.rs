//! What a strict JSON object holds. What is none is refused in tokens: the table of attacks (16 to 18) shows that.

use claimbound_core::claims::{Claims, ClaimsError, DEPTH_MAX, Value};
use proptest::prelude::*;

fn nested(open: &str, close: &str, times: usize) -> String {
    format!("{{\"a\":{}0{}}}", open.repeat(times), close.repeat(times))
}

#[test]
fn one_name_in_two_objects_is_no_duplicate() {
    assert!(Claims::parse(br#"{"a":{"k":1},"b":{"k":1},"A":{}}"#).is_ok());
}

#[test]
fn nesting_has_a_limit_and_no_stack_is_spent() {
    assert!(Claims::parse(nested("[", "]", DEPTH_MAX - 1).as_bytes()).is_ok());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for times in [DEPTH_MAX, 127, 128, 10_000] {
            let text = nested(open, close, times);
            assert_eq!(Claims::parse(text.as_bytes()), Err(ClaimsError::TooDeep), "{open} {times}");
            let unclosed = &text[..text.len() / 2];
            assert!(Claims::parse(unclosed.as_bytes()).is_err());
        }
    }
}

#[test]
fn numbers_are_integers_or_nothing_that_counts() {
    let claims = Claims::parse(
        br#"{"a":1,"b":-9223372036854775808,"c":9223372036854775807,"d":9223372036854775808,"e":1.0,"f":1e3,"g":-0,"h":1e30}"#,
    )
    .unwrap();
    assert_eq!(claims.get("a"), Some(&Value::Integer(1)));
    assert_eq!(claims.get("b"), Some(&Value::Integer(i64::MIN)));
    assert_eq!(claims.get("c"), Some(&Value::Integer(i64::MAX)));
    for name in ["d", "e", "f", "g", "h"] {
        assert!(matches!(claims.get(name), Some(Value::OtherNumber(_))), "{name}");
    }
}

#[test]
fn pointers_are_those_of_rfc_6901() {
    let claims =
        Claims::parse(br#"{"kubernetes.io":{"namespace":"ci"},"a/b":1,"m~n":2,"":3,"list":["x",{"y":"z"}],"~1":4}"#)
            .unwrap();
    let text = |text: &'static str| Some(Value::Text(text.into()));
    for (pointer, expected) in [
        ("/kubernetes.io/namespace", text("ci")),
        ("/a~1b", Some(Value::Integer(1))),
        ("/m~0n", Some(Value::Integer(2))),
        ("/", Some(Value::Integer(3))),
        ("/list/0", text("x")),
        ("/list/1/y", text("z")),
        ("/~01", Some(Value::Integer(4))),
        ("", None),
        ("a~1b", None),
        ("/a/b", None),
        ("/m~2n", None),
        ("/m~", None),
        ("/list/00", None),
        ("/list/01", None),
        ("/list/-", None),
        ("/list/2", None),
        ("/list/+1", None),
        ("/list/", None),
        ("/a~1b/c", None),
        ("/list/99999999999999999999999", None),
    ] {
        assert_eq!(claims.pointer(pointer).cloned(), expected, "{pointer}");
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map("[a-c~/\"\\\\é]{0,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_is_written_is_read_again(members in proptest::collection::btree_map("[a-z]{1,2}", json(), 0..12)) {
        let object = serde_json::Value::Object(members.into_iter().collect());
        let text = object.to_string();
        let claims = Claims::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&claims.to_json(), &object);
        let owned = claims.clone().into_owned();
        prop_assert_eq!(owned, claims);
    }

    #[test]
    fn any_bytes_are_read_or_refused_as_a_plain_reader_does(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let plain = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
        if Claims::parse(&bytes).is_ok() {
            prop_assert!(plain.is_ok());
        }
    }
}
