//! Takes snapshots of a registry.

use std::fs::File;
use std::path::Path;

use jiff::Timestamp;

use super::{Environment, OpsError, Workspace};
use crate::prepare::{Destination, Files, OnError, ScratchFolder, TreeChoice};
use crate::registry::DeviceFilter;
use crate::registry::snapshot::{SnapshotHead, pack};

/// Writes a snapshot of the fleet's registry, as of one moment, also while a daemon works: no keys, no secrets.
///
/// # Errors
/// The Fleet document is invalid, the registry cannot be read, or the file cannot be written.
pub fn take(environment: &Environment, path: &Path, now: Timestamp) -> Result<SnapshotHead, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let fleet = &files.usable()?.fleet;
    let registry = workspace.open_for_reading(fleet)?;
    let scratch = ScratchFolder::make()?;
    let keyless = scratch.path().join("keyless.db");
    registry.write_keyless(&keyless)?;
    let devices = registry.devices().count(&DeviceFilter::default().request())?.selected;
    let head = SnapshotHead { fleet: fleet.name.to_string(), taken_at: now, devices };
    let fail = |source| OpsError::Output { what: format!("the snapshot {} cannot be written", path.display()), source };
    let mut destination = Destination::open(path, true).map_err(fail)?;
    pack(&head, || File::open(&keyless), &mut destination).map_err(fail)?;
    destination.finish().map_err(fail)?;
    Ok(head)
}
