//! Families of renewals: what the job of one subject token goes on with, from its first lease until its session is over.
//!
//! Each refresh token is good for one turn, and gives the next one. All tokens of a family share a secret, so that one
//! that has had its turn is known for what it is: somebody holds a copy. The one exception is a job whose answer was
//! lost: it may ask again once, soon, and as long as nobody used what it was sent (RFC 9700 section 4.14.2).

use super::Blocked;
use claimbound_core::{evidence::LeaseId, time::UnixSeconds};

/// How long after its turn a refresh token may come once more.
pub const GRACE_SECONDS: i64 = 30;

/// A family. All but its turns stays as it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Family {
    /// The lease that began it.
    pub id: LeaseId,
    /// SHA-256 of the secret that all of its refresh tokens share.
    pub secret: [u8; 32],
    /// Single-use key of the subject token that began it.
    pub token: [u8; 32],
    pub role: String,
    pub opened: UnixSeconds,
    /// When the session is over.
    pub expires: UnixSeconds,
    pub turns: Turns,
}

/// Whose turn it is. Tokens as the SHA-256 of what is theirs alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turns {
    pub current: [u8; 32],
    /// Had the last turn, and has not come again.
    pub previous: Option<[u8; 32]>,
    /// When that was.
    pub since: UnixSeconds,
    pub ended: bool,
}

/// A token's turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub family: LeaseId,
    /// The token that is presented.
    pub token: [u8; 32],
    /// The one that comes next.
    pub next: [u8; 32],
    pub at: UnixSeconds,
}

impl Turns {
    /// Of a family that is opened.
    pub fn first(token: [u8; 32], at: UnixSeconds) -> Self {
        Self { current: token, previous: None, since: at, ended: false }
    }

    /// What the token's turn makes of them, in a session that is over at `expires`.
    ///
    /// # Errors
    /// [`Blocked::FamilyEnded`], or [`Blocked::Reused`] if it has had its turn.
    pub fn take(&self, turn: &Turn, expires: UnixSeconds) -> Result<Self, Blocked> {
        if self.ended || turn.at >= expires {
            return Err(Blocked::FamilyEnded);
        }
        if turn.token == self.current {
            return Ok(Self { current: turn.next, previous: Some(self.current), since: turn.at, ended: false });
        }
        // Its successor is still the current one: nobody used that. Coming once more takes the right to come again.
        if self.previous == Some(turn.token) && turn.at.0.saturating_sub(self.since.0) <= GRACE_SECONDS {
            return Ok(Self { current: turn.next, previous: None, ..*self });
        }
        Err(Blocked::Reused)
    }

    /// As if the turn had not been taken, unless what it gave was used: surely nothing was minted for it.
    pub fn give_back(&self, turn: &Turn) -> Self {
        if self.current == turn.next { Self { current: turn.token, previous: None, ..*self } } else { *self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);
    const END: UnixSeconds = UnixSeconds(5_000);

    fn turn(token: u8, next: u8, after: i64) -> Turn {
        Turn { family: LeaseId(1), token: [token; 32], next: [next; 32], at: NOW.plus(after) }
    }

    fn turns() -> Turns {
        Turns::first([1; 32], NOW).take(&turn(1, 2, 100), END).expect("its turn")
    }

    #[test]
    fn each_token_has_one_turn() {
        let turns = turns().take(&turn(2, 3, 200), END).expect("its turn");
        for (token, after) in [(1, 200), (1, 500), (9, 200)] {
            assert_eq!(turns.take(&turn(token, 4, after), END), Err(Blocked::Reused), "{token}");
        }
        assert!(turns.take(&turn(3, 4, 4_000 - 1), END).is_ok());
        assert_eq!(turns.take(&turn(3, 4, 4_000), END), Err(Blocked::FamilyEnded), "the session is over");
        let ended = Turns { ended: true, ..turns };
        assert_eq!(ended.take(&turn(3, 4, 300), END), Err(Blocked::FamilyEnded));
    }

    #[test]
    fn whose_answer_was_lost_may_ask_once_more_and_soon() {
        assert_eq!(turns().take(&turn(1, 3, 131), END), Err(Blocked::Reused), "too late");
        for after in [100, 130, 90] {
            let again = turns().take(&turn(1, 3, after), END).expect("in time, also by a clock that is behind");
            assert_eq!(again.take(&turn(1, 4, after), END), Err(Blocked::Reused), "a third time");
            assert_eq!(again.take(&turn(2, 4, after), END), Err(Blocked::Reused), "what was lost came to somebody");
            assert!(again.take(&turn(3, 4, after), END).is_ok());
        }
    }

    #[test]
    fn a_turn_that_gave_nothing_is_had_again() {
        let taken = turn(1, 2, 100);
        let back = turns().give_back(&taken);
        assert!(back.take(&turn(1, 3, 4_000 - 1), END).is_ok(), "without a hurry");
        assert_eq!(back.take(&turn(2, 3, 100), END), Err(Blocked::Reused));
        let used = turns().take(&turn(2, 3, 100), END).expect("its turn");
        assert_eq!(used.give_back(&taken), used, "what it gave was used");
    }
}
