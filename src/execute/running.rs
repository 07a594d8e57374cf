//! The active runs, and those that wait for their turn.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::RunInput;
use super::active::Active;
use crate::model::id::{Name, RunToken};

/// Runs under way in a process.
#[derive(Default)]
pub struct Running {
    pub(super) queue: VecDeque<RunInput>,
    pub(super) active: Vec<Active>,
    /// The time at which devices in flight are given up after an interrupt.
    pub(super) abandon_at: Option<Timestamp>,
    /// True when a run may be able to start that could not before.
    pub(super) has_room: bool,
    /// It was told that the link does not reach devices.
    pub(super) is_link_away: bool,
}

impl Running {
    /// Adds a run behind those that wait.
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

    /// Returns the jobs and run tokens, active runs first.
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

    /// Keeps a job from starting further devices; devices in flight finish. Returns false when the job was already
    /// asked to stop.
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

    /// Takes the first run out of the queue that may start beside the active runs and before those that came earlier. A
    /// run that only notes its stop always may. With `is_free_waiting`, active runs that only wait for devices need no
    /// slot.
    pub(super) fn next(&mut self, slots: u32, is_free_waiting: bool) -> Option<RunInput> {
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
