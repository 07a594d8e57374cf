//! The end of an apply: indexes for what the declared conditions search by.

use super::{Applied, Apply};
use crate::model::limits;
use crate::model::patch::Section;
use crate::prepare::searched_paths;
use crate::registry::{Answer, Change, RegistryError};

impl Apply<'_> {
    /// Takes indexes out of the way of a write to many devices: of a section, or of whole devices.
    pub(super) fn make_way(&mut self, section: Option<Section>, devices: u64) -> Result<(), RegistryError> {
        if devices < limits::INDEX_REMAKE_DEVICES_MIN {
            return Ok(());
        }
        self.registry.write(Change::MakeWay { section, devices }).map(drop)
    }

    /// Makes and drops indexes. At the end, because no job waits for them: making one takes longer than the scan that it would have
    /// saved. What keeps it from being done is told and is no failure of the apply, whose work is done; the next one tries again.
    pub(super) fn make_indexes(&mut self, applied: &mut Applied) {
        if applied.was_declined || applied.was_interrupted {
            return;
        }
        let touched = |report: &crate::ledger::ImportReport| report.imported + report.updated + report.removed;
        let imported: u64 = applied.imports.iter().map(|(_, report)| touched(report)).sum();
        let written: u64 = applied.records.iter().map(|record| record.counts.completed - record.counts.unchanged).sum();
        let wanted = searched_paths(self.declared, &mut self.known.searches);
        let made = match self.registry.devices().index_changes(&wanted) {
            Ok(changes) if changes.is_empty() && imported + written == 0 => Ok(changes),
            Ok(_) => {
                let index = Change::Index { wanted: &wanted, changed: imported + written };
                self.registry.write(index).map(Answer::into_indexes)
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(changes) => applied.indexes = changes,
            Err(error) => applied.index_failure = Some(error.to_string()),
        }
    }
}
