//! The runs of an apply: claimed, taken up again, stopped, or closed because nobody knows about them any more.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Apply;
use crate::execute::{RunInput, claims_commit, publish_claim, publish_record, text_of};
use crate::ledger::{BatchRecord, Claim, Ledger, RunRecord};
use crate::model::id::{Name, RunToken};
use crate::model::job::Job;
use crate::model::outcome::{Counts, Reason, RunStatus};
use crate::ops::OpsError;
use crate::plan::{Plan, PlannedRun};
use crate::prepare::{mismatching, records_of};
use crate::registry::{Assignment, Change, JournaledRun, KeptFile, NewRun};
use crate::repo::{RepoError, ResultsBranch, UpstreamError};
use crate::results::document;

impl Apply<'_> {
    /// Journals and commits claims: from there on the runs are ours, and nobody runs them again. With a remote they are one commit, which
    /// counts when the remote has it; a run that somebody else has claimed meanwhile is left to them.
    ///
    /// # Errors
    /// A claim could not be journaled or committed. What was claimed before it was handed to `take`.
    pub(super) fn claim_all(
        &mut self,
        plan: &Plan,
        runs: &[&PlannedRun],
        now: Timestamp,
        take: &mut dyn FnMut(RunInput),
    ) -> Result<(), OpsError> {
        if self.upstream.is_none() {
            for run in runs {
                let input = self.journal_claim(plan, run, now)?;
                self.publish_claim(&input)?;
                take(self.confirm(input)?);
            }
            return Ok(());
        }
        let journaled = runs.iter().map(|run| self.journal_claim(plan, run, now)).collect::<Result<Vec<_>, _>>()?;
        if journaled.is_empty() {
            return Ok(());
        }
        let lost = match self.push_claims(&journaled) {
            Ok(lost) => lost,
            Err(error) => {
                let is_open = error.is_open();
                let error = OpsError::from(error);
                if let Some(upstream) = &mut self.upstream {
                    upstream.note(Some(&error));
                }
                if !is_open {
                    // Nobody has seen them.
                    for input in &journaled {
                        self.registry.write(Change::Drop { run_id: input.run_id })?;
                    }
                }
                return Err(error);
            }
        };
        for input in journaled {
            if lost.contains(&input.run_id) {
                self.registry.write(Change::Drop { run_id: input.run_id })?;
            } else {
                take(self.confirm(input)?);
            }
        }
        Ok(())
    }

    fn journal_claim(&mut self, plan: &Plan, run: &PlannedRun, now: Timestamp) -> Result<RunInput, OpsError> {
        let job = self.declared.jobs.get(&run.job).expect("a plan runs declared jobs");
        let claim = Claim {
            job: run.job.clone(),
            run: run.run.clone(),
            spec_digest: job.spec_digest,
            total: run.ids.len() as u64,
            targets_digest: run.targets_digest,
            source_commit: self.head.clone(),
            plan_id: plan.id.clone(),
            claimed_at: now,
        };
        let fleet = &self.declared.fleet.name;
        let text = String::from_utf8(document(&claim.to_json(fleet))).expect("JSON is UTF-8");
        let batch_size = job.delivery.devices_a_batch(claim.total);
        // The document of a schedule may be edited while an occurrence is under way.
        let spec = self.declared.schedules.get(&run.job).map(|schedule| &*schedule.job.spec);
        let manifest = self.declared.manifest_digest(&job.action);
        let new = NewRun { claim: &claim, document: text, spec, manifest, ids: &run.ids, batch_size };
        let run_id = self.registry.write(Change::Claim(new))?.into_run();
        Ok(RunInput {
            run_id,
            job: Job::clone(job),
            assignment: Assignment::of_action(&job.action, self.declared),
            claim,
            ids: run.ids.clone(),
            mismatching: run.mismatching.clone(),
            started_at: None,
            published: crate::ledger::Published::default(),
            is_stop: false,
        })
    }

    fn publish_claim(&mut self, input: &RunInput) -> Result<(), OpsError> {
        let (fleet, crash) = (&self.declared.fleet.name, &self.options.ports.crash);
        let published = crash.around("publish claim", || publish_claim(&self.branch, fleet, &input.claim));
        if let Err(RepoError::AlreadyWritten { .. }) = &published {
            self.registry.write(Change::Drop { run_id: input.run_id })?;
        }
        Ok(published?)
    }

    /// Pushes journaled claims in one commit and returns those that somebody else was the first to make.
    fn push_claims(&mut self, journaled: &[RunInput]) -> Result<BTreeSet<i64>, UpstreamError> {
        let fleet = &self.declared.fleet.name;
        let upstream = self.upstream.as_ref().expect("claims are pushed where there is a remote");
        let mut lost = BTreeSet::new();
        let mut still = |branch: &ResultsBranch<'_>| {
            lost.clear();
            let mut left = Vec::new();
            // Whoever was asked before may have taken longer to answer than the right to work lasts.
            let is_ours = upstream.is_holder(branch)?;
            for input in journaled {
                if !is_ours || branch.read(&input.claim.key(fleet).claim_path())?.is_some() {
                    lost.insert(input.run_id);
                } else {
                    left.push(&input.claim);
                }
            }
            Ok((!left.is_empty())
                .then(|| claims_commit(fleet, &left, None, (&left[0].source_commit, &left[0].plan_id))))
        };
        self.options.ports.crash.around("push claims", || {
            upstream.exchange(&self.branch, |exchange| self.branch.commit_upstream(exchange, &mut still))
        })?;
        Ok(lost)
    }

    /// The claim of a run counts; its writes are about to begin.
    fn confirm(&mut self, input: RunInput) -> Result<RunInput, OpsError> {
        self.registry.write(Change::Confirm { run_id: input.run_id })?;
        if let Some((section, _)) = input.job.action.patch() {
            self.make_way(Some(section), input.claim.total)?;
        }
        Ok(input)
    }

    /// Returns an open run as the journal has it.
    pub(super) fn reopen(&mut self, name: &Name, ledger: &Ledger, is_stop: bool) -> Result<RunInput, OpsError> {
        let job = self.declared.jobs.get(name).expect("a plan continues declared jobs");
        let key = (job.name.clone(), job.run.clone());
        let run = self.registry.journal().find(&key.0, &key.1)?.expect("an open run is in the journal");
        let claim = ledger.claims.get(&key).expect("an open run is claimed").clone();
        let published = ledger.records.get(&key).map_or_else(Default::default, |record| record.published);
        let ids = self.registry.journal().targets(run.run_id)?;
        Ok(RunInput {
            run_id: run.run_id,
            job: Job::clone(job),
            assignment: Assignment::of_action(&job.action, self.declared),
            claim,
            ids,
            // What was decided at the claim depends on nothing but the declared documents.
            mismatching: mismatching(self.declared, job),
            started_at: run.started_at,
            published,
            is_stop,
        })
    }

    pub(super) fn is_declared(&self, name: &Name, run: Option<&RunToken>) -> bool {
        self.declared.jobs.get(name).is_some_and(|job| Some(&job.run) == run)
    }

    /// Notes that an open run which nothing declares any more is stopped. It can be continued by declaring it again.
    pub(super) fn stop_undeclared(
        &mut self,
        name: &Name,
        run: Option<&RunToken>,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<RunRecord, OpsError> {
        let is_it = |record: &RunRecord| record.job == *name && Some(&record.run) == run;
        let record = records_of(ledger).into_iter().find(is_it).expect("an open run has a record");
        let journal = self.registry.journal().find(&record.job, &record.run)?.expect("an open run is journaled");
        let reason = Some("its document is not declared any more".to_string());
        let (run_id, status, crash) = (journal.run_id, RunStatus::Stopped, &self.options.ports.crash);
        self.registry.write(Change::End { run_id, status, reason: reason.as_deref(), at: now })?;
        let per_batch = self.batches_of(&journal)?;
        let record =
            RunRecord { status: RunStatus::Stopped, reason, started_at: journal.started_at, per_batch, ..record };
        let claim = ledger.claims.get(&(record.job.clone(), record.run.clone())).expect("an open run is claimed");
        let key = claim.key(&self.declared.fleet.name);
        let text = text_of(&record);
        self.registry.write(Change::KeepRecord { run_id, record: &text, devices: None })?;
        crash.around("publish", || publish_record(&self.branch, &key, &record))?;
        Ok(record)
    }

    /// Returns the batches of a run with the counts that the journal has now.
    fn batches_of(&self, run: &JournaledRun) -> Result<Vec<BatchRecord>, OpsError> {
        let total = u64::from(run.total);
        let sizes = (0..total.div_ceil(run.batch_size)).map(|at| run.batch_size.min(total - at * run.batch_size));
        let mut batches: Vec<Counts> = sizes.map(|total| Counts { total, ..Counts::default() }).collect();
        self.registry.journal().each_outcome(run.run_id, &mut |ordinal, reason, _| {
            let batch = usize::try_from(u64::from(ordinal) / run.batch_size).unwrap_or(usize::MAX);
            if let Some(batch) = batches.get_mut(batch) {
                batch.add(reason);
            }
        })?;
        Ok(batches.into_iter().map(|counts| BatchRecord { counts }).collect())
    }

    /// Closes a run whose journal is gone: what is on the branch stays, nobody knows about the rest, nothing is sent.
    pub(super) fn close_lost(
        &mut self,
        name: &Name,
        run: Option<&RunToken>,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<RunRecord, OpsError> {
        let key = (name.clone(), run.expect("a plan names the run that it closes").clone());
        let claim = ledger.claims.get(&key).expect("a lost run is claimed");
        let known = ledger.records.get(&key);
        let run_key = claim.key(&self.declared.fleet.name);
        // The record is committed with the shards that it counts, so it knows of devices that have no row too.
        let mut counts = match known {
            Some(known) => known.counts,
            None => Counts { total: claim.total, ..Counts::default() },
        };
        let unknown = counts.pending();
        for _ in 0..unknown {
            counts.add(Reason::OutcomeUnknown);
        }
        let reason = format!(
            "journal-lost: the registry's journal of this run is gone, and the outcome of {unknown} of {} devices is unknown",
            claim.total
        );
        let record = RunRecord {
            status: RunStatus::Failed,
            reason: Some(reason),
            counts,
            started_at: known.and_then(|record| record.started_at),
            finished_at: Some(now),
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
        let crash = &self.options.ports.crash;
        self.registry.keep_files::<OpsError>(std::iter::once(Ok(file)))?;
        crash.around("publish", || publish_record(&self.branch, &run_key, &record))?;
        Ok(record)
    }
}

/// Returns the counts of a batch when nobody knows what became of its pending devices.
fn all_unknown(batch: &BatchRecord) -> BatchRecord {
    let mut counts = batch.counts;
    (0..counts.pending()).for_each(|_| counts.add(Reason::OutcomeUnknown));
    BatchRecord { counts }
}
