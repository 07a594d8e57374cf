//! Token buckets: how often something may be done, and how often at once; or how much, where it is known only later.

use std::collections::BTreeMap;
use std::time::Instant;

/// Keys that are counted: addresses, or policies.
const COUNTED_MAX: usize = 10_000;

/// How often: so many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub at_once: f64,
}

/// A bucket for each key. When there are too many keys all are forgotten.
#[derive(Debug)]
pub struct Buckets<K>(BTreeMap<K, Bucket>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K> Default for Buckets<K> {
    fn default() -> Buckets<K> {
        Buckets(BTreeMap::new())
    }
}

impl<K: Ord> Buckets<K> {
    /// Takes one of a key; false when there is none left at this time.
    pub fn take(&mut self, key: K, rate: Rate, now: Instant) -> bool {
        let left = self.left(key, rate, now);
        let has_one = *left >= 1.0;
        if has_one {
            *left -= 1.0;
        }
        has_one
    }

    /// Returns what is left of a key at this time. It may be made less, also than zero: then it is owed, and what comes
    /// pays for it first.
    pub fn left(&mut self, key: K, rate: Rate, now: Instant) -> &mut f64 {
        if self.0.len() >= COUNTED_MAX {
            self.0.clear();
        }
        let bucket = self.0.entry(key).or_insert(Bucket { left: rate.at_once, at: now });
        let come = now.saturating_duration_since(bucket.at).as_secs_f64() * rate.per_second;
        *bucket = Bucket { left: (bucket.left + come).min(rate.at_once), at: now.max(bucket.at) };
        &mut bucket.left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant is read from a clock alone")]
    fn a_burst_is_taken_and_then_what_comes() {
        let (rate, begin) = (Rate { per_second: 2.0, at_once: 5.0 }, Instant::now());
        let mut buckets = Buckets::default();
        let mut taken = |key, millis| {
            let now = begin + Duration::from_millis(millis);
            (0..100).filter(|_| buckets.take(key, rate, now)).count()
        };
        assert_eq!(taken("a", 0), 5);
        assert_eq!(taken("b", 0), 5, "another key has its own");
        assert_eq!((taken("a", 499), taken("a", 500), taken("a", 3_000)), (0, 1, 5));
        assert_eq!(taken("a", 0), 0, "a clock that goes back brings nothing");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant is read from a clock alone")]
    fn what_is_owed_is_paid_by_what_comes() {
        let (rate, begin) = (Rate { per_second: 0.5, at_once: 2.0 }, Instant::now());
        let mut buckets = Buckets::default();
        *buckets.left("a", rate, begin) -= 3.0;
        let mut left = |seconds| *buckets.left("a", rate, begin + Duration::from_secs(seconds));
        assert_eq!((left(0), left(1), left(2), left(99)), (-1.0, -0.5, 0.0, 2.0));
    }
}
