//! The automaton against a naive matcher and against regex-automata, on random patterns and texts over a small
//! alphabet; every operation against its meaning, text by text.

use claimbound_core::lang::pattern::{Lang, Segments};
use proptest::prelude::*;
use regex_automata::meta::Regex;

/// `*`, `**`, `{num}` and literals by backtracking: the meaning, not the machine.
fn naive(pattern: &[u8], at: usize, text: &[u8], bounds: &[u8], fold: bool) -> bool {
    let is_bound = |byte: Option<&u8>| byte.is_none_or(|byte| bounds.contains(byte));
    match &pattern[at..] {
        [] => text.is_empty(),
        [b'*', b'*', ..] => (0..=text.len()).any(|taken| naive(pattern, at + 2, &text[taken..], bounds, fold)),
        [b'{', b'n', b'u', b'm', b'}', ..] => {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=digits).any(|taken| naive(pattern, at + 5, &text[taken..], bounds, fold))
        }
        [b'*', ..] => {
            let whole = is_bound(at.checked_sub(1).map(|before| &pattern[before])) && is_bound(pattern.get(at + 1));
            let inside = text.iter().take_while(|byte| !bounds.contains(byte)).count();
            (usize::from(whole)..=inside).any(|taken| naive(pattern, at + 1, &text[taken..], bounds, fold))
        }
        [literal, ..] => text.split_first().is_some_and(|(first, rest)| {
            (first == literal || (fold && first.eq_ignore_ascii_case(literal)))
                && naive(pattern, at + 1, rest, bounds, fold)
        }),
    }
}

fn patterns() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["a", "b", "A", "/", ":", "é", "0", "{num}", "*", "**"]);
    prop::collection::vec(piece, 1..8)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("no `***`", |p| !p.contains("***"))
}

fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["a", "b", "A", "B", "/", ":", "é", "ü", "0", "17"]);
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn segments() -> impl Strategy<Value = (Segments, &'static [u8])> {
    prop_oneof![Just((Segments::Path, &b"/"[..])), Just((Segments::Subject, &b"/:@"[..]))]
}

/// Every text of up to four of some letters.
fn short_texts() -> Vec<String> {
    let mut all = vec![String::new()];
    for _ in 0..4 {
        let longer: Vec<String> = all
            .iter()
            .flat_map(|text| ["a", "b", "A", "/", ":", "é", "0"].map(|letter| format!("{text}{letter}")))
            .collect();
        all.extend(longer);
        all.sort();
        all.dedup();
    }
    all
}

fn written() -> impl Strategy<Value = Lang> {
    prop_oneof![
        3 => (patterns(), any::<bool>()).prop_map(|(pattern, fold)| Lang::glob(&pattern, Segments::Path, fold).expect("the pieces are legal")),
        1 => (prop::collection::vec(texts(), 0..4), any::<bool>())
            .prop_map(|(texts, fold)| Lang::one_of(texts.iter().map(String::as_str), fold)),
        1 => any::<bool>().prop_map(|fold| Lang::under("a/b", fold).expect("a path")),
        1 => (prop::sample::select(vec!["a", "aB", "é", "0/"]), any::<bool>())
            .prop_map(|(prefix, fold)| Lang::not_prefix(prefix, fold).expect("a prefix")),
    ]
}

/// What is written, and what becomes of it.
fn langs() -> impl Strategy<Value = Lang> {
    written().prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| one.complement().expect("small")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.union(&b).expect("small")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.intersect(&b).expect("small")),
            (inner.clone(), inner).prop_map(|(a, b)| a.minus(&b).expect("small")),
        ]
    })
}

/// A glob as a regular expression.
fn regex(pattern: &str, bounds: &str, fold: bool) -> Regex {
    let is_bound = |character: Option<char>| character.is_none_or(|character| bounds.contains(character));
    let mut expression = if fold { r"\A(?s-u:(?i)".to_owned() } else { r"\A(?s-u:".to_owned() };
    let mut rest = pattern;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let (taken, piece) = if rest.starts_with("{num}") {
            (5, "[0-9]+".to_owned())
        } else if rest.starts_with("**") {
            (2, "(?:.*)".to_owned())
        } else if first == '*' {
            let whole = is_bound(before) && is_bound(rest[1..].chars().next());
            (1, format!("[^{bounds}]{}", if whole { "+" } else { "*" }))
        } else {
            let mut bytes = [0; 4];
            let bytes = first.encode_utf8(&mut bytes).bytes();
            (first.len_utf8(), bytes.map(|byte| format!(r"\x{byte:02x}")).collect())
        };
        expression.push_str(&piece);
        before = rest[..taken].chars().next_back();
        rest = &rest[taken..];
    }
    expression.push_str(r")\z");
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    let config = Regex::config().utf8_empty(false);
    Regex::builder().syntax(syntax).configure(config).build(&expression).unwrap()
}

