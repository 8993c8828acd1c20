//! Texts with names in braces: claims put together from several, and the forms of `sub`.

/// The names in braces, in order; `None` where there is none, or a brace has no partner.
pub(super) fn natives(template: &str) -> Option<Vec<&str>> {
    let names: Vec<&str> = pieces(template)?
        .into_iter()
        .filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None })
        .collect();
    (!names.is_empty()).then_some(names)
}

/// Whether every brace has its partner and a name in it.
pub(super) fn is_sound(template: &str) -> bool {
    pieces(template).is_some()
}

/// The template with its names replaced; `None` where one has no value.
pub(super) fn fill<'v>(
    template: &str,
    mut value: impl FnMut(&str) -> Option<std::borrow::Cow<'v, str>>,
) -> Option<String> {
    let mut text = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Name(name) => text.push_str(&value(name)?),
        }
    }
    Some(text)
}

/// What stands before the first name or star: by it a text is known to be of this form.
pub(super) fn beginning(template: &str) -> &str {
    template.split(['{', '*']).next().unwrap_or_default()
}

/// Whether a text has this form. A star is any run without the letter that ends it, so a name that holds separators
/// cannot move the parts behind it; a star at the end is any rest.
pub(super) fn fits(form: &str, text: &str) -> bool {
    let Some((literal, rest)) = form.split_once('*') else { return form == text };
    let Some(text) = text.strip_prefix(literal) else { return false };
    match rest.chars().next() {
        None => true,
        Some(end) => text.find(end).is_some_and(|at| fits(rest, &text[at..])),
    }
}

enum Piece<'t> {
    Literal(&'t str),
    Name(&'t str),
}

fn pieces(template: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((literal, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}')?;
        if literal.contains('}') || name.is_empty() || name.contains('{') {
            return None;
        }
        pieces.extend([Piece::Literal(literal), Piece::Name(name)]);
        rest = tail;
    }
    if rest.contains('}') {
        return None;
    }
    pieces.push(Piece::Literal(rest));
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_stars_never_cross_their_end() {
        assert_eq!(natives("{a}/{/b/c}"), Some(vec!["a", "/b/c"]));
        for broken in ["a", "{a", "a}", "{}", "{a{b}", "{a}}"] {
            assert_eq!(natives(broken), None, "{broken}");
        }
        assert_eq!(fill("x:{a}:*", |name| Some(name.to_uppercase().into())), Some("x:A:*".into()));
        assert_eq!(fill("{a}", |_| None), None);
        assert_eq!(beginning("space:*:{name}"), "space:");
        for (form, text, expected) in [
            ("o:acme:p:api", "o:acme:p:api", true),
            ("o:acme:p:api", "o:acme:p:api:x", false),
            ("o:acme:*", "o:acme:anything:at all", true),
            ("o:acme:*", "o:acm", false),
            ("s:*:*:api:t:*", "s:root:stack:api:t:TRACKED", true),
            ("s:*:*:api:t:*", "s:root:x:stack:api:t:TRACKED", false),
            ("s:*:*:api:t:*", "s:root:stack:web:t:TRACKED", false),
            ("s:*:*:api", "s:root:stack:api:t", false),
        ] {
            assert_eq!(fits(form, text), expected, "{form} {text}");
        }
    }
}
