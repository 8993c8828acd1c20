//! Text of strangers, as people who decide by it must see it: what is invisible, or looks like something else, is named.

use askama::{Template, filters::HtmlSafe};
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory as Category},
};

/// Of one name or value that a page shows.
const NAME_CHARACTERS_MAX: usize = 200;
/// Of a text that people wrote for people.
const PROSE_CHARACTERS_MAX: usize = 1000;
/// A letter that is as wide as others, and empty.
const BRAILLE_BLANK: char = '\u{2800}';

/// A text, ready for a page. What it renders to is escaped already.
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(
    ext = "html",
    source = "{% for piece in pieces %}{% match piece %}{% when Piece::Plain(text) %}{{ text }}\
        {% when Piece::Mark(glyph, code) %}<span class=\"mark\">{% if let Some(glyph) = glyph %}<bdi>{{ glyph }}</bdi> \
        {% endif %}{{ code }}</span>{% endmatch %}{% endfor %}\
        {% if cut > 0 %}<span class=\"cut\">… and {{ cut }} characters more</span>{% endif %}"
)]
pub struct Seen {
    pieces: Vec<Piece>,
    /// Characters that are not shown.
    cut: usize,
}

impl HtmlSafe for Seen {}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Plain(String),
    /// The character itself, where it can be seen, and its code point.
    Mark(Option<char>, String),
}

impl Seen {
    /// A name or a value that others compare: whatever is not ASCII is named.
    pub fn name(text: &str) -> Self {
        let last = text.chars().count().saturating_sub(1);
        Self::of(text, NAME_CHARACTERS_MAX, |at, c| c.is_ascii_graphic() || (c == ' ' && at != 0 && at != last))
    }

    /// A text that people wrote for people, in whatever script: what cannot be seen is named.
    pub fn prose(text: &str) -> Self {
        Self::of(text, PROSE_CHARACTERS_MAX, |_, c| c == '\n' || c == ' ' || is_visible(c) || is_combining(c))
    }

    /// For a terminal: `‹U+202E›`. The brackets are no ASCII, so in a name nobody can write them.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Plain(run) => text.push_str(run),
                // Without its shape: a terminal may turn what stands around it.
                Piece::Mark(_, code) => text.push_str(&format!("‹{code}›")),
            }
        }
        if self.cut > 0 {
            text.push_str(&format!(" … and {} characters more", self.cut));
        }
        text
    }

    fn of(text: &str, most: usize, plain: impl Fn(usize, char) -> bool) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for (at, c) in text.chars().take(most).enumerate() {
            match (plain(at, c), pieces.last_mut()) {
                (true, Some(Piece::Plain(run))) => run.push(c),
                (true, _) => pieces.push(Piece::Plain(c.to_string())),
                (false, _) => {
                    pieces.push(Piece::Mark(Some(c).filter(|c| is_visible(*c)), format!("U+{:04X}", u32::from(c))));
                }
            }
        }
        Self { pieces, cut: text.chars().skip(most).count() }
    }
}

fn category(c: char) -> Category {
    CodePointMapData::<Category>::new().get(c)
}

fn is_combining(c: char) -> bool {
    use Category as C;
    matches!(category(c), C::NonspacingMark | C::SpacingMark) && !is_ignorable(c)
}

fn is_ignorable(c: char) -> bool {
    c == BRAILLE_BLANK || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether it is a letter, digit or sign with a shape of its own.
fn is_visible(c: char) -> bool {
    use Category as C;
    let shaped = !matches!(
        category(c),
        C::Unassigned
            | C::Control
            | C::Format
            | C::PrivateUse
            | C::Surrogate
            | C::SpaceSeparator
            | C::LineSeparator
            | C::ParagraphSeparator
            | C::NonspacingMark
            | C::SpacingMark
            | C::EnclosingMark
    );
    shaped && !is_ignorable(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        Seen::name(text).render().unwrap()
    }

    #[test]
    fn what_deceives_in_a_name_is_shown_as_its_code_point() {
        let mark = |inner: &str| format!("<span class=\"mark\">{inner}</span>");
        for (text, expected) in [
            ("acme/payments-api", "acme/payments-api".to_owned()),
            ("a b", "a b".to_owned()),
            (" a ", format!("{}a{}", mark("U+0020"), mark("U+0020"))),
            ("main\u{202E}niam", format!("main{}niam", mark("U+202E"))),
            ("\u{2066}x\u{2069}", format!("{}x{}", mark("U+2066"), mark("U+2069"))),
            ("p\u{0430}yments", format!("p{}yments", mark("<bdi>\u{0430}</bdi> U+0430"))),
            ("acm\u{0435}\u{0301}", format!("acm{}{}", mark("<bdi>\u{0435}</bdi> U+0435"), mark("U+0301"))),
            ("\u{1b}[31mred", format!("{}[31mred", mark("U+001B"))),
            ("a\nb\u{200B}c", format!("a{}b{}c", mark("U+000A"), mark("U+200B"))),
            ("\u{3164}\u{2800}\u{FE0F}\u{E0041}", ["U+3164", "U+2800", "U+FE0F", "U+E0041"].map(mark).concat()),
            ("\u{05D0}", mark("<bdi>\u{05D0}</bdi> U+05D0")),
        ] {
            assert_eq!(name(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_terminal_is_told_the_code_points() {
        let long = "x".repeat(201);
        for (name, expected) in [
            ("main\u{202E}niam", "main‹U+202E›niam"),
            ("p\u{0430}yments\u{1b}[2J\n", "p‹U+0430›yments‹U+001B›[2J‹U+000A›"),
            ("‹U+0041›", "‹U+2039›U+0041‹U+203A›"),
            (long.as_str(), &format!("{} … and 1 characters more", "x".repeat(200))),
        ] {
            assert_eq!(Seen::name(name).to_text(), expected);
        }
        assert_eq!(Seen::prose("Müller\u{202E}").to_text(), "Müller‹U+202E›");
    }

    #[test]
    fn markup_is_text_and_long_text_says_that_it_was_cut() {
        let shown = name("<script>alert(1)</script>\"'&");
        assert!(!shown.contains(['<', '>', '"', '\'']), "{shown}");
        let long = name(&"x".repeat(10 * 1024));
        assert!(long.starts_with(&"x".repeat(200)), "{long}");
        assert!(long.ends_with("<span class=\"cut\">… and 10040 characters more</span>"), "{long}");
        assert!(!name(&"x".repeat(200)).contains("cut"));
    }

    #[test]
    fn prose_keeps_scripts_and_lines_and_loses_what_cannot_be_seen() {
        let prose = |text: &str| Seen::prose(text).render().unwrap();
        for plain in ["Müller\nmüsste", "デプロイ", "דנה", "e\u{0301}", "100 %: “ok”"] {
            assert_eq!(prose(plain), plain);
        }
        assert_eq!(prose("a\u{202E}b\tc"), "a<span class=\"mark\">U+202E</span>b<span class=\"mark\">U+0009</span>c");
        assert!(prose(&"é".repeat(1001)).ends_with("… and 1 characters more</span>"));
    }
}
