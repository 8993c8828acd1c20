//! What operators may know of issuers' keys.

use super::{Entry, KeyTimes, State, pinned::Left};
use claimbound_core::time::UnixSeconds;

/// How an issuer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// Its keys are fresh.
    Ok,
    /// The last look for its keys failed; the good ones before it are still believed.
    Stale,
    /// Its pinned keys end soon.
    Expiring,
    /// No keys are believed: its tokens are answered 503.
    Down,
    /// Cut off by an operator: its tokens are refused.
    Disabled,
}

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Stale, Self::Expiring, Self::Down, Self::Disabled];

    /// As health and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Expiring => "expiring",
            Self::Down => "down",
            Self::Disabled => "disabled",
        }
    }
}

/// The state of one issuer's keys, for health and metrics.
#[derive(Clone, Debug)]
pub struct KeyHealth {
    pub issuer: String,
    pub state: KeyState,
    pub keys: usize,
    /// Keys of its set that are not used (`kid` or position, why).
    pub ignored: Vec<(String, String)>,
    /// The last good look.
    pub fetched: Option<UnixSeconds>,
    /// From then on the keys that are held are not believed any more.
    pub believed_until: Option<UnixSeconds>,
    pub last_error: Option<String>,
    /// Looks that failed since the start.
    pub failures: u64,
    /// The file that its keys are pinned in, and what to say of its end.
    pub pinned: Option<String>,
    pub warning: Option<String>,
    pub denied_kids: Vec<String>,
}

impl Entry {
    pub(super) fn standing(&self, state: &State, times: &KeyTimes, now: UnixSeconds) -> KeyState {
        let left = self.config.pin.as_ref().map(|pin| pin.left(now));
        if self.config.cut.disabled {
            KeyState::Disabled
        } else if now > self.believed_until(state, times) {
            KeyState::Down
        } else if state.error.is_some() {
            KeyState::Stale
        } else if left == Some(Left::Little) {
            KeyState::Expiring
        } else {
            KeyState::Ok
        }
    }

    pub(super) fn health(&self, times: &KeyTimes, now: UnixSeconds) -> KeyHealth {
        let state = super::lock(&self.slot.state);
        let config = &self.config;
        KeyHealth {
            issuer: config.name.clone(),
            state: self.standing(&state, times, now),
            keys: state.keys.len(),
            ignored: state.ignored.clone(),
            fetched: state.fetched,
            believed_until: state.fetched.map(|_| self.believed_until(&state, times)),
            last_error: state.error.clone(),
            failures: state.failures,
            pinned: config.pin.as_ref().map(|pin| pin.file.display().to_string()),
            warning: config.pin.as_ref().and_then(|pin| pin.warning(now)),
            denied_kids: config.cut.kids.iter().cloned().collect(),
        }
    }
}
