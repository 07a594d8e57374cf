//! Exponential backoff: pauses that double, with a part of them drawn.
//!
//! The draw is a digest and no random number, so that a simulation draws what it drew before.

use std::time::Duration;

use super::digest::Digest;

/// Returns `first`, doubled for each failure after the first, at most `longest`. `failures` counts from 0.
pub fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(31)).min(longest)
}

/// Returns a number from 0 to below 1 in steps of a thousandth, drawn by some words.
pub fn drawn<'a>(words: impl IntoIterator<Item = &'a str>) -> f64 {
    (Digest::of_texts(words).seed() % 1_000) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let of = |failures| doubled(Duration::from_secs(1), failures, Duration::from_secs(60)).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 31, u32::MAX].map(of), [1, 2, 4, 32, 60, 60, 60]);
        assert!((0..100).map(|n: u32| drawn([n.to_string().as_str()])).all(|share| (0.0..1.0).contains(&share)));
    }
}
