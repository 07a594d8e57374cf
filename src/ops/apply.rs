//! Applies the plan of `HEAD`: a round of the reconciler, and more of them until nothing is left that can go on now.

mod options;

use std::collections::BTreeMap;

use super::{Environment, Findings, OpsError, Workspace};
use crate::execute::{Clock, Inbox, Progress};
use crate::ledger::{ImportReport, RunRecord};
use crate::model::id::Name;
use crate::plan::{Frozen, Subject};
use crate::prepare::{Files, OnError, TreeChoice};
use crate::reconcile::{Agreement, Ending, Quiet, Reconciler, Seen, Stops, until_quiet};
use crate::registry::IndexChanges;

pub use crate::reconcile::Agree;
pub use options::ApplyOptions;

/// What an apply came to.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Runs that ended or were left to go on later, in that order.
    pub records: Vec<RunRecord>,
    pub imports: Vec<(Name, ImportReport)>,
    pub was_interrupted: bool,
    /// The user did not agree.
    pub was_declined: bool,
    /// There was nothing to do.
    pub was_empty: bool,
    /// What the first plan held: suspended or stopped jobs, and those that wait for others.
    pub held: u64,
    /// Why jobs that came after others could not be claimed: found when their targets were resolved.
    pub refused: Option<Findings>,
    /// What would have started if it were not frozen.
    pub frozen: BTreeMap<Subject, Frozen>,
    /// What was done about the registry's indexes.
    pub indexes: IndexChanges,
    /// Why nothing was done about them.
    pub index_failure: Option<String>,
}

/// Applies the plan of `HEAD`.
///
/// # Errors
/// The files are invalid or uncommitted, another process applies, the history cannot be trusted, or the surroundings
/// fail.
pub fn apply(
    environment: &Environment,
    options: &ApplyOptions,
    clock: &dyn Clock,
    inbox: &Inbox,
    agree: &mut Agree<'_>,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Applied, OpsError> {
    let workspace = Workspace::open(environment)?;
    let head = workspace.repo.head()?;
    let files = Files::read(&workspace, TreeChoice::Head, OnError::Refuse)?;
    workspace.refuse_uncommitted(&files)?;
    let trust = options.trust.resolved(&workspace.repo)?;
    let verified = files.verify(&workspace.repo, (&head, None), &trust)?;
    if !verified.is_whole() {
        return Err(OpsError::Invalid(Box::new(files.findings(verified.diagnostics(&files.loaded)))));
    }
    let stops = Stops::after(&head);
    let seen = Seen::new(head, files, clock.now());
    let mut reconciler = Reconciler::new(&workspace, options.reconcile(), inbox.waker());
    reconciler.open(&seen, clock.now())?;
    let mut agreement = Agreement { saved: options.saved.as_ref(), agree: Some(agree) };
    let ran = until_quiet(&mut reconciler, &seen, Some(stops), &mut agreement, (clock, inbox), observer);
    let ending = if inbox.is_interrupted() { Ending::Interrupt } else { Ending::Process };
    let rested = reconciler.rest(ending, clock.now());
    let Quiet { was_interrupted, was_declined, was_empty, held, refused, frozen } = ran?;
    if let Some(failure) = rested.failures.into_iter().next() {
        return Err(failure);
    }
    let (records, imports) = (rested.done.records, rested.done.imports);
    let (indexes, index_failure) = (rested.indexes, rested.index_failure);
    Ok(Applied {
        records,
        imports,
        was_interrupted,
        was_declined,
        was_empty,
        held,
        refused,
        frozen,
        indexes,
        index_failure,
    })
}
