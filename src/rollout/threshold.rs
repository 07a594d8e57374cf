//! The cancellation threshold: decides when there are too many failures, and says so in a sentence.

use std::fmt;

use crate::model::delivery::{Threshold, ThresholdScope};
use crate::model::outcome::Counts;

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

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} devices", self.failed, self.total)?;
        if let Some(batch) = self.batch {
            write!(f, " of batch {}", batch + 1)?;
        }
        let per = match self.threshold.per {
            ThresholdScope::Job => "job",
            ThresholdScope::Batch => "batch",
        };
        let allowed = self.allowed;
        write!(f, " failed, and at most {allowed} may (threshold: {} per {per})", self.threshold.failures)
    }
}
