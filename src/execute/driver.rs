//! The loop over all running jobs.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::perform::Active;
use super::{Clock, CrashPoints, ExecuteError, Interrupt, Progress};
use crate::ledger::{Claim, Published, RunRecord};
use crate::link::{ReportKind, SimulatedDevices};
use crate::model::fleet::Fleet;
use crate::model::job::Job;
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::text::{sanitize_line, shorten};
use crate::registry::Registry;
use crate::repo::ResultsBranch;
use crate::rollout::Event;

/// A claimed run to be started, continued or stopped.
#[derive(Debug)]
pub struct RunInput {
    pub run_id: i64,
    pub job: Job,
    pub claim: Claim,
    pub ids: DeviceIds,
    /// Of the first start; `None` when it has never started.
    pub started_at: Option<Timestamp>,
    /// How far its results are on the branch.
    pub published: Published,
    /// Start no device: note that it is stopped.
    pub is_stop: bool,
}

/// The world that runs are executed in.
pub struct Executor<'a, C: Clock> {
    pub registry: &'a mut Registry,
    pub branch: &'a ResultsBranch<'a>,
    pub link: &'a mut SimulatedDevices,
    pub clock: &'a C,
    pub fleet: &'a Fleet,
    pub interrupt: &'a Interrupt,
    /// How long devices in flight are awaited after an interrupt.
    pub grace: Duration,
    /// Stay for devices that wait to come online.
    pub waits: bool,
    /// Where the process may die.
    pub crash: &'a CrashPoints,
    pub observer: &'a mut dyn FnMut(&Progress),
}

impl<C: Clock> Executor<'_, C> {
    /// Executes runs, at most `limits.runningJobs` of the fleet at once and the others in the given order, until each has ended or
    /// cannot go on without time passing. Commands to the same device wait for each other, job by job. Returns what each came to.
    ///
    /// # Errors
    /// The registry, the repository or the link failed. What was done is journaled.
    pub async fn execute(&mut self, runs: Vec<RunInput>) -> Result<Vec<RunRecord>, ExecuteError> {
        let mut queue: VecDeque<RunInput> = runs.into();
        let mut active: Vec<Active> = Vec::new();
        let mut ended = Vec::new();
        let mut abandon_at: Option<Timestamp> = None;
        let mut has_room = true;
        loop {
            while has_room && !self.interrupt.is_set() {
                match self.next(&active, &mut queue) {
                    Some(next) => active.push(self.open(next)?),
                    None => has_room = false,
                }
            }
            let (now, known) = (self.clock.now(), ended.len());
            self.share_window(&mut active, now)?;
            if self.interrupt.is_set() && abandon_at.is_none() {
                abandon_at = Some(now.checked_add(self.grace).unwrap_or(Timestamp::MAX));
                for run in &mut active {
                    self.feed(run, now, vec![Event::Interrupt])?;
                }
            }
            let worked = self.turn(&mut active, now)?;
            if abandon_at.is_some_and(|at| at <= now) {
                for run in &mut active {
                    self.feed(run, now, vec![Event::Abandon])?;
                }
            }
            self.collect(&mut active, &mut ended, now)?;
            has_room = has_room || ended.len() > known;
            if active.is_empty() && (queue.is_empty() || self.interrupt.is_set()) {
                return Ok(ended);
            }
            if !worked && !active.is_empty() {
                self.wait(&active, abandon_at).await;
            } else {
                // Lets signals be seen between two chunks of registry writes.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes the first run out of the queue that may start beside the active ones.
    fn next(&self, active: &[Active], queue: &mut VecDeque<RunInput>) -> Option<RunInput> {
        if active.len() >= self.fleet.limits.running_jobs as usize {
            return None;
        }
        let is_free = |next: &RunInput| !active.iter().any(|run| run.collides_with(next));
        queue.iter().position(is_free).and_then(|at| queue.remove(at))
    }

    fn open(&mut self, input: RunInput) -> Result<Active, ExecuteError> {
        let now = self.clock.now();
        if !input.is_stop {
            self.crash.around("start run", || self.registry.start_run(input.run_id, now))?;
        }
        let run = Active::new(input, self.registry, now)?;
        (self.observer)(&run.started());
        Ok(run)
    }

    /// Divides what may be in flight among the running jobs, and starts those that were just opened. A job that may have more in
    /// flight than before goes on at once: what it has in flight may be silent for long.
    fn share_window(&mut self, active: &mut [Active], now: Timestamp) -> Result<(), ExecuteError> {
        let share = self.fleet.limits.in_flight / u32::try_from(active.len().max(1)).unwrap_or(u32::MAX);
        for run in active {
            let has_grown = run.rollout.set_window(share);
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
        for report in self.crash.around("poll", || self.link.poll(now))? {
            let Some(at) = active.iter().position(|run| run.run_id == report.run_id) else { continue };
            let ordinal = report.ordinal;
            events[at].push(match report.kind {
                ReportKind::Answered { code, message } => {
                    let message = shorten(&sanitize_line(&message), limits::MESSAGE_CHARS_MAX).into_owned();
                    Event::Answered { ordinal, code, message }
                }
                ReportKind::Unreachable => Event::Unreachable { ordinal },
            });
        }
        let mut worked = false;
        for (run, mut events) in active.iter_mut().zip(events) {
            if run.rollout.deadline().is_some_and(|deadline| deadline <= now) {
                events.push(Event::Tick);
            }
            if !events.is_empty() {
                worked = true;
                self.feed(run, now, events)?;
            }
            worked |= self.write_next(run, now)?;
        }
        Ok(worked)
    }

    /// Takes the runs that do not go on out of the list. One whose devices have waited long enough goes on: they expire now.
    fn collect(
        &mut self,
        active: &mut Vec<Active>,
        ended: &mut Vec<RunRecord>,
        now: Timestamp,
    ) -> Result<(), ExecuteError> {
        let mut at = 0;
        while at < active.len() {
            let rollout = &active[at].rollout;
            let is_over = rollout.deadline().is_some_and(|deadline| deadline <= now);
            let is_idle = !self.waits && self.link.due().is_none() && !is_over;
            if active[at].finished.is_none() && is_idle && rollout.only_waits() {
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
        Ok(())
    }

    async fn wait(&self, active: &[Active], abandon_at: Option<Timestamp>) {
        let deadlines = active.iter().filter_map(|run| run.rollout.deadline());
        let until = deadlines.chain(self.link.due()).chain(abandon_at).min();
        let until = until.expect("a run that neither works nor waits has finished");
        tokio::select! {
            () = self.clock.sleep_until(until) => {}
            () = self.interrupt.notified() => {}
        }
    }
}
