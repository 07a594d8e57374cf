//! How the devices of a job are reached.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AmountText, DurationText};

/// How the devices are reached.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// When a property job counts a device as completed: `written` (default) or `acknowledged` by the device.
    pub confirm: Option<Confirm>,
    /// How many devices at once: a number or a percentage of the job's devices. Default: all, in one batch.
    pub batch_size: Option<AmountText>,
    /// How many devices the first batch has, before the others are of `batchSize`. Default: as many as the others.
    #[schemars(range(min = 1), example = 10)]
    pub canary: Option<u64>,
    /// More failures than this cancel the job. Default: failures never cancel it.
    pub cancellation_threshold: Option<Threshold>,
    /// What happens to a device that is not connected: `fail` (default), or `wait` until `expiresAfter`.
    pub offline: Option<Offline>,
    /// How long a device is waited for. Default: `24h`.
    #[schemars(example = &"24h")]
    pub expires_after: Option<DurationText>,
    /// Further attempts after a timeout or when a device is offline. Default: none.
    pub retry: Option<Retry>,
    /// The longest that the job may run. Default: no limit.
    #[schemars(example = &"8h")]
    pub max_execution_time: Option<DurationText>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Confirm {
    Written,
    Acknowledged,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Offline {
    Fail,
    Wait,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ThresholdScope {
    Job,
    Batch,
}

/// The number of failures above which a job is canceled.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Threshold {
    /// A number of devices or a percentage; one more than this cancels, so 0 means the first failure.
    pub failures: AmountText,
    /// What the failures are counted over: the `job` (default) or each `batch`.
    pub per: Option<ThresholdScope>,
}

/// Further attempts after a timeout or when a device is offline.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts after the first, 0 to 100. Default: 0.
    #[schemars(range(min = 0, max = 100), example = 3)]
    pub attempts: Option<u32>,
    /// The pause before the second attempt; it doubles with each further one. Default: `30s`.
    pub backoff: Option<DurationText>,
}
