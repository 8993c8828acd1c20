//! What binds a page to a job's log: a code that the person types, and three words to compare. Neither is a secret that
//! anything rests on; whoever reads the log sees both.

/// Crockford's base 32: no letter is taken for another, and none makes a word.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Of a code, its hyphen aside: 40 bits (RFC 8628 section 5.1 asks for what a few tries cannot hit).
pub const CODE_CHARACTERS: usize = 8;
/// Words beside a code.
pub const WORDS_SHOWN: usize = 3;

/// The code of 40 random bits: `4F7K-9QTX`.
pub fn match_code(random: [u8; 5]) -> String {
    let bits = random.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut code = String::with_capacity(CODE_CHARACTERS + 1);
    for at in 0..CODE_CHARACTERS {
        if at == CODE_CHARACTERS / 2 {
            code.push('-');
        }
        let letter = bits >> (5 * (CODE_CHARACTERS - 1 - at)) & 31;
        code.push(char::from(ALPHABET[letter as usize]));
    }
    code
}

/// A code as people type it, in the form that is hashed: letters of any case, `O` for 0, `I` and `L` for 1, with or without
/// hyphen and spaces. `None`: it is no code.
pub fn normal_code(typed: &str) -> Option<String> {
    let letters = typed.chars().filter(|c| !matches!(c, '-' | ' ' | '\u{2010}'..='\u{2015}'));
    let mut code = String::with_capacity(CODE_CHARACTERS);
    for letter in letters {
        let letter = match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        };
        if code.len() == CODE_CHARACTERS || !u8::try_from(letter).is_ok_and(|byte| ALPHABET.contains(&byte)) {
            return None;
        }
        code.push(letter);
    }
    (code.len() == CODE_CHARACTERS).then_some(code)
}

/// Three words for a digest, to be compared by eye: 21 bits.
pub fn words(digest: &[u8; 32]) -> [&'static str; WORDS_SHOWN] {
    [0, 1, 2].map(|at| WORDS[usize::from(digest[at] & 127)])
}

/// Short, different in sound and in letters.
const WORDS: [&str; 128] = [
    "acorn", "amber", "anchor", "apple", "arrow", "atlas", "autumn", "badge", "bamboo", "banjo", "barley", "basil",
    "beacon", "birch", "bishop", "bolt", "border", "bridge", "bronze", "butter", "cabin", "cactus", "camel", "candle",
    "canyon", "carbon", "castle", "cedar", "cherry", "cobalt", "comet", "copper", "coral", "cotton", "crater",
    "cricket", "dagger", "daisy", "delta", "desert", "diamond", "dolphin", "dragon", "eagle", "ember", "engine",
    "fabric", "falcon", "feather", "fennel", "ferry", "finch", "forest", "fossil", "galaxy", "garden", "ginger",
    "glacier", "globe", "granite", "hammer", "harbor", "hazel", "helmet", "honey", "igloo", "indigo", "island",
    "ivory", "jacket", "jasmine", "jungle", "kettle", "kitten", "ladder", "lantern", "lemon", "linen", "lizard",
    "lotus", "magnet", "mango", "maple", "marble", "meadow", "mirror", "monkey", "mosaic", "nectar", "nickel", "oasis",
    "ocean", "olive", "onion", "orchid", "otter", "oyster", "paddle", "palace", "panther", "paper", "pebble", "pepper",
    "pigeon", "planet", "plum", "pocket", "prairie", "quartz", "rabbit", "raven", "ribbon", "river", "rocket",
    "saddle", "saffron", "salmon", "silver", "spider", "summit", "temple", "thunder", "timber", "tulip", "tunnel",
    "velvet", "walnut", "zebra",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back_however_it_is_typed() {
        for random in [[0; 5], [255; 5], [1, 2, 3, 4, 5], [0x9d, 0, 0x7f, 0x80, 0xfe]] {
            let code = match_code(random);
            assert_eq!(code.len(), CODE_CHARACTERS + 1);
            let normal = normal_code(&code).expect("its own form");
            assert_eq!(normal, code.replace('-', ""));
            let typed = code.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            assert_eq!(normal_code(&typed).as_deref(), Some(&*normal));
        }
        for other in ["", "4F7K", "4F7K-9QTXX", "4F7K-9QT!", "4F7K-9QTU", "４F7K9QTX"] {
            assert_eq!(normal_code(other), None, "{other}");
        }
        assert_ne!(match_code([0, 0, 0, 0, 1]), match_code([0, 0, 0, 0, 2]));
    }

    #[test]
    fn words_are_different_and_few() {
        let mut all = WORDS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), WORDS.len());
        assert_eq!(words(&[0x80; 32]), ["acorn"; 3]);
    }
}
