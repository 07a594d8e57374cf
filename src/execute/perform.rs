//! One running job: its machine, and its effects done in an order that a crash cannot hurt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::driver::{answer_text, collide};
use super::publish::{Publication, publish};
use super::{ExecuteError, Executor, Progress, RunInput};
use crate::ledger::{BatchRecord, Claim, Published, RunKey, RunRecord};
use crate::link::{Ask, Request};
use crate::model::acknowledgement::Acknowledgement;
use crate::model::delivery::Confirm;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{DeviceStatus, Outcome, Reason, RunStatus};
use crate::registry::{Assignment, Chunk, Registry};
use crate::rollout::{Effect, Event, Rollout, RolloutSpec, Work};

/// What is said of a device that an edge manifest is not for.
const NOT_EDGE: &str = "it is no IoT Edge device: its capabilities.iotEdge is false";

/// A run that goes on.
pub(super) struct Active {
    pub run_id: i64,
    pub rollout: Rollout,
    pub finished: Option<RunRecord>,
    /// What it begins with, as soon as it has its share of the window.
    pub first: Option<Event>,
    /// A person stopped it while it was executed; not yet fed to the machine.
    pub is_asked_to_stop: bool,
    /// A stop was asked for at some time.
    pub is_stopping: bool,
    /// Something failed: outcomes are journaled, and nothing is published.
    pub is_draining: bool,
    /// Written devices that are to be told of it as soon as there is room.
    pub to_notify: VecDeque<u32>,
    pub job: Job,
    assignment: Option<Assignment>,
    claim: Claim,
    key: Option<RunKey>,
    ids: DeviceIds,
    mismatching: BTreeSet<Name>,
    published: Published,
    /// Late answers that are recorded.
    late: u64,
    /// Devices that became terminal since that was last told.
    reasons: BTreeMap<Reason, u64>,
    /// Devices to write when it is this job's turn.
    write: Option<(Vec<u32>, Option<u64>)>,
    /// False for a run that is stopped before it ever started.
    has_started: bool,
    /// Batches that were closed before this start are not told again.
    is_replaying: bool,
}

/// Effects of a step, brought into the order in which they are done.
#[derive(Default)]
struct Bundle {
    outcomes: Vec<Outcome>,
    late: Vec<(u32, u16, String)>,
    unsend: Vec<u32>,
    send: Vec<(u32, u32)>,
    notify: Vec<u32>,
    /// What has its own order.
    rest: Vec<Effect>,
}

impl Bundle {
    fn add(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record { outcomes } => self.outcomes.extend(outcomes),
                Effect::RecordLate { ordinal, code, message } => self.late.push((ordinal, code, message)),
                Effect::Unsend { ordinals } => self.unsend.extend(ordinals),
                Effect::Send { devices } => self.send.extend(devices),
                Effect::Notify { ordinals } => self.notify.extend(ordinals),
                other @ (Effect::OpenBatch { .. }
                | Effect::Write { .. }
                | Effect::CloseBatch { .. }
                | Effect::Finish { .. }) => self.rest.push(other),
            }
        }
    }
}

impl Active {
    /// Returns a run with what the journal knows of it.
    pub fn new(input: RunInput, registry: &Registry, now: Timestamp) -> Result<Active, ExecuteError> {
        let RunInput { run_id, job, assignment, claim, ids, mismatching, started_at, published, is_stop } = input;
        let total = u32::try_from(ids.len()).expect("a target is bounded by the arena of its ids");
        assert_eq!(u64::from(total), claim.total, "the journal has the target that was claimed");
        let work = match &job.action {
            Action::Command(command) => Work::Send {
                connect_timeout: command.connect_timeout,
                response_timeout: command.response_timeout,
                idempotent: command.idempotent,
            },
            Action::Property(_) if job.delivery.confirm == Confirm::Acknowledged => Work::WriteAndConfirm,
            Action::Property(_)
            | Action::CloudProperty(_)
            | Action::Tags(_)
            | Action::DeviceTemplate(_)
            | Action::EdgeManifest(_) => Work::Write,
        };
        let seed = claim.targets_digest.seed();
        let spec = RolloutSpec::new(&job.delivery, work, total, seed, started_at.unwrap_or(now));
        let mut rollout = Rollout::new(spec);
        registry
            .each_outcome(run_id, |ordinal, reason, attempts| rollout.restore_outcome(ordinal, reason, attempts))?;
        for (ordinal, attempt) in registry.sent_marks(run_id)? {
            rollout.restore_sent(ordinal, attempt);
        }
        Ok(Active {
            run_id,
            rollout,
            finished: None,
            first: Some(if is_stop { Event::Stop } else { Event::Start }),
            is_asked_to_stop: false,
            is_stopping: is_stop,
            is_draining: false,
            reasons: BTreeMap::new(),
            to_notify: VecDeque::new(),
            has_started: !is_stop || started_at.is_some(),
            job,
            assignment,
            claim,
            key: None,
            ids,
            mismatching,
            published,
            late: registry.count_late(run_id)?,
            write: None,
            is_replaying: true,
        })
    }

