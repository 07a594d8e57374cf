//! Runs that are begun: journaled, claimed on the results branch, or taken up again.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::indexes::drop_indexes_for;
use super::{ReconcileError, Upstream};
use crate::execute::{CrashPoints, RunInput, claims_commit, publish_claim};
use crate::ledger::{Claim, Published};
use crate::model::hub::JOB_LABEL;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::secret::Secrets;
use crate::plan::PlannedRun;
use crate::prepare::{View, mismatching};
use crate::registry::{Assignment, Change, NewRun};
use crate::repo::{RepoError, ResultsBranch, UpstreamError};
use crate::results::document;

/// The claims of one plan.
pub(super) struct Claims<'a, 'w> {
    pub view: &'a mut View<'w>,
    pub upstream: Option<&'a mut Upstream>,
    pub crash: &'a CrashPoints,
    /// The commit that is reconciled.
    pub head: &'a str,
    pub plan_id: &'a str,
    pub now: Timestamp,
}

impl Claims<'_, '_> {
    /// Waits until nothing is under way to the remote, before claims are pushed.
    ///
    /// # Errors
    /// The remote cannot be reached; while devices are running, it has not answered yet.
    pub fn wait_for_remote(&mut self, runs: &[&PlannedRun], is_running: bool) -> Result<(), ReconcileError> {
        if let Some(upstream) = self.upstream.as_mut().filter(|_| !runs.is_empty()) {
            if is_running {
                upstream.answers(&self.view.branch)?;
            }
            upstream.settle(&self.view.branch)?;
        }
        Ok(())
    }

    /// Journals and commits claims: from there on the runs are ours, and no process runs them again. With a remote they
    /// are one commit, which counts when the remote has it; a run that another process has claimed meanwhile is left to
    /// it.
    ///
    /// # Errors
    /// A claim could not be journaled or committed. What was claimed before it was handed to `take`.
    pub fn claim_all(&mut self, runs: &[&PlannedRun], take: &mut dyn FnMut(RunInput)) -> Result<(), ReconcileError> {
        if self.upstream.is_none() {
            for run in runs {
                let input = self.journal(run)?;
                self.publish(&input)?;
                take(self.confirm(input)?);
            }
            return Ok(());
        }
        let journaled = runs.iter().map(|run| self.journal(run)).collect::<Result<Vec<_>, _>>()?;
        if journaled.is_empty() {
            return Ok(());
        }
        let lost = match self.push(&journaled) {
            Ok(lost) => lost,
            Err(error) => {
                let is_open = error.is_open();
                let error = ReconcileError::from(error);
                if let Some(upstream) = &mut self.upstream {
                    upstream.note(Some(&error));
                }
                if !is_open {
                    // No other process has seen them.
                    for input in &journaled {
                        self.view.registry.write(Change::Drop { run_id: input.run_id })?;
                    }
                }
                return Err(error);
            }
        };
        for input in journaled {
            if lost.contains(&input.run_id) {
                self.view.registry.write(Change::Drop { run_id: input.run_id })?;
            } else {
                take(self.confirm(input)?);
            }
        }
        Ok(())
    }

    fn journal(&mut self, run: &PlannedRun) -> Result<RunInput, ReconcileError> {
        let job = self.view.declared.jobs.get(&run.job).expect("a plan runs declared jobs");
        let claim = Claim {
            job: run.job.clone(),
            run: run.run.clone(),
            spec_digest: job.spec_digest,
            total: run.ids.len() as u64,
            targets_digest: run.targets_digest,
            source_commit: self.head.to_string(),
            plan_id: self.plan_id.to_string(),
            claimed_at: self.now,
        };
        let job = Job::clone(job);
        // Before the claim: without them nothing of it could be done.
        let secrets = secrets_of(self.view, &job)?;
        let fleet = &self.view.declared.fleet.name;
        let text = String::from_utf8(document(&claim.to_json(fleet))).expect("JSON is UTF-8");
        let sizes = job.delivery.batch_sizes(claim.total);
        // The document of a schedule may be edited while an occurrence is under way.
        let spec = self.view.declared.schedules.get(&run.job).map(|schedule| &*schedule.job.spec);
        let manifest = self.view.declared.manifest_digest(&job.action);
        // Its back end asks for what devices answered.
        let keeps_answers = job.labels.contains_key(JOB_LABEL);
        let ids = &run.ids;
        let new = NewRun { claim: &claim, document: text, spec, manifest, ids, sizes, keeps_answers };
        let run_id = self.view.registry.write(Change::Claim(new))?.into_run();
        Ok(RunInput {
            run_id,
            assignment: Assignment::of_action(&job.action, &self.view.declared).map(|one| one.marked(&secrets)),
            secrets,
            job,
            claim,
            ids: run.ids.clone(),
            mismatching: run.mismatching.clone(),
            started_at: None,
            finished_at: None,
            open_batch: None,
            published: Published::default(),
            keeps_answers,
            is_stop: false,
        })
    }

