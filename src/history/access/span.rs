//! A time, or a span of it, as a person writes it.

use anyhow::{Result, ensure};

/// What was written: its first and last second; one and the same for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    first: i64,
    last: i64,
}

impl Moment {
    pub fn first(self) -> i64 {
        self.first
    }
    pub fn last(self) -> i64 {
        self.last
    }
}

/// The seconds from `from` to `to`, both included; without `from`, as far back as the log reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub from: Option<i64>,
    pub to: i64,
}

const DAY_SECONDS: i64 = 86_400;

/// Reads a day or a time (RFC 3339).
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(day) = text.parse::<jiff::civil::Date>()
        && text.len() == "2026-03-05".len()
    {
        let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
        let first = midnight.timestamp().as_second();
        return Ok(Moment { first, last: first + DAY_SECONDS - 1 });
    }
    let at: jiff::Timestamp =
        text.parse().map_err(|_| "write a day like `2026-03-05` or a time like `2026-03-05T14:00:00Z`".to_owned())?;
    Ok(Moment { first: at.as_second(), last: at.as_second() })
}

impl Span {
    /// # Errors
    /// It ends before it begins.
    pub fn of(at: Option<Moment>, from: Option<Moment>, to: Option<Moment>, now: i64) -> Result<Self> {
        let span = match (at, from, to) {
            (Some(at), ..) => Self { from: Some(at.first), to: at.last },
            (None, None, None) => Self { from: Some(now), to: now },
            (None, from, to) => Self { from: from.map(|from| from.first), to: to.map_or(now, |to| to.last) },
        };
        ensure!(
            span.from.is_none_or(|from| from <= span.to),
            "the span ends before it begins: swap `--from` and `--to`"
        );
        Ok(span)
    }

    /// What it has in common with the time from `from` until before `until`.
    pub fn meet(self, from: i64, until: Option<i64>) -> Option<(i64, i64)> {
        let from = self.from.map_or(from, |own| own.max(from));
        let to = until.map_or(self.to, |until| self.to.min(until - 1));
        (from <= to).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_times_are_seconds() {
        let day = moment("1970-01-02").unwrap();
        assert_eq!((day.first, day.last), (86_400, 172_799));
        for (text, at) in [("1970-01-01T00:00:05Z", 5), ("1970-01-01T01:00:05+01:00", 5), ("1970-01-01T00:00:05.9Z", 5)]
        {
            assert_eq!(moment(text), Ok(Moment { first: at, last: at }), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-02-30", "2026-03-05T14:00:00", "1772000000"] {
            assert!(moment(text).unwrap_err().contains("write a day"), "{text}");
        }
    }

    #[test]
    fn a_span_has_a_beginning_and_an_end() {
        let day = |text| Some(moment(text).unwrap());
        let of = |at, from, to| Span::of(at, from, to, 1_000_000).map(|span| (span.from, span.to)).ok();
        assert_eq!(of(None, None, None), Some((Some(1_000_000), 1_000_000)));
        assert_eq!(of(day("1970-01-02"), None, None), Some((Some(86_400), 172_799)));
        assert_eq!(of(None, day("1970-01-02"), None), Some((Some(86_400), 1_000_000)));
        assert_eq!(of(None, None, day("1970-01-02")), Some((None, 172_799)));
        assert_eq!(of(None, day("1970-01-03"), day("1970-01-02")), None);
        assert_eq!(of(None, day("1970-01-02"), day("1970-01-02")), Some((Some(86_400), 172_799)));
    }

    #[test]
    fn what_spans_have_in_common() {
        let span = Span { from: Some(10), to: 20 };
        assert_eq!(span.meet(5, Some(10)), None);
        assert_eq!(span.meet(5, Some(11)), Some((10, 10)));
        assert_eq!(span.meet(15, None), Some((15, 20)));
        assert_eq!(span.meet(20, None), Some((20, 20)));
        assert_eq!(span.meet(21, None), None);
        assert_eq!(Span { from: None, to: 20 }.meet(5, None), Some((5, 20)));
    }
}
