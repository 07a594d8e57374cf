//! The loop over all running jobs.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::perform::Active;
use super::{Clock, CrashPoints, ExecuteError, Inbox, Progress, Wakeup, Wakeups};
use crate::ledger::{Claim, Published, RunRecord};
use crate::link::{Report, ReportKind, SimulatedDevices};
use crate::model::fleet::Fleet;
use crate::model::id::{Name, RunToken};
use crate::model::job::{Action, Job};
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::text::{sanitize_line, shorten};
use crate::registry::{Assignment, Registry};
use crate::repo::ResultsBranch;
use crate::rollout::Event;

/// What is kept of what a device says.
pub(super) fn answer_text(text: &str) -> String {
    shorten(&sanitize_line(text), limits::MESSAGE_CHARS_MAX).into_owned()
}

/// A claimed run to be started, continued or stopped.
#[derive(Debug)]
pub struct RunInput {
    pub run_id: i64,
    pub job: Job,
    /// What it writes to each device; `None` for a command.
    pub assignment: Option<Assignment>,
    pub claim: Claim,
    pub ids: DeviceIds,
    /// Device templates that the job does not fit: their devices fail when their batch starts.
    pub mismatching: BTreeSet<Name>,
    /// Of the first start; `None` when it has never started.
    pub started_at: Option<Timestamp>,
    /// How far its results are on the branch.
    pub published: Published,
    /// Start no device: note that it is stopped.
    pub is_stop: bool,
}

impl RunInput {
    /// Returns true when both runs are commands and some device is in both: a device has at most one command in flight.
    pub(super) fn collides_with(&self, other: &RunInput) -> bool {
        !self.is_stop && !other.is_stop && collide((&self.job, &self.ids), (&other.job, &other.ids))
    }
}

/// Returns true when both jobs are commands and some device is in both.
pub(super) fn collide(one: (&Job, &DeviceIds), two: (&Job, &DeviceIds)) -> bool {
    let is_command = |job: &Job| matches!(job.action, Action::Command(_));
    is_command(one.0) && is_command(two.0) && one.1.intersects(two.1)
}

/// The world that runs are executed in.
pub struct Executor<'a> {
    pub registry: &'a mut Registry,
    pub branch: &'a ResultsBranch<'a>,
    pub link: &'a mut SimulatedDevices,
    pub clock: &'a dyn Clock,
    pub fleet: &'a Fleet,
    pub inbox: &'a Inbox,
    /// What has arrived in the inbox since this executor was made and is not for it.
    pub woken: Wakeups,
    /// How long devices in flight are awaited after an interrupt.
    pub grace: Duration,
    /// Stay for devices that wait to come online.
    pub waits: bool,
    /// Where the process may die.
    pub crash: &'a CrashPoints,
    pub observer: &'a mut dyn FnMut(&Progress),
}

/// The runs that are executed now, and those that wait for their turn.
#[derive(Default)]
pub struct Running {
    queue: VecDeque<RunInput>,
    active: Vec<Active>,
    /// When what is in flight is given up after an interrupt.
    abandon_at: Option<Timestamp>,
    /// A run may start now that could not before.
    has_room: bool,
}

impl Running {
    /// Takes a run in, behind those that wait.
    pub fn add(&mut self, run: RunInput) {
        self.queue.push_back(run);
        self.has_room = true;
    }

    /// Returns true when there is nothing to execute.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.active.is_empty()
    }

    /// Returns true when nothing is executed; runs may wait.
    pub fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// Returns the jobs and run tokens, those that are executed first.
    pub fn runs(&self) -> Vec<(Name, RunToken)> {
        let active = self.active.iter().map(|run| (run.job.name.clone(), run.job.run.clone()));
        let queued = self.queue.iter().map(|run| (run.job.name.clone(), run.job.run.clone()));
        active.chain(queued).collect()
    }

    /// Returns true when a run is executed or waits for its turn.
    pub fn has(&self, job: &Name, run: Option<&RunToken>) -> bool {
        let mut active = self.active.iter().map(|run| &run.job).chain(self.queue.iter().map(|run| &run.job));
        active.any(|held| held.name == *job && Some(&held.run) == run)
    }

    /// Lets a job start no further device; what is in flight finishes. Returns false when that was asked for before.
    pub fn stop(&mut self, job: &Name) -> bool {
        let mut is_new = false;
        for run in self.active.iter_mut().filter(|run| run.job.name == *job) {
            is_new |= !run.is_stopping;
            run.is_asked_to_stop |= !run.is_stopping;
            run.is_stopping = true;
        }
        for run in self.queue.iter_mut().filter(|run| run.job.name == *job) {
            is_new |= !run.is_stop;
            (run.is_stop, self.has_room) = (true, true);
        }
        is_new
    }

    /// Takes the first run out of the queue that may start beside the active ones and before those that came earlier; one that only
    /// notes its stop always may. Where those that only wait for devices stay, they may do so without a slot.
    fn next(&mut self, slots: u32, is_free_waiting: bool) -> Option<RunInput> {
        let taken = self.active.iter().filter(|run| !(is_free_waiting && run.rollout.only_waits())).count();
        let has_slot = taken < slots as usize;
        let may_start = |at: usize| {
            let next = &self.queue[at];
            let is_first = || !self.queue.iter().take(at).any(|earlier| earlier.collides_with(next));
            next.is_stop || (has_slot && !self.active.iter().any(|run| run.collides_with(next)) && is_first())
        };
        let at = (0..self.queue.len()).find(|at| may_start(*at))?;
        self.queue.remove(at)
    }
}

