//! Performs the effects of a running job, in an order that survives a crash at any point.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::active::Active;
use super::publish::{Publication, publish};
use super::{ExecuteError, Executor, Progress};
use crate::ledger::{RunCause, RunRecord};
use crate::link::{Ask, Request, Token};
use crate::model::job::Action;
use crate::model::limits;
use crate::model::outcome::{Outcome, Reason, RunStatus};
use crate::registry::{Answer, Assignment, Change, Chunk, Heard, HeardOf, Needs, OpenBatch, WholeAnswer};
use crate::rollout::{Effect, Event, WorkKind};

/// The effects of a step, in the order in which they are performed.
#[derive(Default)]
struct Bundle {
    outcomes: Vec<Outcome>,
    late: Vec<(u32, u16, String)>,
    unsend: Vec<u32>,
    send: Vec<(u32, u32)>,
    notify: Vec<u32>,
    /// The effects that keep their order.
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

    /// Returns the devices that count as offline and are connected: they do not listen to methods.
    fn unheard<'a>(&self, run: &'a Active, is_connected: impl Fn(&str) -> bool, at: Timestamp) -> Vec<Heard<'a>> {
        let offline = self.outcomes.iter().filter(|outcome| outcome.reason == Reason::Offline);
        let ids = offline.map(|outcome| run.ids.get(outcome.ordinal as usize)).filter(|id| is_connected(id));
        let what = HeardOf::Presence { is_online: true, is_news: false };
        ids.map(|device_id| Heard { device_id, at, what }).collect()
    }

    /// Returns the changes to write: outcomes come before the marks of devices that they allow to start.
    fn changes<'a>(&'a self, run: &'a Active, answers: &'a [WholeAnswer], at: Timestamp) -> Vec<Change<'a>> {
        let run_id = run.run_id;
        let mut changes = Vec::new();
        if !self.outcomes.is_empty() {
            changes.push(Change::Record { run_id, outcomes: &self.outcomes, ids: &run.ids });
        }
        if !answers.is_empty() {
            changes.push(Change::KeepAnswers { run_id, answers });
        }
        changes.extend(self.late.iter().map(|(ordinal, code, message)| {
            let (ordinal, code) = (*ordinal, *code);
            Change::Late { run_id, ordinal, code, message, at }
        }));
        if !self.unsend.is_empty() {
            changes.push(Change::Unmark { run_id, ordinals: &self.unsend });
        }
        if !self.send.is_empty() {
            changes.push(Change::Mark { run_id, devices: &self.send, ids: &run.ids, at });
        }
        changes
    }
}