    fn publish(&mut self, input: &RunInput) -> Result<(), ReconcileError> {
        let View { declared, branch, .. } = &*self.view;
        let fleet = &declared.fleet.name;
        let published = self.crash.around("publish claim", || publish_claim(branch, fleet, &input.claim));
        if let Err(RepoError::AlreadyWritten { .. }) = &published {
            self.view.registry.write(Change::Drop { run_id: input.run_id })?;
        }
        Ok(published?)
    }

    /// Pushes journaled claims in one commit and returns those that another process was the first to make.
    fn push(&mut self, journaled: &[RunInput]) -> Result<BTreeSet<i64>, UpstreamError> {
        let fleet = &self.view.declared.fleet.name;
        let upstream = self.upstream.as_ref().expect("claims are pushed where there is a remote");
        let mut lost = BTreeSet::new();
        let mut still = |branch: &ResultsBranch<'_>| {
            lost.clear();
            let mut left = Vec::new();
            // The remote may have taken longer to answer than the right to work lasts.
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
        self.crash.around("push claims", || {
            upstream.exchange(&self.view.branch, |exchange| self.view.branch.commit_upstream(exchange, &mut still))
        })?;
        Ok(lost)
    }

    /// The claim of a run counts; its writes are about to begin.
    fn confirm(&mut self, input: RunInput) -> Result<RunInput, ReconcileError> {
        self.view.registry.write(Change::Confirm { run_id: input.run_id })?;
        for one in input.job.action.patches() {
            drop_indexes_for(&mut self.view.registry, Some(one.section), input.claim.total)?;
        }
        Ok(input)
    }
}

/// Returns the secrets that a job sends, as they were read for its plan.
fn secrets_of(view: &mut View<'_>, job: &Job) -> Result<Secrets, ReconcileError> {
    view.workspace.secrets_to_send(job, &mut view.registry)?.ok_or_else(|| ReconcileError::Held {
        what: format!("job {} needs a secret that could not be read for its plan", job.name),
        help: "`fleetform plan` with the same `--allow-secret` says which one.".to_string(),
    })
}

/// Returns an open run as the journal has it.
pub(super) fn reopen(view: &mut View<'_>, name: &Name, is_stop: bool) -> Result<RunInput, ReconcileError> {
    let job = Job::clone(view.declared.jobs.get(name).expect("a plan continues declared jobs"));
    // A run that is stopped sends nothing.
    let secrets = if is_stop { Secrets::default() } else { secrets_of(view, &job)? };
    let key = (job.name.clone(), job.run.clone());
    let run = view.registry.journal().find(&key.0, &key.1)?.expect("an open run is in the journal");
    let ledger = &view.ledger;
    let claim = ledger.claims.get(&key).expect("an open run is claimed").clone();
    let published = ledger.records.get(&key).map_or_else(Default::default, |record| record.published);
    let ids = view.registry.journal().targets(run.run_id)?;
    Ok(RunInput {
        run_id: run.run_id,
        assignment: Assignment::of_action(&job.action, &view.declared).map(|one| one.marked(&secrets)),
        secrets,
        claim,
        ids,
        // What was decided at the claim depends on nothing but the declared documents.
        mismatching: mismatching(&view.declared, &job),
        job,
        started_at: run.started_at,
        finished_at: run.finished_at,
        open_batch: run.open_batch,
        published,
        keeps_answers: run.keeps_answers,
        is_stop,
    })
}
