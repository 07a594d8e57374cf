//! How many devices the schedules of a plan would select now: for whoever reviews them, long before they are due.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::observe::{Preparation, selection_of};
use crate::diag::Diagnostics;
use crate::ledger::Ledger;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::limits;
use crate::model::schedule::Schedule;
use crate::registry::{Registry, Request, Touched};
use crate::schedule::Occurrences;

/// Returns the number of each, those of schedules that have never run and then of those that are due soonest, up to
/// [`limits::SCHEDULES_COUNTED_MAX`] of them.
///
/// # Errors
/// The registry or the repository cannot be read.
pub(super) fn counts(preparation: &Preparation<'_>, registry: &Registry) -> Result<BTreeMap<Name, u64>, PrepareError> {
    let ledger = preparation.ledger;
    let mut due: Vec<_> = preparation.declared.schedules.values().filter(|schedule| !schedule.is_suspended).collect();
    let next = |schedule: &_| Occurrences::after(schedule, preparation.now).next();
    due.retain(|schedule| next(schedule).is_some());
    due.sort_by_cached_key(|schedule| {
        let has_run = has_run(schedule, ledger);
        (has_run, next(schedule).map(|occurrence| occurrence.instant))
    });
    let mut counts = BTreeMap::new();
    for schedule in due.into_iter().take(limits::SCHEDULES_COUNTED_MAX) {
        let job: Job = schedule.job_at(preparation.now);
        // What is wrong with the target is said when it is due.
        if let Some((selection, within)) = selection_of(preparation, registry, &job, &mut Diagnostics::new())? {
            let request = Request { selection, within, touched: Touched::Nothing, mismatching: BTreeSet::new() };
            counts.insert(schedule.name.clone(), registry.count_matching(&request)?);
        }
    }
    Ok(counts)
}

/// Returns true when an occurrence was claimed under the name of a schedule, or under its previous one.
fn has_run(schedule: &Schedule, ledger: &Ledger) -> bool {
    [Some(&schedule.name), schedule.previous_name.as_ref()]
        .into_iter()
        .flatten()
        .any(|name| ledger.claimed(name).any(|claim| schedule.owns(name, &claim.run)))
}
