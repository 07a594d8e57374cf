//! Device groups: how many devices are in each now, and what uses them.

use jiff::Timestamp;

use super::{Environment, OpsError, Workspace};
use crate::execute::{Clock as _, SystemClock};
use crate::model::access::Sight;
use crate::model::fleet::{Declared, DeviceGroup, HeldDocuments};
use crate::model::id::Name;
use crate::model::job::Selector;
use crate::prepare::{DeviceCount, Files, OnError, TreeChoice, query_of};
use crate::registry::{Request, Selection};

/// The number of devices from which on counting those of a group takes too long to be done at each look.
const LARGE_REGISTRY: u64 = 100_000;

/// A group of a list.
#[derive(Debug, Clone)]
pub struct ListedGroup {
    pub group: DeviceGroup,
    /// Devices that are in it.
    pub devices: u64,
    /// When they were counted; `None` for now.
    pub as_of: Option<Timestamp>,
    /// There is a registry here; without one, nothing is known of devices.
    pub is_counted: bool,
    /// The jobs and schedules that target it, as addresses such as `job/dim-line-3`, sorted.
    pub used_by: Vec<String>,
}

/// Returns the groups, sorted by name, and what cannot be used of the files.
///
/// # Errors
/// The Fleet document is invalid, or the registry cannot be read.
pub fn list(environment: &Environment) -> Result<(Vec<ListedGroup>, HeldDocuments), OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    let sight = &environment.sight;
    let shown = declared.groups.values().filter(|group| sight.has(group.organization.as_deref()));
    let groups = counted(&workspace, declared, sight, shown)?;
    Ok((groups, files.held_within(sight, declared)))
}

/// Returns one group.
///
/// # Errors
/// There is no such group; otherwise as [`list`].
pub fn show(environment: &Environment, name: &str) -> Result<ListedGroup, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    let sight = &environment.sight;
    let shown = || declared.groups.values().filter(|group| sight.has(group.organization.as_deref()));
    let wanted = shown().filter(|group| group.name.as_str() == name);
    let found = counted(&workspace, declared, sight, wanted)?.pop();
    found.ok_or_else(|| OpsError::not_declared("group", name, shown().map(|group| group.name.as_str())))
}

/// Counts the devices of groups.
fn counted<'g>(
    workspace: &Workspace,
    declared: &Declared,
    sight: &Sight,
    groups: impl Iterator<Item = &'g DeviceGroup>,
) -> Result<Vec<ListedGroup>, OpsError> {
    // Before its devices are counted.
    let state = workspace.registry_state(&declared.fleet, SystemClock.now());
    let registry = workspace.open_for_reading(&declared.fleet)?;
    let place = workspace.registry_place(&declared.fleet).ok().and_then(|own| own.file());
    let is_counted = place.is_none_or(|file| file.exists());
    let is_large = || Ok(registry.devices().statistics()?.total >= LARGE_REGISTRY);
    let count = |request: &Request| {
        let fits = format!("{request:?}");
        let count = || Ok::<_, OpsError>(registry.devices().count(request)?.selected);
        workspace.kept().count((state.as_deref(), &is_large), &fits, &|| SystemClock.now(), count)
    };
    groups.map(|group| listed(group, declared, (&count, is_counted), sight)).collect()
}

/// Counts the devices that a request selects.
type Count<'c> = &'c dyn Fn(&Request) -> Result<DeviceCount, OpsError>;

fn listed(
    group: &DeviceGroup,
    declared: &Declared,
    (count, is_counted): (Count<'_>, bool),
    sight: &Sight,
) -> Result<ListedGroup, OpsError> {
    let condition = query_of(&group.query, declared);
    let template = group.template.as_ref().map(Name::to_string);
    let selection = Selection::Matching { template, conditions: vec![condition] };
    let request = Request::new(selection, group.organization.iter().cloned().collect());
    let targets = |selector: &Selector| *selector == Selector::Group(group.name.clone());
    let is_shown = |organization: &Option<Name>| sight.has(declared.path_of(organization.as_ref()));
    let jobs = declared.jobs.values().filter(|job| targets(&job.target.selector) && is_shown(&job.organization));
    let jobs = jobs.map(|job| format!("job/{}", job.name));
    let schedules = declared.schedules.values().filter(|schedule| targets(&schedule.job.target.selector));
    let schedules = schedules.filter(|schedule| is_shown(&schedule.job.organization));
    let schedules = schedules.map(|schedule| format!("schedule/{}", schedule.name));
    let DeviceCount { devices, as_of } = count(&request)?;
    Ok(ListedGroup { group: group.clone(), devices, as_of, is_counted, used_by: jobs.chain(schedules).collect() })
}
