//! Block, unblock and delete devices: written to the registry at once, as the right of an operator who cannot wait for
//! a review.

use std::collections::{BTreeMap, BTreeSet};

use super::missing;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, TreeChoice, owner};
use crate::registry::{Change, Registry};

/// What to do to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChange {
    /// Jobs fail on them with reason `blocked`; nothing is sent to them.
    Block,
    Unblock,
    /// With their keys and twins.
    Delete,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Sorted.
    pub changed: Vec<String>,
    /// The devices that were so already, sorted.
    pub unchanged: Vec<String>,
    /// The declared imports that brought the changed ones, with how many of them.
    pub imports: BTreeMap<String, u64>,
    /// The operator did not agree, and nothing was changed.
    pub was_declined: bool,
}

/// Changes devices, all or none.
///
/// `agree` is asked when every device is known, with their number.
///
/// # Errors
/// A device is not there, another process is applying, or the registry cannot be written; then nothing was changed.
pub fn change(
    environment: &Environment,
    change: DeviceChange,
    device_ids: &[String],
    agree: &mut dyn FnMut(usize) -> bool,
) -> Result<Changed, OpsError> {
    let wanted: BTreeSet<&String> = device_ids.iter().collect();
    let wanted: Vec<String> = wanted.into_iter().cloned().collect();
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Refuse)?;
    let declared = files.usable()?;
    refuse_unknown(&workspace.open_for_reading(&declared.fleet)?, &wanted)?;
    if !agree(wanted.len()) {
        return Ok(Changed { was_declined: true, ..Changed::default() });
    }
    let own = workspace.own_registry(&declared.fleet)?;
    let _lock = own.lock(&owner())?;
    let mut registry = Registry::new(own.open_for_writing()?);
    refuse_unknown(&registry, &wanted)?;
    let owners = registry.devices().imports_of(&wanted)?;
    let changed = match change {
        DeviceChange::Block => Change::Block { device_ids: &wanted, is_blocked: true },
        DeviceChange::Unblock => Change::Block { device_ids: &wanted, is_blocked: false },
        DeviceChange::Delete => Change::Delete { device_ids: &wanted },
    };
    let changed = registry.write(changed)?.into_devices();
    let is_changed: BTreeSet<&String> = changed.iter().collect();
    let unchanged = wanted.iter().filter(|id| !is_changed.contains(id)).cloned().collect();
    let mut imports: BTreeMap<String, u64> = BTreeMap::new();
    for import in changed.iter().filter_map(|id| owners.get(id)) {
        if declared.imports.contains_key(import.as_str()) {
            *imports.entry(import.clone()).or_default() += 1;
        }
    }
    Ok(Changed { changed, unchanged, imports, was_declined: false })
}

fn refuse_unknown(registry: &Registry, device_ids: &[String]) -> Result<(), OpsError> {
    for id in device_ids {
        if registry.devices().get(id)?.is_none() {
            return Err(missing(registry, id)?);
        }
    }
    Ok(())
}
