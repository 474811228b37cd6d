//! Trying again while a peer is overloaded or away.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use dhtctl::Error;
use tokio::time::Instant;

/// Guesses: the first wait is a few round trips of a local network, the longest about the time in which a ring
/// notices that a peer has died.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Repeats `attempt`, which is told the time it has left, until it succeeds, fails for good, or the deadline is near.
///
/// Only for what may be done twice.
pub(crate) async fn until<T, F>(deadline: Instant, attempt: impl Fn(Duration) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        let error = match attempt(deadline.saturating_duration_since(Instant::now())).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let pause = error.retry_after().unwrap_or_default().max(wait.mul_f64(jitter()));
        if !error.is_transient() || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Between 0.5 and 1, so that writers that were refused together don't come back together. The standard library seeds
/// each `RandomState` anew, which is random enough for this.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0) >> 32;
    0.5 + random as f64 / (1_u64 << 33) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_range_and_varies() {
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|value| (0.5..1.0).contains(value)));
        assert!(drawn.iter().any(|value| (value - drawn[0]).abs() > 0.01));
    }
}
