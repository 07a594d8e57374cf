//! The transitions of the machine.

use crate::ledger::RunCause;
use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, Event, Flight, Halt, Phase, Rollout, WorkKind, failures_left, judge, later, retry};
use crate::model::delivery::OfflinePolicy;
use crate::model::limits;
use crate::model::outcome::{DeviceStatus, Outcome, Reason, RunStatus, SentMark};

/// The effects of one step. Outcomes are gathered into one `Record`, which comes before all effects that they allow.
#[derive(Default)]
struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(Effect::Record { outcomes }) = self.list.last_mut() {
            outcomes.push(outcome);
        } else {
            self.list.push(Effect::Record { outcomes: vec![outcome] });
        }
    }
}

impl Rollout {
    /// Takes in one event and returns the effects, in order.
    ///
    /// # Panics
    /// As [`Rollout::step_all`].
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.step_all(now, [event])
    }

    /// Takes in all events, decides once, and returns the effects, in order. A crossing of the threshold is known
    /// before any device is started, wherever its failure is among the events.
    ///
    /// # Panics
    /// When an event contradicts the state: a terminal device becomes terminal again, or a write is answered that was
    /// not requested. Both are bugs of the driver.
    pub fn step_all(&mut self, now: Timestamp, events: impl IntoIterator<Item = Event>) -> Vec<Effect> {
        let mut effects = Effects::default();
        for event in events {
            if self.is_finished {
                self.after_the_end(event, &mut effects);
            } else {
                self.take(now, event, &mut effects);
            }
        }
        if !self.is_finished {
            self.advance(now, &mut effects);
        }
        effects.list
    }

    /// Changes the state by an event, without deciding what follows.
    fn take(&mut self, now: Timestamp, event: Event, effects: &mut Effects) {
        match event {
            Event::Start => self.start(now, effects),
            Event::Opened { ineligible, at } => {
                self.batch_opened_at = at;
                for (ordinal, reason, message) in ineligible {
                    if self.reason(ordinal).status() == DeviceStatus::Pending {
                        self.end_device(ordinal, reason, None, message.to_string(), now, effects);
                    }
                }
                self.batch_is_open = true;
            }
            Event::Written { outcomes } => self.written(now, outcomes, effects),
            Event::Answered { ordinal, code, message } => self.answered(now, ordinal, code, message, effects),
            Event::Withheld { ordinal, reason } => self.withheld(now, ordinal, reason, effects),
            Event::Unreachable { ordinal } => self.unreachable(now, ordinal, effects),
            Event::Connected { ordinal } => self.connected(ordinal),
            Event::Tick => self.tick(now, effects),
            Event::Stop => self.stop(now, effects),
            Event::Interrupt => self.halt = self.halt.or(Some(Halt::Interrupted)),
            Event::Abandon => {
                let status = if self.halt == Some(Halt::Stopped) { RunStatus::Stopped } else { RunStatus::Running };
                self.finish(status, None, effects);
            }
        }
    }

    /// Stops the run, or cancels it when the threshold was crossed: a process may have died before it could cancel. A
    /// canceled run has ended, and devices that were sent to and did not answer get an outcome.
    fn stop(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.halt.is_some() {
            return;
        }
        self.halt = self.crossing().map(Halt::Canceled).or(Some(Halt::Stopped));
        if let Some(Halt::Canceled(_)) = self.halt {
            self.start(now, effects);
        }
    }

    fn after_the_end(&mut self, event: Event, effects: &mut Effects) {
        if let Event::Answered { ordinal, code, message } = event {
            effects.push(Effect::RecordLate { ordinal, code, message });
        }
    }

    fn start(&mut self, now: Timestamp, effects: &mut Effects) {
        let mut notify = Vec::new();
        for SentMark { ordinal, attempt, at: started_at } in std::mem::take(&mut self.unsettled) {
            let deadline = later(self.batch_opened_at, self.spec.expires_after);
            match self.spec.work {
                WorkKind::Write | WorkKind::WriteAndConfirm => {
                    self.fly(
                        ordinal,
                        Flight { phase: Phase::Unacknowledged, attempt, started_at, deadline, is_in_doubt: false },
                    );
                    notify.push(ordinal);
                }
                WorkKind::Send { idempotent: true, .. } => {
                    self.fly(
                        ordinal,
                        Flight { phase: Phase::Connecting, attempt, started_at, deadline, is_in_doubt: true },
                    );
                    self.ready.insert(ordinal);
                }
                WorkKind::Send { idempotent: false, .. } => {
                    let message = "the process ended after it was sent and before the answer was recorded";
                    self.fly(
                        ordinal,
                        Flight { phase: Phase::Sent, attempt, started_at, deadline: now, is_in_doubt: true },
                    );
                    self.end_device(ordinal, Reason::OutcomeUnknown, None, message.into(), now, effects);
                }
            }
        }
        if !notify.is_empty() {
            effects.push(Effect::Notify { ordinals: notify });
        }
    }

    fn written(&mut self, now: Timestamp, outcomes: Vec<(u32, Reason)>, effects: &mut Effects) {
        assert!(self.is_writing, "a write is answered only when it was asked for");
        self.is_writing = false;
        let mut notify = Vec::new();
        for (ordinal, reason) in outcomes {
            self.cursor = self.cursor.max(ordinal + 1);
            if self.spec.work == WorkKind::WriteAndConfirm && reason == Reason::Written {
                let deadline = later(self.batch_opened_at, self.spec.expires_after);
                let flight =
                    Flight { phase: Phase::Unacknowledged, attempt: 1, started_at: now, deadline, is_in_doubt: false };
                self.fly(ordinal, flight);
                notify.push(ordinal);
            } else {
                self.settle(ordinal, reason);
            }
        }
        if !notify.is_empty() {
            effects.push(Effect::Notify { ordinals: notify });
        }
    }

    fn answered(&mut self, now: Timestamp, ordinal: u32, code: u16, message: String, effects: &mut Effects) {
        if !self.flights.contains_key(&ordinal) {
            effects.push(Effect::RecordLate { ordinal, code, message });
            return;
        }
        let reason = match (self.spec.work, code) {
            (_, 400..) => Reason::Rejected,
            (WorkKind::Send { .. }, _) => Reason::Responded,
            (WorkKind::Write | WorkKind::WriteAndConfirm, _) => Reason::Acknowledged,
        };
        self.end_device(ordinal, reason, Some(code), message, now, effects);
    }

    /// Ends a device that was to be sent to; one that was never spoken to before has no start.
    fn withheld(&mut self, now: Timestamp, ordinal: u32, reason: Reason, effects: &mut Effects) {
        let Some(flight) = self.flights.get(&ordinal).copied() else { return };
        let reason = if flight.is_in_doubt { Reason::OutcomeUnknown } else { reason };
        if flight.attempt == 1 && !flight.is_in_doubt {
            self.unfly(ordinal);
        }
        self.end_device(ordinal, reason, None, String::new(), now, effects);
    }

    fn unreachable(&mut self, now: Timestamp, ordinal: u32, effects: &mut Effects) {
        let Some(flight) = self.flights.get(&ordinal).copied() else { return };
        if flight.phase != Phase::Sent {
            return;
        }
        if self.is_overdue {
            return self.end_device(ordinal, Reason::Offline, None, "it was not connected".to_string(), now, effects);
        }
        if !flight.is_in_doubt {
            effects.push(Effect::Unsend { ordinals: vec![ordinal] });
        }
        let connect_timeout = match self.spec.work {
            WorkKind::Send { connect_timeout, .. } => connect_timeout,
            WorkKind::Write | WorkKind::WriteAndConfirm => Duration::ZERO,
        };
        let (phase, deadline) = match self.spec.offline {
            OfflinePolicy::Fail => (Phase::Connecting, later(now, connect_timeout)),
            OfflinePolicy::Wait => (Phase::WaitingOnline, later(self.batch_opened_at, self.spec.expires_after)),
        };
        self.fly(ordinal, Flight { phase, deadline, ..flight });
    }

    fn connected(&mut self, ordinal: u32) {
        let Some(flight) = self.flights.get(&ordinal) else { return };
        match flight.phase {
            Phase::Connecting | Phase::WaitingOnline => {
                self.ready.insert(ordinal);
            }
            Phase::Sent | Phase::Backoff { .. } | Phase::Unacknowledged => {}
        }
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some((at, ordinal)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            let flight = self.flights.get(&ordinal).copied().expect("every timer belongs to a flight");
            match flight.phase {
                Phase::Sent => self.fail_attempt(ordinal, flight, Reason::Timeout, now, effects),
                Phase::Connecting => self.fail_attempt(ordinal, flight, Reason::Offline, now, effects),
                Phase::Backoff { .. } => {
                    self.timers.remove(&(at, ordinal));
                    self.ready.insert(ordinal);
                }
                Phase::WaitingOnline | Phase::Unacknowledged => {
                    let message = "it did not answer before the job expired".to_string();
                    self.end_device(ordinal, Reason::Expired, None, message, now, effects);
                }
            }
        }
    }

    /// Gives up every device that is neither terminal nor about to answer, because the job's `maxExecutionTime` is
    /// over.
    fn expire_all(&mut self, now: Timestamp, effects: &mut Effects) {
        self.is_overdue = true;
        for ordinal in 0..self.spec.total {
            let is_pending = self.reason(ordinal).status() == DeviceStatus::Pending;
            let flight = self.flights.get(&ordinal);
            if is_pending && flight.is_none_or(|flight| flight.phase != Phase::Sent) {
                self.unattempted += u64::from(flight.is_none());
                let message = "the maxExecutionTime of the job was over".to_string();
                self.end_device(ordinal, Reason::Expired, None, message, now, effects);
            }
        }
        self.ready.clear();
    }

    fn fail_attempt(&mut self, ordinal: u32, flight: Flight, failed: Reason, now: Timestamp, effects: &mut Effects) {
        if self.halt.is_none() && !self.is_overdue && self.spec.may_retry(flight.attempt) {
            let pause = retry::pause(self.spec.retry, self.spec.seed, ordinal, flight.attempt + 1);
            let next = Flight {
                phase: Phase::Backoff { failed },
                attempt: flight.attempt + 1,
                deadline: later(now, pause),
                is_in_doubt: flight.is_in_doubt || failed == Reason::Timeout,
                ..flight
            };
            self.fly(ordinal, next);
        } else {
            let message = match failed {
                Reason::Timeout => "it did not answer in time",
                _ => "it was not connected",
            };
            self.end_device(ordinal, failed, None, message.to_string(), now, effects);
        }
    }

    /// Goes on as far as the state allows: judges the time and the threshold, starts devices, closes and opens batches,
    /// finishes.
    fn advance(&mut self, now: Timestamp, effects: &mut Effects) {
        // A run that is winding down leaves its pending devices pending; the outcome of a write under way is known
        // soon.
        let may_expire = self.halt.is_none() && !self.is_overdue && !self.is_writing;
        if may_expire && self.ends_at().is_some_and(|end| end <= now) {
            self.expire_all(now, effects);
        }
        loop {
            // Devices that expired because the time was over do not cancel the run: it starts nothing any more.
            if self.halt.is_none()
                && !self.is_overdue
                && let Some(crossing) = judge(self.spec.threshold, self.scope())
            {
                self.halt = Some(Halt::Canceled(crossing));
            }
            if let Some(halt) = self.halt {
                self.wind_down(halt, now, effects);
                return;
            }
            if self.batch >= self.spec.batches() {
                let (status, cause) = self.end();
                self.finish(status, cause, effects);
                return;
            }
            if self.batches[self.batch as usize].pending() == 0 {
                effects.push(Effect::CloseBatch { batch: self.batch });
                self.batch += 1;
                self.batch_is_open = false;
                self.cursor = self.spec.batch_range(self.batch).start;
                continue;
            }
            if self.batch_is_open {
                self.start_devices(now, effects);
            } else {
                effects.push(Effect::OpenBatch { batch: self.batch, range: self.spec.batch_range(self.batch) });
            }
            return;
        }
    }

    fn start_devices(&mut self, now: Timestamp, effects: &mut Effects) {
        match self.spec.work {
            WorkKind::Write | WorkKind::WriteAndConfirm => {
                if self.is_writing {
                    return;
                }
                let ordinals = self.next_queued(limits::WRITE_CHUNK);
                if !ordinals.is_empty() {
                    self.is_writing = true;
                    let failures_left = failures_left(self.spec.threshold, self.scope());
                    effects.push(Effect::Write { ordinals, failures_left });
                }
            }
            WorkKind::Send { response_timeout, .. } => {
                let devices = self.next_to_send(now, response_timeout);
                if !devices.is_empty() {
                    effects.push(Effect::Send { devices });
                }
            }
        }
    }

    /// Returns the next queued devices of the open batch without starting them.
    fn next_queued(&mut self, most: usize) -> Vec<u32> {
        let end = self.spec.batch_range(self.batch).end;
        let mut found = Vec::new();
        let mut at = self.cursor;
        while at < end && found.len() < most {
            if self.reason(at) == Reason::Queued {
                found.push(at);
            } else if found.is_empty() {
                self.cursor = at + 1;
            }
            at += 1;
        }
        found
    }

    /// Starts devices until the window is full: first those that were started before, then new ones. Returns (ordinal,
    /// attempt).
    fn next_to_send(&mut self, now: Timestamp, response_timeout: Duration) -> Vec<(u32, u32)> {
        let mut devices = Vec::new();
        let end = self.spec.batch_range(self.batch).end;
        while self.sent < self.window {
            let (ordinal, attempt, started_at, is_in_doubt) = if let Some(ordinal) = self.ready.pop_first() {
                let flight = self.flights.get(&ordinal).expect("what is ready has been started");
                (ordinal, flight.attempt, flight.started_at, flight.is_in_doubt)
            } else {
                while self.cursor < end && self.reason(self.cursor) != Reason::Queued {
                    self.cursor += 1;
                }
                if self.cursor >= end {
                    break;
                }
                self.cursor += 1;
                (self.cursor - 1, 1, now, false)
            };
            let deadline = later(now, response_timeout);
            self.fly(ordinal, Flight { phase: Phase::Sent, attempt, started_at, deadline, is_in_doubt });
            devices.push((ordinal, attempt));
        }
        devices
    }

    /// Ends what need not be awaited, and finishes when nothing is in flight.
    fn wind_down(&mut self, halt: Halt, now: Timestamp, effects: &mut Effects) {
        let idle: Vec<(u32, Flight)> =
            self.flights.iter().filter(|(_, flight)| flight.phase != Phase::Sent).map(|(o, f)| (*o, *f)).collect();
        for (ordinal, flight) in idle {
            match (flight.phase, halt) {
                (Phase::Backoff { failed }, Halt::Canceled(_)) => {
                    let message = "it was not tried again because the job was canceled".to_string();
                    self.end_device(ordinal, failed, None, message, now, effects);
                }
                (_, Halt::Canceled(_)) if flight.is_in_doubt => {
                    let message = "it was sent, it did not answer, and the job was canceled before it was sent again";
                    self.end_device(ordinal, Reason::OutcomeUnknown, None, message.to_string(), now, effects);
                }
                _ => self.unfly(ordinal),
            }
        }
        self.ready.clear();
        if !self.flights.is_empty() || self.is_writing {
            return;
        }
        match halt {
            Halt::Canceled(crossing) => self.finish(RunStatus::Canceled, Some(RunCause::Threshold(crossing)), effects),
            Halt::Stopped => self.finish(RunStatus::Stopped, None, effects),
            Halt::Interrupted => self.finish(RunStatus::Running, None, effects),
        }
    }

    /// Returns the final status of a run whose devices are all terminal: failed when its time was up before it reached
    /// some of them, canceled when too many of the attempted devices failed.
    fn end(&self) -> (RunStatus, Option<RunCause>) {
        let (unattempted, total) = (self.unattempted, self.spec.total);
        if unattempted > 0 {
            let (unattempted, total, limit) = (unattempted, total.into(), self.spec.max_execution_time);
            return (RunStatus::Failed, Some(RunCause::MaxExecutionTime { limit, unattempted, total }));
        }
        match self.crossing() {
            Some(crossing) => (RunStatus::Canceled, Some(RunCause::Threshold(crossing))),
            None => (RunStatus::Completed, None),
        }
    }

    fn finish(&mut self, status: RunStatus, cause: Option<RunCause>, effects: &mut Effects) {
        self.is_finished = true;
        self.timers.clear();
        effects.push(Effect::Finish { status, cause });
    }

    /// Puts a device into a phase, with its timer.
    fn fly(&mut self, ordinal: u32, flight: Flight) {
        self.unfly(ordinal);
        let pending = match flight.phase {
            Phase::Sent => Reason::InFlight,
            Phase::Connecting | Phase::Backoff { .. } | Phase::WaitingOnline | Phase::Unacknowledged => Reason::Waiting,
        };
        self.reasons[ordinal as usize] = pending as u8;
        self.sent += u32::from(flight.phase == Phase::Sent);
        self.timers.insert((flight.deadline, ordinal));
        self.flights.insert(ordinal, flight);
    }

    /// Ends the flight of a device; it is queued again unless it becomes terminal next.
    fn unfly(&mut self, ordinal: u32) {
        if let Some(flight) = self.flights.remove(&ordinal) {
            self.timers.remove(&(flight.deadline, ordinal));
            self.ready.remove(&ordinal);
            self.sent -= u32::from(flight.phase == Phase::Sent);
            self.reasons[ordinal as usize] = Reason::Queued as u8;
        }
    }

    fn end_device(
        &mut self,
        ordinal: u32,
        reason: Reason,
        code: Option<u16>,
        message: String,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let flight = self.flights.get(&ordinal).copied();
        self.unfly(ordinal);
        self.settle(ordinal, reason);
        effects.record(Outcome {
            ordinal,
            reason,
            code,
            message,
            attempts: flight.map_or(0, |flight| flight.attempt),
            started_at: flight.map(|flight| flight.started_at),
            finished_at: Some(now),
        });
    }
}
