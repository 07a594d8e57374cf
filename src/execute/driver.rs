//! The loop over all running jobs.

use std::time::Duration;

use jiff::Timestamp;

use super::active::Active;
use super::{Clock, CrashPoints, ExecuteError, Inbox, Progress, RunInput, Running, Wakeup, Wakeups};
use crate::ledger::RunRecord;
use crate::link::DeviceLink;
use crate::model::fleet::Fleet;
use crate::model::limits;
use crate::model::outcome::{Reason, RunStatus};
use crate::model::secret::Masks;
use crate::registry::{Change, Registry};
use crate::repo::ResultsBranch;
use crate::rollout::Event;

/// How long what devices say is gathered at most while so many devices are in flight: what comes in a moment is written
/// with one commit and one look at the disk, and none of the others waits for it.
const GATHER_TIME: Duration = Duration::from_millis(8);
const GATHERED_MIN: u32 = 500;

/// The ports and settings for executing runs.
pub struct Executor<'a> {
    pub registry: &'a mut Registry,
    pub branch: &'a ResultsBranch<'a>,
    pub link: &'a mut dyn DeviceLink,
    pub clock: &'a dyn Clock,
    pub fleet: &'a Fleet,
    pub inbox: &'a Inbox,
    /// Wakeups that have arrived since this executor was made and are not for it.
    pub woken: Wakeups,
    /// Hides secrets in what devices say.
    pub masks: Masks,
    /// How long devices in flight are awaited after an interrupt.
    pub grace: Duration,
    /// Keep running while devices wait to come online.
    pub waits: bool,
    /// Wait until the link reaches devices again, however long that takes.
    pub outlasts_outages: bool,
    /// Where the process may die.
    pub crash: &'a CrashPoints,
    pub observer: &'a mut dyn FnMut(&Progress),
}

