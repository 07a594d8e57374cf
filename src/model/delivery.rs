//! How a job reaches its devices: batches, threshold, waiting and retries. Arithmetic only, in integers.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A number of devices, or a whole percentage (0 to 100) of the devices in scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Count(u64),
    Percent(u8),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Amount {
    /// Returns the size of a batch for a job of `total` devices: a percentage is rounded up, and it is at least 1.
    pub fn batch_size(self, total: u64) -> u64 {
        match self {
            Amount::Count(count) => count.max(1),
            Amount::Percent(percent) => (u64::from(percent) * total).div_ceil(100).max(1),
        }
    }
}

/// What the failures are counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdScope {
    Job,
    Batch,
}

/// The number of failures above which a job is canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub failures: Amount,
    pub per: ThresholdScope,
}

/// A threshold that was crossed, with the numbers behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    pub threshold: Threshold,
    pub failed: u64,
    pub allowed: u64,
    /// Devices in scope, fixed at the claim.
    pub total: u64,
    /// The batch, from 0, when the scope is a batch.
    pub batch: Option<u32>,
}

impl ThresholdScope {
    /// Returns the word of the `per` field.
    pub fn as_str(self) -> &'static str {
        match self {
            ThresholdScope::Job => "job",
            ThresholdScope::Batch => "batch",
        }
    }

    /// Returns the scope of a word, or `None`.
    pub fn parse(word: &str) -> Option<ThresholdScope> {
        [ThresholdScope::Job, ThresholdScope::Batch].into_iter().find(|scope| scope.as_str() == word)
    }
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} devices", self.failed, self.total)?;
        if let Some(batch) = self.batch {
            write!(f, " of batch {}", batch + 1)?;
        }
        let (allowed, per) = (self.allowed, self.threshold.per.as_str());
        write!(f, " failed, and at most {allowed} may (threshold: {} per {per})", self.threshold.failures)
    }
}

impl Threshold {
    /// Returns the most failures that a scope of `total` devices may have without crossing.
    ///
    /// A number `t` is crossed when `f > t`, a percentage `p` when `100 * f > p * n`, so the answer is
    /// `floor(p * n / 100)`: strictly above cancels, as IoT Central documents it ("exceeds").
    pub fn allowed(self, total: u64) -> u64 {
        match self.failures {
            Amount::Count(count) => count,
            Amount::Percent(percent) => u64::from(percent) * total / 100,
        }
    }
}

/// When a property job counts a device as completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// The registry has the new desired value; an offline device gets it when it connects.
    Written,
    /// The device has acknowledged the value.
    Acknowledged,
}

/// What happens to a device that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfflinePolicy {
    /// It fails with reason `offline` once the connect timeout has passed.
    Fail,
    /// It waits until `expires_after`, then fails with reason `expired`.
    Wait,
}

/// Further attempts after `timeout` or `offline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first; 0 means none.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each further one.
    pub backoff: Duration,
}

/// The delivery options of a job, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub confirm: Confirm,
    /// `None` means one batch.
    pub batch_size: Option<Amount>,
    /// Devices of the first batch, at least 1; `None` means as many as of the others.
    pub canary: Option<u64>,
    /// `None` means that failures never cancel the job.
    pub threshold: Option<Threshold>,
    pub offline: OfflinePolicy,
    pub expires_after: Duration,
    pub retry: Retry,
    /// `None` means no limit.
    pub max_execution_time: Option<Duration>,
}

impl Delivery {
    /// Returns the sizes of the batches of a job of `total` devices.
    pub fn batch_sizes(&self, total: u64) -> BatchSizes {
        let size = self.batch_size.map_or(total.max(1), |size| size.batch_size(total));
        BatchSizes { first: self.canary.map_or(size, |canary| canary.max(1)), size }
    }
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            confirm: Confirm::Written,
            batch_size: None,
            canary: None,
            threshold: None,
            offline: OfflinePolicy::Fail,
            expires_after: Duration::from_secs(24 * 3600),
            retry: Retry { attempts: 0, backoff: Duration::from_secs(30) },
            max_execution_time: None,
        }
    }
}