impl Executor<'_> {
    /// Feeds events to a run and performs the effects, except for registry writes, which wait for their turn.
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

    /// Performs a bundle and returns the events that follow. All changes are written in one commit, before any device
    /// is spoken to.
    fn perform(&mut self, run: &mut Active, now: Timestamp, bundle: Bundle) -> Result<Vec<Event>, ExecuteError> {
        let whole = run.answers_of(&bundle.outcomes);
        let mut changes = bundle.changes(run, &whole, now);
        let connected = bundle.unheard(run, |id| self.link.is_connected(id), now);
        if !connected.is_empty() {
            // Behind the outcomes, and before the marks, whose answer is the last one.
            changes.insert(1, Change::Heard { from: &connected });
        }
        let answers = self.registry.commit(&changes)?;
        let Bundle { outcomes, late, mut send, notify, rest, .. } = bundle;
        let withheld = match answers.into_iter().next_back() {
            Some(Answer::Withheld(withheld)) => withheld,
            Some(_) | None => Vec::new(),
        };
        send.retain(|(ordinal, _)| !withheld.iter().any(|(kept, _)| kept == ordinal));
        run.count(outcomes.iter().map(|outcome| outcome.reason));
        run.late += late.len() as u64;
        self.send(run, now, &send);
        run.to_notify.extend(notify);
        let withhold = |(ordinal, reason)| Event::Withheld { ordinal, reason };
        let mut events: Vec<Event> = withheld.into_iter().map(withhold).collect();
        for effect in rest {
            match effect {
                Effect::OpenBatch { batch, range } => {
                    let at = self.opened_at(run, batch, now)?;
                    let needs = Needs {
                        mismatching: &run.mismatching,
                        edge: run.job.action.needs_edge(),
                        presence: matches!(run.job.action, Action::Command(_)),
                    };
                    let ineligible = self.registry.devices().ineligible(&needs, &run.ids, range)?;
                    events.push(Event::Opened { ineligible, at });
                }
                Effect::Write { ordinals, failures_left } => run.write = Some((ordinals, failures_left)),
                Effect::CloseBatch { batch } => self.close_batch(run, batch, now)?,
                // Until then a process that dies tells them again.
                Effect::Finish { status, cause } if status.is_final() && self.tells(run) && !run.is_draining => {
                    run.end = Some((status, cause));
                }
                Effect::Finish { status, cause } => self.finish(run, status, cause, now)?,
                Effect::Record { .. }
                | Effect::RecordLate { .. }
                | Effect::Unsend { .. }
                | Effect::Send { .. }
                | Effect::Notify { .. } => {}
            }
        }
        Ok(events)
    }

    /// Returns when a batch was opened for the first time, and notes it when that is now.
    fn opened_at(&mut self, run: &mut Active, batch: u32, now: Timestamp) -> Result<Timestamp, ExecuteError> {
        if let Some(open) = run.open_batch.filter(|open| open.batch == batch) {
            return Ok(open.at);
        }
        if run.rollout.spec().may_wait() {
            let opened = OpenBatch { batch, at: now };
            self.registry.write(Change::OpenBatch { run_id: run.run_id, opened })?;
            run.open_batch = Some(opened);
        }
        Ok(now)
    }

    /// Sends a command to devices, given as (ordinal, attempt).
    fn send(&mut self, run: &mut Active, now: Timestamp, devices: &[(u32, u32)]) {
        let Action::Command(command) = &run.job.action else { return };
        let payload = Arc::new(run.secrets.sent(&command.payload));
        let (method, is_idempotent, expires_after) = (command.method(), command.idempotent, command.response_timeout);
        let ask = Ask::Command { method, payload, is_idempotent, expires_after };
        for (ordinal, attempt) in devices {
            self.request(run, now, (*ordinal, *attempt), ask.clone());
        }
    }

    /// Sends some devices the version of their desired properties that the run has written, as many as may be in flight
    /// at once. Returns false when there was no such device, or no room.
    pub(super) fn notify_next(&mut self, run: &mut Active, now: Timestamp) -> Result<bool, ExecuteError> {
        let room = (self.fleet.limits.in_flight as usize).saturating_sub(self.link.under_way());
        let next = run.to_notify.len().min(room).min(limits::WRITE_CHUNK);
        if next == 0 || run.job.action.desired().is_none() {
            return Ok(false);
        }
        let ordinals: Vec<u32> = run.to_notify.drain(..next).collect();
        let ordinals = self.with_its_secrets(run, ordinals)?;
        let patches = self.patches(run, &ordinals)?;
        let versions = self.versions(run, &ordinals)?;
        for ((ordinal, version), patch) in ordinals.iter().zip(versions).zip(patches) {
            let patch = if run.secrets.is_empty() { patch } else { Arc::new(run.secrets.sent(&patch)) };
            self.request(run, now, (*ordinal, 1), Ask::Desired { patch, version });
        }
        Ok(true)
    }

    /// Returns the version that each of some written devices is told, in their order: that of the write where an
    /// acknowledgement of it is awaited, and that of now otherwise. A device that sees that it has missed one asks for
    /// its twin.
    fn versions(&self, run: &Active, ordinals: &[u32]) -> Result<Vec<u64>, ExecuteError> {
        if run.rollout.spec().work == WorkKind::WriteAndConfirm {
            return Ok(self.registry.journal().written_versions(run.run_id, ordinals)?);
        }
        let ids: Vec<String> = ordinals.iter().map(|at| run.ids.get(*at as usize).to_string()).collect();
        let versions = self.registry.devices().desired_versions(&ids)?;
        Ok(ids.iter().map(|id| versions.get(id).copied().unwrap_or_default()).collect())
    }

    /// Returns those of some written devices of which the registry has the secrets of the run as they are now.
    ///
    /// 1. A device is written with a secret, and the process dies. 2. The secret is changed, and the next process takes
    ///    up the run. 3. The value of what was written is gone: the device is not sent another one as that version. It
    ///    acknowledges what it was sent before, or expires, and the next run finds that it has another secret.
    fn with_its_secrets(&self, run: &Active, ordinals: Vec<u32>) -> Result<Vec<u32>, ExecuteError> {
        let sent = run.assignment.as_ref().and_then(Assignment::desired);
        let Some((patch, _)) = sent.filter(|_| !run.secrets.is_empty()) else { return Ok(ordinals) };
        let mut kept = Vec::with_capacity(ordinals.len());
        for ordinal in ordinals {
            let device = self.registry.devices().get(run.ids.get(ordinal as usize))?;
            if device.is_none_or(|device| run.secrets.are_marked_in(&device.desired, patch)) {
                kept.push(ordinal);
            }
        }
        Ok(kept)
    }

    /// Returns the patch of a run as each of some devices gets it, in their order.
    pub(super) fn patches(&self, run: &Active, ordinals: &[u32]) -> Result<Vec<Arc<Value>>, ExecuteError> {
        let Some((patch, marks)) = run.assignment.as_ref().and_then(Assignment::desired) else { return Ok(Vec::new()) };
        if marks.is_empty() {
            let patch = Arc::new(patch.clone());
            return Ok(vec![patch; ordinals.len()]);
        }
        let ids: Vec<String> = ordinals.iter().map(|at| run.ids.get(*at as usize).to_string()).collect();
        let templates = self.registry.devices().templates_of(&ids)?;
        let mut made: BTreeMap<Option<&str>, Arc<Value>> = BTreeMap::new();
        let patches = ids.iter().map(|id| {
            let template = templates.get(id).map(String::as_str);
            let patch = made.entry(template).or_insert_with(|| Arc::new(marks.apply(patch, template).into_owned()));
            Arc::clone(patch)
        });
        Ok(patches.collect())
    }

    fn request(&mut self, run: &mut Active, now: Timestamp, (ordinal, attempt): (u32, u32), ask: Ask) {
        let fleet = &self.fleet.name;
        let key = run.key.get_or_insert_with(|| run.claim.key(fleet));
        let device_id = run.ids.get(ordinal as usize).to_string();
        let execution_id = key.execution_id(&device_id);
        let token = Token { run_id: run.run_id, ordinal, attempt };
        self.link.send(now, Request { token, execution_id, device_id, ask });
    }

    /// Performs the waiting registry write of a run. Returns false when it has none.
    pub(super) fn write_next(&mut self, run: &mut Active, now: Timestamp) -> Result<bool, ExecuteError> {
        let Some((ordinals, failures_left)) = run.write.take() else { return Ok(false) };
        let assignment = run.assignment.as_ref().expect("only jobs that write ask for a write");
        let devices: Vec<(u32, &str)> = ordinals.iter().map(|at| (*at, run.ids.get(*at as usize))).collect();
        let chunk = Chunk {
            run_id: run.run_id,
            devices: &devices,
            failures_left,
            awaits_acknowledgement: run.rollout.spec().work == WorkKind::WriteAndConfirm,
            now,
        };
        let outcomes = self.registry.write(Change::Write { assignment, chunk })?.into_written();
        run.count(outcomes.iter().map(|(_, reason)| *reason));
        if self.tells(run) {
            let written = outcomes.iter().filter(|(_, reason)| *reason == Reason::Written);
            run.to_notify.extend(written.map(|(ordinal, _)| *ordinal));
        }
        self.feed(run, now, vec![Event::Written { outcomes }])?;
        Ok(true)
    }

    /// Returns true when devices are told what the run has written, and no acknowledgement is awaited.
    pub(super) fn tells(&self, run: &Active) -> bool {
        run.job.action.desired().is_some() && run.rollout.spec().work == WorkKind::Write && self.link.tells_desired()
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

    pub(super) fn finish(
        &mut self,
        run: &mut Active,
        status: RunStatus,
        cause: Option<RunCause>,
        now: Timestamp,
    ) -> Result<(), ExecuteError> {
        let reason = cause.map(|cause| cause.to_string());
        let at = run.finished_at.unwrap_or(now);
        let end = Change::End { run_id: run.run_id, status, reason: reason.as_deref(), at };
        self.registry.write(end)?;
        let mut record = run.record(status, cause, now);
        if run.is_draining {
            // The next start finds it in the journal and publishes it.
            run.finished = Some(record);
            return Ok(());
        }
        if status.is_final() {
            let total = run.rollout.spec().total;
            self.publish(run, &mut record, total)?;
            self.registry.write(Change::Close { run_id: run.run_id })?;
            (self.observer)(&Progress::RunFinished { record: record.clone() });
        } else {
            // Unfinished batches are in the journal; the branch gets the finished ones, and the record that the run was
            // stopped. A run that is stopped before it goes on has not opened its batches: it is still at the first.
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

    /// Pauses a run that only waits for devices.
    pub(super) fn pause(&mut self, run: &mut Active) {
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
        let record = RunRecord { reason: Some(reason), ..run.record(RunStatus::Running, None, now) };
        (self.observer)(&Progress::RunPaused { record: record.clone(), waiting });
        run.finished = Some(record);
    }

    fn publish(&mut self, run: &mut Active, record: &mut RunRecord, upto: u32) -> Result<(), ExecuteError> {
        let key = run.claim.key(&self.fleet.name);
        let publication = Publication {
            run_id: run.run_id,
            key: &key,
            ids: &run.ids,
            devices: self.fleet.results.devices,
            upto,
            sizes: run.rollout.spec().sizes,
        };
        run.published = self.crash.around("publish", || publish(self.branch, self.registry, &publication, record))?;
        Ok(())
    }
}
