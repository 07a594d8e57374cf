//! The loop over all running jobs.

use std::time::Duration;

use jiff::Timestamp;

use super::active::Active;
use super::{Clock, CrashPoints, ExecuteError, Inbox, Progress, RunInput, Running, Wakeup, Wakeups};
use crate::ledger::RunRecord;
use crate::link::DeviceLink;
use crate::model::fleet::Fleet;
use crate::registry::{Change, Registry};
use crate::repo::ResultsBranch;
use crate::rollout::Event;

/// The world that runs are executed in.
pub struct Executor<'a> {
    pub registry: &'a mut Registry,
    pub branch: &'a ResultsBranch<'a>,
    pub link: &'a mut dyn DeviceLink,
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

impl Executor<'_> {
    /// Executes runs, at most `limits.runningJobs` of the fleet at once and the others in the order in which they came, until one or
    /// more have ended or cannot go on without time passing, or until a time, or until something arrives that is not for it. Commands
    /// to the same device wait for each other, job by job. Returns what ended, which is nothing when the time came first; after an
    /// interrupt what waits is left.
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
            self.registry.write(Change::Start { run_id: input.run_id, at: now })?;
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
        let heard = self.link.poll(now)?;
        let events = self.hear(active, heard, now)?;
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
        let is_answer_due = self.link.expects_until().is_some_and(|until| now <= until);
        let may_leave = !self.waits && !is_answer_due && (has_queue || active.iter().all(|run| run.only_waits(now)));
        let mut ended = Vec::new();
        let mut at = 0;
        while at < active.len() {
            if may_leave && active[at].finished.is_none() && active[at].only_waits(now) {
                self.pause(&mut active[at]);
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
        let link = [self.link.due(), self.link.expects_until()].into_iter().flatten();
        let next = deadlines.chain(link).chain(abandon_at).min().unwrap_or(until);
        self.woken = self.woken.and(self.clock.wait(next.min(until), self.inbox));
    }
}