/// The sizes of the batches that a sorted list of devices is cut into. The last batch may have fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSizes {
    /// Devices of the first batch, at least 1.
    pub first: u64,
    /// Devices of each other batch, at least 1.
    pub size: u64,
}

impl BatchSizes {
    /// Returns the number of batches of `total` devices; 0 without devices.
    pub fn count(self, total: u64) -> u64 {
        if total == 0 { 0 } else { 1 + total.saturating_sub(self.first).div_ceil(self.size) }
    }

    /// Returns the places of the devices of a batch, which counts from 0; empty beyond the last.
    pub fn range(self, batch: u64, total: u64) -> Range<u64> {
        let end = self.first.saturating_add(self.size.saturating_mul(batch)).min(total);
        let start = match batch {
            0 => 0,
            later => self.first.saturating_add(self.size.saturating_mul(later - 1)).min(total),
        };
        start..end
    }

    /// Returns the batch, from 0, of the device at a place.
    pub fn batch_of(self, place: u64) -> u64 {
        place.checked_sub(self.first).map_or(0, |later| 1 + later / self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_round_up() {
        let check = |amount: Amount, total: u64, expect: u64| assert_eq!(amount.batch_size(total), expect);
        check(Amount::Percent(10), 1240, 124);
        check(Amount::Percent(10), 1241, 125);
        check(Amount::Percent(1), 7, 1);
        check(Amount::Percent(0), 7, 1);
        check(Amount::Percent(100), 7, 7);
        check(Amount::Count(3), 7, 3);
        check(Amount::Percent(10), 0, 1);
    }

    #[test]
    fn a_canary_is_cut_first() {
        let canary = Delivery { canary: Some(10), batch_size: Some(Amount::Percent(25)), ..Delivery::default() };
        let sizes = canary.batch_sizes(100);
        assert_eq!(sizes.count(100), 5);
        let ranges: Vec<Range<u64>> = (0..5).map(|batch| sizes.range(batch, 100)).collect();
        assert_eq!(ranges, [0..10, 10..35, 35..60, 60..85, 85..100]);
        // Without a batch size the others are one batch, and a canary may be the whole.
        let rest = Delivery { batch_size: None, ..canary };
        assert_eq!((rest.batch_sizes(100).count(100), rest.batch_sizes(100).range(1, 100)), (2, 10..100));
        assert_eq!((rest.batch_sizes(7).count(7), rest.batch_sizes(7).range(0, 7)), (1, 0..7));
        for (first, size, total) in [(1, 1, 9), (3, 4, 23), (4, 4, 24), (9, 2, 5), (5, 3, 0)] {
            let sizes = BatchSizes { first, size };
            let cut: Vec<u64> = (0..sizes.count(total)).flat_map(|batch| sizes.range(batch, total)).collect();
            assert_eq!(cut, (0..total).collect::<Vec<u64>>());
            for batch in 0..sizes.count(total) {
                assert!(sizes.range(batch, total).all(|place| sizes.batch_of(place) == batch));
            }
            assert!(sizes.range(sizes.count(total), total).is_empty());
        }
    }

    #[test]
    fn a_threshold_is_crossed_strictly_above() {
        let check = |failures: Amount, total: u64, expect: u64| {
            assert_eq!(Threshold { failures, per: ThresholdScope::Job }.allowed(total), expect);
        };
        check(Amount::Count(0), 10, 0);
        check(Amount::Percent(5), 1240, 62);
        check(Amount::Percent(33), 10, 3);
        check(Amount::Percent(99), 200, 198);
        check(Amount::Percent(100), 7, 7);
        check(Amount::Percent(0), 7, 0);
    }
}
