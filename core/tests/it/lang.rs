//! The automaton against a naive matcher, on random patterns and texts over a small alphabet.

use claimbound_core::lang::pattern::{Lang, Segments};
use proptest::prelude::*;

/// `*`, `**` and literals by backtracking: the meaning, not the machine.
fn naive(pattern: &[u8], at: usize, text: &[u8], bounds: &[u8], fold: bool) -> bool {
    let is_bound = |byte: Option<&u8>| byte.is_none_or(|byte| bounds.contains(byte));
    match &pattern[at..] {
        [] => text.is_empty(),
        [b'*', b'*', ..] => (0..=text.len()).any(|taken| naive(pattern, at + 2, &text[taken..], bounds, fold)),
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
    let piece = prop::sample::select(vec!["a", "b", "A", "/", ":", "é", "*", "**"]);
    prop::collection::vec(piece, 1..8)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("no `***`", |p| !p.contains("***"))
}

fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["a", "b", "A", "/", ":", "é", "ü"]);
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
            .flat_map(|text| ["a", "b", "A", "/", ":", "é"].map(|letter| format!("{text}{letter}")))
            .collect();
        all.extend(longer);
        all.sort();
        all.dedup();
    }
    all
}

fn langs() -> impl Strategy<Value = Lang> {
    prop_oneof![
        3 => (patterns(), any::<bool>()).prop_map(|(pattern, fold)| Lang::glob(&pattern, Segments::Path, fold).expect("the pieces are legal")),
        1 => (prop::collection::vec(texts(), 0..4), any::<bool>())
            .prop_map(|(texts, fold)| Lang::one_of(texts.iter().map(String::as_str), fold)),
        1 => any::<bool>().prop_map(|fold| Lang::under("a/b", fold).expect("a path")),
    ]
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
    fn an_intersection_is_both(a in langs(), b in langs(), texts in prop::collection::vec(texts(), 1..20)) {
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
}
