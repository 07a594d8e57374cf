//! When a device is tried again: exponential backoff with seeded jitter, so that the same run waits the same times.

use std::time::Duration;

use crate::model::backoff::{doubled, drawn};
use crate::model::delivery::Retry;
use crate::model::limits;

/// Returns the pause before attempt `attempt` (2 is the first retry) of a device: the backoff doubled for each further
/// retry, plus up to half of it, chosen by the seed, the device and the attempt; at most [`limits::DURATION_MAX`].
pub fn pause(retry: Retry, seed: u64, ordinal: u32, attempt: u32) -> Duration {
    let base = doubled(retry.backoff, attempt.saturating_sub(2), limits::DURATION_MAX);
    let parts = [seed.to_string(), ordinal.to_string(), attempt.to_string()];
    let jitter = base.mul_f64(drawn(parts.iter().map(String::as_str)) / 2.0);
    (base + jitter).min(limits::DURATION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_within_their_jitter() {
        let retry = Retry { attempts: 9, backoff: Duration::from_secs(10) };
        for (attempt, base) in [(2, 10), (3, 20), (4, 40)] {
            let chosen = pause(retry, 7, 3, attempt);
            assert!(chosen >= Duration::from_secs(base) && chosen < Duration::from_secs(base + base / 2), "{chosen:?}");
            assert_eq!(chosen, pause(retry, 7, 3, attempt));
        }
        assert_eq!(pause(Retry { attempts: 99, backoff: limits::DURATION_MAX }, 1, 1, 99), limits::DURATION_MAX);
    }
}
