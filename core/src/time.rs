//! Seconds, and the one leeway.

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixSeconds(pub i64);

/// A span of time in seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
}
