//! Device groups: how many devices are in each, and who uses them.

use schemars::JsonSchema;
use serde::Serialize;

use super::devices::RegisteredRow;
use super::{Notes, Page};
use crate::ops::device::{self, DeviceChoice};
use crate::ops::group::{ListedGroup, list, show};
use crate::ops::{Environment, OpsError};
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// The page `/groups`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Groups {
    /// Sorted by name.
    pub groups: Vec<GroupRow>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A group.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct GroupRow {
    pub group: String,
    /// Devices that are in it; null where there is no registry to count them in.
    pub devices: Option<u64>,
    /// When they were counted, where that took long and the registry was written to since; null for now.
    pub counted_at: Option<String>,
    /// Its condition, in the query language.
    pub query: String,
    pub template: Option<String>,
    /// The path of an organization.
    pub organization: Option<String>,
    /// The documents that target it, such as `job/dim-line-3`.
    pub used_by: Vec<String>,
}

/// The page `/groups/{name}`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Group {
    #[serde(flatten)]
    pub group: GroupRow,
    /// Its devices, sorted by id.
    pub members: Vec<RegisteredRow>,
    /// The address of the next page of devices; null on the last one.
    pub next: Option<String>,
}

impl Page for Groups {
    const TEMPLATE: &'static str = "groups.html";

    fn title(&self) -> String {
        "Groups".to_string()
    }
}

impl Page for Group {
    const TEMPLATE: &'static str = "group.html";
    const PARAMETERS: &'static [&'static str] = &["after", "limit"];

    fn title(&self) -> String {
        format!("Group {}", self.group.group)
    }
}

impl Row for GroupRow {
    const COLUMNS: &'static [&'static str] =
        &["group", "devices", "counted_at", "query", "template", "organization", "used_by"];
}

fn row(listed: &ListedGroup) -> GroupRow {
    let ListedGroup { group, devices, as_of, is_counted, used_by } = listed;
    GroupRow {
        group: group.name.to_string(),
        devices: is_counted.then_some(*devices),
        counted_at: as_of.map(|at| at.to_string()),
        query: group.query.clone(),
        template: group.template.as_ref().map(ToString::to_string),
        organization: group.organization.clone(),
        used_by: used_by.clone(),
    }
}

/// Reads the page of all groups.
///
/// # Errors
/// The fleet cannot be read.
pub fn read(environment: &Environment) -> Result<Groups, OpsError> {
    let (groups, held) = list(environment)?;
    let mut notes = Notes::default();
    notes.held(&held);
    Ok(Groups { groups: groups.iter().map(row).collect(), notes })
}

/// Writes all groups.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, sink: &mut Sink) -> Result<(), Fault> {
    let (groups, _) = list(environment)?;
    sink.begin::<GroupRow>()?;
    Ok(groups.iter().try_for_each(|group| sink.push(&row(group)))?)
}

/// Reads the page of one group.
///
/// # Errors
/// There is no such group, or the fleet cannot be read.
pub fn read_one(environment: &Environment, name: &str, asked: &Asked) -> Result<Group, Fault> {
    let (limit, listed) = (asked.limit()?, show(environment, name)?);
    let wanted = DeviceChoice { after: asked.text("after"), limit: Some(limit as u64 + 1), ..choice_of(&listed) };
    let mut members = Vec::new();
    device::list(environment, &wanted, &mut |device| {
        members.push(RegisteredRow::of(&device));
        Ok(())
    })?;
    let mut next = None;
    if members.len() > limit {
        members.truncate(limit);
        next = members.last().map(|row| asked.address(&[("after", &row.device_id)]));
    }
    Ok(Group { group: row(&listed), members, next })
}

/// Writes all devices of a group.
///
/// # Errors
/// As [`read_one`].
pub fn write_one(environment: &Environment, name: &str, sink: &mut Sink) -> Result<(), Fault> {
    let listed = show(environment, name)?;
    sink.begin::<RegisteredRow>()?;
    let mut push = |device| sink.push(&RegisteredRow::of(&device));
    Ok(device::list(environment, &choice_of(&listed), &mut push)?)
}

/// Returns the choice of the devices of a group.
fn choice_of(listed: &ListedGroup) -> DeviceChoice {
    let group = &listed.group;
    let template = group.template.as_ref().map(|name| format!("template = '{name}'"));
    let query = match (group.query.is_empty(), template) {
        (true, template) => template,
        (false, None) => Some(group.query.clone()),
        (false, Some(template)) => Some(format!("({}) AND {template}", group.query)),
    };
    DeviceChoice { query, organization: group.organization.clone(), ..DeviceChoice::default() }
}
