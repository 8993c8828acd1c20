//! Other base64 texts for the bytes of a segment: what a lax reader takes and a strict one must not.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The token in every way of this kind, segment by segment. A segment that has no such spelling gives none.
pub fn respelled(token: &str, kind: &str) -> Vec<String> {
    let segments: Vec<&str> = token.split('.').collect();
    let each = |others: &dyn Fn(&str) -> Vec<String>| {
        let mut texts = Vec::new();
        for at in 0..segments.len() {
            for other in others(segments[at]) {
                let mut all = segments.clone();
                all[at] = &other;
                texts.push(all.join("."));
            }
        }
        texts.retain(|text| text != token);
        texts
    };
    let inside = |what: &str| each(&|segment| vec![format!("{}{what}{}", &segment[..8], &segment[8..])]);
    match kind {
        "padding" => each(&|segment| {
            let right = "=".repeat((4 - segment.len() % 4) % 4);
            vec![
                format!("{segment}="),
                format!("{segment}=="),
                format!("{segment}{right}===="),
                format!("{segment}{right}"),
            ]
        }),
        "white_space" => inside(" "),
        "newline" => [inside("\n"), inside("\r\n")].concat(),
        "standard_alphabet" => each(&|segment| vec![segment.replace('-', "+").replace('_', "/")]),
        "spare_bits" => each(&|segment| {
            let spare = match segment.len() % 4 {
                2 => 16,
                3 => 4,
                _ => 1,
            };
            let (rest, last) = segment.split_at(segment.len() - 1);
            let value = ALPHABET.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
            (1..spare).map(|bits| format!("{rest}{}", char::from(ALPHABET[value ^ bits]))).collect()
        }),
        _ => panic!("there is no spelling `{kind}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_changes_the_text_and_one_segment_only() {
        let token = "eyJhbGciOiJ4In0.aGVsbG8tZl9vbw-_.AAAAAAAAAAA";
        for kind in ["padding", "white_space", "newline", "standard_alphabet", "spare_bits"] {
            let texts = respelled(token, kind);
            assert!(!texts.is_empty(), "{kind}");
            for text in texts {
                let changed = text.split('.').zip(token.split('.')).filter(|(one, other)| one != other).count();
                assert_eq!(changed, 1, "{kind}: {text}");
            }
        }
    }
}
