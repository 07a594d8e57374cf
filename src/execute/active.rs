//! An active run: its machine and its other state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::{ExecuteError, Progress};
use crate::ledger::{Claim, Published, RunCause, RunKey, RunRecord};
use crate::link::Origin;
use crate::model::delivery::Confirm;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{DeviceStatus, Outcome, Reason, RunStatus};
use crate::model::secret::Secrets;
use crate::registry::{Assignment, OpenBatch, Registry, WholeAnswer};
use crate::rollout::{Event, Rollout, RolloutSpec, WorkKind};

/// A claimed run to be started, continued or stopped.
#[derive(Debug)]
pub struct RunInput {
    pub run_id: i64,
    pub job: Job,
    /// The assignment that the run writes to each device; `None` for a command. It has the marks of secrets.
    pub assignment: Option<Assignment>,
    /// What the run sends in place of its references to secrets.
    pub secrets: Secrets,
    pub claim: Claim,
    pub ids: DeviceIds,
    /// Device templates that the job does not fit: their devices fail when their batch starts.
    pub mismatching: BTreeSet<Name>,
    /// The time of the first start; `None` when the run has never started.
    pub started_at: Option<Timestamp>,
    /// When it ended, if a process died before the results branch had that.
    pub finished_at: Option<Timestamp>,
    /// The batch that was opened last; `None` when none was, or when no device may wait.
    pub open_batch: Option<OpenBatch>,
    /// How much of its results is on the branch.
    pub published: Published,
    /// Answers of its devices are kept whole.
    pub keeps_answers: bool,
    /// True when no device is to be started: the executor only notes that the run is stopped.
    pub is_stop: bool,
}

impl RunInput {
    /// Returns true when both runs are commands and some device is in both: a device has at most one command in flight.
    pub(super) fn collides_with(&self, other: &RunInput) -> bool {
        !self.is_stop && !other.is_stop && collide((&self.job, &self.ids), (&other.job, &other.ids))
    }
}

/// Returns true when both jobs are commands and some device is in both.
fn collide(one: (&Job, &DeviceIds), two: (&Job, &DeviceIds)) -> bool {
    let is_command = |job: &Job| matches!(job.action, Action::Command(_));
    is_command(one.0) && is_command(two.0) && one.1.intersects(two.1)
}

/// A run that is executed now.
pub(super) struct Active {
    pub run_id: i64,
    pub rollout: Rollout,
    pub finished: Option<RunRecord>,
    /// How it ends when all devices are told what was written.
    pub end: Option<(RunStatus, Option<RunCause>)>,
    /// The first event, fed as soon as the run has its share of the window.
    pub first: Option<Event>,
    /// A person stopped the run while it was executed; the machine does not have the event yet.
    pub is_asked_to_stop: bool,
    /// A stop was asked for at any time.
    pub is_stopping: bool,
    /// Something failed: outcomes are journaled, and nothing is published.
    pub is_draining: bool,
    /// Written devices that get their new properties as soon as there is room.
    pub to_notify: VecDeque<u32>,
    pub job: Job,
    pub assignment: Option<Assignment>,
    pub secrets: Secrets,
    pub claim: Claim,
    /// Made when the first device is spoken to.
    pub key: Option<RunKey>,
    pub ids: DeviceIds,
    pub mismatching: BTreeSet<Name>,
    pub open_batch: Option<OpenBatch>,
    pub published: Published,
    /// When it ended, if a process died before the results branch had that.
    pub finished_at: Option<Timestamp>,
    /// Answers that were heard and whose outcomes are not recorded yet; `None` when they are not kept.
    heard: Option<BTreeMap<u32, WholeAnswer>>,
    /// Late answers that are recorded.
    pub late: u64,
    /// Devices that became terminal since the last progress event.
    reasons: BTreeMap<Reason, u64>,
    /// Devices to write when it is this job's turn, and the failures that may follow.
    pub write: Option<(Vec<u32>, Option<u64>)>,
    /// False for a run that is stopped before it ever started.
    has_started: bool,
    /// True until the batches are passed that were closed before this start; they are not reported again.
    pub is_replaying: bool,
}

impl Active {
    /// Returns a run with its state from the journal.
    pub fn new(input: RunInput, registry: &Registry, now: Timestamp) -> Result<Active, ExecuteError> {
        let RunInput {
            run_id,
            job,
            assignment,
            secrets,
            claim,
            ids,
            mismatching,
            started_at,
            finished_at,
            open_batch,
            published,
            keeps_answers,
            is_stop,
        } = input;
        let total = u32::try_from(ids.len()).expect("a target is bounded by the arena of its ids");
        assert_eq!(u64::from(total), claim.total, "the journal has the target that was claimed");
        let seed = claim.targets_digest.seed();
        let spec = RolloutSpec::new(&job.delivery, work_of(&job), total, seed, started_at.unwrap_or(now));
        let mut rollout = Rollout::new(spec);
        let journal = registry.journal();
        journal.each_outcome(run_id, &mut |ordinal, reason, attempts| {
            rollout.restore_outcome(ordinal, reason, attempts);
        })?;
        journal.sent_marks(run_id)?.into_iter().for_each(|mark| rollout.restore_sent(mark));
        if let Some(open) = open_batch {
            rollout.restore_batch(open.at);
        }
        Ok(Active {
            run_id,
            rollout,
            finished: None,
            end: None,
            first: Some(if is_stop { Event::Stop } else { Event::Start }),
            is_asked_to_stop: false,
            is_stopping: is_stop,
            is_draining: false,
            reasons: BTreeMap::new(),
            to_notify: VecDeque::new(),
            has_started: !is_stop || started_at.is_some(),
            job,
            assignment,
            secrets,
            claim,
            key: None,
            ids,
            mismatching,
            open_batch,
            published,
            finished_at,
            heard: keeps_answers.then(BTreeMap::new),
            late: journal.count_late(run_id)?,
            write: None,
            is_replaying: true,
        })
    }

