//! The batches of a run that goes on, as the journal counts their outcomes.

use super::OpsError;
use super::history::History;
use crate::ledger::RunRecord;
use crate::model::outcome::Counts;
use crate::registry::{JournaledRun, OutcomeCount};

impl History<'_> {
    /// Returns how far each batch of a run is.
    pub(super) fn batches(&self, run: &JournaledRun) -> Result<Vec<Counts>, OpsError> {
        let total = u64::from(run.total);
        let of_batch = |batch: u64| {
            let range = run.sizes.range(batch, total);
            Counts { total: range.end - range.start, ..Counts::default() }
        };
        let mut batches: Vec<Counts> = (0..run.sizes.count(total)).map(of_batch).collect();
        for OutcomeCount { batch, reason, devices } in self.view.registry.journal().outcome_counts(run.run_id)? {
            if let Some(counts) = usize::try_from(batch).ok().and_then(|batch| batches.get_mut(batch)) {
                counts.add_all(reason, devices);
            }
        }
        Ok(batches)
    }

    /// Returns true when no device of the open batch of a run is left but those that are waited for.
    pub(super) fn only_waits(&self, record: &RunRecord, waiting: u64) -> bool {
        let batches = || self.batches(&self.journal_of(record).ok()??).ok();
        let open = |batches: Vec<Counts>| batches.iter().map(Counts::pending).find(|pending| *pending > 0);
        waiting > 0 && batches().and_then(open) == Some(waiting)
    }
}
