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
}

/// Returns the number of failures that may still happen without crossing; 0 when the next one crosses, `None` without a
/// threshold.
pub fn failures_left(threshold: Option<Threshold>, scope: Scope<'_>) -> Option<u64> {
    let threshold = threshold?;
    let counts = counts_in_scope(threshold, scope);
    Some(threshold.allowed(counts.total).saturating_sub(counts.failed))
}

/// Returns the crossing when the failures are strictly above the threshold.
pub fn judge(threshold: Option<Threshold>, scope: Scope<'_>) -> Option<Crossing> {
    let threshold = threshold?;
    let counts = counts_in_scope(threshold, scope);
    let allowed = threshold.allowed(counts.total);
    let batch = match threshold.per {
        ThresholdScope::Job => None,
        ThresholdScope::Batch => Some(scope.batch_index),
    };
    (counts.failed > allowed).then_some(Crossing {
        threshold,
        failed: counts.failed,
        allowed,
        total: counts.total,
        batch,
    })
}

fn counts_in_scope<'a>(threshold: Threshold, scope: Scope<'a>) -> &'a Counts {
    match threshold.per {
        ThresholdScope::Job => scope.job,
        ThresholdScope::Batch => scope.batch,
    }
}
