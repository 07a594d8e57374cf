//! How many devices of each batch have an outcome, by reason: counted as outcomes are written, in the same transaction.

use std::collections::BTreeMap;

use crate::model::delivery::BatchSizes;
use crate::model::outcome::Reason;

/// Devices of one batch of a run that have an outcome for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeCount {
    /// From 0.
    pub batch: u64,
    pub reason: Reason,
    /// At least 1.
    pub devices: u64,
}

/// Counts the outcomes of all runs after rows were copied. The statement is the same for every store.
pub(super) fn count_all() -> String {
    count("")
}

/// Counts the outcomes of a run of a number, which is the parameter `run_id`.
pub(super) fn count_run(run_id: &str) -> String {
    count(&format!("AND r.run_id = {run_id}"))
}

fn count(which: &str) -> String {
    format!(
        "INSERT INTO outcome_count (run_id, batch, reason, devices)
         SELECT o.run_id,
                CASE WHEN o.ordinal < coalesce(r.first_batch, r.batch_size) THEN 0
                     ELSE 1 + (o.ordinal - coalesce(r.first_batch, r.batch_size)) / r.batch_size END,
                o.reason, count(*)
           FROM outcome AS o JOIN run AS r ON r.run_id = o.run_id
          WHERE r.batch_size > 0 {which}
          GROUP BY 1, 2, 3"
    )
}

/// The outcomes of a run that one transaction writes.
#[derive(Debug)]
pub(super) struct Written {
    /// `None` for a run that is not journaled, of which nothing is counted.
    sizes: Option<BatchSizes>,
    counts: BTreeMap<(u64, Reason), u64>,
}

impl Written {
    pub fn new(sizes: Option<BatchSizes>) -> Written {
        Written { sizes, counts: BTreeMap::new() }
    }

    pub fn add(&mut self, ordinal: u32, reason: Reason) {
        if let Some(sizes) = self.sizes {
            *self.counts.entry((sizes.batch_of(u64::from(ordinal)), reason)).or_default() += 1;
        }
    }

    pub fn counts(&self) -> impl Iterator<Item = OutcomeCount> {
        self.counts.iter().map(|((batch, reason), devices)| OutcomeCount {
            batch: *batch,
            reason: *reason,
            devices: *devices,
        })
    }
}
