//! How ids and digests are written: one spelling each, so that records can be searched by eye and by `grep`.

use super::{DecisionId, LeaseId, SuspensionId};
use std::{fmt, str::FromStr};

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// How every body with a decision begins: an index over decisions needs no parser.
const DECISION_PREFIX: &[u8] = br#"{"v":1,"decision":""#;
/// Lengths of a UUID's groups in characters (RFC 9562, section 4).
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// The decision that a body belongs to, read from its fixed place.
pub fn decision_of(body: &[u8]) -> Option<DecisionId> {
    let id = body.strip_prefix(DECISION_PREFIX)?.get(..36)?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The 32 bytes that 64 hexadecimal characters of either case spell.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// The text is no id of a decision, lease or suspension.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an id has the form `01938c5e-6d7a-7000-8000-000000000000`")]
pub struct IdError;

/// Reads UUID text (RFC 9562, section 4): 8-4-4-4-12 hexadecimal characters.
pub fn parse_id(text: &str) -> Result<u128, IdError> {
    let groups: Vec<&str> = text.splitn(GROUPS.len() + 1, '-').collect();
    let lengths_fit = groups.iter().map(|group| group.len()).eq(GROUPS);
    let digits: String = groups.concat();
    if !lengths_fit || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(IdError);
    }
    u128::from_str_radix(&digits, 16).map_err(|_| IdError)
}

/// Writes a number as UUID text. Incarnations are shown by it too.
pub fn uuid(id: u128) -> String {
    let digits = hex(&id.to_be_bytes());
    let mut text = String::with_capacity(36);
    let mut from = 0;
    for length in GROUPS {
        if from > 0 {
            text.push('-');
        }
        text.push_str(&digits[from..from + length]);
        from += length;
    }
    text
}

macro_rules! id_text {
    ($($id:ident)*) => { $(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&uuid(self.0))
            }
        }
        impl FromStr for $id {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_id(text).map(Self)
            }
        }
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}
id_text!(DecisionId LeaseId SuspensionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuid_text() {
        let id = DecisionId(0x0193_8c5e_6d7a_7abc_8def_0123_4567_89ab);
        assert_eq!(id.to_string(), "01938c5e-6d7a-7abc-8def-0123456789ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("01938C5E-6D7A-7ABC-8DEF-0123456789AB".parse(), Ok(id));
        assert_eq!(LeaseId(0).to_string(), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "01938c5e6d7a7abc8def0123456789ab",
            "01938c5e-6d7a-7abc-8def-0123456789a",
            "01938c5e-6d7a-7abc-8def-0123456789abc",
            "01938c5-e6d7a-7abc-8def-0123456789ab",
            "01938c5e-6d7a-7abc-8def-0123456789ab-",
            "+1938c5e-6d7a-7abc-8def-0123456789ab",
            "01938c5e-6d7a-7abc-8def-0123456789äb",
        ] {
            assert_eq!(text.parse::<LeaseId>(), Err(IdError), "{text}");
        }
    }

    #[test]
    fn digests_are_64_characters() {
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8 * 8);
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex(&hex(&bytes).to_uppercase()), Some(bytes));
        for text in ["", "00", &"+1".repeat(32), &"zz".repeat(32), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
