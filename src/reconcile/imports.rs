//! Imports that are applied, and what the registry has done that the results branch does not have yet.

use jiff::Timestamp;

use super::ReconcileError;
use super::indexes::drop_indexes_for;
use crate::execute::{CrashPoints, empty_outbox, import_entry};
use crate::ledger::ImportReport;
use crate::prepare::{StagedFile, View};
use crate::registry::Change;

/// Writes the devices of an import, and publishes its report.
///
/// # Errors
/// The registry or the results branch cannot be written.
pub(super) fn import(
    view: &mut View<'_>,
    file: &StagedFile,
    (head, plan_id, now): (&str, &str, Timestamp),
    crash: &CrashPoints,
) -> Result<ImportReport, ReconcileError> {
    let found = &file.found;
    let report = ImportReport {
        plan_id: plan_id.to_string(),
        source_commit: head.to_string(),
        imported: found.new,
        updated: found.updated,
        unchanged: found.unchanged,
        removed: found.removed + found.deleted,
        rejected: found.rejected,
        rows: found.rows,
    };
    let outbox = import_entry(&file.import, &file.spec.digest.to_string(), &report, &found.errors);
    drop_indexes_for(&mut view.registry, None, found.new + found.updated)?;
    view.registry.write(Change::Import { spec: &file.spec, at: now, outbox: &outbox })?;
    empty_outbox(&view.branch, &mut view.registry, crash)?;
    Ok(report)
}
