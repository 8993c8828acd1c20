//! The clock of the bench, and the only way of waiting.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks of [`eventually`].
const LOOK_EVERY_MILLISECONDS: u64 = 10;

/// Seconds since 1970, from the system's clock.
pub fn now() -> i64 {
    #[allow(clippy::disallowed_methods, reason = "the bench plays a CI system, which has a clock of its own")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("seconds fit")
}

/// Asks `probe` again and again until it answers `Some`, and panics when `deadline` has passed. The only wait in
/// tests: over something that can be observed (a metric, a record, an answer), never over time alone.
pub async fn eventually<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < deadline, "what the test waits for did not come within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MILLISECONDS)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_is_asked_until_it_answers() {
        let mut asked = 0;
        let answer = eventually(Duration::from_secs(5), async || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!(answer.await, "yes");
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "did not come")]
    async fn what_never_comes_fails_the_test() {
        eventually(Duration::from_millis(1), async || None::<()>).await;
    }
}