    /// Returns true when both runs are commands and some device is in both: a device has at most one command in flight.
    pub fn collides_with(&self, other: &RunInput) -> bool {
        !other.is_stop && collide((&self.job, &self.ids), (&other.job, &other.ids))
    }

    pub fn started(&self) -> Progress {
        Progress::RunStarted {
            job: self.job.name.clone(),
            run: self.job.run.clone(),
            batches: self.rollout.spec().batches(),
            counts: self.rollout.counts(),
        }
    }

    fn advanced(&mut self) -> Progress {
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

    fn count(&mut self, ended: impl Iterator<Item = Reason>) {
        for reason in ended.filter(|reason| reason.status() != DeviceStatus::Pending) {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn record(&self, status: RunStatus, reason: Option<String>, now: Timestamp) -> RunRecord {
        RunRecord {
            job: self.job.name.clone(),
            run: self.job.run.clone(),
            status,
            reason,
            counts: self.rollout.counts(),
            started_at: self.has_started.then_some(self.rollout.spec().started_at),
            finished_at: status.is_final().then_some(now),
            source_commit: self.claim.source_commit.clone(),
            plan_id: self.claim.plan_id.clone(),
            spec_digest: self.claim.spec_digest,
            per_batch: self.rollout.batch_counts().iter().map(|counts| BatchRecord { counts: *counts }).collect(),
            published: self.published,
            late: self.late,
        }
    }
}

impl Executor<'_> {
    /// Takes events into a run and performs what follows, but for registry writes, which wait for their turn.
    pub(super) fn feed(&mut self, run: &mut Active, now: Timestamp, events: Vec<Event>) -> Result<(), ExecuteError> {
        let mut events = events;
        let before = run.rollout.counts();
        while !events.is_empty() {
            let mut bundle = Bundle::default();
            bundle.add(run.rollout.step_all(now, events.drain(..)));
            events = self.perform(run, now, bundle)?;
        }
        run.is_replaying = false;
        if run.rollout.counts() != before {
            (self.observer)(&run.advanced());
        }
        Ok(())
    }

    /// Does what a bundle says and returns the events that come of it.
    fn perform(&mut self, run: &mut Active, now: Timestamp, bundle: Bundle) -> Result<Vec<Event>, ExecuteError> {
        let Bundle { outcomes, late, unsend, send, notify, rest } = bundle;
        if !outcomes.is_empty() {
            self.crash.around("record", || self.registry.record(run.run_id, &outcomes, &run.ids))?;
            run.count(outcomes.iter().map(|outcome| outcome.reason));
        }
        for (ordinal, code, message) in late {
            self.crash.around("record late", || self.registry.record_late(run.run_id, ordinal, code, &message, now))?;
            run.late += 1;
        }
        if !unsend.is_empty() {
            self.crash.around("unmark", || self.registry.unmark_sent(run.run_id, &unsend))?;
        }
        if !send.is_empty() {
            self.crash.around("mark sent", || self.registry.mark_sent(run.run_id, &send, now))?;
            self.send(run, now, &send);
        }
        run.to_notify.extend(notify);
        let mut events = Vec::new();
        for effect in rest {
            match effect {
                Effect::OpenBatch { range, .. } => {
                    let (first, last) = (run.ids.get(range.start as usize), run.ids.get(range.end as usize - 1));
                    let blocked = self.registry.blocked_between(first, last)?;
                    let ordinal = |id: String| run.ids.find(&id).and_then(|at| u32::try_from(at).ok());
                    let blocked = blocked.into_iter().filter_map(ordinal).map(|at| (at, Reason::Blocked, ""));
                    let mut ineligible: Vec<(u32, Reason, &'static str)> = blocked.collect();
                    if run.job.action.needs_edge() {
                        let others = self.registry.without_edge(&run.ids, range.clone())?;
                        ineligible.extend(others.into_iter().map(|at| (at, Reason::TemplateMismatch, NOT_EDGE)));
                    }
                    if !run.mismatching.is_empty() {
                        let mismatched = self.registry.with_templates(&run.mismatching, &run.ids, range.clone())?;
                        ineligible.extend(mismatched.into_iter().map(|at| (at, Reason::TemplateMismatch, "")));
                    }
                    // A write finds out by itself that its device is gone; a command would be sent to it.
                    if matches!(run.job.action, Action::Command(_)) {
                        let absent = self.registry.absent(&run.ids, range)?;
                        ineligible.extend(absent.into_iter().map(|at| (at, Reason::Deleted, "")));
                    }
                    events.push(Event::Opened { ineligible });
                }
                Effect::Write { ordinals, failures_left } => run.write = Some((ordinals, failures_left)),
                Effect::CloseBatch { batch } => self.close_batch(run, batch, now)?,
                Effect::Finish { status, reason } => self.finish(run, status, reason, now)?,
                Effect::Record { .. }
                | Effect::RecordLate { .. }
                | Effect::Unsend { .. }
                | Effect::Send { .. }
                | Effect::Notify { .. } => {}
            }
        }
        Ok(events)
    }

    /// Speaks to devices: (ordinal, attempt). Only commands do that.
    fn send(&mut self, run: &mut Active, now: Timestamp, devices: &[(u32, u32)]) {
        let Action::Command(command) = &run.job.action else { return };
        let (method, payload, is_idempotent) =
            (command.method(), Arc::new(command.payload.clone()), command.idempotent);
        let ask = Ask::Command { method, payload, is_idempotent };
        for (ordinal, attempt) in devices {
            self.request(run, now, (*ordinal, *attempt), ask.clone());
        }
    }

    /// Tells some devices of the version of their desired properties that the run has written, as many as may be spoken to at once;
    /// false when there was none, or no room.
    pub(super) fn notify_next(&mut self, run: &mut Active, now: Timestamp) -> Result<bool, ExecuteError> {
        let room = (self.fleet.limits.in_flight as usize).saturating_sub(self.link.under_way());
        let next = run.to_notify.len().min(room).min(limits::WRITE_CHUNK);
        let Action::Property(patch) = &run.job.action else { return Ok(false) };
        if next == 0 {
            return Ok(false);
        }
        let patch = Arc::new(patch.to_value());
        let ordinals: Vec<u32> = run.to_notify.drain(..next).collect();
        let versions = self.registry.written_versions(run.run_id, &ordinals)?;
        for (ordinal, version) in ordinals.iter().zip(versions) {
            self.request(run, now, (*ordinal, 1), Ask::Desired { patch: Arc::clone(&patch), version });
        }
        Ok(true)
    }

    fn request(&mut self, run: &mut Active, now: Timestamp, (ordinal, attempt): (u32, u32), ask: Ask) {
        let fleet = &self.fleet.name;
        let key = run.key.get_or_insert_with(|| run.claim.key(fleet));
        let device_id = run.ids.get(ordinal as usize).to_string();
        let execution_id = key.execution_id(&device_id);
        let request = Request { run_id: run.run_id, ordinal, attempt, execution_id, device_id, ask };
        self.crash.around("send", || self.link.send(now, request));
    }

    /// Merges what devices report into their twins and returns the answers that are in it.
    pub(super) fn take_reports(
        &mut self,
        run: &Active,
        reports: &[(u32, Value)],
        now: Timestamp,
    ) -> Result<Vec<Event>, ExecuteError> {
        let Action::Property(patch) = &run.job.action else { return Ok(Vec::new()) };
        let written = patch.to_value();
        let rows: Vec<(u32, &str, &Value)> =
            reports.iter().map(|(ordinal, patch)| (*ordinal, run.ids.get(*ordinal as usize), patch)).collect();
        let take = || self.registry.take_reports(run.run_id, &rows, &written, now);
        let acknowledgements = self.crash.around("take reports", take)?;
        let events = reports.iter().zip(acknowledgements).filter_map(|((ordinal, _), given)| match given {
            Acknowledgement::Pending => None,
            Acknowledgement::Given { code, text } => {
                Some(Event::Answered { ordinal: *ordinal, code, message: answer_text(&text) })
            }
        });
        Ok(events.collect())
    }

    /// Performs the registry write that a run has waiting; false when it has none.
    pub(super) fn write_next(&mut self, run: &mut Active, now: Timestamp) -> Result<bool, ExecuteError> {
        let Some((ordinals, failures_left)) = run.write.take() else { return Ok(false) };
        let assignment = run.assignment.as_ref().expect("only jobs that write ask for a write");
        let devices: Vec<(u32, &str)> = ordinals.iter().map(|at| (*at, run.ids.get(*at as usize))).collect();
        let chunk = Chunk {
            run_id: run.run_id,
            devices: &devices,
            failures_left,
            awaits_acknowledgement: run.rollout.spec().work == Work::WriteAndConfirm,
            now,
        };
        let outcomes = self.crash.around("write", || self.registry.write_chunk(assignment, chunk))?;
        run.count(outcomes.iter().map(|(_, reason)| *reason));
        self.feed(run, now, vec![Event::Written { outcomes }])?;
        Ok(true)
    }

    fn close_batch(&mut self, run: &mut Active, batch: u32, now: Timestamp) -> Result<(), ExecuteError> {
        if run.is_replaying {
            return Ok(());
        }
        let spec = run.rollout.spec();
        let (batches, end) = (spec.batches(), spec.batch_range(batch).end);
        (self.observer)(&Progress::BatchFinished {
            job: run.job.name.clone(),
            run: run.job.run.clone(),
            batch: batch + 1,
            batches,
            counts: run.rollout.batch_counts()[batch as usize],
        });
        let waiting = (end - run.published.devices) as usize;
        if !run.is_draining && batch + 1 < batches && waiting >= limits::SHARD_ROWS_MAX {
            let mut record = run.record(RunStatus::Running, None, now);
            self.publish(run, &mut record, end)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        run: &mut Active,
        status: RunStatus,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<(), ExecuteError> {
        self.crash.around("end run", || self.registry.end_run(run.run_id, status, reason.as_deref(), now))?;
        let mut record = run.record(status, reason, now);
        if run.is_draining {
            // The next start finds it in the journal and publishes it.
            run.finished = Some(record);
            return Ok(());
        }
        if status.is_final() {
            let total = run.rollout.spec().total;
            self.publish(run, &mut record, total)?;
            self.crash.around("close run", || self.registry.close_run(run.run_id))?;
            (self.observer)(&Progress::RunFinished { record: record.clone() });
        } else {
            // What is not finished is journaled; the branch gets the batches that are, and the word that it was stopped.
            // A run that is stopped before it goes on has not looked at its batches: it stands at the first.
            let done = run.rollout.spec().batch_range(run.rollout.batch()).start.max(run.published.devices);
            if status == RunStatus::Stopped || done > run.published.devices {
                self.publish(run, &mut record, done)?;
            }
            let waiting = run.rollout.waiting() as u64;
            (self.observer)(&Progress::RunPaused { record: record.clone(), waiting });
        }
        run.finished = Some(record);
        Ok(())
    }

    /// Leaves a run that only waits for devices.
    pub(super) fn pause(&mut self, run: &mut Active) -> Result<(), ExecuteError> {
        let now = self.clock.now();
        let waiting = run.rollout.waiting() as u64;
        let unacknowledged = run.rollout.unacknowledged() as u64;
        let told = |count: u64, what: &str| match count {
            0 => None,
            1 => Some(format!("1 device waits to {what}")),
            _ => Some(format!("{count} devices wait to {what}")),
        };
        let parts = [told(waiting - unacknowledged, "come online"), told(unacknowledged, "acknowledge")];
        let reason = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let record = run.record(RunStatus::Running, Some(reason), now);
        (self.observer)(&Progress::RunPaused { record: record.clone(), waiting });
        run.finished = Some(record);
        Ok(())
    }

    fn publish(&mut self, run: &mut Active, record: &mut RunRecord, upto: u32) -> Result<(), ExecuteError> {
        let key = run.claim.key(&self.fleet.name);
        let publication = Publication {
            run_id: run.run_id,
            key: &key,
            ids: &run.ids,
            devices: self.fleet.results.devices,
            upto,
            batch_size: run.rollout.spec().batch_size,
        };
        run.published = self.crash.around("publish", || publish(self.branch, self.registry, &publication, record))?;
        Ok(())
    }
}
