//! Which bytes are texts.

use super::{Automaton, Classes, explore};

impl Automaton {
    /// Valid UTF-8; `plain`: that is not empty and holds no control character.
    pub(crate) fn utf8(plain: bool) -> Self {
        let all = Classes { of: std::array::from_fn(|byte| byte as u8), first: (0..=255).collect() };
        let whole = |part: &Part| *part == Part::Between || (!plain && *part == Part::Start);
        let built = explore(Part::Start, &all, whole, |part, byte| part.step(byte, plain));
        built.ok().flatten().expect("some nine states that accept something")
    }
}

/// Where in a text one stands: before it, between two characters, or inside one with so many bytes to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Part {
    Start,
    Between,
    More(u8),
    /// The next byte lies in this range, and so many follow it: no overlong form, no surrogate, no number
    /// beyond the last.
    Narrow(u8, u8, u8),
}

impl Part {
    /// The Unicode Standard, table 3-7. `plain`: without what `char::is_control` knows.
    fn step(self, byte: u8, plain: bool) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Start | Self::Between, b' '..=b'~') => Self::Between,
            (Self::Start | Self::Between, ..0x80) if !plain => Self::Between,
            (Self::Start | Self::Between, 0xc2) if !plain => Self::More(1),
            (Self::Start | Self::Between, 0xc2) => Self::Narrow(0xa0, 0xbf, 0),
            (Self::Start | Self::Between, 0xc3..=0xdf) => Self::More(1),
            (Self::Start | Self::Between, 0xe0) => Self::Narrow(0xa0, 0xbf, 1),
            (Self::Start | Self::Between, 0xed) => Self::Narrow(0x80, 0x9f, 1),
            (Self::Start | Self::Between, 0xe1..=0xef) => Self::More(2),
            (Self::Start | Self::Between, 0xf0) => Self::Narrow(0x90, 0xbf, 2),
            (Self::Start | Self::Between, 0xf1..=0xf3) => Self::More(3),
            (Self::Start | Self::Between, 0xf4) => Self::Narrow(0x80, 0x8f, 2),
            (Self::More(1) | Self::Narrow(_, _, 0), _) if self.goes_on(byte) => Self::Between,
            (Self::More(more), _) if self.goes_on(byte) => Self::More(more - 1),
            (Self::Narrow(_, _, more), _) if self.goes_on(byte) => Self::More(more),
            _ => return None,
        })
    }
    fn goes_on(self, byte: u8) -> bool {
        match self {
            Self::Narrow(from, to, _) => (from..=to).contains(&byte),
            _ => (0x80..=0xbf).contains(&byte),
        }
    }
}
