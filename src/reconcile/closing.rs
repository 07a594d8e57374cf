//! Runs that end without a device: those that nothing declares any more, and those whose journal is gone.

use jiff::Timestamp;

use super::ReconcileError;
use crate::execute::{CrashPoints, publish_ended, publish_record, text_of};
use crate::ledger::{BatchRecord, RunCause, RunRecord};
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{Counts, Reason, RunStatus};
use crate::prepare::{View, records_of};
use crate::registry::{Change, JournaledRun, KeptFile, RememberedRun};

/// Closes runs at a time.
pub(super) struct Closing<'a, 'w> {
    pub view: &'a mut View<'w>,
    pub crash: &'a CrashPoints,
    pub now: Timestamp,
}

impl Closing<'_, '_> {
    /// Publishes the end that an open run has had, as the journal keeps it, and closes the run. Returns `None` when it
    /// has not ended.
    ///
    /// 1. A run ends, its end is published, and the process dies before it closes the run. 2. The branch is put back to
    ///    a commit before that. 3. The run is suspended, or its file is deleted: it has ended all the same.
    pub fn end_again(&mut self, name: &Name, run: Option<&RunToken>) -> Result<Option<RunRecord>, ReconcileError> {
        let known = (name.clone(), run.expect("a plan names the run that it stops").clone());
        let View { declared, ledger, branch, registry, .. } = &mut *self.view;
        let journal = registry.journal().find(&known.0, &known.1)?;
        let Some(JournaledRun { run_id, .. }) = journal.filter(|run| run.finished_at.is_some()) else {
            return Ok(None);
        };
        let runs = registry.branch_copy().runs()?;
        let is_final = |run: &RememberedRun| run.record.as_ref().is_some_and(|record| record.status.is_final());
        let Some(ended) = runs.into_iter().find(|run| run.run_id == run_id && is_final(run)) else { return Ok(None) };
        let key = ledger.claims.get(&known).expect("an open run is claimed").key(&declared.fleet.name);
        let published = ledger.records.get(&known).map_or_else(Default::default, |record| record.published);
        self.crash.around("publish end", || publish_ended(branch, registry, &ended, (&key, published)))?;
        registry.write(Change::Close { run_id })?;
        Ok(ended.record)
    }

    /// Notes that an open run which nothing declares any more is stopped. It can be continued by declaring it again.
    pub fn stop_undeclared(&mut self, name: &Name, run: Option<&RunToken>) -> Result<RunRecord, ReconcileError> {
        let is_it = |record: &RunRecord| record.job == *name && Some(&record.run) == run;
        let record = records_of(&self.view.ledger).into_iter().find(is_it).expect("an open run has a record");
        let journal = self.view.registry.journal().find(&record.job, &record.run)?.expect("an open run is journaled");
        let cause = RunCause::Undeclared;
        let reason = Some(cause.to_string());
        let (run_id, status) = (journal.run_id, RunStatus::Stopped);
        self.view.registry.write(Change::End { run_id, status, reason: reason.as_deref(), at: self.now })?;
        let per_batch = self.batches_of(&journal)?;
        let record = RunRecord {
            status: RunStatus::Stopped,
            reason,
            cause: Some(cause),
            started_at: journal.started_at,
            per_batch,
            ..record
        };
        let claim =
            self.view.ledger.claims.get(&(record.job.clone(), record.run.clone())).expect("an open run is claimed");
        let key = claim.key(&self.view.declared.fleet.name);
        let text = text_of(&record);
        self.view.registry.write(Change::KeepRecord { run_id, record: &text, devices: None })?;
        self.crash.around("publish", || publish_record(&self.view.branch, &key, &record))?;
        Ok(record)
    }

    /// Returns the batches of a run with the counts that the journal has now.
    fn batches_of(&self, run: &JournaledRun) -> Result<Vec<BatchRecord>, ReconcileError> {
        let total = u64::from(run.total);
        let ranges = (0..run.sizes.count(total)).map(|batch| run.sizes.range(batch, total));
        let mut batches: Vec<Counts> =
            ranges.map(|range| Counts { total: range.end - range.start, ..Counts::default() }).collect();
        self.view.registry.journal().each_outcome(run.run_id, &mut |ordinal, reason, _| {
            let batch = usize::try_from(run.sizes.batch_of(u64::from(ordinal))).unwrap_or(usize::MAX);
            if let Some(batch) = batches.get_mut(batch) {
                batch.add(reason);
            }
        })?;
        Ok(batches.into_iter().map(|counts| BatchRecord { counts }).collect())
    }

    /// Closes a run whose journal is gone: what is on the branch stays, the rest is unknown, nothing is sent.
    pub fn close_lost(&mut self, name: &Name, run: Option<&RunToken>) -> Result<RunRecord, ReconcileError> {
        let key = (name.clone(), run.expect("a plan names the run that it closes").clone());
        let ledger = &self.view.ledger;
        let claim = ledger.claims.get(&key).expect("a lost run is claimed");
        let known = ledger.records.get(&key);
        let run_key = claim.key(&self.view.declared.fleet.name);
        // The record is committed with the shards that it counts, so it knows of devices that have no row too.
        let mut counts = match known {
            Some(known) => known.counts,
            None => Counts { total: claim.total, ..Counts::default() },
        };
        let unknown = counts.pending();
        for _ in 0..unknown {
            counts.add(Reason::OutcomeUnknown);
        }
        let cause = RunCause::JournalLost { unknown, total: claim.total };
        let record = RunRecord {
            status: RunStatus::Failed,
            reason: Some(cause.to_string()),
            cause: Some(cause),
            counts,
            started_at: known.and_then(|record| record.started_at),
            finished_at: Some(self.now),
            per_batch: known.map_or_else(Vec::new, |record| record.per_batch.iter().map(all_unknown).collect()),
            published: known.map_or_else(Default::default, |record| record.published),
            late: known.map_or(0, |record| record.late),
            ..RunRecord::of_claim(claim)
        };
        let file = KeptFile {
            path: format!("{}/run.json", run_key.results_folder()),
            content: text_of(&record).into_bytes(),
            blob_id: None,
        };
        self.view.registry.keep_files::<ReconcileError>(std::iter::once(Ok(file)))?;
        self.crash.around("publish", || publish_record(&self.view.branch, &run_key, &record))?;
        Ok(record)
    }
}

/// Returns the counts of a batch when what became of its pending devices is not known.
fn all_unknown(batch: &BatchRecord) -> BatchRecord {
    let mut counts = batch.counts;
    (0..counts.pending()).for_each(|_| counts.add(Reason::OutcomeUnknown));
    BatchRecord { counts }
}
