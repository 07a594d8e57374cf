//! The registry's indexes: for the paths that the declared conditions search by.

use super::terms::Done;
use crate::model::limits;
use crate::model::patch::Section;
use crate::prepare::{Searches, View, searched_paths};
use crate::registry::{Answer, Change, IndexChanges, Registry, RegistryError};

/// Takes indexes out of the way of a write to many devices: of a section, or of whole devices.
pub(super) fn drop_indexes_for(
    registry: &mut Registry,
    section: Option<Section>,
    devices: u64,
) -> Result<(), RegistryError> {
    if devices < limits::INDEX_REMAKE_DEVICES_MIN {
        return Ok(());
    }
    registry.write(Change::DropIndexes { section, devices }).map(drop)
}

/// Makes and drops indexes. At the end, because no job waits for them: making one takes longer than the scan that it
/// would have saved.
///
/// # Errors
/// The registry fails. That is no failure of the apply, whose work is done: the next one tries again.
pub(super) fn make_indexes(
    view: &mut View<'_>,
    done: &Done,
    searches: &mut Searches,
) -> Result<IndexChanges, RegistryError> {
    let touched = |report: &crate::ledger::ImportReport| report.imported + report.updated + report.removed;
    let imported: u64 = done.imports.iter().map(|(_, report)| touched(report)).sum();
    let written: u64 = done.records.iter().map(|record| record.counts.completed - record.counts.unchanged).sum();
    // What the last round held is declared all the same.
    let wanted = searched_paths(view.files.declared.as_ref().unwrap_or(&view.declared), searches);
    let changes = view.registry.devices().index_changes(&wanted)?;
    if changes.is_empty() && imported + written == 0 {
        return Ok(changes);
    }
    let index = Change::Index { wanted: &wanted, changed: imported + written };
    view.registry.write(index).map(Answer::into_indexes)
}
