//! What the results branch knows of open runs, and the registry does not: it was put back from a copy.

use std::collections::BTreeSet;

use super::ReconcileError;
use crate::ledger::{Published, RunKey};
use crate::model::job::Action;
use crate::model::outcome::{DeviceStatus, Outcome, Reason};
use crate::prepare::{View, published_rows};
use crate::registry::{Change, JournaledRun};

/// Records the published outcomes of an open run that the journal lacks, so that its counts are those of its rows.
///
/// Idempotent: what the journal has stays.
///
/// # Errors
/// The branch or the registry cannot be read or written.
pub(super) fn record_published(view: &mut View<'_>, run: &JournaledRun) -> Result<(), ReconcileError> {
    let known = (run.job.clone(), run.run.clone());
    let (Some(claim), Some(record)) = (view.ledger.claims.get(&known), view.ledger.records.get(&known)) else {
        return Ok(());
    };
    let Published { devices, .. } = record.published;
    let key = claim.key(&view.declared.fleet.name);
    let ids = view.registry.journal().targets(run.run_id)?;
    let mut journaled = BTreeSet::new();
    view.registry.journal().each_outcome(run.run_id, &mut |ordinal, _, _| {
        journaled.insert(ordinal);
    })?;
    let outcomes = published_outcomes(view, &key, run, devices.min(run.total))?;
    let unknown: Vec<Outcome> = outcomes.into_iter().filter(|one| !journaled.contains(&one.ordinal)).collect();
    if !unknown.is_empty() {
        view.registry.write(Change::Record { run_id: run.run_id, outcomes: &unknown, ids: &ids })?;
    }
    Ok(())
}

/// Returns the outcomes of the first `devices` devices of a run as the branch has them, sorted by ordinal. A device
/// without a row has completed: the fleet publishes failures only.
fn published_outcomes(
    view: &View<'_>,
    key: &RunKey,
    run: &JournaledRun,
    devices: u32,
) -> Result<Vec<Outcome>, ReconcileError> {
    let ids = view.registry.journal().targets(run.run_id)?;
    let is_command = view.declared.jobs.get(&run.job).is_none_or(|job| matches!(job.action, Action::Command(_)));
    let completed = if is_command { Reason::Responded } else { Reason::Written };
    let mut outcomes: Vec<Outcome> = (0..devices).map(|ordinal| outcome_of(ordinal, completed)).collect();
    published_rows(&view.branch, key, |row| {
        let place = ids.find(&row.device_id).and_then(|at| outcomes.get_mut(at));
        if let Some(outcome) = place.filter(|_| row.reason.status() != DeviceStatus::Pending) {
            *outcome = Outcome {
                reason: row.reason,
                code: row.code,
                message: row.message,
                attempts: row.attempts,
                started_at: row.started_at,
                finished_at: row.finished_at,
                ..outcome_of(outcome.ordinal, row.reason)
            };
        }
    })?;
    Ok(outcomes)
}

fn outcome_of(ordinal: u32, reason: Reason) -> Outcome {
    Outcome { ordinal, reason, code: None, message: String::new(), attempts: 1, started_at: None, finished_at: None }
}
