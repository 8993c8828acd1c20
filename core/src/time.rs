//! Seconds, and the one leeway.

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct UnixSeconds(pub i64);

/// A span of time in seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Seconds(pub u32);

/// Clock difference forgiven in `exp`, `iat` and `nbf`. The single-use record of a token must outlive `exp`
/// by this and more ([`SINGLE_USE_MARGIN_SECONDS`]), or a replay window opens.
pub const LEEWAY_SECONDS: i64 = 60;

/// How long after `exp` the single-use record of a token is kept.
pub const SINGLE_USE_MARGIN_SECONDS: i64 = 300;
const _: () = assert!(SINGLE_USE_MARGIN_SECONDS > LEEWAY_SECONDS);

/// The only source of "now"; tests hold it in their hand.
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> UnixSeconds;
}

impl UnixSeconds {
    /// `self` moved by `seconds`, which may be negative; saturates.
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
    /// Date and time at UTC as RFC 3339 writes them; years beyond 9999 have more digits.
    pub fn rfc3339(self) -> String {
        let (days, clock) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Days since 0000-03-01, in eras of 400 years: the leap day is the last of its year.
        let days = days + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::UnixSeconds;

    #[test]
    fn dates_are_written_as_people_read_them() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_830_211_200, "2027-12-31T00:00:00Z"),
        ] {
            assert_eq!(UnixSeconds(at).rfc3339(), text);
        }
    }
}
