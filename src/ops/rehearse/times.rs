//! When the runs of a rehearsal started and ended.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::execute::Progress;
use crate::ledger::RunRecord;
use crate::model::id::{Name, RunToken};

/// What a run would come to. The times in its record are virtual.
#[derive(Debug, Clone)]
pub struct RehearsedRun {
    pub record: RunRecord,
    /// From the start of the apply to the start of the run.
    pub starts_after: Duration,
    /// From its start, or from the start of the apply when it had started before, to its end.
    pub takes: Duration,
}

/// When runs started and ended.
pub(super) struct Times {
    apply_started: Timestamp,
    started: BTreeMap<(Name, RunToken), Timestamp>,
    ended: BTreeMap<(Name, RunToken), Timestamp>,
    /// The runs of a branch that was published again.
    pub republished: Option<u64>,
}

impl Times {
    pub fn new(apply_started: Timestamp) -> Times {
        Times { apply_started, started: BTreeMap::new(), ended: BTreeMap::new(), republished: None }
    }

    pub fn note(&mut self, progress: &Progress, now: Timestamp) {
        match progress {
            Progress::RunStarted { job, run, .. } => {
                self.started.insert((job.clone(), run.clone()), now);
            }
            Progress::RunFinished { record } | Progress::RunPaused { record, .. } => {
                self.ended.insert((record.job.clone(), record.run.clone()), now);
            }
            Progress::BranchRepublished { runs, .. } => self.republished = Some(*runs),
            _ => {}
        }
    }

    pub fn run(&self, record: RunRecord) -> RehearsedRun {
        let key = (record.job.clone(), record.run.clone());
        let ended = self.ended.get(&key).copied().unwrap_or(self.apply_started);
        // One that only notes its end has no start.
        let started = self.started.get(&key).copied().unwrap_or(ended);
        RehearsedRun { record, starts_after: between(self.apply_started, started), takes: between(started, ended) }
    }
}

/// Returns the time from one instant to another; zero when the other is earlier.
pub(super) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}
