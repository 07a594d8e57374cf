//! The cancellation threshold: decides when there are too many failures.

use crate::model::delivery::{Crossing, Threshold, ThresholdScope};
use crate::model::outcome::Counts;

/// The counts that a threshold is judged over.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub job: &'a Counts,
    pub batch: &'a Counts,
    /// The batch, from 0.
    pub batch_index: u32,
    /// Failed devices that do not count: of the job, and of the batch.
    pub excused: u64,
    pub excused_in_batch: u64,
}

/// Returns the number of failures that may still happen without crossing; 0 when the next one crosses, `None` without a
/// threshold.
pub fn failures_left(threshold: Option<Threshold>, scope: Scope<'_>) -> Option<u64> {
    let threshold = threshold?;
    let (total, failed) = in_scope(threshold, scope);
    Some(threshold.allowed(total).saturating_sub(failed))
}

/// Returns the crossing when the failures are strictly above the threshold.
pub fn judge(threshold: Option<Threshold>, scope: Scope<'_>) -> Option<Crossing> {
    let threshold = threshold?;
    let (total, failed) = in_scope(threshold, scope);
    let allowed = threshold.allowed(total);
    let batch = match threshold.per {
        ThresholdScope::Job => None,
        ThresholdScope::Batch => Some(scope.batch_index),
    };
    (failed > allowed).then_some(Crossing { threshold, failed, allowed, total, batch })
}

/// Returns the devices in scope, and how many of them have failed in a way that counts.
fn in_scope(threshold: Threshold, scope: Scope<'_>) -> (u64, u64) {
    let (counts, excused) = match threshold.per {
        ThresholdScope::Job => (scope.job, scope.excused),
        ThresholdScope::Batch => (scope.batch, scope.excused_in_batch),
    };
    (counts.total, counts.failed - excused)
}