impl Executor<'_> {
    /// Executes runs: at most `limits.runningJobs` at once, the others later in the order in which they came. Returns
    /// when one or more have ended or cannot go on before time passes, at the time `until`, or when a wakeup arrives
    /// that is not for the executor. Jobs with commands to the same device wait for each other. Returns the runs that
    /// ended, none when the time came first. After an interrupt waiting runs are left.
    ///
    /// # Errors
    /// The registry, the repository or the link failed. Everything done so far is journaled.
    pub fn execute(&mut self, running: &mut Running, until: Timestamp) -> Result<Vec<RunRecord>, ExecuteError> {
        // A run that by now only waits for devices has given its slot back.
        running.has_room |= self.waits && !running.queue.is_empty();
        loop {
            while running.has_room && !self.inbox.is_interrupted() {
                match running.next(self.fleet.limits.running_jobs, self.waits) {
                    Some(next) => running.active.push(self.open(next)?),
                    None => running.has_room = false,
                }
            }
            let now = self.clock.now();
            self.tell_link(running);
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
                    // The next start tells the devices what this one could not.
                    if run.end.take().is_some() {
                        self.finish(run, RunStatus::Running, None, now)?;
                    }
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
            } else if worked {
                self.gather(active, now);
            }
            if self.woken.has(Wakeup::Push) || self.woken.asks_to_look() {
                return Ok(ended);
            }
        }
    }

    /// Ends after a failure: starts nothing more, awaits what is in flight for at most the grace, and journals the
    /// outcomes. Publishes nothing, and leaves further failures to the next start.
    pub fn drain(&mut self, running: &mut Running) {
        running.queue.clear();
        let active = &mut running.active;
        let start = self.clock.now();
        let end = start.checked_add(self.grace).unwrap_or(Timestamp::MAX);
        for run in active.iter_mut() {
            run.is_draining = true;
            // A run whose step failed has already taken its first event; its devices in flight are awaited all the
            // same.
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
        let has_started = input.started_at.is_some();
        let mut run = Active::new(input, self.registry, now)?;
        if has_started && !is_stop && self.tells(&run) {
            // The process may have died between a write and the message of it.
            let is_written = |ordinal: &u32| run.rollout.reason(*ordinal) == Reason::Written;
            run.to_notify = (0..run.rollout.spec().total).filter(is_written).collect();
        }
        if !is_stop {
            (self.observer)(&run.started());
        }
        Ok(run)
    }

    /// Divides the window of devices in flight among the running jobs, and starts jobs that were just added. A job
    /// whose share grows goes on at once, because its devices in flight may stay silent for long.
    fn share_window(&mut self, active: &mut [Active], now: Timestamp) -> Result<(), ExecuteError> {
        let limit = self.fleet.limits.in_flight;
        // What would only wait in a queue is not under way: its time would run out there. While no request reaches a
        // device there is no room at all.
        let mut room = if self.link.is_ready() { u32::try_from(self.link.room()).unwrap_or(u32::MAX) } else { 0 };
        let share = limit / u32::try_from(active.len().max(1)).unwrap_or(u32::MAX);
        for at in 0..active.len() {
            // Jobs that were here first may still have more than their share in flight.
            let others = active.iter().enumerate().filter(|(other, _)| *other != at);
            let taken: u32 = others.map(|(_, run)| run.rollout.in_flight()).sum();
            let run = &mut active[at];
            let window = share.min(limit.saturating_sub(taken)).max(limit.min(1));
            let in_flight = run.rollout.in_flight();
            let window = window.min(in_flight.saturating_add(room));
            room = room.saturating_sub(window.saturating_sub(in_flight));
            let has_grown = run.rollout.set_window(window);
            match run.first.take() {
                Some(first) => self.feed(run, now, vec![first])?,
                None if has_grown => self.feed(run, now, vec![Event::Tick])?,
                None => {}
            }
        }
        Ok(())
    }

    /// Tells, once, that what runs waits for the link, and that it does no more.
    fn tell_link(&mut self, running: &mut Running) {
        let is_away = running.active.iter().any(Active::needs_link) && !self.link.is_ready();
        // The status counts all devices.
        let reason = if is_away { self.link.status().and_then(|status| status.fault) } else { None };
        match (reason, running.is_link_away) {
            (Some(reason), false) => {
                running.is_link_away = true;
                (self.observer)(&Progress::LinkAway { reason });
            }
            (None, true) if self.link.is_ready() => {
                running.is_link_away = false;
                (self.observer)(&Progress::LinkBack);
            }
            _ => {}
        }
    }

    /// Takes in what has happened and does one piece of work for each job. Returns false when there was nothing to do.
    fn turn(&mut self, active: &mut [Active], now: Timestamp) -> Result<bool, ExecuteError> {
        if !self.outlasts_outages
            && active.iter().any(Active::needs_link)
            && let Some(fault) = self.link.fault()
        {
            return Err(fault.into());
        }
        let heard = self.link.poll(now)?;
        let events = self.hear(active, heard, now)?;
        // Events of one run must not be lost because another run failed.
        let (mut worked, mut failure) = (false, None);
        for (run, mut events) in active.iter_mut().zip(events) {
            if !self.is_withheld(run) && run.rollout.deadline().is_some_and(|deadline| deadline <= now) {
                events.push(Event::Tick);
            }
            match self.turn_of(run, now, events, failure.is_none()) {
                Ok(has_worked) => worked |= has_worked,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_none() {
            self.link.settle();
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
        if may_start && (!run.needs_link() || self.link.is_ready()) {
            // What is written is told before more is written.
            if run.to_notify.len() < limits::WRITE_CHUNK || !self.tells(run) {
                worked |= self.write_next(run, now)?;
            }
            worked |= self.notify_next(run, now)?;
        }
        if let Some((status, cause)) = run.end.take_if(|_| run.to_notify.is_empty() && self.link.untold() == 0) {
            self.finish(run, status, cause, now)?;
            worked = true;
        }
        Ok(worked)
    }

    /// Returns true when a write waits for the link: no time passes for the machine, whose next step is to hear of it.
    fn is_withheld(&self, run: &Active) -> bool {
        run.write.is_some() && run.needs_link() && !self.link.is_ready()
    }

    /// Removes the runs that do not go on. Runs that only wait for devices are paused when nothing else goes on, or
    /// when others wait for their slots. A run whose devices have waited long enough goes on, because they expire now.
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

    /// Waits a moment for more of what devices say, since a turn that had something to do, while enough are in flight.
    fn gather(&mut self, active: &[Active], since: Timestamp) {
        let in_flight: u32 = active.iter().map(|run| run.rollout.in_flight()).sum();
        if in_flight < GATHERED_MIN || !self.link.hears_alone() {
            return;
        }
        let until = since.checked_add(GATHER_TIME).unwrap_or(since);
        while self.clock.now() < until && !self.woken.is_for_others_than(Wakeup::Link) && !self.inbox.is_interrupted() {
            self.woken = self.woken.and(self.clock.wait(until, self.inbox));
        }
    }

    fn wait(&mut self, active: &[Active], abandon_at: Option<Timestamp>, until: Timestamp) {
        let deadlines = active.iter().filter(|run| !self.is_withheld(run)).filter_map(|run| run.rollout.deadline());
        let link = [self.link.due(), self.link.expects_until()].into_iter().flatten();
        let next = deadlines.chain(link).chain(abandon_at).min().unwrap_or(until);
        self.woken = self.woken.and(self.clock.wait(next.min(until), self.inbox));
    }
}