    /// Returns true when both runs are commands and some device is in both: a device has at most one command in flight.
    pub fn collides_with(&self, other: &RunInput) -> bool {
        !other.is_stop && collide((&self.job, &self.ids), (&other.job, &other.ids))
    }

    /// Returns true when the run has ended, or can go on only when a device speaks or a long time passes.
    pub fn only_waits(&self, now: Timestamp) -> bool {
        let is_over = self.rollout.deadline().is_some_and(|deadline| deadline <= now);
        self.finished.is_some() || (self.to_notify.is_empty() && !is_over && self.rollout.only_waits())
    }

    /// Returns true when an answer is to what the run asks of the device with an ordinal.
    pub fn has_asked(&self, fleet: &Name, ordinal: u32, origin: Option<&Origin>) -> bool {
        let at = ordinal as usize;
        let Some(origin) = origin else { return true };
        let is_of = |id: &str| origin.is_of(id, &self.claim.key(fleet).execution_id(id));
        at < self.ids.len() && is_of(self.ids.get(at))
    }

    /// Takes what a device answered, when it is to be kept whole.
    pub fn hear(&mut self, (ordinal, code): (u32, u16), body: &str, at: Timestamp) {
        if let Some(heard) = &mut self.heard {
            let mut payload = body.as_bytes().to_vec();
            payload.truncate(limits::PAYLOAD_BYTES_MAX);
            heard.insert(ordinal, WholeAnswer { ordinal, code, payload, at });
        }
    }

    /// Returns the whole answers that outcomes are. What else was heard came too late, and is forgotten.
    pub fn answers_of(&mut self, outcomes: &[Outcome]) -> Vec<WholeAnswer> {
        let Some(heard) = self.heard.as_mut().filter(|heard| !heard.is_empty()) else { return Vec::new() };
        let answered = outcomes.iter().filter(|outcome| outcome.code.is_some());
        let answers = answered.filter_map(|outcome| heard.remove(&outcome.ordinal)).collect();
        heard.clear();
        answers
    }

    /// Returns true when the run has something to say to devices.
    pub fn needs_link(&self) -> bool {
        match &self.job.action {
            Action::Command(_) | Action::Property(_) | Action::Twin { .. } => self.finished.is_none(),
            Action::CloudProperty(_) | Action::Tags(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => false,
        }
    }

    /// Returns the place of a device in the target; `None` when it is not in it.
    pub fn ordinal_of(&self, device_id: &str) -> Option<u32> {
        self.ids.find(device_id).and_then(|at| u32::try_from(at).ok())
    }

    pub fn started(&self) -> Progress {
        Progress::RunStarted {
            job: self.job.name.clone(),
            run: self.job.run.clone(),
            batches: self.rollout.spec().batches(),
            counts: self.rollout.counts(),
        }
    }

    pub fn advanced(&mut self) -> Progress {
        let batch = self.rollout.batch();
        let batches = self.rollout.batch_counts();
        let last = batches.len().saturating_sub(1);
        Progress::Advanced {
            job: self.job.name.clone(),
            run: self.job.run.clone(),
            counts: self.rollout.counts(),
            batch: batch + 1,
            batch_counts: batches.get((batch as usize).min(last)).copied().unwrap_or_default(),
            in_flight: self.rollout.in_flight(),
            reasons: std::mem::take(&mut self.reasons),
        }
    }

    /// Counts devices that became terminal.
    pub fn count(&mut self, ended: impl Iterator<Item = Reason>) {
        for reason in ended.filter(|reason| reason.status() != DeviceStatus::Pending) {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// Returns the record of the run as it is now.
    pub fn record(&self, status: RunStatus, cause: Option<RunCause>, now: Timestamp) -> RunRecord {
        RunRecord {
            status,
            cause,
            reason: cause.map(|cause| cause.to_string()),
            counts: self.rollout.counts(),
            started_at: self.has_started.then_some(self.rollout.spec().started_at),
            finished_at: status.is_final().then_some(self.finished_at.unwrap_or(now)),
            per_batch: RunRecord::batches_of(self.rollout.batch_counts()),
            published: self.published,
            late: self.late,
            ..RunRecord::of_claim(&self.claim)
        }
    }
}

fn work_of(job: &Job) -> WorkKind {
    match &job.action {
        Action::Command(command) => WorkKind::Send {
            connect_timeout: command.connect_timeout,
            response_timeout: command.response_timeout,
            idempotent: command.idempotent,
        },
        Action::Property(_) | Action::Twin { .. } if job.delivery.confirm == Confirm::Acknowledged => {
            WorkKind::WriteAndConfirm
        }
        Action::Property(_)
        | Action::CloudProperty(_)
        | Action::Tags(_)
        | Action::Twin { .. }
        | Action::DeviceTemplate(_)
        | Action::EdgeManifest(_) => WorkKind::Write,
    }
}