impl Executor<'_> {
    /// Executes runs, at most `limits.runningJobs` of the fleet at once and the others in the order in which they came, until one or
    /// more have ended or cannot go on without time passing, until a time, or until something arrives that is not for it. Commands to the same device wait for each other, job
    /// by job. Returns what ended, which is nothing when the time came first; after an interrupt what waits is left.
    ///
    /// # Errors
    /// The registry, the repository or the link failed. What was done is journaled.
    pub fn execute(&mut self, running: &mut Running, until: Timestamp) -> Result<Vec<RunRecord>, ExecuteError> {
        // A run that only waits for devices by now has given its slot back.
        running.has_room |= self.waits && !running.queue.is_empty();
        loop {
            while running.has_room && !self.inbox.is_interrupted() {
                match running.next(self.fleet.limits.running_jobs, self.waits) {
                    Some(next) => running.active.push(self.open(next)?),
                    None => running.has_room = false,
                }
            }
            let now = self.clock.now();
            let active = &mut running.active;
            self.share_window(active, now)?;
            for run in active.iter_mut().filter(|run| run.is_asked_to_stop) {
                run.is_asked_to_stop = false;
                self.feed(run, now, vec![Event::Stop])?;
            }
            if self.inbox.is_interrupted() && running.abandon_at.is_none() {
                running.abandon_at = Some(now.checked_add(self.grace).unwrap_or(Timestamp::MAX));
                for run in active.iter_mut() {
                    self.feed(run, now, vec![Event::Interrupt])?;
                }
            }
            let worked = self.turn(active, now)?;
            if running.abandon_at.is_some_and(|at| at <= now) {
                for run in active.iter_mut() {
                    self.feed(run, now, vec![Event::Abandon])?;
                }
            }
            let ended = self.collect(active, !running.queue.is_empty(), now)?;
            running.has_room |= !ended.is_empty();
            let is_over = active.is_empty() && (running.queue.is_empty() || self.inbox.is_interrupted());
            if !ended.is_empty() || is_over || until <= now {
                return Ok(ended);
            }
            if !worked && !active.is_empty() {
                self.wait(active, running.abandon_at, until);
            }
            if self.woken.has(Wakeup::Push) || self.woken.asks_to_look() {
                return Ok(ended);
            }
        }
    }

    /// Ends after a failure: starts nothing more, awaits what is in flight for the grace at most, and journals what comes of it. Nothing
    /// is published, and what fails now too is left to the next start.
    pub fn drain(&mut self, running: &mut Running) {
        running.queue.clear();
        let active = &mut running.active;
        let start = self.clock.now();
        let end = start.checked_add(self.grace).unwrap_or(Timestamp::MAX);
        for run in active.iter_mut() {
            run.is_draining = true;
            // A run whose step failed has taken it: what it has in flight is awaited all the same.
            drop(self.feed(run, start, vec![Event::Interrupt]));
        }
        while active.iter().any(|run| run.rollout.in_flight() > 0) {
            self.wait(active, Some(end), end);
            let now = self.clock.now();
            if self.turn(active, now).is_err() || end <= now {
                return;
            }
        }
    }

    fn open(&mut self, input: RunInput) -> Result<Active, ExecuteError> {
        let now = self.clock.now();
        if !input.is_stop {
            self.crash.around("start run", || self.registry.start_run(input.run_id, now))?;
        }
        let is_stop = input.is_stop;
        let run = Active::new(input, self.registry, now)?;
        if !is_stop {
            (self.observer)(&run.started());
        }
        Ok(run)
    }

    /// Divides what may be in flight among the running jobs, and starts those that were just opened. A job that may have more in
    /// flight than before goes on at once: what it has in flight may be silent for long.
    fn share_window(&mut self, active: &mut [Active], now: Timestamp) -> Result<(), ExecuteError> {
        let limit = self.fleet.limits.in_flight;
        let share = limit / u32::try_from(active.len().max(1)).unwrap_or(u32::MAX);
        for at in 0..active.len() {
            // Those that were here first may have more than their share in flight still.
            let others = active.iter().enumerate().filter(|(other, _)| *other != at);
            let taken: u32 = others.map(|(_, run)| run.rollout.in_flight()).sum();
            let run = &mut active[at];
            let has_grown = run.rollout.set_window(share.min(limit.saturating_sub(taken)));
            match run.first.take() {
                Some(first) => self.feed(run, now, vec![first])?,
                None if has_grown => self.feed(run, now, vec![Event::Tick])?,
                None => {}
            }
        }
        Ok(())
    }

    /// Takes in what has happened and does one piece of work for each job; false when there was nothing to do.
    fn turn(&mut self, active: &mut [Active], now: Timestamp) -> Result<bool, ExecuteError> {
        let mut events: Vec<Vec<Event>> = active.iter().map(|_| Vec::new()).collect();
        let mut reported: Vec<Vec<(u32, Value)>> = active.iter().map(|_| Vec::new()).collect();
        for report in self.crash.around("poll", || self.link.poll(now))? {
            let Report { run_id, ordinal, kind } = report;
            let Some(at) = active.iter().position(|run| run.run_id == run_id) else {
                // Its run has ended here, and its device has an outcome or stays pending.
                if let ReportKind::Answered { code, message } = kind {
                    let message = answer_text(&message);
                    self.crash
                        .around("record late", || self.registry.record_late(run_id, ordinal, code, &message, now))?;
                }
                continue;
            };
            match kind {
                ReportKind::Answered { code, message } => {
                    events[at].push(Event::Answered { ordinal, code, message: answer_text(&message) });
                }
                ReportKind::Reported { patch } => reported[at].push((ordinal, patch)),
                ReportKind::Unreachable => events[at].push(Event::Unreachable { ordinal }),
                ReportKind::Connected => events[at].push(Event::Connected { ordinal }),
            }
        }
        for (at, reports) in reported.iter().enumerate().filter(|(_, reports)| !reports.is_empty()) {
            events[at].extend(self.take_reports(&active[at], reports, now)?);
        }
        // What has come for one run is not lost because another one failed.
        let (mut worked, mut failure) = (false, None);
        for (run, mut events) in active.iter_mut().zip(events) {
            if run.rollout.deadline().is_some_and(|deadline| deadline <= now) {
                events.push(Event::Tick);
            }
            match self.turn_of(run, now, events, failure.is_none()) {
                Ok(has_worked) => worked |= has_worked,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(worked), Err)
    }

    /// Takes in what has happened to one run and, if it may start something, does one piece of work for it.
    fn turn_of(
        &mut self,
        run: &mut Active,
        now: Timestamp,
        events: Vec<Event>,
        may_start: bool,
    ) -> Result<bool, ExecuteError> {
        let mut worked = !events.is_empty();
        if worked {
            self.feed(run, now, events)?;
        }
        if may_start {
            worked |= self.write_next(run, now)?;
            worked |= self.notify_next(run, now)?;
        }
        Ok(worked)
    }

    /// Takes the runs that do not go on out of the list. Those that only wait for devices are left when nothing else goes on, or when
    /// others wait for their slots; one whose devices have waited long enough goes on: they expire now.
    fn collect(
        &mut self,
        active: &mut Vec<Active>,
        has_queue: bool,
        now: Timestamp,
    ) -> Result<Vec<RunRecord>, ExecuteError> {
        let only_waits = |run: &Active| {
            let is_over = run.rollout.deadline().is_some_and(|deadline| deadline <= now);
            run.finished.is_some() || (run.to_notify.is_empty() && !is_over && run.rollout.only_waits())
        };
        let may_leave = !self.waits && self.link.is_quiet() && (has_queue || active.iter().all(only_waits));
        let mut ended = Vec::new();
        let mut at = 0;
        while at < active.len() {
            if may_leave && active[at].finished.is_none() && only_waits(&active[at]) {
                self.pause(&mut active[at])?;
            }
            match active[at].finished.take() {
                Some(record) => {
                    ended.push(record);
                    active.remove(at);
                }
                None => at += 1,
            }
        }
        Ok(ended)
    }

    fn wait(&mut self, active: &[Active], abandon_at: Option<Timestamp>, until: Timestamp) {
        let deadlines = active.iter().filter_map(|run| run.rollout.deadline());
        let next = deadlines.chain(self.link.due()).chain(abandon_at).min();
        let until = next.expect("a run that neither works nor waits has finished").min(until);
        self.woken = self.woken.and(self.clock.wait(until, self.inbox));
    }
}
