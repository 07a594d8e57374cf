//! The brain: what is declared, what was done and what was observed go in; a plan comes out.
//!
//! [`plan`] is a function: no IO, no clock, no randomness, and the same input gives the same plan. A [`Plan`] is
//! immutable and complete: execution makes no choice that a plan could have made. Everything that is *not* done is a
//! change too, with its reason, so nothing is silent. This room cannot see the registry: who is targeted arrives as an
//! [`Observation`](crate::model::observation::Observation).

mod agenda;
mod change;
mod check;
mod classify;
mod codec;
mod conflict;
mod decode;
mod delta;
mod diff;
mod input;
mod order;
mod planner;
mod refusal;
mod resized;
mod saved;
mod upcoming;

pub use agenda::{Agenda, MissedOccurrence, agenda};
pub use change::{
    ActionKind, Batches, ImportCounts, PlannedChange, RunStep, ScheduleStep, Step, Subject, Targets, Upcoming,
};
pub use check::check;
pub use classify::{Class, Classified, classify, classify_all};
pub use codec::{FORMAT_VERSION, plan_id_of, plan_to_json};
pub use conflict::{Conflict, contest};
pub use delta::{Delta, Withdrawal, Withdrawn};
pub use diff::DiffLine;
pub use input::{Frozen, ImportObservation, PlanInput, PlanSource};
pub use planner::plan;
pub use refusal::{Notice, Refusal};
pub use saved::{Bonds, Difference, Moved, SavedPlan, UnreadablePlan};

use std::collections::{BTreeMap, BTreeSet};

use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::observation::DeviceIds;

/// A decision about the whole fleet at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Digest of everything below and of the time of observation, 64 hex digits.
    pub id: String,
    pub source: PlanSource,
    /// The tip of the results branch that the plan is based on; `None` when there is no such branch yet.
    pub base: Option<String>,
    pub observed_at: jiff::Timestamp,
    /// Imports first, then jobs in the order in which they start, then schedules, then what is left alone; each address
    /// once.
    pub changes: Vec<PlannedChange>,
    /// One for each change of kind `Run`, in the same order.
    pub runs: Vec<PlannedRun>,
    /// What the author should know although nothing is refused.
    pub notices: Vec<Notice>,
    /// Why the plan cannot be applied; empty for a good plan.
    pub refusals: Vec<Refusal>,
    /// What would start if it were not frozen.
    pub frozen: BTreeMap<Subject, Frozen>,
}

/// A run that is to be claimed, with its devices.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    pub job: Name,
    pub run: RunToken,
    pub ids: DeviceIds,
    pub targets_digest: Digest,
    /// Device templates that the job does not fit. Devices that have one of them when their batch starts are not
    /// touched.
    pub mismatching: BTreeSet<Name>,
    /// It waits for jobs of this very plan: its target is as of now and is resolved again when they have completed.
    pub is_deferred: bool,
}

/// The sums of the last line of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub to_run: u64,
    /// The sum of the devices of the jobs to run; a device of two jobs counts twice.
    pub devices: u64,
    pub imports: u64,
    /// New, updated and removed devices of the imports.
    pub import_devices: u64,
    pub to_stop: u64,
    pub to_continue: u64,
    pub to_close: u64,
}

impl Plan {
    /// Returns the plan of a tree that declares nothing.
    pub fn empty(now: jiff::Timestamp) -> Plan {
        Plan {
            id: String::new(),
            source: PlanSource::default(),
            base: None,
            observed_at: now,
            changes: Vec::new(),
            runs: Vec::new(),
            notices: Vec::new(),
            refusals: Vec::new(),
            frozen: BTreeMap::new(),
        }
    }

    /// Returns true when applying the plan does anything.
    pub fn has_changes(&self) -> bool {
        self.changes.iter().any(|change| change.action().changes_something())
    }

    /// Returns when the first of what is frozen may start.
    pub fn thaws_at(&self) -> Option<jiff::Timestamp> {
        self.frozen.values().map(|frozen| frozen.until).min()
    }

    /// Returns the plan with only the changes that are wanted: what an apply of a saved plan shows and does.
    #[must_use]
    pub fn restricted(&self, is_wanted: impl Fn(&PlannedChange) -> bool) -> Plan {
        let mut plan = self.clone();
        plan.changes.retain(&is_wanted);
        let runs = |name: &Name| plan.changes.iter().any(|change| change.subject == Subject::Job(name.clone()));
        plan.runs.retain(|run| runs(&run.job));
        plan
    }

    /// Returns the sums over the changes.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for change in &self.changes {
            let devices = change.targets().map_or(0, |targets| targets.count);
            match change.action() {
                ActionKind::Run => {
                    summary.to_run += 1;
                    summary.devices += devices;
                }
                ActionKind::Import => {
                    summary.imports += 1;
                    summary.import_devices += change.import().map_or(0, |counts| counts.touched());
                }
                ActionKind::Stop => summary.to_stop += 1,
                ActionKind::Continue => summary.to_continue += 1,
                ActionKind::Close => summary.to_close += 1,
                ActionKind::Schedule | ActionKind::Hold | ActionKind::Done | ActionKind::Gone => {}
            }
        }
        summary
    }
}
