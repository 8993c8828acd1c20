//! Trying again until a deadline: only what may pass by itself, never a refusal.

use super::failure::Failure;
use crate::net::Later;
use std::time::{Duration, Instant};

/// Time and chance, so that tests have neither.
pub trait Pace: Sync {
    fn now(&self) -> Instant;
    fn sleep(&self, time: Duration) -> Later<'_, ()>;
    /// From 0 up to 1.
    fn random(&self) -> f64;
}

/// The system's.
pub struct RealPace;

impl Pace for RealPace {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn sleep(&self, time: Duration) -> Later<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
    fn random(&self) -> f64 {
        let mut random = [0; 4];
        // Without chance all wait as long as the longest: no reason to fail.
        match aws_lc_rs::rand::fill(&mut random) {
            Ok(()) => f64::from(u32::from_be_bytes(random)) / (f64::from(u32::MAX) + 1.0),
            Err(_) => 1.0,
        }
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(8);
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
const ATTEMPT_MIN: Duration = Duration::from_millis(1);

/// Runs `attempt`, with the time that it may take, until it ends for good or time is up.
///
/// # Errors
/// The first that no other try helps; or the last before the deadline.
pub async fn persist<T>(
    pace: &dyn Pace,
    deadline: Instant,
    mut attempt: impl AsyncFnMut(Duration) -> Result<T, Failure>,
) -> Result<T, Failure> {
    for tries in 1.. {
        let left = deadline.saturating_duration_since(pace.now());
        let failure = match attempt(left.clamp(ATTEMPT_MIN, ATTEMPT_MAX)).await {
            Err(failure) if failure.again.is_some() => failure,
            ended => return ended,
        };
        let wait = wait(tries, failure.again.unwrap_or_default(), pace.random());
        if pace.now() + wait >= deadline {
            let word = if tries == 1 { "try" } else { "tries" };
            let text = format!("{}. Given up after {tries} {word}", failure.text);
            return Err(Failure { text, ..failure });
        }
        pace.sleep(wait).await;
    }
    unreachable!("tries are counted without end")
}

/// Half of the wait is chance, so that a matrix of jobs does not come back together; never before `Retry-After`.
fn wait(tries: u32, retry_after: Duration, random: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10)).min(WAIT_MAX);
    retry_after + full.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::client::failure::Kind;
    use std::sync::Mutex;

    /// Time that passes where somebody sleeps, and no chance.
    pub struct StillPace(pub Mutex<(Instant, Vec<Duration>)>);

    impl StillPace {
        pub fn still() -> Self {
            Self(Mutex::new((Instant::now(), Vec::new())))
        }
        pub fn slept(&self) -> Vec<Duration> {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl Pace for StillPace {
        fn now(&self) -> Instant {
            self.0.lock().unwrap().0
        }
        fn sleep(&self, time: Duration) -> Later<'_, ()> {
            let mut own = self.0.lock().unwrap();
            own.0 += time;
            own.1.push(time);
            Box::pin(std::future::ready(()))
        }
        fn random(&self) -> f64 {
            0.0
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_until_the_deadline_and_a_refusal_once() {
        let pace = StillPace::still();
        let deadline = pace.now() + Duration::from_secs(10);
        let mut tries = 0;
        let failed = persist(&pace, deadline, async |left| {
            tries += 1;
            assert!(left <= Duration::from_secs(10));
            Err::<(), _>(Failure::passing("broker_unreachable", "It is away"))
        });
        let failure = failed.await.unwrap_err();
        assert_eq!((failure.text.as_str(), failure.kind), ("It is away. Given up after 6 tries", Kind::Unavailable));
        assert_eq!(tries, 6);
        let slept: Vec<u128> = pace.slept().iter().map(Duration::as_millis).collect();
        assert_eq!(slept, [250, 500, 1000, 2000, 4000]);

        let failed = persist(&pace, deadline + Duration::from_secs(60), async |_| {
            Err::<(), _>(Failure::new(Kind::Refused, "no_mapping", "No"))
        });
        assert_eq!(failed.await.unwrap_err().text, "No");
    }

    #[test]
    fn a_wait_is_never_shorter_than_the_server_asks() {
        assert_eq!(wait(1, Duration::from_secs(30), 0.0), Duration::from_millis(30_250));
        assert_eq!(wait(40, Duration::ZERO, 1.0), WAIT_MAX);
    }
}