/// What tries a backtracking matcher, and what an automaton must hold in few states.
#[test]
fn patterns_that_are_made_to_hurt() {
    let long = |piece: &str| piece.repeat(1024 / piece.len());
    let texts = [
        long("a"),
        long("a") + "b",
        "b".to_owned() + &long("a"),
        long("ab"),
        long("a/"),
        long("1"),
        long("1") + "x",
        long("é"),
        long("1.") + "1",
        String::new(),
    ];
    for pattern in [
        "*a*a*a*a*b",
        "**a**a**a**a**b",
        "*a*a*a*a*a*a*a*a*a*a*a*a*",
        "{num}{num}{num}{num}x",
        "{num}.{num}.**.{num}",
        "*{num}*{num}*b",
        "**/**/**/**/a",
        "**é**é**",
        "*1*1*1*1*{num}",
    ] {
        for (segments, bounds) in [(Segments::Path, "/"), (Segments::Subject, "/:@")] {
            let lang = Lang::glob(pattern, segments, false).unwrap();
            let oracle = regex(pattern, bounds, false);
            for text in &texts {
                assert_eq!(lang.matches(text), oracle.is_match(text), "`{pattern}` and `{:.20}…`", text);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_glob_is_what_the_naive_matcher_says(
        pattern in patterns(),
        texts in prop::collection::vec(texts(), 1..20),
        (segments, bounds) in segments(),
        fold in any::<bool>(),
    ) {
        let lang = Lang::glob(&pattern, segments, fold).unwrap();
        for text in texts {
            let expected = naive(pattern.as_bytes(), 0, text.as_bytes(), bounds, fold);
            prop_assert_eq!(lang.matches(&text), expected, "`{}` and `{}`", pattern, text);
        }
    }

    #[test]
    fn an_intersection_is_both(a in written(), b in written(), texts in prop::collection::vec(texts(), 1..20)) {
        let both = a.intersect(&b).unwrap();
        for text in texts {
            prop_assert_eq!(both.matches(&text), a.matches(&text) && b.matches(&text), "`{}`", text);
        }
        prop_assert_eq!(&both, &b.intersect(&a).unwrap(), "one set, one value");
        prop_assert_eq!(both.intersect(&a).unwrap(), both);
    }

    #[test]
    fn a_witness_is_a_shortest_member_and_only_the_empty_set_has_none(a in langs(), b in langs()) {
        let both = a.intersect(&b).unwrap();
        let shortest = short_texts().into_iter().filter(|text| both.matches(text)).min_by_key(String::len);
        match both.witness() {
            Some(witness) => {
                prop_assert!(both.matches(&witness) && a.matches(&witness) && b.matches(&witness), "`{}`", witness);
                prop_assert!(shortest.is_none_or(|text| witness.len() <= text.len()));
            }
            None => prop_assert_eq!(shortest, None),
        }
        prop_assert_eq!(both.is_empty(), both.witness().is_none());
    }

    #[test]
    fn a_glob_is_what_its_regular_expression_says(
        pattern in patterns(),
        texts in prop::collection::vec(texts(), 1..30),
        (segments, bounds) in segments(),
        fold in any::<bool>(),
    ) {
        let lang = Lang::glob(&pattern, segments, fold).unwrap();
        let oracle = regex(&pattern, std::str::from_utf8(bounds).unwrap(), fold);
        for text in texts {
            prop_assert_eq!(lang.matches(&text), oracle.is_match(&text), "`{}` and `{}`", pattern, text);
        }
    }

    #[test]
    fn operations_are_what_they_say_of_each_text(a in langs(), b in langs(), texts in prop::collection::vec(texts(), 1..20)) {
        let (either, both, without) = (a.union(&b).unwrap(), a.intersect(&b).unwrap(), a.minus(&b).unwrap());
        let not = a.complement().unwrap();
        let witnesses = [&a, &b, &either, &both, &without, &not].map(Lang::witness).into_iter().flatten();
        for text in texts.into_iter().chain(witnesses) {
            let (in_a, in_b) = (a.matches(&text), b.matches(&text));
            prop_assert_eq!(either.matches(&text), in_a || in_b, "`{}`", text);
            prop_assert_eq!(both.matches(&text), in_a && in_b, "`{}`", text);
            prop_assert_eq!(without.matches(&text), in_a && !in_b, "`{}`", text);
            prop_assert_eq!(not.matches(&text), !in_a, "`{}`", text);
        }
        for lang in [&a, &either, &both, &without, &not] {
            prop_assert_eq!(lang.is_empty(), lang.witness().is_none());
            prop_assert!(lang.witness().is_none_or(|text| lang.matches(&text)));
            prop_assert!(!lang.describe().is_empty());
        }
        prop_assert!(without.is_subset(&a).unwrap() && a.is_subset(&either).unwrap() && both.is_subset(&b).unwrap());
        prop_assert!(without.intersect(&b).unwrap().is_empty());
        prop_assert!(a.union(&not).unwrap().complement().unwrap().is_empty());
        match without.witness() {
            None => prop_assert!(a.is_subset(&b).unwrap()),
            Some(text) => prop_assert!(!a.is_subset(&b).unwrap() && a.matches(&text) && !b.matches(&text)),
        }
        let within = a.witness_within(&b).unwrap();
        prop_assert_eq!(within.as_ref().map(String::len), both.witness().as_ref().map(String::len));
        prop_assert!(within.is_none_or(|text| both.matches(&text)));
    }
}
