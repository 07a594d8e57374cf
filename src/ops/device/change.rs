//! Block, unblock and delete devices: written to the registry at once, as the right of an operator who cannot wait for
//! a review.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::missing;
use crate::execute::{CrashPoints, direct_entry, empty_outbox};
use crate::model::access::Sight;
use crate::model::fleet::Fleet;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, OwnRegistry, TreeChoice, owner};
use crate::registry::{Answer, Change, Registry};
use crate::results::DirectRow;

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

impl DeviceChange {
    /// Returns the word of the command.
    pub fn word(self) -> &'static str {
        match self {
            DeviceChange::Block => "block",
            DeviceChange::Unblock => "unblock",
            DeviceChange::Delete => "delete",
        }
    }
}

/// Changes devices, all or none, also while another process works on the fleet: one transaction of the registry. Who
/// did it and why goes to the results branch; a process that works on the fleet, or the next one, writes it there.
///
/// `agree` is asked when every device is known, with their number.
///
/// # Errors
/// A device is not there, or the registry cannot be written; then nothing was changed.
pub fn change(
    environment: &Environment,
    change: DeviceChange,
    (device_ids, reason): (&[String], &str),
    now: Timestamp,
    agree: &mut dyn FnMut(usize) -> bool,
) -> Result<Changed, OpsError> {
    change_as(environment, change, (device_ids, reason, None), now, agree)
}

/// Blocks a device for somebody who says why, as [`change`] does.
///
/// # Errors
/// As [`change`].
pub fn block_for(
    environment: &Environment,
    device_id: &str,
    (who, reason): (&str, &str),
    now: Timestamp,
) -> Result<Changed, OpsError> {
    let device_ids = [device_id.to_string()];
    change_as(environment, DeviceChange::Block, (&device_ids, reason, Some(who)), now, &mut |_| true)
}

fn change_as(
    environment: &Environment,
    change: DeviceChange,
    (device_ids, reason, who): (&[String], &str, Option<&str>),
    now: Timestamp,
    agree: &mut dyn FnMut(usize) -> bool,
) -> Result<Changed, OpsError> {
    let wanted: BTreeSet<&String> = device_ids.iter().collect();
    let wanted: Vec<String> = wanted.into_iter().cloned().collect();
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    refuse_unknown(&workspace.open_for_reading(&declared.fleet)?, &wanted, &environment.sight)?;
    if !agree(wanted.len()) {
        return Ok(Changed { was_declined: true, ..Changed::default() });
    }
    let own = workspace.own_registry(&declared.fleet)?;
    let mut registry = Registry::new(own.open_for_writing()?);
    refuse_unknown(&registry, &wanted, &environment.sight)?;
    let owners = registry.devices().imports_of(&wanted)?;
    let write = match change {
        DeviceChange::Block => Change::Block { device_ids: &wanted, is_blocked: true, at: now },
        DeviceChange::Unblock => Change::Block { device_ids: &wanted, is_blocked: false, at: now },
        DeviceChange::Delete => Change::Delete { device_ids: &wanted },
    };
    let who = who.map_or_else(|| workspace.repo.person(), str::to_string);
    let row = |device_id| DirectRow { at: now, who: &who, action: change.word(), device_id, reason };
    let rows: Vec<DirectRow<'_>> = wanted.iter().map(|id| row(id)).collect();
    let devices = match &*wanted {
        [one] => one.clone(),
        many => format!("{} devices", many.len()),
    };
    let entry = direct_entry(&rows, &format!("device {}: {devices}", change.word()));
    let about = format!("direct/{now}/{}", owner());
    let answers = registry.commit(&[write, Change::Report { about: &about, entry: &entry }])?;
    let changed = answers.into_iter().next().map_or_else(Vec::new, Answer::into_devices);
    publish(&workspace, &declared.fleet, &own, &mut registry);
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

/// Writes what was done to the results branch, where no other process works on the fleet and none has to be asked.
/// What fails now is for the next apply.
pub(super) fn publish(workspace: &Workspace, fleet: &Fleet, own: &OwnRegistry, registry: &mut Registry) {
    let Ok(_lock) = own.lock(&owner()) else { return };
    if fleet.results.remote.is_some() || workspace.repo.is_mirror() {
        return;
    }
    let branch = workspace.repo.results(&fleet.results.branch);
    let _later = empty_outbox(&branch, registry, &CrashPoints::default());
}

fn refuse_unknown(registry: &Registry, device_ids: &[String], sight: &Sight) -> Result<(), OpsError> {
    for id in device_ids {
        let device = registry.devices().get(id)?;
        if !device.is_some_and(|device| sight.has(device.organization.as_deref())) {
            return Err(missing(registry, id, sight)?);
        }
    }
    Ok(())
}
