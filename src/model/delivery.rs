//! How a job reaches its devices: batches, threshold, waiting and retries. Arithmetic only, in integers.

use std::fmt;
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
    /// `None` means that failures never cancel the job.
    pub threshold: Option<Threshold>,
    pub offline: OfflinePolicy,
    pub expires_after: Duration,
    pub retry: Retry,
    /// `None` means no limit.
    pub max_execution_time: Option<Duration>,
}

impl Delivery {
    /// Returns the devices of each batch but perhaps the last, of a job of `total` devices; at least 1.
    pub fn devices_a_batch(&self, total: u64) -> u64 {
        self.batch_size.map_or(total.max(1), |size| size.batch_size(total))
    }
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            confirm: Confirm::Written,
            batch_size: None,
            threshold: None,
            offline: OfflinePolicy::Fail,
            expires_after: Duration::from_secs(24 * 3600),
            retry: Retry { attempts: 0, backoff: Duration::from_secs(30) },
            max_execution_time: None,
        }
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
