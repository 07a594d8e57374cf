//! Indexes over the paths that conditions search by.

use super::super::IndexChanges;
use super::connection::Connection;
use super::fault::Fault;
use crate::model::patch::Section;
use crate::query::PathRef;

/// Returns what [`make`] would do.
pub(super) fn planned(_connection: &Connection, _wanted: &[PathRef]) -> Result<IndexChanges, Fault> {
    Ok(IndexChanges::default())
}

/// Makes the indexes for paths, and drops all others.
pub(super) fn make(_connection: &Connection, _wanted: &[PathRef], _changed: u64) -> Result<IndexChanges, Fault> {
    Ok(IndexChanges::default())
}

/// Drops the indexes over a section, or all.
pub(super) fn drop_indexes(_connection: &Connection, _section: Option<Section>, _devices: u64) -> Result<(), Fault> {
    Ok(())
}
