//! Durations and dates as the language writes them.

use crate::{
    diag::Span,
    mapping::{
        codes,
        syntax::{Entry, Findings},
    },
    time::{Seconds, UnixSeconds},
};
use toml::de::DeValue;

/// An integer and one of `s m h d`; longer than nothing, no longer than a `u32` of seconds.
fn seconds(text: &str) -> Option<Seconds> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u32>().ok()?.checked_mul(unit).map(Seconds)
}

/// A duration with its place.
pub(super) fn read(entry: Option<Entry<'_, '_>>, findings: &mut Findings) -> Option<(Seconds, Span)> {
    let entry = entry?;
    let text = match entry.value.get_ref() {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) => {
            let number = number.as_str();
            findings.error(
                codes::BAD_DURATION,
                entry.value_span(),
                format!("`{}` is a bare number, which says no unit", entry.name()),
                format!("write the unit: `\"{number}s\"`, `\"{number}m\"` or `\"{number}h\"`"),
            );
            return None;
        }
        _ => {
            entry.wrong_type("a duration such as \"30m\"", findings);
            return None;
        }
    };
    let seconds = seconds(text);
    if seconds.is_none() {
        findings.error(
            codes::BAD_DURATION,
            entry.value_span(),
            format!("`{text}` is no duration"),
            "write a whole number above zero and one of `s`, `m`, `h`, `d`: `\"30m\"`, not `\"0.5h\"` or `\"1h30m\"`",
        );
    }
    seconds.map(|seconds| (seconds, entry.value_span()))
}

/// A duration as the language writes it, in the largest unit that leaves no rest.
pub(super) fn write(seconds: Seconds) -> String {
    let Seconds(count) = seconds;
    match [(86_400, 'd'), (3_600, 'h'), (60, 'm')].into_iter().find(|(unit, _)| count % unit == 0) {
        Some((unit, letter)) if count > 0 => format!("{}{letter}", count / unit),
        _ => format!("{count}s"),
    }
}

/// A moment: date, time and offset, all three.
pub(super) fn moment(entry: Entry<'_, '_>, findings: &mut Findings) -> Option<UnixSeconds> {
    let whole = match entry.value.get_ref() {
        DeValue::Datetime(moment) => match (moment.date, moment.time, moment.offset) {
            (Some(date), Some(time), Some(offset)) => Some((date, time, offset)),
            _ => None,
        },
        _ => None,
    };
    let Some((date, time, offset)) = whole else {
        findings.error(
            codes::BAD_DATE,
            entry.value_span(),
            format!("`{}` is no moment", entry.name()),
            "write date, time and offset without quotes: `2027-06-30T12:00:00Z`",
        );
        return None;
    };
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let clock = i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or_default());
    Some(UnixSeconds(days * 86_400 + clock - minutes * 60))
}

/// A calendar date without time: when it begins at UTC.
pub(super) fn date(entry: Entry<'_, '_>, findings: &mut Findings) -> Option<UnixSeconds> {
    let date = match entry.value.get_ref() {
        DeValue::Datetime(date) if date.time.is_none() => date.date,
        _ => None,
    };
    if date.is_none() {
        findings.error(
            codes::BAD_DATE,
            entry.value_span(),
            format!("`{}` is no date", entry.name()),
            "write it without quotes and without time: `2027-06-30`",
        );
    }
    date.map(|date| {
        UnixSeconds(days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day)) * 86_400)
    })
}

/// Days since 1970-01-01 in the Gregorian calendar; years are counted from March so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("0m", None),
            ("07m", None),
            ("m", None),
            ("", None),
            ("1.5h", None),
            ("1h30m", None),
            ("5 m", None),
            ("-5m", None),
            ("99999d", None),
            ("4294967295s", Some(u32::MAX)),
            ("5ü", None),
        ] {
            assert_eq!(seconds(text), expected.map(Seconds), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["45s", "30m", "1h", "7d", "90s"] {
            assert_eq!(seconds(text).map(write).as_deref(), Some(text));
        }
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 2, 29), 11_016);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(days_from_civil(2026, 11, 21), 20_778);
    }
}
