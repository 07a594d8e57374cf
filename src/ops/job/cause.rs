//! Why a run is where it is, as values.

use jiff::Timestamp;

use super::crossing::Crossed;
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{Counts, Reason, RunStatus};
use crate::plan::ActionKind;
use crate::registry::{LateAnswer, Waits};

/// A run and what it is where it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    pub job: Name,
    pub run: RunToken,
    /// `None`: it was never claimed, or nothing was recorded since.
    pub status: Option<RunStatus>,
    /// The word that `job list` has for it; `None` with the status.
    pub word: Option<&'static str>,
    /// The most telling first; never empty.
    pub causes: Vec<Cause>,
}

/// One thing that keeps a run where it is, or that brought it there.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Too many devices failed.
    Crossed(Box<Crossed>),
    /// What was recorded when the run ended, where no numbers can be replayed.
    Recorded { reason: String },
    /// Every device was attempted.
    Completed { counts: Counts },
    /// The registry's journal of the run is gone: the outcome of `unknown` devices is not known.
    JournalLost { total: u64, unknown: u64 },
    /// It is stopped, or will be by the next apply.
    Stopped { by: StopCause, progress: RunProgress },
    /// It is claimed and waits for one of the `limit` slots, of which `running` are taken.
    Slot { running: u64, limit: u64 },
    /// It is a command for devices that a command of another run may be under way to.
    SameDevices { job: Name, run: RunToken },
    /// The first batch whose devices are not all terminal; the next one waits for them. `batch` counts from 1.
    OpenBatch { batch: u32, batches: u32, counts: Counts },
    /// Devices that it waits for.
    Waiting(Waiting),
    /// Devices that were not started.
    Queued { devices: u64 },
    /// Its document was edited after it was claimed; apply refuses that.
    Edited,
    /// What the planner does with a job that nothing recorded explains.
    Planned { action: ActionKind, reason: String, devices: Option<u64>, is_committed: bool },
    /// A job that must have completed first, and has not.
    After(Predecessor),
    /// Why apply refuses a plan with it.
    Refused(Refused),
    /// Errors that are about something else; apply refuses the plan as a whole.
    OthersRefused { errors: u64 },
    /// How many devices failed for each reason, the most frequent first.
    Failures { by_reason: Vec<(Reason, u64)> },
    /// Answers that came after the outcome of their device: all are counted, the first listed with their device where
    /// the journal still has them.
    Late { total: u64, answers: Vec<(String, LateAnswer)> },
}

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// `suspend: true`.
    Suspended,
    /// Nothing declares it any more.
    Undeclared,
    /// It was stopped and is declared to go on: the next apply does.
    Continued,
}

/// How far an open run is; `done`, `in_flight`, `waiting` and `queued` add up to its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunProgress {
    pub total: u64,
    pub done: u64,
    pub in_flight: u64,
    pub waiting: u64,
    pub queued: u64,
}

/// Devices that a run waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub waits: Waits,
    pub devices: u64,
    /// The first of them, sorted.
    pub sample: Vec<String>,
    /// When they are given up (`expiresAfter` after the start); `None` when that is not known, and for devices in
    /// flight.
    pub until: Option<Timestamp>,
}

/// A job that must have completed before another starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Predecessor {
    pub job: Name,
    /// `None`: it is not declared.
    pub run: Option<RunToken>,
    /// `None`: it has not been claimed.
    pub status: Option<RunStatus>,
    /// The counts of a run that has ended.
    pub counts: Option<Counts>,
}

/// Why a plan with the job cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code of the diagnostic, such as `FF605`.
    pub code: &'static str,
    pub detail: String,
    pub help: Option<String>,
}
