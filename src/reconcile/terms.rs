//! What a round may do, what it tells, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::ReconcileError;
use crate::execute::Progress;
use crate::ledger::{ImportReport, RunRecord};
use crate::model::fleet::{Fleet, HeldDocuments};
use crate::model::id::{Name, RunToken};
use crate::prepare::{Findings, OnError, Planned, View};
use crate::registry::IndexChanges;

/// What a round may do.
pub struct Terms<'a> {
    /// What to do about documents that the plan refuses.
    pub on_error: OnError,
    /// Start the occurrences of schedules that are due.
    pub starts_occurrences: bool,
    /// Jobs whose runs are not taken up again: they were left by this apply.
    pub left: &'a BTreeSet<Name>,
    /// Asked before a plan without errors is carried out, and may take changes out of it.
    pub accept: &'a mut Accept<'a>,
}

/// Returns whether to carry out a plan.
pub type Accept<'a> = dyn FnMut(&View<'_>, &mut Planned) -> Result<bool, ReconcileError> + 'a;

/// Returns an entry of the outbox and its name, made of what is known.
pub type EntryOf<'a> = dyn FnMut(&View<'_>) -> Result<(String, String), ReconcileError> + 'a;

/// What came of a round.
#[derive(Debug, Default)]
pub struct Round {
    /// The plan was accepted.
    pub is_begun: bool,
    /// Jobs of the plan wait for others of it.
    pub has_deferred: bool,
    /// When schedules are due next, by name.
    pub next_due: BTreeMap<Name, Timestamp>,
    /// When the schedules and what is frozen are to be looked at again; `None` when nothing is ever due.
    pub look_again_at: Option<Timestamp>,
}

/// What a round tells while it goes on.
pub enum RoundEvent<'a> {
    /// Something happened to an import or a run.
    Progress(&'a Progress),
    /// An occurrence of a schedule did not run.
    Missed { job: &'a Name, run: &'a RunToken, reason: &'a str },
    /// A commit was taken up that declares something new, or the documents that are held are others than before.
    TakenUp { fleet: &'a Fleet, commit: &'a str, held: &'a HeldDocuments, findings: &'a Findings },
}

/// What was done since the registry was opened.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Runs that ended or were left to go on later, in that order.
    pub records: Vec<RunRecord>,
    pub imports: Vec<(Name, ImportReport)>,
}

/// Why a reconciler gives back what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is nothing to do for now.
    Idle,
    /// The process is to end: what cannot be pushed is tried a few times.
    Process,
    /// The process was told to end: nothing takes long any more.
    Interrupt,
}

/// What came of giving back.
#[derive(Debug, Default)]
pub struct Rested {
    pub done: Done,
    /// What was done about the registry's indexes.
    pub indexes: IndexChanges,
    /// Why nothing was done about them.
    pub index_failure: Option<String>,
    /// What could not be pushed or noted; the next round begins with it.
    pub failures: Vec<ReconcileError>,
}
