//! The plan of a change: what a tree adds to what another one, its base, would do anyway. Pure, like the planner.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, PlannedChange, PlannedRun, Step, Subject};
use crate::model::id::{Name, RunToken};

/// What a change does, by the plans of both sides over the same registry and history.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// The plan of the tree without what the base does alike.
    pub plan: Plan,
    /// How many documents both sides do alike.
    pub alike: u64,
    /// What the base would do, or has done, and the tree does not declare any more; in the order of the base.
    pub withdrawn: Vec<Withdrawn>,
}

/// Something that goes away with a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawn {
    pub subject: Subject,
    pub run: Option<RunToken>,
    pub what: Withdrawal,
}

/// What goes away.
#[derive(Debug, Clone, PartialEq)]
pub enum Withdrawal {
    /// A run that the base would start, on so many devices.
    WillNotRun { devices: u64 },
    /// A run that is open, or a job that waits or is suspended.
    WillNotGoOn,
    /// A schedule: no occurrence starts any more.
    Ends,
    /// An import: its devices stay, and their rows count no more.
    Leaves,
    /// A document that has run or was imported: what it wrote stays.
    HasRun { reason: String },
}

impl Withdrawal {
    /// Returns the word of the JSON plan.
    pub fn word(&self) -> &'static str {
        match self {
            Withdrawal::WillNotRun { .. } => "will-not-run",
            Withdrawal::WillNotGoOn => "will-not-go-on",
            Withdrawal::Ends => "ends",
            Withdrawal::Leaves => "leaves",
            Withdrawal::HasRun { .. } => "has-run",
        }
    }
}

impl std::fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Withdrawal::WillNotRun { devices: 1 } => f.write_str("will not run on 1 device"),
            Withdrawal::WillNotRun { devices } => write!(f, "will not run on {devices} devices"),
            Withdrawal::WillNotGoOn => f.write_str("will not go on"),
            Withdrawal::Ends => f.write_str("no occurrence starts any more"),
            Withdrawal::Leaves => f.write_str("its devices stay, and its file counts no more"),
            Withdrawal::HasRun { reason } => write!(f, "{reason}; what it wrote stays"),
        }
    }
}

impl Delta {
    /// Returns what `plan` adds to `base`. `renamed` has the names that documents of the tree had before.
    pub fn of(base: &Plan, plan: &Plan, renamed: &BTreeSet<Name>) -> Delta {
        let (before, after) = (Side::of(base), Side::of(plan));
        let is_alike = |change: &PlannedChange| {
            before.changes.get(&change.subject).is_some_and(|one| does_alike((&before, one), (&after, change)))
        };
        let alike: BTreeSet<&Subject> =
            plan.changes.iter().filter(|change| is_alike(change)).map(|change| &change.subject).collect();
        let withdrawn: Vec<Withdrawn> = base
            .changes
            .iter()
            .filter(|change| !renamed.contains(change.subject.address().1))
            .filter_map(|change| withdrawn(change, after.changes.get(&change.subject).copied()))
            .collect();
        let gone: BTreeSet<&Subject> = withdrawn.iter().map(|one| &one.subject).collect();
        // What has left the files is told once.
        let is_told = |change: &PlannedChange| matches!(change.step, Step::Gone) && gone.contains(&change.subject);
        let kept = |change: &PlannedChange| !alike.contains(&change.subject) && !is_told(change);
        Delta { alike: alike.len() as u64, plan: plan.restricted(kept), withdrawn }
    }
}

/// A plan, looked up by subject.
struct Side<'a> {
    changes: BTreeMap<&'a Subject, &'a PlannedChange>,
    runs: BTreeMap<&'a Name, &'a PlannedRun>,
}

impl<'a> Side<'a> {
    fn of(plan: &'a Plan) -> Side<'a> {
        Side {
            changes: plan.changes.iter().map(|change| (&change.subject, change)).collect(),
            runs: plan.runs.iter().map(|run| (&run.job, run)).collect(),
        }
    }
}

/// Returns true when both plans do the same for a document. The phrases that say why may differ: they name other jobs.
fn does_alike((base, before): (&Side<'_>, &PlannedChange), (plan, after): (&Side<'_>, &PlannedChange)) -> bool {
    let ids = |side: &Side<'_>, change: &PlannedChange| {
        side.runs.get(change.subject.address().1).map(|run| (run.targets_digest, run.is_deferred))
    };
    match (&before.step, &after.step) {
        // What an import does may not be known here; the same file by the same document does the same.
        (Step::Import { declared_digest: one, .. }, Step::Import { declared_digest: other, .. }) => one == other,
        (Step::Run(one), Step::Run(other)) => {
            before.run == after.run
                && one.declared_digest == other.declared_digest
                && ids(base, before) == ids(plan, after)
                && one.diff == other.diff
        }
        // When it is due next depends on the time of the look alone.
        (Step::Schedule(one), Step::Schedule(other)) => one.declared_digest == other.declared_digest && one == other,
        (one, other) => before.run == after.run && one == other && before.reason == after.reason,
    }
}

/// Returns what goes away of what the base does for a document.
fn withdrawn(before: &PlannedChange, after: Option<&PlannedChange>) -> Option<Withdrawn> {
    let is_gone = after.is_none_or(|after| matches!(after.step, Step::Gone));
    let has_other_run = after.is_some_and(|after| after.run != before.run);
    let is_held = after.is_some_and(|after| matches!(after.step, Step::Hold));
    // One that is suspended, or has no occurrence left.
    let has_ended = |change: &PlannedChange| change.upcoming().is_some_and(|next| next.occurrences.is_empty());
    let what = match &before.step {
        Step::Run(run) if is_gone || has_other_run || is_held => Withdrawal::WillNotRun { devices: run.targets.count },
        // The plan of the tree says that an open run is stopped.
        Step::Continue | Step::Close if after.is_none() => Withdrawal::WillNotGoOn,
        Step::Hold if is_gone => Withdrawal::WillNotGoOn,
        Step::Schedule(_) if is_gone => Withdrawal::Ends,
        Step::Schedule(_) if !has_ended(before) && after.is_some_and(has_ended) => Withdrawal::Ends,
        Step::Import { .. } if is_gone => Withdrawal::Leaves,
        Step::Done if is_gone && matches!(before.subject, Subject::Import(_)) => Withdrawal::Leaves,
        Step::Done if is_gone => Withdrawal::HasRun { reason: before.reason.clone() },
        _ => return None,
    };
    Some(Withdrawn { subject: before.subject.clone(), run: before.run.clone(), what })
}
